/* SPDX-License-Identifier: Apache-2.0 */
/* A KMS plugin to order, of both versions, on the test's own loop: what it answers is written into
 * its fields, what it was asked is counted. It wraps by inverting bytes. KMS v1's Version counts as
 * status, and answers with the field version as Status does. */
#ifndef TESTS_KMS_FAKE_PLUGIN_H
#define TESTS_KMS_FAKE_PLUGIN_H

#include "base/slice.h"
#include "loop/loop.h"
#include "net/listen.h"

enum fake_how {
    FAKE_ANSWERS = 0,
    FAKE_FAILS,    /* with the gRPC status in code */
    FAKE_SILENT,   /* never answers */
    FAKE_HANGS_UP, /* ends the connection */
    FAKE_RESETS,   /* the stream */
    FAKE_GARBAGE,  /* no protobuf */
    FAKE_EMPTY,    /* an empty message */
    FAKE_OVERSIZE, /* 300 KiB of secret or wrapped DEK */
    FAKE_SHORT,    /* Decrypt: a secret of 31 bytes; Encrypt: an empty wrapped DEK */
    FAKE_LONG,     /* Encrypt: 9,000 bytes of wrapped DEK */
    FAKE_ECHOES,   /* Encrypt, Decrypt: the bytes as they came */
};

struct fake_method {
    enum fake_how how;
    enum grpc_status code;
    uint64_t delay_ms;
    unsigned calls;
    unsigned now, peak; /* calls that are being delayed or silent */
    char last_uid[64];
};

struct fake_plugin {
    struct loop *loop;
    struct slab_pool pool;
    struct net_url url;
    char endpoint[128];
    struct net_listener *listener; /* NULL while gone */
    struct list conns, rpcs;
    /* answers */
    const char *version, *healthz, *key_id;
    const char *encrypt_key_id; /* NULL: key_id */
    const char *annotation;     /* its key; NULL: none */
    struct fake_method status, encrypt, decrypt;
    /* the last request */
    char last_path[128], last_authority[64], last_key_id[64];
    size_t last_annotations;
};

/* A healthy one with key_id "A", on a socket in a new directory. */
void fake_start(struct fake_plugin *f, struct loop *loop);
/* Closes the socket and every connection; comes back with fake_listen. */
void fake_gone(struct fake_plugin *f);
void fake_listen(struct fake_plugin *f);
/* Answers all silent calls. */
void fake_speak(struct fake_plugin *f);
/* Ends everything; the loop has to run until fake_is_over. */
void fake_stop(struct fake_plugin *f);
bool fake_is_over(const struct fake_plugin *f);
void fake_fini(struct fake_plugin *f);
/* What Encrypt makes of a secret, and Decrypt undoes. */
void fake_wrap(const uint8_t *in, size_t n, uint8_t *out);

#endif
