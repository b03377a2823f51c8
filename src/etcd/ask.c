/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/ask.h"

#include <stdlib.h>

#include "base/limits.h"

#define WATCH_REFUSED_ID (-1) /* etcd's answer to a create that it refuses */
#define CREATES_AHEAD 64u /* etcd answers in order: so many more are looked at for an asked id */

static bool is_from_key(struct bytes end)
{
    return end.n == 1 && end.p[0] == 0;
}

bool etcd_range_holds(const struct etcd_range *r, struct bytes key)
{
    if (r->end.n == 0)
        return bytes_eq(r->key, key);
    return bytes_cmp(r->key, key) <= 0 && (is_from_key(r->end) || bytes_cmp(key, r->end) < 0);
}

/* A range owns one block: the key, and the end behind it. */
static enum err range_copy(const struct etcd_range *from, struct etcd_range *to)
{
    uint8_t *mem = malloc(from->key.n + from->end.n + 1);

    if (mem == NULL)
        return ERR_NOMEM;
    if (from->key.n > 0)
        memcpy(mem, from->key.p, from->key.n);
    if (from->end.n > 0)
        memcpy(mem + from->key.n, from->end.p, from->end.n);
    *to = (struct etcd_range){bytes_of(mem, from->key.n), bytes_of(mem + from->key.n, from->end.n),
                              from->keys_only};
    return ERR_OK;
}

static void range_fini(struct etcd_range *r)
{
    free((void *)(uintptr_t)r->key.p);
    *r = (struct etcd_range){0};
}

static size_t range_cost(const struct etcd_range *r)
{
    return r->key.n + r->end.n + sizeof(struct etcd_watch);
}

/* A create or a watch is over. */
static void drop_watched(struct etcd_ask *a, struct etcd_range *r)
{
    a->watched -= range_cost(r);
    range_fini(r);
}

void etcd_ask_fini(struct etcd_ask *a)
{
    for (size_t i = 0; i < a->op_count; i++)
        range_fini(&a->ops[i].range);
    for (size_t i = 0; i < a->create_count; i++)
        range_fini(&a->creates[a->create_head + i].range);
    for (size_t i = 0; i < a->watch_count; i++)
        range_fini(&a->watches[i].range);
    free(a->ops);
    free(a->creates);
    free(a->watches);
    *a = (struct etcd_ask){0};
}

/* Makes room for one more element of size bytes in the array *v. */
static enum err reserve(void **v, size_t count, size_t *cap, size_t size)
{
    size_t more = *cap == 0 ? 1 : *cap * 2;
    void *p;

    if (count < *cap)
        return ERR_OK;
    p = realloc(*v, more * size);
    if (p == NULL)
        return ERR_NOMEM;
    *v = p;
    *cap = more;
    return ERR_OK;
}

/* --- operations ------------------------------------------------------------------------------ */

static enum err op_new(struct etcd_ask *a, uint32_t *out)
{
    void *v = a->ops;

    TRY(reserve(&v, a->op_count, &a->op_cap, sizeof *a->ops));
    a->ops = v;
    a->asked += sizeof *a->ops;
    *out = (uint32_t)a->op_count++;
    a->ops[*out] = (struct etcd_asked_op){.kind = ETCD_ASKED_NOTHING};
    return ERR_OK;
}

enum err etcd_ask_set(struct etcd_ask *a, uint32_t op, enum etcd_asked kind,
                      const struct etcd_range *r)
{
    struct etcd_asked_op *o = &a->ops[op];

    CHECK(op < a->op_count && o->kind == ETCD_ASKED_NOTHING);
    if (r != NULL) {
        TRY(range_copy(r, &o->range));
        a->asked += r->key.n + r->end.n;
    }
    o->kind = kind;
    return ERR_OK;
}

enum err etcd_ask_add(struct etcd_ask *a, enum etcd_asked kind, const struct etcd_range *r)
{
    uint32_t root;

    CHECK(a->op_count == 0);
    TRY(op_new(a, &root));
    return etcd_ask_set(a, root, kind, r);
}

enum err etcd_ask_txn(struct etcd_ask *a)
{
    return etcd_ask_add(a, ETCD_ASKED_TXN, NULL);
}

enum err etcd_ask_op(struct etcd_ask *a, uint32_t txn, bool success, uint32_t *out)
{
    struct etcd_asked_op *t;

    TRY(op_new(a, out));
    t = &a->ops[txn];
    if (t->first[success] == 0)
        t->first[success] = *out;
    else
        a->ops[t->last[success]].next = *out;
    t->last[success] = *out;
    return ERR_OK;
}

