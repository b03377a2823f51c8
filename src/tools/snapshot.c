/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "etcd/message.h"
#include "pb/pb.h"

#define PAGE_BYTES (1024u * 1024) /* aimed at; a larger value comes alone */
#define KVS_FIELD 2u              /* of a RangeResponse */

/* --- opening ---------------------------------------------------------------------------------- */

static bool is_wanted(void *arg, struct bytes key)
{
    struct tools_snapshot *s = arg;
    const struct provider_list *list;

    tools_outside_note(&s->outside, key);
    if (s->ask.key != NULL)
        return bytes_eq(key, bytes_str(s->ask.key));
    list = etcd_rules_find_near(s->ask.rules->rules, key, &s->near);
    return list != NULL && sweep_wants(s->ask.filter, key, list);
}

static void warn(const struct tools_snapshot *s)
{
    const struct snapshot_bolt_facts *f = &snapshot_store_facts(s->store)->bolt;

    if (!s->file.is_snapshot)
        LOG(WARN, "no snapshot, but a member's own file: writes still in the WAL are missing",
            "file=%s", s->ask.path);
    else if (!s->file.has_hash)
        LOG(WARN, "the snapshot's SHA-256 does not fit: it is damaged", "file=%s", s->ask.path);
    if (f->is_meta_bad[0] || f->is_meta_bad[1])
        LOG(WARN, "a meta page is damaged: the last transaction may be missing", "file=%s page=%d",
            s->ask.path, f->is_meta_bad[0] ? 0 : 1);
    if (s->outside.found != TOOLS_OUTSIDE_NONE)
        LOG(WARN, "the file holds keys, but none under --etcd-prefix", "prefix=\"%s/\"",
            s->outside.root);
}

/* bbolt makes a file longer before it says that it is, and only by whole pages, so another one is
 * the begin of a copy. All that was read of it may be right, and what is missing is not known. */
static enum err check_length(const struct tools_snapshot *s, char *why, size_t why_len)
{
    const struct snapshot_bolt_facts *b = &snapshot_store_facts(s->store)->bolt;
    uint64_t is = s->file.input.size, whole = b->page_count * b->page_size;

    if ((is >= whole && is % b->page_size == 0) || s->ask.skip_hash)
        return ERR_OK;
    if (is >= whole) /* of a snapshot, whose hash has 32 */
        snprintf(why, why_len, "was cut short: its last %llu bytes are no page and no hash",
                 (unsigned long long)(is % b->page_size));
    else
        snprintf(why, why_len, "was cut short: %llu of %llu bytes are there",
                 (unsigned long long)is, (unsigned long long)whole);
    return ERR_FILE_DAMAGED;
}

enum err tools_snapshot_open(struct tools_snapshot *s, const struct tools_snapshot_ask *ask,
                             char *why, size_t why_len)
{
    struct snapshot_store_opts o = {.is_wanted = is_wanted, .arg = s};
    char reason[SNAPSHOT_WHY_MAX];
    enum err e;

    *s = (struct tools_snapshot){.ask = *ask};
    s->outside.root = ask->rules->key_rules->root;
    s->outside.place = ask->place;
    e = snapshot_file_open(ask->path, ask->skip_hash, &s->file, reason);
    if (e == ERR_OK) {
        o.input = s->file.input;
        e = snapshot_store_open(&o, &s->store, reason);
    }
    if (e == ERR_OK)
        e = check_length(s, reason, sizeof reason);
    if (e == ERR_OK && !snapshot_file_is_unchanged(&s->file)) {
        snprintf(reason, sizeof reason, "was written to while it was read");
        e = ERR_FILE_DAMAGED;
    }
    if (e != ERR_OK) {
        snprintf(why, why_len, "%s: %s", ask->path, reason);
        tools_snapshot_close(s);
        return e;
    }
    warn(s);
    return ERR_OK;
}

