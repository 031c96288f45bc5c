/* What the tool says to people: errors, progress, sizes, text from files. Knows no command. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

static const char *command_name; /* set once at the start, before there are threads */

void tool_set_command(const char *name) {
    command_name = name;
}

/* --- text that may hold anything ---------------------------------------------------------------------------------- */

size_t tool_utf8_length(const unsigned char *s, size_t n_bytes) {
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (length == 0 || length > n_bytes) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
    }
    if (length == 3 && ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))) return 0;
    if (length == 4 && ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))) return 0;
    return length;
}

void tool_print_text(FILE *f, const char *text, size_t n_bytes, size_t max_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    size_t shown = n_bytes < max_bytes ? n_bytes : max_bytes;
    for (size_t i = 0; i < shown;) {
        size_t length = tool_utf8_length(s + i, n_bytes - i);
        /* C0, DEL and C1 controls could drive the terminal */
        bool control = s[i] < 0x20 || s[i] == 0x7f || (length == 2 && s[i] == 0xc2 && s[i + 1] < 0xa0);
        if (s[i] == '\n') {
            (void)fputs("\\n", f);
        } else if (s[i] == '\t') {
            (void)fputs("\\t", f);
        } else if (control || !length) {
            (void)fprintf(f, "\\x%02x", s[i]);
            length = 1;
        } else {
            (void)fwrite(s + i, 1, length, f);
        }
        i += length;
    }
    if (shown < n_bytes) (void)fprintf(f, "... (%zu bytes)", n_bytes);
}

const char *tool_bytes_text(uint64_t bytes, char out[static 32]) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024) {
        (void)snprintf(out, 32, "%" PRIu64 " B", bytes);
        return out;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < TOOL_COUNT(units); unit++) value /= 1024;
    (void)snprintf(out, 32, "%.2f %s", value, units[unit]);
    return out;
}

/* --- errors ------------------------------------------------------------------------------------------------------ */

static void print_error(const char *text, const char *hint) {
    (void)fflush(stdout);
    (void)fputs("llmo: ", stderr);
    if (command_name) (void)fprintf(stderr, "%s: ", command_name);
    tool_print_text(stderr, text, strlen(text), SIZE_MAX);
    (void)fprintf(stderr, "%s\n", hint);
}

int tool_fail(const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    print_error(text, "");
    return TOOL_FAILED;
}

int tool_usage(const char *format, ...) {
    char text[2048];
    char hint[64];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)snprintf(hint, sizeof hint, " (see 'llmo %s%s--help')", command_name ? command_name : "",
                   command_name ? " " : "");
    print_error(text, hint);
    return TOOL_USAGE;
}

int tool_fail_library(void) {
    const char *text = llmo_last_error();
    return tool_fail("%s", *text ? text : "the library gave no reason");
}

int tool_fail_memory(void) {
    return tool_fail("out of memory");
}

int tool_finish(int code) {
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        int reason = errno;
        if (code == TOOL_OK) code = tool_fail("cannot write to standard output: %s", strerror(reason ? reason : EIO));
    }
    return code;
}

/* --- progress ---------------------------------------------------------------------------------------------------- */

uint64_t tool_time_us(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

void progress_begin(progress *p) {
    *p = (progress){.start_us = tool_time_us(), .terminal = isatty(STDERR_FILENO) != 0};
}

void progress_update(progress *p, const char *what, uint64_t done, uint64_t total) {
    if (!p->terminal || total == 0) return;
    uint64_t now = tool_time_us();
    if (now - p->start_us < 1000000u || now - p->drawn_us < 100000u) return;
    p->drawn_us = now;
    p->drawn = true;
    (void)fprintf(stderr, "\r%s %3.0f %%\033[K", what, 100.0 * (double)done / (double)total);
    (void)fflush(stderr);
}

void progress_clear(progress *p) {
    if (p->drawn) (void)fputs("\r\033[K", stderr);
    p->drawn = false;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

int tool_read_file(const char *path, char **out, size_t *n_bytes) {
    bool standard = strcmp(path, "-") == 0;
    FILE *f = standard ? stdin : fopen(path, "rb");
    if (!f) return tool_fail("cannot open '%s': %s", path, strerror(errno));
    char *data = NULL;
    size_t used = 0, cap = 0;
    int code = TOOL_OK;
    for (;;) {
        if (cap - used < 2) { /* room for one byte and the NUL at the least */
            size_t grown_cap = cap ? cap * 2 : 65536;
            char *grown = grown_cap > cap ? realloc(data, grown_cap) : NULL;
            if (!grown) {
                code = tool_fail_memory();
                break;
            }
            data = grown;
            cap = grown_cap;
        }
        size_t got = fread(data + used, 1, cap - used - 1, f);
        used += got;
        if (got == 0) {
            if (ferror(f)) {
                const char *reason = strerror(errno);
                code = tool_fail("cannot read %s%s%s: %s", standard ? "" : "'", standard ? "standard input" : path,
                                 standard ? "" : "'", reason);
            }
            break;
        }
    }
    if (!standard) (void)fclose(f);
    if (code || !data) {
        free(data);
        return code;
    }
    data[used] = '\0';
    *out = data;
    *n_bytes = used;
    return TOOL_OK;
}
