/* For tests of kernels: repeatable random numbers, weights of any block type, and buffers that show when something
 * was written beside them. */
#ifndef KERNEL_CHECK_H
#define KERNEL_CHECK_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant.h"
#include "shared_data.h"

typedef struct rng {
    uint64_t s;
} rng;

static inline uint64_t rng_next(rng *r) {
    r->s += 0x9e3779b97f4a7c15u;
    uint64_t z = r->s;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint32_t rng_below(rng *r, uint32_t n) {
    return (uint32_t)(rng_next(r) >> 32) % n;
}

/* in (-1, 1) */
static inline float rng_unit(rng *r) {
    return (float)((int32_t)(rng_next(r) >> 32) / 2147483648.0);
}

/* roughly normal, with tails as activations have them */
static inline float rng_normal(rng *r) {
    float sum = 0;
    for (int i = 0; i < 6; i++) sum += rng_unit(r);
    return 0.7f * sum;
}

/* Equal to the bit; a NaN equals any other, since no rule says which one an operation gives. */
static inline bool same_float(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* Index of the first difference, or n. */
static inline size_t first_difference(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!same_float(a[i], b[i])) return i;
    }
    return n;
}

/* 64-byte aligned, of exactly `bytes` > 0, so that a sanitizer sees reads past the end. */
static inline void *aligned_bytes(size_t bytes) {
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes) != 0) abort();
    memset(p, 0x5a, bytes);
    return p;
}

/* --- guarded arrays of floats: GUARD sentinels before and after -------------------------------------------------- */

#define GUARD       64u
#define GUARD_VALUE 1.2345e33f

static inline float *guarded(size_t n) {
    if (n > SIZE_MAX / 8) abort();
    float *p = aligned_bytes((n + 2 * GUARD) * sizeof *p);
    for (size_t i = 0; i < n + 2 * GUARD; i++) p[i] = GUARD_VALUE;
    return p + GUARD;
}

static inline bool guards_intact(const float *p, size_t n) {
    for (size_t i = 0; i < GUARD; i++) {
        if (p[(ptrdiff_t)i - (ptrdiff_t)GUARD] != GUARD_VALUE || p[n + i] != GUARD_VALUE) return false;
    }
    return true;
}

static inline void guarded_free(float *p) {
    free(p - GUARD);
}

/* --- weights ------------------------------------------------------------------------------------------------------- */

typedef enum weight_kind {
    WEIGHTS_ENCODED, /* normal values as the encoder writes them; random blocks if the type has none */
    WEIGHTS_BLOCKS,  /* random bits that decode to finite, not too large values */
    WEIGHTS_ANY_BITS /* random bits: NaN, infinities and huge scales among them */
} weight_kind;

static inline void random_block(rng *r, const llmoi_type_info *t, unsigned char *dst, bool tame) {
    float x[LLMOI_SPAN];
    for (;;) {
        for (uint32_t i = 0; i < t->block_bytes; i++) dst[i] = (unsigned char)(rng_next(r) >> 32);
        if (!tame) return;
        t->decode(dst, x, t->block_elems);
        bool good = true;
        for (uint32_t i = 0; i < t->block_elems; i++) good = good && fabsf(x[i]) < 1e6f;
        if (good) return;
    }
}

/* n elements, a multiple of the block size, into dst. */
static inline void random_weights(rng *r, const llmoi_type_info *t, weight_kind kind, void *dst, size_t n) {
    if (kind == WEIGHTS_ENCODED && t->encode) {
        float *x = malloc(n * sizeof *x);
        for (size_t i = 0; i < n; i++) x[i] = 0.05f * rng_normal(r);
        t->encode(x, dst, n);
        free(x);
        return;
    }
    for (size_t b = 0; b < n / t->block_elems; b++) {
        random_block(r, t, (unsigned char *)dst + b * t->block_bytes, kind != WEIGHTS_ANY_BITS);
    }
}

#endif
