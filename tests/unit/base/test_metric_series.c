/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metric_series.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"

static char *text; /* of the last exposition */

static const char *expose(void)
{
    size_t len;
    FILE *f;

    free(text);
    text = NULL;
    f = open_memstream(&text, &len);
    assert_non_null(f);
    assert_int_equal(series_write(f), ERR_OK);
    fclose(f);
    return text;
}

static void forget_all(void)
{
    for (int id = 0; id < SERIES_COUNT; id++)
        series_forget((enum series_id)id);
}

static int setup(void **state)
{
    (void)state;
    forget_all();
    series_identity("sha256:ours");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    forget_all();
    free(text);
    text = NULL;
    return 0;
}

static void assert_has(const char *line)
{
    if (strstr(expose(), line) == NULL)
        fail_msg("not there: %s\nin:\n%.4000s", line, text);
}

static void assert_lacks(const char *line)
{
    if (strstr(expose(), line) != NULL)
        fail_msg("there: %s", line);
}

/* --- the table of kube-apiserver's metrics --------------------------------------------------- */

/* The sample whose name ends with suffix; NULL when there is none. */
static const char *find_sample(const char *name, const char *suffix)
{
    char start[256];
    const char *at = text;
    size_t n = (size_t)snprintf(start, sizeof start, "\n%s%s", name, suffix);

    while ((at = strstr(at, start)) != NULL) {
        if (at[n] == '{' || at[n] == ' ')
            return at + 1;
        at++;
    }
    return NULL;
}

/* The label names of a sample line, "le" apart, each followed by a comma. */
static size_t label_names(const char *sample, char names[static 512])
{
    const char *at = sample + strcspn(sample, "{ ");
    size_t count = 0;

    names[0] = '\0';
    while (*at == '{' || *at == ',') {
        size_t n = strcspn(++at, "=");

        if (!(n == 2 && strncmp(at, "le", 2) == 0)) {
            strncat(names, at, n);
            strcat(names, ",");
            count++;
        }
        at += n + 2;
        at += strcspn(at, "\"") + 1;
    }
    return count;
}

static void check_labels(const char *name, const char *suffix, const char *want)
{
    const char *sample = find_sample(name, suffix);
    char names[512], have[600], one[128];
    size_t count = 0;

    assert_non_null(sample);
    snprintf(have, sizeof have, ",%.500s", (label_names(sample, names), names));
    for (const char *at = want; strcmp(want, "-") != 0 && *at != '\0';) {
        size_t n = strcspn(at, ",");

        snprintf(one, sizeof one, ",%.*s,", (int)n, at);
        if (strstr(have, one) == NULL)
            fail_msg("%s: no label %s in %s", name, one, have);
        count++;
        at += n + (at[n] == ',');
    }
    assert_int_equal(label_names(sample, names), count);
}

static void check_buckets(const char *name, const char *want)
{
    double first, factor, limit;
    const char *sample = find_sample(name, "_bucket");
    int count, seen = 0;

    assert_int_equal(sscanf(want, "exp(%lf,%lf,%d)", &first, &factor, &count), 3);
    assert_non_null(sample);
    limit = first;
    while (sample != NULL && strncmp(sample, name, strlen(name)) == 0 &&
           strncmp(sample + strlen(name), "_bucket", 7) == 0) {
        const char *le = strstr(sample, "le=\"");

        assert_non_null(le);
        if (seen < count)
            assert_true(strtod(le + 4, NULL) == limit);
        else
            assert_memory_equal(le + 4, "+Inf\"", 5);
        limit *= factor;
        seen++;
        sample = strchr(sample, '\n');
        sample = sample == NULL ? NULL : sample + 1;
    }
    assert_int_equal(seen, count + 1);
    assert_non_null(find_sample(name, "_sum"));
    assert_non_null(find_sample(name, "_count"));
}

static void one_of_each(void)
{
    static const char *const labels[SERIES_LABELS_MAX] = {"a", "b", "c", "d"};

    for (int id = 0; id < SERIES_COUNT; id++) {
        struct histogram h = {.counts = {1}};
        bool is_histogram = id == SERIES_KMS_LATENCY || id == SERIES_V1_ARRIVAL ||
                            id == SERIES_TRANSFORM_TIME || id == SERIES_KEY_TIME ||
                            id == SERIES_ADDED_TIME;

        if (is_histogram)
            series_merge((enum series_id)id, labels, &h);
        else
            series_set((enum series_id)id, labels, 1);
    }
}

