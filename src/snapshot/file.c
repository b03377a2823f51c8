/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/file.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"

#define HASHED_AT_A_TIME (256u * 1024)

static enum err read_at(void *arg, uint64_t at, uint8_t *out, size_t n)
{
    const struct snapshot_file *f = arg;

    while (n > 0) {
        ssize_t got = pread(f->fd, out, n, (off_t)at);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return ERR_SYSTEM;
        if (got == 0)
            return ERR_FILE_DAMAGED;
        out += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return ERR_OK;
}

static bool has_trailer(uint64_t size)
{
    return size % 512 == SNAPSHOT_HASH_LEN;
}

static enum err failed(char *why, const char *what)
{
    snprintf(why, SNAPSHOT_WHY_MAX, "%s: %s", what, strerror(errno));
    return ERR_SYSTEM;
}

static enum err open_locked(const char *path, struct snapshot_file *f, char *why)
{
    f->fd = file_open(path);
    if (f->fd < 0)
        return failed(why, "cannot be opened");
    if (fstat(f->fd, &f->was) != 0)
        return failed(why, "cannot be looked at");
    if (!S_ISREG(f->was.st_mode)) {
        snprintf(why, SNAPSHOT_WHY_MAX, "is no plain file");
        return ERR_CONFIG;
    }
    if (flock(f->fd, LOCK_SH | LOCK_NB) == 0)
        return ERR_OK;
    if (errno != EWOULDBLOCK)
        return failed(why, "whether it is in use cannot be told (flock); copy it elsewhere");
    snprintf(why, SNAPSHOT_WHY_MAX,
             "is in use: another process holds a lock on it, as a running etcd does. Take a "
             "snapshot (etcdctl snapshot save), or stop that member");
    return ERR_CONFIG;
}

/* --- the hash --------------------------------------------------------------------------------- */

static enum err hash_all(const struct snapshot_file *f, EVP_MD_CTX *ctx, uint8_t *buf,
                         uint8_t out[static SNAPSHOT_HASH_LEN])
{
    if (EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) != 1)
        return ERR_CRYPTO;
    for (uint64_t at = 0; at < f->input.size;) {
        uint64_t left = f->input.size - at;
        size_t n = left < HASHED_AT_A_TIME ? (size_t)left : HASHED_AT_A_TIME;

        TRY(f->input.read(f->input.arg, at, buf, n));
        if (EVP_DigestUpdate(ctx, buf, n) != 1)
            return ERR_CRYPTO;
        at += n;
    }
    return EVP_DigestFinal_ex(ctx, out, NULL) == 1 ? ERR_OK : ERR_CRYPTO;
}

static enum err compute(const struct snapshot_file *f, uint8_t out[static SNAPSHOT_HASH_LEN])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t *buf = malloc(HASHED_AT_A_TIME);
    enum err e = ctx != NULL && buf != NULL ? hash_all(f, ctx, buf, out) : ERR_NOMEM;

    free(buf);
    EVP_MD_CTX_free(ctx);
    return e;
}

static enum err check_hash(struct snapshot_file *f, bool skip_hash, char *why)
{
    uint8_t is[SNAPSHOT_HASH_LEN];
    enum err e;

    if (!has_trailer(f->size))
        return ERR_OK;
    f->is_snapshot = true;
    f->input.size -= SNAPSHOT_HASH_LEN;
    snprintf(why, SNAPSHOT_WHY_MAX, "its SHA-256 cannot be computed");
    TRY(f->input.read(f->input.arg, f->input.size, f->hash, sizeof f->hash));
    e = compute(f, is);
    if (e != ERR_OK)
        return e;
    f->has_hash = memcmp(is, f->hash, sizeof is) == 0;
    if (f->has_hash || skip_hash)
        return ERR_OK;
    snprintf(why, SNAPSHOT_WHY_MAX,
             "the SHA-256 at its end does not fit: the snapshot is damaged, or was cut short");
    return ERR_FILE_DAMAGED;
}

/* --- exported --------------------------------------------------------------------------------- */

enum err snapshot_file_open(const char *path, bool skip_hash, struct snapshot_file *out,
                            char why[static SNAPSHOT_WHY_MAX])
{
    enum err e;

    *out = (struct snapshot_file){.fd = -1};
    e = open_locked(path, out, why);
    if (e == ERR_OK) {
        out->size = (uint64_t)out->was.st_size;
        out->input = (struct snapshot_input){.read = read_at, .arg = out, .size = out->size};
        e = check_hash(out, skip_hash, why);
    }
    if (e == ERR_OK)
        why[0] = '\0';
    else
        snapshot_file_close(out);
    return e;
}

bool snapshot_file_is_unchanged(const struct snapshot_file *f)
{
    struct stat now;

    return fstat(f->fd, &now) == 0 && now.st_size == f->was.st_size &&
           now.st_mtim.tv_sec == f->was.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == f->was.st_mtim.tv_nsec;
}

void snapshot_file_close(struct snapshot_file *f)
{
    if (f->input.read != NULL || f->fd > 0)
        close(f->fd);
    *f = (struct snapshot_file){.fd = -1};
}
