/* SPDX-License-Identifier: Apache-2.0 */
/* Header blocks that came before, remembered by their bytes with what they say.
 *
 * Clients repeat themselves: a block that only refers to the tables, or has literals that are not
 * to be indexed, is the same for the next call of the same method. Such a block leaves the table as
 * it is (it is pure), and means the same as long as nothing else changes the table: its generation.
 * A block is remembered when it comes for the second time, so that one that never comes again costs
 * a fingerprint only. Those with a credential as a literal never come here.
 *
 * A memo is one object: the list's fields, the block, its literals. */
#include "h2/hpack_int.h"

#define BLOCK_MAX 512u
#define TEXT_MAX 1024u
#define FIELDS_MAX 48u

struct h2__hpack_memo {
    struct h2__headers headers; /* v is fields */
    uint64_t generation;
    uint32_t block_len;
    uint8_t *block; /* behind the fields */
    struct h2_field fields[];
};

const struct h2__headers *h2__hpack_memo_find(const struct h2__hpack_in *in, struct bytes block,
                                              enum h2__block kind, struct h2__hpack_limits limits)
{
    for (size_t i = 0; i < H2__HPACK_MEMOS; i++) {
        const struct h2__hpack_memo *m = in->memos[i];

        if (m == NULL)
            break;
        if (m->block_len != block.n || m->generation != in->table.generation ||
            m->headers.kind != kind || memcmp(m->block, block.p, block.n) != 0)
            continue;
        if (m->headers.bytes > limits.bytes || m->headers.count > limits.fields)
            return NULL;
        return &m->headers;
    }
    return NULL;
}

static uint64_t load_upto8(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    memcpy(&v, p, n < 8 ? n : 8);
    return v;
}

/* Only decides what is worth remembering, so two blocks may well have the same. Never 0. */
static uint64_t fingerprint(const struct h2__hpack_in *in, struct bytes block)
{
    size_t tail = block.n < 8 ? 0 : block.n - 8;
    uint64_t v = load_upto8(block.p, block.n) ^ in->table.generation << 32 ^ block.n << 8;

    v = v * 0x9e3779b97f4a7c15u ^ load_upto8(block.p + tail, block.n - tail);
    return (v * 0x9e3779b97f4a7c15u ^ (uint64_t)in->headers.kind) | 1;
}

/* True when the block has been here before. */
static bool was_seen(struct h2__hpack_in *in, struct bytes block)
{
    uint64_t v = fingerprint(in, block);

    for (size_t i = 0; i < H2__HPACK_MEMOS; i++)
        if (in->seen[i] == v)
            return true;
    in->seen[in->seen_next] = v;
    in->seen_next = (uint8_t)((in->seen_next + 1) % H2__HPACK_MEMOS);
    return false;
}

static struct bytes moved(const struct h2__hpack_in *in, struct bytes b, uint8_t *text)
{
    uintptr_t at = (uintptr_t)b.p, from = (uintptr_t)in->text;

    if (in->text_len > 0 && at >= from && at < from + in->text_len)
        b.p = text + (at - from);
    return b;
}

static struct h2__hpack_memo *memo_new(struct h2__hpack_in *in, struct bytes block)
{
    size_t count = in->headers.count;
    struct h2__hpack_memo *m;
    uint8_t *text;

    m = objects_alloc(in->mem,
                      sizeof *m + count * sizeof(struct h2_field) + block.n + in->text_len);
    if (m == NULL)
        return NULL;
    m->block = (uint8_t *)(m->fields + count);
    memcpy(m->block, block.p, block.n);
    text = m->block + block.n;
    if (in->text_len > 0)
        memcpy(text, in->text, in->text_len);
    for (size_t i = 0; i < count; i++)
        m->fields[i] = (struct h2_field){moved(in, in->headers.v[i].name, text),
                                         moved(in, in->headers.v[i].value, text)};
    m->headers = in->headers;
    m->headers.v = m->fields;
    m->headers.cap = count;
    m->generation = in->table.generation;
    m->block_len = (uint32_t)block.n;
    return m;
}

/* Where the next memo goes: a free place, one that is out of date, or the next in turn. */
static size_t place_of(struct h2__hpack_in *in)
{
    for (size_t i = 0; i < H2__HPACK_MEMOS; i++) {
        const struct h2__hpack_memo *m = in->memos[i];

        if (m == NULL || m->generation != in->table.generation)
            return i;
    }
    in->memo_next = (uint8_t)((in->memo_next + 1) % H2__HPACK_MEMOS);
    return in->memo_next;
}

void h2__hpack_memo_keep(struct h2__hpack_in *in, struct bytes block)
{
    struct h2__hpack_memo *m;
    size_t at;

    if (block.n == 0 || block.n > BLOCK_MAX || in->text_len > TEXT_MAX ||
        in->headers.count > FIELDS_MAX || !was_seen(in, block))
        return;
    m = memo_new(in, block);
    if (m == NULL) /* it is remembered another time */
        return;
    at = place_of(in);
    objects_free(in->mem, in->memos[at]);
    in->memos[at] = m;
}

void h2__hpack_memo_fini(struct h2__hpack_in *in)
{
    for (size_t i = 0; i < H2__HPACK_MEMOS; i++) {
        objects_free(in->mem, in->memos[i]);
        in->memos[i] = NULL;
    }
}
