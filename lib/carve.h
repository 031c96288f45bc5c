/* Laying several arrays out in one block: run over address 0 it gives the size, run over the block it gives the pointers.
 * One function for both is what makes predicted bytes equal allocated bytes. */
#ifndef LLMOI_CARVE_H
#define LLMOI_CARVE_H

#include <stddef.h>
#include <stdint.h>

static inline void *llmoi_carve(uintptr_t *at, size_t count, size_t elem_bytes) {
    uintptr_t p = *at;
    *at += (count * elem_bytes + 63) / 64 * 64; /* callers bound count and elem_bytes far below overflow */
    return (void *)p;
}

#endif
