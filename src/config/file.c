/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"

static enum err fail(char *reason, size_t reason_len, const char *what)
{
    snprintf(reason, reason_len, "%s", what);
    return ERR_CONFIG;
}

/* Reads until the end: the size that stat(2) tells is not relied upon. */
static enum err read_open_file(int fd, enum config_pipes pipes, uint8_t **text, size_t *len,
                               char *reason, size_t reason_len)
{
    struct stat st;
    uint8_t *buf;

    if (fstat(fd, &st) != 0 || S_ISDIR(st.st_mode))
        return fail(reason, reason_len, "can't be read: it is a directory");
    if (st.st_size > CONFIG_MAX_FILE)
        return fail(reason, reason_len, "is larger than 4 MiB");
    buf = malloc(CONFIG_MAX_FILE + 1);
    if (buf == NULL) {
        (void)fail(reason, reason_len, "can't be read: out of memory");
        return ERR_NOMEM;
    }
    if (file_read_all(fd, buf, CONFIG_MAX_FILE + 1, pipes == CONFIG_PIPES_WAIT ? FILE_WAIT_MS : 0,
                      len) != ERR_OK) {
        snprintf(reason, reason_len, "can't be read: %s", file_read_problem(errno));
    } else if (*len > CONFIG_MAX_FILE) {
        (void)fail(reason, reason_len, "is larger than 4 MiB");
    } else {
        *text = buf;
        return ERR_OK;
    }
    secret_wipe(buf, *len);
    free(buf);
    return ERR_CONFIG;
}

enum err config__read_file(const char *path, enum config_pipes pipes, uint8_t **text, size_t *len,
                           char *reason, size_t reason_len)
{
    enum err e;
    int fd;

    /* Asked before it is opened: opening a FIFO would release a writer that waits for a reader. */
    if (pipes == CONFIG_PIPES_REFUSED && file_is_read_once(path))
        return fail(reason, reason_len,
                    "is a pipe or a descriptor: it was read at the start and can't be read again");
    fd = file_open(path);
    if (fd < 0) {
        snprintf(reason, reason_len, "can't be read: %s", file_open_problem(errno));
        return ERR_CONFIG;
    }
    e = read_open_file(fd, pipes, text, len, reason, reason_len);
    close(fd);
    return e;
}
