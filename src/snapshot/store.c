/* SPDX-License-Identifier: Apache-2.0 */
/* The index is an array of what was read of wanted keys, in order of revisions. When it is full it
 * is sorted by key, and of each key only the last record stays, none where that is a deletion. Only
 * if this leaves it more than half full it grows. So it needs no hash, which somebody who chooses
 * keys could fill with collisions, and a long history costs time, not memory. */
#include "snapshot/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "pb/pb.h"

#define FIRST_CAP 1024u
#define REVISION_LEN 17u /* main, '_', sub */

struct snapshot_store {
    struct snapshot_bolt *bolt;
    struct snapshot_store_facts facts;
    struct snapshot_entry *v; /* their keys are allocated one by one */
    size_t count, cap;
};

/* --- the index -------------------------------------------------------------------------------- */

static void drop_entry(struct snapshot_entry *e)
{
    free((void *)(uintptr_t)e->key.p);
    e->key = bytes_of(NULL, 0);
}

/* By key, then by revision. */
static int compare_entries(const void *a, const void *b)
{
    const struct snapshot_entry *x = a, *y = b;
    int c = bytes_cmp(x->key, y->key);

    if (c != 0)
        return c;
    if (x->mod_revision != y->mod_revision)
        return x->mod_revision < y->mod_revision ? -1 : 1;
    return (x->sub_revision > y->sub_revision) - (x->sub_revision < y->sub_revision);
}

static void settle(struct snapshot_store *s)
{
    size_t kept = 0;

    if (s->count > 0)
        qsort(s->v, s->count, sizeof *s->v, compare_entries);
    for (size_t i = 0; i < s->count; i++) {
        bool is_last = i + 1 == s->count || !bytes_eq(s->v[i].key, s->v[i + 1].key);

        if (is_last && !s->v[i].is_deleted)
            s->v[kept++] = s->v[i];
        else
            drop_entry(&s->v[i]);
    }
    s->count = kept;
}

static enum err make_room(struct snapshot_store *s)
{
    size_t cap = s->cap == 0 ? FIRST_CAP : s->cap * 2;
    struct snapshot_entry *v;

    if (s->count < s->cap)
        return ERR_OK;
    settle(s);
    if (s->cap > 0 && s->count <= s->cap / 2)
        return ERR_OK;
    v = realloc(s->v, cap * sizeof *v);
    if (v == NULL)
        return ERR_NOMEM;
    s->v = v;
    s->cap = cap;
    return ERR_OK;
}

static enum err add_entry(struct snapshot_store *s, const struct snapshot_entry *e)
{
    uint8_t *key;

    TRY(make_room(s));
    key = malloc(e->key.n);
    if (key == NULL)
        return ERR_NOMEM;
    memcpy(key, e->key.p, e->key.n);
    s->v[s->count] = *e;
    s->v[s->count++].key = bytes_of(key, e->key.n);
    return ERR_OK;
}

/* --- records ---------------------------------------------------------------------------------- */

static uint64_t big_u64(const uint8_t *p)
{
    uint64_t v = 0;

    for (size_t i = 0; i < 8; i++)
        v = v << 8 | p[i];
    return v;
}

/* False: it is no revision. */
static bool parse_revision(struct bytes name, struct snapshot_entry *out)
{
    bool is_deleted = name.n == REVISION_LEN + 1 && name.p[REVISION_LEN] == 't';

    if ((name.n != REVISION_LEN && !is_deleted) || name.p[8] != '_' || (name.p[0] & 0x80) != 0 ||
        (name.p[9] & 0x80) != 0)
        return false;
    out->mod_revision = (int64_t)big_u64(name.p);
    out->sub_revision = (int64_t)big_u64(name.p + 9);
    out->is_deleted = is_deleted;
    return true;
}

/* mvccpb.KeyValue: key 1, mod_revision 3. False: malformed, or either of them is there twice. */
static bool parse_kv(struct bytes in, struct bytes *key, int64_t *mod_revision)
{
    unsigned seen = 0;
    struct pb_span f;
    enum pb_result r;

    *key = bytes_of(NULL, 0);
    *mod_revision = 0;
    while ((r = pb_span_next(&in, &f)) == PB_FIELD) {
        if (f.number != 1 && f.number != 3)
            continue;
        if (f.wire != (f.number == 1 ? PB_LEN : PB_VARINT) || (seen & 1u << f.number) != 0)
            return false;
        seen |= 1u << f.number;
        if (f.number == 1)
            *key = f.value;
        else
            *mod_revision = (int64_t)f.varint;
    }
    return r == PB_END;
}

/* A record's KeyValue names its key, and, unless it is a deletion, the revision it lies under. */
static enum err read_record(struct snapshot_store *s, const struct snapshot_item *item,
                            struct snapshot_entry *e)
{
    int64_t mod_revision;
    struct bytes kv;

    TRY(snapshot_bolt_bytes(s->bolt, item->value_at, item->value_len, &kv));
    if (!parse_kv(kv, &e->key, &mod_revision) || e->key.n == 0)
        return snapshot_bolt_damaged(
            s->bolt, item->page, "what revision %" PRId64 " wrote is no KeyValue", e->mod_revision);
    if (!e->is_deleted && mod_revision != e->mod_revision)
        return snapshot_bolt_damaged(s->bolt, item->page,
                                     "what lies under revision %" PRId64 " is of revision %" PRId64,
                                     e->mod_revision, mod_revision);
    return ERR_OK;
}

