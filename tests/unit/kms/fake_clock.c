/* SPDX-License-Identifier: Apache-2.0 */
/* clock_gettime is defined here, so that this program and the shared libraries that it loads call
 * it in place of the C library's. */
#include "fake_clock.h"

#include <poll.h>
#include <time.h>

#define QUIET_TURNS 3 /* what one turn makes happen, the next ones see */
#define PATIENCE_MS (3600u * 1000)
#define START_S 1700000000u /* of every clock: it looks like a date, too */

static uint64_t passed_ms;

int clock_gettime(clockid_t id, struct timespec *out)
{
    *out = (struct timespec){.tv_sec = (time_t)(START_S + passed_ms / 1000),
                             .tv_nsec = (long)(passed_ms % 1000) * 1000000};
    (void)id;
    return 0;
}

static bool is_quiet(struct loop *l)
{
    struct pollfd sockets = {.fd = uv_backend_fd(&l->uv), .events = POLLIN};

    return uv_backend_timeout(&l->uv) != 0 && poll(&sockets, 1, 0) == 0;
}

void fake_clock_turn(struct loop *l, uint64_t max_ms)
{
    uint64_t next_ms;

    uv_run(&l->uv, UV_RUN_NOWAIT);
    for (int i = 0; i < QUIET_TURNS; i++) {
        if (!is_quiet(l))
            return;
        uv_run(&l->uv, UV_RUN_NOWAIT);
    }
    if (!is_quiet(l))
        return;
    next_ms = uv_backend_timeout(&l->uv) < 0 ? max_ms : (uint64_t)uv_backend_timeout(&l->uv);
    passed_ms += next_ms < max_ms ? next_ms : max_ms;
    uv_update_time(&l->uv);
}

static void turn_before(struct loop *l, uint64_t end_ms)
{
    CHECK(loop_now_ms(l) < end_ms);
    fake_clock_turn(l, end_ms - loop_now_ms(l));
}

void fake_clock_until(struct loop *l, const bool *flag)
{
    uint64_t end_ms = loop_now_ms(l) + PATIENCE_MS;

    while (!*flag)
        turn_before(l, end_ms);
}

void fake_clock_until_count(struct loop *l, const unsigned *n, unsigned want)
{
    uint64_t end_ms = loop_now_ms(l) + PATIENCE_MS;

    while (*n < want)
        turn_before(l, end_ms);
}

void fake_clock_pass(struct loop *l, uint64_t ms)
{
    uint64_t end_ms;

    uv_update_time(&l->uv);
    end_ms = loop_now_ms(l) + ms;
    while (loop_now_ms(l) < end_ms)
        fake_clock_turn(l, end_ms - loop_now_ms(l));
    do
        uv_run(&l->uv, UV_RUN_NOWAIT);
    while (!is_quiet(l));
}
