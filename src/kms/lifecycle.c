/* SPDX-License-Identifier: Apache-2.0 */
#include "kms/lifecycle_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kms/text.h"

#define NO_STATE_TEXT "got unexpected nil transformer"

static void set_phase(struct lifecycle *lc, enum lifecycle_phase next)
{
    static const uint8_t allowed[] = {
        [LIFECYCLE_IDLE] = 1 << LIFECYCLE_ASKED,
        [LIFECYCLE_ASKED] = 1 << LIFECYCLE_IDLE | 1 << LIFECYCLE_WRAPPING,
        [LIFECYCLE_WRAPPING] = 1 << LIFECYCLE_IDLE | 1 << LIFECYCLE_MAKING,
        [LIFECYCLE_MAKING] = 1 << LIFECYCLE_IDLE,
    };

    CHECK((allowed[lc->phase] >> next & 1) != 0);
    lc->phase = next;
}

static void key_id_set(struct lifecycle_key_id *k, struct bytes id)
{
    CHECK(id.n <= sizeof k->v);
    if (id.n > 0)
        memcpy(k->v, id.p, id.n);
    k->n = id.n;
}

PRINTF_LIKE(2, 3) static void problem(struct lifecycle *lc, const char *fmt, ...)
{
    size_t at = strlen(lc->problems);
    va_list ap;

    if (lc->problem_count++ > 0 && at < sizeof lc->problems)
        at += (size_t)snprintf(lc->problems + at, sizeof lc->problems - at, ", ");
    if (at >= sizeof lc->problems)
        return;
    va_start(ap, fmt);
    vsnprintf(lc->problems + at, sizeof lc->problems - at, fmt, ap);
    va_end(ap);
}

/* Several problems stand in brackets, one stands alone, as Go's error aggregates print. */
static void end_check(struct lifecycle *lc, struct lifecycle_time now)
{
    bool many = lc->problem_count > 1;

    set_phase(lc, LIFECYCLE_IDLE);
    lc->ended_ms = now.ms;
    lc->was_checked = true;
    lc->is_healthy = lc->problem_count == 0;
    lc->why[0] = '\0';
    if (!lc->is_healthy)
        snprintf(lc->why, sizeof lc->why, "kmsv2 Provider %s is not healthy, error: %s%s%s",
                 lc->name, many ? "[" : "", lc->problems, many ? "]" : "");
}

static void check_version(struct lifecycle *lc, struct bytes version)
{
    char clean[64];

    kms_clean_text(version, clean, sizeof clean);
    if (!bytes_eq(version, BYTES_LIT("v2")) && !bytes_eq(version, BYTES_LIT("v2beta1"))) {
        problem(lc, "expected KMSv2 API version v2, got %s", clean);
        return;
    }
    if (lc->version[0] == '\0')
        snprintf(lc->version, sizeof lc->version, "%.15s", clean);
    else if (strcmp(lc->version, clean) != 0)
        problem(lc,
                "KMSv2 API version should not change after the initial status response version %s, "
                "got %s",
                lc->version, clean);
}

static const char *key_id_text(enum err e, size_t n, char *out, size_t cap)
{
    if (e == ERR_KEY_ID_EMPTY)
        snprintf(out, cap, "keyID is empty");
    else
        snprintf(out, cap, "keyID is %zu bytes, which exceeds the max size of %u", n, LIMIT_KEY_ID);
    return out;
}

/* Step 1 and 2 of a rotation: the key_id is valid. */
static enum lifecycle_do take_key_id(struct lifecycle *lc, struct lifecycle_time now,
                                     struct bytes key_id)
{
    /* The clock starts before the network call, so that a slow Encrypt does not stretch it. */
    lc->next_expiry.ms = now.ms + LIFECYCLE_WRITE_MS;
    lc->next_expiry.unix_s = now.unix_s + LIFECYCLE_WRITE_MS / 1000;
    if (lc->has_state && bytes_eq(lifecycle_key_id_bytes(&lc->key_id), key_id)) {
        lc->expiry = lc->next_expiry;
        end_check(lc, now);
        return LIFECYCLE_EXTENDED;
    }
    key_id_set(&lc->status_key_id, key_id);
    set_phase(lc, LIFECYCLE_WRAPPING);
    return LIFECYCLE_WRAP;
}