static enum err take_record(struct snapshot_store *s, const struct snapshot_store_opts *o,
                            const struct snapshot_item *item)
{
    struct snapshot_entry e = {.value_at = item->value_at, .value_len = item->value_len};

    if (item->is_bucket || !parse_revision(item->name, &e))
        return snapshot_bolt_damaged(s->bolt, item->page,
                                     "a name in the bucket of keys is no revision");
    s->facts.revision = e.mod_revision; /* they come in order */
    s->facts.record_count++;
    if (item->value_len == 0) /* a restore that skips revisions leaves such a mark */
        return ERR_OK;
    TRY(read_record(s, item, &e));
    return o->is_wanted(o->arg, e.key) ? add_entry(s, &e) : ERR_OK;
}

/* --- buckets ---------------------------------------------------------------------------------- */

static enum err read_keys(struct snapshot_store *s, const struct snapshot_store_opts *o)
{
    struct snapshot_bucket bucket;
    struct snapshot_cursor *c;
    struct snapshot_item item;
    bool has;
    enum err e;

    TRY(snapshot_bolt_find(s->bolt, BYTES_LIT("key"), &bucket, &has));
    if (!has)
        return snapshot_bolt_damaged(s->bolt, 0,
                                     "there is no bucket of keys: it is no database of etcd");
    TRY(snapshot_cursor_new(s->bolt, &bucket, &c));
    while ((e = snapshot_cursor_next(c, &item, &has)) == ERR_OK && has) {
        e = take_record(s, o, &item);
        if (e != ERR_OK)
            break;
    }
    snapshot_cursor_free(c);
    if (e == ERR_OK)
        settle(s);
    return e;
}

/* A fact of etcd about itself: compactions are named by a revision, raft's index by a number. */
static enum err take_meta(struct snapshot_store *s, const struct snapshot_item *item)
{
    bool is_compaction = bytes_eq(item->name, BYTES_LIT("finishedCompactRev")) ||
                         bytes_eq(item->name, BYTES_LIT("scheduledCompactRev"));
    struct snapshot_entry at;
    struct bytes value;

    if (item->is_bucket || item->value_len > REVISION_LEN + 1)
        return ERR_OK;
    TRY(snapshot_bolt_bytes(s->bolt, item->value_at, item->value_len, &value));
    if (is_compaction && parse_revision(value, &at) && at.mod_revision > s->facts.compact_revision)
        s->facts.compact_revision = at.mod_revision;
    if (bytes_eq(item->name, BYTES_LIT("consistent_index")) && value.n == 8)
        s->facts.consistent_index = big_u64(value.p);
    return ERR_OK;
}

static enum err read_meta(struct snapshot_store *s)
{
    struct snapshot_bucket bucket;
    struct snapshot_cursor *c;
    struct snapshot_item item;
    bool has;
    enum err e;

    TRY(snapshot_bolt_find(s->bolt, BYTES_LIT("meta"), &bucket, &has));
    if (!has)
        return ERR_OK;
    TRY(snapshot_cursor_new(s->bolt, &bucket, &c));
    while ((e = snapshot_cursor_next(c, &item, &has)) == ERR_OK && has) {
        e = take_meta(s, &item);
        if (e != ERR_OK)
            break;
    }
    snapshot_cursor_free(c);
    return e;
}

static enum err read_all(struct snapshot_store *s, const struct snapshot_store_opts *o)
{
    s->facts.bolt = *snapshot_bolt_facts(s->bolt);
    TRY(read_meta(s));
    TRY(read_keys(s, o));
    /* All that was written up to a compaction may be gone. */
    if (s->facts.revision < s->facts.compact_revision)
        s->facts.revision = s->facts.compact_revision;
    if (s->facts.revision < 1)
        s->facts.revision = 1;
    return ERR_OK;
}

/* --- exported --------------------------------------------------------------------------------- */

enum err snapshot_store_open(const struct snapshot_store_opts *o, struct snapshot_store **out,
                             char why[static SNAPSHOT_WHY_MAX])
{
    struct snapshot_store *s = calloc(1, sizeof *s);
    enum err e;

    *out = NULL;
    snprintf(why, SNAPSHOT_WHY_MAX, "out of memory");
    if (s == NULL)
        return ERR_NOMEM;
    e = snapshot_bolt_open(&o->input, &s->bolt, why);
    if (e == ERR_OK) {
        e = read_all(s, o);
        snprintf(why, SNAPSHOT_WHY_MAX, "%s",
                 e == ERR_NOMEM ? "out of memory" : snapshot_bolt_why(s->bolt));
    }
    if (e == ERR_OK)
        *out = s;
    else
        snapshot_store_close(s);
    return e;
}

void snapshot_store_close(struct snapshot_store *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++)
        drop_entry(&s->v[i]);
    free(s->v);
    snapshot_bolt_close(s->bolt);
    free(s);
}

const struct snapshot_store_facts *snapshot_store_facts(const struct snapshot_store *s)
{
    return &s->facts;
}

const char *snapshot_store_why(const struct snapshot_store *s)
{
    return snapshot_bolt_why(s->bolt);
}

size_t snapshot_store_count(const struct snapshot_store *s)
{
    return s->count;
}

const struct snapshot_entry *snapshot_store_at(const struct snapshot_store *s, size_t i)
{
    return &s->v[i];
}

size_t snapshot_store_seek(const struct snapshot_store *s, struct bytes key)
{
    size_t low = 0, high = s->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (bytes_cmp(s->v[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum err snapshot_store_read(struct snapshot_store *s, const struct snapshot_entry *e,
                             struct bytes *out)
{
    int64_t mod_revision;
    struct bytes key;

    TRY(snapshot_bolt_bytes(s->bolt, e->value_at, e->value_len, out));
    if (parse_kv(*out, &key, &mod_revision) && bytes_eq(key, e->key) &&
        mod_revision == e->mod_revision)
        return ERR_OK;
    return snapshot_bolt_damaged(s->bolt, e->value_at / s->facts.bolt.page_size,
                                 "it has changed while it was read");
}
