/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of the streams: what it does depends on the options, on the number of the stream and on
 * what it heard, so both ends' owners do the same as long as they hear the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h2_diff.h"

/* ------------------------------------------------------------------------ bytes */

void grow_add(struct grow *g, const void *p, size_t n)
{
    if (n == 0)
        return;
    if (g->n + n > g->cap) {
        g->cap = (g->n + n) * 2;
        g->p = realloc(g->p, g->cap);
        CHECK(g->p != NULL);
    }
    memcpy(g->p + g->n, p, n);
    g->n += n;
}

static void grow_text(struct grow *g, const char *text)
{
    grow_add(g, text, strlen(text));
}

/* Behind what was said before, with the bytes of data that came before it. */
static void grow_event(struct grow *g, const char *what, size_t number)
{
    char text[64];

    (void)snprintf(text, sizeof text, "%s %zu\n", what, number);
    grow_text(g, text);
}

void grow_fields(struct grow *g, struct h2_fields f)
{
    for (size_t i = 0; i < f.count; i++) {
        grow_event(g, "field of", f.v[i].name.n + f.v[i].value.n);
        grow_add(g, f.v[i].name.p, f.v[i].name.n);
        grow_text(g, ": ");
        grow_add(g, f.v[i].value.p, f.v[i].value.n);
        grow_text(g, "\n");
    }
}

void grow_free(struct grow *g)
{
    free(g->p);
    *g = (struct grow){0};
}

/* ------------------------------------------------------------------------ what it does */

#define FIELD(n, v)                                                                                \
    {                                                                                              \
        BYTES_LIT(n), BYTES_LIT(v)                                                                 \
    }

enum policy {
    ANSWER_AT_END, /* all of it when the request is whole */
    HEAD_AT_ONCE,  /* and the rest when the request is whole */
    DATA_LAST,     /* the last DATA ends the stream, no trailers */
    TRAILERS_ONLY,
    ANSWER_EARLY, /* all of it before the request is whole */
    RESET_AT_ONCE,
    RESET_ON_DATA,
    SILENT,
};

static enum policy policy_of(const struct diff_call *call)
{
    /* Mostly answers. */
    static const enum policy many[] = {ANSWER_AT_END, HEAD_AT_ONCE,  ANSWER_AT_END, DATA_LAST,
                                       ANSWER_EARLY,  TRAILERS_ONLY, ANSWER_AT_END, SILENT,
                                       HEAD_AT_ONCE,  RESET_AT_ONCE, ANSWER_AT_END, RESET_ON_DATA};

    return many[(call->side->o.policy + call->n) % ARRAY_LEN(many)];
}

static size_t body_of(const struct diff_call *call)
{
    static const size_t sizes[] = {5, 300, 0, 20000, 17, 70000, 16384};

    return sizes[(call->side->o.policy / 16 + call->n) % ARRAY_LEN(sizes)];
}

uint8_t side_pattern(unsigned n, size_t i)
{
    return (uint8_t)(n * 37 + i + i / 256);
}

struct h2_fields side_request(void)
{
    static struct h2_field v[5];

    v[0] = (struct h2_field)FIELD(":method", "POST");
    v[1] = (struct h2_field)FIELD(":scheme", "http");
    v[2] = (struct h2_field)FIELD(":path", "/a.B/C");
    v[3] = (struct h2_field)FIELD(":authority", "localhost");
    v[4] = (struct h2_field)FIELD("authorization", "secret");
    return (struct h2_fields){v, ARRAY_LEN(v)};
}

bool side_request_ends(unsigned n)
{
    return n % 3 != 1;
}

static struct h2_fields head_fields(void)
{
    static struct h2_field v[3];

    v[0] = (struct h2_field)FIELD(":status", "200");
    v[1] = (struct h2_field)FIELD("content-type", "application/grpc");
    v[2] = (struct h2_field)FIELD("token", "secret");
    return (struct h2_fields){v, ARRAY_LEN(v)};
}

static struct h2_fields tail_fields(void)
{
    static struct h2_field v[2];

