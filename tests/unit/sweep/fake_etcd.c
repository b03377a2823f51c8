/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_etcd.h"

#include <stdio.h>

#include "base/randpool.h"
#include "base/secret.h"
#include "etcd/message.h"
#include "pb/pb.h"

struct fake_etcd fake;

/* --- keys ------------------------------------------------------------------------------------- */

void fake_reset(void)
{
    fake = (struct fake_etcd){.revision = 1};
}

struct fake_kv *fake_find(const char *key)
{
    for (size_t i = 0; i < fake.count; i++)
        if (strcmp(fake.v[i].key, key) == 0)
            return &fake.v[i];
    return NULL;
}

static struct fake_kv *make(const char *key)
{
    size_t at = 0;

    assert_true(fake.count < FAKE_KEYS && strlen(key) < FAKE_KEY);
    while (at < fake.count && strcmp(fake.v[at].key, key) < 0)
        at++;
    memmove(&fake.v[at + 1], &fake.v[at], (fake.count++ - at) * sizeof fake.v[0]);
    fake.v[at] = (struct fake_kv){0};
    snprintf(fake.v[at].key, FAKE_KEY, "%s", key);
    return &fake.v[at];
}

void fake_put(const char *key, const void *value, size_t len, int64_t lease)
{
    struct fake_kv *kv = fake_find(key);

    assert_true(len <= FAKE_VALUE);
    if (kv == NULL)
        kv = make(key);
    if (len > 0)
        memcpy(kv->value, value, len);
    kv->len = len;
    kv->lease = lease;
    kv->mod_revision = ++fake.revision;
}

void fake_delete(const char *key)
{
    struct fake_kv *kv = fake_find(key);

    assert_non_null(kv);
    memmove(kv, kv + 1, (size_t)(&fake.v[--fake.count] - kv) * sizeof *kv);
    fake.revision++;
}

/* --- requests --------------------------------------------------------------------------------- */

struct range {
    struct bytes key, end;
    int64_t limit, revision;
    bool is_count;
};

static struct range read_range(struct bytes in)
{
    struct range r = {0};
    struct pb_span f;

    while (pb_span_next(&in, &f) == PB_FIELD) {
        if (f.number == 1)
            r.key = f.value;
        else if (f.number == 2)
            r.end = f.value;
        else if (f.number == 3)
            r.limit = (int64_t)f.varint;
        else if (f.number == 4)
            r.revision = (int64_t)f.varint;
        else if (f.number == 9)
            r.is_count = f.varint != 0;
    }
    return r;
}

/* One field of a message, by its number; empty when it isn't there. */
static struct bytes part(struct bytes in, uint32_t number, uint64_t *varint)
{
    struct bytes out = {0};
    struct pb_span f;

    while (pb_span_next(&in, &f) == PB_FIELD)
        if (f.number == number) {
            out = f.value;
            if (varint != NULL)
                *varint = f.varint;
        }
    return out;
}

/* --- answers ---------------------------------------------------------------------------------- */

#define ANSWER_CAP (FAKE_KEYS * (FAKE_KEY + FAKE_VALUE + 64))

static void put_header(struct etcd_message *m)
{
    uint8_t room[40];
    struct etcd_message header;

    etcd_message_init(&header, room, sizeof room);
    etcd_message_put_varint(&header, 1, 11);
    etcd_message_put_varint(&header, 2, 22);
    etcd_message_put_varint(&header, 3, (uint64_t)fake.revision);
    etcd_message_put_bytes(m, 1, bytes_of(room, header.len));
}

static void put_kv(struct etcd_message *m, const struct fake_kv *kv)
{
    uint8_t room[FAKE_KEY + FAKE_VALUE + 64];
    struct etcd_message out;

    etcd_message_init(&out, room, sizeof room);
    etcd_message_put_bytes(&out, 1, bytes_str(kv->key));
    etcd_message_put_varint(&out, 2, 1);
    etcd_message_put_varint(&out, 3, (uint64_t)kv->mod_revision);
    etcd_message_put_varint(&out, 4, 1);
    etcd_message_put_bytes(&out, 5, bytes_of(kv->value, kv->len));
    if (kv->lease != 0)
        etcd_message_put_varint(&out, 6, (uint64_t)kv->lease);
    etcd_message_put_bytes(m, 2, bytes_of(room, out.len));
}

