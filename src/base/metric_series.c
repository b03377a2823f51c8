/* SPDX-License-Identifier: Apache-2.0 */
/* A family is a row of the table and a list of its series. A series is found by comparing label
 * texts, for there are few, and none is looked up for each single value. The last one used moves to
 * the end, so that the first is the one to drop where a bound is set.
 * Failure modes: no memory for a series: what it should count is lost. */
#include "base/metric_series.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/list.h"
#include "base/metrics.h"
#include "base/utf8.h"

/* count buckets first, first * factor, ... and +Inf on top. */
struct buckets {
    double first, factor;
    unsigned count;
};

static const struct buckets buckets_NONE = {0, 0, 0};
static const struct buckets buckets_KMS = {0.0001, 2, 20};
static const struct buckets buckets_ARRIVAL = {60, 2, 10};
static const struct buckets buckets_TRANSFORM = {5e-6, 2, 25};
static const struct buckets buckets_KEY_MAKING = {5e-6, 2, 14};
static const struct buckets buckets_ADDED = {5e-6, 2, 22}; /* to 10 s, the longest wait for a key */

struct family_desc {
    const char *name;
    enum series_type type;
    const struct buckets *buckets;
    bool has_identity;
    unsigned bound;
    const char *help;
    const char *labels[SERIES_LABELS_MAX + 1]; /* up to NULL */
};

static const struct family_desc descs[] = {
#define X(id, name, type, buckets, identity, bound, help, ...)                                     \
    {name, SERIES_##type, &buckets_##buckets, identity, bound, help, {__VA_ARGS__}},
    SERIES_TABLE(X)
#undef X
};

struct series {
    struct list node;
    char *labels[SERIES_LABELS_MAX];
    double value;
    struct histogram *histogram; /* of that type only */
};

static struct {
    struct list series[SERIES_COUNT]; /* oldest use first */
    unsigned counts[SERIES_COUNT];
    char identity[80];
    bool is_ready;
} kept;

/* --- series ---------------------------------------------------------------------------------- */

static unsigned label_count(const struct family_desc *d)
{
    unsigned n = 0;

    while (d->labels[n] != NULL)
        n++;
    return n;
}

static void prepare(void)
{
    if (kept.is_ready)
        return;
    for (size_t i = 0; i < SERIES_COUNT; i++)
        list_init(&kept.series[i]);
    kept.is_ready = true;
}

static void series_free(struct series *s, enum series_id id)
{
    list_remove(&s->node);
    kept.counts[id]--;
    for (size_t i = 0; i < SERIES_LABELS_MAX; i++)
        free(s->labels[i]);
    free(s->histogram);
    free(s);
}

static struct series *series_new(enum series_id id, const char *const *labels)
{
    const struct family_desc *d = &descs[id];
    struct series *s = calloc(1, sizeof *s);
    unsigned n = label_count(d);
    bool ok = s != NULL;

    if (s == NULL)
        return NULL;
    for (unsigned i = 0; i < n; i++) {
        s->labels[i] = strdup(labels[i]);
        ok &= s->labels[i] != NULL;
    }
    if (d->type == SERIES_HISTOGRAM) {
        s->histogram = calloc(1, sizeof *s->histogram);
        ok &= s->histogram != NULL;
    }
    list_push(&kept.series[id], &s->node);
    kept.counts[id]++;
    if (!ok) {
        series_free(s, id);
        return NULL;
    }
    if (d->bound > 0 && kept.counts[id] > d->bound)
        series_free(LIST_FIRST(&kept.series[id], struct series, node), id);
    return s;
}

static struct series *find(enum series_id id, const char *const *labels)
{
    unsigned n = label_count(&descs[id]);

    prepare();
    LIST_FOREACH(it, &kept.series[id]) {
        struct series *s = LIST_ENTRY(it, struct series, node);
        unsigned same = 0;

        while (same < n && strcmp(s->labels[same], labels[same]) == 0)
            same++;
        if (same == n)
            return s;
    }
    return NULL;
}

/* NULL: no memory. */
static struct series *get(enum series_id id, const char *const *labels)
{
    struct series *s = find(id, labels);

    if (s == NULL)
        return series_new(id, labels);
    list_remove(&s->node);
    list_push(&kept.series[id], &s->node);
    return s;
}

void series_add(enum series_id id, const char *const *labels, double n)
{
    struct series *s = get(id, labels);

    if (s != NULL)
        s->value += n;
}

void series_set(enum series_id id, const char *const *labels, double value)
{
    struct series *s = get(id, labels);

    if (s != NULL)
        s->value = value;
}

void series_forget(enum series_id id)
{
    prepare();
    while (!list_is_empty(&kept.series[id]))
        series_free(LIST_FIRST(&kept.series[id], struct series, node), id);
}

void series_identity(const char *hash)
{
    snprintf(kept.identity, sizeof kept.identity, "%s", hash);
}

/* --- histograms ------------------------------------------------------------------------------ */

void histogram_observe(struct histogram *h, enum series_id id, double seconds, uint64_t times)
{
    const struct buckets *b = descs[id].buckets;
    double limit = b->first;
    unsigned i = 0;

    while (i < b->count && seconds > limit) {
        limit *= b->factor;
        i++;
    }
    h->counts[i] += times;
    h->sum += seconds * (double)times;
}

void series_observe(enum series_id id, const char *const *labels, double seconds)
{
    struct series *s = get(id, labels);

    if (s != NULL)
        histogram_observe(s->histogram, id, seconds, 1);
}

void series_merge(enum series_id id, const char *const *labels, const struct histogram *h)
{
    struct series *s = get(id, labels);

    if (s == NULL)
        return;
    for (size_t i = 0; i < ARRAY_LEN(h->counts); i++)
        s->histogram->counts[i] += h->counts[i];
    s->histogram->sum += h->sum;
}

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(h->counts); i++)
        n += h->counts[i];
    return n;
}

