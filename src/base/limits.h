/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: the built-in limits that users meet or several modules share, each with
 * its reason; those of one module stand on top of its files. Thread: any. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

/* --- bytes in memory --- */
#define LIMIT_SLAB_SIZE (64u * 1024)   /* pooled slab: four HTTP/2 frames of etcd's size */
#define LIMIT_SLAB_LARGE (256u * 1024) /* for a connection that a large answer runs on */
#define LIMIT_SMALL_COPY 512u          /* headers below this are copied, not referenced */
#define LIMIT_GATHER 4096u           /* received pieces below this do not pin their slab for long */
#define LIMIT_LINK_COST (40u * 1024) /* an idle client connection with TLS, and some room */
#define LIMIT_LANE_TURN (1024u * 1024) /* a lane yields to the loop after this many bytes */
/* And while it seals or opens a message after this many, between two values: some 4 ms. */
#define LIMIT_APPLY_TURN (4u * 1024 * 1024)

/* --- gRPC --- */
#define LIMIT_MAX_REQUEST_BYTES (16u * 1024 * 1024) /* default of --max-request-bytes */
#define LIMIT_STREAM_THRESHOLD (1024u * 1024)       /* default of --stream-threshold */
#define LIMIT_MEMORY (192ull * 1024 * 1024)         /* default of --memory-limit */
#define LIMIT_ANSWER_UNIT (64u * 1024 * 1024)       /* one KeyValue, or one revision of a Watch */
#define LIMIT_FILLER (64u * 1024 * 1024)  /* we make up no more, unless etcd has sent as much */
#define LIMIT_ANSWER_SMALL (1024u * 1024) /* what a streamed answer has beside its units */
#define LIMIT_WATCHED (16u * 1024 * 1024) /* key ranges of a stream's watches: some 100,000 */

/* --- protobuf --- */
#define LIMIT_DEPTH 16u /* nesting of a request or answer */
/* Fields of one message that no etcd client writes: unknown, or again. 8 million of them fit into
 * 16 MiB, and take longer to walk than a message may hold a worker. A long one may have some more.
 */
#define LIMIT_ODD_FIELDS 65536u
#define LIMIT_TXN_OPS 4096u /* operations of one Txn, all levels; etcd's default is 128 */

/* --- keys --- */
#define LIMIT_KEYS_A_MESSAGE 64u     /* unknown DEKs of one message that are asked for at a time */
#define LIMIT_KEYS_A_CONNECTION 128u /* and those of all messages of one client's connection */

/* --- a KMS plugin, which may lie ---
 * An answer that is legal has at most a key id, a wrapped DEK and annotations, see below. At most
 * UNWRAP_CALLS_MAX calls and one check are under way, each with its time limit. Frames that carry
 * nothing of an answer are counted as a client's are (h2/guard.c). */
#define LIMIT_PLUGIN_ANSWER (64u * 1024) /* of one call */

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
#define LIMIT_NEGATIVE_MS 3000u     /* a DEK refused by the plugin, a value that did not open */
#define LIMIT_DIAL_MS 5000u         /* to reach a server, with its TLS handshake */
#define LIMIT_WRITE_STALL_MS 30000u /* bytes are queued and the peer takes none */
#define LIMIT_PING_MS 10000u        /* upstream keepalive while calls are open */
#define LIMIT_PING_ACK_MS 3000u     /* for the answer to it */

/* --- how long a client may take, milliseconds; between messages it may take for ever --- */
#define LIMIT_HANDSHAKE_MS 10000u     /* TLS, from accept */
#define LIMIT_PREFACE_MS 5000u        /* then HTTP/2's preface, or something else */
#define LIMIT_SETTINGS_MS 10000u      /* then its first SETTINGS */
#define LIMIT_HEADERS_MS 10000u       /* a header block, from its first byte to its last */
#define LIMIT_PROGRESS_MS 30000u      /* a message that was begun (etcd's, too): the bytes below */
#define LIMIT_PROGRESS_BYTES 65536u   /* or its end */
#define LIMIT_STALL_MS 300000u        /* default of --stall-timeout: opens no window for answers */
#define LIMIT_STALL_SHORT_MS 30000u   /* the same while memory is short */
#define LIMIT_IDLE_PING_ACK_MS 20000u /* as etcd waits for the answer to its PING */

#endif
