/* The arithmetic every kernel on every device implements, so that results are equal to the bit wherever a row runs.
 *
 * Compiled with contraction off: a multiply and an add are fused only where fmaf is written.
 *
 * Matrix product, y[r] = sum over k of w[r][k] * x[k]: k is cut into spans of 256 (the last may be shorter); the value of
 * a row is the plain f32 sum of its span values in index order, starting from the first.
 *   Float weights:    span = chain of fmaf(w, x, span) over k in order, from 0, with w converted exactly to f32.
 *   Integer weights:  x is quantized per 32 elements (llmoi_quantize32). With the span's integer form (quant.h)
 *                     w = scale[g] * q + offset[g], and a block b of 32 activations of scale d, quants a:
 *                     group 32:  span = fmaf(scale * d, (float)dot, span), dot = sum of q * a over the block, exact in
 *                                int32
 *                     group 16:  the same for each half of the block in turn
 *                     offsets:   then span = fmaf(offset, s, span), s = d * (float)(sum of a over the group's elements)
 *                     Products are rounded to f32 where written; blocks in index order.
 * Bias is added after the sum, then the residual.
 *
 * Norms: sums of squares in 16 lanes (element i goes to lane i % 16, fmaf chain), lanes added pairwise (8, 4, 2, 1).
 * Attention: see llmoi_attend in kernel.h. exp, silu, gelu, tanh: the polynomials below. RoPE tables come from the host in
 * double. */
#ifndef LLMOI_NUMERICS_H
#define LLMOI_NUMERICS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LLMOI_QBLOCK 32u /* activations per scale */
#define LLMOI_LANES  16u /* partial sums of a reduction */

static inline float llmoi_bits_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* e^x within 1 ulp: 2^n * p(r), |r| <= ln2 / 2, p = 1 + r + r^2 * (degree 4), relative error minimax (fitted for this
 * project, 3.1e-9). From -87.3 down the result is 0, above 88.7 infinity, NaN stays. */
static inline float llmoi_expf(float x) {
    if (!(x > -87.3f)) return x != x ? x : 0.0f;
    if (x > 88.7f) return llmoi_bits_f32(0x7f800000u);
    float n = fmaf(x, 1.44269504088896341f, 12582912.0f); /* 1.5 * 2^23: rounds to an integer in the low bits */
    n -= 12582912.0f;
    float r = fmaf(n, -0.693145751953125f, x);
    r = fmaf(n, -1.42860682030941723e-6f, r);
    float p = 1.38145986e-3f;
    p = fmaf(p, r, 8.36871688e-3f);
    p = fmaf(p, r, 4.16683880e-2f);
    p = fmaf(p, r, 1.66665206e-1f);
    p = fmaf(p, r, 0.499999934f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    int32_t e = (int32_t)n; /* -126 .. 128 */
    /* two factors, so that 2^128 needs no special case */
    int32_t half = e >> 1;
    return p * llmoi_bits_f32((uint32_t)(half + 127) << 23) * llmoi_bits_f32((uint32_t)(e - half + 127) << 23);
}

/* tanh by e^(2|x|), within 2^-23 absolutely, for |x| > 0.1; a Taylor polynomial below, within 1 ulp */
static inline float llmoi_tanhf(float x) {
    float a = fabsf(x);
    if (!(a > 0.1f)) {
        float s = x * x;
        float p = fmaf(s, -5.3968254e-2f, 1.3333334e-1f);
        p = fmaf(p, s, -3.3333334e-1f);
        return fmaf(p * s, x, x);
    }
    float t = a > 15.0f ? 1.0f : 1.0f - 2.0f / (llmoi_expf(2.0f * a) + 1.0f);
    return x < 0 ? -t : t;
}

static inline float llmoi_siluf(float x) {
    return x / (1.0f + llmoi_expf(-x));
}

/* GELU, tanh form */
static inline float llmoi_geluf(float x) {
    float u = 0.79788456080286536f * fmaf(0.044715f * x * x, x, x);
    return 0.5f * x * (1.0f + llmoi_tanhf(u));
}

/* Sum of LLMOI_LANES partial sums, in the one order that all reductions use. Destroys the lanes. */
static inline float llmoi_lane_sum(float *lane) {
    for (uint32_t step = LLMOI_LANES / 2; step; step /= 2) {
        for (uint32_t i = 0; i < step; i++) lane[i] += lane[i + step];
    }
    return lane[0];
}

/* Quantizes 32 activations: scale = amax / 127, quants rounded to nearest even. Quants are all zero, with scale 0, for
 * amax below 4.2e-37, and, with scale NaN so that it is not hidden, for a NaN or an amax above 3e38. Returns the scale. */
static inline float llmoi_quantize32(const float *x, int8_t *q) {
    float amax = 0.0f;
    for (uint32_t i = 0; i < LLMOI_QBLOCK; i++) {
        float a = fabsf(x[i]);
        amax = a > amax || a != a ? a : amax;
    }
    if (!(amax > 0.0f) || amax > 3.0e38f) {
        memset(q, 0, LLMOI_QBLOCK);
        return amax > 0.0f || amax != amax ? llmoi_bits_f32(0x7fc00000u) : 0.0f;
    }
    float scale = amax / 127.0f;
    float inv = 127.0f / amax;
    if (inv > 3.0e38f) { /* amax is subnormal or nearly so */
        memset(q, 0, LLMOI_QBLOCK);
        return 0.0f;
    }
    for (uint32_t i = 0; i < LLMOI_QBLOCK; i++) {
        float r = x[i] * inv + 12582912.0f;
        q[i] = (int8_t)(r - 12582912.0f);
    }
    return scale;
}

#endif
