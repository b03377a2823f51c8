/* SPDX-License-Identifier: Apache-2.0 */
/* What a process that serves asks of the kernel. Found in the sources of libc (Debian 12 and 13),
 * libuv and OpenSSL, and by running all tests. Where a call's arguments say how much it can do they
 * are judged, too:
 *
 *   socket, socketpair   unix, IPv4 and IPv6; streams and datagrams
 *   open, openat         to read
 *   clone                a thread, never a process
 *   mmap, mprotect       never writable and executable; executable only as a file is mapped, since
 *                        libc loads name service modules when it needs them
 *   ioctl, prlimit64     the few that are harmless; tgkill: this process
 *
 * Failure modes: without seccomp in the kernel, or without leave to use it, nothing is in force. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "contain/contain_int.h"

static const int allowed[] = {
    /* bytes */
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(recv),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(send),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(lseek),
    SCMP_SYS(_llseek),
    /* descriptors */
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(fcntl),
    SCMP_SYS(fcntl64),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(shutdown),
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    /* waiting */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(ppoll_time64),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(restart_syscall),
    /* files: to look, to hear of changes, to remove a socket of our own at the end */
    SCMP_SYS(stat),
    SCMP_SYS(stat64),
    SCMP_SYS(lstat),
    SCMP_SYS(lstat64),
    SCMP_SYS(fstat),
    SCMP_SYS(fstat64),
    SCMP_SYS(newfstatat),
    SCMP_SYS(fstatat64),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getdents),
    SCMP_SYS(getdents64),
    SCMP_SYS(getcwd),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(inotify_init1),
    SCMP_SYS(inotify_add_watch),
    SCMP_SYS(inotify_rm_watch),
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    /* threads and signals */
    SCMP_SYS(futex),
    SCMP_SYS(futex_time64),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(wait4), /* for the opener */
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    /* what is asked of oneself, of time and of chance */
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrusage),
    SCMP_SYS(getrlimit),
    SCMP_SYS(ugetrlimit),
    SCMP_SYS(times),
    SCMP_SYS(time),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_gettime64),
    SCMP_SYS(clock_getres),
    SCMP_SYS(getcpu),
    SCMP_SYS(getrandom),
};

/* Never wished for by a library: who asks is not us any more. */
static const int deadly[] = {SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace),
                             SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev)};

/* What the runtimes of instrumented builds do besides: LeakSanitizer stops all threads from a
 * process of its own, gcov writes its files. */
static const int instrumented[] = {
    SCMP_SYS(ptrace),     SCMP_SYS(clone),          SCMP_SYS(wait4),
    SCMP_SYS(tgkill),     SCMP_SYS(kill),           SCMP_SYS(prctl),
    SCMP_SYS(arch_prctl), SCMP_SYS(mmap),           SCMP_SYS(mprotect),
    SCMP_SYS(ioctl),      SCMP_SYS(open),           SCMP_SYS(openat),
    SCMP_SYS(dup2),       SCMP_SYS(pipe),           SCMP_SYS(ftruncate),
    SCMP_SYS(mkdir),      SCMP_SYS(personality),    SCMP_SYS(getppid),
    SCMP_SYS(prlimit64),  SCMP_SYS(msync),          SCMP_SYS(mincore),
    SCMP_SYS(rename),     SCMP_SYS(sched_getparam), SCMP_SYS(sched_getscheduler)};

/* Of seccomp's calls the first error is kept, as a negative errno. */
struct filter {
    scmp_filter_ctx ctx;
    int error;
};

static void note(struct filter *f, int ret)
{
    if (ret != 0 && f->error == 0)
        f->error = ret;
}

static void add_all(struct filter *f, uint32_t action, const int *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        note(f, seccomp_rule_add(f->ctx, action, calls[i], 0));
}

/* call is allowed where argument number arg, masked, is value. */
static void allow_masked(struct filter *f, int call, unsigned arg, uint64_t mask, uint64_t value)
{
    const struct scmp_arg_cmp c = {
        .arg = arg, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};

    note(f, seccomp_rule_add_array(f->ctx, SCMP_ACT_ALLOW, call, 1, &c));
}

static void allow_sockets(struct filter *f)
{
    static const uint64_t families[] = {AF_UNIX, AF_INET, AF_INET6};
    static const uint64_t types[] = {SOCK_STREAM, SOCK_DGRAM};

    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        for (size_t k = 0; k < ARRAY_LEN(types); k++) {
            const struct scmp_arg_cmp v[] = {
                SCMP_A0_64(SCMP_CMP_EQ, families[i]),
                SCMP_A1_64(SCMP_CMP_MASKED_EQ, 0xf, types[k]), /* the rest are flags */
            };

            note(f, seccomp_rule_add_array(f->ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, v));
        }
    allow_masked(f, SCMP_SYS(socketpair), 0, UINT32_MAX, AF_UNIX);
}

