/* SPDX-License-Identifier: Apache-2.0 */
/* From argv, environment and --config-file to one struct settings.
 *
 * Happy path: the texts of each flag are collected from the first source that has it (flag,
 * environment, file), then each flag, or its default, is parsed into its field, then the
 * combinations are checked.
 *
 * Failure modes: unknown names (in the environment they are only warned of, see flag_names.c),
 * values that don't parse, contradictions. All of it happens before serving starts, so that a
 * failed allocation aborts. */
#include "config/settings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "config/flags.h"
#include "config/config_int.h"

#define MAX_FLAGS 64

#define MAX_MESSAGE (1ull << 30)   /* what a slab can hold */
#define STALL_TIMEOUT_MIN_MS 1000u /* what is stalled is looked at once a second */

enum source { SOURCE_NONE, SOURCE_FLAG, SOURCE_ENV, SOURCE_FILE };

struct given { /* what a flag was given, as texts */
    enum source source;
    char **v;
    size_t count;
};

struct parser {
    struct given given[MAX_FLAGS];
    struct settings *s;
    const char *file; /* --config-file */
    char *why;
    size_t why_len;
};

static enum err PRINTF_LIKE(2, 3) fail(struct parser *p, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(p->why, p->why_len, fmt, args);
    va_end(args);
    return ERR_CONFIG;
}

static struct given *given_of(struct parser *p, const struct flag *f)
{
    return &p->given[f - config__flags];
}

/* --- collecting texts --- */

static void add_text(struct parser *p, const struct flag *f, enum source source, const char *text)
{
    struct given *g = given_of(p, f);

    g->source = source;
    g->v = config__grow(g->v, g->count + 1, sizeof(*g->v));
    g->v[g->count++] = base_xstrdup(text);
}

/* Takes argv[*i], and argv[*i + 1] when the value stands there. */
static enum err read_flag(struct parser *p, int argc, char *const argv[], int *i)
{
    const char *arg = argv[*i];
    const char *name = arg + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct flag *f = config__find_flag(name, len);
    char meant[CONFIG_MEANT_MAX];

    if (f == NULL)
        return fail(p, "unknown flag --%.*s%s", (int)(len < 100 ? len : 100), name,
                    config__meant_text(name, len, "--", meant));
    if (value == NULL && f->type == FLAG_BOOL)
        value = "true";
    if (value == NULL && *i + 1 < argc)
        value = argv[++*i];
    if (value == NULL)
        return fail(p, "--%s needs a value", f->name);
    add_text(p, f, SOURCE_FLAG, value);
    return ERR_OK;
}

static enum err read_flags(struct parser *p, int argc, char *const argv[])
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-h") == 0)
            add_text(p, config__find_flag("help", 4), SOURCE_FLAG, "true");
        else if (strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0')
            TRY(read_flag(p, argc, argv, &i));
        else
            return fail(p, "unexpected argument \"%.100s\"", argv[i]);
    }
    return ERR_OK;
}

static void read_environment(struct parser *p)
{
    for (size_t i = 0; i < config__flag_count; i++) {
        const struct flag *f = &config__flags[i];
        char name[CONFIG_ENV_MAX];
        const char *value = getenv(config__env_name(f, name));

        if (value != NULL && (value[0] != '\0' || flag_is_restriction(f)) &&
            p->given[i].source == SOURCE_NONE)
            add_text(p, f, SOURCE_ENV, value);
    }
}

static enum err read_file_value(struct parser *p, const struct flag *f, const struct node *n)
{
    if (n->kind == NODE_MAP || n->kind == NODE_SEQ || n->kind == NODE_NULL ||
        strlen(n->text) != n->text_len)
        return fail(p, "%s: %s: expected a value, got %s", p->file, f->name,
                    config__kind_name(n->kind));
    add_text(p, f, SOURCE_FILE, n->kind != NODE_BOOL ? n->text : n->boolean ? "true" : "false");
    return ERR_OK;
}

