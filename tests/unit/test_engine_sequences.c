/* Sequences and their KV pages: sharing, copy on write, truncation, and what happens when slots or pages run out. Every
 * comparison is with a sequence that was evaluated from its beginning, to the bit. */
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

#define PAGE  64u
#define LONG  200
#define BYTES (TINY_VOCAB * sizeof(float))

static engine e;
static llmo_token tokens[LONG], other[300];

static llmo_sequence *new_sequence(void) {
    llmo_sequence *s;
    assert_ok(llmo_sequence_create(e.ctx, &s));
    return s;
}

static void feed(llmo_sequence *s, const llmo_token *t, size_t n) {
    if (n) assert_ok(llmo_eval(s, t, n, 0, NULL, 0));
}

/* Appends n tokens; the last one's logits go to row. */
static void feed_row(llmo_sequence *s, const llmo_token *t, size_t n, float *row) {
    assert_ok(llmo_eval(s, t, n, 1, row, TINY_VOCAB));
}

/* Logits after a[0..n) and b[0..m), from nothing. */
static void fresh(const llmo_token *a, size_t n, const llmo_token *b, size_t m, float *row) {
    llmo_sequence *s = new_sequence();
    feed(s, a, n);
    feed_row(s, b, m, row);
    llmo_sequence_destroy(s);
}

static uint64_t pages_used(void) {
    uint64_t n = context_stats(e.ctx).kv_tokens_used;
    assert_int_equal(n % PAGE, 0);
    return n / PAGE;
}

static void check_fork(size_t n_source, size_t n_fork) {
    llmo_sequence *a = new_sequence(), *b;
    float row[2][TINY_VOCAB], want[2][TINY_VOCAB];
    fresh(tokens, n_source, other, 70, want[0]);
    fresh(tokens, n_fork, other + 70, 70, want[1]);
    feed(a, tokens, n_source);
    assert_ok(llmo_sequence_fork(a, n_fork, &b));
    assert_int_equal(llmo_sequence_length(b), n_fork);
    for (size_t i = 0; i < 70; i += 10) { /* in turns, so that each one's writes could hurt the other */
        feed_row(a, other + i, 10, row[0]);
        feed_row(b, other + 70 + i, 10, row[1]);
    }
    assert_memory_equal(row[0], want[0], BYTES);
    assert_memory_equal(row[1], want[1], BYTES);
    llmo_sequence_destroy(a);
    llmo_sequence_destroy(b);
    assert_int_equal(pages_used(), 0);
}

static void a_fork_and_its_source_go_on_as_if_alone(void **state) {
    (void)state;
    check_fork(30, 30);
    check_fork(30, 12);
    check_fork(100, 100);
    check_fork(130, 70);
}

static void forks_at_the_borders_of_pages_go_on_as_if_alone(void **state) {
    (void)state;
    static const size_t ends[] = {63, 64, 65};
    for (int i = 0; i < 3; i++) {
        check_fork(ends[i], ends[i]);
        check_fork(128, ends[i]);
    }
}

static void a_fork_shares_pages_until_one_of_the_two_writes(void **state) {
    (void)state;
    llmo_sequence *a = new_sequence(), *b, *c;
    feed(a, tokens, 130);
    assert_int_equal(pages_used(), 3);
    assert_ok(llmo_sequence_fork(a, SIZE_MAX, &b));
    assert_int_equal(llmo_sequence_length(b), 130);
    assert_ok(llmo_sequence_fork(a, 128, &c)); /* whole pages only */
    assert_int_equal(pages_used(), 3);
    feed(b, other, 1); /* its copy of the last page */
    assert_int_equal(pages_used(), 4);
    feed(a, other, 1); /* is the only one to hold it now */
    assert_int_equal(pages_used(), 4);
    feed(c, other, 1); /* a page of its own */
    assert_int_equal(pages_used(), 5);
    llmo_sequence_destroy(a);
    assert_int_equal(pages_used(), 4);
    llmo_sequence_destroy(b);
    assert_int_equal(pages_used(), 3);
    llmo_sequence_destroy(c);
    assert_int_equal(pages_used(), 0);
}

