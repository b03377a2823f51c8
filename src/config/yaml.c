/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the first YAML document of a text into a tree.
 *
 * Happy path: libyaml's events, one by one; containers that are open lie on a stack; a scalar's
 * type is what sigs.k8s.io/yaml makes of it (yaml_scalar.c); an alias puts the anchor's node below
 * another parent; "<<" puts the fields of a mapping into another one.
 *
 * Failure modes: not YAML (line and column, never the text, which may be a key); an alias to a
 * container that holds it; more than CONFIG_MAX_NODES values once aliases are written out, or
 * CONFIG_MAX_DEPTH levels; a mapping or list as a key.
 *
 * Secrets: scalars are wiped when the event or the tree goes, and so are the parser's two buffers.
 * What libyaml's scanner frees while a token grows is out of our reach. */
#include "config/config_int.h"

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
    struct bytes text; /* the whole document */
    size_t bom_at;    /* byte offset of the next byte order mark that begins a line; text.n: none */
    size_t bom_index; /* the same in characters, as libyaml counts */
};

static enum err fail(struct reader *rd, const yaml_mark_t *mark, const char *what)
{
    snprintf(rd->tree->problem, sizeof(rd->tree->problem), "line %zu, column %zu: %s",
             mark->line + 1, mark->column + 1, what);
    return ERR_CONFIG;
}

/* --- byte order marks ------------------------------------------------------------------------- */

static const struct bytes bom = BYTES_LIT("\xef\xbb\xbf");

static bool begins_line(struct bytes text, size_t at)
{
    const uint8_t *p = text.p + at;

    return (at >= 1 && (p[-1] == '\n' || p[-1] == '\r')) ||
           (at >= 2 && p[-2] == 0xc2 && p[-1] == 0x85) ||                         /* U+0085 */
           (at >= 3 && p[-3] == 0xe2 && p[-2] == 0x80 && (p[-1] & 0xfe) == 0xa8); /* U+2028, 2029 */
}

/* Finds the next byte order mark that begins a line, but is not the first character of the text. */
static void find_bom(struct reader *rd)
{
    size_t at = rd->bom_at;

    do {
        if (at < rd->text.n && (rd->text.p[at] & 0xc0) != 0x80)
            rd->bom_index++;
        at++;
    } while (at < rd->text.n &&
             !(bytes_has_prefix(bytes_of(rd->text.p + at, rd->text.n - at), bom) &&
               begins_line(rd->text, at)));
    rd->bom_at = at < rd->text.n ? at : rd->text.n;
}

/* Between two tokens libyaml skips a byte order mark that begins a line. For Kubernetes' reader it
 * is a character like any other, which makes it part of a field name, and no field is called so.
 * Inside a scalar both take it for a character. */
static enum err check_bom(struct reader *rd, const yaml_event_t *ev)
{
    while (rd->bom_at < rd->text.n && rd->bom_index < ev->end_mark.index) {
        if (ev->type != YAML_SCALAR_EVENT || rd->bom_index < ev->start_mark.index)
            return fail(rd, &ev->start_mark, "a byte order mark inside of the text");
        find_bom(rd);
    }
    return ERR_OK;
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
 * already is refused later as a doubled one, as Kubernetes' strict decoding does. */
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

/* "<<" without quotes, or with the tag that says so. */
static bool is_merge_key(const yaml_event_t *ev)
{
    const char *tag = (const char *)ev->data.scalar.tag;

    if (tag == NULL ? !ev->data.scalar.plain_implicit : strcmp(tag, "tag:yaml.org,2002:merge") != 0)
        return false;
    return bytes_eq(bytes_of(ev->data.scalar.value, ev->data.scalar.length), BYTES_LIT("<<"));
}

static enum err on_scalar(struct reader *rd, const yaml_event_t *ev)
{
    const char *tag = (const char *)ev->data.scalar.tag;
    bool is_plain = ev->data.scalar.plain_implicit;
    struct bytes text = bytes_of(ev->data.scalar.value, ev->data.scalar.length);
    struct node *n = config__node_new(rd->tree, NODE_STRING, text);
    enum err e = ERR_OK;

    if (n == NULL)
        return ERR_NOMEM;
    if (tag == NULL && is_plain)
        config__resolve_plain(n);
    else if (tag != NULL)
        e = config__apply_tag(n, tag);
    if (e != ERR_OK)
        return e == ERR_CONFIG ? fail(rd, &ev->start_mark, "the value does not fit its tag") : e;
    TRY(add_anchor(rd, ev, ev->data.scalar.anchor, n));
    return attach(rd, ev, n, is_merge_key(ev));
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

/* libyaml accepts "%YAML 1.2", too; Kubernetes' reader only 1.1. */
static enum err on_document(struct reader *rd, const yaml_event_t *ev)
{
    const yaml_version_directive_t *v = ev->data.document_start.version_directive;

    if (v != NULL && (v->major != 1 || v->minor != 1))
        return fail(rd, &ev->start_mark, "found incompatible YAML document: only YAML 1.1 is read");
    return ERR_OK;
}

static enum err on_event(struct reader *rd, const yaml_event_t *ev)
{
    switch (ev->type) {
    case YAML_DOCUMENT_START_EVENT:
        return on_document(rd, ev);
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
        e = check_bom(rd, &ev);
        if (e == ERR_OK)
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
    rd->text = text;
    if (bytes_has_prefix(text, bom))
        rd->bom_at = bom.n; /* libyaml does not count it */
    find_bom(rd);
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
