/* Parameters, memory, hostile logits, and that choices are the same everywhere. */
#include "sample_rig.h"

#include "sample_math.h"

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
        cmocka_unit_test(defaults_are_as_documented),
        cmocka_unit_test(bad_parameters_name_the_field),
        cmocka_unit_test(hostile_logits),
        cmocka_unit_test(choices_are_the_same_on_every_machine),
        cmocka_unit_test(exponential_and_logarithm_are_as_exact_as_documented),
        cmocka_unit_test(no_allocation_while_choosing),
        cmocka_unit_test(create_survives_failing_allocations),
        cmocka_unit_test(scratch_stays_inside_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
