/* Failures from outside at every possible place: memory, reads, cancelled loads, files that change. Each time: the right
 * status and sentence, nothing leaked, and everything usable or destroyable afterwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine_fixture.h"

static unsigned char *file;
static size_t file_bytes;
static llmo_token expected[8];

static bool names_tensor(void) {
    return strstr(llmo_last_error(), "tensor '") != NULL;
}

/* --- out of memory ------------------------------------------------------------------------------------------------------ */

/* Everything from a runtime to a reply. The status of the first call that fails. */
static llmo_status run_all(host_memory *m, llmo_token *ids, size_t *n_ids) {
    static const char *const stops[] = {"never"}, *const breakers[] = {"a", "b"};
    llmo_runtime_params rp = host_memory_params(m, 2);
    llmo_runtime *rt = NULL;
    llmo_model *model = NULL;
    llmo_plan *plan = NULL;
    llmo_context *ctx = NULL;
    llmo_sequence *s = NULL;
    llmo_generation *g = NULL;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token tokens[16];
    size_t n = 0;
    greedy_params(&p, &sp, 8);
    sp.dry_multiplier = 1e-6f; /* takes memory, changes nothing that is said */
    sp.dry_allowed_length = 100;
    sp.dry_breakers = breakers;
    sp.n_dry_breakers = 2;
    p.stops = stops;
    p.n_stops = 1;
    llmo_status st = llmo_runtime_create(&rp, &rt);
    if (st == LLMO_OK) st = llmo_model_open_memory(rt, file, file_bytes, NULL, &model);
    if (st == LLMO_OK) st = llmo_tokenize(model, "hello", 5, LLMO_TOKENIZE_ADD_SPECIAL, tokens, 16, &n);
    if (st == LLMO_OK) st = llmo_plan_create(model, NULL, &plan);
    if (st == LLMO_OK) st = llmo_context_create(model, plan, NULL, &ctx);
    if (st == LLMO_OK) st = llmo_sequence_create(ctx, &s);
    if (st == LLMO_OK) st = llmo_generation_start(s, "hello", 5, &p, &g);
    *n_ids = 0;
    if (st == LLMO_OK) {
        step_to_end(ctx, LLMO_BUDGET_UNLIMITED, NULL);
        *n_ids = generated(g, ids, 8);
    } else {
        assert_true(llmo_last_error()[0] != 0);
    }
    /* the handles that failed to be are NULL */
    assert_true((rt != NULL) + (model != NULL) + (plan != NULL) + (ctx != NULL) + (s != NULL) + (g != NULL) == 6 ||
                st != LLMO_OK);
    assert_true(st == LLMO_OK || !g);
    if (ctx && st != LLMO_OK) { /* with memory again, the same context works */
        m->fail_at = 0;
        assert_ok(llmo_generation_start(s, "hello", 5, &p, &g));
        step_to_end(ctx, LLMO_BUDGET_UNLIMITED, NULL);
        llmo_token again[8];
        assert_int_equal(generated(g, again, 8), 8);
        assert_memory_equal(again, expected, sizeof again);
    }
    llmo_generation_destroy(g);
    llmo_sequence_destroy(s);
    llmo_context_destroy(ctx);
    llmo_plan_destroy(plan);
    llmo_model_destroy(model);
    llmo_runtime_destroy(rt);
    return st;
}

static void fail_each_allocation(bool and_all_after) {
    uint64_t n_failed = 0;
    for (uint64_t k = 1;; k++) {
        host_memory m = {.fail_at = k, .fail_after = and_all_after};
        llmo_token ids[8];
        size_t n;
        llmo_status st = run_all(&m, ids, &n);
        assert_int_equal(atomic_load(&m.live_blocks), 0);
        assert_int_equal(atomic_load(&m.live_bytes), 0);
        if (st == LLMO_OK) {
            assert_int_equal(n, 8);
            assert_memory_equal(ids, expected, sizeof ids);
            if (atomic_load(&m.n_allocs) < k) break; /* k was never reached */
        } else {
            assert_int_equal(st, LLMO_E_NOMEM);
            n_failed++;
        }
    }
    print_message("%llu failing allocations\n", (unsigned long long)n_failed);
    assert_true(n_failed > 30);
}

