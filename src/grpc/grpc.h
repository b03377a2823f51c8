/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the bytes of an HTTP/2 stream and gRPC header values. Gives: message prefixes, status
 * texts, timeouts. Owns: nothing. Thread: any.
 * Source: gRPC over HTTP2 (grpc/grpc doc/PROTOCOL-HTTP2). */
#ifndef GRPC_GRPC_H
#define GRPC_GRPC_H

#include "base/slice.h"

#define GRPC_PREFIX_LEN 5u

struct grpc_prefix {
    uint8_t flag;    /* 0: plain, 1: compressed; everything else is malformed */
    uint32_t length; /* of the message behind the prefix */
};

/* Reads the prefix at the start of c. False while fewer than 5 bytes are there. */
MUST_CHECK bool grpc_prefix_peek(const struct chain *c, struct grpc_prefix *out);
void grpc_prefix_put(uint8_t out[static GRPC_PREFIX_LEN], uint32_t length);

/* grpc-timeout: 1 to 8 digits and one of H M S m u n. False when malformed. ns saturates. */
MUST_CHECK bool grpc_timeout_parse(struct bytes text, uint64_t *ns);
/* Writes a timeout of ns nanoseconds with at most 8 digits, rounded down, at least "1n".
 * NUL-terminated; returns the length. */
#define GRPC_TIMEOUT_MAX 10
size_t grpc_timeout_format(uint64_t ns, char out[static GRPC_TIMEOUT_MAX]);

/* Percent-encodes a grpc-message: bytes outside of 0x20..0x7e and '%' become %XX. NUL-terminated,
 * cut to cap - 1 bytes between escapes; returns the length. */
size_t grpc_message_encode(struct bytes text, char *out, size_t cap);
/* The reverse; malformed escapes stay as they are. NUL-terminated, cut; returns the length. */
size_t grpc_message_decode(struct bytes text, char *out, size_t cap);

/* content-type: "application/grpc", or with "+..." or ";..." behind it, as grpc-go judges. */
bool grpc_content_type_ok(struct bytes value);

#endif
