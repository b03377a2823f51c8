/* SPDX-License-Identifier: Apache-2.0 */
/* What a YAML scalar means: the types of plain ones and of those with a tag, as sigs.k8s.io/yaml
 * (go-yaml v2: YAML 1.1 words, YAML 1.2 numbers) reads them on their way to JSON. */
#include "config/config_int.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <yaml.h>

#include "base/secret.h"

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

/* --- timestamps ------------------------------------------------------------------------------- */

/* One or two digits, below limit. */
static bool take_number(const char **p, unsigned limit, unsigned *out)
{
    if (!isdigit((unsigned char)**p))
        return false;
    *out = (unsigned)(*(*p)++ - '0');
    if (isdigit((unsigned char)**p))
        *out = 10 * *out + (unsigned)(*(*p)++ - '0');
    return *out < limit;
}

static bool take(const char **p, const char *any_of)
{
    if (**p == '\0' || strchr(any_of, **p) == NULL)
        return false;
    ++*p;
    return true;
}

/* YYYY-M-D, of a day that there is. */
static bool take_date(const char **p)
{
    static const unsigned days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned year, month, day;

    if (strspn(*p, "0123456789") != 4)
        return false;
    year = (unsigned)strtoul(*p, NULL, 10);
    *p += 4;
    if (!take(p, "-") || !take_number(p, 13, &month) || month == 0 || !take(p, "-") ||
        !take_number(p, 32, &day) || day == 0)
        return false;
    if (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
        return day <= 29;
    return day <= days[month - 1];
}

/* H:M:S, with a fraction or without. */
static bool take_time(const char **p)
{
    unsigned part;

    if (!take_number(p, 24, &part) || !take(p, ":") || !take_number(p, 60, &part) ||
        !take(p, ":") || !take_number(p, 60, &part))
        return false;
    if ((**p == '.' || **p == ',') && isdigit((unsigned char)(*p)[1]))
        *p += 1 + strspn(*p + 1, "0123456789");
    return true;
}

/* "Z", or an offset such as "+01:00". */
static bool take_zone(const char **p)
{
    unsigned part;

    if (take(p, "Z"))
        return true;
    return take(p, "+-") && strspn(*p, "0123456789") == 2 && take_number(p, 25, &part) &&
           take(p, ":") && strspn(*p, "0123456789") == 2 && take_number(p, 60, &part);
}

static bool is_timestamp(const char *text)
{
    const char *p = text;
    bool has_zone;

    if (!take_date(&p))
        return false;
    if (*p == '\0')
        return true;
    has_zone = *p != ' ';
    return take(&p, "Tt ") && take_time(&p) && (!has_zone || take_zone(&p)) && *p == '\0';
}

/* --- binary ----------------------------------------------------------------------------------- */

/* Bytes that are no UTF-8 become U+FFFD each, as in the JSON that Go makes of them. */
static size_t make_utf8(const uint8_t *in, size_t len, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len;) {
        size_t width = config__utf8_len(in + i, len - i);

        memcpy(out + n, width > 0 ? (const char *)in + i : "\xef\xbf\xbd", width > 0 ? width : 3);
        n += width > 0 ? width : 3;
        i += width > 0 ? width : 1;
    }
    out[n] = '\0';
    return n;
}

/* The text is base64 of the string that is meant. */
static enum err decode_binary(struct node *n)
{
    uint8_t *bytes;
    char *text;
    size_t len;

    if (!config__base64(n->text, n->text_len, NULL, &len))
        return ERR_CONFIG;
    bytes = malloc(len + 1);
    text = malloc(3 * len + 1);
    if (bytes == NULL || text == NULL || !config__base64(n->text, n->text_len, bytes, &len)) {
        free(bytes);
        free(text);
        return ERR_NOMEM;
    }
    secret_wipe(n->text, n->text_len);
    free(n->text);
    n->text = text;
    n->text_len = make_utf8(bytes, len, text);
    secret_wipe(bytes, len);
    free(bytes);
    return ERR_OK;
}

/* --- tags ------------------------------------------------------------------------------------- */

#define TAG_BINARY "tag:yaml.org,2002:binary"

enum err config__apply_tag(struct node *n, const char *tag)
{
    static const struct {
        const char *tag;
        enum node_kind kind;
    } tags[] = {{YAML_NULL_TAG, NODE_NULL},
                {YAML_BOOL_TAG, NODE_BOOL},
                {YAML_INT_TAG, NODE_INT},
                {YAML_FLOAT_TAG, NODE_FLOAT}};

    if (strcmp(tag, TAG_BINARY) == 0)
        return decode_binary(n);
    if (strcmp(tag, YAML_TIMESTAMP_TAG) == 0) /* checked, but it stays a string */
        return strlen(n->text) == n->text_len && is_timestamp(n->text) ? ERR_OK : ERR_CONFIG;
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        if (strcmp(tag, tags[i].tag) != 0)
            continue;
        config__resolve_plain(n);
        return n->kind == tags[i].kind || (n->kind == NODE_INT && tags[i].kind == NODE_FLOAT)
                   ? ERR_OK
                   : ERR_CONFIG;
    }
    return ERR_OK;
}
