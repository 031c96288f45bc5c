/* The table of block types, the reference decoders and the half conversions. A decoder is the integer form of
 * quant_unpack.c multiplied out in f32: every format defines its values as scale * integer (+ offset), so this is exact
 * to the bit. Knows nothing of tensors or files. */
#include "quant_parts.h"

#include <string.h>

/* --- half conversions ------------------------------------------------------------------------------------------- */

static inline float as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t as_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* With masks for branches, so that loops over it vectorize. */
static inline float half_to_float(uint16_t h) {
    uint32_t sign = (h & 0x8000u) << 16, rest = h & 0x7fffu, bias = (127u - 15u) << 23;
    uint32_t is_special = 0u - (rest >= 0x7c00), is_subnormal = 0u - (rest < 0x0400);
    uint32_t subnormal = as_bits((float)(int32_t)rest * 0x1p-24f);
    uint32_t other = (rest << 13) + bias + (bias & is_special); /* infinity and NaN: exponent 31 to 255 */
    return as_float(sign | (subnormal & is_subnormal) | (other & ~is_subnormal));
}

float llmoi_f16_to_f32(uint16_t h) {
    return half_to_float(h);
}

uint16_t llmoi_f32_to_f16(float f) {
    uint32_t bits = as_bits(f), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (rest >> 13 & 0x1ff)); /* NaN, quiet */
    if (rest >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);                       /* >= 65520 rounds to infinity */
    if (rest >= 0x38800000u) {                                                        /* >= 2^-14: normal half */
        rest += 0xfffu + (rest >> 13 & 1);
        return (uint16_t)(sign | ((rest >> 13) - ((127u - 15u) << 10)));
    }
    /* subnormal half: 0.5 has an ulp of 2^-24, so the sum rounds as needed, to nearest even */
    return (uint16_t)(sign | (as_bits(as_float(rest) + 0.5f) - 0x3f000000u));
}

float llmoi_bf16_to_f32(uint16_t h) {
    return as_float((uint32_t)h << 16);
}

uint16_t llmoi_f32_to_bf16(float f) {
    uint32_t bits = as_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40); /* NaN, quiet */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* --- decode ------------------------------------------------------------------------------------------------------ */

typedef void (*unpack_fn)(const void *src, llmoi_span *dst, size_t n);

/* The offset is added only where the format has one: -0 + 0 would lose its sign. */
static void decode_spans(unpack_fn unpack, size_t block_bytes, size_t block_elems, bool has_offset, const void *src,
                         float *dst, size_t n) {
    const unsigned char *in = src;
    llmoi_span s;
    for (size_t i = 0; i < n; i += LLMOI_SPAN) {
        size_t count = n - i < LLMOI_SPAN ? n - i : LLMOI_SPAN;
        unpack(in + i / block_elems * block_bytes, &s, count);
        for (size_t g = 0; g < count / 16; g++) {
            const int8_t *q = s.q + 16 * g;
            float *out = dst + i + 16 * g;
            for (size_t j = 0; j < 16; j++) out[j] = s.scale[g] * (float)q[j];
            if (!has_offset) continue;
            for (size_t j = 0; j < 16; j++) out[j] += s.offset[g];
        }
    }
}

static void decode_floats(const void *src, float *dst, size_t n) {
    memcpy(dst, src, n * sizeof(float));
}

static void decode_halves(const void *src, float *dst, size_t n) {
    const unsigned char *in = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, 2);
        dst[i] = half_to_float(h);
    }
}

static void decode_bf16(const void *src, float *dst, size_t n) {
    const unsigned char *in = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, in + 2 * i, 2);
        dst[i] = llmoi_bf16_to_f32(h);
    }
}

/* --- the table --------------------------------------------------------------------------------------------------- */

#define HAS_OFFSET(no)                                                                                                 \
    ((no) == LLMOI_TYPE_Q4_1 || (no) == LLMOI_TYPE_Q5_1 || (no) == LLMOI_TYPE_Q2_K || (no) == LLMOI_TYPE_Q4_K ||       \
     (no) == LLMOI_TYPE_Q5_K)

/* No integer form for float types; so no function of that name is ever linked. */
#define llmoi_unpack_F32  NULL
#define llmoi_unpack_F16  NULL
#define llmoi_unpack_BF16 NULL

/* decode_Q4_0, ...; those of the float types stay unused */
#define X(no, name, block, elems, group)                                                                               \
    __attribute__((unused)) static void decode_##name(const void *src, float *dst, size_t n) {                         \
        decode_spans(llmoi_unpack_##name, sizeof(block), elems, HAS_OFFSET(no), src, dst, n);                          \
    }                                                                                                                  \
    _Static_assert(LLMOI_SPAN % (elems) == 0, "whole blocks fill a span");
#include "quant.def"
#undef X
#define decode_F32  decode_floats
#define decode_F16  decode_halves
#define decode_BF16 decode_bf16

enum {
#define X(no, name, block, elems, group) ROW_##name,
#include "quant.def"
#undef X
    ROW_COUNT
};

static const llmoi_type_info table[ROW_COUNT] = {
#define X(no, name, block, elems, group)                                                                               \
    {no, #name, elems, sizeof(block), group, HAS_OFFSET(no), decode_##name, llmoi_encode_##name, llmoi_unpack_##name},
#include "quant.def"
#undef X
};

static const llmoi_type_info *const by_number[] = {
#define X(no, name, block, elems, group) [no] = &table[ROW_##name],
#include "quant.def"
#undef X
};

const llmoi_type_info *llmoi_type_find(uint32_t type) {
    return type < sizeof by_number / sizeof by_number[0] ? by_number[type] : NULL;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; /* tolower() would depend on the locale */
}

const llmoi_type_info *llmoi_type_find_name(const char *name) {
    for (size_t i = 0; name && i < ROW_COUNT; i++) {
        size_t k = 0;
        while (name[k] && lower(name[k]) == lower(table[i].name[k])) k++;
        if (!name[k] && !table[i].name[k]) return &table[i];
    }
    return NULL;
}

const llmoi_type_info *llmoi_type_table(size_t *count) {
    *count = ROW_COUNT;
    return table;
}
