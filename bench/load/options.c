/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options = {.kind = KIND_RANGE,
                          .connections = 1,
                          .streams = 1,
                          .value_len = 1024,
                          .warmup_ms = 200,
                          .measure_ms = 1000,
                          .has_timeouts = true};

_Noreturn static void usage(void)
{
    fputs(
        "usage: bench-load --target HOST:PORT --kind KIND [options]\n"
        "  KIND: range put txn list-50 list-500 list-5000 list-big list-huge watch apiserver\n"
        "  kind apiserver                a real etcd and a rate: a watch on each connection, gets, "
        "updates, few lists\n"
        "  --connections N --streams N   closed loop\n"
        "  --rate N                      open loop: requests a second over all connections\n"
        "  --watchers N                  with kind watch\n"
        "  --warmup MS --measure MS\n"
        "  --count N                     closed loop: N requests in all (watch: N Puts), and no "
        "time\n"
        "  --no-timeouts                 calls without grpc-timeout\n"
        "  --tls --ca FILE               TLS; the server's certificate is verified\n"
        "  --real ITEM                   a real etcd: every stream has its own key, ITEM and a "
        "number\n"
        "  --value BYTES                 of what is put there (1024)\n"
        "  --probes                      a PING for DATA, as grpc-go sends them\n"
        "  --hold                        one answer on each stream, then silence until the input "
        "ends\n"
        "  --cpu NAME=PID,PID            report their CPU time a request; may be repeated\n",
        stderr);
    exit(2);
}

static void add_cpu(char *text)
{
    char *equals = strchr(text, '=');

    if (equals == NULL || options.cpu_count == OPTIONS_CPU_MAX)
        usage();
    *equals = '\0';
    options.cpu_names[options.cpu_count] = text;
    options.cpu_pids[options.cpu_count++] = equals + 1;
}

/* Options without a value. */
static bool parse_switch(const char *name)
{
    if (strcmp(name, "--tls") == 0)
        options.is_tls = true;
    else if (strcmp(name, "--probes") == 0)
        options.has_probes = true;
    else if (strcmp(name, "--hold") == 0)
        options.holds = true;
    else if (strcmp(name, "--no-timeouts") == 0)
        options.has_timeouts = false;
    else
        return false;
    return true;
}

static bool parse_number(const char *name, const char *value)
{
    const struct {
        long *to;
        const char *name;
    } numbers[] = {{&options.connections, "--connections"},
                   {&options.streams, "--streams"},
                   {&options.watchers, "--watchers"},
                   {&options.value_len, "--value"},
                   {&options.count, "--count"}};

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (strcmp(name, numbers[i].name) != 0)
            continue;
        *numbers[i].to = atol(value);
        return true;
    }
    return false;
}

static void parse_value(const char *name, char *value)
{
    if (parse_number(name, value))
        return;
    if (strcmp(name, "--target") == 0)
        options.target = value;
    else if (strcmp(name, "--kind") == 0)
        options.kind = kind_of_name(value);
    else if (strcmp(name, "--rate") == 0)
        options.rate = atof(value);
    else if (strcmp(name, "--warmup") == 0)
        options.warmup_ms = atof(value);
    else if (strcmp(name, "--measure") == 0)
        options.measure_ms = atof(value);
    else if (strcmp(name, "--ca") == 0)
        options.ca = value;
    else if (strcmp(name, "--real") == 0)
        options.item = value;
    else if (strcmp(name, "--cpu") == 0)
        add_cpu(value);
    else
        usage();
}

static bool is_sane(void)
{
    bool is_counted = options.count > 0;

    if (options.target == NULL || options.kind == KIND_NONE || options.count < 0 ||
        options.connections < 1 || options.streams < 1 || options.value_len < 1)
        return false;
    if (options.kind == KIND_APISERVER && (options.rate == 0 || !options.is_real))
        return false;
    if (!options.is_real && options.value_len != 1024) /* the stub's values are as they are */
        return false;
    if ((options.kind == KIND_WATCH) != (options.watchers > 0))
        return false;
    return !is_counted || (options.rate == 0 && !options.holds);
}

void options_parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (parse_switch(argv[i]))
            continue;
        if (i + 1 == argc)
            usage();
        parse_value(argv[i], argv[i + 1]);
        i++;
    }
    options.is_real = options.item != NULL;
    if (!is_sane())
        usage();
}
