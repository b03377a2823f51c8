/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests become calls, and the answers to those that don't.
 *
 * The happy path of a request that is HTTP's: CALL_PROBING, probe.c asks etcd, on_reply writes the
 * answer on the stream. A body is dropped as it comes. Failure modes: no request of HTTP/1.1 400;
 * too many at a time, or no memory: REFUSED_STREAM, which clients repeat; the stream is reset
 * meanwhile: call__probe_cancel, and on_reply does not come. */
#include <stdio.h>

#include "base/metrics.h"
#include "proxy/call_int.h"
#include "proxy/probe.h"

/* --- HTTP ------------------------------------------------------------------------------------ */

static size_t add(struct h2_field *f, size_t n, const char *name, const char *value)
{
    if (value == NULL || value[0] == '\0')
        return n;
    f[n] = (struct h2_field){bytes_str(name), bytes_str(value)};
    return n + 1;
}

static enum err send_reply(struct call *c, const struct http1_reply *r)
{
    bool is_empty = r->is_head || r->body.n == 0;
    char status[12], length[24] = "";
    struct h2_field f[5];
    struct chain body = {0};
    size_t n = 0;

    (void)snprintf(status, sizeof status, "%d", r->status);
    if (!r->is_head)
        (void)snprintf(length, sizeof length, "%zu", r->body.n);
    n = add(f, n, ":status", status);
    n = add(f, n, "allow", r->allow);
    n = add(f, n, "location", r->location);
    n = add(f, n, "content-type", r->content_type);
    n = add(f, n, "content-length", length);
    TRY(h2_respond(c->down, (struct h2_fields){f, n}, is_empty));
    if (is_empty)
        return ERR_OK;
    if (chain_push_copy(&body, &c->worker->pool, r->body.p, r->body.n, 0) != ERR_OK) {
        chain_fini(&body);
        return ERR_NOMEM;
    }
    return h2_stream_send(c->down, &body, true);
}

static void on_reply(void *user, const struct http1_reply *r)
{
    struct call *c = user;

    c->probe = NULL;
    if (send_reply(c, r) == ERR_OK)
        call__end(c, &(struct call_end){.how = CALL_END_ANSWERED});
    else
        call__end(c, &(struct call_end){.how = CALL_END_RESET, .code = H2_INTERNAL_ERROR});
}

/* Clients repeat it. */
static void refuse_probe(struct call *c)
{
    call__end(c, &(struct call_end){.how = CALL_END_RESET, .code = H2_REFUSED_STREAM});
}

static void probe_begin(struct call *c, const struct request_head *head)
{
    struct http1_request request;

    call__set_state(c, CALL_PROBING);
    lane_kill(&c->request);
    lane_kill(&c->answer);
    c->is_probe = link_probe_added(c->link);
    if (!c->is_probe)
        metric_refused(ERR_PROBE_LIMIT);
    if (!c->is_probe)
        refuse_probe(c);
    else if (!http1_request_of(head->http_method, head->path, &request))
        on_reply(c, &probe_bad_request);
    else if (probe_ask(c->worker, &request, on_reply, c, &c->probe) != ERR_OK)
        refuse_probe(c);
}

void call__probe_cancel(struct call *c)
{
    if (c->probe != NULL)
        probe_cancel(c->probe);
    c->probe = NULL;
}

/* --- gRPC ------------------------------------------------------------------------------------ */

/* It was meant for gRPC, and is none: as grpc-go answers it. */
static void refuse_no_grpc(struct call *c, const struct request_head *head)
{
    call__end(c, &(struct call_end){.how = CALL_END_STATUS,
                                    .status = head->status,
                                    .text = head->text,
                                    .http_status = head->http_status});
}

static void refuse(struct call *c, enum err e, const struct request_head *head)
{
    struct failure f;

    call_failure_init(c, e, &f);
    if (e == ERR_UNKNOWN_METHOD)
        f.path = head->path;
    else
        f.key = head->encoding;
    call_fail(c, &f);
}

static void set_deadline(struct call *c, uint64_t ns)
{
    c->deadline_ns = loop_turn_ns(&c->worker->loop) + (ns < UINT64_MAX / 2 ? ns : UINT64_MAX / 2);
}

bool call__admit(struct call *c, struct h2_fields h, struct request_head *head)
{
    enum request_verdict verdict = request_judge(h, head);

    c->method = head->method;
    if (verdict != REQUEST_HTTP)
        metric_add(METRIC_calls_total, 1);
    switch (verdict) {
    case REQUEST_HTTP:
        probe_begin(c, head);
        return false;
    case REQUEST_NO_GRPC:
        refuse_no_grpc(c, head);
        return false;
    case REQUEST_UNKNOWN_METHOD:
        refuse(c, ERR_UNKNOWN_METHOD, head);
        return false;
    case REQUEST_COMPRESSED:
        refuse(c, ERR_MESSAGE_COMPRESSED, head);
        return false;
    case REQUEST_GOOD:
        break;
    }
    if (head->has_timeout)
        set_deadline(c, head->timeout_ns);
    if (!worker_admits(c->worker, c->link)) {
        call_fail_err(c, ERR_MEMORY_LIMIT);
        return false;
    }
    return true;
}
