/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests are calls, how the others are answered, and what etcd is sent for the good ones.
 */
#include "proxy/request.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PATH "/etcdserverpb.KV/Range"

/* A request with these fields behind or instead of the usual ones. */
struct odd {
    const char *name, *value; /* NULL value: the usual field is left out */
    enum request_verdict verdict;
    const char *answer; /* HTTP status of REQUEST_NO_GRPC */
};

static size_t fields_of(const struct odd *odd, struct h2_field v[static 8])
{
    static const char *const usual[][2] = {{":method", "POST"},
                                           {":scheme", "https"},
                                           {":path", PATH},
                                           {":authority", "etcd:2379"},
                                           {"content-type", "application/grpc"},
                                           {"te", "trailers"}};
    bool is_usual = false;
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
        bool is_it = strcmp(usual[i][0], odd->name) == 0;

        is_usual |= is_it;
        if (!is_it || odd->value != NULL)
            v[n++] = (struct h2_field){bytes_str(usual[i][0]),
                                       bytes_str(is_it ? odd->value : usual[i][1])};
    }
    if (!is_usual)
        v[n++] = (struct h2_field){bytes_str(odd->name), bytes_str(odd->value)};
    return n;
}

static void verdicts(void **state)
{
    static const struct odd cases[] = {
        {"x", "", REQUEST_GOOD, NULL},
        {":scheme", NULL, REQUEST_GOOD, NULL},
        {":authority", NULL, REQUEST_GOOD, NULL},
        {":authority", "#initially=[a;b]", REQUEST_GOOD, NULL},
        {":path", "etcdserverpb.KV/Range", REQUEST_GOOD, NULL},
        {"te", NULL, REQUEST_GOOD, NULL},
        {"content-length", "0", REQUEST_GOOD, NULL},
        {"content-type", "application/grpc+json", REQUEST_GOOD, NULL},
        {"grpc-timeout", "1S", REQUEST_GOOD, NULL},
        {"grpc-timeout", "", REQUEST_GOOD, NULL},
        {"grpc-encoding", "identity", REQUEST_GOOD, NULL},
        {"grpc-encoding", "gzip", REQUEST_COMPRESSED, NULL},
        {":path", NULL, REQUEST_UNKNOWN_METHOD, NULL},
        {":path", "", REQUEST_UNKNOWN_METHOD, NULL},
        {":path", "/", REQUEST_UNKNOWN_METHOD, NULL},
        {":path", "/" PATH, REQUEST_UNKNOWN_METHOD, NULL},
        {":path", PATH "/", REQUEST_UNKNOWN_METHOD, NULL},
        {":path", PATH "?a", REQUEST_UNKNOWN_METHOD, NULL},
        {":path", "/etcdserverpb%2EKV/Range", REQUEST_UNKNOWN_METHOD, NULL},
        {":path", "0123456789012345678901234567890123456789012345678901234567890123456789",
         REQUEST_UNKNOWN_METHOD, NULL},
        {":method", NULL, REQUEST_NO_GRPC, "405"},
        {":method", "GET", REQUEST_NO_GRPC, "405"},
        {":method", "post", REQUEST_NO_GRPC, "405"},
        {"content-type", NULL, REQUEST_NO_GRPC, "415"},
        {"content-type", "text/plain", REQUEST_NO_GRPC, "415"},
        {"content-type", "application/grpc-web", REQUEST_NO_GRPC, "415"},
        {"grpc-timeout", "1", REQUEST_NO_GRPC, "400"},
        {"grpc-timeout", "123456789S", REQUEST_NO_GRPC, "400"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct h2_field v[8];
        size_t n = fields_of(&cases[i], v);
        struct request_head head;

        assert_int_equal(request_judge((struct h2_fields){v, n}, &head), cases[i].verdict);
        if (cases[i].verdict == REQUEST_NO_GRPC)
            assert_string_equal(head.http_status, cases[i].answer);
        assert_int_equal(head.method != NULL, cases[i].verdict == REQUEST_GOOD ||
                                                  cases[i].verdict == REQUEST_COMPRESSED);
    }
}

/* What has no gRPC content type and names no method of etcd is left to etcd's HTTP handlers. */
static void http_requests(void **state)
{
    static const struct {
        const char *method, *path, *type;
        enum request_verdict verdict;
    } cases[] = {
        {"GET", "/health", NULL, REQUEST_HTTP},
        {"HEAD", "/livez/ping?verbose", NULL, REQUEST_HTTP},
        {"OPTIONS", "*", "", REQUEST_HTTP},
        {"POST", "/v3/kv/range", "application/json", REQUEST_HTTP},
        {"POST", "/health", "Application/GRPC", REQUEST_HTTP},
        {"FOO", "http://x/health", "text/plain", REQUEST_HTTP},
        {"GET", "/health", "application/grpc", REQUEST_NO_GRPC},
        {"OPTIONS", "/", "application/grpc+proto", REQUEST_NO_GRPC},
        {"GET", "/health", "application/grpc-web", REQUEST_NO_GRPC},
        {"POST", "/health", "application/grpc", REQUEST_UNKNOWN_METHOD},
        {"POST", PATH, NULL, REQUEST_NO_GRPC},
        {"GET", PATH, "application/json", REQUEST_NO_GRPC},
        {"GET", "", NULL, REQUEST_NO_GRPC},
        {"", "/health", NULL, REQUEST_NO_GRPC},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct h2_field v[3] = {{BYTES_LIT(":method"), bytes_str(cases[i].method)},
                                {BYTES_LIT(":path"), bytes_str(cases[i].path)}};
        struct request_head head;
        size_t n = 2;

        if (cases[i].type != NULL)
            v[n++] = (struct h2_field){BYTES_LIT("content-type"), bytes_str(cases[i].type)};
        assert_int_equal(request_judge((struct h2_fields){v, n}, &head), cases[i].verdict);
        assert_true(bytes_eq(head.http_method, v[0].value) && bytes_eq(head.path, v[1].value));
    }
}

/* What a client sent is told back cut, so that the answer stays short. */
static void long_values_in_answers(void **state)
{
    char value[2000];
    struct odd odd = {":method", value, REQUEST_NO_GRPC, "405"};
    struct h2_field v[8];
    struct request_head head;

    (void)state;
    memset(value, 'A', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    assert_int_equal(request_judge((struct h2_fields){v, fields_of(&odd, v)}, &head),
                     REQUEST_NO_GRPC);
    assert_non_null(strstr(head.text, "AAA\" which should be POST"));
}

static const char *sent(const struct fields *f, const char *name, char out[static 200])
{
    out[0] = '\0';
    for (size_t i = 0; i < f->count; i++) {
        if (!bytes_eq(f->v[i].name, bytes_str(name)))
            continue;
        if (out[0] != '\0')
            strcat(out, "|");
        strncat(out, (const char *)f->v[i].value.p, f->v[i].value.n);
    }
    return out;
}

/* RFC 3986 section 3.2: letters, digits and these, no other byte. */
static void authority_bytes(void **state)
{
    static const char marks[] = "-._~%!$&'()*+,;=:@[]";

    (void)state;
    for (unsigned b = 1; b < 256; b++) {
        bool is_legal = b < 128 && (isalnum((int)b) != 0 || strchr(marks, (int)b) != NULL);
        const char authority[] = {'a', (char)b, '\0'};
        struct odd odd = {":authority", authority, 0, NULL};
        struct objects o = {0};
        struct h2_field v[8];
        struct h2_fields h = {v, fields_of(&odd, v)};
        struct request_head head;
        struct fields f = {0};
        char text[200];

        assert_int_equal(request_judge(h, &head), REQUEST_GOOD);
        assert_int_equal(request_for_etcd(&f, &o, h, &head), ERR_OK);
        assert_string_equal(sent(&f, ":authority", text), is_legal ? authority : "localhost");
        fields_fini(&f, &o);
        objects_fini(&o);
    }
}

/* Whatever the client sent of it, etcd gets this, once; and nothing that ends at a proxy. */
static void what_goes_to_etcd(void **state)
{
    static const struct {
        struct odd odd;
        const char *name, *wanted;
    } cases[] = {
        {{":scheme", "ftp", 0, NULL}, ":scheme", "http"},
        {{":path", "etcdserverpb.KV/Range", 0, NULL}, ":path", PATH},
        {{":authority", "a.b:1", 0, NULL}, ":authority", "a.b:1"},
        {{":authority", "%2Frun%2Fsock", 0, NULL}, ":authority", "%2Frun%2Fsock"},
        {{":authority", "[::1]:1", 0, NULL}, ":authority", "[::1]:1"},
        {{":authority", "/run/sock", 0, NULL}, ":authority", "localhost"},
        {{":authority", "#initially=[a]", 0, NULL}, ":authority", "localhost"},
        {{":authority", "a b", 0, NULL}, ":authority", "localhost"},
        {{":authority", "", 0, NULL}, ":authority", "localhost"},
        {{":authority", NULL, 0, NULL}, ":authority", "localhost"},
        {{"te", "gzip", 0, NULL}, "te", "trailers"},
        {{"te", NULL, 0, NULL}, "te", "trailers"},
        {{"content-type", "application/grpc+proto", 0, NULL},
         "content-type",
         "application/grpc+proto"},
        {{"content-type", "application/grpc+json", 0, NULL}, "content-type", "application/grpc"},
        {{"content-type", "application/grpc;x", 0, NULL}, "content-type", "application/grpc"},
        {{"host", "a", 0, NULL}, "host", ""},
        {{"content-length", "1", 0, NULL}, "content-length", ""},
        {{"keep-alive", "1", 0, NULL}, "keep-alive", ""},
        {{"upgrade", "1", 0, NULL}, "upgrade", ""},
        {{"proxy-connection", "1", 0, NULL}, "proxy-connection", ""},
        {{"transfer-encoding", "chunked", 0, NULL}, "transfer-encoding", ""},
        {{"expect", "100-continue", 0, NULL}, "expect", ""},
        {{"http2-settings", "AA", 0, NULL}, "http2-settings", ""},
        {{"grpc-encoding", "identity", 0, NULL}, "grpc-encoding", ""},
        {{"grpc-accept-encoding", "gzip", 0, NULL}, "grpc-accept-encoding", "identity"},
        {{"authorization", "token", 0, NULL}, "authorization", "token"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct objects o = {0};
        struct h2_field v[8];
        struct h2_fields h = {v, fields_of(&cases[i].odd, v)};
        struct request_head head;
        struct fields f = {0};
        char text[200];

        assert_int_equal(request_judge(h, &head), REQUEST_GOOD);
        assert_int_equal(request_for_etcd(&f, &o, h, &head), ERR_OK);
        assert_string_equal(sent(&f, cases[i].name, text), cases[i].wanted);
        assert_true(bytes_eq(f.v[REQUEST_SCHEME].name, BYTES_LIT(":scheme")));
        fields_add(&f, BYTES_LIT("grpc-timeout"), BYTES_LIT("99999999n")); /* there is room */
        fields_fini(&f, &o);
        objects_fini(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts),
        cmocka_unit_test(http_requests),
        cmocka_unit_test(long_values_in_answers),
        cmocka_unit_test(authority_bytes),
        cmocka_unit_test(what_goes_to_etcd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
