/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: http1_request_feed, http1_request_of, http1_response_feed, http1_respond,
 * http1_path_clean, admin_query.
 * However the bytes are cut, the verdict and the parts are the same, and the verdict stays.
 *
 * Input: options (1: a response, 2: the peer closes at the end), seed, the bytes. */
#include "http1/http1.h"

#include <string.h>

#include "admin/admin.h"
#include "fuzz.h"

#define BODY_MAX 2000

static enum http1_state feed_request(struct kit *k, struct bytes in, uint32_t piece_max,
                                     struct http1_request *out)
{
    struct http1_request_parser *p;
    enum http1_state state = HTTP1_MORE;

    memset(out, 0, sizeof *out);
    CHECK(http1_request_parser_new(&p) == ERR_OK);
    while (in.n > 0 && state == HTTP1_MORE)
        state = http1_request_feed(p, fuzz_take(&in, 1 + kit_random(k, piece_max)), out);
    if (state != HTTP1_MORE)
        CHECK(http1_request_feed(p, BYTES_LIT("GET / HTTP/1.1\r\n\r\n"), out) == state);
    http1_request_parser_free(p);
    return state;
}

static void request(struct kit *k, struct bytes in)
{
    struct http1_request whole, cut;
    enum http1_state a = feed_request(k, in, UINT32_MAX / 4, &whole);
    enum http1_state b = feed_request(k, in, 7, &cut);

    CHECK(a == b);
    if (a != HTTP1_DONE)
        return;
    CHECK(strcmp(whole.method, cut.method) == 0 && strcmp(whole.path, cut.path) == 0 &&
          strcmp(whole.query, cut.query) == 0);
    CHECK((whole.path[0] == '/' || strcmp(whole.path, "*") == 0) &&
          strchr(whole.path, '?') == NULL);
    fuzz_deep();
}

static struct bytes take_word(struct bytes *in)
{
    const uint8_t *space = in->n == 0 ? NULL : memchr(in->p, ' ', in->n);
    struct bytes word = fuzz_take(in, space == NULL ? in->n : (size_t)(space - in->p));

    (void)fuzz_take(in, 1);
    return word;
}

static bool is_one_word(const char *text)
{
    return strpbrk(text, " \t\r\n") == NULL;
}

/* What is taken of HTTP/2 has no way out of the request line that it will be written into. */
static void request_of_http2(struct bytes in)
{
    struct bytes method = take_word(&in), target = take_word(&in);
    struct http1_request r;

    if (!http1_request_of(method, target, &r))
        return;
    CHECK(r.method[0] != '\0' && is_one_word(r.method) && is_one_word(r.path) &&
          is_one_word(r.query));
    CHECK((r.path[0] == '/' || strcmp(r.path, "*") == 0) && strchr(r.path, '?') == NULL);
}

/* A path that was cleaned is clean; a parameter's value is no longer than its query. */
static void path_and_query(struct bytes in)
{
    static char path[HTTP1_TARGET_MAX], out[HTTP1_TARGET_MAX], again[HTTP1_TARGET_MAX];
    struct bytes b = fuzz_take(&in, sizeof path - 1);

    memset(path, 0, sizeof path);
    if (b.n > 0)
        memcpy(path, b.p, b.n);
    if (http1_path_clean(path, out) == HTTP1_PATH_UNCLEAN && strchr(out, '%') == NULL)
        CHECK(http1_path_clean(out, again) == HTTP1_PATH_CLEAN && strcmp(out, again) == 0);
    for (size_t n = 0; admin_query(path, "exclude", n, out, sizeof out); n++)
        CHECK(strlen(out) <= b.n && n <= b.n && admin_query_has(path, "exclude"));
}

/* body: a copy, what the parser has goes with it. */
static enum http1_state feed_response(struct kit *k, struct bytes in, bool eof, uint32_t piece_max,
                                      struct http1_response *out, struct buf *body)
{
    struct http1_response_parser *p;
    enum http1_state state = HTTP1_MORE;

    memset(out, 0, sizeof *out);
    CHECK(http1_response_parser_new(BODY_MAX, false, &p) == ERR_OK);
    while (in.n > 0 && state == HTTP1_MORE)
        state = http1_response_feed(p, fuzz_take(&in, 1 + kit_random(k, piece_max)), false, out);
    if (state == HTTP1_MORE && eof) {
        state = http1_response_feed(p, bytes_of(NULL, 0), true, out);
        CHECK(state != HTTP1_MORE);
    }
    if (state == HTTP1_DONE)
        *body = buf_of(out->body);
    http1_response_parser_free(p);
    return state;
}

static void response(struct kit *k, struct bytes in, bool eof)
{
    struct http1_response whole, cut;
    struct buf a_body = {0}, b_body = {0};
    enum http1_state a = feed_response(k, in, eof, UINT32_MAX / 4, &whole, &a_body);
    enum http1_state b = feed_response(k, in, eof, 5, &cut, &b_body);

    CHECK(a == b);
    if (a == HTTP1_DONE) {
        CHECK(whole.status == cut.status && whole.status >= 200);
        CHECK(strcmp(whole.content_type, cut.content_type) == 0);
        CHECK(bytes_eq(buf_bytes(&a_body), buf_bytes(&b_body)) && a_body.n <= BODY_MAX);
        fuzz_deep();
    }
    buf_free(&a_body);
    buf_free(&b_body);
}

/* What we write ourselves we can read. */
static void round_trip(struct kit *k, struct bytes body)
{
    struct http1_response back;
    struct chain out = {0};
    struct buf wire, got = {0};

    body = fuzz_take(&body, BODY_MAX);
    CHECK(http1_respond(&out, &k->pool, 200, "text/plain", "", body, false) == ERR_OK);
    wire = buf_chain(&out);
    CHECK(feed_response(k, buf_bytes(&wire), false, 100, &back, &got) == HTTP1_DONE);
    CHECK(back.status == 200 && strcmp(back.content_type, "text/plain") == 0);
    CHECK(bytes_eq(buf_bytes(&got), body));
    buf_free(&wire);
    buf_free(&got);
    chain_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    uint8_t options = fuzz_u8(&in);
    struct kit *k = kit_get(fuzz_u8(&in));

    if ((options & 1) != 0)
        response(k, in, (options & 2) != 0);
    else
        request(k, in);
    request_of_http2(in);
    path_and_query(in);
    round_trip(k, in);
    kit_done(k);
    return 0;
}
