/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over every file of the folders named as arguments: the corpus as a regression
 * test where there is no libFuzzer. Exit status 1 when a folder holds no file, or when no file got
 * as far as fuzz_deep. */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

#define FILE_MAX (1024u * 1024)

static bool run_file(const char *path)
{
    uint8_t *data = malloc(FILE_MAX), *exact;
    FILE *f = fopen(path, "rb");
    size_t n;

    CHECK(data != NULL && f != NULL);
    n = fread(data, 1, FILE_MAX, f);
    CHECK(ferror(f) == 0 && feof(f) != 0);
    (void)fclose(f);
    /* As long as the input, so that a read past its end is seen. */
    exact = malloc(n > 0 ? n : 1);
    CHECK(exact != NULL);
    memcpy(exact, data, n);
    free(data);
    (void)fprintf(stderr, "%s\n", path); /* the last line names what crashed */
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    return true;
}

static size_t run_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *e;
    size_t count = 0;

    if (dir == NULL)
        return 0;
    while ((e = readdir(dir)) != NULL) {
        char path[PATH_MAX];

        if (e->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        count += run_file(path);
    }
    (void)closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    int status = argc > 1 ? 0 : 1;

    for (int i = 1; i < argc; i++) {
        size_t count = run_folder(argv[i]);

        printf("%s: %zu inputs, %zu deep\n", argv[i], count, fuzz_deep_count());
        if (count == 0 || fuzz_deep_count() == 0)
            status = 1;
    }
    return status;
}
