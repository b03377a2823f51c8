/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the first call has the server in use asked who it is; it says that it does not know
 * the method, as etcd does; a user has it asked for a token; then all calls are sent, and their
 * answers handed on. Behind a new connection may be somebody else: so it is asked again there.
 * Failure modes:
 *  - the server is a proxy of ours: every text of its own begins with PROXY_TEXT, above all that of
 *    an unknown method; etcd has no such text. All calls end with ERR_CONFIG, those of the next
 *    minute, too; then the next server is asked who it is, for etcd may be there by now;
 *  - it does not answer: the calls wait, the next server is asked who it is, after a pause; a call
 *    that none has answered for away_ms ends with ERR_UPSTREAM_AWAY. Each by its own time: a member
 *    without a leader still says who it is, and answers Status;
 *  - it does not take the token any more: another one is asked for, and the call sent again;
 *  - the password changes while it judges the one before: it is asked again, with the new one;
 *  - it does not know the user: all calls that wait end with its answer, and so do those of the
 *    next minute (login.h);
 *  - it has too much to do: the call is sent again after a pause, for as long as it may be away. */
#include "sweep/etcd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "etcd/message.h"

#define PROXY_TEXT "etcd-envelope: "
#define WHO_MS 3000u
#define CALL_MS 15000u
#define LOGINS_MAX 5u /* tokens for one call */
#define PAUSE_MS 250u
#define REFUSED_MS 60000u /* for so long a proxy is not asked again */
#define SAY_MS 10000u     /* between two lines of the log that say the same */

enum etcd_state {
    ETCD_UNKNOWN = 0, /* nobody has asked the server yet */
    ETCD_ASKING,      /* who is it? */
    ETCD_PAUSE,       /* it did not answer: the timer runs */
    ETCD_LOGIN,       /* it is asked for a token */
    ETCD_READY,       /* it is an etcd, and takes calls */
    ETCD_FAILED,      /* it did not answer: the task lets go of it */
    ETCD_REFUSED,     /* it is a proxy of ours */
};

struct sweep_etcd {
    struct sweep_etcd_opts o;
    enum etcd_state state;
    size_t at; /* the server in use */
    struct client *client;
    uint64_t known_connection; /* the one that said who it is */
    struct client_call *who;   /* who it is, or for a token */
    unsigned token_number;     /* of the token that the client has */
    unsigned asked_number;     /* of the login when it was asked for one */
    uint64_t refused_ms;       /* when it was known for a proxy */
    struct list waiting, sent;
    struct loop_timer pause;
    struct loop_task task; /* goes on from outside of a callback of the client's */
    bool has_answered;     /* a call */
    bool has_said_away;
    uint64_t said_away_ms; /* 0: never */
    char why[512];
};

const char *sweep_etcd_server(const struct sweep_etcd *e, char out[static NET_URL_MAX])
{
    return net_url_text(&e->o.urls[e->at], out);
}

const struct net_url *sweep_etcd_url(const struct sweep_etcd *e)
{
    return &e->o.urls[e->at];
}

/* --- ends of calls ---------------------------------------------------------------------------- */

static void call_detach(struct sweep_call *c)
{
    if (c->call != NULL)
        client_cancel(c->call);
    c->call = NULL;
    list_remove(&c->node);
    c->etcd = NULL;
}

/* Ends all calls; fn may start others, which then wait. */
static void end_all(struct sweep_etcd *e, enum err err)
{
    struct client_answer a = {.err = err, .status = GRPC_UNAVAILABLE, .message = e->why};
    struct list now;

    list_init(&now);
    list_splice(&now, &e->sent);
    list_splice(&now, &e->waiting);
    while (!list_is_empty(&now)) {
        struct sweep_call *c = LIST_FIRST(&now, struct sweep_call, node);

        call_detach(c);
        c->fn(c->arg, &a);
    }
}

static bool is_of_proxy(const struct client_answer *a)
{
    return a->err == ERR_OK && strncmp(a->message, PROXY_TEXT, strlen(PROXY_TEXT)) == 0;
}

/* It could not be asked, or says itself that it can't answer now. */
static bool is_away(const struct client_answer *a)
{
    return (a->err != ERR_OK && a->err != ERR_NOMEM) || a->status == GRPC_UNAVAILABLE ||
           a->status == GRPC_DEADLINE_EXCEEDED;
}

/* etcd bounds what it has applied and not yet committed. */
static bool is_busy(const struct client_answer *a)
{
    return a->err == ERR_OK && a->status == GRPC_RESOURCE_EXHAUSTED &&
           strstr(a->message, "too many requests") != NULL;
}

