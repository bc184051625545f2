/* SPDX-License-Identifier: MIT */
/* What the verb compress says of a plan, as tables for people and as JSON. */
#ifndef RWL_COMPRESS_COMPRESS_PRINT_H
#define RWL_COMPRESS_COMPRESS_PRINT_H

struct rwl_compress_plan;
struct rwl_error;

/* Each kind of change with its bytes. */
int rwl_compress_print_plan(const struct rwl_compress_plan *plan, struct rwl_error *err);
/* What was measured of a predicted FFN, in percent; nothing where there is none. */
void rwl_compress_print_layers(const struct rwl_compress_plan *plan);
/* All of both into a file. */
int rwl_compress_save_report(const struct rwl_compress_plan *plan, const char *path,
                             struct rwl_error *err);

#endif
