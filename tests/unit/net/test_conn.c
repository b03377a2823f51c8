/* SPDX-License-Identifier: Apache-2.0 */
/* Two connections on one loop, joined by a socket pair; every test of the contract runs over plain
 * and over TLS alike. Where the peer has to misbehave, it is a bare descriptor. */
#include "net/conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/listen.h"
#include "tls_pair.h"

#define GUARD_MS 30000
#define BIG (8u * 1024 * 1024)

/* What one end does and what happened to it. */
struct side {
    struct net_conn *c;
    /* what it does */
    bool is_echo;
    bool is_keeping;      /* keep what is read in kept, instead of checking and dropping it */
    size_t to_send;       /* of the pattern */
    size_t stop_after;    /* net_conn_read_stop when so much was read; 0: never */
    bool is_closing_done; /* net_conn_close(5000) when all is sent (echo: at eof) */
    bool is_closing_on_eof;
    void (*on_read)(struct side *s);
    /* what happened */
    size_t sent, received, wrote;
    uint32_t read_max; /* longest slice */
    int opens, reads, writables, eofs, closes;
    int reads_in_turn, reads_in_turn_max;
    enum err eof_why;
    char why[160];
    struct chain kept;
};

static struct loop loop;
static struct slab_pool pool;
static struct side a, b; /* dialling, accepting */
static uint32_t seed;
static struct loop_timer guard, timer;
static uv_check_t turn_check;
static bool is_tls;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static uint8_t pattern(size_t at)
{
    return (uint8_t)((uint32_t)at * 2654435761u >> 17);
}

/* --- behaviour --- */

static void stop_when_both_closed(void)
{
    if (a.c == NULL && b.c == NULL) {
        loop_timer_fini(&guard);
        loop_timer_fini(&timer);
        uv_close((uv_handle_t *)&turn_check, NULL);
        loop_stop(&loop);
    }
}

static void send_pattern(struct side *s)
{
    while (s->sent < s->to_send && net_conn_queued(s->c) <= LIMIT_CONN_OUT) {
        struct chain out = {0};
        size_t n = 1 + next_random() % (next_random() % 8 == 0 ? 100000 : 300);
        uint8_t buf[100001];

        if (n > s->to_send - s->sent)
            n = s->to_send - s->sent;
        for (size_t i = 0; i < n; i++)
            buf[i] = pattern(s->sent + i);
        assert_int_equal(chain_push_copy(&out, &pool, buf, n, SLAB_SECRET), ERR_OK);
        assert_int_equal(net_conn_write(s->c, &out), ERR_OK);
        assert_int_equal(out.len, 0);
        chain_fini(&out);
        s->sent += n;
    }
    net_conn_flush(s->c);
    if (s->sent == s->to_send && s->is_closing_done)
        net_conn_close(s->c, 5000);
}

static void on_open(struct net_conn *c)
{
    struct side *s = net_conn_user(c);

    s->opens++;
    assert_int_equal(s->reads, 0);
    if (s->to_send > 0)
        send_pattern(s);
}

static void echo(struct side *s, struct slice *in)
{
    struct chain out = {0};

    assert_int_equal(chain_push(&out, in), ERR_OK);
    assert_int_equal(net_conn_write(s->c, &out), ERR_OK);
    chain_fini(&out);
    net_conn_flush(s->c);
    if (net_conn_queued(s->c) > LIMIT_CONN_OUT)
        net_conn_read_stop(s->c);
}

static void on_read(struct net_conn *c, struct slice *in)
{
    struct side *s = net_conn_user(c);
    size_t len = in->len;

    assert_int_equal(s->opens, 1);
    assert_int_equal(s->eofs, 0);
    assert_true(in->len > 0 && in->len <= LIMIT_SLAB_LARGE);
    s->reads++;
    if (++s->reads_in_turn > s->reads_in_turn_max)
        s->reads_in_turn_max = s->reads_in_turn;
    if (in->len > s->read_max)
        s->read_max = in->len;
    if (s->is_echo) {
        echo(s, in);
    } else if (s->is_keeping) {
        assert_int_equal(chain_push(&s->kept, in), ERR_OK);
    } else {
        for (size_t i = 0; i < len; i++)
            if (slice_data(*in)[i] != pattern(s->received + i))
                fail_msg("wrong byte at %zu", s->received + i);
        slice_drop(in);
    }
    s->received += len;
    if (s->stop_after > 0 && s->received >= s->stop_after)
        net_conn_read_stop(c);
    if (s->on_read != NULL)
        s->on_read(s);
}

