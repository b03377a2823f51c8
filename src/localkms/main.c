/* SPDX-License-Identifier: Apache-2.0 */
/* etcd-envelope-local-kms: a Kubernetes KMS v2 plugin whose keys lie in a file.
 *   1. flags; with --generate-key it writes a key file and ends;
 *   2. the key file is loaded, the socket opened, and calls are served (server.c);
 *   3. SIGHUP reads the file again; SIGTERM and SIGINT end with status 0.
 * Failure modes: at the start each problem ends the program with a reason; a bad file at SIGHUP is
 * logged, and the old keys stay in use. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fips.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/secret.h"
#include "contain/contain.h"
#include "contain/opener.h"
#include "localkms/server.h"
#include "loop/loop.h"
#include "loop/preflight.h"
#include "net/inherit.h"

#define EXIT_USAGE 2
#define WHY_LEN 512

static const char usage[] =
    "Usage: etcd-envelope-local-kms --listen unix:///PATH --key-file FILE\n"
    "       etcd-envelope-local-kms --generate-key FILE\n"
    "\n"
    "A Kubernetes KMS v2 plugin that wraps with keys of a local file: for trying out,\n"
    "for tests and for machines without a KMS service.\n"
    "\n"
    "  --listen URL          unix socket to serve on (mode 0600), unix:///PATH or\n"
    "                        unix:///@NAME for an abstract socket\n"
    "  --key-file FILE       one key per line: base64 of 32 bytes; blank lines and lines\n"
    "                        that begin with # are skipped; the first key wraps, all\n"
    "                        unwrap. Only its owner may be able to open it (chmod 600).\n"
    "                        A pipe will do, too, but is not read again\n"
    "  --generate-key FILE   write a new key file with a fresh key, then end\n"
    "  --allow-unlocked-memory\n"
    "                        go on where memory for keys can't be locked (RLIMIT_MEMLOCK):\n"
    "                        they may get into swap\n"
    "  --user NAME           for a start as root: become this user once everything is open\n"
    "  --landlock            give up access to all files (default true)\n"
    "  --drop-privileges     give up all capabilities once everything is open (default true)\n"
    "  --seccomp             refuse system calls that serving does not need (default true)\n"
    "  --seccomp-log         have the kernel log them instead of refusing them\n"
    "  --require-containment\n"
    "                        do not start where the kernel, or a container, refuses a part of it\n"
    "  --log-level LEVEL     debug, info (default), warn or error\n"
    "  --log-format FORMAT   text (default) or json\n"
    "  --version             print the version, then end\n"
    "  --help                print this text, then end\n"
    "\n"
    "To rotate: --generate-key into another file, put its line in front of the others in\n"
    "FILE (by a rename) and send SIGHUP. The proxy takes it over within a minute. The\n"
    "old key is needed as long as a value is stored that it wraps: values change over when\n"
    "they are written anew.\n"
    "Signals: SIGHUP reads the key file anew, SIGTERM and SIGINT end the program.\n"
    "Exit status: 0 ended as asked, 1 error, 2 used wrongly.\n";

struct options {
    const char *listen;
    const char *key_file;
    const char *generate_key;
    bool allow_unlocked_memory;
    const char *user;
    struct contain_opts contain;
    enum log_level log_level;
    enum log_format log_format;
};

struct program {
    struct options o;
    struct loop loop;
    struct kms_server *server;
    struct kek_set *keys;
    uv_signal_t signals[4];
};

/* --- options ---------------------------------------------------------------------------------- */

static _Noreturn void wrong_use(const char *what, const char *value)
{
    fprintf(stderr, "etcd-envelope-local-kms: %s%s\nTry --help.\n", what, value);
    exit(EXIT_USAGE);
}

static enum log_level level_of(const char *text)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(text, names[i]) == 0)
            return (enum log_level)i;
    }
    wrong_use("--log-level: debug, info, warn or error, not ", text);
}

static enum log_format format_of(const char *text)
{
    if (strcmp(text, "text") == 0)
        return LOG_TEXT;
    if (strcmp(text, "json") == 0)
        return LOG_JSON;
    wrong_use("--log-format: text or json, not ", text);
}

