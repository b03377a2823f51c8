/* SPDX-License-Identifier: Apache-2.0 */
/* A connection of ours whose owner and whose peer do at random whatever each of them may, the owner
 * from inside its callbacks, too. The peer keeps the books as RFC 9113 has them: nothing comes
 * beyond a window, nothing on a stream that is over, no request above its limit. After each step
 * the stream table, the queues and their sharers are what h2_int.h says of them, and nothing that
 * could be sent waits for something that does not come. In the end all windows open and both sides
 * finish: then every stream ends. */
#include <sys/socket.h>

#include "h2/h2_int.h"
#include "invariants.h"
#include "model.h"
#include "net/net_int.h"

#define STEPS 500u
#ifndef ROUNDS
#define ROUNDS 40u
#endif

static struct model *now;

static void check(struct model *m)
{
    if (m->d.e.c != NULL)
        h2_check(m->d.e.c);
}

/* ------------------------------------------------------------------------ the owner */

static bool takes_requests(const struct h2_conn *c)
{
    return !h2__is_stopped(c) && !c->has_peer_goaway && !now->is_quiet &&
           now->count + c->stream_count < STREAMS && c->stream_count < 40;
}

static void own_request(struct model *m)
{
    struct rec *r;

    if (!takes_requests(m->d.e.c))
        return;
    r = end_request(&m->d.e, kit_request, below(3) == 0);
    if (below(4) != 0)
        h2_stream_share(r->s, 1 + below(5));
}

static void own_send(struct h2_stream *s, size_t n, bool end)
{
    struct slab *slab = slab_new(&now->d.k.pool, n + 1, 0);
    struct slice part = {slab, 0, (uint32_t)n};
    struct chain out = {0};

    assert_non_null(slab);
    memset(slab->data, 'x', n);
    slab->fill = (uint32_t)n;
    if (n == 0)
        slab_drop(slab);
    else
        assert_int_equal(chain_push(&out, &part), ERR_OK);
    (void)!h2_stream_send(s, &out, end);
}

static void own_any(struct h2_stream *s)
{
    switch (below(16)) {
    case 0:
        h2_stream_reset(s, H2_CANCEL);
        break;
    case 1:
        if (s->c->opts.is_server)
            h2_stream_discard(s);
        break;
    case 2:
        h2_stream_credit(s, below(100000));
        break;
    case 3:
        h2_stream_widen(s, below(1u << 20));
        break;
    case 4:
    case 5:
        if (s->c->opts.is_server)
            (void)!h2_stream_trailers(s, kit_trailers);
        else
            own_send(s, below(2) * below(3000), true);
        break;
    case 6:
        own_send(s, below(2) * below(30000), true);
        break;
    default:
        own_send(s, now->is_wide ? below(60000) : below(4000), false);
        break;
    }
}

/* A server's answer begins with its headers. */
static void own_step(struct h2_stream *s)
{
    if (s->c->opts.is_server && !s->is_responded)
        (void)!h2_respond(s, kit_response, below(6) == 0);
    else
        own_any(s);
}

static struct h2_stream *own_pick(struct model *m)
{
    struct h2_conn *c = m->d.e.c;
    uint32_t at;

    if (c == NULL || list_is_empty(&c->streams))
        return NULL;
    at = below((uint32_t)c->stream_count);
    LIST_FOREACH(it, &c->streams)
        if (at-- == 0)
            return LIST_ENTRY(it, struct h2_stream, node);
    return NULL;
}

static void own(struct model *m)
{
    struct h2_stream *s = own_pick(m);

    if (m->d.e.c == NULL)
        return;
    if (!m->is_server && below(3) == 0)
        own_request(m);
    else if (s != NULL)
        own_step(s);
    if (m->is_server && !m->is_quiet && below(2000) == 0)
        h2_conn_shutdown(m->d.e.c);
    if (!m->is_quiet && below(4000) == 0)
        h2_conn_close(m->d.e.c, H2_NO_ERROR, below(2) * 100);
}

static void finish(struct h2_stream *s)
{
    if (!s->c->opts.is_server) {
        own_send(s, 0, true);
        return;
    }
    if (!s->is_responded)
        (void)!h2_respond(s, kit_response, false);
    (void)!h2_stream_trailers(s, kit_trailers);
}

/* From inside any callback: on the stream itself, on another, or nothing. */
static void inside(struct rec *r)
{
    if (now->is_calm)
        return;
    if (now->is_quiet)
        finish(r->s);
    else if (below(3) == 0)
        own_step(r->s);
    else if (below(3) == 0)
        own(now);
}

