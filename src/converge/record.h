/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: rule sets. Gives: texts that say what a proxy writes with and what it can open, and how
 * two of them differ. Owns: nothing. Thread: any.
 *
 * A record has one line for each rule on keys:
 *
 *   etcd-envelope 1
 *   name HOST URL
 *   config sha256:HEX
 *   rule PREFIX RESOURCE WRITES OPENS,OPENS,...
 *
 * Keys are named as stored values name them, with a hash behind it, never by anything secret:
 * aesgcm:v1:NAME:HASH, kms:v2:NAME:HASH-OF-THE-KEY-ID (as an opener without the hash, for which
 * keys a plugin has only its answers tell), "identity". "?" in place of the hash: not known yet;
 * "-" as WRITES: the rule protects nothing.
 *
 * Proxies of several versions read each other's records while they are upgraded. What a later
 * version adds stands in lines of its own before the first rule, where this one passes over it;
 * anything else takes another number in the first line. */
#ifndef CONVERGE_RECORD_H
#define CONVERGE_RECORD_H

#include "kms/keyring.h"
#include "policy/ruleset.h"

#define CONVERGE_KEY_TEXT 1100 /* of a key; longer ones are cut, and differ by their hash */

/* How a record names what the list writes with now. ring NULL: a plugin's key is "?". Errors:
 * ERR_NOMEM. */
MUST_CHECK enum err converge_writes_text(const struct provider_list *list,
                                         const struct keyring *ring,
                                         char out[static CONVERGE_KEY_TEXT]);
/* How it names a key that p can open values of: the key of a local provider, a KMS plugin, identity
 * (key is ignored for both). Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_opens_text(const struct provider *p, uint32_t key,
                                        char out[static CONVERGE_KEY_TEXT]);

/* The record of a rule set whose ring this is; *text is NUL-terminated, the caller's to free.
 * Errors: ERR_NOMEM. */
MUST_CHECK enum err converge_record_make(const struct ruleset *rules, const struct keyring *ring,
                                         const char *name, char **text);
/* A record as it lies in etcd, for the functions below: the caller's to free, and never NULL but
 * for want of memory. What no record has stays recognizable. */
MUST_CHECK char *converge_record_copy(struct bytes stored);
/* Has all of it the form above, not too many rules, and no prefix two? One of another version has
 * not, and may write with any key. */
bool converge_record_is_understood(const char *record);
/* Where the rules of a record begin: what is behind decides whether proxies agree. */
const char *converge_record_rules(const char *record);
/* The name in a record, without what could break a line. Returns out. */
#define CONVERGE_NAME_MAX 200
const char *converge_record_name(const char *record, char out[static CONVERGE_NAME_MAX]);
/* All that it writes with is known. */
bool converge_record_is_complete(const char *record);

enum converge_difference {
    CONVERGE_DIFFERS = 0, /* they write with different keys, or have different rules */
    CONVERGE_UNKNOWN,     /* what one of them writes with is not known yet */
    CONVERGE_AGREES,      /* they write alike, and each opens what the other one writes */
};
/* why: what differs, in a sentence about "it", which is theirs. Both NUL-terminated. What is not
 * understood differs. */
enum converge_difference converge_record_compare(const char *mine, const char *theirs, char *why,
                                                 size_t why_len);
/* Does a record that is understood say that it writes with a key (of converge_opens_text) where the
 * i-th of these rules is ours? Its proxy may have other rules for the same keys of etcd. */
bool converge_record_writes(const char *record, const struct key_rules *rules, size_t i,
                            const char *key);

/* Is the prefix the other one, or below it? */
bool converge_lies_in(const char *prefix, const char *other);
/* How much of what is under a rule the other one, above it or of the same prefix, is for. */
enum converge_share { CONVERGE_NONE, CONVERGE_SOME, CONVERGE_ALL };
enum converge_share converge_share_of(const struct key_rule *above, const struct key_rule *rule);

#endif
