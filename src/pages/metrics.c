/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/metrics.h"

#include <sys/resource.h>
#include <time.h>

#include "base/metric_series.h"
#include "kms/text.h"
#include "pages/coverage.h"
#include "pages/diagnosis.h"
#include "pages/process.h"
#include "pages/protection.h"

/* What stands for this server in apiserver_id_hash: the name of its host, as every server of a
 * cluster needs another one. */
static void set_identity(void)
{
    const char *host = pages__host()[0] == '\0' ? "localhost" : pages__host();
    char hash[KMS_HASH_TEXT];

    series_identity(kms_hash_text(bytes_str(host), hash));
}

void pages__metrics_init(const struct pages_state *st)
{
    struct timespec now;

    set_identity();
    series_set(SERIES_BUILD_INFO, LABELS(pages__build.version), 1);
    clock_gettime(CLOCK_REALTIME, &now);
    series_set(SERIES_START, NO_LABELS, (double)now.tv_sec + (double)now.tv_nsec / 1e9);
    if (st->config != NULL)
        metric_config(st->config->hash);
}

static void look_at_process(void)
{
    uint64_t resident = pages__resident_bytes();
    struct rusage usage;
    size_t fds = pages__descriptors();

    if (resident > 0)
        series_set(SERIES_RESIDENT, NO_LABELS, (double)resident);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        series_set(SERIES_CPU, NO_LABELS,
                   (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    if (fds > 0)
        series_set(SERIES_FDS, NO_LABELS, (double)fds);
}

static void set_certificate(const struct pages_certificate *c, const char *name)
{
    if (c->is_there)
        series_set(SERIES_CERTIFICATE, LABELS(name), (double)c->ends);
}

static void set_plugins(const struct pages_state *st)
{
    series_forget(SERIES_KMS_HEALTHY); /* those of an older configuration */
    for (size_t i = 0; i < st->plugin_count; i++)
        series_set(SERIES_KMS_HEALTHY, LABELS(st->plugins[i].name),
                   st->plugins[i].last.is_healthy ? 1 : 0);
}

static void set_write_keys(const struct pages_state *st)
{
    struct pages_way way;
    char words[300];

    series_forget(SERIES_WRITE_KEY);
    if (st->rules == NULL)
        return;
    for (size_t i = pages__group_next(st->rules, 0); i < st->rules->key_rules->count;
         i = pages__group_next(st->rules, i + 1))
        if (pages__group_way(st, i, 0, &way))
            series_set(SERIES_WRITE_KEY,
                       LABELS(pages__provider_words(way.provider, words), way.key), 1);
}

static enum err set_problems(const struct pages_state *st)
{
    struct pages_coverage coverage;
    struct pages_diagnosis d = {0};
    enum err e = pages__coverage_take(&coverage);

    if (e == ERR_OK)
        e = pages__diagnose(st, &coverage, &d);
    for (int s = PAGES_FAILING; e == ERR_OK && s < PAGES_WELL; s++) {
        double n = 0;

        for (size_t i = 0; i < d.count; i++)
            n += d.problems[i].severity == (enum pages_severity)s;
        series_set(SERIES_PROBLEMS, LABELS(pages__severity_word((enum pages_severity)s)), n);
    }
    pages__diagnosis_fini(&d);
    pages__coverage_fini(&coverage);
    return e;
}

enum err pages__metrics_write(const struct pages_state *st, FILE *f)
{
    look_at_process();
    set_certificate(&st->listen_certificate, "server");
    set_certificate(&st->etcd_certificate, "etcd_client");
    set_plugins(st);
    set_write_keys(st);
    TRY(set_problems(st));
    return series_write(f);
}
