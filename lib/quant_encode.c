/* Encoders: F32 rows into blocks. Types with one obvious rounding (floats, Q4_0 .. Q8_0) follow the format's usual one
 * to the bit; for the others scales are searched for the least squared error. Any input is safe: NaN codes as the
 * lowest value, infinities saturate. Speed is secondary. Knows nothing of tensors or files. */
#include "quant_parts.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* --- helpers ---------------------------------------------------------------------------------------------------- */

/* Block i of dst, copied out: dst has any alignment. */
#define PUT(dst, i, var) memcpy((unsigned char *)(dst) + (i) * sizeof(var), &(var), sizeof(var))

/* NaN gives lo. The casts of what this returns are defined for any x. */
static float clamp(float x, float lo, float hi) {
    return x >= lo ? (x <= hi ? x : hi) : lo;
}

/* To the nearest integer, ties to even, for |x| <= 2^22; unlike rintf it vectorizes on any machine. */
static float to_integer(float x) {
    return x + 0x1.8p23f - 0x1.8p23f;
}

/* To the nearest integer, ties away from zero, as roundf. */
static int away_from_zero(float x) {
    int i = (int)x;
    float rest = x - (float)i;
    return i + (rest >= 0.5f) - (rest <= -0.5f);
}

static float inverse(float d) {
    return d != 0.0f ? 1.0f / d : 0.0f; /* infinite for a subnormal d; users clamp */
}

/* A scale as it will be read back. Beyond the largest half it saturates, so that searches stay finite. */
static float to_half(float x, uint16_t *bits) {
    *bits = llmoi_f32_to_f16(clamp(x, -65504.0f, 65504.0f));
    return llmoi_f16_to_f32(*bits);
}

/* The first element of the largest magnitude; NaN never is. */
static float largest(const float *x, size_t n) {
    float amax = 0.0f, max = 0.0f;
    for (size_t j = 0; j < n; j++) {
        if (fabsf(x[j]) > amax) {
            amax = fabsf(x[j]);
            max = x[j];
        }
    }
    return max;
}

static void range(const float *x, size_t n, float *min, float *max) {
    *min = FLT_MAX;
    *max = -FLT_MAX;
    for (size_t j = 0; j < n; j++) {
        if (x[j] < *min) *min = x[j];
        if (x[j] > *max) *max = x[j];
    }
}

/* Codes of 2 n elements into nibbles: byte j has element j (low) and element j + n (high). */
static void put_nibbles(const uint8_t *codes, uint8_t *qs, size_t n) {
    for (size_t j = 0; j < n; j++) qs[j] = (uint8_t)((codes[j] & 15) | codes[j + n] << 4);
}

static void put_fifth_bits(const uint8_t codes[32], uint8_t qh[4]) {
    memset(qh, 0, 4);
    for (size_t j = 0; j < 32; j++) qh[j / 8] = (uint8_t)(qh[j / 8] | (codes[j] >> 4 & 1) << j % 8);
}

/* --- floats ------------------------------------------------------------------------------------------------------- */

void llmoi_encode_F32(const float *src, void *dst, size_t n) {
    memcpy(dst, src, n * sizeof *src);
}

void llmoi_encode_F16(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = llmoi_f32_to_f16(src[i]);
        PUT(dst, i, h);
    }
}

void llmoi_encode_BF16(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint16_t h = llmoi_f32_to_bf16(src[i]);
        PUT(dst, i, h);
    }
}

/* --- blocks of 32 with the usual rounding ------------------------------------------------------------------------- *
 * Codes come from the unrounded scale, as every writer of these formats does it. */

/* Symmetric: the largest element becomes the lowest code, -half. */
static float symmetric_codes(const float *x, float half, uint8_t codes[32]) {
    float d = largest(x, 32) / -half, id = inverse(d);
    for (size_t j = 0; j < 32; j++) codes[j] = (uint8_t)clamp(x[j] * id + (half + 0.5f), 0.0f, 2.0f * half - 1.0f);
    return d;
}

static float affine_codes(const float *x, float top, uint8_t codes[32], float *min) {
    float max;
    range(x, 32, min, &max);
    float d = (max - *min) / top, id = inverse(d);
    for (size_t j = 0; j < 32; j++) codes[j] = (uint8_t)clamp((x[j] - *min) * id + 0.5f, 0.0f, top);
    return d;
}

void llmoi_encode_Q4_0(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        llmoi_block_q4_0 b;
        uint8_t codes[32];
        b.d = llmoi_f32_to_f16(symmetric_codes(src + 32 * i, 8.0f, codes));
        put_nibbles(codes, b.qs, 16);
        PUT(dst, i, b);
    }
}

