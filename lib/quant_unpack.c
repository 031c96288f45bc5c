/* The integer form (llmoi_span) of every quantized type: the one place that knows how blocks are laid out; the decoders
 * are made of it. Any bits are safe: codes are masked to their tables, NaN and infinite scales pass through.
 * Knows nothing of rows, tensors or files. Loops are plain so that the compiler vectorizes them. */
#include "quant_parts.h"

#include <string.h>

#include "quant_tables.h"

const int8_t llmoi_values_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t llmoi_values_fp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* --- helpers ---------------------------------------------------------------------------------------------------- */

/* Block i of src, copied: src has any alignment. */
#define TAKE(type, var, src, i)                                                                                        \
    type var;                                                                                                          \
    memcpy(&var, (const unsigned char *)(src) + (i) * sizeof(var), sizeof(var))

/* Groups past n are zero. */
static void clear_tail(llmoi_span *dst, size_t n) {
    memset(dst->q + n, 0, LLMOI_SPAN - n);
    for (size_t g = n / 16; g < LLMOI_SPAN_GROUPS; g++) dst->scale[g] = dst->offset[g] = 0.0f;
}

static inline void set_group16(llmoi_span *dst, size_t g, float scale, float offset) {
    dst->scale[g] = scale;
    dst->offset[g] = offset;
}

static inline void set_group32(llmoi_span *dst, size_t g, float scale, float offset) {
    set_group16(dst, 2 * g, scale, offset);
    set_group16(dst, 2 * g + 1, scale, offset);
}

/* Low nibbles of n bytes, then high nibbles. */
static inline void nibbles(const uint8_t *src, int8_t *q, size_t n, int bias) {
    for (size_t j = 0; j < n; j++) {
        q[j] = (int8_t)((src[j] & 15) - bias);
        q[j + n] = (int8_t)((src[j] >> 4) - bias);
    }
}

static inline void nibbles_by_list(const uint8_t *src, int8_t *q, size_t n, const int8_t list[16]) {
    for (size_t j = 0; j < n; j++) {
        q[j] = list[src[j] & 15];
        q[j + n] = list[src[j] >> 4];
    }
}

/* 64 bytes of 2-bit planes: 256 values 0..3. */
static inline void planes_2bit(const uint8_t *src, int8_t *q) {
    for (size_t c = 0; c < 2; c++, src += 32, q += 128) {
        for (size_t j = 0; j < 32; j++) {
            q[j] = (int8_t)(src[j] & 3);
            q[j + 32] = (int8_t)(src[j] >> 2 & 3);
            q[j + 64] = (int8_t)(src[j] >> 4 & 3);
            q[j + 96] = (int8_t)(src[j] >> 6);
        }
    }
}

/* Fields of an integer, low end first, each to a byte of its own. */
static inline uint64_t spread_bits(uint8_t x) {
    uint64_t v = x * 0x0101010101010101u & 0x8040201008040201u;
    return (v + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
}

static inline uint64_t spread_pairs(uint16_t x) {
    uint64_t v = (x | (uint64_t)x << 24) & 0x000000ff000000ffu;
    v = (v | v << 12) & 0x000f000f000f000fu;
    return (v | v << 6) & 0x0303030303030303u;
}

static inline uint64_t spread_nibbles(uint16_t lo, uint16_t hi) {
    uint64_t v = lo | (uint64_t)hi << 32;
    v = (v | v << 8) & 0x00ff00ff00ff00ffu;
    return (v | v << 4) & 0x0f0f0f0f0f0f0f0fu;
}

/* Adds bit j of a 32-bit field, times 16, to q[j]. */
static inline void add_fifth_bit(const uint8_t qh[4], int8_t q[32]) {
    for (size_t i = 0; i < 4; i++) {
        uint64_t v;
        memcpy(&v, q + 8 * i, 8);
        v ^= 0x8080808080808080u; /* to unsigned, so that no byte carries into the next */
        v += spread_bits(qh[i]) << 4;
        v ^= 0x8080808080808080u;
        memcpy(q + 8 * i, &v, 8);
    }
}

static inline unsigned nibble_at(const uint8_t *x, size_t i) {
    return (unsigned)x[i / 2] >> 4 * (i % 2) & 15;
}

/* --- blocks of 32, 64 and 128 ----------------------------------------------------------------------------------- */

void llmoi_unpack_Q4_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_q4_0, b, src, i);
        nibbles(b.qs, dst->q + 32 * i, 16, 8);
        set_group32(dst, i, llmoi_f16_to_f32(b.d), 0.0f);
    }
}

