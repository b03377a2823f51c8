/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: client_call puts the call in the waiting list and dials when there is no connection;
 * when the peer's SETTINGS are in, waiting calls become streams; the answer is collected
 * (answer.c), its status read from the trailers, and fn called.
 *
 *   waiting -- connection ready --> sent -- status, reset, deadline --> answered
 *      ^----- REFUSED_STREAM, or the connection died before the request left -----'
 *
 * Failure modes:
 *  - the peer can't be reached: redial after 50 ms, doubled up to 1 s, as long as a call waits; a
 *    call whose deadline passes meanwhile gets ERR_UPSTREAM_AWAY
 *  - the connection dies with the call on it: ERR_UPSTREAM_LOST; the call may have been carried
 *    out, so it is never repeated here
 *  - GOAWAY: what is below its last id finishes on the old connection, all else goes to a new one
 *  - the answer is not a gRPC answer: see answer.c
 *  - the peer takes the connection and then says nothing: given up GREETING_MS after dialling
 *  - the server is distrusted and floods: h2 loses the connection, as above */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"
#include "client/client_int.h"
#include "grpc/grpc.h"

#define REDIAL_MAX_MS 1000u
#define GREETING_MS (2 * LIMIT_DIAL_MS) /* includes net's own 5 s for dialling */

static void client_dispatch(struct client *c);

static void client_set_state(struct client *c, enum client_state to)
{
    CHECK(c->state != CLIENT_CLOSED);
    CHECK(to != CLIENT_READY || c->state == CLIENT_DIALING);
    CHECK(to != CLIENT_BACKOFF || c->state == CLIENT_DIALING || c->state == CLIENT_READY ||
          c->state == CLIENT_IDLE);
    c->state = to;
}

/* ------------------------------------------------------------------------ end of a call */

static void call_free(struct client_call *call)
{
    loop_timer_fini(&call->timer);
    chain_fini(&call->answer);
    client__gather_drop(call);
    slice_drop(&call->request);
    free(call->path);
    free(call);
}

/* Takes the call off its list, its timer and its stream: nothing can reach it afterwards. */
static void call_detach(struct client_call *call)
{
    struct h2_stream *s = call->stream;

    list_remove(&call->node);
    loop_timer_stop(&call->timer);
    call->stream = NULL;
    if (call->client->is_resting)
        loop_task_want(call->client->loop, &call->client->task);
    if (s == NULL)
        return;
    h2_stream_set_user(s, NULL);
    h2_stream_reset(s, H2_CANCEL); /* changes nothing when the stream is over */
}

void client__call_answer(struct client_call *call, const struct client_answer *a)
{
    call_detach(call);
    call->fn(call->arg, a);
    call_free(call);
}

static void answer_failure(struct client_call *call, enum err e, const char *message)
{
    struct client_answer a = {.err = e, .status = GRPC_UNAVAILABLE, .message = message};

    if (e == ERR_TIMEOUT)
        a.status = GRPC_DEADLINE_EXCEEDED;
    client__call_answer(call, &a);
}

void client__call_status(struct client_call *call, enum grpc_status status, const char *message)
{
    struct client_answer a = {.err = ERR_OK, .status = status, .message = message};

    client__call_answer(call, &a);
}

static void on_deadline(struct loop_timer *t)
{
    struct client_call *call = CONTAINER_OF(t, struct client_call, timer);
    struct client *c = call->client;
    char why[sizeof c->why];

    if (call->stream != NULL || c->state == CLIENT_READY) {
        answer_failure(call, ERR_TIMEOUT, "deadline exceeded");
        return;
    }
    /* A copy, for fn may start a call whose failed dial overwrites c->why. */
    memcpy(why, c->why, sizeof why);
    answer_failure(call, ERR_UPSTREAM_AWAY, why[0] != '\0' ? why : "not connected in time");
}

static void on_drained(struct h2_stream *s, size_t n)
{
    (void)s;
    (void)n;
}

/* ------------------------------------------------------------------------ connections */

