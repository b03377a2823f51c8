/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as Go's net/http reads them, since etcd's answers come from there. */
#include "http1/http1.h"

#include <string.h>

#include "base/digit.h"

/* Percent-decoding in place. False: no hex digits, or a NUL. */
static bool decode(char *path)
{
    char *out = path;

    for (const char *p = path; *p != '\0'; p++) {
        if (*p != '%') {
            *out++ = *p;
            continue;
        }
        if (digit_hex(p[1]) < 0 || digit_hex(p[2]) < 0)
            return false;
        *out = (char)(digit_hex(p[1]) * 16 + digit_hex(p[2]));
        if (*out++ == '\0')
            return false;
        p += 2;
    }
    *out = '\0';
    return true;
}

/* Drops empty segments and "."; drops ".." together with the segment before it. A slash at the end
 * stays. */
static void clean(const char *path, char *out)
{
    size_t len = 0;

    for (const char *p = path; *p != '\0';) {
        const char *segment = p + strspn(p, "/");
        size_t n = strcspn(segment, "/");

        p = segment + n;
        if (n == 0 || (n == 1 && segment[0] == '.'))
            continue;
        if (n == 2 && segment[0] == '.' && segment[1] == '.') {
            while (len > 0 && out[--len] != '/')
                ;
            continue;
        }
        out[len++] = '/';
        memcpy(out + len, segment, n);
        len += n;
    }
    if (len == 0 || path[strlen(path) - 1] == '/')
        out[len++] = '/';
    out[len] = '\0';
}

enum http1_path http1_path_clean(const char path[static HTTP1_TARGET_MAX],
                                 char out[static HTTP1_TARGET_MAX])
{
    char decoded[HTTP1_TARGET_MAX];

    memcpy(decoded, path, strnlen(path, HTTP1_TARGET_MAX - 1) + 1);
    decoded[HTTP1_TARGET_MAX - 1] = '\0';
    if (decoded[0] != '/' || !decode(decoded))
        return HTTP1_PATH_BAD;
    clean(decoded, out);
    return strcmp(decoded, out) == 0 ? HTTP1_PATH_CLEAN : HTTP1_PATH_UNCLEAN;
}
