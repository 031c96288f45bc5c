/* RoPE frequencies against the published formulas, written down a second time: RoFormer (arXiv:2104.09864), linear
 * position interpolation (arXiv:2306.15595), and YaRN (arXiv:2309.00071, section 3: NTK by parts and temperature). */
#include "kernel_check.h"
#include "model.h"

static llmoi_rope_params plain(float base) {
    return (llmoi_rope_params){.base = base,
                               .factor = 1,
                               .n_ctx_orig = 4096,
                               .attn_factor = 1,
                               .beta_fast = 32,
                               .beta_slow = 1,
                               .divisors = LLMOI_NONE};
}

static void assert_close(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * fabs(want))) fail_msg("%.17g, not %.17g", got, want);
}

static void frequencies_fall_as_powers_of_the_base(void **state) {
    (void)state;
    static const float bases[] = {10000, 500000, 1e6f, 7.5f};
    for (int b = 0; b < 4; b++) {
        for (uint32_t n = 2; n <= 256; n += 14) {
            double freq[129], magnitude, step = pow((double)bases[b], -2.0 / n), want = 1;
            llmoi_rope_params p = plain(bases[b]);
            p.factor = 8; /* means nothing without a kind of scaling */
            freq[n / 2] = 77;
            llmoi_rope_frequencies(&p, n, NULL, freq, &magnitude);
            for (uint32_t i = 0; i < n / 2; i++, want *= step) assert_close(freq[i], want);
            assert_true(freq[n / 2] == 77);
            assert_true(magnitude == 1);
        }
    }
}

static void linear_scaling_divides_all(void **state) {
    (void)state;
    double freq[32], scaled[32], magnitude;
    llmoi_rope_params p = plain(10000);
    llmoi_rope_frequencies(&p, 64, NULL, freq, &magnitude);
    p.scaling = LLMOI_SCALING_LINEAR;
    p.factor = 2.5f;
    p.attn_factor = 1.25f;
    llmoi_rope_frequencies(&p, 64, NULL, scaled, &magnitude);
    for (int i = 0; i < 32; i++) assert_close(scaled[i] * 2.5, freq[i]);
    assert_true(magnitude == 1.25);
}

static void divisors_divide_each_pair(void **state) {
    (void)state;
    double freq[32], divided[32], magnitude;
    float divisors[32];
    llmoi_rope_params p = plain(500000);
    for (int kind = 0; kind < 3; kind++) {
        p.scaling = (llmoi_rope_scaling)kind;
        p.factor = 4;
        for (int i = 0; i < 32; i++) divisors[i] = i < 10 ? 1.0f : i < 20 ? 1.0f + 0.7f * (float)(i - 10) : 8.0f;
        llmoi_rope_frequencies(&p, 64, NULL, freq, &magnitude);
        llmoi_rope_frequencies(&p, 64, divisors, divided, &magnitude);
        for (int i = 0; i < 32; i++) assert_close(divided[i] * (double)divisors[i], freq[i]);
    }
}

/* How often pair i turns over the original context: r(i) = L / wavelength = L * freq / 2 pi. The ramp of the paper is
 * linear in r's logarithm between the pairs that turn beta_fast and beta_slow times, taken at whole pairs as all
 * implementations do. */
static double turns(double pair, uint32_t n_rot, const llmoi_rope_params *p) {
    return p->n_ctx_orig * exp(-2 * pair / n_rot * log((double)p->base)) / (2 * acos(-1.0));
}

/* The last whole pair that turns at least `often` times, by search. */
static double last_pair_turning(double often, uint32_t n_rot, const llmoi_rope_params *p) {
    double i = -1000;
    while (turns(i + 1, n_rot, p) >= often) i++;
    return i;
}

