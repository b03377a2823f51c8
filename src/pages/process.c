/* SPDX-License-Identifier: Apache-2.0 */
#include "pages/process.h"

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

uint64_t pages__resident_bytes(void)
{
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;

    if (f == NULL)
        return 0;
    if (fscanf(f, "%*u %llu", &pages) != 1)
        pages = 0;
    fclose(f);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
