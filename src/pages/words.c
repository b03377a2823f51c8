/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *pages__size_words(uint64_t bytes, char out[static PAGES_WORDS])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes / 1024;
    size_t i = 0;

    if (bytes < 1024) {
        snprintf(out, PAGES_WORDS, "%u byte%s", (unsigned)bytes, bytes == 1 ? "" : "s");
        return out;
    }
    for (; v >= 1023.95 && i + 1 < ARRAY_LEN(units); i++)
        v /= 1024;
    snprintf(out, PAGES_WORDS, "%.1f %s", v, units[i]);
    return out;
}

const char *pages__duration_words(int64_t seconds, char out[static PAGES_WORDS])
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    size_t i = 0, at = 0;

    if (seconds < 0)
        seconds = 0;
    while (i + 1 < ARRAY_LEN(units) && seconds < units[i].seconds)
        i++;
    for (size_t end = i + 2; i < end && i < ARRAY_LEN(units); i++) {
        int64_t n = seconds / units[i].seconds;

        seconds %= units[i].seconds;
        if (n > 0 || (at == 0 && i + 1 == ARRAY_LEN(units)))
            at += (size_t)snprintf(out + at, PAGES_WORDS - at, "%s%lld %s%s", at > 0 ? " " : "",
                                   (long long)n, units[i].name, n == 1 ? "" : "s");
    }
    return out;
}

const char *pages__count_words(uint64_t n, char out[static PAGES_WORDS])
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n), at = 0;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

const char *pages__number_words(double v, char out[static PAGES_WORDS])
{
    if (v >= 99.95)
        return pages__count_words(v < 1e18 ? (uint64_t)(v + 0.5) : (uint64_t)1e18, out);
    snprintf(out, PAGES_WORDS, "%.*f", v == 0 ? 0 : v < 9.995 ? 2 : 1, v);
    return out;
}

const char *pages__latency_words(double seconds, char out[static PAGES_WORDS])
{
    char number[PAGES_WORDS];
    bool is_ms = seconds >= 0.0009995;

    if (isnan(seconds)) {
        snprintf(out, PAGES_WORDS, "-");
        return out;
    }
    pages__number_words(seconds * (is_ms ? 1e3 : 1e6), number);
    snprintf(out, PAGES_WORDS, "%.30s %s", number, is_ms ? "ms" : "\xc2\xb5s");
    return out;
}
