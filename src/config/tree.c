/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config_int.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"

struct node *config__node_new(struct tree *t, enum node_kind kind, struct bytes text)
{
    struct node *n = calloc(1, sizeof(*n));

    if (n == NULL)
        return NULL;
    n->kind = kind;
    if (kind != NODE_SEQ && kind != NODE_MAP) {
        n->text = malloc(text.n + 1);
        if (n->text == NULL) {
            free(n);
            return NULL;
        }
        if (text.n > 0)
            memcpy(n->text, text.p, text.n);
        n->text[text.n] = '\0';
        n->text_len = text.n;
    }
    n->next = t->all;
    t->all = n;
    return n;
}

enum err config__node_add(struct tree *t, struct node *parent, struct node *child)
{
    /* Cannot overflow: each summand passed the check below before. */
    parent->expanded += 1 + child->expanded;
    if (parent->expanded > CONFIG_MAX_NODES) {
        snprintf(t->problem, sizeof(t->problem), "the document has more than %u values",
                 CONFIG_MAX_NODES);
        return ERR_CONFIG;
    }
    if (parent->count == parent->cap) {
        size_t cap = parent->cap == 0 ? 4 : parent->cap * 2;
        struct node **items = realloc(parent->items, cap * sizeof(*items));

        if (items == NULL)
            return ERR_NOMEM;
        parent->items = items;
        parent->cap = cap;
    }
    parent->items[parent->count++] = child;
    return ERR_OK;
}

void config__tree_fini(struct tree *t)
{
    while (t->all != NULL) {
        struct node *n = t->all;

        t->all = n->next;
        if (n->text != NULL)
            secret_wipe(n->text, n->text_len);
        free(n->text);
        free(n->items);
        free(n);
    }
    t->root = NULL;
}

/* Length of the white space character at p, 0 when it is none: Go's unicode.IsSpace, which is more
 * than JSON allows, so that such a text is JSON and not well formed. */
static size_t space_len(const uint8_t *p, size_t n)
{
    static const struct {
        const char *first, *last; /* UTF-8; they differ in the last byte */
    } wide[] = {{"\xc2\x85", "\xc2\x85"},         {"\xc2\xa0", "\xc2\xa0"},
                {"\xe1\x9a\x80", "\xe1\x9a\x80"}, {"\xe2\x80\x80", "\xe2\x80\x8a"},
                {"\xe2\x80\xa8", "\xe2\x80\xa9"}, {"\xe2\x80\xaf", "\xe2\x80\xaf"},
                {"\xe2\x81\x9f", "\xe2\x81\x9f"}, {"\xe3\x80\x80", "\xe3\x80\x80"}};

    if (isspace(p[0]))
        return 1;
    for (size_t i = 0; i < ARRAY_LEN(wide); i++) {
        size_t len = strlen(wide[i].first);

        if (n >= len && memcmp(p, wide[i].first, len) >= 0 && memcmp(p, wide[i].last, len) <= 0)
            return len;
    }
    return 0;
}

enum err config__read(struct bytes text, struct tree *t)
{
    size_t i = 0;

    memset(t, 0, sizeof(*t));
    while (i < text.n && space_len(text.p + i, text.n - i) > 0)
        i += space_len(text.p + i, text.n - i);
    if (i < text.n && text.p[i] == '{')
        return config__read_json(text, t);
    return config__read_yaml(text, t);
}

const struct node *config__get(const struct node *map, const char *name)
{
    if (map == NULL || map->kind != NODE_MAP)
        return NULL;
    for (size_t i = 0; i + 1 < map->count; i += 2) {
        const struct node *key = map->items[i];

        if (key->kind == NODE_STRING && strcmp(key->text, name) == 0)
            return map->items[i + 1]->kind == NODE_NULL ? NULL : map->items[i + 1];
    }
    return NULL;
}

const char *config__get_text(const struct node *map, const char *name)
{
    const struct node *n = config__get(map, name);

    return n == NULL || n->kind != NODE_STRING ? "" : n->text;
}

size_t config__get_count(const struct node *map, const char *name)
{
    const struct node *n = config__get(map, name);

    return n == NULL || n->kind != NODE_SEQ ? 0 : n->count;
}

const char *config__kind_name(enum node_kind kind)
{
    static const char *const names[] = {
        [NODE_NULL] = "null",      [NODE_BOOL] = "a boolean",  [NODE_INT] = "a number",
        [NODE_FLOAT] = "a number", [NODE_STRING] = "a string", [NODE_SEQ] = "a list",
        [NODE_MAP] = "a mapping",
    };

    return names[kind];
}

void config__report_init(struct report *r, char *buf, size_t cap)
{
    memset(r, 0, sizeof(*r));
    r->buf = buf;
    r->cap = cap;
    if (cap > 0)
        buf[0] = '\0';
}

/* Appends; what has no room is cut. */
static void PRINTF_LIKE(2, 0) put(struct report *r, const char *fmt, va_list args)
{
    int n;

    if (r->used + 1 >= r->cap)
        return;
    n = vsnprintf(r->buf + r->used, r->cap - r->used, fmt, args);
    if (n > 0)
        r->used += (size_t)n < r->cap - r->used ? (size_t)n : r->cap - r->used - 1;
}

static void PRINTF_LIKE(2, 3) putf(struct report *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    put(r, fmt, args);
    va_end(args);
}

void config__report(struct report *r, const char *path, const char *fmt, ...)
{
    va_list args;

    putf(r, "%s%s%s", r->count > 0 ? "\n" : "", path, path[0] != '\0' ? ": " : "");
    va_start(args, fmt);
    put(r, fmt, args);
    va_end(args);
    r->count++;
}

enum err config__report_result(const struct report *r)
{
    if (r->is_out_of_memory)
        return ERR_NOMEM;
    return r->count == 0 ? ERR_OK : ERR_CONFIG;
}

const char *config__quote(const char *text, size_t len, char out[static CONFIG_QUOTE_MAX])
{
    size_t used = 0;
    size_t i;

    out[used++] = '"';
    /* The longest escape has 4 characters, "..." and the quote 4 more with the NUL. */
    for (i = 0; i < len && used + 9 < CONFIG_QUOTE_MAX; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '"' || c == '\\')
            used += (size_t)snprintf(out + used, CONFIG_QUOTE_MAX - used, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            used += (size_t)snprintf(out + used, CONFIG_QUOTE_MAX - used, "\\x%02x", c);
        else
            out[used++] = (char)c;
    }
    snprintf(out + used, CONFIG_QUOTE_MAX - used, i < len ? "...\"" : "\"");
    return out;
}
