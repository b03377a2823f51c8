/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: the text of an EncryptionConfiguration file (YAML or JSON). Gives: its entries, checked
 * by kube-apiserver's rules. Owns: its strings; secrets of keys are in base/secret.h memory.
 * Thread: any; the result is immutable. */
#ifndef CONFIG_ENCRYPTION_H
#define CONFIG_ENCRYPTION_H

#include "base/bytes.h"
#include "base/err.h"

enum enc_provider_kind {
    ENC_NONE = 0,
    ENC_IDENTITY,
    ENC_KMS,
    ENC_AESGCM,
    ENC_AESCBC,
    ENC_SECRETBOX
};

struct enc_key {
    char *name;
    uint8_t *secret; /* decoded */
    size_t secret_len;
};

struct enc_provider {
    enum enc_provider_kind kind;
    /* kms */
    int kms_version; /* 1 or 2 */
    char *name;
    char *endpoint;      /* as written */
    char *socket_path;   /* the path of the endpoint, percent-decoded; "/@name" = abstract "name";
                            "" when it has none (kube-apiserver takes that, too: never reachable) */
    uint64_t timeout_ms; /* default 3000 */
    int cache_size;      /* v1; default 1000 */
    /* local keys */
    struct enc_key *keys;
    size_t key_count;
};

struct enc_entry {
    char **resources; /* as written: "secrets", "*.apps" */
    size_t resource_count;
    struct enc_provider *providers;
    size_t provider_count;
};

struct enc_config {
    struct enc_entry *entries;
    size_t entry_count;
    char hash[72];           /* "sha256:<hex>" of the file */
    unsigned open_mode;      /* the file's mode when others than its owner and group have a right to
                                it: it may hold keys, so say so; else 0 */
    bool has_more_documents; /* as with kube-apiserver only the first document counts: say so */
};

struct enc_options {
    bool is_reload;  /* kube-apiserver's stricter name rule under automatic reload */
    bool is_serving; /* the file is read again: a pipe is refused, which can be read only once */
};

/* Parses and validates. On error why gets one or more lines "path: reason" with kube-apiserver's
 * meaning and never a secret. Errors: ERR_CONFIG. */
MUST_CHECK enum err enc_config_parse(struct bytes text, const struct enc_options *o,
                                     struct enc_config **out, char *why, size_t why_len);
/* The same of a file of at most 4 MiB. At the start it may be a pipe, which blocks for FILE_WAIT_MS
 * at most. */
MUST_CHECK enum err enc_config_load(const char *path, const struct enc_options *o,
                                    struct enc_config **out, char *why, size_t why_len);
void enc_config_free(struct enc_config *c);

#endif