void llmoi_unpack_Q4_1(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_q4_1, b, src, i);
        nibbles(b.qs, dst->q + 32 * i, 16, 0);
        set_group32(dst, i, llmoi_f16_to_f32(b.d), llmoi_f16_to_f32(b.m));
    }
}

void llmoi_unpack_Q5_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_q5_0, b, src, i);
        nibbles(b.qs, dst->q + 32 * i, 16, 16);
        add_fifth_bit(b.qh, dst->q + 32 * i);
        set_group32(dst, i, llmoi_f16_to_f32(b.d), 0.0f);
    }
}

void llmoi_unpack_Q5_1(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_q5_1, b, src, i);
        nibbles(b.qs, dst->q + 32 * i, 16, 0);
        add_fifth_bit(b.qh, dst->q + 32 * i);
        set_group32(dst, i, llmoi_f16_to_f32(b.d), llmoi_f16_to_f32(b.m));
    }
}

void llmoi_unpack_Q8_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_q8_0, b, src, i);
        memcpy(dst->q + 32 * i, b.qs, 32);
        set_group32(dst, i, llmoi_f16_to_f32(b.d), 0.0f);
    }
}

void llmoi_unpack_IQ4_NL(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_iq4_nl, b, src, i);
        nibbles_by_list(b.qs, dst->q + 32 * i, 16, llmoi_values_iq4);
        set_group32(dst, i, llmoi_f16_to_f32(b.d), 0.0f);
    }
}

float llmoi_e8m0_half(uint8_t e) {
    /* 2^-128 and 2^-127 are subnormal */
    uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1u) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

void llmoi_unpack_MXFP4(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 32; i++) {
        TAKE(llmoi_block_mxfp4, b, src, i);
        nibbles_by_list(b.qs, dst->q + 32 * i, 16, llmoi_values_fp4);
        set_group32(dst, i, llmoi_e8m0_half(b.e), 0.0f);
    }
}

/* Half the value of an unsigned E4M3 number, for the doubled FP4 values. The top bit is not part of it. */
static float ue4m3_half(uint8_t x) {
    uint32_t mantissa = x & 7u, exponent = x >> 3 & 15u;
    if (x == 0x7f) return 0.0f;
    if (exponent == 0) return (float)mantissa * 0x1p-10f;
    uint32_t bits = (exponent + 127 - 7 - 1) << 23 | mantissa << 20;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

void llmoi_unpack_NVFP4(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 64; i++) {
        TAKE(llmoi_block_nvfp4, b, src, i);
        for (size_t g = 0; g < 4; g++) {
            nibbles_by_list(b.qs + 8 * g, dst->q + 64 * i + 16 * g, 8, llmoi_values_fp4);
            set_group16(dst, 4 * i + g, ue4m3_half(b.d[g]), 0.0f);
        }
    }
}

void llmoi_unpack_Q1_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 128; i++) {
        TAKE(llmoi_block_q1_0, b, src, i);
        for (size_t j = 0; j < 16; j++) {
            /* bit 1: 1, bit 0: -1 = 0xff; 0xff and 0x02 do not carry out of a byte when xored */
            uint64_t v = 0xffffffffffffffffu ^ spread_bits(b.qs[j]) * 0xfe;
            memcpy(dst->q + 128 * i + 8 * j, &v, 8);
        }
        for (size_t g = 0; g < 4; g++) set_group32(dst, 4 * i + g, llmoi_f16_to_f32(b.d), 0.0f);
    }
}

void llmoi_unpack_Q2_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    for (size_t i = 0; i < n / 64; i++) {
        TAKE(llmoi_block_q2_0, b, src, i);
        for (size_t j = 0; j < 8; j++) {
            uint64_t v = spread_pairs((uint16_t)(b.qs[2 * j] | b.qs[2 * j + 1] << 8));
            v = (v + 0x7f7f7f7f7f7f7f7fu) ^
                0x8080808080808080u; /* minus 1, as unsigned + 128 so that no byte borrows */
            memcpy(dst->q + 64 * i + 8 * j, &v, 8);
        }
        for (size_t g = 0; g < 2; g++) set_group32(dst, 2 * i + g, llmoi_f16_to_f32(b.d), 0.0f);
    }
}