static void a_fork_of_nothing_is_empty(void **state) {
    (void)state;
    llmo_sequence *a = new_sequence(), *b, *c;
    assert_ok(llmo_sequence_fork(a, SIZE_MAX, &b));
    feed(a, tokens, 10);
    assert_ok(llmo_sequence_fork(a, 0, &c));
    assert_int_equal(llmo_sequence_length(b), 0);
    assert_int_equal(llmo_sequence_length(c), 0);
    llmo_sequence_destroy(a);
    llmo_sequence_destroy(b);
    llmo_sequence_destroy(c);
}

static void forks_outlive_their_source_in_any_order(void **state) {
    (void)state;
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    float want[TINY_VOCAB], row[TINY_VOCAB];
    fresh(tokens, 90, other, 5, want);
    for (int o = 0; o < 6; o++) {
        llmo_sequence *s[3];
        s[0] = new_sequence();
        feed(s[0], tokens, 90);
        assert_ok(llmo_sequence_fork(s[0], SIZE_MAX, &s[1]));
        assert_ok(llmo_sequence_fork(s[1], SIZE_MAX, &s[2]));
        llmo_sequence_destroy(s[orders[o][0]]);
        llmo_sequence_destroy(s[orders[o][1]]);
        feed_row(s[orders[o][2]], other, 5, row);
        assert_memory_equal(row, want, BYTES);
        llmo_sequence_destroy(s[orders[o][2]]);
        assert_int_equal(pages_used(), 0);
    }
}

static void a_truncated_sequence_goes_on_as_a_fresh_one(void **state) {
    (void)state;
    static const size_t to[] = {1, 63, 64, 65, 100, 127, 128, 129, 149};
    for (int i = 0; i < 9; i++) {
        float want[TINY_VOCAB], row[TINY_VOCAB];
        fresh(tokens, to[i], other, 40, want);
        llmo_sequence *s = new_sequence();
        feed(s, tokens, 150);
        assert_ok(llmo_sequence_truncate(s, to[i]));
        assert_int_equal(llmo_sequence_length(s), to[i]);
        assert_int_equal(pages_used(), (to[i] + PAGE - 1) / PAGE);
        feed_row(s, other, 40, row);
        assert_memory_equal(row, want, BYTES);
        llmo_sequence_destroy(s);
    }
}

static void truncating_to_more_than_there_is_changes_nothing(void **state) {
    (void)state;
    llmo_sequence *s = new_sequence();
    feed(s, tokens, 20);
    assert_ok(llmo_sequence_truncate(s, 20));
    assert_ok(llmo_sequence_truncate(s, 21));
    assert_ok(llmo_sequence_truncate(s, SIZE_MAX));
    assert_int_equal(llmo_sequence_length(s), 20);
    llmo_token copy[32];
    size_t n;
    assert_ok(llmo_sequence_get_tokens(s, 0, copy, 32, &n));
    assert_int_equal(n, 20);
    assert_memory_equal(copy, tokens, 20 * sizeof *copy);
    assert_ok(llmo_sequence_get_tokens(s, 15, copy, 3, &n));
    assert_int_equal(n, 3);
    assert_memory_equal(copy, tokens + 15, 3 * sizeof *copy);
    assert_ok(llmo_sequence_get_tokens(s, 20, copy, 3, &n));
    assert_int_equal(n, 0);
    assert_ok(llmo_sequence_truncate(s, 0));
    assert_int_equal(llmo_sequence_length(s), 0);
    assert_int_equal(pages_used(), 0);
    llmo_sequence_destroy(s);
}

static void truncating_a_fork_leaves_its_source(void **state) {
    (void)state;
    float want[TINY_VOCAB], row[TINY_VOCAB];
    fresh(tokens, 100, other, 3, want);
    llmo_sequence *a = new_sequence(), *b;
    feed(a, tokens, 100);
    assert_ok(llmo_sequence_fork(a, SIZE_MAX, &b));
    assert_ok(llmo_sequence_truncate(b, 10));
    feed(b, other, 100);
    feed_row(a, other, 3, row);
    assert_memory_equal(row, want, BYTES);
    llmo_sequence_destroy(a);
    llmo_sequence_destroy(b);
}

