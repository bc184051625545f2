/* SPDX-License-Identifier: MIT */
/*
 * What the files of config/ share: setting one option from its text, and the words the
 * default file and the manual have in common. Nothing outside config/ includes this.
 */
#ifndef RWL_CONFIG_INTERNAL_H
#define RWL_CONFIG_INTERNAL_H

#include "config/config.h"

/* Sets the row's member from text of size bytes, which is copied into the arena. The error line
 * begins with the option's name; config is unchanged on failure. */
int rwl_config_assign(struct rwl_config *config, const struct rwl_field *field, const char *text,
                      size_t size, struct rwl_arena *arena, struct rwl_error *err);

/* The option most likely meant by an unknown name: the row of another section with the same last
 * part, else the nearest spelling; NULL if nothing is near. */
const char *rwl_config_suggest(const char *name, size_t size);

/* Appends an option's value as YAML reads it back: 1MiB, 0660, "two words". */
void rwl_config_print_value(const struct rwl_field *field, const struct rwl_config *config,
                            struct rwl_buffer *out);

/* Appends "Integer, 1 to 64. Default: 16. Needs a restart." */
void rwl_config_print_facts(const struct rwl_field *field, struct rwl_buffer *out);

#endif
