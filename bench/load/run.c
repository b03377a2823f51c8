/* SPDX-License-Identifier: Apache-2.0 */
/* bench-load's run: a closed or an open loop for a time (measure), a number of requests
 * (count_requests) or one answer on each stream and then silence (hold), and the report. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "cpu.h"
#include "load.h"

#define COUNT_NS 120000000000u /* of all requests of --count */
#define DRAIN_NS 5000000000u

static void sample(uint64_t *out)
{
    for (int i = 0; i < options.cpu_count; i++)
        out[i] = cpu_ns(options.cpu_pids[i]);
}

/* Sends what is due by now. Returns the time of the next one. */
static uint64_t send_due(uint64_t begun, uint64_t *sent)
{
    for (;;) {
        uint64_t at = begun + (uint64_t)((double)*sent * 1e9 / options.rate);
        struct conn *c = &run.conns[*sent % (uint64_t)options.connections];

        if (at > loop.now)
            return at;
        load_send_due(c, at);
        ++*sent;
    }
}

static void run_until(uint64_t end, uint64_t rate_begun, uint64_t *sent)
{
    while (loop.now < end) {
        uint64_t wake = end;

        if (options.rate > 0) {
            uint64_t next = send_due(rate_begun, sent);

            if (next < wake)
                wake = next;
        }
        peer_turn(&loop, wake > loop.now ? wake - loop.now : 0);
    }
}

static bool is_under_way(void)
{
    return run.busy > run.watches || (options.kind == KIND_APISERVER && run.seen < run.writes);
}

static void measure(void)
{
    uint64_t begun, sent = 0, drain_end;

    load_start();
    loop.now = begun = peer_clock();
    run_until(begun + (uint64_t)(options.warmup_ms * 1e6), begun, &sent);
    sample(run.cpu_before);
    run.begun = peer_clock();
    run.phase = MEASURE;
    run.bytes = 0;
    run_until(run.begun + (uint64_t)(options.measure_ms * 1e6), begun, &sent);
    sample(run.cpu_after);
    run.ended = peer_clock();
    run.phase = DRAIN;
    drain_end = run.ended + DRAIN_NS;
    while (is_under_way() && loop.now < drain_end)
        peer_turn(&loop, drain_end - loop.now);
    if (run.busy > run.watches)
        die("%" PRIu64 " requests without an answer", run.busy - run.watches);
    if (is_under_way() || (options.kind == KIND_APISERVER && run.seen != run.writes))
        die("%" PRIu64 " events of %" PRIu64 " writes", run.seen, run.writes);
}

/* All of --count, and nothing before or after it. */
static void count_requests(void)
{
    uint64_t count = (uint64_t)options.count, events = count * (uint64_t)options.watchers;
    uint64_t end = peer_clock() + COUNT_NS;

    run.phase = MEASURE;
    run.begun = peer_clock();
    load_start();
    while (run.requests < count || run.events < events) {
        peer_turn(&loop, COUNT_NS);
        if (loop.now > end)
            die("%" PRIu64 " requests without an answer", run.busy);
    }
    run.ended = peer_clock();
}

static void hold(void)
{
    char t[64];

    load_start();
    while (run.answered < (uint64_t)(options.connections * options.streams))
        peer_turn(&loop, UINT64_MAX);
    puts("holding");
    fflush(stdout);
    (void)!read(STDIN_FILENO, t, sizeof t);
}

static void report(void)
{
    double seconds = (double)(run.ended - run.begun) / 1e9;
    uint64_t units = options.watchers > 0 ? run.events : run.requests;

    printf(
        "{\"kind\": \"%s\", \"connections\": %ld, \"streams\": %ld, \"rate\": %.0f, \"tls\": %s, "
        "\"seconds\": %.4f, \"requests\": %" PRIu64 ", \"units\": %" PRIu64 ", \"per_s\": %.1f, "
        "\"answered\": %" PRIu64 ", \"mib_per_s\": %.2f, "
        "\"us\": {\"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f}",
        kind_names[options.kind], options.connections, options.streams, options.rate,
        options.is_tls ? "true" : "false", seconds, run.requests, units, (double)units / seconds,
        run.answered, (double)run.bytes / seconds / (1 << 20),
        (double)hist_at(&run.latencies, 0.5) / 1e3, (double)hist_at(&run.latencies, 0.99) / 1e3,
        (double)hist_at(&run.latencies, 0.999) / 1e3, (double)run.latencies.max / 1e3);
    for (int i = 0; i < options.cpu_count; i++)
        printf(", \"cpu_us_%s\": %.4f", options.cpu_names[i],
               units == 0 ? 0.0
                          : (double)(run.cpu_after[i] - run.cpu_before[i]) / 1e3 / (double)units);
    puts("}");
}

int main(int argc, char **argv)
{
    options_parse(argc, argv);
    load_init();
    if (options.holds) {
        hold();
        return 0;
    }
    if (options.count > 0)
        count_requests();
    else
        measure();
    report();
    return 0;
}
