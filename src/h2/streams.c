/* SPDX-License-Identifier: Apache-2.0 */
/* The streams of a connection: their states, the table by id, and what an id means that is in the
 * table no more.
 *
 *   IDLE --> BOTH --> LOCAL_OVER or REMOTE_OVER --> CLOSED        (RFC 9113 section 5.1)
 *
 * A server's streams begin BOTH, when their HEADERS come; a client's begin IDLE and get their id
 * when their HEADERS are framed, so that ids rise on the wire. Reserved states do not exist: nobody
 * pushes. A reset leads to CLOSED from everywhere.
 *
 * What is closed leaves the table. The last 64 ids that did are remembered, with the reason, for
 * the peer may have sent frames before it saw our RST_STREAM (DROPPED: they are ignored), but has
 * no business with a stream that it has reset (CANCELLED) or ended (FINISHED) itself. What is not
 * remembered is given the benefit of the doubt (FORGOTTEN), but for HEADERS from a client: those
 * are what a falling id looks like (section 5.1.1), and both of etcd's servers end the connection
 * then, too.
 *
 * Failure modes: no memory for a stream or for a larger table: NULL or ERR_NOMEM, nothing has
 * changed. */
#include "base/randpool.h"
#include "h2/h2_int.h"

#define SLOTS_FIRST 8u
#define SLOTS_KEPT 256u /* a larger table goes when its last stream does */
#define CLOSED_MAX ARRAY_LEN(((struct h2__streams *)NULL)->closed.id)

/* ------------------------------------------------------------------------ states */

/* Zero: a bug of ours, for what the peer sends is judged before (reactions). */
static const uint8_t next_state[][4] = {
    [H2__IDLE] = {[H2__OPENED] = H2__BOTH, [H2__RESET] = H2__CLOSED},
    [H2__BOTH] = {[H2__LOCAL_END] = H2__LOCAL_OVER,
                  [H2__REMOTE_END] = H2__REMOTE_OVER,
                  [H2__RESET] = H2__CLOSED},
    [H2__LOCAL_OVER] = {[H2__REMOTE_END] = H2__CLOSED, [H2__RESET] = H2__CLOSED},
    [H2__REMOTE_OVER] = {[H2__LOCAL_END] = H2__CLOSED, [H2__RESET] = H2__CLOSED},
    [H2__CLOSED] = {[H2__RESET] = H2__CLOSED},
};

void h2__stream_event(struct h2_stream *s, enum h2__stream_event event)
{
    uint8_t to = next_state[s->state][event];

    CHECK(to != 0);
    s->state = (enum h2__stream_state)to;
}

/* The types that concern a stream; DATA, HEADERS, RST_STREAM, WINDOW_UPDATE in this order. */
static const uint8_t reactions[][4] = {
    [H2__PLACE_IDLE] = {H2__REFUSE, H2__REFUSE, H2__REFUSE, H2__REFUSE},
    [H2__PLACE_RECEIVING] = {H2__TAKE, H2__TAKE, H2__TAKE, H2__TAKE},
    [H2__PLACE_ENDED] = {H2__RESET_LATE, H2__RESET_LATE, H2__TAKE, H2__TAKE},
    [H2__PLACE_DROPPED] = {H2__IGNORE, H2__IGNORE, H2__IGNORE, H2__IGNORE},
    [H2__PLACE_CANCELLED] = {H2__RESET_LATE, H2__RESET_LATE, H2__IGNORE, H2__IGNORE},
    [H2__PLACE_FINISHED] = {H2__REFUSE_LATE, H2__REFUSE_LATE, H2__IGNORE, H2__IGNORE},
    [H2__PLACE_FORGOTTEN] = {H2__IGNORE, H2__REFUSE, H2__IGNORE, H2__IGNORE},
};

enum h2__reaction h2__reaction_to(const struct h2_conn *c, enum h2__place place, uint8_t type)
{
    switch (type) {
    case H2__DATA:
        return (enum h2__reaction)reactions[place][0];
    case H2__HEADERS:
        /* An id that a client has not used yet opens a stream. A server's HEADERS may well come
         * when we have reset hundreds of streams at once. */
        if (c->opts.is_server ? place == H2__PLACE_IDLE : place == H2__PLACE_FORGOTTEN)
            return c->opts.is_server ? H2__TAKE : H2__IGNORE;
        return (enum h2__reaction)reactions[place][1];
    case H2__RST_STREAM:
        return (enum h2__reaction)reactions[place][2];
    case H2__WINDOW_UPDATE:
        return (enum h2__reaction)reactions[place][3];
    default:
        return H2__IGNORE;
    }
}

