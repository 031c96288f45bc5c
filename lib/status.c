/* The per-thread sentence of the last failure, and the names and texts of the status codes. Knows no handles. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[LLMOI_MESSAGE_BYTES];

/* Sentences quote text from files: keep them one line, and never end inside a UTF-8 character. */
static void make_clean(char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) s[i] = '?';
    }
    if (n + 1 < LLMOI_MESSAGE_BYTES) return;
    size_t i = n;
    while (i > 0 && ((unsigned char)s[i - 1] & 0xc0) == 0x80) i--;
    if (i > 0 && (unsigned char)s[i - 1] >= 0xc0) s[i - 1] = '\0';
}

llmo_status(llmoi_fail)(llmo_status st, const char *fmt, ...) {
    char text[LLMOI_MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    make_clean(text);
    memcpy(message, text, sizeof message);
    return st;
}

void llmoi_fail_prefix(const char *fmt, ...) {
    char text[2 * LLMOI_MESSAGE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, LLMOI_MESSAGE_BYTES - 4, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    size_t len = strlen(text);
    (void)snprintf(text + len, sizeof text - len, ": %s", message);
    text[LLMOI_MESSAGE_BYTES - 1] = '\0';
    make_clean(text);
    memcpy(message, text, sizeof message);
}

const char *llmoi_message(void) {
    return message;
}

void llmoi_message_clear(void) {
    message[0] = '\0';
}

const char *llmo_status_name(llmo_status st) {
    switch (st) {
#define LLMOI_X(value, name, text)                                                                                     \
    case value: return "LLMO_" #name;
        LLMO_STATUS_LIST(LLMOI_X)
#undef LLMOI_X
    default: return "LLMO_E_UNKNOWN";
    }
}

const char *llmo_status_text(llmo_status st) {
    switch (st) {
#define LLMOI_X(value, name, text)                                                                                     \
    case value: return text;
        LLMO_STATUS_LIST(LLMOI_X)
#undef LLMOI_X
    default: return "unknown status";
    }
}

const char *llmo_last_error(void) {
    return message;
}
