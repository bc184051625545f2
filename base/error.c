/* SPDX-License-Identifier: MIT */
/* Formats error lines. The list itself is in error.h. */
#include "base/error.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

static void set_text(struct rwl_error *err, int code, const char *format, va_list args)
{
    err->code = code;
    vsnprintf(err->text, sizeof err->text, format, args);
    rwl_utf8_make_printable(err->text);
}

int rwl_error_set(struct rwl_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        set_text(err, code, format, args);
        va_end(args);
    }
    return code;
}

int rwl_error_errno(struct rwl_error *err, int code, int number, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        set_text(err, code, format, args);
        va_end(args);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(number));
        rwl_utf8_make_printable(err->text);
    }
    return code;
}

int rwl_error_prefix(struct rwl_error *err, const char *format, ...)
{
    if (!err)
        return RWL_ERR_INTERNAL;
    struct rwl_error old = *err;
    va_list args;
    va_start(args, format);
    set_text(err, old.code, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %.*s", (int)(sizeof old.text - 1),
             old.text);
    rwl_utf8_make_printable(err->text); /* the cut may have split a character */
    return old.code;
}

const char *rwl_error_name(int code)
{
    switch (code) {
#define X(symbol, value, name, text)                                                               \
    case value: return name;
        RWL_ERRORS(X)
#undef X
    }
    return "unknown";
}

const char *rwl_error_sentence(int code)
{
    switch (code) {
#define X(symbol, value, name, text)                                                               \
    case value: return text;
        RWL_ERRORS(X)
#undef X
    }
    return "unknown";
}