void llmoi_encode_Q4_1(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        llmoi_block_q4_1 b;
        uint8_t codes[32];
        float min;
        b.d = llmoi_f32_to_f16(affine_codes(src + 32 * i, 15.0f, codes, &min));
        b.m = llmoi_f32_to_f16(min);
        put_nibbles(codes, b.qs, 16);
        PUT(dst, i, b);
    }
}

void llmoi_encode_Q5_0(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        llmoi_block_q5_0 b;
        uint8_t codes[32];
        b.d = llmoi_f32_to_f16(symmetric_codes(src + 32 * i, 16.0f, codes));
        put_nibbles(codes, b.qs, 16);
        put_fifth_bits(codes, b.qh);
        PUT(dst, i, b);
    }
}

void llmoi_encode_Q5_1(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        llmoi_block_q5_1 b;
        uint8_t codes[32];
        float min;
        b.d = llmoi_f32_to_f16(affine_codes(src + 32 * i, 31.0f, codes, &min));
        b.m = llmoi_f32_to_f16(min);
        put_nibbles(codes, b.qs, 16);
        put_fifth_bits(codes, b.qh);
        PUT(dst, i, b);
    }
}

void llmoi_encode_Q8_0(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        const float *x = src + 32 * i;
        llmoi_block_q8_0 b;
        float d = fabsf(largest(x, 32)) / 127.0f, id = inverse(d);
        b.d = llmoi_f32_to_f16(d);
        /* -128 is never written: some readers cannot negate it */
        for (size_t j = 0; j < 32; j++) b.qs[j] = (int8_t)away_from_zero(clamp(x[j] * id, -127.0f, 127.0f));
        PUT(dst, i, b);
    }
}

/* --- search: symmetric, one scale over 16 or 32 elements -----------------------------------------------------------
 */

/* Writes the value nearest to x * id for each of n <= 32 elements. */
typedef void (*nearest_fn)(const float *x, float id, size_t n, float *values);

/* Walks the ascending list by thresholds: a fixed count of compares, so that the loop over elements vectorizes. */
static void nearest_iq4(const float *x, float id, size_t n, float *values) {
    for (size_t j = 0; j < n; j++) values[j] = (float)llmoi_values_iq4[0];
    for (size_t k = 1; k < 16; k++) {
        float value = (float)llmoi_values_iq4[k], middle = 0.5f * ((float)llmoi_values_iq4[k - 1] + value);
        for (size_t j = 0; j < n; j++) values[j] = x[j] * id > middle ? value : values[j];
    }
}

static void nearest_q6(const float *x, float id, size_t n, float *values) {
    for (size_t j = 0; j < n; j++) values[j] = to_integer(clamp(x[j] * id, -32.0f, 31.0f));
}

/* The scale of least squared error for x ~ scale * value, among those that put the largest element near either end of
 * the values (lowest < 0 < highest), each refined to the least-squares scale of the values it selects. */
static float search_scale(const float *x, size_t n, nearest_fn nearest, float lowest, float highest) {
    float v[32], max = clamp(largest(x, n), -FLT_MAX, FLT_MAX), best_scale = 0.0f, best = 0.0f;
    if (max == 0.0f) return 0.0f;
    for (int end = 0; end < 2; end++) {
        for (int t = -5; t <= 5; t++) {
            float id = (end ? highest : lowest) * (1.0f + 0.02f * (float)t) / max;
            float xv = 0.0f, vv = 0.0f;
            nearest(x, id, n, v);
            for (size_t j = 0; j < n; j++) {
                xv += x[j] * v[j];
                vv += v[j] * v[j];
            }
            /* the squared error is sum x^2 - xv^2 / vv */
            if (vv > 0.0f && xv * xv > best * vv) {
                best = xv * xv / vv;
                best_scale = xv / vv;
            }
        }
    }
    return best_scale;
}

static uint8_t iq4_code(float value) {
    unsigned k = 0;
    while (k < 15 && (float)llmoi_values_iq4[k] < value) k++;
    return (uint8_t)k;
}

void llmoi_encode_IQ4_NL(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        const float *x = src + 32 * i;
        llmoi_block_iq4_nl b;
        uint8_t codes[32];
        float values[32];
        nearest_iq4(x, inverse(to_half(search_scale(x, 32, nearest_iq4, -127.0f, 113.0f), &b.d)), 32, values);
        for (size_t j = 0; j < 32; j++) codes[j] = iq4_code(values[j]);
        put_nibbles(codes, b.qs, 16);
        PUT(dst, i, b);
    }
}

