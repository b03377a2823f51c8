/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream_kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS 100

/* --- the clock ------------------------------------------------------------------------------- */

static uint64_t skipped_ns;

/* Takes the place of libc's, for libuv too. */
int clock_gettime(clockid_t id, struct timespec *t)
{
    int rv = (int)syscall(SYS_clock_gettime, id, t);
    uint64_t ns;

    if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
        return rv;
    ns = (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_nsec + skipped_ns;
    t->tv_sec = (time_t)(ns / 1000000000u);
    t->tv_nsec = (long)(ns % 1000000000u);
    return rv;
}

/* --- etcd ------------------------------------------------------------------------------------ */

void server_listen(struct server *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int on = 1;

    if (s->url->port[0] != '\0')
        a.sin_port = htons((uint16_t)strtoul(s->url->port, NULL, 10));
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(s->listener, CONNS_MAX), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&a, &len), 0);
    (void)snprintf(s->url->host, sizeof s->url->host, "127.0.0.1");
    (void)snprintf(s->url->port, sizeof s->url->port, "%d", ntohs(a.sin_port));
}

void server_refuse(struct server *s)
{
    close(s->listener);
    s->listener = -1;
}

static void server_accept(struct server *s)
{
    int fd;

    if (s->listener < 0)
        return;
    fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        assert_true(errno == EAGAIN);
        return;
    }
    assert_true(s->count < CONNS_MAX && s->silent_count < CONNS_MAX);
    if (s->greets)
        assert_int_equal(write(fd, "\0\0\0\4\0\0\0\0\0", 9), 9); /* SETTINGS */
    if (s->is_silent)
        s->silent[s->silent_count++] = fd;
    else
        end_init(&s->ends[s->count++], s->k, fd, &s->opts);
}

/* --- the fixture ----------------------------------------------------------------------------- */

void fix_init(struct fix *f, size_t servers)
{
    memset(f, 0, sizeof *f);
    kit_init(&f->k);
    for (size_t i = 0; i < servers; i++) {
        f->servers[i] = (struct server){.k = &f->k, .url = &f->urls[i], .opts = kit_server_opts};
        server_listen(&f->servers[i]);
    }
    f->env = (struct proxy_env){.etcd_urls = f->urls, .etcd_url_count = servers};
    upstream_pool_init(&f->pool, &f->k.loop, &f->k.pool, &f->env);
}

void fix_fini(struct fix *f)
{
    upstream_pool_close(&f->pool);
    for (size_t i = 0; i < f->env.etcd_url_count; i++) {
        struct server *s = &f->servers[i];

        for (unsigned n = 0; n < s->count; n++)
            end_close(&s->ends[n]);
        for (unsigned n = 0; n < s->silent_count; n++)
            close(s->silent[n]);
        if (s->listener >= 0)
            close(s->listener);
    }
    kit_fini(&f->k);
    upstream_pool_fini(&f->pool); /* checks that nothing is left in it */
}

static void accept_all(struct fix *f)
{
    for (size_t i = 0; i < f->env.etcd_url_count; i++)
        server_accept(&f->servers[i]);
}

void turn(struct fix *f)
{
    accept_all(f);
    kit_turn(&f->k);
}

void skip_ms(struct fix *f, unsigned ms)
{
    while (ms > 0) {
        unsigned step = ms < STEP_MS ? ms : STEP_MS;

        ms -= step;
        skipped_ns += step * 1000000ull;
        for (int i = 0; i < 4; i++) {
            accept_all(f);
            (void)uv_run(&f->k.loop.uv, UV_RUN_NOWAIT);
        }
    }
}

void run_ms(struct fix *f, unsigned ms)
{
    uint64_t end = loop_hrtime_ns() + ms * 1000000ull;

    while (loop_hrtime_ns() < end)
        turn(f);
}

unsigned long since_ms(uint64_t start_ns)
{
    return (unsigned long)((loop_hrtime_ns() - start_ns) / 1000000);
}

/* --- users ----------------------------------------------------------------------------------- */

static void on_back(struct upstream_user *up)
{
    struct user *u = CONTAINER_OF(up, struct user, up);

    u->backs++;
    if (u->at_back != NULL)
        u->at_back(u);
}

static void on_away(struct upstream_user *up)
{
    struct user *u = CONTAINER_OF(up, struct user, up);

    for (int i = 0; i < WAITS; i++) /* those that wait from before have heard of it first */
        assert_true(list_is_empty(&u->waiters[i].wait.node) || u->waiters[i].told > 0);
    u->aways++;
    if (u->at_away != NULL)
        u->at_away(u);
}

