/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/process.h"

#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

const struct pages_build pages__build = {
    .version = ENVELOPE_VERSION, .compiler = ENVELOPE_COMPILER, .platform = ENVELOPE_PLATFORM};

const char *pages__host(void)
{
    static char host[256];

    if (host[0] == '\0' && gethostname(host, sizeof host - 1) != 0)
        host[0] = '\0';
    return host;
}

static struct {
    FILE *statm;
    DIR *fds;
} files;

void pages__process_open(void)
{
    if (files.statm == NULL)
        files.statm = fopen("/proc/self/statm", "re");
    if (files.fds == NULL)
        files.fds = opendir("/proc/self/fd");
}

uint64_t pages__resident_bytes(void)
{
    unsigned long long pages = 0;

    pages__process_open();
    if (files.statm == NULL)
        return 0;
    rewind(files.statm); /* forgets what was read ahead, so the kernel is asked anew */
    if (fscanf(files.statm, "%*u %llu", &pages) != 1)
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

size_t pages__descriptors(void)
{
    size_t n = 0;

    pages__process_open();
    if (files.fds == NULL)
        return 0;
    rewinddir(files.fds);
    while (readdir(files.fds) != NULL)
        n++;
    return n < 2 ? 0 : n - 2; /* "." and ".." */
}
