/* SPDX-License-Identifier: Apache-2.0 */
#include "loop/preflight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define POOL_DEFAULT 4 /* libuv's */
#define POOL_MAX 1024

/* A limit as text: its number, or "unlimited". */
static const char *limit_text(int resource, char out[static 24])
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) != 0)
        snprintf(out, 24, "unknown");
    else if (limit.rlim_cur == RLIM_INFINITY)
        snprintf(out, 24, "unlimited");
    else
        snprintf(out, 24, "%llu", (unsigned long long)limit.rlim_cur);
    return out;
}

enum err loop_try_descriptors(unsigned count, char *why, size_t why_len)
{
    int *fds = base_xcalloc(count + 1, sizeof *fds);
    unsigned n = 0;
    char limit[24];
    int error = 0;

    for (; n < count; n++) {
        fds[n] = open("/", O_PATH | O_CLOEXEC);
        if (fds[n] < 0) {
            error = errno;
            break;
        }
    }
    for (unsigned i = 0; i < n; i++)
        close(fds[i]);
    free(fds);
    if (error == 0)
        return ERR_OK;
    snprintf(why, why_len,
             "cannot open %u more file descriptors, only %u: %s: raise RLIMIT_NOFILE, which is %s "
             "(ulimit -n, systemd's LimitNOFILE=)",
             count, n, strerror(error), limit_text(RLIMIT_NOFILE, limit));
    return ERR_SYSTEM;
}

/* --- threads ---------------------------------------------------------------------------------- */

static void wait_at(void *gate)
{
    uv_sem_wait(gate);
}

/* How many of count could be made; *error: why not more, as libuv has it. */
static unsigned make_threads(unsigned count, uv_sem_t *gate, int *error)
{
    uv_thread_t *threads = base_xcalloc(count + 1, sizeof *threads);
    unsigned n = 0;

    *error = 0;
    while (n < count && (*error = uv_thread_create(&threads[n], wait_at, gate)) == 0)
        n++;
    for (unsigned i = 0; i < n; i++)
        uv_sem_post(gate);
    for (unsigned i = 0; i < n; i++)
        uv_thread_join(&threads[i]);
    free(threads);
    return n;
}

enum err loop_try_threads(unsigned count, char *why, size_t why_len)
{
    uv_sem_t gate;
    char limit[24];
    unsigned n;
    int error = uv_sem_init(&gate, 0);

    if (error != 0) {
        snprintf(why, why_len, "cannot make a semaphore: %s", uv_strerror(error));
        return ERR_SYSTEM;
    }
    n = make_threads(count, &gate, &error);
    uv_sem_destroy(&gate);
    if (n == count)
        return ERR_OK;
    snprintf(why, why_len,
             "cannot make %u threads, only %u: %s: raise " LOOP_PIDS_LIMITS
             ", or give it more memory; RLIMIT_NPROC is %s",
             count, n, uv_strerror(error), limit_text(RLIMIT_NPROC, limit));
    return ERR_SYSTEM;
}

unsigned loop_pool_threads(void)
{
    const char *text = getenv("UV_THREADPOOL_SIZE");
    long n = text == NULL ? POOL_DEFAULT : strtol(text, NULL, 10);

    if (n == 0)
        return 1;
    return n < 0 || n > POOL_MAX ? POOL_MAX : (unsigned)n;
}

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

static void on_done(uv_work_t *work, int status)
{
    (void)status;
    free(work);
}

enum err loop_start_pool(struct loop *l)
{
    uv_work_t *work = base_xcalloc(1, sizeof *work);

    if (uv_queue_work(&l->uv, work, do_nothing, on_done) == 0)
        return ERR_OK;
    free(work);
    return ERR_SYSTEM;
}
