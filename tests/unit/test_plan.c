/* Plans: the sizes they predict, who runs what and why not another, their notes, and parameters out of range. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "engine_fixture.h"
#include "plan.h"

enum { F32 = 0, Q8_0 = 8, Q4_K = 12 };

/* A runtime and a model of matrices of one type, without a context. */
typedef struct rig {
    llmo_runtime *rt;
    llmo_model *model;
    unsigned char *file;
} rig;

static rig rig_open(uint32_t type, const tiny_shape *shape, const char *rows_off) {
    rig r;
    size_t size;
    if (rows_off) setenv("LLMO_ROWS", rows_off, 1);
    llmo_runtime_params p;
    llmo_runtime_params_init(&p);
    p.n_threads = 2;
    assert_ok(llmo_runtime_create(&p, &r.rt));
    unsetenv("LLMO_ROWS"); /* read once, when the runtime is made */
    r.file = tiny_llama(type, shape, &size);
    assert_ok(llmo_model_open_memory(r.rt, r.file, size, NULL, &r.model));
    return r;
}

static void rig_close(rig *r) {
    llmo_model_destroy(r->model);
    llmo_runtime_destroy(r->rt);
    free(r->file);
}

static llmo_plan_params defaults(void) {
    llmo_plan_params p;
    llmo_plan_params_init(&p);
    return p;
}

static llmo_plan *plan_of(const rig *r, llmo_plan_params p) {
    llmo_plan *plan = NULL;
    assert_ok(llmo_plan_create(r->model, &p, &plan));
    return plan;
}

static uint64_t bytes_of(const rig *r, llmo_plan_params p, int32_t purpose) {
    llmo_plan *plan = plan_of(r, p);
    uint64_t n = llmo_plan_bytes(plan, 0, purpose);
    llmo_plan_destroy(plan);
    return n;
}

/* --- sizes ------------------------------------------------------------------------------------------------------------------ */

static void sizes_follow_the_parameters(void **state) {
    (void)state;
    rig r = rig_open(F32, NULL, NULL);
    llmo_plan_params p = defaults();
    p.n_ctx = 128;
    p.n_batch = 16;
    p.kv_type_k = p.kv_type_v = LLMO_KV_F16;
    /* 2 layers, keys and values, 2 of 4 heads of 16 elements, 2 bytes each */
    uint64_t kv = bytes_of(&r, p, LLMO_PURPOSE_KV);
    assert_int_equal(kv, 2 * 2 * 32 * 2 * 128);
    llmo_plan_params q = p;
    q.n_ctx = 129; /* whole pages of 64 */
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), kv / 128 * 192);
    q.n_ctx = 256;
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), 2 * kv);
    q = p;
    q.n_sequences = 5;
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), 5 * kv);
    assert_true(bytes_of(&r, q, LLMO_PURPOSE_STATE) > bytes_of(&r, p, LLMO_PURPOSE_STATE));
    assert_true(bytes_of(&r, q, LLMO_PURPOSE_LOGITS) >= bytes_of(&r, p, LLMO_PURPOSE_LOGITS) + 4 * TINY_VOCAB * 4);
    q.n_kv_tokens = 65; /* two pages for all */
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), kv);
    q.n_kv_tokens = 1 << 20; /* more than five full sequences is never used */
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), 5 * kv);
    q = p;
    q.kv_type_k = LLMO_KV_F32;
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), kv / 2 * 3);
    q.kv_type_v = LLMO_KV_F32;
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), kv * 2);
    q = p;
    q.n_batch = 32;
    assert_true(bytes_of(&r, q, LLMO_PURPOSE_COMPUTE) > bytes_of(&r, p, LLMO_PURPOSE_COMPUTE) * 3 / 2);
    assert_int_equal(bytes_of(&r, q, LLMO_PURPOSE_KV), kv);
    /* matrices in memory are used in place, the vectors are copied */
    uint64_t weights = bytes_of(&r, p, LLMO_PURPOSE_WEIGHTS);
    assert_int_equal(weights, 5 * TINY_EMBD * 4);
    /* the sum, and what does not exist */
    llmo_plan *plan = plan_of(&r, p);
    uint64_t sum = 0;
    for (int i = 0; i < LLMO_PURPOSE_COUNT; i++) sum += llmo_plan_bytes(plan, 0, i);
    assert_true(sum > weights + kv && sum == llmo_plan_bytes(plan, 0, LLMO_PURPOSE_COUNT));
    assert_int_equal(llmo_plan_bytes(plan, 99, LLMO_PURPOSE_KV), 0);
    assert_int_equal(llmo_plan_bytes(plan, 0, -1), 0);
    assert_int_equal(llmo_plan_bytes(plan, 0, LLMO_PURPOSE_COUNT + 1), 0);
    llmo_plan_destroy(plan);
    rig_close(&r);
}

