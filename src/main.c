/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char usage[] =
    "usage: etcd-envelope [serve] [flags]   an encrypting proxy in front of etcd\n"
    "       etcd-envelope version\n"
    "\n"
    "etcd-envelope serve --help lists the flags.\n";

static int version(void)
{
    puts("etcd-envelope " ENVELOPE_VERSION);
    return CLI_OK;
}

int main(int argc, char *argv[])
{
    const char *word = argc > 1 ? argv[1] : "";

    if (word[0] == '-' && strcmp(word, "--help") != 0 && strcmp(word, "-h") != 0 &&
        strcmp(word, "--version") != 0)
        return cli_serve(argc - 1, argv + 1); /* bare flags mean serve */
    if (strcmp(word, "serve") == 0)
        return cli_serve(argc - 2, argv + 2);
    if (strcmp(word, "version") == 0 || strcmp(word, "--version") == 0)
        return version();
    if (strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        fputs(usage, stdout);
        return CLI_OK;
    }
    if (word[0] != '\0')
        fprintf(stderr, "etcd-envelope: unknown subcommand \"%s\"\n", word);
    fputs(usage, stderr);
    return CLI_USAGE;
}
