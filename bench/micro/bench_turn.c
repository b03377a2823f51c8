/* SPDX-License-Identifier: Apache-2.0 */
/* The longest that one message may hold a worker: scan and apply of the worst messages of the size
 * that is taken, each apart. One JSON line a case and step; with a case's number as argument that
 * one alone, for callgrind. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../load/wire.h"
#include "etcd/direct.h"
#include "micro.h"

#define MIB (1024u * 1024)
#define REQUEST_MAX (16u * MIB)
#define ANSWER_MAX MIB

static struct micro m;
static struct provider local; /* under /registry/local */
static const struct provider *local_order[1] = {&local};
static struct provider_list local_list = {local_order, 1, "local"};
static struct etcd_rules *rules; /* in use */
static int only = -1, number;

static double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void seal(struct bytes key, struct bytes value, uint32_t field, struct buf *out)
{
    const struct provider *p = rules == m.rules ? &m.provider : &local;
    struct chain in = {0};
    uint8_t *sealed;
    size_t n;

    micro_must(envelope_sealed_len(p, m.dek, value.n, &n));
    sealed = malloc(n);
    micro_must(sealed == NULL ? ERR_NOMEM : ERR_OK);
    micro_must(chain_push_copy(&in, &m.pool, value.p, value.n, 0));
    micro_must(envelope_seal(m.ctx, p, m.dek, key, chain_begin(&in), value.n, sealed));
    chain_fini(&in);
    buf_field(out, field, bytes_of(sealed, n));
    free(sealed);
}

static void say(const char *name, const char *step, size_t bytes, double us)
{
    printf("{\"module\": \"turn\", \"name\": \"%s\", \"step\": \"%s\", \"bytes\": %zu, \"us\": "
           "%.0f}\n",
           name, step, bytes, us);
}

static void fill_needs(struct etcd_plan *p)
{
    for (size_t n = 0; n < p->need_count; n++)
        if (p->needs[n].dek == NULL)
            p->needs[n].dek = dek_ref(m.dek);
}

static void request(const char *name, enum etcd_content content, struct buf *wire)
{
    struct etcd_plan plan = {0};
    struct etcd_ask ask = {0};
    struct sealed_msg up = {{0}};
    struct chain msg = {0};
    enum etcd_verdict verdict;
    double began;

    if (only < 0 || only == number) {
        micro_must(chain_push_copy(&msg, &m.pool, wire->p, wire->n, 0));
        began = now_us();
        verdict = etcd_scan_request(&plan, content, rules, &msg, &ask);
        say(name, verdict == ETCD_REJECT ? err_reason(plan.err) : "scan", wire->n,
            now_us() - began);
        if (verdict == ETCD_EDIT) {
            fill_needs(&plan);
            began = now_us();
            micro_must(etcd_apply_request(&plan, m.ctx, &m.pool, &msg, &up));
            say(name, "apply", wire->n, now_us() - began);
        }
        sealed_msg_fini(&up);
    }
    number++;
    etcd_plan_fini(&plan);
    etcd_ask_fini(&ask);
    chain_fini(&msg);
    buf_free(wire);
}

static void answer(const char *name, enum etcd_content content, struct etcd_ask *ask,
                   struct buf *wire)
{
    struct etcd_plan plan = {0};
    struct chain msg = {0}, out = {0};
    enum etcd_verdict verdict;
    double began;

    if (only < 0 || only == number) {
        micro_must(chain_push_copy(&msg, &m.pool, wire->p, wire->n, 0));
        began = now_us();
        verdict = etcd_scan_answer(&plan, content, rules, &msg, ask);
        say(name, verdict == ETCD_REJECT ? err_reason(plan.err) : "scan", wire->n,
            now_us() - began);
        if (verdict == ETCD_EDIT) {
            fill_needs(&plan);
            began = now_us();
            micro_must(etcd_apply_answer(&plan, m.ctx, &m.pool, &msg, &out));
            say(name, "apply", wire->n, now_us() - began);
        }
    }
    number++;
    etcd_plan_fini(&plan);
    chain_fini(&msg);
    chain_fini(&out);
    buf_free(wire);
}

static struct dek *find(void *user, const struct provider *provider, const struct dek_id *id,
                        struct bytes tail)
{
    (void)user, (void)provider, (void)id, (void)tail;
    return m.dek;
}

