/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: member.h has the states. One request is under way at a time; when it is answered,
 * the next one is chosen by what is due most.
 * Failure modes: see there; what is no success ends in a wait, with the reason kept. */
#include "converge/member_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "etcd/lease.h"

#define LEASE_S 10
#define VALID_MS 7000u /* so long after a renewal was asked for the lease is counted on */
#define KEEP_MS 2500u
#define AGAIN_MS 1000u   /* after a request that etcd did not answer, or had no room for */
#define DENIED_MS 10000u /* after one that it refused */
#define ANSWER_MAX (4u * 1024 * 1024)

static void choose(struct converge_member *m);

/* --- requests --------------------------------------------------------------------------------- */

static void wait_ms(struct converge_member *m, enum member_state state, uint64_t ms)
{
    m->state = state; /* the timer's handle exists since the start */
    CHECK(loop_timer_start(m->o.loop, &m->timer, ms) == ERR_OK);
}

static void on_answer(void *arg, const struct client_answer *a);

/* Room for a request; NULL: no memory, and it is tried again later. */
static uint8_t *room_for(struct converge_member *m, size_t cap, struct etcd_message *out)
{
    uint8_t *room = realloc(m->request, cap);

    if (room == NULL) {
        wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, AGAIN_MS);
        return NULL;
    }
    m->request = room;
    etcd_message_init(out, room, cap);
    return room;
}

static void send_request(struct converge_member *m, enum member_state state, const char *path,
                         const struct etcd_message *request)
{
    struct bytes body;

    CHECK(etcd_message_body(request, &body) == ERR_OK);
    loop_timer_stop(&m->timer);
    m->state = state;
    m->asked_ms = converge__now_ms(m);
    sweep_call_start(&m->call, m->o.etcd, path, body, ANSWER_MAX, on_answer, m);
}

static void send_grant(struct converge_member *m)
{
    struct etcd_message r;

    if (room_for(m, 32, &r) == NULL)
        return;
    etcd_lease_put_grant(&r, LEASE_S);
    send_request(m, MEMBER_OUT, ETCD_LEASE_GRANT_PATH, &r);
}

static void send_keep(struct converge_member *m)
{
    struct etcd_message r;

    if (room_for(m, 32, &r) == NULL)
        return;
    etcd_lease_put_id(&r, m->lease);
    send_request(m, MEMBER_KEEPING, ETCD_LEASE_KEEP_ALIVE_PATH, &r);
}

static void send_record(struct converge_member *m)
{
    struct bytes key = bytes_str(m->key), record = bytes_str(m->record);
    struct etcd_message r;

    if (room_for(m, key.n + record.n + 64, &r) == NULL)
        return;
    etcd_lease_put_key(&r, key, record, m->lease);
    /* From here on etcd may have it, and not what it had before. */
    free(m->announced);
    m->announced = NULL;
    m->has_looked = false;
    send_request(m, MEMBER_ANNOUNCING, ETCD_PUT_PATH, &r);
}

static void send_look(struct converge_member *m)
{
    const struct etcd_range_request range = {.key = bytes_str(m->lock),
                                             .range_end = bytes_str(m->watched_end)};
    struct etcd_message r;

    if (room_for(m, 2 * sizeof m->lock + 64, &r) == NULL)
        return;
    etcd_message_put_range(&r, &range); /* from the lock to the last record, and nothing behind */
    send_request(m, MEMBER_LOOKING, ETCD_RANGE_PATH, &r);
}

static void send_lock(struct converge_member *m)
{
    struct etcd_message r;

    if (room_for(m, 2 * sizeof m->lock + CONVERGE_NAME_MAX + 128, &r) == NULL)
        return;
    etcd_lease_put_lock(&r, bytes_str(m->lock), bytes_str(m->o.name), m->lease);
    send_request(m, MEMBER_LOCKING, ETCD_TXN_PATH, &r);
}

static void send_touch(struct converge_member *m)
{
    struct etcd_message r;

    if (room_for(m, etcd_lease_touch_max(strlen(m->lock)), &r) == NULL)
        return;
    m->wants_touch = false; /* it is but a hint: an answer that gets lost is not waited for */
    etcd_lease_put_touch(&r, bytes_str(m->lock));
    send_request(m, MEMBER_TOUCHING, ETCD_TXN_PATH, &r);
}

