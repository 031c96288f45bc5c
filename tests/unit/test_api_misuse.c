/* Wrong use of every public call: each failure has its status, leaves a sentence, and leaves the handle usable. The cases
 * are counted. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_fixture.h"
#include "status.h"

static engine e;
static llmo_generation *gen; /* done, of another sequence */
static llmo_sequence *seq2;
static unsigned char *file;
static size_t file_bytes;
static uint32_t n_cases;
static float row[TINY_VOCAB];
static llmo_token tokens[300];

/* The call fails with this status and says why. */
#define REFUSED(want, expr)                                                                                            \
    do {                                                                                                               \
        llmoi_message_clear();                                                                                         \
        n_cases++;                                                                                                     \
        assert_status(expr, want);                                                                                     \
    } while (0)
#define BAD(expr) REFUSED(LLMO_E_ARG, expr)

/* A plain getter answers this for a bad handle. */
#define ANSWERS(want, expr)                                                                                            \
    do {                                                                                                               \
        n_cases++;                                                                                                     \
        if ((expr) != (want)) fail_msg("%s", #expr);                                                                   \
    } while (0)

static void assert_usable(void) {
    llmo_generation_params p;
    llmo_sampling_params s;
    llmo_token got[4];
    static llmo_token want[4];
    static bool known;
    greedy_params(&p, &s, 4);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_int_equal(reply(e.ctx, e.seq, tokens, 5, &p, LLMO_BUDGET_UNLIMITED, got), 4);
    if (known) assert_memory_equal(got, want, sizeof got);
    memcpy(want, got, sizeof got);
    known = true;
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_int_equal(context_stats(e.ctx).n_generations, 0);
}

/* Every call that takes a handle, with handles of the wrong kind, or none. h: never of the right kind for any call. */
static void call_all(void *rt, void *model, void *plan, void *ctx, void *seq, void *g) {
    llmo_device_info device = {.struct_size = sizeof device};
    llmo_model_info info = {.struct_size = sizeof info};
    llmo_tensor_info tensor = {.struct_size = sizeof tensor};
    llmo_plan_params pp = {.struct_size = sizeof pp};
    llmo_site_info site = {.struct_size = sizeof site};
    llmo_context_stats stats = {.struct_size = sizeof stats};
    llmo_generation_info gi = {.struct_size = sizeof gi};
    llmo_model *m = (void *)1;
    llmo_plan *p = (void *)1;
    llmo_context *c = (void *)1;
    llmo_sequence *s = (void *)1;
    llmo_generation *made = (void *)1;
    llmo_reader reader = {.struct_size = sizeof reader};
    char buf[16];
    size_t n;

    llmo_runtime_destroy(rt);
    ANSWERS(0, strcmp(llmo_runtime_error(rt), ""));
    ANSWERS(0u, llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT));
    ANSWERS(0u, llmo_runtime_threads(rt));
    ANSWERS(0u, llmo_device_count(rt));
    ANSWERS(0, strcmp(llmo_device_gpu_note(rt), ""));
    BAD(llmo_device_get_info(rt, 0, &device));
    BAD(llmo_model_open(rt, "x", NULL, &m));
    assert_null(m);
    BAD(llmo_model_open_memory(rt, file, file_bytes, NULL, &m));
    BAD(llmo_model_open_readers(rt, &reader, 1, NULL, &m));

    llmo_model_destroy(model);
    ANSWERS(0, strcmp(llmo_model_error(model), ""));
    BAD(llmo_model_get_info(model, &info));
    ANSWERS(0u, llmo_model_meta_count(model));
    ANSWERS(NULL, llmo_model_meta_key(model, 0));
    BAD(llmo_model_meta_text(model, "x", buf, 16, &n));
    BAD(llmo_model_get_tensor(model, 0, &tensor));
    BAD(llmo_tokenize(model, "a", 1, 0, tokens, 1, &n));
    BAD(llmo_detokenize(model, tokens, 1, 0, buf, 16, &n));
    ANSWERS(LLMO_TOKEN_NONE, llmo_model_special_token(model, 0));
    ANSWERS(UINT32_MAX, llmo_model_token_attr(model, 0));
    BAD(llmo_plan_create(model, NULL, &p));
    assert_null(p);

    llmo_plan_destroy(plan);
    ANSWERS(0u, llmo_plan_bytes(plan, 0, LLMO_PURPOSE_COUNT));
    BAD(llmo_plan_get_params(plan, &pp));
    ANSWERS(NULL, llmo_plan_note(plan, 0));
    ANSWERS(0u, llmo_plan_site_count(plan));
    BAD(llmo_plan_get_site(plan, 0, &site));
    ANSWERS(NULL, llmo_plan_site_reason(plan, 0, 0));

    BAD(llmo_context_create(model, NULL, NULL, &c));
    assert_null(c);
    if (plan) BAD(llmo_context_create(e.model, plan, NULL, &c));
    llmo_context_destroy(ctx);
    ANSWERS(0, strcmp(llmo_context_error(ctx), ""));
    ANSWERS(0u, llmo_context_bytes(ctx, 0, LLMO_PURPOSE_COUNT));
    BAD(llmo_context_get_stats(ctx, &stats));
    BAD(llmo_context_cancel(ctx));
    BAD(llmo_context_step(ctx, 1, NULL));

    BAD(llmo_sequence_create(ctx, &s));
    assert_null(s);
    BAD(llmo_sequence_fork(seq, 0, &s));
    llmo_sequence_destroy(seq);
    BAD(llmo_sequence_truncate(seq, 0));
    ANSWERS(0u, llmo_sequence_length(seq));
    BAD(llmo_sequence_get_tokens(seq, 0, tokens, 1, &n));
    BAD(llmo_eval(seq, tokens, 1, 1, row, TINY_VOCAB));
    BAD(llmo_generation_start(seq, "a", 1, NULL, &made));
    assert_null(made);
    BAD(llmo_generation_start_tokens(seq, tokens, 1, NULL, &made));
    BAD(llmo_generate(seq, "a", 1, NULL, NULL));

    BAD(llmo_generation_get_info(g, &gi));
    BAD(llmo_generation_read(g, buf, 16, &n));
    BAD(llmo_generation_get_tokens(g, 0, tokens, 1, &n));
    BAD(llmo_generation_cancel(g));
    llmo_generation_destroy(g);
}

