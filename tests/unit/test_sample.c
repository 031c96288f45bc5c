/* What is drawn, against probabilities that this file computes for itself, in double and with libm. Seeds are fixed, so a
 * run is either always right or always wrong. */
#include "sample_rig.h"

#include "sample_internal.h"

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
    float x[700];
    for (int large = 0; large < 2; large++) {
        size_t n = large ? 700 : 60;
        random_logits(x, n, large ? 4.0f : 6.0f, 77);
        x[5] = -INFINITY;
        x[6] = NAN;
        float clean[700];
        memcpy(clean, x, sizeof clean);
        clean[6] = -INFINITY;
        reference f;
        ref_open(&f, clean, n);
        step(&f, argument);
        check_kept(*params, x, f.keep, n);
        ref_softmax(&f, params->temperature);
        if (!large) check_distribution(params, x, f.p, n, 50000);
        ref_close(&f);
    }
}

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
        check_distribution(&p, x, f.p, 40, 50000);
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
    enum { n = 9000, k = 5000 };
    static float x[n];
    random_logits(x, n, 5.0f, 9);
    for (size_t i = 0; i < n; i++) x[i] = floorf(x[i] * 4.0f); /* equal ones at the edge, too */
    x[100] = x[8000] = -INFINITY;
    reference f;
    ref_open(&f, x, n);
    ref_top_k(&f, k);
    rig r;
    llmo_sampling_params p = plain(1.0f);
    rig_open(&r, &p, n, NULL, 0);
    llmoi_candidates c;
    (void)llmoi_chunk_maxima(x, n, r.scratch->chunk_max);
    memcpy(r.logits, x, sizeof x);
    llmoi_cand_top_k(&c, r.scratch, r.logits, k);
    assert_int_equal(c.n, k);
    for (size_t i = 0, next = 0; i < n; i++) {
        if (!f.keep[i]) continue;
        assert_int_equal(c.ids[next], i);
        assert_true(c.logits[next++] == x[i]);
    }
    rig_close(&r);
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
    check_distribution(&p, x, f.p, 8, 50000);
    /* fewer than min_keep would be left: nothing is dropped */
    p.xtc_probability = 1.0f;
    p.min_keep = 7;
    bool all[8] = {true, true, true, true, true, true, true, true};
    check_kept(p, x, all, 8);
    p.min_keep = 1; /* of equally likely ones the last stays */
    float tie[4] = {1.0f, 1.0f, 1.0f, -5.0f};
    bool stays[4] = {false, false, true, true};
    check_kept(p, tie, stays, 4);
    ref_close(&f);
    ref_close(&g);
}

/* Steps in their documented order, on a set that every one of them cuts; with and without a top-k before. */
static void steps_run_in_the_documented_order(void **state) {
    (void)state;
    float x[400];
    random_logits(x, 400, 6.0f, 21);
    for (int with_top_k = 0; with_top_k < 2; with_top_k++) {
        llmo_sampling_params p = plain(0.7f);
        p.top_k = with_top_k ? 120 : 0;
        p.typical_p = 0.9f;
        p.top_p = 0.9f;
        p.min_p = 0.1f;
        p.xtc_probability = 1.0f;
        p.xtc_threshold = 0.045f;
        reference f;
        ref_open(&f, x, 400);
        size_t before = 400, n_cuts = 0;
        for (int step = with_top_k ? 0 : 1; step < 5; step++) {
            if (step == 0) ref_top_k(&f, 120);
            if (step == 1) ref_typical(&f, (double)p.typical_p);
            if (step == 2) ref_top_p(&f, (double)p.top_p);
            if (step == 3) ref_min_p(&f, (double)p.min_p);
            if (step == 4) ref_xtc(&f, (double)p.xtc_threshold);
            size_t kept = 0;
            for (size_t i = 0; i < 400; i++) kept += f.keep[i];
            n_cuts += kept < before;
            before = kept;
        }
        assert_int_equal(n_cuts, with_top_k ? 5 : 4);
        check_kept(p, x, f.keep, 400);
        ref_softmax(&f, (double)p.temperature);
        check_distribution(&p, x, f.p, 400, 50000);
        ref_close(&f);
    }
}

static void mirostat_v2(void **state) {
    (void)state;
    enum { n = 2000, rounds = 6000 };
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
    check_distribution(&p, x, f.p, 50, 50000);
    ref_close(&f);
}

static void mirostat_keeps_one_token_when_all_surprise_too_much(void **state) {
    (void)state;
    llmo_sampling_params p = plain(1.0f);
    p.mirostat = 2;
    p.mirostat_tau = 0.0f;
    const float x[4] = {0.0f, 5.0f, 5.0f, 1.0f};
    const bool first[4] = {false, true, false, false};
    check_kept(p, x, first, 4);
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
    check_distribution(&p, x, f.p, 20, 50000);
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
        cmocka_unit_test(mirostat_v2),
        cmocka_unit_test(mirostat_applies_the_temperature_first),
        cmocka_unit_test(mirostat_keeps_one_token_when_all_surprise_too_much),
        cmocka_unit_test(logit_bias),
        cmocka_unit_test(seed_reproduces_and_documented_generator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