/* Weights of a file are read: its bytes, each tensor padded to 64, the vectors in f32. */
static void weights_of_a_file_are_counted(void **state) {
    (void)state;
    rig r = rig_open(Q8_0, NULL, NULL);
    size_t size;
    unsigned char *file = tiny_llama(Q8_0, NULL, &size);
    char path[] = "/tmp/llmo-plan-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, file, size) == (ssize_t)size && close(fd) == 0);
    rig from_file = r;
    assert_ok(llmo_model_open(r.rt, path, NULL, &from_file.model));
    llmo_model_info info = {.struct_size = sizeof info};
    assert_ok(llmo_model_get_info(from_file.model, &info));
    uint64_t weights = bytes_of(&from_file, defaults(), LLMO_PURPOSE_WEIGHTS);
    assert_true(weights >= info.weights_bytes && weights < info.weights_bytes + 64 * info.n_tensors);
    llmo_model_destroy(from_file.model);
    assert_int_equal(unlink(path), 0);
    free(file);
    rig_close(&r);
}

/* What a context really takes is what its plan said. */
static void contexts_take_what_the_plan_said(void **state) {
    (void)state;
    static const tiny_shape moe = {.n_experts = 4}, tied = {.tied = 1}, deep = {.n_layers = 5, .n_ff = 352};
    const tiny_shape *shapes[] = {NULL, &moe, &tied, &deep};
    for (int i = 0; i < 8; i++) {
        rig r = rig_open(i % 2 ? Q8_0 : F32, shapes[i / 2], NULL);
        llmo_plan_params p = defaults();
        p.n_ctx = 100 + 30 * (uint32_t)i;
        p.n_sequences = 1 + (uint32_t)i;
        p.numerics = i % 3 ? LLMO_NUMERICS_Q8 : LLMO_NUMERICS_F32;
        llmo_plan *plan = plan_of(&r, p);
        llmo_context *c = NULL;
        assert_ok(llmo_context_create(r.model, plan, NULL, &c));
        for (int purpose = 0; purpose < LLMO_PURPOSE_HEADER; purpose++) {
            assert_int_equal(llmo_context_bytes(c, 0, purpose), llmo_plan_bytes(plan, 0, purpose));
        }
        llmo_context_destroy(c);
        llmo_plan_destroy(plan);
        rig_close(&r);
    }
}

static void automatic_values_are_resolved(void **state) {
    (void)state;
    rig r = rig_open(F32, NULL, NULL);
    llmo_plan *plan = plan_of(&r, defaults());
    llmo_plan_params p = {.struct_size = sizeof p};
    assert_ok(llmo_plan_get_params(plan, &p));
    assert_int_equal(p.n_ctx, TINY_CTX); /* trained for less than 4096 */
    assert_int_equal(p.n_batch, 512);
    assert_int_equal(p.n_sequences, 1);
    assert_int_equal(p.n_kv_tokens, TINY_CTX);
    assert_int_equal(p.numerics, LLMO_NUMERICS_F32);
    assert_int_equal(p.gpu_layers, 0);
    llmo_plan_destroy(plan);
    llmo_plan_params q = defaults();
    q.n_ctx = 3;
    q.n_sequences = 2;
    plan = plan_of(&r, q);
    assert_ok(llmo_plan_get_params(plan, &p));
    assert_int_equal(p.n_batch, 6); /* no pass can hold more */
    assert_int_equal(p.n_kv_tokens, 128);
    llmo_plan_destroy(plan);
    rig_close(&r);
}

