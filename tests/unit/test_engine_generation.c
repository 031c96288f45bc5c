/* Generations: which tokens are chosen, when they end, what text comes out and how, cancelling, and what callbacks may do.
 * What the model says is given by a script where the text matters. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

#define PROMPT    12
#define UNLIMITED LLMO_BUDGET_UNLIMITED

static engine e;
static llmo_token prompt[PROMPT];

/* Everything that one scripted generation needs. */
typedef struct talk {
    script say;
    llmo_generation_params p;
    llmo_sampling_params sampling;
    llmo_generation *g;
    char text[1024]; /* from callbacks or reads */
    size_t n_text;
    uint32_t n_calls;
    int32_t answer_at; /* the callback asks to stop at this call, 0: never */
    bool whole;        /* all pieces were whole characters */
} talk;

static bool is_whole(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t len = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
        if (len == 0 || i + len > n) return false;
        for (size_t k = 1; k < len; k++) {
            if (((unsigned char)s[i + k] & 0xc0) != 0x80) return false;
        }
        i += len;
    }
    return true;
}

static int32_t take_text(void *user, llmo_generation *g, const char *text, size_t n) {
    talk *t = user;
    if (t->g) assert_ptr_equal(g, t->g);
    assert_true(n > 0 && t->n_text + n < sizeof t->text);
    memcpy(t->text + t->n_text, text, n);
    t->n_text += n;
    t->whole = t->whole && is_whole(text, n);
    return (int32_t)++t->n_calls == t->answer_at;
}

static void begin(talk *t, const char *says) {
    memset(t, 0, sizeof *t);
    t->whole = true;
    script_text(&t->say, says, PROMPT);
    script_params(&t->p, &t->sampling, &t->say);
    t->p.text = take_text;
    t->p.text_user = t;
}

static void start(talk *t) {
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_generation_start_tokens(e.seq, prompt, PROMPT, &t->p, &t->g));
}

static llmo_generation_info finish(talk *t) {
    step_to_end(e.ctx, UNLIMITED, NULL);
    llmo_generation_info i = generation_info(t->g);
    llmo_generation_destroy(t->g);
    t->g = NULL;
    t->text[t->n_text] = '\0';
    return i;
}

static llmo_generation_info hold(talk *t) {
    start(t);
    return finish(t);
}

/* --- tokens ------------------------------------------------------------------------------------------------------------- */

static void greedy_takes_the_largest_logit(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params s;
    llmo_token got[20], at = prompt[PROMPT - 1];
    float row[TINY_VOCAB];
    greedy_params(&p, &s, 20);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_int_equal(reply(e.ctx, e.seq, prompt, PROMPT, &p, UNLIMITED, got), 20);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_eval(e.seq, prompt, PROMPT - 1, 0, NULL, 0));
    for (int i = 0; i < 20; i++) {
        assert_ok(llmo_eval(e.seq, &at, 1, 1, row, TINY_VOCAB));
        at = (llmo_token)largest(row, TINY_VOCAB);
        assert_int_equal(got[i], at);
    }
}

static void sampled(uint64_t seed, llmo_token *out) {
    llmo_generation_params p;
    llmo_sampling_params s;
    sampled_params(&p, &s, seed, 30);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_int_equal(reply(e.ctx, e.seq, prompt, PROMPT, &p, UNLIMITED, out), 30);
}

static void the_seed_decides(void **state) {
    (void)state;
    llmo_token a[30], b[30], c[30];
    sampled(5, a);
    sampled(5, b);
    sampled(6, c);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
}

static void an_end_token_ends_the_reply_and_stays_out_of_text_and_sequence(void **state) {
    (void)state;
    talk t;
    begin(&t, "abXcd");
    t.say.tokens[2] = TINY_EOS;
    t.p.flags = 0;
    start(&t);
    step_to_end(e.ctx, UNLIMITED, NULL);
    llmo_token got[8];
    assert_int_equal(generated(t.g, got, 8), 3);
    assert_int_equal(got[2], TINY_EOS);
    llmo_generation_info i = finish(&t);
    assert_int_equal(i.stop, LLMO_STOP_END);
    assert_int_equal(i.n_generated, 3);
    assert_string_equal(t.text, "ab");
    assert_int_equal(llmo_sequence_length(e.seq), PROMPT + 2);
}

static void end_tokens_can_be_ignored(void **state) {
    (void)state;
    talk t;
    begin(&t, "abXcd");
    t.say.tokens[2] = TINY_EOS;
    t.p.flags = LLMO_GENERATE_IGNORE_END;
    llmo_generation_info i = hold(&t);
    assert_int_equal(i.stop, LLMO_STOP_LENGTH);
    assert_int_equal(i.n_generated, 5);
    assert_string_equal(t.text, "abcd");
    begin(&t, "abXcd");
    t.say.tokens[2] = TINY_EOS;
    t.p.flags = 0;
    assert_int_equal(hold(&t).stop, LLMO_STOP_END);
}