/* --- what is due ------------------------------------------------------------------------------ */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A lock that lies there unused would keep others from rewriting, so only one who is of one mind
 * with all takes it. */
static bool wants_lock(const struct converge_member *m)
{
    return m->has_looked && !m->has_lock && m->difference == CONVERGE_AGREES;
}

static void choose(struct converge_member *m)
{
    uint64_t now = converge__now_ms(m), next;

    if (m->state == MEMBER_LEFT)
        return;
    if (m->lease == 0) {
        send_grant(m);
    } else if (now >= m->keep_ms) {
        send_keep(m);
    } else if (m->record != NULL && m->announced == NULL) {
        send_record(m);
    } else if (m->wants_touch && m->has_looked && m->lock_revision > 0) {
        send_touch(m);
    } else if (now >= m->look_ms) {
        send_look(m);
    } else if (wants_lock(m) && now >= m->lock_ms) {
        send_lock(m);
    } else {
        next = earlier(m->keep_ms, m->look_ms);
        if (wants_lock(m))
            next = earlier(next, m->lock_ms);
        wait_ms(m, MEMBER_IDLE, next - now);
    }
}

/* The last thing that is done with m: on_left may free it. */
static void has_left(struct converge_member *m)
{
    void (*fn)(void *) = m->on_left;

    sweep_call_cancel(&m->call);
    m->on_left = NULL;
    if (fn != NULL)
        fn(m->on_left_user);
}

static void on_timer(struct loop_timer *t)
{
    struct converge_member *m = CONTAINER_OF(t, struct converge_member, timer);

    if (m->state == MEMBER_LEFT)
        has_left(m);
    else
        choose(m);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void lease_is_gone(struct converge_member *m)
{
    if (m->is_denied) /* whoever refuses to have us registered: that was said, and is tried again */
        LOG(DEBUG, "converge: the lease has ended, a new one is asked for", "place=\"%s\"",
            m->o.place);
    else
        LOG(WARN, "converge: the lease has ended, a new one is asked for", "place=\"%s\"",
            m->o.place);
    m->lease = 0;
    converge__not_announced(m);
    wait_ms(m, MEMBER_OUT, 0);
}

static const char *what_was_asked(enum member_state s)
{
    static const char *const texts[] = {[MEMBER_OUT] = "a lease",
                                        [MEMBER_ANNOUNCING] = "registering",
                                        [MEMBER_LOOKING] = "reading what proxies have registered",
                                        [MEMBER_LOCKING] = "the lock",
                                        [MEMBER_KEEPING] = "keeping the lease",
                                        [MEMBER_TOUCHING] = "telling the others"};

    return s < ARRAY_LEN(texts) && texts[s] != NULL ? texts[s] : "this";
}

static bool is_denial(enum grpc_status s)
{
    return s == GRPC_PERMISSION_DENIED || s == GRPC_UNAUTHENTICATED || s == GRPC_INVALID_ARGUMENT;
}

/* etcd says no. */
static void refused(struct converge_member *m, const struct client_answer *a)
{
    uint64_t ms = is_denial(a->status) ? DENIED_MS : AGAIN_MS;

    if (a->status == GRPC_NOT_FOUND && m->lease != 0) {
        lease_is_gone(m);
        return;
    }
    if (m->state == MEMBER_LOCKING) { /* the rest works: others may still need to know of us */
        m->lock_ms = converge__now_ms(m) + ms;
        if (m->lock_why[0] == '\0')
            LOG(WARN, "converge: etcd refuses this proxy the lock: it only counts",
                "key=\"%s\" reason=\"%.300s\"", m->lock, a->message);
        snprintf(m->lock_why, sizeof m->lock_why,
                 "etcd refuses this proxy the lock %.250s: %s: %.300s", m->lock,
                 grpc_status_name(a->status), a->message);
        choose(m);
        return;
    }
    m->is_denied = is_denial(a->status);
    converge__forget_look(m);
    converge__say_why(m, "etcd refuses %s under %.250s: %s: %.300s", what_was_asked(m->state),
                      m->o.place, grpc_status_name(a->status), a->message);
    /* The lease, if there is one, ends meanwhile, and is asked for anew. */
    wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, ms);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void take_lease(struct converge_member *m, struct bytes body)
{
    struct etcd_lease lease;

    if (etcd_lease_read(body, &lease) != ERR_OK || lease.id == 0 || lease.ttl_s <= 0) {
        if (m->lease != 0)
            lease_is_gone(m);
        else
            wait_ms(m, MEMBER_OUT, AGAIN_MS);
        return;
    }
    if (m->lease != lease.id) {
        m->lease = lease.id;
        snprintf(m->key, sizeof m->key, "%s%016" PRIx64, m->watched, (uint64_t)lease.id);
    }
    if (m->ttl_ms == 0)
        m->joined_ms = converge__now_ms(m);
    m->ttl_ms = 1000u * (uint64_t)lease.ttl_s;
    m->valid_ms = m->asked_ms + VALID_MS;
    m->keep_ms = m->asked_ms + KEEP_MS;
    choose(m);
}

/* Announced is what was sent, unless there is something newer by now. */
static void is_announced(struct converge_member *m)
{
    if (m->record != NULL) {
        m->announced = m->record;
        m->record = NULL;
    }
    m->look_ms = converge__now_ms(m);
}

/* The lock has this revision by ourselves. */
static void is_touched(struct converge_member *m, struct bytes body)
{
    struct etcd_replace_answer answer;

    if (etcd_message_read_replace(body, &answer) == ERR_OK && answer.is_done)
        m->own_touch = answer.header.revision;
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct converge_member *m = arg;

    if (m->state == MEMBER_LEFT)
        return;
    if (a->err != ERR_OK) {
        converge__forget_look(m);
        converge__say_why(m, "%.400s", a->message);
        wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, AGAIN_MS);
        return;
    }
    if (a->status != GRPC_OK) {
        refused(m, a);
        return;
    }
    switch (m->state) {
    case MEMBER_OUT:
    case MEMBER_KEEPING:
        take_lease(m, a->body);
        return;
    case MEMBER_ANNOUNCING:
        is_announced(m);
        break;
    case MEMBER_LOCKING: /* whoever has it now, the look says so */
        m->lock_why[0] = '\0';
        m->look_ms = converge__now_ms(m);
        m->lock_ms = converge__now_ms(m) + CONVERGE__LOOK_MS;
        break;
    case MEMBER_TOUCHING:
        is_touched(m, a->body);
        break;
    default:
        m->is_denied = false;
        converge__take_look(m, a->body);
    }
    choose(m);
}

