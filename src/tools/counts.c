/* SPDX-License-Identifier: Apache-2.0 */
/* Happy path: the resource of the value, then the count of its state and key, which mostly are
 * those of the value before. Failure modes: no memory, which the run ends with; more keys than
 * TOOLS_KEY_COUNTS_MAX, as somebody may plant them: the last one has all of these. */
#include "tools/counts.h"

#include <stdio.h>
#include <stdlib.h>

#include "kms/text.h"
#include "tools/facts.h"

#define PROVIDER_MAX 400u
#define KEY_SHOWN 200u /* of a name that is no hash */

/* What the counts of a key are told apart by: of a value that opens its provider, of another one
 * what it says of itself. */
struct source {
    enum sweep_state state;
    enum err err;
    bool is_due;
    const struct provider *by;
    const struct provider_traits *kind; /* NULL: none */
    struct bytes provider_name, name;
    bool is_key_id;
};

static void source_of(const struct sweep_value *v, const struct tools_facts *f, struct source *out)
{
    const struct sweep_verdict *d = v->verdict;

    *out = (struct source){.state = d->state, .err = d->err, .is_due = d->is_due};
    if (d->state == SWEEP_PLAINTEXT)
        return;
    if (d->state != SWEEP_UNREADABLE) {
        out->by = d->provider;
        out->kind = provider_traits(d->provider);
        out->provider_name = bytes_str(d->provider->name);
        out->name = d->key_name;
    } else if (f->kind != NULL) {
        out->kind = f->kind;
        out->provider_name = f->kind->is_kms ? f->name : bytes_of(NULL, 0);
        out->name = f->kind->is_kms ? f->object.id.key_id : f->name;
    }
    out->is_key_id = out->kind != NULL && out->kind->is_kms;
}

static char *provider_text(const struct source *s)
{
    char name[KEY_SHOWN + 1], text[PROVIDER_MAX];

    if (s->kind == NULL)
        return strdup("");
    kms_clean_text(s->provider_name, name, sizeof name);
    snprintf(text, sizeof text, "%s %s%s%s", s->kind->name, s->kind->version,
             name[0] != '\0' ? " " : "", name);
    return strdup(text);
}

static char *key_text(const struct source *s)
{
    char text[KEY_SHOWN + 1];

    _Static_assert(sizeof text >= KMS_HASH_TEXT, "a hash fits");
    if (s->is_key_id)
        kms_hash_text(s->name, text);
    else
        kms_clean_text(s->name, text, sizeof text);
    return strdup(text);
}

static void key_fini(struct tools_key_count *k)
{
    free(k->provider);
    free(k->key);
    free(k->name);
}

static enum err key_init(struct tools_key_count *k, const struct source *s)
{
    *k = (struct tools_key_count){.state = s->state,
                                  .provider = provider_text(s),
                                  .key = key_text(s),
                                  .err = s->err,
                                  .is_due = s->is_due,
                                  .by = s->by,
                                  .name = malloc(s->name.n + 1),
                                  .name_len = s->name.n};
    if (k->provider == NULL || k->key == NULL || k->name == NULL) {
        key_fini(k);
        return ERR_NOMEM;
    }
    if (s->name.n > 0)
        memcpy(k->name, s->name.p, s->name.n);
    return ERR_OK;
}

static bool is_of(const struct tools_key_count *k, const struct source *s)
{
    return k->state == s->state && k->by == s->by && k->err == s->err && k->is_due == s->is_due &&
           bytes_eq(bytes_of(k->name, k->name_len), s->name);
}

static enum err key_of(struct tools_resource_count *r, const struct source *s,
                       struct tools_key_count **out)
{
    struct tools_key_count *grown;

    if (r->last < r->key_count && is_of(&r->keys[r->last], s)) {
        *out = &r->keys[r->last];
        return ERR_OK;
    }
    for (r->last = 0; r->last < r->key_count; r->last++)
        if (is_of(&r->keys[r->last], s))
            break;
    if (r->last == TOOLS_KEY_COUNTS_MAX)
        r->last--;
    if (r->last == r->key_count) {
        grown = realloc(r->keys, (r->key_count + 1) * sizeof *grown);
        if (grown == NULL)
            return ERR_NOMEM;
        r->keys = grown;
        TRY(key_init(&r->keys[r->key_count], s));
        r->key_count++;
    }
    *out = &r->keys[r->last];
    return ERR_OK;
}

static enum err resource_of(struct tools_counts *c, const char *resource,
                            struct tools_resource_count **out)
{
    struct tools_resource_count *grown;

    for (size_t i = c->count; i > 0; i--) {
        *out = &c->v[i - 1];
        if (strcmp((*out)->resource, resource) == 0)
            return ERR_OK;
    }
    grown = realloc(c->v, (c->count + 1) * sizeof *grown);
    if (grown == NULL)
        return ERR_NOMEM;
    c->v = grown;
    *out = &c->v[c->count++];
    **out = (struct tools_resource_count){.resource = resource};
    return ERR_OK;
}

static void count(struct tools_resource_count *r, const struct sweep_value *v)
{
    bool is_leased = v->kv.lease != 0;

    r->count++;
    r->leased += is_leased;
    r->states[v->verdict->state]++;
    r->due += v->verdict->is_due;
    r->due_leased += v->verdict->is_due && is_leased;
    r->unread_plain += v->verdict->state == SWEEP_PLAINTEXT && v->verdict->err != ERR_OK;
}

enum err tools_counts_add(struct tools_counts *c, const struct sweep_value *v)
{
    struct tools_resource_count *r;
    struct tools_key_count *k;
    struct tools_facts facts = {0};
    struct source s;
    enum err e = ERR_OK;

    TRY(resource_of(c, v->list->resource, &r));
    if (v->verdict->state == SWEEP_UNREADABLE)
        e = tools_facts_gather(v->kv.value, &facts);
    if (e == ERR_OK) {
        source_of(v, &facts, &s);
        e = key_of(r, &s, &k);
    }
    if (v->verdict->state == SWEEP_UNREADABLE)
        tools_facts_fini(&facts);
    TRY(e);
    k->count++;
    count(r, v);
    count(&c->all, v);
    return ERR_OK;
}

void tools_counts_fini(struct tools_counts *c)
{
    for (size_t i = 0; i < c->count; i++) {
        for (size_t k = 0; k < c->v[i].key_count; k++)
            key_fini(&c->v[i].keys[k]);
        free(c->v[i].keys);
    }
    free(c->v);
    *c = (struct tools_counts){0};
}

const char *tools_counts_reason(const struct sweep_verdict *v)
{
    return v->err != ERR_OK ? err_reason(v->err) : sweep_state_text(v->state);
}