/* --- K-quants --------------------------------------------------------------------------------------------------- */

void llmoi_unpack_Q2_K(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_q2_k, b, src, 0);
    float d = llmoi_f16_to_f32(b.d), dmin = llmoi_f16_to_f32(b.dmin);
    planes_2bit(b.qs, dst->q);
    for (size_t g = 0; g < 16; g++) {
        set_group16(dst, g, d * (float)(b.scales[g] & 15), -(dmin * (float)(b.scales[g] >> 4)));
    }
}

void llmoi_unpack_Q3_K(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_q3_k, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    planes_2bit(b.qs, dst->q);
    for (size_t p = 0; p < 8; p++) {
        for (size_t j = 0; j < 32; j++) {
            int8_t *q = &dst->q[32 * p + j];
            *q = (int8_t)(*q - 4 + 4 * (b.hmask[j] >> p & 1));
        }
    }
    for (size_t g = 0; g < 16; g++) {
        int low = b.scales[g % 8] >> 4 * (g / 8) & 15;
        int high = b.scales[8 + g % 4] >> 2 * (g / 4) & 3;
        set_group16(dst, g, d * (float)((low | high << 4) - 32), 0.0f);
    }
}

/* The 6-bit scales (first eight) and mins (last eight) of Q4_K and Q5_K. */
static void scales_6bit(const uint8_t packed[12], uint8_t out[16]) {
    for (size_t k = 0; k < 4; k++) {
        out[k] = packed[k] & 63;
        out[k + 8] = packed[k + 4] & 63;
        out[k + 4] = (uint8_t)((packed[k + 8] & 15) | (packed[k] >> 6) << 4);
        out[k + 12] = (uint8_t)(packed[k + 8] >> 4 | (packed[k + 4] >> 6) << 4);
    }
}

static void set_scales_6bit(llmoi_span *dst, uint16_t d_bits, uint16_t dmin_bits, const uint8_t packed[12]) {
    float d = llmoi_f16_to_f32(d_bits), dmin = llmoi_f16_to_f32(dmin_bits);
    uint8_t s[16];
    scales_6bit(packed, s);
    for (size_t g = 0; g < 8; g++) set_group32(dst, g, d * (float)s[g], -(dmin * (float)s[g + 8]));
}

void llmoi_unpack_Q4_K(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_q4_k, b, src, 0);
    for (size_t c = 0; c < 4; c++) nibbles(b.qs + 32 * c, dst->q + 64 * c, 32, 0);
    set_scales_6bit(dst, b.d, b.dmin, b.scales);
}

void llmoi_unpack_Q5_K(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_q5_k, b, src, 0);
    for (size_t c = 0; c < 4; c++) nibbles(b.qs + 32 * c, dst->q + 64 * c, 32, 0);
    for (size_t p = 0; p < 8; p++) {
        for (size_t j = 0; j < 32; j++) {
            int8_t *q = &dst->q[32 * p + j];
            *q = (int8_t)(*q + 16 * (b.qh[j] >> p & 1));
        }
    }
    set_scales_6bit(dst, b.d, b.dmin, b.scales);
}

void llmoi_unpack_Q6_K(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_q6_k, b, src, 0);
    int8_t high[LLMOI_SPAN];
    float d = llmoi_f16_to_f32(b.d);
    planes_2bit(b.qh, high);
    for (size_t c = 0; c < 2; c++) nibbles(b.ql + 64 * c, dst->q + 128 * c, 64, 32);
    for (size_t j = 0; j < LLMOI_SPAN; j++) dst->q[j] = (int8_t)(dst->q[j] + 16 * high[j]);
    for (size_t g = 0; g < 16; g++) set_group16(dst, g, d * (float)b.scales[g], 0.0f);
}

/* --- grid types -------------------------------------------------------------------------------------------------- */

