/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a history of keys. Gives: etcd's database of it, byte by byte as bbolt lays it out.
 * Owns: the bytes. Thread: one.
 *
 * Written from the format's description, not with the reader's code; files that etcd itself made
 * are for the end-to-end tests. */
#ifndef TESTS_SNAPSHOT_BUILD_DB_H
#define TESTS_SNAPSHOT_BUILD_DB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "snapshot/input.h"

struct db_record {
    int64_t revision, sub;
    char key[32];
    bool is_deleted;
    uint32_t value_len;
    uint8_t fill; /* the value's bytes */
};

struct db_shape {
    uint32_t page_size;
    unsigned per_leaf, per_branch; /* elements of a page */
    bool is_inline;                /* the bucket of keys lies in the top level */
    int64_t compacted;             /* 0: no such mark */
};

struct db {
    uint8_t *p;
    size_t n, cap;
    uint32_t page_size;
    struct snapshot_input input; /* of p; has to be taken anew after the struct has moved */
    size_t cut;                  /* != 0: reads behind it find nothing */
};

void db_build(struct db *db, const struct db_shape *shape, const struct db_record *v, size_t count);
void db_free(struct db *db);
/* Writes the checksum of a meta page anew. */
void db_seal_meta(struct db *db, unsigned number);
void db_put_u32(uint8_t *p, uint32_t v);
void db_put_u64(uint8_t *p, uint64_t v);
/* The stored KeyValue of a record; returns its length. out: room for value_len + 128. */
size_t db_kv(const struct db_record *r, uint8_t *out);

#endif
