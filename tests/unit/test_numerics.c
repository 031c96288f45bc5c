/* The scalar arithmetic that every kernel shares, against double precision and between the two builds of the reference
 * kernels. */
#include <stdio.h>

#include "kernel_check.h"
#include "numerics.h"
#include "ref_kernels.h"

/* Both builds where there are two. */
static size_t builds(const llmoi_ref_kernels **out) {
    out[0] = &llmoi_ref_plain;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
        out[1] = &llmoi_ref_fma;
        return 2;
    }
#endif
    return 1;
}

/* Distance in units in the last place of the float nearest to the exact value. */
static double ulps(float got, double exact) {
    int e;
    (void)frexp(exact, &e);
    return fabs((double)got - exact) / ldexp(1, (e < -125 ? -125 : e) - 24);
}

/* Calls check(x) for floats of both signs over all exponents, some 100,000 of them, and the powers of two. */
static void over_all_floats(void (*check)(float)) {
    for (uint32_t b = 0; b < 0x7f800000u; b += 43003) {
        check(llmoi_bits_f32(b));
        check(-llmoi_bits_f32(b));
    }
    for (uint32_t e = 0; e < 255; e++) {
        check(llmoi_bits_f32(e << 23));
        check(-llmoi_bits_f32(e << 23));
    }
}

static double worst;

/* --- exp ------------------------------------------------------------------------------------------------------------ */

static void check_exp(float x) {
    float y = llmoi_expf(x);
    if (x <= -87.3f) {
        assert_true(y == 0.0f && !signbit(y));
    } else if (x > 88.7f) {
        assert_true(isinf(y) && y > 0);
    } else {
        double e = ulps(y, exp((double)x));
        worst = e > worst ? e : worst;
        if (!(e <= 1.0)) fail_msg("exp(%a) = %a, %g ulp off", (double)x, (double)y, e);
    }
}

static void exp_is_within_one_ulp(void **state) {
    (void)state;
    worst = 0;
    over_all_floats(check_exp);
    for (int i = 0; i <= 2000000; i++) check_exp(-87.3f + 176.0f * (float)i / 2000000.0f);
    for (int n = -126; n <= 128; n++) { /* where the reduction changes to the next power of two */
        float edge = (float)((n + 0.5) * 0.693147180559945309);
        float x = edge;
        for (int i = 0; i < 50; i++) check_exp(x), x = nextafterf(x, 1000.0f);
        x = edge;
        for (int i = 0; i < 50; i++) check_exp(x), x = nextafterf(x, -1000.0f);
    }
    print_message("exp: at most %.3f ulp\n", worst);
    assert_true(worst > 0.4); /* no measure of nothing */
}

static void exp_of_special_values(void **state) {
    (void)state;
    assert_true(llmoi_expf(0.0f) == 1.0f);
    assert_true(llmoi_expf(-0.0f) == 1.0f);
    assert_true(llmoi_expf(1e-45f) == 1.0f);
    assert_true(isinf(llmoi_expf(INFINITY)));
    assert_true(llmoi_expf(-INFINITY) == 0.0f);
    assert_true(isnan(llmoi_expf(NAN)));
    assert_true(isnan(llmoi_expf(-NAN)));
    assert_true(llmoi_expf(nextafterf(-87.3f, 0.0f)) > 0.0f);
    assert_true(llmoi_expf(-87.3f) == 0.0f);
    assert_true(isfinite(llmoi_expf(88.7f)));
    assert_true(isinf(llmoi_expf(nextafterf(88.7f, 100.0f))));
}

/* An error of one ulp lets neighbours swap, by no more than that. */
static void exp_rises_up_to_its_error(void **state) {
    (void)state;
    float before = 0;
    for (float x = -90.0f; x < 89.0f; x = nextafterf(x, 100.0f) + 1e-4f) {
        float y = llmoi_expf(x);
        assert_true(y >= before * (1 - 0x1p-23f));
        before = y;
    }
    assert_true(isinf(before));
}

/* --- tanh, silu, gelu ------------------------------------------------------------------------------------------------ */

static void check_tanh(float x) {
    float y = llmoi_tanhf(x);
    double exact = tanh((double)x), off = fabs((double)y - exact);
    assert_true(fabsf(y) <= 1.0f);
    assert_true(llmoi_tanhf(-x) == -y);
    if (fabsf(x) > 0.1f) {
        if (!(off <= 0x1p-23)) fail_msg("tanh(%a) = %a, %g off", (double)x, (double)y, off);
    } else if (x != 0.0f) {
        double e = ulps(y, exact);
        worst = e > worst ? e : worst;
        if (!(e <= 1.0)) fail_msg("tanh(%a) = %a, %g ulp off", (double)x, (double)y, e);
    }
}

