/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the first YAML document of a text into a tree.
 *
 * Happy path: libyaml's events, one by one; containers that are open lie on a stack; a scalar's
 * type is what sigs.k8s.io/yaml (go-yaml v2: YAML 1.1 words, YAML 1.2 numbers) makes of it; an
 * alias puts the anchor's node below another parent; "<<" puts the fields of a mapping into another
 * one.
 *
 * Failure modes: not YAML (line and column, never the text, which may be a key); an alias to a
 * container that holds it; more than CONFIG_MAX_NODES values once aliases are written out, or
 * CONFIG_MAX_DEPTH levels; a mapping or list as a key.
 *
 * Secrets: scalars are wiped when the event or the tree goes, and so are the parser's two buffers.
 * What libyaml's scanner frees while a token grows is out of our reach. */
#include "config/config_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/secret.h"

struct anchor {
    char *name;
    struct node *node;
    struct anchor *next;
};

struct frame {
    struct node *node;
    struct node *key; /* of a mapping: its value comes next */
    bool is_merge;    /* that key is "<<" */
};

struct reader {
    yaml_parser_t parser;
    struct tree *tree;
    struct anchor *anchors; /* newest first: a name may be used again */
    size_t anchor_count;
    struct frame stack[CONFIG_MAX_DEPTH];
    size_t depth;
    bool is_done;
};

static enum err fail(struct reader *rd, const yaml_mark_t *mark, const char *what)
{
    snprintf(rd->tree->problem, sizeof(rd->tree->problem), "line %zu, column %zu: %s",
             mark->line + 1, mark->column + 1, what);
    return ERR_CONFIG;
}

/* --- types of plain scalars --- */

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

/* Go's strconv.ParseInt and ParseUint with base 0. */
static bool is_integer(const char *text, double *value)
{
    const char *p = text;
    char *end = NULL;
    unsigned long long v;
    int base = 10;

    if (*p == '+' || *p == '-')
        p++;
    if (p[0] == '0' && p[1] != '\0') {
        char c = (char)(p[1] | 0x20);

        base = c == 'x' ? 16 : c == 'b' ? 2 : 8;
        p += c == 'x' || c == 'b' || c == 'o' ? 2 : 1;
    }
    /* strtoull would take a sign, blanks or a second "0x" here. */
    if (strspn(p, "0123456789abcdefABCDEF") != strlen(p) || *p == '\0')
        return false;
    errno = 0;
    v = strtoull(p, &end, base);
    if (*end != '\0' || errno != 0)
        return false;
    *value = text[0] == '-' ? -(double)v : (double)v;
    return true;
}

/* [-+]? ( . digits | digits ( . digits? )? ) ( [eE] [-+]? digits )? */
static bool is_float(const char *text, double *value)
{
    static const char digits[] = "0123456789";
    const char *p = text + (*text == '+' || *text == '-');
    size_t whole = strspn(p, digits);
    size_t part = 0;

    p += whole;
    if (*p == '.') {
        p++;
        part = strspn(p, digits);
        p += part;
    }
    if (whole == 0 && part == 0)
        return false;
    if (*p == 'e' || *p == 'E') {
        p++;
        p += *p == '+' || *p == '-';
        if (strspn(p, digits) == 0)
            return false;
        p += strspn(p, digits);
    }
    if (*p != '\0')
        return false;
    *value = strtod(text, NULL);
    return __builtin_isfinite(*value);
}

/* On its way through JSON a float like 10.0 becomes the text 10, which is an integer again. */
static bool is_whole(double v)
{
    return v > -1e18 && v < 1e18 && (double)(int64_t)v == v;
}

static bool resolve_number(struct node *n)
{
    char plain[512];
    size_t used = 0;

    if (n->text_len >= sizeof(plain)) {
        if (strspn(n->text, "0123456789_") != n->text_len)
            return false;
        n->kind = NODE_FLOAT;
        return true;
    }
    for (const char *p = n->text; *p != '\0'; p++)
        if (*p != '_')
            plain[used++] = *p;
    plain[used] = '\0';
    if (is_integer(plain, &n->number))
        n->kind = NODE_INT;
    else if (is_float(plain, &n->number))
        n->kind = is_whole(n->number) ? NODE_INT : NODE_FLOAT;
    else
        return false;
    return true;
}

