/* SPDX-License-Identifier: Apache-2.0 */
/* Two connections, plain or over TLS, whose owners do at random what they may, from inside their
 * callbacks, too: write, flush, stop reading and go on, put back what was read, close. Whatever
 * they do, bytes come in order and once, callbacks come as conn.h says, and when both read on and
 * nobody has closed, everything that was written arrives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "net/conn.h"
#include "net/listen.h"
#include "tls_pair.h"

#define ROUNDS 30u
#define STEPS 400u

struct side {
    struct net_conn *c; /* NULL before the beginning and after on_closed */
    struct side *peer;
    size_t written, wrote, given; /* bytes: queued, gone, dealt with */
    bool is_open, is_eof, is_closing, is_cut, is_closed;
    enum err why;
};

static struct loop loop;
static struct slab_pool pool;
static struct net_listener *listener;
static struct side a, b; /* dialling, accepting */
static bool is_tls, is_calm, is_small;
static uint32_t seed;

static uint32_t below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)((uint32_t)at * 2654435761u >> 17);
}

/* --- what owners do --- */

static void own_write(struct side *s)
{
    static uint8_t buf[60000];
    size_t n = 1 + below(below(4) == 0 ? sizeof buf : 500);
    struct chain out = {0};
    enum err e;

    if (s->written - s->wrote > 1u << 20)
        return;
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern(s->written + i);
    assert_int_equal(chain_push_copy(&out, &pool, buf, n, 0), ERR_OK);
    e = net_conn_write(s->c, &out);
    assert_int_equal(out.len, 0);
    chain_fini(&out);
    assert_true(e == ERR_OK || e == ERR_CLOSED);
    s->written += e == ERR_OK ? n : 0;
}

static void own_close(struct side *s)
{
    uint64_t linger_ms = below(3) == 0 ? 0 : 60000;

    s->is_cut |= linger_ms == 0 || !s->is_open || s->is_closing;
    s->is_closing = true;
    net_conn_close(s->c, linger_ms);
}

static void own(struct side *s)
{
    if (s->c == NULL)
        return;
    switch (below(8)) {
    case 0:
        net_conn_read_stop(s->c);
        break;
    case 1:
    case 2:
        net_conn_read_start(s->c);
        break;
    case 3:
    case 4:
        net_conn_flush(s->c);
        break;
    case 5:
        if (below(100) == 0)
            own_close(s);
        break;
    default:
        own_write(s);
        break;
    }
}

static void inside(struct side *s)
{
    if (!is_calm && below(2) == 0)
        own(below(3) == 0 ? s->peer : s);
}

/* --- callbacks --- */

static void on_open(struct net_conn *c)
{
    struct side *s = net_conn_user(c);

    assert_false(s->is_open || s->is_eof || s->is_closing);
    s->is_open = true;
    inside(s);
}

static void on_read(struct net_conn *c, struct slice *in)
{
    struct side *s = net_conn_user(c);
    uint32_t taken = !is_calm && below(3) == 0 ? below(in->len + 1) : in->len;
    struct slice rest = slice_sub(*in, taken, in->len - taken);
    struct chain back = {0};

    assert_true(s->is_open && !s->is_eof && !s->is_closing && in->len > 0);
    for (uint32_t i = 0; i < taken; i++)
        assert_int_equal(slice_data(*in)[i], pattern(s->given + i));
    s->given += taken;
    slice_drop(in);
    if (rest.len > 0) {
        assert_int_equal(chain_push(&back, &rest), ERR_OK);
        assert_int_equal(net_conn_unread(c, &back), ERR_OK);
        chain_fini(&back);
    }
    inside(s);
}

static void on_writable(struct net_conn *c)
{
    inside(net_conn_user(c));
}

static void on_wrote(struct net_conn *c, size_t n)
{
    struct side *s = net_conn_user(c);

    assert_true(n > 0 && !s->is_closed);
    s->wrote += n;
    assert_true(s->wrote <= s->written);
    inside(s);
}

static void on_eof(struct net_conn *c, enum err why)
{
    struct side *s = net_conn_user(c);

    assert_false(s->is_eof || s->is_closing);
    s->is_eof = true;
    s->why = why;
    inside(s);
}

static void on_closed(struct net_conn *c)
{
    struct side *s = net_conn_user(c);

    assert_true(s->is_closing && !s->is_closed);
    s->is_closed = true;
    s->c = NULL;
}