static void null_handles_are_refused(void **state) {
    (void)state;
    call_all(NULL, NULL, NULL, NULL, NULL, NULL);
    assert_usable();
}

static void handles_of_another_kind_are_refused(void **state) {
    (void)state;
    call_all(e.model, e.plan, e.ctx, e.seq, gen, e.rt);
    call_all(gen, e.rt, e.model, e.plan, e.ctx, e.seq);
    call_all(e.ctx, e.seq, gen, e.rt, e.model, e.plan);
    assert_usable();
}

static void memory_that_is_no_handle_is_refused(void **state) {
    (void)state;
    static const unsigned char fills[] = {0, 0xa5, 0xff};
    void *fake = malloc(4096);
    for (int i = 0; i < 3; i++) {
        memset(fake, fills[i], 4096);
        call_all(fake, fake, fake, fake, fake, fake);
    }
    free(fake);
    assert_usable();
}

static void destroyed_handles_are_refused_where_the_object_still_exists(void **state) {
    (void)state;
    engine f = engine_open_tiny((engine_options){.n_threads = 1});
    llmo_sequence_destroy(f.seq);
    llmo_runtime_destroy(f.rt);
    llmo_model_destroy(f.model);
    llmo_plan_destroy(f.plan);
    call_all(f.rt, f.model, f.plan, NULL, f.seq, NULL); /* destroys all of them a second time, too */
    assert_ok(llmo_sequence_create(f.ctx, &f.seq));
    assert_ok(llmo_eval(f.seq, tokens, 5, 1, row, TINY_VOCAB));
    llmo_context_destroy(f.ctx);
}

static void null_outputs_are_refused(void **state) {
    (void)state;
    char buf[8];
    size_t n;
    BAD(llmo_runtime_create(NULL, NULL));
    BAD(llmo_device_get_info(e.rt, 0, NULL));
    BAD(llmo_model_open(e.rt, "x", NULL, NULL));
    BAD(llmo_model_open_memory(e.rt, file, file_bytes, NULL, NULL));
    BAD(llmo_model_open_readers(e.rt, NULL, 1, NULL, NULL));
    BAD(llmo_model_get_info(e.model, NULL));
    BAD(llmo_model_meta_text(e.model, "general.name", buf, 8, NULL));
    BAD(llmo_model_meta_text(e.model, "general.name", NULL, 8, &n));
    BAD(llmo_model_get_tensor(e.model, 0, NULL));
    BAD(llmo_tokenize(e.model, "a", 1, 0, tokens, 8, NULL));
    BAD(llmo_tokenize(e.model, "a", 1, 0, NULL, 8, &n));
    BAD(llmo_detokenize(e.model, tokens, 1, 0, buf, 8, NULL));
    BAD(llmo_detokenize(e.model, tokens, 1, 0, NULL, 8, &n));
    BAD(llmo_plan_create(e.model, NULL, NULL));
    BAD(llmo_plan_get_params(e.plan, NULL));
    BAD(llmo_plan_get_site(e.plan, 0, NULL));
    BAD(llmo_context_create(e.model, e.plan, NULL, NULL));
    BAD(llmo_context_get_stats(e.ctx, NULL));
    BAD(llmo_sequence_create(e.ctx, NULL));
    BAD(llmo_sequence_fork(e.seq, 0, NULL));
    BAD(llmo_sequence_get_tokens(e.seq, 0, NULL, 1, &n));
    BAD(llmo_sequence_get_tokens(e.seq, 0, tokens, 0, NULL));
    BAD(llmo_eval(e.seq, tokens, 1, 1, NULL, TINY_VOCAB));
    BAD(llmo_generation_start(e.seq, "a", 1, NULL, NULL));
    BAD(llmo_generation_start_tokens(e.seq, tokens, 1, NULL, NULL));
    BAD(llmo_generation_get_info(gen, NULL));
    BAD(llmo_generation_read(gen, buf, 8, NULL));
    BAD(llmo_generation_read(gen, NULL, 8, &n));
    BAD(llmo_generation_get_tokens(gen, 0, NULL, 8, &n));
    BAD(llmo_generation_get_tokens(gen, 0, tokens, 0, NULL));
    assert_usable();
}