bool etcd_ask_holds(const struct etcd_ask *a, uint32_t op, struct bytes key, bool *keys_only)
{
    const struct etcd_asked_op *o = &a->ops[op];

    *keys_only = false;
    if (op >= a->op_count || o->kind == ETCD_ASKED_NOTHING || o->kind == ETCD_ASKED_TXN ||
        !etcd_range_holds(&o->range, key))
        return false;
    *keys_only = o->range.keys_only;
    return true;
}

/* --- watches --------------------------------------------------------------------------------- */

enum err etcd_ask_create(struct etcd_ask *a, int64_t id, const struct etcd_range *r)
{
    struct etcd_create *create;
    void *v;

    if (a->watched + range_cost(r) > LIMIT_WATCHED)
        return ERR_MEMORY_LIMIT;
    /* Only when half of the array is free, so that many creates do not move each other. */
    if (a->create_head > a->create_cap / 2) {
        memmove(a->creates, a->creates + a->create_head, a->create_count * sizeof *a->creates);
        a->create_head = 0;
    }
    v = a->creates;
    TRY(reserve(&v, a->create_head + a->create_count, &a->create_cap, sizeof *a->creates));
    a->creates = v;
    create = &a->creates[a->create_head + a->create_count];
    TRY(range_copy(r, &create->range));
    create->id = id;
    a->watched += range_cost(r);
    a->create_count++;
    return ERR_OK;
}

/* Where the watch of this id is, or would be. etcd counts ids up: most often at the end. */
static size_t watch_place(const struct etcd_ask *a, int64_t id)
{
    size_t low = 0, high = a->watch_count;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (a->watches[mid].id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct etcd_watch *etcd_ask_watch(struct etcd_ask *a, int64_t id)
{
    size_t i = watch_place(a, id);

    return i < a->watch_count && a->watches[i].id == id ? &a->watches[i] : NULL;
}

/* Makes a gap at i; there is room. */
static struct etcd_watch *watch_insert(struct etcd_ask *a, size_t i)
{
    memmove(a->watches + i + 1, a->watches + i, (a->watch_count - i) * sizeof *a->watches);
    a->watch_count++;
    return &a->watches[i];
}

/* Does the answer with this id fit the create? */
static bool answers(const struct etcd_create *create, int64_t id, bool is_canceled)
{
    return id == create->id || (is_canceled ? id == WATCH_REFUSED_ID : create->id == 0);
}

/* The create that an answer with this id is for: the oldest; if that asked for another id, the one
 * that asked for this one. NULL: none. */
static struct etcd_create *find_create(const struct etcd_ask *a, int64_t id, bool is_canceled)
{
    struct etcd_create *v = a->creates + a->create_head;

    if (a->create_count > 0 && answers(&v[0], id, is_canceled))
        return &v[0];
    for (size_t i = 1; id != 0 && i < a->create_count && i < CREATES_AHEAD; i++) {
        if (v[i].id == id)
            return &v[i];
    }
    return NULL;
}

/* Takes the range out of the create and that out of the queue. */
static struct etcd_range take_create(struct etcd_ask *a, struct etcd_create *create)
{
    struct etcd_create *oldest = a->creates + a->create_head;
    struct etcd_range range = create->range;

    memmove(oldest + 1, oldest, (size_t)(create - oldest) * sizeof *oldest);
    a->create_head++;
    a->create_count--;
    if (a->create_count == 0)
        a->create_head = 0;
    return range;
}

enum err etcd_ask_created(struct etcd_ask *a, int64_t id, bool is_canceled)
{
    struct etcd_create *create = find_create(a, id, is_canceled);
    struct etcd_watch *w = etcd_ask_watch(a, id);
    struct etcd_range range;
    void *v = a->watches;

    if (create == NULL)
        return ERR_ANS_UNKNOWN_WATCH;
    if (!is_canceled && w == NULL) {
        TRY(reserve(&v, a->watch_count, &a->watch_cap, sizeof *a->watches));
        a->watches = v;
    }
    range = take_create(a, create);
    if (is_canceled) { /* refused: an older watch of this id lives on */
        drop_watched(a, &range);
        return ERR_OK;
    }
    if (w != NULL)
        drop_watched(a, &w->range);
    else
        w = watch_insert(a, watch_place(a, id));
    *w = (struct etcd_watch){id, ETCD_WATCH_OPEN, range};
    return ERR_OK;
}

void etcd_ask_canceled(struct etcd_ask *a, int64_t id)
{
    struct etcd_watch *w = etcd_ask_watch(a, id);

    if (w == NULL)
        return;
    drop_watched(a, &w->range);
    a->watch_count--;
    memmove(w, w + 1, (size_t)(a->watches + a->watch_count - w) * sizeof *w);
}
