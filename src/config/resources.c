/* SPDX-License-Identifier: Apache-2.0 */
/* From resource names to rules on etcd keys. P is the etcd prefix, the longest matching rule wins.
 *
 *   in the configuration              rules
 *   secrets, jobs.batch               P/secrets, P/jobs: the table's prefix, with the entries that
 *                                     select the resource
 *   foos.group (not in the table)     P/group/foos, as custom resources are stored, and P/foos, in
 *                                     case that it is a built-in kind of a newer Kubernetes
 *   *.*                               P: unknown kinds, custom resources, doubled slashes
 *   *.GROUP (its name has a dot)      P/GROUP: custom resources of that group
 *   *. and *.GROUP (built-in group)   P, KEY_RULE_DOTLESS: plurals that the table does not know.
 *                                     The key does not tell their group, so the entries of all
 *                                     these wildcards count
 *
 * A built-in kind that nothing selects gets a rule without entries where a wildcard's rule would
 * cover it, and so does what kube-apiserver never transforms. The prefixes of built-in kinds belong
 * to the table alone: "services.serving.example" must not reach P/services.
 *
 * An entry with identity alone excludes its resource, but only where the key surely belongs to it.
 * A custom foos.group is not excluded at P/foos, which is another kind's, and a built-in group's
 * wildcard excludes nothing from the dotless rule.
 *
 * Failure modes: a prefix on the command line that is no path, or that lies in what is never
 * transformed; a protected prefix whose resource nothing selects, or for which there is a rule with
 * other entries already. */
#include "config/resources_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/resource_table.h"

#define NAME_SHOWN 200 /* bytes of a name in a message */

struct builder {
    const struct enc_config *c;
    const struct key_rules_opts *o;
    struct key_rules *rules;
    char *root;         /* the etcd prefix, normalised: "/registry" or "" */
    size_t *indexes;    /* room for one per entry */
    size_t count;       /* indexes in use */
    bool has_catch_all; /* some wildcard gave a rule that built-in kinds could fall into */
    char *why;
    size_t why_len;
};

/* --- selection --- */

static void select_for(struct builder *b, struct group_resource gr)
{
    b->count = config__select(b->c, gr, b->indexes, b->c->entry_count);
}

static void select_only(struct builder *b, struct group_resource gr)
{
    b->count = config__select_exact(b->c, gr, b->indexes, b->c->entry_count);
}

/* Do the selected entries have no provider but identity? Then they exclude their resource. */
static bool is_excluded(const struct builder *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct enc_entry *e = &b->c->entries[b->indexes[i]];

        for (size_t k = 0; k < e->provider_count; k++)
            if (e->providers[k].kind != ENC_IDENTITY)
                return false;
    }
    return true;
}

/* --- small helpers --- */

static enum err PRINTF_LIKE(2, 3) fail(struct builder *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(b->why, b->why_len, fmt, args);
    va_end(args);
    return ERR_CONFIG;
}

static enum err PRINTF_LIKE(2, 3) warn(struct builder *b, const char *fmt, ...)
{
    va_list args;
    enum err e;

    va_start(args, fmt);
    e = config__add_warning(b->rules, fmt, args);
    va_end(args);
    return e;
}

static bool is_wildcard(struct group_resource gr)
{
    return bytes_eq(gr.plural, BYTES_LIT("*"));
}

/* A group that a newer Kubernetes might have for built-in kinds. */
static bool is_kubernetes_name(struct bytes group)
{
    struct bytes end = BYTES_LIT(".k8s.io");

    return group.n > end.n && memcmp(group.p + group.n - end.n, end.p, end.n) == 0;
}

static bool has_dot(struct bytes group)
{
    return group.n > 0 && memchr(group.p, '.', group.n) != NULL;
}

/* --- rules --- */

/* A rule with the selected entries. */
static enum err take_rule(struct builder *b, enum key_rule_kind kind, char *prefix,
                          struct group_resource gr)
{
    return config__take_rule(b->rules, kind, prefix, gr, b->indexes, b->count);
}

static char *PRINTF_LIKE(2, 3) under_root(const struct builder *b, const char *fmt, ...)
{
    char *rest = NULL;
    char *out = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&rest, fmt, args);
    va_end(args);
    if (n < 0)
        return NULL;
    if (asprintf(&out, "%s%s", b->root, rest) < 0)
        out = NULL;
    free(rest);
    return out;
}

