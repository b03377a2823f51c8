/* SPDX-License-Identifier: Apache-2.0 */
/* JSON is YAML in flow style, so libyaml reads it, event by event. Only the depth is kept: problems
 * are the objects at depth 3, in the array that the outermost object has under that name. */
#include "tools/problems.h"

#include <string.h>
#include <yaml.h>

#include "kms/text.h"

enum { DEPTH_OBJECT = 1, DEPTH_PROBLEM = 3, DEPTH_MAX = 32 };

struct reader {
    struct tools_problems *to;
    struct tools_problem *problem; /* the one at hand; NULL: none, or there is no room */
    size_t depth;
    bool is_inside; /* of the array of problems, or what lies in it */
    bool has_array; /* there was such an array */
    bool is_value;  /* a name was read, in an object whose names count: its value comes next */
    char name[16];  /* that name; longer ones are not ours, and cut */
};

/* Objects whose names count; everything else is passed over. */
static bool is_of_ours(const struct reader *r)
{
    return r->depth == DEPTH_OBJECT || (r->is_inside && r->depth == DEPTH_PROBLEM);
}

static void take_text(struct reader *r, struct bytes v)
{
    struct tools_problem *p = r->problem;

    if (p == NULL || r->depth != DEPTH_PROBLEM)
        return;
    if (strcmp(r->name, "severity") == 0)
        kms_clean_text(v, p->severity, sizeof p->severity);
    else if (strcmp(r->name, "about") == 0)
        kms_clean_text(v, p->about, sizeof p->about);
    else if (strcmp(r->name, "title") == 0)
        kms_clean_text(v, p->title, sizeof p->title);
}

/* A text, a number, or whatever else has no parts. */
static void take_scalar(struct reader *r, struct bytes v)
{
    if (!is_of_ours(r))
        return;
    if (r->is_value)
        take_text(r, v);
    else
        kms_clean_text(v, r->name, sizeof r->name);
    r->is_value = !r->is_value;
}

static void begin(struct reader *r, bool is_array)
{
    if (is_array && r->depth == DEPTH_OBJECT && r->is_value && strcmp(r->name, "problems") == 0)
        r->has_array = r->is_inside = true;
    r->depth++;
    if (is_array || !r->is_inside || r->depth != DEPTH_PROBLEM)
        return;
    r->problem = r->to->count < TOOLS_PROBLEMS_MAX ? &r->to->v[r->to->count++] : NULL;
    r->is_value = false;
}

static void end(struct reader *r)
{
    r->depth--;
    r->problem = r->depth < DEPTH_PROBLEM ? NULL : r->problem;
    r->is_inside &= r->depth > DEPTH_OBJECT;
    if (is_of_ours(r)) /* what has ended was a value */
        r->is_value = false;
}

static void take(struct reader *r, const yaml_event_t *e)
{
    switch (e->type) {
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        begin(r, e->type == YAML_SEQUENCE_START_EVENT);
        break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        end(r);
        break;
    case YAML_SCALAR_EVENT:
        take_scalar(r, bytes_of(e->data.scalar.value, e->data.scalar.length));
        break;
    case YAML_ALIAS_EVENT: /* not in JSON */
        take_scalar(r, bytes_of(NULL, 0));
        break;
    default:
        break;
    }
}

/* The page is somebody else's, and libyaml's time grows with the square of the depth; so what is
 * much deeper than ours, or no JSON by its characters, is not given to it. */
static bool is_flat_json(struct bytes text)
{
    static const char between[] = "[]{}:,+-.0123456789eEtrufalsn \t\r\n";
    unsigned depth = 0;
    bool is_quoted = false;

    for (size_t i = 0; i < text.n; i++) {
        char c = (char)text.p[i];

        if (is_quoted && c == '\\')
            i++;
        else if (c == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && (c == '\0' || strchr(between, c) == NULL))
            return false;
        else if (!is_quoted && (c == '[' || c == '{') && ++depth > DEPTH_MAX)
            return false;
        else if (!is_quoted && (c == ']' || c == '}') && depth > 0)
            depth--;
    }
    return text.n > 0 && text.p[0] == '{';
}

static bool read_all(struct reader *r, yaml_parser_t *parser)
{
    bool is_over = false;
    yaml_event_t e;

    while (!is_over) {
        if (!yaml_parser_parse(parser, &e))
            return false;
        take(r, &e);
        is_over = e.type == YAML_DOCUMENT_END_EVENT || e.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&e);
    }
    return r->has_array;
}

enum err tools_problems_read(struct bytes statusz, struct tools_problems *out)
{
    struct reader r = {.to = out};
    yaml_parser_t parser;
    bool is_good;

    *out = (struct tools_problems){0};
    if (!is_flat_json(statusz))
        return ERR_CONFIG;
    if (!yaml_parser_initialize(&parser))
        return ERR_NOMEM;
    yaml_parser_set_input_string(&parser, statusz.p, statusz.n);
    is_good = read_all(&r, &parser);
    yaml_parser_delete(&parser);
    if (!is_good)
        *out = (struct tools_problems){0};
    return is_good ? ERR_OK : ERR_CONFIG;
}
