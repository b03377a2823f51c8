/* SPDX-License-Identifier: Apache-2.0 */
#include "config/resources_int.h"

#include <stdio.h>
#include <stdlib.h>

struct key_rule *config__find_rule(struct key_rules *r, enum key_rule_kind kind, const char *prefix)
{
    for (size_t i = 0; i < r->count; i++) {
        struct key_rule *rule = &r->v[i];

        if (rule->kind == kind && strcmp(rule->prefix, prefix) == 0)
            return rule;
    }
    return NULL;
}

static struct key_rule *new_rule(struct key_rules *r)
{
    struct key_rule *v = realloc(r->v, (r->count + 1) * sizeof(*v));

    if (v == NULL)
        return NULL;
    r->v = v;
    memset(&v[r->count], 0, sizeof(*v));
    return &v[r->count++];
}

/* Appends the entries that the rule does not have yet. */
static enum err add_entries(struct key_rule *rule, const size_t *indexes, size_t count)
{
    size_t *v;

    if (count == 0)
        return ERR_OK;
    v = realloc(rule->entry_indexes, (rule->entry_count + count) * sizeof(*v));
    if (v == NULL)
        return ERR_NOMEM;
    rule->entry_indexes = v;
    for (size_t i = 0; i < count; i++) {
        size_t k = 0;

        while (k < rule->entry_count && v[k] != indexes[i])
            k++;
        if (k == rule->entry_count)
            v[rule->entry_count++] = indexes[i];
    }
    return ERR_OK;
}

/* "secrets", "jobs.batch", "*."; "" for a rule that protects nothing. */
static char *resource_text(struct group_resource gr, bool is_protected)
{
    bool has_dot = gr.group.n > 0 || bytes_eq(gr.plural, BYTES_LIT("*"));
    char *text = NULL;

    if (!is_protected)
        return strdup("");
    if (asprintf(&text, "%.*s%s%.*s", (int)gr.plural.n, gr.plural.p, has_dot ? "." : "",
                 (int)gr.group.n, gr.group.p) < 0)
        return NULL;
    return text;
}

enum err config__take_rule(struct key_rules *r, enum key_rule_kind kind, char *prefix,
                           struct group_resource gr, const size_t *indexes, size_t index_count)
{
    struct key_rule *rule;

    if (prefix == NULL)
        return ERR_NOMEM;
    rule = config__find_rule(r, kind, prefix);
    if (rule != NULL) {
        free(prefix);
    } else {
        rule = new_rule(r);
        if (rule == NULL) {
            free(prefix);
            return ERR_NOMEM;
        }
        rule->kind = kind;
        rule->prefix = prefix;
    }
    if (rule->resource == NULL || (rule->entry_count == 0 && index_count > 0)) {
        free(rule->resource);
        rule->resource = resource_text(gr, index_count > 0);
        if (rule->resource == NULL)
            return ERR_NOMEM;
    }
    return add_entries(rule, indexes, index_count);
}

enum err config__add_warning(struct key_rules *r, const char *fmt, va_list args)
{
    char **warnings = realloc(r->warnings, (r->warning_count + 1) * sizeof(*warnings));
    char *line = NULL;

    if (warnings == NULL)
        return ERR_NOMEM;
    r->warnings = warnings;
    if (vasprintf(&line, fmt, args) < 0)
        return ERR_NOMEM;
    warnings[r->warning_count++] = line;
    return ERR_OK;
}

void key_rules_free(struct key_rules *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++) {
        free(r->v[i].prefix);
        free(r->v[i].resource);
        free(r->v[i].entry_indexes);
    }
    for (size_t i = 0; i < r->warning_count; i++)
        free(r->warnings[i]);
    free(r->v);
    free(r->warnings);
    free(r->root);
    free(r);
}