/* A flag without value is true. */
static bool bool_of(const char *flag, const char *text)
{
    if (text == NULL || strcmp(text, "true") == 0)
        return true;
    if (strcmp(text, "false") == 0)
        return false;
    wrong_use(flag, "true or false");
}

static _Noreturn void print_and_exit(const char *text)
{
    bool ok = fputs(text, stdout) >= 0 && fflush(stdout) == 0;

    exit(ok ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void take_option(struct options *o, int c, const char *value)
{
    switch (c) {
    case 'l':
        o->listen = value;
        break;
    case 'k':
        o->key_file = value;
        break;
    case 'g':
        o->generate_key = value;
        break;
    case 'u':
        o->allow_unlocked_memory = true;
        break;
    case 'U':
        o->user = value;
        break;
    case 'L':
        o->contain.landlock = bool_of("--landlock: ", value);
        break;
    case 'p':
        o->contain.drop_privileges = bool_of("--drop-privileges: ", value);
        break;
    case 's':
        o->contain.seccomp = bool_of("--seccomp: ", value);
        break;
    case 'S':
        o->contain.seccomp_log = bool_of("--seccomp-log: ", value);
        break;
    case 'r':
        o->contain.is_required = bool_of("--require-containment: ", value);
        break;
    case 'v':
        o->log_level = level_of(value);
        break;
    case 'f':
        o->log_format = format_of(value);
        break;
    case 'V':
        print_and_exit("etcd-envelope-local-kms " ENVELOPE_VERSION "\n");
    case 'h':
        print_and_exit(usage);
    default: /* getopt has said what is wrong */
        wrong_use("used wrongly", "");
    }
}

static void parse_options(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"listen", required_argument, NULL, 'l'},
        {"key-file", required_argument, NULL, 'k'},
        {"generate-key", required_argument, NULL, 'g'},
        {"allow-unlocked-memory", no_argument, NULL, 'u'},
        {"user", required_argument, NULL, 'U'},
        {"landlock", optional_argument, NULL, 'L'},
        {"drop-privileges", optional_argument, NULL, 'p'},
        {"seccomp", optional_argument, NULL, 's'},
        {"seccomp-log", optional_argument, NULL, 'S'},
        {"require-containment", optional_argument, NULL, 'r'},
        {"log-level", required_argument, NULL, 'v'},
        {"log-format", required_argument, NULL, 'f'},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    int c;

    *o = (struct options){.contain = {.drop_privileges = true, .landlock = true, .seccomp = true},
                          .log_level = LOG_INFO,
                          .log_format = LOG_TEXT};
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1)
        take_option(o, c, optarg);
    if (optind < argc)
        wrong_use("unknown argument ", argv[optind]);
    if (o->generate_key != NULL && (o->listen != NULL || o->key_file != NULL))
        wrong_use("--generate-key stands alone", "");
    if (o->generate_key == NULL && (o->listen == NULL || o->key_file == NULL))
        wrong_use("--listen and --key-file are needed", "");
}

static void parse_listen(const char *text, struct net_url *url)
{
    const char *why = "";

    if (strncmp(text, "unix://", 7) != 0)
        wrong_use("--listen: only unix:// URLs, not ", text);
    if (net_url_parse(text, url, &why) != ERR_OK)
        wrong_use("--listen: ", why);
    /* As in the endpoint of an EncryptionConfiguration, "/@name" is abstract. */
    if (strncmp(url->host, "/@", 2) == 0)
        memmove(url->host, url->host + 1, strlen(url->host));
}

/* --- running ---------------------------------------------------------------------------------- */

static void log_keys(const struct program *p, const char *what)
{
    LOG(INFO, what, "listen=\"%s\" keys=%zu key_id=%s", p->o.listen, p->keys->count,
        p->keys->keys[0].id);
}

static void tell_manager(const char *state, const char *status)
{
    if (!notify_manager(state, status))
        LOG(WARN, "the service manager was not told", "status=\"%s\"", status);
}

