/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "grpc/grpc.h"
#include "h2/h2.h"
#include "kms_v1.pb-c.h"
#include "kms_v2.pb-c.h"

#define OVERSIZE (300u * 1024)
#define LONG 9000u
#define FIELD(n, v) ((struct h2_field){BYTES_LIT(n), BYTES_LIT(v)})

struct conn {
    struct list node;
    struct fake_plugin *fake;
    struct h2_conn *h2;
};

struct rpc {
    struct list node; /* waits for its time, or for ever */
    struct fake_plugin *fake;
    struct fake_method *method;
    struct h2_stream *stream;
    struct h2_conn *h2;
    struct chain body;
    struct loop_timer timer;
    bool is_waiting, is_v1;
};

void fake_wrap(const uint8_t *in, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)~in[i];
}

/* --- answers ---------------------------------------------------------------------------------- */

static void send_status(struct rpc *r, enum grpc_status status)
{
    char number[4];
    struct h2_field v[] = {FIELD(":status", "200"),
                           FIELD("content-type", "application/grpc"),
                           FIELD("grpc-message", "to order"),
                           {BYTES_LIT("grpc-status"), {0}}};

    snprintf(number, sizeof number, "%u", (unsigned)status % 100);
    v[3].value = bytes_str(number);
    CHECK(h2_respond(r->stream, (struct h2_fields){v, ARRAY_LEN(v)}, true) == ERR_OK);
}

static void send_body(struct rpc *r, const uint8_t *body, size_t n)
{
    struct h2_field head[] = {FIELD(":status", "200"), FIELD("content-type", "application/grpc")};
    struct h2_field trailers[] = {FIELD("grpc-status", "0")};
    struct slab *slab = slab_new(&r->fake->pool, GRPC_PREFIX_LEN + n, 0);
    struct chain out = {0};
    struct slice s;

    CHECK(slab != NULL);
    grpc_prefix_put(slab->data, (uint32_t)n);
    if (n > 0)
        memcpy(slab->data + GRPC_PREFIX_LEN, body, n);
    slab->fill = (uint32_t)(GRPC_PREFIX_LEN + n);
    s = (struct slice){slab, 0, slab->fill};
    CHECK(chain_push(&out, &s) == ERR_OK);
    CHECK(h2_respond(r->stream, (struct h2_fields){head, 2}, false) == ERR_OK);
    CHECK(h2_stream_send(r->stream, &out, false) == ERR_OK);
    CHECK(h2_stream_trailers(r->stream, (struct h2_fields){trailers, 1}) == ERR_OK);
    chain_fini(&out);
}

static void send_message(struct rpc *r, const ProtobufCMessage *m)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *body = malloc(n + 1);

    protobuf_c_message_pack(m, body);
    send_body(r, body, n);
    free(body);
}

static void answer_status(struct rpc *r)
{
    V2__StatusResponse m = V2__STATUS_RESPONSE__INIT;

    m.version = (char *)(uintptr_t)r->fake->version;
    m.healthz = (char *)(uintptr_t)r->fake->healthz;
    m.key_id = (char *)(uintptr_t)r->fake->key_id;
    send_message(r, &m.base);
}

static void answer_version(struct rpc *r)
{
    V1beta1__VersionResponse m = V1BETA1__VERSION_RESPONSE__INIT;

    m.version = (char *)(uintptr_t)r->fake->version;
    send_message(r, &m.base);
}

/* What Encrypt makes of in, or Decrypt: OVERSIZE bytes, of which the first *n count. */
static uint8_t *transform(const struct rpc *r, ProtobufCBinaryData in, size_t *n)
{
    uint8_t *out = calloc(1, OVERSIZE);

    CHECK(out != NULL && in.len <= OVERSIZE);
    *n = in.len;
    if (r->method->how == FAKE_ECHOES && in.len > 0)
        memcpy(out, in.data, in.len);
    else
        fake_wrap(in.data, in.len, out);
    if (r->method->how == FAKE_SHORT)
        *n = r->method == &r->fake->encrypt ? 0 : 31;
    if (r->method->how == FAKE_LONG)
        *n = LONG;
    if (r->method->how == FAKE_OVERSIZE)
        *n = OVERSIZE;
    return out;
}

