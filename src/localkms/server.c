/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a call:
 *   1. on_request judges method, path and content type and makes a struct rpc;
 *   2. on_data collects the message, at most SERVICE_REQUEST_MAX bytes;
 *   3. at the end of the request service_call answers, and response, message and trailers go out.
 * Failure modes: a request that is wrong is answered with a gRPC status in trailers alone, and what
 * still comes on its stream is dropped. Out of memory: the stream is reset. */
#include "localkms/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "grpc/grpc.h"
#include "h2/h2.h"
#include "localkms/service.h"

#define CONNECTIONS_MAX 64u
#define STREAMS_MAX 256u
#define FREE_SLABS 4u
#define GOODBYE_MS 200u

struct kms_server {
    struct loop *loop;
    struct net_listener *listener;
    const struct kek_set *keys;
    struct slab_pool pool;
    struct list connections;
    size_t connection_count;
    bool is_closing;
};

struct connection {
    struct list node;
    struct kms_server *server;
    struct h2_conn *h2;
};

struct rpc {
    struct h2_stream *stream;
    struct kms_server *server;
    enum service_method method;
    struct chain body;
    bool is_answered;
};

/* --- answers ---------------------------------------------------------------------------------- */

#define FIELD(n, v) ((struct h2_field){BYTES_LIT(n), BYTES_LIT(v)})

/* Without a response so far: a status alone ("trailers-only"). http_status is other than 200 for
 * what is no gRPC request, as grpc-go answers it. */
static void answer_status(struct h2_stream *s, const char *http_status, enum grpc_status status,
                          const char *message)
{
    char number[4], text[256];
    size_t n = grpc_message_encode(bytes_str(message), text, sizeof text);
    struct h2_field v[] = {
        {BYTES_LIT(":status"), bytes_str(http_status)}, FIELD("content-type", "application/grpc"),
        FIELD("grpc-accept-encoding", "identity"),      {BYTES_LIT("grpc-status"), {0}},
        {BYTES_LIT("grpc-message"), bytes_of(text, n)},
    };

    snprintf(number, sizeof number, "%u", (unsigned)status % 100);
    v[3].value = bytes_str(number);
    if (h2_respond(s, (struct h2_fields){v, ARRAY_LEN(v)}, true) != ERR_OK)
        h2_stream_reset(s, H2_INTERNAL_ERROR);
}

static enum err push_message(struct kms_server *server, struct bytes body, struct chain *out)
{
    struct slab *slab = slab_new(&server->pool, GRPC_PREFIX_LEN + body.n, SLAB_SECRET);
    struct slice s;

    if (slab == NULL)
        return ERR_NOMEM;
    grpc_prefix_put(slab->data, (uint32_t)body.n);
    if (body.n > 0)
        memcpy(slab->data + GRPC_PREFIX_LEN, body.p, body.n);
    slab->fill = (uint32_t)(GRPC_PREFIX_LEN + body.n);
    s = (struct slice){slab, 0, slab->fill};
    return chain_push(out, &s);
}

