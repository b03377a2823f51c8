/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the resource names of an EncryptionConfiguration. Gives: rules on etcd keys.
 * Owns: its strings. Thread: any; the result is immutable.
 *
 * Kubernetes stores /registry/[GROUP/]PLURAL/[NAMESPACE/]NAME, with exceptions (services/specs,
 * minions and others); see resource_table.c. A rule matches a key when it equals rule.prefix or
 * begins with rule.prefix + "/"; of several the longest wins. */
#ifndef CONFIG_RESOURCES_H
#define CONFIG_RESOURCES_H

#include "config/encryption.h"

enum key_rule_kind {
    KEY_RULE_PREFIX,  /* key == prefix or key begins with prefix "/" */
    KEY_RULE_DOTLESS, /* as PREFIX, and the segment behind prefix "/" holds no dot: a built-in
                         plural that the table does not know. Loses against every PREFIX rule that
                         matches deeper. */
};

struct key_rule {
    enum key_rule_kind kind;
    char *prefix;   /* "/registry/secrets", no slash at its end; "" only where the etcd prefix is
                       "/": then all keys that begin with a slash */
    char *resource; /* "secrets"; "" for rules that protect nothing */
    size_t *entry_indexes; /* provider lists of these entries, appended in file order */
    size_t entry_count; /* 0: never transformed (or not selected), whatever a shorter rule says */
};

struct key_rules {
    struct key_rule *v;
    size_t count;
    char **warnings; /* a line each: names that match nothing known, plurals caught by a wildcard */
    size_t warning_count;
    char *root; /* the etcd prefix in normal form: "/registry", or "" for "/" */
};

struct resource_prefix { /* --resource-prefix RESOURCE=PREFIX, --protect-prefix PREFIX=RESOURCE */
    char *resource;
    char *prefix; /* --protect-prefix: a whole etcd key; otherwise relative to etcd_prefix */
};

struct key_rules_opts {
    const char *etcd_prefix; /* "/registry"; normalised like a path: "registry/" is the same */
    const struct resource_prefix *resource_prefixes;
    size_t resource_prefix_count;
    const struct resource_prefix *protect_prefixes;
    size_t protect_prefix_count;
};

/* Every resource that an entry names, by itself or by a wildcard, gets the rules that cover it;
 * which wildcard gives which rule, and what a built-in kind that no entry selects gets, is at the
 * top of resources.c. Errors: ERR_CONFIG with why, ERR_NOMEM. */
MUST_CHECK enum err key_rules_build(const struct enc_config *c, const struct key_rules_opts *o,
                                    struct key_rules **out, char *why, size_t why_len);
void key_rules_free(struct key_rules *r);
/* The entries that apply to a resource "plural" or "plural.group": exact, else *.group, else *.*,
 * as kube-apiserver selects. Writes at most max indexes into c->entries, in file order, and returns
 * how many there are. 0: identity. */
size_t enc_config_select(const struct enc_config *c, const char *resource, size_t *indexes,
                         size_t max);

#endif
