/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: the built-in limits that users meet or several modules share, each with
 * its reason; those of one module stand on top of its files. Thread: any. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* --- bytes in memory --- */
#define LIMIT_SLAB_SIZE (64u * 1024)   /* pooled slab: four HTTP/2 frames of etcd's size */
#define LIMIT_SLAB_LARGE (256u * 1024) /* for a connection that a large answer runs on */
#define LIMIT_SMALL_COPY 512u          /* headers below this are copied, not referenced */
#define LIMIT_GATHER 4096u /* received pieces below this do not pin their slab for long */
#define LIMIT_LANE_TURN (1024u * 1024) /* a lane yields to the loop after this many bytes */

/* --- gRPC --- */
#define LIMIT_MAX_REQUEST_BYTES (16u * 1024 * 1024) /* default of --max-request-bytes */
#define LIMIT_STREAM_THRESHOLD (1024u * 1024)       /* default of --stream-threshold */
#define LIMIT_MEMORY (192ull * 1024 * 1024)         /* default of --memory-limit */
#define LIMIT_ANSWER_UNIT (64u * 1024 * 1024)       /* one KeyValue, or one revision of a Watch */
#define LIMIT_FILLER (64u * 1024 * 1024)  /* we make up no more, unless etcd has sent as much */
#define LIMIT_ANSWER_SMALL (1024u * 1024) /* what a streamed answer has beside its units */
#define LIMIT_WATCHED (16u * 1024 * 1024) /* key ranges of a stream's watches: some 100,000 */

/* --- protobuf --- */
#define LIMIT_DEPTH 16u     /* nesting of a request or answer */
#define LIMIT_TXN_OPS 4096u /* operations of one Txn, all levels; etcd's default is 128 */

/* --- keys --- */
#define LIMIT_KEYS_A_MESSAGE 64u     /* unknown DEKs of one message that are asked for at a time */
#define LIMIT_KEYS_A_CONNECTION 128u /* and those of all messages of one client's connection */

/* --- stored envelopes (KMS v2, kube-apiserver's own limits) --- */
#define LIMIT_KEY_ID 1024u
#define LIMIT_WRAPPED_DEK 1024u
#define LIMIT_ANNOTATIONS (32u * 1024)

/* --- HTTP/2 --- */
#define LIMIT_HEADER_BYTES (128u * 1024) /* RFC 9113 section 6.5.2 size of one field list */
#define LIMIT_HEADER_FIELDS 1000u
#define LIMIT_STREAM_FIRST 65535u            /* our receive window of a stream: HTTP/2's default; */
#define LIMIT_STREAM_WINDOW (1024u * 1024)   /* with a large message, and room for it */
#define LIMIT_CONN_WINDOW (8u * 1024 * 1024) /* our receive window of a connection */
#define LIMIT_CONN_OUT (256u * 1024)         /* bytes queued on a socket before we stop framing */
#define LIMIT_STREAM_OUT (256u * 1024)       /* queued on a stream before credit is held back */

/* --- times, milliseconds --- */
#define LIMIT_KEY_WAIT_MS 10000u    /* a call waits this long for a key */
#define LIMIT_UPSTREAM_WAIT_MS 800u /* a call waits for a lost etcd: it fails within 1 s */
#define LIMIT_REDIAL_MS 50u         /* before a lost peer is dialled again */
#define LIMIT_NEGATIVE_MS 3000u     /* an unwrap that the plugin refused is remembered */
#define LIMIT_PREFACE_MS 5000u      /* for a connection's first bytes and its TLS handshake */
#define LIMIT_WRITE_STALL_MS 30000u /* bytes are queued and the peer takes none */
#define LIMIT_PING_MS 10000u        /* upstream keepalive while calls are open */
#define LIMIT_PING_ACK_MS 3000u     /* for the answer to it */

#endif