static void a_sequence_too_many_is_refused_and_a_slot_that_was_freed_is_used_again(void **state) {
    (void)state;
    llmo_sequence *s[8], *one_more = (void *)1;
    uint32_t n = context_stats(e.ctx).n_sequences, cap = 6;
    for (uint32_t i = n; i < cap; i++) s[i] = new_sequence();
    assert_status(llmo_sequence_create(e.ctx, &one_more), LLMO_E_CONTEXT_FULL);
    assert_null(one_more);
    one_more = (void *)1;
    assert_status(llmo_sequence_fork(s[n], SIZE_MAX, &one_more), LLMO_E_CONTEXT_FULL);
    assert_null(one_more);
    assert_int_equal(context_stats(e.ctx).n_sequences, cap);
    llmo_sequence_destroy(s[n]);
    s[n] = new_sequence();
    for (uint32_t i = n; i < cap; i++) llmo_sequence_destroy(s[i]);
    assert_int_equal(context_stats(e.ctx).n_sequences, n);
}

static void a_sequence_that_a_generation_runs_on_is_busy(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_generation *g, *g2;
    llmo_sequence *s = new_sequence(), *f;
    float row[TINY_VOCAB];
    greedy_params(&p, &sp, 4);
    assert_ok(llmo_generation_start_tokens(s, tokens, 5, &p, &g));
    assert_status(llmo_sequence_fork(s, 2, &f), LLMO_E_BUSY);
    assert_status(llmo_sequence_truncate(s, 2), LLMO_E_BUSY);
    assert_status(llmo_eval(s, tokens, 2, 1, row, TINY_VOCAB), LLMO_E_BUSY);
    assert_status(llmo_generation_start_tokens(s, tokens, 5, &p, &g2), LLMO_E_BUSY);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    assert_int_equal(generation_info(g).n_generated, 4);
    assert_ok(llmo_sequence_truncate(s, 2));
    llmo_generation_destroy(g);
    llmo_sequence_destroy(s);
}

static void a_sequence_forked_after_a_reply_goes_on_after_its_last_token(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token all[20];
    float want[TINY_VOCAB], row[TINY_VOCAB];
    llmo_sequence *s = new_sequence(), *f;
    memcpy(all, tokens, 10 * sizeof *all);
    greedy_params(&p, &sp, 6);
    assert_int_equal(reply(e.ctx, s, tokens, 10, &p, LLMO_BUDGET_UNLIMITED, all + 10), 6);
    assert_int_equal(llmo_sequence_length(s), 16);
    assert_ok(llmo_sequence_fork(s, SIZE_MAX, &f));
    fresh(all, 16, other, 3, want);
    feed_row(f, other, 3, row);
    assert_memory_equal(row, want, BYTES);
    feed_row(s, other, 3, row);
    assert_memory_equal(row, want, BYTES);
    llmo_sequence_destroy(s);
    llmo_sequence_destroy(f);
}

/* --- a KV cache that is too small --------------------------------------------------------------------------------------- */

static llmo_generation *start(llmo_sequence *s, const llmo_token *t, size_t n, uint32_t max_tokens) {
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_generation *g;
    greedy_params(&p, &sp, max_tokens);
    assert_ok(llmo_generation_start_tokens(s, t, n, &p, &g));
    return g;
}