static uint8_t nearest_fp4(float x) {
    unsigned best = 0;
    float ax = fabsf(x);
    for (unsigned k = 1; k < 8; k++) {
        /* ties to the smaller magnitude */
        if (ax - (float)llmoi_values_fp4[best] > (float)llmoi_values_fp4[k] - ax) best = k;
    }
    return (uint8_t)(x < 0.0f ? best + 8 : best);
}

/* Sum of squared errors for scale 2^(e - 128). */
static double fp4_error(const float *x, uint8_t e, uint8_t codes[32]) {
    float d = llmoi_e8m0_half(e);
    double sum = 0.0;
    for (size_t j = 0; j < 32; j++) {
        codes[j] = nearest_fp4(clamp(x[j], -FLT_MAX, FLT_MAX) / d);
        double err = (double)x[j] - (double)d * llmoi_values_fp4[codes[j]];
        sum += err * err;
    }
    return sum;
}

void llmoi_encode_MXFP4(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 32; i++) {
        const float *x = src + 32 * i;
        llmoi_block_mxfp4 b = {0};
        int exponent = 0; /* the largest magnitude is in [1/2, 1) * 2^exponent */
        float max = clamp(largest(x, 32), -FLT_MAX, FLT_MAX);
        double best = INFINITY;
        if (max != 0.0f) (void)frexpf(max, &exponent);
        /* the usual choice lets the largest code reach 1.5 times 2^(exponent - 1); its neighbours may fit better */
        for (int e = exponent + 123; max != 0.0f && e <= exponent + 125; e++) {
            uint8_t codes[32], stored = (uint8_t)(e < 0 ? 0 : e > 254 ? 254 : e);
            double err = fp4_error(x, stored, codes);
            if (err < best || e == exponent + 123) {
                best = err;
                b.e = stored;
                put_nibbles(codes, b.qs, 16);
            }
        }
        PUT(dst, i, b);
    }
}

void llmoi_encode_Q6_K(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 256; i++) {
        const float *x = src + 256 * i;
        llmoi_block_q6_k b = {0};
        float scales[16];
        uint8_t codes[256];
        for (size_t g = 0; g < 16; g++) scales[g] = search_scale(x + 16 * g, 16, nearest_q6, -32.0f, 31.0f);
        float d = to_half(largest(scales, 16) / -128.0f, &b.d), id = inverse(d);
        for (size_t g = 0; g < 16; g++) {
            int chosen = (int)to_integer(clamp(scales[g] * id, -128.0f, 127.0f));
            b.scales[g] = (int8_t)chosen;
            float values[16];
            nearest_q6(x + 16 * g, inverse(d * (float)chosen), 16, values);
            for (size_t j = 0; j < 16; j++) codes[16 * g + j] = (uint8_t)(values[j] + 32.0f);
        }
        for (size_t c = 0; c < 2; c++) {
            put_nibbles(codes + 128 * c, b.ql + 64 * c, 64);
            for (size_t j = 0; j < 128; j++) {
                uint8_t *h = &b.qh[32 * c + j % 32];
                *h = (uint8_t)(*h | codes[128 * c + j] >> 4 << 2 * (j / 32));
            }
        }
        PUT(dst, i, b);
    }
}

/* --- search: scale and minimum over 32 elements, x ~ scale * q - min -----------------------------------------------
 */

typedef struct affine {
    float scale, min; /* both >= 0 */
} affine;

static double affine_error(const float *x, affine a, float top) {
    float id = inverse(a.scale);
    double sum = 0.0;
    for (size_t j = 0; j < 32; j++) {
        float q = to_integer(clamp((x[j] + a.min) * id, 0.0f, top));
        double err = (double)x[j] + (double)a.min - (double)a.scale * (double)q;
        sum += err * err;
    }
    return sum;
}

/* The least-squares line through the codes that scale 1 / id and minimum -lo select. */
static affine refine(const float *x, float lo, float id, float top) {
    double sx = 0.0, sq = 0.0, sqq = 0.0, sxq = 0.0;
    for (size_t j = 0; j < 32; j++) {
        double q = (double)to_integer(clamp((x[j] - lo) * id, 0.0f, top));
        sx += (double)x[j];
        sq += q;
        sqq += q * q;
        sxq += (double)x[j] * q;
    }
    double det = 32.0 * sqq - sq * sq, scale = 0.0, min = 0.0;
    if (det > 0.0) {
        scale = (32.0 * sxq - sx * sq) / det;
        min = (scale * sq - sx) / 32.0;
    }
    if (min < 0.0 || det <= 0.0) { /* the format has no positive offsets */
        min = 0.0;
        scale = sqq > 0.0 ? sxq / sqq : 0.0;
    }
    return (affine){clamp((float)scale, 0.0f, FLT_MAX), clamp((float)min, 0.0f, FLT_MAX)};
}

