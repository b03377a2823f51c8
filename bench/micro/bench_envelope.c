/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing and opening one KMS v2 value, by size: random bytes, key derivation, AES-GCM and the
 * envelope around it. A value opens where it lies, so each run of a batch has its own. */
#include <stdio.h>
#include <stdlib.h>

#include "micro.h"

struct values {
    struct micro *m;
    struct chain plain;
    struct chain sealed[MICRO_BATCH];
    struct envelope_value found[MICRO_BATCH];
    struct arena arena;
    size_t sealed_len;
    uint8_t *out;
};

static void seal_run(void *arg, size_t i)
{
    struct values *v = arg;

    (void)i;
    micro_must(envelope_seal(v->m->ctx, &v->m->provider, v->m->dek, BYTES_LIT(MICRO_KEY),
                             chain_begin(&v->plain), v->plain.len, v->out));
}

static void open_prepare(void *arg, size_t i)
{
    struct values *v = arg;

    if (i == 0)
        arena_reset(&v->arena);
    chain_clear(&v->sealed[i]);
    micro_must(chain_push_copy(&v->sealed[i], &v->m->pool, v->out, v->sealed_len, 0));
    micro_must(envelope_identify(&v->m->list, chain_begin(&v->sealed[i]), v->sealed_len, &v->arena,
                                 NULL, &v->found[i]));
}

static void open_run(void *arg, size_t i)
{
    struct values *v = arg;
    size_t at;

    micro_must(envelope_open_in_place(v->m->ctx, &v->found[i], v->m->dek, BYTES_LIT(MICRO_KEY),
                                      &v->sealed[i], &at));
}

static void identify_run(void *arg, size_t i)
{
    struct values *v = arg;
    struct envelope_value found;

    if (i == 0)
        arena_reset(&v->arena);
    micro_must(envelope_identify(&v->m->list, chain_begin(&v->sealed[0]), v->sealed_len, &v->arena,
                                 NULL, &found));
}

static void measure_size(struct micro *m, struct values *v, size_t size)
{
    uint8_t *plain = calloc(1, size);

    if (plain == NULL)
        micro_must(ERR_NOMEM);
    v->m = m;
    chain_clear(&v->plain);
    micro_must(chain_push_copy(&v->plain, &m->pool, plain, size, 0));
    micro_must(envelope_sealed_len(&m->provider, m->dek, size, &v->sealed_len));
    v->out = malloc(v->sealed_len);
    if (v->out == NULL)
        micro_must(ERR_NOMEM);
    micro_measure(&(struct micro_case){"envelope", "seal", size, v, NULL, seal_run});
    micro_measure(&(struct micro_case){"envelope", "open", size, v, open_prepare, open_run});
    if (size == 1024) {
        open_prepare(v, 0);
        micro_measure(&(struct micro_case){"envelope", "identify", size, v, NULL, identify_run});
    }
    free(v->out);
    free(plain);
}

int main(void)
{
    static const size_t sizes[] = {64, 256, 1024, 4096, 16384, 262144, 1048576};
    static struct micro m;
    static struct values v;

    micro_init(&m);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        measure_size(&m, &v, sizes[i]);
    return 0;
}
