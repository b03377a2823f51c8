/* SPDX-License-Identifier: Apache-2.0 */
/* What a lane does with one message, by kind: the plan alone, and plan and apply together. The
 * messages are those of the load generator. */
#include "../load/wire.h"
#include "micro.h"

struct messages {
    struct micro *m;
    enum etcd_content content;
    bool is_answer;
    struct buf wire;
    struct chain msg[MICRO_BATCH];
    struct etcd_ask ask;
    struct etcd_plan plan;
};

static struct micro m;

static void seal_field(struct bytes key, struct bytes value, uint32_t number, struct buf *out)
{
    uint8_t sealed[4096];
    struct chain in = {0};
    size_t n;

    micro_must(envelope_sealed_len(&m.provider, m.dek, value.n, &n));
    micro_must(n <= sizeof sealed ? ERR_OK : ERR_MESSAGE_TOO_LARGE);
    micro_must(chain_push_copy(&in, &m.pool, value.p, value.n, 0));
    micro_must(envelope_seal(m.ctx, &m.provider, m.dek, key, chain_begin(&in), value.n, sealed));
    chain_fini(&in);
    buf_field(out, number, bytes_of(sealed, n));
}

static void prepare(void *arg, size_t i)
{
    struct messages *k = arg;

    chain_clear(&k->msg[i]);
    micro_must(chain_push_copy(&k->msg[i], &m.pool, k->wire.p, k->wire.n, 0));
}

static enum etcd_verdict scan(struct messages *k, size_t i)
{
    if (k->is_answer)
        return etcd_scan_answer(&k->plan, k->content, m.rules, &k->msg[i], &k->ask);
    etcd_ask_fini(&k->ask);
    return etcd_scan_request(&k->plan, k->content, m.rules, &k->msg[i], &k->ask);
}

static void scan_run(void *arg, size_t i)
{
    struct messages *k = arg;

    if (scan(k, i) == ETCD_REJECT)
        micro_must(k->plan.err);
}

static void lane_run(void *arg, size_t i)
{
    struct messages *k = arg;
    struct sealed_msg up = {{0}};
    struct chain down = {0};
    enum etcd_verdict verdict = scan(k, i);

    if (verdict == ETCD_REJECT)
        micro_must(k->plan.err);
    if (verdict != ETCD_EDIT)
        return;
    for (size_t n = 0; n < k->plan.need_count; n++)
        k->plan.needs[n].dek = dek_ref(m.dek);
    if (k->is_answer)
        micro_must(etcd_apply_answer(&k->plan, m.ctx, &m.pool, &k->msg[i], &down));
    else
        micro_must(etcd_apply_request(&k->plan, m.ctx, &m.pool, &k->msg[i], &up));
    sealed_msg_fini(&up);
    chain_fini(&down);
}

static void measure_message(struct messages *k, const char *plan, const char *both)
{
    micro_measure(&(struct micro_case){"etcd", plan, k->wire.n, k, prepare, scan_run});
    micro_measure(&(struct micro_case){"etcd", both, k->wire.n, k, prepare, lane_run});
    etcd_ask_fini(&k->ask);
    etcd_plan_fini(&k->plan);
    for (size_t i = 0; i < MICRO_BATCH; i++)
        chain_fini(&k->msg[i]);
    buf_free(&k->wire);
}

/* What the request of this kind asks for. */
static void ask_of(enum kind kind, enum etcd_content content, struct etcd_ask *ask)
{
    struct etcd_plan plan = {0};
    struct chain msg = {0};
    struct buf wire = {0};

    wire_request(&wire, kind, "", 1, 1024);
    micro_must(chain_push_copy(&msg, &m.pool, wire.p, wire.n, 0));
    if (etcd_scan_request(&plan, content, m.rules, &msg, ask) == ETCD_REJECT)
        micro_must(plan.err);
    etcd_plan_fini(&plan);
    chain_fini(&msg);
    buf_free(&wire);
}

static void measure_kind(enum kind kind, enum etcd_content content, const char *const names[4])
{
    static struct messages k;

    k = (struct messages){.content = content};
    wire_request(&k.wire, kind, "", 1, 1024);
    measure_message(&k, names[0], names[1]);
    k = (struct messages){.content = content, .is_answer = true};
    ask_of(kind, content, &k.ask);
    wire_answer(&k.wire, kind, seal_field);
    measure_message(&k, names[2], names[3]);
}

static void measure_event(void)
{
    static struct messages k;
    const struct etcd_range all = {.key = BYTES_LIT(WIRE_KEYS), .end = BYTES_LIT("/registry/t")};

    k = (struct messages){.content = ETCD_WATCH, .is_answer = true};
    micro_must(etcd_ask_create(&k.ask, 0, &all));
    micro_must(etcd_ask_created(&k.ask, 0, false));
    wire_watch_event(&k.wire, 1, seal_field);
    measure_message(&k, "plan watch event", "lane watch event");
}

int main(void)
{
    micro_init(&m);
    measure_kind(KIND_RANGE, ETCD_RANGE,
                 (const char *const[]){"plan range request", "lane range request",
                                       "plan range answer", "lane range answer"});
    measure_kind(KIND_PUT, ETCD_PUT,
                 (const char *const[]){"plan put request", "lane put request", "plan put answer",
                                       "lane put answer"});
    measure_kind(KIND_TXN, ETCD_TXN,
                 (const char *const[]){"plan txn request", "lane txn request", "plan txn answer",
                                       "lane txn answer"});
    measure_kind(KIND_LIST_500, ETCD_RANGE,
                 (const char *const[]){"plan list request", "lane list request", "plan list of 500",
                                       "lane list of 500"});
    measure_event();
    return 0;
}
