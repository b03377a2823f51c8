/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the metrics listeners of several proxies. Gives: their state side by side. Owns:
 * nothing. Thread: one without a loop. */
#ifndef TOOLS_STATUS_H
#define TOOLS_STATUS_H

#include <stdio.h>

#include "net/addr.h"
#include "net/tls.h"

struct tools_status_opts {
    const struct net_url *urls;
    size_t url_count;
    struct net_tls *tls; /* for https, without ALPN h2; NULL: none is */
    bool is_json;
    FILE *out;
};

/* Zero is the worst. */
enum tools_status_result {
    TOOLS_STATUS_AWAY = 0, /* a proxy did not answer */
    TOOLS_STATUS_DIFFER,   /* they don't agree, or one is not well */
    TOOLS_STATUS_GOOD,
};

/* Errors: ERR_NOMEM, ERR_SYSTEM; then nothing was written. */
MUST_CHECK enum err tools_status(const struct tools_status_opts *o,
                                 enum tools_status_result *result);

#endif