void config__resolve_plain(struct node *n)
{
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};
    static const char *const null[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const odd[] = {".nan",  ".NaN",  ".NAN",  ".inf",  ".Inf",  ".INF", "+.inf",
                                      "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", NULL};

    if (strlen(n->text) != n->text_len)
        return; /* a NUL inside: a string */
    if (is_one_of(n->text, null)) {
        n->kind = NODE_NULL;
    } else if (is_one_of(n->text, yes) || is_one_of(n->text, no)) {
        n->kind = NODE_BOOL;
        n->boolean = is_one_of(n->text, yes);
    } else if (is_one_of(n->text, odd)) {
        n->kind = NODE_FLOAT;
        n->number = __builtin_nan("");
    } else if (strchr("+-.0123456789", n->text[0]) != NULL) {
        (void)resolve_number(n);
    }
}

/* A tag that contradicts the text is an error; one that YAML doesn't define makes a string. */
static bool apply_tag(struct node *n, const char *tag)
{
    static const struct {
        const char *tag;
        enum node_kind kind;
    } tags[] = {{YAML_NULL_TAG, NODE_NULL},
                {YAML_BOOL_TAG, NODE_BOOL},
                {YAML_INT_TAG, NODE_INT},
                {YAML_FLOAT_TAG, NODE_FLOAT}};

    if (strcmp(tag, "tag:yaml.org,2002:binary") == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (strcmp(tag, tags[i].tag) != 0)
            continue;
        config__resolve_plain(n);
        return n->kind == tags[i].kind || (n->kind == NODE_INT && tags[i].kind == NODE_FLOAT);
    }
    return true;
}

/* --- building the tree --- */

static struct node *find_anchor(const struct reader *rd, const char *name)
{
    for (const struct anchor *a = rd->anchors; a != NULL; a = a->next)
        if (strcmp(a->name, name) == 0)
            return a->node;
    return NULL;
}

static enum err add_anchor(struct reader *rd, const yaml_event_t *ev, const yaml_char_t *name,
                           struct node *node)
{
    struct anchor *a;

    if (name == NULL)
        return ERR_OK;
    if (rd->anchor_count == CONFIG_MAX_ANCHORS)
        return fail(rd, &ev->start_mark, "too many anchors");
    a = calloc(1, sizeof(*a));
    if (a == NULL)
        return ERR_NOMEM;
    a->name = strdup((const char *)name);
    a->node = node;
    a->next = rd->anchors;
    rd->anchors = a;
    rd->anchor_count++;
    return a->name == NULL ? ERR_NOMEM : ERR_OK;
}

/* Puts the fields of a mapping, or of the mappings of a list, into map. A field that map has
 * already is found as a doubled one later: strict reading forbids what merging is for. */
static enum err merge(struct reader *rd, const yaml_event_t *ev, struct node *map,
                      const struct node *from, unsigned level)
{
    if (from->kind == NODE_SEQ && level == 0) {
        for (size_t i = 0; i < from->count; i++)
            TRY(merge(rd, ev, map, from->items[i], 1));
        return ERR_OK;
    }
    if (from->kind != NODE_MAP)
        return fail(rd, &ev->start_mark, "map merge requires map or sequence of maps as the value");
    for (size_t i = 0; i < from->count; i++)
        TRY(config__node_add(rd->tree, map, from->items[i]));
    return ERR_OK;
}

/* A value (scalar, alias or closed container) is complete: it goes to the container on top. */
static enum err attach(struct reader *rd, const yaml_event_t *ev, struct node *value, bool is_merge)
{
    struct frame *top;
    enum err e;

    if (rd->depth == 0) {
        rd->tree->root = value;
        return ERR_OK;
    }
    top = &rd->stack[rd->depth - 1];
    if (top->node->kind == NODE_SEQ)
        return config__node_add(rd->tree, top->node, value);
    if (top->key == NULL) {
        if (value->kind == NODE_SEQ || value->kind == NODE_MAP)
            return fail(rd, &ev->start_mark, "a mapping or list can't be the name of a field");
        top->key = value;
        top->is_merge = is_merge;
        return ERR_OK;
    }
    if (top->is_merge) {
        top->key = NULL;
        return merge(rd, ev, top->node, value, 0);
    }
    e = config__node_add(rd->tree, top->node, top->key);
    if (e == ERR_OK)
        e = config__node_add(rd->tree, top->node, value);
    top->key = NULL;
    return e;
}

static enum err on_scalar(struct reader *rd, const yaml_event_t *ev)
{
    const char *tag = (const char *)ev->data.scalar.tag;
    bool is_plain = ev->data.scalar.plain_implicit;
    struct bytes text = bytes_of(ev->data.scalar.value, ev->data.scalar.length);
    struct node *n = config__node_new(rd->tree, NODE_STRING, text);

