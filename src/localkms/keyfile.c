/* SPDX-License-Identifier: Apache-2.0 */
/* Reading: the file is opened and judged (owner, mode, kind), read into memory that is wiped, and
 * parsed line by line; a problem names the line, never what is in it. Writing: only a new file. */
#include "localkms/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/randpool.h"
#include "base/secret.h"

#define KEK_TEXT_LEN 44u /* base64 of 32 bytes */

void kek_id(const uint8_t key[static KEK_LEN], char out[static KEK_ID_LEN + 1])
{
    struct {
        char domain[33]; /* with its NUL */
        uint8_t key[KEK_LEN];
    } in = {.domain = "etcd-envelope-local-kms key id 1"};
    uint8_t md[SHA256_DIGEST_LENGTH];
    int at = snprintf(out, KEK_ID_LEN + 1, "local-");

    memcpy(in.key, key, KEK_LEN);
    SHA256((const uint8_t *)&in, sizeof in, md);
    secret_wipe(&in, sizeof in);
    for (int i = 0; i < 16; i++)
        snprintf(out + at + 2 * i, 3, "%02x", md[i]);
    secret_wipe(md, sizeof md);
}

/* --- text ------------------------------------------------------------------------------------- */

/* All ones when low <= c <= high, else zero. No branch, for the letter is a piece of a key and a
 * branch would show in the time. */
static int in_range(int c, int low, int high)
{
    return -(((low - 1 - c) & (c - high - 1)) >> 8 & 1);
}

/* The six bits that a letter stands for, -1 for what is no base64 letter. */
static int base64_value(uint8_t c)
{
    return -1 + (in_range(c, 'A', 'Z') & (c - 'A' + 1)) + (in_range(c, 'a', 'z') & (c - 'a' + 27)) +
           (in_range(c, '0', '9') & (c - '0' + 53)) + (in_range(c, '+', '+') & 63) +
           (in_range(c, '/', '/') & 64);
}

/* 43 letters and one '='; the two bits that a last letter leaves over must be zero. */
static bool key_decode(struct bytes line, uint8_t out[static KEK_LEN])
{
    uint32_t bits = 0;
    size_t n = 0;

    if (line.n != KEK_TEXT_LEN || line.p[KEK_TEXT_LEN - 1] != '=')
        return false;
    for (size_t i = 0; i < KEK_TEXT_LEN - 1; i++) {
        int v = base64_value(line.p[i]);

        if (v < 0)
            return false;
        bits = bits << 6 | (uint32_t)v;
        if (i % 4 == 3) {
            out[n++] = (uint8_t)(bits >> 16);
            out[n++] = (uint8_t)(bits >> 8);
            out[n++] = (uint8_t)bits;
        }
    }
    out[n++] = (uint8_t)(bits >> 10);
    out[n++] = (uint8_t)(bits >> 2);
    return n == KEK_LEN && (bits & 3) == 0;
}

static struct bytes next_line(struct bytes *text)
{
    const uint8_t *end = memchr(text->p, '\n', text->n);
    size_t n = end == NULL ? text->n : (size_t)(end - text->p);
    struct bytes line = bytes_of(text->p, n);

    *text = bytes_of(text->p + n + (end != NULL), text->n - n - (end != NULL));
    while (line.n > 0 && (line.p[0] == ' ' || line.p[0] == '\t'))
        line = bytes_of(line.p + 1, line.n - 1);
    while (line.n > 0 && strchr(" \t\r", line.p[line.n - 1]) != NULL && line.p[line.n - 1] != '\0')
        line.n--;
    return line;
}

static enum err add_key(struct kek_set *s, struct bytes line, unsigned number, char *why,
                        size_t why_len)
{
    struct kek *k = &s->keys[s->count];

    if (s->count == KEYFILE_KEYS_MAX) {
        snprintf(why, why_len, "line %u: more than %u keys", number, KEYFILE_KEYS_MAX);
        return ERR_CONFIG;
    }
    k->key = secret_alloc(KEK_LEN);
    if (k->key == NULL) {
        snprintf(why, why_len, "out of secret memory");
        return ERR_NOMEM;
    }
    s->count++;
    if (!key_decode(line, k->key)) {
        snprintf(why, why_len, "line %u: not the base64 text of 32 bytes (44 characters)", number);
        return ERR_CONFIG;
    }
    kek_id(k->key, k->id);
    for (size_t i = 0; i + 1 < s->count; i++) {
        if (secret_eq(s->keys[i].key, k->key, KEK_LEN)) {
            snprintf(why, why_len, "line %u: this key stands in the file already", number);
            return ERR_CONFIG;
        }
    }
    return ERR_OK;
}

enum err kek_set_parse(struct bytes text, struct kek_set **out, char *why, size_t why_len)
{
    struct kek_set *s = calloc(1, sizeof *s);
    enum err e = ERR_OK;

    if (s == NULL) {
        snprintf(why, why_len, "out of memory");
        return ERR_NOMEM;
    }
    for (unsigned number = 1; e == ERR_OK && text.n > 0; number++) {
        struct bytes line = next_line(&text);

        if (line.n > 0 && line.p[0] != '#')
            e = add_key(s, line, number, why, why_len);
    }
    if (e == ERR_OK && s->count == 0) {
        snprintf(why, why_len, "there is no key in it");
        e = ERR_CONFIG;
    }
    if (e != ERR_OK) {
        kek_set_free(s);
        return e;
    }
    *out = s;
    return ERR_OK;
}

