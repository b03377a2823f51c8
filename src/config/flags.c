/* SPDX-License-Identifier: Apache-2.0 */
#include "config/flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

#define AT(field) offsetof(struct settings, field)
#define BOOL(name, field, help)                                                                    \
    {                                                                                              \
        name, FLAG_BOOL, AT(field), 0, "false", 0, NULL, help, NULL                                \
    }
#define TEXT(name, field, value, help)                                                             \
    {                                                                                              \
        name, FLAG_TEXT, AT(field), 0, "", 0, value, help, NULL                                    \
    }
#define LIST(name, field, count, def, value, help)                                                 \
    {                                                                                              \
        name, FLAG_LIST, AT(field), AT(count), def, 0, value, help, NULL                           \
    }
#define NUMBER(name, type, field, def, value, help)                                                \
    {                                                                                              \
        name, type, AT(field), 0, NULL, def, value, help, NULL                                     \
    }

/* clang-format off */
const struct flag config__flags[] = {
    {"listen-client-urls", FLAG_LIST, AT(listen_client_urls), AT(listen_client_url_count),
     "http://127.0.0.1:23790", 0, "URLS",
     "where kube-apiserver connects: http, https, unix, unixs", "Listen side"},
    LIST("advertise-client-urls", advertise_client_urls, advertise_client_url_count, "", "URLS",
         "what member lists show instead of etcd's client URLs: one URL, or member=URL pairs "
         "(default the listen URL if its host is specific)"),
    TEXT("cert-file", cert_file, "FILE", "certificate of the listen side, PEM"),
    TEXT("key-file", key_file, "FILE", "its private key, PEM"),
    TEXT("trusted-ca-file", trusted_ca_file, "FILE",
         "certificate authorities of clients, PEM; turns --client-cert-auth on"),
    TEXT("client-crl-file", client_crl_file, "FILE",
         "certificates of clients that were revoked, PEM or DER"),
    BOOL("client-cert-auth", client_cert_auth, "clients have to show a certificate"),
    LIST("allowed-client-names", allowed_client_names, allowed_client_name_count, "", "NAMES",
         "certificate names of clients that may connect (default any that is trusted; an empty "
         "list is refused)"),
    LIST("listen-metrics-urls", listen_metrics_urls, listen_metrics_url_count,
         "http://127.0.0.1:23791", "URLS",
         "where /metrics and the health paths are; empty: nowhere"),
    BOOL("insecure-listen", insecure_listen,
         "allow clear text, or TLS without client certificates, beyond loopback and unix sockets"),

    {"etcd-servers", FLAG_LIST, AT(etcd_servers), AT(etcd_server_count), "http://127.0.0.1:2379", 0,
     "URLS", "client URLs of etcd", "Upstream"},
    TEXT("etcd-cafile", etcd_cafile, "FILE", "certificate authorities of etcd, PEM"),
    TEXT("etcd-certfile", etcd_certfile, "FILE", "client certificate for etcd, PEM"),
    TEXT("etcd-keyfile", etcd_keyfile, "FILE", "its private key, PEM"),
    TEXT("etcd-user", etcd_user, "NAME",
         "who the proxy itself is to an etcd with users; clients are who their own tokens say"),
    TEXT("etcd-password-file", etcd_password_file, "FILE",
         "that user's password, one line; read again when it changes"),
    {"etcd-prefix", FLAG_PATH, AT(etcd_prefix), 0, "/registry", 0, "PREFIX",
     "the prefix of kube-apiserver's keys", NULL},

    {"encryption-provider-config", FLAG_TEXT, AT(encryption_provider_config), 0, "", 0, "FILE",
     "kube-apiserver's EncryptionConfiguration, YAML or JSON", "Encryption"},
    BOOL("encryption-provider-config-automatic-reload", encryption_provider_config_automatic_reload,
         "read that file again when it changes"),
    {"resource-prefix", FLAG_RESOURCE_PREFIX, AT(resource_prefixes), AT(resource_prefix_count), "",
     0, "RESOURCE=PREFIX",
     "where a resource lies under the etcd prefix, instead of the built-in table", NULL},
    {"protect-prefix", FLAG_PREFIX_RESOURCE, AT(protect_prefixes), AT(protect_prefix_count), "", 0,
     "PREFIX=RESOURCE", "protect the keys under a prefix, too, as those of a resource", NULL},
    BOOL("allow-identity-writes", allow_identity_writes,
         "allow a list that begins with identity, or a file of identity alone: new values are "
         "plaintext"),
    BOOL("allow-unprotect", allow_unprotect, "allow a reload that leaves a resource unprotected"),
    BOOL("allow-kms-v1-writes", allow_kms_v1_writes, "allow a KMS v1 plugin to seal new values"),
    BOOL("kms-v1-cbc-reads", kms_v1_cbc_reads,
         "read the AES-CBC values of old API servers with KMS v1 (they are not authenticated)"),
    BOOL("allow-unlocked-memory", allow_unlocked_memory,
         "go on where memory for keys can't be locked (RLIMIT_MEMLOCK): they may get into swap"),

    BOOL("allow-drop-keys", allow_drop_keys,
         "allow a reload that drops a key which stored values still need"),

    {"converge", FLAG_LIMIT, AT(converge), 0, "0", 0, "RATE",
     "look at all stored values now and then, and rewrite what is not as it would be written now, "
     "so many a second; 0: off. For all proxies of an etcd or none", "Rewriting what is stored"},
    NUMBER("converge-after", FLAG_DURATION, converge_after_ms, 600000, "DURATION",
           "not before all proxies have written with the same keys for so long"),
    {"converge-key", FLAG_PATH, AT(converge_key), 0, "/etcd-envelope", 0, "KEY",
     "where in etcd proxies with --converge know of each other; not in a protected prefix", NULL},
    NUMBER("converge-max-db-size", FLAG_SIZE, converge_max_db_size, 0, "SIZE",
           "rewriting stops before etcd's database is larger; 0: 80 % of its quota"),

    {"max-request-bytes", FLAG_SIZE, AT(max_request_bytes), 0, NULL, LIMIT_MAX_REQUEST_BYTES,
     "SIZE", "largest message of a client", "Limits"},
    NUMBER("memory-limit", FLAG_SIZE, memory_limit, LIMIT_MEMORY, "SIZE",
           "memory for what clients and etcd send, of all connections"),
    NUMBER("connection-memory-limit", FLAG_SIZE, connection_memory_limit, 0, "SIZE",
           "the same of one client's connection; 0: half of it"),
    NUMBER("stream-memory-limit", FLAG_SIZE, stream_memory_limit, 0, "SIZE",
           "the same of one call; 0: three quarters of its connection's, or all of that where "
           "--max-request-bytes needs it"),
    {"max-connections", FLAG_LIMIT, AT(max_connections), 0, "0", 0, "N",
     "client connections that speak HTTP/2; as many more may be opening; 0: "
     "what a quarter of --memory-limit holds, at 40 KiB each", NULL},
    {"max-concurrent-streams", FLAG_COUNT, AT(max_concurrent_streams), 0, "4294967295", 0, "N",
     "calls and watch streams that a client has open at a time on one connection", NULL},
    NUMBER("stream-threshold", FLAG_SIZE, stream_threshold, LIMIT_STREAM_THRESHOLD, "SIZE",
           "answers above this are passed on piece by piece; what is below is opened in one go, "
           "for which a worker's other clients wait"),
    NUMBER("stall-timeout", FLAG_DURATION, stall_timeout_ms, LIMIT_STALL_MS, "DURATION",
           "a client that takes nothing of its answer for so long loses the call (30 s while "
           "memory is short); one that says nothing for so long has to answer a PING"),
    NUMBER("shutdown-timeout", FLAG_DURATION, shutdown_timeout_ms, 10000, "DURATION",
           "all is over so long after SIGTERM"),
    {"workers", FLAG_WORKERS, AT(workers), 0, "0", 0, "N",
     "worker threads; 0: one per CPU, at most 4", NULL},

    {"user", FLAG_TEXT, AT(user), 0, "", 0, "NAME",
     "for a start as root: become this user once everything is open", "Containment"},
    {"drop-privileges", FLAG_BOOL, AT(drop_privileges), 0, "true", 0, NULL,
     "give up all capabilities once everything is open (no_new_privs, too)", NULL},
    {"landlock", FLAG_BOOL, AT(landlock), 0, "true", 0, NULL,
     "give up access to all files that serving does not need", NULL},
    {"seccomp", FLAG_BOOL, AT(seccomp), 0, "true", 0, NULL,
     "refuse system calls that serving does not need", NULL},
    BOOL("seccomp-log", seccomp_log, "have the kernel log them instead of refusing them"),
    BOOL("require-containment", require_containment,
         "do not start where the kernel, or a container, refuses a part of it"),

    {"log-level", FLAG_LOG_LEVEL, AT(log_level), 0, "info", 0, "LEVEL",
     "debug, info, warn or error", "Others"},
    {"log-format", FLAG_LOG_FORMAT, AT(log_format), 0, "text", 0, "FORMAT", "text or json", NULL},
    {"config-file", FLAG_CONFIG_FILE, 0, 0, "", 0, "FILE",
     "YAML with these names; environment and flags go before it", NULL},
    BOOL("print-config", print_config, "show the settings in use and exit"),
    BOOL("help", help, "show this text and exit"),
};
/* clang-format on */
const size_t config__flag_count = ARRAY_LEN(config__flags);

