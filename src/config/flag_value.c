/* SPDX-License-Identifier: Apache-2.0 */
/* The texts that flags are given: numbers, sizes, durations, lists, pairs. */
#include "config/flags.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "config/config_int.h"

#define MAX_SIZE (1ull << 40)
#define MAX_WORKERS 256
#define DEFAULT_MAX_WORKERS 4

void *config__grow(void *v, size_t count, size_t size)
{
    void *more = realloc(v, count * size);

    CHECK(more != NULL);
    return more;
}

bool config__parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "t", "T", "true", "True", "TRUE"};
    static const char *const no[] = {"0", "f", "F", "false", "False", "FALSE"};

    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcmp(text, yes[i]) != 0 && strcmp(text, no[i]) != 0)
            continue;
        *out = strcmp(text, yes[i]) == 0;
        return true;
    }
    return false;
}

static bool parse_digits(const char *text, uint64_t *out, const char **rest)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    *rest = end;
    return errno == 0;
}

bool settings_parse_size(const char *text, uint64_t *out)
{
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {{"", 0},    {"k", 10},  {"m", 20},   {"g", 30},   {"ki", 10},
                 {"mi", 20}, {"gi", 30}, {"kib", 10}, {"mib", 20}, {"gib", 30}};
    const char *rest;
    uint64_t n;

    if (!parse_digits(text, &n, &rest))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcasecmp(rest, units[i].name) != 0)
            continue;
        if (n > MAX_SIZE >> units[i].shift)
            return false;
        *out = n << units[i].shift;
        return true;
    }
    return false;
}

static bool parse_duration(const char *text, uint64_t *ms)
{
    int64_t ns;

    if (config__duration(text, &ns) != NULL || ns < 0)
        return false;
    *ms = ((uint64_t)ns + 999999) / 1000000;
    return true;
}

static bool parse_count(const char *text, uint32_t *out)
{
    const char *rest;
    uint64_t n;

    if (!parse_digits(text, &n, &rest) || *rest != '\0' || n == 0 || n > UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

static bool parse_limit(const char *text, uint32_t *out)
{
    const char *rest;
    uint64_t n;

    if (!parse_digits(text, &n, &rest) || *rest != '\0' || n > UINT32_MAX)
        return false;
    *out = (uint32_t)n;
    return true;
}

static bool parse_workers(const char *text, unsigned *out)
{
    const char *rest;
    uint64_t n;
    long cpus;

    if (!parse_digits(text, &n, &rest) || *rest != '\0' || n > MAX_WORKERS)
        return false;
    cpus = n == 0 ? sysconf(_SC_NPROCESSORS_ONLN) : 0;
    if (n == 0)
        n = cpus < 1 ? 1 : cpus > DEFAULT_MAX_WORKERS ? DEFAULT_MAX_WORKERS : (uint64_t)cpus;
    *out = (unsigned)n;
    return true;
}

static bool parse_level(const char *text, enum log_level *out)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

static bool parse_format(const char *text, enum log_format *out)
{
    *out = strcmp(text, "json") == 0 ? LOG_JSON : LOG_TEXT;
    return *out == LOG_JSON || strcmp(text, "text") == 0;
}

/* Splits "a=b": at the first '=' where the resource stands first, else at the last. */
static bool parse_pair(const char *text, bool is_resource_first, struct resource_prefix *out)
{
    const char *split = is_resource_first ? strchr(text, '=') : strrchr(text, '=');
    char *left;
    char *right;

    if (split == NULL || split == text || split[1] == '\0')
        return false;
    left = strndup(text, (size_t)(split - text));
    right = strdup(split + 1);
    CHECK(left != NULL && right != NULL);
    out->resource = is_resource_first ? left : right;
    out->prefix = is_resource_first ? right : left;
    return true;
}

/* One element of a list. */
static const char *add_element(const struct flag *f, struct settings *s, const char *text)
{
    bool is_resource_first = f->type == FLAG_RESOURCE_PREFIX;
    size_t *count = flag_count(f, s);
    struct resource_prefix pair;

    if (f->type == FLAG_LIST) {
        char ***texts = flag_field(f, s);

        *texts = config__grow(*texts, *count + 1, sizeof(**texts));
        (*texts)[(*count)++] = base_xstrdup(text);
        return NULL;
    }
    if (!parse_pair(text, is_resource_first, &pair))
        return f->value;
    struct resource_prefix **pairs = flag_field(f, s);

    *pairs = config__grow(*pairs, *count + 1, sizeof(**pairs));
    (*pairs)[(*count)++] = pair;
    return NULL;
}

static const char *add_elements(const struct flag *f, struct settings *s, const char *text)
{
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        const char *start = text;
        size_t len = n;
        char *element;
        const char *wanted = NULL;

        while (len > 0 && isspace((unsigned char)start[0])) {
            start++;
            len--;
        }
        while (len > 0 && isspace((unsigned char)start[len - 1]))
            len--;
        element = strndup(start, len);
        CHECK(element != NULL);
        if (len > 0)
            wanted = add_element(f, s, element);
        free(element);
        if (wanted != NULL)
            return wanted;
        text += n + (text[n] == ',');
    }
    return NULL;
}

static void set_text(char **field, const char *text, bool is_empty_null)
{
    free(*field);
    *field = is_empty_null && text[0] == '\0' ? NULL : base_xstrdup(text);
}

const char *config__set_flag(const struct flag *f, struct settings *s, const char *text)
{
    void *field = flag_field(f, s);

    switch (f->type) {
    case FLAG_BOOL:
        return config__parse_bool(text, field) ? NULL : "true or false";
    case FLAG_TEXT:
    case FLAG_PATH:
        set_text(field, text, f->type == FLAG_TEXT);
        return NULL;
    case FLAG_LIST:
    case FLAG_RESOURCE_PREFIX:
    case FLAG_PREFIX_RESOURCE:
        return add_elements(f, s, text);
    case FLAG_SIZE:
        return settings_parse_size(text, field) ? NULL : "a size, such as 16MiB";
    case FLAG_DURATION:
        return parse_duration(text, field) ? NULL : "a duration, such as 10s";
    case FLAG_COUNT:
        return parse_count(text, field) ? NULL : "a number from 1 to 4294967295";
    case FLAG_LIMIT:
        return parse_limit(text, field) ? NULL : "a number from 0 to 4294967295";
    case FLAG_WORKERS:
        return parse_workers(text, field) ? NULL : "a number from 0 to 256";
    case FLAG_LOG_LEVEL:
        return parse_level(text, field) ? NULL : "debug, info, warn or error";
    case FLAG_LOG_FORMAT:
        return parse_format(text, field) ? NULL : "text or json";
    case FLAG_CONFIG_FILE:
        return NULL;
    }
    return "a value";
}
