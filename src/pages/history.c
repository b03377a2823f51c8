/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of points that a timer fills. Failure modes: no memory for the timer at the start is
 * ERR_NOMEM; later it exists. */
#include "pages/history.h"

#include <stdlib.h>
#include <string.h>

#include "base/metrics.h"

#define MINUTE_MS 60000u

struct history {
    struct loop *loop;
    struct loop_timer timer;
    size_t count, oldest;
    struct history_point points[HISTORY_POINTS];
};

static void add_calls(void *arg, const struct series_view *s)
{
    struct history_point *p = arg;
    const char *code = s->labels[0];

    p->calls += s->value;
    if (strcmp(code, "OK") != 0 && strcmp(code, "Canceled") != 0)
        p->failed += s->value;
}

static void add_times(void *arg, const struct series_view *s)
{
    struct history_point *p = arg;

    for (size_t i = 0; i < ARRAY_LEN(p->added.counts); i++)
        p->added.counts[i] += s->histogram->counts[i];
    p->added.sum += s->histogram->sum;
}

void pages__history_now(const struct history *h, struct history_point *out)
{
    *out = (struct history_point){
        .at_ms = loop_now_ms(h->loop),
        .sealed = (double)metric_get(METRIC_values_sealed_total),
        .opened = (double)metric_get(METRIC_values_opened_total),
    };
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++)
        if (err_is_of_value((enum err)e))
            out->unreadable += (double)metric_refused_get((enum err)e);
    series_each(SERIES_CALLS, add_calls, out);
    series_each(SERIES_ADDED_TIME, add_times, out);
}

void pages__history_take(struct history *h)
{
    struct history_point *p = &h->points[(h->oldest + h->count) % HISTORY_POINTS];

    if (h->count < HISTORY_POINTS)
        h->count++;
    else
        h->oldest = (h->oldest + 1) % HISTORY_POINTS;
    pages__history_now(h, p);
}

static void on_timer(struct loop_timer *t)
{
    struct history *h = CONTAINER_OF(t, struct history, timer);

    pages__history_take(h);
    (void)!loop_timer_start(h->loop, t, HISTORY_STEP_MS);
}

enum err pages__history_new(struct loop *loop, struct history **out)
{
    struct history *h = calloc(1, sizeof *h);

    if (h == NULL)
        return ERR_NOMEM;
    h->loop = loop;
    loop_timer_init(&h->timer, on_timer);
    if (loop_timer_start(loop, &h->timer, HISTORY_STEP_MS) != ERR_OK) {
        free(h);
        return ERR_NOMEM;
    }
    pages__history_take(h);
    *out = h;
    return ERR_OK;
}

void pages__history_close(struct history *h)
{
    loop_timer_fini(&h->timer);
    free(h);
}

size_t pages__history_count(const struct history *h)
{
    return h->count;
}

const struct history_point *pages__history_at(const struct history *h, size_t i)
{
    CHECK(i < h->count);
    return &h->points[(h->oldest + i) % HISTORY_POINTS];
}

const struct history_point *pages__last_minute(const struct history *h,
                                               const struct history_point *now)
{
    size_t i = h->count - 1;

    while (i > 0 && now->at_ms - pages__history_at(h, i)->at_ms < MINUTE_MS)
        i--;
    return pages__history_at(h, i);
}

void pages__history_span(const struct history_point *from, const struct history_point *to,
                         struct history_span *out)
{
    double seconds = (double)(to->at_ms - from->at_ms) / 1000;
    double share = seconds > 0 ? 1 / seconds : 0;
    struct histogram added = {.sum = to->added.sum - from->added.sum};

    for (size_t i = 0; i < ARRAY_LEN(added.counts); i++)
        added.counts[i] = to->added.counts[i] - from->added.counts[i];
    *out = (struct history_span){
        .seconds = seconds,
        .calls_rate = (to->calls - from->calls) * share,
        .failed_rate = (to->failed - from->failed) * share,
        .sealed_rate = (to->sealed - from->sealed) * share,
        .opened_rate = (to->opened - from->opened) * share,
        .unreadable = to->unreadable - from->unreadable,
        .p50_s = histogram_quantile(&added, SERIES_ADDED_TIME, 0.5),
        .p99_s = histogram_quantile(&added, SERIES_ADDED_TIME, 0.99),
    };
}