static void on_writable(struct net_conn *c)
{
    struct side *s = net_conn_user(c);

    s->writables++;
    assert_true(net_conn_queued(c) < LIMIT_CONN_OUT / 2);
    if (s->is_echo)
        net_conn_read_start(c);
    else if (s->to_send > 0)
        send_pattern(s);
}

static void on_wrote(struct net_conn *c, size_t n)
{
    struct side *s = net_conn_user(c);

    s->wrote += n;
}

static void on_eof(struct net_conn *c, enum err why)
{
    struct side *s = net_conn_user(c);

    s->eofs++;
    s->eof_why = why;
    (void)snprintf(s->why, sizeof s->why, "%s", net_conn_why(c));
    if (s->is_closing_on_eof)
        net_conn_close(c, 5000);
}

static void on_closed(struct net_conn *c)
{
    struct side *s = net_conn_user(c);

    s->closes++;
    s->c = NULL;
    stop_when_both_closed();
}

static const struct net_conn_ops ops = {.on_open = on_open,
                                        .on_read = on_read,
                                        .on_writable = on_writable,
                                        .on_wrote = on_wrote,
                                        .on_eof = on_eof,
                                        .on_closed = on_closed};

/* --- the stage --- */

static void on_guard(struct loop_timer *t)
{
    (void)t;
    fail_msg("the test hangs: a received %zu, b received %zu", a.received, b.received);
}

static void on_turn(uv_check_t *check)
{
    (void)check;
    a.reads_in_turn = b.reads_in_turn = 0;
}

static int setup(void **state)
{
    is_tls = *state != NULL;
    a = b = (struct side){0};
    seed = 7;
    slab_pool_init(&pool, 16);
    if (loop_init(&loop) != ERR_OK)
        return -1;
    loop_timer_init(&guard, on_guard);
    loop_timer_init(&timer, NULL);
    uv_check_init(&loop.uv, &turn_check);
    uv_check_start(&turn_check, on_turn);
    return loop_timer_start(&loop, &guard, GUARD_MS) == ERR_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    chain_fini(&a.kept);
    chain_fini(&b.kept);
    loop_fini(&loop);
    slab_pool_fini(&pool); /* checks that every slab came back */
    return 0;
}

static void accept_side(struct side *s, int fd, struct net_tls *tls)
{
    assert_int_equal(net_conn_accept(&loop, &pool, SLAB_SECRET, fd, tls, &ops, s, &s->c), ERR_OK);
}

/* A receive buffer below loopback's segment size would stall TCP for 200 ms at a time. */
static void set_buffers(int fd, int size)
{
    int receive = 65536;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof receive), 0);
}

static struct net_listener *listener;
static int small_buffers;

static void on_accept(void *arg, int fd)
{
    (void)arg;
    if (small_buffers > 0)
        set_buffers(fd, small_buffers);
    accept_side(&b, fd, is_tls ? server_tls : NULL);
    net_listener_close(listener);
}

/* a dials b over loopback TCP. */
static void join(int buffers)
{
    struct net_url url = {.is_tls = is_tls, .host = "127.0.0.1", .port = "0"};
    char why[128] = "";

    small_buffers = buffers;
    assert_int_equal(net_listen(&loop, &url, on_accept, NULL, &listener, why, sizeof why), ERR_OK);
    (void)snprintf(url.port, sizeof url.port, "%u", net_listener_port(listener));
    assert_int_equal(
        net_conn_dial(&loop, &pool, 0, &url, is_tls ? client_tls : NULL, &ops, &a, &a.c), ERR_OK);
}

/* b alone; the peer is a bare descriptor that the test drives. Plain only. */
static int join_bare(void)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    accept_side(&b, fds[0], NULL);
    return fds[1];
}

static void later(void (*fn)(struct loop_timer *), uint64_t ms)
{
    timer.fn = fn;
    assert_int_equal(loop_timer_start(&loop, &timer, ms), ERR_OK);
}

