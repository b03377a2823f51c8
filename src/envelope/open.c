/* SPDX-License-Identifier: Apache-2.0 */
/* A provider list is read as kube-apiserver's prefixTransformers reads it: the elements whose
 * prefix the value has are tried in order, the first that works wins; if none does, the first error
 * is the answer, identity's aside.
 *
 * envelope_identify does what needs no key: elements whose envelope is malformed or invalid are
 * out. If exactly one is left, it says where the plaintext will be and how long it is. */
#include "envelope/envelope_int.h"

/* Asks the candidate about the value, as far as can be told without a key. */
static enum err consider(const struct envelope__candidate *c, struct arena *arena,
                         const struct envelope_value *like, struct envelope_value *out)
{
    const struct envelope__kind *kind = envelope__kind(c->provider);
    struct envelope_value v = {0};

    if (kind->identify == NULL)
        return ERR_CONFIG;
    TRY(kind->identify(c, arena, like, &v));
    if (out->form == ENVELOPE_NONE) {
        v.provider = c->provider;
        *out = v;
    } else {
        out->form = ENVELOPE_SCRATCH; /* a second one: they have to be tried */
    }
    return ERR_OK;
}

enum err envelope_identify(const struct provider_list *list, struct chain_pos pos, size_t len,
                           struct arena *arena, const struct envelope_value *like,
                           struct envelope_value *out)
{
    struct envelope_value found = {0};
    enum err first = ERR_OK;

    *out = found;
    for (uint32_t i = 0; i < list->count && found.form != ENVELOPE_PLAIN; i++) {
        const struct provider *p = list->v[i];
        bool is_first = found.form == ENVELOPE_NONE;
        struct envelope__candidate c;
        enum err e;

        if (!envelope__candidate(p, &pos, len, &c))
            continue;
        e = consider(&c, arena, like, &found);
        if (envelope__ends_the_search(e))
            return e;
        if (e == ERR_OK && is_first) {
            found.provider_index = i;
            found.is_stale |= i != 0;
            if (first != ERR_OK)
                found.earlier = first;
        }
        if (e != ERR_OK && first == ERR_OK && !envelope__kind(p)->errors_are_ignored)
            first = e;
    }
    if (found.form == ENVELOPE_NONE)
        return first != ERR_OK ? first : ERR_NO_MATCHING_PREFIX;
    *out = found;
    return ERR_OK;
}

enum err envelope_open(struct envelope_ctx *ctx, const struct envelope_value *v,
                       const struct dek *dek, struct bytes aad, struct chain_pos data, uint8_t *out)
{
    const struct envelope__kind *kind;
    enum err e;

    CHECK(v->form == ENVELOPE_IN_PLACE);
    kind = envelope__kind(v->provider);
    if (kind->open == NULL)
        return ERR_CONFIG;
    e = kind->open(ctx, v, dek, aad, data, out);
    return e == ERR_OK || v->earlier == ERR_OK || envelope__ends_the_search(e) ? e : v->earlier;
}

enum err envelope_open_scratch(struct envelope_ctx *ctx, const struct provider_list *list,
                               const struct envelope_value *v, const struct dek *dek,
                               struct bytes aad, const struct chain *in, size_t off, size_t len,
                               struct slab_pool *pool, struct slice *out,
                               struct envelope_opened *opened)
{
    const struct envelope__job job = {v, dek, aad, pool};
    struct chain_pos start = chain_seek(in, off);
    enum err first = v->earlier;

    *out = SLICE_EMPTY;
    *opened = (struct envelope_opened){0};
    CHECK(v->form == ENVELOPE_IN_PLACE || v->form == ENVELOPE_SCRATCH);
    /* identify has ruled out those before the first candidate. */
    for (uint32_t i = v->provider_index; i < list->count; i++) {
        const struct envelope__kind *kind = envelope__kind(list->v[i]);
        struct envelope__candidate c;
        enum err e;

        if (kind->open_scratch == NULL || !envelope__candidate(list->v[i], &start, len, &c))
            continue;
        e = kind->open_scratch(ctx, &c, &job, out, opened);
        if (e == ERR_OK) {
            opened->stale |= i != 0;
            opened->provider_index = i;
        }
        if (e == ERR_OK || envelope__ends_the_search(e))
            return e;
        if (first == ERR_OK)
            first = e;
    }
    return first != ERR_OK ? first : ERR_NO_MATCHING_PREFIX;
}
