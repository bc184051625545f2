/* SPDX-License-Identifier: MIT */
/* A chat template from a JSON file with the keys system, user, assistant, separator, stop. */
#ifndef RWL_COMPRESS_CHAT_FILE_H
#define RWL_COMPRESS_CHAT_FILE_H

#include "engine/metadata.h"

struct rwl_chat_file {
    struct rwl_chat_template template; /* borrowed from json until finish */
    void *json;
};

/* All five keys must be there as text, no others; system and user must hold {text} once. */
int rwl_chat_file_load(struct rwl_chat_file *file, const char *path, struct rwl_error *err);
void rwl_chat_file_finish(struct rwl_chat_file *file);

#endif
