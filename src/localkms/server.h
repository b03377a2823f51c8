/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: connections on a unix socket. Gives: answers of the KMS v2 service. Owns: the listener
 * and the connections; it reads the keys, which the caller owns and may exchange between turns of
 * the loop. Thread: its loop's. */
#ifndef LOCALKMS_SERVER_H
#define LOCALKMS_SERVER_H

#include "localkms/keyfile.h"
#include "net/addr.h"
#include "net/listen.h"

struct kms_server;

/* why gets a text. Errors: those of net_listen, ERR_NOMEM. */
MUST_CHECK enum err kms_server_new(struct loop *loop, const struct net_url *url,
                                   const struct kek_set *keys, struct kms_server **out, char *why,
                                   size_t why_len);
/* From the next call on these keys serve. */
void kms_server_set_keys(struct kms_server *s, const struct kek_set *keys);
/* Takes no connections any more, ends those it has and frees s (from the loop). */
void kms_server_close(struct kms_server *s);

#endif
