/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/secret.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "config/password.h"

#define PASSWORD_MAX 512u

static const char *given(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Up to the end of the line. False: there is none, or it is too long. */
static bool read_line(int fd, char out[static PASSWORD_MAX])
{
    size_t n = 0;

    while (n < PASSWORD_MAX) {
        ssize_t got = read(fd, out + n, 1);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        if (out[n] == '\n') {
            out[n] = '\0';
            return true;
        }
        n++;
    }
    return false;
}

/* As etcdctl does where no password is given: at the terminal, unseen. */
static bool ask(const char *name, char out[static PASSWORD_MAX])
{
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    struct termios before, quiet;
    bool is_read = false;

    if (fd < 0)
        return false;
    if (tcgetattr(fd, &before) == 0) {
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        dprintf(fd, "Password of etcd's user %s: ", name);
        is_read = tcsetattr(fd, TCSAFLUSH, &quiet) == 0 && read_line(fd, out);
        (void)tcsetattr(fd, TCSAFLUSH, &before);
        dprintf(fd, "\n");
    }
    close(fd);
    return is_read;
}

/* The only line of the file that serve reads, too. */
static int read_file(const char *path, struct cli__user *out)
{
    char *password, why[CLI__WHY_MAX];

    if (password_read(path, FILE_WAIT_MS, &password, why, sizeof why) != ERR_OK)
        return cli__refuse(CLI_ERROR, "--etcd-password-file: %s", why);
    out->password = base_xstrdup(password);
    password_free(password);
    return CLI_OK;
}

/* text is "NAME:PASSWORD", or a name where password is given apart, or in a file; both may be NULL.
 */
static int split(const char *text, const char *password, const char *file, struct cli__user *out)
{
    size_t n = password != NULL ? strlen(text) : strcspn(text, ":");
    char asked[PASSWORD_MAX];

    if (n == 0)
        return cli__refuse(CLI_USAGE, "--etcd-user, ETCDCTL_USER: there is no name");
    out->name = strndup(text, n);
    CHECK(out->name != NULL);
    if (password != NULL || text[n] == ':') {
        out->password = base_xstrdup(password != NULL ? password : text + n + 1);
        return CLI_OK;
    }
    if (file != NULL)
        return read_file(file, out);
    if (!ask(out->name, asked))
        return cli__refuse(CLI_USAGE, "--etcd-user, ETCDCTL_USER: there is no password (write "
                                      "NAME:PASSWORD, or set ETCDCTL_PASSWORD), and no terminal to "
                                      "ask for one");
    out->password = base_xstrdup(asked);
    secret_wipe(asked, sizeof asked);
    return CLI_OK;
}

/* What stands behind the name does not stay in the list of processes. */
static void hide(const char *text)
{
    char *colon = strchr((char *)(uintptr_t)text, ':');

    if (colon != NULL)
        memset(colon + 1, 'x', strlen(colon + 1));
}

/* The flags of serve are a user's name and a file. This is what serve would be given with them;
 * behind a colon a password is left out, and serve refuses it in any case. */
static void tell_serve(const char *flag, struct settings *o)
{
    size_t n = strcspn(flag, ":");

    free(o->etcd_user);
    o->etcd_user = strndup(flag, flag[n] == ':' ? n + 1 : n);
    CHECK(o->etcd_user != NULL);
}

int cli__user_take(const char *flag, struct settings *o, struct cli__user *out)
{
    const char *text = flag, *password = given("ETCDCTL_PASSWORD");
    int status;

    *out = (struct cli__user){0};
    if (text == NULL && given("ETCD_ENVELOPE_ETCD_USER") == NULL)
        text = given("ETCDCTL_USER");
    if (text == NULL && o->etcd_user != NULL) {
        text = o->etcd_user;
        password = o->etcd_password_file != NULL ? NULL : password;
    }
    if (text == NULL)
        return CLI_OK;
    status = split(text, password, o->etcd_password_file, out);
    if (flag != NULL && o->etcd_password_file != NULL)
        tell_serve(flag, o);
    if (flag != NULL)
        hide(flag);
    return status;
}

void cli__user_free(struct cli__user *u)
{
    if (u->password != NULL)
        secret_wipe(u->password, strlen(u->password));
    free(u->password);
    free(u->name);
}
