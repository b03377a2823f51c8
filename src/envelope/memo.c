/* SPDX-License-Identifier: Apache-2.0 */
/* Twenty watchers of a prefix bring the same stored value twenty times. The last few values that
 * came more than once are kept with their plaintext:
 *
 *   first time    opened; its mark (the last four bytes of its tag) is noted
 *   second time   the mark is known: opened, and kept
 *   from then on  the plaintext is copied
 *
 * What is kept is used only for the same DEK, the same etcd key and the same bytes, all of them
 * compared: so the copy is what opening would give, and only a caller that was given the DEK by its
 * key ring gets it. A value that comes once costs no copy. All is wiped with the cipher contexts.
 *
 * Failure modes: no memory for the memo: the value is opened as if there were none. */
#include <stdlib.h>

#include "base/secret.h"
#include "envelope/envelope_int.h"

#define MEMO_VALUES 16u
#define MEMO_MARKS 64u
#define MEMO_AAD_MAX 256u
#define MEMO_DATA_MAX 4096u /* of larger ones AES is most of the cost, so a copy gains less */

struct memo_value {
    struct dek *dek; /* NULL: the place is free */
    uint32_t mark;
    size_t aad_len, data_len, plain_len;
    uint8_t aad[MEMO_AAD_MAX];
    uint8_t data[MEMO_DATA_MAX];
    uint8_t plain[MEMO_DATA_MAX];
};

struct envelope__memo {
    uint32_t marks[MEMO_MARKS];
    uint32_t next_mark, next_value;
    struct memo_value values[MEMO_VALUES];
};

/* The last bytes of the tag: as good as random. */
static uint32_t mark_of(struct chain_pos data, size_t len)
{
    uint32_t mark;

    chain_skip(&data, len - sizeof mark);
    chain_take(&data, (uint8_t *)&mark, sizeof mark);
    return mark;
}

static bool is_data(const struct memo_value *m, struct chain_pos data)
{
    size_t at = 0;

    while (at < m->data_len) {
        struct bytes b = chain_peek(&data, m->data_len - at);

        if (b.n == 0 || memcmp(m->data + at, b.p, b.n) != 0)
            return false;
        chain_skip(&data, b.n);
        at += b.n;
    }
    return true;
}

static const struct memo_value *find(const struct envelope__memo *memo, uint32_t mark,
                                     const struct envelope_value *v, const struct dek *dek,
                                     struct bytes aad, struct chain_pos data)
{
    for (uint32_t i = 0; i < MEMO_VALUES; i++) {
        const struct memo_value *m = &memo->values[i];

        if (m->mark == mark && m->dek == dek && m->data_len == v->data_len &&
            m->plain_len == v->plain_len && bytes_eq(bytes_of(m->aad, m->aad_len), aad) &&
            is_data(m, data))
            return m;
    }
    return NULL;
}

static void forget(struct memo_value *m)
{
    if (m->dek == NULL)
        return;
    secret_wipe(m->plain, m->plain_len);
    dek_drop(m->dek);
    m->dek = NULL;
}

static void keep(struct envelope__memo *memo, uint32_t mark, const struct envelope_value *v,
                 struct dek *dek, struct bytes aad, struct chain_pos data, const uint8_t *plain)
{
    struct memo_value *m = &memo->values[memo->next_value++ % MEMO_VALUES];

    forget(m);
    m->dek = dek_ref(dek);
    m->mark = mark;
    m->aad_len = aad.n;
    m->data_len = v->data_len;
    m->plain_len = v->plain_len;
    memcpy(m->aad, aad.p, aad.n);
    chain_take(&data, m->data, v->data_len);
    memcpy(m->plain, plain, v->plain_len);
}

/* Was the mark noted before? If not, notes it in the place of the oldest. */
static bool is_known(struct envelope__memo *memo, uint32_t mark)
{
    for (uint32_t i = 0; i < MEMO_MARKS; i++) {
        if (memo->marks[i] == mark)
            return true;
    }
    memo->marks[memo->next_mark++ % MEMO_MARKS] = mark;
    return false;
}

enum err envelope_open_again(struct envelope_ctx *ctx, const struct envelope_value *v,
                             struct dek *dek, struct bytes aad, struct chain_pos data, uint8_t *out)
{
    bool fits = dek != NULL && aad.n > 0 && aad.n <= MEMO_AAD_MAX && v->plain_len > 0 &&
                v->data_len <= MEMO_DATA_MAX;
    const struct memo_value *m;
    uint32_t mark;

    if (fits && ctx->memo == NULL)
        ctx->memo = calloc(1, sizeof *ctx->memo);
    if (!fits || ctx->memo == NULL)
        return envelope_open(ctx, v, dek, aad, data, out);
    mark = mark_of(data, v->data_len);
    m = find(ctx->memo, mark, v, dek, aad, data);
    if (m != NULL) {
        memcpy(out, m->plain, m->plain_len);
        return ERR_OK;
    }
    TRY(envelope_open(ctx, v, dek, aad, data, out));
    if (is_known(ctx->memo, mark))
        keep(ctx->memo, mark, v, dek, aad, data, out);
    return ERR_OK;
}

void envelope__memo_wipe(struct envelope_ctx *ctx)
{
    if (ctx->memo == NULL)
        return;
    for (uint32_t i = 0; i < MEMO_VALUES; i++)
        forget(&ctx->memo->values[i]);
    free(ctx->memo);
    ctx->memo = NULL;
}
