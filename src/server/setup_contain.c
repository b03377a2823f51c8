/* SPDX-License-Identifier: Apache-2.0 */
/* What the process may still do when everything is open; contain/contain.h says how. Files are
 * needed for two things only: names of etcd are looked up by libc, and without --etcd-cafile
 * OpenSSL takes authorities from the system's folders while it verifies.
 * Failure modes: more folders than fit are left out, which refuses more, not less. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "contain/contain.h"
#include "loop/preflight.h"
#include "server/server_int.h"

struct lists {
    struct contain_opts opts;
    struct contain_user user;
    char texts[CONTAIN_FOLDERS_MAX][PATH_MAX];
    size_t text_count;
};

static void add(const char *list[static CONTAIN_FOLDERS_MAX + 1], const char *path)
{
    size_t n = 0;

    while (list[n] != NULL)
        n++;
    if (n < CONTAIN_FOLDERS_MAX)
        list[n] = path;
}

static void add_all(const char *list[static CONTAIN_FOLDERS_MAX + 1], const char *const *paths,
                    size_t count)
{
    for (size_t i = 0; i < count; i++)
        add(list, paths[i]);
}

static void add_folder_of(struct lists *l, const char *list[static CONTAIN_FOLDERS_MAX + 1],
                          const char *path)
{
    char *text = l->texts[l->text_count], *slash;

    if (l->text_count == CONTAIN_FOLDERS_MAX)
        return;
    (void)snprintf(text, PATH_MAX, "%s", path);
    slash = strrchr(text, '/');
    if (slash == text)
        slash++;
    if (slash == NULL)
        (void)snprintf(text, PATH_MAX, ".");
    else
        *slash = '\0';
    l->text_count++;
    add(list, text);
}

/* --- what is read ---------------------------------------------------------------------------- */

static bool is_name(const struct net_url *url)
{
    uint8_t address[sizeof(struct in6_addr)];

    return !url->is_unix && inet_pton(AF_INET, url->host, address) != 1 &&
           inet_pton(AF_INET6, url->host, address) != 1;
}

static bool is_below(const char *path, const char *folder)
{
    size_t n = strlen(folder);

    return strncmp(path, folder, n) == 0 && path[n] == '/';
}

/* Files of the resolver are replaced as they change, and folders of /run come and go with who keeps
 * them (a rule is one of the folder that was there, not of its name), so what is above them has to
 * be named; its modules are loaded when the first name is asked for. Where a file is a link to
 * somewhere else that folder is named, too: there only the file may be replaced. */
static void allow_resolver(struct lists *l)
{
    static const char *const folders[] = {"/etc",   "/run",       "/usr/lib",
                                          "/lib64", "/usr/lib64", "/lib"};
    static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf",
                                        "/etc/host.conf", "/etc/gai.conf"};
    char target[PATH_MAX];

    add_all(l->opts.read_folders, folders, ARRAY_LEN(folders));
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (realpath(files[i], target) != NULL && !is_below(target, "/etc") &&
            !is_below(target, "/run"))
            add_folder_of(l, l->opts.read_folders, target);
}

static void allow_authorities(struct lists *l)
{
    static const char *const folders[] = {"/etc/ssl", "/usr/lib/ssl", "/usr/share/ca-certificates",
                                          "/usr/local/share/ca-certificates", "/etc/pki"};
    static char own[PATH_MAX];
    const char *dirs = getenv("SSL_CERT_DIR"), *file = getenv("SSL_CERT_FILE");
    char *rest = own;

    add_all(l->opts.read_folders, folders, ARRAY_LEN(folders));
    if (file != NULL)
        add(l->opts.read_folders, file);
    (void)snprintf(own, sizeof own, "%s", dirs == NULL ? "" : dirs);
    for (char *dir; (dir = strsep(&rest, ":")) != NULL;) /* several, as in PATH */
        if (*dir != '\0')
            add(l->opts.read_folders, dir);
}

