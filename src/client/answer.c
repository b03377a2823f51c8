/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: headers with :status 200 and application/grpc, DATA that makes one whole uncompressed
 * message, trailers with grpc-status 0. Or trailers alone, with another status.
 * Everything else gets the status that gRPC clients make up for it, which is never OK. */
#include <stdio.h>
#include <string.h>

#include "client/client_int.h"
#include "grpc/grpc.h"

#define MESSAGE_MAX 1024u /* of a grpc-message; the rest is cut */
/* A piece that is smaller is copied: where it lies it would keep a slab of 64 KiB or more. */
#define COPY_BELOW 16384u

static const struct h2_field *field_find(struct h2_fields f, struct bytes name)
{
    for (size_t i = 0; i < f.count; i++)
        if (bytes_eq(f.v[i].name, name))
            return &f.v[i];
    return NULL;
}

/* grpc/grpc doc/http-grpc-status-mapping.md. */
static enum grpc_status status_of_http(struct bytes http)
{
    static const struct {
        struct bytes http;
        enum grpc_status status;
    } table[] = {
        {{(const uint8_t *)"400", 3}, GRPC_INTERNAL},
        {{(const uint8_t *)"401", 3}, GRPC_UNAUTHENTICATED},
        {{(const uint8_t *)"403", 3}, GRPC_PERMISSION_DENIED},
        {{(const uint8_t *)"404", 3}, GRPC_UNIMPLEMENTED},
        {{(const uint8_t *)"429", 3}, GRPC_UNAVAILABLE},
        {{(const uint8_t *)"502", 3}, GRPC_UNAVAILABLE},
        {{(const uint8_t *)"503", 3}, GRPC_UNAVAILABLE},
        {{(const uint8_t *)"504", 3}, GRPC_UNAVAILABLE},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (bytes_eq(http, table[i].http))
            return table[i].status;
    return GRPC_UNKNOWN;
}

/* A decimal number; what is none, or too long to be a status, is UNKNOWN. */
static enum grpc_status status_parse(struct bytes text)
{
    unsigned n = 0;

    if (text.n == 0 || text.n > 2)
        return GRPC_UNKNOWN;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return GRPC_UNKNOWN;
        n = n * 10 + (unsigned)(text.p[i] - '0');
    }
    return n <= GRPC_UNAUTHENTICATED ? (enum grpc_status)n : GRPC_UNKNOWN;
}

/* The answer's one message, whole and contiguous, in s; why says what is wrong with it. */
static enum err answer_message(struct client_call *call, struct slice *s, const char **why)
{
    struct chain *answer = &call->answer;
    struct grpc_prefix prefix;
    struct slab *slab;

    if (!grpc_prefix_peek(answer, &prefix) || answer->len - GRPC_PREFIX_LEN != prefix.length) {
        *why = "the answer is not one whole message";
        return ERR_ANS_CUT;
    }
    if (prefix.flag != 0) {
        *why = "the answer is compressed";
        return ERR_ANS_COMPRESSED;
    }
    if (prefix.length == 0) {
        *s = SLICE_EMPTY;
        return ERR_OK;
    }
    if (answer->count == 1) {
        *s = slice_sub(*chain_at(answer, 0), GRPC_PREFIX_LEN, prefix.length);
        return ERR_OK;
    }
    slab = slab_new(&call->client->pool, prefix.length, SLAB_SECRET);
    if (slab == NULL) {
        *why = "out of memory";
        return ERR_NOMEM;
    }
    slab->fill = prefix.length;
    chain_copy(answer, GRPC_PREFIX_LEN, prefix.length, slab->data);
    *s = (struct slice){slab, 0, prefix.length};
    return ERR_OK;
}

static void call_done(struct client_call *call)
{
    struct slice body = SLICE_EMPTY;
    const char *why = "";
    struct client_answer a = {.err = ERR_OK, .status = GRPC_OK, .message = ""};
    enum err e = answer_message(call, &body, &why);

    if (e != ERR_OK) {
        client__call_status(call, e == ERR_NOMEM ? GRPC_RESOURCE_EXHAUSTED : GRPC_INTERNAL, why);
        return;
    }
    a.body = slice_bytes(body);
    client__call_answer(call, &a);
    slice_drop(&body);
}

