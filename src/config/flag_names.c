/* SPDX-License-Identifier: Apache-2.0 */
/* Names of flags and of their environment variables: which there are, and which one is meant. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config_int.h"
#include "config/flags.h"
#include "config/settings.h"

#define ENV_PREFIX "ETCD_ENVELOPE_"

extern char **environ;

static size_t edit_distance(const char *a, size_t a_len, const char *b)
{
    size_t row[CONFIG_ENV_MAX + 1];
    size_t b_len = strlen(b);

    for (size_t k = 0; k <= b_len; k++)
        row[k] = k;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t k = 1; k <= b_len; k++) {
            size_t best = diagonal + (a[i - 1] != b[k - 1]);

            diagonal = row[k];
            best = best < row[k] + 1 ? best : row[k] + 1;
            row[k] = best < row[k - 1] + 1 ? best : row[k - 1] + 1;
        }
    }
    return row[b_len];
}

/* Are the words of the name, but for some that were left out, those of the flag? */
static bool has_words_of(const char *name, size_t len, const char *flag)
{
    for (size_t at = 0; at <= len; at++) {
        const char *end = memchr(name + at, '-', len - at);
        size_t n = end == NULL ? len - at : (size_t)(end - name) - at, have;

        for (;; flag += have + 1) {
            have = strcspn(flag, "-");
            if (n > 0 && n == have && memcmp(name + at, flag, n) == 0)
                break;
            if (flag[have] == '\0')
                return false;
        }
        flag += have + (flag[have] == '-');
        at += n;
    }
    return true;
}

/* A letter or two that are wrong, more in a long name; or words were left out. */
static bool is_near(const char *name, size_t len, const char *flag)
{
    return edit_distance(name, len, flag) <= 1 + len / 5 || has_words_of(name, len, flag);
}

/* By edit distance, less half an edit for each letter of a common beginning: so a name with a word
 * left out is nearer to the whole name than to another short one. */
const char *config__nearest_flag(const char *name, size_t len)
{
    const char *best = NULL;
    long best_score = LONG_MAX;

    len = len < CONFIG_ENV_MAX ? len : CONFIG_ENV_MAX;
    for (size_t i = 0; i < config__flag_count; i++) {
        const char *candidate = config__flags[i].name;
        long score = 2 * (long)edit_distance(name, len, candidate);

        for (size_t k = 0; k < len && candidate[k] != '\0' && candidate[k] == name[k]; k++)
            score--;
        if (score < best_score && is_near(name, len, candidate)) {
            best = candidate;
            best_score = score;
        }
    }
    return best;
}

const char *config__meant_text(const char *name, size_t len, const char *dashes,
                               char out[static CONFIG_MEANT_MAX])
{
    const char *near = config__nearest_flag(name, len);

    out[0] = '\0';
    if (near != NULL)
        (void)snprintf(out, CONFIG_MEANT_MAX, ", did you mean %s%s?", dashes, near);
    return out;
}

const struct flag *config__find_flag(const char *name, size_t len)
{
    for (size_t i = 0; i < config__flag_count; i++)
        if (bytes_eq(bytes_of(name, len), bytes_str(config__flags[i].name)))
            return &config__flags[i];
    return NULL;
}

const char *config__env_name(const struct flag *f, char out[static CONFIG_ENV_MAX])
{
    size_t n = (size_t)snprintf(out, CONFIG_ENV_MAX, ENV_PREFIX "%s", f->name);

    CHECK(n < CONFIG_ENV_MAX);
    for (char *c = out; *c != '\0'; c++)
        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return out;
}

/* --- the environment -------------------------------------------------------------------------- */

static bool ends_with(struct bytes name, const char *end)
{
    size_t n = strlen(end);

    return name.n >= n && memcmp(name.p + name.n - n, end, n) == 0;
}

/* Where a Service has a name of ours, Kubernetes and Docker give containers variables that begin
 * like our flags' and end in _SERVICE_HOST, _PORT_2379_TCP and the like. No flag ends like that. */
static bool is_of_service(struct bytes name)
{
    static const char *const ends[] = {"_SERVICE_HOST", "_PORT",  "_TCP", "_UDP",
                                       "_SCTP",         "_PROTO", "_ADDR"};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        if (ends_with(name, ends[i]))
            return true;
    return memmem(name.p, name.n, "_SERVICE_PORT_", 14) != NULL;
}

static bool is_of_flag(struct bytes name)
{
    char known[CONFIG_ENV_MAX];

    for (size_t i = 0; i < config__flag_count; i++)
        if (bytes_eq(name, bytes_str(config__env_name(&config__flags[i], known))))
            return true;
    return false;
}

static const char *meant(struct bytes name)
{
    char flag[CONFIG_ENV_MAX];
    size_t n = 0;

    for (size_t i = strlen(ENV_PREFIX); i < name.n && n < sizeof flag; i++)
        flag[n++] = name.p[i] == '_' ? '-' : (char)tolower(name.p[i]);
    return config__nearest_flag(flag, n);
}

bool settings_unknown_env(size_t *at, struct settings_unknown *out)
{
    for (; environ[*at] != NULL; (*at)++) {
        struct bytes name = bytes_of(environ[*at], strcspn(environ[*at], "="));

        if (name.n < strlen(ENV_PREFIX) || memcmp(name.p, ENV_PREFIX, strlen(ENV_PREFIX)) != 0 ||
            is_of_flag(name) || is_of_service(name))
            continue;
        *out = (struct settings_unknown){.name = name, .meant = meant(name)};
        (*at)++;
        return true;
    }
    return false;
}
