/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the name of a snapshot, or of a db file. Gives: its database as an input, once it is
 * sure that nobody writes it. Owns: the open file, with a shared lock. Thread: one.
 *
 * etcd holds an exclusive flock(2) on the db file it works on: such a file is refused, since only
 * meta pages have a checksum, and a tear between others would be taken for data. While we hold ours
 * an etcd that starts on the file waits.
 *
 * `etcdctl snapshot save` puts the SHA-256 of the database behind it, so that the size is 32 above
 * a multiple of 512; a db file has none. */
#ifndef SNAPSHOT_FILE_H
#define SNAPSHOT_FILE_H

#include <sys/stat.h>

#include "snapshot/input.h"

#define SNAPSHOT_HASH_LEN 32u

struct snapshot_file {
    struct snapshot_input input; /* borrows this object */
    bool is_snapshot;            /* there is a hash behind the database */
    bool has_hash;               /* and it fits: hash */
    uint8_t hash[SNAPSHOT_HASH_LEN];
    uint64_t size; /* of the file */
    /* private */
    int fd;
    struct stat was;
};

/* Opens, and has the hash computed where there is one. Errors, all with why: ERR_SYSTEM, ERR_CONFIG
 * (no plain file; in use by etcd), ERR_FILE_DAMAGED (the hash does not fit), ERR_CRYPTO, ERR_NOMEM.
 * skip_hash: a hash that does not fit is passed over, and has_hash is false. */
MUST_CHECK enum err snapshot_file_open(const char *path, bool skip_hash, struct snapshot_file *out,
                                       char why[static SNAPSHOT_WHY_MAX]);
/* False: somebody has written to it since it was opened. */
bool snapshot_file_is_unchanged(const struct snapshot_file *f);
/* Safe on one that is zero-initialised, or was not opened. */
void snapshot_file_close(struct snapshot_file *f);

#endif