static void direct(const char *name, struct etcd_ask *ask, struct buf *wire)
{
    const struct etcd_direct with = {.ctx = m.ctx, .pool = &m.pool, .find = find};
    struct etcd_plan plan = {0};
    struct chain msg = {0}, out = {0};
    double began;

    if (only < 0 || only == number) {
        micro_must(chain_push_copy(&msg, &m.pool, wire->p, wire->n, 0));
        began = now_us();
        if (etcd_direct_answer(&plan, ETCD_RANGE, rules, &msg, ask, &with, &out) != ETCD_OPENED)
            micro_must(ERR_CONFIG);
        say(name, "direct", wire->n, now_us() - began);
    }
    number++;
    etcd_plan_fini(&plan);
    chain_fini(&msg);
    chain_fini(&out);
    buf_free(wire);
}

static const char *key_at(unsigned i)
{
    static char key[64];

    (void)snprintf(key, sizeof key, "/registry/secrets/%u", i);
    return key;
}

/* so many puts of n bytes in a Txn; is_sealed: they came sealed */
static struct buf txn_of(unsigned count, size_t n, bool is_sealed)
{
    struct buf out = {0};
    uint8_t *value = calloc(1, n + 1);

    for (unsigned i = 0; i < count; i++) {
        struct buf put = {0}, op = {0};
        struct bytes key = bytes_str(key_at(i));

        buf_field(&put, 1, key);
        if (is_sealed)
            seal(key, bytes_of(value, n), 2, &put);
        else
            buf_field(&put, 2, bytes_of(value, n));
        buf_sub(&op, 2, &put);
        buf_sub(&out, 2, &op);
    }
    free(value);
    return out;
}

static struct buf put_of(const char *key, size_t n, bool is_sealed)
{
    struct buf out = {0};
    uint8_t *value = calloc(1, n + 1);

    buf_field(&out, 1, bytes_str(key));
    if (is_sealed)
        seal(bytes_str(key), bytes_of(value, n), 2, &out);
    else
        buf_field(&out, 2, bytes_of(value, n));
    free(value);
    return out;
}

/* A KeyValue as field number */
static void add_kv(struct buf *out, uint32_t field, const char *key, size_t n, bool is_sealed)
{
    static const uint8_t zeros[4096];
    struct buf kv = {0};

    buf_field(&kv, 1, bytes_str(key));
    buf_varint(&kv, 2, 5);
    buf_varint(&kv, 3, 5);
    if (is_sealed)
        seal(bytes_str(key), bytes_of(zeros, n), 5, &kv);
    else
        buf_field(&kv, 5, bytes_of(zeros, n));
    buf_sub(out, field, &kv);
}

static struct buf list_of(size_t n, bool is_sealed)
{
    struct buf out = {0};

    for (unsigned i = 0; out.n < ANSWER_MAX - 400; i++)
        add_kv(&out, 2, is_sealed ? key_at(i) : "/a", n, is_sealed);
    return out;
}

static struct buf events_of(size_t n, bool is_sealed)
{
    struct buf out = {0};

    while (out.n < ANSWER_MAX - 400) {
        struct buf event = {0};

        add_kv(&event, 2, is_sealed ? key_at(1) : "/a", n, is_sealed);
        buf_sub(&out, 11, &event);
    }
    return out;
}

static void requests(void)
{
    struct buf b = put_of(key_at(1), REQUEST_MAX - 100, false);

    request("put of 16 MiB", ETCD_PUT, &b);
    b = txn_of(128, 100 * 1024, false);
    request("txn of 128 puts of 100 KiB", ETCD_TXN, &b);
    b = txn_of(4096, 8, false);
    request("txn of 4096 puts of 8 B", ETCD_TXN, &b);
    b = txn_of(4096, 3900, false);
    request("txn of 4096 puts of 3900 B", ETCD_TXN, &b);
    b = txn_of(4096, 8, true);
    request("txn of 4096 sealed puts of 8 B", ETCD_TXN, &b);
    b = txn_of(4096, 3800, true);
    request("txn of 4096 sealed puts of 3800 B", ETCD_TXN, &b);
    b = txn_of(128, 100 * 1024, true);
    request("txn of 128 sealed puts of 100 KiB", ETCD_TXN, &b);
    b = put_of("/a", 8, false);
    while (b.n < REQUEST_MAX - 2)
        buf_varint(&b, 15, 1);
    request("put with 8M unknown fields", ETCD_PUT, &b);
    while (b.n < REQUEST_MAX - 2)
        buf_varint(&b, 15, 1);
    request("range of 8M unknown fields", ETCD_RANGE, &b);
    while (b.n < REQUEST_MAX - 2)
        buf_varint(&b, 15, 1);
    request("txn of 8M unknown fields", ETCD_TXN, &b);
}