void kek_set_free(struct kek_set *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++)
        secret_free(s->keys[i].key, KEK_LEN);
    free(s);
}

const struct kek *kek_set_find(const struct kek_set *s, struct bytes id)
{
    for (size_t i = 0; i < s->count; i++) {
        if (bytes_eq(bytes_str(s->keys[i].id), id))
            return &s->keys[i];
    }
    return NULL;
}

/* --- file ------------------------------------------------------------------------------------- */

static enum err too_large(const char *path, char *why, size_t why_len)
{
    snprintf(why, why_len, "%s: more than %u bytes", path, KEYFILE_BYTES_MAX);
    return ERR_CONFIG;
}

static enum err check_file(int fd, const char *path, bool is_start, char *why, size_t why_len)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        snprintf(why, why_len, "%s: %s", path, strerror(errno));
        return ERR_SYSTEM;
    }
    if (!S_ISREG(st.st_mode) && !(is_start && S_ISFIFO(st.st_mode))) {
        snprintf(why, why_len, "%s: not a regular file", path);
        return ERR_CONFIG;
    }
    if ((st.st_mode & 077) != 0) {
        snprintf(why, why_len, "%s: mode %04o lets others at the keys: chmod 600 it", path,
                 (unsigned)(st.st_mode & 07777));
        return ERR_CONFIG;
    }
    if (st.st_uid != 0 && st.st_uid != geteuid()) {
        snprintf(why, why_len, "%s: it belongs to user %u, not to us or root", path,
                 (unsigned)st.st_uid);
        return ERR_CONFIG;
    }
    return st.st_size > KEYFILE_BYTES_MAX ? too_large(path, why, why_len) : ERR_OK;
}

static enum err load_fd(int fd, const char *path, bool is_start, struct kek_set **out, char *why,
                        size_t why_len)
{
    uint8_t *buf;
    char line[160];
    size_t n;
    enum err e;

    TRY(check_file(fd, path, is_start, why, why_len));
    buf = secret_alloc(KEYFILE_BYTES_MAX + 1); /* a pipe does not say how much it has */
    if (buf == NULL) {
        snprintf(why, why_len, "%s: out of secret memory", path);
        return ERR_NOMEM;
    }
    e = file_read_all(fd, buf, KEYFILE_BYTES_MAX + 1, is_start ? FILE_WAIT_MS : 0, &n);
    if (e != ERR_OK) {
        snprintf(why, why_len, "%s: %s", path, file_read_problem(errno));
    } else if (n > KEYFILE_BYTES_MAX) {
        e = too_large(path, why, why_len);
    } else {
        e = kek_set_parse(bytes_of(buf, n), out, line, sizeof line);
        if (e != ERR_OK)
            snprintf(why, why_len, "%s: %s", path, line);
    }
    secret_free(buf, KEYFILE_BYTES_MAX + 1);
    return e;
}

enum err kek_set_load(const char *path, bool is_start, struct kek_set **out, char *why,
                      size_t why_len)
{
    enum err e;
    int fd;

    if (!is_start && file_is_read_once(path)) {
        snprintf(why, why_len, "%s: a pipe or a descriptor can be read only at the start", path);
        return ERR_CONFIG;
    }
    fd = file_open(path);
    if (fd < 0) {
        snprintf(why, why_len, "%s: %s", path, file_open_problem(errno));
        return ERR_SYSTEM;
    }
    e = load_fd(fd, path, is_start, out, why, why_len);
    close(fd);
    return e;
}

/* --- a new file ------------------------------------------------------------------------------- */

struct fresh_key {
    uint8_t key[KEK_LEN];
    char text[KEK_TEXT_LEN + 2]; /* with a newline */
};

static bool write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(fd, p, n);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

static enum err write_key(int fd, const char *path, struct fresh_key *k, char *why, size_t why_len)
{
    char head[256];
    char id[KEK_ID_LEN + 1];
    int n;

    kek_id(k->key, id);
    n = snprintf(head, sizeof head,
                 "# Key file of etcd-envelope-local-kms: the first key wraps, all unwrap.\n"
                 "# Key id %s\n",
                 id);
    if (write_all(fd, head, (size_t)n) && write_all(fd, k->text, KEK_TEXT_LEN + 1) &&
        fsync(fd) == 0)
        return ERR_OK;
    snprintf(why, why_len, "%s: %s", path, strerror(errno));
    return ERR_SYSTEM;
}

enum err keyfile_generate(const char *path, char *why, size_t why_len)
{
    struct fresh_key *k = secret_alloc(sizeof *k);
    enum err e = ERR_NOMEM;
    int fd = -1;

    snprintf(why, why_len, "out of secret memory");
    if (k == NULL)
        return ERR_NOMEM;
    e = random_get(k->key, KEK_LEN);
    snprintf(why, why_len, "no random bytes");
    if (e != ERR_OK)
        goto out;
    EVP_EncodeBlock((unsigned char *)k->text, k->key, KEK_LEN);
    k->text[KEK_TEXT_LEN] = '\n';
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        snprintf(why, why_len, "%s: %s%s", path, strerror(errno),
                 errno == EEXIST ? " (a key file is never written over: take another name)" : "");
        e = ERR_SYSTEM;
        goto out;
    }
    e = write_key(fd, path, k, why, why_len);
    if (close(fd) != 0 && e == ERR_OK) {
        snprintf(why, why_len, "%s: %s", path, strerror(errno));
        e = ERR_SYSTEM;
    }
    if (e != ERR_OK)
        (void)unlink(path);
out:
    secret_free(k, sizeof *k);
    return e;
}