static void test_names_types_labels_buckets(void **state)
{
    char line[512], name[128], type[32], labels[256], buckets[64], head[256];
    FILE *f = fopen(GOLDEN_DIR "/metrics.txt", "re");
    int count = 0;

    (void)state;
    assert_non_null(f);
    one_of_each();
    expose();
    while (fgets(line, sizeof line, f) != NULL) {
        bool is_histogram;

        if (line[0] == '#')
            continue;
        assert_int_equal(sscanf(line, "%127s %31s %255s %63s", name, type, labels, buckets), 4);
        snprintf(head, sizeof head, "\n# TYPE %s %s\n", name, type);
        if (strstr(text, head) == NULL && strncmp(text, head + 1, strlen(head) - 1) != 0)
            fail_msg("missing:%s", head);
        is_histogram = strcmp(type, "histogram") == 0;
        check_labels(name, is_histogram ? "_bucket" : "", labels);
        assert_int_equal(is_histogram, buckets[0] != '-');
        if (is_histogram)
            check_buckets(name, buckets);
        count++;
    }
    fclose(f);
    assert_int_equal(count, 16);
}

/* --- series ---------------------------------------------------------------------------------- */

static void test_counters_add_up(void **state)
{
    (void)state;
    series_add(SERIES_TRANSFORM, LABELS("secrets", "OK", "to_storage", "p:"), 2);
    series_add(SERIES_TRANSFORM, LABELS("secrets", "OK", "to_storage", "p:"), 3);
    series_add(SERIES_TRANSFORM, LABELS("secrets", "OK", "from_storage", "p:"), 1);
    assert_has(
        "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\"OK\","
        "transformation_type=\"to_storage\",transformer_prefix=\"p:\"} 5\n");
    assert_has("transformation_type=\"from_storage\",transformer_prefix=\"p:\"} 1\n");
}

static void test_labels_are_escaped(void **state)
{
    (void)state;
    series_set(SERIES_DEK_SOURCES, LABELS("a\"b\\c\nd"), 1);
    assert_has("{provider_name=\"a\\\"b\\\\c\\nd\"} 1\n");
    series_set(SERIES_DEK_SOURCES, LABELS("\xc3\xa4\xff\xed\xa0\x80."), 2);
    assert_has("{provider_name=\"\xc3\xa4????.\"} 2\n");
}

static void test_identity_comes_on_top(void **state)
{
    (void)state;
    series_set(SERIES_KEY_ID_STATUS_TIME, LABELS("sha256:k", "p"), 1234567890);
    assert_has("{apiserver_id_hash=\"sha256:ours\",key_id_hash=\"sha256:k\",provider_name=\"p\"} "
               "1.23456789e+09\n");
}

static void test_key_ids_are_bounded(void **state)
{
    char hash[16];

    (void)state;
    for (int i = 0; i < 150; i++) {
        snprintf(hash, sizeof hash, "k%03d", i);
        series_add(SERIES_KEY_ID, LABELS(hash, "p", "to_storage"), 1);
        series_add(SERIES_KEY_ID, LABELS("often", "p", "to_storage"), 1);
    }
    assert_has(
        "key_id_hash=\"often\",provider_name=\"p\",transformation_type=\"to_storage\"} 150\n");
    assert_has("\"k149\"");
    assert_has("\"k051\"");
    assert_lacks("\"k050\"");
}

static void test_histogram(void **state)
{
    struct histogram h = {0};

    (void)state;
    histogram_observe(&h, SERIES_TRANSFORM_TIME, 5e-6, 3); /* a bound belongs to its bucket */
    histogram_observe(&h, SERIES_TRANSFORM_TIME, 6e-6, 2);
    histogram_observe(&h, SERIES_TRANSFORM_TIME, 1e6, 1);
    series_merge(SERIES_TRANSFORM_TIME, LABELS("to_storage", "p:"), &h);
    series_merge(SERIES_TRANSFORM_TIME, LABELS("to_storage", "p:"), &h);
    assert_has("transformer_prefix=\"p:\",le=\"5e-06\"} 6\n");
    assert_has("transformer_prefix=\"p:\",le=\"1e-05\"} 10\n");
    assert_has("transformer_prefix=\"p:\",le=\"83.88608\"} 10\n");
    assert_has("transformer_prefix=\"p:\",le=\"+Inf\"} 12\n");
    assert_has("_count{transformation_type=\"to_storage\",transformer_prefix=\"p:\"} 12\n");
}

/* What has no labels is there from the start, what has some comes with its first series. */
static void test_empty(void **state)
{
    (void)state;
    assert_has("\napiserver_storage_envelope_transformation_cache_misses_total 0\n");
    assert_has("\napiserver_storage_data_key_generation_duration_seconds_count 0\n");
    assert_lacks("apiserver_storage_transformation_operations_total");
    assert_lacks("etcd_envelope_etcd_healthy");
    series_set(SERIES_ETCD_HEALTHY, NO_LABELS, 0);
    assert_has("\netcd_envelope_etcd_healthy 0\n");
    series_forget(SERIES_ETCD_HEALTHY);
    assert_lacks("etcd_envelope_etcd_healthy");
}

