/* SPDX-License-Identifier: Apache-2.0 */
/* Unknown fields that fill a message up to its announced length.
 *
 * Field 19999, length-delimited, zeros: its number lies in protobuf's own reserved range, so no
 * schema may ever use it. Tag (3 bytes) and length make 4 bytes at least, and where the length gets
 * one byte longer one size is left out: 132, 16389 and so on take two fields. Two and three bytes
 * are an empty field 15 and one with a single zero: etcd's answers have none of that number where
 * filler may stand. No field has one byte: whoever calls makes sure that it does not come to that.
 */
#include "etcd/output_int.h"

#define FILLER 19999u
#define FILLER_SHORT 15u
#define FILLER_MIN 4u

static uint8_t zero_bytes[LIMIT_SLAB_SIZE]; /* never written */
static struct slab zeros = {.data = zero_bytes,
                            .cap = sizeof zero_bytes,
                            .fill = sizeof zero_bytes,
                            .refs = 1,
                            .flags = SLAB_STATIC};

enum err etcd__push_zeros(struct chain *out, size_t n)
{
    while (n > 0) {
        uint32_t len = n < sizeof zero_bytes ? (uint32_t)n : (uint32_t)sizeof zero_bytes;
        struct slice s = {&zeros, 0, len};

        TRY(chain_push(out, &s));
        n -= len;
    }
    return ERR_OK;
}

static size_t tag_len(uint32_t number)
{
    return pb_varint_len(pb_tag(number, PB_LEN));
}

/* The payload of one field of n bytes in all. False: there is none of that size. */
static bool payload_len(uint32_t number, size_t n, size_t *out)
{
    size_t head = tag_len(number);

    for (size_t len_len = 1; len_len <= PB_VARINT_MAX && head + len_len <= n; len_len++) {
        *out = n - head - len_len;
        if (pb_varint_len(*out) == len_len)
            return true;
    }
    return false;
}

size_t etcd__filler_field(size_t n, uint8_t head[static 2 * PB_VARINT_MAX], size_t *payload)
{
    uint32_t number = n < FILLER_MIN ? FILLER_SHORT : FILLER;
    size_t len;

    CHECK(n > 1);
    if (!payload_len(number, n, payload)) /* a small one first */
        CHECK(payload_len(number, FILLER_MIN, payload));
    len = pb_put_varint(head, pb_tag(number, PB_LEN));
    return len + pb_put_varint(head + len, *payload);
}