/* ------------------------------------------------------------------------ table */

/* The peer chooses the ids, and may leave out as many as it likes: a factor that it does not know
 * keeps them from falling into one slot. The second step breaks up the order that ids of the same
 * distance have behind the first. */
static struct h2_stream **slot_of(const struct h2__streams *t, uint32_t id)
{
    uint32_t hash = id * ((t->seed ^ 0x9e3779b1u) | 1);

    hash = (hash ^ hash >> 16) * 0x85ebca6bu;
    return &t->slot[(uint64_t)hash * t->slot_count >> 32];
}

struct h2_stream *h2__stream_of(struct h2_conn *c, uint32_t id)
{
    struct h2__streams *t = &c->table;
    struct h2_stream *s = t->recent;

    if (s != NULL && s->id == id) /* frames of a stream often come together */
        return s;
    if (t->count == 0)
        return NULL;
    for (s = *slot_of(t, id); s != NULL; s = s->next) {
        if (s->id == id) {
            t->recent = s;
            return s;
        }
    }
    return NULL;
}

NEVER_INLINE static enum err table_grow(struct h2_conn *c)
{
    struct h2__streams *t = &c->table;
    struct h2__streams to = *t;

    to.slot_count = t->slot_count == 0 ? SLOTS_FIRST : t->slot_count * 2;
    to.slot = objects_calloc(&c->pool->objects, to.slot_count, sizeof(struct h2_stream *));
    if (to.slot == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < t->slot_count; i++) {
        while (t->slot[i] != NULL) {
            struct h2_stream *s = t->slot[i];
            struct h2_stream **at = slot_of(&to, s->id);

            t->slot[i] = s->next;
            s->next = *at;
            *at = s;
        }
    }
    objects_free(&c->pool->objects, t->slot);
    *t = to;
    return ERR_OK;
}

void h2__streams_init(struct h2_conn *c)
{
    if (random_get(&c->table.seed, sizeof c->table.seed) != ERR_OK)
        c->table.seed = 0; /* it is time alone that a peer could make us waste */
}

static enum err table_add(struct h2_stream *s, uint32_t id)
{
    struct h2__streams *t = &s->c->table;
    struct h2_stream **at;

    if (t->count == t->slot_count)
        TRY(table_grow(s->c));
    at = slot_of(t, id);
    s->id = id;
    s->next = *at;
    s->is_in_table = true;
    *at = s;
    t->count++;
    t->recent = s;
    return ERR_OK;
}

static void table_remove(struct h2_stream *s)
{
    struct h2__streams *t = &s->c->table;
    struct h2_stream **at = slot_of(t, s->id);

    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    s->is_in_table = false;
    t->count--;
    if (t->recent == s)
        t->recent = NULL;
    if (t->count == 0 && t->slot_count > SLOTS_KEPT)
        h2__streams_fini(s->c);
}

void h2__streams_fini(struct h2_conn *c)
{
    objects_free(&c->pool->objects, c->table.slot);
    c->table.slot = NULL;
    c->table.slot_count = 0;
}

/* ------------------------------------------------------------------------ closed ids */

void h2__closed_note(struct h2_conn *c, uint32_t id, enum h2__place place)
{
    struct h2__streams *t = &c->table;

    t->closed.id[t->closed.at] = id;
    t->closed.place[t->closed.at] = (uint8_t)place;
    t->closed.at = (uint8_t)((t->closed.at + 1) % CLOSED_MAX);
}

/* The newest entry counts. */
static enum h2__place closed_place(const struct h2__streams *t, uint32_t id)
{
    for (size_t i = 1; i <= CLOSED_MAX; i++) {
        size_t at = (t->closed.at + CLOSED_MAX - i) % CLOSED_MAX;

        if (t->closed.id[at] == id)
            return (enum h2__place)t->closed.place[at];
    }
    return H2__PLACE_FORGOTTEN;
}

/* Clients' ids are odd; nobody pushes, so even ones are never opened. */
static bool is_idle(const struct h2_conn *c, uint32_t id)
{
    return id % 2 == 0 || (c->opts.is_server ? id > c->peer_id : id >= c->next_id);
}

