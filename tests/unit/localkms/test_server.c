/* SPDX-License-Identifier: Apache-2.0 */
/* The server on a socket, talked to by bare HTTP/2 requests: whatever is odd gets a status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"
#include "h2/h2.h"
#include "localkms/server.h"
#include "localkms/service.h"

#define KEYS "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
#define FIELD(n, v) ((struct h2_field){BYTES_LIT(n), BYTES_LIT(v)})
#define STATUS_PATH "/v2.KeyManagementService/Status"
#define ENCRYPT_PATH "/v2.KeyManagementService/Encrypt"

struct fixture {
    struct loop loop;
    struct slab_pool pool;
    struct net_url url;
    struct kek_set *keys;
    struct kms_server *server;
    struct h2_conn *h2;
    uv_timer_t tick; /* ends each turn of the loop, so that waits see their end */
    bool is_ready, is_conn_closed;
};

/* What became of a request. */
struct outcome {
    char http_status[8], grpc_status[8], message[128], content_type[64];
    uint8_t body[8192];
    size_t body_len;
    bool is_closed;
};

static struct fixture f;

static void on_tick(uv_timer_t *tick)
{
    (void)tick;
}

/* A connection that is gone brings nothing more. */
static void until_true(const bool *flag)
{
    uint64_t end = loop_hrtime_ns() + 20ull * 1000000000;

    while (!*flag) {
        assert_false(f.is_conn_closed);
        assert_true(loop_hrtime_ns() < end);
        uv_run(&f.loop.uv, UV_RUN_ONCE);
    }
}

static void take_fields(struct h2_stream *s, struct h2_fields h)
{
    struct outcome *o = h2_stream_user(s);
    const struct {
        const char *name;
        char *to;
        size_t cap;
    } wanted[] = {
        {":status", o->http_status, sizeof o->http_status},
        {"grpc-status", o->grpc_status, sizeof o->grpc_status},
        {"grpc-message", o->message, sizeof o->message},
        {"content-type", o->content_type, sizeof o->content_type},
    };

    for (size_t i = 0; i < h.count; i++) {
        for (size_t j = 0; j < ARRAY_LEN(wanted); j++) {
            if (bytes_eq(h.v[i].name, bytes_str(wanted[j].name)))
                snprintf(wanted[j].to, wanted[j].cap, "%.*s", (int)h.v[i].value.n,
                         (const char *)h.v[i].value.p);
        }
    }
}

static void on_response(struct h2_stream *s, struct h2_fields h, bool end_stream)
{
    (void)end_stream;
    take_fields(s, h);
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct outcome *o = h2_stream_user(s);

    assert_true(o->body_len + data->len <= sizeof o->body);
    memcpy(o->body + o->body_len, slice_data(*data), data->len);
    o->body_len += data->len;
    h2_stream_credit(s, data->len);
    slice_drop(data);
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
    struct outcome *o = h2_stream_user(s);

    (void)code;
    (void)how;
    o->is_closed = true;
}

