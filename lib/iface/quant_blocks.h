/* The packed blocks of every quantized type, byte for byte as they lie in a GGUF file (little-endian). Compiles as C11
 * and as CUDA C++; holds data layout only, no code. `d` is a scale, `dmin` and `m` belong to offsets; both are IEEE
 * half bits unless a comment says otherwise. Blocks in a file have any alignment: copy one before using its fields. */
#ifndef LLMOI_QUANT_BLOCKS_H
#define LLMOI_QUANT_BLOCKS_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "block layouts are little-endian"
#endif

#ifdef __cplusplus
#define LLMOI_BLOCK_SIZE_IS(type, bytes) static_assert(sizeof(type) == (bytes), "layout of " #type)
#else
#define LLMOI_BLOCK_SIZE_IS(type, bytes) _Static_assert(sizeof(type) == (bytes), "layout of " #type)
#endif

/* --- 32 elements. Nibbles: byte j holds element j (low) and element j + 16 (high). ------------------------------- */

typedef struct llmoi_block_q4_0 { /* d * (q - 8) */
    uint16_t d;
    uint8_t qs[16];
} llmoi_block_q4_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q4_0, 18);

typedef struct llmoi_block_q4_1 { /* d * q + m */
    uint16_t d, m;
    uint8_t qs[16];
} llmoi_block_q4_1;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q4_1, 20);

typedef struct llmoi_block_q5_0 { /* d * (q - 16) */
    uint16_t d;
    uint8_t qh[4]; /* bit j: fifth bit of element j */
    uint8_t qs[16];
} llmoi_block_q5_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q5_0, 22);

typedef struct llmoi_block_q5_1 { /* d * q + m */
    uint16_t d, m;
    uint8_t qh[4];
    uint8_t qs[16];
} llmoi_block_q5_1;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q5_1, 24);

typedef struct llmoi_block_q8_0 { /* d * q */
    uint16_t d;
    int8_t qs[32];
} llmoi_block_q8_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q8_0, 34);

typedef struct llmoi_block_iq4_nl { /* d * (value of the 4-bit code, a fixed non-linear list) */
    uint16_t d;
    uint8_t qs[16];
} llmoi_block_iq4_nl;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq4_nl, 18);

typedef struct llmoi_block_mxfp4 { /* 2^(e - 128) * (twice the E2M1 value), OCP microscaling FP4 */
    uint8_t e;                     /* E8M0 */
    uint8_t qs[16];
} llmoi_block_mxfp4;
LLMOI_BLOCK_SIZE_IS(llmoi_block_mxfp4, 17);

/* --- 64 and 128 elements ---------------------------------------------------------------------------------------- */

typedef struct llmoi_block_nvfp4 { /* 64 elements: four groups of 16, scale / 2 * (twice the E2M1 value) */
    uint8_t d[4];                  /* unsigned E4M3; 0x7F counts as zero */
    uint8_t qs[32];                /* group g: bytes 8 g + j hold its elements j (low) and j + 8 (high) */
} llmoi_block_nvfp4;
LLMOI_BLOCK_SIZE_IS(llmoi_block_nvfp4, 36);

typedef struct llmoi_block_q1_0 { /* 128 elements: bit j set: d, clear: -d */
    uint16_t d;
    uint8_t qs[16];
} llmoi_block_q1_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q1_0, 18);

typedef struct llmoi_block_q2_0 { /* 64 elements: d * (q - 1), byte j holds elements 4 j .. 4 j + 3, low bits first */
    uint16_t d;
    uint8_t qs[16];
} llmoi_block_q2_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q2_0, 18);

/* --- 256 elements, K-quants ------------------------------------------------------------------------------------- *
 * 2-bit planes: byte 32 c + j holds elements 128 c + j, + 32, + 64, + 96, low bits first.
 * Bit planes:   bit b of byte j belongs to element 32 b + j. */

typedef struct llmoi_block_q2_k { /* groups of 16: d * (scale & 15) * q - dmin * (scale >> 4) */
    uint8_t scales[16];
    uint8_t qs[64]; /* 2-bit planes */
    uint16_t d, dmin;
} llmoi_block_q2_k;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q2_k, 84);

typedef struct llmoi_block_q3_k { /* groups of 16: d * (scale - 32) * (q - (mask bit ? 0 : 4)) */
    uint8_t hmask[32];            /* bit planes */
    uint8_t qs[64];               /* 2-bit planes */
    uint8_t scales[12]; /* scale k: low nibble of byte k or high nibble of byte k - 8; bits 4, 5: byte 8 + k % 4 */
    uint16_t d;
} llmoi_block_q3_k;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q3_k, 110);

typedef struct llmoi_block_q4_k { /* groups of 32: d * scale * q - dmin * min */
    uint16_t d, dmin;
    uint8_t
        scales[12];  /* 8 six-bit scales and mins: k < 4: bytes k and 4 + k; else nibbles of byte 4 + k and top bits */
    uint8_t qs[128]; /* byte 32 c + j holds elements 64 c + j (low) and 64 c + 32 + j (high) */
} llmoi_block_q4_k;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q4_k, 144);

