/* SPDX-License-Identifier: Apache-2.0 */
/* How the edited form of a message is put together: for apply.c, direct.c and whoever writes a
 * message of our own. */
#ifndef ETCD_OUTPUT_INT_H
#define ETCD_OUTPUT_INT_H

#include "base/slice.h"
#include "pb/pb.h"

/* Cuts the chain to its first len bytes. */
void etcd__chain_cut(struct chain *c, size_t len);
/* n bytes (not 0) at the end of out, contiguous. NULL: no memory. */
MUST_CHECK uint8_t *etcd__room(struct chain *out, struct slab_pool *pool, bool is_request,
                               size_t n);
/* Tag and length of a PB_LEN field: how many bytes, and writes them. */
size_t etcd__head_len(uint32_t number, size_t len);
size_t etcd__put_head(uint8_t *to, uint32_t number, size_t len);
/* Tag and length of a PB_LEN field, copied to the end of out. */
MUST_CHECK enum err etcd__push_head(struct chain *out, struct slab_pool *pool, uint32_t number,
                                    size_t len);
/* Adds references to n bytes at pos and moves pos behind them. */
MUST_CHECK enum err etcd__share_at(struct chain *to, struct chain_pos *pos, size_t n);

/* --- filler.c -------------------------------------------------------------------------------- */

/* n zeros from constant memory. */
MUST_CHECK enum err etcd__push_zeros(struct chain *out, size_t n);
/* The first of the unknown fields that make n bytes in all: its tag and length (returned: how many
 * bytes) and the length of its payload of zeros. n > 1: no field has one byte. */
size_t etcd__filler_field(size_t n, uint8_t head[static 2 * PB_VARINT_MAX], size_t *payload);

#endif
