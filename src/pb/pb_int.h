/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of pb/: the decoder that the chain reader and the span reader both use. */
#ifndef PB_PB_INT_H
#define PB_PB_INT_H

#include "pb/pb.h"

/* A head is a tag and, behind it, a length or a value: two varints at most. */
#define PB__HEAD_MAX (2 * PB_VARINT_MAX)

/* A field up to its payload: everything of it, unless it is PB_LEN or PB_GROUP. */
struct pb__head {
    uint32_t number;
    enum pb_wire wire;
    uint32_t tag_len;
    uint32_t len;    /* tag, and the length (PB_LEN) or the value (PB_VARINT, fixed) */
    uint64_t varint; /* PB_LEN: the length; PB_VARINT and fixed: the value */
};

/* PB_MORE: in ends too early. Whether a PB_END_GROUP stands in the right place is for the
 * caller. */
MUST_CHECK enum pb_result pb__head_decode(struct bytes in, struct pb__head *h);

/* The field numbers of the groups that are open. */
struct pb__groups {
    uint32_t depth;
    uint32_t number[PB_GROUP_DEPTH];
};

/* Takes note of a start or end of a group. False when it doesn't nest. */
MUST_CHECK bool pb__groups_step(struct pb__groups *g, const struct pb__head *h);

#endif
