/* SPDX-License-Identifier: Apache-2.0 */
/* The byte-code of h2_diff's inputs, and what it means. Two bytes of options come first (bits of
 * enum below; the owner's policy), then operations: a byte that says what (its low five bits),
 * whether the ends take their turn behind it (not with 32) and whether its bytes are cut (64);
 * then what the operation needs. So a few bytes make frames that belong together, with field blocks
 * from nghttp2's own encoder, and others that do not. */
#include "h2_diff.h"

enum { CLIENT = 1, NO_CREDIT = 2, SMALL_CONN = 4, FEW_STREAMS = 8, NO_ACK = 16 };
enum { NO_TURN = 32, CUT = 64 };

/* ------------------------------------------------------------------------ frames */

static void put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void put_frame(struct grow *out, uint8_t type, uint8_t flags, uint32_t id, struct bytes p)
{
    uint8_t head[FRAME_HEAD] = {(uint8_t)(p.n >> 16), (uint8_t)(p.n >> 8), (uint8_t)p.n, type,
                                flags};

    put_u32(head + 5, id);
    grow_add(out, head, sizeof head);
    grow_add(out, p.p, p.n);
}

static void put_number(struct grow *out, uint8_t type, uint8_t flags, uint32_t id, uint32_t v)
{
    uint8_t p[4];

    put_u32(p, v);
    put_frame(out, type, flags, id, bytes_of(p, 4));
}

/* A frame with padding before and behind its payload, which may be said to be too long. */
static void put_padded(struct grow *out, uint8_t type, uint8_t flags, uint32_t id, struct bytes p,
                       uint8_t pad, bool is_lie)
{
    static const uint8_t zeros[256];
    struct grow all = {0};
    uint8_t said = is_lie ? 255 : pad;

    grow_add(&all, &said, 1);
    grow_add(&all, p.p, p.n);
    grow_add(&all, zeros, pad);
    put_frame(out, type, flags | NGHTTP2_FLAG_PADDED, id, bytes_of(all.p, all.n));
    grow_free(&all);
}

/* ------------------------------------------------------------------------ choices */

/* Mostly a stream that was opened lately. */
static uint32_t pick_id(struct code *c)
{
    uint8_t b = fuzz_u8(&c->in);
    uint32_t back = 2u * (1 + (b & 7));

    switch (b >> 3) {
    case 24:
        return 0;
    case 25:
        return c->next_id; /* idle */
    case 26:
        return c->next_id + 2;
    case 27:
        return 2;
    case 28:
        return c->next_id - 1;
    case 29:
        return 0x7fffffff;
    case 30:
        return 0x80000000 | 1;
    default:
        return c->next_id > back ? c->next_id - back : 1;
    }
}

static uint32_t pick_number(struct code *c)
{
    static const uint32_t some[] = {0,        1,          2,          5,         100,   4096,
                                    16383,    16384,      16385,      65535,     65536, 1u << 20,
                                    1u << 24, 0x7fffffff, 0x80000000, 0xffffffff};
    uint8_t b = fuzz_u8(&c->in);

    return b < 128 ? some[b % ARRAY_LEN(some)] : b;
}

static size_t pick_size(struct code *c)
{
    static const size_t some[] = {0, 1, 5, 100, 1000, 16383, 16384, 16385};
    uint8_t b = fuzz_u8(&c->in);

    return b < 200 ? some[b % ARRAY_LEN(some)] : b;
}

/* ------------------------------------------------------------------------ field blocks */

struct choice {
    const char *name, *value;
};

static const struct choice request[] = {
    {":method", "POST"}, {":scheme", "http"}, {":path", "/a.B/C"}, {":authority", "x"}};
static const struct choice answer[] = {{":status", "200"}};
static const struct choice fields[] = {
    {"x-test", "1"},
    {"x-test", "another value"},
    {"grpc-timeout", "5S"},
    {"grpc-status", "0"},
    {"content-type", "application/grpc"},
    {"authorization", "Bearer secret"},
    {"te", "trailers"},
    {"te", "gzip"},
    {"content-length", "3"},
    {"connection", "close"},
    {"transfer-encoding", "chunked"},
    {"host", "y"},
    {"X-Test", "1"},
    {"x test", "1"},
    {"", "no name"},
    {"x-empty", ""},
    {"x-control", "a\x01"},
    {"x-line", "a\r\nb"},
    {"x-high", "\xc3\xa4\xff"},
    {"x-tab", "a\tb"},
    {":status", "200"},
    {":status", "100"},
    {":status", "103"},
    {":status", "2000"},
    {":method", "GET"},
    {":path", ""},
    {":scheme", "https"},
    {":authority", "z"},
    {":unknown", "1"},
    {":", ""},
    {"cookie", "a=b; c=d"},
    {"grpc-message", "a%20message that is some bytes long, so that entries leave the table"},
};
#define FIELDS_MAX 16u
#define LARGE 50000u /* three of them pass the limit of a request */

static nghttp2_nv nv_of(const char *name, const char *value, size_t value_len, uint8_t flags)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        value_len, flags};
}

