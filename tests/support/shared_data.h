/* Finding the shared test data and reading small files, for tests. Tests that need data that is not there skip and print
 * the reason. */
#ifndef SHARED_DATA_H
#define SHARED_DATA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <cjson/cJSON.h>

/* Path of a file below the shared folder (LLMO_SHARED in the environment, else the configured default), in one of eight
 * static buffers. */
const char *shared_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool shared_available(void);
/* In a CMocka test: skip() with a printed reason if the shared folder is absent. */
#define SKIP_WITHOUT_SHARED()                                                                                          \
    do {                                                                                                               \
        if (!shared_available()) {                                                                                     \
            print_message("[  SKIP    ] no shared test data at %s\n", shared_path("data"));                            \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

/* A whole file, malloc'ed, with a NUL behind it; fails the test if it cannot be read. */
char *read_file(const char *path, size_t *size);
cJSON *read_json(const char *path);
/* Standard base64 to bytes, malloc'ed. */
unsigned char *base64_decode(const char *text, size_t *size);
/* Names of the files in a folder that end with suffix, sorted, malloc'ed; NULL-terminated list. */
char **list_files(const char *folder, const char *suffix);

#endif