static void answer_encrypt(struct rpc *r, const uint8_t *request, size_t n)
{
    V2__EncryptRequest *req = v2__encrypt_request__unpack(NULL, n, request);
    V2__EncryptResponse m = V2__ENCRYPT_RESPONSE__INIT;
    V2__EncryptResponse__AnnotationsEntry a = V2__ENCRYPT_RESPONSE__ANNOTATIONS_ENTRY__INIT;
    V2__EncryptResponse__AnnotationsEntry *list[] = {&a};
    const char *key_id = r->fake->encrypt_key_id;

    CHECK(req != NULL && req->plaintext.len == 32);
    snprintf(r->method->last_uid, sizeof r->method->last_uid, "%s", req->uid);
    m.ciphertext.data = transform(r, req->plaintext, &m.ciphertext.len);
    m.key_id = (char *)(uintptr_t)(key_id == NULL ? r->fake->key_id : key_id);
    if (r->fake->annotation != NULL) {
        a.key = (char *)(uintptr_t)r->fake->annotation;
        m.n_annotations = 1;
        m.annotations = list;
    }
    send_message(r, &m.base);
    free(m.ciphertext.data);
    v2__encrypt_request__free_unpacked(req, NULL);
}

static void answer_decrypt(struct rpc *r, const uint8_t *request, size_t n)
{
    V2__DecryptRequest *req = v2__decrypt_request__unpack(NULL, n, request);
    V2__DecryptResponse m = V2__DECRYPT_RESPONSE__INIT;

    CHECK(req != NULL);
    snprintf(r->method->last_uid, sizeof r->method->last_uid, "%s", req->uid);
    snprintf(r->fake->last_key_id, sizeof r->fake->last_key_id, "%s", req->key_id);
    r->fake->last_annotations = req->n_annotations;
    m.plaintext.data = transform(r, req->ciphertext, &m.plaintext.len);
    send_message(r, &m.base);
    free(m.plaintext.data);
    v2__decrypt_request__free_unpacked(req, NULL);
}

static void answer_v1_encrypt(struct rpc *r, const uint8_t *request, size_t n)
{
    V1beta1__EncryptRequest *req = v1beta1__encrypt_request__unpack(NULL, n, request);
    V1beta1__EncryptResponse m = V1BETA1__ENCRYPT_RESPONSE__INIT;

    CHECK(req != NULL && req->plain.len == 32 && strcmp(req->version, "v1beta1") == 0);
    m.cipher.data = transform(r, req->plain, &m.cipher.len);
    send_message(r, &m.base);
    free(m.cipher.data);
    v1beta1__encrypt_request__free_unpacked(req, NULL);
}

static void answer_v1_decrypt(struct rpc *r, const uint8_t *request, size_t n)
{
    V1beta1__DecryptRequest *req = v1beta1__decrypt_request__unpack(NULL, n, request);
    V1beta1__DecryptResponse m = V1BETA1__DECRYPT_RESPONSE__INIT;

    CHECK(req != NULL && strcmp(req->version, "v1beta1") == 0);
    m.plain.data = transform(r, req->cipher, &m.plain.len);
    send_message(r, &m.base);
    free(m.plain.data);
    v1beta1__decrypt_request__free_unpacked(req, NULL);
}

static void answer_message(struct rpc *r)
{
    size_t n = r->body.len - GRPC_PREFIX_LEN;
    uint8_t *request = malloc(n + 1);

    chain_copy(&r->body, GRPC_PREFIX_LEN, n, request);
    if (r->method == &r->fake->status)
        (r->is_v1 ? answer_version : answer_status)(r);
    else if (r->method == &r->fake->encrypt)
        (r->is_v1 ? answer_v1_encrypt : answer_encrypt)(r, request, n);
    else
        (r->is_v1 ? answer_v1_decrypt : answer_decrypt)(r, request, n);
    free(request);
}

