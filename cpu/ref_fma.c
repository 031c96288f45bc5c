/* The reference kernels for x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define LLMOI_REF_KERNELS llmoi_ref_fma
#include "ref_kernels.inc"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#else
typedef int llmoi_ref_fma_unused;
#endif
