/* SPDX-License-Identifier: Apache-2.0 */
/* Target: all of h2/, against nghttp2's session. The same bytes of a peer go to both (byte-code in
 * h2_code.c); behind every frame, or every few, the owners must have heard the same, the peer must
 * have got the same, and an error must be of the same kind with the same code. What ours sends must
 * be legal on its own (h2_judge.c).
 *
 * Where the two differ on purpose, known_differences in h2_known.c says when and why. Behind such a
 * difference ours runs on alone. */
#include <stdio.h>
#include <string.h>

#include "h2_diff.h"

/* ------------------------------------------------------------------------ comparing */

static bool same(const struct grow *a, const struct grow *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

static bool is_prefix(const struct grow *a, const struct grow *b)
{
    size_t n = a->n < b->n ? a->n : b->n;

    return n == 0 || memcmp(a->p, b->p, n) == 0;
}

#define DIFFER(r, ...)                                                                             \
    do {                                                                                           \
        (void)snprintf((r)->what, sizeof(r)->what, __VA_ARGS__);                                   \
        return false;                                                                              \
    } while (0)

/* How a stream ended is not compared when its connection did. */
static bool same_calls(struct run *r)
{
    bool is_over = is_dead(&r->ours);

    if (r->ours.count != r->theirs.count)
        DIFFER(r, "streams heard of: %u, theirs %u", r->ours.count, r->theirs.count);
    if (!same(&r->ours.text, &r->theirs.text))
        DIFFER(r, "events of the connection");
    for (unsigned i = 0; i < r->ours.count; i++) {
        const struct diff_call *a = &r->ours.calls[i], *b = &r->theirs.calls[i];

        if (!same(&a->text, &b->text))
            DIFFER(r, "call %u heard:\n%.*s\ntheirs:\n%.*s", i, (int)a->text.n, (char *)a->text.p,
                   (int)b->text.n, (char *)b->text.p);
        if (!same(&a->data, &b->data))
            DIFFER(r, "call %u: %zu bytes, theirs %zu", i, a->data.n, b->data.n);
        if (!is_over && (a->is_closed != b->is_closed || a->code != b->code || a->how != b->how))
            DIFFER(r, "call %u: closed %d (%d, %d), theirs %d (%d, %d)", i, a->is_closed, a->code,
                   a->how, b->is_closed, b->code, b->how);
    }
    return true;
}

/* What a peer gets. Of a stream that either side reset, or whose connection ended, a part may be
 * left out. */
static bool same_streams(struct run *r)
{
    for (unsigned i = 0; i < r->theirs.judge.count; i++) {
        const struct judge_stream *b = &r->theirs.judge.streams[i];
        const struct judge_stream *a = judge_stream(&r->ours.judge, b->id);
        bool is_part = is_dead(&r->ours) || (a->is_reset && b->is_reset) || a->is_left;

        if (!is_prefix(&a->fields, &b->fields) || !is_prefix(&a->data, &b->data))
            DIFFER(r, "stream %u: other bytes are sent", b->id);
        if (is_part)
            continue;
        if ((a->is_reset != b->is_reset || a->code != b->code))
            DIFFER(r, "stream %u: reset %d %u, theirs %d %u", b->id, a->is_reset, a->code,
                   b->is_reset, b->code);
        if (a->fields.n != b->fields.n || a->data.n != b->data.n || a->is_ended != b->is_ended)
            DIFFER(r, "stream %u: %zu bytes sent, theirs %zu; ended %d, %d", b->id, a->data.n,
                   b->data.n, a->is_ended, b->is_ended);
    }
    return true;
}

static bool same_all(struct run *r)
{
    if (is_dead(&r->ours) != is_dead(&r->theirs) ||
        r->ours.judge.is_goaway != r->theirs.judge.is_goaway ||
        r->ours.judge.goaway_code != r->theirs.judge.goaway_code)
        DIFFER(r, "dead %d, GOAWAY %u; theirs dead %d, GOAWAY %u", is_dead(&r->ours),
               r->ours.judge.goaway_code, is_dead(&r->theirs), r->theirs.judge.goaway_code);
    return same_calls(r) && same_streams(r);
}

static void tell_side(const struct diff_side *s, const char *whose)
{
    for (unsigned i = 0; i < s->count; i++)
        (void)fprintf(stderr, "%s call %u: %zu bytes; closed %d, code %d, how %d\n%.*s", whose, i,
                      s->calls[i].data.n, s->calls[i].is_closed, s->calls[i].code, s->calls[i].how,
                      (int)s->calls[i].text.n, (char *)s->calls[i].text.p);
    for (unsigned i = 0; i < s->judge.count; i++)
        (void)fprintf(stderr, "%s stream %u: %zu bytes sent, ended %d, reset %d with %u\n%.*s",
                      whose, s->judge.streams[i].id, s->judge.streams[i].data.n,
                      s->judge.streams[i].is_ended, s->judge.streams[i].is_reset,
                      s->judge.streams[i].code, (int)s->judge.streams[i].fields.n,
                      (char *)s->judge.streams[i].fields.p);
    (void)fprintf(stderr, "%s end: dead %d, GOAWAY %u %s\n", whose, is_dead(s),
                  s->judge.goaway_code, s->why);
}

/* Everything that helps to see whose fault it is. */
static void tell(const struct run *r)
{
    for (unsigned i = 0; i < r->recent_count; i++)
        (void)fprintf(stderr, "%s type %u, flags %#x, stream %u, %zu bytes%s\n",
                      i < r->turned_count ? "before:" : "behind:", r->recent[i].f.type,
                      r->recent[i].f.flags, r->recent[i].f.id, r->recent[i].f.payload.n,
                      r->recent[i].is_late ? ", late" : "");
    tell_side(&r->ours, "our");
    tell_side(&r->theirs, "their");
    (void)fprintf(stderr, "h2_diff: %s\n", r->what);
}

static void compare(struct run *r)
{
    if (r->is_different || same_all(r))
        return;
    r->is_different = known_difference(r);
    if (!r->is_different)
        tell(r);
    CHECK(r->is_different);
}

/* ------------------------------------------------------------------------ running */

static bool depends_on_itself(const struct h2_frame *f)
{
    size_t at = (f->flags & NGHTTP2_FLAG_PADDED) != 0 ? 1 : 0;
    const uint8_t *p = f->payload.p;

    if (f->type == T_PRIORITY)
        at = 0;
    else if (f->type != T_HEADERS || (f->flags & NGHTTP2_FLAG_PRIORITY) == 0)
        return false;
    return f->payload.n >= at + 5 && ((uint32_t)(p[at] & 0x7f) << 24 | (uint32_t)p[at + 1] << 16 |
                                      (uint32_t)p[at + 2] << 8 | p[at + 3]) == f->id;
}

static bool was_opened(const struct run *r, uint32_t id)
{
    if (!r->code.o.is_client)
        return id != 0 && id <= r->last_id;
    for (unsigned i = 0; i < r->theirs.count; i++)
        if (r->theirs.calls[i].id == id)
            return true;
    return false;
}

static void frame_in(struct run *r, const struct h2_frame *f)
{
    judge_input(&r->ours.judge, f);
    judge_input(&r->theirs.judge, f);
    if (r->recent_count < RECENT)
        r->recent[r->recent_count++] = (struct recent){
            *f, was_opened(r, f->id) && oracle_is_closed(r->oracle, f->id), depends_on_itself(f)};
    if (f->type == T_HEADERS && f->id > r->last_id)
        r->last_id = f->id;
}

/* The whole frames of what came. */
static void walk(struct run *r, struct bytes b)
{
    size_t at = 0;

    grow_add(&r->walk, b.p, b.n);
    while (r->walk.n - at >= FRAME_HEAD) {
        const uint8_t *p = r->walk.p + at;
        size_t n = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];
        uint32_t id = ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]);
        struct h2_frame f = {p[3], p[4], id & 0x7fffffff, bytes_of(p + FRAME_HEAD, n)};

        if (r->walk.n - at < FRAME_HEAD + n)
            break;
        frame_in(r, &f);
        at += FRAME_HEAD + n;
    }
    memmove(r->walk.p, r->walk.p + at, r->walk.n - at);
    r->walk.n -= at;
}