const char *config__size_text(uint64_t n, char out[static FLAG_NUMBER_MAX])
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB"};
    unsigned unit = 0;

    while (unit < 3 && n != 0 && n % 1024 == 0) {
        n /= 1024;
        unit++;
    }
    snprintf(out, FLAG_NUMBER_MAX, "%" PRIu64 "%s", n, units[unit]);
    return out;
}

const char *config__duration_text(uint64_t ms, char out[static FLAG_NUMBER_MAX])
{
    if (ms % 1000 == 0)
        snprintf(out, FLAG_NUMBER_MAX, "%" PRIu64 "s", ms / 1000);
    else
        snprintf(out, FLAG_NUMBER_MAX, "%" PRIu64 "ms", ms);
    return out;
}

/* --- help --- */

static const char *default_text(const struct flag *f, char out[static FLAG_NUMBER_MAX])
{
    if (f->type == FLAG_SIZE)
        return config__size_text(f->number_default, out);
    if (f->type == FLAG_DURATION)
        return config__duration_text(f->number_default, out);
    return f->text_default;
}

#define HELP_INDENT 6
#define HELP_WIDTH 88
#define HARD_SPACE '\x1f' /* shown as a space; lines are not broken there */

/* Writes words at the indent, broken before HELP_WIDTH. */
static void put_words(FILE *f, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t n = strcspn(text, " ");

        if (column == 0 || column + 1 + n > HELP_WIDTH) {
            fprintf(f, "%s%*s", column == 0 ? "" : "\n", HELP_INDENT, "");
            column = HELP_INDENT;
        } else {
            fputc(' ', f);
            column++;
        }
        for (size_t i = 0; i < n; i++)
            fputc(text[i] == HARD_SPACE ? ' ' : text[i], f);
        column += n;
        text += n + strspn(text + n, " ");
    }
    fputc('\n', f);
}

