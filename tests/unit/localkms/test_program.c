/* SPDX-License-Identifier: Apache-2.0 */
/* The program etcd-envelope-local-kms as a process: command line, key files, signals, and calls by
 * our own client. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"
#include "client/client.h"
#include "kms_v2.pb-c.h"

#define KEY_COUNT "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"
#define KEY_ONES "//////////////////////////////////////////8=\n"

struct fixture {
    char dir[64], key_file[96], socket[96], listen[128], log[96];
    pid_t pid; /* of the serving program; 0: none */
    struct loop loop;
    struct client *client;
};

static struct fixture f;

static void put_keys(const char *text, mode_t mode)
{
    FILE *file;

    (void)unlink(f.key_file);
    file = fopen(f.key_file, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(f.key_file, mode), 0);
}

/* Output goes to f.log. */
static pid_t start(const char *const *args)
{
    const char *argv[16] = {NULL};
    size_t n = 0;
    pid_t pid;

    if (EMULATOR[0] != '\0') /* of another architecture: the kernel can't run it */
        argv[n++] = EMULATOR;
    argv[n++] = PROGRAM;
    for (size_t i = 0; args[i] != NULL; i++)
        argv[n++] = args[i];
    pid = fork();
    if (pid == 0) {
        int fd = open(f.log, O_WRONLY | O_CREAT | O_APPEND, 0600);

        dup2(fd, 1);
        dup2(fd, 2);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

static int exit_status(pid_t pid)
{
    int status;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool log_has(const char *text)
{
    static char buf[65536];
    int fd = open(f.log, O_RDONLY);
    ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf - 1);

    if (fd >= 0)
        close(fd);
    buf[n < 0 ? 0 : n] = '\0';
    return strstr(buf, text) != NULL;
}

static void until_log_has(const char *text)
{
    for (int i = 0; i < 2000; i++) {
        if (log_has(text))
            return;
        usleep(5000);
    }
    fail_msg("not in the log: %s", text);
}

#define RUN(...) exit_status(start((const char *const[]){__VA_ARGS__, NULL}))

/* --- command line ----------------------------------------------------------------------------- */

static void wrong_use_is_2(void **state)
{
    (void)state;
    put_keys(KEY_COUNT, 0600);
    assert_int_equal(exit_status(start((const char *const[]){NULL})), 2);
    assert_int_equal(RUN("--unknown"), 2);
    assert_int_equal(RUN("extra"), 2);
    assert_int_equal(RUN("--listen", f.listen), 2);
    assert_int_equal(RUN("--key-file", f.key_file), 2);
    assert_int_equal(RUN("--listen", "http://127.0.0.1:0", "--key-file", f.key_file), 2);
    assert_int_equal(RUN("--listen", "nonsense", "--key-file", f.key_file), 2);
    assert_int_equal(RUN("--listen", f.listen, "--key-file", f.key_file, "--log-level", "loud"), 2);
    assert_int_equal(RUN("--generate-key", f.key_file, "--listen", f.listen), 2);
    assert_true(log_has("--help"));
}

static void help_and_version_are_0(void **state)
{
    (void)state;
    assert_int_equal(RUN("--help"), 0);
    assert_true(log_has("--generate-key"));
    assert_int_equal(RUN("--version"), 0);
    assert_true(log_has("etcd-envelope-local-kms 0."));
}

static void bad_key_files_are_1_and_say_why(void **state)
{
    (void)state;
    assert_int_equal(RUN("--listen", f.listen, "--key-file", f.key_file), 1);
    assert_true(log_has("No such file"));
    put_keys(KEY_COUNT, 0644);
    assert_int_equal(RUN("--listen", f.listen, "--key-file", f.key_file), 1);
    assert_true(log_has("chmod 600"));
    put_keys("nonsense\n", 0600);
    assert_int_equal(RUN("--listen", f.listen, "--key-file", f.key_file), 1);
    assert_true(log_has("line 1"));
    assert_false(log_has("nonsense\n"));
    put_keys(KEY_COUNT, 0600);
    assert_int_equal(RUN("--listen", "unix:///nonexistent/sock", "--key-file", f.key_file), 1);
    assert_true(log_has("cannot listen"));
    assert_int_equal(access(f.socket, F_OK), -1);
}

static void generate_key(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(RUN("--generate-key", f.key_file), 0);
    assert_int_equal(stat(f.key_file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(RUN("--generate-key", f.key_file), 1);
    assert_true(log_has("File exists"));
}

/* --- serving ---------------------------------------------------------------------------------- */

struct reply {
    bool is_done;
    enum err err;
    enum grpc_status status;
    uint8_t body[4096];
    size_t n;
};

static void on_answer(void *arg, const struct client_answer *a)
{
    struct reply *r = arg;

    r->is_done = true;
    r->err = a->err;
    r->status = a->status;
    assert_true(a->body.n <= sizeof r->body);
    if (a->body.n > 0)
        memcpy(r->body, a->body.p, a->body.n);
    r->n = a->body.n;
}

static struct reply call(const char *path, const uint8_t *body, size_t n)
{
    static struct reply r;
    struct client_call *c;

    r = (struct reply){0};
    uv_update_time(&f.loop.uv);
    assert_int_equal(client_call(f.client, path, bytes_of(body, n), 5000, on_answer, &r, &c),
                     ERR_OK);
    while (!r.is_done)
        uv_run(&f.loop.uv, UV_RUN_ONCE);
    return r;
}

static char *key_id_now(void)
{
    static char id[64];
    struct reply r = call("/v2.KeyManagementService/Status", NULL, 0);
    V2__StatusResponse *m;

    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.status, GRPC_OK);
    m = v2__status_response__unpack(NULL, r.n, r.body);
    assert_non_null(m);
    assert_string_equal(m->version, "v2");
    assert_string_equal(m->healthz, "ok");
    snprintf(id, sizeof id, "%s", m->key_id);
    v2__status_response__free_unpacked(m, NULL);
    return id;
}

struct wrapped {
    uint8_t v[256];
    size_t n;
    char key_id[64];
};

static const uint8_t seed[32] = {1, 2, 3, 4};

static struct wrapped wrap(void)
{
    struct wrapped w;
    V2__EncryptRequest req = V2__ENCRYPT_REQUEST__INIT;
    V2__EncryptResponse *m;
    uint8_t buf[256];
    char uid[] = "uid";
    struct reply r;

    req.plaintext = (ProtobufCBinaryData){sizeof seed, (uint8_t *)(uintptr_t)seed};
    req.uid = uid;
    r = call("/v2.KeyManagementService/Encrypt", buf, v2__encrypt_request__pack(&req, buf));
    assert_int_equal(r.status, GRPC_OK);
    m = v2__encrypt_response__unpack(NULL, r.n, r.body);
    assert_non_null(m);
    w.n = m->ciphertext.len;
    assert_int_equal(w.n, sizeof seed + 29);
    memcpy(w.v, m->ciphertext.data, w.n);
    snprintf(w.key_id, sizeof w.key_id, "%s", m->key_id);
    v2__encrypt_response__free_unpacked(m, NULL);
    return w;
}

static enum grpc_status unwrap(struct wrapped *w)
{
    V2__DecryptRequest req = V2__DECRYPT_REQUEST__INIT;
    V2__DecryptResponse *m;
    uint8_t buf[512];
    struct reply r;

    req.ciphertext = (ProtobufCBinaryData){w->n, w->v};
    req.key_id = w->key_id;
    r = call("/v2.KeyManagementService/Decrypt", buf, v2__decrypt_request__pack(&req, buf));
    if (r.status != GRPC_OK)
        return r.status;
    m = v2__decrypt_response__unpack(NULL, r.n, r.body);
    assert_non_null(m);
    assert_int_equal(m->plaintext.len, sizeof seed);
    assert_memory_equal(m->plaintext.data, seed, sizeof seed);
    v2__decrypt_response__free_unpacked(m, NULL);
    return r.status;
}

static void serve(void)
{
    f.pid = start((const char *const[]){"--listen", f.listen, "--key-file", f.key_file, NULL});
    until_log_has("serving");
}

static void stop(int signal_number)
{
    assert_int_equal(kill(f.pid, signal_number), 0);
    assert_int_equal(exit_status(f.pid), 0);
    f.pid = 0;
}

static void a_seed_there_and_back(void **state)
{
    struct wrapped w;
    struct stat st;

    (void)state;
    put_keys(KEY_COUNT, 0600);
    serve();
    assert_int_equal(stat(f.socket, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    w = wrap();
    assert_string_equal(w.key_id, key_id_now());
    assert_int_equal(unwrap(&w), GRPC_OK);
    w.v[w.n - 1] ^= 1;
    assert_int_equal(unwrap(&w), GRPC_INVALID_ARGUMENT);
    w.key_id[8] ^= 1;
    assert_int_equal(unwrap(&w), GRPC_NOT_FOUND);
    assert_int_equal(call("/grpc.health.v1.Health/Check", NULL, 0).status, GRPC_UNIMPLEMENTED);
    stop(SIGTERM);
    assert_int_equal(access(f.socket, F_OK), -1);
}

static void what_was_wrapped_outlives_a_restart(void **state)
{
    struct wrapped w;

    (void)state;
    put_keys(KEY_COUNT, 0600);
    serve();
    w = wrap();
    stop(SIGINT);
    (void)unlink(f.log);
    serve();
    assert_int_equal(unwrap(&w), GRPC_OK);
    stop(SIGTERM);
}

static void sighup_rotates_and_a_bad_file_changes_nothing(void **state)
{
    struct wrapped old, new;
    char first[64];

    (void)state;
    put_keys(KEY_COUNT, 0600);
    serve();
    old = wrap();
    snprintf(first, sizeof first, "%s", key_id_now());

    put_keys(KEY_ONES KEY_COUNT, 0600);
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    until_log_has("key file reloaded");
    assert_string_not_equal(key_id_now(), first);
    new = wrap();
    assert_string_equal(new.key_id, key_id_now());
    assert_int_equal(unwrap(&old), GRPC_OK);
    assert_int_equal(unwrap(&new), GRPC_OK);

    put_keys(KEY_COUNT, 0666);
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    until_log_has("the old keys stay in use");
    assert_string_equal(key_id_now(), new.key_id);
    assert_int_equal(unwrap(&new), GRPC_OK);

    put_keys(KEY_ONES, 0600);
    (void)unlink(f.log);
    assert_int_equal(kill(f.pid, SIGHUP), 0);
    for (int i = 0; i < 1000 && unwrap(&old) == GRPC_OK; i++)
        usleep(5000);
    assert_int_equal(unwrap(&old), GRPC_NOT_FOUND);
    stop(SIGTERM);
}

static void keys_are_not_in_the_log(void **state)
{
    (void)state;
    put_keys(KEY_ONES KEY_COUNT, 0600);
    f.pid = start((const char *const[]){"--listen", f.listen, "--key-file", f.key_file,
                                        "--log-level", "debug", NULL});
    until_log_has("serving");
    (void)wrap();
    stop(SIGTERM);
    assert_true(log_has("method=Encrypt"));
    assert_false(log_has("AAECAw"));
    assert_false(log_has("/////"));
}

/* --- frame ------------------------------------------------------------------------------------ */

static int setup(void **state)
{
    struct net_url url = {.is_unix = true};

    (void)state;
    memset(&f, 0, sizeof f);
    snprintf(f.dir, sizeof f.dir, "/tmp/test-local-kms-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    snprintf(f.key_file, sizeof f.key_file, "%s/keys", f.dir);
    snprintf(f.socket, sizeof f.socket, "%s/sock", f.dir);
    snprintf(f.listen, sizeof f.listen, "unix://%s/sock", f.dir);
    snprintf(f.log, sizeof f.log, "%s/log", f.dir);
    snprintf(url.host, sizeof url.host, "%s", f.socket);
    assert_int_equal(loop_init(&f.loop), ERR_OK);
    assert_int_equal(client_new(&f.loop, &url, NULL, "localhost", &f.client), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (f.pid != 0) {
        kill(f.pid, SIGKILL);
        waitpid(f.pid, NULL, 0);
    }
    client_close(f.client);
    loop_stop(&f.loop);
    loop_run(&f.loop);
    loop_fini(&f.loop);
    (void)unlink(f.key_file);
    (void)unlink(f.socket);
    (void)unlink(f.log);
    return rmdir(f.dir);
}

static int group_setup(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return secret_init() == ERR_OK ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(wrong_use_is_2),
        TEST(help_and_version_are_0),
        TEST(bad_key_files_are_1_and_say_why),
        TEST(generate_key),
        TEST(a_seed_there_and_back),
        TEST(what_was_wrapped_outlives_a_restart),
        TEST(sighup_rotates_and_a_bad_file_changes_nothing),
        TEST(keys_are_not_in_the_log),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