static void give(struct run *r, struct bytes b)
{
    struct bytes first = b;

    if (r->code.is_cut)
        first = fuzz_take(&b, b.n / 2);
    else
        b.n = 0;
    ours_give(&r->ours, first);
    ours_give(&r->ours, b);
    if (r->is_different)
        return;
    oracle_give(r->oracle, first);
    oracle_give(r->oracle, b);
}

static void turn(struct run *r)
{
    ours_turn(&r->ours);
    judge_output(&r->ours.judge);
    if (!r->is_different) {
        oracle_turn(r->oracle);
        judge_output(&r->theirs.judge);
    }
    compare(r);
    r->turned_count = r->recent_count;
    r->asked_count = 0;
}

static bool is_over(const struct run *r)
{
    return is_dead(&r->ours);
}

static void run_code(struct run *r)
{
    struct grow out = {0};
    enum code_step step = CODE_BYTES;

    while (!is_over(r) && step != CODE_END) {
        memcpy(r->code.ping, r->ours.judge.ping, sizeof r->code.ping);
        step = code_next(&r->code, &out);
        if (step == CODE_ASK) {
            if (!r->code.o.is_client && r->stopping_ns == 0)
                r->stopping_ns = loop_hrtime_ns();
            r->asked_count++;
            ours_ask(&r->ours);
            if (!r->is_different)
                oracle_ask(r->oracle);
        } else {
            walk(r, bytes_of(out.p, out.n));
            give(r, bytes_of(out.p, out.n));
        }
        if (step == CODE_END || r->code.is_turn || r->recent_count - r->turned_count > 15)
            turn(r);
    }
    grow_free(&out);
}