static void null_inputs_are_refused(void **state) {
    (void)state;
    llmo_model *m;
    llmo_generation *g;
    char buf[8];
    size_t n;
    BAD(llmo_model_open(e.rt, NULL, NULL, &m));
    BAD(llmo_model_open_memory(e.rt, NULL, 10, NULL, &m));
    BAD(llmo_model_open_readers(e.rt, NULL, 1, NULL, &m));
    BAD(llmo_model_meta_text(e.model, NULL, buf, 8, &n));
    BAD(llmo_tokenize(e.model, NULL, 1, 0, tokens, 8, &n));
    BAD(llmo_detokenize(e.model, NULL, 1, 0, buf, 8, &n));
    BAD(llmo_eval(e.seq, NULL, 1, 0, NULL, 0));
    BAD(llmo_eval(e.seq, tokens, 0, 0, NULL, 0));
    BAD(llmo_generation_start(e.seq, NULL, 1, NULL, &g));
    BAD(llmo_generation_start_tokens(e.seq, NULL, 1, NULL, &g));
    BAD(llmo_generation_start_tokens(e.seq, NULL, 0, NULL, &g));
    BAD(llmo_generate(e.seq, NULL, 1, NULL, NULL));
    assert_null(g);
    assert_usable();
}

static int32_t no_read(void *user, uint64_t offset, void *dst, size_t bytes) {
    (void)user, (void)offset, (void)dst, (void)bytes;
    return 1;
}

static void readers_are_checked(void **state) {
    (void)state;
    llmo_model *m;
    llmo_reader r = {sizeof r, 0, NULL, 1000, no_read}, bad = r;
    BAD(llmo_model_open_readers(e.rt, &r, 0, NULL, &m));
    BAD(llmo_model_open_readers(e.rt, &r, 100000, NULL, &m));
    bad.read = NULL;
    BAD(llmo_model_open_readers(e.rt, &bad, 1, NULL, &m));
    bad = r;
    bad.struct_size = 0;
    BAD(llmo_model_open_readers(e.rt, &bad, 1, NULL, &m));
    REFUSED(LLMO_E_IO, llmo_model_open_readers(e.rt, &r, 1, NULL, &m));
    assert_null(m);
}

