/* SPDX-License-Identifier: Apache-2.0 */
/* status: several proxies side by side. tools/status.c asks them. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/cli_int.h"
#include "tools/status.h"

static const char status_help[] =
    "usage: etcd-envelope status --metrics-urls URLS [flags]\n"
    "\n"
    "Asks several proxies by their metrics listeners and shows them side by side: configuration,\n"
    "write key, health of KMS plugins and etcd, last reload, version, values sealed and opened,\n"
    "and what each one's status page says is wrong. The last line says whether all agree.\n"
    "\n"
    "  --metrics-urls URLS\n"
    "      their --listen-metrics-urls, separated by commas; may be repeated\n"
    "  --cafile FILE, --certfile FILE, --keyfile FILE\n"
    "      for https: who signed their certificates; the certificate to show them\n"
    "  --output text|json\n"
    "      lines to read, or one JSON object (default text)\n"
    "\n"
    "Exit status: 0 all agree and are well; 3 they differ, or one is not well, or its last reload\n"
    "failed; 75 one does not answer; 1 error; 2 used wrongly. 3 is as it should be while a file "
    "or\n"
    "a plugin's new key id reaches one proxy after the other, on the way back to plaintext, and\n"
    "with --converge while plaintext is being brought in.\n";

struct status_tool {
    struct cli__texts urls;
    const char *cafile, *certfile, *keyfile, *output;
    struct net_url *v;
    size_t count;
    struct net_tls *tls;
    char why[CLI__WHY_MAX];
};

static int add_url(struct status_tool *t, const char *text, size_t n)
{
    char url[NET_URL_MAX];
    const char *reason = "";

    snprintf(url, sizeof url, "%.*s", (int)(n < NET_URL_MAX ? n : NET_URL_MAX), text);
    if (net_url_parse(url, &t->v[t->count], &reason) != ERR_OK)
        return cli__refuse(CLI_USAGE, "--metrics-urls: %s: %s", url, reason);
    t->count++;
    return CLI_OK;
}

static int parse_urls(struct status_tool *t)
{
    size_t most = 1;

    for (size_t i = 0; i < t->urls.count; i++)
        most += strlen(t->urls.v[i]) + 1;
    t->v = base_xcalloc(most, sizeof *t->v);
    for (size_t i = 0; i < t->urls.count; i++)
        for (const char *text = t->urls.v[i];; text++) {
            size_t n = strcspn(text, ",");
            int status = add_url(t, text, n);

            if (status != CLI_OK)
                return status;
            text += n;
            if (*text == '\0')
                break;
        }
    return t->count > 0 ? CLI_OK : cli__refuse(CLI_USAGE, "--metrics-urls is needed");
}

static int make_tls(struct status_tool *t)
{
    const struct net_tls_client_opts o = {
        .ca_file = t->cafile, .cert_file = t->certfile, .key_file = t->keyfile};

    for (size_t i = 0; i < t->count; i++)
        if (t->v[i].is_tls && t->tls == NULL &&
            net_tls_client_new(&o, &t->tls, t->why, sizeof t->why) != ERR_OK)
            return cli__refuse(CLI_ERROR, "%s", t->why);
    return CLI_OK;
}

static int run(struct status_tool *t)
{
    static const int statuses[] = {[TOOLS_STATUS_AWAY] = CLI_UNREACHABLE,
                                   [TOOLS_STATUS_DIFFER] = CLI_NOT_AS_WANTED,
                                   [TOOLS_STATUS_GOOD] = CLI_OK};
    bool is_json = t->output != NULL && strcmp(t->output, "json") == 0;
    struct tools_status_opts o = {.is_json = is_json, .out = stdout};
    enum tools_status_result result;
    int status;

    if (t->output != NULL && !is_json && strcmp(t->output, "text") != 0)
        return cli__refuse(CLI_USAGE, "--output: \"%.40s\" is not text or json", t->output);
    status = parse_urls(t);
    if (status == CLI_OK)
        status = make_tls(t);
    if (status != CLI_OK)
        return status;
    status = cli__try_limits();
    if (status != CLI_OK)
        return status;
    signal(SIGPIPE, SIG_IGN);
    o.urls = t->v;
    o.url_count = t->count;
    o.tls = t->tls;
    if (tools_status(&o, &result) != ERR_OK)
        return cli__refuse(CLI_ERROR, "cannot set up the connections");
    return fflush(stdout) == 0 && !ferror(stdout)
               ? statuses[result]
               : cli__refuse(CLI_ERROR, "cannot write the report");
}

int cli_status(int argc, char *const argv[])
{
    struct status_tool t = {0};
    const struct cli__flag flags[] = {{.name = "metrics-urls", .texts = &t.urls},
                                      {.name = "cafile", .value = &t.cafile},
                                      {.name = "certfile", .value = &t.certfile},
                                      {.name = "keyfile", .value = &t.keyfile},
                                      {.name = "output", .value = &t.output}};
    struct cli__args args;
    int status;

    if (cli__args_take(argc, argv, flags, ARRAY_LEN(flags), &args, t.why, sizeof t.why) != ERR_OK)
        return cli__refuse(CLI_USAGE, "%s", t.why);
    if (args.wants_help) {
        fputs(status_help, stdout);
        status = CLI_OK;
    } else if (args.rest_count > 0) {
        status = cli__refuse(CLI_USAGE, "status: unexpected \"%.100s\"", args.rest[0]);
    } else {
        status = run(&t);
    }
    net_tls_drop(t.tls);
    free(t.v);
    free(t.urls.v);
    free(args.rest);
    return status;
}