static void control_tokens_are_rendered_on_demand(void **state) {
    (void)state;
    talk t;
    begin(&t, "aXb");
    t.say.tokens[1] = TINY_BOS;
    t.p.flags |= LLMO_GENERATE_SPECIAL;
    hold(&t);
    assert_string_equal(t.text, "a<s>b");
}

static void max_tokens_is_exact(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= 5; n++) {
        talk t;
        begin(&t, "abcdefgh");
        t.p.max_tokens = n;
        llmo_generation_info i = hold(&t);
        assert_int_equal(i.stop, LLMO_STOP_LENGTH);
        assert_int_equal(i.n_generated, n);
        assert_int_equal(t.n_text, n);
        assert_int_equal(i.n_prompt, PROMPT);
        assert_int_equal(i.n_prompt_done, PROMPT);
        assert_int_equal(llmo_sequence_length(e.seq), PROMPT + n);
    }
}

static void a_stop_token_ends_the_reply(void **state) {
    (void)state;
    static const llmo_token stops[] = {TINY_BYTE('z'), TINY_BYTE('d'), TINY_BYTE('e')};
    talk t;
    begin(&t, "abcdefgh");
    t.p.stop_tokens = stops;
    t.p.n_stop_tokens = 3;
    llmo_generation_info i = hold(&t);
    assert_int_equal(i.stop, LLMO_STOP_TOKEN);
    assert_int_equal(i.n_generated, 4);
    assert_string_equal(t.text, "abc");
}

/* --- stop strings ------------------------------------------------------------------------------------------------------- */

static void check_stops(const char *says, const char *const *stops, uint32_t n, const char *text, int32_t stop) {
    for (int with_callback = 0; with_callback < 2; with_callback++) {
        talk t;
        begin(&t, says);
        t.p.stops = stops;
        t.p.n_stops = n;
        if (!with_callback) t.p.text = NULL;
        start(&t);
        step_to_end(e.ctx, UNLIMITED, NULL);
        if (!with_callback) assert_ok(llmo_generation_read(t.g, t.text, sizeof t.text - 1, &t.n_text));
        assert_int_equal(finish(&t).stop, stop);
        assert_string_equal(t.text, text);
    }
}

static void a_stop_string_that_spans_tokens_cuts_the_text_before_it(void **state) {
    (void)state;
    check_stops("hello stop world", (const char *const[]){"stop"}, 1, "hello ", LLMO_STOP_STRING);
    check_stops("hello stop world", (const char *const[]){"h"}, 1, "", LLMO_STOP_STRING);
    check_stops("hello stop world", (const char *const[]){"world"}, 1, "hello stop ", LLMO_STOP_STRING);
    check_stops("hello stop world", (const char *const[]){"worlds"}, 1, "hello stop world", LLMO_STOP_LENGTH);
    check_stops("aaab", (const char *const[]){"aab"}, 1, "a", LLMO_STOP_STRING);
    check_stops("abababac", (const char *const[]){"abac"}, 1, "abab", LLMO_STOP_STRING);
    check_stops("a\xe2\x82\xac!", (const char *const[]){"\xe2\x82\xac"}, 1, "a", LLMO_STOP_STRING);
}

static void the_first_of_several_stop_strings_counts(void **state) {
    (void)state;
    static const char *const stops[] = {"xyz", "lo w", "world", "or"};
    check_stops("hello world", stops, 4, "hel", LLMO_STOP_STRING);
    check_stops("hells world", stops, 4, "hells w", LLMO_STOP_STRING);
    check_stops("hells work", stops + 2, 1, "hells work", LLMO_STOP_LENGTH);
}

static void a_stop_string_may_begin_and_end_inside_tokens(void **state) {
    (void)state;
    static const char *const stops[] = {"b a"};
    talk t;
    begin(&t, "xb?y");
    t.say.tokens[2] = TINY_SPACE_AND_A;
    t.p.stops = stops;
    t.p.n_stops = 1;
    assert_int_equal(hold(&t).stop, LLMO_STOP_STRING);
    assert_string_equal(t.text, "x");
    static const char *const inside[] = {" "};
    begin(&t, "xb?y");
    t.say.tokens[2] = TINY_SPACE_AND_A;
    t.p.stops = inside;
    t.p.n_stops = 1;
    assert_int_equal(hold(&t).stop, LLMO_STOP_STRING);
    assert_string_equal(t.text, "xb");
}

static void text_that_may_become_a_stop_string_is_held_back_and_given_when_it_does_not(void **state) {
    (void)state;
    static const char *const stops[] = {"lox"};
    static const char *const after[] = {"h", "he", "he", "he", "helo ", "helo ", "helo "};
    talk t;
    begin(&t, "helo lo");
    t.p.stops = stops;
    t.p.n_stops = 1;
    start(&t);
    for (int i = 0; i < 7; i++) {
        if (i == 6) break; /* the last token ends the reply, which gives all */
        assert_ok(llmo_context_step(e.ctx, UNLIMITED, NULL));
        assert_int_equal(t.n_text, strlen(after[i]));
        assert_memory_equal(t.text, after[i], t.n_text);
    }
    assert_int_equal(finish(&t).stop, LLMO_STOP_LENGTH);
    assert_string_equal(t.text, "helo lo");
}

