/* Candidates directly: draws at exact places, and selection from orders made to be slow. */
#include "sample_rig.h"

#include "sample_internal.h"

static void open_candidates(rig *r, llmoi_candidates *c, const float *x, uint32_t n) {
    llmo_sampling_params p = plain(1.0f);
    rig_open(r, &p, n, NULL, 0);
    memcpy(r->logits, x, n * sizeof *x);
    (void)llmoi_chunk_maxima(r->logits, n, r->scratch->chunk_max);
    llmoi_cand_gather(c, r->scratch, r->logits, -INFINITY);
    llmoi_cand_weigh(c, 1.0f);
}

static void draw_takes_the_place_of_u(void **state) {
    (void)state;
    rig r;
    llmoi_candidates c;
    float even[256] = {0};
    open_candidates(&r, &c, even, 256);
    for (size_t i = 0; i < 256; i++) {
        assert_int_equal(llmoi_cand_draw(&c, (double)i / 256.0), i);
        assert_int_equal(llmoi_cand_draw(&c, ((double)i + 0.999) / 256.0), i);
    }
    assert_int_equal(llmoi_cand_draw(&c, 1.0 - 0x1p-32), 255);
    rig_close(&r);
}

static void draw_never_takes_a_weight_of_zero(void **state) {
    (void)state;
    rig r;
    llmoi_candidates c;
    float x[200];
    for (size_t i = 0; i < 200; i++) x[i] = i == 70 || i == 140 ? 1.0f : -500.0f;
    open_candidates(&r, &c, x, 200);
    assert_int_equal(c.n, 200);
    assert_int_equal(llmoi_cand_draw(&c, 0.0), 70);
    assert_int_equal(llmoi_cand_draw(&c, 0.499999), 70);
    assert_int_equal(llmoi_cand_draw(&c, 0.5), 140);
    assert_int_equal(llmoi_cand_draw(&c, 1.0 - 0x1p-32), 140);
    rig_close(&r);
}

/* Orders in which quicksort with a median of three does badly, and plain ones. */
static float awkward(int kind, size_t i, size_t n) {
    size_t half = n / 2;
    switch (kind) {
    case 0: return (float)i;
    case 1: return (float)(n - i);
    case 2: return (float)(i < half ? i : n - i); /* organ pipe */
    case 3: return (float)(i % 7);
    default: /* Musser's sequence: 1, k+1, 3, k+3, 5, ... 2, 4, 6, ... */
        if (i >= half) return -(float)(2 * (i - half + 1));
        return -(float)(i % 2 ? half + i : i + 1);
    }
}

static void selection_is_right_in_any_order(void **state) {
    (void)state;
    enum { n = 4096 };
    static float x[n];
    for (int kind = 0; kind < 5; kind++) {
        for (size_t i = 0; i < n; i++) x[i] = awkward(kind, i, n);
        for (uint32_t k = 1; k <= n; k = k < 40 ? k + 13 : k * 4) {
            rig r;
            llmoi_candidates c;
            open_candidates(&r, &c, x, n);
            memcpy(r.logits, x, sizeof x);
            (void)llmoi_chunk_maxima(r.logits, n, r.scratch->chunk_max);
            llmoi_cand_top_k(&c, r.scratch, r.logits, k);
            assert_int_equal(c.n, k);
            size_t n_better = 0; /* than the last one kept */
            for (size_t i = 0; i < n; i++) {
                n_better += x[i] > c.logits[k - 1] || (x[i] == c.logits[k - 1] && (llmo_token)i < c.ids[k - 1]);
            }
            assert_int_equal(n_better, k - 1);
            for (size_t i = 0; i < k; i++) {
                assert_true(c.logits[i] == x[c.ids[i]]);
                if (i == 0) continue;
                assert_true(c.logits[i - 1] > c.logits[i] ||
                            (c.logits[i - 1] == c.logits[i] && c.ids[i - 1] < c.ids[i]));
            }
            rig_close(&r);
        }
    }
}

static void cut_by_mass_is_right_in_any_order(void **state) {
    (void)state;
    enum { n = 4096 };
    static float x[n];
    for (int kind = 0; kind < 5; kind++) {
        for (size_t i = 0; i < n; i++) x[i] = 1e-6f * awkward(kind, i, n); /* all in one bucket of the histogram */
        rig r;
        llmoi_candidates c;
        open_candidates(&r, &c, x, n);
        llmoi_cand_top_p(&c, 0.25 * c.sum, 1);
        assert_in_range(c.n, n / 4 - 2, n / 4 + 2);
        float worst = INFINITY;
        llmo_token worst_id = -1;
        for (size_t i = 0; i < c.n; i++) {
            if (c.logits[i] > worst) continue;
            worst = c.logits[i];
            worst_id = c.ids[i];
        }
        size_t n_better = 0;
        for (size_t i = 0; i < n; i++) n_better += x[i] > worst || (x[i] == worst && (llmo_token)i < worst_id);
        assert_int_equal(n_better, c.n - 1);
        rig_close(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draw_takes_the_place_of_u),
        cmocka_unit_test(draw_never_takes_a_weight_of_zero),
        cmocka_unit_test(selection_is_right_in_any_order),
        cmocka_unit_test(cut_by_mass_is_right_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
