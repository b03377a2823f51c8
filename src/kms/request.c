/* SPDX-License-Identifier: Apache-2.0 */
/* What travels between a key ring and its manager: the handle that outlives a ring, the ticket that
 * says whether anybody still waits, and the request, which comes back as the answer. */
#include <stdlib.h>
#include <string.h>

#include "kms/kms_int.h"

void kms__ring_handle_drop(struct ring_handle *h)
{
    if (refcount_drop(&h->refs))
        free(h);
}

void kms__ticket_drop(struct dek_ticket *t)
{
    if (refcount_drop(&t->refs))
        free(t);
}

struct dek_ticket *kms__ticket_new(void)
{
    struct dek_ticket *t = malloc(sizeof *t);

    if (t == NULL)
        return NULL;
    refcount_init(&t->refs);
    atomic_init(&t->is_given_up, false);
    return t;
}

void kms__request_free(struct dek_request *a)
{
    kms__ring_handle_drop(a->ring);
    kms__ticket_drop(a->ticket);
    dek_drop(a->dek);
    free(a);
}

static uint8_t *put_bytes(uint8_t *at, struct bytes from, struct bytes *to)
{
    if (from.n > 0)
        memcpy(at, from.p, from.n);
    *to = bytes_of(at, from.n);
    return at + from.n;
}

/* One block: the request, then the annotations, then their bytes. */
struct dek_request *kms__request_new(const struct dek_id *id)
{
    size_t text_len = id->key_id.n + id->wrapped.n;
    struct dek_annotation *annotations;
    struct dek_request *a;
    uint8_t *at;

    for (uint32_t i = 0; i < id->annotation_count; i++)
        text_len += id->annotations[i].key.n + id->annotations[i].value.n;
    a = calloc(1, sizeof *a + id->annotation_count * sizeof *annotations + text_len);
    if (a == NULL)
        return NULL;
    annotations = (struct dek_annotation *)(void *)(a + 1);
    at = (uint8_t *)(annotations + id->annotation_count);
    a->id = (struct dek_id){
        .type = id->type, .annotation_count = id->annotation_count, .annotations = annotations};
    at = put_bytes(at, id->key_id, &a->id.key_id);
    at = put_bytes(at, id->wrapped, &a->id.wrapped);
    for (uint32_t i = 0; i < id->annotation_count; i++) {
        at = put_bytes(at, id->annotations[i].key, &annotations[i].key);
        at = put_bytes(at, id->annotations[i].value, &annotations[i].value);
    }
    return a;
}