/* Trailers, or the headers of an answer that is nothing else. */
static void call_trailers(struct client_call *call, struct h2_fields f)
{
    const struct h2_field *status = field_find(f, BYTES_LIT("grpc-status"));
    const struct h2_field *message = field_find(f, BYTES_LIT("grpc-message"));
    char text[MESSAGE_MAX] = "";
    enum grpc_status code;

    if (status == NULL) {
        client__call_status(call, GRPC_UNKNOWN, "the answer has no grpc-status");
        return;
    }
    code = status_parse(status->value);
    if (code == GRPC_OK) {
        call_done(call);
        return;
    }
    if (message != NULL)
        (void)grpc_message_decode(message->value, text, sizeof text);
    client__call_status(call, code, text);
}

void client__on_response(struct h2_stream *s, struct h2_fields f, bool end)
{
    struct client_call *call = h2_stream_user(s);
    const struct h2_field *http = field_find(f, BYTES_LIT(":status"));
    const struct h2_field *type = field_find(f, BYTES_LIT("content-type"));
    struct bytes code = http == NULL ? BYTES_LIT("none") : http->value;
    char text[64];

    if (call == NULL)
        return;
    if (!bytes_eq(code, BYTES_LIT("200"))) {
        (void)snprintf(text, sizeof text, "unexpected HTTP status %.*s",
                       (int)(code.n < 16 ? code.n : 16), (const char *)code.p);
        client__call_status(call, status_of_http(code), text);
        return;
    }
    if (type == NULL || !grpc_content_type_ok(type->value)) {
        client__call_status(call, GRPC_UNKNOWN,
                            "the answer's content-type is not application/grpc");
        return;
    }
    if (end)
        call_trailers(call, f);
}

/* To the end of the answer, in slabs of the call's own: those that the pool gathers in live on, and
 * the answer may be a secret. */
static enum err answer_copy(struct client_call *call, struct bytes b)
{
    while (b.n > 0) {
        struct slab *slab = call->gather;
        struct slice s;
        size_t n;

        if (slab == NULL || slab->fill == slab->cap) {
            client__gather_drop(call);
            slab = call->gather = slab_new(&call->client->pool, LIMIT_SLAB_SIZE, SLAB_SECRET);
        }
        if (slab == NULL)
            return ERR_NOMEM;
        n = slab->cap - slab->fill < b.n ? slab->cap - slab->fill : b.n;
        memcpy(slab->data + slab->fill, b.p, n);
        s = (struct slice){slab, slab->fill, (uint32_t)n};
        slab->fill += (uint32_t)n;
        slab_ref(slab);
        TRY(chain_push(&call->answer, &s));
        b = bytes_of(b.p + n, b.n - n);
    }
    return ERR_OK;
}

/* Takes the piece. */
static enum err answer_add(struct client_call *call, struct slice *data)
{
    enum err e;

    if (!call->client->is_distrusted && data->len >= COPY_BELOW)
        return chain_push(&call->answer, data);
    e = answer_copy(call, slice_bytes(*data));
    slice_drop(data);
    return e;
}

void client__on_data(struct h2_stream *s, struct slice *data)
{
    struct client_call *call = h2_stream_user(s);
    size_t n = data->len;
    char text[64];

    if (call == NULL) {
        slice_drop(data);
        return;
    }
    if (call->answer.len + n > (size_t)call->answer_max + GRPC_PREFIX_LEN) {
        slice_drop(data);
        (void)snprintf(text, sizeof text, "the answer is larger than %u KiB",
                       call->answer_max >> 10);
        client__call_status(call, GRPC_RESOURCE_EXHAUSTED, text);
        return;
    }
    if (answer_add(call, data) != ERR_OK) {
        client__call_status(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    h2_stream_credit(s, n);
}

void client__on_trailers(struct h2_stream *s, struct h2_fields f)
{
    struct client_call *call = h2_stream_user(s);

    if (call != NULL)
        call_trailers(call, f);
}

void client__on_end(struct h2_stream *s)
{
    struct client_call *call = h2_stream_user(s);

    if (call != NULL)
        client__call_status(call, GRPC_UNKNOWN, "the answer has no grpc-status");
}
