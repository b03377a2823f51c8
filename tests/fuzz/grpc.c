/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: grpc_prefix_peek, grpc_timeout_parse, grpc_timeout_format, grpc_message_encode,
 * grpc_message_decode, grpc_content_type_ok. */
#include "fuzz.h"

#include <string.h>

#include "grpc/grpc.h"

static void prefix(struct kit *k, struct bytes in)
{
    uint8_t again[GRPC_PREFIX_LEN];
    struct grpc_prefix p;
    struct chain c;
    bool is_there;

    kit_chain(k, in, 4, &c);
    is_there = grpc_prefix_peek(&c, &p);
    CHECK(is_there == (in.n >= GRPC_PREFIX_LEN));
    if (is_there) {
        grpc_prefix_put(again, p.length);
        CHECK(p.flag == in.p[0] && memcmp(again + 1, in.p + 1, GRPC_PREFIX_LEN - 1) == 0);
    }
    chain_fini(&c);
}

/* A formatted timeout is never longer than what it was made of, and loses at most one unit of its
 * eight digits. */
static void timeout(struct bytes in)
{
    char text[GRPC_TIMEOUT_MAX];
    uint64_t ns, again;
    size_t n;

    if (!grpc_timeout_parse(in, &ns))
        return;
    n = grpc_timeout_format(ns, text);
    CHECK(n == strlen(text) && n >= 2 && n < sizeof text);
    CHECK(grpc_timeout_parse(bytes_of(text, n), &again));
    CHECK(ns == 0 ? again == 1 : again <= ns && ns - again <= ns / 1000);
    fuzz_deep();
}

static void message(struct bytes in, size_t cap)
{
    char *out = malloc(cap > 0 ? cap : 1), *back;
    size_t n, m;

    CHECK(out != NULL);
    n = grpc_message_encode(in, out, cap);
    CHECK(cap == 0 ? n == 0 : n < cap && out[n] == '\0');
    for (size_t i = 0; i < n; i++)
        CHECK(out[i] >= 0x20 && out[i] <= 0x7e);
    /* What was encoded decodes to a prefix of the text: all of it, when there was room. */
    back = malloc(n + 1);
    CHECK(back != NULL);
    m = grpc_message_decode(bytes_of(out, n), back, n + 1);
    CHECK(m <= in.n && (m == 0 || memcmp(back, in.p, m) == 0));
    CHECK(cap <= 3 * in.n || m == in.n);
    free(back);
    m = grpc_message_decode(in, out, cap);
    CHECK(cap == 0 ? m == 0 : m < cap && m <= in.n && out[m] == '\0');
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    struct kit *k = kit_get(fuzz_u8(&in));
    size_t cap = fuzz_u8(&in);

    prefix(k, in);
    timeout(in);
    message(in, cap);
    message(in, 3 * in.n + 1);
    if (grpc_content_type_ok(in))
        CHECK(in.n >= 16 && memcmp(in.p, "application/grpc", 16) == 0);
    kit_done(k);
    return 0;
}
