/* CPU feature detection. Knows no kernels. */
#include "cpu_features.h"

#include <stdio.h>

#if defined(__x86_64__)
#include <cpuid.h>

/* clang's __builtin_cpu_supports does not know it. That the OS saves the registers is said by "avx2". */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool llmoi_cpu_has_fma(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
#else
    return false;
#endif
}

void llmoi_cpu_describe(char *out, size_t cap) {
#if defined(__x86_64__)
    (void)snprintf(out, cap, "x86-64%s%s%s%s", __builtin_cpu_supports("avx2") ? ", AVX2" : "",
                   __builtin_cpu_supports("fma") ? ", FMA" : "", __builtin_cpu_supports("avx512f") ? ", AVX-512" : "",
                   __builtin_cpu_supports("avx512vnni") ? ", VNNI" : "");
#elif defined(__aarch64__)
    (void)snprintf(out, cap, "AArch64");
#else
    (void)snprintf(out, cap, "generic");
#endif
}
