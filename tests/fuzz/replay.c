/* SPDX-License-Identifier: MIT */
/*
 * Feeds every file of the folders given to a fuzz target, so that its saved corpus is an
 * ordinary test. Each input is handed over in memory of exactly its size, for a sanitizer to
 * see a read past the end. Fails when a folder holds no file.
 */
#define _POSIX_C_SOURCE 200809L
#include "base/error.h"
#include "base/file.h"

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 16 << 20 };

static int replay(const char *folder, const char *name)
{
    char path[4096], *data;
    size_t size;
    struct rwl_error err;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (rwl_file_load(path, MAX_INPUT, &data, &size, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, data, size);
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

static int replay_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        perror(folder);
        return -1;
    }
    unsigned count = 0;
    int result = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        if (replay(folder, entry->d_name) != 0)
            result = -1;
        count++;
    }
    closedir(dir);
    printf("%s: %u inputs\n", folder, count);
    return count ? result : -1;
}

int main(int argc, char **argv)
{
    int result = argc > 1 ? 0 : 1;
    for (int i = 1; i < argc; i++)
        if (replay_folder(argv[i]) != 0)
            result = 1;
    return result;
}
