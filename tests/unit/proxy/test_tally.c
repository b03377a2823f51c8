/* SPDX-License-Identifier: Apache-2.0 */
/* Plans and calls on one side, the exposition on the other; one loop plays worker and control. */
#include "proxy/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"
#include "base/metric_series.h"
#include "policy/ruleset.h"

struct fixture {
    struct loop loop;
    struct mailbox control;
    struct slab_pool pool;
    struct tally *tally;
    struct loop_timer end;
    struct etcd_plan plan;
    struct dek dek;
};

static const struct local_key keys[] = {{.prefix = {(const uint8_t *)"one:", 4}},
                                        {.prefix = {(const uint8_t *)"two:", 4}}};
static const struct provider kms = {.kind = PROVIDER_KMS_V2,
                                    .name = "vault",
                                    .prefix = {(const uint8_t *)"k8s:enc:kms:v2:vault:", 21}};
static const struct provider local = {.kind = PROVIDER_AESGCM,
                                      .name = "",
                                      .prefix = {(const uint8_t *)"k8s:enc:aesgcm:v1:", 18},
                                      .keys = keys,
                                      .key_count = 2};
static const struct provider plain = {.kind = PROVIDER_IDENTITY, .name = ""};
static const struct provider *const all[] = {&kms, &local, &plain};
static const struct provider_list secrets = {.v = all, .count = 3, .resource = "secrets"};

/* Sets of which nothing is looked at; the reference that the test keeps never goes. */
static struct ruleset sets[2];

static void on_end(struct loop_timer *t)
{
    struct fixture *f = CONTAINER_OF(t, struct fixture, end);

    loop_timer_fini(t);
    tally_free(f->tally);
    f->tally = NULL;
    mailbox_close(&f->control);
    loop_stop(&f->loop);
}

static void forget_all(void)
{
    for (int id = 0; id < SERIES_COUNT; id++)
        series_forget((enum series_id)id);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    assert_non_null(f);
    forget_all();
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        refcount_init(&sets[i].refs);
    assert_int_equal(loop_init(&f->loop), ERR_OK);
    assert_int_equal(mailbox_init(&f->control, &f->loop), ERR_OK);
    slab_pool_init(&f->pool, 4);
    assert_int_equal(tally_new(&f->loop, &f->control, &f->pool, &f->tally), ERR_OK);
    loop_timer_init(&f->end, on_end);
    f->dek.id.key_id = BYTES_LIT("key-1");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    mailbox_fini(&f->control);
    loop_fini(&f->loop);
    slab_pool_fini(&f->pool);
    free(f->plan.counts);
    free(f->plan.needs);
    free(f);
    forget_all();
    return 0;
}

static void add(struct fixture *f, const struct etcd_count *c)
{
    struct etcd_plan *p = &f->plan;

    if (p->counts == NULL) {
        p->counts = calloc(8, sizeof *p->counts);
        p->needs = calloc(1, sizeof *p->needs);
        assert_true(p->counts != NULL && p->needs != NULL);
        p->count_cap = 8;
        p->needs[0].dek = &f->dek;
        p->need_count = 1;
    }
    assert_true(p->count_count < p->count_cap);
    p->counts[p->count_count++] = *c;
}

/* Runs until everything is posted and taken, then looks. */
static void run(struct fixture *f, uint64_t ms)
{
    assert_int_equal(loop_timer_start(&f->loop, &f->end, ms), ERR_OK);
    loop_run(&f->loop);
}

static void assert_text(const char *const *want, size_t count, const char *const *not_want)
{
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);

    assert_non_null(f);
    assert_int_equal(series_write(f), ERR_OK);
    fclose(f);
    for (size_t i = 0; i < count; i++)
        if (strstr(text, want[i]) == NULL)
            fail_msg("missing %s in\n%.3000s", want[i], text);
    for (; *not_want != NULL; not_want++)
        assert_null(strstr(text, *not_want));
    free(text);
}

#define TRANSFORM "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\""
#define SECONDS "apiserver_storage_transformation_duration_seconds_"

