/* exp and log out of plain arithmetic, so that what a sampler chooses is the same bit for bit with every libm, compiler
 * and vector width (the build forbids fused multiply-add). Knows nothing of sampling. */
#ifndef LLMOI_SAMPLE_MATH_H
#define LLMOI_SAMPLE_MATH_H

#include <stdint.h>
#include <string.h>

/* e^x for x <= 0; relative error below 1.2e-7. Exactly 1 at 0; 0 below -80 and for NaN. x = n ln2 + r with
 * |r| <= ln2 / 2, a Taylor polynomial of degree 7 for e^r (its error 5e-9 is below a float's rounding), and n added to
 * the exponent, which stays that of a normal number. Written without branches: compilers make vector code of a loop
 * over it. */
static inline float llmoi_exp_nonpositive(float x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: the sum's low mantissa bits are n, rounded to nearest */
    uint32_t inside = 0u - (uint32_t)(x > -80.0f), bits, exponent;
    memcpy(&bits, &x, sizeof bits);
    bits &= inside; /* selects by mask: with a branch instead, GCC 12 leaves the loop scalar */
    memcpy(&x, &bits, sizeof x);
    float shifted = x * 1.44269504f + round;
    float n = shifted - round;
    float r = x - n * 0.693359375f; /* ln2 in two parts, the first one exact in n * part */
    r = r - n * -2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    memcpy(&bits, &p, sizeof bits);
    memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    bits &= inside;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* Natural logarithm of a positive, finite, normal number; error below 1e-15 * max(1, |log x|). x = m 2^e with m in
 * sqrt(1/2)..sqrt(2), then the series of 2 atanh((m - 1) / (m + 1)). */
static inline double llmoi_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int32_t e = (int32_t)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double s = (m - 1.0) / (m + 1.0);
    double s2 = s * s;
    double sum = 0.0;
    for (int k = 21; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
    return (double)e * 0.6931471805599453 + 2.0 * s * sum;
}

#endif
