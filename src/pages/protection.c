/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/protection.h"

#include <stdio.h>
#include <string.h>

static bool is_same(const struct key_rule *a, const struct key_rule *b)
{
    return a->entry_count == b->entry_count &&
           memcmp(a->entry_indexes, b->entry_indexes,
                  a->entry_count * sizeof a->entry_indexes[0]) == 0;
}

static bool is_first(const struct key_rules *rules, size_t i)
{
    if (rules->v[i].entry_count == 0)
        return false;
    for (size_t k = 0; k < i; k++)
        if (is_same(&rules->v[k], &rules->v[i]))
            return false;
    return true;
}

size_t pages__group_next(const struct ruleset *rules, size_t i)
{
    while (i < rules->key_rules->count && !is_first(rules->key_rules, i))
        i++;
    return i;
}

size_t pages__group_rule_next(const struct ruleset *rules, size_t i)
{
    const struct key_rules *r = rules->key_rules;
    size_t k = i + 1;

    while (k < r->count && !is_same(&r->v[i], &r->v[k]))
        k++;
    return k;
}

static void name_key(const struct pages_state *st, const struct provider *p, size_t key,
                     struct pages_way *out)
{
    out->provider = p;
    out->key[0] = '\0';
    if (provider_traits(p)->is_kms) {
        CHECK(p->slot < st->plugin_count);
        (void)snprintf(out->key, sizeof out->key, "%s", st->plugins[p->slot].last.key_id_hash);
    } else if (key < p->key_count) {
        struct bytes name = p->keys[key].prefix; /* "NAME:" */

        (void)snprintf(out->key, sizeof out->key, "%.*s", (int)name.n - 1, (const char *)name.p);
    }
}

bool pages__group_way(const struct pages_state *st, size_t group, size_t n, struct pages_way *out)
{
    const struct provider_list *list = &st->rules->lists[group];

    for (uint32_t i = 0; i < list->count; i++) {
        size_t ways = list->v[i]->key_count > 0 ? list->v[i]->key_count : 1;

        if (n < ways) {
            name_key(st, list->v[i], n, out);
            return true;
        }
        n -= ways;
    }
    return false;
}

const char *pages__provider_words(const struct provider *p, char out[static 300])
{
    const struct provider_traits *t = provider_traits(p);

    (void)snprintf(out, 300, "%s%s%s%s%s", t->name, t->is_identity ? "" : " ",
                   t->is_identity ? "" : t->version, p->name[0] == '\0' ? "" : " ", p->name);
    return out;
}