/* --- what is never transformed --- */

static enum err add_never(struct builder *b)
{
    b->count = 0;
    for (size_t i = 0; i < config__never_count; i++)
        TRY(take_rule(b, KEY_RULE_PREFIX, under_root(b, "/%s", config__never[i]),
                      config__group_resource("")));
    return ERR_OK;
}

static bool is_never(const struct builder *b, const char *prefix)
{
    size_t n = strlen(b->root);

    if (strncmp(prefix, b->root, n) != 0 || prefix[n] != '/')
        return false;
    for (size_t i = 0; i < config__never_count; i++)
        if (config__lies_in(prefix + n + 1, config__never[i]))
            return true;
    return false;
}

/* --- resources of the table and of --resource-prefix --- */

static const struct resource_prefix *find_override(const struct builder *b,
                                                   struct group_resource gr)
{
    for (size_t i = 0; i < b->o->resource_prefix_count; i++) {
        const struct resource_prefix *p = &b->o->resource_prefixes[i];

        if (config__group_resource_eq(config__group_resource(p->resource), gr))
            return p;
    }
    return NULL;
}

static enum err override_prefix(struct builder *b, const struct resource_prefix *p, char **out)
{
    bool is_bad = false;
    char *relative = config__normalise(p->prefix, &is_bad);

    if (relative == NULL)
        return ERR_NOMEM;
    is_bad |= relative[0] == '\0';
    *out = under_root(b, "%s", relative);
    free(relative);
    if (*out == NULL)
        return ERR_NOMEM;
    if (!is_bad && !is_never(b, *out))
        return ERR_OK;
    free(*out);
    *out = NULL;
    return fail(b, "--resource-prefix %.*s=%.*s: %s", NAME_SHOWN, p->resource, NAME_SHOWN,
                p->prefix,
                is_bad ? "the prefix is not a path under the etcd prefix"
                       : "kube-apiserver never encrypts what is stored there");
}

static enum err builtin_prefix(struct builder *b, const struct builtin_resource *row, char **out)
{
    const struct resource_prefix *p = find_override(b, config__builtin_gr(row));

    if (p != NULL)
        return override_prefix(b, p, out);
    *out = under_root(b, "/%s", row->prefix);
    return *out == NULL ? ERR_NOMEM : ERR_OK;
}

static bool is_in_protected(struct builder *b, const char *prefix, enum err *e)
{
    bool is_inside = false;

    for (size_t i = 0; i < b->o->protect_prefix_count && !is_inside; i++) {
        bool is_bad = false;
        char *p = config__normalise(b->o->protect_prefixes[i].prefix, &is_bad);

        if (p == NULL) {
            *e = ERR_NOMEM;
            return true;
        }
        is_inside = config__lies_in(prefix, p);
        free(p);
    }
    return is_inside;
}

/* Called twice: for those that are selected, and last, when all wildcards are known, for those that
 * are not. */
static enum err add_builtins(struct builder *b, bool is_selected)
{
    for (size_t i = 0; i < config__builtin_count; i++) {
        const struct builtin_resource *row = &config__builtins[i];
        enum err e = ERR_OK;
        char *prefix;

        select_for(b, config__builtin_gr(row));
        if ((b->count > 0) != is_selected)
            continue;
        TRY(builtin_prefix(b, row, &prefix));
        if (!is_selected && is_in_protected(b, prefix, &e)) {
            free(prefix);
            TRY(e);
            continue;
        }
        TRY(take_rule(b, KEY_RULE_PREFIX, prefix, config__builtin_gr(row)));
    }
    return ERR_OK;
}

/* Resources that the table does not know but --resource-prefix does, selected by name or by a
 * wildcard. */
