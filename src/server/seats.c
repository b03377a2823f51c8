/* SPDX-License-Identifier: Apache-2.0 */
/* Holders are few, and looked for when a connection comes or goes, so a list will do. Failure
 * modes: no memory for a holder: its connections count in the sum alone. */
#include "server/seats.h"

#include <stdlib.h>
#include <string.h>

struct holder {
    struct list node;
    size_t count;   /* its seats */
    size_t leaving; /* of them */
    char *who;
    struct {
        size_t count, leaving;
    } at[]; /* by worker */
};

static struct holder *holder_of(struct list *node)
{
    return LIST_ENTRY(node, struct holder, node);
}

static size_t minus(size_t a, size_t b)
{
    return a > b ? a - b : 0;
}

static struct holder *find(const struct seats *s, const char *who)
{
    LIST_FOREACH(it, &s->holders) {
        if (strcmp(holder_of(it)->who, who) == 0)
            return holder_of(it);
    }
    return NULL;
}

static struct holder *holder_new(struct seats *s, const char *who)
{
    struct holder *h = calloc(1, sizeof *h + s->worker_count * sizeof h->at[0]);
    char *copy = strdup(who);

    if (h == NULL || copy == NULL) {
        free(h);
        free(copy);
        return NULL;
    }
    h->who = copy;
    list_push(&s->holders, &h->node);
    s->holder_count++;
    return h;
}

static void holder_free(struct seats *s, struct holder *h)
{
    list_remove(&h->node);
    s->holder_count--;
    free(h->who);
    free(h);
}

/* The worker that has most of those that stay. */
static size_t worker_of(const struct seats *s, const struct holder *h)
{
    size_t best = 0;

    for (size_t i = 1; i < s->worker_count; i++)
        if (minus(h->at[i].count, h->at[i].leaving) > minus(h->at[best].count, h->at[best].leaving))
            best = i;
    return best;
}

static size_t worker_of_opening(const struct seats *s)
{
    size_t best = 0;

    for (size_t i = 1; i < s->worker_count; i++)
        best = s->opening_at[i] > s->opening_at[best] ? i : best;
    return best;
}

static struct holder *largest(const struct seats *s)
{
    struct holder *best = NULL;

    LIST_FOREACH(it, &s->holders) {
        struct holder *h = holder_of(it);

        if (best == NULL || minus(h->count, h->leaving) > minus(best->count, best->leaving))
            best = h;
    }
    return best;
}

/* One more than count would still be within the share of each of so many holders. */
static bool is_below_share(const struct seats *s, size_t count, size_t holders)
{
    return count < s->max / (holders > 0 ? holders : 1);
}

/* --- exported -------------------------------------------------------------------------------- */

enum err seats_init(struct seats *s, size_t worker_count)
{
    *s = (struct seats){.worker_count = worker_count};
    list_init(&s->holders);
    s->opening_at = calloc(worker_count, sizeof *s->opening_at);
    return s->opening_at == NULL ? ERR_NOMEM : ERR_OK;
}

void seats_fini(struct seats *s)
{
    while (!list_is_empty(&s->holders))
        holder_free(s, holder_of(s->holders.next));
    free(s->opening_at);
    s->opening_at = NULL;
}

bool seats_has_room(const struct seats *s, const char *who)
{
    const struct holder *h = who == NULL ? NULL : find(s, who);

    if (s->max == 0 || minus(s->taken, s->leaving) < s->max || who == NULL)
        return true;
    return is_below_share(s, h == NULL ? 0 : h->count, s->holder_count + (h == NULL));
}

struct seats_order seats_opened(struct seats *s, size_t worker)
{
    s->opening++;
    s->opening_at[worker]++;
    if (s->max_opening == 0 || minus(s->opening, s->opening_leaving) <= s->max_opening)
        return (struct seats_order){SEATS_ALL_STAY, 0, NULL};
    s->opening_leaving++;
    return (struct seats_order){SEATS_END_OPENING, worker_of_opening(s), NULL};
}

static struct seats_order end_one(struct seats *s, struct holder *h, size_t worker,
                                  enum seats_order_kind kind)
{
    s->leaving++;
    h->leaving++;
    h->at[worker].leaving++;
    return (struct seats_order){kind, worker, h->who};
}

struct seats_order seats_excess(struct seats *s)
{
    struct holder *from = largest(s);

    if (from == NULL || s->max == 0 || minus(s->taken, s->leaving) <= s->max)
        return (struct seats_order){SEATS_ALL_STAY, 0, NULL};
    return end_one(s, from, worker_of(s, from), SEATS_END_IDLEST);
}

struct seats_order seats_taken(struct seats *s, size_t worker, const char *who)
{
    struct holder *h = find(s, who), *from;

    s->opening--;
    s->opening_at[worker]--;
    s->taken++;
    if (h == NULL)
        h = holder_new(s, who);
    if (h == NULL)
        return (struct seats_order){SEATS_ALL_STAY, 0, NULL};
    h->count++;
    h->at[worker].count++;
    if (s->max == 0 || minus(s->taken, s->leaving) <= s->max)
        return (struct seats_order){SEATS_ALL_STAY, 0, NULL};
    from = largest(s);
    if (from != h && is_below_share(s, h->count - 1, s->holder_count))
        return end_one(s, from, worker_of(s, from), SEATS_END_IDLEST);
    return end_one(s, h, worker, SEATS_END_NEWEST);
}

void seats_left(struct seats *s, size_t worker, const char *who, bool was_told)
{
    struct holder *h = who == NULL ? NULL : find(s, who);

    if (who == NULL) {
        s->opening--;
        s->opening_at[worker]--;
        s->opening_leaving -= was_told;
        return;
    }
    s->taken--;
    s->leaving -= was_told;
    if (h == NULL)
        return;
    h->at[worker].count--;
    h->at[worker].leaving -= was_told;
    h->leaving -= was_told;
    if (--h->count == 0)
        holder_free(s, h);
}

void seats_order_failed(struct seats *s, const struct seats_order *o)
{
    struct holder *h = o->who == NULL ? NULL : find(s, o->who);

    if (o->kind == SEATS_END_OPENING)
        s->opening_leaving--;
    else
        s->leaving--;
    if (h == NULL || h->at[o->worker].leaving == 0) /* another of the name, since then */
        return;
    h->leaving--;
    h->at[o->worker].leaving--;
}