static void test_values(void **state)
{
    struct fixture *f = *state;
    static const char *const want[] = {
        TRANSFORM
        "OK\",transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:kms:v2:vault:\"}"
        " 6\n",
        TRANSFORM "unknown-non-grpc\",transformation_type=\"from_storage\",transformer_prefix="
                  "\"k8s:enc:kms:v2:vault:\"} 1\n",
        TRANSFORM "Unavailable\",transformation_type=\"from_storage\",transformer_prefix="
                  "\"k8s:enc:kms:v2:vault:\"} 2\n",
        TRANSFORM
        "OK\",transformation_type=\"from_storage\",transformer_prefix=\"k8s:enc:aesgcm:v1:\"}"
        " 4\n",
        TRANSFORM "OK\",transformation_type=\"from_storage\",transformer_prefix=\"two:\"} 4\n",
        TRANSFORM "OK\",transformation_type=\"from_storage\",transformer_prefix=\"identity\"} 1\n",
        TRANSFORM "OK\",transformation_type=\"to_storage\",transformer_prefix=\"\"} 1\n",
        TRANSFORM "unknown-non-grpc\",transformation_type=\"from_storage\",transformer_prefix="
                  "\"unknown\"} 1\n",
        /* 3 values took 3 ms in the first plan and 300 ms in the second */
        SECONDS "count{transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:kms:v2:"
                "vault:\"} 6\n",
        SECONDS
        "bucket{transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:kms:v2:vault:\","
        "le=\"0.00128\"} 3\n",
        "key_id_hash_total{apiserver_id_hash=\"\",key_id_hash=\"sha256:"
        "be2974546978e3739e6d6da85c4be9f334c"
        "e32df2b9fd4b6ff1b55c0d57e9d44\",provider_name=\"vault\",transformation_type=\"to_"
        "storage\"} 6\n",
    };
    static const char *const not_want[] = {"\"one:\"", NULL};

    for (int i = 0; i < 2; i++) {
        add(f, &(struct etcd_count){.list = &secrets, .provider = &kms, .is_write = true, .n = 3});
        tally_plan(f->tally, &sets[i], &f->plan, i == 0 ? 3000000 : 300000000);
        assert_int_equal(f->plan.count_count, 0); /* forgotten: not counted twice */
        tally_plan(f->tally, &sets[i], &f->plan, 1000);
    }
    add(f,
        &(struct etcd_count){.list = &secrets, .provider = &kms, .err = ERR_AUTH_FAILED, .n = 1});
    add(f, &(struct etcd_count){.list = &secrets, .provider = &kms, .err = ERR_KMS_AWAY, .n = 2});
    add(f, &(struct etcd_count){
               .list = &secrets, .provider = &local, .key_index = 1, .need = UINT32_MAX, .n = 4});
    add(f, &(struct etcd_count){.list = &secrets, .provider = &plain, .need = UINT32_MAX, .n = 1});
    add(f, &(struct etcd_count){
               .list = &secrets, .provider = &plain, .need = UINT32_MAX, .is_write = true, .n = 1});
    add(f, &(struct etcd_count){
               .list = &secrets, .need = UINT32_MAX, .err = ERR_NO_MATCHING_PREFIX, .n = 1});
    tally_plan(f->tally, &sets[1], &f->plan, 1000000);
    run(f, 500);
    assert_text(want, ARRAY_LEN(want), not_want);
    for (size_t i = 0; i < ARRAY_LEN(sets); i++)
        assert_int_equal(sets[i].refs.n, 1); /* every batch has let go */
}

static void test_calls(void **state)
{
    struct fixture *f = *state;
    const struct etcd_method *put = etcd_method_find(BYTES_LIT("/etcdserverpb.KV/Put"));
    static const char *const want[] = {
        "grpc_calls_total{grpc_code=\"OK\",grpc_method=\"/etcdserverpb.KV/Put\"} 2\n",
        "grpc_calls_total{grpc_code=\"DataLoss\",grpc_method=\"/etcdserverpb.KV/Put\"} 1\n",
        "grpc_calls_total{grpc_code=\"Unimplemented\",grpc_method=\"unknown\"} 1\n",
        "grpc_calls_total{grpc_code=\"Unknown\",grpc_method=\"unknown\"} 1\n",
        "added_latency_seconds_count{grpc_method=\"/etcdserverpb.KV/Put\"} 1\n",
        "added_latency_seconds_sum{grpc_method=\"/etcdserverpb.KV/Put\"} 0.5\n",
    };
    static const char *const not_want[] = {"added_latency_seconds_count{grpc_method=\"unknown\"}",
                                           NULL};

    tally_call(f->tally, put, GRPC_OK);
    tally_call(f->tally, NULL, GRPC_UNIMPLEMENTED);
    tally_call(f->tally, NULL, (enum grpc_status)99);
    tally_call(f->tally, put, GRPC_DATA_LOSS);
    tally_call(f->tally, put, GRPC_OK);
    tally_added(f->tally, put, 500000000);
    run(f, 500);
    assert_text(want, ARRAY_LEN(want), not_want);
}

/* What the worker's slabs hold, while they hold it. */
static void test_held_bytes(void **state)
{
    struct fixture *f = *state;
    uint64_t before = metric_get(METRIC_held_bytes);

    f->pool.live_bytes = 12345;
    tally_call(f->tally, NULL, GRPC_OK);
    assert_int_equal(loop_timer_start(&f->loop, &f->end, 500), ERR_OK);
    for (int i = 0; i < 100 && metric_get(METRIC_held_bytes) == before; i++)
        uv_run(&f->loop.uv, UV_RUN_ONCE);
    assert_int_equal(metric_get(METRIC_held_bytes), before + 12345);
    f->pool.live_bytes = 0;
    loop_run(&f->loop);
    assert_int_equal(metric_get(METRIC_held_bytes), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held_bytes, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