/* --- exported --------------------------------------------------------------------------------- */

void converge_member_announce(struct converge_member *m, char *record)
{
    if (m->state == MEMBER_LEFT) {
        free(record);
        return;
    }
    if (m->state == MEMBER_ANNOUNCING) { /* what is on its way is not it: it is sent again */
        sweep_call_cancel(&m->call);
        m->state = MEMBER_IDLE;
    }
    free(m->record);
    m->record = record;
    free(m->announced);
    m->announced = NULL;
    converge__forget_look(m);
    if (m->state == MEMBER_IDLE)
        wait_ms(m, MEMBER_IDLE, 0);
}

bool converge_member_is_denied(const struct converge_member *m)
{
    return m->is_denied || m->lock_why[0] != '\0';
}

const char *converge_member_record(const struct converge_member *m)
{
    return m->announced == NULL ? "" : m->announced;
}

static bool is_agreed_for_long(const struct converge_member *m)
{
    return m->agreed != NULL && converge__now_ms(m) - m->agreed_ms >= m->o.after_ms;
}

bool converge_member_may_rewrite(const struct converge_member *m, struct etcd_fence *fence)
{
    *fence = (struct etcd_fence){.lock = bytes_str(m->lock),
                                 .lock_revision = m->lock_revision,
                                 .watched = bytes_str(m->watched),
                                 .watched_end = bytes_str(m->watched_end),
                                 .seen_revision = m->seen_revision};
    return m->state != MEMBER_LEFT && m->lease != 0 && converge__now_ms(m) < m->valid_ms &&
           m->announced != NULL && m->has_looked && m->lock_revision > 0 &&
           m->difference == CONVERGE_AGREES && is_agreed_for_long(m);
}