static void client_free_if_over(struct client *c)
{
    if (c->state == CLIENT_CLOSED && list_is_empty(&c->conns))
        loop_task_want(c->loop, &c->task);
}

static void conn_free(struct client_conn *conn)
{
    struct client *c = conn->client;

    list_remove(&conn->node);
    loop_timer_fini(&conn->greeting);
    free(conn);
    client_free_if_over(c);
}

static void conn_close(struct client_conn *conn)
{
    if (conn->h2 != NULL)
        h2_conn_close(conn->h2, H2_NO_ERROR, 0);
    else
        net_conn_close(conn->net, 0);
}

static void client_redial_later(struct client *c)
{
    client_set_state(c, CLIENT_BACKOFF);
    /* Its handle was made in client_new, so this cannot fail. */
    CHECK(loop_timer_start(c->loop, &c->redial, c->backoff_ms) == ERR_OK);
    c->backoff_ms = c->backoff_ms * 2 < REDIAL_MAX_MS ? c->backoff_ms * 2 : REDIAL_MAX_MS;
}

/* The connection takes no more calls: failed, refused, or told to go away. */
static void conn_retire(struct client_conn *conn)
{
    struct client *c = conn->client;

    if (c->current != conn)
        return;
    c->current = NULL;
    loop_timer_stop(&conn->greeting);
    if (list_is_empty(&c->waiting))
        client_set_state(c, CLIENT_IDLE);
    else
        client_redial_later(c);
}

static void conn_close_if_drained(struct client_conn *conn)
{
    if (conn->client->current != conn && conn->h2 != NULL && h2_conn_stream_count(conn->h2) == 0)
        h2_conn_close(conn->h2, H2_NO_ERROR, 0);
}

static void call_wait_again(struct client_call *call)
{
    struct client *c = call->client;

    call->stream = NULL;
    chain_clear(&call->answer);
    client__gather_drop(call);
    list_remove(&call->node);
    list_push(&c->waiting, &call->node);
    if (c->state == CLIENT_IDLE)
        client_redial_later(c);
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct client_call *call = h2_stream_user(s);
    struct client_conn *conn = h2_conn_user(h2_stream_conn(s));

    (void)how;
    if (call != NULL && code == H2_REFUSED_STREAM) {
        /* The peer did not process it, so it is safe to repeat, on another connection. */
        conn_retire(conn);
        call_wait_again(call);
    } else if (call != NULL) {
        call->stream = NULL;
        answer_failure(call, ERR_UPSTREAM_LOST, "the connection was lost or the call was reset");
    }
    /* Was it the last stream of a retired connection? The task finds out, because h2 still counts
     * this one here. */
    loop_task_want(conn->client->loop, &conn->client->task);
}