/* One of --etcd-servers is looked up. */
static bool has_name(const struct server *s)
{
    for (size_t i = 0; i < s->env.etcd_url_count; i++)
        if (is_name(&s->etcd_urls[i]))
            return true;
    return false;
}

static void allow_reading(const struct server *s, struct lists *l)
{
    bool has_tls = false;

    for (size_t i = 0; i < s->env.etcd_url_count; i++)
        has_tls |= s->etcd_urls[i].is_tls;
    if (has_name(s))
        allow_resolver(l);
    if (has_tls && s->settings->etcd_cafile == NULL)
        allow_authorities(l);
}

/* --- sockets ---------------------------------------------------------------------------------- */

static void allow_removing(struct lists *l, char *const *urls, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *why;
        struct net_url url;

        if (net_url_parse(urls[i], &url, &why) == ERR_OK && url.is_unix && url.host[0] != '@')
            add_folder_of(l, l->opts.socket_folders, url.host);
    }
}

static void name_peers(const struct server *s, const struct ruleset *rules, struct lists *l)
{
    static const char scheme[] = "unix://";

    for (size_t i = 0; i < rules->plugin_count; i++)
        if (strncmp(rules->plugins[i].endpoint, scheme, sizeof scheme - 1) == 0)
            add(l->opts.connect_sockets, rules->plugins[i].endpoint + sizeof scheme - 1);
    for (size_t i = 0; i < s->env.etcd_url_count; i++)
        if (s->etcd_urls[i].is_unix && s->etcd_urls[i].host[0] != '@')
            add(l->opts.connect_sockets, s->etcd_urls[i].host);
}

/* --- threads ---------------------------------------------------------------------------------- */

/* One for the log, the workers, those that look up names. Only now it is known what limits there
 * are, for some do not concern root. */
static enum err begin_threads(struct server *s, char *why, size_t why_len)
{
    unsigned count = 1 + s->settings->workers + (has_name(s) ? loop_pool_threads() : 0);

    TRY(loop_try_threads(count, why, why_len));
    if (has_name(s))
        TRY(loop_start_pool(&s->loop));
    if (log_run() == ERR_OK)
        return ERR_OK;
    (void)snprintf(why, why_len, "cannot make the thread that writes the log: %s", strerror(errno));
    return ERR_SYSTEM;
}

/* 0, or SERVER_USAGE with why. */
static int make_lists(const struct server *s, const struct ruleset *rules, struct lists *l,
                      char *why, size_t why_len)
{
    const struct settings *o = s->settings;

    *l = (struct lists){.opts = {.drop_privileges = o->drop_privileges,
                                 .landlock = o->landlock,
                                 .seccomp = o->seccomp,
                                 .seccomp_log = o->seccomp_log,
                                 .is_required = o->require_containment}};
    allow_reading(s, l);
    allow_removing(l, o->listen_client_urls, o->listen_client_url_count);
    allow_removing(l, o->listen_metrics_urls, o->listen_metrics_url_count);
    name_peers(s, rules, l);
    if (o->user == NULL)
        return 0;
    if (contain_find_user(o->user, &l->user, why, why_len) != ERR_OK)
        return SERVER_USAGE;
    l->opts.user = &l->user;
    return 0;
}

static struct lists lists; /* large */

int server__try_user(const struct server *s, const struct ruleset *rules, const char **closed,
                     char *why, size_t why_len)
{
    int status = make_lists(s, rules, &lists, why, why_len);

    *closed = NULL;
    if (status == 0 && lists.opts.user != NULL &&
        contain_try_user(&lists.opts, closed, why, why_len) != ERR_OK)
        status = SERVER_ERROR;
    return status;
}

int server__contain(struct server *s, const struct ruleset *rules, char *why, size_t why_len)
{
    int status = make_lists(s, rules, &lists, why, why_len);

    if (status != 0)
        return status;
    if (contain_process(&lists.opts, why, why_len) != ERR_OK)
        return SERVER_ERROR;
    contain_log();
    return begin_threads(s, why, why_len) == ERR_OK ? 0 : SERVER_ERROR;
}
