/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON (RFC 8259) into a tree.
 *
 * Not by libyaml: YAML's flow style is neither a part of JSON (tabs, "\/", surrogate pairs) nor the
 * other way round (comments, single quotes, plain words), and Kubernetes reads a text that begins
 * with '{' as JSON alone.
 *
 * Not by jansson, for two rules of Kubernetes' strict decoding:
 * - A field that is there twice is reported by its path ("resources[0].resources"), and whatever
 *   else is wrong is reported with it. jansson gives up at the first doubled name and tells a line
 *   and a column of it (JSON_REJECT_DUPLICATES), or keeps the last value without a word. Here both
 *   stay in the tree, and schema.c judges them as it judges YAML.
 * - A number that does not fit is reported by its path, with its digits. jansson gives up there,
 *   too, and keeps no digits.
 * The file holds keys as well: jansson repeats its text in error messages, and its memory could be
 * wiped only by allocators that are set for the whole process.
 *
 * Failure modes: not JSON, anything behind the value, invalid UTF-8, a lone surrogate, more than
 * CONFIG_MAX_DEPTH levels or CONFIG_MAX_NODES values. */
#include "config/config_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/secret.h"

struct reader {
    struct tree *tree;
    const uint8_t *start;
    const uint8_t *p;
    const uint8_t *end;
    unsigned depth;
};

static enum err read_value(struct reader *rd, struct node **out);

static enum err fail(struct reader *rd, const char *what)
{
    unsigned line = 1;

    for (const uint8_t *p = rd->start; p < rd->p; p++)
        line += *p == '\n';
    snprintf(rd->tree->problem, sizeof(rd->tree->problem), "line %u: %s", line, what);
    return ERR_CONFIG;
}

/* The next byte that is no white space, -1 at the end; does not move behind it. */
static int look(struct reader *rd)
{
    while (rd->p < rd->end && (*rd->p == ' ' || *rd->p == '\t' || *rd->p == '\n' || *rd->p == '\r'))
        rd->p++;
    return rd->p < rd->end ? *rd->p : -1;
}

static bool take(struct reader *rd, char c)
{
    if (look(rd) != c)
        return false;
    rd->p++;
    return true;
}

static bool read_hex4(struct reader *rd, uint32_t *out)
{
    uint32_t v = 0;

    if (rd->end - rd->p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        uint8_t c = *rd->p++;

        if (c >= '0' && c <= '9')
            v = v << 4 | (uint32_t)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            v = v << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
        else
            return false;
    }
    *out = v;
    return true;
}

static char *put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    if (c < 0x800) {
        *out++ = (char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *out++ = (char)(0xe0 | c >> 12);
        } else {
            *out++ = (char)(0xf0 | c >> 18);
            *out++ = (char)(0x80 | (c >> 12 & 0x3f));
        }
        *out++ = (char)(0x80 | (c >> 6 & 0x3f));
    }
    *out++ = (char)(0x80 | (c & 0x3f));
    return out;
}

/* What stands behind "\u": one code point, for which a surrogate needs its other half. */
static bool read_code_point(struct reader *rd, uint32_t *out)
{
    uint32_t low;

    if (!read_hex4(rd, out))
        return false;
    if (*out < 0xd800 || *out > 0xdfff)
        return true;
    if (*out > 0xdbff || rd->end - rd->p < 2 || rd->p[0] != '\\' || rd->p[1] != 'u')
        return false;
    rd->p += 2;
    if (!read_hex4(rd, &low) || low < 0xdc00 || low > 0xdfff)
        return false;
    *out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
    return true;
}

static bool read_escape(struct reader *rd, char **out)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *found;
    uint32_t c;

    if (rd->p == rd->end)
        return false;
    if (*rd->p == 'u') {
        rd->p++;
        if (!read_code_point(rd, &c))
            return false;
        *out = put_utf8(*out, c);
        return true;
    }
    found = *rd->p == '\0' ? NULL : strchr(names, *rd->p);
    rd->p++;
    if (found == NULL)
        return false;
    *(*out)++ = values[found - names];
    return true;
}