static void test_reloads(void **state)
{
    (void)state;
    metric_config("sha256:one");
    metric_reload(false, NULL);
    metric_reload(true, "sha256:two");
    metric_reload(true, "sha256:three");
    assert_has("automatic_reloads_total{apiserver_id_hash=\"sha256:ours\",status=\"failure\"} 1\n");
    assert_has("automatic_reloads_total{apiserver_id_hash=\"sha256:ours\",status=\"success\"} 2\n");
    assert_has("last_config_info{apiserver_id_hash=\"sha256:ours\",hash=\"sha256:three\"} 1\n");
    assert_has("etcd_envelope_config_info{hash=\"sha256:three\"} 1\n");
    assert_lacks("sha256:one");
    assert_lacks("sha256:two");
}

static void test_plain_metrics(void **state)
{
    uint64_t before = metric_get(METRIC_links);
    char want[80];

    (void)state;
    metric_add(METRIC_links, 2);
    metric_sub(METRIC_links, 1);
    snprintf(want, sizeof want, "\netcd_envelope_links %llu\n", (unsigned long long)before + 1);
    assert_has(want);
    metric_refused(ERR_AUTH_FAILED);
    snprintf(want, sizeof want, "\netcd_envelope_refused_total{reason=\"auth_failed\"} %llu\n",
             (unsigned long long)metric_refused_get(ERR_AUTH_FAILED));
    assert_has(want);
    assert_lacks("reason=\"ok\"");
}

/* --- reading --- */

struct seen {
    unsigned count;
    double sum;
    char labels[128];
};

static void note_series(void *arg, const struct series_view *s)
{
    struct seen *seen = arg;

    seen->count++;
    seen->sum += s->histogram == NULL ? s->value : (double)histogram_count(s->histogram);
    snprintf(seen->labels, sizeof seen->labels, "%s %s", s->labels[0], s->labels[1]);
}

static void test_each(void **state)
{
    struct seen seen = {0};
    enum series_id id;

    (void)state;
    series_each(SERIES_CALLS, note_series, &seen);
    assert_int_equal(seen.count, 0);
    series_add(SERIES_CALLS, LABELS("OK", "/a"), 3);
    series_add(SERIES_CALLS, LABELS("Unavailable", "/a"), 4);
    assert_true(series_find("etcd_envelope_grpc_calls_total", &id));
    assert_int_equal(id, SERIES_CALLS);
    series_each(id, note_series, &seen);
    assert_int_equal(seen.count, 2);
    assert_true(seen.sum == 7);
    assert_string_equal(seen.labels, "Unavailable /a");
    assert_false(series_find("etcd_envelope_grpc_calls", &id));
    seen = (struct seen){0};
    series_observe(SERIES_ADDED_TIME, LABELS("/b"), 1);
    series_each(SERIES_ADDED_TIME, note_series, &seen);
    assert_int_equal(seen.count, 1);
    assert_true(seen.sum == 1);
}

/* A quantile lies in the bucket of the observation that it stands for, for any of them. */
static void test_quantiles(void **state)
{
    struct histogram h = {0};

    (void)state;
    assert_true(isnan(histogram_quantile(&h, SERIES_ADDED_TIME, 0.5)));
    for (double seconds = 6e-6; seconds < 9; seconds *= 1.37) {
        double low = 5e-6, q;

        h = (struct histogram){0};
        histogram_observe(&h, SERIES_ADDED_TIME, seconds, 10);
        while (low * 2 < seconds)
            low *= 2;
        q = histogram_quantile(&h, SERIES_ADDED_TIME, 0.99);
        assert_true(q >= low && q <= low * 2);
        assert_true(histogram_quantile(&h, SERIES_ADDED_TIME, 0.5) < q);
    }
    h = (struct histogram){0};
    histogram_observe(&h, SERIES_ADDED_TIME, 1e-6, 98);
    histogram_observe(&h, SERIES_ADDED_TIME, 1000, 2); /* above the last bound, of 10.5 s */
    assert_true(histogram_quantile(&h, SERIES_ADDED_TIME, 0.5) < 5e-6);
    assert_true(histogram_quantile(&h, SERIES_ADDED_TIME, 0.99) > 10);
    assert_true(isfinite(histogram_quantile(&h, SERIES_ADDED_TIME, 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names_types_labels_buckets, setup, teardown),
        cmocka_unit_test_setup_teardown(test_counters_add_up, setup, teardown),
        cmocka_unit_test_setup_teardown(test_labels_are_escaped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_identity_comes_on_top, setup, teardown),
        cmocka_unit_test_setup_teardown(test_key_ids_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_histogram, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reloads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plain_metrics, setup, teardown),
        cmocka_unit_test_setup_teardown(test_each, setup, teardown),
        cmocka_unit_test_setup_teardown(test_quantiles, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
