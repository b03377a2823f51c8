/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a Txn, which nest: noted from the request, and the answer is held to them.
 *
 *   TxnRequest  { success(2) failure(3): RequestOp  { range(1) put(2) delete(3) txn(4) } }
 *   TxnResponse { succeeded(2) responses(3): ResponseOp { the same } }
 *
 * Response i answers operation i of the branch that `succeeded` names, at every depth; so a value
 * can't be given as the answer to another operation, whose range or keys_only it would fit.
 *
 * The walk calls on_enter and on_leave of the messages that it is in, be it over a whole message or
 * over one that is still arriving. */
#include "etcd/walk_int.h"

enum { FAILURE = 3, SUCCESS = 2 }; /* fields of TxnRequest */
enum { SUCCEEDED = 2 };            /* field of TxnResponse */

void etcd__txn_init(struct etcd__txn *t, struct etcd_ask *ask)
{
    t->ask = ask;
    t->op = t->depth = 0;
    t->has_member = false;
}

static struct etcd__txn_level *top(struct etcd__txn *t)
{
    return &t->levels[t->depth - 1];
}

/* The walk enters the Txn that is operation op. */
static void push(struct etcd__txn *t, uint32_t op)
{
    CHECK(t->depth < ARRAY_LEN(t->levels)); /* LIMIT_DEPTH holds for messages, and a Txn is two */
    t->levels[t->depth++] = (struct etcd__txn_level){.op = op};
}

static void pop(struct etcd__txn *t)
{
    t->op = t->levels[--t->depth].op;
}

/* --- the request ----------------------------------------------------------------------------- */

enum err etcd__txn_enter(struct etcd__txn *t, uint32_t number)
{
    (void)number;
    if (t->depth == 0)
        TRY(etcd_ask_txn(t->ask));
    else
        TRY(etcd_ask_set(t->ask, t->op, ETCD_ASKED_TXN, NULL));
    push(t, t->op);
    return ERR_OK;
}

enum err etcd__txn_leave(struct etcd__txn *t)
{
    pop(t);
    return ERR_OK;
}

enum err etcd__txn_op_enter(struct etcd__txn *t, uint32_t number)
{
    DCHECK(number == SUCCESS || number == FAILURE);
    return etcd_ask_op(t->ask, top(t)->op, number == SUCCESS, &t->op);
}

enum err etcd__txn_ask(struct etcd__txn *t, enum etcd_asked kind, const struct etcd_range *r)
{
    if (t->depth == 0)
        return etcd_ask_add(t->ask, kind, r);
    return etcd_ask_set(t->ask, t->op, kind, r);
}

/* --- the answer ------------------------------------------------------------------------------ */

static enum etcd_asked asked(const struct etcd__txn *t)
{
    return t->op < t->ask->op_count ? t->ask->ops[t->op].kind : ETCD_ASKED_NOTHING;
}

/* The branch is known by now: `succeeded` stands before the responses. */
static void choose_branch(struct etcd__txn *t)
{
    struct etcd__txn_level *l = top(t);

    if (l->has_branch)
        return;
    l->has_branch = true;
    l->next = t->ask->ops[l->op].first[l->has_succeeded];
}

enum err etcd__txn_answer_enter(struct etcd__txn *t, uint32_t number)
{
    (void)number;
    if (asked(t) != ETCD_ASKED_TXN)
        return ERR_ANS_OUTSIDE;
    push(t, t->op);
    return ERR_OK;
}

enum err etcd__txn_answer_field(struct etcd__txn *t, const struct pb_field *f)
{
    struct etcd__txn_level *l = top(t);

    if (f->number != SUCCEEDED)
        return ERR_OK;
    if (l->has_branch) /* the responses before it were held to what it was then */
        return ERR_ANS_MALFORMED;
    l->has_succeeded = f->varint != 0;
    return ERR_OK;
}

enum err etcd__txn_answer_leave(struct etcd__txn *t)
{
    choose_branch(t);
    if (top(t)->next != 0) /* an operation without a response */
        return ERR_ANS_OUTSIDE;
    pop(t);
    t->has_member = true; /* of the response that it was in */
    return ERR_OK;
}

enum err etcd__txn_response_enter(struct etcd__txn *t, uint32_t number)
{
    struct etcd__txn_level *l = top(t);

    (void)number;
    choose_branch(t);
    if (l->next == 0) /* a response without an operation */
        return ERR_ANS_OUTSIDE;
    t->op = l->next;
    l->next = t->ask->ops[t->op].next;
    t->has_member = false;
    return ERR_OK;
}

enum err etcd__txn_response_leave(struct etcd__txn *t)
{
    return t->has_member ? ERR_OK : ERR_ANS_OUTSIDE;
}

enum err etcd__txn_member_enter(struct etcd__txn *t, uint32_t number)
{
    if (t->depth == 0) /* the answer to a call of its own */
        return ERR_OK;
    t->has_member = true;
    return asked(t) == (enum etcd_asked)number ? ERR_OK : ERR_ANS_OUTSIDE;
}
