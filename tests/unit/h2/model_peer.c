/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

static uint32_t seed;

void model_seed(uint32_t value)
{
    seed = value;
}

uint32_t below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % n;
}

/* ------------------------------------------------------------------------ the peer's books */

static struct seen *seen_of(struct model *m, uint32_t id)
{
    return id == 0 || id / 2 >= m->count ? NULL : &m->v[id / 2];
}

static bool is_closed(const struct seen *s)
{
    return s->is_reset || (s->is_ours_over && s->is_peers_over);
}

static uint32_t open_count(const struct model *m)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->count; i++)
        n += !is_closed(&m->v[i]);
    return n;
}

static void seen_new(struct model *m, uint32_t id)
{
    assert_int_equal(id, m->next_id);
    assert_true(m->count < STREAMS);
    m->next_id += 2;
    m->v[m->count++] = (struct seen){.id = id, .window = m->initial, .room = STREAM_WINDOW};
}

static void got_data(struct model *m, struct seen *s, const struct raw_frame *f)
{
    assert_false(s->is_ours_over);
    assert_true(f->len == 0 || (f->len <= s->window && f->len <= m->conn_window));
    s->window -= f->len;
    m->conn_window -= f->len;
    s->got += f->len;
}

static void got_headers(struct model *m, const struct raw_frame *f)
{
    if (!m->is_server && f->id == m->next_id) {
        assert_true(open_count(m) < m->limit);
        seen_new(m, f->id);
    }
    assert_non_null(seen_of(m, f->id));
    assert_false(seen_of(m, f->id)->is_ours_over);
}

static void got_ack(struct model *m)
{
    int64_t size = m->asked[m->asked_at++ % ARRAY_LEN(m->asked)];

    m->asked_count--;
    for (uint32_t i = 0; size >= 0 && i < m->count; i++)
        m->v[i].window += size - m->initial;
    if (size >= 0)
        m->initial = size;
}

/* Refused is only what the peer knows to be too much. */
static void got_rst(struct model *m, struct seen *s, const struct raw_frame *f)
{
    s->is_reset = true;
    if (f->p[3] == H2_REFUSED_STREAM)
        assert_true(m->has_left);
    else
        assert_true(f->p[3] == H2_CANCEL || f->p[3] == H2_NO_ERROR);
}

static void got_frame(struct model *m, const struct raw_frame *f)
{
    struct seen *s;

    if (f->type == F_HEADERS)
        got_headers(m, f);
    s = seen_of(m, f->id);
    switch (f->type) {
    case F_DATA:
        assert_non_null(s);
        got_data(m, s, f);
        break;
    case F_RST:
        assert_non_null(s);
        got_rst(m, s, f);
        break;
    case F_WINDOW:
        if (s != NULL)
            s->room += h2__u32(f->p);
        else
            m->conn_room += h2__u32(f->p);
        break;
    case F_SETTINGS:
        if ((f->flags & FLAG_ACK) != 0)
            got_ack(m);
        break;
    case F_GOAWAY:
        assert_int_equal(f->p[7], H2_NO_ERROR);
        m->has_left = true;
        break;
    default:
        break;
    }
    if ((f->type == F_DATA || f->type == F_HEADERS) && (f->flags & FLAG_END_STREAM) != 0)
        s->is_ours_over = true;
}

void peer_read(struct model *m)
{
    struct raw_frame f;

    raw_read(&m->d.raw);
    while (raw_next(&m->d.raw, &f))
        if (!m->is_rude)
            got_frame(m, &f);
    memmove(m->d.raw.in, m->d.raw.in + m->d.raw.at, m->d.raw.in_len - m->d.raw.at);
    m->heard += m->d.raw.at;
    m->d.raw.in_len -= m->d.raw.at;
    m->d.raw.at = 0;
    m->is_over |= m->d.raw.is_eof;
}

/* ------------------------------------------------------------------------ the peer */

