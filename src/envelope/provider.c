/* SPDX-License-Identifier: Apache-2.0 */
#include "envelope/envelope_int.h"

static bool begins_with(struct chain_pos pos, size_t len, struct bytes prefix)
{
    if (len < prefix.n)
        return false;
    while (prefix.n > 0) {
        struct bytes b = chain_peek(&pos, prefix.n);

        if (b.n == 0 || memcmp(b.p, prefix.p, b.n) != 0)
            return false;
        chain_skip(&pos, b.n);
        prefix = bytes_of(prefix.p + b.n, prefix.n - b.n);
    }
    return true;
}

bool envelope__candidate(const struct provider *p, const struct chain_pos *pos, size_t len,
                         struct envelope__candidate *c)
{
    if (!begins_with(*pos, len, p->prefix))
        return false;
    *c = (struct envelope__candidate){p, *pos, len - p->prefix.n};
    chain_skip(&c->body, p->prefix.n);
    return true;
}

static enum err identity_identify(const struct envelope__candidate *c, struct arena *arena,
                                  struct envelope_value *out)
{
    (void)arena;
    if (begins_with(c->body, c->body_len, BYTES_LIT(ENVELOPE_MARK)))
        return ERR_IDENTITY_SAW_ENCRYPTED;
    out->form = ENVELOPE_PLAIN;
    out->data_at = c->body.at;
    out->data_len = out->plain_len = c->body_len;
    return ERR_OK;
}

/* Nothing to open: what identity can read is its own plaintext. Nothing to seal either: a caller
 * that means to store plaintext has to do so in so many words. */
static const struct envelope__kind identity = {
    .identify = identity_identify,
    .errors_are_ignored = true,
};

static const struct envelope__kind none = {0};

const struct envelope__kind *envelope__kind(const struct provider *p)
{
    static const struct envelope__kind *const kinds[] = {
        [PROVIDER_IDENTITY] = &identity,
        [PROVIDER_KMS_V2] = &envelope__kmsv2,
    };
    size_t kind = (size_t)p->kind;

    return kind < ARRAY_LEN(kinds) && kinds[kind] != NULL ? kinds[kind] : &none;
}
