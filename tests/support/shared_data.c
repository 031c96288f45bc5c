#include "shared_data.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *root(void) {
    const char *r = getenv("LLMO_SHARED");
    return r ? r : LLMO_SHARED_DEFAULT;
}

const char *shared_path(const char *fmt, ...) {
    static char ring[8][1024];
    static int next;
    char *p = ring[next++ % 8];
    int n = snprintf(p, sizeof ring[0], "%s/", root());
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p + n, sizeof ring[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return p;
}

bool shared_available(void) {
    return access(shared_path("data/README.md"), R_OK) == 0;
}

char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *p = malloc((size_t)n + 1);
    if (fread(p, 1, (size_t)n, f) != (size_t)n) fail_msg("cannot read %s", path);
    fclose(f);
    p[n] = 0;
    if (size) *size = (size_t)n;
    return p;
}

cJSON *read_json(const char *path) {
    size_t n;
    char *text = read_file(path, &n);
    cJSON *j = cJSON_ParseWithLength(text, n);
    if (!j) fail_msg("no JSON in %s", path);
    free(text);
    return j;
}

unsigned char *base64_decode(const char *text, size_t *size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char *out = malloc(strlen(text) / 4 * 3 + 4);
    size_t n = 0;
    unsigned bits = 0, have = 0;
    for (const char *p = text; *p && *p != '='; p++) {
        bits = bits << 6 | (unsigned)(strchr(digits, *p) - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (unsigned char)(bits >> have);
        }
    }
    *size = n;
    return out;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **list_files(const char *folder, const char *suffix) {
    size_t n = 0, cap = 0;
    char **list = NULL;
    DIR *d = opendir(folder);
    if (!d) fail_msg("cannot list %s", folder);
    for (struct dirent *e; (e = readdir(d));) {
        size_t len = strlen(e->d_name), sl = strlen(suffix);
        if (len < sl || strcmp(e->d_name + len - sl, suffix) != 0) continue;
        if (n + 2 > cap) list = realloc(list, (cap = cap * 2 + 16) * sizeof *list);
        list[n++] = strdup(e->d_name);
    }
    closedir(d);
    if (!list) list = malloc(sizeof *list);
    qsort(list, n, sizeof *list, by_name);
    list[n] = NULL;
    return list;
}