/* encrypt_key_id is empty when Encrypt gave no valid answer. */
static void rotation_failed(struct lifecycle *lc, struct lifecycle_time now, const char *why,
                            struct bytes encrypt_key_id, const char *uid)
{
    char status_hash[KMS_HASH_TEXT], encrypt_hash[KMS_HASH_TEXT], state_hash[KMS_HASH_TEXT];
    char expiry[KMS_TIME_TEXT] = "0001-01-01T00:00:00Z"; /* Go's zero time */

    if (lc->has_state)
        kms_time_text(lc->expiry.unix_s, expiry);
    problem(lc,
            "failed to rotate DEK uid=\"%s\", useSeed=true, errState=%s, errGen=%s, "
            "statusKeyIDHash=\"%s\", encryptKeyIDHash=\"%s\", stateKeyIDHash=\"%s\", "
            "expirationTimestamp=%s",
            uid, lc->has_state ? "<nil>" : NO_STATE_TEXT, why,
            kms_hash_text(lifecycle_key_id_bytes(&lc->status_key_id), status_hash),
            kms_hash_text(encrypt_key_id, encrypt_hash),
            kms_hash_text(lifecycle_key_id_bytes(&lc->key_id), state_hash), expiry);
    end_check(lc, now);
}

static const char *invalid_text(enum err e, const struct dek_id *id, char *out, size_t cap)
{
    char key_id[96];
    size_t total = 0;

    for (uint32_t i = 0; i < id->annotation_count; i++)
        total += id->annotations[i].key.n + id->annotations[i].value.n;
    if (e == ERR_DEK_SOURCE_EMPTY)
        snprintf(out, cap,
                 "failed to validate encrypted DEK source: encrypted DEK source is empty");
    else if (e == ERR_DEK_SOURCE_TOO_LONG)
        snprintf(
            out, cap,
            "failed to validate encrypted DEK source: encrypted DEK source is %zu bytes, which "
            "exceeds the max size of %u",
            id->wrapped.n, LIMIT_WRAPPED_DEK);
    else if (e == ERR_KEY_ID_EMPTY || e == ERR_KEY_ID_TOO_LONG)
        snprintf(out, cap, "failed to validate key id: %s",
                 key_id_text(e, id->key_id.n, key_id, sizeof key_id));
    else if (e == ERR_ANNOTATIONS_INVALID && total > LIMIT_ANNOTATIONS)
        snprintf(out, cap,
                 "failed to validate annotations: total size of annotations is %zu, which exceeds "
                 "the max size of %u",
                 total, LIMIT_ANNOTATIONS);
    else if (e == ERR_ANNOTATIONS_INVALID)
        snprintf(out, cap, "failed to validate annotations: a key is not a domain name");
    else
        snprintf(out, cap, "%s", err_reason(e));
    return out;
}

void lifecycle_init(struct lifecycle *lc, const char *name)
{
    memset(lc, 0, sizeof *lc);
    lc->name = name;
}

void lifecycle_begin(struct lifecycle *lc, struct lifecycle_time now)
{
    set_phase(lc, LIFECYCLE_ASKED);
    lc->began_ms = now.ms;
    lc->problem_count = 0;
    lc->problems[0] = '\0';
}

