/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by quarantine.c and quarantine_list.c: one question for keys of etcd's after the other,
 * each asked when the answer to the one before is there. */
#ifndef TOOLS_ASK_INT_H
#define TOOLS_ASK_INT_H

#include "etcd/message.h"
#include "sweep/etcd.h"

/* Zero-initialised: nothing was asked. */
struct tools__ask {
    struct sweep_call call;
    uint8_t *request; /* heap; of the call that is under way, or was */
};

/* fn gets the answer, with arg; it may ask again. */
void tools__ask(struct tools__ask *a, struct sweep_etcd *etcd, const struct etcd_range_request *r,
                client_answer_fn fn, void *arg);
/* fn is not called any more. */
void tools__ask_cancel(struct tools__ask *a);
/* Cancels and frees. */
void tools__ask_fini(struct tools__ask *a);

/* Is it an answer of etcd's? Errors, with why: that of the call; ERR_SYSTEM when etcd refuses. */
MUST_CHECK enum err tools__answer_judge(const struct client_answer *answer, char *why,
                                        size_t why_len);

#endif