static void put_range(struct etcd_message *m, const struct range *r)
{
    int64_t given = 0, count = 0;

    put_header(m);
    for (size_t i = 0; i < fake.count; i++) {
        struct bytes key = bytes_str(fake.v[i].key);
        bool is_in = r->end.n == 0 ? bytes_eq(key, r->key)
                                   : bytes_cmp(key, r->key) >= 0 && bytes_cmp(key, r->end) < 0;

        if (!is_in)
            continue;
        count++;
        if (r->is_count || (r->limit > 0 && given >= r->limit))
            continue;
        put_kv(m, &fake.v[i]);
        given++;
    }
    if (!r->is_count && given < count)
        etcd_message_put_varint(m, 3, 1);
    etcd_message_put_varint(m, 4, (uint64_t)count);
}

/* A fence stands before the compare of the value. */
static bool has_fence(struct bytes in)
{
    struct pb_span f;
    unsigned compares = 0;

    while (pb_span_next(&in, &f) == PB_FIELD)
        compares += f.number == 1;
    assert_true(compares == 1 || compares == 3);
    fake.fenced += compares == 3;
    return compares == 3;
}

static void carry_out(struct bytes in, struct etcd_message *m)
{
    bool is_held = has_fence(in) && fake.is_fence_down;
    struct bytes compare = part(in, 1, NULL), put = part(part(in, 2, NULL), 2, NULL);
    struct bytes key = part(put, 1, NULL), value = part(put, 2, NULL);
    struct bytes range = part(part(in, 3, NULL), 1, NULL);
    uint64_t target = 0, mod = 0, keeps_lease = 0;
    char name[FAKE_KEY];
    struct fake_kv *kv;

    (void)part(compare, 2, &target);
    (void)part(compare, 6, &mod);
    (void)part(put, 6, &keeps_lease);
    assert_int_equal(target, 2);
    assert_int_equal(keeps_lease, 1);
    assert_true(bytes_eq(part(compare, 3, NULL), key));
    assert_true(bytes_eq(part(range, 1, NULL), key));
    snprintf(name, sizeof name, "%.*s", (int)key.n, (const char *)key.p);
    kv = fake_find(name);
    put_header(m);
    if (!is_held && kv != NULL && (uint64_t)kv->mod_revision == mod) {
        fake_put(name, value.p, value.n, kv->lease);
        kv->writes++;
        etcd_message_put_varint(m, 2, 1);
    } else {
        uint8_t *room = malloc(ANSWER_CAP);
        struct etcd_message answer, op;
        struct range r = {.key = key};
        uint8_t *op_room = malloc(ANSWER_CAP);

        assert_true(room != NULL && op_room != NULL);
        etcd_message_init(&answer, room, ANSWER_CAP);
        put_range(&answer, &r);
        etcd_message_init(&op, op_room, ANSWER_CAP);
        etcd_message_put_bytes(&op, 1, bytes_of(room, answer.len));
        etcd_message_put_bytes(m, 3, bytes_of(op_room, op.len));
        free(room);
        free(op_room);
    }
}

/* --- client/client.h -------------------------------------------------------------------------- */

#define TOKEN_LEN 24

struct client {
    struct loop *loop;
    char port[16];
    struct list calls;
    char token[TOKEN_LEN];
};

struct client_call {
    struct list node;
    struct loop_task task;
    struct client *client;
    char path[64];
    uint8_t *request;
    size_t len;
    uint32_t max;
    client_answer_fn fn;
    void *arg;
    char token[TOKEN_LEN];
};

enum err client_new(struct loop *loop, const struct net_url *url, struct net_tls *tls,
                    const char *authority, struct client **out)
{
    struct client *c = calloc(1, sizeof *c);

    (void)tls;
    (void)authority;
    if (c == NULL)
        return ERR_NOMEM;
    c->loop = loop;
    snprintf(c->port, sizeof c->port, "%.15s", url->port);
    list_init(&c->calls);
    *out = c;
    return ERR_OK;
}

enum err client_set_token(struct client *c, const char *token)
{
    snprintf(c->token, sizeof c->token, "%.20s", token);
    return ERR_OK;
}

void client_rest(struct client *c)
{
    (void)c;
}

uint64_t client_connection(const struct client *c)
{
    (void)c;
    return fake.connection;
}

void client_distrust(struct client *c, uint32_t answer_max)
{
    (void)c;
    (void)answer_max;
}

void client_limit_answer(struct client_call *call, uint32_t max)
{
    call->max = max;
}

void client_cancel(struct client_call *call)
{
    list_remove(&call->node);
    loop_task_cancel(&call->task);
    free(call->request);
    free(call);
}

void client_close(struct client *c)
{
    while (!list_is_empty(&c->calls))
        client_cancel(LIST_FIRST(&c->calls, struct client_call, node));
    free(c);
}

