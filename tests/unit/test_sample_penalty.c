/* What happens to the logits before the draw: penalties, DRY, the host's callback. */
#include "sample_rig.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repetition_penalty),
        cmocka_unit_test(presence_and_frequency),
        cmocka_unit_test(dry),
        cmocka_unit_test(dry_does_not_overflow),
        cmocka_unit_test(history_longer_than_announced_is_cut),
        cmocka_unit_test(logits_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