double histogram_quantile(const struct histogram *h, enum series_id id, double q)
{
    const struct buckets *b = descs[id].buckets;
    double rank = q * (double)histogram_count(h), low = 0, high = b->first;
    uint64_t below = 0;

    if (histogram_count(h) == 0)
        return NAN;
    for (unsigned i = 0; i < b->count; i++) {
        uint64_t here = h->counts[i];

        if (here > 0 && (double)(below + here) >= rank)
            return low + (high - low) * (rank - (double)below) / (double)here;
        below += here;
        low = high;
        high *= b->factor;
    }
    return low;
}

/* --- reading --------------------------------------------------------------------------------- */

void series_each(enum series_id id, series_fn fn, void *arg)
{
    prepare();
    LIST_FOREACH(it, &kept.series[id]) {
        const struct series *s = LIST_ENTRY(it, struct series, node);
        const struct series_view view = {
            .labels = (const char *const *)s->labels, .value = s->value, .histogram = s->histogram};

        fn(arg, &view);
    }
}

bool series_find(const char *name, enum series_id *out)
{
    for (size_t i = 0; i < SERIES_COUNT; i++) {
        if (strcmp(descs[i].name, name) != 0)
            continue;
        *out = (enum series_id)i;
        return true;
    }
    return false;
}

/* --- the text -------------------------------------------------------------------------------- */

/* Writes as few digits as read back as the same number. */
static void write_number(FILE *f, double value)
{
    char text[40];

    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, f);
}

/* Only valid UTF-8 may stand in a label (exposition format, "Text format details"). */
static void write_escaped(FILE *f, const char *text)
{
    struct bytes rest = bytes_str(text);

    while (rest.n > 0) {
        size_t n = utf8_len(rest);

        if (rest.p[0] == '\\' || rest.p[0] == '"')
            fprintf(f, "\\%c", rest.p[0]);
        else if (rest.p[0] == '\n')
            fputs("\\n", f);
        else if (n == 0)
            fputc('?', f);
        else
            fwrite(rest.p, 1, n, f);
        n += n == 0;
        rest = bytes_of(rest.p + n, rest.n - n);
    }
}

