/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: member.h has the states. One request is under way at a time; when it is answered,
 * the next one is chosen by what is due most.
 * Failure modes: see there; what is no success ends in a wait, with the reason kept. */
#include "converge/member.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "etcd/lease.h"
#include "kms/text.h"

#define LEASE_S 10
#define VALID_MS 7000u /* so long after a renewal was asked for the lease is counted on */
#define KEEP_MS 2500u
#define LOOK_MS 2000u
#define AGAIN_MS 1000u   /* after a request that etcd did not answer, or had no room for */
#define DENIED_MS 10000u /* after one that it refused */
#define ANSWER_MAX (4u * 1024 * 1024)
#define WHY_MAX 1024

enum member_state {
    MEMBER_OUT = 0, /* no lease: one is asked for, or will be when the timer says so */
    MEMBER_ANNOUNCING,
    MEMBER_LOOKING,
    MEMBER_LOCKING,
    MEMBER_KEEPING,
    MEMBER_IDLE, /* nothing is under way: the timer runs */
    MEMBER_LEFT, /* the lease is being given back, or was */
};

struct converge_member {
    struct converge_member_opts o;
    enum member_state state;
    struct sweep_call call;
    uint8_t *request;
    struct loop_timer timer;
    uint64_t asked_ms;                  /* when the request under way was made */
    int64_t lease;                      /* 0: none */
    uint64_t valid_ms;                  /* of the lease, by our clock */
    uint64_t keep_ms, look_ms, lock_ms; /* when the next one is due */
    char *record;                       /* to be announced; NULL: nothing */
    char *announced;                    /* what etcd has; NULL: nothing */
    char key[512];                      /* of our record */
    char lock[300], watched[300], watched_end[300];
    /* As of the last look: */
    bool has_looked;
    int64_t seen_revision, lock_revision; /* lock_revision 0: the lock is not ours */
    bool has_lock;                        /* there is a lock, ours or not */
    char holder[CONVERGE_NAME_MAX];
    enum converge_difference difference;
    size_t others;
    char why[WHY_MAX];      /* what differs, or why we are not registered; "" */
    char lock_why[WHY_MAX]; /* why we may not have the lock; "" */
    /* What all agree on, and since when: the rules of our record at that time. NULL: nothing. */
    char *agreed;
    uint64_t agreed_ms;
    bool has_said_why;
};

static void choose(struct converge_member *m);

/* --- requests --------------------------------------------------------------------------------- */

static uint64_t now_ms(const struct converge_member *m)
{
    return loop_now_ms(m->o.loop);
}

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
    m->asked_ms = now_ms(m);
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
    char key[sizeof m->lock], end[sizeof m->lock];
    struct etcd_range_request range = {0};
    struct etcd_message r;

    snprintf(key, sizeof key, "%s/", m->o.place);
    snprintf(end, sizeof end, "%s%c", m->o.place, '/' + 1);
    range.key = bytes_str(key);
    range.range_end = bytes_str(end);
    if (room_for(m, 2 * sizeof key + 64, &r) == NULL)
        return;
    etcd_message_put_range(&r, &range);
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
    uint64_t now = now_ms(m), next;

    if (m->state == MEMBER_LEFT)
        return;
    if (m->lease == 0) {
        send_grant(m);
    } else if (now >= m->keep_ms) {
        send_keep(m);
    } else if (m->record != NULL && m->announced == NULL) {
        send_record(m);
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

static void on_timer(struct loop_timer *t)
{
    struct converge_member *m = CONTAINER_OF(t, struct converge_member, timer);

    choose(m);
}

/* --- ends ------------------------------------------------------------------------------------- */

/* What was known is not known any more; the lock, if it was ours, is not. */
static void forget_look(struct converge_member *m)
{
    m->has_looked = false;
    m->lock_revision = 0;
}

/* etcd does not have it any more: it is sent again, unless there is a newer one. */
static void not_announced(struct converge_member *m)
{
    if (m->record == NULL)
        m->record = m->announced;
    else
        free(m->announced);
    m->announced = NULL;
    forget_look(m);
}

static void lease_is_gone(struct converge_member *m)
{
    LOG(WARN, "converge: the lease has ended, a new one is asked for", "place=\"%s\"", m->o.place);
    m->lease = 0;
    not_announced(m);
    wait_ms(m, MEMBER_OUT, 0);
}

static void PRINTF_LIKE(2, 3) say_why(struct converge_member *m, const char *fmt, ...)
{
    char before[WHY_MAX];
    va_list ap;

    snprintf(before, sizeof before, "%s", m->why);
    va_start(ap, fmt);
    vsnprintf(m->why, sizeof m->why, fmt, ap);
    va_end(ap);
    if (!m->has_said_why || strcmp(before, m->why) != 0)
        LOG(WARN, "converge: nothing is rewritten", "reason=\"%s\"", m->why);
    m->has_said_why = true;
}

static const char *what_was_asked(enum member_state s)
{
    static const char *const texts[] = {[MEMBER_OUT] = "a lease",
                                        [MEMBER_ANNOUNCING] = "registering",
                                        [MEMBER_LOOKING] = "reading what proxies have registered",
                                        [MEMBER_LOCKING] = "the lock",
                                        [MEMBER_KEEPING] = "keeping the lease"};

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
        m->lock_ms = now_ms(m) + ms;
        if (m->lock_why[0] == '\0')
            LOG(WARN, "converge: etcd refuses this proxy the lock: it only counts",
                "key=\"%s\" reason=\"%.300s\"", m->lock, a->message);
        snprintf(m->lock_why, sizeof m->lock_why,
                 "etcd refuses this proxy the lock %.250s: %s: %.300s", m->lock,
                 grpc_status_name(a->status), a->message);
        choose(m);
        return;
    }
    forget_look(m);
    say_why(m, "etcd refuses %s under %.250s: %s: %.300s", what_was_asked(m->state), m->o.place,
            grpc_status_name(a->status), a->message);
    /* The lease, if there is one, ends meanwhile, and is asked for anew. */
    wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, ms);
}