static void budgets_are_kept(void **state) {
    (void)state;
    rig r = rig_open(F32, NULL, NULL);
    llmo_plan_params p = defaults();
    uint64_t need = bytes_of(&r, p, LLMO_PURPOSE_COUNT);
    p.ram_budget_bytes = need;
    llmo_plan *plan = plan_of(&r, p);
    llmo_plan_destroy(plan);
    p.ram_budget_bytes = need - 1;
    plan = NULL;
    assert_int_equal(llmo_plan_create(r.model, &p, &plan), LLMO_E_BUDGET);
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)need);
    assert_non_null(strstr(llmo_last_error(), text));
    assert_null(plan);
    rig_close(&r);
}

/* --- parameters --------------------------------------------------------------------------------------------------------------- */

static void parameters_out_of_range_are_named(void **state) {
    (void)state;
    rig r = rig_open(F32, NULL, NULL);
    struct {
        const char *name;
        llmo_plan_params p;
    } bad[16];
    int n = 0;
#define BAD(field, value) (bad[n].name = #field, bad[n].p = defaults(), bad[n++].p.field = (value))
    BAD(n_ctx, (1u << 24) + 1);
    BAD(n_ctx, UINT32_MAX);
    BAD(n_sequences, 0);
    BAD(n_sequences, 1025);
    BAD(n_batch, 65537);
    BAD(n_kv_tokens, UINT64_MAX);
    BAD(kv_type_k, -1);
    BAD(kv_type_k, 7);
    BAD(kv_type_v, 99);
    BAD(kv_type_v, INT32_MIN);
    BAD(numerics, -1);
    BAD(numerics, 3);
    BAD(gpu_layers, -2);
    BAD(gpu_layers, INT32_MIN);
#undef BAD
    for (int i = 0; i < n; i++) {
        llmo_plan *plan = NULL;
        llmo_status st = llmo_plan_create(r.model, &bad[i].p, &plan);
        if (st != LLMO_E_ARG || !strstr(llmo_last_error(), bad[i].name) || plan) {
            fail_msg("%s (%d): %s: %s", bad[i].name, i, llmo_status_name(st), llmo_last_error());
        }
    }
    rig_close(&r);
}

static void a_context_longer_than_trained_is_noted(void **state) {
    (void)state;
    rig r = rig_open(F32, NULL, NULL);
    llmo_plan_params p = defaults();
    p.n_ctx = TINY_CTX + 1;
    llmo_plan *plan = plan_of(&r, p);
    bool seen = false;
    for (uint32_t i = 0; llmo_plan_note(plan, i); i++) seen = seen || strstr(llmo_plan_note(plan, i), "513");
    assert_true(seen);
    llmo_plan_destroy(plan);
    plan = plan_of(&r, defaults());
    for (uint32_t i = 0; llmo_plan_note(plan, i); i++) assert_null(strstr(llmo_plan_note(plan, i), "n_ctx"));
    llmo_plan_destroy(plan);
    rig_close(&r);
}

/* --- the dispatcher --------------------------------------------------------------------------------------------------------------- */

