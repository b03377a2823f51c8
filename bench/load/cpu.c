/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static uint64_t thread_ns(long pid, const char *tid)
{
    char path[300];
    uint64_t ns = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%ld/task/%s/schedstat", pid, tid);
    f = fopen(path, "re");
    if (f == NULL)
        return 0;
    if (fscanf(f, "%" SCNu64, &ns) != 1)
        ns = 0;
    fclose(f);
    return ns;
}

static uint64_t process_ns(long pid)
{
    char path[64];
    uint64_t ns = 0;
    struct dirent *e;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%ld/task", pid);
    d = opendir(path);
    if (d == NULL)
        return 0;
    while ((e = readdir(d)) != NULL)
        if (isdigit((unsigned char)e->d_name[0]))
            ns += thread_ns(pid, e->d_name);
    closedir(d);
    return ns;
}

uint64_t cpu_ns(const char *pids)
{
    uint64_t ns = 0;
    char *end;

    while (*pids != '\0') {
        long pid = strtol(pids, &end, 10);

        if (end == pids)
            break;
        ns += process_ns(pid);
        pids = *end == ',' ? end + 1 : end;
    }
    return ns;
}
