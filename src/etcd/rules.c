/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd/rules.h"

#include <stdlib.h>
#include <string.h>

/* Sorted by prefix; of equal prefixes those that are not dotless come first. A key can only match
 * prefixes that end where one of its segments ends, so a look-up tries these, the longest first. */
struct etcd_rules {
    size_t count;
    size_t prefix_max; /* length of the longest prefix */
    bool *is_last;     /* by rule, behind v: no longer prefix lies within this one */
    bool *has_len;     /* by length up to prefix_max, behind is_last: some prefix is that long */
    struct etcd_rule v[];
};

static int rule_cmp(const void *a, const void *b)
{
    const struct etcd_rule *x = a, *y = b;
    int c = bytes_cmp(x->prefix, y->prefix);

    return c != 0 ? c : (int)x->is_dotless - (int)y->is_dotless;
}

static bool is_within(struct bytes key, struct bytes prefix)
{
    return bytes_has_prefix(key, prefix) && (key.n == prefix.n || key.p[prefix.n] == '/');
}

static bool has_longer(const struct etcd_rules *r, const struct etcd_rule *rule)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->v[i].prefix.n > rule->prefix.n && is_within(r->v[i].prefix, rule->prefix))
            return true;
    }
    return false;
}

static size_t longest_of(const struct etcd_rule *rules, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        if (rules[i].prefix.n > n)
            n = rules[i].prefix.n;
    return n;
}

enum err etcd_rules_new(const struct etcd_rule *rules, size_t count, struct etcd_rules **out)
{
    size_t prefix_max = longest_of(rules, count);
    struct etcd_rules *r = malloc(sizeof *r + count * (sizeof *rules + sizeof(bool)) +
                                  (prefix_max + 1) * sizeof(bool));

    *out = NULL;
    if (r == NULL)
        return ERR_NOMEM;
    r->count = count;
    r->prefix_max = prefix_max;
    r->is_last = (bool *)(r->v + count);
    r->has_len = r->is_last + count;
    memset(r->has_len, 0, (prefix_max + 1) * sizeof(bool));
    for (size_t i = 0; i < count; i++) {
        r->v[i] = rules[i];
        r->has_len[rules[i].prefix.n] = true;
    }
    if (count > 0)
        qsort(r->v, count, sizeof *r->v, rule_cmp);
    for (size_t i = 0; i < count; i++)
        r->is_last[i] = !has_longer(r, &r->v[i]);
    *out = r;
    return ERR_OK;
}

void etcd_rules_free(struct etcd_rules *r)
{
    free(r);
}