static void check_yarn(const llmoi_rope_params *p, uint32_t n_rot) {
    double freq[128], magnitude;
    llmoi_rope_frequencies(p, n_rot, NULL, freq, &magnitude);
    double low = fmax(0, last_pair_turning(p->beta_fast, n_rot, p));
    double high = last_pair_turning(p->beta_slow, n_rot, p);
    if (turns(high, n_rot, p) > p->beta_slow) high++;
    high = fmin(high, n_rot - 1.0);
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double f = exp(-2.0 * i / n_rot * log((double)p->base));
        double stretch = i <= low ? 0 : i >= high ? 1 : (i - low) / (high - low);
        double want = (1 - stretch) * f + stretch * f / (double)p->factor;
        if (!(fabs(freq[i] - want) <= 1e-12 * want)) {
            fail_msg("pair %u of %u: %.17g, not %.17g", i, n_rot, freq[i], want);
        }
    }
    double s = fmax(1, (double)p->factor);
    assert_close(magnitude, (double)p->attn_factor * (0.1 * log(s) + 1) / (0.1 * (double)p->log_mul * log(s) + 1));
}

static void yarn_is_the_paper(void **state) {
    (void)state;
    rng r = {5};
    static const uint32_t contexts[] = {2048, 4096, 8192, 32768, 131072}, dims[] = {64, 80, 128, 256};
    static const float bases[] = {10000, 150000, 1e6f};
    for (int round = 0; round < 500; round++) {
        llmoi_rope_params p = plain(bases[rng_below(&r, 3)]);
        p.scaling = LLMOI_SCALING_YARN;
        p.factor = 1 + 0.25f * (float)rng_below(&r, 160);
        p.n_ctx_orig = contexts[rng_below(&r, 5)];
        if (round % 2) p.beta_fast = 16 + (float)rng_below(&r, 40);
        if (round % 3 == 1) p.beta_slow = 0.5f + 0.25f * (float)rng_below(&r, 8);
        if (round % 5 == 1) p.log_mul = 0.1f * (float)rng_below(&r, 20);
        if (round % 7 == 1) p.attn_factor = 0.8f;
        check_yarn(&p, dims[rng_below(&r, 4)]);
    }
    /* known by hand: gpt-oss, base 150000, 64 dims, 4096 -> 32 times */
    llmoi_rope_params p = plain(150000);
    p.scaling = LLMOI_SCALING_YARN;
    p.factor = 32;
    double freq[32], magnitude;
    llmoi_rope_frequencies(&p, 64, NULL, freq, &magnitude);
    assert_true(fabs(magnitude - 1.3465735902799727) < 1e-12); /* 0.1 ln 32 + 1 */
    assert_true(freq[0] == 1);
    assert_close(freq[31] * 32, pow(150000, -62.0 / 64));
}

static void degenerate_parameters_give_finite_numbers(void **state) {
    (void)state;
    static const float bases[] = {1.0f, 1.0000001f, 1e12f}, betas[] = {1e-3f, 1, 1e6f}, factors[] = {1e-3f, 1, 1e6f};
    for (int i = 0; i < 81; i++) {
        llmoi_rope_params p = plain(bases[i % 3]);
        p.scaling = LLMOI_SCALING_YARN;
        p.beta_fast = betas[i / 3 % 3];
        p.beta_slow = betas[i / 9 % 3];
        p.factor = factors[i / 27];
        p.n_ctx_orig = i % 2 ? 1 : 1u << 30;
        double freq[64], magnitude;
        llmoi_rope_frequencies(&p, 128, NULL, freq, &magnitude);
        assert_true(isfinite(magnitude) && magnitude > 0);
        for (int j = 0; j < 64; j++) assert_true(isfinite(freq[j]) && freq[j] > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_fall_as_powers_of_the_base),
        cmocka_unit_test(linear_scaling_divides_all),
        cmocka_unit_test(divisors_divide_each_pair),
        cmocka_unit_test(yarn_is_the_paper),
        cmocka_unit_test(degenerate_parameters_give_finite_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