static void put_flag(FILE *f, const struct flag *flag)
{
    char number[FLAG_NUMBER_MAX];
    const char *def = default_text(flag, number);
    char text[512];

    if (flag->section != NULL)
        fprintf(f, "\n%s:\n", flag->section);
    fprintf(f, "  --%s%s%s\n", flag->name, flag->value != NULL ? " " : "",
            flag->value != NULL ? flag->value : "");
    if (def[0] != '\0')
        snprintf(text, sizeof(text), "%s (default%c%s)", flag->help, HARD_SPACE, def);
    else
        snprintf(text, sizeof(text), "%s", flag->help);
    put_words(f, text);
}

static const char help_begin[] =
    "usage: etcd-envelope [serve] --encryption-provider-config FILE [flags]\n"
    "\n"
    "Listens for kube-apiserver, or any other client of etcd. Seals the values of the resources\n"
    "that an EncryptionConfiguration names on their way to etcd, and opens them on their way "
    "back.\n"
    "\n"
    "Flags are written --name=value or --name value, booleans also --name. A list is separated by\n"
    "commas, or the flag is repeated. Sizes take KiB, MiB, GiB (or k, m, g: the same), durations\n"
    "are Go's (10s, 1m30s). Each flag has an environment variable, such as\n"
    "ETCD_ENVELOPE_ETCD_SERVERS for --etcd-servers. A flag goes before the environment, and that\n"
    "before --config-file.\n";

