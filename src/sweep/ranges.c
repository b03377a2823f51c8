/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep/ranges.h"

#include <stdlib.h>

bool sweep_wants_resource(const struct sweep_filter *f, const char *resource)
{
    for (size_t i = 0; i < f->resource_count; i++)
        if (strcmp(f->resources[i], resource) == 0)
            return true;
    return f->resource_count == 0;
}

/* "ns" of ".../ns/name"; empty when there is none. */
static struct bytes namespace_of(struct bytes key)
{
    const uint8_t *last = key.n > 0 ? memrchr(key.p, '/', key.n) : NULL;
    const uint8_t *before = last == NULL ? NULL : memrchr(key.p, '/', (size_t)(last - key.p));

    return before == NULL ? bytes_of(NULL, 0) : bytes_of(before + 1, (size_t)(last - before - 1));
}

bool sweep_wants(const struct sweep_filter *f, struct bytes key, const struct provider_list *list)
{
    struct bytes ns = namespace_of(key);

    if (!sweep_wants_resource(f, list->resource))
        return false;
    for (size_t i = 0; i < f->namespace_count; i++)
        if (bytes_eq(ns, bytes_str(f->namespaces[i])))
            return true;
    return f->namespace_count == 0;
}

static int range_cmp(const void *a, const void *b)
{
    const struct sweep_range *x = a, *y = b;

    return bytes_cmp(x->key, y->key);
}

/* prefix, then c, into text. */
static struct bytes with(uint8_t **text, const char *prefix, char c)
{
    struct bytes out = {*text, strlen(prefix) + 1};

    memcpy(*text, prefix, out.n - 1);
    (*text)[out.n - 1] = (uint8_t)c;
    *text += out.n;
    return out;
}

static bool is_wanted_rule(const struct ruleset *rules, const struct sweep_filter *f, size_t i)
{
    return rules->lists[i].count > 0 && sweep_wants_resource(f, rules->key_rules->v[i].resource);
}

/* Ranges in order: what touches becomes one. */
static void join(struct sweep_ranges *r)
{
    size_t n = 0;

    for (size_t i = 0; i < r->count; i++) {
        if (n > 0 && bytes_cmp(r->v[i].key, r->v[n - 1].end) <= 0) {
            if (bytes_cmp(r->v[i].end, r->v[n - 1].end) > 0)
                r->v[n - 1].end = r->v[i].end;
        } else {
            r->v[n++] = r->v[i];
        }
    }
    r->count = n;
}

enum err sweep_ranges_make(const struct ruleset *rules, const struct sweep_filter *f,
                           struct sweep_ranges *out)
{
    const struct key_rules *k = rules->key_rules;
    size_t text_len = 1;
    uint8_t *text;

    for (size_t i = 0; i < k->count; i++)
        text_len += 4 * (strlen(k->v[i].prefix) + 1);
    *out = (struct sweep_ranges){.v = calloc(2 * k->count + 1, sizeof *out->v),
                                 .text = malloc(text_len)};
    if (out->v == NULL || out->text == NULL) {
        sweep_ranges_fini(out);
        return ERR_NOMEM;
    }
    text = out->text;
    for (size_t i = 0; i < k->count; i++) {
        const char *prefix = k->v[i].prefix;
        struct bytes key;

        if (!is_wanted_rule(rules, f, i))
            continue;
        /* The key itself; etcd has none that is empty. */
        key = with(&text, prefix, '\0');
        if (prefix[0] != '\0')
            out->v[out->count++] = (struct sweep_range){bytes_of(key.p, key.n - 1), key};
        key = with(&text, prefix, '/');
        out->v[out->count++] = (struct sweep_range){key, with(&text, prefix, '/' + 1)};
    }
    if (out->count > 0)
        qsort(out->v, out->count, sizeof *out->v, range_cmp);
    join(out);
    return ERR_OK;
}

void sweep_ranges_fini(struct sweep_ranges *r)
{
    free(r->v);
    free(r->text);
    *r = (struct sweep_ranges){0};
}
