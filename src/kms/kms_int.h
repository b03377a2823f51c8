/* SPDX-License-Identifier: Apache-2.0 */
/* The mail between key rings and their manager. Thread: each type says who may touch it. */
#ifndef KMS_KMS_INT_H
#define KMS_KMS_INT_H

#include "base/refcount.h"
#include "kms/keyring.h"

/* What the manager holds of a ring: it may outlive the ring. */
struct ring_handle {
    struct refcount refs;
    struct mailbox *worker_box;
    struct keyring *ring; /* the worker's thread only; NULL once the ring is gone */
};

static inline struct ring_handle *ring_handle_ref(struct ring_handle *h)
{
    refcount_ref(&h->refs);
    return h;
}
void kms__ring_handle_drop(struct ring_handle *h);
/* Of a living ring, from any thread that was handed it. A reference, the caller's to drop. */
struct ring_handle *kms__ring_handle(struct keyring *r);

/* Says on both threads whether anybody still waits for what a request asks for. */
struct dek_ticket {
    struct refcount refs; /* the ring's entry and the request */
    atomic_bool is_given_up;
};
/* NULL: no memory. */
MUST_CHECK struct dek_ticket *kms__ticket_new(void);
void kms__ticket_drop(struct dek_ticket *t);

/* A request for one DEK. The same object travels back as the answer, so answering needs no
 * memory. */
struct dek_request {
    struct mail mail; /* at the manager its node queues it */
    struct mailbox *to;
    struct ring_handle *ring;  /* a reference */
    struct dek_ticket *ticket; /* a reference */
    uint64_t asker;            /* of struct key_asker; 0: nobody in particular */
    uint32_t slot;
    uint8_t digest[DEK_DIGEST_LEN]; /* of id; of a wrap: unlike any other's */
    bool is_wrap;                   /* KMS v1: a new DEK for one value, wrapped */
    uint64_t deadline_ms;
    struct dek_id id; /* points behind this object */
    /* the answer */
    enum err err;
    struct dek *dek;   /* a reference, when err is ERR_OK */
    uint64_t until_ms; /* of a refusal: remember it so long; 0: don't */
};

/* A request for the DEK of id, which is copied; the other fields are the caller's. NULL: no
 * memory. */
MUST_CHECK struct dek_request *kms__request_new(const struct dek_id *id);
void kms__request_free(struct dek_request *a);
/* The receivers: kms__request_deliver in manager.c, kms__answer_deliver in waits.c. */
void kms__request_deliver(struct mail *self, bool delivered);
void kms__answer_deliver(struct mail *self, bool delivered);

/* A DEK that opened a value: ring to manager. */
struct kms_confirm {
    struct mail mail;
    struct mailbox *to;
    uint32_t slot;
    uint8_t digest[DEK_DIGEST_LEN];
    struct dek *dek; /* a reference */
};
void kms__confirm_deliver(struct mail *self, bool delivered);

/* Manager to ring. */
enum kms_news_kind {
    KMS_NEWS_STATE,     /* the plugin was reached: its write DEK, and until when it may be used */
    KMS_NEWS_MAKE_ROOM, /* secret memory is full: the caches make room */
};

struct kms_news {
    struct mail mail;
    struct ring_handle *ring; /* a reference */
    enum kms_news_kind kind;
    uint32_t slot;
    struct dek *dek; /* a reference; NULL with KMS v1, which has no write DEK */
    uint64_t expiry_ms;
};
void kms__news_deliver(struct mail *self, bool delivered);

#endif
