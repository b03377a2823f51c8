/* SPDX-License-Identifier: Apache-2.0 */
/* The walk through a bucket, depth first: a stack of the pages from the root to the present leaf,
 * each with the element that is next.
 *
 *   branch page: header, then for each element  pos u32, ksize u32, page u64
 *   leaf page:   header, then for each element  flags u32, pos u32, ksize u32, vsize u32
 *   pos counts from the element's own begin; its name lies there, and its value right behind.
 *
 * The name that a branch has for a page is at most that page's first one, and greater than all
 * before it. */
#include "snapshot/snapshot_int.h"

#include <stdio.h>
#include <stdlib.h>

#define BRANCH_ELEMENT 16u
#define LEAF_ELEMENT 16u
#define LEAF_IS_BUCKET 1u

struct node {
    uint64_t at, len; /* in the file, with its header and continuation */
    uint64_t page;
    bool is_branch;
    uint32_t count, next; /* elements */
};

struct name {
    uint8_t *p; /* of SNAPSHOT_NAME_MAX bytes */
    size_t n;
    bool is_set;
};

struct snapshot_cursor {
    struct snapshot_bolt *b;
    struct node stack[SNAPSHOT_DEPTH_MAX];
    size_t depth;
    uint8_t *seen;     /* a bit for each page */
    struct name last;  /* of the items until now */
    struct name floor; /* of the page that was stepped into: its items are not less */
    struct name now;
};

/* --- pages ------------------------------------------------------------------------------------ */

/* Takes the pages of a run; none may be taken twice. */
static enum err take_pages(struct snapshot_cursor *c, uint64_t page, uint64_t count)
{
    for (uint64_t p = page; p < page + count; p++) {
        if ((c->seen[p / 8] & 1u << p % 8) != 0)
            return snapshot_bolt_damaged(c->b, p, "it is in use twice");
        c->seen[p / 8] |= (uint8_t)(1u << p % 8);
    }
    return ERR_OK;
}

/* Looks at the header, which is at n->at, and puts the node on the stack. */
static enum err push(struct snapshot_cursor *c, struct node *n, unsigned kind, unsigned count)
{
    size_t element = kind == SNAPSHOT__BRANCH ? BRANCH_ELEMENT : LEAF_ELEMENT;

    if (kind != SNAPSHOT__BRANCH && kind != SNAPSHOT__LEAF)
        return snapshot_bolt_damaged(c->b, n->page, "it is neither a branch nor a leaf (%#x)",
                                     kind);
    if (kind == SNAPSHOT__BRANCH && count == 0)
        return snapshot_bolt_damaged(c->b, n->page, "it is a branch that leads nowhere");
    if (SNAPSHOT__PAGE_HEADER + count * element > n->len)
        return snapshot_bolt_damaged(c->b, n->page, "its %u elements do not fit", count);
    if (c->depth == SNAPSHOT_DEPTH_MAX)
        return snapshot_bolt_damaged(c->b, n->page, "the tree is more than %u levels deep",
                                     SNAPSHOT_DEPTH_MAX);
    n->is_branch = kind == SNAPSHOT__BRANCH;
    n->count = count;
    c->stack[c->depth++] = *n;
    return ERR_OK;
}

static enum err push_page(struct snapshot_cursor *c, uint64_t page, uint64_t from)
{
    const struct snapshot_bolt_facts *f = &c->b->facts;
    struct node n = {.page = page, .at = page * f->page_size};
    uint64_t run;
    struct bytes h;

    if (page < 2 || page >= f->page_count || page > SNAPSHOT_SIZE_MAX / f->page_size)
        return snapshot_bolt_damaged(c->b, from, "it leads to page %llu, which there is not",
                                     (unsigned long long)page);
    TRY(snapshot_bolt_bytes(c->b, n.at, SNAPSHOT__PAGE_HEADER, &h));
    if (snapshot__u64(h.p) != page)
        return snapshot_bolt_damaged(c->b, page, "it says that it is page %llu",
                                     (unsigned long long)snapshot__u64(h.p));
    run = (uint64_t)snapshot__u32(h.p + 12) + 1;
    n.len = run * f->page_size;
    if (run > f->page_count - page || n.len > c->b->input.size - n.at)
        return snapshot_bolt_damaged(c->b, page, "it goes on behind the end");
    TRY(push(c, &n, snapshot__u16(h.p + 8), snapshot__u16(h.p + 10)));
    return take_pages(c, page, run);
}

