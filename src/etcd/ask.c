/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/ask.h"

#include <stdlib.h>

#include "base/limits.h"

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
    for (size_t i = 0; i < a->range_count; i++)
        range_fini(&a->ranges[i]);
    for (size_t i = 0; i < a->create_count; i++)
        range_fini(&a->creates[a->create_head + i]);
    for (size_t i = 0; i < a->watch_count; i++)
        range_fini(&a->watches[i].range);
    free(a->ranges);
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

enum err etcd_ask_add(struct etcd_ask *a, const struct etcd_range *r)
{
    void *v = a->ranges;

    TRY(reserve(&v, a->range_count, &a->range_cap, sizeof *a->ranges));
    a->ranges = v;
    TRY(range_copy(r, &a->ranges[a->range_count]));
    a->range_count++;
    return ERR_OK;
}

enum err etcd_ask_create(struct etcd_ask *a, const struct etcd_range *r)
{
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
    TRY(range_copy(r, &a->creates[a->create_head + a->create_count]));
    a->watched += range_cost(r);
    a->create_count++;
    return ERR_OK;
}

bool etcd_ask_holds(const struct etcd_ask *a, struct bytes key, bool *keys_only)
{
    bool is_held = false;

    *keys_only = false;
    for (size_t i = 0; i < a->range_count && !*keys_only; i++) {
        if (!etcd_range_holds(&a->ranges[i], key))
            continue;
        is_held = true;
        *keys_only = a->ranges[i].keys_only;
    }
    return is_held;
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

enum err etcd_ask_created(struct etcd_ask *a, int64_t id, bool is_canceled)
{
    struct etcd_watch *w = etcd_ask_watch(a, id);
    struct etcd_range range;
    void *v = a->watches;

    if (a->create_count == 0)
        return ERR_ANS_UNKNOWN_WATCH;
    if (!is_canceled && w == NULL) {
        TRY(reserve(&v, a->watch_count, &a->watch_cap, sizeof *a->watches));
        a->watches = v;
    }
    range = a->creates[a->create_head];
    a->create_head++;
    a->create_count--;
    if (a->create_count == 0)
        a->create_head = 0;
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
