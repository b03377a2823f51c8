/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the command line. Gives: what the load generator is to do. Owns: nothing (strings are
 * argv's). Thread: any; constant after options_parse. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>

#include "wire.h"

#define OPTIONS_CPU_MAX 8

struct options {
    const char *target, *ca, *item;
    enum kind kind;
    long connections, streams, watchers;
    long value_len; /* bytes of what is put */
    long count;     /* so many requests, whatever time they take; 0: by time */
    double rate, warmup_ms, measure_ms;
    bool is_tls, is_real, has_probes, holds, has_timeouts;
    const char *cpu_names[OPTIONS_CPU_MAX], *cpu_pids[OPTIONS_CPU_MAX];
    int cpu_count;
};

extern struct options options;

/* Ends the program with a usage text when it makes no sense. Cuts argv's strings. */
void options_parse(int argc, char **argv);

#endif
