/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/export.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kms/text.h"
#include "tools/value.h"

#define INDEX "index.jsonl"

static void fail(struct tools_export *x, const char *name)
{
    x->err = ERR_SYSTEM;
    snprintf(x->why, sizeof x->why, "--export: %.200s/%s cannot be written: %s", x->path, name,
             strerror(errno));
}

/* Never over a file that is there, nor where a link leads to. */
static int create(const struct tools_export *x, const char *name)
{
    return openat(x->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

enum err tools_export_open(struct tools_export *x, const char *path)
{
    int fd = -1;

    *x = (struct tools_export){.path = path, .folder = -1};
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        x->folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (x->folder >= 0)
        fd = create(x, INDEX);
    if (fd >= 0)
        x->index = fdopen(fd, "w");
    if (x->index == NULL) {
        fail(x, INDEX);
        if (fd >= 0)
            close(fd);
    }
    return x->err;
}

static void put_line(struct tools_export *x, const char *name, const struct sweep_value *v,
                     const char *reason)
{
    struct json j = {.f = x->index};

    json_open(&j, NULL, '{');
    json_text(&j, "file", name);
    json_bytes(&j, "key", v->kv.key);
    json_text(&j, "resource", v->list->resource);
    json_text(&j, "reason", reason);
    json_number(&j, "mod_revision", v->kv.mod_revision);
    json_number(&j, "bytes", (int64_t)v->kv.value.n);
    json_close(&j, '}');
    fputc('\n', x->index);
    if (ferror(x->index))
        fail(x, INDEX);
}

void tools_export_add(struct tools_export *x, const struct sweep_value *v, const char *reason)
{
    char hash[KMS_HASH_TEXT], why[256];
    const char *name;
    int fd;

    if (x->path == NULL || x->err != ERR_OK)
        return;
    name = strchr(kms_hash_text(v->kv.key, hash), ':') + 1;
    fd = create(x, name);
    if (fd < 0 || tools_value_write(fd, v->kv.value, why, sizeof why) != ERR_OK)
        fail(x, name);
    if (fd >= 0 && close(fd) != 0)
        fail(x, name);
    if (x->err != ERR_OK)
        return;
    x->count++;
    put_line(x, name, v, reason);
}

enum err tools_export_close(struct tools_export *x)
{
    if (x->index != NULL && fclose(x->index) != 0)
        fail(x, INDEX);
    if (x->path != NULL && x->folder >= 0)
        close(x->folder);
    x->index = NULL;
    x->folder = -1;
    return x->err;
}
