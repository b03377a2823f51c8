/* SPDX-License-Identifier: Apache-2.0 */
/* What is forbidden is tried, each thing in a process of its own that was contained before; and
 * what serving needs has to go on. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "contain/contain.h"

static const struct contain_opts all = {
    .drop_privileges = true, .seccomp = true, .is_required = true};

/* How a child ends: 0..99 its own verdict. */
#define NO_FILTER 100 /* the kernel has none: nothing to test */
#define DIED 200      /* and the signal */

/* Runs fn in a child that is contained, and returns how it ended. */
static int contained(const struct contain_opts *o, int (*fn)(void))
{
    char why[256] = "";
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        static const int numbers[] = {SIGABRT, SIGSYS, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
        struct contain_opts asked = *o;

        for (size_t i = 0; i < ARRAY_LEN(numbers); i++) /* cmocka's are for the parent */
            (void)signal(numbers[i], SIG_DFL);
        asked.is_required = false;
        if (contain_process(&asked, why, sizeof why) != ERR_OK)
            _exit(99);
        if (o->seccomp && !contain_state(CONTAIN_SECCOMP)->is_in_force)
            _exit(NO_FILTER);
        _exit(fn());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? DIED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- what is forbidden ------------------------------------------------------------------------ */

/* 0: it worked; else errno. */
#define ERRNO_OF(call) ((call) < 0 ? errno : 0)

static int try_exec(void)
{
    return execl("/bin/true", "true", (char *)NULL) < 0 ? errno : 0;
}

static int try_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return ERRNO_OF(pid);
}

static int try_vfork_flags(void)
{
    return ERRNO_OF(syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0));
}

static int try_clone3(void)
{
    struct clone_args args = {.exit_signal = SIGCHLD};

    return ERRNO_OF(syscall(SYS_clone3, &args, sizeof args));
}

static int try_ring(void)
{
    char params[256] = {0}; /* more than what the kernel reads */

    return ERRNO_OF(syscall(SYS_io_uring_setup, 1, params));
}