/* seen: one per flag, those that the file has named already. */
static enum err read_file_field(struct parser *p, const struct node *name, const struct node *value,
                                bool *seen)
{
    const struct flag *f = config__find_flag(name->text, name->text_len);
    char quoted[CONFIG_QUOTE_MAX], meant[CONFIG_MEANT_MAX];

    if (f == NULL || name->kind != NODE_STRING)
        return fail(p, "%s: unknown field %s%s", p->file,
                    config__quote(name->text, name->text_len, quoted),
                    config__meant_text(name->text, name->text_len, "", meant));
    if (f->type == FLAG_CONFIG_FILE || strcmp(f->name, "help") == 0)
        return fail(p, "%s: %s can't stand in a file", p->file, f->name);
    if (seen[f - config__flags])
        return fail(p, "%s: %s is given twice", p->file, f->name);
    seen[f - config__flags] = true;
    if (given_of(p, f)->source != SOURCE_NONE)
        return ERR_OK;
    if (value->kind != NODE_SEQ || !flag_is_list(f))
        return read_file_value(p, f, value);
    given_of(p, f)->source = SOURCE_FILE; /* an empty list is given, too */
    for (size_t i = 0; i < value->count; i++)
        TRY(read_file_value(p, f, value->items[i]));
    return ERR_OK;
}

static enum err read_file_tree(struct parser *p, const struct tree *t)
{
    bool seen[MAX_FLAGS] = {false};

    if (t->has_more)
        return fail(p, "%s: more than one document", p->file);
    if (t->root == NULL || t->root->kind == NODE_NULL)
        return ERR_OK;
    if (t->root->kind != NODE_MAP)
        return fail(p, "%s: expected a mapping of flag names", p->file);
    for (size_t i = 0; i + 1 < t->root->count; i += 2)
        TRY(read_file_field(p, t->root->items[i], t->root->items[i + 1], seen));
    return ERR_OK;
}

static enum err read_config_file(struct parser *p)
{
    char reason[128];
    struct tree t;
    uint8_t *text;
    size_t len;
    enum err e;

    if (config__read_file(p->file, CONFIG_PIPES_WAIT, &text, &len, reason, sizeof(reason)) !=
        ERR_OK)
        return fail(p, "--config-file: \"%s\" %s", p->file, reason);
    if (len == 0) {
        free(text);
        return fail(p, "--config-file: \"%s\" is empty", p->file);
    }
    e = config__read(bytes_of(text, len), &t);
    if (e == ERR_OK)
        e = read_file_tree(p, &t);
    else
        e = fail(p, "%s: %s", p->file, e == ERR_NOMEM ? err_reason(e) : t.problem);
    config__tree_fini(&t);
    free(text);
    return e;
}

/* --- parsing texts --- */

static enum err bad_value(struct parser *p, const struct flag *f, const char *text,
                          const char *wanted)
{
    char quoted[CONFIG_QUOTE_MAX];
    char env[CONFIG_ENV_MAX];

    config__quote(text, strlen(text), quoted);
    switch (given_of(p, f)->source) {
    case SOURCE_ENV:
        return fail(p, "%s: %s is not %s", config__env_name(f, env), quoted, wanted);
    case SOURCE_FILE:
        return fail(p, "%s: %s: %s is not %s", p->file, f->name, quoted, wanted);
    default:
        return fail(p, "--%s: %s is not %s", f->name, quoted, wanted);
    }
}

static enum err set_field(struct parser *p, const struct flag *f, const char *text)
{
    const char *wanted = config__set_flag(f, p->s, text);

    return wanted == NULL ? ERR_OK : bad_value(p, f, text, wanted);
}

static enum err set_default(struct parser *p, const struct flag *f)
{
    if (f->type == FLAG_SIZE || f->type == FLAG_DURATION) {
        *(uint64_t *)flag_field(f, p->s) = f->number_default;
        return ERR_OK;
    }
    return set_field(p, f, f->text_default);
}

