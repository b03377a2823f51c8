/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: stored values with their verdicts. Gives: how many there are of each resource, state
 * and key. Owns: the counts. Thread: one. */
#ifndef TOOLS_COUNTS_H
#define TOOLS_COUNTS_H

#include "sweep/sweep.h"

/* Values of one resource that are in one state, sealed with one key of one provider. */
struct tools_key_count {
    enum sweep_state state;
    char *provider; /* "kms v2 NAME", "aescbc v1"; "" for plaintext and what nobody knows */
    char *key; /* "sha256:..." of a plugin's key id, the name of a key of the configuration, "" */
    enum err err; /* UNREADABLE, PLAINTEXT: of the first of them; ERR_OK: readable */
    bool is_due;
    uint64_t count;
    /* what the three texts were made of, to find it again */
    const struct provider *by;
    uint8_t *name;
    size_t name_len;
};

#define TOOLS_KEY_COUNTS_MAX 1000u /* of one resource: what is more is counted with the last */

struct tools_resource_count {
    const char *resource; /* the rule set's */
    uint64_t count, leased, states[SWEEP_STATE_COUNT];
    uint64_t due;          /* readable, but not as it would be written now */
    uint64_t due_leased;   /* of them with a lease */
    uint64_t unread_plain; /* plaintext that the proxy refuses, for identity is not in the list */
    struct tools_key_count *keys;
    size_t key_count, last;
};

struct tools_counts {
    struct tools_resource_count *v;
    size_t count;
    struct tools_resource_count all; /* without keys */
};

/* Counts the value. Errors: ERR_NOMEM. */
MUST_CHECK enum err tools_counts_add(struct tools_counts *c, const struct sweep_value *v);
void tools_counts_fini(struct tools_counts *c);
/* What is wrong with it, or due, in a few words: "auth_failed", "older key". */
const char *tools_counts_reason(const struct sweep_verdict *v);

#endif
