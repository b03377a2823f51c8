/* SPDX-License-Identifier: Apache-2.0 */
/* Values that their DEK did not open a moment ago: such a DEK is not kept, so without this each
 * read of a damaged value would be a call of the plugin. What is remembered is the pair, for the
 * DEK may well open other values, and a digest tells the pair apart: the stored value has the name
 * of its DEK in it. */
#include "etcd/plan_int.h"

static bool is_doubtful(const struct etcd_plan *p, const struct etcd_op *op)
{
    return (op->kind == ETCD__OPEN || op->kind == ETCD__CHECK) && op->u.value->need != ETCD__NONE &&
           p->needs[op->u.value->need].is_doubtful;
}

static enum err look_up(struct etcd_plan *p, struct envelope_ctx *ctx, struct chain_pos *pos,
                        struct etcd__value *v, etcd_refusal_fn refusal, void *user)
{
    uint8_t digest[DEK_DIGEST_LEN];

    chain_skip(pos, v->at - pos->at);
    TRY(envelope_value_digest(ctx, v->key, *pos, v->len, digest));
    v->err = refusal(user, &p->needs[v->need], digest);
    return ERR_OK;
}

static enum err refuse(struct etcd_plan *p, const struct etcd__value *v)
{
    const struct etcd_count c = {.list = v->list,
                                 .provider = v->v.provider,
                                 .key_index = v->v.key_index,
                                 .need = v->need,
                                 .err = v->err};

    etcd__plan_count(p, &c, 1);
    return etcd__plan_fail(p, v->err, v->key);
}

enum err etcd_plan_check_doubtful(struct etcd_plan *p, struct envelope_ctx *ctx,
                                  const struct chain *msg, bool alone, etcd_refusal_fn refusal,
                                  void *user)
{
    struct chain_pos pos = chain_seek(msg, p->part.at);

    for (size_t i = 0; i < p->need_count; i++)
        p->needs[i].is_refused = p->needs[i].is_doubtful;
    for (size_t i = 0; i < p->op_count; i++) {
        struct etcd__value *v = p->ops[i].u.value;

        if (!is_doubtful(p, &p->ops[i]))
            continue;
        TRY(look_up(p, ctx, &pos, v, refusal, user));
        if (v->err == ERR_OK)
            p->needs[v->need].is_refused = false;
        else if (!alone)
            return refuse(p, v);
    }
    return ERR_OK;
}
