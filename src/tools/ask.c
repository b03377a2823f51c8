/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/ask_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

void tools__ask(struct tools__ask *a, struct sweep_etcd *etcd, const struct etcd_range_request *r,
                client_answer_fn fn, void *arg)
{
    size_t cap = r->key.n + r->range_end.n + 64;
    struct etcd_message m;
    struct bytes body;

    free(a->request);
    a->request = base_xcalloc(cap, 1);
    etcd_message_init(&m, a->request, cap);
    etcd_message_put_range(&m, r);
    CHECK(etcd_message_body(&m, &body) == ERR_OK);
    sweep_call_start(&a->call, etcd, ETCD_RANGE_PATH, body, LIMIT_ANSWER_UNIT, fn, arg);
}

void tools__ask_cancel(struct tools__ask *a)
{
    sweep_call_cancel(&a->call);
}

void tools__ask_fini(struct tools__ask *a)
{
    sweep_call_cancel(&a->call);
    free(a->request);
    a->request = NULL;
}

enum err tools__answer_judge(const struct client_answer *answer, char *why, size_t why_len)
{
    if (answer->err != ERR_OK) {
        snprintf(why, why_len, "%s", answer->message);
        return answer->err;
    }
    if (answer->status == GRPC_OK)
        return ERR_OK;
    snprintf(why, why_len, "etcd refuses a request: %s: %.300s", grpc_status_name(answer->status),
             answer->message);
    return ERR_SYSTEM;
}
