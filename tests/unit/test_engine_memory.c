/* Memory: none is taken while tokens are generated, plans predict it to the byte, everything comes back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine_fixture.h"
#include "quant.h"

#define BLOCK_HEADER 64u /* what the library adds to each block that it asks the host for */

/* --- none while generating ---------------------------------------------------------------------------------------------- */

static int32_t count_text(void *user, llmo_generation *g, const char *text, size_t n) {
    (void)g, (void)text;
    *(size_t *)user += n;
    return 0;
}

static void see_logits(void *user, float *logits, uint32_t n_vocab, const llmo_token *tokens, size_t n_tokens) {
    (void)user, (void)logits, (void)n_vocab, (void)tokens, (void)n_tokens;
}

/* All samplers that go together, or mirostat in place of the filters. */
static void use_all_samplers(llmo_sampling_params *s, bool mirostat) {
    static const llmo_token bias_tokens[] = {5, 6};
    static const float bias_values[] = {1.0f, -2.0f};
    s->top_k = 100;
    s->top_p = 0.99f;
    s->min_p = 0.001f;
    s->typical_p = 0.99f;
    s->penalty_last = -1;
    s->penalty_repeat = 1.1f;
    s->penalty_presence = 0.1f;
    s->penalty_frequency = 0.1f;
    s->dry_multiplier = 0.8f;
    s->xtc_probability = 0.5f;
    s->xtc_threshold = 0.01f;
    s->mirostat = mirostat ? 2 : 0;
    s->n_bias = 2;
    s->bias_tokens = bias_tokens;
    s->bias_values = bias_values;
    s->logits = see_logits;
}

static void check_no_allocations(int samplers, bool with_callback, uint64_t budget_us) {
    host_memory m = {0};
    llmo_runtime_params rp = host_memory_params(&m, 2);
    engine e = engine_open_tiny((engine_options){.runtime = &rp, .n_sequences = 2});
    llmo_generation_params p;
    llmo_sampling_params s;
    llmo_generation *g;
    llmo_token prompt[70];
    size_t n_text = 0;
    static const char *const stops[] = {"never said", "zzzzzzzz"};
    some_tokens(1, prompt, 70);
    sampled_params(&p, &s, 3, 65);
    if (samplers) use_all_samplers(&s, samplers == 2);
    p.stops = stops;
    p.n_stops = 2;
    if (with_callback) p.text = count_text, p.text_user = &n_text;
    assert_ok(llmo_generation_start_tokens(e.seq, prompt, 70, &p, &g));
    uint64_t before = context_stats(e.ctx).n_allocs, host_before = atomic_load(&m.n_allocs);
    step_to_end(e.ctx, budget_us, NULL);
    assert_int_equal(generation_info(g).n_generated, 65);
    assert_int_equal(context_stats(e.ctx).n_allocs, before);
    assert_int_equal(atomic_load(&m.n_allocs), host_before);
    char text[1024];
    if (!with_callback) assert_ok(llmo_generation_read(g, text, sizeof text, &n_text));
    assert_true(n_text > 30);
    float row[TINY_VOCAB]; /* nor by eval, fork and truncate */
    llmo_sequence *f;
    llmo_generation_destroy(g);
    assert_ok(llmo_sequence_fork(e.seq, 60, &f));
    assert_ok(llmo_eval(f, prompt, 30, 1, row, TINY_VOCAB));
    assert_ok(llmo_sequence_truncate(f, 3));
    llmo_sequence_destroy(f);
    assert_int_equal(atomic_load(&m.n_allocs), host_before);
    engine_close(&e);
    assert_int_equal(atomic_load(&m.live_blocks), 0);
}

static void no_memory_is_taken_while_tokens_are_generated(void **state) {
    (void)state;
    check_no_allocations(0, true, LLMO_BUDGET_UNLIMITED);
    check_no_allocations(0, false, 50);
}