/* --- text --------------------------------------------------------------------------------------------------------------- */

static void callback_and_read_give_the_same_text(void **state) {
    (void)state;
    talk a, b;
    begin(&a, "one\xc3\xa9 two\xff three");
    hold(&a);
    begin(&b, "one\xc3\xa9 two\xff three");
    b.p.text = NULL;
    start(&b);
    while (generation_info(b.g).state < LLMO_GENERATION_DONE) {
        assert_ok(llmo_context_step(e.ctx, UNLIMITED, NULL));
        size_t n;
        assert_ok(llmo_generation_read(b.g, b.text + b.n_text, 5, &n));
        assert_true(is_whole(b.text + b.n_text, n));
        b.n_text += n;
    }
    size_t n;
    assert_ok(llmo_generation_read(b.g, b.text + b.n_text, 100, &n));
    b.n_text += n;
    assert_ok(llmo_generation_read(b.g, b.text + b.n_text, 100, &n));
    assert_int_equal(n, 0);
    finish(&b);
    assert_string_equal(a.text, b.text);
    assert_string_equal(a.text, "one\xc3\xa9 two\xef\xbf\xbd three");
}

static void reading_in_small_pieces_never_splits_a_character(void **state) {
    (void)state;
    for (size_t cap = 1; cap <= 6; cap++) {
        talk t;
        begin(&t, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z");
        t.p.text = NULL;
        start(&t);
        step_to_end(e.ctx, UNLIMITED, NULL);
        for (size_t n = 1; n; t.n_text += n) {
            assert_ok(llmo_generation_read(t.g, t.text + t.n_text, cap, &n));
            assert_true(n <= cap && is_whole(t.text + t.n_text, n));
        }
        assert_int_equal(t.n_text, cap == 1 ? 1 : cap == 2 ? 3 : cap == 3 ? 6 : 11);
        finish(&t);
    }
}

static void multi_byte_characters_arrive_whole(void **state) {
    (void)state;
    talk t;
    begin(&t, "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80!\xec\x95\x88");
    hold(&t);
    assert_true(t.whole);
    assert_string_equal(t.text, "h\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80!\xec\x95\x88");
    assert_int_equal(t.n_calls, 6);
}

static void invalid_bytes_become_replacement_characters(void **state) {
    (void)state;
#define BAD "\xef\xbf\xbd"
    static const char *const cases[][2] = {
        {"a\xff"
         "b",
         "a" BAD "b"},
        {"\xc3(", BAD "("},
        {"\xe2\x82x", BAD "x"},
        {"\x80\x80", BAD BAD},
        {"\xc0\xaf", BAD BAD},                 /* overlong */
        {"\xed\xa0\x80", BAD BAD BAD},         /* a surrogate */
        {"\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* above U+10FFFF */
        {"ok\xf0\x9f", "ok" BAD},              /* ends inside a character */
        {"\xe2\xc3\xa9", BAD "\xc3\xa9"},      /* a lost start before a good one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        talk t;
        begin(&t, cases[i][0]);
        hold(&t);
        assert_true(t.whole);
        assert_string_equal(t.text, cases[i][1]);
    }
}

static void a_callback_that_answers_1_ends_the_reply_and_is_not_called_again(void **state) {
    (void)state;
    talk t;
    begin(&t, "abcdefgh");
    t.answer_at = 3;
    llmo_generation_info i = hold(&t);
    assert_int_equal(i.stop, LLMO_STOP_CALLBACK);
    assert_int_equal(i.n_generated, 3);
    assert_string_equal(t.text, "abc");
    /* not even for text that was held back */
    static const char *const stops[] = {"ax"};
    begin(&t, "b?cd");
    t.say.tokens[1] = TINY_SPACE_AND_A;
    t.p.stops = stops;
    t.p.n_stops = 1;
    t.answer_at = 2;
    assert_int_equal(hold(&t).stop, LLMO_STOP_CALLBACK);
    assert_string_equal(t.text, "b ");
    assert_int_equal(t.n_calls, 2);
}

/* --- callbacks that call back ------------------------------------------------------------------------------------------- */

typedef struct intruder {
    llmo_generation *g, *other;
    int32_t n_busy;
    int what; /* 0: try every call, 1: cancel g, 2: cancel other, 3: cancel the context, 4: destroy all */
} intruder;

static int32_t intrude(void *user, llmo_generation *g, const char *text, size_t n) {
    intruder *in = user;
    (void)text, (void)n;
    if (in->what == 1) assert_ok(llmo_generation_cancel(g));
    if (in->what == 2) assert_ok(llmo_generation_cancel(in->other));
    if (in->what == 3) assert_ok(llmo_context_cancel(e.ctx));
    if (in->what == 4) {
        llmo_generation_destroy(g);
        llmo_sequence_destroy(e.seq);
        llmo_context_destroy(e.ctx);
    }
    if (in->what != 0) return 0;
    llmo_sequence *s;
    llmo_generation *h;
    float row[TINY_VOCAB];
    char buf[8];
    size_t count;
    llmo_generation_info info = {.struct_size = sizeof info};
    llmo_context_stats stats = {.struct_size = sizeof stats};
    in->n_busy += llmo_context_step(e.ctx, 1, NULL) == LLMO_E_BUSY;
    in->n_busy += llmo_sequence_create(e.ctx, &s) == LLMO_E_BUSY;
    in->n_busy += llmo_sequence_fork(e.seq, 1, &s) == LLMO_E_BUSY;
    in->n_busy += llmo_sequence_truncate(e.seq, 1) == LLMO_E_BUSY;
    in->n_busy += llmo_sequence_get_tokens(e.seq, 0, prompt, 0, &count) == LLMO_E_BUSY;
    in->n_busy += llmo_eval(e.seq, prompt, 1, 1, row, TINY_VOCAB) == LLMO_E_BUSY;
    in->n_busy += llmo_generation_start_tokens(e.seq, prompt, 1, NULL, &h) == LLMO_E_BUSY;
    in->n_busy += llmo_generation_start(e.seq, "a", 1, NULL, &h) == LLMO_E_BUSY;
    in->n_busy += llmo_generate(e.seq, "a", 1, NULL, NULL) == LLMO_E_BUSY;
    in->n_busy += llmo_generation_get_info(g, &info) == LLMO_E_BUSY;
    in->n_busy += llmo_generation_read(g, buf, 8, &count) == LLMO_E_BUSY;
    in->n_busy += llmo_generation_get_tokens(g, 0, prompt, 0, &count) == LLMO_E_BUSY;
    in->n_busy += llmo_context_get_stats(e.ctx, &stats) == LLMO_E_BUSY;
    return 0;
}

static void intrude_with(intruder *in, talk *t) {
    begin(t, "abcdefgh");
    t->p.text = intrude;
    t->p.text_user = in;
    start(t);
    in->g = t->g;
}

static void a_callback_that_calls_into_its_context_gets_busy(void **state) {
    (void)state;
    talk t;
    intruder in = {.what = 0};
    intrude_with(&in, &t);
    assert_int_equal(finish(&t).n_generated, 8);
    assert_int_equal(in.n_busy, 8 * 13);
}

static void destroying_from_a_callback_is_ignored(void **state) {
    (void)state;
    talk t;
    intruder in = {.what = 4};
    intrude_with(&in, &t);
    assert_int_equal(finish(&t).n_generated, 8);
    assert_int_equal(llmo_sequence_length(e.seq), PROMPT + 8);
}

static void a_generation_can_be_cancelled_from_its_callback(void **state) {
    (void)state;
    talk t;
    intruder in = {.what = 1};
    intrude_with(&in, &t);
    llmo_generation_info i = finish(&t);
    assert_int_equal(i.stop, LLMO_STOP_CANCEL);
    assert_int_equal(i.n_generated, 1);
    assert_int_equal(llmo_sequence_length(e.seq), PROMPT + 1); /* what was generated stays */
}

static void a_generation_can_be_cancelled_from_the_callback_of_another(void **state) {
    (void)state;
    talk t;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_sequence *s;
    intruder in = {.what = 2};
    greedy_params(&p, &sp, 50);
    assert_ok(llmo_sequence_create(e.ctx, &s));
    assert_ok(llmo_generation_start_tokens(s, prompt, PROMPT, &p, &in.other));
    intrude_with(&in, &t);
    assert_int_equal(finish(&t).stop, LLMO_STOP_LENGTH);
    llmo_generation_info i = generation_info(in.other);
    assert_int_equal(i.stop, LLMO_STOP_CANCEL);
    assert_true(i.n_generated <= 2);
    llmo_generation_destroy(in.other);
    llmo_sequence_destroy(s);
}

static void a_context_can_be_cancelled_from_a_callback(void **state) {
    (void)state;
    talk t;
    intruder in = {.what = 3};
    intrude_with(&in, &t);
    /* each token's callback cancels: one step gets that token, the next one is refused */
    uint32_t n_cancelled = 0, n_steps = 0;
    while (generation_info(t.g).state < LLMO_GENERATION_DONE) {
        llmo_status st = llmo_context_step(e.ctx, UINT64_MAX - 1, NULL);
        if (st != LLMO_OK) assert_int_equal(st, LLMO_E_CANCELLED);
        n_cancelled += st != LLMO_OK;
        assert_true(++n_steps < 20);
    }
    assert_int_equal(n_cancelled, 8);
    assert_int_equal(finish(&t).n_generated, 8);
}

/* --- cancelling ---------------------------------------------------------------------------------------------------------- */

/* A thread that cancels something once a callback says that the step is in the middle; the callback waits for it. */
typedef struct canceller {
    llmo_generation *_Atomic g;
    _Atomic int wanted, done;
    pthread_t id;
} canceller;

static void *cancel_when_wanted(void *arg) {
    canceller *c = arg;
    while (!atomic_load(&c->wanted)) sched_yield();
    llmo_generation *g = atomic_load(&c->g);
    llmo_status st = g ? llmo_generation_cancel(g) : llmo_context_cancel(e.ctx);
    atomic_store(&c->done, st == LLMO_OK ? 1 : 2);
    return NULL;
}

static int32_t ask_canceller(void *user, llmo_generation *g, const char *text, size_t n) {
    canceller *c = user;
    (void)g, (void)text, (void)n;
    atomic_store(&c->wanted, 1);
    while (!atomic_load(&c->done)) sched_yield();
    return 0;
}

static void a_generation_is_cancelled_from_another_thread_in_the_middle_of_a_step(void **state) {
    (void)state;
    talk t;
    canceller c = {0};
    begin(&t, "abcdefghijklmnopqrstuvwxyz");
    t.p.text = ask_canceller;
    t.p.text_user = &c;
    start(&t);
    atomic_store(&c.g, t.g);
    assert_int_equal(pthread_create(&c.id, NULL, cancel_when_wanted, &c), 0);
    llmo_step_info i = {.struct_size = sizeof i};
    assert_ok(llmo_context_step(e.ctx, UINT64_MAX - 1, &i)); /* would run to the end */
    pthread_join(c.id, NULL);
    assert_int_equal(atomic_load(&c.done), 1);
    assert_int_equal(i.n_running, 0);
    llmo_generation_info info = finish(&t);
    assert_int_equal(info.stop, LLMO_STOP_CANCEL);
    assert_int_equal(info.n_generated, 1);
}

static void a_context_is_cancelled_from_another_thread_during_generate(void **state) {
    (void)state;
    talk t;
    canceller c = {0};
    llmo_generation_info info = {.struct_size = sizeof info};
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    greedy_params(&t.p, &t.sampling, 100);
    t.p.text = ask_canceller;
    t.p.text_user = &c;
    assert_int_equal(pthread_create(&c.id, NULL, cancel_when_wanted, &c), 0);
    assert_status(llmo_generate(e.seq, "hello", 5, &t.p, &info), LLMO_E_CANCELLED);
    pthread_join(c.id, NULL);
    assert_int_equal(info.stop, LLMO_STOP_CANCEL);
    assert_true(info.n_generated >= 1 && info.n_generated < 100);
    assert_int_equal(context_stats(e.ctx).n_generations, 0);
    begin(&t, "still works");
    hold(&t);
    assert_string_equal(t.text, "still works");
}

/* The host's job system is called in every unit: a place in the middle of an eval. */
typedef struct counted_jobs {
    uint32_t n, cancel_at;
    llmo_context *ctx;
} counted_jobs;

static void cancelling_jobs(void *user, uint32_t n_tasks, void (*task)(void *arg, uint32_t index), void *arg) {
    counted_jobs *j = user;
    if (++j->n == j->cancel_at) assert_ok(llmo_context_cancel(j->ctx));
    for (uint32_t i = 0; i < n_tasks; i++) task(arg, i);
}

static void a_cancelled_eval_leaves_the_sequence_as_before(void **state) {
    (void)state;
    counted_jobs j = {0};
    llmo_runtime_params rp;
    llmo_runtime_params_init(&rp);
    rp.n_threads = 2;
    rp.parallel_for = cancelling_jobs;
    rp.parallel_user = &j;
    engine f = engine_open_tiny((engine_options){.runtime = &rp, .n_batch = 8});
    llmo_token tokens[100];
    float want[TINY_VOCAB], row[TINY_VOCAB];
    some_tokens(4, tokens, 100);
    assert_ok(llmo_eval(f.seq, tokens, 100, 1, want, TINY_VOCAB));
    assert_ok(llmo_sequence_truncate(f.seq, 20));
    j.ctx = f.ctx;
    uint32_t n_cancelled = 0;
    for (uint32_t at = 1; at < 400; at += 23) {
        j.n = 0;
        j.cancel_at = at;
        llmo_status st = llmo_eval(f.seq, tokens + 20, 80, 1, row, TINY_VOCAB);
        if (st == LLMO_OK) break;
        assert_int_equal(st, LLMO_E_CANCELLED);
        assert_int_equal(llmo_sequence_length(f.seq), 20);
        assert_int_equal(context_stats(f.ctx).kv_tokens_used, 64);
        n_cancelled++;
    }
    assert_true(n_cancelled >= 3);
    j.cancel_at = 0;
    assert_ok(llmo_sequence_truncate(f.seq, 20));
    llmo_status st = llmo_eval(f.seq, tokens + 20, 80, 1, row, TINY_VOCAB);
    if (st == LLMO_E_CANCELLED) st = llmo_eval(f.seq, tokens + 20, 80, 1, row, TINY_VOCAB); /* set by the last unit */
    assert_int_equal(st, LLMO_OK);
    assert_memory_equal(row, want, sizeof want);
    engine_close(&f);
}

static void a_cancelled_step_goes_on_with_the_next(void **state) {
    (void)state;
    talk t;
    begin(&t, "abcdef");
    start(&t);
    for (int i = 0; i < 3; i++) assert_ok(llmo_context_step(e.ctx, 0, NULL)); /* in the middle of the prompt */
    assert_ok(llmo_context_cancel(e.ctx));
    assert_status(llmo_context_step(e.ctx, UNLIMITED, NULL), LLMO_E_CANCELLED);
    assert_int_equal(generation_info(t.g).state, LLMO_GENERATION_PROMPT);
    assert_int_equal(finish(&t).n_generated, 6);
    assert_string_equal(t.text, "abcdef");
}

static void a_generation_cancelled_before_its_prompt_ran_leaves_the_sequence_as_before(void **state) {
    (void)state;
    talk t;
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_eval(e.seq, prompt, 5, 0, NULL, 0));
    begin(&t, "abc");
    assert_ok(llmo_generation_start_tokens(e.seq, prompt, PROMPT, &t.p, &t.g));
    assert_ok(llmo_context_step(e.ctx, 0, NULL));
    assert_ok(llmo_generation_cancel(t.g));
    assert_int_equal(finish(&t).stop, LLMO_STOP_CANCEL);
    assert_int_equal(llmo_sequence_length(e.seq), 5);
    assert_int_equal(t.n_calls, 0);
}

static void destroying_what_takes_part_in_a_pass_leaves_the_others(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token want[2][10], got[10];
    sampled_params(&p, &sp, 9, 10);
    for (int i = 0; i < 2; i++) {
        assert_ok(llmo_sequence_truncate(e.seq, 0));
        reply(e.ctx, e.seq, prompt + i, 10, &p, UNLIMITED, want[i]);
    }
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    for (int how = 0; how < 4; how++) { /* generation or sequence, in the prompt or later */
        for (int unit = 1; unit < 6; unit++) {
            llmo_sequence *s[3];
            llmo_generation *g[3];
            for (int i = 0; i < 3; i++) {
                assert_ok(llmo_sequence_create(e.ctx, &s[i]));
                assert_ok(llmo_generation_start_tokens(s[i], prompt + i % 2, 10, &p, &g[i]));
            }
            if (how >= 2) assert_ok(llmo_context_step(e.ctx, UNLIMITED, NULL));
            for (int u = 0; u < unit; u++) assert_ok(llmo_context_step(e.ctx, 0, NULL));
            if (how % 2) {
                llmo_generation_destroy(g[2]);
                llmo_sequence_destroy(s[2]);
            } else {
                llmo_sequence_destroy(s[2]);
                assert_int_equal(generation_info(g[2]).stop, LLMO_STOP_CANCEL); /* the handle is readable */
                llmo_generation_destroy(g[2]);
            }
            step_to_end(e.ctx, UNLIMITED, NULL);
            for (int i = 0; i < 2; i++) {
                assert_int_equal(generated(g[i], got, 10), 10);
                assert_memory_equal(got, want[i], sizeof got);
                llmo_generation_destroy(g[i]);
                llmo_sequence_destroy(s[i]);
            }
        }
    }
}

static void an_eval_in_the_middle_of_a_pass_leaves_the_generations(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token want[10], got[10];
    llmo_sequence *s;
    llmo_generation *g;
    float row[2][TINY_VOCAB];
    sampled_params(&p, &sp, 9, 10);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    reply(e.ctx, e.seq, prompt, 10, &p, UNLIMITED, want);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_eval(e.seq, prompt, 9, 1, row[0], TINY_VOCAB));
    assert_ok(llmo_sequence_create(e.ctx, &s));
    assert_ok(llmo_generation_start_tokens(s, prompt, 10, &p, &g));
    for (int i = 0; i < 20 && generation_info(g).state < LLMO_GENERATION_DONE; i++) {
        for (int u = 0; u < 4; u++) assert_ok(llmo_context_step(e.ctx, 0, NULL));
        assert_ok(llmo_sequence_truncate(e.seq, 0));
        assert_ok(llmo_eval(e.seq, prompt, 9, 1, row[1], TINY_VOCAB));
        assert_memory_equal(row[1], row[0], sizeof row[0]);
    }
    step_to_end(e.ctx, UNLIMITED, NULL);
    assert_int_equal(generated(g, got, 10), 10);
    assert_memory_equal(got, want, sizeof got);
    llmo_generation_destroy(g);
    llmo_sequence_destroy(s);
}

/* --- prompts -------------------------------------------------------------------------------------------------------------- */

static void a_second_prompt_equals_evaluating_all_at_once(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token all[200], got[8];
    size_t n;
    float row[TINY_VOCAB];
    greedy_params(&p, &sp, 8);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    for (int round = 0; round < 3; round++) reply(e.ctx, e.seq, prompt, PROMPT, &p, UNLIMITED, got);
    assert_ok(llmo_sequence_get_tokens(e.seq, 0, all, 200, &n));
    assert_int_equal(n, 3 * (PROMPT + 8));
    for (size_t i = n - 8; i < n; i++) { /* each token of the last reply, from nothing */
        assert_ok(llmo_sequence_truncate(e.seq, 0));
        assert_ok(llmo_eval(e.seq, all, i, 1, row, TINY_VOCAB));
        assert_int_equal(largest(row, TINY_VOCAB), all[i]);
    }
}

static void an_empty_prompt_continues_a_sequence(void **state) {
    (void)state;
    static const size_t lengths[] = {1, 10, 63, 64, 65};
    llmo_generation_params p;
    llmo_sampling_params sp;
    llmo_token tokens[65], want[8], got[8];
    llmo_generation *g;
    some_tokens(8, tokens, 65);
    greedy_params(&p, &sp, 8);
    for (int i = 0; i < 5; i++) {
        llmo_sequence *f;
        assert_ok(llmo_sequence_truncate(e.seq, 0));
        reply(e.ctx, e.seq, tokens, lengths[i], &p, UNLIMITED, want);
        assert_ok(llmo_sequence_truncate(e.seq, 0));
        assert_ok(llmo_eval(e.seq, tokens, lengths[i], 0, NULL, 0));
        assert_ok(llmo_sequence_fork(e.seq, SIZE_MAX, &f)); /* shares the page that is written again */
        assert_int_equal(reply(e.ctx, e.seq, NULL, 0, &p, UNLIMITED, got), 8);
        assert_memory_equal(got, want, sizeof got);
        assert_int_equal(reply(e.ctx, f, NULL, 0, &p, UNLIMITED, got), 8);
        assert_memory_equal(got, want, sizeof got);
        llmo_sequence_destroy(f);
    }
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_status(llmo_generation_start_tokens(e.seq, NULL, 0, &p, &g), LLMO_E_ARG);
    assert_null(g);
}

static void a_prompt_too_long_is_refused_at_once(void **state) {
    (void)state;
    static llmo_token many[300];
    llmo_generation *g;
    some_tokens(1, many, 300);
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_status(llmo_generation_start_tokens(e.seq, many, 257, NULL, &g), LLMO_E_CONTEXT_FULL);
    assert_int_equal(llmo_sequence_length(e.seq), 0);
    assert_ok(llmo_generation_start_tokens(e.seq, many, 256, NULL, &g));
    step_to_end(e.ctx, UNLIMITED, NULL);
    llmo_generation_info i = generation_info(g);
    assert_int_equal(i.stop, LLMO_STOP_CONTEXT);
    assert_int_equal(i.n_generated, 0);
    llmo_generation_destroy(g);
}

static void generate_runs_a_text_prompt_to_its_end(void **state) {
    (void)state;
    talk t, u;
    llmo_generation_info info = {.struct_size = sizeof info};
    begin(&t, "a reply");
    t.say.n_before = 1 + 6; /* <s>, the space in front, "hello" */
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_generate(e.seq, "hello", 5, &t.p, &info));
    assert_int_equal(info.state, LLMO_GENERATION_DONE);
    assert_int_equal(info.stop, LLMO_STOP_LENGTH);
    assert_int_equal(info.n_prompt, 7);
    assert_int_equal(t.n_text, 7);
    assert_memory_equal(t.text, "a reply", 7);
    llmo_token first[2];
    size_t n;
    assert_ok(llmo_sequence_get_tokens(e.seq, 0, first, 2, &n));
    assert_int_equal(first[0], TINY_BOS);
    /* a second one adds no start token, and others advance beside it */
    llmo_sequence *s;
    llmo_generation *g;
    greedy_params(&u.p, &u.sampling, 5);
    assert_ok(llmo_sequence_create(e.ctx, &s));
    assert_ok(llmo_generation_start_tokens(s, prompt, PROMPT, &u.p, &g));
    begin(&t, "another");
    t.say.n_before = 14 + 6;
    assert_ok(llmo_generate(e.seq, "hello", 5, &t.p, NULL));
    assert_int_equal(generation_info(g).n_generated, 5);
    llmo_generation_destroy(g);
    llmo_sequence_destroy(s);
}