static enum err push_inline(struct snapshot_cursor *c, const struct snapshot_bucket *bucket)
{
    struct node n = {.page = bucket->page, .at = bucket->inline_at, .len = bucket->inline_len};
    struct bytes h;

    if (n.len < SNAPSHOT__PAGE_HEADER)
        return snapshot_bolt_damaged(c->b, n.page, "a bucket in it is cut short");
    TRY(snapshot_bolt_bytes(c->b, n.at, SNAPSHOT__PAGE_HEADER, &h));
    if (snapshot__u16(h.p + 8) != SNAPSHOT__LEAF)
        return snapshot_bolt_damaged(c->b, n.page, "a bucket in it is no leaf");
    return push(c, &n, SNAPSHOT__LEAF, snapshot__u16(h.p + 10));
}

/* --- elements --------------------------------------------------------------------------------- */

/* An element's name, and where its value begins; both lie inside of its page, behind the elements.
 */
static enum err read_name(struct snapshot_cursor *c, const struct node *n, uint64_t element_at,
                          uint32_t pos, uint32_t name_len, uint32_t value_len, struct name *out,
                          uint64_t *value_at)
{
    uint64_t from = element_at + pos, end = n->at + n->len;
    struct bytes name;

    if (from < n->at + SNAPSHOT__PAGE_HEADER + n->count * (uint64_t)LEAF_ELEMENT || from > end ||
        (uint64_t)name_len + value_len > end - from)
        return snapshot_bolt_damaged(c->b, n->page, "an element lies outside of it");
    if (name_len > SNAPSHOT_NAME_MAX || value_len > SNAPSHOT_VALUE_MAX)
        return snapshot_bolt_damaged(c->b, n->page, "an element is too large");
    TRY(snapshot_bolt_bytes(c->b, from, name_len, &name));
    if (name_len > 0)
        memcpy(out->p, name.p, name_len);
    out->n = name_len;
    out->is_set = true;
    *value_at = from + name_len;
    return ERR_OK;
}

static struct bytes name_bytes(const struct name *n)
{
    return bytes_of(n->p, n->n);
}

static void swap_names(struct name *a, struct name *b)
{
    struct name was = *a;

    *a = *b;
    *b = was;
}

/* Greater than the item before, and not less than its page's name? */
static bool is_in_order(const struct snapshot_cursor *c, const struct name *name)
{
    return (!c->last.is_set || bytes_cmp(name_bytes(&c->last), name_bytes(name)) < 0) &&
           (!c->floor.is_set || bytes_cmp(name_bytes(&c->floor), name_bytes(name)) <= 0);
}

/* Steps into the page that the next element of the branch leads to. */
static enum err descend(struct snapshot_cursor *c, struct node *n)
{
    uint64_t at = n->at + SNAPSHOT__PAGE_HEADER + n->next * (uint64_t)BRANCH_ELEMENT, value_at;
    struct bytes e;
    uint64_t page;

    TRY(snapshot_bolt_bytes(c->b, at, BRANCH_ELEMENT, &e));
    page = snapshot__u64(e.p + 8);
    TRY(read_name(c, n, at, snapshot__u32(e.p), snapshot__u32(e.p + 4), 0, &c->now, &value_at));
    if (!is_in_order(c, &c->now))
        return snapshot_bolt_damaged(c->b, n->page, "its names are not in order");
    swap_names(&c->floor, &c->now);
    n->next++;
    return push_page(c, page, n->page);
}

static enum err read_item(struct snapshot_cursor *c, struct node *n, struct snapshot_item *out)
{
    uint64_t at = n->at + SNAPSHOT__PAGE_HEADER + n->next * (uint64_t)LEAF_ELEMENT;
    uint32_t flags, value_len;
    struct bytes e;