static void inside_data(struct rec *r, size_t n)
{
    (void)n;
    inside(r);
}

static void inside_close(struct rec *r)
{
    if (below(2) == 0)
        own_step(r->s);
    inside(r);
}

/* ------------------------------------------------------------------------ rounds */

static void turn(struct model *m)
{
    (void)uv_run(&m->d.k.loop.uv, UV_RUN_NOWAIT);
    check(m);
}

/* Until the socket is empty and nothing happens any more: then nothing may wait for output. */
static void settle(struct model *m)
{
    size_t before = m->heard;

    m->is_calm = true;
    for (int i = 0; i < 20 && !m->is_over; i++) {
        peer_read(m);
        turn(m);
        if (m->heard != before)
            i = 0;
        before = m->heard;
    }
    if (m->d.e.c != NULL && !h2__is_stopped(m->d.e.c))
        assert_false(h2__has_output(m->d.e.c));
    m->is_calm = false;
}

/* All that is open comes to its end: nobody is forgotten. */
static void wind_up(struct model *m)
{
    m->is_quiet = true;
    settle(m);
    for (int i = 0; i < 4000 && m->d.e.c != NULL && m->d.e.c->stream_count > 0 && !m->is_over;
         i++) {
        LIST_FOREACH(it, &m->d.e.c->streams)
            finish(LIST_ENTRY(it, struct h2_stream, node));
        turn(m);
        peer_finish(m);
    }
    settle(m);
    if (m->d.e.c != NULL && !h2__is_stopped(m->d.e.c))
        assert_int_equal(m->d.e.c->stream_count, 0);
}

/* The peer is gone, whatever is open. */
static void go_away(struct model *m)
{
    (void)shutdown(m->d.raw.fd, SHUT_RDWR);
    KIT_UNTIL(&m->d.k, m->d.e.c == NULL);
}

static void start(struct model *m, bool is_server)
{
    struct h2_opts opts = is_server ? kit_server_opts : kit_client_opts;
    int size = 4096;

    *m = (struct model){.is_server = is_server, .next_id = 1, .limit = UINT32_MAX};
    opts.max_streams = LIMIT;
    opts.stream_window = STREAM_WINDOW;
    opts.conn_window = CONN_WINDOW;
    if (is_server)
        duo_server(&m->d, &opts);
    else
        duo_client(&m->d, &opts);
    (void)setsockopt(m->d.e.c->net->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    m->initial = m->conn_window = H2__WINDOW_DEFAULT;
    m->conn_room = CONN_WINDOW;
    m->d.e.on_request = m->d.e.on_response = m->d.e.on_end = m->d.e.on_drained = inside;
    m->d.e.on_data = inside_data;
    m->d.e.on_close = inside_close;
    now = m;
}

/* What the peer allows. */
static void set_limits(struct model *m, uint32_t n)
{
    if (!m->is_server && n % 2 == 0) {
        m->limit = 1 + below(30);
        peer_settings(m, 3, m->limit);
        settle(m);
    }
    m->is_wide = n % 3 == 0;
    if (m->is_wide) {
        peer_settings(m, 4, 1 << 28);
        peer_window(m, NULL, 1 << 30);
    }
}

static void steps(struct model *m)
{
    for (uint32_t i = 0; i < STEPS && !m->is_over && m->d.e.c != NULL; i++) {
        for (uint32_t k = below(6); k > 0; k--) {
            if (below(2) == 0)
                own(m);
            else
                peer_step(m);
            check(m);
        }
        if (below(3) == 0)
            turn(m);
        if (below(6) == 0)
            peer_read(m);
        if (below(60) == 0)
            settle(m);
    }
}

static void round_of(uint32_t n, bool is_server, bool is_rude)
{
    struct model *m = malloc(sizeof *m);

    assert_non_null(m);
    model_seed(n);
    start(m, is_server);
    set_limits(m, n);
    m->is_rude = is_rude;
    steps(m);
    if (n % 4 == 0)
        go_away(m);
    else if (!is_rude && n % 4 != 1)
        wind_up(m);
    m->is_calm = true;
    duo_stop(&m->d);
    free(m);
}

static void test_server(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= ROUNDS; n++)
        round_of(n, true, false);
}

static void test_client(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= ROUNDS; n++)
        round_of(n, false, false);
}

/* A peer that keeps no books: streams end at any time, and so may the connection. */
static void test_rude(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= ROUNDS; n++)
        round_of(n, n % 2 == 0, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_rude),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
