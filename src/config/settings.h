/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: argv, environment, --config-file. Gives: one const struct settings. Owns: its strings.
 * Thread: control; immutable afterwards. */
#ifndef CONFIG_SETTINGS_H
#define CONFIG_SETTINGS_H

#include <stdio.h>

#include "base/log.h"
#include "config/resources.h"

struct settings {
    /* listen side */
    char **listen_client_urls;
    size_t listen_client_url_count;
    char **advertise_client_urls; /* "URL" or "member=URL" */
    size_t advertise_client_url_count;
    char *cert_file, *key_file, *trusted_ca_file, *client_crl_file; /* NULL when not given */
    bool client_cert_auth;
    char **allowed_client_names;
    size_t allowed_client_name_count;
    char **listen_metrics_urls;
    size_t listen_metrics_url_count;
    bool insecure_listen;
    /* upstream */
    char **etcd_servers;
    size_t etcd_server_count;
    char *etcd_cafile, *etcd_certfile, *etcd_keyfile;
    char *etcd_user, *etcd_password_file; /* NULL when not given */
    char *etcd_prefix;
    /* encryption */
    char *encryption_provider_config;
    bool encryption_provider_config_automatic_reload;
    struct resource_prefix *resource_prefixes;
    size_t resource_prefix_count;
    struct resource_prefix *protect_prefixes;
    size_t protect_prefix_count;
    bool allow_identity_writes, allow_unprotect, allow_kms_v1_writes, kms_v1_cbc_reads;
    bool allow_unlocked_memory, allow_drop_keys;
    /* rewriting what is stored */
    uint32_t converge; /* values a second; 0: off */
    uint64_t converge_after_ms, converge_max_db_size;
    char *converge_key; /* in normal form: "/etcd-envelope" */
    /* limits */
    uint64_t max_request_bytes, memory_limit, stream_threshold;
    uint64_t connection_memory_limit; /* 0 in the input: half of memory_limit */
    uint64_t stream_memory_limit; /* 0 in the input: three quarters of connection_memory_limit */
    uint32_t max_concurrent_streams, max_connections;
    uint64_t shutdown_timeout_ms, stall_timeout_ms;
    unsigned workers; /* 0 in the input: number of CPUs, at most 4 */
    /* containment */
    char *user; /* NULL when not given */
    bool drop_privileges, landlock, seccomp, seccomp_log, require_containment;
    /* others */
    enum log_level log_level;
    enum log_format log_format;
    bool print_config;
    bool help;
};

/* Parses flags "--name=value", "--name value", booleans "--name" or "--name=false", lists by comma
 * or by repeating; then ETCD_ENVELOPE_<NAME> for what no flag gave, then the file of --config-file
 * (YAML, the same names). argv comes without the program's and the subcommand's name. On error why
 * says what is wrong; for an unknown flag it names the nearest known one. Errors: ERR_CONFIG. */
MUST_CHECK enum err settings_parse(int argc, char *const argv[], struct settings **out, char *why,
                                   size_t why_len);
void settings_free(struct settings *s);
/* A variable of the environment whose name begins like those of our flags, and that no flag has. */
struct settings_unknown {
    struct bytes name; /* borrowed from the environment */
    const char *meant; /* the name of the flag that is probably meant; NULL: none is near */
};
/* The next one from *at, which begins with 0; false: no more. Those that container runtimes set for
 * a Service of our name are passed over. */
MUST_CHECK bool settings_unknown_env(size_t *at, struct settings_unknown *out);
/* "16MiB", "64k", "1000": bytes. False when it is none. */
MUST_CHECK bool settings_parse_size(const char *text, uint64_t *out);
/* Help text of serve: every flag with its default. Static storage. */
const char *settings_help(void);
/* Writes the settings as YAML (--print-config) to standard output. */
void settings_print(const struct settings *s);
/* The same to out, also while serving: allocates nothing itself. They hold names of files, no
 * secrets. */
void settings_write(const struct settings *s, FILE *out);

#endif