static void each_failing_allocation_is_survived(void **state) {
    (void)state;
    fail_each_allocation(false);
}

static void memory_that_ends_for_good_is_survived(void **state) {
    (void)state;
    fail_each_allocation(true);
}

/* --- reads that fail ----------------------------------------------------------------------------------------------------- */

typedef struct bad_reader {
    uint32_t n_reads, fail_at;
} bad_reader;

static int32_t read_or_fail(void *user, uint64_t offset, void *dst, size_t bytes) {
    bad_reader *r = user;
    if (++r->n_reads == r->fail_at) {
        memset(dst, 0xff, bytes / 2); /* half of it was read */
        return 5;
    }
    assert_true(offset <= file_bytes && bytes <= file_bytes - offset);
    memcpy(dst, file + offset, bytes);
    return 0;
}

static void check_reply(llmo_context *ctx) {
    llmo_sequence *s;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_generation *g;
    llmo_token ids[8];
    greedy_params(&p, &sp, 8);
    assert_ok(llmo_sequence_create(ctx, &s));
    assert_ok(llmo_generation_start(s, "hello", 5, &p, &g));
    step_to_end(ctx, LLMO_BUDGET_UNLIMITED, NULL);
    assert_int_equal(generated(g, ids, 8), 8);
    assert_memory_equal(ids, expected, sizeof ids);
    llmo_generation_destroy(g);
    llmo_sequence_destroy(s);
}

static void each_failing_read_is_reported_and_can_be_tried_again(void **state) {
    (void)state;
    host_memory m = {0};
    llmo_runtime_params rp = host_memory_params(&m, 2);
    llmo_runtime *rt;
    assert_ok(llmo_runtime_create(&rp, &rt));
    uint64_t bytes = llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT);
    uint32_t n_open = 0, n_weights = 0;
    for (uint32_t k = 1;; k++) {
        bad_reader r = {.fail_at = k};
        llmo_reader reader = {sizeof reader, 0, &r, file_bytes, read_or_fail};
        llmo_model *model;
        llmo_context *ctx;
        llmo_status st = llmo_model_open_readers(rt, &reader, 1, NULL, &model);
        if (st != LLMO_OK) {
            assert_int_equal(st, LLMO_E_IO);
            assert_null(model);
            assert_true(llmo_last_error()[0] != 0);
            assert_string_equal(llmo_runtime_error(rt), llmo_last_error());
            n_open++;
        } else {
            st = llmo_context_create(model, NULL, NULL, &ctx);
            bool reached = r.n_reads >= k;
            if (reached) {
                assert_int_equal(st, LLMO_E_IO);
                assert_null(ctx);
                assert_true(names_tensor());
                assert_string_equal(llmo_model_error(model), llmo_last_error());
                n_weights++;
                assert_ok(llmo_context_create(model, NULL, NULL, &ctx));
            }
            check_reply(ctx);
            llmo_context_destroy(ctx);
            llmo_model_destroy(model);
            if (!reached) break;
        }
        assert_int_equal(llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT), bytes);
    }
    print_message("%u failing reads at open, %u of weights\n", n_open, n_weights);
    assert_true(n_open >= 1);
    assert_true(n_weights >= 9 * TINY_LAYERS + 3); /* each tensor at least once */
    llmo_runtime_destroy(rt);
    assert_int_equal(atomic_load(&m.live_blocks), 0);
}

/* --- cancelled loads ----------------------------------------------------------------------------------------------------- */

typedef struct progress {
    uint32_t n_calls, cancel_at;
    uint64_t last, total;
} progress;

static int32_t watch(void *user, uint64_t done, uint64_t total) {
    progress *p = user;
    assert_true(done >= p->last && done <= total);
    assert_true(p->total == 0 || p->total == total);
    p->last = done;
    p->total = total;
    return ++p->n_calls == p->cancel_at ? -1 : 0;
}

