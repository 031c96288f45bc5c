/* Developer switches from the environment; the one file that may call getenv. */
#include "debug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void llmoi_debug_read(llmoi_debug *d) {
    const char *rows = getenv("LLMO_ROWS");
    (void)snprintf(d->rows_off, sizeof d->rows_off, "%s", rows ? rows : "");
}

bool llmoi_debug_row_off(const llmoi_debug *d, const char *row) {
    size_t n = strlen(row);
    for (const char *p = d->rows_off; *p; p += strcspn(p, ",")) {
        p += *p == ',';
        if (*p == '-' && strncmp(p + 1, row, n) == 0 && (p[1 + n] == ',' || p[1 + n] == '\0')) return true;
    }
    return false;
}
