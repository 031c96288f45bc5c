/* Block types: structs as in the file (quant_blocks.h), the table made from quant.def, reference decode, encode and
 * integer form. Sizes, names and numbers exist here only. Shared by lib, cpu and cuda. */
#ifndef LLMOI_QUANT_H
#define LLMOI_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant_blocks.h" /* the block structs, compiles as C and CUDA C++ */

/* Type numbers: LLMOI_TYPE_Q4_K = 12, ... */
typedef enum llmoi_type {
#define X(no, name, block, elems, group) LLMOI_TYPE_##name = no,
#include "quant.def"
#undef X
} llmoi_type;

/* Integer form of up to 256 consecutive elements of a row, the common ground of the integer kernels: element i is
 *     scale[i / 16] * q[i] + offset[i / 16]
 * with the exact scales and offsets of the block type in f32. Types whose `group` is 32 have equal neighbours
 * (scale[2j] == scale[2j+1]). Values of q fit int8; where the format's values are multiples of a fraction (IQ1: 1/8), q
 * holds the multiple and scale the fraction's product. q of Q8_0 may be -128. */
#define LLMOI_SPAN        256u
#define LLMOI_SPAN_GROUPS 16u
typedef struct llmoi_span {
    int8_t q[LLMOI_SPAN];
    float scale[LLMOI_SPAN_GROUPS];
    float offset[LLMOI_SPAN_GROUPS];
} llmoi_span;

typedef struct llmoi_type_info {
    uint32_t type; /* number in the file */
    const char *name;
    uint32_t block_elems;
    uint32_t block_bytes;
    uint32_t group;  /* see quant.def; 0: float type */
    bool has_offset; /* some offset may be non-zero */
    /* n elements (a multiple of block_elems) of a row, exact to the bit in f32 as the format defines them, with no
     * fused multiply-add. src has any alignment. */
    void (*decode)(const void *src, float *dst, size_t n);
    /* The inverse with the format's usual rounding; NULL if this library does not write the type. */
    void (*encode)(const float *src, void *dst, size_t n);
    /* Integer form of n <= 256 elements (a multiple of block_elems) that start on a block boundary; groups past n are
     * zeroed. NULL for float types. */
    void (*unpack)(const void *src, llmoi_span *dst, size_t n);
} llmoi_type_info;

/* NULL for a number that is no known type. */
const llmoi_type_info *llmoi_type_find(uint32_t type);
/* By name, case-insensitive ("q4_k"); NULL if there is none. */
const llmoi_type_info *llmoi_type_find_name(const char *name);
/* All known types, in the order of quant.def. */
const llmoi_type_info *llmoi_type_table(size_t *count);

/* Bytes of a row of n elements (n must be a multiple of block_elems); 0 on overflow. */
static inline size_t llmoi_row_bytes(const llmoi_type_info *t, uint64_t n) {
    uint64_t bytes;
    if (__builtin_mul_overflow(n / t->block_elems, (uint64_t)t->block_bytes, &bytes) || bytes > SIZE_MAX) return 0;
    return (size_t)bytes;
}

/* IEEE half and bfloat16 <-> float: exact one way, round to nearest even the other; NaN stays NaN, any bits are safe.
 */
float llmoi_f16_to_f32(uint16_t h);
uint16_t llmoi_f32_to_f16(float f);
float llmoi_bf16_to_f32(uint16_t h);
uint16_t llmoi_f32_to_bf16(float f);

#endif