static const struct net_conn_ops ops = {
    .on_open = on_open,
    .on_read = on_read,
    .on_writable = on_writable,
    .on_wrote = on_wrote,
    .on_eof = on_eof,
    .on_closed = on_closed,
};

/* --- rounds --- */

static void on_accept(void *arg, int fd)
{
    int send_size = 16384, receive_size = 65536; /* not below loopback's segments */

    (void)arg;
    if (is_small) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_size, sizeof send_size);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_size, sizeof receive_size);
    }
    assert_int_equal(
        net_conn_accept(&loop, &pool, SLAB_SECRET, fd, is_tls ? server_tls : NULL, &ops, &b, &b.c),
        ERR_OK);
    net_listener_close(listener);
}

static void begin(void)
{
    struct net_url url = {.is_tls = is_tls, .host = "127.0.0.1", .port = "0"};
    char why[128];

    a = (struct side){.peer = &b};
    b = (struct side){.peer = &a};
    is_calm = false;
    slab_pool_init(&pool, 16);
    assert_int_equal(loop_init(&loop), ERR_OK);
    assert_int_equal(net_listen(&loop, &url, on_accept, NULL, &listener, why, sizeof why), ERR_OK);
    (void)snprintf(url.port, sizeof url.port, "%u", net_listener_port(listener));
    assert_int_equal(
        net_conn_dial(&loop, &pool, 0, &url, is_tls ? client_tls : NULL, &ops, &a, &a.c), ERR_OK);
}

/* Turns until cond, or for half a minute; then the test fails. */
#define UNTIL(cond)                                                                                \
    do {                                                                                           \
        uint64_t end_ = loop_hrtime_ns() + 30000000000ull;                                         \
        while (!(cond)) {                                                                          \
            if (loop_hrtime_ns() > end_)                                                           \
                fail_msg("seed %u: %s: a %zu %zu %zu, b %zu %zu %zu", start_, #cond, a.written,    \
                         a.wrote, a.given, b.written, b.wrote, b.given);                           \
            (void)uv_run(&loop.uv, UV_RUN_NOWAIT);                                                 \
        }                                                                                          \
    } while (0)

static bool is_whole(const struct side *s)
{
    return s->c != NULL && !s->is_closing && !s->is_eof;
}

static bool has_come(const struct side *from)
{
    return from->wrote == from->written && from->peer->given == from->written;
}

static void read_on(struct side *s)
{
    if (s->c == NULL)
        return;
    net_conn_read_start(s->c);
    net_conn_flush(s->c);
}

/* Of a side that lingers all arrives, if the other goes on reading. */
static void close_one(struct side *s)
{
    if (s->c == NULL || s->is_closing)
        return;
    s->is_closing = true;
    net_conn_close(s->c, 60000);
}

static void wind_up(uint32_t start_)
{
    is_calm = true;
    read_on(&a);
    read_on(&b);
    if (is_whole(&a) && is_whole(&b)) {
        UNTIL(!is_whole(&a) || !is_whole(&b) || (has_come(&a) && has_come(&b)));
        assert_true(is_whole(&a) && is_whole(&b));
        close_one(&a);
        UNTIL(b.is_eof);
        assert_int_equal(b.why, ERR_CLOSED);
    } else if (a.is_closing != b.is_closing) {
        struct side *closing = a.is_closing ? &a : &b, *other = closing->peer;

        UNTIL(other->is_eof);
        if (!closing->is_cut)
            assert_int_equal(other->given, closing->written);
    }
    close_one(&a);
    close_one(&b);
    UNTIL(a.is_closed && b.is_closed);
}

static void round_of(uint32_t n)
{
    uint32_t start_ = n;

    seed = n;
    is_small = below(2) == 0;
    begin();
    UNTIL(b.c != NULL);
    if (below(3) > 0)
        UNTIL(a.is_open && b.is_open);
    for (uint32_t i = 0; i < STEPS; i++) {
        own(below(2) == 0 ? &a : &b);
        if (below(3) == 0)
            (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    wind_up(n);
    loop_stop(&loop);
    loop_run(&loop);
    loop_fini(&loop);
    slab_pool_fini(&pool); /* checks that every slab came back */
}

static void test_plain(void **state)
{
    (void)state;
    is_tls = false;
    for (uint32_t n = 1; n <= ROUNDS; n++)
        round_of(n);
}

static void test_tls(void **state)
{
    (void)state;
    is_tls = true;
    for (uint32_t n = 1; n <= ROUNDS; n++)
        round_of(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_tls),
    };

    return cmocka_run_group_tests(tests, tls_pair_setup, tls_pair_teardown);
}
