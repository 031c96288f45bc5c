/* What the type table of quant_ref.c is made of: one unpack and one encode function per line of quant.def, and what the
 * files of this part share. Nobody else needs it; the rest of the library goes through llmoi_type_info. */
#ifndef LLMOI_QUANT_PARTS_H
#define LLMOI_QUANT_PARTS_H

#include "quant.h"

/* llmoi_unpack_Q4_0, ... (quant_unpack.c; none for the float types) and llmoi_encode_Q4_0, ... (quant_encode.c) */
#define X(no, name, block, elems, group)                                                                               \
    void llmoi_unpack_##name(const void *src, llmoi_span *dst, size_t n);                                              \
    void llmoi_encode_##name(const float *src, void *dst, size_t n);
#include "quant.def"
#undef X

/* Types that this library does not write. */
#define llmoi_encode_Q2_K    NULL
#define llmoi_encode_Q3_K    NULL
#define llmoi_encode_IQ2_XXS NULL
#define llmoi_encode_IQ2_XS  NULL
#define llmoi_encode_IQ2_S   NULL
#define llmoi_encode_IQ3_XXS NULL
#define llmoi_encode_IQ3_S   NULL
#define llmoi_encode_IQ1_S   NULL
#define llmoi_encode_IQ1_M   NULL
#define llmoi_encode_IQ4_XS  NULL
#define llmoi_encode_TQ1_0   NULL
#define llmoi_encode_TQ2_0   NULL
#define llmoi_encode_NVFP4   NULL
#define llmoi_encode_Q1_0    NULL
#define llmoi_encode_Q2_0    NULL

/* Values of the 4-bit codes: IQ4's non-linear list, and FP4 (E2M1) doubled. */
extern const int8_t llmoi_values_iq4[16];
extern const int8_t llmoi_values_fp4[16];

/* 2^(e - 128): half the value of an E8M0 scale, for the doubled FP4 values. Every e is finite. */
float llmoi_e8m0_half(uint8_t e);

#endif