/* --- the logits callback ------------------------------------------------------------------------------------------------- */

typedef struct witness {
    uint32_t n_calls;
    float first[TINY_VOCAB];
} witness;

static void see_logits(void *user, float *logits, uint32_t n_vocab, const llmo_token *tokens, size_t n_tokens) {
    witness *w = user;
    assert_int_equal(n_vocab, TINY_VOCAB);
    assert_int_equal(n_tokens, PROMPT + w->n_calls);
    assert_memory_equal(tokens, prompt, sizeof prompt);
    if (w->n_calls++ == 0) memcpy(w->first, logits, sizeof w->first);
}

static void the_logits_callback_sees_raw_logits_and_all_tokens(void **state) {
    (void)state;
    llmo_generation_params p;
    llmo_sampling_params s;
    witness w = {0};
    llmo_token got[6];
    float row[TINY_VOCAB];
    static const llmo_token bias_tokens[] = {TINY_BYTE('a')};
    static const float bias_values[] = {50.0f};
    sampled_params(&p, &s, 1, 6);
    s.n_bias = 1;
    s.bias_tokens = bias_tokens;
    s.bias_values = bias_values;
    s.logits = see_logits;
    s.logits_user = &w;
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    reply(e.ctx, e.seq, prompt, PROMPT, &p, UNLIMITED, got);
    assert_int_equal(w.n_calls, 6);
    for (int i = 0; i < 6; i++) assert_int_equal(got[i], TINY_BYTE('a')); /* the bias comes after */
    assert_ok(llmo_sequence_truncate(e.seq, 0));
    assert_ok(llmo_eval(e.seq, prompt, PROMPT, 1, row, TINY_VOCAB));
    assert_memory_equal(w.first, row, sizeof row);
}