static void numbers_out_of_range_are_refused(void **state) {
    (void)state;
    llmo_device_info device = {.struct_size = sizeof device};
    llmo_tensor_info tensor = {.struct_size = sizeof tensor};
    llmo_site_info site = {.struct_size = sizeof site};
    llmo_token bad[] = {5, -1}, large[] = {5, (llmo_token)TINY_VOCAB};
    llmo_generation *g;
    char buf[8];
    size_t n;
    BAD(llmo_device_get_info(e.rt, 99, &device));
    BAD(llmo_model_get_tensor(e.model, UINT32_MAX, &tensor));
    BAD(llmo_plan_get_site(e.plan, llmo_plan_site_count(e.plan), &site));
    BAD(llmo_plan_get_site(e.plan, UINT32_MAX, &site));
    ANSWERS(NULL, llmo_plan_site_reason(e.plan, UINT32_MAX, 0));
    ANSWERS(NULL, llmo_plan_site_reason(e.plan, 0, UINT32_MAX));
    ANSWERS(NULL, llmo_plan_note(e.plan, UINT32_MAX));
    ANSWERS(0u, llmo_plan_bytes(e.plan, 0, -1));
    ANSWERS(0u, llmo_plan_bytes(e.plan, 0, LLMO_PURPOSE_COUNT + 1));
    ANSWERS(0u, llmo_plan_bytes(e.plan, UINT32_MAX, 0));
    ANSWERS(0u, llmo_context_bytes(e.ctx, 99, 0));
    ANSWERS(0u, llmo_context_bytes(e.ctx, 0, -1));
    ANSWERS(0u, llmo_runtime_bytes(e.rt, -1));
    ANSWERS(0u, llmo_runtime_bytes(e.rt, INT32_MAX));
    ANSWERS(0, strcmp(llmo_purpose_name(-1), "unknown"));
    ANSWERS(0, strcmp(llmo_purpose_name(LLMO_PURPOSE_COUNT), "unknown"));
    ANSWERS(0, strcmp(llmo_status_name(12345), "LLMO_E_UNKNOWN"));
    BAD(llmo_tokenize(e.model, "a", 1, 4, tokens, 8, &n));
    BAD(llmo_detokenize(e.model, tokens, 1, 4, buf, 8, &n));
    BAD(llmo_detokenize(e.model, bad, 2, 0, buf, 8, &n));
    BAD(llmo_detokenize(e.model, large, 2, 0, buf, 8, &n));
    BAD(llmo_eval(e.seq, bad, 2, 1, row, TINY_VOCAB));
    BAD(llmo_eval(e.seq, large, 2, 1, row, TINY_VOCAB));
    BAD(llmo_eval(e.seq, tokens, 2, 3, row, TINY_VOCAB));
    BAD(llmo_eval(e.seq, tokens, 2, SIZE_MAX, row, TINY_VOCAB));
    BAD(llmo_generation_start_tokens(e.seq, bad, 2, NULL, &g));
    BAD(llmo_generation_start_tokens(e.seq, large, 2, NULL, &g));
    REFUSED(LLMO_E_BUFFER, llmo_eval(e.seq, tokens, 2, 2, row, 2 * TINY_VOCAB - 1));
    REFUSED(LLMO_E_CONTEXT_FULL, llmo_eval(e.seq, tokens, 257, 1, row, TINY_VOCAB));
    REFUSED(LLMO_E_CONTEXT_FULL, llmo_eval(e.seq, tokens, 300, 0, NULL, 0));
    REFUSED(LLMO_E_CONTEXT_FULL, llmo_generation_start_tokens(e.seq, tokens, 257, NULL, &g));
    assert_int_equal(llmo_sequence_length(e.seq), 0);
    assert_string_equal(llmo_context_error(e.ctx), llmo_last_error());
    assert_usable();
}

/* --- params -------------------------------------------------------------------------------------------------------------- */

