/* The reference kernels for any CPU. */
#define LLMOI_REF_KERNELS llmoi_ref_plain
#include "ref_kernels.inc"