void tools_snapshot_close(struct tools_snapshot *s)
{
    snapshot_store_close(s->store);
    snapshot_file_close(&s->file);
    s->store = NULL;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Room for a KeyValue as a field of a RangeResponse. */
static size_t field_len(const struct snapshot_entry *e)
{
    return 1 + pb_varint_len(e->value_len) + e->value_len;
}

static enum err put_entry(struct tools_snapshot *s, const struct snapshot_entry *e,
                          struct slab *slab)
{
    struct bytes kv;

    TRY(snapshot_store_read(s->store, e, &kv));
    slab->data[slab->fill++] = (uint8_t)pb_tag(KVS_FIELD, PB_LEN);
    slab->fill += (uint32_t)pb_put_varint(slab->data + slab->fill, kv.n);
    memcpy(slab->data + slab->fill, kv.p, kv.n);
    slab->fill += (uint32_t)kv.n;
    return ERR_OK;
}

/* Entries from the i-th on, as a RangeResponse has them. */
static enum err put_entries(struct tools_snapshot *s, struct slab_pool *pool, size_t i,
                            size_t count, struct slice *out)
{
    struct slab *slab;
    size_t len = 0;
    enum err e = ERR_OK;

    *out = SLICE_EMPTY;
    for (size_t k = i; k < i + count; k++)
        len += field_len(snapshot_store_at(s->store, k));
    if (len == 0)
        return ERR_OK;
    slab = slab_new(pool, len, SLAB_SECRET);
    if (slab == NULL)
        return ERR_NOMEM;
    for (size_t k = i; k < i + count && e == ERR_OK; k++)
        e = put_entry(s, snapshot_store_at(s->store, k), slab);
    if (e == ERR_OK)
        *out = (struct slice){slab, 0, slab->fill};
    else
        slab_drop(slab);
    return e;
}

static const char *reason_of(const struct tools_snapshot *s, enum err e)
{
    return e == ERR_NOMEM ? "out of memory" : snapshot_store_why(s->store);
}

enum err tools_snapshot_value(struct tools_snapshot *s, struct slab_pool *pool, struct slice *out,
                              char *why, size_t why_len)
{
    char text[LOG_KEY_MAX];
    struct slice page;
    struct etcd_kv kv = {0};
    struct bytes rest;
    bool has = false;
    enum err e;

    if (snapshot_store_count(s->store) == 0) {
        snprintf(why, why_len, "%s: the key %s is not there at its last revision (%" PRId64 ")",
                 s->ask.path, log_key(s->ask.key, strlen(s->ask.key), text),
                 snapshot_store_facts(s->store)->revision);
        return ERR_CONFIG;
    }
    e = put_entries(s, pool, 0, 1, &page);
    if (e != ERR_OK) {
        snprintf(why, why_len, "%s: %s", s->ask.path, reason_of(s, e));
        return e;
    }
    rest = slice_bytes(page);
    e = etcd_message_next_kv(&rest, &kv, &has);
    if (e != ERR_OK)
        snprintf(why, why_len, "%s: what the key has is no KeyValue", s->ask.path);
    else
        *out = slice_sub(page, (uint32_t)(kv.value.n > 0 ? kv.value.p - slice_data(page) : 0),
                         (uint32_t)kv.value.n);
    slice_drop(&page);
    return e;
}

/* --- as the source of a run ------------------------------------------------------------------- */

struct source_snapshot {
    struct sweep_source base;
    struct tools_snapshot *snapshot;
    struct loop *loop;
    struct loop_task task;
    struct slab_pool pool;
    struct slice page;
    size_t first, count; /* entries of the page that was asked for */
    bool has_more;
    sweep_page_fn fn;
    void *arg;
    char why[SNAPSHOT_WHY_MAX];
};

static void on_task(struct loop_task *t)
{
    struct source_snapshot *s = CONTAINER_OF(t, struct source_snapshot, task);
    struct tools_snapshot *from = s->snapshot;
    struct sweep_page p = {.why = s->why, .has_more = s->has_more};

    p.err = put_entries(from, &s->pool, s->first, s->count, &s->page);
    snprintf(s->why, sizeof s->why, "%s", reason_of(from, p.err));
    if (p.err == ERR_OK && !snapshot_file_is_unchanged(&from->file)) {
        p.err = ERR_FILE_DAMAGED;
        snprintf(s->why, sizeof s->why, "the file was written to while it was read");
    }
    p.header.revision = snapshot_store_facts(from->store)->revision;
    p.kvs = slice_bytes(s->page);
    s->fn(s->arg, &p);
}

static enum err source_ask(struct sweep_source *base, const struct sweep_ask *ask, sweep_page_fn fn,
                           void *arg)
{
    struct source_snapshot *s = CONTAINER_OF(base, struct source_snapshot, base);
    const struct snapshot_store *store = s->snapshot->store;
    size_t at, end = snapshot_store_seek(store, ask->end), len = 0;

    slice_drop(&s->page);
    s->fn = fn;
    s->arg = arg;
    s->first = at = snapshot_store_seek(store, ask->key);
    while (at < end &&
           (at == s->first || len + snapshot_store_at(store, at)->value_len <= PAGE_BYTES))
        len += snapshot_store_at(store, at++)->value_len;
    s->count = at - s->first;
    s->has_more = at < end;
    loop_task_want(s->loop, &s->task);
    return ERR_OK;
}

static void source_close(struct sweep_source *base)
{
    struct source_snapshot *s = CONTAINER_OF(base, struct source_snapshot, base);

    loop_task_cancel(&s->task);
    slice_drop(&s->page);
    slab_pool_fini(&s->pool);
    free(s);
}

enum err tools_snapshot_source(struct tools_snapshot *snapshot, struct loop *loop,
                               struct sweep_source **out)
{
    static const struct sweep_source_ops ops = {.ask = source_ask, .close = source_close};
    struct source_snapshot *s = calloc(1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    s->base.ops = &ops;
    s->snapshot = snapshot;
    s->loop = loop;
    loop_task_init(&s->task, on_task);
    slab_pool_init(&s->pool, 2);
    *out = &s->base;
    return ERR_OK;
}