size_t config__utf8_len(const uint8_t *p, size_t n)
{
    size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;

    if (len == 0 || len > n || p[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

/* Decodes into buf, which has room for as many bytes as are left: no escape is shorter than what it
 * stands for. */
static enum err decode_string(struct reader *rd, char *buf, size_t *len)
{
    char *out = buf;

    while (rd->p < rd->end && *rd->p != '"') {
        size_t n;

        if (*rd->p == '\\') {
            rd->p++;
            if (!read_escape(rd, &out))
                return fail(rd, "invalid escape in a string");
            continue;
        }
        n = config__utf8_len(rd->p, (size_t)(rd->end - rd->p));
        if (n == 0 || *rd->p < 0x20)
            return fail(rd, "invalid character in a string");
        memcpy(out, rd->p, n);
        out += n;
        rd->p += n;
    }
    if (rd->p == rd->end)
        return fail(rd, "unexpected end of JSON input");
    rd->p++;
    *len = (size_t)(out - buf);
    return ERR_OK;
}

static enum err read_string(struct reader *rd, struct node **out)
{
    const uint8_t *close = rd->p + 1;
    size_t len = 0;
    size_t room;
    char *buf;
    enum err e;

    while (close < rd->end && *close != '"')
        close += *close == '\\' && close + 1 < rd->end ? 2 : 1;
    room = (size_t)((close < rd->end ? close : rd->end) - rd->p) + 1;
    buf = malloc(room);
    if (buf == NULL)
        return ERR_NOMEM;
    rd->p++;
    e = decode_string(rd, buf, &len);
    if (e == ERR_OK) {
        *out = config__node_new(rd->tree, NODE_STRING, bytes_of(buf, len));
        e = *out == NULL ? ERR_NOMEM : ERR_OK;
    }
    secret_wipe(buf, room);
    free(buf);
    return e;
}

static void skip_digits(struct reader *rd)
{
    while (rd->p < rd->end && *rd->p >= '0' && *rd->p <= '9')
        rd->p++;
}

static bool at(const struct reader *rd, const char *set)
{
    return rd->p < rd->end && *rd->p != '\0' && strchr(set, *rd->p) != NULL;
}

static enum err read_number(struct reader *rd, struct node **out)
{
    static const char digits[] = "0123456789";
    const uint8_t *start = rd->p;
    bool is_integer = true;

    rd->p += at(rd, "-");
    if (!at(rd, digits))
        return fail(rd, "invalid character");
    if (*rd->p == '0')
        rd->p++;
    else
        skip_digits(rd);
    if (at(rd, ".")) {
        is_integer = false;
        rd->p++;
        if (!at(rd, digits))
            return fail(rd, "invalid number");
        skip_digits(rd);
    }
    if (at(rd, "eE")) {
        is_integer = false;
        rd->p++;
        rd->p += at(rd, "+-");
        if (!at(rd, digits))
            return fail(rd, "invalid number");
        skip_digits(rd);
    }
    *out = config__node_new(rd->tree, is_integer ? NODE_INT : NODE_FLOAT,
                            bytes_of(start, (size_t)(rd->p - start)));
    if (*out == NULL)
        return ERR_NOMEM;
    (*out)->number = strtod((*out)->text, NULL);
    return ERR_OK;
}

static enum err read_word(struct reader *rd, struct node **out)
{
    static const struct {
        const char *word;
        enum node_kind kind;
        bool boolean;
    } words[] = {
        {"null", NODE_NULL, false}, {"true", NODE_BOOL, true}, {"false", NODE_BOOL, false}};
    struct bytes rest = bytes_of(rd->p, (size_t)(rd->end - rd->p));

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        struct bytes word = bytes_str(words[i].word);

        if (!bytes_has_prefix(rest, word))
            continue;
        rd->p += word.n;
        *out = config__node_new(rd->tree, words[i].kind, word);
        if (*out == NULL)
            return ERR_NOMEM;
        (*out)->boolean = words[i].boolean;
        return ERR_OK;
    }
    return fail(rd, rest.n == 0 ? "unexpected end of JSON input" : "invalid character");
}

static enum err read_member(struct reader *rd, struct node *map)
{
    struct node *key;
    struct node *value;

    if (look(rd) != '"')
        return fail(rd,
                    look(rd) < 0 ? "unexpected end of JSON input" : "a name in quotes expected");
    TRY(read_string(rd, &key));
    if (!take(rd, ':'))
        return fail(rd, "':' expected");
    TRY(read_value(rd, &value));
    TRY(config__node_add(rd->tree, map, key));
    return config__node_add(rd->tree, map, value);
}

static enum err read_item(struct reader *rd, struct node *seq)
{
    struct node *value;

    TRY(read_value(rd, &value));
    return config__node_add(rd->tree, seq, value);
}

static enum err read_container(struct reader *rd, struct node **out)
{
    bool is_map = *rd->p == '{';
    char close = is_map ? '}' : ']';

    if (rd->depth == CONFIG_MAX_DEPTH)
        return fail(rd, "nested too deeply");
    *out = config__node_new(rd->tree, is_map ? NODE_MAP : NODE_SEQ, bytes_of(NULL, 0));
    if (*out == NULL)
        return ERR_NOMEM;
    rd->depth++;
    rd->p++;
    if (!take(rd, close)) {
        do
            TRY(is_map ? read_member(rd, *out) : read_item(rd, *out));
        while (take(rd, ','));
        if (!take(rd, close))
            return fail(rd, look(rd) < 0 ? "unexpected end of JSON input" : "',' expected");
    }
    rd->depth--;
    return ERR_OK;
}

static enum err read_value(struct reader *rd, struct node **out)
{
    int c = look(rd);

    if (c == '{' || c == '[')
        return read_container(rd, out);
    if (c == '"')
        return read_string(rd, out);
    if (c == '-' || (c >= '0' && c <= '9'))
        return read_number(rd, out);
    return read_word(rd, out);
}

enum err config__read_json(struct bytes text, struct tree *t)
{
    struct reader rd = {.tree = t, .start = text.p, .p = text.p, .end = text.p + text.n};

    TRY(read_value(&rd, &t->root));
    if (look(&rd) >= 0)
        return fail(&rd, "invalid character after top-level value");
    return ERR_OK;
}
