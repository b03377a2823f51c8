/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by bolt.c, which finds the meta page, and cursor.c, which walks. */
#ifndef SNAPSHOT_SNAPSHOT_INT_H
#define SNAPSHOT_SNAPSHOT_INT_H

#include "snapshot/bolt.h"

/* What every page begins with: its number, its kind, how many elements it has, and how many pages
 * behind it are its continuation. */
#define SNAPSHOT__PAGE_HEADER 16u
#define SNAPSHOT__BUCKET_HEADER 16u /* root, sequence */

enum snapshot__page_kind {
    SNAPSHOT__BRANCH = 0x01,
    SNAPSHOT__LEAF = 0x02,
    SNAPSHOT__META = 0x04,
};

struct snapshot_bolt {
    struct snapshot_input input;
    struct snapshot_bolt_facts facts;
    uint64_t root;   /* page of the top level */
    uint8_t *window; /* of page_size bytes: what was read last */
    uint64_t window_at;
    size_t window_len;
    uint8_t *large; /* what does not fit into it */
    size_t large_cap;
    char why[SNAPSHOT_WHY_MAX];
};

/* bbolt writes the numbers of its machine: little-endian ones on all that Kubernetes runs on but
 * s390x, whose files have no valid meta page for us. */
static inline uint16_t snapshot__u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t snapshot__u32(const uint8_t *p)
{
    return snapshot__u16(p) | (uint32_t)snapshot__u16(p + 2) << 16;
}

static inline uint64_t snapshot__u64(const uint8_t *p)
{
    return snapshot__u32(p) | (uint64_t)snapshot__u32(p + 4) << 32;
}

#endif