enum h2__place h2__place_of(struct h2_conn *c, uint32_t id, struct h2_stream **s)
{
    *s = h2__stream_of(c, id);
    if (*s != NULL)
        return h2__is_remote_over(*s) ? H2__PLACE_ENDED : H2__PLACE_RECEIVING;
    return is_idle(c, id) ? H2__PLACE_IDLE : closed_place(&c->table, id);
}

/* ------------------------------------------------------------------------ life */

enum err h2__stream_open(struct h2_stream *s, uint32_t id)
{
    TRY(table_add(s, id));
    h2__stream_event(s, H2__OPENED);
    s->send_left = s->c->peer_window;
    s->recv_left = (int32_t)s->c->opts.stream_window;
    return ERR_OK;
}

struct h2_stream *h2__stream_new(struct h2_conn *c, uint32_t id)
{
    struct h2_stream *s = objects_calloc(&c->pool->objects, 1, sizeof *s);

    if (s == NULL)
        return NULL;
    s->c = c;
    s->state = H2__IDLE;
    s->sharer = &c->nobody;
    list_init(&s->send_node);
    if (id != 0 && h2__stream_open(s, id) != ERR_OK) {
        objects_free(&c->pool->objects, s);
        return NULL;
    }
    list_push(&c->streams, &s->node);
    c->stream_count++;
    return s;
}

void h2__stream_detach(struct h2_stream *s, enum h2__place place)
{
    h2__queue_leave(s);
    if (s->is_in_table) {
        table_remove(s);
        h2__closed_note(s->c, s->id, place);
    }
    h2__stream_event(s, H2__RESET);
}

void h2__stream_finish(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct h2_conn *c = s->c;

    h2__stream_detach(s, H2__PLACE_DROPPED);
    list_remove(&s->node);
    if (!s->is_reset)
        c->stream_count--;
    s->is_reset = true; /* what the owner calls from inside on_close changes nothing any more */
    chain_fini(&s->out);
    h2__fields_free(c, &s->fields);
    if (s->ops != NULL)
        s->ops->on_close(s, code, how);
    h2__sharer_drop(s);
    objects_free(&c->pool->objects, s);
    if (c->stream_count == 0 && c->ops->on_idle != NULL)
        c->ops->on_idle(c);
}

void h2__stream_finish_if_over(struct h2_stream *s)
{
    if (s->state != H2__CLOSED || s->is_reset)
        return;
    h2__stream_detach(s, H2__PLACE_FINISHED);
    h2__stream_finish(s, H2_NO_ERROR, H2_END_COMPLETE);
}

static void charge_violation(struct h2_conn *c)
{
    if (c->opts.is_server && !h2__bucket_take(&c->guard.violations, 1, loop_now_ms(c->loop)))
        h2__cut(c, H2_ENHANCE_YOUR_CALM, "flooded by the peer");
}

void h2__rst_violation(struct h2_conn *c, uint32_t id, enum h2_code code)
{
    h2__put_rst(c, id, (uint32_t)code);
    h2__closed_note(c, id, H2__PLACE_DROPPED);
    charge_violation(c);
}

void h2__stream_error(struct h2_stream *s, enum h2_code code)
{
    h2__put_rst(s->c, s->id, (uint32_t)code);
    charge_violation(s->c);
    h2__stream_finish(s, code, H2_END_RESET);
}

/* One object: the array, then the bytes that it points to. */
enum err h2__fields_copy(struct h2_conn *c, struct h2_fields f, struct h2_fields *out)
{
    size_t bytes = 0;
    struct h2_field *v;
    uint8_t *p;

    for (size_t i = 0; i < f.count; i++)
        bytes += f.v[i].name.n + f.v[i].value.n;
    v = objects_alloc(&c->pool->objects, f.count * sizeof *v + bytes);
    if (v == NULL)
        return ERR_NOMEM;
    p = (uint8_t *)(v + f.count);
    for (size_t i = 0; i < f.count; i++) {
        struct bytes name = f.v[i].name, value = f.v[i].value;

        v[i] = (struct h2_field){bytes_of(p, name.n), bytes_of(p + name.n, value.n)};
        p = bytes_put(p, name);
        p = bytes_put(p, value);
    }
    *out = (struct h2_fields){v, f.count};
    return ERR_OK;
}

void h2__fields_free(struct h2_conn *c, struct h2_fields *f)
{
    objects_free(&c->pool->objects, (void *)(uintptr_t)f->v);
    *f = (struct h2_fields){NULL, 0};
}