static void end_call(struct client_call *call, const struct client_answer *a)
{
    list_remove(&call->node);
    call->fn(call->arg, a);
    free(call->request);
    free(call);
}

static void answer_status(struct client_call *call, enum grpc_status status, const char *message)
{
    const struct client_answer a = {.status = status, .message = message};

    end_call(call, &a);
}

static void answer_error(struct client_call *call, enum err e)
{
    const struct client_answer a = {
        .err = e, .status = GRPC_UNAVAILABLE, .message = "connection refused"};

    end_call(call, &a);
}

static void answer_range(struct client_call *call, struct etcd_message *m)
{
    struct range r = read_range(bytes_of(call->request, call->len));
    struct client_answer a = {.status = GRPC_OK, .message = ""};

    fake.ranges++;
    if (r.limit > fake.max_limit)
        fake.max_limit = (unsigned)r.limit;
    if (r.revision != 0 && r.revision < fake.compacted) {
        answer_status(call, GRPC_OUT_OF_RANGE,
                      "etcdserver: mvcc: required revision has been compacted");
        return;
    }
    put_range(m, &r);
    assert_false(m->is_cut);
    if (m->len > call->max || (fake.answer_max > 0 && m->len > fake.answer_max && r.limit > 1)) {
        answer_status(call, GRPC_RESOURCE_EXHAUSTED, "the answer is larger than 1 KiB");
        return;
    }
    a.body = bytes_of(m->buf, m->len);
    end_call(call, &a);
}

static void answer_txn(struct client_call *call, struct etcd_message *m)
{
    struct client_answer a = {.status = GRPC_OK, .message = ""};

    fake.txns++;
    if (fake.txn_status != GRPC_OK) {
        answer_status(call, fake.txn_status, fake.txn_message);
        return;
    }
    carry_out(bytes_of(call->request, call->len), m);
    if (fake.lost > 0) {
        fake.lost--;
        answer_error(call, ERR_UPSTREAM_LOST);
        return;
    }
    a.body = bytes_of(m->buf, m->len);
    end_call(call, &a);
}

/* True: somebody else has answered. */
static bool is_answered(struct client_call *call, struct etcd_message *m)
{
    struct client_answer a = {.status = GRPC_OK, .message = ""};
    enum fake_other o = fake.other == NULL ? FAKE_HERE
                                           : fake.other(call->client->port, call->path,
                                                        bytes_of(call->request, call->len), m);

    if (o == FAKE_LOST) {
        answer_error(call, ERR_UPSTREAM_LOST);
    } else if (o == FAKE_ANSWERED) {
        assert_false(m->is_cut);
        a.body = bytes_of(m->buf, m->len);
        end_call(call, &a);
    }
    return o != FAKE_HERE;
}

/* AuthenticateRequest { name 1, password 2 }, as it has to be, byte for byte. */
static bool knows_user(const struct client_call *call)
{
    struct etcd_message m;
    struct bytes body;
    uint8_t room[128];

    etcd_message_init(&m, room, sizeof room);
    etcd_message_put_bytes(&m, 1, bytes_str(fake.user));
    etcd_message_put_bytes(&m, 2, bytes_str(fake.password));
    assert_int_equal(etcd_message_body(&m, &body), ERR_OK);
    return bytes_eq(body, bytes_of(call->request, call->len));
}

static void answer_login(struct client_call *call, struct etcd_message *m)
{
    struct client_answer a = {.status = GRPC_OK, .message = ""};
    char token[TOKEN_LEN];

    if (fake.user == NULL) {
        answer_status(call, GRPC_FAILED_PRECONDITION, "etcdserver: authentication is not enabled");
        return;
    }
    if (!knows_user(call)) {
        answer_status(call, GRPC_INVALID_ARGUMENT,
                      "etcdserver: authentication failed, invalid user ID or password");
        return;
    }
    fake.logins++;
    fake.token_used = 0;
    snprintf(token, sizeof token, "token.%u", ++fake.token);
    etcd_message_put_bytes(m, 2, bytes_str(token));
    a.body = bytes_of(m->buf, m->len);
    end_call(call, &a);
}

static bool has_token(const struct client_call *call)
{
    char token[TOKEN_LEN];

    if (fake.user == NULL)
        return true;
    snprintf(token, sizeof token, "token.%u", fake.token);
    return strcmp(call->token, token) == 0 &&
           (fake.token_calls == 0 || ++fake.token_used <= fake.token_calls);
}