/* Each site has the first row of the table that takes it, and one reason for each row before it. */
static void check_sites(const llmo_plan *plan, bool q8) {
    const llmoi_backend *be = llmoi_cpu_backend();
    uint32_t n = llmo_plan_site_count(plan);
    assert_true(n >= 15); /* two layers of seven, and the head */
    for (uint32_t i = 0; i < n; i++) {
        llmo_site_info s = {.struct_size = sizeof s};
        assert_ok(llmo_plan_get_site(plan, i, &s));
        assert_true(s.rows && s.k && s.n_bytes && s.tensor[0] && s.type[0]);
        assert_true(s.n_declined < be->n_rows);
        const llmoi_matmul_row *row = &be->rows[s.n_declined];
        assert_string_equal(s.row, row->name);
        assert_int_equal(row->act, q8 && strcmp(s.type, "F32") ? LLMOI_ACT_Q8 : LLMOI_ACT_F32);
        for (uint32_t d = 0; d < s.n_declined; d++) {
            const char *why = llmo_plan_site_reason(plan, i, d);
            size_t len = strlen(be->rows[d].name);
            assert_non_null(why);
            assert_memory_equal(why, be->rows[d].name, len); /* "row: reason" */
            assert_memory_equal(why + len, ": ", 2);
            assert_true(strlen(why) > len + 5);
        }
        assert_null(llmo_plan_site_reason(plan, i, s.n_declined));
    }
    llmo_site_info s = {.struct_size = sizeof s};
    assert_int_equal(llmo_plan_get_site(plan, n, &s), LLMO_E_ARG);
    assert_null(llmo_plan_site_reason(plan, n, 0));
}

static void every_site_has_a_row_and_reasons(void **state) {
    (void)state;
    static const tiny_shape moe = {.n_experts = 4}, wide = {.n_embd = 256, .n_ff = 256};
    struct {
        uint32_t type;
        const tiny_shape *shape;
    } models[] = {{F32, NULL}, {Q8_0, NULL}, {Q4_K, &wide}, {Q8_0, &moe}};
    for (int i = 0; i < 4; i++) {
        rig r = rig_open(models[i].type, models[i].shape, NULL);
        for (int32_t numerics = LLMO_NUMERICS_AUTO; numerics <= LLMO_NUMERICS_Q8; numerics++) {
            llmo_plan_params p = defaults();
            p.numerics = numerics;
            llmo_plan *plan = plan_of(&r, p);
            check_sites(plan, numerics == LLMO_NUMERICS_Q8);
            llmo_plan_destroy(plan);
        }
        rig_close(&r);
    }
}

static const llmoi_matmul_row *row_of_first_site(const llmo_plan *plan, llmo_site_info *s) {
    *s = (llmo_site_info){.struct_size = sizeof *s};
    assert_ok(llmo_plan_get_site(plan, 0, s));
    return &llmoi_cpu_backend()->rows[s->n_declined];
}

/* One row after the other is switched off, until none is left. */
static void masked_rows_are_declined_for_that_reason(void **state) {
    (void)state;
    char off[2048] = "-no-such-row";
    const llmoi_matmul_row *last = NULL;
    uint32_t n = 0;
    for (;; n++) {
        rig r = rig_open(Q8_0, NULL, off);
        llmo_plan_params p = defaults();
        p.numerics = LLMO_NUMERICS_Q8;
        llmo_plan *plan = NULL;
        llmo_status st = llmo_plan_create(r.model, &p, &plan);
        if (st != LLMO_OK) {
            assert_int_equal(st, LLMO_E_UNSUPPORTED);
            assert_non_null(strstr(llmo_last_error(), ".weight")); /* the tensor */
            assert_non_null(strstr(llmo_last_error(), "Q8_0"));
            rig_close(&r);
            break;
        }
        llmo_site_info s;
        const llmoi_matmul_row *row = row_of_first_site(plan, &s);
        assert_string_equal(row->name, s.row);
        assert_true(row != last);
        if (last) {
            bool seen = false;
            for (uint32_t d = 0; d < s.n_declined; d++) {
                const char *why = llmo_plan_site_reason(plan, 0, d);
                seen = seen || (strstr(why, last->name) == why && strstr(why, "LLMO_ROWS"));
            }
            assert_true(seen);
        }
        last = row;
        size_t len = strlen(off);
        snprintf(off + len, sizeof off - len, ",-%s", row->name);
        llmo_plan_destroy(plan);
        rig_close(&r);
    }
    assert_true(n >= 2 && n <= llmoi_cpu_backend()->n_rows);
}

