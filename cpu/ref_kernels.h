/* The reference kernels: plain C that spells out numerics.h and kernel.h, the oracle of every faster row. One body,
 * compiled as it is and for AVX2 + FMA (where fmaf is an instruction); both give the same bits. */
#ifndef LLMOI_REF_KERNELS_H
#define LLMOI_REF_KERNELS_H

#include "backend.h"

typedef struct llmoi_ref_kernels {
    void (*matmul_f32)(const llmoi_matmul *m, uint64_t begin, uint64_t end);
    void (*matmul_q8)(const llmoi_matmul *m, uint64_t begin, uint64_t end);
    /* one vector of n elements; x and out may be the same */
    void (*norm)(const llmoi_norm *norm, const float *x, float *out, uint32_t n);
    /* n elements, a multiple of 32 */
    void (*quantize)(const float *x, int8_t *q, float *scale, int16_t *sum16, uint32_t n);
    void (*qkv_store)(const llmoi_qkv_store *s, uint32_t token);
    void (*attend)(const llmoi_attend *a, uint32_t token, uint32_t head);
    void (*gate_mul)(llmoi_activation act, const float *gate, const float *up, float *out, size_t begin, size_t end);
    void (*soft_cap)(float *x, float cap, size_t begin, size_t end);
} llmoi_ref_kernels;

extern const llmoi_ref_kernels llmoi_ref_plain;
#if defined(__x86_64__)
extern const llmoi_ref_kernels llmoi_ref_fma;
#endif

#endif
