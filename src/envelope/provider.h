/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: nothing. Gives: what a provider is, and what is true of all providers of its kind.
 * Owns: nothing. Thread: any; all of it is const.
 *
 * A kind's traits stand in its file of envelope/; who wants to know what a provider is like asks
 * for them, and does not compare kinds. So a new kind is its file, the table in provider.c, and the
 * configuration that names it. */
#ifndef ENVELOPE_PROVIDER_H
#define ENVELOPE_PROVIDER_H

#include "base/bytes.h"

#define ENVELOPE_MARK "k8s:enc:" /* every sealed value of every provider begins with it */

enum provider_kind {
    PROVIDER_NONE = 0, /* refuses */
    PROVIDER_IDENTITY,
    PROVIDER_KMS_V2,
    PROVIDER_KMS_V1,
    PROVIDER_AESGCM,
    PROVIDER_AESCBC,
    PROVIDER_SECRETBOX,
};

struct dek;

/* One element of a providers list. Immutable once made; its strings live as long as it. */
struct provider {
    enum provider_kind kind;
    uint32_t slot;       /* KMS kinds: number of the plugin in its key manager; else 0 */
    const char *name;    /* KMS name; "" for the others */
    struct bytes prefix; /* of the stored value; empty for identity */
    /* kms v1: a value whose AES-GCM fails is tried as AES-CBC, which servers before v1.25 wrote.
     * Then a damaged value may open as garbage, about once in 256 times: so only on demand. */
    bool cbc_reads;
    uint32_t cache_size; /* kms v1: so many unwrapped DEKs are kept; 0: none */
    /* Local-key kinds: the keys in file order with their "NAME:" prefixes. A name may come twice,
     * and one prefix may begin with another (names may contain ':'). */
    const struct local_key *keys;
    uint32_t key_count;
};

struct local_key {
    struct bytes prefix; /* "NAME:" */
    struct dek *dek;     /* of dek_new_local */
};

/* The transformers of one resource, in order: writes use the first, reads the first that fits and
 * works. */
struct provider_list {
    const struct provider *const *v;
    uint32_t count;
    const char *resource; /* "secrets", "widgets.example.com", for texts and metrics */
};

/* What follows "k8s:enc:PROVIDER:VERSION:NAME:" in a stored value. */
enum provider_body {
    PROVIDER_BODY_DATA = 0, /* nonce, ciphertext, tag in the order of the cipher */
    PROVIDER_BODY_OBJECT,  /* an EncryptedObject, which names the DEK and has the data in field 1 */
    PROVIDER_BODY_WRAPPED, /* length(2, big-endian) and wrapped DEK, then the data */
};

/* What is true of all providers of a kind. Zero means no. */
struct provider_traits {
    enum provider_kind kind;
    const char *name, *version; /* "kms", "v2" */
    const char *prefix;         /* behind "k8s:enc:": "kms:v2:"; "" for identity */
    bool is_identity;           /* stores plaintext as it is */
    bool is_kms;                /* its DEKs are wrapped by a plugin */
    /* KMS kinds: every write has the plugin wrap a DEK of its own. The others write with a DEK that
     * the key manager renews. */
    bool has_dek_per_value;
    bool has_cache_size; /* struct provider's cache_size applies */
    bool has_cbc_past;   /* struct provider's cbc_reads may be set */
    /* kube-apiserver gives such a plugin, and all beside it, a health check of its own. */
    bool has_own_health_check;
    bool is_fips;         /* its cipher is one of FIPS 140's (base/fips.h) */
    bool is_authentic;    /* a value that opens was sealed with the key */
    size_t local_key_min; /* least length of a key of the configuration; 0: it takes none */
    enum provider_body body;
    size_t nonce_len, tag_len,
        block_len; /* block_len: the plaintext is padded to it; 0: it isn't */
    /* What a reader of the value should know of this kind: a class and a sentence, or NULL. */
    const char *caution, *caution_text;
};

/* Never NULL: of an unknown kind nothing is true, and its strings are empty. */
const struct provider_traits *provider_kind_traits(enum provider_kind kind);
const struct provider_traits *provider_traits(const struct provider *p);
/* The kind whose prefix the bytes behind "k8s:enc:" begin with, or NULL. */
const struct provider_traits *provider_traits_find(struct bytes behind_mark);

/* A value that opens was sealed with the key, however p is configured. */
bool provider_is_authentic(const struct provider *p);
/* How many unwrapped DEKs are kept: what is configured, or most for a kind that has no such
 * setting. */
size_t provider_cache_size(const struct provider *p, size_t most);

#endif
