/* The sampler against what its parameters promise. Distributions are compared with probabilities that this file
 * computes for itself, in double and with libm; seeds are fixed, so a run is either always right or always wrong. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sample.h"
#include "sample_math.h"

/* --- support ---------------------------------------------------------------------------------------------------- */

typedef struct rig {
    llmoi_mem mem;
    llmoi_sampler *sampler;
    void *memory;
    llmoi_sample_scratch *scratch;
    uint32_t n_vocab;
    float *logits;
} rig;

#define MAX_TOKENS 4096

static void rig_open(rig *r, const llmo_sampling_params *p, uint32_t n_vocab, const llmo_token *breakers, size_t n) {
    llmoi_mem_init(&r->mem, NULL, NULL, NULL);
    r->n_vocab = n_vocab;
    r->logits = malloc(n_vocab * sizeof(float));
    assert_non_null(r->logits);
    r->memory = llmoi_alloc(&r->mem, LLMO_PURPOSE_LOGITS, llmoi_sample_scratch_bytes(n_vocab));
    assert_non_null(r->memory);
    memset(r->memory, 0xa5, llmoi_sample_scratch_bytes(n_vocab));
    r->scratch = llmoi_sample_scratch_init(r->memory, n_vocab);
    llmo_status st = llmoi_sampler_create(&r->mem, p, n_vocab, MAX_TOKENS, breakers, n, &r->sampler);
    if (st != LLMO_OK) fail_msg("%s", llmoi_message());
}

static void rig_close(rig *r) {
    llmoi_sampler_destroy(&r->mem, r->sampler);
    llmoi_free(&r->mem, r->memory);
    free(r->logits);
    assert_int_equal(llmoi_mem_total(&r->mem), 0);
}

static llmo_token rig_next(rig *r, const float *logits, const llmo_token *history, size_t n) {
    memcpy(r->logits, logits, r->n_vocab * sizeof(float));
    llmo_token t = llmoi_sampler_next(r->sampler, r->scratch, r->logits, history, n);
    assert_in_range(t, 0, r->n_vocab - 1);
    return t;
}

/* One token of a sampler made for it. */
static llmo_token once(const llmo_sampling_params *p, const float *logits, uint32_t n_vocab, const llmo_token *history,
                       size_t n) {
    rig r;
    rig_open(&r, p, n_vocab, NULL, 0);
    llmo_token t = rig_next(&r, logits, history, n);
    rig_close(&r);
    return t;
}

/* Everything off but the draw itself. */
static llmo_sampling_params plain(float temperature) {
    llmo_sampling_params p;
    llmo_sampling_params_init(&p);
    p.seed = 1234;
    p.temperature = temperature;
    p.top_k = 0;
    p.top_p = 1.0f;
    p.min_p = 0.0f;
    return p;
}

/* Pseudo-random numbers of the tests' own (splitmix64), exact on every machine. */
static uint64_t mix(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Logits with a bell shape of the given width: sums of four exact fractions. */
static void random_logits(float *x, size_t n, float width, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int k = 0; k < 4; k++) sum += (float)(mix(&seed) >> 48) * 0x1p-16f - 0.5f;
        x[i] = sum * width;
    }
}

/* A token of the reference: what is kept is in keep[], probabilities are of the kept ones. */
typedef struct reference {
    size_t n;
    const float *x;
    bool *keep;
    double *p;
    size_t *order; /* by (logit descending, id) */
} reference;

