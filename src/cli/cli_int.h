/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of cli/, one for each subcommand (encrypt and decrypt share one).
 *
 *   tool_args.c   the flags that the tools have beside the proxy's
 *   user.c        the user of etcd's
 *   etcdctl.c     etcdctl's environment, for the tools that talk to etcd
 *   cluster.c     what the tools that work on a whole cluster have in common
 *   memory.c      memory for keys, locked or allowed not to be
 *   begin.c       what the tools begin with */
#ifndef CLI_CLI_INT_H
#define CLI_CLI_INT_H

#include <stdio.h>

#include "base/slice.h"
#include "config/settings.h"
#include "policy/ruleset.h"

#define CLI__WHY_MAX 4096
#define CLI__NO_CONFIG                                                                             \
    "--encryption-provider-config is needed: without it nothing would be encrypted"

/* Says why on standard error; returns status. */
int cli__refuse(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- tool_args.c ------------------------------------------------------------------------------ */

/* The values of a flag that may be given several times: argv's own memory. */
struct cli__texts {
    const char **v; /* the array is to be freed */
    size_t count;
};

/* One of the three is set. */
struct cli__flag {
    const char *name;         /* without dashes */
    const char **value;       /* set to the argument's own memory; NULL beforehand */
    struct cli__texts *texts; /* grows; may be given again and again */
    bool *is_on;              /* takes no value */
};

/* What of argv is not the tool's own, in order. */
struct cli__args {
    char **rest; /* points into argv; the array is the caller's to free */
    int rest_count;
    bool wants_help;
};

/* Takes the flags of the table out of argv: "--name=value" or "--name value"; of several the last
 * counts. Also -h and --help. Errors: ERR_CONFIG with why (a value is missing, or there is one that
 * is not wanted); then rest is not to be freed. */
MUST_CHECK enum err cli__args_take(int argc, char *const argv[], const struct cli__flag *flags,
                                   size_t flag_count, struct cli__args *out, char *why,
                                   size_t why_len);

/* --- etcdctl.c -------------------------------------------------------------------------------- */

/* settings_parse for tools that honour etcdctl's environment: ETCDCTL_ENDPOINTS, ETCDCTL_CACERT,
 * ETCDCTL_CERT and ETCDCTL_KEY stand for the flags of the same meaning where neither flag nor
 * environment of ours gives them, before --config-file does. An endpoint without a scheme is https
 * where an authority or a certificate is given by anything, or ETCDCTL_INSECURE_TRANSPORT is false.
 * Errors: those of settings_parse; ERR_CONFIG with why: a setting that can't be followed, and that
 * must not be passed over. The settings are the caller's to free. */
MUST_CHECK enum err cli__settings(int argc, char *const argv[], struct settings **out, char *why,
                                  size_t why_len);

/* --- user.c ----------------------------------------------------------------------------------- */

/* A user of etcd's; name NULL: none is given. */
struct cli__user {
    char *name, *password;
};

/* From --etcd-user, else ETCDCTL_USER: "NAME:PASSWORD"; a name alone where ETCDCTL_PASSWORD gives
 * the password, or --etcd-password-file, or it is asked for at the terminal. Else the user and the
 * password file of serve (whose environment goes before ETCDCTL_USER, as everywhere). The flag's
 * password is taken out of argv, and its name becomes that of o where o has a password file.
 * Memory for keys is there (cli__lock_memory). Returns CLI_OK or the exit status, after having said
 * why; out is to be freed in any case. */
MUST_CHECK int cli__user_take(const char *flag, struct settings *o, struct cli__user *out);
void cli__user_free(struct cli__user *u);

/* --- cluster.c -------------------------------------------------------------------------------- */

struct tools_cluster;
struct sweep_filter;

/* A tool that works on a whole cluster. */
struct cli__cluster_tool {
    const char *help;
    const struct cli__flag *flags; /* beside those of serve */
    size_t flag_count;
    const struct cli__texts *resources, *namespaces; /* what was given of these; may be NULL */
    unsigned (*wants)(void *arg);                    /* of enum tools_wants */
    /* Looks at the tool's own flags, before anything is done. Returns CLI_OK or the exit status,
     * after having said why. */
    int (*check)(void *arg, const struct settings *o, const struct ruleset *rules,
                 const struct sweep_filter *filter);
    /* Runs the tool, whose cluster is initialised; returns the exit status. */
    int (*run)(void *arg, struct tools_cluster *c, const struct sweep_filter *filter);
    bool writes; /* only then it matters which providers may write */
    void *arg;
};

/* cli__args_take with the tool's own flags and those that all such tools have: *user is the value
 * of --etcd-user, NULL without one. */
MUST_CHECK enum err cli__cluster_args(int argc, char *const argv[], const struct cli__flag *flags,
                                      size_t flag_count, const char **user, struct cli__args *out,
                                      char *why, size_t why_len);
int cli__cluster_main(const struct cli__cluster_tool *t, int argc, char *const argv[]);
/* The exit status for what ended a run early. */
int cli__cluster_status(const struct tools_cluster *c);
/* The same, after having said what. */
int cli__cluster_failed(const struct tools_cluster *c);
/* What FILE of --snapshot is, for their help. */
#define CLI__SNAPSHOT_HELP                                                                         \
    "      look into a file instead of an etcd: one that etcdctl snapshot save made, or the db\n"  \
    "      file of a stopped member (DATA-DIR/member/snap/db) or a copy of it, in which writes\n"  \
    "      still in the WAL are missing. A file that an etcd has open is refused\n"                \
    "  --skip-hash-check\n"                                                                        \
    "      go on where the SHA-256 in the snapshot does not fit, as far as the damage allows\n"
/* Flags of serve that these tools take, for their help. */
#define CLI__CLUSTER_HELP                                                                          \
    "Flags (the same as those of serve, with the same environment and --config-file):\n"           \
    "  --encryption-provider-config FILE\n"                                                        \
    "      kube-apiserver's EncryptionConfiguration, YAML or JSON\n"                               \
    "  --etcd-servers URLS, --etcd-cafile FILE, --etcd-certfile FILE, --etcd-keyfile FILE\n"       \
    "      etcd itself, not the proxy. ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT and\n"      \
    "      ETCDCTL_KEY are honoured, and go before --config-file\n"                                \
    "  --etcd-user NAME[:PASSWORD]\n"                                                              \
    "      where etcd asks for users. ETCDCTL_USER and ETCDCTL_PASSWORD are honoured, and keep\n"  \
    "      the password off the command line; without one it is asked for\n"                       \
    "  --etcd-password-file FILE\n"                                                                \
    "      the password, one line, in place of all that\n"                                         \
    "  --etcd-prefix PREFIX\n"                                                                     \
    "      the prefix of kube-apiserver's keys (default /registry)\n"                              \
    "  --resource-prefix RESOURCE=PREFIX, --protect-prefix PREFIX=RESOURCE\n"                      \
    "      what else is protected, and where it lies\n"                                            \
    "  --allow-unlocked-memory\n"                                                                  \
    "      go on where memory for keys can't be locked\n"                                          \
    "  --log-level LEVEL, --log-format FORMAT, --config-file FILE, --help\n"

/* --- begin.c ---------------------------------------------------------------------------------- */

/* Can libuv have the descriptors and threads that a tool needs? CLI_OK, or an exit status: why was
 * said. */
MUST_CHECK int cli__try_limits(void);
/* The same, and the log. CLI_OK, or an exit status: why was said. */
MUST_CHECK int cli__begin(const struct settings *o, enum log_level level);

/* --- memory.c --------------------------------------------------------------------------------- */

/* Sets aside the memory for keys. Returns CLI_OK, or the exit status after having said why not. */
MUST_CHECK int cli__lock_memory(const struct settings *o);
/* For when the log has started: warns of memory that is not locked, and of environment variables
 * that no flag has. */
void cli__warn(void);

/* --- inspect.c -------------------------------------------------------------------------------- */

/* Explains the stored value on f; returns the exit status. */
int cli__inspect(struct slice value, FILE *f, bool is_json);

#endif
