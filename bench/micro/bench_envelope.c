/* SPDX-License-Identifier: Apache-2.0 */
/* Sealing and opening one KMS v2 value, by size: random bytes, key derivation, AES-GCM and the
 * envelope around it; each beside the reference, which is the crypto alone at its best. A value
 * opens where it lies, so each run of a batch has its own. */
#include <stdio.h>
#include <stdlib.h>

#include <openssl/rand.h>

#include "micro.h"
#include "reference.h"

struct values {
    struct micro *m;
    struct chain plain;
    struct chain sealed[MICRO_BATCH];
    struct envelope_value found[MICRO_BATCH];
    struct arena arena;
    size_t sealed_len;
    uint8_t *out;
    /* of the reference */
    size_t size, ref_len;
    uint8_t *ref_sealed, *ref_values[MICRO_BATCH];
};

static const char aad[] = MICRO_KEY;

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

    micro_must(envelope_open(v->m->ctx, &v->found[i], v->m->dek, BYTES_LIT(MICRO_KEY),
                             chain_seek(&v->sealed[i], v->found[i].data_at), NULL));
}

static void ref_seal_run(void *arg, size_t i)
{
    struct values *v = arg;

    (void)i;
    reference_seal(v->ref_sealed, v->size, aad, sizeof aad - 1);
}

static void ref_open_prepare(void *arg, size_t i)
{
    struct values *v = arg;

    if (v->ref_values[i] == NULL)
        v->ref_values[i] = malloc(v->ref_len);
    if (v->ref_values[i] == NULL)
        micro_must(ERR_NOMEM);
    memcpy(v->ref_values[i], v->ref_sealed, v->ref_len);
}

static void ref_open_run(void *arg, size_t i)
{
    struct values *v = arg;

    reference_open(v->ref_values[i], v->size, aad, sizeof aad - 1);
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
    v->size = size;
    v->ref_len = REFERENCE_HEAD + size + REFERENCE_TAG;
    v->ref_sealed = calloc(1, v->ref_len);
    if (v->ref_sealed == NULL)
        micro_must(ERR_NOMEM);
    micro_measure_pair(&(struct micro_case){"envelope", "seal", size, v, NULL, seal_run},
                       &(struct micro_case){"reference", "seal", size, v, NULL, ref_seal_run});
    micro_measure_pair(
        &(struct micro_case){"envelope", "open", size, v, open_prepare, open_run},
        &(struct micro_case){"reference", "open", size, v, ref_open_prepare, ref_open_run});
    if (size == 1024) {
        open_prepare(v, 0);
        micro_measure(&(struct micro_case){"envelope", "identify", size, v, NULL, identify_run});
    }
    for (size_t i = 0; i < MICRO_BATCH; i++) {
        free(v->ref_values[i]);
        v->ref_values[i] = NULL;
    }
    free(v->ref_sealed);
    free(v->out);
    free(plain);
}

int main(void)
{
    static const size_t sizes[] = {64, 256, 1024, 4096, 16384, 262144, 1048576};
    static struct micro m;
    static struct values v;

    uint8_t seed[32];

    micro_init(&m);
    if (RAND_bytes(seed, sizeof seed) != 1)
        micro_must(ERR_RANDOM);
    reference_init(seed);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        measure_size(&m, &v, sizes[i]);
    return 0;
}
