/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: increments. Gives: process-wide counters. Owns: the counters. Metrics with labels and
 * histograms are in base/metric_series.h.
 * Thread: any. Beside these counters only base/refcount.h and base/log.c use atomics. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include "base/err.h"

/* X(name, type, help); exposed as etcd_envelope_<name>. */
#define METRIC_TABLE(X)                                                                            \
    X(calls_total, counter, "gRPC calls taken from clients")                                       \
    X(bytes_forwarded_total, counter, "Message bytes sent on, in either direction")                \
    X(bytes_copied_total, counter, "Message bytes copied on their way")                            \
    X(messages_streamed_total, counter, "Large answers that were opened KeyValue by KeyValue")     \
    X(values_sealed_total, counter, "Values sealed")                                               \
    X(values_opened_total, counter, "Values opened")                                               \
    X(identity_reads_total, counter, "Protected values that were plaintext in etcd")               \
    X(log_dropped_total, counter, "Log lines dropped because stderr took them too slowly or not")  \
    X(log_left_out_total, counter, "Log lines left out because their kind had one in that second") \
    X(links, gauge, "Client connections now open")                                                 \
    X(held_bytes, gauge, "Bytes of memory that messages on their way hold now")                    \
    X(kms_unwraps_total, counter, "Decrypt calls made to KMS plugins")                             \
    X(kms_unwrap_errors_total, counter, "Decrypt calls that failed")                               \
    X(reload_successes_total, counter, "Configurations that were taken over while running")        \
    X(reload_failures_total, counter, "Configurations that were refused while running")            \
    X(reload_failed, gauge, "1: the last reload failed, and an older configuration is in force")   \
    X(converge_rewritten_total, counter, "Stored values that --converge has rewritten")            \
    X(dek_cache_size, gauge, "DEK sources in the cache")

enum metric {
#define X(name, type, help) METRIC_##name,
    METRIC_TABLE(X)
#undef X
        METRIC_COUNT
};

void metric_add(enum metric m, uint64_t n);
void metric_sub(enum metric m, uint64_t n);
uint64_t metric_get(enum metric m);
/* Counts a refused call or value by its reason. */
void metric_refused(enum err e);
uint64_t metric_refused_get(enum err e);
/* Milliseconds since a call or a connection was refused because there was no room for it, whoever
 * asked: memory, connections. UINT64_MAX: never. */
uint64_t metric_shed_ago_ms(void);

#endif
