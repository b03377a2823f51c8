/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_int.h"

int cli__refuse(int status, const char *fmt, ...)
{
    va_list ap;

    fputs("etcd-envelope: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return status;
}

/* The flag that arg names. *value: what stands behind its "=", or NULL. */
static const struct cli__flag *find_flag(const char *arg, const struct cli__flag *flags,
                                         size_t count, const char **value)
{
    size_t n;

    if (strncmp(arg, "--", 2) != 0)
        return NULL;
    n = strcspn(arg + 2, "=");
    *value = arg[2 + n] == '=' ? arg + 2 + n + 1 : NULL;
    for (size_t i = 0; i < count; i++)
        if (bytes_eq(bytes_of(arg + 2, n), bytes_str(flags[i].name)))
            return &flags[i];
    return NULL;
}

static enum err PRINTF_LIKE(3, 4) bad(char *why, size_t why_len, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, why_len, fmt, ap);
    va_end(ap);
    return ERR_CONFIG;
}

static void add_text(struct cli__texts *t, const char *text)
{
    const char **v = base_xcalloc(t->count + 1, sizeof *v);

    for (size_t i = 0; i < t->count; i++)
        v[i] = t->v[i];
    v[t->count] = text;
    free(t->v);
    t->v = v;
    t->count++;
}

/* value: behind "=", or NULL: then it is the next argument, if the flag takes one. */
static enum err take(const struct cli__flag *f, const char *value, int argc, char *const argv[],
                     int *i, char *why, size_t why_len)
{
    if (f->is_on != NULL) {
        if (value != NULL && strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            return bad(why, why_len, "--%s: \"%.40s\" is not true or false", f->name, value);
        *f->is_on = value == NULL || strcmp(value, "true") == 0;
        return ERR_OK;
    }
    if (value == NULL && *i + 1 < argc)
        value = argv[++*i];
    if (value == NULL)
        return bad(why, why_len, "--%s needs a value", f->name);
    if (f->texts != NULL)
        add_text(f->texts, value);
    else
        *f->value = value;
    return ERR_OK;
}

enum err cli__args_take(int argc, char *const argv[], const struct cli__flag *flags,
                        size_t flag_count, struct cli__args *out, char *why, size_t why_len)
{
    *out = (struct cli__args){.rest = base_xcalloc((size_t)argc + 1, sizeof *out->rest)};
    for (int i = 0; i < argc; i++) {
        const char *value;
        const struct cli__flag *f = find_flag(argv[i], flags, flag_count, &value);

        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            out->wants_help = true;
            continue;
        }
        if (f == NULL) {
            out->rest[out->rest_count++] = argv[i];
            continue;
        }
        if (take(f, value, argc, argv, &i, why, why_len) != ERR_OK) {
            free(out->rest);
            *out = (struct cli__args){0};
            return ERR_CONFIG;
        }
    }
    return ERR_OK;
}
