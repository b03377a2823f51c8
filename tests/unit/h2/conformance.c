/* SPDX-License-Identifier: Apache-2.0 */
#include "conformance.h"

#define WAIT_MS 5000
#define BODY 16u   /* of our server's answers, and of what our client sends on stream 3 */
#define STREAMS 16 /* that a case looks at: ids below twice as many */

/* What our end sent on a stream. */
struct seen_stream {
    bool is_answered, is_ended, is_reset;
    uint32_t code;
    size_t data;
};

struct run {
    const struct conf_case *c;
    struct kit k;
    struct end end;
    struct raw raw;
    uint8_t *out; /* what the peer has not written yet */
    size_t out_len, out_cap;
    bool is_goaway, is_begun, is_done, is_asked;
    uint32_t goaway_code;
    unsigned pongs;
    struct seen_stream streams[STREAMS];
    const char *problem; /* a step that did not come to pass, or frames that are never right */
};

/* ------------------------------------------------------------------------ our end */

static bool has_field(const char *headers, const char *line)
{
    const char *at = strstr(headers, line);

    return at != NULL && (at == headers || at[-1] == '\n');
}

/* The owner's part of RFC 9113 section 8.3.1: h2.h leaves it to its user which pseudo-header fields
 * a request must have. etcd does without :scheme. */
static bool is_whole(const struct rec *r)
{
    return has_field(r->headers, ":method: ") && has_field(r->headers, ":path: ") &&
           !has_field(r->headers, ":path: \n");
}

static void answer(struct rec *r)
{
    const struct run *run = r->end->arg;

    if ((run->c->options & CONF_SILENT) == 0)
        rec_answer(r, BODY);
}

static void on_request(struct rec *r)
{
    if (!is_whole(r))
        h2_stream_reset(r->s, H2_PROTOCOL_ERROR);
    else if (r->headers_end)
        answer(r);
}

/* Our client's requests, once it may make them. */
static void ask(struct run *run)
{
    struct end *e = &run->end;
    struct rec *r;

    if ((run->c->options & CONF_CLIENT) == 0 || run->is_asked || e->c == NULL ||
        !h2_conn_can_request(e->c))
        return;
    run->is_asked = true;
    for (int i = 0; i < 2; i++) {
        r = end_request(e, kit_request, i == 0);
        r->is_hungry = (run->c->options & CONF_SILENT) == 0;
    }
    rec_send(r, 0, BODY, BODY, false);
}

static void end_start(struct run *run)
{
    struct h2_opts opts = kit_server_opts;
    int fd[2];

    opts.max_streams = 4;
    opts.stream_window = 65535;
    if ((run->c->options & CONF_CLIENT) != 0) {
        opts = kit_client_opts;
        opts.stream_window = 65535;
        opts.max_frame_size = 16384;
    }
    kit_socketpair(fd);
    raw_init(&run->raw, &run->k, fd[1]);
    end_init(&run->end, &run->k, fd[0], &opts);
    run->end.arg = run;
    run->end.on_request = on_request;
    if (opts.is_server)
        run->end.on_end = answer;
}

/* ------------------------------------------------------------------------ what it sends */

static struct seen_stream *stream_of(struct run *run, uint32_t id)
{
    if (id / 2 >= STREAMS) {
        run->problem = "a frame on a stream that nobody opened";
        id = 0;
    }
    return &run->streams[id / 2];
}

static void see(struct run *run, const struct raw_frame *f)
{
    struct seen_stream *s = stream_of(run, f->id);

    /* RFC 9113 section 3.4: SETTINGS come first. */
    if (!run->is_begun && f->type != F_SETTINGS)
        run->problem = "it did not begin with SETTINGS";
    run->is_begun = true;
    if (s->is_reset && (f->type == F_HEADERS || f->type == F_DATA))
        run->problem = "a frame behind its own RST_STREAM";
    if (s->is_ended && (f->type == F_HEADERS || f->type == F_DATA))
        run->problem = "a frame behind its own END_STREAM";
    if (f->type == F_PING && (f->flags & FLAG_ACK) != 0)
        run->pongs++;
    if (f->type == F_HEADERS)
        s->is_answered = true;
    if (f->type == F_DATA)
        s->data += f->len;
    if ((f->type == F_HEADERS || f->type == F_DATA) && (f->flags & FLAG_END_STREAM) != 0)
        s->is_ended = true;
    if (f->type == F_RST && f->len == 4) {
        s->is_reset = true;
        s->code = (uint32_t)f->p[2] << 8 | f->p[3];
    }
    if (f->type == F_GOAWAY && f->len >= 8) {
        run->is_goaway = true;
        run->goaway_code = (uint32_t)f->p[6] << 8 | f->p[7];
    }
}

