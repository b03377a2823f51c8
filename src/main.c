/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "base/fips.h"
#include "cli/cli.h"

static const char usage[] =
    "usage: etcd-envelope [serve] [flags]   an encrypting proxy in front of etcd\n"
    "       etcd-envelope encrypt [flags]   seals one value: plaintext in, stored value out\n"
    "       etcd-envelope decrypt [flags]   opens one value\n"
    "       etcd-envelope inspect [flags]   explains a stored value without any key\n"
    "       etcd-envelope check [flags]     says what serve would do with its flags and files\n"
    "       etcd-envelope verify [flags]    says how all values in etcd are sealed\n"
    "       etcd-envelope reencrypt [flags] rewrites what is not sealed with the current key\n"
    "       etcd-envelope quarantine [flags] moves values that do not open out of the way, and "
    "back\n"
    "       etcd-envelope status [flags]    several proxies side by side: do they agree?\n"
    "       etcd-envelope version\n"
    "\n"
    "Each has --help.\n";

/* The subcommands that take flags of their own. */
static const struct {
    const char *name;
    int (*run)(int argc, char *const argv[]);
} commands[] = {
    {"serve", cli_serve},         {"encrypt", cli_encrypt},       {"decrypt", cli_decrypt},
    {"inspect", cli_inspect},     {"check", cli_check},           {"verify", cli_verify},
    {"reencrypt", cli_reencrypt}, {"quarantine", cli_quarantine}, {"status", cli_status},
};

static int version(void)
{
    puts("etcd-envelope " ENVELOPE_VERSION);
    return CLI_OK;
}

/* Runs a subcommand, with OpenSSL's configuration known. */
static int run(int (*command)(int argc, char *const argv[]), int argc, char *const argv[])
{
    const char *missing;

    if (fips_init(&missing) == ERR_OK)
        return command(argc, argv);
    fprintf(stderr, "etcd-envelope: " FIPS_MISSING "\n", missing);
    return CLI_ERROR;
}

int main(int argc, char *argv[])
{
    const char *word = argc > 1 ? argv[1] : "";

    if (word[0] == '-' && strcmp(word, "--help") != 0 && strcmp(word, "-h") != 0 &&
        strcmp(word, "--version") != 0)
        return run(cli_serve, argc - 1, argv + 1); /* bare flags mean serve */
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(word, commands[i].name) == 0)
            return run(commands[i].run, argc - 2, argv + 2);
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
