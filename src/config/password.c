/* SPDX-License-Identifier: Apache-2.0 */
#include "config/password.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"

#define PASSWORD_MAX 512u
#define ROOM (PASSWORD_MAX + 3) /* with a line's end, and one byte more, which is too much */

static enum err fail(char *why, size_t why_len, const char *path, const char *what)
{
    snprintf(why, why_len, "\"%.300s\" %s", path, what);
    return ERR_CONFIG;
}

/* What is wrong with the n bytes, or NULL; then text ends where the line does. */
static const char *take_line(char *text, size_t n)
{
    if (n > 0 && text[n - 1] == '\n')
        n--;
    if (n > 0 && text[n - 1] == '\r')
        n--;
    if (n == 0)
        return "is empty";
    if (n > PASSWORD_MAX)
        return "is longer than 512 bytes";
    if (memchr(text, '\0', n) != NULL || memchr(text, '\n', n) != NULL)
        return "has to hold one line of text, the password";
    text[n] = '\0';
    return NULL;
}

enum err password_read(const char *path, unsigned wait_ms, char **out, char *why, size_t why_len)
{
    char *text = secret_alloc(ROOM);
    const char *wrong = NULL;
    size_t n = 0;
    int fd;

    *out = NULL;
    if (text == NULL) {
        (void)fail(why, why_len, path, "can't be read: out of memory for keys");
        return ERR_NOMEM;
    }
    fd = file_open(path);
    if (fd < 0) {
        wrong = file_open_problem(errno);
    } else {
        if (file_read_all(fd, (uint8_t *)text, ROOM, wait_ms, &n) != ERR_OK)
            wrong = file_read_problem(errno);
        close(fd);
    }
    if (wrong != NULL) {
        snprintf(why, why_len, "\"%.300s\" can't be read: %s", path, wrong);
    } else {
        wrong = take_line(text, n);
        if (wrong == NULL) {
            *out = text;
            return ERR_OK;
        }
        (void)fail(why, why_len, path, wrong);
    }
    password_free(text);
    return ERR_CONFIG;
}

void password_free(char *p)
{
    secret_free(p, ROOM);
}