/* A list of the input's choice as a field block. */
static struct buf block_of(struct code *c, bool has_base)
{
    static char large[LARGE];
    const struct choice *base = c->o.is_client ? answer : request;
    size_t n = !has_base ? 0 : c->o.is_client ? ARRAY_LEN(answer) : ARRAY_LEN(request);
    unsigned more = fuzz_u8(&c->in) % 8;
    nghttp2_nv nv[FIELDS_MAX];
    struct buf out;
    ssize_t len;

    memset(large, 'l', sizeof large);
    for (size_t i = 0; i < n; i++)
        nv[i] = nv_of(base[i].name, base[i].value, strlen(base[i].value), 0);
    while (more-- > 4) { /* half of the lists are the base alone */
        uint8_t b = fuzz_u8(&c->in);
        const struct choice *f = &fields[b % ARRAY_LEN(fields)];
        uint8_t flags = (b & 64) != 0 ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;

        nv[n++] = b >= 250 ? nv_of("x-large", large, LARGE, NGHTTP2_NV_FLAG_NO_INDEX)
                           : nv_of(f->name, f->value, strlen(f->value), flags);
    }
    out = (struct buf){malloc(nghttp2_hd_deflate_bound(c->hd, nv, n) + 1), 0};
    CHECK(out.p != NULL);
    len = nghttp2_hd_deflate_hd(c->hd, out.p, nghttp2_hd_deflate_bound(c->hd, nv, n) + 1, nv, n);
    CHECK(len >= 0);
    out.n = (size_t)len;
    return out;
}

enum { F_END = 1, F_PADDED = 2, F_PRIORITY = 4, F_SELF = 8, F_SPLIT = 16, F_BARE = 32, F_LIE = 64 };

/* As many frames as it takes, or as the input wants. */
static void put_block(struct grow *out, uint32_t id, uint8_t how, struct bytes b)
{
    size_t max = (how & F_SPLIT) != 0 ? 1 + b.n / 3 : 16000;
    struct bytes first = fuzz_take(&b, max);
    uint8_t flags = (how & F_END) != 0 ? NGHTTP2_FLAG_END_STREAM : 0, priority[5];
    struct grow payload = {0};

    if (b.n == 0)
        flags |= NGHTTP2_FLAG_END_HEADERS;
    if ((how & F_PRIORITY) != 0) {
        flags |= NGHTTP2_FLAG_PRIORITY;
        put_u32(priority, (how & F_SELF) != 0 ? id : 0);
        priority[4] = how;
        grow_add(&payload, priority, 5);
    }
    grow_add(&payload, first.p, first.n);
    if ((how & F_PADDED) != 0)
        put_padded(out, T_HEADERS, flags, id, bytes_of(payload.p, payload.n), 7,
                   (how & F_LIE) != 0);
    else
        put_frame(out, T_HEADERS, flags, id, bytes_of(payload.p, payload.n));
    grow_free(&payload);
    while (b.n > 0) {
        first = fuzz_take(&b, max);
        put_frame(out, T_CONT, b.n == 0 ? NGHTTP2_FLAG_END_HEADERS : 0, id, first);
    }
}

static void put_headers(struct code *c, struct grow *out, uint32_t id, uint8_t how, bool has_base)
{
    struct buf b = block_of(c, has_base);

    put_block(out, id, how, buf_bytes(&b));
    buf_free(&b);
}

/* ------------------------------------------------------------------------ operations */

static void op_data(struct code *c, struct grow *out, uint32_t id)
{
    static uint8_t bytes[16385];
    uint8_t how = fuzz_u8(&c->in);
    struct bytes b = bytes_of(bytes, pick_size(c));
    uint8_t flags = (how & F_END) != 0 ? NGHTTP2_FLAG_END_STREAM : 0;

    for (size_t i = 0; i < b.n; i++)
        bytes[i] = (uint8_t)(i * 7 + how);
    if ((how & F_PADDED) != 0)
        put_padded(out, T_DATA, flags, id, b, how, (how & F_LIE) != 0);
    else
        put_frame(out, T_DATA, flags, id, b);
}

static void op_settings(struct code *c, struct grow *out)
{
    uint8_t p[6 * 3], count = fuzz_u8(&c->in) % 4;

    for (uint8_t i = 0; i < count; i++) {
        p[i * 6] = 0;
        p[i * 6 + 1] = fuzz_u8(&c->in) % 8;
        put_u32(p + i * 6 + 2, pick_number(c));
    }
    put_frame(out, T_SETTINGS, 0, 0, bytes_of(p, (size_t)count * 6));
}

static void op_goaway(struct code *c, struct grow *out)
{
    uint8_t p[8];

    put_u32(p, pick_id(c));
    put_u32(p + 4, fuzz_u8(&c->in) % 16);
    put_frame(out, T_GOAWAY, 0, 0, bytes_of(p, 8));
}