static const float *sort_by;
static int by_logit(const void *a, const void *b) {
    size_t i = *(const size_t *)a, j = *(const size_t *)b;
    if (sort_by[i] != sort_by[j]) return sort_by[i] > sort_by[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

static void ref_open(reference *f, const float *x, size_t n) {
    f->n = n;
    f->x = x;
    f->keep = malloc(n * sizeof *f->keep);
    f->p = malloc(n * sizeof *f->p);
    f->order = malloc(n * sizeof *f->order);
    for (size_t i = 0; i < n; i++) {
        f->keep[i] = isfinite(x[i]);
        f->order[i] = i;
    }
    sort_by = x;
    qsort(f->order, n, sizeof *f->order, by_logit);
}

static void ref_close(reference *f) {
    free(f->keep);
    free(f->p);
    free(f->order);
}

static void ref_softmax(reference *f, double temperature) {
    double max = -INFINITY, sum = 0.0;
    for (size_t i = 0; i < f->n; i++) {
        if (f->keep[i] && f->x[i] > max) max = f->x[i];
    }
    for (size_t i = 0; i < f->n; i++) sum += f->p[i] = f->keep[i] ? exp((f->x[i] - max) / temperature) : 0.0;
    for (size_t i = 0; i < f->n; i++) f->p[i] /= sum;
}

static void ref_top_k(reference *f, size_t k) {
    for (size_t o = 0; o < f->n; o++) {
        if (!f->keep[f->order[o]]) continue;
        if (k)
            k--;
        else
            f->keep[f->order[o]] = false;
    }
}

/* The edge must be clear, else double and float may differ in where it is. */
static void assert_clear(double a, double b) {
    if (fabs(a - b) < 1e-6 * fabs(b)) fail_msg("choose another seed: %.9g is too close to %.9g", a, b);
}

static void ref_top_p(reference *f, double p) {
    ref_softmax(f, 1.0);
    double sum = 0.0;
    for (size_t o = 0; o < f->n; o++) {
        size_t i = f->order[o];
        if (!f->keep[i]) continue;
        if (sum >= p) f->keep[i] = false;
        sum += f->p[i];
        if (f->keep[i]) assert_clear(sum, p);
    }
}

static void ref_min_p(reference *f, double p) {
    ref_softmax(f, 1.0);
    double best = 0.0;
    for (size_t i = 0; i < f->n; i++) best = f->p[i] > best ? f->p[i] : best;
    for (size_t i = 0; i < f->n; i++) {
        if (f->keep[i]) assert_clear(f->p[i], p * best);
        if (f->p[i] < p * best) f->keep[i] = false;
    }
}

static void ref_typical(reference *f, double p) {
    ref_softmax(f, 1.0);
    double entropy = 0.0, sum = 0.0;
    for (size_t i = 0; i < f->n; i++) {
        if (f->p[i] > 0.0) entropy -= f->p[i] * log(f->p[i]);
    }
    bool *taken = calloc(f->n, sizeof *taken);
    while (sum < p) {
        size_t best = f->n;
        double distance = INFINITY;
        for (size_t i = 0; i < f->n; i++) {
            if (!f->keep[i] || taken[i] || f->p[i] <= 0.0) continue;
            double d = fabs(-log(f->p[i]) - entropy);
            if (d >= distance) continue;
            distance = d;
            best = i;
        }
        if (best == f->n) break;
        taken[best] = true;
        sum += f->p[best];
        assert_clear(sum, p);
    }
    for (size_t i = 0; i < f->n; i++) f->keep[i] = taken[i];
    free(taken);
}

static void ref_xtc(reference *f, double threshold) {
    ref_softmax(f, 1.0);
    size_t last = f->n;
    for (size_t o = 0; o < f->n; o++) {
        size_t i = f->order[o];
        if (!f->keep[i]) continue;
        assert_clear(f->p[i], threshold);
        if (f->p[i] >= threshold) {
            if (last < f->n) f->keep[last] = false;
            last = i;
        }
    }
}

/* Draws and compares with exact probabilities: none where there must be none, and a chi-squared statistic within six
 * standard deviations of what it is for a true distribution. */
static void check_distribution(const llmo_sampling_params *params, const float *x, const double *p, size_t n,
                               size_t draws) {
    rig r;
    rig_open(&r, params, (uint32_t)n, NULL, 0);
    size_t *count = calloc(n, sizeof *count);
    for (size_t d = 0; d < draws; d++) count[rig_next(&r, x, NULL, 0)]++;
    double chi2 = 0.0, rare = 0.0, rare_count = 0.0;
    double bins = 0.0;
    for (size_t i = 0; i < n; i++) {
        double expected = p[i] * (double)draws;
        if (p[i] == 0.0 && count[i]) fail_msg("token %zu was drawn %zu times, but was cut", i, count[i]);
        if (expected < 10.0) {
            rare += expected;
            rare_count += (double)count[i];
            continue;
        }
        double diff = (double)count[i] - expected;
        chi2 += diff * diff / expected;
        bins += 1.0;
    }
    if (rare >= 10.0) {
        chi2 += (rare_count - rare) * (rare_count - rare) / rare;
        bins += 1.0;
    }
    double freedom = bins - 1.0;
    if (chi2 > freedom + 6.0 * sqrt(2.0 * freedom) + 6.0) {
        fail_msg("chi-squared is %.1f at %.0f degrees of freedom", chi2, freedom);
    }
    free(count);
    rig_close(&r);
}

/* The exact set of tokens that is kept, seen by drawing it evenly: at a temperature of 10^6 all kept tokens are equally
 * likely. */
static void check_kept(llmo_sampling_params params, const float *x, const bool *keep, size_t n) {
    size_t n_kept = 0;
    for (size_t i = 0; i < n; i++) n_kept += keep[i];
    assert_true(n_kept > 0);
    params.temperature = 1e6f;
    rig r;
    rig_open(&r, &params, (uint32_t)n, NULL, 0);
    bool *seen = calloc(n, sizeof *seen);
    for (size_t d = 0; d < 16 * n_kept + 16; d++) seen[rig_next(&r, x, NULL, 0)] = true; /* e^-16 to miss one */
    for (size_t i = 0; i < n; i++) {
        if (seen[i] != keep[i]) fail_msg("token %zu of %zu is %s", i, n, seen[i] ? "kept, but must go" : "gone");
    }
    free(seen);
    rig_close(&r);
}

/* Distribution (small vocabulary, below the histogram's limit) and kept set (large) of one truncation. */
typedef void (*ref_step)(reference *f, double argument);

static void check_step(const llmo_sampling_params *params, ref_step step, double argument) {
    float x[1000];
    for (int large = 0; large < 2; large++) {
        size_t n = large ? 1000 : 60;
        random_logits(x, n, large ? 4.0f : 6.0f, 77);
        x[5] = -INFINITY;
        x[6] = NAN;
        float clean[1000];
        memcpy(clean, x, sizeof clean);
        clean[6] = -INFINITY;
        reference f;
        ref_open(&f, clean, n);
        step(&f, argument);
        check_kept(*params, x, f.keep, n);
        ref_softmax(&f, params->temperature);
        if (!large) check_distribution(params, x, f.p, n, 100000);
        ref_close(&f);
    }
}

/* --- tests ------------------------------------------------------------------------------------------------------- */

static void greedy(void **state) {
    (void)state;
    llmo_sampling_params p;
    llmo_sampling_params_init(&p);
    p.temperature = 0.0f;
    float x[300];
    for (uint32_t n = 1; n <= 300; n += 13) {
        random_logits(x, n, 3.0f, n);
        size_t best = 0;
        for (size_t i = 0; i < n; i++) best = x[i] > x[best] ? i : best;
        assert_int_equal(once(&p, x, n, NULL, 0), best);
        assert_int_equal(llmoi_argmax(x, n), best);
        x[n - 1] = x[best]; /* a tie: the first one wins */
        assert_int_equal(once(&p, x, n, NULL, 0), best);
    }
    /* penalties and biases come before */
    random_logits(x, 300, 3.0f, 1);
    x[17] = 50.0f;
    x[200] = 49.0f;
    llmo_token history[] = {17};
    p.penalty_presence = 1.5f;
    assert_int_equal(once(&p, x, 300, history, 1), 200);
    llmo_token token = 200;
    float value = -3.0f;
    p.n_bias = 1;
    p.bias_tokens = &token;
    p.bias_values = &value;
    assert_int_equal(once(&p, x, 300, history, 1), 17);
}

static void argmax_ignores_nan(void **state) {
    (void)state;
    float x[] = {NAN, -INFINITY, NAN, -INFINITY};
    assert_int_equal(llmoi_argmax(x, 4), 1);
    assert_int_equal(llmoi_argmax(x, 1), 0);
    float y[] = {NAN, -5.0f, NAN, -4.0f, NAN};
    assert_int_equal(llmoi_argmax(y, 5), 3);
}

static void temperature(void **state) {
    (void)state;
    const float temperatures[] = {0.1f, 0.7f, 1.0f, 2.5f};
    float x[40];
    random_logits(x, 40, 5.0f, 3);
    for (size_t t = 0; t < 4; t++) {
        llmo_sampling_params p = plain(temperatures[t]);
        reference f;
        ref_open(&f, x, 40);
        ref_softmax(&f, temperatures[t]);
        check_distribution(&p, x, f.p, 40, 100000);
        ref_close(&f);
    }
    /* the smallest positive temperature is greedy in effect, and does not divide to NaN */
    llmo_sampling_params p = plain(FLT_MIN);
    assert_int_equal(once(&p, x, 40, NULL, 0), llmoi_argmax(x, 40));
}

static void step_top_k(reference *f, double k) {
    ref_top_k(f, (size_t)k);
}

static void top_k(void **state) {
    (void)state;
    llmo_sampling_params p = plain(0.9f);
    const int32_t ks[] = {1, 2, 7, 40, 57};
    for (size_t i = 0; i < 5; i++) {
        p.top_k = ks[i];
        check_step(&p, step_top_k, ks[i]);
    }
    p.top_k = 1000000; /* more than there are: off */
    check_step(&p, step_top_k, 1e6);
    /* ties at the edge go to the smaller ids */
    float x[200];
    bool keep[200] = {false};
    for (size_t i = 0; i < 200; i++) x[i] = i == 150 ? 2.0f : i % 2 ? 1.0f : 0.0f;
    x[1] = 0.0f;
    p.top_k = 4;
    keep[150] = keep[3] = keep[5] = keep[7] = true;
    check_kept(p, x, keep, 200);
    /* 0 and -0 tie too */
    float z[3] = {-0.0f, 0.0f, -1.0f};
    bool first[3] = {true, false, false};
    p.top_k = 1;
    check_kept(p, z, first, 3);
}

static void top_k_beyond_4096_keeps_exactly_k(void **state) {
    (void)state;
    enum { n = 4500 };
    static float x[n];
    random_logits(x, n, 5.0f, 9);
    reference f;
    ref_open(&f, x, n);
    ref_top_k(&f, 4200);
    llmo_sampling_params p = plain(1.0f);
    p.top_k = 4200;
    check_kept(p, x, f.keep, n);
    ref_close(&f);
}

static void top_p(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.3f);
    const float ps[] = {0.0f, 0.1f, 0.5f, 0.9f, 0.99f};
    for (size_t i = 0; i < 5; i++) {
        p.top_p = ps[i];
        if (ps[i] > 0.0f)
            check_step(&p, ref_top_p, ps[i]);
        else
            check_step(&p, step_top_k, 1); /* never fewer than one */
    }
    /* ties: of 64 equal tokens half the mass is the first 32 */
    float x[64] = {0};
    bool keep[64];
    for (size_t i = 0; i < 64; i++) keep[i] = i < 32;
    p.top_p = 0.5f;
    check_kept(p, x, keep, 64);
    /* min_keep */
    p.top_p = 0.01f;
    p.min_keep = 5;
    for (size_t i = 0; i < 64; i++) keep[i] = i < 5;
    check_kept(p, x, keep, 64);
}

static void large_ties_are_cut_by_id(void **state) {
    (void)state;
    enum { n = 3000 };
    static float x[n];
    static bool keep[n];
    for (size_t i = 0; i < n; i++) {
        x[i] = 1.0f;
        keep[i] = i < 1500;
    }
    llmo_sampling_params p = plain(1.0f);
    p.top_p = 0.5f;
    check_kept(p, x, keep, n);
    p.top_p = 1.0f;
    p.typical_p = 0.5f;
    check_kept(p, x, keep, n);
}

static void min_p(void **state) {
    (void)state;
    llmo_sampling_params p = plain(0.8f);
    const float ps[] = {0.001f, 0.05f, 0.3f};
    for (size_t i = 0; i < 3; i++) {
        p.min_p = ps[i];
        check_step(&p, ref_min_p, ps[i]);
    }
    p.min_p = 1.0f;
    check_step(&p, step_top_k, 1);
    p.min_keep = 9;
    check_step(&p, step_top_k, 9);
}

static void typical_p(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.1f);
    const float ps[] = {0.2f, 0.6f, 0.95f};
    for (size_t i = 0; i < 3; i++) {
        p.typical_p = ps[i];
        check_step(&p, ref_typical, ps[i]);
    }
}