#define BAD_PLAN(field, value)                                                                                         \
    do {                                                                                                               \
        llmo_plan_params p;                                                                                            \
        llmo_plan *out = (void *)1;                                                                                    \
        llmo_plan_params_init(&p);                                                                                     \
        p.field = (value);                                                                                             \
        BAD(llmo_plan_create(e.model, &p, &out));                                                                      \
        assert_null(out);                                                                                              \
        assert_non_null(strstr(llmo_last_error(), #field));                                                            \
    } while (0)

static void bad_plan_params_are_refused_by_name(void **state) {
    (void)state;
    BAD_PLAN(n_ctx, UINT32_MAX);
    BAD_PLAN(n_ctx, (1u << 24) + 1);
    BAD_PLAN(n_sequences, 0);
    BAD_PLAN(n_sequences, 1025);
    BAD_PLAN(n_batch, 65537);
    BAD_PLAN(n_batch, UINT32_MAX);
    BAD_PLAN(n_kv_tokens, UINT64_MAX);
    BAD_PLAN(kv_type_k, 2);
    BAD_PLAN(kv_type_k, -1);
    BAD_PLAN(kv_type_v, 7);
    BAD_PLAN(numerics, 3);
    BAD_PLAN(numerics, -1);
    BAD_PLAN(gpu_layers, -2);
    BAD_PLAN(struct_size, 0);
    BAD_PLAN(struct_size, 12345);
    assert_usable();
}

static void edges_of_plan_params_are_accepted(void **state) {
    (void)state;
    llmo_plan_params p, got = {.struct_size = sizeof got};
    llmo_plan *plan;
    llmo_context *ctx;
    llmo_sequence *s;
    llmo_plan_params_init(&p);
    p.n_batch = 65536;
    p.n_ctx = 0;
    p.gpu_layers = INT32_MAX;
    assert_ok(llmo_plan_create(e.model, &p, &plan));
    assert_ok(llmo_plan_get_params(plan, &got));
    assert_int_equal(got.n_ctx, TINY_CTX);
    llmo_plan_destroy(plan);
    p.n_ctx = 1;
    assert_ok(llmo_plan_create(e.model, &p, &plan));
    assert_ok(llmo_context_create(e.model, plan, NULL, &ctx));
    assert_ok(llmo_sequence_create(ctx, &s));
    assert_ok(llmo_eval(s, tokens, 1, 1, row, TINY_VOCAB));
    REFUSED(LLMO_E_CONTEXT_FULL, llmo_eval(s, tokens, 1, 1, row, TINY_VOCAB));
    llmo_context_destroy(ctx);
    llmo_plan_destroy(plan);
}

#define BAD_RUNTIME(field, value)                                                                                      \
    do {                                                                                                               \
        llmo_runtime_params p;                                                                                         \
        llmo_runtime *out = (void *)1;                                                                                 \
        llmo_runtime_params_init(&p);                                                                                  \
        p.field = (value);                                                                                             \
        BAD(llmo_runtime_create(&p, &out));                                                                            \
        assert_null(out);                                                                                              \
    } while (0)

static void *some_alloc(void *user, size_t bytes, size_t alignment) {
    (void)user, (void)bytes, (void)alignment;
    return NULL;
}

static void bad_runtime_params_are_refused(void **state) {
    (void)state;
    BAD_RUNTIME(n_threads, 0);
    BAD_RUNTIME(n_threads, -2);
    BAD_RUNTIME(n_threads, 513);
    BAD_RUNTIME(n_threads, 100000);
    BAD_RUNTIME(log_level, -1);
    BAD_RUNTIME(log_level, 5);
    BAD_RUNTIME(alloc, some_alloc); /* without release */
    BAD_RUNTIME(struct_size, 0);
    BAD_RUNTIME(struct_size, 0xa5a5a5a5u);
}

#define BAD_SAMPLING(field, value)                                                                                     \
    do {                                                                                                               \
        llmo_sampling_params s;                                                                                        \
        llmo_generation_params p;                                                                                      \
        llmo_generation *out = (void *)1;                                                                              \
        llmo_sampling_params_init(&s);                                                                                 \
        llmo_generation_params_init(&p);                                                                               \
        p.sampling = &s;                                                                                               \
        s.field = (value);                                                                                             \
        BAD(llmo_generation_start_tokens(e.seq, tokens, 3, &p, &out));                                                 \
        assert_null(out);                                                                                              \
        BAD(llmo_generate(e.seq, "a", 1, &p, NULL));                                                                   \
        assert_int_equal(llmo_sequence_length(e.seq), 0);                                                              \
    } while (0)

static void bad_sampling_params_are_refused(void **state) {
    (void)state;
    BAD_SAMPLING(temperature, NAN);
    BAD_SAMPLING(temperature, -1.0f);
    BAD_SAMPLING(temperature, INFINITY);
    BAD_SAMPLING(top_p, NAN);
    BAD_SAMPLING(top_p, 1.5f);
    BAD_SAMPLING(min_p, -0.5f);
    BAD_SAMPLING(min_p, NAN);
    BAD_SAMPLING(typical_p, NAN);
    BAD_SAMPLING(top_k, -1);
    BAD_SAMPLING(penalty_last, -2);
    BAD_SAMPLING(penalty_repeat, NAN);
    BAD_SAMPLING(penalty_repeat, 0.0f);
    BAD_SAMPLING(penalty_presence, NAN);
    BAD_SAMPLING(penalty_frequency, INFINITY);
    BAD_SAMPLING(dry_multiplier, NAN);
    BAD_SAMPLING(dry_base, NAN);
    BAD_SAMPLING(n_dry_breakers, 3);
    BAD_SAMPLING(xtc_probability, NAN);
    BAD_SAMPLING(xtc_threshold, NAN);
    BAD_SAMPLING(mirostat, 1);
    BAD_SAMPLING(mirostat_tau, NAN);
    BAD_SAMPLING(mirostat_eta, NAN);
    BAD_SAMPLING(n_bias, 1);
    BAD_SAMPLING(reserved0, 1);
    BAD_SAMPLING(reserved1, 1);
    BAD_SAMPLING(struct_size, 0);
    assert_usable();
}

#define BAD_GENERATION(field, value)                                                                                   \
    do {                                                                                                               \
        llmo_generation_params p;                                                                                      \
        llmo_generation *out = (void *)1;                                                                              \
        llmo_generation_params_init(&p);                                                                               \
        p.field = (value);                                                                                             \
        BAD(llmo_generation_start_tokens(e.seq, tokens, 3, &p, &out));                                                 \
        assert_null(out);                                                                                              \
        BAD(llmo_generation_start(e.seq, "a", 1, &p, &out));                                                           \
        assert_int_equal(llmo_sequence_length(e.seq), 0);                                                              \
    } while (0)

static void bad_generation_params_are_refused(void **state) {
    (void)state;
    static const char *const empty[] = {""}, *const null[] = {NULL};
    BAD_GENERATION(flags, 4);
    BAD_GENERATION(flags, UINT32_MAX);
    BAD_GENERATION(tokenize_flags, 8);
    BAD_GENERATION(n_stops, 1);
    BAD_GENERATION(n_stop_tokens, 1);
    BAD_GENERATION(struct_size, 3);
    llmo_generation_params p;
    llmo_generation *g;
    llmo_generation_params_init(&p);
    p.n_stops = 1;
    p.stops = empty;
    BAD(llmo_generation_start_tokens(e.seq, tokens, 3, &p, &g));
    p.stops = null;
    BAD(llmo_generation_start_tokens(e.seq, tokens, 3, &p, &g));
    assert_usable();
}

static void zeroed_and_garbage_params_are_refused(void **state) {
    (void)state;
    static const unsigned char fills[] = {0, 0xa5, 0xff};
    for (int i = 0; i < 3; i++) {
        _Alignas(16) unsigned char bytes[1024];
        memset(bytes, fills[i], sizeof bytes);
        llmo_runtime *r;
        llmo_model *m;
        llmo_plan *p;
        llmo_context *c;
        llmo_generation *g;
        BAD(llmo_runtime_create((void *)bytes, &r));
        BAD(llmo_model_open(e.rt, "x", (void *)bytes, &m));
        BAD(llmo_model_open_memory(e.rt, file, file_bytes, (void *)bytes, &m));
        BAD(llmo_model_open_readers(e.rt, (void *)bytes, 1, NULL, &m));
        BAD(llmo_plan_create(e.model, (void *)bytes, &p));
        BAD(llmo_context_create(e.model, e.plan, (void *)bytes, &c));
        BAD(llmo_generation_start_tokens(e.seq, tokens, 1, (void *)bytes, &g));
        BAD(llmo_generate(e.seq, "a", 1, (void *)bytes, NULL));
        BAD(llmo_model_get_info(e.model, (void *)bytes));
        BAD(llmo_model_get_tensor(e.model, 0, (void *)bytes));
        BAD(llmo_device_get_info(e.rt, 0, (void *)bytes));
        BAD(llmo_plan_get_params(e.plan, (void *)bytes));
        BAD(llmo_plan_get_site(e.plan, 0, (void *)bytes));
        BAD(llmo_context_get_stats(e.ctx, (void *)bytes));
        BAD(llmo_generation_get_info(gen, (void *)bytes));
        BAD(llmo_context_step(e.ctx, 1, (void *)bytes));
    }
    assert_usable();
}

static void a_plan_of_another_model_is_refused(void **state) {
    (void)state;
    engine f = engine_open_tiny((engine_options){.n_threads = 1});
    llmo_context *c;
    BAD(llmo_context_create(e.model, f.plan, NULL, &c));
    assert_null(c);
    assert_string_equal(llmo_model_error(e.model), llmo_last_error());
    engine_close(&f);
}

/* --- a second thread ------------------------------------------------------------------------------------------------------ */

static _Atomic int in_callback, tried;

static int32_t wait_for_second(void *user, llmo_generation *g, const char *text, size_t n) {
    (void)user, (void)g, (void)text, (void)n;
    atomic_store(&in_callback, 1);
    while (!atomic_load(&tried)) sched_yield();
    return 0;
}

static void *use_from_second_thread(void *arg) {
    llmo_generation *g = arg, *made;
    llmo_sequence *s;
    llmo_context_stats stats = {.struct_size = sizeof stats};
    llmo_generation_info info = {.struct_size = sizeof info};
    size_t n;
    int *n_busy = calloc(1, sizeof *n_busy);
    while (!atomic_load(&in_callback)) sched_yield();
    *n_busy += llmo_context_step(e.ctx, 1, NULL) == LLMO_E_BUSY;
    *n_busy += llmo_sequence_create(e.ctx, &s) == LLMO_E_BUSY;
    *n_busy += llmo_sequence_fork(seq2, 0, &s) == LLMO_E_BUSY;
    *n_busy += llmo_sequence_truncate(seq2, 0) == LLMO_E_BUSY;
    *n_busy += llmo_sequence_get_tokens(seq2, 0, NULL, 0, &n) == LLMO_E_BUSY;
    *n_busy += llmo_eval(seq2, tokens, 1, 0, NULL, 0) == LLMO_E_BUSY;
    *n_busy += llmo_generation_start_tokens(seq2, tokens, 1, NULL, &made) == LLMO_E_BUSY;
    *n_busy += llmo_generate(seq2, "a", 1, NULL, NULL) == LLMO_E_BUSY;
    *n_busy += llmo_generation_get_info(g, &info) == LLMO_E_BUSY;
    *n_busy += llmo_context_get_stats(e.ctx, &stats) == LLMO_E_BUSY;
    *n_busy += llmo_last_error()[0] != 0; /* this thread's own sentence */
    llmo_generation_destroy(g);           /* ignored */
    llmo_sequence_destroy(seq2);
    /* what any thread may do */
    llmo_plan *plan;
    *n_busy += llmo_context_bytes(e.ctx, 0, LLMO_PURPOSE_KV) > 0;
    *n_busy += llmo_tokenize(e.model, "a", 1, 0, NULL, 0, &n) == LLMO_E_BUFFER;
    *n_busy += llmo_plan_create(e.model, NULL, &plan) == LLMO_OK;
    llmo_plan_destroy(plan);
    *n_busy += llmo_generation_cancel(g) == LLMO_OK;
    atomic_store(&tried, 1);
    return n_busy;
}

static void a_second_thread_gets_busy(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params s;
    llmo_generation *g;
    pthread_t id;
    void *n_busy;
    greedy_params(&p, &s, 50);
    p.text = wait_for_second;
    assert_ok(llmo_generation_start_tokens(e.seq, tokens, 5, &p, &g));
    assert_int_equal(pthread_create(&id, NULL, use_from_second_thread, g), 0);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    pthread_join(id, &n_busy);
    assert_int_equal(*(int *)n_busy, 15);
    n_cases += 11;
    free(n_busy);
    assert_int_equal(generation_info(g).stop, LLMO_STOP_CANCEL);
    llmo_generation_destroy(g);
    assert_ok(llmo_sequence_truncate(seq2, 0)); /* it was not destroyed */
    assert_usable();
}

static void *own_context(void *arg) {
    llmo_context *c;
    llmo_sequence *s;
    float *out = malloc(TINY_VOCAB * sizeof *out);
    (void)arg;
    for (int i = 0; i < 5; i++) {
        if (llmo_context_create(e.model, e.plan, NULL, &c) != LLMO_OK || llmo_sequence_create(c, &s) != LLMO_OK ||
            llmo_eval(s, tokens, 20, 1, out, TINY_VOCAB) != LLMO_OK)
            return NULL;
        llmo_context_destroy(c);
    }
    return out;
}

static void contexts_of_one_model_run_on_threads_of_their_own(void **state) {
    (void)state;
    pthread_t id[3];
    void *out;
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&id[i], NULL, own_context, NULL), 0);
    assert_ok(llmo_eval(e.seq, tokens, 20, 1, row, TINY_VOCAB));
    for (int i = 0; i < 3; i++) {
        pthread_join(id[i], &out);
        assert_non_null(out);
        assert_memory_equal(out, row, sizeof row);
        free(out);
    }
    assert_usable();
}

