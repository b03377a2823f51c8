/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what a KMS v2 plugin answered, and when. Gives: what to do next, until when may be
 * written, and how the provider is. Owns: copies of key ids and texts. Thread: the owner's. Pure:
 * no clock, no I/O, no keys.
 *
 * One check, number for number kube-apiserver's (its kmsv2PluginProbe):
 *
 *   lifecycle_begin       Status is being asked
 *   lifecycle_on_status   a valid key_id moves the expiry when it is the one in use, even if
 *                         healthz or version are bad (LIFECYCLE_EXTENDED); another one asks for a
 *                         new seed to be wrapped (LIFECYCLE_WRAP)
 *   lifecycle_on_wrapped  the answer of Encrypt is valid and names the key_id of Status: make a DEK
 *                         of it (LIFECYCLE_INSTALL), then lifecycle_installed
 *
 * Whatever fails ends the check as bad and leaves key and expiry as they were: writes go on with
 * the old key until its expiry, and a seed that was not installed is thrown away. */
#ifndef KMS_LIFECYCLE_INT_H
#define KMS_LIFECYCLE_INT_H

#include "envelope/envelope.h"

#define LIFECYCLE_GOOD_POLL_MS 60000u
#define LIFECYCLE_BAD_POLL_MS 10000u
#define LIFECYCLE_WRITE_MS 180000u
/* A health check that comes within this time takes the last result. */
#define LIFECYCLE_GOOD_CACHE_MS 20000u
#define LIFECYCLE_BAD_CACHE_MS 3000u

#define LIFECYCLE_WHY 1024

struct lifecycle_time {
    uint64_t ms;    /* CLOCK_MONOTONIC: decides */
    int64_t unix_s; /* wall clock: for texts only */
};

struct lifecycle_key_id {
    uint8_t v[LIMIT_KEY_ID];
    size_t n;
};

enum lifecycle_phase {
    LIFECYCLE_IDLE = 0,
    LIFECYCLE_ASKED,    /* Status is on its way */
    LIFECYCLE_WRAPPING, /* so is Encrypt */
    LIFECYCLE_MAKING,   /* Encrypt's answer is good, the owner makes the DEK */
};

enum lifecycle_do {
    LIFECYCLE_NOTHING = 0, /* the check is over, nothing changed */
    LIFECYCLE_EXTENDED,    /* the check is over, the expiry moved */
    LIFECYCLE_WRAP,        /* call Encrypt with a new seed */
    LIFECYCLE_INSTALL,     /* make a DEK of seed and answer, then lifecycle_installed */
};

struct lifecycle {
    const char *name; /* of the provider; borrowed */
    enum lifecycle_phase phase;
    char version[16]; /* the first known version that was answered; "" before */
    uint64_t began_ms, ended_ms;
    /* the result of the last check */
    bool was_checked;
    bool is_healthy;
    char why[LIFECYCLE_WHY]; /* "" when healthy */
    /* the DEK in use */
    bool has_state;
    struct lifecycle_key_id key_id;
    struct lifecycle_time expiry; /* writes are allowed up to and including this time */
    /* the check under way */
    struct lifecycle_key_id status_key_id;
    struct lifecycle_time next_expiry;
    uint32_t problem_count;
    char problems[LIFECYCLE_WHY - 128];
};

struct lifecycle_status {
    struct bytes version, healthz, key_id;
};

void lifecycle_init(struct lifecycle *lc, const char *name);
void lifecycle_begin(struct lifecycle *lc, struct lifecycle_time now);
/* NOTHING, EXTENDED or WRAP. */
MUST_CHECK enum lifecycle_do lifecycle_on_status(struct lifecycle *lc, struct lifecycle_time now,
                                                 const struct lifecycle_status *s);
/* The call failed, with this text. */
void lifecycle_on_status_error(struct lifecycle *lc, struct lifecycle_time now, const char *text);
/* answer: type, key_id, wrapped and annotations as Encrypt gave them; uid: of that call, for the
 * text. NOTHING or INSTALL. */
MUST_CHECK enum lifecycle_do lifecycle_on_wrapped(struct lifecycle *lc, struct lifecycle_time now,
                                                  const struct dek_id *answer, const char *uid);
void lifecycle_on_wrap_error(struct lifecycle *lc, struct lifecycle_time now, const char *text,
                             const char *uid);
/* After INSTALL: the new DEK is in use. (Could it not be made: lifecycle_on_wrap_error.) */
void lifecycle_installed(struct lifecycle *lc, struct lifecycle_time now);

/* KMS v1 has no state: no key id, no DEK of its own, no expiry. A check is Version (until it was
 * once answered right), Encrypt of a secret, Decrypt of what came. */

/* The plugin's version is known and right: has_state from now on. */
void lifecycle_v1_reached(struct lifecycle *lc);
/* Ends the check that lifecycle_begin began. section: "encrypt" or "decrypt", the one that failed;
 * text: why; NULL when all is well. */
void lifecycle_v1_end(struct lifecycle *lc, struct lifecycle_time now, const char *section,
                      const char *text);

/* When the next check begins, by the time the last one began. */
uint64_t lifecycle_next_ms(const struct lifecycle *lc);
/* The last result is young enough to be the answer of a health check. */
bool lifecycle_is_fresh(const struct lifecycle *lc, uint64_t now_ms);
static inline struct bytes lifecycle_key_id_bytes(const struct lifecycle_key_id *k)
{
    return bytes_of(k->v, k->n);
}

#endif