static void xtc(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.xtc_probability = 1.0f;
    p.xtc_threshold = 0.05f;
    check_step(&p, ref_xtc, 0.05);
    float x[8] = {3.0f, 2.5f, 2.0f, 1.0f, 0.0f, -1.0f, -2.0f, -3.0f};
    reference f, g;
    ref_open(&f, x, 8);
    ref_open(&g, x, 8);
    ref_softmax(&f, 1.0);
    ref_xtc(&g, 0.1);
    assert_false(g.keep[0]); /* the logits above have three candidates over the threshold */
    assert_false(g.keep[1]);
    assert_true(g.keep[2]);
    ref_softmax(&g, 1.0);
    p.xtc_threshold = 0.1f;
    p.xtc_probability = 0.3f;
    for (size_t i = 0; i < 8; i++) f.p[i] = 0.7 * f.p[i] + 0.3 * g.p[i];
    check_distribution(&p, x, f.p, 8, 100000);
    /* fewer than min_keep would be left: nothing is dropped */
    p.xtc_probability = 1.0f;
    p.min_keep = 7;
    bool all[8] = {true, true, true, true, true, true, true, true};
    check_kept(p, x, all, 8);
    ref_close(&f);
    ref_close(&g);
}

/* Steps in their documented order, on a set that every one of them cuts. */
static void steps_run_in_the_documented_order(void **state) {
    (void)state;
    float x[400];
    random_logits(x, 400, 6.0f, 21);
    llmo_sampling_params p = plain(0.7f);
    p.top_k = 120;
    p.typical_p = 0.9f;
    p.top_p = 0.9f;
    p.min_p = 0.1f;
    p.xtc_probability = 1.0f;
    p.xtc_threshold = 0.045f;
    reference f;
    ref_open(&f, x, 400);
    size_t kept[6] = {400}, n_steps = 0;
    for (int step = 0; step < 5; step++) {
        if (step == 0) ref_top_k(&f, 120);
        if (step == 1) ref_typical(&f, (double)p.typical_p);
        if (step == 2) ref_top_p(&f, (double)p.top_p);
        if (step == 3) ref_min_p(&f, (double)p.min_p);
        if (step == 4) ref_xtc(&f, (double)p.xtc_threshold);
        kept[step + 1] = 0;
        for (size_t i = 0; i < 400; i++) kept[step + 1] += f.keep[i];
        n_steps += kept[step + 1] < kept[step];
    }
    assert_int_equal(n_steps, 5);
    check_kept(p, x, f.keep, 400);
    ref_softmax(&f, (double)p.temperature);
    check_distribution(&p, x, f.p, 400, 100000);
    ref_close(&f);
}

/* What a sampler did to the logits, seen through greedy choices, is hard to measure: read the array itself. */
static void adjusted(const llmo_sampling_params *params, const float *x, float *out, uint32_t n,
                     const llmo_token *history, size_t n_history, const llmo_token *breakers, size_t n_breakers) {
    llmo_sampling_params p = *params;
    p.temperature = 0.0f; /* leaves the logits as the penalties made them */
    rig r;
    rig_open(&r, &p, n, breakers, n_breakers);
    (void)rig_next(&r, x, history, n_history);
    memcpy(out, r.logits, n * sizeof(float));
    memcpy(r.logits, x, n * sizeof(float)); /* a second token: nothing of the first one is left */
    (void)llmoi_sampler_next(r.sampler, r.scratch, r.logits, history, n_history);
    assert_memory_equal(out, r.logits, n * sizeof(float));
    rig_close(&r);
}

