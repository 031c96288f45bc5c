/* The step engine: what is generated depends on the tokens alone, never on budgets, threads, batches or company; and
 * what a step reports of itself. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

#define PROMPT 100
#define REPLY  16
#define OTHERS 5

/* A model and the arithmetic it runs in. */
typedef struct variant {
    const char *name;
    uint32_t type;
    int32_t numerics;
} variant;
static const variant variants[] = {
    {"F32", 0, LLMO_NUMERICS_F32}, {"Q8_0 in f32", 8, LLMO_NUMERICS_F32}, {"Q8_0 in 8 bits", 8, LLMO_NUMERICS_Q8}};
#define N_VARIANTS 3

typedef struct setting {
    int n_threads;
    uint32_t n_batch;
    uint64_t budget_us;
    void (*parallel_for)(void *user, uint32_t n_tasks, void (*task)(void *arg, uint32_t index), void *arg);
    bool company; /* of five other generations, which start at various times */
} setting;
static const setting usual = {1, 512, LLMO_BUDGET_UNLIMITED, NULL, false};

typedef struct outcome {
    llmo_token ids[REPLY];
    float logits[3 * TINY_VOCAB]; /* of an eval of the prompt */
} outcome;

static unsigned char *files[N_VARIANTS];
static size_t sizes[N_VARIANTS];
static outcome expected[N_VARIANTS];
static llmo_token prompt[PROMPT];

static engine open_variant(int v, const setting *s, uint32_t n_sequences) {
    llmo_runtime_params rp;
    llmo_runtime_params_init(&rp);
    rp.n_threads = s->n_threads;
    rp.parallel_for = s->parallel_for;
    return engine_open_memory(
        files[v], sizes[v],
        (engine_options){
            .runtime = &rp, .n_sequences = n_sequences, .n_batch = s->n_batch, .numerics = variants[v].numerics});
}

static void start_other(engine *e, uint32_t i, llmo_generation **g) {
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_sequence *s;
    llmo_token tokens[70];
    sampled_params(&p, &sp, 100 + i, 3 + 4 * i);
    some_tokens(50 + i, tokens, 70);
    assert_ok(llmo_sequence_create(e->ctx, &s));
    assert_ok(llmo_generation_start_tokens(s, tokens, 5 + 13 * i, &p, g));
}

/* One reply, with others beside it if the setting says so: two before it, three while it runs. */
static void generate(engine *e, const setting *s, llmo_token *ids) {
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_generation *g, *others[OTHERS];
    uint32_t n_others = 0, n_steps = 0;
    sampled_params(&p, &sp, 7, REPLY);
    while (s->company && n_others < 2) {
        start_other(e, n_others, &others[n_others]);
        n_others++;
        assert_ok(llmo_context_step(e->ctx, s->budget_us, NULL));
    }
    assert_ok(llmo_generation_start_tokens(e->seq, prompt, PROMPT, &p, &g));
    while (generation_info(g).state < LLMO_GENERATION_DONE) {
        assert_ok(llmo_context_step(e->ctx, s->budget_us, NULL));
        if (s->company && ++n_steps % 3 == 0 && n_others < OTHERS) {
            start_other(e, n_others, &others[n_others]);
            n_others++;
        }
    }
    assert_int_equal(generated(g, ids, REPLY), REPLY);
    llmo_generation_destroy(g);
    for (uint32_t i = 0; i < n_others; i++) llmo_generation_destroy(others[i]);
}

static outcome run(int v, const setting *s) {
    outcome o;
    engine e = open_variant(v, s, s->company ? 1 + OTHERS : 1);
    generate(&e, s, o.ids);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_eval(e.seq, prompt, PROMPT, 3, o.logits, 3 * TINY_VOCAB));
    engine_close(&e);
    return o;
}

static void check(const setting *s) {
    for (int v = 0; v < N_VARIANTS; v++) {
        outcome o = run(v, s);
        if (memcmp(o.ids, expected[v].ids, sizeof o.ids) != 0 ||
            memcmp(o.logits, expected[v].logits, sizeof o.logits) != 0) {
            fail_msg("%s: other results with %d threads, n_batch %u, budget %llu%s", variants[v].name, s->n_threads,
                     s->n_batch, (unsigned long long)s->budget_us, s->company ? ", in company" : "");
        }
    }
}

/* --- results ------------------------------------------------------------------------------------------------------------ */

static void the_reference_says_something(void **state) {
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        uint32_t changes = 0;
        for (int i = 1; i < REPLY; i++) changes += expected[v].ids[i] != expected[v].ids[i - 1];
        assert_true(changes > REPLY / 2);
        for (int i = 0; i < 3 * (int)TINY_VOCAB; i++) assert_true(expected[v].logits[i] == expected[v].logits[i]);
    }
    assert_memory_not_equal(expected[0].logits, expected[1].logits, sizeof expected[0].logits);
    assert_memory_not_equal(expected[1].logits, expected[2].logits, sizeof expected[0].logits);
}

