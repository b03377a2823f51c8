/* SPDX-License-Identifier: Apache-2.0 */
/* Who the proxy itself is to an etcd that has users: for what it asks on its own account (the looks
 * at stored values and --converge) and for nothing else. The workers, which carry the calls of
 * clients, know nothing of it.
 * Happy path: the password is read at the start; the first call logs in, which the log says.
 * Failure modes: no password can be read: at the start that ends it, later the old one stays. etcd
 * refuses the user: one line of the log for each reason, and what waits for it is tried again as
 * soon as etcd takes it. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "config/password.h"
#include "server/server_int.h"

static const char *wrong_flags(const struct settings *o)
{
    if (o->etcd_user != NULL && strchr(o->etcd_user, ':') != NULL)
        return "--etcd-user: serve takes a name alone, since others can see the command line and "
               "the environment: the password belongs into the file of --etcd-password-file";
    if (o->etcd_user != NULL && o->etcd_password_file == NULL)
        return "--etcd-user needs --etcd-password-file";
    if (o->etcd_user == NULL && o->etcd_password_file != NULL)
        return "--etcd-password-file needs --etcd-user";
    return NULL;
}

int server__make_login(const struct server *s, struct sweep_login **out, char *why, size_t why_len)
{
    const struct settings *o = s->settings;
    const char *wrong = wrong_flags(o);
    struct sweep_user user = {.name = o->etcd_user};
    char *password, reason[512];
    enum err e;

    *out = NULL;
    if (wrong != NULL) {
        snprintf(why, why_len, "%s", wrong);
        return SERVER_USAGE;
    }
    if (o->etcd_user == NULL)
        return 0;
    if (password_read(o->etcd_password_file, FILE_WAIT_MS, &password, reason, sizeof reason) !=
        ERR_OK) {
        snprintf(why, why_len, "--etcd-password-file: %s", reason);
        return SERVER_ERROR;
    }
    user.password = password;
    e = sweep_login_new(&user, out);
    password_free(password);
    if (e == ERR_OK)
        return 0;
    snprintf(why, why_len, "cannot set up --etcd-user: out of memory");
    return SERVER_ERROR;
}

/* True when the log was told the same last. */
static bool is_said(struct server *s, const char *what)
{
    if (strcmp(s->login_said, what) == 0)
        return true;
    (void)snprintf(s->login_said, sizeof s->login_said, "%s", what);
    return false;
}

/* What was refused for want of a login need not wait for its next turn. */
static void try_again(struct server *s)
{
    if (s->converge != NULL)
        converge_try_again(s->converge);
    server__look_again(s);
}

static void on_state(void *arg)
{
    struct server *s = arg;
    const char *name = sweep_login_name(s->login), *why = sweep_login_why(s->login);

    switch (sweep_login_state(s->login)) {
    case SWEEP_LOGIN_REFUSED:
        if (!is_said(s, why))
            LOG(ERROR,
                "etcd does not take --etcd-user: stored values are neither looked at nor rewritten "
                "until it does; clients are served",
                "reason=\"%s\"", why);
        break;
    case SWEEP_LOGIN_IN:
        if (is_said(s, "in"))
            break;
        LOG(INFO, "etcd knows the proxy's own calls by its user", "user=\"%s\"", name);
        try_again(s);
        break;
    case SWEEP_LOGIN_OFF:
        if (!is_said(s, "off"))
            LOG(INFO, "etcd asks nobody who he is: --etcd-user is not needed now", "user=\"%s\"",
                name);
        break;
    case SWEEP_LOGIN_UNKNOWN:
        break;
    }
}

void server__login_start(struct server *s)
{
    unsigned mode;

    if (s->login == NULL)
        return;
    sweep_login_watch(s->login, on_state, s);
    s->is_password_read_once = file_is_read_once(s->settings->etcd_password_file);
    mode = file_open_mode(s->settings->etcd_password_file);
    if (mode != 0)
        LOG(WARN, "the password file is open to others: chmod 600 it", "file=\"%s\" mode=%04o",
            s->settings->etcd_password_file, mode);
}

static void refuse_password(struct server *s, const char *why)
{
    if (strcmp(s->password_why, why) == 0)
        return;
    (void)snprintf(s->password_why, sizeof s->password_why, "%s", why);
    LOG(ERROR, "--etcd-password-file cannot be used: the old password stays", "reason=\"%s\"", why);
}

/* SIGHUP, maybe because somebody has just given us the permission that was missing. */
static void insist(struct server *s)
{
    struct converge_status now;

    if (s->converge == NULL)
        return;
    converge_status(s->converge, &now);
    if (now.is_denied)
        converge_try_again(s->converge);
}

void server__reload_login(struct server *s, bool is_forced)
{
    enum sweep_login_state was = sweep_login_state(s->login);
    char *password, why[sizeof s->password_why];
    enum err e;

    if (is_forced)
        insist(s);
    if (s->login == NULL || s->is_password_read_once)
        return;
    if (is_forced)
        s->password_why[0] = '\0';
    if (file_is_read_once(s->settings->etcd_password_file)) {
        refuse_password(s, "it was a file at the start, and is a pipe or a device now");
        return;
    }
    if (password_read(s->settings->etcd_password_file, 0, &password, why, sizeof why) != ERR_OK) {
        refuse_password(s, why);
        return;
    }
    e = sweep_login_change(s->login, password, is_forced);
    password_free(password);
    if (e != ERR_OK) {
        refuse_password(s, "out of memory for keys");
        return;
    }
    s->password_why[0] = '\0';
    if (was == SWEEP_LOGIN_REFUSED && sweep_login_state(s->login) != was)
        try_again(s);
}
