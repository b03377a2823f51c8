/* SPDX-License-Identifier: Apache-2.0 */
/* Limits against hostile clients, and servers that the owner of the connection does not trust,
 * beyond those of what piles up (acknowledgements: frame_out.c, header blocks: frame_in.c, SETTINGS
 * entries: settings.c).
 *
 * Frames that do nothing are legal, in any number: empty DATA (CVE-2019-9518), PRIORITY
 * (CVE-2019-9513), PING and SETTINGS whose answers are read (CVE-2019-9512, -9515), WINDOW_UPDATE
 * by one, unknown types, frames on closed streams. So every frame costs a token when its head is
 * there. HEADERS and DATA that reached a stream give more tokens back (message_in.c), and so does
 * DATA that we send (send.c), because a reader acknowledges it with WINDOW_UPDATEs and, as grpc-go
 * does, with PINGs. A client that does work never runs dry, however fast; one that does none has
 * 10000 frames and 330 a second more.
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
    h2__bucket_init(&g->frames, FRAME_BURST, FRAME_RATE, now_ms);
    h2__bucket_init(&g->resets, RESET_BURST, RESET_RATE, now_ms);
    h2__bucket_init(&g->violations, VIOLATION_BURST, VIOLATION_RATE, now_ms);
}

bool h2__guard_frame(struct h2__guard *g, uint8_t type, size_t streams, uint64_t now_ms)
{
    uint32_t cost = 1;

    if (type == H2__RST_STREAM && !h2__bucket_take(&g->resets, 1, now_ms))
        return false;
    if (type == H2__SETTINGS)
        cost += (uint32_t)(streams / STREAMS_A_TOKEN);
    return h2__bucket_take(&g->frames, cost, now_ms);
}