static void results_do_not_depend_on_the_budget(void **state) {
    (void)state;
    static const uint64_t budgets[] = {0, 1, 50, 1000, LLMO_BUDGET_UNLIMITED};
    for (int i = 0; i < 5; i++) {
        setting s = usual;
        s.budget_us = budgets[i];
        check(&s);
    }
}

static void results_do_not_depend_on_the_number_of_threads(void **state) {
    (void)state;
    static const int threads[] = {1, 2, 3, 5};
    for (int i = 0; i < 4; i++) {
        setting s = usual;
        s.n_threads = threads[i];
        check(&s);
    }
}

static void results_do_not_depend_on_the_batch(void **state) {
    (void)state;
    static const uint32_t batches[] = {1, 3, 16, 63, 65, 99};
    for (int i = 0; i < 6; i++) {
        setting s = usual;
        s.n_batch = batches[i];
        check(&s);
    }
}

/* Tasks one after the other, the last one first. */
static void in_reverse(void *user, uint32_t n_tasks, void (*task)(void *arg, uint32_t index), void *arg) {
    (void)user;
    while (n_tasks) task(arg, --n_tasks);
}

typedef struct thread_task {
    pthread_t id;
    void (*task)(void *arg, uint32_t index);
    void *arg;
    uint32_t index;
} thread_task;

static void *run_task(void *arg) {
    thread_task *t = arg;
    t->task(t->arg, t->index);
    return NULL;
}

/* Each task on a thread that starts for it. */
static void on_fresh_threads(void *user, uint32_t n_tasks, void (*task)(void *arg, uint32_t index), void *arg) {
    (void)user;
    thread_task t[8];
    assert_true(n_tasks <= 8);
    for (uint32_t i = 0; i < n_tasks; i++) {
        t[i] = (thread_task){.task = task, .arg = arg, .index = i};
        assert_int_equal(pthread_create(&t[i].id, NULL, run_task, &t[i]), 0);
    }
    for (uint32_t i = 0; i < n_tasks; i++) pthread_join(t[i].id, NULL);
}

static void results_do_not_depend_on_the_job_system_of_the_host(void **state) {
    (void)state;
    setting s = usual;
    s.parallel_for = in_reverse;
    s.n_threads = 4;
    check(&s);
    s.parallel_for = on_fresh_threads;
    s.n_threads = 3;
    check(&s);
}

static void results_do_not_depend_on_company(void **state) {
    (void)state;
    static const uint32_t batches[] = {1, 4, 40, 512, 512};
    static const uint64_t budgets[] = {200, 0, LLMO_BUDGET_UNLIMITED, 200, LLMO_BUDGET_UNLIMITED};
    for (int i = 0; i < 5; i++) {
        setting s = usual;
        s.n_threads = 2;
        s.n_batch = batches[i];
        s.budget_us = budgets[i];
        s.company = true;
        check(&s);
    }
}

static void a_second_run_in_the_same_context_gives_the_same(void **state) {
    (void)state;
    engine e = open_variant(0, &usual, 1);
    llmo_token ids[REPLY];
    for (int i = 0; i < 3; i++) {
        assert_ok(llmo_sequence_truncate(e.seq, 0));
        generate(&e, &usual, ids);
        assert_memory_equal(ids, expected[0].ids, sizeof ids);
    }
    engine_close(&e);
}

static void logits_of_an_eval_do_not_depend_on_its_chunks(void **state) {
    (void)state;
    static const size_t chunks[] = {1, 17, 64, 65, PROMPT};
    for (int v = 0; v < N_VARIANTS; v++) {
        float *all = NULL;
        for (int c = 0; c < 5; c++) {
            float *rows = malloc(PROMPT * TINY_VOCAB * sizeof *rows);
            setting s = usual;
            s.n_batch = c == 4 ? 9 : 512; /* the whole prompt in one call, cut by the library */
            engine e = open_variant(v, &s, 1);
            for (size_t at = 0, n; at < PROMPT; at += n) {
                n = PROMPT - at < chunks[c] ? PROMPT - at : chunks[c];
                assert_ok(llmo_eval(e.seq, prompt + at, n, n, rows + at * TINY_VOCAB, n * TINY_VOCAB));
            }
            engine_close(&e);
            if (all) assert_memory_equal(rows, all, PROMPT * TINY_VOCAB * sizeof *rows);
            free(all);
            all = rows;
        }
        free(all);
    }
}

