/* SPDX-License-Identifier: Apache-2.0 */
#include "sweep/count.h"

#include <stdlib.h>

#include "etcd/message.h"

#define ANSWER_MAX 4096u

static void ask(struct sweep_count *c);

static void on_answer(void *arg, const struct client_answer *a)
{
    struct sweep_count *c = arg;
    struct etcd_range_answer answer;

    if (a->err == ERR_OK && a->status == GRPC_OK &&
        etcd_message_read_range(a->body, &answer) == ERR_OK && answer.count > 0)
        c->count += (uint64_t)answer.count;
    if (a->err == ERR_OK && a->status == GRPC_OK && ++c->range_at < c->ranges.count)
        ask(c);
    else
        c->fn(c, a);
}

static void ask(struct sweep_count *c)
{
    const struct sweep_range *range = &c->ranges.v[c->range_at];
    const struct etcd_range_request r = {
        .key = range->key, .range_end = range->end, .count_only = true};
    size_t cap = r.key.n + r.range_end.n + 64;
    uint8_t *request = realloc(c->request, cap);
    struct client_answer failed = {.err = ERR_NOMEM, .message = "out of memory"};
    struct etcd_message m;
    struct bytes body;

    if (request == NULL) {
        c->fn(c, &failed);
        return;
    }
    c->request = request;
    etcd_message_init(&m, request, cap);
    etcd_message_put_range(&m, &r);
    CHECK(etcd_message_body(&m, &body) == ERR_OK);
    sweep_call_start(&c->call, c->etcd, ETCD_RANGE_PATH, body, ANSWER_MAX, on_answer, c);
}

enum err sweep_count_start(struct sweep_count *c, struct sweep_etcd *etcd,
                           const struct ruleset *rules, const struct sweep_filter *f,
                           void (*fn)(struct sweep_count *self, const struct client_answer *a))
{
    *c = (struct sweep_count){.etcd = etcd, .fn = fn};
    TRY(sweep_ranges_make(rules, f, &c->ranges));
    if (c->ranges.count == 0)
        return ERR_CONFIG;
    ask(c);
    return ERR_OK;
}

void sweep_count_fini(struct sweep_count *c)
{
    sweep_call_cancel(&c->call);
    sweep_ranges_fini(&c->ranges);
    free(c->request);
    c->request = NULL;
}
