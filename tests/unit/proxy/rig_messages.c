/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of rig.h: what clients and etcd say to each other, and what came of it. */
#include "grpc/grpc.h"
#include "rig.h"
#include "pb/pb.h"

#define FIELD(n, v) ((struct h2_field){BYTES_LIT(n), BYTES_LIT(v)})

/* --- sending --------------------------------------------------------------------------------- */

struct buf rig_framed(struct buf *m)
{
    uint8_t prefix[GRPC_PREFIX_LEN];
    struct buf out = {0};

    grpc_prefix_put(prefix, (uint32_t)m->n);
    buf_add(&out, prefix, sizeof prefix);
    buf_add(&out, m->p, m->n);
    buf_free(m);
    return out;
}

/* Every piece of 32 KiB in a slab of its own. */
void rig_send(struct rec *s, const void *p, size_t n, bool end)
{
    const uint8_t *at = p;
    struct chain c = {0};

    while (n > 0) {
        uint32_t part = n < 32768 ? (uint32_t)n : 32768;
        struct slab *slab = slab_new(&s->end->k->pool, part, 0);
        struct slice piece = {slab, 0, part};

        assert_non_null(slab);
        memcpy(slab->data, at, part);
        slab->fill = part;
        assert_int_equal(chain_push(&c, &piece), ERR_OK);
        at += part;
        n -= part;
    }
    assert_int_equal(h2_stream_send(s->s, &c, end), ERR_OK);
}

void rig_send_cut(struct rig *r, struct rec *s, const struct buf *b, size_t at, bool end)
{
    rig_send(s, b->p, at, false);
    rig_settle(r);
    rig_send(s, b->p + at, b->n - at, end);
}

struct rec *rig_begin(struct end *client, const char *path, const struct h2_field *extra)
{
    struct h2_field f[] = {FIELD(":method", "POST"),
                           FIELD(":scheme", "http"),
                           {BYTES_LIT(":path"), bytes_str(path)},
                           FIELD(":authority", "etcd"),
                           FIELD("te", "trailers"),
                           FIELD("content-type", "application/grpc"),
                           FIELD("x", "y")};

    if (extra != NULL)
        f[ARRAY_LEN(f) - 1] = *extra;
    return end_request(client, (struct h2_fields){f, ARRAY_LEN(f)}, false);
}

struct rec *rig_call(struct end *client, const char *path, struct buf *m)
{
    struct rec *s = rig_begin(client, path, NULL);
    struct buf framed = rig_framed(m);

    rig_send(s, framed.p, framed.n, true);
    buf_free(&framed);
    return s;
}

struct rec *rig_put(struct end *client, const char *key, const char *value)
{
    struct buf m = put_request(key, value, strlen(value));

    return rig_call(client, PUT, &m);
}

struct rec *rig_range(struct end *client, const char *key)
{
    struct buf m = range_request(key, NULL);

    return rig_call(client, RANGE, &m);
}

struct rec *rig_range_all(struct end *client)
{
    struct buf m = range_request("/registry/", "/registry0");

    return rig_call(client, RANGE, &m);
}

struct buf put_request(const char *key, const void *value, size_t n)
{
    struct buf m = {0};

    rig_note_value(key, value, n);
    buf_str(&m, 1, key);
    buf_field(&m, 2, value, n);
    return m;
}

struct buf range_request(const char *key, const char *range_end)
{
    struct buf m = {0};

    buf_str(&m, 1, key);
    if (range_end != NULL)
        buf_str(&m, 2, range_end);
    return m;
}

struct buf watch_create(const char *key, const char *range_end)
{
    struct buf create = range_request(key, range_end), m = {0};

    buf_sub(&m, 1, &create);
    return m;
}

/* --- etcd ------------------------------------------------------------------------------------ */

unsigned rig_calls(const struct rig *r)
{
    unsigned n = 0;

    for (size_t i = 0; i < r->etcd_count; i++)
        if (r->etcds[i]->c != NULL && r->etcds[i]->lost_count == 0 && !r->etcds[i]->is_deaf)
            n += r->etcds[i]->recs_count;
    return n;
}

struct rec *rig_await_headers(struct rig *r, unsigned n)
{
    RIG_UNTIL(r, rig_calls(r) >= n);
    assert_int_equal(rig_calls(r), n);
    return r->call;
}

struct rec *rig_await(struct rig *r, unsigned n)
{
    struct rec *s = rig_await_headers(r, n);

    RIG_UNTIL(r, s->end_count == 1);
    return s;
}

void rig_respond(struct rec *s)
{
    assert_non_null(s->s);
    assert_int_equal(h2_respond(s->s, kit_response, false), ERR_OK);
}

