/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a rule set, a key of etcd, a value. Gives: what etcd would store under the key, or the
 * plaintext of what it stores. Owns: memory that values lie in. Thread: one without a loop. */
#ifndef TOOLS_CRYPT_H
#define TOOLS_CRYPT_H

#include "policy/ruleset.h"

#define TOOLS_WHY_MAX 4096

struct tools_crypt {
    const struct ruleset *rules; /* borrowed */
    const char *key;             /* of etcd; borrowed */
    const struct provider_list *list;
    struct envelope_ctx *ctx;
    struct slab_pool pool; /* of in and out */
    struct chain in;       /* the value: filled by the caller, in one slice */
    struct slice out;      /* the result */
    char why[TOOLS_WHY_MAX];
};

/* Nothing is protected under the key: list is NULL then. Errors: ERR_CRYPTO; fini is due in any
 * case. */
MUST_CHECK enum err tools_crypt_init(struct tools_crypt *c, const struct ruleset *rules,
                                     const char *key);
void tools_crypt_fini(struct tools_crypt *c);
/* Seals in with the first provider of the key's list; identity leaves it as it is. Errors, all with
 * why: ERR_REQ_SEALED_VALUE (it begins with k8s:enc:), those of tools_fetch_dek and envelope_seal.
 */
MUST_CHECK enum err tools_encrypt(struct tools_crypt *c);
/* Opens in with the provider of the list that fits. Errors, all with why: those of
 * envelope_identify, tools_fetch_dek and envelope_open_scratch; err_status DATA_LOSS: the value
 * does not open. */
MUST_CHECK enum err tools_decrypt(struct tools_crypt *c);

#endif