static const struct h2_stream_ops stream_ops = {
    .on_response = on_response,
    .on_data = on_data,
    .on_trailers = take_fields,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_ready(struct h2_conn *c)
{
    (void)c;
    f.is_ready = true;
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

static void on_conn_closed(struct h2_conn *c)
{
    (void)c;
    f.is_conn_closed = true;
}

static const struct h2_conn_ops conn_ops = {
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

static void on_net_open(struct net_conn *c)
{
    static const struct h2_opts opts = {
        .stream_window = 65536, .conn_window = 1 << 20, .max_frame_size = 16384};

    assert_int_equal(h2_conn_new(&f.loop, &f.pool, c, &opts, &conn_ops, NULL, &f.h2), ERR_OK);
}

static void on_net_read(struct net_conn *c, struct slice *s)
{
    (void)c;
    slice_drop(s);
}

static void on_net_eof(struct net_conn *c, enum err why)
{
    (void)why;
    net_conn_close(c, 0);
}

static void on_net_closed(struct net_conn *c)
{
    (void)c;
    f.is_conn_closed = true;
}

static int setup(void **state)
{
    static const struct net_conn_ops net_ops = {.on_open = on_net_open,
                                                .on_read = on_net_read,
                                                .on_eof = on_net_eof,
                                                .on_closed = on_net_closed};
    struct net_conn *net;
    char why[256], dir[] = "/tmp/test-server-XXXXXX";

    (void)state;
    memset(&f, 0, sizeof f);
    slab_pool_init(&f.pool, 16);
    assert_non_null(mkdtemp(dir));
    f.url.is_unix = true;
    snprintf(f.url.host, sizeof f.url.host, "%s/sock", dir);
    assert_int_equal(loop_init(&f.loop), ERR_OK);
    assert_int_equal(uv_timer_init(&f.loop.uv, &f.tick), 0);
    assert_int_equal(uv_timer_start(&f.tick, on_tick, 100, 100), 0);
    assert_int_equal(kek_set_parse(BYTES_LIT(KEYS), &f.keys, why, sizeof why), ERR_OK);
    assert_int_equal(kms_server_new(&f.loop, &f.url, f.keys, &f.server, why, sizeof why), ERR_OK);
    assert_int_equal(net_conn_dial(&f.loop, &f.pool, 0, &f.url, NULL, &net_ops, NULL, &net),
                     ERR_OK);
    until_true(&f.is_ready);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    h2_conn_close(f.h2, H2_NO_ERROR, 0);
    until_true(&f.is_conn_closed);
    kms_server_close(f.server);
    uv_close((uv_handle_t *)&f.tick, NULL);
    loop_stop(&f.loop);
    loop_run(&f.loop);
    loop_fini(&f.loop);
    kek_set_free(f.keys);
    slab_pool_fini(&f.pool);
    *strrchr(f.url.host, '/') = '\0';
    return rmdir(f.url.host); /* the socket file is gone */
}

/* --- requests --------------------------------------------------------------------------------- */

struct request {
    const char *method, *path, *content_type; /* NULL: the usual */
    const void *body;                         /* with its prefix; n == 0: none at all */
    size_t n;
    bool is_bare; /* END_STREAM on the headers */
};

static struct outcome ask(struct request r)
{
    static struct outcome o;
    struct h2_field head[] = {
        {BYTES_LIT(":method"), bytes_str(r.method == NULL ? "POST" : r.method)},
        FIELD(":scheme", "http"),
        {BYTES_LIT(":path"), bytes_str(r.path == NULL ? ENCRYPT_PATH : r.path)},
        FIELD(":authority", "localhost"),
        {BYTES_LIT("content-type"),
         bytes_str(r.content_type == NULL ? "application/grpc" : r.content_type)},
        FIELD("te", "trailers"),
    };
    struct chain out = {0};
    struct h2_stream *s;

    o = (struct outcome){0};
    assert_int_equal(
        h2_request(f.h2, (struct h2_fields){head, ARRAY_LEN(head)}, r.is_bare, &stream_ops, &o, &s),
        ERR_OK);
    if (!r.is_bare) {
        if (r.n > 0)
            assert_int_equal(chain_push_copy(&out, &f.pool, r.body, r.n, 0), ERR_OK);
        assert_int_equal(h2_stream_send(s, &out, true), ERR_OK);
        chain_fini(&out);
    }
    until_true(&o.is_closed);
    return o;
}

static void expect(struct request r, const char *grpc_status, const char *message)
{
    struct outcome o = ask(r);

    /* h2 says H2_END_RESET when the answer came before the request was over: RFC 9113 section 8.1
     * lets the server then reset the stream with NO_ERROR. */
    assert_string_equal(o.http_status, "200");
    assert_string_equal(o.content_type, "application/grpc");
    assert_string_equal(o.grpc_status, grpc_status);
    if (strstr(o.message, message) == NULL)
        fail_msg("%s: not in: %s", message, o.message);
    assert_int_equal(o.body_len, 0);
}

/* Afterwards the connection still serves. */
static void expect_alive(void)
{
    struct outcome o = ask((struct request){.path = STATUS_PATH, .body = "\0\0\0\0\0", .n = 5});

    assert_string_equal(o.grpc_status, "0");
    assert_int_equal(o.body_len, 5 + 4 + 4 + 2 + KEK_ID_LEN);
    assert_memory_equal(o.body, "\0\0\0\0\x30\x0a\x02v2\x12\x02ok\x1a\x26local-", 21);
}

static void good_calls(void **state)
{
    struct outcome o = ask((struct request){
        .body = "\0\0\0\0\x06\x0a\x04seed", .n = 11, .content_type = "application/grpc+proto"});

    (void)state;
    assert_string_equal(o.grpc_status, "0");
    assert_memory_equal(o.body, "\0\0\0\0", 4);
    assert_int_equal(o.body[4], o.body_len - 5);
    assert_int_equal(o.body[6], 4 + 29);
    expect_alive();
}

static void other_paths_are_unimplemented(void **state)
{
    static const char *const paths[] = {
        "/v1beta1.KeyManagementService/Encrypt", "/v2.KeyManagementService/Encrypt/",
        "/v2.KeyManagementService/encrypt",      "/grpc.health.v1.Health/Check",
        "/v2.KeyManagementService/Encrypt?x",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        expect((struct request){.path = paths[i], .body = "\0\0\0\0\0", .n = 5}, "12", "unknown");
    expect_alive();
}

static void other_http_is_refused(void **state)
{
    struct outcome o = ask((struct request){.method = "GET", .is_bare = true});

    (void)state;
    assert_string_equal(o.http_status, "405");
    o = ask((struct request){.content_type = "application/json", .body = "{}", .n = 2});
    assert_string_equal(o.http_status, "415");
    expect_alive();
}

static void messages_that_are_not_one_whole_plain_one_are_refused(void **state)
{
    (void)state;
    expect((struct request){.is_bare = true}, "13", "cut short");
    expect((struct request){.n = 0}, "13", "cut short");
    expect((struct request){.body = "\0\0\0", .n = 3}, "13", "cut short");
    expect((struct request){.body = "\0\0\0\0\x06\x0a\x04see", .n = 10}, "13", "cut short");
    expect((struct request){.body = "\0\0\0\0\x06\x0a\x04seed\0", .n = 12}, "13", "more than one");
    expect((struct request){.body = "\1\0\0\0\x06\x0a\x04seed", .n = 11}, "12", "compressed");
    expect((struct request){.body = "\2\0\0\0\x06\x0a\x04seed", .n = 11}, "13", "prefix");
    expect((struct request){.body = "\0\0\0\0\x02\x0a\x04", .n = 7}, "13", "malformed");
    expect((struct request){.body = "\0\0\0\0\0", .n = 5}, "3", "plaintext is empty");
    expect_alive();
}

static void large_messages_are_refused_by_their_prefix(void **state)
{
    uint8_t *big = calloc(1, 300000);

    (void)state;
    assert_non_null(big);
    memcpy(big, "\0\0\1\0\1", 5); /* 64 KiB and 1 */
    expect((struct request){.body = big, .n = 5}, "8", "64 KiB");
    expect((struct request){.body = big, .n = 300000}, "8", "64 KiB");
    memcpy(big, "\0\0\0\0\0", 5); /* a small one, and then more and more */
    expect((struct request){.body = big, .n = 300000}, "8", "64 KiB");
    memcpy(big, "\0\0\1\0\0\x0a\xfc\xff\x03", 9); /* exactly 64 KiB */
    {
        static struct request r;

        r = (struct request){.body = big, .n = 65536 + 5, .path = STATUS_PATH};
        /* an unknown field of 64 KiB less 4: passes */
        assert_string_equal(ask(r).grpc_status, "0");
    }
    expect_alive();
    free(big);
}

static void new_keys_serve_from_the_next_call_on(void **state)
{
    struct kek_set *next;
    char why[64];
    struct outcome o;

    (void)state;
    assert_int_equal(kek_set_parse(BYTES_LIT("//////////////////////////////////////////8=\n" KEYS),
                                   &next, why, sizeof why),
                     ERR_OK);
    kms_server_set_keys(f.server, next);
    o = ask((struct request){.path = STATUS_PATH, .body = "\0\0\0\0\0", .n = 5});
    assert_memory_equal(o.body + 15, next->keys[0].id, KEK_ID_LEN);
    kms_server_set_keys(f.server, f.keys);
    kek_set_free(next);
}

static int group_setup(void **state)
{
    (void)state;
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(good_calls),
        TEST(other_paths_are_unimplemented),
        TEST(other_http_is_refused),
        TEST(messages_that_are_not_one_whole_plain_one_are_refused),
        TEST(large_messages_are_refused_by_their_prefix),
        TEST(new_keys_serve_from_the_next_call_on),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
