/* The ordered table of the CPU's matmul rows. */
#ifndef LLMOI_CPU_ROWS_H
#define LLMOI_CPU_ROWS_H

#include "ref_kernels.h"

#if defined(__x86_64__)
#define LLMOI_CPU_N_ROWS 4
#else
#define LLMOI_CPU_N_ROWS 2
#endif
extern const llmoi_matmul_row llmoi_cpu_rows[LLMOI_CPU_N_ROWS];

#endif
