/* SPDX-License-Identifier: Apache-2.0 */
/* For LD_PRELOAD: what the file that KERNEL_FAULTS names says is done to the program, and may
 * change at any time: its wall clock runs so many seconds ahead, there is no randomness to be had,
 * and its steady clocks have gone ahead, as if so much time had passed. The file is mapped before
 * main, so a program that may open nothing later is affected, too. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct faults {
    int64_t ahead_s;
    int64_t no_randomness;
    int64_t passed_s;
};

static const volatile struct faults *faults;
static int (*real_clock_gettime)(clockid_t, struct timespec *);
static ssize_t (*real_getrandom)(void *, size_t, unsigned);

__attribute__((constructor)) static void map_faults(void)
{
    const char *path = getenv("KERNEL_FAULTS");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page;

    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_getrandom = dlsym(RTLD_NEXT, "getrandom");
    if (fd < 0)
        return;
    page = mmap(NULL, sizeof *faults, PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED)
        faults = page;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int ret = real_clock_gettime(id, ts);

    if (ret != 0 || faults == NULL)
        return ret;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        ts->tv_sec += faults->ahead_s;
    else if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_BOOTTIME)
        ts->tv_sec += faults->passed_s;
    return ret;
}

time_t time(time_t *out)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    if (out != NULL)
        *out = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
    struct timespec ts = {0};

    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

ssize_t getrandom(void *buf, size_t n, unsigned flags)
{
    if (faults == NULL || faults->no_randomness == 0)
        return real_getrandom(buf, n, flags);
    errno = ENOSYS;
    return -1;
}