static enum err add_overrides(struct builder *b)
{
    for (size_t i = 0; i < b->o->resource_prefix_count; i++) {
        const struct resource_prefix *p = &b->o->resource_prefixes[i];
        struct group_resource gr = config__group_resource(p->resource);
        char *prefix;

        if (config__is_builtin(gr))
            continue;
        if (!config__is_dns_name(gr.plural, false) ||
            (gr.group.n > 0 && !config__is_dns_name(gr.group, true)))
            return fail(b, "--resource-prefix %.*s=%.*s: not the name of a resource", NAME_SHOWN,
                        p->resource, NAME_SHOWN, p->prefix);
        TRY(override_prefix(b, p, &prefix));
        select_for(b, gr);
        if (b->count > 0) {
            TRY(take_rule(b, KEY_RULE_PREFIX, prefix, gr));
            continue;
        }
        free(prefix);
        TRY(warn(b,
                 "--resource-prefix names %.*s, which the encryption configuration does not select",
                 NAME_SHOWN, p->resource));
    }
    return ERR_OK;
}

/* --- names that the table does not know --- */

static enum err warn_unknown(struct builder *b, const char *name, struct group_resource gr)
{
    const char *group = config__group_of_plural(gr.plural);

    if (group != NULL)
        return warn(
            b,
            "resource \"%.*s\" matches nothing known: the built-in resource of that name is "
            "%.*s%s%s",
            NAME_SHOWN, name, (int)gr.plural.n, gr.plural.p, group[0] != '\0' ? "." : "", group);
    return warn(b,
                "resource \"%.*s\" matches nothing known: names are plural (secrets), and those of "
                "custom resources end in their group (widgets.example.com)",
                NAME_SHOWN, name);
}

static enum err add_unknown(struct builder *b, const char *name, struct group_resource gr)
{
    bool is_plural_free = !config__is_taken(gr.plural);
    bool is_custom = has_dot(gr.group) && !config__is_builtin_group(gr.group);

    if (!config__is_dns_name(gr.plural, false) ||
        (gr.group.n > 0 && !config__is_dns_name(gr.group, true)))
        return warn(b, "resource \"%.*s\" matches nothing: it is not the name of a resource",
                    NAME_SHOWN, name);
    if (!is_custom)
        TRY(warn_unknown(b, name, gr));
    if (find_override(b, gr) != NULL)
        return ERR_OK;
    select_for(b, gr);
    /* "foos.events" must not reach the events of the namespace foos. */
    if (gr.group.n > 0 && (has_dot(gr.group) || !config__is_taken(gr.group)))
        TRY(take_rule(
            b, KEY_RULE_PREFIX,
            under_root(b, "/%.*s/%.*s", (int)gr.group.n, gr.group.p, (int)gr.plural.n, gr.plural.p),
            gr));
    if (is_plural_free && !(is_custom && !is_kubernetes_name(gr.group) && is_excluded(b)))
        TRY(take_rule(b, KEY_RULE_PREFIX, under_root(b, "/%.*s", (int)gr.plural.n, gr.plural.p),
                      gr));
    return ERR_OK;
}

/* --- wildcards --- */

static bool has_all(const struct builder *b)
{
    return config__select_exact(b->c, config__group_resource("*.*"), NULL, 0) > 0;
}

/* Plurals that the table does not know. "*.*" takes them where it is configured. */
static enum err add_dotless(struct builder *b, const char *name, struct group_resource gr)
{
    if (is_excluded(b))
        return ERR_OK;
    b->has_catch_all = true;
    if (has_all(b))
        return ERR_OK;
    TRY(warn(
        b,
        "wildcard \"%.*s\" also protects what this version does not know: keys under %s/ whose "
        "next segment is neither a known plural nor a group",
        NAME_SHOWN, name, b->root));
    return take_rule(b, KEY_RULE_DOTLESS, strdup(b->root), gr);
}

static enum err add_wildcard(struct builder *b, const char *name, struct group_resource gr)
{
    select_only(b, gr);
    if (bytes_eq(gr.group, BYTES_LIT("*"))) {
        b->has_catch_all = true;
        return take_rule(b, KEY_RULE_PREFIX, strdup(b->root), gr);
    }
    if (gr.group.n > 0 && !config__is_dns_name(gr.group, true))
        return warn(b, "resource \"%.*s\" matches nothing: no group has such a name", NAME_SHOWN,
                    name);
    if (has_dot(gr.group))
        TRY(take_rule(b, KEY_RULE_PREFIX, under_root(b, "/%.*s", (int)gr.group.n, gr.group.p), gr));
    if (config__is_builtin_group(gr.group))
        return add_dotless(b, name, gr);
    /* Custom resources have a dot in their group, so this may be a group of a newer Kubernetes. */
    if (!has_dot(gr.group)) {
        TRY(warn(b, "wildcard \"%.*s\" names a group that is not known", NAME_SHOWN, name));
        return add_dotless(b, name, gr);
    }
    if (is_kubernetes_name(gr.group))
        return warn(
            b,
            "wildcard \"%.*s\" names no built-in group that is known: it protects keys under "
            "%s/%.*s/ only",
            NAME_SHOWN, name, b->root, (int)gr.group.n, gr.group.p);
    return ERR_OK;
}