/* Part of a name, or a name without the minus, switches nothing off. */
static void masks_are_whole_names(void **state) {
    (void)state;
    const char *best = NULL;
    static const char *const masks[] = {NULL,   "-cpu", "-cpu-ref-q8-fmaa,-cpu-ref-f32-fm", "cpu-ref-f32-fma",
                                        ",,-,", "-"};
    static char first[44];
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        rig r = rig_open(Q8_0, NULL, masks[i]);
        llmo_plan *plan = plan_of(&r, defaults());
        llmo_site_info s;
        (void)row_of_first_site(plan, &s);
        if (!best) best = strcpy(first, s.row);
        assert_string_equal(s.row, best);
        llmo_plan_destroy(plan);
        rig_close(&r);
    }
}

/* --- placement ---------------------------------------------------------------------------------------------------------------------- */

static void gpu_layers_without_a_gpu_are_explained(void **state) {
    (void)state;
    rig r = rig_open(F32, NULL, NULL);
    if (r.rt->cuda && r.rt->cuda->n_rows) {
        rig_close(&r);
        skip();
    }
    static const int32_t asked[] = {0, 1, 2, 99, INT32_MAX, LLMO_GPU_LAYERS_AUTO};
    for (int i = 0; i < 6; i++) {
        llmo_plan_params p = defaults(), got = {.struct_size = sizeof got};
        p.gpu_layers = asked[i];
        llmo_plan *plan = plan_of(&r, p);
        assert_ok(llmo_plan_get_params(plan, &got));
        assert_int_equal(got.gpu_layers, 0);
        const char *note = llmo_plan_note(plan, 0);
        if (asked[i] == 0) {
            assert_null(note);
        } else {
            assert_non_null(note);
            const char *why = strstr(note, ": ");
            assert_true(why && strlen(why) > 5);
            char number[16];
            snprintf(number, sizeof number, "%d", asked[i]);
            if (asked[i] > 0) assert_non_null(strstr(note, number));
        }
        llmo_plan_destroy(plan);
    }
    rig_close(&r);
}

static void placement_is_a_pure_function(void **state) {
    (void)state;
    char note[192];
    for (int32_t asked = LLMO_GPU_LAYERS_AUTO; asked < 40; asked++) {
        uint32_t want = asked < 0 || asked > 32 ? 32 : (uint32_t)asked;
        strcpy(note, "old");
        assert_int_equal(llmoi_place(asked, 32, true, NULL, note, sizeof note), want);
        assert_string_equal(note, "");
        assert_int_equal(llmoi_place(asked, 32, false, "no driver", note, sizeof note), 0);
        if (asked)
            assert_non_null(strstr(note, "no driver"));
        else
            assert_string_equal(note, "");
    }
    char small[8];
    memset(small, 'x', sizeof small);
    assert_int_equal(llmoi_place(5, 32, false, "a long reason", small, sizeof small), 0);
    assert_int_equal(strlen(small), 7); /* cut, not overrun */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_the_parameters),
        cmocka_unit_test(weights_of_a_file_are_counted),
        cmocka_unit_test(contexts_take_what_the_plan_said),
        cmocka_unit_test(automatic_values_are_resolved),
        cmocka_unit_test(budgets_are_kept),
        cmocka_unit_test(parameters_out_of_range_are_named),
        cmocka_unit_test(a_context_longer_than_trained_is_noted),
        cmocka_unit_test(every_site_has_a_row_and_reasons),
        cmocka_unit_test(masked_rows_are_declined_for_that_reason),
        cmocka_unit_test(masks_are_whole_names),
        cmocka_unit_test(gpu_layers_without_a_gpu_are_explained),
        cmocka_unit_test(placement_is_a_pure_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