static void on_turn(struct loop_task *t)
{
    static uint8_t room[ANSWER_CAP];
    struct client_call *call = CONTAINER_OF(t, struct client_call, task);
    struct etcd_message m;

    fake.calls++;
    if (fake.before != NULL)
        fake.before(call->path);
    etcd_message_init(&m, room, sizeof room);
    if (is_answered(call, &m))
        return;
    if (fake.away > 0) {
        fake.away--;
        answer_error(call, ERR_UPSTREAM_AWAY);
    } else if (fake.is_proxy) {
        answer_status(call, GRPC_UNIMPLEMENTED, "etcd-envelope: unknown method");
    } else if (strcmp(call->path, ETCD_AUTHENTICATE_PATH) == 0) {
        answer_login(call, &m);
    } else if (strncmp(call->path, "/etcdserverpb.", 14) == 0 && !has_token(call)) {
        answer_status(call, GRPC_UNAUTHENTICATED, "etcdserver: invalid auth token");
    } else if (strcmp(call->path, ETCD_RANGE_PATH) == 0) {
        answer_range(call, &m);
    } else if (strcmp(call->path, ETCD_TXN_PATH) == 0) {
        answer_txn(call, &m);
    } else {
        answer_status(call, GRPC_UNIMPLEMENTED, "unknown service etcd_envelope.Proxy");
    }
}

enum err client_call(struct client *c, const char *path, struct bytes body, uint64_t deadline_ms,
                     client_answer_fn fn, void *arg, struct client_call **out)
{
    struct client_call *call = calloc(1, sizeof *call);

    (void)deadline_ms;
    if (call == NULL)
        return ERR_NOMEM;
    call->request = malloc(body.n + 1);
    if (call->request == NULL) {
        free(call);
        return ERR_NOMEM;
    }
    if (body.n > 0)
        memcpy(call->request, body.p, body.n);
    call->len = body.n;
    call->max = CLIENT_ANSWER_MAX;
    call->fn = fn;
    call->arg = arg;
    call->client = c;
    snprintf(call->path, sizeof call->path, "%s", path);
    memcpy(call->token, c->token, sizeof call->token);
    loop_task_init(&call->task, on_turn);
    loop_task_want(c->loop, &call->task);
    list_push(&c->calls, &call->node);
    *out = call;
    return ERR_OK;
}

/* --- rule sets and values --------------------------------------------------------------------- */

#define SECRET_NEW "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define SECRET_OLD "MTEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define SECRET_CBC "MjEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
#define HEAD                                                                                       \
    "apiVersion: apiserver.config.k8s.io/v1\n"                                                     \
    "kind: EncryptionConfiguration\n"                                                              \
    "resources:\n"                                                                                 \
    "- resources: [secrets, configmaps]\n"                                                         \
    "  providers:\n"
#define KEY(name, secret) "{name: " name ", secret: " secret "}"

struct ruleset *fake_rules_of(const char *yaml, const char *etcd_prefix)
{
    const struct enc_options enc = {.is_reload = false};
    const struct key_rules_opts keys = {.etcd_prefix = etcd_prefix};
    const struct ruleset_opts o = {.allow_identity_writes = true};
    char why[512];
    struct enc_config *config;
    struct key_rules *rules;
    struct ruleset *out;

    assert_int_equal(enc_config_parse(bytes_str(yaml), &enc, &config, why, sizeof why), ERR_OK);
    assert_int_equal(key_rules_build(config, &keys, &rules, why, sizeof why), ERR_OK);
    assert_int_equal(ruleset_new(config, rules, &o, &out, why, sizeof why), ERR_OK);
    return out;
}

struct ruleset *fake_rules(bool has_identity)
{
    return fake_rules_of(
        has_identity ? HEAD "  - aesgcm: {keys: [" KEY("new", SECRET_NEW) ", " KEY(
                           "old", SECRET_OLD) "]}\n"
                                              "  - aescbc: {keys: [" KEY(
                                                  "cbc", SECRET_CBC) "]}\n"
                                                                     "  - identity: {}\n"
                     : HEAD "  - aesgcm: {keys: [" KEY("new", SECRET_NEW) ", " KEY(
                           "old", SECRET_OLD) "]}\n"
                                              "  - aescbc: {keys: [" KEY("cbc", SECRET_CBC) "]}\n",
        "/registry");
}

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

