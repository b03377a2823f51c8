/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: what to say. Gives: etcd's messages as etcd puts them on the wire. Owns: buffers.
 * Thread: any.
 *
 * Generator and stub share this: the one knows what the other has to answer, byte for byte. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct buf {
    uint8_t *p;
    size_t n, cap;
};

void buf_free(struct buf *b);
void buf_add(struct buf *b, const void *p, size_t n);
/* A varint field; a length-delimited one; one whose body is sub, which is freed. */
void buf_varint(struct buf *b, uint32_t number, uint64_t v);
void buf_field(struct buf *b, uint32_t number, struct bytes v);
void buf_sub(struct buf *b, uint32_t number, struct buf *sub);
/* Puts a gRPC prefix before what is in b. */
void buf_frame(struct buf *b);

enum kind {
    KIND_NONE = 0,
    KIND_RANGE,     /* one key of 1 KiB */
    KIND_PUT,       /* 1 KiB */
    KIND_TXN,       /* an update as kube-apiserver makes it, 1 KiB */
    KIND_LIST_500,  /* 500 x 1 KiB */
    KIND_LIST_5000, /* 5000 x 2 KiB */
    KIND_LIST_50,   /* 50 x 1 KiB */
    KIND_LIST_HUGE, /* 102400 x 2 KiB: 200 MiB */
    KIND_LIST_BIG,  /* 25600 x 1 KiB: 25 MiB */
    KIND_WATCH,     /* events of 1 KiB with prev_kv */
    KIND_APISERVER, /* a mix of the above before a real etcd; itself no request */
    KIND_COUNT
};

extern const char *const kind_names[KIND_COUNT];
enum kind kind_of_name(const char *name);
const char *kind_path(enum kind kind); /* "/etcdserverpb.KV/Range" */

#define WIRE_KEYS "/registry/secrets/"
#define WIRE_WATCH_KEYS WIRE_KEYS "watch/"

/* Turns a value into what etcd stores; appends it to out as field number. NULL: as it is. */
typedef void (*wire_seal_fn)(struct bytes key, struct bytes value, uint32_t number,
                             struct buf *out);

/* The request message without gRPC prefix. item tells writers apart (their keys, or "" for the key
 * that the stub has), and watchers (what the keys begin with that they see); revision is the
 * mod_revision that an update expects, value_len the length of what is put. */
void wire_request(struct buf *out, enum kind kind, const char *item, uint64_t revision,
                  size_t value_len);
/* RangeRequest: all keys that begin with item. */
void wire_list_request(struct buf *out, const char *item);
/* The answer to it. */
void wire_answer(struct buf *out, enum kind kind, wire_seal_fn seal);
/* RangeResponse without a key: what etcd says of a key that it does not have. */
void wire_empty(struct buf *out);
/* The kind of list or key that a Range of this key asks for; KIND_NONE: a key that the stub lacks.
 */
enum kind wire_kind_of_key(struct bytes key);

/* WatchResponse: the created one, and the event number i. */
void wire_watch_created(struct buf *out);
void wire_watch_event(struct buf *out, uint32_t i, wire_seal_fn seal);
/* The events in a WatchResponse; *value is what the first of them has put, where it lies. */
uint32_t wire_count_events(struct bytes answer, struct bytes *value);

#endif