static void tanh_is_close_and_odd(void **state) {
    (void)state;
    worst = 0;
    over_all_floats(check_tanh);
    for (int i = 0; i <= 200000; i++) check_tanh((float)i * 1e-4f);
    for (int i = 0; i <= 100000; i++) check_tanh((float)i * 1e-6f);
    print_message("tanh: at most %.3f ulp up to 0.1\n", worst);
    assert_true(llmoi_tanhf(INFINITY) == 1.0f);
    assert_true(llmoi_tanhf(-INFINITY) == -1.0f);
    assert_true(isnan(llmoi_tanhf(NAN)));
    assert_true(llmoi_tanhf(0.0f) == 0.0f);
}

/* x / (1 + e) with e within 1 ulp: e's error and the two roundings, relative 3 * 2^-23 at most. */
static void check_silu(float x) {
    float y = llmoi_siluf(x);
    if (x < -87.0f) { /* e^-x overflows or is about to; the exact value is below 1e-35 */
        assert_true(y <= 0.0f && y > -1e-34f);
        return;
    }
    double exact = (double)x / (1.0 + exp(-(double)x));
    double off = fabs((double)y - exact);
    if (!(off <= 3 * 0x1p-23 * fabs(exact) + 0x1p-149)) fail_msg("silu(%a) = %a, not %a", (double)x, (double)y, exact);
}

/* tanh of u is within 2^-23; u itself is rounded 4 times, and d tanh/du <= min(1, 4 exp(-2|u|)) */
static void check_gelu(float x) {
    float y = llmoi_geluf(x);
    double u = 0.7978845608028654 * ((double)x + 0.044715 * (double)x * (double)x * (double)x);
    double exact = 0.5 * (double)x * (1 + tanh(u));
    double slope = fmin(1.0, 4 * exp(-2 * fabs(u)));
    double bound = 0.5 * fabs((double)x) * (0x1p-23 + 6 * 0x1p-24 * fabs(u) * slope) + 3 * 0x1p-24 * fabs(exact);
    if (!isfinite(u)) bound = 0x1p-23 * fabs((double)x);
    if (!(fabs((double)y - exact) <= bound + 0x1p-149)) {
        fail_msg("gelu(%a) = %a, not %a", (double)x, (double)y, exact);
    }
}

static void silu_and_gelu_are_close(void **state) {
    (void)state;
    over_all_floats(check_silu);
    over_all_floats(check_gelu);
    for (int i = -300000; i <= 300000; i++) {
        check_silu((float)i * 3e-4f);
        check_gelu((float)i * 1e-4f);
    }
    assert_true(isnan(llmoi_siluf(NAN)));
    assert_true(isnan(llmoi_geluf(NAN)));
    assert_true(llmoi_siluf(1e30f) == 1e30f);
    assert_true(llmoi_geluf(1e30f) == 1e30f);
    assert_true(llmoi_siluf(-1e30f) == 0.0f);
    assert_true(llmoi_geluf(-1e30f) == 0.0f);
}

/* The kernels hold their own copies of these functions, compiled for their instruction set. */
static void activations_are_equal_in_all_builds(void **state) {
    (void)state;
    const llmoi_ref_kernels *k[2];
    size_t n_builds = builds(k);
    enum { N = 4099 };
    float gate[N], up[N], out[N];
    rng r = {1};
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < N; i++) {
            gate[i] = round % 2 ? llmoi_bits_f32((uint32_t)rng_next(&r)) : 8 * rng_normal(&r);
            up[i] = rng_normal(&r);
        }
        for (int act = 0; act < 2; act++) {
            for (size_t b = 0; b < n_builds; b++) {
                for (size_t i = 0; i < N; i++) out[i] = GUARD_VALUE;
                k[b]->gate_mul((llmoi_activation)act, gate, up, out, 3, N - 5);
                for (size_t i = 0; i < N; i++) {
                    float want = (act == LLMOI_ACTIVATION_SILU ? llmoi_siluf(gate[i]) : llmoi_geluf(gate[i])) * up[i];
                    if (i < 3 || i >= N - 5) want = GUARD_VALUE;
                    if (!same_float(out[i], want)) fail_msg("build %zu, activation %d of %a", b, act, (double)gate[i]);
                }
            }
        }
    }
}

/* --- reductions ------------------------------------------------------------------------------------------------------- */

static void lane_sum_adds_in_the_documented_order(void **state) {
    (void)state;
    rng r = {2};
    unsigned differs = 0;
    for (int round = 0; round < 1000; round++) {
        float x[16], lane[16];
        for (int i = 0; i < 16; i++) x[i] = rng_normal(&r) * ldexpf(1, (int)rng_below(&r, 20));
        memcpy(lane, x, sizeof x);
        float a[8], b[4], in_order = 0;
        for (int i = 0; i < 8; i++) a[i] = x[i] + x[i + 8];
        for (int i = 0; i < 4; i++) b[i] = a[i] + a[i + 4];
        float want = (b[0] + b[2]) + (b[1] + b[3]);
        for (int i = 0; i < 16; i++) in_order += x[i];
        differs += want != in_order;
        assert_true(same_float(llmoi_lane_sum(lane), want));
    }
    assert_true(differs > 100); /* so the order is seen in these numbers */
}