static enum err add_named(struct builder *b)
{
    for (size_t i = 0; i < b->c->entry_count; i++) {
        const struct enc_entry *e = &b->c->entries[i];

        for (size_t k = 0; k < e->resource_count; k++) {
            struct group_resource gr = config__group_resource(e->resources[k]);

            if (is_wildcard(gr))
                TRY(add_wildcard(b, e->resources[k], gr));
            else if (!config__is_builtin(gr))
                TRY(add_unknown(b, e->resources[k], gr));
        }
    }
    return ERR_OK;
}

/* --- --protect-prefix --- */

static bool has_same_entries(const struct builder *b, const struct key_rule *rule)
{
    return rule->entry_count == b->count &&
           memcmp(rule->entry_indexes, b->indexes, b->count * sizeof(*b->indexes)) == 0;
}

static const char *protect_problem(struct builder *b, const struct resource_prefix *p,
                                   const char *prefix)
{
    const struct key_rule *rule = config__find_rule(b->rules, KEY_RULE_PREFIX, prefix);

    if (p->prefix[0] != '/')
        return "the prefix has to begin with a slash: it is a whole etcd key";
    if (b->count == 0)
        return "the encryption configuration does not select this resource";
    if (is_never(b, prefix))
        return "kube-apiserver never encrypts what is stored there";
    if (rule != NULL && rule->entry_count > 0 && !has_same_entries(b, rule))
        return "another resource with other providers has this prefix";
    return NULL;
}

static enum err add_protected(struct builder *b)
{
    for (size_t i = 0; i < b->o->protect_prefix_count; i++) {
        const struct resource_prefix *p = &b->o->protect_prefixes[i];
        struct group_resource gr = config__group_resource(p->resource);
        bool is_bad = false;
        char *prefix = config__normalise(p->prefix, &is_bad);
        const char *problem;

        if (prefix == NULL)
            return ERR_NOMEM;
        select_for(b, gr);
        problem = is_bad ? "the prefix is not a path" : protect_problem(b, p, prefix);
        if (problem != NULL) {
            free(prefix);
            return fail(b, "--protect-prefix %.*s=%.*s: %s", NAME_SHOWN, p->prefix, NAME_SHOWN,
                        p->resource, problem);
        }
        TRY(take_rule(b, KEY_RULE_PREFIX, prefix, gr));
    }
    return ERR_OK;
}

/* --- all of it --- */

static enum err build(struct builder *b)
{
    bool is_bad = false;

    b->root = config__normalise(b->o->etcd_prefix, &is_bad);
    b->indexes = calloc(b->c->entry_count + 1, sizeof(*b->indexes));
    b->rules = calloc(1, sizeof(*b->rules));
    if (b->root == NULL || b->indexes == NULL || b->rules == NULL)
        return ERR_NOMEM;
    if (is_bad)
        return fail(b, "--etcd-prefix %.*s: not a path", NAME_SHOWN, b->o->etcd_prefix);
    TRY(add_never(b));
    TRY(add_builtins(b, true));
    TRY(add_named(b));
    TRY(add_overrides(b));
    if (b->has_catch_all)
        TRY(add_builtins(b, false));
    return add_protected(b);
}

enum err key_rules_build(const struct enc_config *c, const struct key_rules_opts *o,
                         struct key_rules **out, char *why, size_t why_len)
{
    struct builder b = {.c = c, .o = o, .why = why, .why_len = why_len};
    enum err e = build(&b);

    *out = NULL;
    if (e == ERR_NOMEM)
        snprintf(why, why_len, "%s", err_reason(e));
    free(b.indexes);
    if (e == ERR_OK) {
        b.rules->root = b.root;
        *out = b.rules;
    } else {
        free(b.root);
        key_rules_free(b.rules);
    }
    return e;
}
