/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the bytes of a bbolt database, maybe damaged. Gives: its buckets, name by name, in
 * order. Owns: a page's worth of the file at a time. Thread: one.
 *
 * bbolt is the store of etcd: pages of one size, two meta pages of which the valid one with the
 * higher transaction id counts, and B+ trees of branch and leaf pages, one for each bucket. Only
 * meta pages have a checksum. So everything else is checked before it is used: offsets, page
 * numbers, kinds and order. However a file is damaged, reading it ends: a walk visits each page
 * once, and goes SNAPSHOT_DEPTH_MAX levels deep.
 *
 * Functions that fail leave the reason in snapshot_bolt_why. Errors of all of them, unless said
 * otherwise: ERR_FILE_DAMAGED (the reason names the page), ERR_NOMEM, those of the input. */
#ifndef SNAPSHOT_BOLT_H
#define SNAPSHOT_BOLT_H

#include "base/bytes.h"
#include "snapshot/input.h"

#define SNAPSHOT_DEPTH_MAX 32u
#define SNAPSHOT_PAGE_MIN 1024u
#define SNAPSHOT_PAGE_MAX 65536u
#define SNAPSHOT_NAME_MAX 32768u               /* bbolt takes no longer ones */
#define SNAPSHOT_VALUE_MAX (64u * 1024 * 1024) /* as LIMIT_ANSWER_UNIT */
#define SNAPSHOT_SIZE_MAX (UINT64_C(1) << 40)  /* of the file: 1 TiB */

struct snapshot_bolt;

struct snapshot_bolt_facts {
    uint32_t page_size;
    uint64_t page_count;     /* in use: what lies behind is of no meaning */
    uint64_t transaction_id; /* the last one that is in the file */
    bool is_meta_bad[2];     /* with one of them bad, the last transaction may be missing */
};

/* input is copied; what it borrows has to stay. *out is NULL on error, and why says what it is. */
MUST_CHECK enum err snapshot_bolt_open(const struct snapshot_input *input,
                                       struct snapshot_bolt **out,
                                       char why[static SNAPSHOT_WHY_MAX]);
void snapshot_bolt_close(struct snapshot_bolt *b);
const struct snapshot_bolt_facts *snapshot_bolt_facts(const struct snapshot_bolt *b);
/* Of the last call that failed; "" when none did. */
const char *snapshot_bolt_why(const struct snapshot_bolt *b);
/* n bytes at an offset of the file, borrowed until the next call that reads from b. */
MUST_CHECK enum err snapshot_bolt_bytes(struct snapshot_bolt *b, uint64_t at, size_t n,
                                        struct bytes *out);
/* What is wrong with the data on a page, as a caller found out. Returns ERR_FILE_DAMAGED. */
enum err snapshot_bolt_damaged(struct snapshot_bolt *b, uint64_t page, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

struct snapshot_bucket {
    uint64_t root; /* page of its tree; 0: it is small, and lies where its value does: */
    uint64_t inline_at, inline_len;
    uint64_t page; /* on which that is */
};

/* A bucket of the top level. *has is false where there is none of that name. */
MUST_CHECK enum err snapshot_bolt_find(struct snapshot_bolt *b, struct bytes name,
                                       struct snapshot_bucket *out, bool *has);

/* --- the walk through a bucket --- */

struct snapshot_item {
    struct bytes name;  /* until the next call of snapshot_cursor_next */
    uint64_t value_at;  /* in the file, for snapshot_bolt_bytes */
    uint32_t value_len; /* at most SNAPSHOT_VALUE_MAX */
    uint64_t page;      /* on which its leaf begins */
    bool is_bucket;     /* the value is a bucket of its own */
};

struct snapshot_cursor;

/* bucket NULL: the top level, whose items are buckets. */
MUST_CHECK enum err snapshot_cursor_new(struct snapshot_bolt *b,
                                        const struct snapshot_bucket *bucket,
                                        struct snapshot_cursor **out);
/* The next item in the order of names, which rises from item to item. *has is false at the end. */
MUST_CHECK enum err snapshot_cursor_next(struct snapshot_cursor *c, struct snapshot_item *out,
                                         bool *has);
/* c may be NULL. */
void snapshot_cursor_free(struct snapshot_cursor *c);

#endif
