/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the envelope is identified by the key's provider list, its DEK is had from the key
 * ring, maybe later, the value is opened, and what opened it says whether it is current.
 * Failure modes: what is wrong with the value is a verdict; what is wrong with the plugin or with
 * us is an error, for nothing is known of the value then. */
#include "sweep/judge.h"

const char *sweep_state_text(enum sweep_state s)
{
    static const char *const texts[] = {[SWEEP_UNREADABLE] = "unreadable",
                                        [SWEEP_PLAINTEXT] = "plaintext",
                                        [SWEEP_OTHER] = "other provider",
                                        [SWEEP_OLDER] = "older key",
                                        [SWEEP_CURRENT] = "current key"};

    return texts[s];
}

/* The place in the list and among the keys; key: the plugin's key id is that in use. */
static enum sweep_state state_of(uint32_t provider_index, bool is_stale, bool is_key_current)
{
    if (provider_index > 0)
        return SWEEP_OTHER;
    return is_stale || !is_key_current ? SWEEP_OLDER : SWEEP_CURRENT;
}

static struct bytes key_name(const struct provider *p, uint32_t key_index, const struct dek_id *id)
{
    if (p->key_count > 0)
        return bytes_of(p->keys[key_index].prefix.p, p->keys[key_index].prefix.n - 1);
    return id->key_id;
}

static enum err no_envelope(struct sweep_judge *j, enum err e)
{
    bool is_sealed = j->in.count > 0 &&
                     bytes_has_prefix(slice_bytes(*chain_at(&j->in, 0)), BYTES_LIT(ENVELOPE_MARK));

    if (e != ERR_OK && !err_is_of_value(e))
        return e;
    j->verdict.state = is_sealed ? SWEEP_UNREADABLE : SWEEP_PLAINTEXT;
    j->verdict.err = e;
    if (e == ERR_OK) {
        j->verdict.is_due = !provider_traits(j->list->v[0])->is_identity;
        if (j->in.count > 0)
            j->plain = slice_ref(*chain_at(&j->in, 0));
    }
    return ERR_OK;
}

static enum err unreadable(struct sweep_judge *j, enum err e)
{
    if (!err_is_of_value(e))
        return e;
    j->verdict.state = SWEEP_UNREADABLE;
    j->verdict.err = e;
    return ERR_OK;
}

static enum err by_envelope(struct sweep_judge *j)
{
    const struct provider *p = j->v.provider;

    j->verdict.provider = p;
    j->verdict.key_name = key_name(p, j->v.key_index, &j->v.id);
    j->verdict.key_index = j->v.key_index;
    j->verdict.state = state_of(j->v.provider_index, j->v.key_index > 0, true);
    j->verdict.is_due = j->verdict.state != SWEEP_CURRENT;
    return ERR_OK;
}

/* Of the plugin that writes: is it this key id? A plugin that has never been healthy has none. */
static enum err is_key_current(const struct sweep_judge *j, const struct provider *p, bool *out)
{
    const struct provider_traits *t = provider_traits(p);
    const struct dek *dek;

    *out = true;
    if (!t->is_kms || t->has_dek_per_value)
        return ERR_OK;
    dek = keyring_state(j->env->ring, p);
    if (dek == NULL)
        return ERR_NO_STATE;
    *out = !dek_id_is_stale(&j->v.id, &dek->id);
    return ERR_OK;
}

/* dek: a reference, taken; NULL when none is needed. */
static enum err open_value(struct sweep_judge *j, struct dek *dek)
{
    struct envelope_opened opened;
    const struct provider *p;
    bool is_current = true;
    enum err e = envelope_open_scratch(j->env->ctx, j->list, &j->v, dek, j->key, &j->in, 0,
                                       j->in.len, j->env->pool, &j->plain, &opened);

    if (e == ERR_OK && dek != NULL && opened.authentic)
        keyring_confirm(j->env->ring, j->v.provider, dek);
    dek_drop(dek);
    if (e != ERR_OK)
        return unreadable(j, e);
    p = j->list->v[opened.provider_index];
    if (opened.provider_index == 0)
        TRY(is_key_current(j, p, &is_current));
    j->verdict.provider = p;
    j->verdict.key_name = key_name(p, opened.key_index, &j->v.id);
    j->verdict.key_index = opened.key_index;
    j->verdict.state = state_of(opened.provider_index, opened.stale, is_current);
    j->verdict.is_due = j->verdict.state != SWEEP_CURRENT;
    return ERR_OK;
}

static void on_key(struct key_wait *w)
{
    struct sweep_judge *j = CONTAINER_OF(w, struct sweep_judge, wait);

    if (w->err == ERR_OK)
        j->err = open_value(j, w->dek);
    else
        j->err = unreadable(j, w->err);
    j->on_done(j);
}

static enum err judge(struct sweep_judge *j)
{
    enum err e = envelope_identify(j->list, chain_begin(&j->in), j->in.len, &j->arena, NULL, &j->v);

    if (e != ERR_OK || j->v.form == ENVELOPE_PLAIN)
        return no_envelope(j, e);
    j->verdict.provider = j->v.provider;
    j->verdict.key_name = key_name(j->v.provider, j->v.key_index, &j->v.id);
    if (j->env->ring == NULL && (j->v.needs_dek || !j->env->opens_local))
        return by_envelope(j);
    if (!j->v.needs_dek)
        return open_value(j, NULL);
    if (!provider_traits(j->v.provider)->is_kms)
        return ERR_CONFIG;
    j->wait.on_done = on_key;
    e = keyring_get(j->env->ring, j->v.provider, &j->v.id, &j->wait);
    if (e == ERR_AGAIN)
        return e;
    return e == ERR_OK ? open_value(j, j->wait.dek) : unreadable(j, e);
}

enum err sweep_judge_start(struct sweep_judge *j, const struct sweep_judge_env *env,
                           struct bytes key, const struct provider_list *list, struct slice value)
{
    struct slice copy = slice_ref(value);

    j->env = env;
    j->key = key;
    j->list = list;
    j->verdict = (struct sweep_verdict){0};
    j->err = ERR_OK;
    TRY(chain_push(&j->in, &copy));
    return judge(j);
}

void sweep_judge_end(struct sweep_judge *j)
{
    keyring_cancel(&j->wait);
    j->wait = (struct key_wait){0};
    slice_drop(&j->plain);
    chain_clear(&j->in);
    arena_reset(&j->arena);
}

void sweep_judge_fini(struct sweep_judge *j)
{
    sweep_judge_end(j);
    chain_fini(&j->in);
    arena_fini(&j->arena);
}

const char *sweep_key_words(enum err e)
{
    switch (e) {
    case ERR_NO_STATE:
        return "it could not be reached, or is not healthy";
    case ERR_KMS_AWAY:
        return "it does not answer in time";
    case ERR_NO_WRITE_KEY:
        return "it was not well for too long";
    case ERR_NOMEM:
        return "out of memory";
    default:
        return err_reason(e);
    }
}
