/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what happened, with labels. Gives: the text of /metrics (Prometheus' text format
 * 0.0.4). Owns: every series with labels; those of base/metrics.h, which are counted anywhere, are
 * written along. Thread: control, but for struct histogram, which is its owner's.
 *
 * The apiserver_* families have the names, types, labels and buckets of kube-apiserver's metrics,
 * so that dashboards and alerts made for it work unchanged. Workers gather what they see in tallies
 * of their own (proxy/tally.h) and hand them to the control thread now and then.
 *
 * A series that cannot be kept for want of memory is not counted: no metric is worth a failure. */
#ifndef BASE_METRIC_SERIES_H
#define BASE_METRIC_SERIES_H

#include <stdio.h>

#include "base/err.h"

enum series_type { SERIES_COUNTER, SERIES_GAUGE, SERIES_HISTOGRAM };

/* X(id, name, type, buckets, identity, bound, help, label names...)
 *   buckets    of a histogram: which buckets_... of metric_series.c
 *   identity   the label apiserver_id_hash is added; its value is that of series_identity
 *   bound      how many series there may be: the one used longest ago makes room; 0: any number
 *   labels     in the order in which callers give their values */
#define SERIES_TABLE(X)                                                                            \
    X(KMS_LATENCY, "apiserver_envelope_encryption_kms_operations_latency_seconds", HISTOGRAM, KMS, \
      false, 0, "Time that calls to KMS v2 plugins took, in seconds", "grpc_status_code",          \
      "method_name", "provider_name")                                                              \
    X(KEY_ID, "apiserver_envelope_encryption_key_id_hash_total", COUNTER, NONE, true, 100,         \
      "Values sealed or opened under a key id of a KMS v2 plugin", "key_id_hash", "provider_name", \
      "transformation_type")                                                                       \
    X(KEY_ID_TIME, "apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds", GAUGE,      \
      NONE, true, 100, "When a value was sealed or opened under the key id last", "key_id_hash",   \
      "provider_name", "transformation_type")                                                      \
    X(KEY_ID_STATUS_TIME,                                                                          \
      "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds", GAUGE, NONE,      \
      true, 100, "When the plugin's Status named the key id last", "key_id_hash", "provider_name") \
    X(INVALID_KEY_ID, "apiserver_envelope_encryption_invalid_key_id_from_status_total", COUNTER,   \
      NONE, false, 0, "Answers of Status with a key id that is empty or too long", "error",        \
      "provider_name")                                                                             \
    X(DEK_SOURCES, "apiserver_envelope_encryption_dek_source_cache_size", GAUGE, NONE, false, 0,   \
      "DEK sources in the cache of a KMS v2 provider", "provider_name")                            \
    X(V1_FILL, "apiserver_envelope_encryption_dek_cache_fill_percent", GAUGE, NONE, false, 0,      \
      "How much of the DEK cache of a KMS v1 provider is in use, from 0 to 1", NULL)               \
    X(V1_ARRIVAL, "apiserver_envelope_encryption_dek_cache_inter_arrival_time_seconds", HISTOGRAM, \
      ARRIVAL, false, 0, "Time between two values that a KMS v1 provider sealed, or opened",       \
      "transformation_type")                                                                       \
    X(TRANSFORM_TIME, "apiserver_storage_transformation_duration_seconds", HISTOGRAM, TRANSFORM,   \
      false, 0, "Time that sealing or opening a value took", "transformation_type",                \
      "transformer_prefix")                                                                        \
    X(TRANSFORM, "apiserver_storage_transformation_operations_total", COUNTER, NONE, false, 0,     \
      "Values that were sealed or opened, or could not be", "resource", "status",                  \
      "transformation_type", "transformer_prefix")                                                 \
    X(CACHE_MISSES, "apiserver_storage_envelope_transformation_cache_misses_total", COUNTER, NONE, \
      false, 0, "DEKs that were not in the cache when they were needed", NULL)                     \
    X(KEY_TIME, "apiserver_storage_data_key_generation_duration_seconds", HISTOGRAM, KEY_MAKING,   \
      false, 0, "Time that making a DEK or a seed took", NULL)                                     \
    X(KEY_FAILURES, "apiserver_storage_data_key_generation_failures_total", COUNTER, NONE, false,  \
      0, "DEKs or seeds that could not be made", NULL)                                             \
    X(RELOADS, "apiserver_encryption_config_controller_automatic_reloads_total", COUNTER, NONE,    \
      true, 0, "Reloads of the encryption configuration", "status")                                \
    X(RELOAD_TIME,                                                                                 \
      "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds", GAUGE,     \
      NONE, true, 0, "When the encryption configuration was reloaded last", "status")              \
    X(CONFIG, "apiserver_encryption_config_controller_last_config_info", GAUGE, NONE, true, 1,     \
      "The hash of the encryption configuration in use", "hash")                                   \
    X(CALLS, "etcd_envelope_grpc_calls_total", COUNTER, NONE, false, 0,                            \
      "Calls of clients that are over, by the status that the client got", "grpc_code",            \
      "grpc_method")                                                                               \
    X(ADDED_TIME, "etcd_envelope_added_latency_seconds", HISTOGRAM, ADDED, false, 0,               \
      "Time that the proxy added to a unary call: from the whole request to its sending, and for " \
      "the answer alike; waiting for keys and for a lost etcd included",                           \
      "grpc_method")                                                                               \
    X(CONFIG_INFO, "etcd_envelope_config_info", GAUGE, NONE, false, 1,                             \
      "The hash of the encryption configuration in use", "hash")                                   \
    X(WRITE_KEY, "etcd_envelope_write_key_info", GAUGE, NONE, false, 0,                            \
      "What new values are sealed with: the provider, and the hash of its key id or the name of "  \
      "its key",                                                                                   \
      "provider", "key")                                                                           \
    X(PROBLEMS, "etcd_envelope_problems", GAUGE, NONE, false, 0,                                   \
      "Problems that the status page tells of, by severity: failing, warning", "severity")         \
    X(BUILD_INFO, "etcd_envelope_build_info", GAUGE, NONE, false, 0, "The program that runs",      \
      "version")                                                                                   \
    X(CERTIFICATE, "etcd_envelope_certificate_expiry_timestamp_seconds", GAUGE, NONE, false, 0,    \
      "When a certificate that the proxy uses ends", "certificate")                                \
    X(KMS_HEALTHY, "etcd_envelope_kms_healthy", GAUGE, NONE, false, 0,                             \
      "Whether the last check of a KMS plugin was good", "provider_name")                          \
    X(ETCD_HEALTHY, "etcd_envelope_etcd_healthy", GAUGE, NONE, false, 1,                           \
      "Whether the last health check reached etcd; absent before the first one", NULL)             \
    X(STORED, "etcd_envelope_stored_values", GAUGE, NONE, false, 0,                                \
      "Protected values in etcd as of the last full look (--converge), by state: current, older, " \
      "plaintext, unreadable",                                                                     \
      "resource", "state")                                                                         \
    X(STORED_TIME, "etcd_envelope_stored_values_timestamp_seconds", GAUGE, NONE, false, 1,         \
      "When the last full look at all values in etcd was over", NULL)                              \
    X(UNOPENED, "etcd_envelope_stored_values_unopened", GAUGE, NONE, false, 0,                     \
      "Stored values that do not open with the configuration, as of the last look for them "       \
      "(without --converge): behind the start, a reload, SIGHUP",                                  \
      "resource", "reason")                                                                        \
    X(UNOPENED_TIME, "etcd_envelope_stored_values_unopened_timestamp_seconds", GAUGE, NONE, false, \
      1, "When the last look for values that do not open was over", NULL)                          \
    X(RESIDENT, "process_resident_memory_bytes", GAUGE, NONE, false, 0,                            \
      "Resident memory of the process", NULL)                                                      \
    X(CPU, "process_cpu_seconds_total", COUNTER, NONE, false, 0,                                   \
      "CPU time of the process, user and system", NULL)                                            \
    X(FDS, "process_open_fds", GAUGE, NONE, false, 0, "Open file descriptors of the process",      \
      NULL)                                                                                        \
    X(START, "process_start_time_seconds", GAUGE, NONE, false, 0,                                  \
      "When the process started, since 1970", NULL)