static const struct h2_stream_ops stream_ops = {
    .on_response = client__on_response,
    .on_data = client__on_data,
    .on_trailers = client__on_trailers,
    .on_end = client__on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_ready(struct h2_conn *h2)
{
    struct client_conn *conn = h2_conn_user(h2);
    struct client *c = conn->client;

    if (c->current != conn)
        return;
    loop_timer_stop(&conn->greeting);
    client_set_state(c, CLIENT_READY);
    c->backoff_ms = LIMIT_REDIAL_MS;
    c->why[0] = '\0';
    client_dispatch(c);
}

static void on_goaway(struct h2_conn *h2, enum h2_code code)
{
    struct client_conn *conn = h2_conn_user(h2);

    (void)code;
    conn_retire(conn);
    loop_task_want(conn->client->loop, &conn->client->task);
}

static void on_lost(struct h2_conn *h2, enum err why)
{
    struct client_conn *conn = h2_conn_user(h2);
    struct client *c = conn->client;

    if (c->current == conn)
        (void)snprintf(c->why, sizeof c->why, "%s",
                       h2_conn_why(h2)[0] != '\0' ? h2_conn_why(h2) : err_reason(why));
    conn_retire(conn);
    h2_conn_close(h2, H2_NO_ERROR, 0);
}

static void on_conn_closed(struct h2_conn *h2)
{
    conn_free(h2_conn_user(h2));
}

static const struct h2_conn_ops conn_ops = {
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

static const struct h2_opts h2_opts_trusting = {
    .is_server = false,
    .stream_window = LIMIT_STREAM_WINDOW,
    .conn_window = LIMIT_CONN_WINDOW,
    .max_frame_size = 16384,
    .write_stall_ms = LIMIT_WRITE_STALL_MS,
};

static void conn_dial_failed(struct client_conn *conn, const char *why)
{
    struct client *c = conn->client;

    (void)snprintf(c->why, sizeof c->why, "%s", why);
    conn_retire(conn);
}

static void on_net_open(struct net_conn *net)
{
    struct client_conn *conn = net_conn_user(net);
    struct client *c = conn->client;
    struct h2_opts opts = h2_opts_trusting;

    opts.is_guarded = c->is_distrusted;
    if (h2_conn_new(c->loop, &c->pool, net, &opts, &conn_ops, conn, &conn->h2) == ERR_OK) {
        conn->net = NULL;
        return;
    }
    conn_dial_failed(conn, "out of memory");
    conn_free(conn); /* net is closed without us */
}

static void on_net_read(struct net_conn *net, struct slice *s)
{
    (void)net;
    slice_drop(s); /* never called: bytes come after on_open, and then h2 is the owner */
}

static void on_net_writable(struct net_conn *net)
{
    (void)net;
}

static void on_net_eof(struct net_conn *net, enum err why)
{
    struct client_conn *conn = net_conn_user(net);
    const char *text = net_conn_why(net);

    conn_dial_failed(conn, text != NULL && text[0] != '\0' ? text : err_reason(why));
    net_conn_close(net, 0);
}

static void on_net_closed(struct net_conn *net)
{
    conn_free(net_conn_user(net));
}

static const struct net_conn_ops net_ops = {
    .on_open = on_net_open,
    .on_read = on_net_read,
    .on_writable = on_net_writable,
    .on_eof = on_net_eof,
    .on_closed = on_net_closed,
};

static void on_greeting_timer(struct loop_timer *t)
{
    struct client_conn *conn = CONTAINER_OF(t, struct client_conn, greeting);

    conn_dial_failed(conn, "connected, but the server does not answer");
    conn_close(conn);
}

static enum err client_dial(struct client *c)
{
    struct client_conn *conn = calloc(1, sizeof *conn);

    if (conn == NULL)
        return ERR_NOMEM;
    conn->client = c;
    loop_timer_init(&conn->greeting, on_greeting_timer);
    if (loop_timer_start(c->loop, &conn->greeting, GREETING_MS) != ERR_OK)
        goto err_free;
    if (net_conn_dial(c->loop, &c->pool, SLAB_SECRET, &c->url, c->tls, &net_ops, conn,
                      &conn->net) != ERR_OK)
        goto err_timer;
    list_push(&c->conns, &conn->node);
    c->current = conn;
    client_set_state(c, CLIENT_DIALING);
    c->dial_count++;
    return ERR_OK;

err_timer:
    loop_timer_fini(&conn->greeting);
err_free:
    free(conn);
    return ERR_NOMEM;
}

static void client_connect(struct client *c)
{
    if (client_dial(c) == ERR_OK)
        return;
    (void)snprintf(c->why, sizeof c->why, "out of memory");
    client_redial_later(c);
}

static void on_redial(struct loop_timer *t)
{
    struct client *c = CONTAINER_OF(t, struct client, redial);

    if (c->state != CLIENT_BACKOFF)
        return;
    client_set_state(c, CLIENT_IDLE);
    if (!list_is_empty(&c->waiting))
        client_connect(c);
}

/* ------------------------------------------------------------------------ calls */

static struct h2_field field_of(struct bytes name, struct bytes value)
{
    return (struct h2_field){name, value};
}

static enum err call_send(struct client_call *call)
{
    struct client *c = call->client;
    uint64_t now = loop_now_ms(c->loop);
    uint64_t left_ms = call->deadline_ms > now ? call->deadline_ms - now : 1;
    char timeout[GRPC_TIMEOUT_MAX];
    size_t timeout_len = grpc_timeout_format(left_ms * 1000000u, timeout);
    struct h2_field v[] = {
        field_of(BYTES_LIT(":method"), BYTES_LIT("POST")),
        field_of(BYTES_LIT(":scheme"), c->tls != NULL ? BYTES_LIT("https") : BYTES_LIT("http")),
        field_of(BYTES_LIT(":path"), bytes_str(call->path)),
        field_of(BYTES_LIT(":authority"), bytes_str(c->authority)),
        field_of(BYTES_LIT("te"), BYTES_LIT("trailers")),
        field_of(BYTES_LIT("content-type"), BYTES_LIT("application/grpc")),
        field_of(BYTES_LIT("user-agent"), BYTES_LIT("etcd-envelope")),
        field_of(BYTES_LIT("grpc-timeout"), bytes_of(timeout, timeout_len)),
        field_of(BYTES_LIT("token"), bytes_str(c->token != NULL ? c->token : "")), /* the last */
    };
    size_t count = c->token != NULL ? ARRAY_LEN(v) : ARRAY_LEN(v) - 1;
    struct chain body = {0};
    struct slice request = slice_ref(call->request);
    enum err e = chain_push(&body, &request);

    if (e == ERR_OK)
        e = h2_request(c->current->h2, (struct h2_fields){v, count}, false, &stream_ops, call,
                       &call->stream);
    if (e != ERR_OK) {
        chain_fini(&body);
        return e;
    }
    list_remove(&call->node);
    list_push(&c->sent, &call->node);
    /* On failure the stream is reset, and its on_close answers the call. */
    (void)!h2_stream_send(call->stream, &body, true);
    return ERR_OK;
}

/* Calls no fn: safe inside client_call. A call that can't be sent now waits on. */
static void client_dispatch(struct client *c)
{
    while (c->state == CLIENT_READY && !list_is_empty(&c->waiting) &&
           h2_conn_can_request(c->current->h2)) {
        if (call_send(LIST_FIRST(&c->waiting, struct client_call, node)) != ERR_OK)
            return;
    }
}

static void token_free(struct client *c)
{
    if (c->token != NULL)
        secret_wipe(c->token, strlen(c->token));
    free(c->token);
    c->token = NULL;
}

static void client_free(struct client *c)
{
    token_free(c);
    loop_timer_fini(&c->redial);
    loop_task_cancel(&c->task);
    slab_pool_fini(&c->pool);
    net_tls_drop(c->tls);
    free(c->authority);
    free(c);
}

static void rest_if_idle(struct client *c)
{
    struct client_conn *conn = c->current;

    if (!c->is_resting || conn == NULL || !list_is_empty(&c->waiting) || !list_is_empty(&c->sent))
        return;
    conn_retire(conn);
    conn_close(conn);
}

/* Runs after every stream that ended, when a resting client lost a call, and when it closes. */
static void on_task(struct loop_task *t)
{
    struct client *c = CONTAINER_OF(t, struct client, task);

    if (c->state == CLIENT_CLOSED) {
        if (list_is_empty(&c->conns))
            client_free(c);
        return;
    }
    LIST_FOREACH(it, &c->conns)
        conn_close_if_drained(LIST_ENTRY(it, struct client_conn, node));
    client_dispatch(c); /* a stream that ended makes room below the peer's limit */
    rest_if_idle(c);
}

/* Prefix and message in one wiped block. */
static enum err request_make(struct slab_pool *pool, struct bytes body, struct slice *out)
{
    struct slab *slab;

    if (body.n > LIMIT_MAX_REQUEST_BYTES)
        return ERR_NOMEM;
    slab = slab_new(pool, GRPC_PREFIX_LEN + body.n, SLAB_SECRET);
    if (slab == NULL)
        return ERR_NOMEM;
    slab->fill = (uint32_t)(GRPC_PREFIX_LEN + body.n);
    grpc_prefix_put(slab->data, (uint32_t)body.n);
    if (body.n > 0)
        memcpy(slab->data + GRPC_PREFIX_LEN, body.p, body.n);
    *out = (struct slice){slab, 0, slab->fill};
    return ERR_OK;
}

enum err client_call(struct client *c, const char *path, struct bytes body, uint64_t deadline_ms,
                     client_answer_fn fn, void *arg, struct client_call **out)
{
    struct client_call *call = calloc(1, sizeof *call);

    CHECK(c->state != CLIENT_CLOSED);
    if (call == NULL)
        return ERR_NOMEM;
    call->client = c;
    call->fn = fn;
    call->arg = arg;
    call->answer_max = c->answer_max;
    call->deadline_ms = loop_now_ms(c->loop) + deadline_ms;
    loop_timer_init(&call->timer, on_deadline);
    call->path = strdup(path);
    if (call->path == NULL || request_make(&c->pool, body, &call->request) != ERR_OK ||
        loop_timer_start(c->loop, &call->timer, deadline_ms) != ERR_OK) {
        call_free(call);
        return ERR_NOMEM;
    }
    list_push(&c->waiting, &call->node);
    *out = call;
    if (c->state == CLIENT_IDLE)
        client_connect(c);
    client_dispatch(c);
    return ERR_OK;
}

void client_limit_answer(struct client_call *call, uint32_t max)
{
    call->answer_max = max;
}

uint64_t client_connection(const struct client *c)
{
    return c->state == CLIENT_READY ? c->dial_count : 0;
}

void client_cancel(struct client_call *call)
{
    call_detach(call);
    call_free(call);
}

enum err client_new(struct loop *loop, const struct net_url *url, struct net_tls *tls,
                    const char *authority, struct client **out)
{
    struct client *c = calloc(1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    loop_timer_init(&c->redial, on_redial);
    c->authority = strdup(authority);
    if (c->authority == NULL || loop_timer_start(loop, &c->redial, REDIAL_MAX_MS) != ERR_OK) {
        free(c->authority);
        free(c);
        return ERR_NOMEM;
    }
    loop_timer_stop(&c->redial);
    c->loop = loop;
    c->url = *url;
    c->tls = tls != NULL ? net_tls_ref(tls) : NULL;
    c->backoff_ms = LIMIT_REDIAL_MS;
    c->answer_max = CLIENT_ANSWER_MAX;
    slab_pool_init(&c->pool, 4);
    list_init(&c->conns);
    list_init(&c->waiting);
    list_init(&c->sent);
    loop_task_init(&c->task, on_task);
    *out = c;
    return ERR_OK;
}

enum err client_set_token(struct client *c, const char *token)
{
    token_free(c);
    if (token[0] == '\0')
        return ERR_OK;
    c->token = strdup(token);
    return c->token != NULL ? ERR_OK : ERR_NOMEM;
}

void client_distrust(struct client *c, uint32_t answer_max)
{
    c->is_distrusted = true;
    c->answer_max = answer_max;
}

void client_rest(struct client *c)
{
    c->is_resting = true;
    loop_task_want(c->loop, &c->task);
}

void client_close(struct client *c)
{
    CHECK(c->state != CLIENT_CLOSED);
    while (!list_is_empty(&c->waiting))
        client_cancel(LIST_FIRST(&c->waiting, struct client_call, node));
    while (!list_is_empty(&c->sent))
        client_cancel(LIST_FIRST(&c->sent, struct client_call, node));
    loop_timer_stop(&c->redial);
    client_set_state(c, CLIENT_CLOSED);
    c->current = NULL;
    LIST_FOREACH(it, &c->conns) {
        struct client_conn *conn = LIST_ENTRY(it, struct client_conn, node);

        loop_timer_stop(&conn->greeting);
        conn_close(conn);
    }
    client_free_if_over(c);
}