/* --- servers ---------------------------------------------------------------------------------- */

static void drop_client(struct sweep_etcd *e)
{
    LIST_FOREACH(it, &e->sent)
        LIST_ENTRY(it, struct sweep_call, node)->call = NULL; /* the client's end ends them */
    list_splice(&e->waiting, &e->sent);
    if (e->client != NULL)
        client_close(e->client);
    e->client = NULL;
    e->token_number = 0;
    e->who = NULL;
}

/* For callbacks of the client, in which it cannot be closed: the task goes on from there. */
static void server_failed(struct sweep_etcd *e, const char *message)
{
    char url[NET_URL_MAX];

    if (e->state == ETCD_FAILED)
        return;
    snprintf(e->why, sizeof e->why, "etcd at %s does not answer: %.300s", sweep_etcd_server(e, url),
             message);
    e->state = ETCD_FAILED;
    loop_task_want(e->o.loop, &e->task);
}

static void server_is_proxy(struct sweep_etcd *e)
{
    char url[NET_URL_MAX];

    snprintf(e->why, sizeof e->why,
             "%s is a proxy of etcd-envelope, not etcd: what comes from it is opened already. Give "
             "etcd's own client URLs (--etcd-servers, ETCDCTL_ENDPOINTS)",
             sweep_etcd_server(e, url));
    e->state = ETCD_REFUSED;
    e->refused_ms = loop_now_ms(e->o.loop);
    loop_task_want(e->o.loop, &e->task);
}

/* The first call that waits for too long, or NULL. */
static struct sweep_call *overdue(struct sweep_etcd *e)
{
    uint64_t now = loop_now_ms(e->o.loop), most = e->has_answered ? e->o.away_ms : e->o.first_ms;

    LIST_FOREACH(it, &e->waiting) {
        struct sweep_call *c = LIST_ENTRY(it, struct sweep_call, node);

        if (now - c->began_ms >= most)
            return c;
    }
    return NULL;
}

/* fn may start others, which are not overdue yet. */
static void end_overdue(struct sweep_etcd *e)
{
    const struct client_answer a = {
        .err = ERR_UPSTREAM_AWAY, .status = GRPC_UNAVAILABLE, .message = e->why};
    struct sweep_call *c;

    while ((c = overdue(e)) != NULL) {
        call_detach(c);
        c->fn(c->arg, &a);
    }
}

static void say_away(struct sweep_etcd *e)
{
    uint64_t now = loop_now_ms(e->o.loop);

    if (!e->has_answered || e->has_said_away ||
        (e->said_away_ms != 0 && now - e->said_away_ms < SAY_MS))
        return;
    LOG(WARN, "etcd does not answer, trying again", "reason=\"%s\" for_s=%u", e->why,
        (unsigned)(e->o.away_ms / 1000));
    e->has_said_away = true;
    e->said_away_ms = now;
}

static void leave_server(struct sweep_etcd *e)
{
    drop_client(e);
    e->at = (e->at + 1) % e->o.url_count;
    e->state = ETCD_PAUSE;
    CHECK(loop_timer_start(e->o.loop, &e->pause, PAUSE_MS) == ERR_OK); /* exists since the start */
    end_overdue(e);
    if (!list_is_empty(&e->waiting))
        say_away(e);
}

static void server_answered(struct sweep_etcd *e)
{
    if (e->has_said_away)
        LOG(WARN, "etcd answers again", "%s", "");
    e->has_answered = true;
    e->has_said_away = false;
}

/* --- calls ------------------------------------------------------------------------------------ */

static void wait_for_room(struct sweep_etcd *e, const char *message)
{
    char url[NET_URL_MAX];

    snprintf(e->why, sizeof e->why, "etcd at %s takes no more requests: %.300s",
             sweep_etcd_server(e, url), message);
    if (!loop_timer_is_active(&e->pause)) /* it exists since the start */
        CHECK(loop_timer_start(e->o.loop, &e->pause, PAUSE_MS) == ERR_OK);
}

/* The call waits on, for this server or another one. */
static void call_again(struct sweep_call *c, const struct client_answer *a)
{
    struct sweep_etcd *e = c->etcd;

    list_remove(&c->node);
    list_push(&e->waiting, &c->node);
    if (is_of_proxy(a))
        server_is_proxy(e);
    else if (is_away(a))
        server_failed(e, a->message);
    else
        wait_for_room(e, a->message);
}

