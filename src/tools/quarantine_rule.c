/* SPDX-License-Identifier: Apache-2.0 */
/* What may be moved out of the way: a value of which it is proven that it is wrong, not one whose
 * key is away. */
#include "tools/quarantine_int.h"

/* NULL: no key could open it, or the one that it names was there and did not. */
static const char *doubt(const struct tools__case *k)
{
    switch (k->err) {
    case ERR_AUTH_FAILED:
        if (k->provider != NULL && provider_traits(k->provider)->has_cbc_past &&
            !k->provider->cbc_reads)
            return "it may be one of a kube-apiserver before v1.25: try --kms-v1-cbc-reads";
        return NULL;
    case ERR_TOO_SHORT:
    case ERR_BAD_BLOCK_SIZE:
    case ERR_BAD_PADDING:
    case ERR_PROTOBUF_MALFORMED:
    case ERR_INVALID_UTF8:
    case ERR_ENCRYPTED_DATA_EMPTY:
    case ERR_DEK_SOURCE_EMPTY:
    case ERR_DEK_SOURCE_TOO_LONG:
    case ERR_KEY_ID_EMPTY:
    case ERR_KEY_ID_TOO_LONG:
    case ERR_ANNOTATIONS_INVALID:
    case ERR_V1_BAD_LENGTH_PREFIX:
        return NULL;
    case ERR_NO_MATCHING_PREFIX:
    case ERR_NO_MATCHING_KEY:
    case ERR_IDENTITY_SAW_ENCRYPTED:
        return "the configuration does not have the provider or key that it names: maybe the value "
               "is good";
    case ERR_KMS_ERROR:
    case ERR_BAD_DEK_SIZE:
        return "its plugin does not give the key for it: maybe the value is good";
    default:
        return "it is not proven that the value is wrong";
    }
}

static const char *doubt_about_plaintext(const struct quarantine *q, const struct tools__case *k)
{
    if (k->err == ERR_OK)
        return "it opens";
    return q->o->has_plaintext ? NULL
                               : "it is plaintext, only refused for identity is not in its list: a "
                                 "copy would be plaintext, too (--include-plaintext)";
}

static const char *doubt_to_quarantine(const struct quarantine *q, const struct tools__case *k)
{
    if (!k->is_found && k->is_in_the_way)
        return "it is in quarantine already: its copy is there, and --restore brings it back";
    if (!k->is_found)
        return "there is no such key in etcd";
    if (k->state == SWEEP_PLAINTEXT)
        return doubt_about_plaintext(q, k);
    return k->state == SWEEP_UNREADABLE ? doubt(k) : "it opens";
}

/* Whoever can write to where copies lie cannot make plaintext of it under a protected key. */
static const char *doubt_to_restore(const struct quarantine *q, const struct tools__case *k)
{
    if (!k->is_found)
        return "there is no copy of it";
    if (k->is_in_the_way)
        return "the key is there again: what it has is not overwritten";
    if (k->state == SWEEP_PLAINTEXT && k->err != ERR_OK && !q->o->has_plaintext)
        return "the copy is plaintext, and identity is not in its list (--include-plaintext)";
    if (k->state == SWEEP_UNREADABLE && !q->o->has_unreadable)
        return "it still does not open: lists would break again (--allow-unreadable)";
    return NULL;
}

/* The copy is not all that is left of the object. */
static const char *doubt_to_discard(const struct tools__case *k)
{
    if (!k->is_found)
        return "there is no copy of it";
    if (!k->is_in_the_way)
        return "the key is not there again: the copy is all that is left of it";
    if (k->state == SWEEP_UNREADABLE || k->err != ERR_OK)
        return "what the key has now does not open either";
    return NULL;
}

void tools__quarantine_judge(const struct quarantine *q, struct tools__case *k)
{
    k->why = q->o->is_discard   ? doubt_to_discard(k)
             : q->o->is_restore ? doubt_to_restore(q, k)
                                : doubt_to_quarantine(q, k);
    k->fate = k->why == NULL ? TOOLS__ALLOWED : TOOLS__REFUSED;
}

const char *tools__quarantine_bad_kind(const struct quarantine *q)
{
    for (size_t i = 0; i < q->counts.count; i++) {
        const struct tools_resource_count *r = &q->counts.v[i];

        if ((r->states[SWEEP_UNREADABLE] + r->unread_plain) * 100 > q->o->percent * r->count)
            return r->resource;
    }
    return NULL;
}
