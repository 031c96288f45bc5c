/* Every byte the library takes from the host goes through here: one allocator, a tag per allocation, exact accounting.
 * Accounts form a chain (runtime <- model, runtime <- context), so that each object knows its own bytes. */
#ifndef LLMOI_MEM_H
#define LLMOI_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* What an allocation is for. The first LLMO_PURPOSE_COUNT values are the public llmo_purpose values. */
typedef llmo_purpose llmoi_tag;

typedef struct llmoi_mem {
    struct llmoi_mem *parent; /* NULL for the runtime's */
    void *user;
    void *(*alloc)(void *user, size_t bytes, size_t alignment); /* NULL: the library's own */
    void (*release)(void *user, void *ptr, size_t bytes);
    _Atomic uint64_t bytes[LLMO_PURPOSE_COUNT]; /* live payload bytes by tag */
    _Atomic uint64_t peak[LLMO_PURPOSE_COUNT];
    _Atomic uint64_t n_allocs; /* calls so far; a test watches it while decoding */
} llmoi_mem;

/* A root account with the host's hooks (both NULL: own allocator), or a child that shares its parent's hooks. */
void llmoi_mem_init(llmoi_mem *m, void *user, void *(*alloc)(void *, size_t, size_t),
                    void (*release)(void *, void *, size_t));
void llmoi_mem_init_child(llmoi_mem *m, llmoi_mem *parent);

/* 64-byte aligned. NULL when out of memory, with the sentence recorded (status LLMO_E_NOMEM is the caller's to return).
 * bytes 0 gives a valid pointer. Blocks of 1 MiB or more from the own allocator are in huge pages where the OS has them. */
void *llmoi_alloc(llmoi_mem *m, llmoi_tag tag, size_t bytes);
void *llmoi_zalloc(llmoi_mem *m, llmoi_tag tag, size_t bytes);
/* count * elem_bytes with the product checked. */
void *llmoi_alloc_array(llmoi_mem *m, llmoi_tag tag, size_t count, size_t elem_bytes);
void *llmoi_zalloc_array(llmoi_mem *m, llmoi_tag tag, size_t count, size_t elem_bytes);
/* Grows (never shrinks) an array of `elem_bytes` elements to hold at least `need`; *cap is updated. Contents are kept.
 * On failure the old array stays valid. */
LLMOI_MUST_CHECK llmo_status llmoi_grow(llmoi_mem *m, llmoi_tag tag, void **array, size_t *cap, size_t need,
                                        size_t elem_bytes);
void llmoi_free(llmoi_mem *m, void *ptr); /* NULL is fine; m must be the account it was taken from */
char *llmoi_strdup(llmoi_mem *m, llmoi_tag tag, const char *s, size_t len); /* NUL is added */

uint64_t llmoi_mem_total(const llmoi_mem *m);

/* Checked arithmetic on sizes: false on overflow, *out then undefined. */
static inline bool llmoi_mul_ok(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool llmoi_add_ok(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}
static inline bool llmoi_mul64_ok(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool llmoi_add64_ok(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

#endif
