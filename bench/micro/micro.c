/* SPDX-License-Identifier: Apache-2.0 */
#include "micro.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/secret.h"

#define BATCHES 101
#define BATCH_BYTES (4u << 20)
#define KEY_ID "micro-key-1"

void micro_must(enum err e)
{
    if (e == ERR_OK)
        return;
    fprintf(stderr, "bench: %s\n", err_reason(e));
    exit(1);
}

static enum err random_bytes(void *arg, void *out, size_t n)
{
    return randpool_get(arg, out, n);
}

void micro_init(struct micro *m)
{
    uint8_t seed[32], wrapped[60] = {1};
    const struct dek_id id = {.type = DEK_HKDF_SEED,
                              .key_id = BYTES_LIT(KEY_ID),
                              .wrapped = bytes_of(wrapped, sizeof wrapped)};
    const struct etcd_rule rule = {BYTES_LIT("/registry/secrets"), false, &m->list};

    *m = (struct micro){0};
    micro_must(secret_init());
    micro_must(randpool_get(&m->random, seed, sizeof seed));
    micro_must(dek_new(&id, bytes_of(seed, sizeof seed), &m->dek));
    micro_must(envelope_ctx_new(random_bytes, &m->random, &m->ctx));
    slab_pool_init(&m->pool, 256);
    m->provider = (struct provider){
        .kind = PROVIDER_KMS_V2, .name = "micro", .prefix = BYTES_LIT("k8s:enc:kms:v2:micro:")};
    m->order[0] = &m->provider;
    m->list = (struct provider_list){m->order, 1, "secrets"};
    micro_must(etcd_rules_new(&rule, 1, &m->rules));
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double batch_ns(const struct micro_case *c, size_t n)
{
    double begun;

    for (size_t i = 0; i < n && c->prepare != NULL; i++)
        c->prepare(c->arg, i);
    begun = now_ns();
    for (size_t i = 0; i < n; i++)
        c->run(c->arg, i);
    return (now_ns() - begun) / (double)n;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static size_t batch_len(const struct micro_case *c)
{
    size_t n = BATCH_BYTES / (c->bytes + 1);

    return n < 2 ? 2 : n > MICRO_BATCH ? MICRO_BATCH : n;
}

static void sort(double v[static BATCHES])
{
    qsort(v, BATCHES, sizeof v[0], by_size);
}

static void print(const struct micro_case *c, double ns[static BATCHES], double of_second)
{
    sort(ns);
    printf("{\"module\": \"%s\", \"case\": \"%s\", \"bytes\": %zu, \"batches\": %d, ", c->module,
           c->name, c->bytes, BATCHES);
    if (of_second > 0)
        printf("\"of_second\": %.3f, ", of_second);
    printf("\"ns_min\": %.1f, \"ns_median\": %.1f, \"mb_per_s\": %.1f}\n", ns[0], ns[BATCHES / 2],
           (double)c->bytes * 1e3 / ns[BATCHES / 2]);
    fflush(stdout);
}

void micro_measure(const struct micro_case *c)
{
    double ns[BATCHES];
    size_t n = batch_len(c);

    (void)batch_ns(c, n); /* warms caches and pools */
    for (size_t i = 0; i < BATCHES; i++)
        ns[i] = batch_ns(c, n);
    print(c, ns, 0);
}

void micro_measure_pair(const struct micro_case *first, const struct micro_case *second)
{
    double a[BATCHES], b[BATCHES], ratio[BATCHES];
    size_t n = batch_len(first);

    (void)batch_ns(first, n);
    (void)batch_ns(second, n);
    for (size_t i = 0; i < BATCHES; i++) {
        a[i] = batch_ns(first, n);
        b[i] = batch_ns(second, n);
        ratio[i] = a[i] / b[i];
    }
    sort(ratio);
    print(first, a, ratio[BATCHES / 2]);
    print(second, b, 0);
}
