/* SPDX-License-Identifier: Apache-2.0 */
/* check: what serve would do with this configuration, said beforehand. What the files alone show is
 * judged by the functions that serve itself starts with, so that both say the same. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "kms/text.h"
#include "net/addr.h"
#include "net/listen.h"
#include "pages/pages.h"
#include "policy/load.h"
#include "server/server.h"
#include "tools/check.h"

#define SOON_S (30 * 24 * 3600) /* a certificate that ends by then is worth a warning */

static const char check_help[] =
    "usage: etcd-envelope check --encryption-provider-config FILE [flags of serve]\n"
    "\n"
    "Says what serve would do with these flags and files, and whether it would work: which keys "
    "of\n"
    "etcd are protected, by which provider; whether every KMS plugin is healthy, wraps a key and\n"
    "unwraps it; whether etcd answers; whether the first values of each protected prefix open;\n"
    "whether TLS files fit, and how long they last; whether sockets let --user in. Nothing is "
    "changed.\n"
    "\n"
    "  --offline\n"
    "      judge flags and files alone, without asking plugins or etcd. Refused is what serve\n"
    "      refuses, in the same words; with --encryption-provider-config-automatic-reload\n"
    "      kube-apiserver's stricter rules for that\n"
    "  --output text|json\n"
    "      a line for each finding, or one JSON object (default text)\n"
    "\n"
    "  --etcd-user NAME[:PASSWORD]\n"
    "      where etcd asks for users; ETCDCTL_USER and ETCDCTL_PASSWORD are honoured, too.\n"
    "      With --etcd-password-file it is serve's own user, a name alone\n"
    "\n"
    "All flags of serve are taken, and etcdctl's environment; see etcd-envelope serve --help.\n"
    "\n"
    "Exit status: 0 all well; 3 a certificate is over or does not name its host, etcd is full, or\n"
    "forbids --converge something; 4 values are there that do not open; 1 serve would refuse the\n"
    "files, or etcd refuses the look; 2 serve would refuse the flags, or the server is a proxy; "
    "75\n"
    "etcd or a KMS plugin is not reachable or not well. Values that open, but are to be "
    "rewritten,\n"
    "as in a migration or a rotation, are a note and leave it at 0.\n";

struct check {
    const struct settings *o;
    struct ruleset *rules;
    struct server_files files;
    struct cli__user user;
    struct tools_findings findings;
    char why[CLI__WHY_MAX];
    bool is_offline, is_json;
    int status; /* the most urgent so far */
};

