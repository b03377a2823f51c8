/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define DRAW_MS 250u
#define LOG_MS 10000u
#define BAR 24

const char *tools_duration_text(uint64_t ms, char out[static TOOLS_DURATION_MAX])
{
    uint64_t s = (ms + 500) / 1000;

    if (s >= 3600)
        snprintf(out, TOOLS_DURATION_MAX, "%" PRIu64 "h%02um", s / 3600, (unsigned)(s / 60 % 60));
    else if (s >= 60)
        snprintf(out, TOOLS_DURATION_MAX, "%um%02us", (unsigned)(s / 60), (unsigned)(s % 60));
    else
        snprintf(out, TOOLS_DURATION_MAX, "%us", (unsigned)s);
    return out;
}

/* The total is an estimate: what is written meanwhile comes on top. */
static void left_text(const struct tools_progress *p, uint64_t ran_ms,
                      char out[static TOOLS_DURATION_MAX])
{
    if (p->done == 0 || p->done >= p->total)
        snprintf(out, TOOLS_DURATION_MAX, "%s", p->done == 0 ? "?" : "0s");
    else
        tools_duration_text(
            (uint64_t)((double)ran_ms / (double)p->done * (double)(p->total - p->done)), out);
}

static void draw(const struct tools_progress *p, const char *left)
{
    char bar[BAR + 1] = "........................", changed[48] = "";
    uint64_t n = p->total == 0 ? BAR : p->done * BAR / p->total;

    memset(bar, '#', n < BAR ? n : BAR);
    if (p->is_rewriting)
        snprintf(changed, sizeof changed, ", %" PRIu64 " rewritten", p->changed);
    fprintf(stderr, "\r\033[K%s [%s] %" PRIu64 " of %" PRIu64 " looked at%s, %s left", p->what, bar,
            p->done, p->total > p->done ? p->total : p->done, changed, left);
    fflush(stderr);
}

static void log_line(const struct tools_progress *p, const char *left)
{
    unsigned long long done = p->done, total = p->total, changed = p->changed;

    if (p->is_rewriting)
        LOG(INFO, "progress", "run=%s looked_at=%llu of=%llu rewritten=%llu left=%s", p->what, done,
            total, changed, left);
    else
        LOG(INFO, "progress", "run=%s looked_at=%llu of=%llu left=%s", p->what, done, total, left);
}

static void on_timer(struct loop_timer *t)
{
    struct tools_progress *p = CONTAINER_OF(t, struct tools_progress, timer);
    uint64_t ran_ms = loop_now_ms(p->loop) - p->began_ms;
    char left[TOOLS_DURATION_MAX];

    left_text(p, ran_ms, left);
    if (p->is_terminal)
        draw(p, left);
    else
        log_line(p, left);
    /* Cannot fail: the handle is there. */
    CHECK(loop_timer_start(p->loop, &p->timer, p->is_terminal ? DRAW_MS : LOG_MS) == ERR_OK);
}

enum err tools_progress_start(struct tools_progress *p, struct loop *loop, const char *what,
                              uint64_t total, bool is_rewriting)
{
    *p = (struct tools_progress){.loop = loop,
                                 .what = what,
                                 .is_terminal = isatty(STDERR_FILENO) == 1,
                                 .is_rewriting = is_rewriting,
                                 .total = total,
                                 .began_ms = loop_now_ms(loop)};
    loop_timer_init(&p->timer, on_timer);
    return loop_timer_start(loop, &p->timer, p->is_terminal ? DRAW_MS : LOG_MS);
}

void tools_progress_stop(struct tools_progress *p)
{
    if (p->loop == NULL)
        return;
    loop_timer_fini(&p->timer);
    if (p->is_terminal)
        fputs("\r\033[K", stderr);
    p->loop = NULL;
}