static void repetition_penalty(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.penalty_repeat = 1.25f;
    const float x[6] = {2.0f, -2.0f, 0.0f, 3.0f, 4.0f, 5.0f};
    const llmo_token history[] = {5, 4, 0, 1, 1, 2, 0};
    float y[6];
    p.penalty_last = 4; /* 1 1 2 0 */
    adjusted(&p, x, y, 6, history, 7, NULL, 0);
    const float expected[6] = {1.6f, -2.5f, 0.0f, 3.0f, 4.0f, 5.0f};
    for (int i = 0; i < 6; i++) assert_float_equal(y[i], expected[i], 1e-6f);
    p.penalty_last = -1;
    adjusted(&p, x, y, 6, history, 7, NULL, 0);
    const float all[6] = {1.6f, -2.5f, 0.0f, 3.0f, 3.2f, 4.0f};
    for (int i = 0; i < 6; i++) assert_float_equal(y[i], all[i], 1e-6f);
    p.penalty_last = 0;
    adjusted(&p, x, y, 6, history, 7, NULL, 0);
    assert_memory_equal(x, y, sizeof x);
    p.penalty_last = 100; /* longer than the history */
    adjusted(&p, x, y, 6, history, 7, NULL, 0);
    for (int i = 0; i < 6; i++) assert_float_equal(y[i], all[i], 1e-6f);
}

static void presence_and_frequency(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.penalty_presence = 0.5f;
    p.penalty_frequency = 0.125f;
    p.penalty_last = -1;
    enum { n = 50, n_history = 3000 };
    float x[n], y[n];
    random_logits(x, n, 4.0f, 8);
    llmo_token history[n_history];
    uint64_t seed = 5;
    int count[n] = {0};
    for (size_t i = 0; i < n_history; i++) {
        history[i] = (llmo_token)(mix(&seed) % 40);
        count[history[i]]++;
    }
    adjusted(&p, x, y, n, history, n_history, NULL, 0);
    for (int i = 0; i < n; i++) {
        float expected = x[i] - (count[i] ? 0.5f + 0.125f * (float)count[i] : 0.0f);
        assert_float_equal(y[i], expected, 1e-4f);
    }
    assert_int_equal(count[45], 0);
    assert_true(y[45] == x[45]);
}

/* DRY by its definition, comparing all pairs. */
static void naive_dry(float *x, const llmo_sampling_params *p, const llmo_token *h, size_t n, const bool *breaker,
                      uint32_t n_vocab) {
    size_t last = p->dry_last < 0 || (size_t)p->dry_last > n ? n : (size_t)p->dry_last;
    h += n - last;
    n = last;
    size_t *longest = calloc(n_vocab, sizeof *longest);
    for (size_t next = 1; next < n; next++) { /* h[next] followed h[..next), which ends like the history */
        size_t length = 0;
        while (length < next && h[next - 1 - length] == h[n - 1 - length] && !breaker[h[next - 1 - length]]) length++;
        if (length > longest[h[next]]) longest[h[next]] = length;
    }
    size_t least = p->dry_allowed_length > 1 ? (size_t)p->dry_allowed_length : 1;
    for (uint32_t t = 0; t < n_vocab; t++) {
        if (longest[t] < least || breaker[t]) continue;
        double penalty = p->dry_multiplier * pow(p->dry_base, (double)longest[t] - p->dry_allowed_length);
        x[t] -= (float)(penalty < 1e30 ? penalty : 1e30);
    }
    free(longest);
}

static void dry(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.dry_multiplier = 0.8f;
    /* the example of the method: a b c c b c y a b c */
    float x[30] = {0}, y[30];
    const llmo_token example[] = {1, 2, 3, 3, 2, 3, 9, 1, 2, 3};
    adjusted(&p, x, y, 30, example, 10, NULL, 0);
    assert_float_equal(y[3], -0.8f * 1.75f, 1e-6f); /* continues "a b c": 3 tokens */
    assert_float_equal(y[9], -0.8f, 1e-6f);         /* continues "b c" */
    assert_true(y[2] == 0.0f);                      /* continues "c" only */
    const bool none[30] = {false};
    uint64_t seed = 99;
    size_t n_penalized = 0;
    for (int round = 0; round < 3000; round++) {
        uint32_t n_vocab = 2 + (uint32_t)(mix(&seed) % 28);
        size_t n = (size_t)(mix(&seed) % 90);
        llmo_token history[90];
        bool breaker[30];
        llmo_token breakers[30];
        size_t n_breakers = 0;
        uint32_t alphabet = 1 + (uint32_t)(mix(&seed) % n_vocab);
        for (size_t i = 0; i < n; i++) {
            history[i] = (llmo_token)(mix(&seed) % alphabet);
            if (i > 10 && mix(&seed) % 4) history[i] = history[i - 7]; /* makes long repetitions */
        }
        memcpy(breaker, none, sizeof breaker);
        for (uint32_t t = 0; t < n_vocab; t++) {
            breaker[t] = mix(&seed) % 8 == 0;
            if (breaker[t]) breakers[n_breakers++] = (llmo_token)t;
        }
        p.dry_allowed_length = (int32_t)(mix(&seed) % 5);
        p.dry_last = (int32_t)(mix(&seed) % 100) - 1;
        float expected[30];
        random_logits(x, n_vocab, 4.0f, seed);
        memcpy(expected, x, sizeof expected);
        naive_dry(expected, &p, history, n, breaker, n_vocab);
        adjusted(&p, x, y, n_vocab, history, n, breakers, n_breakers);
        for (uint32_t t = 0; t < n_vocab; t++) {
            if (expected[t] != x[t]) n_penalized++;
            float tolerance = 1e-5f * (1.0f + fabsf(expected[t]));
            if (!(fabsf(y[t] - expected[t]) <= tolerance)) {
                fail_msg("round %d: token %u is %g, not %g", round, t, (double)y[t], (double)expected[t]);
            }
        }
    }
    assert_in_range(n_penalized, 2000, SIZE_MAX);
}

static void dry_does_not_overflow(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.dry_multiplier = 10.0f;
    p.dry_base = 100.0f;
    llmo_token history[3000] = {0};
    float x[4] = {1.0f, 0.0f, 0.0f, 0.0f}, y[4];
    adjusted(&p, x, y, 4, history, 3000, NULL, 0);
    assert_true(isfinite(y[0]) && y[0] < -1e29f);
    assert_true(y[1] == 0.0f);
    p.dry_base = 1.0f;
    adjusted(&p, x, y, 4, history, 3000, NULL, 0);
    assert_float_equal(y[0], -9.0f, 1e-6f);
}