static void no_memory_is_taken_with_all_samplers_on(void **state) {
    (void)state;
    check_no_allocations(1, true, LLMO_BUDGET_UNLIMITED);
    check_no_allocations(1, false, LLMO_BUDGET_UNLIMITED);
    check_no_allocations(2, true, LLMO_BUDGET_UNLIMITED);
}

/* --- predictions --------------------------------------------------------------------------------------------------------- */

typedef struct bytes_by_purpose {
    uint64_t of[LLMO_PURPOSE_COUNT];
} bytes_by_purpose;

static bytes_by_purpose runtime_bytes(const llmo_runtime *rt) {
    bytes_by_purpose b;
    for (int i = 0; i < LLMO_PURPOSE_COUNT; i++) b.of[i] = llmo_runtime_bytes(rt, i);
    return b;
}

/* What the host counts is what the runtime says, and a header per block. */
static void check_host(const llmo_runtime *rt, host_memory *m) {
    assert_int_equal(atomic_load(&m->live_bytes),
                     llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT) + BLOCK_HEADER * atomic_load(&m->live_blocks));
}

static void check_prediction(llmo_runtime *rt, host_memory *m, llmo_model *model, const llmo_plan_params *p) {
    static const int predicted[] = {LLMO_PURPOSE_WEIGHTS, LLMO_PURPOSE_KV, LLMO_PURPOSE_COMPUTE, LLMO_PURPOSE_LOGITS,
                                    LLMO_PURPOSE_STATE};
    llmo_plan *plan;
    llmo_context *ctx;
    assert_ok(llmo_plan_create(model, p, &plan));
    bytes_by_purpose before = runtime_bytes(rt), after;
    assert_ok(llmo_context_create(model, plan, NULL, &ctx));
    after = runtime_bytes(rt);
    uint64_t sum = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t want = llmo_plan_bytes(plan, 0, predicted[i]);
        sum += want;
        assert_true(want > 0);
        if (llmo_context_bytes(ctx, 0, predicted[i]) != want ||
            after.of[predicted[i]] - before.of[predicted[i]] != want) {
            fail_msg("%s, n_ctx %u, n_batch %u, n_sequences %u: %llu bytes planned, %llu in the context, %llu in all",
                     llmo_purpose_name(predicted[i]), p->n_ctx, p->n_batch, p->n_sequences, (unsigned long long)want,
                     (unsigned long long)llmo_context_bytes(ctx, 0, predicted[i]),
                     (unsigned long long)(after.of[predicted[i]] - before.of[predicted[i]]));
        }
    }
    assert_int_equal(llmo_plan_bytes(plan, 0, LLMO_PURPOSE_COUNT), sum);
    assert_int_equal(llmo_context_bytes(ctx, 0, LLMO_PURPOSE_COUNT), sum);
    assert_int_equal(after.of[LLMO_PURPOSE_HOST], before.of[LLMO_PURPOSE_HOST]);
    check_host(rt, m);
    /* a second context shares the weights: its other bytes alone are new */
    llmo_context *second;
    bytes_by_purpose now;
    assert_ok(llmo_context_create(model, plan, NULL, &second));
    now = runtime_bytes(rt);
    assert_int_equal(now.of[LLMO_PURPOSE_WEIGHTS], after.of[LLMO_PURPOSE_WEIGHTS]);
    assert_int_equal(now.of[LLMO_PURPOSE_HEADER], after.of[LLMO_PURPOSE_HEADER]);
    assert_int_equal(now.of[LLMO_PURPOSE_KV] - after.of[LLMO_PURPOSE_KV], llmo_plan_bytes(plan, 0, LLMO_PURPOSE_KV));
    llmo_context_destroy(second);
    llmo_context_destroy(ctx);
    now = runtime_bytes(rt);
    assert_memory_equal(&now, &before, sizeof now);
    llmo_plan_destroy(plan);
}