/* Every byte that was sent is the one that the owner gave. */
static void check_answers(struct run *r)
{
    for (unsigned i = 0; i < r->theirs.count && !r->is_different; i++) {
        const struct diff_call *call = &r->theirs.calls[i];
        const struct judge_stream *s = judge_stream(&r->ours.judge, call->id);

        for (size_t k = 0; k < s->data.n; k++)
            CHECK(s->data.p[k] == side_pattern(i, k));
    }
}

static void run_start(struct run *r, struct bytes in)
{
    struct grow hello = {0};

    code_init(&r->code, in, &hello);
    r->ours.o = r->theirs.o = r->code.o;
    judge_init(&r->ours.judge, r->code.o.is_client, true);
    judge_init(&r->theirs.judge, r->code.o.is_client, false);
    ours_start(&r->ours);
    r->oracle = oracle_new(&r->theirs, &r->ours.judge);
    turn(r);
    walk(r, bytes_of(hello.p + (r->code.o.is_client ? 0 : 24),
                     hello.n - (r->code.o.is_client ? 0 : 24)));
    give(r, bytes_of(hello.p, hello.n));
    turn(r);
    grow_free(&hello);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run *r = calloc(1, sizeof *r);

    CHECK(r != NULL);
    run_start(r, bytes_of(data, size));
    run_code(r);
    check_answers(r);
    if (!r->is_different)
        fuzz_deep();
    ours_stop(&r->ours);
    code_fini(&r->code);
    oracle_free(r->oracle);
    side_fini(&r->ours);
    side_fini(&r->theirs);
    grow_free(&r->walk);
    free(r);
    return 0;
}