static void close_a(struct loop_timer *t)
{
    (void)t;
    net_conn_close(a.c, 5000);
}

static void close_b_now(struct loop_timer *t)
{
    (void)t;
    net_conn_close(b.c, 0);
}

/* --- both transports --- */

static void close_when_all_came_back(struct side *s)
{
    if (s->received == s->to_send)
        net_conn_close(s->c, 5000);
}

static void check_echo(void)
{
    loop_run(&loop);
    assert_int_equal(a.received, BIG);
    assert_int_equal(a.wrote, BIG);
    assert_int_equal(b.wrote, BIG);
    assert_int_equal(a.opens, 1);
    assert_int_equal(b.opens, 1);
    assert_int_equal(b.eof_why, ERR_CLOSED);
    assert_int_equal(a.closes, 1);
    assert_int_equal(b.closes, 1);
    /* One round of four; with TLS one more for what poll does not see. */
    assert_true(a.reads_in_turn_max <= (is_tls ? 8 : 4));
    assert_true(b.reads_in_turn_max <= (is_tls ? 8 : 4));
}

static void echo_through_small_buffers(void **state)
{
    (void)state;
    a.to_send = BIG;
    a.on_read = close_when_all_came_back;
    b.is_echo = b.is_closing_on_eof = true;
    join(8192);
    check_echo();
    assert_true(a.writables > 0 && b.writables > 0);
}

static void echo_through_large_buffers(void **state)
{
    (void)state;
    a.to_send = BIG;
    a.on_read = close_when_all_came_back;
    b.is_echo = b.is_closing_on_eof = true;
    join(0);
    check_echo();
    assert_true(b.read_max > 30000); /* reads are gathered into large slices */
}

static void start_reading_a(struct loop_timer *t)
{
    (void)t;
    a.stop_after = 0;
    net_conn_read_start(a.c);
}

static void unread_input(struct side *s)
{
    /* b closes without reading what a sends: that must not destroy what b has sent. */
    (void)s;
    net_conn_read_stop(b.c);
}

static void lingering_close_delivers_every_byte(void **state)
{
    (void)state;
    a.stop_after = 1;
    a.to_send = 300000;
    a.is_closing_on_eof = true;
    b.to_send = 3 * 1024 * 1024;
    b.is_closing_done = true;
    b.on_read = unread_input;
    join(8192);
    later(start_reading_a, 50);
    loop_run(&loop);
    assert_int_equal(a.received, b.to_send);
    assert_int_equal(b.wrote, b.to_send);
    assert_int_equal(a.eofs, 1);
    assert_int_equal(a.eof_why, ERR_CLOSED);
}

static void lingering_ends_at_its_deadline(void **state)
{
    uint64_t begin = loop_hrtime_ns(), ms;

    (void)state;
    a.stop_after = 1;
    b.to_send = 1024 * 1024; /* never read, never fits */
    join(8192);
    while (b.c == NULL || b.opens == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    net_conn_close(b.c, 100);
    net_conn_close(b.c, 5000); /* changes nothing */
    later(close_a, 300);
    loop_run(&loop);
    ms = (loop_hrtime_ns() - begin) / 1000000;
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.eofs, 0);
    assert_true(b.wrote < b.to_send);
    assert_true(ms >= 300 && ms < 3000);
}