/* --- fork ----------------------------------------------------------------------------------------------------------------- */

/* In the child: 0, or the number of the first call that did not give LLMO_E_FORKED. */
static int use_in_child(llmo_generation *running) {
    llmo_device_info device = {.struct_size = sizeof device};
    llmo_model_info info = {.struct_size = sizeof info};
    llmo_tensor_info tensor = {.struct_size = sizeof tensor};
    llmo_plan_params pp = {.struct_size = sizeof pp};
    llmo_site_info site = {.struct_size = sizeof site};
    llmo_context_stats stats = {.struct_size = sizeof stats};
    llmo_generation_info gi = {.struct_size = sizeof gi};
    llmo_reader reader = {sizeof reader, 0, NULL, 100, no_read};
    llmo_model *m;
    llmo_plan *p;
    llmo_context *c;
    llmo_sequence *s;
    llmo_generation *g;
    char buf[8];
    size_t n;
    int i = 0;
#define FORKED(expr)                                                                                                   \
    do {                                                                                                               \
        i++;                                                                                                           \
        llmoi_message_clear();                                                                                         \
        if ((expr) != LLMO_E_FORKED || !llmo_last_error()[0]) return i;                                                \
    } while (0)
    FORKED(llmo_device_get_info(e.rt, 0, &device));
    FORKED(llmo_model_open(e.rt, "x", NULL, &m));
    FORKED(llmo_model_open_memory(e.rt, file, file_bytes, NULL, &m));
    FORKED(llmo_model_open_readers(e.rt, &reader, 1, NULL, &m));
    FORKED(llmo_model_get_info(e.model, &info));
    FORKED(llmo_model_meta_text(e.model, "general.name", buf, 8, &n));
    FORKED(llmo_model_get_tensor(e.model, 0, &tensor));
    FORKED(llmo_tokenize(e.model, "a", 1, 0, NULL, 0, &n));
    FORKED(llmo_detokenize(e.model, tokens, 1, 0, buf, 8, &n));
    FORKED(llmo_plan_create(e.model, NULL, &p));
    FORKED(llmo_plan_get_params(e.plan, &pp));
    FORKED(llmo_plan_get_site(e.plan, 0, &site));
    FORKED(llmo_context_create(e.model, e.plan, NULL, &c));
    FORKED(llmo_context_get_stats(e.ctx, &stats));
    FORKED(llmo_context_cancel(e.ctx));
    FORKED(llmo_context_step(e.ctx, 1, NULL));
    FORKED(llmo_sequence_create(e.ctx, &s));
    FORKED(llmo_sequence_fork(seq2, 0, &s));
    FORKED(llmo_sequence_truncate(e.seq, 0));
    FORKED(llmo_sequence_get_tokens(e.seq, 0, tokens, 1, &n));
    FORKED(llmo_eval(seq2, tokens, 1, 0, NULL, 0));
    FORKED(llmo_generation_start(seq2, "a", 1, NULL, &g));
    FORKED(llmo_generation_start_tokens(seq2, tokens, 1, NULL, &g));
    FORKED(llmo_generate(seq2, "a", 1, NULL, NULL));
    FORKED(llmo_generation_get_info(running, &gi));
    FORKED(llmo_generation_read(running, buf, 8, &n));
    FORKED(llmo_generation_get_tokens(running, 0, tokens, 1, &n));
    FORKED(llmo_generation_cancel(running));
    llmo_generation_destroy(running);
    llmo_sequence_destroy(seq2);
    llmo_context_destroy(e.ctx);
    llmo_plan_destroy(e.plan);
    llmo_model_destroy(e.model);
    llmo_runtime_destroy(e.rt);
    return 0;
}