static void reload(struct program *p)
{
    struct kek_set *keys;
    char why[WHY_LEN];

    if (kek_set_load(p->o.key_file, false, &keys, why, sizeof why) != ERR_OK) {
        LOG(ERROR, "key file not reloaded, the old keys stay in use", "why=\"%s\"", why);
        return;
    }
    kms_server_set_keys(p->server, keys);
    kek_set_free(p->keys);
    p->keys = keys;
    log_keys(p, "key file reloaded");
}

static void tell_reloading(void)
{
    char state[64];

    snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%llu",
             (unsigned long long)(loop_hrtime_ns() / 1000));
    tell_manager(state, "reading the key file");
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct program *p = handle->data;

    if (number == SIGCHLD) {
        opener_look();
        return;
    }
    if (number == SIGHUP) {
        tell_reloading();
        reload(p);
        tell_manager("READY=1", "serving");
        return;
    }
    tell_manager("STOPPING=1", "ending");
    LOG(INFO, "ending", "signal=%d", number);
    for (size_t i = 0; i < ARRAY_LEN(p->signals); i++)
        uv_close((uv_handle_t *)&p->signals[i], NULL);
    kms_server_close(p->server);
    loop_stop(&p->loop);
}

/* False: errno. */
static bool watch_signals(struct program *p)
{
    static const int numbers[] = {SIGHUP, SIGTERM, SIGINT, SIGCHLD};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        int status = uv_signal_init(&p->loop.uv, &p->signals[i]);

        p->signals[i].data = p;
        if (status == 0)
            status = uv_signal_start(&p->signals[i], on_signal, numbers[i]);
        if (status != 0) {
            errno = -status;
            return false;
        }
    }
    return signal(SIGPIPE, SIG_IGN) != SIG_ERR;
}

/* The folder of the socket, where it is removed at the end. */
static void folder_of(const struct net_url *url, char out[static sizeof url->host])
{
    char *slash;

    snprintf(out, sizeof url->host, "%s", url->host);
    slash = strrchr(out, '/');
    if (slash != NULL)
        slash[slash == out] = '\0';
}

/* Who has the same user as we will have has to reach it. */
static bool give_socket(const struct net_url *url, const struct contain_user *user, char *why,
                        size_t why_len)
{
    if (url->host[0] != '/' || lchown(url->host, user->uid, user->gid) == 0)
        return true;
    (void)snprintf(why, why_len, "%s cannot be given to %s: %s", url->host, user->name,
                   strerror(errno));
    return false;
}

/* Where it could not libuv would end the process without a word. */
static bool may_begin(const char *what, enum err e, const char *why)
{
    if (e != ERR_OK)
        LOG(ERROR, what, "why=\"%s\"", why);
    return e == ERR_OK;
}

/* From here on there may be threads. */
static bool contain(struct program *p, const struct net_url *url)
{
    static char folder[sizeof url->host];
    static struct contain_user user;
    struct contain_opts *c = &p->o.contain;
    char why[WHY_LEN];

    folder_of(url, folder);
    c->socket_folders[0] = url->host[0] == '/' ? folder : NULL;
    c->user = p->o.user == NULL ? NULL : &user;
    if ((c->user != NULL && contain_find_user(p->o.user, &user, why, sizeof why) != ERR_OK) ||
        (c->user != NULL && !give_socket(url, &user, why, sizeof why)) ||
        contain_process(c, why, sizeof why) != ERR_OK) {
        LOG(ERROR, "not contained", "why=\"%s\"", why);
        return false;
    }
    contain_log();
    if (!may_begin("too few threads", loop_try_threads(1, why, sizeof why), why))
        return false;
    if (log_run() == ERR_OK)
        return true;
    LOG(ERROR, "cannot make the thread that writes the log", "why=\"%s\"", strerror(errno));
    return false;
}