/* --- looking ---------------------------------------------------------------------------------- */

/* A copy that ends in NUL; NULL: no memory. A NUL within cuts it: records have none. */
static char *text_of(struct bytes b)
{
    char *text = malloc(b.n + 1);

    if (text == NULL)
        return NULL;
    if (b.n > 0)
        memcpy(text, b.p, b.n);
    text[b.n] = '\0';
    return text;
}

struct look {
    struct converge_member *m;
    enum converge_difference difference;
    bool is_ours_there;
    size_t others;
    char why[WHY_MAX];
};

static enum err take_record(struct look *l, const struct etcd_kv *kv)
{
    char name[CONVERGE_NAME_MAX], why[WHY_MAX / 2];
    char *theirs = text_of(kv->value);
    enum converge_difference d;

    if (theirs == NULL)
        return ERR_NOMEM;
    if (bytes_eq(kv->key, bytes_str(l->m->key))) {
        l->is_ours_there = l->m->announced != NULL && kv->lease == l->m->lease &&
                           strcmp(theirs, l->m->announced) == 0;
    } else if (l->m->announced != NULL) {
        l->others++;
        d = converge_record_compare(l->m->announced, theirs, why, sizeof why);
        if (d < l->difference)
            snprintf(l->why, sizeof l->why, "proxy %s: %s", converge_record_name(theirs, name),
                     why);
        l->difference = d < l->difference ? d : l->difference;
    }
    free(theirs);
    return ERR_OK;
}

static void take_lock(struct converge_member *m, const struct etcd_kv *kv)
{
    m->has_lock = true;
    m->lock_revision = kv->lease == m->lease ? kv->create_revision : 0;
    kms_clean_text(kv->value, m->holder, sizeof m->holder);
}

static enum err take_all(struct look *l, struct bytes body)
{
    struct etcd_kv kv;
    bool has;

    for (;;) {
        TRY(etcd_message_next_kv(&body, &kv, &has));
        if (!has)
            return ERR_OK;
        if (bytes_eq(kv.key, bytes_str(l->m->lock)))
            take_lock(l->m, &kv);
        else if (bytes_has_prefix(kv.key, bytes_str(l->m->watched)))
            TRY(take_record(l, &kv));
    }
}

/* The time of agreement begins when all are found to write alike with other keys than before. That
 * one does not know its key for a while (its plugin is away) is no change of keys. */
static void note_agreement(struct converge_member *m)
{
    const char *rules = converge_record_rules(m->announced);

    if (m->difference == CONVERGE_DIFFERS) {
        free(m->agreed);
        m->agreed = NULL;
    } else if (m->difference == CONVERGE_AGREES &&
               (m->agreed == NULL || strcmp(m->agreed, rules) != 0)) {
        free(m->agreed);
        m->agreed = strdup(rules);
        m->agreed_ms = now_ms(m);
    }
}

