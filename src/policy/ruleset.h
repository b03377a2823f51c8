/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a checked EncryptionConfiguration and the rules on keys made from it. Gives: what the
 * lanes and the key manager work with: providers, lists, the key index. Owns: all of it. Thread:
 * built by the control thread, then immutable and shared by reference. */
#ifndef POLICY_RULESET_H
#define POLICY_RULESET_H

#include "config/resources.h"
#include "envelope/envelope.h"
#include "etcd/rules.h"
#include "kms/manager.h"

struct ruleset {
    struct refcount refs;
    struct enc_config *config;
    struct key_rules *key_rules;
    struct provider *providers; /* one per element of the file's provider lists, in file order */
    size_t provider_count;
    struct provider_list *lists; /* one per key rule, same index; count 0: not protected */
    struct etcd_rules *rules;
    struct kms_plugin_opts *plugins; /* KMS providers; index = slot */
    size_t plugin_count;
    size_t protected_count; /* key rules with a sealing provider list */
};

struct ruleset_opts {
    bool allow_identity_writes;
    bool allow_kms_v1_writes;
    bool kms_v1_cbc_reads;
};

/* Takes config and key_rules (also on error). Errors: ERR_CONFIG with why: identity first
 * before others or alone in the whole file without allow_identity_writes, KMS v1 first without
 * allow_kms_v1_writes, two KMS v1 plugins of one name in a list, nothing protected. */
MUST_CHECK enum err ruleset_new(struct enc_config *config, struct key_rules *key_rules,
                                const struct ruleset_opts *o, struct ruleset **out, char *why,
                                size_t why_len);
struct ruleset *ruleset_ref(struct ruleset *r);
void ruleset_drop(struct ruleset *r);

#endif