static enum err set_fields(struct parser *p)
{
    for (size_t i = 0; i < config__flag_count; i++) {
        const struct flag *f = &config__flags[i];
        const struct given *g = &p->given[i];

        if (g->source == SOURCE_NONE)
            TRY(set_default(p, f));
        for (size_t k = 0; k < g->count; k++) /* of several the last counts; lists grow */
            TRY(set_field(p, f, g->v[k]));
        if (g->source != SOURCE_NONE && flag_is_restriction(f) && *flag_count(f, p->s) == 0)
            return bad_value(p, f, g->count > 0 ? g->v[g->count - 1] : "",
                             "a list of names: leave it out if all that are trusted may connect");
    }
    return ERR_OK;
}

/* --- combinations --- */

static bool has_tls_url(char *const *urls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncasecmp(urls[i], "https:", 6) == 0 || strncasecmp(urls[i], "unixs:", 6) == 0)
            return true;
    return false;
}

static enum err check_pair(struct parser *p, const char *cert, const char *key,
                           const char *cert_flag, const char *key_flag)
{
    if ((cert == NULL) == (key == NULL))
        return ERR_OK;
    return fail(p, "--%s needs --%s", cert != NULL ? cert_flag : key_flag,
                cert != NULL ? key_flag : cert_flag);
}

static enum err check_tls(struct parser *p)
{
    struct settings *s = p->s;

    TRY(check_pair(p, s->cert_file, s->key_file, "cert-file", "key-file"));
    TRY(check_pair(p, s->etcd_certfile, s->etcd_keyfile, "etcd-certfile", "etcd-keyfile"));
    if (s->cert_file == NULL && (has_tls_url(s->listen_client_urls, s->listen_client_url_count) ||
                                 has_tls_url(s->listen_metrics_urls, s->listen_metrics_url_count)))
        return fail(p, "a listen URL with TLS (https, unixs) needs --cert-file and --key-file");
    /* As with etcd: a CA for clients alone already demands their certificates. */
    s->client_cert_auth |= s->trusted_ca_file != NULL;
    if (s->client_cert_auth && s->trusted_ca_file == NULL)
        return fail(p, "--client-cert-auth needs --trusted-ca-file");
    if (s->allowed_client_name_count > 0 && !s->client_cert_auth)
        return fail(p, "--allowed-client-names needs --trusted-ca-file");
    if (s->client_crl_file != NULL && !s->client_cert_auth)
        return fail(p, "--client-crl-file needs --trusted-ca-file");
    return ERR_OK;
}

/* Nothing of kube-apiserver's may lie at --converge-key, or around it. */
static enum err check_apart(struct parser *p, const char *flag, const char *text)
{
    const char *key = p->s->converge_key;
    bool is_bad = false, is_near;
    char *prefix = config__normalise(text, &is_bad);

    is_near =
        prefix != NULL && !is_bad && (config__lies_in(key, prefix) || config__lies_in(prefix, key));
    free(prefix);
    if (!is_near)
        return ERR_OK;
    return fail(p,
                "--converge-key: %s and %s of %s lie within each other: proxies write there in "
                "clear, so it has to be a place of its own",
                key, text, flag);
}

static enum err check_converge(struct parser *p)
{
    struct settings *s = p->s;
    bool is_bad = false;
    char *key = config__normalise(s->converge_key, &is_bad);

    if (is_bad || key == NULL || key[0] == '\0' || strlen(key) > 200) {
        free(key);
        return fail(p, "--converge-key: \"%.100s\" is no key of etcd such as /etcd-envelope",
                    s->converge_key);
    }
    free(s->converge_key);
    s->converge_key = key;
    if (s->converge == 0)
        return ERR_OK;
    TRY(check_apart(p, "--etcd-prefix", s->etcd_prefix));
    for (size_t i = 0; i < s->protect_prefix_count; i++)
        TRY(check_apart(p, "--protect-prefix", s->protect_prefixes[i].prefix));
    return ERR_OK;
}

/* A call that sends the largest request has it twice while it is being sealed. */
static uint64_t default_of_stream(const struct settings *s)
{
    uint64_t part = s->connection_memory_limit / 4 * 3;

    return part >= s->max_request_bytes * 2 ? part : s->connection_memory_limit;
}