    v[0] = (struct h2_field)FIELD("grpc-status", "0");
    v[1] = (struct h2_field)FIELD("grpc-message", "fine");
    return (struct h2_fields){v, ARRAY_LEN(v)};
}

static void respond(struct diff_call *call, bool end)
{
    call->is_responded = true;
    call->side->ops->respond(call, head_fields(), end);
}

static void answer(struct diff_call *call)
{
    const struct diff_side_ops *ops = call->side->ops;
    bool is_data_last = policy_of(call) == DATA_LAST;

    if (!call->is_responded)
        respond(call, false);
    ops->send(call, body_of(call), is_data_last);
    if (!is_data_last)
        ops->trailers(call, tail_fields());
}

/* The request's head is in (server), or the answer's (client). */
static void act_on_headers(struct diff_call *call)
{
    enum policy p = policy_of(call);

    if (call->side->o.is_client) {
        if (!side_request_ends(call->n) && p == ANSWER_AT_END)
            call->side->ops->send(call, body_of(call), true);
    } else if (p == HEAD_AT_ONCE) {
        respond(call, false);
    } else if (p == ANSWER_EARLY) {
        answer(call);
    }
    if (p == RESET_AT_ONCE) {
        call->is_reset = true;
        call->side->ops->reset(call, H2_CANCEL);
    }
}

static void act_on_end(struct diff_call *call)
{
    enum policy p = policy_of(call);

    call->is_over = true;
    if (call->side->o.is_client || call->is_reset)
        return;
    if (p == ANSWER_AT_END || p == HEAD_AT_ONCE || p == DATA_LAST)
        answer(call);
    else if (p == TRAILERS_ONLY)
        respond(call, true);
}

/* ------------------------------------------------------------------------ what it hears */

struct diff_call *side_call(struct diff_side *s, void *stream, uint32_t id)
{
    struct diff_call *call = &s->calls[s->count];

    CHECK(s->count < DIFF_CALLS);
    *call = (struct diff_call){.side = s, .n = s->count, .stream = stream, .id = id};
    s->count++;
    return call;
}

static void heard(struct diff_call *call, const char *what, size_t number)
{
    CHECK(!call->is_closed && !call->is_over && !call->is_reset);
    grow_event(&call->text, what, number);
}

void side_heard_headers(struct diff_call *call, struct h2_fields f, bool end)
{
    heard(call, "headers", end);
    grow_fields(&call->text, f);
    call->is_over = end;
    act_on_headers(call);
    if (end)
        act_on_end(call);
}

void side_heard_data(struct diff_call *call, struct bytes b)
{
    CHECK(!call->is_closed && !call->is_over && !call->is_reset);
    grow_add(&call->data, b.p, b.n);
    if (!call->side->o.no_credit)
        call->side->ops->credit(call, b.n);
    if (policy_of(call) == RESET_ON_DATA) {
        call->is_reset = true;
        call->side->ops->reset(call, H2_ENHANCE_YOUR_CALM);
    }
}

void side_heard_trailers(struct diff_call *call, struct h2_fields f)
{
    heard(call, "trailers behind", call->data.n);
    grow_fields(&call->text, f);
    act_on_end(call);
}

void side_heard_end(struct diff_call *call)
{
    heard(call, "end behind", call->data.n);
    act_on_end(call);
}

void side_heard_close(struct diff_call *call, enum h2_code code, enum h2_end how)
{
    CHECK(!call->is_closed);
    CHECK(how != H2_END_COMPLETE || (code == H2_NO_ERROR && call->is_over));
    call->is_closed = true;
    call->code = code;
    call->how = how;
    call->stream = NULL;
}

void side_heard_goaway(struct diff_side *s, enum h2_code code)
{
    grow_event(&s->text, "GOAWAY", (size_t)code);
}

void side_fini(struct diff_side *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        grow_free(&s->calls[i].text);
        grow_free(&s->calls[i].data);
    }
    grow_free(&s->text);
    judge_fini(&s->judge);
}
