/* SPDX-License-Identifier: Apache-2.0 */
/* The file as pages: which meta page counts, and bytes at an offset. */
#include "snapshot/snapshot_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

#define SMALLEST_PAGE_LEN 512u /* of a bbolt database */

_Static_assert(SNAPSHOT_VALUE_MAX == LIMIT_ANSWER_UNIT, "what etcd may answer can be read");

/* --- errors ----------------------------------------------------------------------------------- */

/* A copy that was broken off is what is wrong most often, and the pages that it misses show it by
 * chance: that it is short is said whatever was met. */
static void say_cut_short(struct snapshot_bolt *b)
{
    uint64_t whole = b->facts.page_count * b->facts.page_size;
    size_t n = strlen(b->why);

    if (whole > b->input.size)
        snprintf(b->why + n, sizeof b->why - n,
                 ". The file was cut short: %llu of %llu bytes are there",
                 (unsigned long long)b->input.size, (unsigned long long)whole);
}

enum err snapshot_bolt_damaged(struct snapshot_bolt *b, uint64_t page, const char *fmt, ...)
{
    int n = snprintf(b->why, sizeof b->why, "page %llu: ", (unsigned long long)page);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(b->why + n, sizeof b->why - (size_t)n, fmt, ap);
    va_end(ap);
    say_cut_short(b);
    return ERR_FILE_DAMAGED;
}

const char *snapshot_bolt_why(const struct snapshot_bolt *b)
{
    return b->why;
}

/* --- bytes ------------------------------------------------------------------------------------ */

static enum err read_input(struct snapshot_bolt *b, uint64_t at, uint8_t *out, size_t n)
{
    enum err e = b->input.read(b->input.arg, at, out, n);

    if (e == ERR_FILE_DAMAGED)
        return snapshot_bolt_damaged(b, at / b->facts.page_size,
                                     "the file has become shorter while it was read");
    if (e != ERR_OK)
        snprintf(b->why, sizeof b->why, "cannot be read at byte %llu", (unsigned long long)at);
    return e;
}

/* The page of the byte at, or what is needed of it and the next one. */
static enum err move_window(struct snapshot_bolt *b, uint64_t at, size_t n)
{
    uint64_t from = at - at % b->facts.page_size;
    size_t len = b->facts.page_size;

    if (at - from + n > len)
        from = at;
    if (len > b->input.size - from)
        len = (size_t)(b->input.size - from);
    b->window_len = 0;
    TRY(read_input(b, from, b->window, len));
    b->window_at = from;
    b->window_len = len;
    return ERR_OK;
}

static enum err read_large(struct snapshot_bolt *b, uint64_t at, size_t n, struct bytes *out)
{
    if (n > b->large_cap) {
        free(b->large);
        b->large_cap = 0;
        b->large = malloc(n);
        if (b->large == NULL) {
            snprintf(b->why, sizeof b->why, "out of memory");
            return ERR_NOMEM;
        }
        b->large_cap = n;
    }
    TRY(read_input(b, at, b->large, n));
    *out = bytes_of(b->large, n);
    return ERR_OK;
}

enum err snapshot_bolt_bytes(struct snapshot_bolt *b, uint64_t at, size_t n, struct bytes *out)
{
    *out = bytes_of(NULL, 0);
    if (n == 0)
        return ERR_OK;
    if (n > SNAPSHOT_VALUE_MAX || at > b->input.size || n > b->input.size - at)
        return snapshot_bolt_damaged(b, at / b->facts.page_size,
                                     "what begins here ends behind the end of the file");
    if (n > b->facts.page_size)
        return read_large(b, at, n, out);
    if (at < b->window_at || at - b->window_at > b->window_len ||
        n > b->window_len - (at - b->window_at))
        TRY(move_window(b, at, n));
    *out = bytes_of(b->window + (at - b->window_at), n);
    return ERR_OK;
}

/* --- meta pages ------------------------------------------------------------------------------- */

/* Behind the page header: magic, version, page size, flags u32; root of the top level, its
 * sequence, freelist, pages in use, transaction id, checksum of what lies before it u64. */
#define META_LEN 64u
#define META_CHECKSUM_AT 56u
#define META_MAGIC 0xED0CDAEDu
#define META_VERSION 2u

struct meta {
    uint32_t page_size;
    uint64_t root, page_count, transaction_id;
};

static uint64_t fnv1a(const uint8_t *p, size_t n)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * UINT64_C(1099511628211);
    return h;
}