static void peer_send(struct model *m, uint8_t type, uint8_t flags, uint32_t id, const void *p,
                      size_t n)
{
    if (!m->is_over && !raw_frame(&m->d.raw, type, flags, id, p, n))
        m->is_over = true;
}

void peer_settings(struct model *m, uint16_t id, uint32_t value)
{
    uint8_t p[6] = {0, (uint8_t)id};

    if (m->asked_count == ARRAY_LEN(m->asked))
        return;
    h2__put_u32(p + 2, value);
    m->asked[(m->asked_at + m->asked_count++) % ARRAY_LEN(m->asked)] =
        id == 4 ? (int64_t)value : -1;
    peer_send(m, F_SETTINGS, 0, 0, p, sizeof p);
}

void peer_window(struct model *m, struct seen *s, uint32_t n)
{
    uint8_t p[4];

    h2__put_u32(p, n);
    *(s == NULL ? &m->conn_window : &s->window) += n;
    peer_send(m, F_WINDOW, 0, s == NULL ? 0 : s->id, p, sizeof p);
}

static void peer_headers(struct model *m, uint32_t id, bool end)
{
    uint8_t block[200], flags = end ? FLAG_END_STREAM : 0;
    size_t n = m->is_server ? raw_put_request(block) : raw_put_field(block, ":status", "200");
    size_t cut = below(3) == 0 ? below((uint32_t)n) : n;

    peer_send(m, F_HEADERS, flags | (cut == n ? FLAG_END_HEADERS : 0), id, block, cut);
    if (cut < n)
        peer_send(m, F_CONT, FLAG_END_HEADERS, id, block + cut, n - cut);
}

static void peer_open(struct model *m)
{
    bool end = below(2) == 0;

    if (m->count == STREAMS || m->is_quiet || open_count(m) >= LIMIT)
        return;
    seen_new(m, m->next_id);
    m->v[m->count - 1].is_peers_over = end;
    peer_headers(m, m->v[m->count - 1].id, end);
}

static void peer_data(struct model *m, struct seen *s, bool end)
{
    static const uint8_t zeros[20000];
    uint8_t pad = (uint8_t)(below(4) == 0 ? 1 + below(200) : 0);
    int64_t room = s->room < m->conn_room ? s->room : m->conn_room;
    uint32_t n = below(5) == 0 ? 0 : below(16384 - 256);
    uint8_t p[20000];

    if (room < n + pad + 1) {
        pad = 0;
        n = 0;
    }
    memcpy(p, zeros, sizeof p);
    p[0] = pad;
    n += pad > 0 ? pad + 1u : 0;
    s->room -= n;
    m->conn_room -= n;
    s->is_peers_over = end;
    peer_send(m, F_DATA, (end ? FLAG_END_STREAM : 0) | (pad > 0 ? FLAG_PADDED : 0), s->id, p, n);
}

static void peer_trailers(struct model *m, struct seen *s)
{
    uint8_t block[50];

    s->is_peers_over = true;
    peer_send(m, F_HEADERS, FLAG_END_HEADERS | FLAG_END_STREAM, s->id, block,
              raw_put_field(block, "grpc-status", "0"));
}

/* What a peer does on a stream of which it has not ended its side. */
static void peer_says(struct model *m, struct seen *s)
{
    if (!m->is_server && !s->is_answered) {
        s->is_answered = true;
        s->is_peers_over = below(5) == 0;
        peer_headers(m, s->id, s->is_peers_over);
    } else if (below(8) == 0) {
        peer_trailers(m, s);
    } else {
        peer_data(m, s, below(6) == 0);
    }
}

