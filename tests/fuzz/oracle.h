/* SPDX-License-Identifier: Apache-2.0 */
/* The slow way to read etcd's messages, apart from what is tested: protobuf-c for messages that are
 * canonical, a lenient judge for those that are not. */
#ifndef TESTS_FUZZ_ORACLE_H
#define TESTS_FUZZ_ORACLE_H

#include <protobuf-c/protobuf-c.h>

#include "etcd_kv.pb-c.h"
#include "etcd_rpc.pb-c.h"
#include "fuzz.h"

/* NULL when the content has none. */
const ProtobufCMessageDescriptor *oracle_request(enum etcd_content content);
const ProtobufCMessageDescriptor *oracle_answer(enum etcd_content content);

/* NULL when protobuf-c does not take it, or when some message in it has unknown fields other than
 * the filler's, which are dropped: 19999, and 15 where less than four bytes are to be filled. */
ProtobufCMessage *oracle_unpack(const ProtobufCMessageDescriptor *d, struct bytes in);
void oracle_free(ProtobufCMessage *m);
struct buf oracle_pack(const ProtobufCMessage *m);
/* The canonical form; n and p are 0 when oracle_unpack has none. */
struct buf oracle_canonical(const ProtobufCMessageDescriptor *d, struct bytes in);

/* Calls fn for m and every message in it. */
typedef void (*oracle_visit)(ProtobufCMessage *m, void *arg);
void oracle_walk(ProtobufCMessage *m, oracle_visit fn, void *arg);
/* Changes a value; takes b. */
void oracle_set(ProtobufCBinaryData *d, struct buf b);
static inline struct bytes oracle_bytes(ProtobufCBinaryData d)
{
    return bytes_of(d.data, d.len);
}

/* The keys and values of an answer, in order. */
struct oracle_kvs {
    struct {
        struct buf key, value;
    } v[256];
    size_t count;
};
/* Seals, under one of the kit's seeds, every value of a KeyValue that etcd would hold sealed, and
 * notes what they were. Some empty values stay empty. */
void oracle_seal(struct kit *k, ProtobufCMessage *m, struct oracle_kvs *plain);
/* No value under a key whose list has no identity but those of plain, or empty ones. */
void oracle_check_kvs(struct kit *k, ProtobufCMessage *m, const struct oracle_kvs *plain);
void oracle_kvs_free(struct oracle_kvs *kvs);

/* Every field at every level is well formed and no message runs over: what any parser accepts, be
 * it canonical or not. */
bool oracle_well_formed(const ProtobufCMessageDescriptor *d, struct bytes in);

/* Does a request, read leniently, show what beside a key of which values are sealed? Doubled fields
 * are merged in every way: any key and any value of one message count. */
bool oracle_leaks(const struct kit *k, enum etcd_content content, struct bytes in,
                  struct bytes what);

#endif
