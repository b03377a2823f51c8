/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of ours (h2, net, loop, base) fails once, in turn, in the life of two
 * connections with a call between them: nothing crashes, every stream ends once, nothing stays
 * behind. */
#include "kit.h"

#include <unistd.h>

#include "failing_alloc.h"

#define BODY 200000u

/* Both ends; what happens is only counted. */
struct side {
    struct slab_pool *pool;
    struct h2_conn *c;
    struct h2_stream *s;
    struct slab *content;
    unsigned opened, closed, lost;
    size_t got;
    bool is_server, is_ready, is_net_dead, has_trailers;
};

static enum err send_body(struct side *side, struct h2_stream *s, bool last)
{
    struct chain c = {0};

    for (uint32_t at = 0; at < BODY; at += 20000) {
        struct slice part = {side->content, at, 20000};
        enum err e;

        slab_ref(side->content);
        e = chain_push(&c, &part);
        if (e != ERR_OK) {
            chain_fini(&c);
            return e;
        }
    }
    return h2_stream_send(s, &c, last);
}

static void on_response(struct h2_stream *s, struct h2_fields f, bool end)
{
    (void)s;
    (void)f;
    (void)end;
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct side *side = h2_stream_user(s);

    side->got += data->len;
    h2_stream_credit(s, data->len);
    slice_drop(data);
}

static void on_trailers(struct h2_stream *s, struct h2_fields f)
{
    struct side *side = h2_stream_user(s);

    (void)f;
    side->has_trailers = true;
}

static void on_end(struct h2_stream *s)
{
    struct side *side = h2_stream_user(s);
    enum err e = h2_respond(s, kit_response, false);

    if (e == ERR_OK)
        e = send_body(side, s, false);
    if (e == ERR_OK)
        e = h2_stream_trailers(s, kit_trailers);
    if (e != ERR_OK)
        h2_stream_reset(s, H2_INTERNAL_ERROR);
}

static void on_drained(struct h2_stream *s, size_t n)
{
    (void)s;
    (void)n;
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct side *side = h2_stream_user(s);

    (void)code;
    (void)how;
    side->closed++;
    side->s = NULL;
}

static const struct h2_stream_ops stream_ops = {
    .on_response = on_response,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_request(struct h2_conn *c, struct h2_stream *s, struct h2_fields f, bool end)
{
    struct side *side = h2_conn_user(c);

    (void)f;
    (void)end;
    side->s = s;
    side->opened++;
    h2_stream_set_owner(s, &stream_ops, side);
}

static void on_ready(struct h2_conn *c)
{
    ((struct side *)h2_conn_user(c))->is_ready = true;
}

static void on_goaway(struct h2_conn *c, enum h2_code code)
{
    (void)c;
    (void)code;
}

static void on_lost(struct h2_conn *c, enum err why)
{
    struct side *side = h2_conn_user(c);

    (void)why;
    side->lost++;
    h2_conn_close(c, H2_NO_ERROR, 0);
}

static void on_conn_closed(struct h2_conn *c)
{
    ((struct side *)h2_conn_user(c))->c = NULL;
}

static const struct h2_conn_ops conn_ops = {
    .on_request = on_request,
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

static void net_nothing(struct net_conn *net)
{
    (void)net;
}

static void net_read(struct net_conn *net, struct slice *s)
{
    (void)net;
    slice_drop(s);
}

static void net_eof(struct net_conn *net, enum err why)
{
    (void)why;
    net_conn_close(net, 0);
}

static const struct net_conn_ops net_ops = {.on_open = net_nothing,
                                            .on_read = net_read,
                                            .on_writable = net_nothing,
                                            .on_eof = net_eof,
                                            .on_closed = net_nothing};

static bool side_open(struct kit *k, struct side *side, int fd, const struct h2_opts *opts)
{
    struct net_conn *net;

    if (net_conn_accept(&k->loop, &k->pool, SLAB_SECRET, fd, NULL, &net_ops, NULL, &net) != ERR_OK)
        return false;
    if (h2_conn_new(&k->loop, &k->pool, net, opts, &conn_ops, side, &side->c) == ERR_OK)
        return true;
    side->c = NULL;
    return false;
}

static void run_call(struct kit *k, struct side *client, struct side *server, const int fd[2])
{
    struct h2_opts copts = kit_client_opts;
    bool ok = side_open(k, client, fd[0], &copts);

    copts.ping_ms = 10000;
    ok = side_open(k, server, fd[1], &kit_server_opts) && ok;
    if (!ok)
        return;
    while (client->c != NULL && !client->is_ready)
        kit_turn(k);
    if (client->c == NULL ||
        h2_request(client->c, kit_request, false, &stream_ops, client, &client->s) != ERR_OK)
        return;
    client->opened++;
    if (send_body(client, client->s, true) != ERR_OK && client->s != NULL)
        h2_stream_reset(client->s, H2_CANCEL);
    while (client->closed < client->opened)
        kit_turn(k);
}

static void side_close(struct kit *k, struct side *side)
{
    if (side->c != NULL)
        h2_conn_close(side->c, H2_NO_ERROR, 0);
    while (side->c != NULL)
        kit_turn(k);
    slab_drop(side->content);
    assert_int_equal(side->closed, side->opened);
    assert_in_range(side->lost, 0, 1);
}

static void side_init(struct side *side, struct kit *k)
{
    *side = (struct side){.pool = &k->pool};
    side->content = slab_new(&k->pool, BODY, SLAB_SECRET);
    assert_non_null(side->content);
    memset(side->content->data, 'c', BODY);
    side->content->fill = BODY;
}

/* True when the n-th allocation was reached. */
static bool run(unsigned n)
{
    struct kit k;
    struct side client, server;
    int fd[2];
    bool has_failed;

    kit_init(&k);
    side_init(&client, &k);
    side_init(&server, &k);
    kit_socketpair(fd);
    alloc_fail_once(n);
    run_call(&k, &client, &server, fd);
    side_close(&k, &client);
    side_close(&k, &server);
    has_failed = alloc_recover();
    kit_run_ms(&k, 1);
    kit_fini(&k);
    if (!has_failed) {
        assert_int_equal(client.got, BODY);
        assert_int_equal(server.got, BODY);
        assert_true(client.has_trailers);
    }
    return has_failed;
}

static void test_each_allocation_fails_once(void **state)
{
    unsigned n = 1;

    (void)state;
    while (run(n))
        n++;
    print_message("%u allocations\n", n - 1);
    assert_in_range(n, 20, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