/* le: of a bucket; NULL for none. */
static void write_labels(FILE *f, const struct family_desc *d, const struct series *s,
                         const double *le, bool is_last)
{
    char sep = '{';

    if (d->has_identity) {
        fprintf(f, "%capiserver_id_hash=\"", sep);
        write_escaped(f, kept.identity);
        fputc('"', f);
        sep = ',';
    }
    for (unsigned i = 0; d->labels[i] != NULL; i++) {
        fprintf(f, "%c%s=\"", sep, d->labels[i]);
        write_escaped(f, s->labels[i]);
        fputc('"', f);
        sep = ',';
    }
    if (le != NULL) {
        fprintf(f, "%cle=\"", sep);
        if (is_last)
            fputs("+Inf", f);
        else
            write_number(f, *le);
        fputc('"', f);
        sep = ',';
    }
    if (sep == ',')
        fputc('}', f);
    fputc(' ', f);
}

static void write_histogram(FILE *f, const struct family_desc *d, const struct series *s)
{
    const struct buckets *b = d->buckets;
    double le = b->first;
    uint64_t n = 0;

    for (unsigned i = 0; i <= b->count; i++) {
        n += s->histogram->counts[i];
        fprintf(f, "%s_bucket", d->name);
        write_labels(f, d, s, &le, i == b->count);
        fprintf(f, "%llu\n", (unsigned long long)n);
        le *= b->factor;
    }
    fprintf(f, "%s_sum", d->name);
    write_labels(f, d, s, NULL, false);
    write_number(f, s->histogram->sum);
    fprintf(f, "\n%s_count", d->name);
    write_labels(f, d, s, NULL, false);
    fprintf(f, "%llu\n", (unsigned long long)n);
}

static void write_head(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_family(FILE *f, enum series_id id)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct family_desc *d = &descs[id];

    /* A family without labels has one series, which is shown as 0 before anything happened. One
     * with a bound is shown only once its value is known. */
    if (d->labels[0] == NULL && d->bound == 0)
        (void)get(id, NO_LABELS);
    if (kept.counts[id] == 0)
        return;
    write_head(f, d->name, types[d->type], d->help);
    LIST_FOREACH(it, &kept.series[id]) {
        const struct series *s = LIST_ENTRY(it, struct series, node);

        if (d->type == SERIES_HISTOGRAM) {
            write_histogram(f, d, s);
            continue;
        }
        fputs(d->name, f);
        write_labels(f, d, s, NULL, false);
        write_number(f, s->value);
        fputc('\n', f);
    }
}

static void write_plain(FILE *f)
{
#define X(name, type, help)                                                                        \
    write_head(f, "etcd_envelope_" #name, #type, help);                                            \
    fprintf(f, "etcd_envelope_" #name " %llu\n", (unsigned long long)metric_get(METRIC_##name));
    METRIC_TABLE(X)
#undef X
}

/* Every reason is there from the start: an alert on an increase would miss the first one. */
static void write_refused(FILE *f)
{
    write_head(f, "etcd_envelope_refused_total", "counter",
               "Calls, watches, values and connections that were refused or cut, by reason. Which "
               "have an alert, and why the others have none: alerts.yaml");
    for (int e = ERR_OK + 1; e < ERR_COUNT; e++)
        fprintf(f, "etcd_envelope_refused_total{reason=\"%s\"} %llu\n", err_reason((enum err)e),
                (unsigned long long)metric_refused_get((enum err)e));
}

enum err series_write(FILE *f)
{
    prepare();
    for (size_t i = 0; i < SERIES_COUNT; i++)
        write_family(f, (enum series_id)i);
    write_plain(f);
    write_refused(f);
    return fflush(f) == 0 && ferror(f) == 0 ? ERR_OK : ERR_NOMEM;
}

/* --- reloads --------------------------------------------------------------------------------- */

void metric_config(const char *hash)
{
    series_set(SERIES_CONFIG, LABELS(hash), 1);
    series_set(SERIES_CONFIG_INFO, LABELS(hash), 1);
}

void metric_reload(bool ok, const char *hash)
{
    const char *status = ok ? "success" : "failure";
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    series_add(SERIES_RELOADS, LABELS(status), 1);
    series_set(SERIES_RELOAD_TIME, LABELS(status), (double)now.tv_sec);
    if (hash != NULL)
        metric_config(hash);
}
