/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the bytes of etcd's database. Gives: what each key has at the last revision in it.
 * Owns: an index of the keys that are wanted, and one value at a time. Thread: one.
 *
 * etcd keeps every revision that is not compacted in the bucket `key`: the name is the revision
 * (main u64, '_', sub u64, big-endian; a 't' behind it: the key was deleted), the value an
 * mvccpb.KeyValue. The last revision of a key counts. The index has a key, a place and a revision
 * for each key, so memory depends on how many keys are wanted, neither on their values nor on
 * their history. Errors: as in bolt.h; why says what it is. */
#ifndef SNAPSHOT_STORE_H
#define SNAPSHOT_STORE_H

#include "snapshot/bolt.h"

struct snapshot_store;

struct snapshot_store_opts {
    struct snapshot_input input;
    /* Is this key wanted? It is asked of every revision in the file. */
    bool (*is_wanted)(void *arg, struct bytes key);
    void *arg;
};

struct snapshot_store_facts {
    struct snapshot_bolt_facts bolt;
    int64_t revision;          /* the last one; 1 where nothing was ever written */
    int64_t compact_revision;  /* 0: never compacted */
    uint64_t consistent_index; /* of the raft log: what came after it is missing; 0: not known */
    uint64_t record_count;     /* revisions of all keys */
};

/* A key that is there. */
struct snapshot_entry {
    struct bytes key; /* the store's */
    int64_t mod_revision;
    int64_t sub_revision;
    uint64_t value_at; /* of the KeyValue in the file */
    uint32_t value_len;
    bool is_deleted; /* never of one that is handed out */
};

/* Reads the whole history. *out is NULL on error. */
MUST_CHECK enum err snapshot_store_open(const struct snapshot_store_opts *o,
                                        struct snapshot_store **out,
                                        char why[static SNAPSHOT_WHY_MAX]);
void snapshot_store_close(struct snapshot_store *s);
const struct snapshot_store_facts *snapshot_store_facts(const struct snapshot_store *s);
const char *snapshot_store_why(const struct snapshot_store *s);
/* The keys that are wanted and there, in order. */
size_t snapshot_store_count(const struct snapshot_store *s);
const struct snapshot_entry *snapshot_store_at(const struct snapshot_store *s, size_t i);
/* The first one that is not less than key; the count when there is none. */
size_t snapshot_store_seek(const struct snapshot_store *s, struct bytes key);
/* The KeyValue as it is stored, borrowed until the next call. */
MUST_CHECK enum err snapshot_store_read(struct snapshot_store *s, const struct snapshot_entry *e,
                                        struct bytes *out);

#endif