/* Of two exit statuses the more urgent one. */
static int worse(int a, int b)
{
    static const int order[] = {CLI_USAGE, CLI_ERROR, CLI_UNREACHABLE, CLI_UNREADABLE,
                                CLI_NOT_AS_WANTED};

    for (size_t i = 0; i < ARRAY_LEN(order); i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return CLI_OK;
}

/* --- files ------------------------------------------------------------------------------------ */

/* Serve would not start: said as serve does, and among the findings where a program reads them. */
static int refuse(struct check *c, int status, const char *file, const char *why)
{
    const char *colon = file[0] == '\0' ? "" : ": ";

    if (c->is_json)
        tools_finding(&c->findings, TOOLS_FAIL, status == CLI_USAGE ? "flags" : "files", "%s%s%s",
                      file, colon, why);
    return cli__refuse(status, "%s%s%s", file, colon, why);
}

static int load_files(struct check *c)
{
    int status;

    if (c->o->encryption_provider_config == NULL)
        return refuse(c, CLI_USAGE, "", CLI__NO_CONFIG);
    if (!pages_check(c->o, c->why, sizeof c->why))
        return refuse(c, CLI_USAGE, "", c->why);
    if (policy_load(c->o, &c->rules, c->why, sizeof c->why) != ERR_OK)
        return refuse(c, CLI_ERROR, c->o->encryption_provider_config, c->why);
    status = server_check(c->o, c->rules, &c->files, c->why, sizeof c->why);
    return status == 0 ? CLI_OK : refuse(c, status, "", c->why);
}

static void check_expiry(struct check *c, const struct net_tls *tls, const char *what,
                         const char *file)
{
    int64_t ends, left;
    char text[KMS_TIME_TEXT];

    if (tls == NULL || file == NULL || !net_tls_expiry(tls, &ends))
        return;
    left = ends - (int64_t)time(NULL);
    kms_time_text(ends, text);
    if (left <= 0) {
        tools_finding(&c->findings, TOOLS_FAIL, what, "%s: over since %s", file, text);
        c->status = worse(c->status, CLI_NOT_AS_WANTED);
    } else {
        tools_finding(&c->findings, left < SOON_S ? TOOLS_WARN : TOOLS_OK, what,
                      "%s: fits its key, valid until %s%s", file, text,
                      left < SOON_S ? ", less than 30 days" : "");
    }
}

static void check_revoked(struct check *c)
{
    char text[KMS_TIME_TEXT];
    size_t count;
    int64_t ends;

    if (c->files.tls == NULL || !net_tls_revoked(c->files.tls, &count, &ends))
        return;
    if (ends > (int64_t)time(NULL))
        tools_finding(&c->findings, TOOLS_OK, "TLS", "%s: client certificates revoked: %zu",
                      c->o->client_crl_file, count);
    else
        tools_finding(&c->findings, TOOLS_NOTE, "TLS",
                      "%s: client certificates revoked: %zu; a list is out of date since %s, and "
                      "in force all the same",
                      c->o->client_crl_file, count, kms_time_text(ends, text));
}

/* secret: what is in the file. */
static void check_mode(struct check *c, const char *what, const char *secret, const char *file)
{
    unsigned mode = file == NULL ? 0 : file_open_mode(file);

    if (mode != 0)
        tools_finding(&c->findings, TOOLS_WARN, what,
                      "%s: the %s is open to others (mode %04o), chmod 600 it", file, secret, mode);
}

/* What clients check: does the certificate name the host that they connect to? */
static void check_names(struct check *c, char *const *urls, size_t count)
{
    const char *reason;
    struct net_url url;

    for (size_t i = 0; i < count; i++) {
        const char *text = urls[i], *equals = strchr(text, '='), *scheme = strstr(text, "://");

        if (equals != NULL && scheme != NULL && equals < scheme)
            text = equals + 1; /* "member=URL" */
        if (net_url_parse(text, &url, &reason) != ERR_OK || !url.is_tls || url.is_unix ||
            url.host[0] == '\0' || strcmp(url.host, "0.0.0.0") == 0 ||
            strcmp(url.host, "::") == 0 || net_tls_names_host(c->files.tls, url.host))
            continue;
        tools_finding(&c->findings, TOOLS_FAIL, "TLS",
                      "%s does not name %s: clients of %s refuse it", c->o->cert_file, url.host,
                      text);
        c->status = worse(c->status, CLI_NOT_AS_WANTED);
    }
}

static void say_user(struct check *c)
{
    const char *user = c->o->user;

    if (user == NULL)
        return;
    tools_finding(&c->findings, TOOLS_OK, "user",
                  "%s, once everything is open: sockets of KMS plugins and etcd that are there let "
                  "it in; configuration, keys and certificates may stay root's",
                  user);
    if (c->files.closed != NULL)
        tools_finding(&c->findings, TOOLS_NOTE, "user",
                      "%s may not write to %s: the socket there is left behind at the end, and the "
                      "next start takes its place",
                      user, c->files.closed);
}

/* Whoever starts serve may make the folder first, and take the file away. */
static void check_sockets(struct check *c, char *const *urls, size_t count)
{
    const char *reason;
    struct net_url url;

    for (size_t i = 0; i < count; i++)
        if (net_url_parse(urls[i], &url, &reason) == ERR_OK &&
            net_listen_try(&url, c->why, sizeof c->why) != ERR_OK)
            tools_finding(&c->findings, TOOLS_WARN, "listen",
                          "%s: as it is now serve could not listen there", c->why);
}

static void say_environment(struct check *c)
{
    struct settings_unknown u;
    size_t at = 0;

    while (settings_unknown_env(&at, &u))
        tools_finding(&c->findings, TOOLS_WARN, "configuration",
                      "environment variable %.*s is not used: no flag has this name%s%s%s",
                      (int)u.name.n, (const char *)u.name.p,
                      u.meant == NULL ? "" : ", did you mean --", u.meant == NULL ? "" : u.meant,
                      u.meant == NULL ? "" : "?");
}

static void say_files(struct check *c)
{
    say_environment(c);
    tools_check_rules(&c->findings, c->rules, c->o->encryption_provider_config);
    say_user(c);
    check_sockets(c, c->o->listen_client_urls, c->o->listen_client_url_count);
    check_sockets(c, c->o->listen_metrics_urls, c->o->listen_metrics_url_count);
    check_expiry(c, c->files.tls, "TLS", c->o->cert_file);
    if (c->files.tls != NULL) {
        check_names(c, c->o->listen_client_urls, c->o->listen_client_url_count);
        check_names(c, c->o->advertise_client_urls, c->o->advertise_client_url_count);
    }
    check_expiry(c, c->files.etcd_tls, "TLS to etcd", c->o->etcd_certfile);
    check_revoked(c);
    check_mode(c, "TLS", "private key", c->o->key_file);
    check_mode(c, "TLS to etcd", "private key", c->o->etcd_keyfile);
    check_mode(c, "etcd user", "password", c->o->etcd_password_file);
}

/* --- the others ------------------------------------------------------------------------------- */

static void look_at_etcd(struct check *c)
{
    static const int statuses[] = {[TOOLS_CHECK_UNREADABLE] = CLI_UNREADABLE,
                                   [TOOLS_CHECK_ODD] = CLI_NOT_AS_WANTED,
                                   [TOOLS_CHECK_GOOD] = CLI_OK};
    const struct sweep_user user = {c->user.name, c->user.password};
    struct tools_cluster cluster;
    enum tools_check_result result;

    if (tools_cluster_init(&cluster, c->o, c->rules, TOOLS_WANTS_KEYS | TOOLS_WANTS_ETCD, &user) !=
        ERR_OK) {
        tools_finding(&c->findings, TOOLS_FAIL, "etcd", "%s", cluster.why);
        c->status = worse(c->status, CLI_ERROR);
    } else {
        result = tools_check_values(&c->findings, &cluster, c->o);
        c->status = worse(c->status, result != TOOLS_CHECK_FAILED ? statuses[result]
                                                                  : cli__cluster_status(&cluster));
    }
    tools_cluster_fini(&cluster);
}

static int run(struct check *c)
{
    /* What goes wrong stands among the findings. */
    int status = cli__begin(c->o, c->o->log_level == LOG_INFO ? LOG_ERROR : c->o->log_level);
    bool is_refused;

    if (status != CLI_OK)
        return status;
    signal(SIGPIPE, SIG_IGN);
    tools_findings_begin(&c->findings, stdout, c->is_json);
    status = load_files(c);
    is_refused = status != CLI_OK;
    if (!is_refused) {
        say_files(c);
        if (!c->is_offline && !tools_check_plugins(&c->findings, c->rules))
            c->status = worse(c->status, CLI_UNREACHABLE);
        if (!c->is_offline)
            look_at_etcd(c);
        status = c->status;
    }
    if (!is_refused || c->is_json)
        tools_findings_end(&c->findings);
    net_tls_drop(c->files.tls);
    net_tls_drop(c->files.etcd_tls);
    ruleset_drop(c->rules);
    log_stop();
    if (fflush(stdout) != 0 || ferror(stdout))
        return cli__refuse(CLI_ERROR, "cannot write the findings");
    return status;
}

int cli_check(int argc, char *const argv[])
{
    struct check c = {0};
    const char *output = NULL, *user;
    const struct cli__flag flags[] = {{.name = "offline", .is_on = &c.is_offline},
                                      {.name = "output", .value = &output}};
    struct settings *settings = NULL;
    struct cli__args args;
    int status;

    if (cli__cluster_args(argc, argv, flags, ARRAY_LEN(flags), &user, &args, c.why, sizeof c.why) !=
        ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", c.why);
    c.is_json = output != NULL && strcmp(output, "json") == 0;
    if (args.wants_help) {
        fputs(check_help, stdout);
        status = CLI_OK;
    } else if (output != NULL && !c.is_json && strcmp(output, "text") != 0) {
        status = cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", output);
    } else if (cli__settings(args.rest_count, args.rest, &settings, c.why, sizeof c.why) !=
               ERR_OK) {
        status = cli__refuse(CLI_USAGE, "%s", c.why);
    } else {
        c.o = settings;
        status = cli__lock_memory(settings);
        if (status == CLI_OK)
            status = cli__user_take(user, settings, &c.user);
        if (status == CLI_OK)
            status = run(&c);
    }
    cli__user_free(&c.user);
    settings_free(settings);
    free(args.rest);
    return status;
}
