/* SPDX-License-Identifier: Apache-2.0 */
#include "certs.h"

#include <dirent.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void certs_init(struct certs *c)
{
    (void)snprintf(c->dir, sizeof c->dir, "/tmp/certs-XXXXXX");
    CHECK(mkdtemp(c->dir) != NULL);
}

const char *certs_path(const struct certs *c, const char *name, const char *ext,
                       char out[static CERTS_PATH_MAX])
{
    (void)snprintf(out, CERTS_PATH_MAX, "%s/%s.%s", c->dir, name, ext);
    return out;
}

static FILE *open_file(const struct certs *c, const char *name, const char *ext, const char *mode)
{
    char path[CERTS_PATH_MAX];
    FILE *f = fopen(certs_path(c, name, ext, path), mode);

    CHECK(f != NULL);
    return f;
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    CHECK(ext != NULL && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static X509 *read_cert(const struct certs *c, const char *name)
{
    FILE *f = open_file(c, name, "pem", "r");
    X509 *cert = PEM_read_X509(f, NULL, NULL, NULL);

    CHECK(cert != NULL);
    fclose(f);
    return cert;
}

static EVP_PKEY *read_key(const struct certs *c, const char *name)
{
    FILE *f = open_file(c, name, "key", "r");
    EVP_PKEY *key = PEM_read_PrivateKey(f, NULL, NULL, NULL);

    CHECK(key != NULL);
    fclose(f);
    return key;
}

static void write_files(const struct certs *c, const char *name, X509 *cert, EVP_PKEY *key)
{
    FILE *f = open_file(c, name, "pem", "w");

    CHECK(PEM_write_X509(f, cert) == 1);
    fclose(f);
    f = open_file(c, name, "key", "w");
    CHECK(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1);
    fclose(f);
}

static X509 *fill(const struct cert_opts *o, EVP_PKEY *key)
{
    static long serial;
    bool is_default = o->from_s == 0 && o->to_s == 0;
    X509 *cert = X509_new();
    X509_NAME *subject;

    CHECK(cert != NULL);
    CHECK(X509_set_version(cert, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), is_default ? -3600 : o->from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), is_default ? 3600 : o->to_s);
    CHECK(X509_set_pubkey(cert, key) == 1);
    subject = X509_get_subject_name(cert);
    CHECK(X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const uint8_t *)o->name, -1, -1,
                                     0) == 1);
    if (o->cn != NULL)
        CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)o->cn, -1,
                                         -1, 0) == 1);
    if (o->issuer == NULL || o->is_ca) {
        add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
        add_extension(cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    } else {
        add_extension(cert, NID_ext_key_usage, "serverAuth,clientAuth");
    }
    if (o->san != NULL)
        add_extension(cert, NID_subject_alt_name, o->san);
    return cert;
}

void certs_make(const struct certs *c, const struct cert_opts *o)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert, *issuer;
    EVP_PKEY *issuer_key;

    CHECK(key != NULL);
    cert = fill(o, key);
    if (o->issuer == NULL) {
        CHECK(X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1);
        CHECK(X509_sign(cert, key, EVP_sha256()) > 0);
    } else {
        issuer = read_cert(c, o->issuer);
        issuer_key = read_key(c, o->issuer);
        CHECK(X509_set_issuer_name(cert, X509_get_subject_name(issuer)) == 1);
        CHECK(X509_sign(cert, issuer_key, EVP_sha256()) > 0);
        X509_free(issuer);
        EVP_PKEY_free(issuer_key);
    }
    write_files(c, o->name, cert, key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

void certs_remove(struct certs *c)
{
    DIR *dir = opendir(c->dir);
    struct dirent *entry;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    CHECK(rmdir(c->dir) == 0);
}