size_t fake_seal(enum fake_writer w, const char *key, const char *plain,
                 uint8_t out[static FAKE_VALUE])
{
    static const char *const yaml[] = {
        [FAKE_NEW] = HEAD "  - aesgcm: {keys: [" KEY("new", SECRET_NEW) "]}\n",
        [FAKE_OLD] = HEAD "  - aesgcm: {keys: [" KEY("old", SECRET_OLD) "]}\n",
        [FAKE_CBC] = HEAD "  - aescbc: {keys: [" KEY("cbc", SECRET_CBC) "]}\n"};
    struct ruleset *rules = fake_rules_of(yaml[w], "/registry");
    struct envelope_ctx *ctx;
    struct slab_pool pool;
    struct chain in = {0};
    size_t n;

    slab_pool_init(&pool, 0);
    assert_int_equal(envelope_ctx_new(random_bytes, NULL, &ctx), ERR_OK);
    assert_int_equal(chain_push_copy(&in, &pool, plain, strlen(plain), 0), ERR_OK);
    assert_int_equal(envelope_sealed_len(rules->providers, NULL, in.len, &n), ERR_OK);
    assert_true(n <= FAKE_VALUE);
    assert_int_equal(
        envelope_seal(ctx, rules->providers, NULL, bytes_str(key), chain_begin(&in), in.len, out),
        ERR_OK);
    chain_fini(&in);
    slab_pool_settle(&pool);
    slab_pool_fini(&pool);
    envelope_ctx_free(ctx);
    ruleset_drop(rules);
    return n;
}

bool fake_opens(const struct fake_kv *kv, char out[static FAKE_VALUE])
{
    struct ruleset *rules = fake_rules(false);
    const struct provider_list *list = etcd_rules_find(rules->rules, bytes_str(kv->key));
    struct slab *slab;
    struct envelope_opened opened = {0};
    struct envelope_value v;
    struct envelope_ctx *ctx;
    struct slab_pool pool;
    struct arena arena = {0};
    struct chain in = {0};
    struct slice plain = SLICE_EMPTY, value;
    enum err e;

    slab_pool_init(&pool, 0);
    assert_int_equal(envelope_ctx_new(random_bytes, NULL, &ctx), ERR_OK);
    slab = slab_new(&pool, kv->len + 1, 0);
    assert_non_null(slab);
    memcpy(slab->data, kv->value, kv->len);
    slab->fill = (uint32_t)kv->len;
    value = (struct slice){slab, 0, slab->fill};
    assert_int_equal(chain_push(&in, &value), ERR_OK);
    e = envelope_identify(list, chain_begin(&in), in.len, &arena, NULL, &v);
    if (e == ERR_OK)
        e = envelope_open_scratch(ctx, list, &v, NULL, bytes_str(kv->key), &in, 0, in.len, &pool,
                                  &plain, &opened);
    snprintf(out, FAKE_VALUE, "%.*s", (int)plain.len, (const char *)slice_data(plain));
    slice_drop(&plain);
    chain_fini(&in);
    arena_fini(&arena);
    slab_pool_settle(&pool);
    slab_pool_fini(&pool);
    envelope_ctx_free(ctx);
    ruleset_drop(rules);
    return e == ERR_OK && opened.provider_index == 0 && opened.key_index == 0;
}

/* --- a loop ----------------------------------------------------------------------------------- */

void fake_site_init(struct fake_site *s)
{
    *s = (struct fake_site){0};
    assert_int_equal(loop_init(&s->loop), ERR_OK);
    assert_int_equal(mailbox_init(&s->box, &s->loop), ERR_OK);
    assert_int_equal(keyring_new(&s->loop, &s->box, &s->box, 0, &s->ring), ERR_OK);
    assert_int_equal(envelope_ctx_new(random_bytes, NULL, &s->ctx), ERR_OK);
    slab_pool_init(&s->pool, 4);
    s->judge = (struct sweep_judge_env){
        .loop = &s->loop, .ring = s->ring, .ctx = s->ctx, .pool = &s->pool};
}

void fake_site_run(struct fake_site *s)
{
    uint64_t end = loop_hrtime_ns() + 20000000000ull;

    while (!s->is_over && loop_hrtime_ns() < end)
        uv_run(&s->loop.uv, UV_RUN_ONCE);
    assert_true(s->is_over);
}

void fake_site_fini(struct fake_site *s)
{
    keyring_free(s->ring);
    mailbox_close(&s->box);
    loop_stop(&s->loop);
    loop_run(&s->loop);
    mailbox_fini(&s->box);
    loop_fini(&s->loop);
    slab_pool_settle(&s->pool);
    slab_pool_fini(&s->pool);
    envelope_ctx_wipe(s->ctx);
    envelope_ctx_free(s->ctx);
}