static affine search_affine(const float *x, float top) {
    float lo, hi;
    range(x, 32, &lo, &hi);
    lo = clamp(lo, -FLT_MAX / 4, 0.0f);
    hi = clamp(hi, lo, FLT_MAX / 4);
    affine best = {0.0f, -lo};
    double best_error = affine_error(x, best, top);
    for (int t = -10; t <= 10; t++) {
        affine a = refine(x, lo, (top + 0.1f * (float)t) * inverse(hi - lo), top);
        double err = affine_error(x, a, top);
        if (err < best_error) {
            best_error = err;
            best = a;
        }
    }
    return best;
}

/* The 6-bit scale and min nearest to a, or neighbours of them that fit x better. */
static void choose_6bit(const float *x, affine a, float d, float dmin, float top, uint8_t *scale, uint8_t *min) {
    int s0 = (int)to_integer(clamp(a.scale * inverse(d), 0.0f, 63.0f));
    int m0 = (int)to_integer(clamp(a.min * inverse(dmin), 0.0f, 63.0f));
    double best = INFINITY;
    *scale = (uint8_t)s0;
    *min = (uint8_t)m0;
    for (int s = s0 - 1; s <= s0 + 1; s++) {
        for (int m = m0 - 1; m <= m0 + 1; m++) {
            if (s < 0 || s > 63 || m < 0 || m > 63) continue;
            double err = affine_error(x, (affine){d * (float)s, dmin * (float)m}, top);
            if (err < best) {
                best = err;
                *scale = (uint8_t)s;
                *min = (uint8_t)m;
            }
        }
    }
}

/* What Q4_K and Q5_K share: everything but the place of the codes. */
static void encode_6bit(const float *x, float top, uint16_t *d_bits, uint16_t *dmin_bits, uint8_t packed[12],
                        uint8_t codes[256]) {
    affine a[8];
    float max_scale = 0.0f, max_min = 0.0f;
    for (size_t g = 0; g < 8; g++) {
        a[g] = search_affine(x + 32 * g, top);
        max_scale = a[g].scale > max_scale ? a[g].scale : max_scale;
        max_min = a[g].min > max_min ? a[g].min : max_min;
    }
    float d = to_half(max_scale / 63.0f, d_bits), dmin = to_half(max_min / 63.0f, dmin_bits);
    uint8_t s[8], m[8];
    for (size_t g = 0; g < 8; g++) {
        choose_6bit(x + 32 * g, a[g], d, dmin, top, &s[g], &m[g]);
        float id = inverse(d * (float)s[g]), min = dmin * (float)m[g];
        for (size_t j = 32 * g; j < 32 * g + 32; j++)
            codes[j] = (uint8_t)to_integer(clamp((x[j] + min) * id, 0.0f, top));
    }
    for (size_t k = 0; k < 4; k++) {
        packed[k] = (uint8_t)(s[k] | s[k + 4] >> 4 << 6);
        packed[k + 4] = (uint8_t)(m[k] | m[k + 4] >> 4 << 6);
        packed[k + 8] = (uint8_t)((s[k + 4] & 15) | m[k + 4] << 4);
    }
}

void llmoi_encode_Q4_K(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 256; i++) {
        llmoi_block_q4_k b;
        uint8_t codes[256];
        encode_6bit(src + 256 * i, 15.0f, &b.d, &b.dmin, b.scales, codes);
        for (size_t c = 0; c < 4; c++) put_nibbles(codes + 64 * c, b.qs + 32 * c, 32);
        PUT(dst, i, b);
    }
}

void llmoi_encode_Q5_K(const float *src, void *dst, size_t n) {
    for (size_t i = 0; i < n / 256; i++) {
        llmoi_block_q5_k b;
        uint8_t codes[256];
        encode_6bit(src + 256 * i, 31.0f, &b.d, &b.dmin, b.scales, codes);
        memset(b.qh, 0, sizeof b.qh);
        for (size_t j = 0; j < 256; j++) b.qh[j % 32] = (uint8_t)(b.qh[j % 32] | codes[j] >> 4 << j / 32);
        for (size_t c = 0; c < 4; c++) put_nibbles(codes + 64 * c, b.qs + 32 * c, 32);
        PUT(dst, i, b);
    }
}
