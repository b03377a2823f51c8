/* SPDX-License-Identifier: Apache-2.0 */
/* Member lists are small and rare: the answer is made contiguous, walked twice and written anew.
 *
 *   scan     who answered (header.member_id), nothing doubled, how many URLs there will be
 *   rewrite  everything as it was, but for a Member's clientURLs(4): the old ones are dropped, ours
 *            stand where they would (before isLearner(5)) */
#include "etcd/members.h"

#include <stdlib.h>

#include "etcd/output_int.h"
#include "etcd/plan_int.h"

enum { MEMBER_ID = 1, MEMBER_NAME = 2, MEMBER_CLIENT_URLS = 4 };

struct rewrite {
    enum etcd_content content;
    const struct etcd_advertise *adv;
    uint64_t answering; /* header.member_id; 0 when there is none */
    size_t kept;        /* client URLs in the new answer */
    uint8_t *out;       /* NULL while only lengths are counted */
    size_t out_len;
};

static void put(struct rewrite *w, struct bytes b)
{
    if (w->out != NULL && b.n > 0)
        memcpy(w->out + w->out_len, b.p, b.n);
    w->out_len += b.n;
}

static void put_head(struct rewrite *w, uint32_t number, size_t len)
{
    uint8_t buf[2 * PB_VARINT_MAX];
    size_t n = pb_put_varint(buf, pb_tag(number, PB_LEN));

    n += pb_put_varint(buf + n, len);
    put(w, bytes_of(buf, n));
}

struct member {
    uint64_t id;
    struct bytes name;
};

static enum err member_parse(struct bytes in, struct member *m)
{
    struct pb_span f;
    enum pb_result res;

    *m = (struct member){0};
    while ((res = pb_span_next(&in, &f)) == PB_FIELD) {
        enum pb_wire want = f.number == MEMBER_ID ? PB_VARINT : PB_LEN;

        if (f.number == 0 || f.number > MEMBER_CLIENT_URLS)
            continue;
        if (f.wire != want)
            return ERR_ANS_WIRE_TYPE;
        if (f.number == MEMBER_ID)
            m->id = f.varint;
        if (f.number == MEMBER_NAME)
            m->name = f.value;
    }
    return res == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* Is this URL for that member? A URL without a name is for the one that answered. */
static bool is_for(const struct rewrite *w, const struct etcd_advertise_url *url,
                   const struct member *m)
{
    if (url->member == NULL)
        return m->id != 0 && m->id == w->answering;
    return m->name.n > 0 && bytes_eq(m->name, bytes_str(url->member));
}

static void put_urls(struct rewrite *w, const struct member *m)
{
    for (size_t i = 0; i < w->adv->count; i++) {
        struct bytes url = bytes_str(w->adv->v[i].url);

        if (!is_for(w, &w->adv->v[i], m))
            continue;
        put_head(w, MEMBER_CLIENT_URLS, url.n);
        put(w, url);
        w->kept++;
    }
}

static enum err put_member(struct rewrite *w, struct bytes in)
{
    bool has_urls = false;
    struct member m;
    struct pb_span f;
    struct bytes at = in;

    TRY(member_parse(in, &m));
    while (pb_span_next(&in, &f) == PB_FIELD) {
        if (!has_urls && f.number > MEMBER_CLIENT_URLS) {
            put_urls(w, &m);
            has_urls = true;
        }
        if (f.number != MEMBER_CLIENT_URLS)
            put(w, bytes_of(at.p, at.n - in.n));
        at = in;
    }
    if (!has_urls)
        put_urls(w, &m);
    return ERR_OK;
}

/* A Member: its new length first, then its bytes. */
static enum err put_member_field(struct rewrite *w, uint32_t number, struct bytes in)
{
    struct rewrite count = *w;

    count.out = NULL;
    count.out_len = 0;
    TRY(put_member(&count, in));
    put_head(w, number, count.out_len);
    return put_member(w, in);
}

static bool is_member(const struct rewrite *w, uint32_t number)
{
    return number == 2 || (number == 3 && w->content == ETCD_MEMBER_ADD);
}

static enum err header_parse(struct rewrite *w, struct bytes in)
{
    struct pb_span f;
    enum pb_result res;

    while ((res = pb_span_next(&in, &f)) == PB_FIELD) {
        if (f.number != 2)
            continue;
        if (f.wire != PB_VARINT)
            return ERR_ANS_WIRE_TYPE;
        w->answering = f.varint;
    }
    return res == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

static enum err scan(struct rewrite *w, struct bytes in)
{
    bool has_header = false, has_member = false;
    struct pb_span f;
    enum pb_result res;

    while ((res = pb_span_next(&in, &f)) == PB_FIELD) {
        bool is_header = f.number == 1;
        bool is_single = f.number == 2 && w->content == ETCD_MEMBER_ADD;

        if ((is_header || is_member(w, f.number)) && f.wire != PB_LEN)
            return ERR_ANS_WIRE_TYPE;
        if ((is_header && has_header) || (is_single && has_member))
            return ERR_ANS_DOUBLED;
        if (is_header)
            TRY(header_parse(w, f.value));
        has_header = has_header || is_header;
        has_member = has_member || is_single;
    }
    return res == PB_END ? ERR_OK : ERR_ANS_MALFORMED;
}

/* Writes the whole answer, or only counts its bytes. */
static enum err write_all(struct rewrite *w, struct bytes in)
{
    struct pb_span f;
    struct bytes at = in;

    w->out_len = 0;
    w->kept = 0;
    while (pb_span_next(&in, &f) == PB_FIELD) {
        if (is_member(w, f.number))
            TRY(put_member_field(w, f.number, f.value));
        else
            put(w, bytes_of(at.p, at.n - in.n));
        at = in;
    }
    return w->kept > 0 || w->content != ETCD_MEMBERS ? ERR_OK : ERR_CONFIG;
}

static enum err rewrite(struct rewrite *w, struct bytes in, struct slab_pool *pool,
                        struct chain *out)
{
    size_t len;
    enum err e;

    TRY(scan(w, in));
    TRY(write_all(w, in));
    len = w->out_len;
    w->out = malloc(len + 1);
    if (w->out == NULL)
        return ERR_NOMEM;
    e = write_all(w, in);
    CHECK(e != ERR_OK || w->out_len == len);
    if (e == ERR_OK)
        e = chain_push_copy(out, pool, w->out, len, 0);
    free(w->out);
    return e;
}

enum err etcd_members_rewrite(enum etcd_content content, const struct etcd_advertise *adv,
                              struct slab_pool *pool, struct chain *msg, struct chain *out)
{
    struct rewrite w = {.content = content, .adv = adv};
    struct chain made = {0};
    size_t len = msg->len, out_len = out->len;
    uint8_t *flat = malloc(len + 1);
    enum err e = ERR_NOMEM;

    CHECK(etcd_content_is_members(content));
    if (flat != NULL) {
        chain_copy(msg, 0, len, flat);
        e = rewrite(&w, bytes_of(flat, len), pool, &made);
    }
    free(flat);
    chain_fini(msg);
    if (e == ERR_OK)
        e = chain_append(out, &made);
    if (e != ERR_OK)
        etcd__chain_cut(out, out_len);
    chain_fini(&made);
    return e;
}