static void a_second_close_with_0_ends_a_linger(void **state)
{
    (void)state;
    a.stop_after = 1;
    b.to_send = 1024 * 1024;
    join(8192);
    while (b.c == NULL || b.opens == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    net_conn_close(b.c, 20000);
    later(close_b_now, 20);
    while (b.closes == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    net_conn_close(a.c, 0);
    loop_run(&loop);
    assert_int_equal(a.closes, 1);
}

static void close_from_inside(struct side *s)
{
    net_conn_close(s->c, 0);
    net_conn_close(s->c, 0);
    net_conn_close(s->c, 100);
    assert_int_equal(s->closes, 0);
}

static void closing_inside_on_read_is_safe(void **state)
{
    (void)state;
    a.to_send = 100000;
    a.is_closing_on_eof = true;
    b.on_read = close_from_inside;
    join(0);
    loop_run(&loop);
    assert_int_equal(b.reads, 1);
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.eofs, 0);
}

static void close_in_open(struct net_conn *c)
{
    struct side *s = net_conn_user(c);

    s->opens++;
    net_conn_close(c, 0);
}

static void closing_inside_on_open_is_safe(void **state)
{
    static struct net_conn_ops closing;

    (void)state;
    closing = ops;
    closing.on_open = close_in_open;
    b.is_closing_on_eof = true;
    join(0);
    net_conn_set_ops(a.c, &closing, &a);
    loop_run(&loop);
    assert_int_equal(a.opens, 1);
    assert_int_equal(a.closes, 1);
    assert_int_equal(b.eofs, 1);
}

static void closing_before_it_is_open_is_safe(void **state)
{
    (void)state;
    join(0);
    net_conn_close(a.c, 5000);
    assert_int_equal(a.closes, 0);
    net_listener_close(listener);
    loop_run(&loop);
    assert_int_equal(a.opens, 0);
    assert_int_equal(a.closes, 1);
}

static void stopped_reading_pushes_back(void **state)
{
    size_t queued;

    (void)state;
    a.to_send = 12 * 1024 * 1024;
    b.stop_after = 1;
    join(8192);
    while (b.received == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    for (int i = 0; i < 50; i++)
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    queued = net_conn_queued(a.c);
    assert_true(queued > 0);
    for (int i = 0; i < 50; i++)
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(net_conn_queued(a.c), queued);
    assert_int_equal(b.reads, 1);
    assert_true(a.sent < a.to_send);
    b.stop_after = 0;
    b.is_closing_on_eof = true;
    a.is_closing_done = true;
    net_conn_read_start(b.c);
    loop_run(&loop);
    assert_int_equal(b.received, a.to_send);
    assert_true(a.writables > 0);
}

/* --- the sniffer --- */

static size_t sniffed;

static void sniff(struct side *s)
{
    struct chain in = {0};

    if (s->received < 4) /* waits for more */
        return;
    s->on_read = NULL;
    s->is_keeping = false;
    sniffed = s->received;
    assert_int_equal(chain_append(&in, &s->kept), ERR_OK);
    s->received = 0;
    s->opens = 1;
    s->is_closing_on_eof = true;
    net_conn_set_ops(s->c, &ops, s);
    assert_int_equal(net_conn_unread(s->c, &in), ERR_OK);
    assert_int_equal(in.len, 0);
    chain_fini(&in);
}

/* Every byte reaches the new owner, the sniffed ones first; the close behind them does not
 * overtake. */
static void unread_bytes_come_again(void **state)
{
    (void)state;
    a.to_send = 200000;
    a.is_closing_done = true;
    b.is_keeping = true;
    b.on_read = sniff;
    join(0);
    loop_run(&loop);
    assert_true(sniffed >= 4);
    assert_int_equal(b.received, a.to_send);
    assert_int_equal(b.eof_why, ERR_CLOSED);
}

static void sniff_and_stop(struct side *s)
{
    sniff(s);
    net_conn_read_stop(s->c);
}

static void start_reading_b(struct loop_timer *t)
{
    (void)t;
    assert_int_equal(b.received, 0);
    net_conn_read_start(b.c);
}

static void unread_bytes_wait_while_reading_is_stopped(void **state)
{
    (void)state;
    a.to_send = 200000;
    a.is_closing_done = true;
    b.is_keeping = true;
    b.on_read = sniff_and_stop;
    join(0);
    later(start_reading_b, 100);
    loop_run(&loop);
    assert_int_equal(b.received, a.to_send);
}

/* --- memory --- */

static void check_idle(struct loop_timer *t)
{
    (void)t;
    slab_pool_settle(&pool);
    assert_int_equal(pool.live_bytes, 0);
    net_conn_close(a.c, 5000);
}

static void write_small(struct side *s, const char *text)
{
    struct chain out = {0};

    assert_int_equal(chain_push_copy(&out, &pool, text, strlen(text), 0), ERR_OK);
    assert_int_equal(net_conn_write(s->c, &out), ERR_OK);
    chain_fini(&out);
    net_conn_flush(s->c);
}

/* Small reads that somebody keeps share a slab; when they are let go, the idle connection lets go
 * too. */
static void small_reads_share_a_slab_and_idle_ones_hold_none(void **state)
{
    (void)state;
    b.is_keeping = b.is_closing_on_eof = true;
    join(0);
    while (a.opens == 0 || b.opens == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    for (int i = 0; i < 100; i++) {
        write_small(&a, "twenty bytes of text");
        while (b.received < (size_t)(i + 1) * 20)
            (void)uv_run(&loop.uv, UV_RUN_ONCE);
    }
    assert_true(b.reads > 50);
    slab_pool_settle(&pool);
    assert_int_equal(pool.live_bytes, LIMIT_SLAB_SIZE);
    chain_clear(&b.kept);
    later(check_idle, 2500);
    loop_run(&loop);
}

static void end_unread(struct loop_timer *t)
{
    (void)t;
    chain_clear(&b.kept);
    net_conn_reset(a.c);
}

static void write_and_end(struct loop_timer *t)
{
    (void)t;
    write_small(&a, "and more");
    later(end_unread, 1000);
}

/* OpenSSL's buffers are gone each time, and for what is only written it gets no other to read. */
static void idle_ones_write_and_end(void **state)
{
    (void)state;
    b.is_keeping = b.is_closing_on_eof = true;
    join(0);
    while (a.opens == 0 || b.opens == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    write_small(&a, "a few bytes");
    later(write_and_end, 1000);
    loop_run(&loop);
}

/* Large slabs come while a lot is read, at a bounded pace, and are gone when it is over. */
static void much_input_is_read_into_large_slabs(void **state)
{
    (void)state;
    a.to_send = 8u * 1024 * 1024;
    b.is_closing_on_eof = true;
    join(0);
    while (b.received < a.to_send)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    assert_true(b.read_max > LIMIT_SLAB_SIZE);
    b.is_keeping = true;
    for (int i = 0; i < 3; i++) {
        size_t before = b.received;

        write_small(&a, "twenty bytes of text");
        while (b.received < before + 20)
            (void)uv_run(&loop.uv, UV_RUN_ONCE);
    }
    slab_pool_settle(&pool);
    /* The first of the three may still have gone into the slab that was open. */
    assert_true(pool.live_bytes <= LIMIT_SLAB_SIZE + LIMIT_SLAB_LARGE);
    chain_clear(&b.kept);
    later(check_idle, 2500);
    loop_run(&loop);
}

static void reads_that_nobody_keeps_leave_no_slab(void **state)
{
    (void)state;
    a.to_send = 100;
    b.is_closing_on_eof = true;
    join(0);
    while (b.received < a.to_send)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    slab_pool_settle(&pool);
    assert_int_equal(pool.live_bytes, 0);
    net_conn_close(a.c, 5000);
    loop_run(&loop);
}

/* --- plain, with a bare peer --- */

static void write_bare(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void run_until_eof_b(void)
{
    while (b.eofs == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
}

static void close_b_and_run(void)
{
    net_conn_close(b.c, 0);
    loop_run(&loop);
    assert_int_equal(b.eofs, 1);
}

static void assert_kept_b(const char *text)
{
    uint8_t buf[64];

    assert_int_equal(b.kept.len, strlen(text));
    chain_copy(&b.kept, 0, b.kept.len, buf);
    assert_memory_equal(buf, text, b.kept.len);
}

static void open_comes_from_the_loop(void **state)
{
    int fd = join_bare();

    (void)state;
    assert_int_equal(b.opens, 0);
    assert_string_equal(net_conn_peer(b.c), "unix");
    assert_int_equal(net_conn_alpn(b.c), NET_ALPN_NONE);
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(b.opens, 1);
    net_conn_close(b.c, 0);
    assert_int_equal(b.closes, 0);
    loop_run(&loop);
    close(fd);
}

static void a_half_closed_peer_still_gets_our_answer(void **state)
{
    int fd = join_bare();
    char buf[16];

    (void)state;
    b.is_keeping = true;
    write_bare(fd, "question");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    run_until_eof_b();
    assert_int_equal(b.eof_why, ERR_CLOSED);
    assert_kept_b("question");
    write_small(&b, "answer");
    assert_int_equal(read(fd, buf, sizeof buf), 6);
    net_conn_close(b.c, 5000);
    loop_run(&loop);
    assert_int_equal(read(fd, buf, sizeof buf), 0);
    close(fd);
}

/* A peer that answers and goes without reading: the answer counts, although our write fails. */
static void a_failed_write_does_not_hide_what_came_before(void **state)
{
    int fd = join_bare();

    (void)state;
    b.is_keeping = true;
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    write_bare(fd, "go away");
    close(fd);
    write_small(&b, "request");
    assert_int_equal(b.eofs, 0); /* not from inside the flush */
    run_until_eof_b();
    assert_kept_b("go away");
    assert_int_equal(b.eof_why, ERR_SYSTEM);
    assert_non_null(strstr(b.why, "write"));
    assert_int_equal(net_conn_queued(b.c), 0);
    close_b_and_run();
}

static void a_failed_write_shows_while_reading_is_stopped(void **state)
{
    int fd = join_bare();

    (void)state;
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    net_conn_read_stop(b.c);
    close(fd);
    write_small(&b, "request");
    run_until_eof_b();
    assert_int_equal(b.eof_why, ERR_SYSTEM);
    close_b_and_run();
}

static void writing_after_a_failure_is_refused(void **state)
{
    struct chain out = {0};
    int fd = join_bare();

    (void)state;
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    close(fd);
    write_small(&b, "request");
    run_until_eof_b();
    assert_int_equal(chain_push_copy(&out, &pool, "x", 1, 0), ERR_OK);
    assert_int_equal(net_conn_write(b.c, &out), ERR_CLOSED);
    assert_int_equal(out.len, 0);
    net_conn_close(b.c, 0);
    assert_int_equal(chain_push_copy(&out, &pool, "x", 1, 0), ERR_OK);
    assert_int_equal(net_conn_write(b.c, &out), ERR_CLOSED);
    chain_fini(&out);
    net_conn_flush(b.c);
    loop_run(&loop);
}

static void a_reset_is_a_failure(void **state)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int lfd = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);

    (void)state;
    assert_int_equal(bind(lfd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(lfd, 1), 0);
    assert_int_equal(getsockname(lfd, (struct sockaddr *)&addr, &len), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    accept_side(&b, accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), NULL);
    assert_non_null(strstr(net_conn_peer(b.c), "127.0.0.1:"));
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    close(fd);
    close(lfd);
    run_until_eof_b();
    assert_int_equal(b.eof_why, ERR_SYSTEM);
    assert_non_null(strstr(b.why, "reset"));
    close_b_and_run();
}

/* The peer reads nothing, so the kernel holds bytes for it. */
static void let_the_kernel_hold_bytes(void)
{
    join(0);
    while (a.opens == 0 || b.opens == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    net_conn_read_stop(b.c);
    a.to_send = 100000;
    send_pattern(&a);
    while (net_conn_queued(a.c) > 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
}

static void what_the_kernel_holds_outlives_a_close(void **state)
{
    (void)state;
    let_the_kernel_hold_bytes();
    net_conn_close(a.c, 0);
    net_conn_read_start(b.c);
    run_until_eof_b();
    assert_int_equal(b.eof_why, ERR_CLOSED);
    assert_int_equal(b.received, a.to_send);
    close_b_and_run();
}

static void a_reset_forgets_what_the_kernel_holds(void **state)
{
    (void)state;
    let_the_kernel_hold_bytes();
    net_conn_reset(a.c);
    net_conn_read_start(b.c);
    run_until_eof_b();
    assert_int_equal(b.eof_why, ERR_SYSTEM);
    assert_non_null(strstr(b.why, "reset"));
    close_b_and_run();
}

static void on_wrote_closes(struct net_conn *c, size_t n)
{
    on_wrote(c, n);
    net_conn_close(c, 0);
}

static void closing_inside_on_wrote_is_safe(void **state)
{
    static struct net_conn_ops closing;
    int fd = join_bare();
    char buf[16];

    (void)state;
    closing = ops;
    closing.on_wrote = on_wrote_closes;
    net_conn_set_ops(b.c, &closing, &b);
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    write_small(&b, "answer");
    assert_int_equal(b.closes, 0);
    loop_run(&loop);
    assert_int_equal(b.wrote, 6);
    assert_int_equal(read(fd, buf, sizeof buf), 6);
    close(fd);
}

static void on_wrote_writes(struct net_conn *c, size_t n)
{
    struct side *s = net_conn_user(c);

    on_wrote(c, n);
    if (s->wrote < 100000)
        write_small(s, "x");
    else
        net_conn_close(c, 5000);
}

/* An owner that writes whenever bytes left neither overflows the stack nor keeps the loop. */
static void writing_inside_on_wrote_does_not_recurse(void **state)
{
    static struct net_conn_ops writing;
    int fd = join_bare();
    char buf[4096];
    size_t total = 0;

    (void)state;
    writing = ops;
    writing.on_wrote = on_wrote_writes;
    net_conn_set_ops(b.c, &writing, &b);
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    write_small(&b, "x");
    assert_true(b.wrote < 10);
    while (total < 100000) {
        ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);

        total += n > 0 ? (size_t)n : 0;
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    close(fd);
    loop_run(&loop);
    assert_int_equal(b.closes, 1);
}

static void what_is_queued_before_open_leaves_then(void **state)
{
    int fd = join_bare();
    char buf[16];

    (void)state;
    write_small(&b, "early");
    assert_int_equal(net_conn_queued(b.c), 5);
    (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(read(fd, buf, sizeof buf), 5);
    net_conn_close(b.c, 0);
    loop_run(&loop);
    close(fd);
}

/* --- TLS, with a bare peer in between --- */

/* Cuts the TCP stream of an open TLS connection: an end without close_notify. */
static void a_cut_tls_stream_is_a_failure(void **state)
{
    (void)state;
    b.is_keeping = true;
    join(0);
    while (a.opens == 0 || b.opens == 0)
        (void)uv_run(&loop.uv, UV_RUN_ONCE);
    /* More is queued than the socket takes, so close(0) leaves a cut stream. */
    net_conn_read_stop(b.c);
    a.to_send = 12 * 1024 * 1024;
    while (net_conn_queued(a.c) == 0) {
        send_pattern(&a);
        (void)uv_run(&loop.uv, UV_RUN_NOWAIT);
    }
    net_conn_close(a.c, 0);
    net_conn_read_start(b.c);
    run_until_eof_b();
    assert_int_equal(b.eof_why, ERR_TLS);
    assert_non_null(strstr(b.why, "eof"));
    net_conn_close(b.c, 0);
    loop_run(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define PLAIN(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TLS(fn) {"tls_" #fn, fn, setup, teardown, "tls"}
#define BOTH(name) PLAIN(name), TLS(name)
        BOTH(echo_through_small_buffers),
        BOTH(echo_through_large_buffers),
        BOTH(lingering_close_delivers_every_byte),
        BOTH(lingering_ends_at_its_deadline),
        BOTH(a_second_close_with_0_ends_a_linger),
        BOTH(closing_inside_on_read_is_safe),
        BOTH(closing_inside_on_open_is_safe),
        BOTH(closing_before_it_is_open_is_safe),
        BOTH(stopped_reading_pushes_back),
        BOTH(unread_bytes_come_again),
        BOTH(unread_bytes_wait_while_reading_is_stopped),
        BOTH(small_reads_share_a_slab_and_idle_ones_hold_none),
        BOTH(idle_ones_write_and_end),
        PLAIN(much_input_is_read_into_large_slabs),
        BOTH(reads_that_nobody_keeps_leave_no_slab),
        PLAIN(open_comes_from_the_loop),
        PLAIN(a_half_closed_peer_still_gets_our_answer),
        PLAIN(a_failed_write_does_not_hide_what_came_before),
        PLAIN(a_failed_write_shows_while_reading_is_stopped),
        PLAIN(writing_after_a_failure_is_refused),
        PLAIN(a_reset_is_a_failure),
        PLAIN(what_the_kernel_holds_outlives_a_close),
        PLAIN(a_reset_forgets_what_the_kernel_holds),
        PLAIN(closing_inside_on_wrote_is_safe),
        PLAIN(writing_inside_on_wrote_does_not_recurse),
        PLAIN(what_is_queued_before_open_leaves_then),
        TLS(a_cut_tls_stream_is_a_failure),
    };

    return cmocka_run_group_tests(tests, tls_pair_setup, tls_pair_teardown);
}
