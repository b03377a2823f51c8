/* SPDX-License-Identifier: Apache-2.0 */
/* Our HPACK beside nghttp2's. Whatever is fed to one goes to the other; what they make of it has to
 * be the same, or a CHECK fails. Shared by the unit tests and the fuzz target.
 *
 * Known differences, each with its reason, stand at the top of hpack_like.c. */
#ifndef TESTS_HPACK_LIKE_H
#define TESTS_HPACK_LIKE_H

#include "h2/h2.h"

struct hpack_like;

struct hpack_like *hpack_like_new(void);
void hpack_like_free(struct hpack_like *l);

#define HPACK_LIKE_KINDS 3u

/* One block to our decoder and to nghttp2's. kind is below HPACK_LIKE_KINDS; the limits are ours
 * alone. False: an error for both, and no further block is taken. */
bool hpack_like_decode(struct hpack_like *l, struct bytes block, unsigned kind, size_t bytes_max,
                       size_t fields_max);
/* Our encoder's block to both decoders: each gives the list, a grpc-timeout last. */
void hpack_like_encode(struct hpack_like *l, struct h2_fields f);
/* nghttp2's block to both decoders. is_never: a bit for each of the first 32 fields. */
void hpack_like_deflate(struct hpack_like *l, struct h2_fields f, uint32_t is_never);
/* Of both encoders. */
void hpack_like_resize(struct hpack_like *l, uint32_t size);
/* Blocks and lists of ours that were remembered and came again. */
size_t hpack_like_blocks_known(const struct hpack_like *l);
size_t hpack_like_lists_known(const struct hpack_like *l);

#endif