static void params_are_copied_at_the_start(void **state) {
    (void)state;
    talk t;
    char stop[] = "cd";
    const char *stops[] = {stop};
    llmo_token stop_tokens[] = {TINY_BYTE('z')}, bias_tokens[] = {TINY_BYTE('b')};
    float bias_values[] = {0.0f};
    begin(&t, "abcd");
    t.p.stops = stops;
    t.p.n_stops = 1;
    t.p.stop_tokens = stop_tokens;
    t.p.n_stop_tokens = 1;
    t.sampling.n_bias = 1;
    t.sampling.bias_tokens = bias_tokens;
    t.sampling.bias_values = bias_values;
    start(&t);
    memset(stop, 'a', 2);
    stops[0] = NULL;
    stop_tokens[0] = TINY_BYTE('a');
    bias_tokens[0] = 1 << 30;
    bias_values[0] = NAN;
    t.sampling.n_bias = 77;
    assert_int_equal(finish(&t).stop, LLMO_STOP_STRING);
    assert_string_equal(t.text, "ab");
}

static int set_up(void **state) {
    (void)state;
    some_tokens(3, prompt, PROMPT);
    e = engine_open_tiny((engine_options){.n_threads = 2, .n_sequences = 4});
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    engine_close(&e);
    return 0;
}