/* --- what a step does and reports --------------------------------------------------------------------------------------- */

static llmo_generation *start(engine *e, llmo_sequence *s, size_t n_prompt, uint32_t max_tokens) {
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_generation *g;
    llmo_token tokens[512];
    (void)e;
    some_tokens(9, tokens, n_prompt);
    sampled_params(&p, &sp, 3, max_tokens);
    assert_ok(llmo_generation_start_tokens(s, tokens, n_prompt, &p, &g));
    return g;
}

static llmo_step_info step(engine *e, uint64_t budget_us) {
    llmo_step_info i = {.struct_size = sizeof i};
    assert_ok(llmo_context_step(e->ctx, budget_us, &i));
    return i;
}

static void a_step_without_time_does_one_unit_and_goes_on_there(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){0});
    llmo_generation *g = start(&e, e.seq, 10, 3);
    uint32_t units_per_pass = 2 * TINY_LAYERS + 2; /* embedding, two per layer, head */
    for (uint32_t pass = 0; pass < 3; pass++) {
        for (uint32_t unit = 1; unit <= units_per_pass; unit++) {
            llmo_step_info i = step(&e, 0);
            assert_int_equal(i.n_units, 1);
            assert_int_equal(i.n_passes, unit == units_per_pass);
            assert_int_equal(i.n_new_tokens, unit == units_per_pass);
            assert_int_equal(generation_info(g).n_generated, pass + (unit == units_per_pass));
        }
    }
    assert_int_equal(step(&e, 0).n_units, 0);
    assert_int_equal(generation_info(g).stop, LLMO_STOP_LENGTH);
    engine_close(&e);
}

static void an_unlimited_step_is_one_whole_pass(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){0});
    start(&e, e.seq, 10, 3);
    for (int pass = 0; pass < 3; pass++) {
        llmo_step_info i = step(&e, LLMO_BUDGET_UNLIMITED);
        assert_int_equal(i.n_passes, 1);
        assert_int_equal(i.n_units, 2 * TINY_LAYERS + 2);
        assert_int_equal(i.n_prompt_tokens, pass == 0 ? 10 : 0);
        assert_int_equal(i.n_new_tokens, 1);
        assert_int_equal(i.n_running, pass < 2);
    }
    llmo_step_info i = step(&e, LLMO_BUDGET_UNLIMITED);
    assert_int_equal(i.n_passes + i.n_units, 0);
    engine_close(&e);
}

static void a_pass_that_was_begun_in_units_ends_in_an_unlimited_step(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){0});
    start(&e, e.seq, 10, 3);
    for (int i = 0; i < 4; i++) assert_int_equal(step(&e, 0).n_units, 1);
    llmo_step_info i = step(&e, LLMO_BUDGET_UNLIMITED);
    assert_int_equal(i.n_units, 2 * TINY_LAYERS + 2 - 4);
    assert_int_equal(i.n_passes, 1);
    engine_close(&e);
}

static void a_large_budget_runs_pass_after_pass(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){0});
    start(&e, e.seq, 10, 5);
    llmo_step_info i = step(&e, UINT64_MAX - 1);
    assert_int_equal(i.n_new_tokens, 5);
    assert_int_equal(i.n_passes, 5);
    assert_int_equal(i.n_running, 0);
    engine_close(&e);
}

static void a_prompt_runs_in_chunks_beside_a_reply(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){.n_sequences = 2, .n_batch = 16});
    llmo_generation *a = start(&e, e.seq, 5, 60);
    step(&e, LLMO_BUDGET_UNLIMITED);
    llmo_sequence *s;
    assert_ok(llmo_sequence_create(e.ctx, &s));
    llmo_generation *b = start(&e, s, 100, 10);
    for (uint64_t done = 0, passes = 1; done < 100; passes++) {
        llmo_step_info i = step(&e, LLMO_BUDGET_UNLIMITED);
        uint64_t chunk = 100 - done < 15 ? 100 - done : 15; /* what the reply leaves of the batch */
        done += chunk;
        assert_int_equal(i.n_prompt_tokens, chunk);
        assert_int_equal(i.n_new_tokens, done < 100 ? 1 : 2);
        assert_int_equal(generation_info(a).n_generated, passes + 1);
        assert_int_equal(generation_info(b).n_prompt_done, done);
        assert_int_equal(generation_info(b).state, done < 100 ? LLMO_GENERATION_PROMPT : LLMO_GENERATION_RUNNING);
    }
    engine_close(&e);
}

