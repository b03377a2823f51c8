/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a stored value with its key. Gives: what state it is in, and its plaintext. Owns: the
 * plaintext until it is dropped. Thread: its loop's. */
#ifndef SWEEP_JUDGE_H
#define SWEEP_JUDGE_H

#include "kms/keyring.h"
#include "policy/ruleset.h"

/* Zero is the worst. */
enum sweep_state {
    SWEEP_UNREADABLE = 0, /* it does not open: err says why */
    SWEEP_PLAINTEXT,
    SWEEP_OTHER, /* opens with another provider of the list than the first */
    SWEEP_OLDER, /* with the first provider, but not with the key that it writes with now */
    SWEEP_CURRENT,
    SWEEP_STATE_COUNT
};

/* "unreadable", "plaintext", "other provider", "older key", "current key". Static storage. */
const char *sweep_state_text(enum sweep_state s);

struct sweep_verdict {
    enum sweep_state state;
    /* UNREADABLE; PLAINTEXT that the list does not read, for identity is not in it: why. */
    enum err err;
    bool is_due;                     /* readable, but not as it would be written now */
    const struct provider *provider; /* that sealed it; NULL when none did, or none is known */
    /* Name of the configuration's key, or key id of the plugin's; empty where there is none.
     * Borrowed from the value or the provider. */
    struct bytes key_name;
    uint32_t key_index; /* of that key among the provider's own */
};

struct sweep_judge_env {
    struct loop *loop;
    struct keyring *ring; /* of the same rule set. NULL: nothing is opened, envelopes are judged by
                             what stands on them, and whether a plugin's key is the present one is
                             not known: then it counts as that */
    bool opens_local;     /* without a ring: what needs no plugin is opened all the same */
    struct envelope_ctx *ctx;
    struct slab_pool *pool; /* of plaintexts */
};

/* Embedded in its owner. Zero-initialised is idle. */
struct sweep_judge {
    const struct sweep_judge_env *env;
    struct bytes key;
    const struct provider_list *list;
    struct chain in;
    struct arena arena;
    struct envelope_value v;
    struct key_wait wait;
    struct sweep_verdict verdict;
    struct slice plain;                        /* empty when it was not opened */
    enum err err;                              /* on_done: of the run, see below */
    void (*on_done)(struct sweep_judge *self); /* from the loop, never from inside start */
};

/* Judges one value. env, key, list and the value's memory are the caller's until sweep_judge_end,
 * which is due in any case. ERR_OK: verdict and plain are there. ERR_AGAIN: on_done comes, then
 * they are, unless err is set. Errors at once and in err, none of which says anything of the value:
 * ERR_NOMEM, ERR_CRYPTO, ERR_KMS_AWAY, ERR_NO_STATE (a plugin that is needed can't be reached),
 * ERR_MEMORY_LIMIT, ERR_CONFIG. */
MUST_CHECK enum err sweep_judge_start(struct sweep_judge *j, const struct sweep_judge_env *env,
                                      struct bytes key, const struct provider_list *list,
                                      struct slice value);
/* What an error of the scope of a DEK means for who reads it: "it did not answer in time". For
 * others their reason word. Static storage. */
const char *sweep_key_words(enum err e);
/* Lets go of the value; on_done is not called any more. Another one may be started. */
void sweep_judge_end(struct sweep_judge *j);
/* The same, and of all memory. */
void sweep_judge_fini(struct sweep_judge *j);

#endif