typedef struct llmoi_block_q5_k { /* as Q4_K with a fifth bit */
    uint16_t d, dmin;
    uint8_t scales[12];
    uint8_t qh[32]; /* bit planes */
    uint8_t qs[128];
} llmoi_block_q5_k;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q5_k, 176);

typedef struct llmoi_block_q6_k { /* groups of 16: d * scale * (q - 32) */
    uint8_t ql[128];              /* byte 64 c + j holds elements 128 c + j (low) and 128 c + 64 + j (high) */
    uint8_t qh[64];               /* 2-bit planes: bits 4 and 5 */
    int8_t scales[16];
    uint16_t d;
} llmoi_block_q6_k;
LLMOI_BLOCK_SIZE_IS(llmoi_block_q6_k, 210);

/* --- 256 elements, grid types ----------------------------------------------------------------------------------- *
 * A code names an entry of a fixed grid of 8 (IQ1, IQ2) or 4 (IQ3) magnitudes; signs are kept apart. Where 7 sign bits
 * stand for 8 elements, the eighth makes the number of negative signs even. */

typedef struct llmoi_block_iq2_xxs { /* groups of 32: d * (0.5 + s) / 4 * value */
    uint16_t d;
    uint16_t qs[32]; /* group g: four 8-bit codes in qs[4 g .. 4 g + 1], then 32 bits: four times 7 signs, 4 bits s */
} llmoi_block_iq2_xxs;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq2_xxs, 66);

typedef struct llmoi_block_iq2_xs { /* groups of 16: d * (0.5 + s) / 4 * value */
    uint16_t d;
    uint16_t qs[32];   /* 9-bit code, 7 signs above it */
    uint8_t scales[8]; /* 4 bits per group, low nibble first */
} llmoi_block_iq2_xs;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq2_xs, 74);

typedef struct llmoi_block_iq2_s { /* groups of 16: d * (0.5 + s) / 4 * value */
    uint16_t d;
    uint8_t qs[32];
    uint8_t signs[32]; /* bit j: element 8 i + j is negative */
    uint8_t qh[8];     /* bits 8 and 9 of the codes */
    uint8_t scales[8];
} llmoi_block_iq2_s;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq2_s, 82);

typedef struct llmoi_block_iq3_xxs { /* groups of 32: d * (0.5 + s) / 2 * value */
    uint16_t d;
    uint8_t qs[64];
    uint16_t signs[16]; /* group g: 32 bits in signs[2 g .. 2 g + 1]: four times 7 signs, 4 bits s */
} llmoi_block_iq3_xxs;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq3_xxs, 98);

typedef struct llmoi_block_iq3_s { /* groups of 32: d * (1 + 2 s) * value */
    uint16_t d;
    uint8_t qs[64];
    uint8_t qh[8]; /* bit 8 of the codes */
    uint8_t signs[32];
    uint8_t scales[4]; /* 4 bits per group, low nibble first */
} llmoi_block_iq3_s;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq3_s, 110);

typedef struct llmoi_block_iq1_s { /* groups of 32: d * (2 s + 1) * (value +- 1/8), values -1, 0, 1 */
    uint16_t d;
    uint8_t qs[32];
    uint16_t qh[8]; /* per group: four times bits 8..10 of the codes, 3 bits s, top bit: -1/8 */
} llmoi_block_iq1_s;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq1_s, 50);

typedef struct llmoi_block_iq1_m { /* groups of 16: d * (2 s + 1) * (value +- 1/8) */
    uint8_t qs[32];
    uint8_t qh[16];     /* per 8 elements a nibble: bits 8..10 of the code, top bit: -1/8 */
    uint16_t scales[4]; /* four times 3 bits s; the four top nibbles together are d */
} llmoi_block_iq1_m;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq1_m, 56);

typedef struct llmoi_block_iq4_xs { /* groups of 32: d * (scale - 32) * (value of the 4-bit code, as IQ4_NL) */
    uint16_t d;
    uint16_t scales_h;   /* two high bits per group */
    uint8_t scales_l[4]; /* four low bits per group, low nibble first */
    uint8_t qs[128];     /* byte 16 g + j holds elements 32 g + j (low) and 32 g + 16 + j (high) */
} llmoi_block_iq4_xs;
LLMOI_BLOCK_SIZE_IS(llmoi_block_iq4_xs, 136);

/* --- 256 elements, ternary: d * (q - 1) -------------------------------------------------------------------------- */

typedef struct llmoi_block_tq1_0 { /* base 3: trit t of byte x is (uint8_t)(x * 3^t) * 3 >> 8 */
    uint8_t qs[48]; /* 32 bytes: trit t of byte j is element 32 t + j; 16 bytes: element 160 + 16 t + j */
    uint8_t qh[4];  /* element 240 + 4 t + j */
    uint16_t d;
} llmoi_block_tq1_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_tq1_0, 54);

typedef struct llmoi_block_tq2_0 {
    uint8_t qs[64]; /* 2-bit planes */
    uint16_t d;
} llmoi_block_tq2_0;
LLMOI_BLOCK_SIZE_IS(llmoi_block_tq2_0, 66);

#endif