enum converge_standing converge_member_standing(const struct converge_member *m, char *text,
                                                size_t text_len)
{
    struct etcd_fence fence;

    if (!m->has_looked || m->difference == CONVERGE_DIFFERS) {
        snprintf(text, text_len, "%s", m->why[0] == '\0' ? "not registered yet" : m->why);
        return CONVERGE_APART;
    }
    if (m->difference == CONVERGE_UNKNOWN) {
        snprintf(text, text_len, "%s", m->why);
        return CONVERGE_WAITING;
    }
    if (m->has_lock && m->lock_revision == 0) {
        snprintf(text, text_len, "proxy %s has the lock", m->holder);
        return CONVERGE_FOLLOWS;
    }
    if (!m->has_lock && m->lock_why[0] != '\0') {
        snprintf(text, text_len, "%s", m->lock_why);
        return CONVERGE_APART;
    }
    if (converge_member_may_rewrite(m, &fence)) {
        snprintf(text, text_len, "this proxy has the lock, and %zu others agree", m->others);
        return CONVERGE_LEADS;
    }
    snprintf(
        text, text_len, "all agree since %" PRIu64 " s, and rewriting begins after %" PRIu64 " s",
        m->agreed == NULL ? 0 : (converge__now_ms(m) - m->agreed_ms) / 1000, m->o.after_ms / 1000);
    return CONVERGE_WAITING;
}

uint64_t converge_member_news(const struct converge_member *m)
{
    return m->news;
}

void converge_member_try_again(struct converge_member *m)
{
    m->lock_ms = 0;
    if (m->is_denied && m->call.etcd == NULL && m->state != MEMBER_LEFT)
        wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, 0);
}

void converge_member_touch(struct converge_member *m)
{
    m->wants_touch = m->lock_revision > 0;
    if (m->wants_touch && m->state == MEMBER_IDLE)
        wait_ms(m, MEMBER_IDLE, 0);
}

uint64_t converge_member_told(const struct converge_member *m)
{
    return m->told;
}

void converge_member_use_etcd(struct converge_member *m, struct sweep_etcd *etcd)
{
    bool was_asking = m->call.etcd != NULL;

    sweep_call_cancel(&m->call);
    m->o.etcd = etcd;
    if (was_asking && m->state != MEMBER_LEFT)
        wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, 0);
}

/* From the timer, for a connection can't be closed inside of its own callback. */
static void on_revoked(void *arg, const struct client_answer *a)
{
    (void)a;
    wait_ms(arg, MEMBER_LEFT, 0);
}

void converge_member_leave(struct converge_member *m, uint64_t within_ms,
                           void (*on_left)(void *user), void *user)
{
    struct etcd_message r;
    struct bytes body;
    bool can_say;

    CHECK(m->state != MEMBER_LEFT);
    m->on_left = on_left;
    m->on_left_user = user;
    sweep_call_cancel(&m->call);
    can_say = m->lease != 0 && room_for(m, 32, &r) != NULL;
    wait_ms(m, MEMBER_LEFT, can_say ? within_ms : 0);
    if (!can_say)
        return;
    etcd_lease_put_id(&r, m->lease);
    CHECK(etcd_message_body(&r, &body) == ERR_OK);
    sweep_call_start(&m->call, m->o.etcd, ETCD_LEASE_REVOKE_PATH, body, ANSWER_MAX, on_revoked, m);
}

enum err converge_member_new(const struct converge_member_opts *o, struct converge_member **out)
{
    struct converge_member *m = calloc(1, sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    m->o = *o;
    snprintf(m->lock, sizeof m->lock, "%s/lock", o->place);
    snprintf(m->watched, sizeof m->watched, "%s/proxies/", o->place);
    snprintf(m->watched_end, sizeof m->watched_end, "%s/proxies%c", o->place, '/' + 1);
    loop_timer_init(&m->timer, on_timer);
    if (loop_timer_start(o->loop, &m->timer, 0) != ERR_OK) {
        free(m);
        return ERR_NOMEM;
    }
    *out = m;
    return ERR_OK;
}

void converge_member_free(struct converge_member *m)
{
    sweep_call_cancel(&m->call);
    loop_timer_fini(&m->timer);
    free(m->request);
    free(m->record);
    free(m->announced);
    free(m->agreed);
    free(m);
}