static void op_raw(struct code *c, struct grow *out)
{
    uint8_t type = fuzz_u8(&c->in) % 12, flags = fuzz_u8(&c->in);
    uint32_t id = pick_id(c);

    put_frame(out, type, flags, id, fuzz_take(&c->in, fuzz_u8(&c->in) % 40));
}

/* A block that the input spells byte by byte. */
static void op_raw_block(struct code *c, struct grow *out)
{
    uint8_t how = fuzz_u8(&c->in) & (F_END | F_SPLIT);
    struct grow block = {0};
    struct bytes b = fuzz_take(&c->in, fuzz_u8(&c->in) % 64);

    if (c->o.is_client)
        grow_add(&block, "\x88", 1);
    else
        grow_add(&block, "\x83\x86\x84", 3);
    grow_add(&block, b.p, b.n);
    if (!c->o.is_client)
        c->next_id += 2;
    put_block(out, c->next_id - 2, how, bytes_of(block.p, block.n));
    grow_free(&block);
}

static void op_open(struct code *c, struct grow *out)
{
    uint8_t how = fuzz_u8(&c->in);
    uint32_t id = c->next_id;

    if (c->o.is_client)
        id = pick_id(c);
    else
        c->next_id += 2;
    put_headers(c, out, id, how, (how & F_BARE) == 0);
}

static void op_small(struct code *c, struct grow *out, unsigned op)
{
    static const uint8_t ping[8] = {1, 2, 3}, priority[5];
    uint8_t flags;

    if (op == 0) {
        flags = fuzz_u8(&c->in) & 1;
        put_frame(out, T_PING, flags, 0, bytes_of(flags == 0 ? ping : c->ping, 8));
    }
    if (op == 1)
        put_frame(out, T_SETTINGS, NGHTTP2_FLAG_ACK, 0, bytes_of(NULL, 0));
    else if (op == 2)
        put_frame(out, T_PRIORITY, 0, pick_id(c), bytes_of(priority, 5));
    else if (op == 3)
        put_frame(out, 0x20, fuzz_u8(&c->in), pick_id(c), bytes_of(ping, 8));
    else if (op == 4)
        c->next_id += 2u * (fuzz_u8(&c->in) % 4);
}

static enum code_step op_run(struct code *c, struct grow *out, unsigned op)
{
    uint32_t id;

    if (op < 8) {
        op_open(c, out);
    } else if (op < 14) {
        op_data(c, out, pick_id(c));
    } else if (op < 17) { /* trailers, as a rule */
        id = pick_id(c);
        put_headers(c, out, id, fuzz_u8(&c->in), false);
    } else if (op == 17) {
        put_number(out, T_RST, 0, pick_id(c), fuzz_u8(&c->in) % 16);
    } else if (op < 20) {
        id = pick_id(c);
        put_number(out, T_WINDOW, 0, id, pick_number(c));
    } else if (op == 20) {
        op_settings(c, out);
    } else if (op == 21) {
        op_goaway(c, out);
    } else if (op == 22) {
        op_raw(c, out);
    } else if (op < 25) {
        op_raw_block(c, out);
    } else if (op == 25) {
        grow_add(out, c->in.p, c->in.n < 3 ? c->in.n : 3); /* not a frame, or not a whole one */
    } else if (op < 27 || (op == 27 && c->o.is_client)) {
        c->next_id += c->o.is_client ? 2 : 0;
        return CODE_ASK;
    } else {
        op_small(c, out, op % 5);
    }
    return CODE_BYTES;
}

enum code_step code_next(struct code *c, struct grow *out)
{
    uint8_t op;

    out->n = 0;
    if (c->in.n == 0 || c->frames++ == DIFF_FRAMES)
        return CODE_END;
    op = fuzz_u8(&c->in);
    c->is_turn = (op & NO_TURN) == 0;
    c->is_cut = (op & CUT) != 0;
    return op_run(c, out, op & 31);
}

void code_init(struct code *c, struct bytes in, struct grow *hello)
{
    uint8_t options;

    *c = (struct code){.in = in};
    options = fuzz_u8(&c->in);
    c->o = (struct diff_options){.is_client = (options & CLIENT) != 0,
                                 .no_credit = (options & NO_CREDIT) != 0,
                                 .small_conn = (options & SMALL_CONN) != 0,
                                 .few_streams = (options & FEW_STREAMS) != 0,
                                 .policy = fuzz_u8(&c->in)};
    c->next_id = c->o.is_client ? 7 : 1; /* our client asks three times at once */
    CHECK(nghttp2_hd_deflate_new(&c->hd, 4096) == 0);
    if (!c->o.is_client)
        grow_add(hello, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(hello, T_SETTINGS, 0, 0, bytes_of(NULL, 0));
    if ((options & NO_ACK) == 0)
        put_frame(hello, T_SETTINGS, NGHTTP2_FLAG_ACK, 0, bytes_of(NULL, 0));
    if (!c->o.small_conn)
        put_number(hello, T_WINDOW, 0, 0, 1u << 30);
}

void code_fini(struct code *c)
{
    nghttp2_hd_deflate_del(c->hd);
}