static void mirostat_v2(void **state) {
    (void)state;
    enum { n = 5000, rounds = 20000 };
    static float x[n];
    for (size_t i = 0; i < n; i++) x[(i * 7919) % n] = (float)-log((double)i + 1.0);
    const float taus[] = {2.0f, 4.0f, 6.0f};
    for (size_t t = 0; t < 3; t++) {
        llmo_sampling_params p = plain(1.0f);
        p.mirostat = 2;
        p.mirostat_tau = taus[t];
        p.top_k = 1; /* without effect */
        rig r;
        rig_open(&r, &p, n, NULL, 0);
        /* the same controller in double: the set, the surprise in it, and so mu are known from outside. Tokens by rank:
         * ranks up to the first surprise above mu are kept */
        double total = 0.0, surprise_of[n], kept_to[n], mu = 2.0 * taus[t], mean = 0.0;
        size_t rank_of[n];
        for (size_t i = 0; i < n; i++) {
            rank_of[(i * 7919) % n] = i;
            total += exp(x[(i * 7919) % n]);
            kept_to[i] = total;
        }
        for (size_t i = 0; i < n; i++) surprise_of[i] = log2(total / exp(x[(i * 7919) % n]));
        for (size_t k = 0; k < rounds; k++) {
            size_t rank = rank_of[rig_next(&r, x, NULL, 0)], last = 0;
            while (last + 1 < n && surprise_of[last + 1] <= mu) last++; /* rank 0 is always kept */
            /* later the two values of mu drift apart, by the rounding of weights to float */
            if (k < 1000 && rank > last && surprise_of[rank] > mu + 1e-4)
                fail_msg("%zu: rank %zu is beyond mu", k, rank);
            double surprise = surprise_of[rank] + log2(kept_to[last] / total);
            mu -= 0.1 * (surprise - taus[t]);
            mean += surprise / rounds;
        }
        if (fabs(mean - taus[t]) > 0.05) fail_msg("mean surprise %.3f, tau %.1f", mean, (double)taus[t]);
        rig_close(&r);
    }
}

static void mirostat_applies_the_temperature_first(void **state) {
    (void)state;
    float x[50];
    random_logits(x, 50, 5.0f, 4);
    llmo_sampling_params p = plain(2.0f);
    p.mirostat = 2;
    p.mirostat_tau = 2.5f; /* mu is 5 and stays there */
    p.mirostat_eta = 0.0f;
    reference f;
    ref_open(&f, x, 50);
    ref_softmax(&f, 2.0);
    size_t n_cut = 0;
    for (size_t i = 0; i < 50; i++) {
        f.keep[i] = -log2(f.p[i]) <= 5.0;
        n_cut += !f.keep[i];
    }
    assert_in_range(n_cut, 5, 45);
    ref_softmax(&f, 2.0);
    check_distribution(&p, x, f.p, 50, 100000);
    ref_close(&f);
}

static void logit_bias(void **state) {
    (void)state;
    float x[20], biased[20];
    random_logits(x, 20, 4.0f, 6);
    llmo_token tokens[] = {3, 7, 3, 11, 12};
    float values[] = {1.0f, -2.0f, 0.5f, -INFINITY, -INFINITY};
    llmo_sampling_params p = plain(1.0f);
    p.n_bias = 5;
    p.bias_tokens = tokens;
    p.bias_values = values;
    rig r; /* the arrays are copied */
    rig_open(&r, &p, 20, NULL, 0);
    memcpy(biased, x, sizeof x);
    for (int i = 0; i < 5; i++) biased[tokens[i]] += values[i];
    x[12] = INFINITY; /* stays forbidden */
    reference f;
    ref_open(&f, biased, 20);
    ref_softmax(&f, 1.0);
    assert_true(f.p[11] == 0.0 && f.p[12] == 0.0);
    check_distribution(&p, x, f.p, 20, 100000);
    memset(tokens, 0, sizeof tokens);
    for (int i = 0; i < 5; i++) values[i] = -INFINITY;
    for (int i = 0; i < 500; i++) {
        llmo_token t = rig_next(&r, x, NULL, 0);
        assert_int_not_equal(t, 11);
        assert_int_not_equal(t, 12);
    }
    rig_close(&r);
    ref_close(&f);
}

/* Outputs of PCG32 for seed 42 and stream 54 as published with the generator. */
static const uint32_t pcg_published[6] = {0xa15c02b7u, 0x7b47f409u, 0xba1d3330u, 0x83d2f293u, 0xbfa4784bu, 0xcbed606eu};

static void seed_reproduces_and_documented_generator(void **state) {
    (void)state;
    enum { n = 65536 };
    float *x = calloc(n, sizeof *x);
    llmo_sampling_params p = plain(1.0f);
    p.seed = 42;
    rig r; /* of 2^16 equal tokens a draw chooses the one of its upper 16 bits */
    rig_open(&r, &p, n, NULL, 0);
    for (int i = 0; i < 6; i++) assert_int_equal(rig_next(&r, x, NULL, 0), pcg_published[i] >> 16);
    rig_close(&r);
    p.xtc_probability = 0.5f; /* one more draw per token, before the token's */
    rig_open(&r, &p, n, NULL, 0);
    for (int i = 0; i < 3; i++) assert_int_equal(rig_next(&r, x, NULL, 0), pcg_published[2 * i + 1] >> 16);
    rig_close(&r);
    /* other seeds, other tokens */
    size_t same = 0;
    p.xtc_probability = 0.0f;
    for (uint64_t seed = 0; seed < 100; seed++) {
        p.seed = seed << 32 | 1;
        same += once(&p, x, n, NULL, 0) == (llmo_token)(pcg_published[0] >> 16);
    }
    assert_true(same < 3);
    free(x);
}

/* A hash of many choices with all steps: the number must be the same for every compiler, option and machine. */
static void choices_are_the_same_on_every_machine(void **state) {
    (void)state;
    enum { n = 3000 };
    static float x[n];
    uint64_t hash = 0xcbf29ce484222325u, seed = 31;
    for (int variant = 0; variant < 8; variant++) {
        llmo_sampling_params p;
        llmo_sampling_params_init(&p);
        p.seed = 7 + (uint64_t)variant;
        if (variant & 1) p.top_k = 0;
        if (variant & 2) {
            p.min_p = 0.0f;
            p.typical_p = 0.97f;
            p.penalty_repeat = 1.1f;
            p.penalty_frequency = 0.1f;
            p.dry_multiplier = 0.8f;
            p.temperature = 1.7f;
        }
        if (variant & 4) p.xtc_probability = 0.5f;
        if (variant == 5) p.mirostat = 2;
        rig r;
        rig_open(&r, &p, n, NULL, 0);
        llmo_token history[200];
        for (size_t i = 0; i < 200; i++) {
            random_logits(x, n, 8.0f, mix(&seed));
            history[i] = rig_next(&r, x, history, i);
            hash = (hash ^ (uint64_t)history[i]) * 0x100000001b3u;
        }
        rig_close(&r);
    }
    if (hash != 0xf5f4a5ba233b1434u) fail_msg("the hash is 0x%016llx", (unsigned long long)hash);
}