/* One turn, until a frame was seen; false when none came. */
static bool next(struct run *run, struct raw_frame *f)
{
    uint64_t end = loop_hrtime_ns() + WAIT_MS * 1000000ull;
    struct raw *r = &run->raw;

    /* The preface of our client is no frame. */
    if (!run->is_begun && (run->c->options & CONF_CLIENT) != 0 && r->at == 0) {
        while (r->in_len < 24 && !r->is_eof && loop_hrtime_ns() < end) {
            kit_turn(r->k);
            raw_read(r);
        }
        if (r->in_len < 24 || memcmp(r->in, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24) != 0) {
            run->problem = "no client preface";
            return false;
        }
        r->at = 24;
    }
    while (!raw_next(r, f)) {
        if (r->is_eof || loop_hrtime_ns() > end)
            return false;
        kit_turn(r->k);
        ask(run);
        raw_read(r);
    }
    see(run, f);
    return true;
}

/* ------------------------------------------------------------------------ the peer */

static uint8_t *out_room(struct run *run, size_t n)
{
    if (run->out_len + n > run->out_cap) {
        run->out_cap = (run->out_len + n) * 2;
        run->out = realloc(run->out, run->out_cap);
        assert_non_null(run->out);
    }
    return run->out + run->out_len;
}

/* It does not matter whether our end is still there: what it did is looked at afterwards. */
static void out_write(struct run *run)
{
    (void)raw_write(&run->raw, run->out, run->out_len);
    run->out_len = 0;
}

static void out_frame(struct run *run, const struct conf_step *s, const void *p, size_t n)
{
    run->out_len += raw_put_frame(out_room(run, n + 9), s->type, s->flags, s->id, p, n);
}

/* "name: value\n..." as literals that are not indexed. */
static void out_fields(struct run *run, const struct conf_step *s)
{
    uint8_t block[1024];
    size_t n = 0;

    for (const char *at = s->text; *at != '\0';) {
        const char *colon = strstr(at + 1, ": "), *end = strchr(at, '\n');
        char name[128], value[128];

        assert_true(colon != NULL && end != NULL && colon < end);
        (void)snprintf(name, sizeof name, "%.*s", (int)(colon - at), at);
        (void)snprintf(value, sizeof value, "%.*s", (int)(end - colon - 2), colon + 2);
        assert_true(n + 3 + sizeof name + sizeof value <= sizeof block);
        n += raw_put_field(block + n, name, value);
        at = end + 1;
    }
    out_frame(run, s, block, n);
}

static bool is_awaited(struct run *run, const struct conf_step *s, const struct raw_frame *f)
{
    if (s->what == CONF_AWAIT_END)
        return stream_of(run, s->id)->is_ended;
    if (s->what == CONF_AWAIT_ACK)
        return f->type == F_SETTINGS && (f->flags & FLAG_ACK) != 0;
    return f->type == s->type && (s->id == 0 || f->id == s->id);
}

static void await(struct run *run, const struct conf_step *s)
{
    struct raw_frame f = {.type = UINT8_MAX};
    bool is_it = is_awaited(run, s, &f);

    out_write(run);
    while (!is_it && next(run, &f))
        is_it = is_awaited(run, s, &f);
    if (!is_it)
        run->problem = "a frame that a step waits for did not come";
    else if (s->what == CONF_EXPECT && f.len != s->n)
        run->problem = "DATA that does not fit the window";
}

static void step(struct run *run, const struct conf_step *s)
{
    void *zeros;

    switch (s->what) {
    case CONF_RAW:
        memcpy(out_room(run, s->n), s->text, s->n);
        run->out_len += s->n;
        break;
    case CONF_FRAME:
        out_frame(run, s, s->text, s->n);
        break;
    case CONF_FIELDS:
        out_fields(run, s);
        break;
    case CONF_ZEROS:
        zeros = calloc(1, s->n);
        assert_non_null(zeros);
        out_frame(run, s, zeros, s->n);
        free(zeros);
        break;
    default:
        await(run, s);
        break;
    }
}