static void check_model(const unsigned char *file, size_t size, bool in_place) {
    static const uint32_t n_ctx[] = {1, 64, 200}, n_batch[] = {1, 63, 512}, n_seq[] = {1, 3};
    host_memory m = {0};
    llmo_runtime_params rp = host_memory_params(&m, 2);
    llmo_runtime *rt;
    llmo_model *model;
    char path[64];
    temp_file(path, file, size);
    assert_ok(llmo_runtime_create(&rp, &rt));
    if (in_place)
        assert_ok(llmo_model_open_memory(rt, file, size, NULL, &model));
    else
        assert_ok(llmo_model_open(rt, path, NULL, &model));
    check_host(rt, &m);
    for (int i = 0; i < 3 * 3 * 2; i++) {
        llmo_plan_params p;
        llmo_plan_params_init(&p);
        p.n_ctx = n_ctx[i % 3];
        p.n_batch = n_batch[i / 3 % 3];
        p.n_sequences = n_seq[i / 9];
        p.kv_type_k = i % 2;
        p.kv_type_v = i / 2 % 2;
        p.numerics = i % 3;
        p.n_kv_tokens = i % 4 == 3 ? 100 : 0;
        check_prediction(rt, &m, model, &p);
    }
    llmo_model_destroy(model);
    llmo_runtime_destroy(rt);
    assert_int_equal(atomic_load(&m.live_bytes), 0);
    unlink(path);
}

static void plans_predict_to_the_byte(void **state) {
    (void)state;
    static const tiny_shape tied = {.tied = 1}, one = {.n_layers = 1},
                            wide = {.n_embd = 256, .n_ff = 256, .n_layers = 1}, moe = {.n_experts = 4},
                            odd = {.n_embd = 72, .n_ff = 40, .n_layers = 3};
    static const struct {
        uint32_t type;
        const tiny_shape *shape;
    } models[] = {{0, NULL},  {0, &tied},  {0, &one}, {0, &odd}, {8, NULL},
                  {8, &tied}, {12, &wide}, {0, &moe}, {8, &moe}};
    uint32_t n_checked = 0;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (models[i].type && !llmoi_type_find(models[i].type)->encode) {
            print_message("[  SKIP    ] type %u: cannot be written\n", models[i].type);
            continue;
        }
        size_t size;
        unsigned char *file = tiny_llama(models[i].type, models[i].shape, &size);
        check_model(file, size, false);
        if (i < 2) check_model(file, size, true);
        free(file);
        n_checked++;
    }
    assert_true(n_checked >= 7);
}

static void a_prediction_holds_for_any_number_of_threads(void **state) {
    (void)state;
    size_t size;
    unsigned char *file = tiny_llama(8, NULL, &size);
    for (int n = 1; n <= 7; n += 3) {
        host_memory m = {0};
        llmo_runtime_params rp = host_memory_params(&m, n);
        llmo_runtime *rt;
        llmo_model *model;
        llmo_plan_params p;
        llmo_plan_params_init(&p);
        p.numerics = LLMO_NUMERICS_Q8;
        assert_ok(llmo_runtime_create(&rp, &rt));
        assert_ok(llmo_model_open_memory(rt, file, size, NULL, &model));
        check_prediction(rt, &m, model, &p);
        llmo_model_destroy(model);
        llmo_runtime_destroy(rt);
    }
    free(file);
}