static int serve(struct program *p, const struct net_url *url)
{
    char why[WHY_LEN] = "", left[NET_URL_MAX];

    if (kek_set_load(p->o.key_file, true, &p->keys, why, sizeof why) != ERR_OK) {
        LOG(ERROR, "key file not usable", "why=\"%s\"", why);
        return EXIT_FAILURE;
    }
    if (!may_begin("too few descriptors", loop_try_descriptors(LOOP_DESCRIPTORS, why, sizeof why),
                   why))
        return EXIT_FAILURE;
    if (loop_init(&p->loop) != ERR_OK || !watch_signals(p)) {
        LOG(ERROR, "event loop not usable", "why=\"%s\"", strerror(errno));
        return EXIT_FAILURE;
    }
    if (kms_server_new(&p->loop, url, p->keys, &p->server, why, sizeof why) != ERR_OK) {
        LOG(ERROR, "cannot listen", "listen=\"%s\" why=\"%s\"", p->o.listen, why);
        return EXIT_FAILURE;
    }
    if (net_inherit_left(left) != NULL) {
        LOG(ERROR, "the service manager passed a socket that --listen does not name",
            "socket=\"%s\"", left);
        return EXIT_USAGE;
    }
    if (!contain(p, url))
        return EXIT_FAILURE;
    log_keys(p, "serving");
    tell_manager("READY=1", "serving");
    loop_run(&p->loop);
    loop_fini(&p->loop);
    return EXIT_SUCCESS;
}

static int generate(const char *path)
{
    char why[WHY_LEN];

    if (keyfile_generate(path, why, sizeof why) == ERR_OK)
        return EXIT_SUCCESS;
    fprintf(stderr, "etcd-envelope-local-kms: %s\n", why);
    return EXIT_FAILURE;
}

/* Before there is a key in memory. */
static bool start_opener(const struct options *o)
{
    bool is_needed = o->contain.drop_privileges || o->contain.landlock || o->user != NULL;

    if (o->key_file == NULL || !is_needed || opener_start(&o->key_file, 1) == ERR_OK)
        return true;
    fprintf(stderr, "etcd-envelope-local-kms: cannot make the process that opens %s: %s%s\n",
            o->key_file, strerror(errno), errno == EAGAIN ? ": raise " LOOP_PIDS_LIMITS : "");
    return false;
}

static bool lock_memory(const struct options *o)
{
    if (secret_init() != ERR_OK) {
        fprintf(stderr, "etcd-envelope-local-kms: cannot set aside memory for keys: %s\n",
                strerror(errno));
        return false;
    }
    if (secret_is_locked() || o->allow_unlocked_memory)
        return true;
    fprintf(stderr,
            "etcd-envelope-local-kms: cannot lock memory for keys: %s: raise RLIMIT_MEMLOCK "
            "(ulimit -l, LimitMEMLOCK=) to at least 8 MiB, or, if keys may be written to swap, "
            "give --allow-unlocked-memory\n",
            strerror(secret_lock_error()));
    return false;
}

static bool know_fips(void)
{
    const char *missing;

    if (fips_init(&missing) == ERR_OK)
        return true;
    fprintf(stderr, "etcd-envelope-local-kms: " FIPS_MISSING "\n", missing);
    return false;
}

int main(int argc, char **argv)
{
    static struct program p;
    char why[WHY_LEN] = "";
    struct net_url url;
    int status;

    umask(077);
    parse_options(argc, argv, &p.o);
    contain_prepare(p.o.contain.seccomp);
    if (p.o.listen != NULL)
        parse_listen(p.o.listen, &url);
    if (net_inherit(why, sizeof why) != ERR_OK)
        wrong_use(why, "");
    if (!start_opener(&p.o) || !know_fips() || !lock_memory(&p.o))
        return EXIT_FAILURE;
    if (p.o.generate_key != NULL)
        return generate(p.o.generate_key);
    if (log_open(p.o.log_level, p.o.log_format) != ERR_OK) {
        fprintf(stderr, "etcd-envelope-local-kms: cannot start the log: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    if (!secret_is_locked())
        LOG(WARN, "memory for keys is not locked: keys may be written to swap",
            "reason=\"RLIMIT_MEMLOCK is too small\" allowed_by=--allow-unlocked-memory");
    fips_log();
    status = serve(&p, &url);
    kek_set_free(p.keys);
    log_stop();
    return status;
}