static void hello(struct run *run)
{
    static const struct conf_step settings = SETTINGS("");
    static const struct conf_step ack = FRAME(F_SETTINGS, FLAG_ACK, 0, "");

    if ((run->c->options & CONF_BARE) != 0)
        return;
    if ((run->c->options & CONF_CLIENT) == 0) {
        memcpy(out_room(run, 24), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
        run->out_len += 24;
    }
    step(run, &settings);
    await(run, &(struct conf_step)AWAIT_ACK); /* theirs is here by then */
    step(run, &ack);
    if ((run->c->options & CONF_CLIENT) != 0)
        await(run, &(struct conf_step)AWAIT(F_DATA, 3)); /* it has asked */
}

/* Two PINGs, one behind the answer to the other: what the steps caused has been sent by then. */
static void probe(struct run *run)
{
    static const struct conf_step ping = FRAME(F_PING, 0, 0, "conform!");
    struct raw_frame f;

    for (unsigned i = 0; i < 2 && !run->raw.is_eof; i++) {
        unsigned before = run->pongs;

        step(run, &ping);
        out_write(run);
        while (run->pongs == before && next(run, &f))
            ;
    }
    while (run->is_goaway && next(run, &f))
        ;
}

/* ------------------------------------------------------------------------ the verdict */

/* What our client's owner heard of the stream: a whole answer, and nothing but? */
static bool client_is_answered(struct run *run, uint32_t id)
{
    uint32_t at = 1;

    LIST_FOREACH(it, &run->end.recs) {
        const struct rec *r = LIST_ENTRY(it, struct rec, node);

        if (at == id)
            return r->headers_count == 1 && r->headers_end + r->end_count + r->trailers_count == 1;
        at += 2;
    }
    return false;
}

/* No error may look like an answer to the owner of a request. */
static bool is_mistaken(struct run *run)
{
    return (run->c->options & (CONF_CLIENT | CONF_LATE)) == CONF_CLIENT &&
           (client_is_answered(run, 1) || client_is_answered(run, 3));
}

static bool is_answered(struct run *run, uint32_t id)
{
    const struct seen_stream *s = stream_of(run, id);

    if ((run->c->options & CONF_CLIENT) != 0)
        return client_is_answered(run, id);
    return s->is_answered && s->is_ended && s->data == BODY && !s->is_reset;
}

static bool has_code(const struct conf_outcome *o, uint32_t code)
{
    return code < CONF_CODES && (o->codes & 1u << code) != 0;
}

static bool is_as(struct run *run, const struct conf_outcome *o)
{
    bool is_alive = !run->raw.is_eof && !run->is_goaway && run->pongs > 0;
    const struct seen_stream *s = stream_of(run, o->id);

    if (run->problem != NULL)
        return false;
    if ((o->see & CONF_GOAWAY) != 0 && run->is_goaway && run->raw.is_eof &&
        has_code(o, run->goaway_code))
        return !is_mistaken(run);
    if ((o->see & CONF_RST) != 0 && is_alive && s->is_reset && has_code(o, s->code))
        return !is_mistaken(run);
    if ((o->see & CONF_CLOSE) != 0 && run->raw.is_eof && !run->is_goaway)
        return true;
    if ((o->see & CONF_ANSWER) != 0 && is_alive && is_answered(run, o->id))
        return true;
    return (o->see & CONF_ALIVE) != 0 && is_alive && !s->is_reset;
}

static void tell(struct run *run, char *text, size_t cap)
{
    size_t n = (size_t)snprintf(text, cap, "%s%s%s", run->problem != NULL ? run->problem : "",
                                run->problem != NULL ? ", " : "",
                                run->raw.is_eof  ? "closed"
                                : run->pongs > 0 ? "alive"
                                                 : "stuck");

    if (run->is_goaway && n < cap)
        n += (size_t)snprintf(text + n, cap - n, ", GOAWAY %u", run->goaway_code);
    for (uint32_t i = 0; i < STREAMS && n < cap; i++) {
        const struct seen_stream *s = &run->streams[i];

        if (s->is_reset)
            n += (size_t)snprintf(text + n, cap - n, ", RST_STREAM %u on %u", s->code, i * 2 + 1);
        else if (s->is_answered && n < cap)
            n += (size_t)snprintf(text + n, cap - n, ", %s on %u",
                                  s->is_ended ? "whole message" : "headers", i * 2 + 1);
    }
}

bool conf_run(const struct conf_case *c, char *text, size_t cap)
{
    struct run run = {.c = c};
    bool ok;

    kit_init(&run.k);
    end_start(&run);
    hello(&run);
    for (const struct conf_step *s = c->steps; s->what != CONF_OVER; s++)
        step(&run, s);
    out_write(&run);
    probe(&run);
    tell(&run, text, cap);
    ok = is_as(&run, c->why != NULL ? &c->instead : &c->allowed);
    if (c->why != NULL && is_as(&run, &c->allowed)) {
        (void)snprintf(text, cap, "does as the RFC says: take the reason out of the table");
        ok = false;
    }
    end_close(&run.end);
    raw_fini(&run.raw);
    kit_fini(&run.k);
    free(run.out);
    return ok;
}
