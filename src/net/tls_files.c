/* SPDX-License-Identifier: Apache-2.0 */
/* What a TLS context takes from files. OpenSSL's own functions open a name by themselves; here the
 * file is opened by base/file.h, which a contained process needs: see contain/opener.h.
 * Each returns false with the reason in OpenSSL's queue, as those do. */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "net/net_int.h"

BIO *net__file_bio(const char *path)
{
    int fd = file_open(path);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    BIO *bio = f == NULL ? NULL : BIO_new_fp(f, BIO_CLOSE);

    if (f == NULL && fd >= 0)
        close(fd);
    else if (bio == NULL && f != NULL)
        fclose(f);
    return bio;
}

/* The last thing in a file is followed by this. */
static bool is_at_end(void)
{
    unsigned long error = ERR_peek_last_error();

    if (ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE)
        return false;
    ERR_clear_error();
    return true;
}

static bool use_chain(SSL_CTX *ctx, BIO *bio)
{
    X509 *cert = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    bool ok = cert != NULL && SSL_CTX_use_certificate(ctx, cert) == 1;

    X509_free(cert);
    if (!ok || SSL_CTX_clear_chain_certs(ctx) != 1)
        return false;
    while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        if (SSL_CTX_add0_chain_cert(ctx, cert) != 1) {
            X509_free(cert);
            return false;
        }
    return is_at_end();
}

bool net__use_chain_file(SSL_CTX *ctx, const char *path)
{
    BIO *bio = net__file_bio(path);
    bool ok = bio != NULL && use_chain(ctx, bio);

    BIO_free(bio);
    return ok;
}

bool net__use_key_file(SSL_CTX *ctx, const char *path)
{
    BIO *bio = net__file_bio(path);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    bool ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1;

    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok;
}

/* Certificates, and lists of revoked ones, which may lie among them. */
static int add_infos(X509_STORE *store, STACK_OF(X509_INFO) * infos)
{
    int added = 0;

    for (int i = 0; i < sk_X509_INFO_num(infos); i++) {
        const X509_INFO *info = sk_X509_INFO_value(infos, i);

        if (info->x509 != NULL && X509_STORE_add_cert(store, info->x509) != 1)
            return 0;
        /* What OpenSSL derives of a certificate when it is looked at first, which would be by
         * several threads at once. */
        if (info->x509 != NULL)
            (void)X509_check_purpose(info->x509, -1, 0);
        if (info->crl != NULL && X509_STORE_add_crl(store, info->crl) != 1)
            return 0;
        added += info->x509 != NULL || info->crl != NULL;
    }
    return added;
}

bool net__trust_file(SSL_CTX *ctx, const char *path)
{
    BIO *bio = net__file_bio(path);
    STACK_OF(X509_INFO) *infos = bio == NULL ? NULL : PEM_X509_INFO_read_bio(bio, NULL, NULL, NULL);
    bool ok = infos != NULL && add_infos(SSL_CTX_get_cert_store(ctx), infos) > 0;

    if (infos != NULL && !ok && ERR_peek_error() == 0)
        ERR_raise(ERR_LIB_X509, X509_R_NO_CERTIFICATE_OR_CRL_FOUND);
    sk_X509_INFO_pop_free(infos, X509_INFO_free);
    BIO_free(bio);
    return ok;
}

static bool add_name(STACK_OF(X509_NAME) * names, X509 *cert)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(cert));

    for (int i = 0; name != NULL && i < sk_X509_NAME_num(names); i++)
        if (X509_NAME_cmp(sk_X509_NAME_value(names, i), name) == 0) {
            X509_NAME_free(name);
            return true;
        }
    if (name != NULL && sk_X509_NAME_push(names, name) > 0)
        return true;
    X509_NAME_free(name);
    return false;
}

STACK_OF(X509_NAME) * net__ca_names(const char *path)
{
    BIO *bio = net__file_bio(path);
    STACK_OF(X509_NAME) *names = bio == NULL ? NULL : sk_X509_NAME_new_null();
    bool ok = names != NULL;
    X509 *cert;

    while (ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        ok = add_name(names, cert);
        X509_free(cert);
    }
    BIO_free(bio);
    if (ok && sk_X509_NAME_num(names) > 0 && is_at_end())
        return names;
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return NULL;
}