static void n_running_counts_what_still_has_work(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){.n_sequences = 3});
    assert_int_equal(step(&e, LLMO_BUDGET_UNLIMITED).n_running, 0);
    llmo_generation *g = start(&e, e.seq, 4, 2);
    for (uint32_t i = 2; i <= 3; i++) {
        llmo_sequence *s;
        assert_ok(llmo_sequence_create(e.ctx, &s));
        start(&e, s, 4, 2 * i);
    }
    assert_int_equal(context_stats(e.ctx).n_generations, 3);
    for (int done = 1; done <= 6; done++) {
        llmo_step_info i = step(&e, LLMO_BUDGET_UNLIMITED);
        assert_int_equal(i.n_running, (done < 2) + (done < 4) + (done < 6));
        assert_int_equal(context_stats(e.ctx).n_generations, i.n_running);
    }
    assert_int_equal(generation_info(g).n_generated, 2);
    engine_close(&e);
}

static void times_of_a_step_fit_together(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){0});
    llmo_generation *g = start(&e, e.seq, 200, 4);
    uint64_t busy = 0;
    llmo_step_info i = {.n_running = 1};
    while (i.n_running) {
        i = step(&e, LLMO_BUDGET_UNLIMITED);
        assert_true(i.longest_unit_us <= i.elapsed_us);
        assert_true(i.longest_unit_us * i.n_units + i.n_units >= context_stats(e.ctx).busy_us - busy);
        busy = context_stats(e.ctx).busy_us;
        if (i.n_prompt_tokens) assert_true(i.longest_unit_us > 0); /* 200 tokens at once take a microsecond */
    }
    llmo_generation_info info = generation_info(g);
    assert_true(info.prompt_us > 0);
    assert_int_equal(info.prompt_us + info.decode_us, busy);
    engine_close(&e);
}

static uint32_t passes_for_a_prompt(uint64_t budget_us) {
    engine e = engine_open_tiny((engine_options){0});
    start(&e, e.seq, 240, 1);
    llmo_step_info sum;
    step_to_end(e.ctx, budget_us, &sum);
    assert_int_equal(sum.n_prompt_tokens, 240);
    engine_close(&e);
    return sum.n_passes;
}

static void prompt_chunks_follow_the_budget(void **state) {
    (void)state;
    assert_int_equal(passes_for_a_prompt(LLMO_BUDGET_UNLIMITED), 1);
    assert_true(passes_for_a_prompt(1) > 60);                /* of a few tokens each */
    assert_true(passes_for_a_prompt((uint64_t)1 << 40) < 6); /* 16, 32, 64, ... */
}

static void a_prompt_advances_beside_replies_whatever_the_budget(void **state) {
    (void)state;
    engine e = engine_open_tiny((engine_options){.n_sequences = 4});
    llmo_sequence *s = e.seq;
    for (int i = 0; i < 3; i++) {
        start(&e, s, 4, 200);
        assert_ok(llmo_sequence_create(e.ctx, &s));
    }
    for (int i = 0; i < 600; i++) step(&e, 0); /* the chunk is at its smallest now */
    llmo_generation *late = start(&e, s, 8, 2);
    for (int i = 0; i < 40 * (2 * (int)TINY_LAYERS + 2); i++) step(&e, 0);
    assert_int_equal(generation_info(late).state, LLMO_GENERATION_DONE);
    assert_int_equal(context_stats(e.ctx).n_generations, 3);
    engine_close(&e);
}

static int set_up(void **state) {
    (void)state;
    some_tokens(1, prompt, PROMPT);
    for (int v = 0; v < N_VARIANTS; v++) {
        files[v] = tiny_llama(variants[v].type, NULL, &sizes[v]);
        expected[v] = run(v, &usual);
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) free(files[v]);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_says_something),
        cmocka_unit_test(results_do_not_depend_on_the_budget),
        cmocka_unit_test(results_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(results_do_not_depend_on_the_batch),
        cmocka_unit_test(results_do_not_depend_on_the_job_system_of_the_host),
        cmocka_unit_test(results_do_not_depend_on_company),
        cmocka_unit_test(a_second_run_in_the_same_context_gives_the_same),
        cmocka_unit_test(logits_of_an_eval_do_not_depend_on_its_chunks),
        cmocka_unit_test(a_step_without_time_does_one_unit_and_goes_on_there),
        cmocka_unit_test(an_unlimited_step_is_one_whole_pass),
        cmocka_unit_test(a_pass_that_was_begun_in_units_ends_in_an_unlimited_step),
        cmocka_unit_test(a_large_budget_runs_pass_after_pass),
        cmocka_unit_test(a_prompt_runs_in_chunks_beside_a_reply),
        cmocka_unit_test(n_running_counts_what_still_has_work),
        cmocka_unit_test(times_of_a_step_fit_together),
        cmocka_unit_test(prompt_chunks_follow_the_budget),
        cmocka_unit_test(a_prompt_advances_beside_replies_whatever_the_budget),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