static void a_prompt_that_finds_no_pages_fails_alone(void **state) {
    (void)state;
    engine big = e;
    llmo_token want[30], got[30];
    llmo_generation *g = start(e.seq, tokens, 10, 30);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    assert_int_equal(generated(g, want, 30), 30);
    llmo_generation_destroy(g);
    assert_ok(llmo_sequence_truncate(e.seq, 0));

    e = engine_open_tiny((engine_options){.n_threads = 1, .n_sequences = 3, .n_kv_tokens = 3 * PAGE});
    assert_int_equal(context_stats(e.ctx).kv_tokens_total, 3 * PAGE);
    llmo_generation *a = start(e.seq, tokens, 10, 30);
    assert_ok(llmo_context_step(e.ctx, LLMO_BUDGET_UNLIMITED, NULL));
    llmo_sequence *s = new_sequence();
    llmo_generation *b = start(s, other, 150, 5);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    llmo_generation_info i = generation_info(b);
    assert_int_equal(i.state, LLMO_GENERATION_FAILED);
    assert_int_equal(i.status, LLMO_E_CONTEXT_FULL);
    assert_int_equal(i.n_generated, 0);
    assert_int_equal(llmo_sequence_length(s), 0); /* nothing of it stays */
    assert_int_equal(generation_info(a).state, LLMO_GENERATION_DONE);
    assert_int_equal(generated(a, got, 30), 30);
    assert_memory_equal(got, want, sizeof want);
    assert_int_equal(pages_used(), 1);
    llmo_generation_destroy(a);
    llmo_generation_destroy(b);
    /* and with the pages free it works */
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    b = start(s, other, 150, 5);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    assert_int_equal(generation_info(b).n_generated, 5);
    engine_close(&e);
    e = big;
}

static void a_prompt_that_runs_out_of_pages_in_the_middle_keeps_what_was_evaluated(void **state) {
    (void)state;
    engine big = e;
    e = engine_open_tiny((engine_options){.n_threads = 1, .n_sequences = 2, .n_kv_tokens = 2 * PAGE, .n_batch = 32});
    llmo_generation *g = start(e.seq, tokens, 140, 5);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    llmo_generation_info i = generation_info(g);
    assert_int_equal(i.state, LLMO_GENERATION_FAILED);
    assert_int_equal(i.n_prompt_done, 128);
    assert_int_equal(llmo_sequence_length(e.seq), 128);
    assert_ok(llmo_sequence_truncate(e.seq, 100));
    float row[TINY_VOCAB], want[TINY_VOCAB];
    feed_row(e.seq, other, 5, row);
    engine_close(&e);
    e = big;
    fresh(tokens, 100, other, 5, want);
    assert_memory_equal(row, want, BYTES);
}

static void a_reply_that_finds_no_page_ends_with_stop_context_and_others_go_on(void **state) {
    (void)state;
    engine big = e;
    e = engine_open_tiny((engine_options){.n_threads = 1, .n_sequences = 2, .n_kv_tokens = 2 * PAGE});
    llmo_sequence *s = new_sequence();
    llmo_generation *a = start(e.seq, tokens, 60, 50), *b = start(s, other, 10, 40);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    llmo_generation_info i = generation_info(a), j = generation_info(b);
    assert_int_equal(i.state, LLMO_GENERATION_DONE);
    assert_int_equal(i.stop, LLMO_STOP_CONTEXT);
    assert_int_equal(i.status, LLMO_OK);
    assert_int_equal(i.n_generated, 5); /* 4 fill the page, the fifth was chosen and cannot be evaluated */
    assert_int_equal(j.stop, LLMO_STOP_LENGTH);
    assert_int_equal(j.n_generated, 40);
    assert_int_equal(pages_used(), 2);
    llmo_sequence_destroy(s);
    assert_int_equal(pages_used(), 1);
    float row[TINY_VOCAB]; /* the sequence is whole, and goes on now that there is room */
    feed_row(e.seq, other, 1, row);
    llmo_token kept[80];
    size_t n;
    assert_ok(llmo_sequence_get_tokens(e.seq, 0, kept, 80, &n));
    assert_int_equal(n, 66);
    engine_close(&e);
    e = big;
    float want[TINY_VOCAB];
    fresh(kept, 65, other, 1, want);
    assert_memory_equal(row, want, BYTES);
}

static void a_reply_ends_where_the_context_is_full(void **state) {
    (void)state;
    engine big = e;
    e = engine_open_tiny((engine_options){.n_threads = 1, .n_ctx = 20});
    llmo_generation *g = start(e.seq, tokens, 15, 0);
    step_to_end(e.ctx, LLMO_BUDGET_UNLIMITED, NULL);
    llmo_generation_info i = generation_info(g);
    assert_int_equal(i.stop, LLMO_STOP_CONTEXT);
    assert_int_equal(i.n_generated, 5);
    assert_int_equal(llmo_sequence_length(e.seq), 20);
    float row[TINY_VOCAB];
    assert_status(llmo_eval(e.seq, other, 1, 1, row, TINY_VOCAB), LLMO_E_CONTEXT_FULL);
    llmo_generation_destroy(g);
    engine_close(&e);
    e = big;
}