static void allow_reading(struct filter *f)
{
    const uint64_t writes = O_ACCMODE | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);

    allow_masked(f, SCMP_SYS(open), 1, writes, O_RDONLY);
    allow_masked(f, SCMP_SYS(openat), 2, writes, O_RDONLY);
}

static void allow_memory(struct filter *f)
{
    static const int maps[] = {SCMP_SYS(mmap), SCMP_SYS(mmap2)};
    const uint64_t both = PROT_WRITE | PROT_EXEC;

    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        const struct scmp_arg_cmp file[] = {SCMP_A2_64(SCMP_CMP_MASKED_EQ, both, PROT_EXEC),
                                            SCMP_A3_64(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0)};

        allow_masked(f, maps[i], 2, PROT_EXEC, 0);
        note(f, seccomp_rule_add_array(f->ctx, SCMP_ACT_ALLOW, maps[i], 2, file));
    }
    allow_masked(f, SCMP_SYS(mprotect), 2, PROT_EXEC, 0);
}

static void allow_rest(struct filter *f)
{
    static const uint64_t requests[] = {FIONBIO, FIOCLEX, FIONREAD, TCGETS, SIOCOUTQ};
    const struct scmp_arg_cmp look[] = {SCMP_A0_64(SCMP_CMP_EQ, 0), SCMP_A2_64(SCMP_CMP_EQ, 0)};

    for (size_t i = 0; i < ARRAY_LEN(requests); i++)
        allow_masked(f, SCMP_SYS(ioctl), 1, UINT32_MAX, requests[i]);
    note(f, seccomp_rule_add_array(f->ctx, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, look));
    allow_masked(f, SCMP_SYS(prctl), 0, UINT32_MAX, PR_SET_NAME);
    allow_masked(f, SCMP_SYS(tgkill), 0, UINT32_MAX, (uint64_t)getpid());
    allow_masked(f, SCMP_SYS(clone), 0, CLONE_VM | CLONE_THREAD, CLONE_VM | CLONE_THREAD);
}

static void add_rules(struct filter *f)
{
    add_all(f, SCMP_ACT_ALLOW, allowed, ARRAY_LEN(allowed));
    note(f, seccomp_rule_add(f->ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0));
    allow_sockets(f);
    if (CONTAIN_INSTRUMENTED) {
        add_all(f, SCMP_ACT_ALLOW, instrumented, ARRAY_LEN(instrumented));
        add_all(f, SCMP_ACT_KILL_PROCESS, deadly, 2); /* a new program, in these, too */
        return;
    }
    add_all(f, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_LEN(deadly));
    allow_reading(f);
    allow_memory(f);
    allow_rest(f);
}

static bool begin(struct filter *f, uint32_t action)
{
    *f = (struct filter){.ctx = seccomp_init(action)};
    if (f->ctx == NULL)
        return false;
    note(f, seccomp_attr_set(f->ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
    note(f, seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_TSYNC, 1));
    note(f, seccomp_attr_set(f->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2)); /* a tree, not a list */
    return true;
}

static void load(struct filter *f)
{
    if (f->error == 0)
        note(f, seccomp_load(f->ctx));
    seccomp_release(f->ctx);
}

void contain__seccomp(bool is_log, struct contain_state *st)
{
    struct filter f;

    if (!begin(&f, is_log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(EPERM))) {
        contain__not_in_force(st, "no filter: out of memory");
        return;
    }
    add_rules(&f);
    load(&f);
    if (f.error != 0)
        contain__not_in_force(st, "the kernel takes no filter: %s", strerror(-f.error));
    else if (is_log)
        contain__not_in_force(st, "--seccomp-log: calls that are not on the list are logged");
    else
        contain__in_force(st, "a list of system calls%s",
                          CONTAIN_INSTRUMENTED ? ", longer for an instrumented build" : "");
}

void contain__seccomp_no_rings(void)
{
    struct filter f;

    if (!begin(&f, SCMP_ACT_ALLOW))
        return;
    note(&f, seccomp_rule_add(f.ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup), 0));
    load(&f);
}

void contain__seccomp_opener(void)
{
    static const int calls[] = {
        SCMP_SYS(recv),         SCMP_SYS(recvfrom), SCMP_SYS(send),       SCMP_SYS(sendto),
        SCMP_SYS(sendmsg),      SCMP_SYS(close),    SCMP_SYS(stat),       SCMP_SYS(stat64),
        SCMP_SYS(fstat),        SCMP_SYS(fstat64),  SCMP_SYS(newfstatat), SCMP_SYS(fstatat64),
        SCMP_SYS(statx),        SCMP_SYS(exit),     SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
        SCMP_SYS(rt_sigaction), SCMP_SYS(gettid),   SCMP_SYS(getpid),     SCMP_SYS(rt_sigprocmask)};
    struct filter f;

    if (CONTAIN_INSTRUMENTED || !begin(&f, SCMP_ACT_KILL_PROCESS))
        return;
    add_all(&f, SCMP_ACT_ALLOW, calls, ARRAY_LEN(calls));
    allow_reading(&f);
    load(&f);
}