int main(void) {
#define T(name) cmocka_unit_test(name)
    const struct CMUnitTest tests[] = {
        T(greedy_takes_the_largest_logit),
        T(the_seed_decides),
        T(an_end_token_ends_the_reply_and_stays_out_of_text_and_sequence),
        T(end_tokens_can_be_ignored),
        T(control_tokens_are_rendered_on_demand),
        T(max_tokens_is_exact),
        T(a_stop_token_ends_the_reply),
        T(a_stop_string_that_spans_tokens_cuts_the_text_before_it),
        T(the_first_of_several_stop_strings_counts),
        T(a_stop_string_may_begin_and_end_inside_tokens),
        T(text_that_may_become_a_stop_string_is_held_back_and_given_when_it_does_not),
        T(callback_and_read_give_the_same_text),
        T(reading_in_small_pieces_never_splits_a_character),
        T(multi_byte_characters_arrive_whole),
        T(invalid_bytes_become_replacement_characters),
        T(a_callback_that_answers_1_ends_the_reply_and_is_not_called_again),
        T(a_callback_that_calls_into_its_context_gets_busy),
        T(destroying_from_a_callback_is_ignored),
        T(a_generation_can_be_cancelled_from_its_callback),
        T(a_generation_can_be_cancelled_from_the_callback_of_another),
        T(a_context_can_be_cancelled_from_a_callback),
        T(a_generation_is_cancelled_from_another_thread_in_the_middle_of_a_step),
        T(a_context_is_cancelled_from_another_thread_during_generate),
        T(a_cancelled_eval_leaves_the_sequence_as_before),
        T(a_cancelled_step_goes_on_with_the_next),
        T(a_generation_cancelled_before_its_prompt_ran_leaves_the_sequence_as_before),
        T(destroying_what_takes_part_in_a_pass_leaves_the_others),
        T(an_eval_in_the_middle_of_a_pass_leaves_the_generations),
        T(a_second_prompt_equals_evaluating_all_at_once),
        T(an_empty_prompt_continues_a_sequence),
        T(a_prompt_too_long_is_refused_at_once),
        T(generate_runs_a_text_prompt_to_its_end),
        T(the_logits_callback_sees_raw_logits_and_all_tokens),
        T(params_are_copied_at_the_start),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
