/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the headers of a request. Gives: a verdict, and the headers that go to etcd.
 * Owns: nothing. Thread: any. */
#ifndef PROXY_REQUEST_H
#define PROXY_REQUEST_H

#include "etcd/method.h"
#include "proxy/fields.h"

#define REQUEST_TEXT_MAX 128

enum request_verdict {
    REQUEST_NO_GRPC = 0, /* answered with http_status, status and text, as grpc-go's server does */
    REQUEST_HTTP,        /* not meant for gRPC: what etcd's HTTP handlers would be given */
    REQUEST_UNKNOWN_METHOD,
    REQUEST_COMPRESSED,
    REQUEST_GOOD,
};

/* What the headers say. Borrowed from them. */
struct request_head {
    const struct etcd_method *method; /* REQUEST_COMPRESSED, _GOOD */
    struct bytes http_method, path, authority, encoding;
    struct bytes content_type; /* the first that is gRPC's */
    bool has_timeout;
    uint64_t timeout_ns;
    /* REQUEST_NO_GRPC */
    const char *http_status;
    enum grpc_status status;
    char text[REQUEST_TEXT_MAX];
};

enum request_verdict request_judge(struct h2_fields h, struct request_head *out);
/* Makes f (empty) the headers for etcd of a good request, with room for a grpc-timeout. The value
 * of the field at REQUEST_SCHEME is "http"; it may be replaced. Errors: ERR_NOMEM. */
#define REQUEST_SCHEME 1
MUST_CHECK enum err request_for_etcd(struct fields *f, struct objects *o, struct h2_fields h,
                                     const struct request_head *head);

#endif