enum lifecycle_do lifecycle_on_status(struct lifecycle *lc, struct lifecycle_time now,
                                      const struct lifecycle_status *s)
{
    enum err e = dek_key_id_validate(s->key_id);
    char hash[KMS_HASH_TEXT], clean[128];

    CHECK(lc->phase == LIFECYCLE_ASKED);
    if (!bytes_eq(s->healthz, BYTES_LIT("ok")))
        problem(lc, "got unexpected healthz status: %s",
                kms_clean_text(s->healthz, clean, sizeof clean));
    check_version(lc, s->version);
    if (e == ERR_OK)
        return take_key_id(lc, now, s->key_id);
    problem(lc, "got invalid KMSv2 KeyID hash \"%s\": %s", kms_hash_text(s->key_id, hash),
            key_id_text(e, s->key_id.n, clean, sizeof clean));
    end_check(lc, now);
    return LIFECYCLE_NOTHING;
}

void lifecycle_on_status_error(struct lifecycle *lc, struct lifecycle_time now, const char *text)
{
    CHECK(lc->phase == LIFECYCLE_ASKED);
    problem(lc, "%s", text);
    end_check(lc, now);
    snprintf(lc->why, sizeof lc->why,
             "failed to perform status section of the healthz check for KMS Provider %s, error: %s",
             lc->name, text);
}

enum lifecycle_do lifecycle_on_wrapped(struct lifecycle *lc, struct lifecycle_time now,
                                       const struct dek_id *answer, const char *uid)
{
    enum err e = dek_id_validate(answer);
    char text[256];

    CHECK(lc->phase == LIFECYCLE_WRAPPING);
    if (e != ERR_OK) {
        invalid_text(e, answer, text, sizeof text);
        rotation_failed(lc, now, text, (struct bytes){0}, uid);
        return LIFECYCLE_NOTHING;
    }
    if (!bytes_eq(answer->key_id, lifecycle_key_id_bytes(&lc->status_key_id))) {
        rotation_failed(lc, now, "<nil>", answer->key_id, uid);
        return LIFECYCLE_NOTHING;
    }
    set_phase(lc, LIFECYCLE_MAKING);
    return LIFECYCLE_INSTALL;
}

void lifecycle_on_wrap_error(struct lifecycle *lc, struct lifecycle_time now, const char *text,
                             const char *uid)
{
    char why[256];

    CHECK(lc->phase == LIFECYCLE_WRAPPING || lc->phase == LIFECYCLE_MAKING);
    snprintf(why, sizeof why, "failed to encrypt DEK, error: %s", text);
    rotation_failed(lc, now, why, (struct bytes){0}, uid);
}

void lifecycle_installed(struct lifecycle *lc, struct lifecycle_time now)
{
    CHECK(lc->phase == LIFECYCLE_MAKING);
    lc->has_state = true;
    lc->key_id = lc->status_key_id;
    lc->expiry = lc->next_expiry;
    end_check(lc, now);
}

void lifecycle_v1_reached(struct lifecycle *lc)
{
    CHECK(lc->phase == LIFECYCLE_ASKED);
    lc->has_state = true;
}

void lifecycle_v1_end(struct lifecycle *lc, struct lifecycle_time now, const char *section,
                      const char *text)
{
    CHECK(lc->phase == LIFECYCLE_ASKED);
    lc->problem_count = text == NULL ? 0 : 1;
    end_check(lc, now);
    if (text != NULL)
        snprintf(lc->why, sizeof lc->why,
                 "failed to perform %s section of the healthz check for KMS Provider %s, error: %s",
                 section, lc->name, text);
}

uint64_t lifecycle_next_ms(const struct lifecycle *lc)
{
    return lc->began_ms + (lc->is_healthy ? LIFECYCLE_GOOD_POLL_MS : LIFECYCLE_BAD_POLL_MS);
}

bool lifecycle_is_fresh(const struct lifecycle *lc, uint64_t now_ms)
{
    uint64_t age = now_ms - lc->ended_ms;

    return lc->was_checked &&
           age < (lc->is_healthy ? LIFECYCLE_GOOD_CACHE_MS : LIFECYCLE_BAD_CACHE_MS);
}
