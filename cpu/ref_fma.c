/* The reference kernels for x86-64 with AVX2, FMA and F16C. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma,f16c")
#define LLMOI_REF_KERNELS llmoi_ref_fma
#include "ref_kernels.inc"
#else
typedef int llmoi_ref_fma_unused;
#endif
