/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "admin/admin.h"
#include "base/digit.h"

static bool decode(const char *from, size_t n, char *out, size_t cap)
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++) {
        char c = from[i] == '+' ? ' ' : from[i];

        if (c == '%') {
            int high = i + 2 < n ? digit_hex(from[i + 1]) : -1;
            int low = i + 2 < n ? digit_hex(from[i + 2]) : -1;

            if (high < 0 || low < 0 || (high | low) == 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (at + 1 >= cap)
            return false;
        out[at++] = c;
    }
    out[at] = '\0';
    return true;
}

/* The next parameter: its name's length, and its value. NULL at the end. */
static const char *next(const char *query, size_t *name_len, const char **value, size_t *value_len)
{
    size_t n = strcspn(query, "&");

    *name_len = strcspn(query, "=&");
    *value = query + *name_len + (query[*name_len] == '=');
    *value_len = (size_t)(query + n - *value);
    return query[n] == '&' ? query + n + 1 : query + n;
}

bool admin_query(const char *query, const char *name, size_t n, char *out, size_t cap)
{
    while (*query != '\0') {
        size_t name_len, value_len;
        const char *value, *rest = next(query, &name_len, &value, &value_len);

        if (name_len == strlen(name) && strncmp(query, name, name_len) == 0 &&
            decode(value, value_len, out, cap) && n-- == 0)
            return true;
        query = rest;
    }
    return false;
}

bool admin_query_has(const char *query, const char *name)
{
    while (*query != '\0') {
        size_t name_len, value_len;
        const char *value, *rest = next(query, &name_len, &value, &value_len);

        if (name_len == strlen(name) && strncmp(query, name, name_len) == 0)
            return true;
        query = rest;
    }
    return false;
}