static void answer(struct rpc *r)
{
    if (r->is_waiting) {
        r->is_waiting = false;
        r->method->now--;
        list_remove(&r->node);
    }
    switch (r->method->how) {
    case FAKE_FAILS:
        send_status(r, r->method->code);
        break;
    case FAKE_HANGS_UP:
        h2_conn_close(r->h2, H2_NO_ERROR, 0);
        break;
    case FAKE_RESETS:
        h2_stream_reset(r->stream, H2_INTERNAL_ERROR);
        break;
    case FAKE_GARBAGE:
        send_body(r, (const uint8_t *)"\xff\xff\xff", 3);
        break;
    case FAKE_EMPTY:
        send_body(r, NULL, 0);
        break;
    case FAKE_ANSWERS:
    case FAKE_OVERSIZE:
    case FAKE_SHORT:
    case FAKE_LONG:
    case FAKE_ECHOES:
    case FAKE_SILENT:
        answer_message(r);
        break;
    }
}

static void on_timer(struct loop_timer *t)
{
    answer(CONTAINER_OF(t, struct rpc, timer));
}

static void begin(struct rpc *r)
{
    struct fake_method *m = r->method;

    m->calls++;
    if (m->how != FAKE_SILENT && m->delay_ms == 0) {
        answer(r);
        return;
    }
    r->is_waiting = true;
    list_push(&r->fake->rpcs, &r->node);
    m->now++;
    if (m->now > m->peak)
        m->peak = m->now;
    if (m->how != FAKE_SILENT)
        CHECK(loop_timer_start(r->fake->loop, &r->timer, m->delay_ms) == ERR_OK);
}

void fake_speak(struct fake_plugin *f)
{
    while (!list_is_empty(&f->rpcs))
        answer(LIST_FIRST(&f->rpcs, struct rpc, node));
}

/* --- HTTP/2 ----------------------------------------------------------------------------------- */

static void copy_field(char *out, size_t cap, struct h2_fields h, const char *name)
{
    out[0] = '\0';
    for (size_t i = 0; i < h.count; i++) {
        if (bytes_eq(h.v[i].name, bytes_str(name)))
            snprintf(out, cap, "%.*s", (int)h.v[i].value.n, (const char *)h.v[i].value.p);
    }
}

/* The last part of a path, behind either version's service. NULL: it is none of ours. */
static const char *method_name(const char *path, bool *is_v1)
{
    static const char *const services[] = {"/v2.KeyManagementService/",
                                           "/v1beta1.KeyManagementService/"};

    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        *is_v1 = i == 1;
        if (strncmp(path, services[i], strlen(services[i])) == 0)
            return path + strlen(services[i]);
    }
    return NULL;
}

static struct fake_method *find_method(struct fake_plugin *f, bool *is_v1)
{
    const char *name = method_name(f->last_path, is_v1);

    CHECK(name != NULL);
    if (strcmp(name, *is_v1 ? "Version" : "Status") == 0)
        return &f->status;
    if (strcmp(name, "Encrypt") == 0)
        return &f->encrypt;
    CHECK(strcmp(name, "Decrypt") == 0);
    return &f->decrypt;
}

static void on_data(struct h2_stream *s, struct slice *data)
{
    struct rpc *r = h2_stream_user(s);

    h2_stream_credit(s, data->len);
    CHECK(chain_push(&r->body, data) == ERR_OK);
}

static void on_end(struct h2_stream *s)
{
    begin(h2_stream_user(s));
}

static void on_trailers(struct h2_stream *s, struct h2_fields h)
{
    (void)h;
    on_end(s);
}

static void on_drained(struct h2_stream *s, size_t n)
{
    (void)s;
    (void)n;
}