/* The first rule with exactly this prefix, or NULL. */
static const struct etcd_rule *rules_at(const struct etcd_rules *r, struct bytes prefix)
{
    size_t lo = 0, hi = r->count;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (bytes_cmp(r->v[mid].prefix, prefix) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < r->count && bytes_eq(r->v[lo].prefix, prefix) ? &r->v[lo] : NULL;
}

/* Does the segment behind the prefix (and its "/") hold a dot? */
static bool segment_has_dot(struct bytes key, size_t prefix_len)
{
    for (size_t i = prefix_len + 1; i < key.n && key.p[i] != '/'; i++) {
        if (key.p[i] == '.')
            return true;
    }
    return false;
}

/* The rule for a key whose prefix of n bytes ends a segment. */
static const struct etcd_rule *rules_match(const struct etcd_rules *r, struct bytes key, size_t n)
{
    const struct etcd_rule *rule = r->has_len[n] ? rules_at(r, bytes_of(key.p, n)) : NULL;
    const struct etcd_rule *end = r->v + r->count;

    for (; rule != NULL && rule < end && rule->prefix.n == n; rule++) {
        if (!bytes_has_prefix(key, rule->prefix))
            break;
        if (!rule->is_dotless || !segment_has_dot(key, n))
            return rule;
    }
    return NULL;
}

static const struct etcd_rule *rules_find(const struct etcd_rules *r, struct bytes key)
{
    size_t n = key.n < r->prefix_max ? key.n : r->prefix_max;
    const struct etcd_rule *rule = NULL;

    if (n == key.n || key.p[n] == '/')
        rule = rules_match(r, key, n);
    while (rule == NULL && n > 0) {
        const uint8_t *slash = memrchr(key.p, '/', n);

        if (slash == NULL)
            return NULL;
        n = (size_t)(slash - key.p);
        rule = rules_match(r, key, n);
    }
    return rule;
}

const struct provider_list *etcd_rules_find(const struct etcd_rules *r, struct bytes key)
{
    const struct etcd_rule *rule = rules_find(r, key);

    return rule == NULL ? NULL : rule->list;
}

const struct provider_list *etcd_rules_find_near(const struct etcd_rules *r, struct bytes key,
                                                 const struct etcd_rule **near)
{
    const struct etcd_rule *rule = *near;

    /* Of equal prefixes the one that is not dotless comes first, so nothing else can match. */
    if (rule != NULL && r->is_last[rule - r->v] && !rule->is_dotless &&
        is_within(key, rule->prefix))
        return rule->list;
    *near = rule = rules_find(r, key);
    return rule == NULL ? NULL : rule->list;
}

/* Compares key with prefix followed by the byte c: the ends of the interval of a rule. */
static int cmp_with(struct bytes key, struct bytes prefix, uint8_t c)
{
    size_t n = key.n < prefix.n ? key.n : prefix.n;
    int d = bytes_cmp(bytes_of(key.p, n), bytes_of(prefix.p, n));

    if (d != 0)
        return d;
    if (key.n <= prefix.n)
        return -1;
    if (key.p[prefix.n] != c)
        return key.p[prefix.n] < c ? -1 : 1;
    return key.n > prefix.n + 1;
}

/* Can [key, end) and the keys of a rule, prefix and [prefix "/", prefix "0"), have one in common?
 * has_end false: end is infinite. */
static bool rule_overlaps(const struct etcd_rule *rule, struct bytes key, struct bytes end,
                          bool has_end)
{
    bool has_own =
        bytes_cmp(key, rule->prefix) <= 0 && (!has_end || bytes_cmp(rule->prefix, end) < 0);
    bool has_below = cmp_with(key, rule->prefix, '/' + 1) < 0 &&
                     (!has_end || cmp_with(end, rule->prefix, '/') > 0);

    return has_own || has_below;
}

/* Does [key, end) lie within [prefix "/", prefix "0")? */
static bool rule_covers(const struct etcd_rule *rule, struct bytes key, struct bytes end,
                        bool has_end)
{
    return has_end && cmp_with(key, rule->prefix, '/') >= 0 &&
           cmp_with(end, rule->prefix, '/' + 1) <= 0;
}

bool etcd_rules_touch(const struct etcd_rules *r, struct bytes key, struct bytes end)
{
    bool has_end = !bytes_eq(end, bytes_of("", 1));
    size_t hidden = 0; /* rules with a shorter prefix than this have no say in this range */

    if (end.n == 0)
        return etcd_rules_find(r, key) != NULL;
    for (size_t i = 0; i < r->count; i++) {
        const struct etcd_rule *rule = &r->v[i];

        if (rule->list == NULL && !rule->is_dotless && rule->prefix.n > hidden &&
            rule_covers(rule, key, end, has_end))
            hidden = rule->prefix.n;
    }
    for (size_t i = 0; i < r->count; i++) {
        const struct etcd_rule *rule = &r->v[i];

        if (rule->list != NULL && rule->prefix.n >= hidden &&
            rule_overlaps(rule, key, end, has_end))
            return true;
    }
    return false;
}

/* --- what a change of rules leaves unprotected -------------------------------------------------
 */

/* Two keys fare alike under both sets when the longest prefix that either set has for them is the
 * same, and the segment behind it holds a dot in both or in none: which shorter rules match is told
 * by that prefix alone. So two keys stand for all keys of a prefix: it, and a segment that no
 * longer prefix goes on with, once without and once with a dot. (The prefix itself fares like the
 * first of them.) */

struct stand_in {
    const struct etcd_rules *old, *fresh;
    char *key;
};

static bool has_prefix_within(const struct etcd_rules *r, struct bytes key)
{
    for (size_t i = 0; i < r->count; i++)
        if (is_within(r->v[i].prefix, key))
            return true;
    return false;
}

/* Makes the key that stands for prefix. Its segment begins like the one given and is made longer
 * until no prefix goes on with it: at most once for each. */
static bool is_lost(const struct stand_in *s, struct bytes prefix, const char *segment)
{
    size_t n = prefix.n + 1 + strlen(segment);

    memcpy(s->key, prefix.p, prefix.n);
    s->key[prefix.n] = '/';
    memcpy(s->key + prefix.n + 1, segment, strlen(segment) + 1);
    while (has_prefix_within(s->old, bytes_of(s->key, n)) ||
           has_prefix_within(s->fresh, bytes_of(s->key, n))) {
        s->key[n++] = 'x';
        s->key[n] = '\0';
    }
    return etcd_rules_find(s->old, bytes_of(s->key, n)) != NULL &&
           etcd_rules_find(s->fresh, bytes_of(s->key, n)) == NULL;
}

static bool loses_below(const struct stand_in *s, const struct etcd_rules *r)
{
    for (size_t i = 0; i < r->count; i++)
        if (is_lost(s, r->v[i].prefix, "example") || is_lost(s, r->v[i].prefix, "example.com"))
            return true;
    return false;
}

enum err etcd_rules_lost(const struct etcd_rules *old, const struct etcd_rules *fresh, char **key)
{
    size_t prefix_max = old->prefix_max > fresh->prefix_max ? old->prefix_max : fresh->prefix_max;
    struct stand_in s = {old, fresh, NULL};

    *key = NULL;
    s.key = malloc(prefix_max + sizeof "/example.com" + old->count + fresh->count);
    if (s.key == NULL)
        return ERR_NOMEM;
    if (loses_below(&s, old) || loses_below(&s, fresh))
        *key = s.key;
    else
        free(s.key);
    return ERR_OK;
}