static void a_load_is_cancelled_at_each_call_of_progress(void **state) {
    (void)state;
    host_memory m = {0};
    llmo_runtime_params rp = host_memory_params(&m, 1);
    llmo_runtime *rt;
    llmo_model *model;
    llmo_context *ctx;
    llmo_context_params cp;
    char path[64];
    temp_file(path, file, file_bytes);
    assert_ok(llmo_runtime_create(&rp, &rt));
    assert_ok(llmo_model_open(rt, path, NULL, &model));
    uint64_t bytes = llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT);
    llmo_context_params_init(&cp);
    cp.progress = watch;
    uint32_t k = 1;
    for (;; k++) {
        progress p = {.cancel_at = k};
        cp.progress_user = &p;
        llmo_status st = llmo_context_create(model, NULL, &cp, &ctx);
        if (st == LLMO_OK) {
            assert_int_equal(p.last, p.total); /* ends at all of it */
            assert_true(p.n_calls < k);
            break;
        }
        assert_int_equal(st, LLMO_E_CANCELLED);
        assert_int_equal(p.n_calls, k); /* not called again */
        assert_null(ctx);
        assert_int_equal(llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT), bytes);
    }
    assert_true(k > 9 * TINY_LAYERS); /* once per matrix at least */
    check_reply(ctx);
    llmo_context_destroy(ctx);
    llmo_model_destroy(model);
    llmo_runtime_destroy(rt);
    assert_int_equal(atomic_load(&m.live_blocks), 0);
    unlink(path);
}

/* --- files that change --------------------------------------------------------------------------------------------------- */

static void a_file_truncated_after_open_is_an_io_error_that_names_the_tensor(void **state) {
    (void)state;
    static const size_t cut[] = {1, 100, 20000, 200000};
    for (int i = 0; i < 4; i++) {
        for (int threads = 1; threads <= 2; threads++) {
            llmo_runtime_params rp;
            llmo_runtime *rt;
            llmo_model *model;
            llmo_context *ctx;
            char path[64];
            llmo_runtime_params_init(&rp);
            rp.n_threads = threads;
            temp_file(path, file, file_bytes);
            assert_ok(llmo_runtime_create(&rp, &rt));
            assert_ok(llmo_model_open(rt, path, NULL, &model));
            assert_int_equal(truncate(path, (off_t)(file_bytes - cut[i])), 0);
            assert_status(llmo_context_create(model, NULL, NULL, &ctx), LLMO_E_IO);
            assert_null(ctx);
            assert_true(names_tensor());
            assert_non_null(strstr(llmo_model_error(model), "tensor '"));
            write_file(path, file, file_bytes); /* the same file, whole again */
            assert_ok(llmo_context_create(model, NULL, NULL, &ctx));
            check_reply(ctx);
            llmo_context_destroy(ctx);
            llmo_model_destroy(model);
            llmo_runtime_destroy(rt);
            unlink(path);
        }
    }
}

static void a_file_replaced_after_open_is_still_the_one_that_was_opened(void **state) {
    (void)state;
    for (int how = 0; how < 2; how++) {
        llmo_runtime *rt;
        llmo_model *model;
        llmo_context *ctx;
        char path[64], other[64];
        temp_file(path, file, file_bytes);
        unsigned char *garbage = calloc(1, file_bytes);
        temp_file(other, garbage, file_bytes);
        free(garbage);
        assert_ok(llmo_runtime_create(NULL, &rt));
        assert_ok(llmo_model_open(rt, path, NULL, &model));
        if (how == 0)
            assert_int_equal(rename(other, path), 0);
        else
            unlink(path);
        assert_ok(llmo_context_create(model, NULL, NULL, &ctx));
        check_reply(ctx);
        llmo_context_destroy(ctx);
        llmo_model_destroy(model);
        llmo_runtime_destroy(rt);
        unlink(path);
        unlink(other);
    }
}

static int set_up(void **state) {
    (void)state;
    host_memory m = {0};
    size_t n;
    file = tiny_model(NULL, &file_bytes);
    return run_all(&m, expected, &n) == LLMO_OK && n == 8 ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    free(file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_failing_allocation_is_survived),
        cmocka_unit_test(memory_that_ends_for_good_is_survived),
        cmocka_unit_test(each_failing_read_is_reported_and_can_be_tried_again),
        cmocka_unit_test(a_load_is_cancelled_at_each_call_of_progress),
        cmocka_unit_test(a_file_truncated_after_open_is_an_io_error_that_names_the_tensor),
        cmocka_unit_test(a_file_replaced_after_open_is_still_the_one_that_was_opened),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