static void exponential_and_logarithm_are_as_exact_as_documented(void **state) {
    (void)state;
    double worst = 0.0;
    for (float x = -80.0f; x < 0.0f; x += 0.00037f) {
        if (x <= -80.0f) continue;
        double exact = exp((double)x);
        double error = fabs((double)llmoi_exp_nonpositive(x) / exact - 1.0);
        if (error > worst) worst = error;
    }
    if (!(worst < 1.2e-7)) fail_msg("relative error of exp: %g", worst);
    assert_true(llmoi_exp_nonpositive(0.0f) == 1.0f);
    assert_true(llmoi_exp_nonpositive(-0.0f) == 1.0f);
    assert_true(llmoi_exp_nonpositive(-INFINITY) == 0.0f);
    assert_true(llmoi_exp_nonpositive(-1e30f) == 0.0f);
    assert_true(llmoi_exp_nonpositive(NAN) == 0.0f);
    for (double x = 1e-12; x < 1e12; x *= 1.0007) {
        double exact = log(x);
        double scale = fabs(exact) > 1.0 ? fabs(exact) : 1.0;
        if (!(fabs(llmoi_log(x) - exact) < 1e-15 * scale)) fail_msg("log(%.17g) is %.17g", x, llmoi_log(x));
    }
}

typedef struct seen_by_callback {
    int calls;
    uint32_t n_vocab;
    float first;
    size_t n_tokens;
    llmo_token last;
    float *replace;
} seen_by_callback;

static void on_logits(void *user, float *logits, uint32_t n_vocab, const llmo_token *tokens, size_t n_tokens) {
    seen_by_callback *s = user;
    s->calls++;
    s->n_vocab = n_vocab;
    s->first = logits[0];
    s->n_tokens = n_tokens;
    s->last = n_tokens ? tokens[n_tokens - 1] : LLMO_TOKEN_NONE;
    if (s->replace) memcpy(logits, s->replace, n_vocab * sizeof(float));
}

static void logits_callback(void **state) {
    (void)state;
    float x[10] = {1.0f, 2.0f, 9.0f}, other[10] = {0};
    llmo_token history[3] = {4, 5, 0};
    llmo_token token = 0;
    float value = -100.0f;
    seen_by_callback s = {0};
    llmo_sampling_params p = plain(0.0f);
    p.logits = on_logits;
    p.logits_user = &s;
    p.penalty_presence = 1.0f;
    p.n_bias = 1;
    p.bias_tokens = &token;
    p.bias_values = &value;
    assert_int_equal(once(&p, x, 10, history, 3), 2);
    assert_int_equal(s.calls, 1);
    assert_int_equal(s.n_vocab, 10);
    assert_int_equal(s.n_tokens, 3);
    assert_int_equal(s.last, 0);
    assert_true(s.first == 1.0f); /* before bias and penalties */
    for (int i = 0; i < 10; i++) other[i] = -INFINITY;
    other[6] = 0.0f; /* the host forces a token */
    s.replace = other;
    p.temperature = 1.0f;
    for (int i = 0; i < 20; i++) assert_int_equal(once(&p, x, 10, history, 3), 6);
    other[6] = -INFINITY; /* nothing is left: the model's own best */
    assert_int_equal(once(&p, x, 10, history, 3), 2);
}