static void on_close(struct h2_stream *s, enum h2_code code, enum h2_end how)
{
    struct rpc *r = h2_stream_user(s);

    (void)code;
    (void)how;
    if (r->is_waiting)
        r->method->now--;
    list_remove(&r->node);
    loop_timer_fini(&r->timer);
    chain_fini(&r->body);
    free(r);
}

static const struct h2_stream_ops stream_ops = {
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_end = on_end,
    .on_drained = on_drained,
    .on_close = on_close,
};

static void on_request(struct h2_conn *c, struct h2_stream *s, struct h2_fields h, bool end_stream)
{
    struct conn *conn = h2_conn_user(c);
    struct fake_plugin *f = conn->fake;
    struct rpc *r = calloc(1, sizeof *r);

    CHECK(!end_stream);
    r->fake = f;
    r->stream = s;
    r->h2 = c;
    loop_timer_init(&r->timer, on_timer);
    list_init(&r->node);
    h2_stream_set_owner(s, &stream_ops, r);
    copy_field(f->last_path, sizeof f->last_path, h, ":path");
    copy_field(f->last_authority, sizeof f->last_authority, h, ":authority");
    r->method = find_method(f, &r->is_v1);
}

static void on_ready(struct h2_conn *c)
{
    (void)c;
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
    struct conn *conn = h2_conn_user(c);

    list_remove(&conn->node);
    free(conn);
}

static const struct h2_conn_ops conn_ops = {
    .on_request = on_request,
    .on_ready = on_ready,
    .on_goaway = on_goaway,
    .on_lost = on_lost,
    .on_conn_closed = on_conn_closed,
};

static void on_accept(void *arg, int fd)
{
    static const struct h2_opts opts = {.is_server = true,
                                        .max_streams = 1000,
                                        .stream_window = 65536,
                                        .conn_window = 1 << 20,
                                        .max_frame_size = 16384};
    struct fake_plugin *f = arg;
    struct conn *conn = calloc(1, sizeof *conn);
    struct net_conn *net;

    conn->fake = f;
    CHECK(net_conn_accept(f->loop, &f->pool, 0, fd, NULL, NULL, NULL, &net) == ERR_OK);
    CHECK(h2_conn_new(f->loop, &f->pool, net, &opts, &conn_ops, conn, &conn->h2) == ERR_OK);
    list_push(&f->conns, &conn->node);
}

/* --- life ------------------------------------------------------------------------------------- */

void fake_listen(struct fake_plugin *f)
{
    char why[256];

    CHECK(net_listen(f->loop, &f->url, on_accept, f, &f->listener, why, sizeof why) == ERR_OK);
}

void fake_start(struct fake_plugin *f, struct loop *loop)
{
    char dir[] = "/tmp/fake-kms-XXXXXX";

    memset(f, 0, sizeof *f);
    CHECK(mkdtemp(dir) != NULL);
    f->loop = loop;
    f->url.is_unix = true;
    snprintf(f->url.host, sizeof f->url.host, "%s/sock", dir);
    snprintf(f->endpoint, sizeof f->endpoint, "unix://%s/sock", dir);
    slab_pool_init(&f->pool, 16);
    list_init(&f->conns);
    list_init(&f->rpcs);
    f->version = "v2";
    f->healthz = "ok";
    f->key_id = "A";
    fake_listen(f);
}

void fake_gone(struct fake_plugin *f)
{
    if (f->listener != NULL)
        net_listener_close(f->listener);
    f->listener = NULL;
    LIST_FOREACH(it, &f->conns)
        h2_conn_close(LIST_ENTRY(it, struct conn, node)->h2, H2_NO_ERROR, 0);
}

void fake_stop(struct fake_plugin *f)
{
    fake_gone(f);
}

bool fake_is_over(const struct fake_plugin *f)
{
    return list_is_empty(&f->conns);
}

void fake_fini(struct fake_plugin *f)
{
    *strrchr(f->url.host, '/') = '\0';
    (void)rmdir(f->url.host);
    slab_pool_fini(&f->pool);
}