void rig_message(struct rec *s, struct buf *m, bool end)
{
    struct buf framed = rig_framed(m);

    rig_send(s, framed.p, framed.n, end);
    buf_free(&framed);
}

void rig_trailers(struct rec *s, const char *status)
{
    struct h2_field f[] = {{BYTES_LIT("grpc-status"), bytes_str(status)},
                           FIELD("grpc-message", "of etcd")};

    assert_non_null(s->s);
    assert_int_equal(h2_stream_trailers(s->s, (struct h2_fields){f, ARRAY_LEN(f)}), ERR_OK);
}

void rig_answer(struct rec *s, struct buf *m)
{
    rig_respond(s);
    rig_message(s, m, false);
    rig_trailers(s, "0");
}

void rig_answer_put(struct rig *r, struct rec *c, unsigned n)
{
    struct buf m = put_response();

    rig_answer(rig_await(r, n), &m);
    rig_expect(r, c, 0);
}

void rig_trailers_only(struct rec *s, const char *status)
{
    struct h2_field f[] = {FIELD(":status", "200"),
                           FIELD("content-type", "application/grpc"),
                           {BYTES_LIT("grpc-status"), bytes_str(status)},
                           FIELD("grpc-message", "of etcd")};

    assert_int_equal(h2_respond(s->s, (struct h2_fields){f, ARRAY_LEN(f)}, true), ERR_OK);
}

struct buf response_header(void)
{
    struct buf m = {0};

    buf_varint(&m, 1, 11);
    buf_varint(&m, 2, 22);
    buf_varint(&m, 3, 333);
    return m;
}

struct buf put_response(void)
{
    struct buf header = response_header(), m = {0};

    buf_sub(&m, 1, &header);
    return m;
}

void add_kv(struct buf *m, uint32_t number, const char *key, const void *value, size_t n)
{
    struct buf kv = {0};

    buf_str(&kv, 1, key);
    buf_varint(&kv, 2, 5);
    buf_varint(&kv, 3, 6);
    buf_varint(&kv, 4, 1);
    buf_field(&kv, 5, value, n);
    buf_sub(m, number, &kv);
}

struct buf range_response(const char *key, const struct buf *value)
{
    struct buf m = put_response();

    add_kv(&m, 2, key, value->p, value->n);
    buf_varint(&m, 4, 1);
    return m;
}

static struct buf watch_response(uint64_t id)
{
    struct buf m = put_response();

    if (id != 0)
        buf_varint(&m, 2, id);
    return m;
}

struct buf watch_event(uint64_t id, const char *key, const struct buf *value)
{
    struct buf m = watch_response(id), event = {0};

    add_kv(&event, 2, key, value->p, value->n);
    buf_sub(&m, 11, &event);
    return m;
}

struct buf watch_created(uint64_t id)
{
    struct buf m = watch_response(id);

    buf_varint(&m, 3, 1);
    return m;
}

/* --- values ---------------------------------------------------------------------------------- */

/* What the plugin makes of the secret that is the number's. */
static struct dek *dek_of(unsigned number)
{
    uint8_t secret[32], wrapped[32] = {0};
    struct dek_id id = {.type = DEK_HKDF_SEED,
                        .key_id = BYTES_LIT("A"),
                        .wrapped = bytes_of(wrapped, sizeof wrapped)};
    struct dek *dek;

    memset(secret, (int)number + 1, sizeof secret);
    secret[0] = (uint8_t)(number >> 8);
    fake_wrap(secret, sizeof secret, wrapped);
    assert_int_equal(dek_new(&id, bytes_of(secret, sizeof secret), &dek), ERR_OK);
    return dek;
}

/* What the plugin would unwrap for id. */
static struct dek *dek_like(const struct dek_id *id)
{
    uint8_t secret[32];
    struct dek *dek;

    assert_int_equal(id->wrapped.n, sizeof secret);
    fake_wrap(id->wrapped.p, sizeof secret, secret);
    assert_int_equal(dek_new(id, bytes_of(secret, sizeof secret), &dek), ERR_OK);
    return dek;
}

static const struct provider_list *list_of(const struct rig *r, const char *key)
{
    const struct provider_list *list = etcd_rules_find(r->rules->rules, bytes_str(key));

    assert_non_null(list);
    return list;
}

static void chain_of(struct rig *r, struct chain *c, struct bytes b)
{
    assert_int_equal(chain_push_copy(c, &r->outside.pool, b.p, b.n, 0), ERR_OK);
}

