/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "envelope/envelope_int.h"

bool envelope__begins_with(struct chain_pos pos, size_t len, struct bytes prefix)
{
    if (len < prefix.n)
        return false;
    while (prefix.n > 0) {
        struct bytes b = chain_peek(&pos, prefix.n);

        if (b.n == 0 || memcmp(b.p, prefix.p, b.n) != 0)
            return false;
        chain_skip(&pos, b.n);
        prefix = bytes_of(prefix.p + b.n, prefix.n - b.n);
    }
    return true;
}

enum err envelope__contiguous(struct chain_pos pos, size_t len, struct arena *arena,
                              struct bytes *out)
{
    uint8_t *copy;

    *out = chain_peek(&pos, len);
    if (out->n == len)
        return ERR_OK;
    copy = arena_alloc(arena, len);
    if (copy == NULL)
        return ERR_NOMEM;
    chain_take(&pos, copy, len);
    *out = bytes_of(copy, len);
    return ERR_OK;
}

uint8_t *envelope__for_writing(const struct chain_pos *pos)
{
    struct slice *s = chain_at(pos->chain, pos->index);

    CHECK(!(s->slab->flags & SLAB_STATIC));
    s->slab->flags |= SLAB_SECRET;
    return s->slab->data + s->off + pos->off;
}

uint8_t *envelope__scratch_new(struct slab_pool *pool, size_t n, struct slice *room)
{
    struct slab *slab;

    if (n < LIMIT_SLAB_SIZE) {
        slab = slab_gather(pool, n > 0 ? n : 1, SLAB_SECRET);
        if (slab != NULL)
            slab_ref(slab);
    } else {
        slab = slab_new(pool, n, SLAB_SECRET);
    }
    if (slab == NULL)
        return NULL;
    *room = (struct slice){slab, slab->fill, (uint32_t)n};
    slab->fill += (uint32_t)n; /* so that the last drop wipes it */
    return slab->data + room->off;
}

enum err envelope__scratch_done(struct slice *room, enum err e, size_t len, struct slice *out)
{
    struct slab *slab = room->slab;
    uint32_t keep = e == ERR_OK ? (uint32_t)len : 0;

    CHECK(keep <= room->len && room->off + room->len == slab->fill);
    secret_wipe(slab->data + room->off + keep, room->len - keep);
    slab->fill = room->off + keep;
    room->len = keep;
    if (keep == 0)
        slice_drop(room);
    TRY(e);
    *out = *room;
    return ERR_OK;
}

bool envelope__candidate(const struct provider *p, const struct chain_pos *pos, size_t len,
                         struct envelope__candidate *c)
{
    if (!envelope__begins_with(*pos, len, p->prefix))
        return false;
    *c = (struct envelope__candidate){p, *pos, len - p->prefix.n};
    chain_skip(&c->body, p->prefix.n);
    return true;
}

static enum err identity_identify(const struct envelope__candidate *c, struct arena *arena,
                                  const struct envelope_value *like, struct envelope_value *out)
{
    (void)arena;
    (void)like;
    if (envelope__begins_with(c->body, c->body_len, BYTES_LIT(ENVELOPE_MARK)))
        return ERR_IDENTITY_SAW_ENCRYPTED;
    out->form = ENVELOPE_PLAIN;
    out->data_at = c->body.at;
    out->data_len = out->plain_len = c->body_len;
    return ERR_OK;
}

/* identity opens nothing, for what it can read is its own plaintext. It seals nothing either: a
 * caller that means to store plaintext has to do so explicitly. */
static const struct envelope__kind identity = {
    .traits =
        {
            .kind = PROVIDER_IDENTITY,
            .name = "identity",
            .version = "",
            .prefix = "",
            .is_identity = true,
        },
    .identify = identity_identify,
    .errors_are_ignored = true,
};

static const struct envelope__kind none = {.traits = {.name = "", .version = "", .prefix = ""}};

static const struct envelope__kind *const kinds[] = {
    [PROVIDER_IDENTITY] = &identity,       [PROVIDER_KMS_V2] = &envelope__kmsv2,
    [PROVIDER_KMS_V1] = &envelope__kmsv1,  [PROVIDER_AESGCM] = &envelope__aesgcm,
    [PROVIDER_AESCBC] = &envelope__aescbc, [PROVIDER_SECRETBOX] = &envelope__secretbox,
};

static const struct envelope__kind *kind_of(enum provider_kind kind)
{
    size_t i = (size_t)kind;

    return i < ARRAY_LEN(kinds) && kinds[i] != NULL ? kinds[i] : &none;
}

const struct envelope__kind *envelope__kind(const struct provider *p)
{
    return kind_of(p->kind);
}

const struct provider_traits *provider_kind_traits(enum provider_kind kind)
{
    return &kind_of(kind)->traits;
}

const struct provider_traits *provider_traits(const struct provider *p)
{
    return provider_kind_traits(p->kind);
}

const struct provider_traits *provider_traits_find(struct bytes behind_mark)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct provider_traits *t = provider_kind_traits((enum provider_kind)i);

        if (t->prefix[0] != '\0' && bytes_has_prefix(behind_mark, bytes_str(t->prefix)))
            return t;
    }
    return NULL;
}

bool provider_is_authentic(const struct provider *p)
{
    const struct provider_traits *t = provider_traits(p);

    return t->is_authentic && !(t->has_cbc_past && p->cbc_reads);
}

size_t provider_cache_size(const struct provider *p, size_t most)
{
    return provider_traits(p)->has_cache_size ? p->cache_size : most;
}
