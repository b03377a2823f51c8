/* SPDX-License-Identifier: Apache-2.0 */
/* Each allocation of parsers and writers fails in turn. A parser that cannot be made is ERR_NOMEM;
 * a response whose body finds no room is HTTP1_BAD and stays it; a writer that fails is ERR_NOMEM,
 * and what it had written goes with the chain. Afterwards the next one works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "failing_alloc.h"
#include "http1/http1.h"

#define BODY 50000u

static struct slab_pool pool;
static uint8_t body[3 * LIMIT_SLAB_SIZE];

static int setup(void **state)
{
    (void)state;
    slab_pool_init(&pool, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slab_pool_fini(&pool); /* checks that every slab came back */
    return 0;
}

static void a_request_parser_is_one_allocation(void **state)
{
    struct http1_request_parser *p;
    struct http1_request r;

    (void)state;
    alloc_fail_from(1);
    assert_int_equal(http1_request_parser_new(&p), ERR_NOMEM);
    assert_null(p);
    alloc_fail_from(2);
    assert_int_equal(http1_request_parser_new(&p), ERR_OK);
    assert_int_equal(http1_request_feed(p, BYTES_LIT("GET /health?x=y HTTP/1.1\r\n\r\n"), &r),
                     HTTP1_DONE);
    assert_string_equal(r.path, "/health");
    assert_int_equal(alloc_count(), 1);
    assert_false(alloc_recover());
    http1_request_parser_free(p);
}

/* Fed byte by byte, so that the room for the body grows step by step. */
static enum http1_state feed_response(struct http1_response_parser *p, struct http1_response *r)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";
    enum http1_state s = http1_response_feed(p, bytes_str(head), false, r);

    for (size_t i = 0; i < BODY && s == HTTP1_MORE; i++)
        s = http1_response_feed(p, BYTES_LIT("b"), false, r);
    return s == HTTP1_MORE ? http1_response_feed(p, (struct bytes){0}, true, r) : s;
}

static enum err response_once(void)
{
    struct http1_response_parser *p;
    struct http1_response r = {0};
    enum http1_state s;

    if (http1_response_parser_new(BODY, false, &p) != ERR_OK) {
        assert_null(p);
        return ERR_NOMEM;
    }
    s = feed_response(p, &r);
    if (s != HTTP1_DONE) {
        assert_int_equal(s, HTTP1_BAD);
        assert_int_equal(r.body.n, 0);
        assert_int_equal(http1_response_feed(p, BYTES_LIT("b"), true, &r), HTTP1_BAD);
    } else {
        assert_int_equal(r.body.n, BODY);
    }
    http1_response_parser_free(p);
    return s == HTTP1_DONE ? ERR_OK : ERR_NOMEM;
}

static enum err respond_once(void)
{
    struct chain out = {0};
    enum err e = http1_respond(&out, &pool, 200, "text/plain", "A: b\r\n",
                               bytes_of(body, sizeof body), false);

    assert_true(e != ERR_OK || out.len > sizeof body);
    chain_fini(&out);
    return e;
}

static enum err reply_once(void)
{
    const struct http1_reply r = {.status = 405,
                                  .allow = "GET",
                                  .location = "/health",
                                  .content_type = "text/plain",
                                  .body = bytes_of(body, sizeof body)};
    struct chain out = {0};
    enum err e = http1_reply_write(&out, &pool, &r);

    assert_true(e != ERR_OK || out.len > sizeof body);
    chain_fini(&out);
    return e;
}

static void fail_each(enum err (*once)(void))
{
    assert_true(alloc_fail_each(once, &pool) > 3); /* the parser or the first slab, and some more */
}

static void each_allocation_of_a_response(void **state)
{
    (void)state;
    fail_each(response_once);
}

static void each_allocation_of_what_is_written(void **state)
{
    (void)state;
    fail_each(respond_once);
    fail_each(reply_once);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_parser_is_one_allocation),
        TEST(each_allocation_of_a_response),
        TEST(each_allocation_of_what_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
