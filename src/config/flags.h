/* SPDX-License-Identifier: Apache-2.0 */
/* The one table of flags: names, types, defaults, help. What parses, prints and explains them reads
 * it. */
#ifndef CONFIG_FLAGS_H
#define CONFIG_FLAGS_H

#include "config/settings.h"

enum flag_type {
    FLAG_BOOL,            /* bool */
    FLAG_TEXT,            /* char *; "" is NULL */
    FLAG_PATH,            /* char *; "" stays */
    FLAG_LIST,            /* char **, size_t */
    FLAG_RESOURCE_PREFIX, /* struct resource_prefix *, size_t: RESOURCE=PREFIX */
    FLAG_PREFIX_RESOURCE, /* the same: PREFIX=RESOURCE */
    FLAG_SIZE,            /* uint64_t, bytes */
    FLAG_DURATION,        /* uint64_t, milliseconds */
    FLAG_COUNT,           /* uint32_t, from 1 */
    FLAG_LIMIT,           /* the same, or 0: none, or one that follows from others */
    FLAG_WORKERS,         /* unsigned */
    FLAG_LOG_LEVEL,
    FLAG_LOG_FORMAT,
    FLAG_CONFIG_FILE, /* no field: read while parsing */
};

struct flag {
    const char *name;
    enum flag_type type;
    size_t at;       /* offset of the field in struct settings */
    size_t count_at; /* of its count, for lists */
    const char *text_default;
    uint64_t number_default; /* FLAG_SIZE, FLAG_DURATION */
    const char *value;       /* how help calls the value, NULL for booleans */
    const char *help;
    const char *section; /* a heading of help before this flag, or NULL */
};

extern const struct flag config__flags[];
extern const size_t config__flag_count;

/* --- flag_names.c --- */

#define CONFIG_ENV_MAX 64 /* of the name of a flag, and of its environment variable */
/* NULL: there is none of this name. */
const struct flag *config__find_flag(const char *name, size_t len);
/* The name of the flag that is probably meant; NULL: none is near. */
const char *config__nearest_flag(const char *name, size_t len);
/* ", did you mean --NAME?" of that, with these dashes, or "". Returns out. */
#define CONFIG_MEANT_MAX (CONFIG_ENV_MAX + 32)
const char *config__meant_text(const char *name, size_t len, const char *dashes,
                               char out[static CONFIG_MEANT_MAX]);
/* The flag's environment variable. Returns out. */
const char *config__env_name(const struct flag *f, char out[static CONFIG_ENV_MAX]);

/* A size or duration as a text that parses to the same number: "16MiB", "10s". */
#define FLAG_NUMBER_MAX 32
const char *config__size_text(uint64_t n, char out[static FLAG_NUMBER_MAX]);
const char *config__duration_text(uint64_t ms, char out[static FLAG_NUMBER_MAX]);

/* Parses text into the flag's field; a list grows. Returns NULL, or what would have been right: "a
 * size, such as 16MiB". */
const char *config__set_flag(const struct flag *f, struct settings *s, const char *text);
/* Go's strconv.ParseBool. */
bool config__parse_bool(const char *text, bool *out);
/* realloc that aborts: settings are read before serving starts. */
void *config__grow(void *v, size_t count, size_t size);

static inline void *flag_field(const struct flag *f, struct settings *s)
{
    return (char *)s + f->at;
}

static inline size_t *flag_count(const struct flag *f, struct settings *s)
{
    return (size_t *)(void *)((char *)s + f->count_at);
}

/* A list that keeps out whoever it does not name. When it is absent everybody is let in, so an
 * empty one (of an environment variable that was not set, say) must not pass for an absent one. */
static inline bool flag_is_restriction(const struct flag *f)
{
    return f->at == offsetof(struct settings, allowed_client_names);
}

static inline bool flag_is_list(const struct flag *f)
{
    return f->type == FLAG_LIST || f->type == FLAG_RESOURCE_PREFIX ||
           f->type == FLAG_PREFIX_RESOURCE;
}

#endif
