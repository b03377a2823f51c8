/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a test. Gives: an end of ours against a raw peer that has greeted it. Owns: both.
 * Thread: one. */
#ifndef TESTS_H2_DUO_H
#define TESTS_H2_DUO_H

#include "kit.h"

struct duo {
    struct kit k;
    struct end e;
    struct raw raw;
};

/* The raw peer is a client; both SETTINGS are acknowledged. opts NULL: the kit's. */
void duo_server(struct duo *d, const struct h2_opts *opts);
/* It is a server; the same, behind the preface that it read. */
void duo_client(struct duo *d, const struct h2_opts *opts);
void duo_stop(struct duo *d);
/* Sends a whole request on the stream; flags: FLAG_END_STREAM or 0. */
void duo_open(struct duo *d, uint32_t id, uint8_t flags);
/* Sends an answer's headers. */
void duo_answer(struct duo *d, uint32_t id, uint8_t flags);
/* What comes until the answer to a PING that is sent now: "alive", "rst 5", "goaway 1". The reset
 * is one of stream id. */
void duo_outcome(struct duo *d, uint32_t id, char *text, size_t len);

#endif
