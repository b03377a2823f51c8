/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what is known of DEKs (the DEK, or that the plugin refuses it), by digest of the DEK's
 * id. Gives: it back, until its time is over. Owns: a reference to each DEK. Thread: the owner's.
 *
 * Bounded: the entry that was used longest ago makes room. The bound may come from a configuration
 * file and be huge: memory grows with the entries that there are, never with the bound. */
#ifndef KMS_CACHE_INT_H
#define KMS_CACHE_INT_H

#include "base/list.h"
#include "envelope/envelope.h"

#define DEK_CACHE_TTL_MS                                                                           \
    (24ull * 3600 * 1000) /* as in kube-apiserver; counted from the insertion */

struct dek_cache_entry {
    struct list bucket;
    struct list age;
    uint8_t digest[DEK_DIGEST_LEN];
    uint64_t until_ms;
    enum err err;    /* ERR_OK, or the refusal */
    struct dek *dek; /* NULL for a refusal */
};

struct dek_cache {
    struct list *buckets;
    size_t bucket_count; /* a power of two */
    struct list age;     /* last: used last */
    size_t count, max;
    bool is_counted; /* in the metric dek_cache_size */
};

MUST_CHECK enum err dek_cache_init(struct dek_cache *c, size_t max, bool is_counted);
void dek_cache_fini(struct dek_cache *c);
/* NULL when not there or over. Valid until the next call. */
const struct dek_cache_entry *
dek_cache_find(struct dek_cache *c, const uint8_t digest[static DEK_DIGEST_LEN], uint64_t now_ms);
/* Puts in or renews; refs dek. When memory is out it is just not kept. */
void dek_cache_put(struct dek_cache *c, const uint8_t digest[static DEK_DIGEST_LEN],
                   struct dek *dek, enum err err, uint64_t until_ms);
/* Drops the n entries that were used longest ago. */
void dek_cache_evict(struct dek_cache *c, size_t n);

/* A look at the few entries that were used last, without the cost of a digest: the values of a list
 * are sealed with few DEKs. NULL or false does not mean that it is not there. */
struct dek *dek_cache_recent(const struct dek_cache *c, const struct dek_id *id, uint64_t now_ms);
struct dek *dek_cache_recent_tail(const struct dek_cache *c, struct bytes tail, uint64_t now_ms);
bool dek_cache_has_recent(const struct dek_cache *c, const struct dek *dek, uint64_t now_ms);

#endif