    TRY(snapshot_bolt_bytes(c->b, at, LEAF_ELEMENT, &e));
    flags = snapshot__u32(e.p);
    value_len = snapshot__u32(e.p + 12);
    TRY(read_name(c, n, at, snapshot__u32(e.p + 4), snapshot__u32(e.p + 8), value_len, &c->now,
                  &out->value_at));
    if (!is_in_order(c, &c->now))
        return snapshot_bolt_damaged(c->b, n->page, "its names are not in order");
    if ((flags & ~LEAF_IS_BUCKET) != 0)
        return snapshot_bolt_damaged(c->b, n->page, "an element has unknown flags (%#x)", flags);
    swap_names(&c->last, &c->now);
    c->floor.is_set = false;
    n->next++;
    out->name = name_bytes(&c->last);
    out->value_len = value_len;
    out->page = n->page;
    out->is_bucket = flags == LEAF_IS_BUCKET;
    return ERR_OK;
}

/* --- exported --------------------------------------------------------------------------------- */

enum err snapshot_cursor_next(struct snapshot_cursor *c, struct snapshot_item *out, bool *has)
{
    *has = false;
    while (c->depth > 0) {
        struct node *n = &c->stack[c->depth - 1];

        if (n->next == n->count) {
            c->depth--;
        } else if (n->is_branch) {
            TRY(descend(c, n));
        } else {
            TRY(read_item(c, n, out));
            *has = true;
            return ERR_OK;
        }
    }
    return ERR_OK;
}

static enum err alloc(struct snapshot_cursor *c)
{
    uint64_t pages = c->b->input.size / c->b->facts.page_size + 1;

    c->seen = calloc(pages / 8 + 1, 1);
    c->last.p = malloc(SNAPSHOT_NAME_MAX);
    c->floor.p = malloc(SNAPSHOT_NAME_MAX);
    c->now.p = malloc(SNAPSHOT_NAME_MAX);
    return c->seen != NULL && c->last.p != NULL && c->floor.p != NULL && c->now.p != NULL
               ? ERR_OK
               : ERR_NOMEM;
}

enum err snapshot_cursor_new(struct snapshot_bolt *b, const struct snapshot_bucket *bucket,
                             struct snapshot_cursor **out)
{
    struct snapshot_cursor *c = calloc(1, sizeof *c);
    enum err e;

    *out = NULL;
    if (c == NULL)
        return ERR_NOMEM;
    c->b = b;
    e = alloc(c);
    if (e != ERR_OK)
        snprintf(b->why, sizeof b->why, "out of memory");
    else if (bucket == NULL)
        e = push_page(c, b->root, 0);
    else if (bucket->root != 0)
        e = push_page(c, bucket->root, bucket->page);
    else
        e = push_inline(c, bucket);
    if (e == ERR_OK)
        *out = c;
    else
        snapshot_cursor_free(c);
    return e;
}

void snapshot_cursor_free(struct snapshot_cursor *c)
{
    if (c == NULL)
        return;
    free(c->seen);
    free(c->last.p);
    free(c->floor.p);
    free(c->now.p);
    free(c);
}

/* --- buckets ---------------------------------------------------------------------------------- */

static enum err read_bucket(struct snapshot_bolt *b, const struct snapshot_item *item,
                            struct snapshot_bucket *out)
{
    struct bytes h;

    if (!item->is_bucket || item->value_len < SNAPSHOT__BUCKET_HEADER)
        return snapshot_bolt_damaged(b, item->page, "an element that is to be a bucket is none");
    TRY(snapshot_bolt_bytes(b, item->value_at, SNAPSHOT__BUCKET_HEADER, &h));
    *out = (struct snapshot_bucket){.root = snapshot__u64(h.p),
                                    .inline_at = item->value_at + SNAPSHOT__BUCKET_HEADER,
                                    .inline_len = item->value_len - SNAPSHOT__BUCKET_HEADER,
                                    .page = item->page};
    return ERR_OK;
}

enum err snapshot_bolt_find(struct snapshot_bolt *b, struct bytes name, struct snapshot_bucket *out,
                            bool *has)
{
    struct snapshot_cursor *c;
    struct snapshot_item item;
    bool is_there;
    enum err e;

    *has = false;
    TRY(snapshot_cursor_new(b, NULL, &c));
    while ((e = snapshot_cursor_next(c, &item, &is_there)) == ERR_OK && is_there)
        if (bytes_eq(item.name, name)) {
            e = read_bucket(b, &item, out);
            *has = e == ERR_OK;
            break;
        }
    snapshot_cursor_free(c);
    return e;
}
