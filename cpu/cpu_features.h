/* What this CPU can do. */
#ifndef LLMOI_CPU_FEATURES_H
#define LLMOI_CPU_FEATURES_H

#include <stdbool.h>
#include <stddef.h>

bool llmoi_cpu_has_fma(void); /* AVX2, FMA and F16C, usable */
/* A list for people: "AVX2, FMA, F16C". */
void llmoi_cpu_describe(char *out, size_t cap);

#endif