static void note_difference(struct converge_member *m, const struct look *l)
{
    bool was_known = m->has_looked;
    enum converge_difference before = m->difference;

    m->difference = l->difference;
    m->others = l->others;
    if (l->difference == CONVERGE_AGREES) {
        if (m->has_said_why) {
            LOG(INFO, "converge: all proxies agree", "others=%zu", l->others);
            m->has_said_why = false;
            m->why[0] = '\0';
        }
    } else if (l->difference == CONVERGE_DIFFERS) {
        say_why(m, "%s", l->why);
    } else {
        snprintf(m->why, sizeof m->why, "%s", l->why);
    }
    if (!was_known || before != m->difference)
        LOG(DEBUG, "converge: looked at the other proxies", "others=%zu difference=%d", l->others,
            (int)l->difference);
}

static void take_look(struct converge_member *m, struct bytes body)
{
    struct look l = {.m = m, .difference = CONVERGE_AGREES};
    struct etcd_range_answer answer;
    enum err e = etcd_message_read_range(body, &answer);

    m->look_ms = now_ms(m) + LOOK_MS;
    m->has_lock = false;
    m->lock_revision = 0;
    m->holder[0] = '\0';
    if (e == ERR_OK && (answer.header.revision < 1 || answer.has_more))
        e = ERR_ANS_MALFORMED;
    if (e == ERR_OK)
        e = take_all(&l, body);
    if (e != ERR_OK) {
        forget_look(m);
        return;
    }
    if (!l.is_ours_there) { /* somebody has deleted it, or our lease is another one by now */
        not_announced(m);
        return;
    }
    if (!converge_record_is_complete(m->announced) && l.difference == CONVERGE_AGREES) {
        l.difference = CONVERGE_UNKNOWN;
        snprintf(l.why, sizeof l.why, "this proxy's plugin has not answered yet");
    }
    note_difference(m, &l);
    note_agreement(m);
    m->seen_revision = answer.header.revision;
    m->has_looked = true;
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
    m->look_ms = now_ms(m);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct converge_member *m = arg;

    if (m->state == MEMBER_LEFT)
        return;
    if (a->err != ERR_OK) {
        forget_look(m);
        say_why(m, "%.400s", a->message);
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
        m->look_ms = now_ms(m);
        m->lock_ms = now_ms(m) + LOOK_MS;
        break;
    default:
        take_look(m, a->body);
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
    forget_look(m);
    if (m->state == MEMBER_IDLE)
        wait_ms(m, MEMBER_IDLE, 0);
}

const char *converge_member_record(const struct converge_member *m)
{
    return m->announced == NULL ? "" : m->announced;
}

static bool is_agreed_for_long(const struct converge_member *m)
{
    return m->agreed != NULL && now_ms(m) - m->agreed_ms >= m->o.after_ms;
}

bool converge_member_may_rewrite(const struct converge_member *m, struct etcd_fence *fence)
{
    *fence = (struct etcd_fence){.lock = bytes_str(m->lock),
                                 .lock_revision = m->lock_revision,
                                 .watched = bytes_str(m->watched),
                                 .watched_end = bytes_str(m->watched_end),
                                 .seen_revision = m->seen_revision};
    return m->state != MEMBER_LEFT && m->lease != 0 && now_ms(m) < m->valid_ms &&
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
    snprintf(text, text_len,
             "all agree since %" PRIu64 " s, and rewriting begins after %" PRIu64 " s",
             m->agreed == NULL ? 0 : (now_ms(m) - m->agreed_ms) / 1000, m->o.after_ms / 1000);
    return CONVERGE_WAITING;
}

void converge_member_use_etcd(struct converge_member *m, struct sweep_etcd *etcd)
{
    bool was_asking = m->call.etcd != NULL;

    sweep_call_cancel(&m->call);
    m->o.etcd = etcd;
    if (was_asking && m->state != MEMBER_LEFT)
        wait_ms(m, m->lease == 0 ? MEMBER_OUT : MEMBER_IDLE, 0);
}

static void on_left(void *arg, const struct client_answer *a)
{
    (void)arg;
    (void)a;
}

void converge_member_leave(struct converge_member *m)
{
    struct etcd_message r;
    struct bytes body;

    if (m->state == MEMBER_LEFT)
        return;
    sweep_call_cancel(&m->call);
    loop_timer_stop(&m->timer);
    m->state = MEMBER_LEFT;
    if (m->lease == 0 || room_for(m, 32, &r) == NULL)
        return;
    etcd_lease_put_id(&r, m->lease);
    CHECK(etcd_message_body(&r, &body) == ERR_OK);
    sweep_call_start(&m->call, m->o.etcd, ETCD_LEASE_REVOKE_PATH, body, ANSWER_MAX, on_left, m);
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