static const char help_end[] =
    "\n"
    "Signals: SIGHUP reads it and the TLS files again; on any error the old ones stay. SIGTERM\n"
    "and SIGINT drain: no new connections, calls in flight finish; a second one ends at once.\n"
    "\n"
    "Exit status: 0 ended as asked; 1 error; 2 used wrongly.\n";

const char *settings_help(void)
{
    static char help[16384];
    FILE *f;

    if (help[0] != '\0')
        return help;
    f = fmemopen(help, sizeof(help), "w");
    CHECK(f != NULL);
    fputs(help_begin, f);
    for (size_t i = 0; i < config__flag_count; i++)
        put_flag(f, &config__flags[i]);
    fputs(help_end, f);
    CHECK(!ferror(f) && fclose(f) == 0 && strlen(help) < sizeof(help) - 1);
    return help;
}

/* --- --print-config --- */

static void print_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
}

static void print_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    print_escaped(out, text);
    fputc('"', out);
}

static void print_list(FILE *out, const struct flag *f, struct settings *s)
{
    size_t count = *flag_count(f, s);
    char **texts = *(char ***)flag_field(f, s);

    fprintf(out, count == 0 ? " []\n" : "\n");
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "- ");
        print_quoted(out, texts[i]);
        fputc('\n', out);
    }
}

static void print_pairs(FILE *out, const struct flag *f, struct settings *s)
{
    size_t count = *flag_count(f, s);
    struct resource_prefix *pairs = *(struct resource_prefix **)flag_field(f, s);

    fprintf(out, count == 0 ? " []\n" : "\n");
    for (size_t i = 0; i < count; i++) {
        bool is_resource_first = f->type == FLAG_RESOURCE_PREFIX;

        fputs("- \"", out);
        print_escaped(out, is_resource_first ? pairs[i].resource : pairs[i].prefix);
        fputc('=', out);
        print_escaped(out, is_resource_first ? pairs[i].prefix : pairs[i].resource);
        fputs("\"\n", out);
    }
}

static void print_text(FILE *out, const char *text)
{
    fputc(' ', out);
    print_quoted(out, text != NULL ? text : "");
    fputc('\n', out);
}

static void print_flag(FILE *out, const struct flag *f, struct settings *s)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    char number[FLAG_NUMBER_MAX];
    void *field = flag_field(f, s);

    fprintf(out, "%s:", f->name);
    switch (f->type) {
    case FLAG_BOOL:
        fprintf(out, " %s\n", *(bool *)field ? "true" : "false");
        break;
    case FLAG_TEXT:
    case FLAG_PATH:
    case FLAG_CONFIG_FILE:
        print_text(out, *(char **)field);
        break;
    case FLAG_LIST:
        print_list(out, f, s);
        break;
    case FLAG_RESOURCE_PREFIX:
    case FLAG_PREFIX_RESOURCE:
        print_pairs(out, f, s);
        break;
    case FLAG_SIZE:
        fprintf(out, " %s\n", config__size_text(*(uint64_t *)field, number));
        break;
    case FLAG_DURATION:
        fprintf(out, " %s\n", config__duration_text(*(uint64_t *)field, number));
        break;
    case FLAG_COUNT:
    case FLAG_LIMIT:
        fprintf(out, " %" PRIu32 "\n", *(uint32_t *)field);
        break;
    case FLAG_WORKERS:
        fprintf(out, " %u\n", *(unsigned *)field);
        break;
    case FLAG_LOG_LEVEL:
        fprintf(out, " %s\n", levels[*(enum log_level *)field]);
        break;
    case FLAG_LOG_FORMAT:
        fprintf(out, " %s\n", *(enum log_format *)field == LOG_JSON ? "json" : "text");
        break;
    }
}

void settings_write(const struct settings *s, FILE *out)
{
    struct settings copy = *s; /* shallow, for a field's address without const */

    for (size_t i = 0; i < config__flag_count; i++) {
        const struct flag *f = &config__flags[i];

        if (f->type == FLAG_CONFIG_FILE || f->at == AT(help) || f->at == AT(print_config))
            continue;
        if (flag_is_restriction(f) && *flag_count(f, &copy) == 0)
            continue; /* not given; written out as an empty list it would be refused when read */
        print_flag(out, f, &copy);
    }
}

void settings_print(const struct settings *s)
{
    settings_write(s, stdout);
    fflush(stdout);
}
