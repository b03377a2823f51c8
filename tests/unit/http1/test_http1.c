/* SPDX-License-Identifier: Apache-2.0 */
#include "http1/http1.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- requests: each is fed whole, byte by byte, and with something behind it --- */

static enum http1_state feed_request(const char *text, size_t n, size_t step,
                                     struct http1_request *out)
{
    struct http1_request_parser *p;
    enum http1_state s = HTTP1_MORE, again;
    struct http1_request unused;

    assert_int_equal(http1_request_parser_new(&p), ERR_OK);
    for (size_t at = 0; at < n && s == HTTP1_MORE; at += step)
        s = http1_request_feed(p, bytes_of(text + at, step < n - at ? step : n - at), out);
    again = http1_request_feed(p, bytes_of(NULL, 0), &unused);
    assert_int_equal(again, s);
    if (s != HTTP1_MORE)
        assert_int_equal(http1_request_feed(p, BYTES_LIT("GET / HTTP/1.1\r\n\r\n"), &unused), s);
    http1_request_parser_free(p);
    return s;
}

static void good_requests(void **state)
{
    static const struct {
        const char *text, *method, *path, *query;
    } cases[] = {
        {"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/health", ""},
        {"GET /health?exclude=NOSPACE&serializable=true HTTP/1.1\r\nHost: a\r\n\r\n", "GET",
         "/health", "exclude=NOSPACE&serializable=true"},
        {"HEAD / HTTP/1.0\r\n\r\n", "HEAD", "/", ""},
        {"POST /v3/kv/range HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "POST", "/v3/kv/range", ""},
        {"DELETE //x/../y?? HTTP/1.1\r\n\r\n", "DELETE", "//x/../y", "?"},
        {"GET /%41%00?%23 HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/%41%00", "%23"},
        {"GET /a#b?c#d HTTP/1.1\r\n\r\n", "GET", "/a#b", "c#d"},
        {"GET http://host/health?a=b HTTP/1.1\r\n\r\n", "GET", "/health", "a=b"},
        {"GET http://host:1 HTTP/1.1\r\n\r\n", "GET", "/", ""},
        {"GET http://host?a HTTP/1.1\r\n\r\n", "GET", "/", "a"},
        {"GET /x?u=http://host/health HTTP/1.1\r\n\r\n", "GET", "/x", "u=http://host/health"},
        {"OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS", "*", ""},
        {"GET /h HTTP/1.2\r\n\r\n", "GET", "/h", ""},
        {"\r\nGET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n", "GET", "/a", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char more[512];
        int n = snprintf(more, sizeof more, "%sGET /next HTTP/1.1\r\n\r\n", cases[i].text);
        struct http1_request r = {0};

        for (size_t step = 1; step <= 200; step++) {
            memset(&r, 'x', sizeof r);
            assert_int_equal(feed_request(cases[i].text, strlen(cases[i].text), step, &r),
                             HTTP1_DONE);
            assert_string_equal(r.method, cases[i].method);
            assert_string_equal(r.path, cases[i].path);
            assert_string_equal(r.query, cases[i].query);
        }
        assert_int_equal(feed_request(more, (size_t)n, sizeof more, &r), HTTP1_DONE);
        assert_string_equal(r.path, cases[i].path);
        /* Without its last byte it is not whole. */
        assert_int_equal(feed_request(cases[i].text, strlen(cases[i].text) - 1, 7, &r), HTTP1_MORE);
    }
}

static void bad_requests(void **state)
{
    static const char *const cases[] = {
        "hello\r\n\r\n",
        "\x16\x03\x01\x02",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET health HTTP/1.1\r\n\r\n",
        "GET /h\x80 HTTP/1.1\r\n\r\n",
        "GET /h\x01 HTTP/1.1\r\n\r\n",
        "GET /h HTTP/2.0\r\n\r\n",
        "GET /h HTTP/0.9\r\n\r\n",
        "GET /h\r\n\r\n",
        "CONNECT host:80 HTTP/1.1\r\n\r\n",
        "GET /h HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET /h HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "GET /h HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET /h HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        "GET /h HTTP/1.1\r\nHost\r\n\r\n",
        "GET /h HTTP/1.1\r\nHo st: a\r\n\r\n",
        "GET /h HTTP/1.1\r\nHost: a\x01\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http1_request r;

        for (size_t step = 1; step <= 200; step = step * 3) {
            enum http1_state s = feed_request(cases[i], strlen(cases[i]), step, &r);

            if (s != HTTP1_BAD)
                fail_msg("case %zu (%s), step %zu: %d", i, cases[i], step, s);
        }
    }
}

/* By method and target alone: what they say is what the same request over HTTP/1.1 says, and what
 * can't be said there is refused, above all what would be more than one line of it. */
static void requests_of_http2(void **state)
{
    static const struct {
        const char *method, *target;
        bool is_good;
    } cases[] = {
        {"GET", "/health", true},
        {"PROPFIND", "/a?b#c", true},
        {"OPTIONS", "*", true},
        {"GET", "http://host:1?a=b", true},
        {"M-SEARCH", "/%41%0d%0a", true},
        {"get", "/health", true},
        {"X!#$%&'*+-.^_`", "/", true},
        {"ABCDEFGHIJKLMNO", "/", true},
        {"ABCDEFGHIJKLMNOP", "/", false},
        {"", "/", false},
        {"CONNECT", "/", false},
        {"G T", "/", false},
        {"GET /x HTTP/1.1\r\nA:", "/", false},
        {"G\r\n", "/", false},
        {"G:T", "/", false},
        {"G\xc3\xb6T", "/", false},
        {"GET", "", false},
        {"GET", "health", false},
        {"GET", "/a b", false},
        {"GET", "/ HTTP/1.1\r\nA: b", false},
        {"GET", "/\xc3\xb6", false},
        {"GET", "/\x7f", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http1_request r, same;
        char text[200];
        int n =
            snprintf(text, sizeof text, "%s %s HTTP/1.1\r\n\r\n", cases[i].method, cases[i].target);

        assert_int_equal(
            http1_request_of(bytes_str(cases[i].method), bytes_str(cases[i].target), &r),
            cases[i].is_good);
        if (!cases[i].is_good)
            continue;
        assert_string_equal(r.method, cases[i].method);
        assert_false(r.has_body || r.wants_upgrade);
        /* http-parser knows fewer methods. */
        if (feed_request(text, (size_t)n, 1000, &same) == HTTP1_DONE) {
            assert_string_equal(r.path, same.path);
            assert_string_equal(r.query, same.query);
        }
    }
}

static void limits_of_requests_of_http2(void **state)
{
    char target[HTTP1_TARGET_MAX + 1];
    struct http1_request r;

    (void)state;
    memset(target, '/', sizeof target);
    assert_true(http1_request_of(BYTES_LIT("GET"), bytes_of(target, HTTP1_TARGET_MAX - 1), &r));
    assert_int_equal(strlen(r.path), HTTP1_TARGET_MAX - 1);
    assert_false(http1_request_of(BYTES_LIT("GET"), bytes_of(target, HTTP1_TARGET_MAX), &r));
    target[3] = '\0';
    assert_false(http1_request_of(BYTES_LIT("GET"), bytes_of(target, 6), &r));
    assert_false(http1_request_of(bytes_of("G\0T", 3), BYTES_LIT("/"), &r));
}

/* What follows a head is not read; that something does is told. */
static void bodies_and_upgrades(void **state)
{
    static const struct {
        const char *text;
        bool has_body, wants_upgrade;
    } cases[] = {
        {"GET /h HTTP/1.1\r\nContent-Length: 0\r\n\r\n", false, false},
        {"GET /h HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", true, false},
        {"POST /h HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", true, false},
        {"GET /h HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", true, false},
        {"GET /h HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", false, true},
        {"GET /h HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http1_request r;

        for (size_t step = 1; step <= 200; step = step * 3) {
            assert_int_equal(feed_request(cases[i].text, strlen(cases[i].text), step, &r),
                             HTTP1_DONE);
            assert_int_equal(r.has_body, cases[i].has_body);
            assert_int_equal(r.wants_upgrade, cases[i].wants_upgrade);
        }
    }
}

static void limits_of_requests(void **state)
{
    static char text[40000];
    struct http1_request r;

    (void)state;
    /* A target of 1023 bytes fits, one more does not. */
    for (int len = 1023; len <= 1024; len++) {
        int n = snprintf(text, sizeof text, "GET /%0*d HTTP/1.1\r\n\r\n", len - 1, 0);

        assert_int_equal(feed_request(text, (size_t)n, 100, &r),
                         len == 1023 ? HTTP1_DONE : HTTP1_BAD);
        if (len == 1023)
            assert_int_equal(strlen(r.path), len);
    }
    /* 16 KiB in all. */
    for (int pad = 16384 - 60; pad <= 16384; pad++) {
        int n = snprintf(text, sizeof text, "GET /h HTTP/1.1\r\nX: %0*d\r\n\r\n", pad, 0);

        assert_int_equal(feed_request(text, (size_t)n, 1000, &r),
                         n <= 16384 ? HTTP1_DONE : HTTP1_BAD);
        assert_int_equal(feed_request(text, (size_t)n, sizeof text, &r),
                         n <= 16384 ? HTTP1_DONE : HTTP1_BAD);
    }
    memset(text, 'G', sizeof text);
    assert_int_equal(feed_request(text, sizeof text, 1000, &r), HTTP1_BAD);
}

/* --- responses --- */

static struct http1_response response;
static char response_body[256];

static enum http1_state feed_response(const char *text, size_t n, size_t step, bool eof,
                                      size_t max_body)
{
    struct http1_response_parser *p;
    enum http1_state s = HTTP1_MORE;

    assert_int_equal(http1_response_parser_new(max_body, false, &p), ERR_OK);
    for (size_t at = 0; at < n && s == HTTP1_MORE; at += step)
        s = http1_response_feed(p, bytes_of(text + at, step < n - at ? step : n - at), false,
                                &response);
    if (s == HTTP1_MORE && eof)
        s = http1_response_feed(p, bytes_of(NULL, 0), true, &response);
    assert_int_equal(http1_response_feed(p, bytes_of(NULL, 0), false, &response), s);
    if (s == HTTP1_DONE) {
        assert_true(response.body.n < sizeof response_body);
        if (response.body.n > 0)
            memcpy(response_body, response.body.p, response.body.n);
        response_body[response.body.n] = '\0';
    }
    http1_response_parser_free(p);
    return s;
}

static void good_responses(void **state)
{
    static const struct {
        const char *text;
        bool needs_eof;
        int status;
        const char *type, *body;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\nhello",
         false, 200, "application/json", "hello"},
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false, 503, "", ""},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCONTENT-TYPE:  text/plain; "
         "version=0.0.4\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nContent-Type: late\r\n\r\n",
         false, 200, "text/plain; version=0.0.4", "hello"},
        {"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello", true, 200, "text/plain",
         "hello"},
        {"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", true, 200, "", ""},
        {"HTTP/1.1 204 No Content\r\n\r\n", false, 204, "", ""},
        {"HTTP/1.1 100 Continue\r\nContent-Type: x\r\n\r\nHTTP/1.1 404 Not "
         "Found\r\nContent-Length: 1\r\n\r\nn",
         false, 404, "", "n"},
        {"HTTP/1.1 200 OK\r\nContent-Type-X: a\r\nX-Content-Type: b\r\nContent-Length: 0\r\n\r\n",
         false, 200, "", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t n = strlen(cases[i].text);

        for (size_t step = 1; step <= 250; step++) {
            assert_int_equal(feed_response(cases[i].text, n, step, cases[i].needs_eof, 5),
                             HTTP1_DONE);
            assert_int_equal(response.status, cases[i].status);
            assert_string_equal(response.content_type, cases[i].type);
            assert_string_equal(response_body, cases[i].body);
        }
        if (!cases[i].needs_eof) /* cut anywhere it is not whole, and its end is not an end */
            for (size_t cut = 0; cut < n; cut++) {
                assert_int_equal(feed_response(cases[i].text, cut, 1000, false, 5), HTTP1_MORE);
                assert_int_equal(feed_response(cases[i].text, cut, 1000, true, 5), HTTP1_BAD);
            }
    }
}

static void bad_responses(void **state)
{
    static const char *const cases[] = {
        "",
        "hello",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhe",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: a\x7f\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: a\xff\r\nContent-Length: 0\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (size_t step = 1; step <= 250; step = step * 3) {
            enum http1_state s = feed_response(cases[i], strlen(cases[i]), step, true, 5);

            if (s != HTTP1_BAD)
                fail_msg("case %zu (%s), step %zu: %d", i, cases[i], step, s);
        }
}

static void limits_of_responses(void **state)
{
    static char text[100000];
    struct http1_response_parser *p;
    int n;

    (void)state;
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: %0*d\r\n\r\n", 127, 0);
    assert_int_equal(feed_response(text, (size_t)n, 50, true, 5), HTTP1_DONE);
    assert_int_equal(strlen(response.content_type), 127);
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Type: %0*d\r\n\r\n", 128, 0);
    assert_int_equal(feed_response(text, (size_t)n, 50, true, 5), HTTP1_BAD);
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nX: %0*d\r\n\r\n", 17000, 0);
    assert_int_equal(feed_response(text, (size_t)n, 1000, true, 5), HTTP1_BAD);
    /* Interim responses without end are a head without end. */
    n = 0;
    while (n < 20000)
        n +=
            snprintf(text + n, sizeof text - (size_t)n, "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n");
    assert_int_equal(feed_response(text, (size_t)n, 1000, false, 5), HTTP1_BAD);
    /* A large body within its limit. */
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n");
    assert_int_equal(http1_response_parser_new(90000, false, &p), ERR_OK);
    assert_int_equal(http1_response_feed(p, bytes_of(text, (size_t)n + 90000), false, &response),
                     HTTP1_DONE);
    assert_int_equal(response.body.n, 90000);
    assert_memory_equal(response.body.p, text + n, 90000);
    http1_response_parser_free(p);
    http1_response_parser_free(NULL);
}

/* --- writing --- */

static void check_reply(struct slab_pool *pool, const struct http1_reply *r, const char *text)
{
    struct chain out = {0};
    char buf[512];

    assert_int_equal(http1_reply_write(&out, pool, r), ERR_OK);
    assert_int_equal(out.len, strlen(text));
    chain_copy(&out, 0, out.len, (uint8_t *)buf);
    assert_memory_equal(buf, text, out.len);
    chain_fini(&out);
}

static void responses_are_written_whole(void **state)
{
    static const char wanted[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Content-Type: application/json\r\n"
                                 "Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    struct slab_pool pool;
    struct chain out = {0};
    uint8_t buf[512];

    (void)state;
    slab_pool_init(&pool, 1);
    assert_int_equal(
        http1_respond(&out, &pool, 503, "application/json", "", BYTES_LIT("{}"), false), ERR_OK);
    assert_int_equal(out.len, strlen(wanted));
    chain_copy(&out, 0, out.len, buf);
    assert_memory_equal(buf, wanted, out.len);
    assert_int_equal(feed_response((const char *)buf, out.len, 9, false, 2), HTTP1_DONE);
    assert_int_equal(response.status, 503);
    assert_string_equal(response_body, "{}");
    chain_clear(&out);

    assert_int_equal(
        http1_respond(&out, &pool, 200, NULL, "A: b\r\nC: d\r\n", bytes_of("x", 77), true), ERR_OK);
    chain_copy(&out, 0, out.len, buf);
    buf[out.len] = '\0';
    assert_string_equal(
        (char *)buf,
        "HTTP/1.1 200 OK\r\nA: b\r\nC: d\r\nContent-Length: 77\r\nConnection: close\r\n\r\n");
    chain_fini(&out);
    check_reply(&pool,
                &(struct http1_reply){.status = 405, .allow = "GET", .body = BYTES_LIT("no")},
                "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 2\r\n"
                "Connection: close\r\n\r\nno");
    check_reply(&pool,
                &(struct http1_reply){
                    .status = 200, .content_type = "a/b", .body = BYTES_LIT("x"), .is_head = true},
                "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nConnection: close\r\n\r\n");
    check_reply(&pool, &(struct http1_reply){.status = 301, .location = "/a?b"},
                "HTTP/1.1 301 Moved Permanently\r\nLocation: /a?b\r\nContent-Length: 0\r\n"
                "Connection: close\r\n\r\n");
    slab_pool_fini(&pool);
}

/* An answer to HEAD is over at its head, whatever length that names; Allow is told. */
static void answers_to_head(void **state)
{
    static const char *const cases[] = {
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 19\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nALLOW: GET\r\nContent-Length: 999999999\r\n\r\n",
        "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http1_response_parser *p;

        assert_int_equal(http1_response_parser_new(10, true, &p), ERR_OK);
        assert_int_equal(http1_response_feed(p, bytes_str(cases[i]), false, &response), HTTP1_DONE);
        assert_int_equal(response.status, 405);
        assert_string_equal(response.allow, "GET");
        assert_int_equal(response.body.n, 0);
        http1_response_parser_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(bodies_and_upgrades),
        cmocka_unit_test(limits_of_requests),
        cmocka_unit_test(good_responses),
        cmocka_unit_test(bad_responses),
        cmocka_unit_test(limits_of_responses),
        cmocka_unit_test(responses_are_written_whole),
        cmocka_unit_test(answers_to_head),
        cmocka_unit_test(requests_of_http2),
        cmocka_unit_test(limits_of_requests_of_http2),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