static void the_budget_of_ram_is_exact(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){0});
    llmo_plan_params p;
    llmo_plan *plan;
    assert_ok(llmo_plan_create(e.model, NULL, &plan));
    uint64_t need = llmo_plan_bytes(plan, 0, LLMO_PURPOSE_COUNT);
    llmo_plan_destroy(plan);
    llmo_plan_params_init(&p);
    p.ram_budget_bytes = need;
    assert_ok(llmo_plan_create(e.model, &p, &plan));
    assert_int_equal(llmo_plan_bytes(plan, 0, LLMO_PURPOSE_COUNT), need);
    llmo_plan_destroy(plan);
    p.ram_budget_bytes = need - 1;
    assert_status(llmo_plan_create(e.model, &p, &plan), LLMO_E_BUDGET);
    assert_null(plan);
    char number[32];
    snprintf(number, sizeof number, " %llu", (unsigned long long)need);
    assert_non_null(strstr(llmo_last_error(), number));
    snprintf(number, sizeof number, " %llu", (unsigned long long)need - 1);
    assert_non_null(strstr(llmo_last_error(), number));
    engine_close(&e);
}

/* --- everything comes back ----------------------------------------------------------------------------------------------- */

static void two_hundred_cycles_leave_no_byte_behind(void **state) {
    (void)state;
    static const tiny_shape small = {.n_layers = 1, .n_embd = 32, .n_ff = 32};
    size_t size;
    unsigned char *file = tiny_model(&small, &size);
    host_memory m = {0};
    llmo_runtime_params rp = host_memory_params(&m, 2);
    llmo_runtime *rt;
    assert_ok(llmo_runtime_create(&rp, &rt));
    uint64_t bytes = llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT), blocks = atomic_load(&m.live_blocks);
    for (int i = 0; i < 200; i++) {
        llmo_model *model;
        llmo_context *ctx;
        llmo_sequence *s;
        llmo_generation *g;
        llmo_generation_params p;
        llmo_sampling_params sp;
        greedy_params(&p, &sp, 4);
        assert_ok(llmo_model_open_memory(rt, file, size, NULL, &model));
        assert_ok(llmo_context_create(model, NULL, NULL, &ctx));
        assert_ok(llmo_sequence_create(ctx, &s));
        if (i % 2) {
            assert_ok(llmo_generate(s, "hello", 5, &p, NULL));
        } else { /* destroyed in the middle of everything */
            assert_ok(llmo_generation_start(s, "hello", 5, &p, &g));
            for (int u = 0; u < i % 7; u++) assert_ok(llmo_context_step(ctx, 0, NULL));
        }
        llmo_context_destroy(ctx);
        llmo_model_destroy(model);
        assert_int_equal(llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT), bytes);
        assert_int_equal(atomic_load(&m.live_blocks), blocks);
    }
    llmo_runtime_destroy(rt);
    assert_int_equal(atomic_load(&m.live_bytes), 0);
    free(file);
}

static void parents_may_be_destroyed_first(void **state) {
    (void)state;
    host_memory m = {0};
    llmo_runtime_params rp = host_memory_params(&m, 2);
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token prompt[5], want[6], got[6];
    some_tokens(1, prompt, 5);
    greedy_params(&p, &sp, 6);
    engine e = engine_open_tiny((engine_options){.runtime = &rp});
    assert_int_equal(reply(e.ctx, e.seq, prompt, 5, &p, LLMO_BUDGET_UNLIMITED, want), 6);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    llmo_runtime_destroy(e.rt);
    llmo_model_destroy(e.model);
    llmo_plan_destroy(e.plan);
    assert_int_equal(reply(e.ctx, e.seq, prompt, 5, &p, LLMO_BUDGET_UNLIMITED, got), 6);
    assert_memory_equal(got, want, sizeof got);
    llmo_context_destroy(e.ctx);
    assert_int_equal(atomic_load(&m.live_blocks), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_memory_is_taken_while_tokens_are_generated),
        cmocka_unit_test(no_memory_is_taken_with_all_samplers_on),
        cmocka_unit_test(plans_predict_to_the_byte),
        cmocka_unit_test(a_prediction_holds_for_any_number_of_threads),
        cmocka_unit_test(the_budget_of_ram_is_exact),
        cmocka_unit_test(two_hundred_cycles_leave_no_byte_behind),
        cmocka_unit_test(parents_may_be_destroyed_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