static void peer_on(struct model *m, struct seen *s)
{
    uint8_t p[4] = {0, 0, 0, H2_CANCEL};

    if (is_closed(s))
        return;
    switch (below(8)) {
    case 0:
        if (below(2) == 0)
            break;
        s->is_reset = true;
        peer_send(m, F_RST, 0, s->id, p, sizeof p);
        break;
    case 1:
    case 2:
    case 3:
        peer_window(m, s, 1 + below(below(2) == 0 ? 20 : 40000));
        break;
    default:
        if (!s->is_peers_over)
            peer_says(m, s);
        break;
    }
}

static void peer_goaway(struct model *m)
{
    uint8_t p[8] = {0};

    if (m->is_server || m->count == 0)
        return;
    h2__put_u32(p, m->v[below(m->count)].id);
    peer_send(m, F_GOAWAY, 0, 0, p, sizeof p);
    for (uint32_t i = 0; i < m->count; i++)
        m->v[i].is_reset |= m->v[i].id > h2__u32(p);
}

/* A frame that may be wrong on a stream that may be over. */
static void peer_is_rude(struct model *m)
{
    static const uint8_t zeros[16384];
    static const uint32_t increments[] = {0, 1, 1000, H2__WINDOW_MAX};
    uint32_t id = 1 + 2 * below(m->is_server ? m->count + 1 : m->d.e.recs_count + 1);
    uint8_t p[8] = {0}, flags = below(4) == 0 ? FLAG_END_STREAM : 0;

    h2__put_u32(p, increments[below(ARRAY_LEN(increments))]);
    switch (below(200) == 0 ? 10 : below(6)) {
    case 0:
        peer_send(m, F_WINDOW, 0, below(8) == 0 ? 0 : id, p, 4);
        break;
    case 1:
        peer_send(m, F_RST, 0, id, p, 4);
        break;
    case 2:
    case 3:
        peer_headers(m, id, flags != 0);
        m->count += m->is_server && id / 2 == m->count && m->count < STREAMS;
        break;
    case 10:
        peer_send(m, (uint8_t)below(12), (uint8_t)below(64), below(2) * id, zeros, below(10));
        break;
    default:
        peer_send(m, F_DATA, flags, id, zeros, below(below(9) == 0 ? 16384 : 2));
        break;
    }
}

void peer_step(struct model *m)
{
    static const uint32_t sizes[] = {0, 1, 100, 5000, 65535, 300000};

    if (m->is_rude) {
        peer_is_rude(m);
        return;
    }
    switch (below(40)) {
    case 0:
        if (m->is_wide)
            break;
        peer_settings(m, 4, sizes[below(ARRAY_LEN(sizes))]);
        break;
    case 1:
        peer_settings(m, 1, below(2) * below(5000));
        break;
    case 2:
        peer_send(m, F_PING, 0, 0, "pingping", 8);
        break;
    case 3:
        if (below(40) == 0)
            peer_goaway(m);
        break;
    case 4:
    case 5:
    case 6:
        if (m->conn_window < 1 << 20)
            peer_window(m, NULL, 1 + below(below(2) == 0 ? 20 : 60000));
        break;
    default:
        if (m->is_server && below(4) == 0)
            peer_open(m);
        else if (m->count > 0)
            peer_on(m, &m->v[m->count - 1 - below(m->count < 40 ? m->count : 40)]);
        break;
    }
}

static void finish_one(struct model *m, struct seen *s)
{
    if (is_closed(s))
        return;
    if (s->window < 1 << 20)
        peer_window(m, s, 1 << 20);
    if (s->is_peers_over)
        return;
    if (!m->is_server && !s->is_answered)
        peer_says(m, s);
    else
        peer_trailers(m, s);
}

void peer_finish(struct model *m)
{
    if (m->conn_window < 1 << 28)
        peer_window(m, NULL, 1 << 28);
    if (m->initial < 1 << 20 && m->asked_count == 0)
        peer_settings(m, 4, 1 << 28);
    peer_read(m);
    for (uint32_t i = 0; i < m->count && !m->is_over; i++)
        finish_one(m, &m->v[i]);
}
