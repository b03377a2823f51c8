/* SPDX-License-Identifier: Apache-2.0 */
#include "base/randpool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/secret.h"

static enum err randpool_fill(struct randpool *pool)
{
    size_t have = 0;

    while (have < sizeof pool->buf) {
        ssize_t n = getrandom(pool->buf + have, sizeof pool->buf - have, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ERR_RANDOM;
        have += (size_t)n;
    }
    pool->left = sizeof pool->buf;
    return ERR_OK;
}

enum err randpool_get(struct randpool *pool, void *out, size_t n)
{
    uint8_t *from;

    CHECK(n <= sizeof pool->buf);
    if (pool->left < n)
        TRY(randpool_fill(pool));
    from = pool->buf + sizeof pool->buf - pool->left;
    memcpy(out, from, n);
    secret_wipe(from, n);
    pool->left -= (uint32_t)n;
    return ERR_OK;
}

void randpool_wipe(struct randpool *pool)
{
    secret_wipe(pool, sizeof *pool);
}

enum err randpool_uuid(struct randpool *pool, char out[static 37])
{
    uint8_t u[16];

    TRY(randpool_get(pool, u, sizeof u));
    u[6] = (uint8_t)((u[6] & 0x0f) | 0x40);
    u[8] = (uint8_t)((u[8] & 0x3f) | 0x80);
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
             u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
             u[14], u[15]);
    return ERR_OK;
}