static enum err send_message(struct rpc *r, struct bytes body)
{
    struct h2_field head[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc")};
    struct h2_field trailers[] = {FIELD("grpc-status", "0")};
    struct chain out = {0};
    enum err e = push_message(r->server, body, &out);

    if (e == ERR_OK)
        e = h2_respond(r->stream, (struct h2_fields){head, ARRAY_LEN(head)}, false);
    if (e == ERR_OK)
        e = h2_stream_send(r->stream, &out, false);
    if (e == ERR_OK)
        e = h2_stream_trailers(r->stream, (struct h2_fields){trailers, 1});
    chain_fini(&out);
    return e;
}

static void fail(struct rpc *r, enum grpc_status status, const char *message)
{
    r->is_answered = true;
    chain_fini(&r->body);
    LOG(DEBUG, "call refused", "status=%s why=\"%s\"", grpc_status_name(status), message);
    answer_status(r->stream, "200", status, message);
}

static void serve(struct rpc *r, struct bytes request)
{
    static const char *const names[] = {"-", "Status", "Encrypt", "Decrypt"};
    struct service_answer a;

    service_call(r->server->keys, r->method, request, &a);
    LOG(DEBUG, "call", "method=%s uid=\"%s\" status=%s", names[r->method], a.uid,
        grpc_status_name(a.status));
    if (a.status != GRPC_OK) {
        LOG_RATED(WARN, "call failed", "method=%s uid=\"%s\" status=%s why=\"%s\"",
                  names[r->method], a.uid, grpc_status_name(a.status), a.message);
        fail(r, a.status, a.message);
    } else if (send_message(r, bytes_of(a.body, a.body_len)) != ERR_OK) {
        h2_stream_reset(r->stream, H2_INTERNAL_ERROR);
    }
    service_answer_fini(&a);
}

/* The request is over: it must be exactly one whole plain message. */
static void finish(struct rpc *r)
{
    struct grpc_prefix prefix;
    uint8_t *request;
    size_t n;

    if (r->is_answered)
        return;
    if (!grpc_prefix_peek(&r->body, &prefix) || r->body.len < GRPC_PREFIX_LEN + prefix.length) {
        fail(r, GRPC_INTERNAL, "the request is cut short");
        return;
    }
    if (r->body.len > GRPC_PREFIX_LEN + prefix.length) {
        fail(r, GRPC_INTERNAL, "more than one message in a unary request");
        return;
    }
    r->is_answered = true;
    n = prefix.length;
    request = malloc(n + 1);
    if (request == NULL) {
        h2_stream_reset(r->stream, H2_INTERNAL_ERROR);
        return;
    }
    chain_copy(&r->body, GRPC_PREFIX_LEN, n, request);
    chain_fini(&r->body);
    serve(r, bytes_of(request, n));
    secret_wipe(request, n);
    free(request);
}

/* --- streams ---------------------------------------------------------------------------------- */

static struct bytes field(struct h2_fields h, const char *name)
{
    for (size_t i = 0; i < h.count; i++) {
        if (bytes_eq(h.v[i].name, bytes_str(name)))
            return h.v[i].value;
    }
    return (struct bytes){0};
}

static void collect(struct rpc *r, struct slice *data)
{
    struct grpc_prefix prefix;

    if (chain_push(&r->body, data) != ERR_OK) {
        fail(r, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    if (!grpc_prefix_peek(&r->body, &prefix))
        return;
    if (prefix.flag == 1)
        fail(r, GRPC_UNIMPLEMENTED, "compressed messages are not supported");
    else if (prefix.flag != 0)
        fail(r, GRPC_INTERNAL, "malformed gRPC message prefix");
    else if (prefix.length > SERVICE_REQUEST_MAX ||
             r->body.len > SERVICE_REQUEST_MAX + GRPC_PREFIX_LEN)
        fail(r, GRPC_RESOURCE_EXHAUSTED, "the request is larger than 64 KiB");
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct rpc *r = h2_stream_user(s);

    h2_stream_credit(s, data->len); /* at once: SERVICE_REQUEST_MAX bounds what we hold */
    if (!r->is_answered)
        collect(r, data);
    else
        slice_drop(data);
}

static void on_trailers(struct h2_stream *s, struct h2_fields h)
{
    struct rpc *r = h2_stream_user(s);

    (void)h;
    finish(r);
}

static void on_end(struct h2_stream *s)
{
    on_trailers(s, (struct h2_fields){0});
}

static void on_drained(struct h2_stream *s, size_t n)
{
    (void)s;
    (void)n;
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct rpc *r = h2_stream_user(s);

    (void)code;
    (void)how;
    chain_fini(&r->body);
    free(r);
}

static const struct h2_stream_ops stream_ops = {
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_request(struct h2_conn *c, struct h2_stream *s, struct h2_fields h, bool end_stream)
{
    struct connection *conn = h2_conn_user(c);
    struct rpc *r = calloc(1, sizeof *r);

    if (r == NULL) {
        h2_stream_reset(s, H2_INTERNAL_ERROR);
        return;
    }
    h2_stream_set_owner(s, &stream_ops, r);
    r->stream = s;
    r->server = conn->server;
    r->method = service_method_of(field(h, ":path"));
    if (!bytes_eq(field(h, ":method"), BYTES_LIT("POST"))) {
        r->is_answered = true;
        answer_status(s, "405", GRPC_INTERNAL, "the method has to be POST");
    } else if (!grpc_content_type_ok(field(h, "content-type"))) {
        r->is_answered = true;
        answer_status(s, "415", GRPC_INVALID_ARGUMENT, "invalid gRPC request content-type");
    } else if (r->method == SERVICE_UNKNOWN) {
        fail(r, GRPC_UNIMPLEMENTED, "unknown method");
    } else if (end_stream) {
        finish(r);
    }
}

/* --- connections ------------------------------------------------------------------------------ */

static void on_ready(struct h2_conn *c)
{
    (void)c;
}

static void on_goaway(struct h2_conn *c, enum h2_code code)
{
    (void)c;
    (void)code;
}

static void on_lost(struct h2_conn *c, enum err why)
{
    (void)why;
    h2_conn_close(c, H2_NO_ERROR, 0);
}

static void free_if_over(struct kms_server *s)
{
    if (!s->is_closing || s->connection_count > 0)
        return;
    slab_pool_fini(&s->pool);
    free(s);
}

static void on_conn_closed(struct h2_conn *c)
{
    struct connection *conn = h2_conn_user(c);
    struct kms_server *s = conn->server;

    list_remove(&conn->node);
    s->connection_count--;
    free(conn);
    free_if_over(s);
}

static const struct h2_conn_ops conn_ops = {
    .on_request = on_request,
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

static const struct h2_opts opts = {
    .is_server = true,
    .max_streams = STREAMS_MAX,
    .stream_window = SERVICE_REQUEST_MAX,
    .conn_window = LIMIT_STREAM_WINDOW,
    .max_frame_size = 16384,
    .write_stall_ms = LIMIT_WRITE_STALL_MS,
};

static void on_accept(void *arg, int fd)
{
    struct kms_server *s = arg;
    struct connection *conn =
        s->connection_count < CONNECTIONS_MAX ? calloc(1, sizeof *conn) : NULL;
    struct net_conn *net;

    if (conn == NULL) {
        LOG_RATED(WARN, "connection refused", "connections=%zu", s->connection_count);
        close(fd);
        return;
    }
    conn->server = s;
    if (net_conn_accept(s->loop, &s->pool, SLAB_SECRET, fd, NULL, NULL, NULL, &net) != ERR_OK ||
        h2_conn_new(s->loop, &s->pool, net, &opts, &conn_ops, conn, &conn->h2) != ERR_OK) {
        free(conn);
        return;
    }
    list_push(&s->connections, &conn->node);
    s->connection_count++;
}

enum err kms_server_new(struct loop *loop, const struct net_url *url, const struct kek_set *keys,
                        struct kms_server **out, char *why, size_t why_len)
{
    struct kms_server *s = calloc(1, sizeof *s);
    enum err e = ERR_NOMEM;

    snprintf(why, why_len, "out of memory");
    if (s == NULL)
        return ERR_NOMEM;
    s->loop = loop;
    s->keys = keys;
    slab_pool_init(&s->pool, FREE_SLABS);
    list_init(&s->connections);
    e = net_listen(loop, url, on_accept, s, &s->listener, why, why_len);
    if (e != ERR_OK)
        goto err_server;
    *out = s;
    return ERR_OK;

err_server:
    slab_pool_fini(&s->pool);
    free(s);
    return e;
}

void kms_server_set_keys(struct kms_server *s, const struct kek_set *keys)
{
    s->keys = keys;
}

void kms_server_close(struct kms_server *s)
{
    s->is_closing = true;
    net_listener_close(s->listener);
    LIST_FOREACH(it, &s->connections)
        h2_conn_close(LIST_ENTRY(it, struct connection, node)->h2, H2_NO_ERROR, GOODBYE_MS);
    free_if_over(s);
}