/* Eight bytes 1..127 with the signs of an 8-bit mask. A byte is never 0, so ~x + 1 does not carry out of it. */
static inline void put_signed(int8_t *q, uint64_t v, uint8_t mask) {
    uint64_t m = spread_bits(mask);
    v = (v ^ m * 0xff) + m;
    memcpy(q, &v, 8);
}

/* Seven signs, and an eighth that makes their number even. */
static inline uint8_t even_signs(uint32_t x) {
    x &= 127;
    uint32_t p = x ^ x >> 4;
    return (uint8_t)(x | (0x6996u >> (p & 15) & 1) << 7);
}

/* Fields 0, 1, 2 are the values 8, 25, 43. */
static inline uint64_t iq2_values(uint16_t entry) {
    uint64_t x = spread_pairs(entry);
    return x * 17 + (x >> 1 & 0x0101010101010101u) + 0x0808080808080808u;
}

/* Fields 0 .. 7 are 4, 12, ..., 52 and 62 (not 60). */
static inline uint64_t iq3_xxs_values(uint16_t lo, uint16_t hi) {
    uint64_t x = spread_nibbles(lo, hi);
    uint64_t last = (x + 0x0101010101010101u) >> 3 & 0x0101010101010101u;
    return x * 8 + last * 2 + 0x0404040404040404u;
}

/* Fields 0 .. 7 are 1, 3, ..., 15. */
static inline uint64_t iq3_s_values(uint16_t lo, uint16_t hi) {
    return spread_nibbles(lo, hi) * 2 + 0x0101010101010101u;
}

/* Eighths: 8 * (field - 1) + 1, or - 1 if minus. Built as unsigned + 128 so that no byte borrows. */
static inline void put_iq1(int8_t *q, uint16_t entry, unsigned minus) {
    uint64_t v = spread_pairs(entry) * 8 + 0x7979797979797979u - (minus & 1u) * 0x0202020202020202u;
    v ^= 0x8080808080808080u;
    memcpy(q, &v, 8);
}

void llmoi_unpack_IQ2_XXS(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq2_xxs, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t g = 0; g < 8; g++) {
        uint8_t codes[4];
        uint32_t signs;
        memcpy(codes, b.qs + 4 * g, 4);
        memcpy(&signs, b.qs + 4 * g + 2, 4);
        for (size_t k = 0; k < 4; k++) {
            put_signed(dst->q + 32 * g + 8 * k, iq2_values(llmoi_grid_iq2_xxs[codes[k]]), even_signs(signs >> 7 * k));
        }
        set_group32(dst, g, d * (0.5f + (float)(signs >> 28)) * 0.25f, 0.0f);
    }
}

void llmoi_unpack_IQ2_XS(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq2_xs, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t k = 0; k < 32; k++) {
        put_signed(dst->q + 8 * k, iq2_values(llmoi_grid_iq2_xs[b.qs[k] & 511]), even_signs(b.qs[k] >> 9));
    }
    for (size_t g = 0; g < 16; g++) set_group16(dst, g, d * (0.5f + (float)nibble_at(b.scales, g)) * 0.25f, 0.0f);
}

void llmoi_unpack_IQ2_S(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq2_s, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t k = 0; k < 32; k++) {
        unsigned code = b.qs[k] | ((unsigned)b.qh[k / 4] >> 2 * (k % 4) & 3) << 8;
        put_signed(dst->q + 8 * k, iq2_values(llmoi_grid_iq2_s[code]), b.signs[k]);
    }
    for (size_t g = 0; g < 16; g++) set_group16(dst, g, d * (0.5f + (float)nibble_at(b.scales, g)) * 0.25f, 0.0f);
}

void llmoi_unpack_IQ3_XXS(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq3_xxs, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t g = 0; g < 8; g++) {
        const uint8_t *codes = b.qs + 8 * g;
        uint32_t signs;
        memcpy(&signs, b.signs + 2 * g, 4);
        for (size_t k = 0; k < 4; k++) {
            uint64_t v = iq3_xxs_values(llmoi_grid_iq3_xxs[codes[2 * k]], llmoi_grid_iq3_xxs[codes[2 * k + 1]]);
            put_signed(dst->q + 32 * g + 8 * k, v, even_signs(signs >> 7 * k));
        }
        set_group32(dst, g, d * (0.5f + (float)(signs >> 28)) * 0.5f, 0.0f);
    }
}