static enum err check_memory(struct parser *p)
{
    struct settings *s = p->s;

    if (s->memory_limit < s->max_request_bytes)
        return fail(p, "--memory-limit is below --max-request-bytes");
    if (s->connection_memory_limit == 0)
        s->connection_memory_limit =
            s->memory_limit / 2 > s->max_request_bytes ? s->memory_limit / 2 : s->max_request_bytes;
    if (s->connection_memory_limit < s->max_request_bytes)
        return fail(p, "--connection-memory-limit is below --max-request-bytes");
    if (s->stream_memory_limit == 0)
        s->stream_memory_limit = default_of_stream(s);
    if (s->stream_memory_limit < s->max_request_bytes)
        return fail(p, "--stream-memory-limit is below --max-request-bytes");
    return ERR_OK;
}

static enum err check(struct parser *p)
{
    const struct settings *s = p->s;

    TRY(check_tls(p));
    TRY(check_converge(p));
    if (s->listen_client_url_count == 0)
        return fail(p, "--listen-client-urls is empty");
    if (s->etcd_server_count == 0)
        return fail(p, "--etcd-servers is empty");
    if (s->max_request_bytes == 0 || s->max_request_bytes > MAX_MESSAGE)
        return fail(p, "--max-request-bytes has to be from 1 to 1GiB");
    if (s->stream_threshold == 0 || s->stream_threshold > MAX_MESSAGE)
        return fail(p, "--stream-threshold has to be from 1 to 1GiB");
    if (s->stall_timeout_ms < STALL_TIMEOUT_MIN_MS)
        return fail(p, "--stall-timeout is below 1s");
    return check_memory(p);
}

/* --- all of it --- */

static enum err parse(struct parser *p, int argc, char *const argv[])
{
    const struct given *file = given_of(p, config__find_flag("config-file", 11));
    const struct given *help = given_of(p, config__find_flag("help", 4));

    TRY(read_flags(p, argc, argv));
    if (help->count > 0 && config__parse_bool(help->v[help->count - 1], &p->s->help) && p->s->help)
        return ERR_OK; /* whatever else is wrong: --help must always work */
    read_environment(p);
    p->file = file->count > 0 ? file->v[file->count - 1] : "";
    if (p->file[0] != '\0')
        TRY(read_config_file(p));
    TRY(set_fields(p));
    return check(p);
}

enum err settings_parse(int argc, char *const argv[], struct settings **out, char *why,
                        size_t why_len)
{
    struct parser p = {.why = why, .why_len = why_len};
    enum err e;

    CHECK(config__flag_count <= MAX_FLAGS);
    *out = NULL;
    p.s = base_xcalloc(1, sizeof(*p.s));
    e = parse(&p, argc, argv);
    if (e == ERR_OK)
        *out = p.s;
    else
        settings_free(p.s);
    for (size_t i = 0; i < config__flag_count; i++) {
        for (size_t k = 0; k < p.given[i].count; k++)
            free(p.given[i].v[k]);
        free(p.given[i].v);
    }
    return e;
}

static void free_list(const struct flag *f, struct settings *s)
{
    char ***texts = flag_field(f, s);

    for (size_t i = 0; i < *flag_count(f, s); i++)
        free((*texts)[i]);
    free(*texts);
}

static void free_pairs(const struct flag *f, struct settings *s)
{
    struct resource_prefix **pairs = flag_field(f, s);

    for (size_t i = 0; i < *flag_count(f, s); i++) {
        free((*pairs)[i].resource);
        free((*pairs)[i].prefix);
    }
    free(*pairs);
}

void settings_free(struct settings *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < config__flag_count; i++) {
        const struct flag *f = &config__flags[i];

        if (f->type == FLAG_TEXT || f->type == FLAG_PATH)
            free(*(char **)flag_field(f, s));
        else if (f->type == FLAG_LIST)
            free_list(f, s);
        else if (flag_is_list(f))
            free_pairs(f, s);
    }
    free(s);
}