static void hostile_logits(void **state) {
    (void)state;
    enum { n = 700 };
    static float x[n];
    llmo_token history[64];
    for (int i = 0; i < 64; i++) history[i] = i < 32 ? i : i - 32;
    history[10] = -7; /* tokens that are none */
    history[11] = INT32_MAX;
    history[12] = n;
    const float values[] = {NAN,     -NAN,  INFINITY, -INFINITY, FLT_MAX, -FLT_MAX,
                            FLT_MIN, -0.0f, 0.0f,     1e-45f,    1.0f,    -88.0f};
    uint64_t seed = 1;
    for (int round = 0; round < 600; round++) {
        size_t palette = 1 + (size_t)(mix(&seed) % 12), first = (size_t)(mix(&seed) % 12);
        for (size_t i = 0; i < n; i++) x[i] = values[(first + mix(&seed) % palette) % 12];
        llmo_sampling_params p;
        llmo_sampling_params_init(&p);
        p.seed = (uint64_t)round;
        p.top_k = (int32_t)(mix(&seed) % 3) * 20;
        p.typical_p = mix(&seed) % 2 ? 1.0f : 0.5f;
        p.xtc_probability = mix(&seed) % 2 ? 0.0f : 1.0f;
        p.xtc_threshold = mix(&seed) % 2 ? 0.0f : 0.1f;
        p.mirostat = mix(&seed) % 4 ? 0 : 2;
        p.temperature = mix(&seed) % 3 ? 0.8f : mix(&seed) % 2 ? FLT_MAX : 1e-45f;
        p.min_keep = (uint32_t)(mix(&seed) % 4);
        if (mix(&seed) % 2) p.penalty_repeat = p.penalty_frequency = 1.3f;
        if (mix(&seed) % 2) p.dry_multiplier = FLT_MAX;
        bool penalized = p.penalty_repeat != 1.0f || p.dry_multiplier > 0.0f;
        llmo_token t = once(&p, x, n, history, 64);
        size_t first_inf = n, any = 0;
        for (size_t i = n; i-- > 0;) {
            if (x[i] == INFINITY) first_inf = i;
            any += x[i] > -INFINITY;
        }
        if (first_inf < n) assert_int_equal(t, first_inf);
        if (any && !penalized) assert_true(x[t] > -INFINITY);
        if (!any) assert_int_equal(t, llmoi_argmax(x, n));
    }
    /* a bias on everything: the largest raw logit, first of equals */
    float y[4] = {1.0f, 3.0f, 3.0f, 2.0f};
    llmo_token tokens[4] = {0, 1, 2, 3};
    float forbid[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    llmo_sampling_params p = plain(1.0f);
    p.n_bias = 4;
    p.bias_tokens = tokens;
    p.bias_values = forbid;
    assert_int_equal(once(&p, y, 4, NULL, 0), 1);
    float one[1] = {-INFINITY};
    p = plain(1.0f);
    assert_int_equal(once(&p, one, 1, NULL, 0), 0);
}

static void history_longer_than_announced_is_cut(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.dry_multiplier = 1.0f;
    p.penalty_last = -1;
    p.penalty_presence = 1.0f;
    llmo_token *history = calloc(MAX_TOKENS * 2, sizeof *history);
    history[0] = 1; /* farther back than max_tokens */
    float x[3] = {0}, y[3];
    adjusted(&p, x, y, 3, history, MAX_TOKENS * 2, NULL, 0);
    assert_true(y[0] < -1e29f);
    assert_true(y[1] == 0.0f);
    free(history);
}

static void expect_refusal(const llmo_sampling_params *p, const char *sentence) {
    llmoi_mem mem;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    llmoi_sampler *s = (llmoi_sampler *)&mem;
    assert_int_equal(llmoi_sampler_create(&mem, p, 32000, 100, NULL, 0, &s), LLMO_E_ARG);
    assert_null(s);
    assert_string_equal(llmoi_message(), sentence);
    assert_int_equal(mem.n_allocs, 0);
}

static void bad_parameters_name_the_field(void **state) {
    (void)state;
    llmo_sampling_params good;
    llmo_sampling_params_init(&good);
#define REFUSED(field, value, sentence)                                                                                \
    do {                                                                                                               \
        llmo_sampling_params p = good;                                                                                 \
        p.field = value;                                                                                               \
        expect_refusal(&p, sentence);                                                                                  \
    } while (0)
    REFUSED(reserved0, 3, "reserved0 is 3, not 0");
    REFUSED(reserved1, 4, "reserved1 is 4, not 0");
    REFUSED(temperature, NAN, "temperature is NaN");
    REFUSED(temperature, -0.5f, "temperature -0.5 is negative");
    REFUSED(temperature, INFINITY, "temperature is infinite");
    REFUSED(top_k, -1, "top_k -1 is below 0");
    REFUSED(top_p, NAN, "top_p is NaN");
    REFUSED(top_p, 1.5f, "top_p 1.5 is outside 0..1");
    REFUSED(min_p, NAN, "min_p is NaN");
    REFUSED(min_p, -0.25f, "min_p -0.25 is outside 0..1");
    REFUSED(typical_p, NAN, "typical_p is NaN");
    REFUSED(typical_p, 2.0f, "typical_p 2 is outside 0..1");
    REFUSED(penalty_last, -2, "penalty_last -2 is below -1");
    REFUSED(penalty_repeat, NAN, "penalty_repeat is NaN");
    REFUSED(penalty_repeat, -1.0f, "penalty_repeat -1 is negative");
    REFUSED(penalty_repeat, INFINITY, "penalty_repeat is infinite");
    REFUSED(penalty_repeat, 0.0f, "penalty_repeat 0 is not above 0 (1 turns it off)");
    REFUSED(penalty_presence, NAN, "penalty_presence is NaN");
    REFUSED(penalty_presence, -INFINITY, "penalty_presence is infinite");
    REFUSED(penalty_frequency, NAN, "penalty_frequency is NaN");
    REFUSED(penalty_frequency, INFINITY, "penalty_frequency is infinite");
    REFUSED(dry_multiplier, NAN, "dry_multiplier is NaN");
    REFUSED(dry_multiplier, -1.0f, "dry_multiplier -1 is negative");
    REFUSED(dry_base, NAN, "dry_base is NaN");
    REFUSED(dry_base, 0.5f, "dry_base 0.5 is below 1");
    REFUSED(dry_base, INFINITY, "dry_base is infinite");
    REFUSED(dry_allowed_length, -1, "dry_allowed_length -1 is below 0");
    REFUSED(dry_last, -2, "dry_last -2 is below -1");
    REFUSED(n_dry_breakers, 2, "n_dry_breakers is 2, but dry_breakers is NULL");
    REFUSED(xtc_probability, NAN, "xtc_probability is NaN");
    REFUSED(xtc_probability, 1.25f, "xtc_probability 1.25 is outside 0..1");
    REFUSED(xtc_threshold, NAN, "xtc_threshold is NaN");
    REFUSED(xtc_threshold, -0.5f, "xtc_threshold -0.5 is outside 0..1");
    REFUSED(mirostat, 1, "mirostat 1 is neither 0 (off) nor 2");
    REFUSED(mirostat_tau, NAN, "mirostat_tau is NaN");
    REFUSED(mirostat_tau, -1.0f, "mirostat_tau -1 is negative");
    REFUSED(mirostat_eta, NAN, "mirostat_eta is NaN");
    REFUSED(mirostat_eta, -1.0f, "mirostat_eta -1 is negative");
    REFUSED(n_bias, 2, "n_bias is 2, but bias_tokens is NULL");
    llmo_token tokens[2] = {5, 70000};
    float values[2] = {1.0f, 2.0f};
    good.n_bias = 2;
    good.bias_tokens = tokens;
    REFUSED(bias_values, NULL, "n_bias is 2, but bias_values is NULL");
    REFUSED(bias_values, values, "bias token 70000 is outside the vocabulary of 32000");
    tokens[1] = -1;
    REFUSED(bias_values, values, "bias token -1 is outside the vocabulary of 32000");
    tokens[1] = 31999;
    values[0] = NAN;
    REFUSED(bias_values, values, "bias value of token 5 is NaN");
    values[0] = INFINITY;
    REFUSED(bias_values, values, "bias value of token 5 is +infinity");
#undef REFUSED
    values[0] = -INFINITY;
    good.bias_values = values;
    llmoi_mem mem;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    llmoi_sampler *s = NULL;
    assert_int_equal(llmoi_sampler_create(&mem, &good, 32000, 100, NULL, 0, &s), LLMO_OK);
    llmoi_sampler_destroy(&mem, s);
    const llmo_token outside = 32000;
    assert_int_equal(llmoi_sampler_create(&mem, &good, 32000, 100, &outside, 1, &s), LLMO_E_ARG);
    assert_string_equal(llmoi_message(), "dry_breakers: token 32000 is outside the vocabulary of 32000");
    assert_int_equal(llmoi_sampler_create(&mem, &good, 0, 100, NULL, 0, &s), LLMO_E_ARG);
    assert_int_equal(llmoi_mem_total(&mem), 0);
    llmoi_sampler_destroy(&mem, NULL);
}

static void defaults_are_as_documented(void **state) {
    (void)state;
    llmo_sampling_params p;
    memset(&p, 0xff, sizeof p);
    llmo_sampling_params_init(&p);
    llmo_sampling_params_init(NULL);
    assert_int_equal(p.struct_size, sizeof p);
    assert_true(p.temperature == 0.8f && p.top_k == 40 && p.top_p == 0.95f && p.min_p == 0.05f && p.typical_p == 1.0f);
    assert_true(p.min_keep == 1 && p.penalty_last == 64 && p.penalty_repeat == 1.0f && p.penalty_presence == 0.0f);
    assert_true(p.penalty_frequency == 0.0f && p.dry_multiplier == 0.0f && p.dry_base == 1.75f);
    assert_true(p.dry_allowed_length == 2 && p.dry_last == -1 && !p.dry_breakers && p.n_dry_breakers == 0);
    assert_true(p.xtc_probability == 0.0f && p.xtc_threshold == 0.1f && p.mirostat == 0 && p.mirostat_tau == 5.0f);
    assert_true(p.mirostat_eta == 0.1f && p.n_bias == 0 && !p.bias_tokens && !p.bias_values && !p.logits);
    assert_true(p.seed == 0 && p.reserved0 == 0 && p.reserved1 == 0 && !p.logits_user);
}

/* Everything on, so that create takes all the memory that it can. */
static void all_on(llmo_sampling_params *p) {
    static const llmo_token tokens[2] = {1, 2};
    static const float values[2] = {0.5f, -INFINITY};
    llmo_sampling_params_init(p);
    p->penalty_last = -1;
    p->penalty_repeat = 1.1f;
    p->dry_multiplier = 0.8f;
    p->xtc_probability = 0.5f;
    p->n_bias = 2;
    p->bias_tokens = tokens;
    p->bias_values = values;
}

static void no_allocation_while_choosing(void **state) {
    (void)state;
    enum { n = 2000 };
    static float x[n];
    llmo_sampling_params p;
    all_on(&p);
    for (int mode = 0; mode < 3; mode++) {
        if (mode == 1) p.top_k = 0;
        if (mode == 2) p.mirostat = 2;
        rig r;
        rig_open(&r, &p, n, NULL, 0);
        uint64_t before = r.mem.n_allocs, bytes = llmoi_mem_total(&r.mem);
        assert_true(before > 0);
        llmo_token history[100];
        for (size_t i = 0; i < 100; i++) {
            random_logits(x, n, 5.0f, i);
            history[i] = rig_next(&r, x, history, i);
        }
        assert_int_equal(r.mem.n_allocs, before);
        assert_int_equal(llmoi_mem_total(&r.mem), bytes);
        rig_close(&r);
    }
}

typedef struct failing {
    int left; /* allocations that still succeed */
    int live;
} failing;

static void *failing_alloc(void *user, size_t bytes, size_t alignment) {
    failing *f = user;
    if (f->left-- <= 0) return NULL;
    f->live++;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void failing_release(void *user, void *ptr, size_t bytes) {
    (void)bytes;
    ((failing *)user)->live--;
    free(ptr);
}

static void create_survives_failing_allocations(void **state) {
    (void)state;
    llmo_sampling_params p;
    all_on(&p);
    const llmo_token breaker = 9;
    int needed = 0;
    for (;; needed++) {
        failing f = {.left = needed};
        llmoi_mem mem;
        llmoi_mem_init(&mem, &f, failing_alloc, failing_release);
        llmoi_sampler *s = (llmoi_sampler *)&mem;
        llmo_status st = llmoi_sampler_create(&mem, &p, 1000, 500, &breaker, 1, &s);
        if (st == LLMO_OK) {
            assert_non_null(s);
            llmoi_sampler_destroy(&mem, s);
        } else {
            assert_int_equal(st, LLMO_E_NOMEM);
            assert_null(s);
        }
        assert_int_equal(f.live, 0);
        assert_int_equal(llmoi_mem_total(&mem), 0);
        if (st == LLMO_OK) break;
    }
    assert_int_equal(needed, 5);
}

/* The plan predicts these bytes: what init places must lie inside them. The sanitizer watches the end. */
static void scratch_stays_inside_its_bytes(void **state) {
    (void)state;
    const uint32_t sizes[] = {1, 2, 63, 64, 65, 127, 1000};
    for (size_t k = 0; k < 7; k++) {
        uint32_t n = sizes[k];
        size_t bytes = llmoi_sample_scratch_bytes(n);
        unsigned char *memory = aligned_alloc(64, bytes + 64);
        memset(memory, 0x5a, bytes + 64);
        llmoi_sample_scratch *scratch = llmoi_sample_scratch_init(memory, n);
        float x[1000];
        llmo_token history[1000];
        for (int mode = 0; mode < 3; mode++) {
            llmo_sampling_params p = plain(1.0f);
            p.top_k = mode == 1 ? 40 : 0;
            p.mirostat = mode == 2 ? 2 : 0;
            p.top_p = p.typical_p = 0.9f;
            p.dry_multiplier = p.penalty_presence = 1.0f;
            llmoi_mem mem;
            llmoi_mem_init(&mem, NULL, NULL, NULL);
            llmoi_sampler *s = NULL;
            assert_int_equal(llmoi_sampler_create(&mem, &p, n, 1000, NULL, 0, &s), LLMO_OK);
            for (size_t i = 0; i < 1000; i++) history[i] = (llmo_token)(i % n);
            for (int i = 0; i < 20; i++) {
                random_logits(x, n, 1.0f, (uint64_t)i);
                assert_in_range(llmoi_sampler_next(s, scratch, x, history, 1000), 0, n - 1);
            }
            llmoi_sampler_destroy(&mem, s);
        }
        for (size_t i = bytes; i < bytes + 64; i++) assert_int_equal(memory[i], 0x5a);
        free(memory);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy),
        cmocka_unit_test(argmax_ignores_nan),
        cmocka_unit_test(temperature),
        cmocka_unit_test(top_k),
        cmocka_unit_test(top_k_beyond_4096_keeps_exactly_k),
        cmocka_unit_test(top_p),
        cmocka_unit_test(large_ties_are_cut_by_id),
        cmocka_unit_test(min_p),
        cmocka_unit_test(typical_p),
        cmocka_unit_test(xtc),
        cmocka_unit_test(steps_run_in_the_documented_order),
        cmocka_unit_test(repetition_penalty),
        cmocka_unit_test(presence_and_frequency),
        cmocka_unit_test(dry),
        cmocka_unit_test(dry_does_not_overflow),
        cmocka_unit_test(mirostat_v2),
        cmocka_unit_test(mirostat_applies_the_temperature_first),
        cmocka_unit_test(logit_bias),
        cmocka_unit_test(seed_reproduces_and_documented_generator),
        cmocka_unit_test(choices_are_the_same_on_every_machine),
        cmocka_unit_test(exponential_and_logarithm_are_as_exact_as_documented),
        cmocka_unit_test(logits_callback),
        cmocka_unit_test(hostile_logits),
        cmocka_unit_test(history_longer_than_announced_is_cut),
        cmocka_unit_test(bad_parameters_name_the_field),
        cmocka_unit_test(defaults_are_as_documented),
        cmocka_unit_test(no_allocation_while_choosing),
        cmocka_unit_test(create_survives_failing_allocations),
        cmocka_unit_test(scratch_stays_inside_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