struct buf rig_seal(struct rig *r, unsigned dek_number, const char *key, const void *value,
                    size_t n)
{
    const struct provider *p = list_of(r, key)->v[0];
    struct dek *dek = p->kind == PROVIDER_KMS_V2 ? dek_of(dek_number) : NULL;
    struct chain in = {0};
    struct buf b = {0};

    chain_of(r, &in, bytes_of(value, n));
    assert_int_equal(envelope_sealed_len(p, dek, n, &b.n), ERR_OK);
    b.p = malloc(b.n);
    assert_non_null(b.p);
    assert_int_equal(envelope_seal(r->ctx, p, dek, bytes_str(key), chain_begin(&in), n, b.p),
                     ERR_OK);
    chain_fini(&in);
    dek_drop(dek);
    return b;
}

static struct buf open_value(struct rig *r, const char *key, struct bytes stored)
{
    const struct provider_list *list = list_of(r, key);
    struct envelope_opened opened;
    struct envelope_value v;
    struct arena arena = {0};
    struct chain in = {0};
    struct slice plain;
    struct dek *dek;
    struct buf b;

    chain_of(r, &in, stored);
    assert_int_equal(envelope_identify(list, chain_begin(&in), stored.n, &arena, NULL, &v), ERR_OK);
    dek = v.needs_dek ? dek_like(&v.id) : NULL;
    assert_int_equal(envelope_open_scratch(r->ctx, list, &v, dek, bytes_str(key), &in, 0, stored.n,
                                           &r->outside.pool, &plain, &opened),
                     ERR_OK);
    b = buf_of(slice_data(plain), plain.len);
    dek_drop(dek);
    slice_drop(&plain);
    chain_fini(&in);
    arena_fini(&arena);
    return b;
}

struct bytes field_of(struct bytes m, uint32_t number)
{
    struct pb_span f;

    while (pb_span_next(&m, &f) == PB_FIELD)
        if (f.number == number && f.wire == PB_LEN)
            return f.value;
    fail_msg("no field %u", number);
    return bytes_of(NULL, 0);
}

void rig_check_put(struct rig *r, struct bytes m, const char *key, const char *value)
{
    struct bytes stored = field_of(m, 2);
    struct buf plain;

    assert_true(bytes_eq(field_of(m, 1), bytes_str(key)));
    assert_true(bytes_has_prefix(stored, BYTES_LIT(ENVELOPE_MARK)));
    assert_false(bytes_contain(m.p, m.n, value));
    plain = open_value(r, key, stored);
    assert_string_equal((char *)plain.p, value);
    buf_free(&plain);
}

/* --- what came ------------------------------------------------------------------------------- */

int rig_status(const struct rec *c)
{
    static const char name[] = "grpc-status: ";
    const char *from = c->trailers != NULL ? c->trailers : c->headers;
    const char *at = from == NULL ? NULL : strstr(from, name);

    return at == NULL ? -1 : (int)strtol(at + sizeof name - 1, NULL, 10);
}

void rig_expect(struct rig *r, struct rec *c, int status)
{
    RIG_UNTIL(r, c->close_count == 1);
    assert_int_equal(rig_status(c), status);
}

struct bytes rig_message_at(const struct rec *c, size_t i)
{
    size_t at = 0;

    for (;;) {
        uint32_t n;

        assert_in_range(at + GRPC_PREFIX_LEN, 0, c->body_len);
        n = (uint32_t)c->body[at + 1] << 24 | (uint32_t)c->body[at + 2] << 16 |
            (uint32_t)c->body[at + 3] << 8 | c->body[at + 4];
        at += GRPC_PREFIX_LEN;
        assert_in_range(at + n, 0, c->body_len);
        if (i-- == 0)
            return bytes_of(c->body + at, n);
        at += n;
    }
}

size_t rig_message_count(const struct rec *c)
{
    size_t at = 0, count = 0;

    while (c->body_len - at >= GRPC_PREFIX_LEN) {
        uint32_t n = (uint32_t)c->body[at + 1] << 24 | (uint32_t)c->body[at + 2] << 16 |
                     (uint32_t)c->body[at + 3] << 8 | c->body[at + 4];

        if (c->body_len - at - GRPC_PREFIX_LEN < n)
            break;
        at += GRPC_PREFIX_LEN + n;
        count++;
    }
    return count;
}

void rig_check_value(struct bytes m, const char *value, size_t n)
{
    assert_true(bytes_eq(field_of(field_of(m, 2), 5), bytes_of(value, n)));
}

void rig_check_sealed(struct rig *r, const char *plaintext)
{
    for (size_t i = 0; i < r->etcd_count; i++) {
        LIST_FOREACH(it, &r->etcds[i]->recs) {
            const struct rec *s = LIST_ENTRY(it, struct rec, node);

            if (s->body_len > 0)
                assert_false(bytes_contain(s->body, s->body_len, plaintext));
            assert_null(strstr(s->headers, plaintext));
        }
    }
}