static void an_eval_without_room_leaves_the_sequence_as_before(void **state) {
    (void)state;
    engine big = e;
    e = engine_open_tiny((engine_options){.n_threads = 1, .n_sequences = 2, .n_kv_tokens = 2 * PAGE, .n_batch = 16});
    float row[TINY_VOCAB], want[TINY_VOCAB];
    feed(e.seq, tokens, 50);
    assert_status(llmo_eval(e.seq, other, 100, 1, row, TINY_VOCAB), LLMO_E_CONTEXT_FULL); /* pages */
    assert_status(llmo_eval(e.seq, other, 300, 1, row, TINY_VOCAB), LLMO_E_CONTEXT_FULL); /* n_ctx */
    assert_int_equal(llmo_sequence_length(e.seq), 50);
    assert_int_equal(pages_used(), 1);
    feed_row(e.seq, other, 20, row);
    engine_close(&e);
    e = big;
    fresh(tokens, 50, other, 20, want);
    assert_memory_equal(row, want, BYTES);
}

static void a_copy_that_finds_no_page_leaves_both_sequences(void **state) {
    (void)state;
    engine big = e;
    e = engine_open_tiny((engine_options){.n_threads = 1, .n_sequences = 2, .n_kv_tokens = PAGE});
    llmo_sequence *f;
    float row[TINY_VOCAB], want[TINY_VOCAB];
    feed(e.seq, tokens, 30);
    assert_ok(llmo_sequence_fork(e.seq, SIZE_MAX, &f));
    assert_status(llmo_eval(f, other, 1, 1, row, TINY_VOCAB), LLMO_E_CONTEXT_FULL);
    assert_int_equal(llmo_sequence_length(f), 30);
    llmo_sequence_destroy(e.seq);
    feed_row(f, other, 1, row);
    engine_close(&e);
    e = big;
    fresh(tokens, 30, other, 1, want);
    assert_memory_equal(row, want, BYTES);
}

static int set_up(void **state) {
    (void)state;
    some_tokens(1, tokens, LONG);
    some_tokens(2, other, 300);
    e = engine_open_tiny((engine_options){.n_threads = 1, .n_sequences = 6});
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    engine_close(&e);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fork_and_its_source_go_on_as_if_alone),
        cmocka_unit_test(forks_at_the_borders_of_pages_go_on_as_if_alone),
        cmocka_unit_test(a_fork_shares_pages_until_one_of_the_two_writes),
        cmocka_unit_test(a_fork_of_nothing_is_empty),
        cmocka_unit_test(forks_outlive_their_source_in_any_order),
        cmocka_unit_test(a_truncated_sequence_goes_on_as_a_fresh_one),
        cmocka_unit_test(truncating_to_more_than_there_is_changes_nothing),
        cmocka_unit_test(truncating_a_fork_leaves_its_source),
        cmocka_unit_test(a_sequence_too_many_is_refused_and_a_slot_that_was_freed_is_used_again),
        cmocka_unit_test(a_sequence_that_a_generation_runs_on_is_busy),
        cmocka_unit_test(a_sequence_forked_after_a_reply_goes_on_after_its_last_token),
        cmocka_unit_test(a_prompt_that_finds_no_pages_fails_alone),
        cmocka_unit_test(a_prompt_that_runs_out_of_pages_in_the_middle_keeps_what_was_evaluated),
        cmocka_unit_test(a_reply_that_finds_no_page_ends_with_stop_context_and_others_go_on),
        cmocka_unit_test(a_reply_ends_where_the_context_is_full),
        cmocka_unit_test(an_eval_without_room_leaves_the_sequence_as_before),
        cmocka_unit_test(a_copy_that_finds_no_page_leaves_both_sequences),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
