/* Switches for developers, read from the environment once per runtime. debug.c is the only reader of it.
 *   LLMO_ROWS=-name,-name   matmul rows not to be used (plans then list them as declined) */
#ifndef LLMOI_DEBUG_H
#define LLMOI_DEBUG_H

#include <stdbool.h>

typedef struct llmoi_debug {
    char rows_off[2048]; /* room for every row of a table */
} llmoi_debug;

void llmoi_debug_read(llmoi_debug *d);
bool llmoi_debug_row_off(const llmoi_debug *d, const char *row);

#endif