const struct upstream_user_ops user_ops = {.on_back = on_back, .on_away = on_away};

static void on_wait(struct upstream_wait *wait, struct h2_conn *conn)
{
    struct waiter *w = CONTAINER_OF(wait, struct waiter, wait);

    assert_true(list_is_empty(&wait->node));
    w->told++;
    w->order = ++w->user->told;
    w->conn = conn;
    if (w->user->at_wait != NULL)
        w->user->at_wait(w);
}

struct user *user_alloc(void)
{
    struct user *u = calloc(1, sizeof *u);

    assert_non_null(u);
    for (int i = 0; i < WAITS; i++) {
        u->waiters[i].user = u;
        upstream_wait_init(&u->waiters[i].wait, on_wait);
    }
    return u;
}

struct user *user_new(struct fix *f)
{
    struct user *u = user_alloc();

    assert_int_equal(upstream_join(&f->pool, &u->up, &user_ops), ERR_OK);
    assert_int_equal(u->backs + u->aways, 0); /* both come from the loop */
    return u;
}

struct user *user_ready(struct fix *f)
{
    struct user *u = user_new(f);

    UNTIL(f, u->backs == 1);
    return u;
}

void user_free(struct user *u)
{
    upstream_leave(&u->up);
    upstream_leave(&u->up);
    free(u);
}

void user_free_from_inside(struct user *u)
{
    upstream_leave(&u->up);
    memset(u, 0x5a, sizeof *u); /* the test still holds it; who uses it now falls over */
}

struct h2_conn *ask_for(struct user *u, enum upstream_class class, int i)
{
    return upstream_ask(&u->up, class, &u->waiters[i].wait);
}

struct h2_conn *ask(struct user *u, int i)
{
    return ask_for(u, UPSTREAM_UNARY, i);
}

struct h2_conn *await(struct fix *f, struct user *u, enum upstream_class class)
{
    struct waiter *w = &u->waiters[WAITS - 1];
    unsigned told = w->told;
    struct h2_conn *conn = ask_for(u, class, WAITS - 1);

    if (conn != NULL)
        return conn;
    UNTIL(f, w->told == told + 1);
    return w->conn;
}

/* --- streams --------------------------------------------------------------------------------- */

static void on_response(struct h2_stream *s, struct h2_fields h, bool end)
{
    (void)h;
    (void)end;
    ((struct stream *)h2_stream_user(s))->is_answered = true;
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    (void)s;
    slice_drop(data);
}

static void on_trailers(struct h2_stream *s, struct h2_fields h)
{
    (void)s;
    (void)h;
}

static void on_end(struct h2_stream *s)
{
    (void)s;
}

static void on_drained(struct h2_stream *s, size_t n)
{
    (void)s;
    (void)n;
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct stream *stream = h2_stream_user(s);

    upstream_released(h2_stream_conn(s));
    stream->closes++;
    stream->s = NULL;
    stream->code = code;
    stream->how = how;
}

const struct h2_stream_ops stream_ops = {
    .on_response = on_response,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

unsigned server_streams(const struct server *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->count; i++)
        n += s->ends[i].recs_count;
    return n;
}

unsigned server_conns(const struct server *s)
{
    unsigned n = 0;

    for (unsigned i = 0; i < s->count; i++)
        n += s->ends[i].c != NULL && s->ends[i].lost_count == 0;
    return n;
}

static unsigned heard(const struct fix *f)
{
    unsigned n = 0;

    for (size_t i = 0; i < f->env.etcd_url_count; i++)
        n += server_streams(&f->servers[i]);
    return n;
}

void stream_open(struct fix *f, struct h2_conn *conn, struct stream *out)
{
    unsigned before = heard(f);

    assert_non_null(conn);
    *out = (struct stream){.conn = conn};
    assert_int_equal(h2_request(conn, kit_request, true, &stream_ops, out, &out->s), ERR_OK);
    UNTIL(f, heard(f) == before + 1);
}

void stream_for(struct fix *f, struct user *u, enum upstream_class class, struct stream *out)
{
    /* Not at once, but another turn does no harm while the connection lives. */
    stream_open(f, await(f, u, class), out);
}

void stream_end(struct fix *f, struct stream *s)
{
    if (s->s != NULL)
        h2_stream_reset(s->s, H2_CANCEL);
    UNTIL(f, s->closes == 1);
}