static int try_ptrace(void)
{
    return ERRNO_OF(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int try_peek(void)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {&byte, 1};

    return ERRNO_OF(process_vm_readv(getpid(), &here, 1, &there, 1, 0));
}

static int try_packet_socket(void)
{
    return ERRNO_OF(socket(AF_PACKET, SOCK_RAW, 0));
}

static int try_netlink_socket(void)
{
    return ERRNO_OF(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int try_raw_socket(void)
{
    return ERRNO_OF(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

/* Those of unix take no capability. */
static int try_raw_unix_socket(void)
{
    return ERRNO_OF(socket(AF_UNIX, SOCK_RAW, 0));
}

static int try_seqpacket_socket(void)
{
    return ERRNO_OF(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static int try_listen(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    return ERRNO_OF(listen(fd, 1));
}

static int try_write_file(void)
{
    return ERRNO_OF(open("/dev/null", O_WRONLY));
}

static int try_create_file(void)
{
    return ERRNO_OF(open("/tmp/etcd-envelope-test-must-not-be", O_RDONLY | O_CREAT, 0600));
}

static int try_chmod(void)
{
    return ERRNO_OF(chmod("/dev/null", 0666));
}

static int try_anonymous_code(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED
               ? errno
               : 0;
}

static int try_writable_code(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);

    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED
               ? errno
               : 0;
}

static int try_made_executable(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? 0 : ERRNO_OF(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int try_kill(void)
{
    return ERRNO_OF(kill(getppid(), 0));
}

static int try_foreign_tgkill(void)
{
    return ERRNO_OF(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static int try_io_uring(void)
{
    return ERRNO_OF(syscall(425, 1, NULL)); /* io_uring_setup */
}

static int try_dumpable(void)
{
    return ERRNO_OF(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int try_limits(void)
{
    const struct rlimit limit = {1, 1};

    return ERRNO_OF(setrlimit(RLIMIT_CORE, &limit));
}

static int try_mount(void)
{
    return ERRNO_OF(syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL));
}

static int try_user(void)
{
    return ERRNO_OF(syscall(SYS_setuid, 1));
}

static int try_push_input(void)
{
    char c = '\n';

    return ERRNO_OF(syscall(SYS_ioctl, 0, 0x5412, &c)); /* TIOCSTI */
}

static int try_namespace(void)
{
    return ERRNO_OF(syscall(SYS_unshare, 0x10000000)); /* of users */
}

static void test_forbidden(void **state)
{
    static const struct {
        const char *name;
        int (*fn)(void);
        int ends; /* as contained() says */
    } rows[] = {
        {"execve", try_exec, DIED + SIGSYS},
        {"ptrace", try_ptrace, DIED + SIGSYS},
        {"process_vm_readv", try_peek, DIED + SIGSYS},
        {"fork", try_fork, EPERM},
        {"vfork", try_vfork_flags, EPERM},
        {"clone3", try_clone3, ENOSYS},
        {"io_uring_setup", try_ring, EPERM},
        {"AF_PACKET", try_packet_socket, EPERM},
        {"AF_NETLINK", try_netlink_socket, EPERM},
        {"SOCK_RAW", try_raw_socket, EPERM},
        {"SOCK_RAW of unix", try_raw_unix_socket, EPERM},
        {"SOCK_SEQPACKET", try_seqpacket_socket, EPERM},
        {"listen", try_listen, EPERM},
        {"open to write", try_write_file, EPERM},
        {"open to create", try_create_file, EPERM},
        {"chmod", try_chmod, EPERM},
        {"anonymous code", try_anonymous_code, EPERM},
        {"writable code", try_writable_code, EPERM},
        {"data made code", try_made_executable, EPERM},
        {"kill", try_kill, EPERM},
        {"tgkill of others", try_foreign_tgkill, EPERM},
        {"io_uring_setup", try_io_uring, EPERM},
        {"PR_SET_DUMPABLE", try_dumpable, EPERM},
        {"setrlimit", try_limits, EPERM},
        {"mount", try_mount, EPERM},
        {"setuid", try_user, EPERM},
        {"TIOCSTI", try_push_input, EPERM},
        {"unshare", try_namespace, EPERM},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int ends = contained(&all, rows[i].fn);

        if (ends == NO_FILTER)
            skip();
        /* Instrumented builds keep the new program out, and their runtimes need some others. */
        if (CONTAIN_INSTRUMENTED && rows[i].fn != try_exec)
            continue;
        if (ends != rows[i].ends)
            fail_msg("%s: ended with %d, not %d", rows[i].name, ends, rows[i].ends);
    }
}

/* --- what goes on ----------------------------------------------------------------------------- */

static void *a_thread(void *arg)
{
    return arg;
}

static int serve_like(void)
{
    struct addrinfo *list = NULL;
    pthread_t thread;
    void *got = NULL;
    char text[8];
    const struct linger forget = {.l_onoff = 1};
    int fds[2], fd, unsent;

    if (pthread_create(&thread, NULL, a_thread, fds) != 0 || pthread_join(thread, &got) != 0 ||
        got != fds)
        return 1;
    if (getaddrinfo("localhost", "2379", NULL, &list) != 0)
        return 2;
    freeaddrinfo(list);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return 3;
    if ((fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0 &&
        errno != EAFNOSUPPORT)
        return 4;
    fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text) <= 0)
        return 5;
    if (epoll_create1(EPOLL_CLOEXEC) < 0 || inotify_init1(IN_CLOEXEC) < 0)
        return 6;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCOUTQ, &unsent) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &forget, sizeof forget) != 0)
        return 8; /* net/conn_io.c: what the kernel still holds, and that it be forgotten */
    for (size_t n = 16; n < 64u << 20; n *= 4) {
        void *p = calloc(1, n);

        p = p == NULL ? NULL : realloc(p, 2 * n);
        if (p == NULL)
            return 7;
        free(p);
    }
    return 0;
}

static int abort_self(void)
{
    abort();
}

static void test_serving_goes_on(void **state)
{
    int ends = contained(&all, serve_like);

    (void)state;
    if (ends == NO_FILTER)
        skip();
    assert_int_equal(ends, 0);
    assert_int_equal(contained(&all, abort_self), DIED + SIGABRT); /* a CHECK that fails */
}

/* --- privileges, and parts that are off ------------------------------------------------------- */

static unsigned long long status_value(const char *field)
{
    char line[256];
    unsigned long long value = ~0ull;
    FILE *f = fopen("/proc/self/status", "re");

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, field, strlen(field)) == 0)
            value = strtoull(line + strlen(field) + 1, NULL, 16);
    if (f != NULL)
        fclose(f);
    return value;
}

static int has_no_privileges(void)
{
    if (status_value("NoNewPrivs") != 1)
        return 1;
    if (status_value("CapEff") != 0 || status_value("CapPrm") != 0 || status_value("CapInh") != 0 ||
        status_value("CapAmb") != 0)
        return 2;
    if (!contain_state(CONTAIN_PRIVILEGES)->is_in_force)
        return 3;
    /* The bounding set, too, where the test began as root. */
    return strstr(contain_state(CONTAIN_PRIVILEGES)->text, "bounding") == NULL &&
                   status_value("CapBnd") != 0
               ? 4
               : 0;
}

static void test_privileges(void **state)
{
    const struct contain_opts o = {.drop_privileges = true};

    (void)state;
    assert_int_equal(contained(&o, has_no_privileges), 0);
    assert_int_equal(contained(&all, serve_like) % NO_FILTER, 0);
}

static int is_as_before(void)
{
    if (contain_state(CONTAIN_SECCOMP)->is_in_force ||
        contain_state(CONTAIN_PRIVILEGES)->is_in_force)
        return 1;
    if (strcmp(contain_state(CONTAIN_SECCOMP)->text, "--seccomp=false") != 0)
        return 2;
    return try_fork();
}

static void test_everything_off(void **state)
{
    const struct contain_opts none = {0};

    (void)state;
    assert_int_equal(contained(&none, is_as_before), 0);
}

/* Before the process is contained: no ring of io_uring, whose operations no filter would see. */
static int no_ring_but_all_else(void)
{
    char why[256] = "";

    contain_prepare(true);
    if (try_ring() != ENOSYS)
        return 1;
    if (try_fork() != 0)
        return 2;
    if (contain_process(&all, why, sizeof why) != ERR_OK)
        return NO_FILTER;
    return try_ring() != 0 ? 0 : 3;
}

static int a_ring_as_ever(void)
{
    int before = try_ring();

    contain_prepare(false);
    return try_ring() == before ? 0 : 1;
}

static void test_prepare(void **state)
{
    const struct contain_opts none = {0};

    (void)state;
    assert_int_equal(contained(&none, no_ring_but_all_else) % NO_FILTER, 0);
    assert_int_equal(contained(&none, a_ring_as_ever), 0);
}

static int required_is_refused(void)
{
    char why[256] = "";

    /* The filter of before does not let another one be set. */
    if (contain_process(&all, why, sizeof why) == ERR_OK)
        return 1;
    return strstr(why, "--require-containment: ") == why ? 0 : 2;
}

/* A container that refuses the calls looks like a filter that is in force already. */
static void test_refused_by_surroundings(void **state)
{
    int ends = contained(&all, required_is_refused);

    (void)state;
    if (ends == NO_FILTER || CONTAIN_INSTRUMENTED)
        skip();
    assert_int_equal(ends, 0);
}

static void test_names(void **state)
{
    (void)state;
    for (enum contain_part part = 0; part < CONTAIN_PARTS; part++) {
        assert_non_null(contain_part_name(part));
        assert_false(contain_state(part)->is_in_force);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),           cmocka_unit_test(test_forbidden),
        cmocka_unit_test(test_serving_goes_on), cmocka_unit_test(test_privileges),
        cmocka_unit_test(test_everything_off),  cmocka_unit_test(test_refused_by_surroundings),
        cmocka_unit_test(test_prepare),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