void llmoi_unpack_IQ3_S(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq3_s, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t k = 0; k < 32; k++) {
        unsigned high = (unsigned)b.qh[k / 4] >> 2 * (k % 4);
        unsigned lo = b.qs[2 * k] | (high & 1) << 8, hi = b.qs[2 * k + 1] | (high & 2) << 7;
        put_signed(dst->q + 8 * k, iq3_s_values(llmoi_grid_iq3_s[lo], llmoi_grid_iq3_s[hi]), b.signs[k]);
    }
    for (size_t g = 0; g < 8; g++) set_group32(dst, g, d * (float)(1 + 2 * nibble_at(b.scales, g)), 0.0f);
}

void llmoi_unpack_IQ1_S(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq1_s, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t g = 0; g < 8; g++) {
        unsigned qh = b.qh[g];
        for (size_t k = 0; k < 4; k++) {
            unsigned code = b.qs[4 * g + k] | (qh >> 3 * k & 7) << 8;
            put_iq1(dst->q + 32 * g + 8 * k, llmoi_grid_iq1[code], qh >> 15);
        }
        set_group32(dst, g, d * (float)(2 * (qh >> 12 & 7) + 1) * 0.125f, 0.0f);
    }
}

void llmoi_unpack_IQ1_M(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq1_m, b, src, 0);
    unsigned d_bits = 0;
    for (size_t i = 0; i < 4; i++) d_bits |= (unsigned)(b.scales[i] >> 12) << 4 * i;
    float d = llmoi_f16_to_f32((uint16_t)d_bits);
    for (size_t k = 0; k < 32; k++) {
        unsigned high = nibble_at(b.qh, k);
        put_iq1(dst->q + 8 * k, llmoi_grid_iq1[b.qs[k] | (high & 7) << 8], high >> 3);
    }
    for (size_t g = 0; g < 16; g++) {
        unsigned s = (unsigned)b.scales[g / 4] >> 3 * (g % 4) & 7;
        set_group16(dst, g, d * (float)(2 * s + 1) * 0.125f, 0.0f);
    }
}

void llmoi_unpack_IQ4_XS(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_iq4_xs, b, src, 0);
    float d = llmoi_f16_to_f32(b.d);
    for (size_t g = 0; g < 8; g++) {
        unsigned s = nibble_at(b.scales_l, g) | ((unsigned)b.scales_h >> 2 * g & 3) << 4;
        nibbles_by_list(b.qs + 16 * g, dst->q + 32 * g, 16, llmoi_values_iq4);
        set_group32(dst, g, d * (float)((int)s - 32), 0.0f);
    }
}

/* --- ternary ----------------------------------------------------------------------------------------------------- */

/* Trits 0 .. count-1 of n bytes, minus 1; trit t of byte j goes to q[n t + j]. */
static inline void trits(const uint8_t *src, int8_t *q, size_t n, size_t count) {
    unsigned power = 1;
    for (size_t t = 0; t < count; t++, power *= 3) {
        for (size_t j = 0; j < n; j++) q[n * t + j] = (int8_t)(((src[j] * power & 255u) * 3 >> 8) - 1);
    }
}

void llmoi_unpack_TQ1_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_tq1_0, b, src, 0);
    trits(b.qs, dst->q, 32, 5);
    trits(b.qs + 32, dst->q + 160, 16, 5);
    trits(b.qh, dst->q + 240, 4, 4);
    for (size_t g = 0; g < 8; g++) set_group32(dst, g, llmoi_f16_to_f32(b.d), 0.0f);
}

void llmoi_unpack_TQ2_0(const void *src, llmoi_span *dst, size_t n) {
    clear_tail(dst, n);
    if (n == 0) return;
    TAKE(llmoi_block_tq2_0, b, src, 0);
    planes_2bit(b.qs, dst->q);
    for (size_t j = 0; j < LLMOI_SPAN; j++) dst->q[j] = (int8_t)(dst->q[j] - 1);
    for (size_t g = 0; g < 8; g++) set_group32(dst, g, llmoi_f16_to_f32(b.d), 0.0f);
}