/* It waits on, for another token. */
static void login_again(struct sweep_call *c)
{
    struct sweep_etcd *e = c->etcd;

    c->login_count++;
    sweep_login_forget(e->o.login, c->token_number);
    list_remove(&c->node);
    list_push(&e->waiting, &c->node);
    loop_task_want(e->o.loop, &e->task);
}

static void on_answer(void *arg, const struct client_answer *a)
{
    struct sweep_call *c = arg;
    struct sweep_etcd *e = c->etcd;

    c->call = NULL;
    if (is_of_proxy(a) || is_away(a) || is_busy(a)) {
        call_again(c, a);
        return;
    }
    if (c->login_count < LOGINS_MAX && sweep_login_is_asked(e->o.login, a)) {
        login_again(c);
        return;
    }
    server_answered(e);
    call_detach(c);
    c->fn(c->arg, a);
}

static void fail_call(struct sweep_call *c, enum err err)
{
    const struct client_answer a = {
        .err = err, .status = GRPC_RESOURCE_EXHAUSTED, .message = "out of memory"};

    call_detach(c);
    c->fn(c->arg, &a);
}

/* Another connection that shares the login may have got another token. */
static enum err use_token(struct sweep_etcd *e)
{
    unsigned number = sweep_login_number(e->o.login);

    if (e->token_number == number)
        return ERR_OK;
    TRY(sweep_login_use(e->o.login, e->client));
    e->token_number = number;
    return ERR_OK;
}

static void send_all(struct sweep_etcd *e)
{
    struct list now;

    if (use_token(e) != ERR_OK) {
        server_failed(e, "out of memory");
        return;
    }
    list_init(&now);
    list_splice(&now, &e->waiting);
    while (e->state == ETCD_READY && !list_is_empty(&now)) {
        struct sweep_call *c = LIST_FIRST(&now, struct sweep_call, node);
        enum err err;

        c->token_number = e->token_number;
        err = client_call(e->client, c->path, c->body, CALL_MS, on_answer, c, &c->call);

        if (err != ERR_OK) {
            fail_call(c, ERR_NOMEM);
            continue;
        }
        client_limit_answer(c->call, c->answer_max);
        list_remove(&c->node);
        list_push(&e->sent, &c->node);
    }
    list_splice(&e->waiting, &now);
}

static void on_who(void *arg, const struct client_answer *a)
{
    struct sweep_etcd *e = arg;

    e->who = NULL;
    if (is_of_proxy(a)) {
        server_is_proxy(e);
    } else if (is_away(a)) {
        server_failed(e, a->message);
    } else {
        e->state = ETCD_READY;
        e->known_connection = client_connection(e->client);
        loop_task_want(e->o.loop, &e->task);
    }
}

/* The answer is that of all calls that wait. */
static void login_refused(struct sweep_etcd *e, struct client_answer a)
{
    struct list now;

    (void)snprintf(e->why, sizeof e->why, "%s", a.message); /* fn may have the login forget it */
    a.message = e->why;
    list_init(&now);
    list_splice(&now, &e->waiting);
    while (!list_is_empty(&now)) {
        struct sweep_call *c = LIST_FIRST(&now, struct sweep_call, node);

        call_detach(c);
        c->fn(c->arg, &a);
    }
}

static void on_token(void *arg, const struct client_answer *a)
{
    struct sweep_etcd *e = arg;

    e->who = NULL;
    if (is_of_proxy(a)) {
        server_is_proxy(e);
    } else if (is_away(a)) {
        server_failed(e, a->message);
    } else if (is_busy(a)) {
        e->state = ETCD_READY;
        wait_for_room(e, a->message);
    } else if (e->asked_number != sweep_login_number(e->o.login)) {
        e->state = ETCD_READY; /* another password, or token, came meanwhile */
        loop_task_want(e->o.loop, &e->task);
    } else if (a->err != ERR_OK ||
               sweep_login_take(e->o.login, loop_now_ms(e->o.loop), a) != ERR_OK) {
        server_failed(e, "out of memory");
    } else {
        e->state = ETCD_READY;
        loop_task_want(e->o.loop, &e->task);
    }
}

static void ask_token(struct sweep_etcd *e)
{
    e->state = ETCD_LOGIN;
    e->asked_number = sweep_login_number(e->o.login);
    if (sweep_login_call(e->o.login, e->client, CALL_MS, on_token, e, &e->who) != ERR_OK)
        server_failed(e, "out of memory");
}

static enum err ask_who(struct sweep_etcd *e)
{
    const struct net_url *url = sweep_etcd_url(e);
    char authority[sizeof url->host + sizeof url->port + 4];

