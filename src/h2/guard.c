/* SPDX-License-Identifier: Apache-2.0 */
/* Limits against hostile clients, beyond those of nghttp2.
 *
 * nghttp2 bounds what piles up (acks not sent, CONTINUATION, SETTINGS entries), but takes any
 * number of frames that do nothing: empty DATA (CVE-2019-9518), PRIORITY (CVE-2019-9513), PING and
 * SETTINGS that are read (CVE-2019-9512, -9515), WINDOW_UPDATE by one, unknown types, frames on
 * closed streams. So the frame headers are counted here, in the raw input, before nghttp2 sees it:
 * each costs a token. HEADERS and DATA that reached a stream give more tokens back (input.c), and
 * so does DATA that we send (output.c), because a reader acknowledges it with WINDOW_UPDATEs and,
 * as grpc-go does, with PINGs. A client that does work never runs dry, however fast; one that does
 * none has 10000 frames and 330 a second more.
 *
 * Rapid reset (CVE-2023-44487) and streams that we have to reset (CVE-2019-9514, CVE-2025-8671)
 * have buckets of their own. SETTINGS may change the window of every stream, so with many streams
 * they cost more. */
#include "h2/h2_int.h"

/* A client whose thousand calls time out at once sends as many resets, and must not be cut off. */
#define RESET_BURST 10000u
#define RESET_RATE 1000u
#define FRAME_BURST 10000u
#define FRAME_RATE 330u
#define VIOLATION_BURST 100u
#define VIOLATION_RATE 10u

#define STREAMS_A_TOKEN 256u

#define FRAME_HEAD_LEN 9u
#define PREFACE_LEN 24u

void h2__bucket_init(struct h2__bucket *b, uint32_t cap, uint32_t rate, uint64_t now_ms)
{
    *b = (struct h2__bucket){
        .level = (uint64_t)cap * 1000, .at_ms = now_ms, .cap = cap, .rate = rate};
}

static void bucket_add(struct h2__bucket *b, uint64_t thousandths)
{
    uint64_t max = (uint64_t)b->cap * 1000;

    b->level = thousandths > max - b->level ? max : b->level + thousandths;
}

bool h2__bucket_take(struct h2__bucket *b, uint32_t n, uint64_t now_ms)
{
    uint64_t cost = (uint64_t)n * 1000;

    if (now_ms > b->at_ms) {
        uint64_t passed = now_ms - b->at_ms;

        /* An hour fills every bucket; the bound keeps the product small. */
        bucket_add(b, (passed > 3600000 ? 3600000 : passed) * b->rate);
        b->at_ms = now_ms;
    }
    if (cost > b->level)
        return false;
    b->level -= cost;
    return true;
}

void h2__bucket_give(struct h2__bucket *b, uint32_t n)
{
    bucket_add(b, (uint64_t)n * 1000);
}

void h2__guard_init(struct h2__guard *g, uint64_t now_ms)
{
    *g = (struct h2__guard){.skip = PREFACE_LEN};
    h2__bucket_init(&g->frames, FRAME_BURST, FRAME_RATE, now_ms);
    h2__bucket_init(&g->resets, RESET_BURST, RESET_RATE, now_ms);
    h2__bucket_init(&g->violations, VIOLATION_BURST, VIOLATION_RATE, now_ms);
}

void h2__guard_streams(struct h2__guard *g, size_t count)
{
    g->settings_cost = (uint32_t)(count / STREAMS_A_TOKEN);
}

bool h2__guard_input(struct h2__guard *g, const uint8_t *p, size_t n, uint64_t now_ms)
{
    uint32_t frames = 0, resets = 0;

    while (n > 0) {
        size_t part;

        if (g->skip > 0) {
            part = g->skip < n ? g->skip : n;
            g->skip -= (uint32_t)part;
        } else {
            part = FRAME_HEAD_LEN - g->head_len;
            part = part < n ? part : n;
            memcpy(g->head + g->head_len, p, part);
            g->head_len = (uint8_t)(g->head_len + part);
            if (g->head_len == FRAME_HEAD_LEN) {
                /* RFC 9113 section 4.1: length (24 bits), type, flags, stream id. */
                g->skip = (uint32_t)g->head[0] << 16 | (uint32_t)g->head[1] << 8 | g->head[2];
                g->head_len = 0;
                frames++;
                if (g->head[3] == NGHTTP2_RST_STREAM)
                    resets++;
                if (g->head[3] == NGHTTP2_SETTINGS)
                    frames += g->settings_cost;
            }
        }
        p += part;
        n -= part;
    }
    return h2__bucket_take(&g->frames, frames, now_ms) &&
           h2__bucket_take(&g->resets, resets, now_ms);
}

size_t h2__field_size(size_t name_len, size_t value_len)
{
    return name_len + value_len + 32;
}
