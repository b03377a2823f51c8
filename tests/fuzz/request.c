/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: request_judge, request_for_etcd, fields_look, grpc_timeout_parse.
 * Whatever fields a client sends: what passes is a POST of gRPC for exactly one method of the table
 * and is not compressed; what goes to etcd then names that method, has each pseudo-header field
 * once and in front, and none that ends at a proxy or that we set ourselves, but for ours.
 *
 * Input: fields: a name (a number below 16: one of the list; else so many bytes), length, value. */
#include "proxy/request.h"

#include "fuzz.h"

#define FIELDS_MAX 24u

static const char *const names[] = {
    ":method",        ":path",         ":authority",
    ":scheme",        "content-type",  "grpc-encoding",
    "grpc-timeout",   "grpc-status",   "te",
    "connection",     "host",          "x-test",
    "user-agent",     "authorization", "accept-encoding",
    "content-length",
};

static size_t take_fields(struct bytes in, struct h2_field out[static FIELDS_MAX])
{
    size_t count = 0;

    while (in.n > 0 && count < FIELDS_MAX) {
        uint8_t which = fuzz_u8(&in);
        struct bytes name =
            which < ARRAY_LEN(names) ? bytes_str(names[which]) : fuzz_take(&in, which % 32u);

        out[count++] = (struct h2_field){name, fuzz_take(&in, fuzz_u8(&in))};
    }
    return count;
}

/* The first of that name; none: no bytes. */
static struct bytes first_of(struct h2_fields h, const char *name, size_t *count)
{
    struct bytes value = {NULL, 0};

    *count = 0;
    for (size_t i = 0; i < h.count; i++) {
        if (bytes_eq(h.v[i].name, bytes_str(name)) && (*count)++ == 0)
            value = h.v[i].value;
    }
    return value;
}

static void check_good(struct h2_fields h, const struct request_head *head)
{
    struct bytes method = bytes_of(head->method->path, head->method->path_len);
    size_t count;
    struct bytes path = first_of(h, ":path", &count);

    CHECK(etcd_method_find(method) == head->method);
    CHECK(bytes_eq(path, method) || bytes_eq(path, bytes_of(method.p + 1, method.n - 1)));
    CHECK(bytes_eq(first_of(h, ":method", &count), BYTES_LIT("POST")));
    CHECK(bytes_has_prefix(head->content_type, BYTES_LIT("application/grpc")));
}

static void check_for_etcd(struct h2_fields out, const struct request_head *head)
{
    static const char *const once[] = {":method",    ":scheme",      ":path",
                                       ":authority", "content-type", "te"};
    static const char *const never[] = {"grpc-encoding", "connection",        "host",
                                        "upgrade",       "transfer-encoding", "keep-alive",
                                        "content-length"};
    size_t count;

    for (size_t i = 0; i < ARRAY_LEN(once); i++) {
        CHECK(first_of(out, once[i], &count).n > 0);
        CHECK(count == 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(never); i++) {
        (void)first_of(out, never[i], &count);
        CHECK(count == 0);
    }
    CHECK(bytes_eq(first_of(out, ":path", &count), bytes_str(head->method->path)));
    CHECK(bytes_eq(first_of(out, "grpc-accept-encoding", &count), BYTES_LIT("identity")));
    for (size_t i = 0; i < out.count; i++)
        CHECK(out.v[i].name.n > 0 && (out.v[i].name.p[0] == ':') == (i < 4));
}

static void pass_on(struct h2_fields h, const struct request_head *head)
{
    struct objects objects = {0};
    struct fields f = {0};

    CHECK(request_for_etcd(&f, &objects, h, head) == ERR_OK);
    check_for_etcd(fields_view(&f), head);
    fields_fini(&f, &objects);
    objects_fini(&objects);
    fuzz_deep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct h2_field v[FIELDS_MAX];
    struct h2_fields h = {v, take_fields(bytes_of(data, size), v)};
    struct request_head head;
    enum request_verdict verdict = request_judge(h, &head);
    size_t count;
    struct bytes encoding = first_of(h, "grpc-encoding", &count);

    if (verdict == REQUEST_GOOD || verdict == REQUEST_COMPRESSED)
        check_good(h, &head);
    if (verdict == REQUEST_NO_GRPC)
        CHECK(memchr(head.text, '\0', sizeof head.text) != NULL && head.http_status != NULL);
    if (verdict != REQUEST_GOOD)
        return 0;
    CHECK(encoding.n == 0 || bytes_eq(encoding, BYTES_LIT("identity")));
    pass_on(h, &head);
    return 0;
}