    if (url->is_unix)
        snprintf(authority, sizeof authority, "localhost");
    else
        snprintf(authority, sizeof authority, "%s:%s", url->host, url->port);
    TRY(client_new(e->o.loop, url, url->is_tls ? e->o.tls : NULL, authority, &e->client));
    return client_call(e->client, ETCD_IDENTIFY_PATH, bytes_of(NULL, 0), WHO_MS, on_who, e,
                       &e->who);
}

/* What waits would go over the connection that was asked who it is. Else all is asked anew there,
 * behind that question. */
static bool is_known(struct sweep_etcd *e)
{
    if (list_is_empty(&e->waiting) || client_connection(e->client) == e->known_connection)
        return true;
    drop_client(e);
    e->state = ETCD_UNKNOWN;
    return false;
}

static void send_or_login(struct sweep_etcd *e)
{
    struct client_answer refusal;

    if (sweep_login_is_refused(e->o.login, loop_now_ms(e->o.loop), &refusal))
        login_refused(e, refusal);
    else if (sweep_login_is_due(e->o.login))
        ask_token(e);
    else
        send_all(e);
}

/* The server is a proxy, or was one some time ago. */
static void refuse_calls(struct sweep_etcd *e)
{
    drop_client(e);
    if (loop_now_ms(e->o.loop) - e->refused_ms < REFUSED_MS) {
        end_all(e, ERR_CONFIG);
        return;
    }
    e->at = (e->at + 1) % e->o.url_count;
    e->state = ETCD_UNKNOWN;
}

static void on_task(struct loop_task *t)
{
    struct sweep_etcd *e = CONTAINER_OF(t, struct sweep_etcd, task);

    if (e->state == ETCD_FAILED) {
        leave_server(e);
    } else if (e->state == ETCD_REFUSED) {
        refuse_calls(e);
    } else if (e->state == ETCD_READY && !list_is_empty(&e->waiting) && is_known(e)) {
        send_or_login(e);
    }
    if (e->state == ETCD_UNKNOWN && !list_is_empty(&e->waiting)) {
        e->state = ETCD_ASKING;
        if (ask_who(e) != ERR_OK)
            server_failed(e, "out of memory");
    }
}

static void on_pause(struct loop_timer *t)
{
    struct sweep_etcd *e = CONTAINER_OF(t, struct sweep_etcd, pause);

    if (e->state == ETCD_PAUSE)
        e->state = ETCD_UNKNOWN;
    else
        end_overdue(e); /* it has too much to do */
    loop_task_want(e->o.loop, &e->task);
}

/* --- exported --------------------------------------------------------------------------------- */

void sweep_call_start(struct sweep_call *c, struct sweep_etcd *e, const char *path,
                      struct bytes body, uint32_t answer_max, client_answer_fn fn, void *arg)
{
    CHECK(c->etcd == NULL);
    *c = (struct sweep_call){
        .etcd = e, .path = path, .body = body, .answer_max = answer_max, .fn = fn, .arg = arg};
    c->began_ms = loop_now_ms(e->o.loop);
    list_push(&e->waiting, &c->node);
    if (!loop_timer_is_active(&e->pause))
        loop_task_want(e->o.loop, &e->task);
}

void sweep_call_cancel(struct sweep_call *c)
{
    if (c->etcd != NULL)
        call_detach(c);
}

enum err sweep_etcd_new(const struct sweep_etcd_opts *o, struct sweep_etcd **out)
{
    struct sweep_etcd *e = calloc(1, sizeof *e);

    if (e == NULL)
        return ERR_NOMEM;
    e->o = *o;
    list_init(&e->waiting);
    list_init(&e->sent);
    loop_timer_init(&e->pause, on_pause);
    loop_task_init(&e->task, on_task);
    if (loop_timer_start(o->loop, &e->pause, PAUSE_MS) != ERR_OK) {
        free(e);
        return ERR_NOMEM;
    }
    loop_timer_stop(&e->pause);
    if (o->tls != NULL)
        net_tls_ref(o->tls);
    if (o->login != NULL)
        sweep_login_ref(o->login);
    *out = e;
    return ERR_OK;
}

void sweep_etcd_close(struct sweep_etcd *e)
{
    while (!list_is_empty(&e->sent))
        call_detach(LIST_FIRST(&e->sent, struct sweep_call, node));
    while (!list_is_empty(&e->waiting))
        call_detach(LIST_FIRST(&e->waiting, struct sweep_call, node));
    drop_client(e);
    loop_timer_fini(&e->pause);
    loop_task_cancel(&e->task);
    sweep_login_drop(e->o.login);
    if (e->o.tls != NULL)
        net_tls_drop(e->o.tls);
    free(e);
}