/* The ciphers of the configuration's own keys: the slow ones. */
static void local_requests(enum provider_kind kind, const char *name)
{
    static const uint8_t secret[32] = {1};
    const struct etcd_rule rule = {BYTES_LIT("/registry/secrets"), false, &local_list};
    struct local_key key = {.prefix = BYTES_LIT("k:")};
    char what[80], prefix[64];
    struct buf b;

    (void)snprintf(prefix, sizeof prefix, "k8s:enc:%s", provider_kind_traits(kind)->prefix);
    micro_must(dek_new_local(kind, bytes_of(secret, sizeof secret), &key.dek));
    local = (struct provider){
        .kind = kind, .name = "", .prefix = bytes_str(prefix), .keys = &key, .key_count = 1};
    micro_must(etcd_rules_new(&rule, 1, &rules));
    b = put_of(key_at(1), REQUEST_MAX - 100, false);
    (void)snprintf(what, sizeof what, "put of 16 MiB, %s", name);
    request(what, ETCD_PUT, &b);
    b = put_of(key_at(1), REQUEST_MAX - 200, true);
    (void)snprintf(what, sizeof what, "sealed put of 16 MiB, %s", name);
    request(what, ETCD_PUT, &b);
    b = txn_of(4096, 8, true);
    (void)snprintf(what, sizeof what, "txn of 4096 sealed puts of 8 B, %s", name);
    request(what, ETCD_TXN, &b);
    b = txn_of(4096, 3900, true);
    (void)snprintf(what, sizeof what, "txn of 4096 sealed puts of 3900 B, %s", name);
    request(what, ETCD_TXN, &b);
    etcd_rules_free(rules);
    rules = m.rules;
    dek_drop(key.dek);
}

static void answers(void)
{
    const struct etcd_range all = {.key = BYTES_LIT("/"), .end = BYTES_LIT("0")};
    struct etcd_ask ask = {0}, watch = {0};
    struct etcd_plan plan = {0};
    struct chain msg = {0};
    struct buf b = {0};

    buf_field(&b, 1, BYTES_LIT("/"));
    buf_field(&b, 2, BYTES_LIT("0"));
    micro_must(chain_push_copy(&msg, &m.pool, b.p, b.n, 0));
    if (etcd_scan_request(&plan, ETCD_RANGE, rules, &msg, &ask) == ETCD_REJECT)
        micro_must(plan.err);
    micro_must(etcd_ask_create(&watch, 0, &all));
    micro_must(etcd_ask_created(&watch, 0, false));
    buf_free(&b);
    b = list_of(1, true);
    direct("list of 1 MiB, values of 1 B", &ask, &b);
    b = list_of(1, true);
    answer("list of 1 MiB, values of 1 B", ETCD_RANGE, &ask, &b);
    b = list_of(1, false);
    answer("list of 1 MiB, plain values of 1 B", ETCD_RANGE, &ask, &b);
    b = events_of(1, true);
    answer("events of 1 MiB, values of 1 B", ETCD_WATCH, &watch, &b);
    b = events_of(1, false);
    answer("events of 1 MiB, plain values of 1 B", ETCD_WATCH, &watch, &b);
    chain_fini(&msg);
    etcd_plan_fini(&plan);
    etcd_ask_fini(&ask);
    etcd_ask_fini(&watch);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        only = atoi(argv[1]);
    micro_init(&m);
    rules = m.rules;
    requests();
    local_requests(PROVIDER_AESGCM, "aesgcm");
    local_requests(PROVIDER_AESCBC, "aescbc");
    local_requests(PROVIDER_SECRETBOX, "secretbox");
    answers();
    return 0;
}
