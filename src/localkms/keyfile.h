/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: a key file. Gives: its key encryption keys with their ids. Owns: the keys, in secret
 * memory. Thread: the owner's.
 *
 * One key per line: standard base64 with padding of 32 bytes. Blank lines and lines that begin with
 * '#' are skipped. The first key wraps, all unwrap. Texts name lines, never what is in them. */
#ifndef LOCALKMS_KEYFILE_H
#define LOCALKMS_KEYFILE_H

#include "base/bytes.h"
#include "base/err.h"

#define KEK_LEN 32u
#define KEK_ID_LEN 38u /* "local-" and 32 hex digits */
#define KEYFILE_KEYS_MAX 128u
#define KEYFILE_BYTES_MAX (32u * 1024)

struct kek {
    uint8_t *key; /* KEK_LEN bytes */
    char id[KEK_ID_LEN + 1];
};

struct kek_set {
    struct kek keys[KEYFILE_KEYS_MAX];
    size_t count; /* at least 1 */
};

/* The id tells nothing of the key: a hash, cut to 16 bytes, over a text of ours and the key. */
void kek_id(const uint8_t key[static KEK_LEN], char out[static KEK_ID_LEN + 1]);

/* why gets a text. Errors: ERR_CONFIG, ERR_NOMEM. */
MUST_CHECK enum err kek_set_parse(struct bytes text, struct kek_set **out, char *why,
                                  size_t why_len);
/* Reads the file. It must be a regular file, ours or root's, that nobody else may open (mode 0600
 * or stricter). At the start a pipe will do, too, which is waited for: FILE_WAIT_MS at most.
 * Errors: also ERR_SYSTEM. */
MUST_CHECK enum err kek_set_load(const char *path, bool is_start, struct kek_set **out, char *why,
                                 size_t why_len);
void kek_set_free(struct kek_set *s);
/* NULL when there is none of that id. */
const struct kek *kek_set_find(const struct kek_set *s, struct bytes id);

/* Writes a new file with one fresh key, mode 0600. Never overwrites. Errors: ERR_SYSTEM, ERR_NOMEM,
 * ERR_RANDOM. */
MUST_CHECK enum err keyfile_generate(const char *path, char *why, size_t why_len);

#endif
