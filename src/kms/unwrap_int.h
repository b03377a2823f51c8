/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the rings' requests for DEKs of one plugin, to be unwrapped or (KMS v1) made. Gives:
 * each its answer. Owns: the requests until they are answered, the caches of confirmed and of
 * refused DEKs. Thread: control. */
#ifndef KMS_UNWRAP_INT_H
#define KMS_UNWRAP_INT_H

#include "kms/cache_int.h"
#include "kms/kms_int.h"
#include "kms/plugin_int.h"
#include "kms/turns_int.h"

#define UNWRAP_CALLS_MAX 64u        /* concurrent Decrypt calls of a plugin */
#define UNWRAP_CACHE_MAX 4096u      /* confirmed DEKs */
#define UNWRAP_REFUSED_MAX 4096u    /* remembered refusals */
#define UNWRAP_HELD_MAX (32u << 20) /* bytes of requests that wait; beyond, ERR_MEMORY_LIMIT */

struct unwraps {
    struct loop *loop;
    struct plugin *plugin;
    struct dek_cache confirmed;
    struct dek_cache refused;
    struct list *buckets; /* every unwrap, by digest */
    struct list queued; /* may be called when one of the calls is free; turns says in which order */
    struct turns turns;
    struct list parked; /* wait for the plugin's first good check, or a pause before the next try */
    struct list calling;
    uint32_t calling_count;
    size_t held_bytes;
    struct loop_timer tick; /* while anything is queued or parked */
};

MUST_CHECK enum err unwraps_init(struct unwraps *u, struct loop *loop, struct plugin *plugin);
/* Drops requests without an answer. */
void unwraps_fini(struct unwraps *u);
/* Takes request. */
void unwraps_request(struct unwraps *u, struct dek_request *request);
void unwraps_confirm(struct unwraps *u, const uint8_t digest[static DEK_DIGEST_LEN],
                     struct dek *dek);
/* The plugin has a new write DEK: it is in the cache from now on, and requests that waited go on.
 * */
void unwraps_on_state(struct unwraps *u);
/* Secret memory is full: the confirmed DEKs that were used longest ago make room. */
void unwraps_make_room(struct unwraps *u);

#endif
