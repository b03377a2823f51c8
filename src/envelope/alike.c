/* SPDX-License-Identifier: Apache-2.0 */
/* The values of a list are alike: one provider, one DEK, and so the same bytes before the data and
 * behind it.
 *
 *   k8s:enc:kms:v2:NAME:  0a length  data ....  key id, wrapped DEK, annotations, type
 *   `---- prefix -----'   `- head -'            `------------- tail -------------'
 *
 * A value with the prefix and the tail of one that was identified is identified by comparing
 * these: the tail was parsed and found valid then. It is enough only where no other provider of
 * the list may fit, so a list in which a prefix begins with another one (identity's aside, which
 * refuses what begins like a sealed value) has no values that are alike. */
#include "envelope/envelope_int.h"
#include "pb/pb.h"

#define TAG_DATA 0x0a
#define LENGTH_MAX 5u /* bytes of a length below 2^35; longer ones are left to the parser */

static bool is_apart(const struct provider *a, const struct provider *b)
{
    if (provider_traits(b)->is_identity)
        return true;
    return !bytes_has_prefix(a->prefix, b->prefix) && !bytes_has_prefix(b->prefix, a->prefix);
}

/* The place of the one provider that a value with this begin may be for. False: there may be
 * several, or none of a kind whose values are ever alike. */
static bool find_provider(const struct provider_list *list, struct chain_pos pos, size_t len,
                          uint32_t *out)
{
    uint32_t i = 0;

    while (i < list->count && (list->v[i]->kind != PROVIDER_KMS_V2 ||
                               !envelope__begins_with(pos, len, list->v[i]->prefix)))
        i++;
    *out = i;
    for (uint32_t k = 0; i < list->count && k < list->count; k++) {
        if (k != i && !is_apart(list->v[i], list->v[k]))
            return false;
    }
    return i < list->count;
}

/* Reads tag and length of the data at p. Returns how many bytes they are, or 0. */
static inline size_t data_head(const uint8_t *p, const uint8_t *end, size_t *data_len)
{
    uint64_t v = 0;

    if (p >= end || *p != TAG_DATA)
        return 0;
    for (uint32_t i = 0; i < LENGTH_MAX && p + 1 + i < end; i++) {
        v |= (uint64_t)(p[1 + i] & 0x7f) << (7 * i);
        if (p[1 + i] < 0x80) {
            *data_len = (size_t)v;
            return 2 + i;
        }
    }
    return 0;
}

bool envelope_alike_find(struct envelope_alike *a, const struct provider_list *list,
                         struct chain_pos pos, size_t len, struct arena *arena)
{
    uint8_t head[1 + LENGTH_MAX];
    size_t n, used, data_len;
    uint32_t i;

    a->provider = NULL;
    if (!find_provider(list, pos, len, &i))
        return false;
    chain_skip(&pos, list->v[i]->prefix.n);
    len -= list->v[i]->prefix.n;
    n = len < sizeof head ? len : sizeof head;
    chain_take(&(struct chain_pos){pos.chain, pos.index, pos.off, pos.at}, head, n);
    used = data_head(head, head + n, &data_len);
    if (used == 0 || data_len >= len - used)
        return false;
    chain_skip(&pos, used + data_len);
    if (envelope__contiguous(pos, len - used - data_len, arena, &a->tail) != ERR_OK)
        return false;
    a->provider = list->v[i];
    a->provider_index = i;
    return true;
}

void envelope_alike_set(struct envelope_alike *a, const struct dek_id *id)
{
    a->overhead = envelope__kmsv2_overhead(id->type);
    a->value = (struct envelope_value){.form = ENVELOPE_IN_PLACE,
                                       .needs_dek = true,
                                       .is_stale = a->provider_index != 0,
                                       .provider = a->provider,
                                       .provider_index = a->provider_index,
                                       .plain_at = a->overhead - ENVELOPE__TAG_LEN,
                                       .id = *id,
                                       .tail = a->tail};
}

size_t envelope_alike_data(const struct envelope_alike *a, struct bytes begin, size_t len,
                           size_t *data_at)
{
    size_t prefix = a->provider->prefix.n, used, data_len;

    if (!bytes_has_prefix(begin, a->provider->prefix))
        return 0;
    used = data_head(begin.p + prefix, begin.p + begin.n, &data_len);
    if (used == 0 || data_len <= a->overhead || data_len >= len ||
        len - data_len != prefix + used + a->tail.n)
        return 0;
    *data_at = prefix + used;
    return data_len;
}