static void a_forked_child_is_refused_and_the_parent_goes_on(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params s;
    llmo_generation *g;
    greedy_params(&p, &s, 5);
    assert_ok(llmo_generation_start_tokens(e.seq, tokens, 5, &p, &g));
    for (int i = 0; i < 3; i++) assert_ok(llmo_context_step(e.ctx, 0, NULL)); /* in the middle of a pass */
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* a destroy call that waits for the parent's threads would hang */
        _exit(use_in_child(g));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("the child ended with 0x%x (call %d)", (unsigned)status, WEXITSTATUS(status));
    n_cases += 28;
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    assert_int_equal(generation_info(g).n_generated, 5);
    llmo_generation_destroy(g);
    assert_usable();
}

/* --- log ------------------------------------------------------------------------------------------------------------------ */

typedef struct log_lines {
    uint32_t n;
    int32_t highest;
    bool clean;
} log_lines;

static void take_line(void *user, int32_t level, const char *line) {
    log_lines *l = user;
    l->n++;
    if (level > l->highest) l->highest = level;
    l->clean = l->clean && line[0] && !strchr(line, '\n') && level >= LLMO_LOG_ERROR;
}

static void the_log_keeps_to_its_level(void **state) {
    (void)state;
    for (int32_t level = LLMO_LOG_NONE; level <= LLMO_LOG_DEBUG; level++) {
        log_lines l = {.clean = true};
        llmo_runtime_params rp;
        llmo_runtime_params_init(&rp);
        rp.n_threads = 1;
        rp.log = take_line;
        rp.log_user = &l;
        rp.log_level = level;
        engine f = engine_open_tiny((engine_options){.runtime = &rp});
        assert_ok(llmo_eval(f.seq, tokens, 5, 1, row, TINY_VOCAB));
        engine_close(&f);
        assert_true(l.clean);
        assert_true(l.highest <= level);
        if (level == LLMO_LOG_NONE) assert_int_equal(l.n, 0);
        if (level >= LLMO_LOG_INFO) assert_true(l.n > 0);
    }
}