/* --- quantize --------------------------------------------------------------------------------------------------------- */

static float largest(const float *x) {
    float m = 0;
    for (int i = 0; i < 32; i++) m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    return m;
}

static void quantize_rounds_to_nearest(void **state) {
    (void)state;
    rng r = {3};
    for (int round = 0; round < 20000; round++) {
        float x[32], size = ldexpf(1, (int)rng_below(&r, 240) - 119);
        int8_t q[32];
        for (int i = 0; i < 32; i++) x[i] = size * rng_normal(&r);
        float scale = llmoi_quantize32(x, q), amax = largest(x);
        assert_true(scale == amax / 127.0f);
        int top = 0;
        for (int i = 0; i < 32; i++) {
            /* x / scale is formed as x * (127 / amax): two roundings of a value up to 127, beside the scale's own */
            double off = fabs((double)x[i] - (double)scale * q[i]);
            assert_true(off <= (double)scale * (0.5 + 127 * 3.1 * 0x1p-24) + 127 * 0x1p-149);
            assert_in_range(q[i] + 127, 0, 254);
            top = abs(q[i]) > top ? abs(q[i]) : top;
        }
        assert_int_equal(top, 127);
    }
}

static void quantize_breaks_ties_to_even(void **state) {
    (void)state;
    float x[32] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 125.5f, -127.0f, 0.49999997f};
    static const int8_t want[32] = {127, 0, 2, 2, 0, -2, -2, 126, -126, 126, -127, 0};
    int8_t q[32];
    assert_true(llmoi_quantize32(x, q) == 1.0f);
    assert_memory_equal(q, want, sizeof q);
}

static void quantize_of_special_values(void **state) {
    (void)state;
    static const int8_t zeros[32] = {0};
    int8_t q[32];
    float x[32] = {0};
    for (int i = 1; i < 32; i += 2) x[i] = -0.0f;
    assert_true(llmoi_quantize32(x, q) == 0.0f);
    assert_memory_equal(q, zeros, sizeof q);
    for (int i = 0; i < 32; i++) x[i] = 1e-40f; /* subnormal: too small for a scale */
    assert_true(llmoi_quantize32(x, q) == 0.0f);
    assert_memory_equal(q, zeros, sizeof q);
    static const float hidden[] = {NAN, -NAN, INFINITY, -INFINITY, 3.4e38f};
    for (size_t k = 0; k < sizeof hidden / sizeof *hidden; k++) {
        for (int at = 0; at < 32; at++) {
            for (int i = 0; i < 32; i++) x[i] = (float)(i - 16);
            x[at] = hidden[k];
            memset(q, 1, sizeof q);
            assert_true(isnan(llmoi_quantize32(x, q)));
            assert_memory_equal(q, zeros, sizeof q);
        }
    }
    for (int i = 0; i < 32; i++) x[i] = i == 7 ? -2.9e38f : 1e30f;
    assert_true(isfinite(llmoi_quantize32(x, q)));
    assert_int_equal(q[7], -127);
}

static void quantize_is_equal_in_all_builds(void **state) {
    (void)state;
    const llmoi_ref_kernels *k[2];
    size_t n_builds = builds(k);
    rng r = {4};
    for (int round = 0; round < 3000; round++) {
        enum { N = 160 };
        float x[N];
        for (int i = 0; i < N; i++) {
            x[i] = round % 3 ? rng_normal(&r) * ldexpf(1, (int)rng_below(&r, 200) - 100)
                             : llmoi_bits_f32((uint32_t)rng_next(&r));
        }
        for (size_t b = 0; b < n_builds; b++) {
            int8_t q[N + 1], want[32];
            float scale[N / 32 + 1];
            int16_t sum[N / 16 + 1];
            q[N] = 77, scale[N / 32] = 77, sum[N / 16] = 77;
            k[b]->quantize(x, q, scale, sum, N);
            for (int i = 0; i < N; i += 32) {
                assert_true(same_float(scale[i / 32], llmoi_quantize32(x + i, want)));
                assert_memory_equal(q + i, want, 32);
                for (int h = 0; h < 2; h++) {
                    int s = 0;
                    for (int j = 0; j < 16; j++) s += want[h * 16 + j];
                    assert_int_equal(sum[i / 16 + h], s);
                }
            }
            assert_true(q[N] == 77 && scale[N / 32] == 77 && sum[N / 16] == 77);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_one_ulp),
        cmocka_unit_test(exp_of_special_values),
        cmocka_unit_test(exp_rises_up_to_its_error),
        cmocka_unit_test(tanh_is_close_and_odd),
        cmocka_unit_test(silu_and_gelu_are_close),
        cmocka_unit_test(activations_are_equal_in_all_builds),
        cmocka_unit_test(lane_sum_adds_in_the_documented_order),
        cmocka_unit_test(quantize_rounds_to_nearest),
        cmocka_unit_test(quantize_breaks_ties_to_even),
        cmocka_unit_test(quantize_of_special_values),
        cmocka_unit_test(quantize_is_equal_in_all_builds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
