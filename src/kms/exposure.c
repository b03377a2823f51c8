/* SPDX-License-Identifier: Apache-2.0 */
#include "kms/exposure_int.h"

#include "base/secret.h"

/* The secret in one of its forms; form_has makes the bytes of the other side alike before it
 * compares. */
struct form {
    uint8_t v[2 * KMS_EXPOSURE_SECRET_MAX];
    size_t n;
    uint8_t (*alike)(uint8_t c);
};

enum { FORM_RAW, FORM_HEX, FORM_BASE64, FORM_COUNT = FORM_BASE64 + 3 };

static uint8_t same(uint8_t c)
{
    return c;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/* base64url (RFC 4648 section 5) into base64. */
static uint8_t common_alphabet(uint8_t c)
{
    if (c == '-')
        return '+';
    return c == '_' ? '/' : c;
}

static void make_hex(struct form *f, struct bytes secret)
{
    static const char digits[] = "0123456789abcdef";

    f->alike = lower;
    for (size_t i = 0; i < secret.n; i++) {
        f->v[f->n++] = (uint8_t)digits[secret.p[i] >> 4];
        f->v[f->n++] = (uint8_t)digits[secret.p[i] & 15];
    }
}

/* How base64 shows the secret depends on how many bytes stand before it, modulo 3: shift. Makes the
 * characters that depend on the secret alone: those whose six bits all come from it. */
static void make_base64(struct form *f, struct bytes secret, size_t shift)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t bit = (6 - shift * 8 % 6) % 6;

    f->alike = common_alphabet;
    for (; bit + 6 <= secret.n * 8; bit += 6) {
        unsigned high = secret.p[bit / 8];
        unsigned low = bit / 8 + 1 < secret.n ? secret.p[bit / 8 + 1] : 0u;

        f->v[f->n++] = (uint8_t)alphabet[(high << 8 | low) >> (10 - bit % 8) & 63];
    }
}

static void make_form(struct form *f, struct bytes secret, unsigned number)
{
    *f = (struct form){.n = 0, .alike = same};
    if (number >= FORM_BASE64) {
        make_base64(f, secret, number - FORM_BASE64);
    } else if (number == FORM_HEX) {
        make_hex(f, secret);
    } else {
        memcpy(f->v, secret.p, secret.n);
        f->n = secret.n;
    }
}

/* Not in constant time: only the plugin could time it, and it was told the secret. */
static bool form_has(const struct form *f, struct bytes in)
{
    for (size_t at = 0; at + f->n <= in.n; at++) {
        size_t i = 0;

        while (i < f->n && f->alike(in.p[at + i]) == f->v[i])
            i++;
        if (i == f->n)
            return true;
    }
    return false;
}

static bool answer_has(const struct form *f, const struct dek_id *answer)
{
    if (form_has(f, answer->wrapped) || form_has(f, answer->key_id))
        return true;
    for (uint32_t i = 0; i < answer->annotation_count; i++) {
        if (form_has(f, answer->annotations[i].key) || form_has(f, answer->annotations[i].value))
            return true;
    }
    return false;
}

bool kms_answer_exposes(const struct dek_id *answer, struct bytes secret)
{
    struct form f;
    bool found = false;

    CHECK(secret.n > 0 && secret.n <= KMS_EXPOSURE_SECRET_MAX);
    for (unsigned number = 0; number < FORM_COUNT && !found; number++) {
        make_form(&f, secret, number);
        found = answer_has(&f, answer);
    }
    secret_wipe(&f, sizeof f);
    return found;
}
