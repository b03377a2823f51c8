/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/coverage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAMILY "etcd_envelope_stored_values" /* with the labels resource and state */

const char *const pages__coverage_states[COVERAGE_STATES] = {"current", "older", "plaintext",
                                                             "unreadable"};

struct taking {
    struct pages_coverage *to;
    size_t cap;
};

static void count_series(void *arg, const struct series_view *s)
{
    (void)s;
    ((struct taking *)arg)->cap++;
}

static struct pages_coverage_row *row_of(struct pages_coverage *c, const char *resource)
{
    size_t i = 0;

    while (i < c->count && strcmp(c->rows[i].resource, resource) != 0)
        i++;
    if (i == c->count) {
        c->count++;
        (void)snprintf(c->rows[i].resource, sizeof c->rows[i].resource, "%s", resource);
    }
    return &c->rows[i];
}

static void add_series(void *arg, const struct series_view *s)
{
    struct taking *t = arg;
    struct pages_coverage_row *row = row_of(t->to, s->labels[0]);

    for (size_t i = 0; i < COVERAGE_STATES; i++) {
        if (strcmp(s->labels[1], pages__coverage_states[i]) != 0)
            continue;
        row->counts[i] += s->value;
        t->to->totals[i] += s->value;
    }
}

static int row_cmp(const void *a, const void *b)
{
    return strcmp(((const struct pages_coverage_row *)a)->resource,
                  ((const struct pages_coverage_row *)b)->resource);
}

enum err pages__coverage_read(enum series_id family, struct pages_coverage *out)
{
    struct taking t = {.to = out};

    *out = (struct pages_coverage){0};
    series_each(family, count_series, &t);
    if (t.cap == 0)
        return ERR_OK;
    out->rows = calloc(t.cap, sizeof *out->rows);
    if (out->rows == NULL)
        return ERR_NOMEM;
    series_each(family, add_series, &t);
    qsort(out->rows, out->count, sizeof out->rows[0], row_cmp);
    return ERR_OK;
}

static void note_time(void *arg, const struct series_view *s)
{
    *(int64_t *)arg = (int64_t)s->value;
}

enum err pages__coverage_take(struct pages_coverage *out)
{
    enum series_id id;

    *out = (struct pages_coverage){0};
    if (!series_find(FAMILY, &id))
        return ERR_OK;
    TRY(pages__coverage_read(id, out));
    if (series_find(FAMILY "_timestamp_seconds", &id))
        series_each(id, note_time, &out->time_s);
    return ERR_OK;
}

void pages__coverage_fini(struct pages_coverage *c)
{
    free(c->rows);
    *c = (struct pages_coverage){0};
}
