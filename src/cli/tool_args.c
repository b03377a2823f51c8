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
        if (value == NULL && i + 1 < argc)
            value = argv[++i];
        if (value == NULL) {
            snprintf(why, why_len, "--%s needs a value", f->name);
            free(out->rest);
            *out = (struct cli__args){0};
            return ERR_CONFIG;
        }
        *f->value = value;
    }
    return ERR_OK;
}