/* False: it is not valid. */
static bool parse_meta(const uint8_t *page, uint64_t number, struct meta *out)
{
    const uint8_t *m = page + SNAPSHOT__PAGE_HEADER;

    if (snapshot__u64(page) != number || snapshot__u16(page + 8) != SNAPSHOT__META ||
        snapshot__u32(m) != META_MAGIC || snapshot__u32(m + 4) != META_VERSION ||
        snapshot__u64(m + META_CHECKSUM_AT) != fnv1a(m, META_CHECKSUM_AT))
        return false;
    *out = (struct meta){.page_size = snapshot__u32(m + 8),
                         .root = snapshot__u64(m + 16),
                         .page_count = snapshot__u64(m + 40),
                         .transaction_id = snapshot__u64(m + 48)};
    return out->page_size >= SNAPSHOT_PAGE_MIN && out->page_size <= SNAPSHOT_PAGE_MAX &&
           (out->page_size & (out->page_size - 1)) == 0;
}

/* The meta page that lies at that offset. ERR_OK with *is_valid false: there is none. */
static enum err read_meta(const struct snapshot_input *in, uint64_t at, uint64_t number,
                          struct meta *out, bool *is_valid)
{
    uint8_t page[SNAPSHOT__PAGE_HEADER + META_LEN];

    *is_valid = false;
    if (in->size < sizeof page || at > in->size - sizeof page)
        return ERR_OK;
    TRY(in->read(in->arg, at, page, sizeof page));
    *is_valid = parse_meta(page, number, out);
    return ERR_OK;
}

/* Both as far as they are valid. With meta 0 damaged nothing says how large a page is, so meta 1 is
 * looked for at each size that it may have; it counts only where it names that size itself. */
static enum err read_metas(const struct snapshot_input *in, struct meta m[static 2],
                           bool is_valid[static 2])
{
    TRY(read_meta(in, 0, 0, &m[0], &is_valid[0]));
    if (is_valid[0])
        return read_meta(in, m[0].page_size, 1, &m[1], &is_valid[1]);
    is_valid[1] = false;
    for (uint32_t size = SNAPSHOT_PAGE_MIN; size <= SNAPSHOT_PAGE_MAX && !is_valid[1]; size *= 2) {
        TRY(read_meta(in, size, 1, &m[1], &is_valid[1]));
        is_valid[1] = is_valid[1] && m[1].page_size == size;
    }
    return ERR_OK;
}

/* Sets what the meta page says. */
static enum err choose_meta(struct snapshot_bolt *b)
{
    struct meta m[2];
    bool is_valid[2];
    const struct meta *best = &m[0];

    TRY(read_metas(&b->input, m, is_valid));
    if (is_valid[0] && is_valid[1] && m[1].page_size != m[0].page_size)
        is_valid[1] = false;
    if (!is_valid[0] && !is_valid[1]) {
        snprintf(b->why, sizeof b->why,
                 "page 0 and page 1: neither is a valid meta page: this is no bbolt database, or "
                 "its begin is damaged%s",
                 b->input.size == 0                      ? ". The file is empty"
                 : b->input.size < 2 * SMALLEST_PAGE_LEN ? ". The file was cut short: it ends there"
                                                         : "");
        return ERR_FILE_DAMAGED;
    }
    if (!is_valid[0] || (is_valid[1] && m[1].transaction_id > m[0].transaction_id))
        best = &m[1];
    b->facts = (struct snapshot_bolt_facts){.page_size = best->page_size,
                                            .page_count = best->page_count,
                                            .transaction_id = best->transaction_id,
                                            .is_meta_bad = {!is_valid[0], !is_valid[1]}};
    b->root = best->root;
    return ERR_OK;
}

/* --- exported --------------------------------------------------------------------------------- */

const struct snapshot_bolt_facts *snapshot_bolt_facts(const struct snapshot_bolt *b)
{
    return &b->facts;
}

static enum err open_it(struct snapshot_bolt *b)
{
    enum err e;

    if (b->input.size > SNAPSHOT_SIZE_MAX) {
        snprintf(b->why, sizeof b->why, "the file is larger than 1 TiB");
        return ERR_FILE_DAMAGED;
    }
    e = choose_meta(b);
    if (e != ERR_OK) {
        if (b->why[0] == '\0')
            snprintf(b->why, sizeof b->why, "its meta pages cannot be read");
        return e;
    }
    b->window = malloc(b->facts.page_size);
    if (b->window == NULL) {
        snprintf(b->why, sizeof b->why, "out of memory");
        return ERR_NOMEM;
    }
    return ERR_OK;
}

enum err snapshot_bolt_open(const struct snapshot_input *input, struct snapshot_bolt **out,
                            char why[static SNAPSHOT_WHY_MAX])
{
    struct snapshot_bolt *b = calloc(1, sizeof *b);
    enum err e;

    *out = NULL;
    snprintf(why, SNAPSHOT_WHY_MAX, "out of memory");
    if (b == NULL)
        return ERR_NOMEM;
    b->input = *input;
    e = open_it(b);
    snprintf(why, SNAPSHOT_WHY_MAX, "%s", b->why);
    if (e == ERR_OK)
        *out = b;
    else
        snapshot_bolt_close(b);
    return e;
}

void snapshot_bolt_close(struct snapshot_bolt *b)
{
    if (b == NULL)
        return;
    free(b->window);
    free(b->large);
    free(b);
}
