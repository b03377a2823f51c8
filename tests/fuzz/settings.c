/* SPDX-License-Identifier: Apache-2.0 */
/* Targets: settings_parse (flags, environment, --config-file), net_url_parse,
 * plugin_endpoint_parse, net_inherit.
 * What is refused says why. What is taken can be written as a file, and that file says the same.
 *
 * Input: lines. "--..." is a flag, "NAME=..." of ETCD_ENVELOPE_... and LISTEN_... the environment,
 * "url ..." and "kms ..." an address; what follows a line "---" is the file. */
#include "config/settings.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "kms/plugin_int.h"
#include "net/inherit.h"

#define ARGS_MAX 16
#define TEXT_MAX 512u
#define PREFIX "ETCD_ENVELOPE_"

struct given {
    char *argv[ARGS_MAX + 1];
    int argc;
    char *set[ARGS_MAX]; /* names of the environment */
    size_t set_count;
};

static char *text_of(struct bytes b)
{
    char *text = malloc(b.n + 1);

    CHECK(text != NULL);
    if (b.n > 0)
        memcpy(text, b.p, b.n);
    text[b.n] = '\0';
    return text;
}

static void check_url(const char *text)
{
    char out[NET_URL_MAX];
    struct net_url url, again;
    const char *why = NULL;

    if (net_url_parse(text, &url, &why) != ERR_OK) {
        CHECK(why != NULL && why[0] != '\0');
        return;
    }
    (void)net_url_is_local(&url);
    CHECK(memchr(url.host, '\0', sizeof url.host) != NULL);
    CHECK(net_url_parse(net_url_text(&url, out), &again, &why) == ERR_OK);
    CHECK(again.is_tls == url.is_tls && again.is_unix == url.is_unix);
    CHECK(strcmp(again.host, url.host) == 0 && strcmp(again.port, url.port) == 0);
    fuzz_deep();
}

static void check_endpoint(const char *text)
{
    struct net_url url;

    if (strlen(text) >= 5 && plugin_endpoint_parse(text, &url) == ERR_OK)
        CHECK(url.is_unix && (url.host[0] == '/' || url.host[0] == '@'));
}

/* Only these: the libraries' own variables stay as they are. */
static void set_environment(struct given *g, char *line)
{
    char *value = strchr(line, '=');

    if (value == NULL || g->set_count == ARGS_MAX)
        return;
    *value++ = '\0';
    if (strncmp(line, PREFIX, strlen(PREFIX)) == 0 || strncmp(line, "LISTEN_", 7) == 0) {
        CHECK(setenv(line, value, 1) == 0);
        g->set[g->set_count++] = strdup(line);
    }
}

/* A file is what the input has, and no other. */
static bool is_harmless(const char *line)
{
    return strstr(line, "config-file") == NULL && strstr(line, "CONFIG_FILE") == NULL;
}

static void take_line(struct given *g, char *line)
{
    if (strncmp(line, "url ", 4) == 0)
        check_url(line + 4);
    else if (strncmp(line, "kms ", 4) == 0)
        check_endpoint(line + 4);
    else if (line[0] == '-' && is_harmless(line) && g->argc < ARGS_MAX - 1)
        g->argv[g->argc++] = strdup(line);
    else if (is_harmless(line))
        set_environment(g, line);
}

/* Lines up to the one that is "---"; in is what follows it. */
static void take_lines(struct given *g, struct bytes *in)
{
    while (in->n > 0) {
        const uint8_t *end = memchr(in->p, '\n', in->n);
        struct bytes line = fuzz_take(in, end == NULL ? in->n : (size_t)(end - in->p));
        char *text;

        (void)fuzz_take(in, 1);
        if (bytes_eq(line, BYTES_LIT("---")))
            return;
        text = text_of(line.n < TEXT_MAX ? line : bytes_of(line.p, TEXT_MAX));
        take_line(g, text);
        free(text);
    }
}

static enum err parse_file(struct given *g, struct bytes file, struct settings **out)
{
    int fd = memfd_create("settings", 0);
    char flag[64], why[512] = "";
    enum err e;

    CHECK(fd >= 0 && write(fd, file.p, file.n) == (ssize_t)file.n);
    (void)snprintf(flag, sizeof flag, "--config-file=/proc/self/fd/%d", fd);
    g->argv[g->argc] = flag;
    e = settings_parse(g->argc + 1, g->argv, out, why, sizeof why);
    g->argv[g->argc] = NULL;
    CHECK(e == ERR_OK || (why[0] != '\0' && memchr(why, '\0', sizeof why) != NULL));
    close(fd);
    return e;
}

static struct buf written(const struct settings *s)
{
    struct buf out;
    char *text;
    FILE *f = open_memstream(&text, &out.n);

    CHECK(f != NULL);
    settings_write(s, f);
    CHECK(fclose(f) == 0);
    out.p = (uint8_t *)text;
    return out;
}

/* The file that says the same, once the environment is gone. */
static void round_trip(const struct settings *s)
{
    struct given none = {.argc = 0};
    struct buf one = written(s), two;
    struct settings *again;

    CHECK(parse_file(&none, buf_bytes(&one), &again) == ERR_OK);
    two = written(again);
    CHECK(bytes_eq(buf_bytes(&one), buf_bytes(&two)));
    free(one.p);
    free(two.p);
    settings_free(again);
    fuzz_deep();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size);
    struct given g = {.argc = 0};
    struct settings *s = NULL;
    char why[256] = "";
    enum err e;

    take_lines(&g, &in);
    e = net_inherit(why, sizeof why); /* what it names are no sockets */
    CHECK(e == ERR_OK || why[0] != '\0');
    e = parse_file(&g, in, &s);
    for (size_t i = 0; i < g.set_count; i++) {
        (void)unsetenv(g.set[i]);
        free(g.set[i]);
    }
    for (int i = 0; i < g.argc; i++)
        free(g.argv[i]);
    if (e == ERR_OK) {
        if (!s->help) /* then nothing else was checked */
            round_trip(s);
        settings_free(s);
    }
    return 0;
}
