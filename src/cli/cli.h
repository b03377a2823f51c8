/* SPDX-License-Identifier: Apache-2.0 */
/* Receives: argv. Gives: an exit status. Owns: nothing. Thread: main, which becomes control.
 *
 * Exit status of every subcommand: 0 done and all well, 1 error, 2 used wrongly, 3 finished but
 * something is not in the wanted state, 4 unreadable values found, 75 etcd or KMS not reachable. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

enum cli_exit {
    CLI_OK = 0,
    CLI_ERROR = 1,
    CLI_USAGE = 2,
    CLI_NOT_AS_WANTED = 3,
    CLI_UNREADABLE = 4,
    CLI_UNREACHABLE = 75,
};

/* argv without the program's and the subcommand's name. */
int cli_serve(int argc, char *const argv[]);
int cli_encrypt(int argc, char *const argv[]);
int cli_decrypt(int argc, char *const argv[]);
int cli_inspect(int argc, char *const argv[]);
int cli_check(int argc, char *const argv[]);
int cli_quarantine(int argc, char *const argv[]);
int cli_reencrypt(int argc, char *const argv[]);
int cli_status(int argc, char *const argv[]);
int cli_verify(int argc, char *const argv[]);

#endif
