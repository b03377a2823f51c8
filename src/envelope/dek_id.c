/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "envelope/envelope_int.h"

#define DOMAIN_MAX 253u
#define LABEL_MAX 63u
#define INSERTION_SORT_MAX 16u

bool dek_id_eq(const struct dek_id *a, const struct dek_id *b)
{
    if (a->type != b->type || a->annotation_count != b->annotation_count ||
        !bytes_eq(a->wrapped, b->wrapped) || !bytes_eq(a->key_id, b->key_id))
        return false;
    for (uint32_t i = 0; i < a->annotation_count; i++)
        if (!bytes_eq(a->annotations[i].key, b->annotations[i].key) ||
            !bytes_eq(a->annotations[i].value, b->annotations[i].value))
            return false;
    return true;
}

bool dek_id_is_stale(const struct dek_id *id, const struct dek_id *write_id)
{
    return id->type != write_id->type || !bytes_eq(id->key_id, write_id->key_id);
}

enum err dek_key_id_validate(struct bytes key_id)
{
    if (key_id.n == 0)
        return ERR_KEY_ID_EMPTY;
    return key_id.n > LIMIT_KEY_ID ? ERR_KEY_ID_TOO_LONG : ERR_OK;
}

static bool is_alnum(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool label_ok(const uint8_t *p, size_t n)
{
    if (n < 1 || n > LABEL_MAX || !is_alnum(p[0]) || !is_alnum(p[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_alnum(p[i]) && p[i] != '-')
            return false;
    return true;
}

/* A fully qualified domain name as kube-apiserver's validation has it: RFC 1123 labels, at least
 * two, lower case, one dot allowed at the end. */
static bool domain_ok(struct bytes name)
{
    size_t from = 0;
    uint32_t labels = 0;

    if (name.n > 0 && name.p[name.n - 1] == '.')
        name.n--;
    if (name.n == 0 || name.n > DOMAIN_MAX)
        return false;
    for (size_t i = 0; i <= name.n; i++) {
        if (i < name.n && name.p[i] != '.')
            continue;
        if (!label_ok(name.p + from, i - from))
            return false;
        from = i + 1;
        labels++;
    }
    return labels >= 2;
}

static enum err annotations_validate(const struct dek_id *id)
{
    size_t total = 0;

    for (uint32_t i = 0; i < id->annotation_count; i++) {
        const struct dek_annotation *a = &id->annotations[i];

        if (!domain_ok(a->key) || a->value.n > LIMIT_ANNOTATIONS)
            return ERR_ANNOTATIONS_INVALID;
        total += a->key.n + a->value.n;
        if (total > LIMIT_ANNOTATIONS)
            return ERR_ANNOTATIONS_INVALID;
    }
    return ERR_OK;
}

enum err dek_id_validate(const struct dek_id *id)
{
    if (id->type != DEK_AES_GCM_KEY && id->type != DEK_HKDF_SEED)
        return ERR_UNKNOWN_DEK_SOURCE_TYPE;
    if (id->wrapped.n == 0)
        return ERR_DEK_SOURCE_EMPTY;
    if (id->wrapped.n > LIMIT_WRAPPED_DEK)
        return ERR_DEK_SOURCE_TOO_LONG;
    TRY(dek_key_id_validate(id->key_id));
    return annotations_validate(id);
}

static bool is_in_order(const struct dek_annotation *v, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++)
        if (bytes_cmp(v[i - 1].key, v[i].key) >= 0)
            return false;
    return true;
}

static void insertion_sort(struct dek_annotation *v, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct dek_annotation a = v[i];
        uint32_t at = i;

        for (; at > 0 && bytes_cmp(v[at - 1].key, a.key) > 0; at--)
            v[at] = v[at - 1];
        v[at] = a;
    }
}

/* qsort(3) isn't stable, so the place in the input is part of the order. */
struct numbered {
    struct dek_annotation a;
    uint32_t place;
};

static int numbered_cmp(const void *x, const void *y)
{
    const struct numbered *a = x, *b = y;
    int c = bytes_cmp(a->a.key, b->a.key);

    return c != 0 ? c : (a->place > b->place) - (a->place < b->place);
}

static enum err stable_qsort(struct dek_annotation *v, uint32_t count)
{
    struct numbered *t = calloc(count, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++)
        t[i] = (struct numbered){v[i], i};
    qsort(t, count, sizeof *t, numbered_cmp);
    for (uint32_t i = 0; i < count; i++)
        v[i] = t[i].a;
    free(t);
    return ERR_OK;
}

/* Of equal keys, which stand together, keeps the last. */
static uint32_t drop_doubles(struct dek_annotation *v, uint32_t count)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && bytes_eq(v[kept - 1].key, v[i].key))
            kept--;
        v[kept++] = v[i];
    }
    return kept;
}

enum err dek_annotations_sort(struct dek_annotation *v, uint32_t *count)
{
    if (is_in_order(v, *count))
        return ERR_OK;
    if (*count <= INSERTION_SORT_MAX)
        insertion_sort(v, *count);
    else
        TRY(stable_qsort(v, *count));
    *count = drop_doubles(v, *count);
    return ERR_OK;
}
