/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: process ids. Gives: the CPU time they have used. Owns: nothing. Thread: any. */
#ifndef BENCH_CPU_H
#define BENCH_CPU_H

#include <stdint.h>

/* Scheduler run time of all threads of the processes in the list "12,34", in nanoseconds: the first
 * number of /proc/PID/task/TID/schedstat. A process that is gone counts 0. */
uint64_t cpu_ns(const char *pids);

#endif