static int set_up(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params s;
    some_tokens(1, tokens, 300);
    file = tiny_model(NULL, &file_bytes);
    e = engine_open_tiny((engine_options){.n_threads = 2, .n_sequences = 3});
    greedy_params(&p, &s, 3);
    assert_ok(llmo_sequence_create(e.ctx, &seq2));
    assert_ok(llmo_generation_start_tokens(seq2, tokens, 5, &p, &gen));
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    engine_close(&e);
    free(file);
    print_message("%u cases of misuse\n", n_cases);
    return n_cases >= 120 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_handles_are_refused),
        cmocka_unit_test(handles_of_another_kind_are_refused),
        cmocka_unit_test(memory_that_is_no_handle_is_refused),
        cmocka_unit_test(destroyed_handles_are_refused_where_the_object_still_exists),
        cmocka_unit_test(null_outputs_are_refused),
        cmocka_unit_test(null_inputs_are_refused),
        cmocka_unit_test(readers_are_checked),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(bad_plan_params_are_refused_by_name),
        cmocka_unit_test(edges_of_plan_params_are_accepted),
        cmocka_unit_test(bad_runtime_params_are_refused),
        cmocka_unit_test(bad_sampling_params_are_refused),
        cmocka_unit_test(bad_generation_params_are_refused),
        cmocka_unit_test(zeroed_and_garbage_params_are_refused),
        cmocka_unit_test(a_plan_of_another_model_is_refused),
        cmocka_unit_test(a_second_thread_gets_busy),
        cmocka_unit_test(contexts_of_one_model_run_on_threads_of_their_own),
        cmocka_unit_test(a_forked_child_is_refused_and_the_parent_goes_on),
        cmocka_unit_test(the_log_keeps_to_its_level),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