enum series_id {
#define X(id, ...) SERIES_##id,
    SERIES_TABLE(X)
#undef X
        SERIES_COUNT
};

#define SERIES_LABELS_MAX 4u
#define SERIES_BUCKETS_MAX 25u
/* The labels' values in the table's order; no NULL. */
#define LABELS(...) ((const char *const[SERIES_LABELS_MAX]){__VA_ARGS__})
#define NO_LABELS ((const char *const[SERIES_LABELS_MAX]){NULL})

/* --- what happens --- */

void series_add(enum series_id id, const char *const *labels, double n);
void series_set(enum series_id id, const char *const *labels, double value);
void series_observe(enum series_id id, const char *const *labels, double seconds);
/* Takes all series of the family out of the exposition. */
void series_forget(enum series_id id);
/* What stands for this server in the label apiserver_id_hash: "sha256:<hex>". "" before. */
void series_identity(const char *hash);

/* --- histograms that are gathered elsewhere; any thread --- */

struct histogram {
    uint64_t counts[SERIES_BUCKETS_MAX + 1]; /* not cumulated; the last is +Inf */
    double sum;
};
/* times observations of the same value, with the buckets of family id. */
void histogram_observe(struct histogram *h, enum series_id id, double seconds, uint64_t times);
void series_merge(enum series_id id, const char *const *labels, const struct histogram *h);

uint64_t histogram_count(const struct histogram *h);
/* The value that a share q of the observations, from 0 to 1, does not exceed, as PromQL's
 * histogram_quantile estimates it: evenly spread within a bucket; the last bound for what is above
 * it. NaN: there are none. */
double histogram_quantile(const struct histogram *h, enum series_id id, double q);

/* --- reading --- */

/* A series as it is now; all of it is borrowed. */
struct series_view {
    const char *const *labels;         /* their values, in the order of the table */
    double value;                      /* of a counter or a gauge */
    const struct histogram *histogram; /* NULL: it is none */
};
typedef void (*series_fn)(void *arg, const struct series_view *s);
/* Calls fn for each series of the family; fn changes none of them. */
void series_each(enum series_id id, series_fn fn, void *arg);
/* The family of that name in the exposition. False: there is none. */
MUST_CHECK bool series_find(const char *name, enum series_id *out);

/* --- the text --- */

/* A family without series is left out, as Prometheus' own libraries do; one without labels is
 * always there. Errors: ERR_NOMEM (what f says). */
MUST_CHECK enum err series_write(FILE *f);

/* A reload of the encryption configuration: taken over, or refused and the old one kept. hash: of
 * the configuration in use from now on, "sha256:<hex>"; NULL when it did not change. */
void metric_reload(bool ok, const char *hash);
/* At the start: the hash of the configuration in use. */
void metric_config(const char *hash);

#endif
