/* SPDX-License-Identifier: Apache-2.0 */
/* One value, sealed or opened with the providers of its key. A DEK that the providers do not have
 * at hand is asked of its plugin. */
#include "tools/crypt.h"

#include <stdio.h>

#include "base/randpool.h"
#include "tools/fetch.h"
#include "tools/words.h"

static enum err random_bytes(void *arg, void *out, size_t n)
{
    (void)arg;
    return random_get(out, n);
}

enum err tools_crypt_init(struct tools_crypt *c, const struct ruleset *rules, const char *key)
{
    *c = (struct tools_crypt){.rules = rules, .key = key};
    slab_pool_init(&c->pool, 0);
    c->list = etcd_rules_find(rules->rules, bytes_str(key));
    return envelope_ctx_new(random_bytes, NULL, &c->ctx);
}

void tools_crypt_fini(struct tools_crypt *c)
{
    slice_drop(&c->out);
    chain_fini(&c->in);
    slab_pool_settle(&c->pool);
    slab_pool_fini(&c->pool);
    if (c->ctx != NULL) {
        envelope_ctx_wipe(c->ctx);
        envelope_ctx_free(c->ctx);
    }
}

static enum err fail(struct tools_crypt *c, enum err e, const char *what)
{
    snprintf(c->why, sizeof c->why, "%s: %s", what, err_reason(e));
    return e;
}

/* The value goes out as it is. */
static enum err keep(struct tools_crypt *c)
{
    if (c->in.count > 0)
        c->out = slice_ref(*chain_at(&c->in, 0));
    return ERR_OK;
}

/* --- encrypt ---------------------------------------------------------------------------------- */

static enum err seal(struct tools_crypt *c, const struct provider *p, const struct dek *dek)
{
    struct slab *slab;
    size_t n;

    TRY(envelope_sealed_len(p, dek, c->in.len, &n));
    slab = slab_new(&c->pool, n, 0);
    if (slab == NULL)
        return ERR_NOMEM;
    slab->fill = (uint32_t)n;
    c->out = (struct slice){slab, 0, (uint32_t)n};
    return envelope_seal(c->ctx, p, dek, bytes_str(c->key), chain_begin(&c->in), c->in.len,
                         slab->data);
}

static bool is_sealed(const struct tools_crypt *c)
{
    return c->in.count > 0 &&
           bytes_has_prefix(slice_bytes(*chain_at(&c->in, 0)), BYTES_LIT(ENVELOPE_MARK));
}

enum err tools_encrypt(struct tools_crypt *c)
{
    const struct provider *p = c->list->v[0];
    struct dek *dek = NULL;
    enum err e;

    /* Sealed twice, its readers would get an envelope instead of the object; stored as it is, it
     * would pass for an envelope that we made. */
    if (is_sealed(c)) {
        snprintf(c->why, sizeof c->why,
                 "the input is sealed already: it begins with " ENVELOPE_MARK);
        return ERR_REQ_SEALED_VALUE;
    }
    if (provider_traits(p)->is_identity)
        return keep(c);
    if (provider_traits(p)->is_kms)
        TRY(tools_fetch_dek(c->rules, p, NULL, &dek, c->why, sizeof c->why));
    e = seal(c, p, dek);
    dek_drop(dek);
    return e == ERR_OK ? e : fail(c, e, "cannot seal the value");
}

/* --- decrypt ---------------------------------------------------------------------------------- */

static enum err does_not_open(struct tools_crypt *c, enum err e)
{
    if (!err_is_of_value(e))
        return fail(c, e, "cannot open the value");
    snprintf(c->why, sizeof c->why, "the value does not open: %s: %s", err_reason(e),
             tools_words(e));
    return e;
}

/* Sets why: what is wrong with the plugin, or with this DEK. */
static enum err no_dek(struct tools_crypt *c, enum err e)
{
    static const char text[] = "the value does not open: ";
    size_t n = strlen(c->why);

    if (!err_is_of_value(e))
        return e;
    if (n + sizeof text > sizeof c->why)
        n = sizeof c->why - sizeof text;
    memmove(c->why + sizeof text - 1, c->why, n);
    memcpy(c->why, text, sizeof text - 1);
    c->why[sizeof text - 1 + n] = '\0';
    return e;
}

static enum err open_sealed(struct tools_crypt *c, const struct envelope_value *v)
{
    struct envelope_opened opened;
    struct dek *dek = NULL;
    enum err e = ERR_OK;

    if (v->needs_dek && !provider_traits(v->provider)->is_kms) {
        snprintf(c->why, sizeof c->why, "values of %s cannot be opened here",
                 (const char *)v->provider->prefix.p);
        return ERR_CONFIG;
    }
    if (v->needs_dek)
        e = tools_fetch_dek(c->rules, v->provider, &v->id, &dek, c->why, sizeof c->why);
    if (e != ERR_OK)
        return no_dek(c, e);
    e = envelope_open_scratch(c->ctx, c->list, v, dek, bytes_str(c->key), &c->in, 0, c->in.len,
                              &c->pool, &c->out, &opened);
    dek_drop(dek);
    return e == ERR_OK ? e : does_not_open(c, e);
}

enum err tools_decrypt(struct tools_crypt *c)
{
    struct arena arena = {0};
    struct envelope_value v;
    enum err e = envelope_identify(c->list, chain_begin(&c->in), c->in.len, &arena, NULL, &v);

    if (e != ERR_OK)
        e = does_not_open(c, e);
    else if (v.form == ENVELOPE_PLAIN)
        e = keep(c);
    else
        e = open_sealed(c, &v);
    arena_fini(&arena);
    return e;
}