    if (n == NULL)
        return ERR_NOMEM;
    if (tag == NULL && is_plain)
        config__resolve_plain(n);
    else if (tag != NULL && !apply_tag(n, tag))
        return fail(rd, &ev->start_mark, "the value does not fit its tag");
    TRY(add_anchor(rd, ev, ev->data.scalar.anchor, n));
    return attach(rd, ev, n, tag == NULL && is_plain && strcmp(n->text, "<<") == 0);
}

static enum err on_start(struct reader *rd, const yaml_event_t *ev, enum node_kind kind,
                         const yaml_char_t *anchor)
{
    struct node *n;

    if (rd->depth == CONFIG_MAX_DEPTH)
        return fail(rd, &ev->start_mark, "nested too deeply");
    n = config__node_new(rd->tree, kind, bytes_of(NULL, 0));
    if (n == NULL)
        return ERR_NOMEM;
    n->is_open = true;
    TRY(add_anchor(rd, ev, anchor, n));
    rd->stack[rd->depth++] = (struct frame){.node = n};
    return ERR_OK;
}

static enum err on_end(struct reader *rd, const yaml_event_t *ev)
{
    struct node *n = rd->stack[--rd->depth].node;

    n->is_open = false;
    return attach(rd, ev, n, false);
}

static enum err on_alias(struct reader *rd, const yaml_event_t *ev)
{
    struct node *n = find_anchor(rd, (const char *)ev->data.alias.anchor);

    if (n == NULL)
        return fail(rd, &ev->start_mark, "unknown anchor");
    if (n->is_open)
        return fail(rd, &ev->start_mark, "the value of an anchor contains itself");
    return attach(rd, ev, n, false);
}

static enum err on_event(struct reader *rd, const yaml_event_t *ev)
{
    switch (ev->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(rd, ev);
    case YAML_ALIAS_EVENT:
        return on_alias(rd, ev);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(rd, ev, NODE_SEQ, ev->data.sequence_start.anchor);
    case YAML_MAPPING_START_EVENT:
        return on_start(rd, ev, NODE_MAP, ev->data.mapping_start.anchor);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(rd, ev);
    case YAML_DOCUMENT_END_EVENT:
    case YAML_STREAM_END_EVENT:
        rd->is_done = true;
        return ERR_OK;
    default:
        return ERR_OK;
    }
}

static void drop_event(yaml_event_t *ev)
{
    if (ev->type == YAML_SCALAR_EVENT)
        secret_wipe(ev->data.scalar.value, ev->data.scalar.length);
    yaml_event_delete(ev);
}

static enum err read_document(struct reader *rd)
{
    while (!rd->is_done) {
        yaml_event_t ev;
        enum err e;

        if (!yaml_parser_parse(&rd->parser, &ev)) {
            const char *what = rd->parser.problem != NULL ? rd->parser.problem : "not YAML";
            yaml_mark_t *mark = &rd->parser.problem_mark;

            return rd->parser.error == YAML_MEMORY_ERROR ? ERR_NOMEM : fail(rd, mark, what);
        }
        e = on_event(rd, &ev);
        drop_event(&ev);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* Is there anything behind the first document? What can't be read is something, too. */
static bool more_follows(struct reader *rd)
{
    yaml_event_t ev;
    bool is_end;

    if (!yaml_parser_parse(&rd->parser, &ev))
        return true;
    is_end = ev.type == YAML_STREAM_END_EVENT;
    drop_event(&ev);
    return !is_end;
}

static void reader_fini(struct reader *rd)
{
    yaml_parser_t *p = &rd->parser;

    while (rd->anchors != NULL) {
        struct anchor *a = rd->anchors;

        rd->anchors = a->next;
        free(a->name);
        free(a);
    }
    if (p->buffer.start != NULL)
        secret_wipe(p->buffer.start, (size_t)(p->buffer.end - p->buffer.start));
    if (p->raw_buffer.start != NULL)
        secret_wipe(p->raw_buffer.start, (size_t)(p->raw_buffer.end - p->raw_buffer.start));
    yaml_parser_delete(p);
}

enum err config__read_yaml(struct bytes text, struct tree *t)
{
    struct reader *rd = calloc(1, sizeof(*rd));
    enum err e;

    if (rd == NULL)
        return ERR_NOMEM;
    rd->tree = t;
    if (!yaml_parser_initialize(&rd->parser)) {
        free(rd);
        return ERR_NOMEM;
    }
    yaml_parser_set_input_string(&rd->parser, text.p, text.n);
    e = read_document(rd);
    if (e == ERR_OK && t->root != NULL)
        t->has_more = more_follows(rd);
    reader_fini(rd);
    free(rd);
    return e;
}
