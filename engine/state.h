/* SPDX-License-Identifier: MIT */
/*
 * The recurrent state of one session: for each layer the two token-shift inputs (the
 * layer-normed activations of the last token, C floats each) and the recurrence (v5 to v7: H
 * matrices of N x N floats; v4: aa, bb, pp, C floats each). All f32, of constant size. Owned by
 * whoever created it; a state may be read or written by one thread at a time.
 */
#ifndef RWL_ENGINE_STATE_H
#define RWL_ENGINE_STATE_H

#include <stddef.h>
#include <stdint.h>

struct rwl_error;
struct rwl_model;
struct rwl_state;

/* The zero state. The model must outlive it. */
int rwl_state_create(const struct rwl_model *model, struct rwl_state **ret_state,
                     struct rwl_error *err);
void rwl_state_destroy(struct rwl_state *state);
void rwl_state_copy(struct rwl_state *to, const struct rwl_state *from); /* of the same model */
void rwl_state_reset(struct rwl_state *state);

/* Sets a layer's recurrence, as tuned initial states do: H matrices [N][N], v5 and v6
 * S[key][value], v7 S[value][key] (kernels.h). values has the layer's A x N finite numbers. Not for
 * RWKV-4. */
void rwl_state_set_recurrence(struct rwl_state *state, uint32_t layer, const float *values);

/* Memory one state of this model takes; tokens read since the zero state. */
size_t rwl_state_bytes(const struct rwl_model *model);
uint64_t rwl_state_tokens(const struct rwl_state *state);

/* Versioned bytes with the model's fingerprint and a checksum, for files and wires. */
size_t rwl_state_export_bytes(const struct rwl_model *model);
void rwl_state_export(const struct rwl_state *state, void *data);
/* What import refuses for its header, from the first RWL_STATE_HEADER_BYTES of bytes that are
 * size in all (or from fewer, if size is). Then the tokens the state has read. */
enum { RWL_STATE_HEADER_BYTES = 64 };
int rwl_state_check_header(const struct rwl_model *model, const void *header, size_t size,
                           const char *name, uint64_t *ret_tokens, struct rwl_error *err);
/* Refuses bytes of another model (RWL_ERR_WRONG_MODEL), a wrong size, version or checksum, and
 * numbers that are not finite; the state is then unchanged. name is for the error line. */
int rwl_state_import(struct rwl_state *state, const void *data, size_t size, const char *name,
                     struct rwl_error *err);

#endif
