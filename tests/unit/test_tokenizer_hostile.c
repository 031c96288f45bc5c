/* Vocabularies that are wrong or meant to hurt: a refusal that names the key, or tables that are safe to use; and work
 * that grows no faster than the text. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "vocab_build.h"

static llmoi_mem mem;

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) == 0 ? 0 : -1;
}

/* Encodes and decodes with everything on; nothing may go wrong but what is said. */
static void use(const test_vocab *v, const char *text, size_t n_text) {
    static llmo_token ids[20000];
    static char out[200000];
    size_t n = 0, len = 0;
    if (strcmp(llmoi_tokenizer_name(v->t), "none") == 0) return; /* the key that names the kind was hit */
    for (uint32_t flags = 0; flags < 4; flags++) {
        llmo_status st = llmoi_tokenizer_encode(v->t, &mem, text, n_text, flags, ids, 20000, &n);
        if (st == LLMO_E_BUFFER) continue;
        if (st != LLMO_OK) fail_msg("%s", llmoi_message());
        for (size_t i = 0; i < n; i++) assert_true((uint32_t)ids[i] < llmoi_tokenizer_n_vocab(v->t));
        st = llmoi_tokenizer_decode(v->t, ids, n, flags, out, sizeof out, &len);
        assert_true(st == LLMO_OK || st == LLMO_E_BUFFER);
    }
    char *piece =
        malloc(llmoi_tokenizer_max_piece_bytes(v->t)); /* exact, so that the sanitizer sees a write behind it */
    for (uint32_t id = 0; id < llmoi_tokenizer_n_vocab(v->t); id++) {
        assert_true(llmoi_tokenizer_piece(v->t, (llmo_token)id, true, piece) <= llmoi_tokenizer_max_piece_bytes(v->t));
        assert_true(llmoi_tokenizer_attr(v->t, (llmo_token)id) != UINT32_MAX);
    }
    free(piece);
}

static const char sample[] = "It's <s> 12 \xff\xc3(\xed\xa0\x80 words\n\0<0x-1>aaab ab</s>\xe2\x96\x81x";

static const char *const words[] = {"<unk>", "<s>", "</s>", "a", "b", "ab", "\xe2\x96\x81"};
#define N 7

typedef void (*add_fn)(gguf_builder *b);

static void tokens(gguf_builder *b) {
    gb_arr_str(b, "tokenizer.ggml.tokens", words, N);
}
static void merges(gguf_builder *b) {
    static const char *const list[] = {"a b"};
    gb_arr_str(b, "tokenizer.ggml.merges", list, 1);
}
static void no_tokens(gguf_builder *b) {
    (void)b;
}
static void zero_tokens(gguf_builder *b) {
    gb_arr_str(b, "tokenizer.ggml.tokens", words, 0);
}
static void number_tokens(gguf_builder *b) {
    int32_t v[N] = {0};
    gb_arr_i32(b, "tokenizer.ggml.tokens", v, N);
}
static void string_tokens(gguf_builder *b) {
    gb_str(b, "tokenizer.ggml.tokens", "a");
}
static void byte_types(gguf_builder *b) {
    tokens(b);
    gb_arr(b, "tokenizer.ggml.token_type", 0, N, "\1\1\1\1\1\1\1", N);
}
static void float_types(gguf_builder *b) {
    float v[N] = {1};
    tokens(b);
    gb_arr_f32(b, "tokenizer.ggml.token_type", v, N);
}
static void few_types(gguf_builder *b) {
    int32_t v[N] = {1};
    tokens(b);
    gb_arr_i32(b, "tokenizer.ggml.token_type", v, N - 1);
}
static void string_types(gguf_builder *b) {
    tokens(b);
    gb_str(b, "tokenizer.ggml.token_type", "normal");
}
static void integer_scores(gguf_builder *b) {
    int32_t v[N] = {1};
    tokens(b);
    gb_arr_i32(b, "tokenizer.ggml.scores", v, N);
}
static void few_scores(gguf_builder *b) {
    float v[N] = {1};
    tokens(b);
    gb_arr_f32(b, "tokenizer.ggml.scores", v, 1);
}
static void nan_scores(gguf_builder *b) {
    float v[N] = {1, NAN};
    tokens(b);
    gb_arr_f32(b, "tokenizer.ggml.scores", v, N);
}
static void no_merges(gguf_builder *b) {
    tokens(b);
}
static void number_merges(gguf_builder *b) {
    int32_t v[N] = {0};
    tokens(b);
    gb_arr_i32(b, "tokenizer.ggml.merges", v, N);
}
static void string_bos(gguf_builder *b) {
    tokens(b);
    merges(b);
    gb_str(b, "tokenizer.ggml.bos_token_id", "<s>");
}
static void negative_eot(gguf_builder *b) {
    tokens(b);
    merges(b);
    gb_i32(b, "tokenizer.ggml.eot_token_id", -2);
}
static void integer_add_bos(gguf_builder *b) {
    tokens(b);
    merges(b);
    gb_u32(b, "tokenizer.ggml.add_bos_token", 1);
}
static void number_name(gguf_builder *b) {
    tokens(b);
    merges(b);
    gb_u32(b, "general.name", 3);
}

static void what_cannot_be_used_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *model;
        add_fn add;
        const char *key;
    } cases[] = {
        {"llama", no_tokens, "tokenizer.ggml.tokens"},
        {"gpt2", no_tokens, "tokenizer.ggml.tokens"},
        {"llama", zero_tokens, "tokenizer.ggml.tokens"},
        {"gpt2", number_tokens, "tokenizer.ggml.tokens"},
        {"llama", string_tokens, "tokenizer.ggml.tokens"},
        {"llama", byte_types, "tokenizer.ggml.token_type"},
        {"gpt2", float_types, "tokenizer.ggml.token_type"},
        {"gpt2", few_types, "tokenizer.ggml.token_type"},
        {"llama", string_types, "tokenizer.ggml.token_type"},
        {"llama", integer_scores, "tokenizer.ggml.scores"},
        {"llama", few_scores, "tokenizer.ggml.scores"},
        {"llama", nan_scores, "tokenizer.ggml.scores"},
        {"gpt2", no_merges, "tokenizer.ggml.merges"},
        {"gpt2", number_merges, "tokenizer.ggml.merges"},
        {"gpt2", string_bos, "tokenizer.ggml.bos_token_id"},
        {"gpt2", negative_eot, "tokenizer.ggml.eot_token_id"},
        {"llama", integer_add_bos, "tokenizer.ggml.add_bos_token"},
        {"llama", number_name, "general.name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gguf_builder b;
        test_vocab v;
        gb_init(&b);
        gb_str(&b, "tokenizer.ggml.model", cases[i].model);
        cases[i].add(&b);
        llmo_status st = try_vocab(&mem, &b, NULL, &v);
        if (st != LLMO_E_FORMAT || !strstr(llmoi_message(), cases[i].key)) {
            fail_msg("case %zu: %s: '%s', expected %s", i, llmo_status_name(st), llmoi_message(), cases[i].key);
        }
        assert_null(v.t);
        close_vocab(&v);
    }
}

/* Twelve odd texts, each also twice, of every type. */
static void odd_tokens_are_harmless(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t n;
    } odd[] = {{"", 0},       {"\0", 1},     {"a\0b", 3},    {"\xff\xfe", 2},     {"<0x-1>", 6},   {"<0x", 3},
               {"<0xZZ>", 6}, {"<0x41>", 6}, {"<0x100>", 7}, {"\xe2\x96\x81", 3}, {"\xe2\x96", 2}, {"\xed\xa0\x80", 3}};
    const uint64_t n_odd = sizeof odd / sizeof odd[0];
    static const char *const models[] = {"llama", "gpt2", "gemma4"};
    for (int m = 0; m < 3; m++) {
        for (int32_t shift = -1; shift < 9; shift++) {
            gguf_builder b;
            int32_t types[64];
            gb_init(&b);
            gb_str(&b, "tokenizer.ggml.model", models[m]);
            uint64_t n = 2 * n_odd + N;
            gb_arr(&b, "tokenizer.ggml.tokens", 8, n, NULL, 0);
            for (uint64_t i = 0; i < n; i++) {
                const char *text = i < 2 * n_odd ? odd[i % n_odd].text : words[i - 2 * n_odd];
                uint64_t len = i < 2 * n_odd ? odd[i % n_odd].n : strlen(text);
                gb_raw(&b, &len, 8);
                gb_raw(&b, text, len);
                types[i] = i < 2 * n_odd ? shift : 1;
            }
            gb_arr_i32(&b, "tokenizer.ggml.token_type", types, n);
            if (m > 0) merges(&b);
            test_vocab v = make_vocab(&mem, &b, NULL);
            use(&v, sample, sizeof sample - 1);
            for (uint64_t i = 0; i < n_odd; i++) use(&v, odd[i].text, odd[i].n);
            close_vocab(&v);
        }
    }
}

static void a_vocabulary_of_one_token_works(void **state) {
    (void)state;
    static const char *const models[] = {"llama", "gpt2", "gemma4"};
    static const char *const one[] = {"", "a", "\xff"};
    for (int m = 0; m < 3; m++) {
        for (int i = 0; i < 3; i++) {
            gguf_builder b;
            gb_init(&b);
            gb_str(&b, "tokenizer.ggml.model", models[m]);
            gb_arr_str(&b, "tokenizer.ggml.tokens", one + i, 1);
            merges(&b);
            test_vocab v = make_vocab(&mem, &b, NULL);
            use(&v, sample, sizeof sample - 1);
            close_vocab(&v);
        }
    }
}

static void an_empty_pre_tokenizer_is_the_default(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "tokenizer.ggml.model", "gpt2");
    gb_str(&b, "tokenizer.ggml.pre", "");
    tokens(&b);
    merges(&b);
    test_vocab v = make_vocab(&mem, &b, NULL);
    assert_string_equal(llmoi_tokenizer_name(v.t), "gpt2/default");
    close_vocab(&v);
}

static void a_very_long_token_is_found_and_decoded(void **state) {
    (void)state;
    enum { LONG = 300000 };
    char *text = malloc(LONG + 1), *piece = malloc(LONG);
    memset(text, 'x', LONG);
    text[LONG] = '\0';
    const char *list[] = {"<unk>", text};
    int32_t types[] = {UNKNOWN, USER};
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "tokenizer.ggml.model", "llama");
    gb_arr_str(&b, "tokenizer.ggml.tokens", list, 2);
    gb_arr_i32(&b, "tokenizer.ggml.token_type", types, 2);
    test_vocab v = make_vocab(&mem, &b, NULL);
    llmo_token id = -1;
    size_t n = 0;
    assert_int_equal(llmoi_tokenizer_encode(v.t, &mem, text, LONG, 0, &id, 1, &n), LLMO_OK);
    assert_int_equal(id, 1);
    assert_int_equal(llmoi_tokenizer_max_piece_bytes(v.t), LONG);
    assert_int_equal(llmoi_tokenizer_piece(v.t, 1, false, piece), LONG);
    assert_memory_equal(piece, text, LONG);
    close_vocab(&v);
    free(text);
    free(piece);
}

static const test_token spm_base[] = {{"<unk>", 0, UNKNOWN},
                                      {"<s>", 0, CONTROL},
                                      {"</s>", 0, CONTROL},
                                      {"a", -1, NORMAL},
                                      {"aa", -2, NORMAL},
                                      {"aaaa", -3, NORMAL},
                                      {"ab", -4, NORMAL},
                                      {"b", -5, NORMAL},
                                      {"<0x0A>", 0, BYTE},
                                      {"\n\n", 0, USER},
                                      {"\n\n\n", 0, USER},
                                      {"\xe2\x96\x81", -1, NORMAL},
                                      {"\xe2\x96\x81\xe2\x96\x81", -2, NORMAL},
                                      {"<tag>", 0, USER},
                                      {NULL, 0, 0}};
static const char *const bpe_merges[] = {"a a", "aa aa", "a b", "\xc4\xa0 \xc4\xa0"};
static const test_token bpe_base[] = {
    {"aa", 0, NORMAL},  {"aaaa", 0, NORMAL},     {"ab", 0, NORMAL}, {"\xc4\xa0\xc4\xa0", 0, NORMAL},
    {"<tag>", 0, USER}, {"<|end|>", 0, CONTROL}, {"\n\n", 0, USER}, {NULL, 0, 0}};

/* Any byte of a file changed: a status or a tokenizer, never a crash. */
static void changed_bytes_are_harmless(void **state) {
    (void)state;
    uint64_t seed = 7;
    size_t n_good = 0, n_bad = 0;
    for (int kind = 0; kind < 2; kind++) {
        gguf_builder b;
        size_t size;
        if (kind == 0)
            begin_spm(&b, spm_base);
        else
            begin_bpe(&b, "gpt2", "llama-bpe", bpe_base, bpe_merges, 4);
        gb_u32(&b, "tokenizer.ggml.eos_token_id", 1);
        unsigned char *bytes = gb_finish(&b, &size);
        gb_free(&b);
        for (int round = 0; round < 3000; round++) {
            unsigned char *copy = malloc(size);
            test_vocab v = {.mem = &mem, .bytes = copy};
            memcpy(copy, bytes, size);
            for (int k = 0; k <= round % 3; k++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                copy[(seed >> 33) % size] = (unsigned char)(seed >> 25);
            }
            llmo_status st = open_bytes(&mem, copy, size, &v.g);
            if (st == LLMO_OK) st = llmoi_tokenizer_create(&mem, v.g, NULL, &v.t);
            if (st == LLMO_OK)
                use(&v, sample, sizeof sample - 1);
            else
                assert_true(st == LLMO_E_FORMAT || st == LLMO_E_UNSUPPORTED);
            n_good += st == LLMO_OK;
            n_bad += st != LLMO_OK;
            close_vocab(&v);
        }
        free(bytes);
    }
    assert_true(n_good > 500 && n_bad > 500);
}

/* --- work --------------------------------------------------------------------------------------------------------- */

/* Processor time, seconds; the better of two. */
static double time_of(const test_vocab *v, const char *unit, size_t bytes) {
    char *text = malloc(bytes);
    size_t n_unit = strlen(unit), n;
    double best = 1e9;
    for (size_t i = 0; i < bytes; i++) text[i] = unit[i % n_unit];
    for (int k = 0; k < 2; k++) {
        clock_t start = clock();
        llmo_status st = llmoi_tokenizer_encode(v->t, &mem, text, bytes, LLMO_TOKENIZE_PARSE_SPECIAL, NULL, 0, &n);
        if (st != LLMO_OK && st != LLMO_E_BUFFER) fail_msg("%s", llmoi_message());
        double s = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (s < best) best = s;
    }
    free(text);
    return best;
}

static void check_growth(const test_vocab *v, size_t bytes) {
    static const char *const units[] = {" ",     "a", "1",    "\n",        "ab", "\xf0\x9f\x98\x80",
                                        "<tag>", "<", "\xff", "a b <s> \n"};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        double once = time_of(v, units[u], bytes), twice = 0;
        for (int again = 0; again < 4; again++) { /* other processes disturb the clock */
            twice = time_of(v, units[u], 2 * bytes);
            if (twice <= 3 * once + 0.002) break;
            once = time_of(v, units[u], bytes);
        }
        if (twice > 3 * once + 0.002) {
            fail_msg("'%s': %.4f s for %zu bytes, %.4f s for twice as many", units[u], once, bytes, twice);
        }
    }
}

static void twice_the_text_takes_at_most_thrice_the_time(void **state) {
    (void)state;
    gguf_builder b;
    begin_spm(&b, spm_base);
    test_vocab v = make_vocab(&mem, &b, NULL);
    check_growth(&v, 100000);
    close_vocab(&v);
    begin_bpe(&b, "gpt2", "llama-bpe", bpe_base, bpe_merges, 4);
    v = make_vocab(&mem, &b, NULL);
    check_growth(&v, 100000);
    close_vocab(&v);
}

/* Every run of a's up to 600 is a special token: hundreds of candidates at every position. */
static void nested_special_tokens_do_not_multiply_the_work(void **state) {
    (void)state;
    enum { NESTED = 600 };
    static char text[NESTED + 1];
    const char *list[NESTED];
    int32_t types[NESTED];
    memset(text, 'a', NESTED);
    for (int i = 0; i < NESTED; i++) {
        list[i] = text + i;
        types[i] = USER;
    }
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "tokenizer.ggml.model", "llama");
    gb_arr_str(&b, "tokenizer.ggml.tokens", list, NESTED);
    gb_arr_i32(&b, "tokenizer.ggml.token_type", types, NESTED);
    test_vocab v = make_vocab(&mem, &b, NULL);
    check_growth(&v, 20000);
    char *many = malloc(1755);
    llmo_token ids[4];
    size_t n;
    memset(many, 'a', 1755);
    assert_int_equal(llmoi_tokenizer_encode(v.t, &mem, many, 1755, 0, ids, 4, &n), LLMO_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 0);
    assert_int_equal(ids[2], NESTED - 555);
    free(many);
    close_vocab(&v);
}

/* Time of making a tokenizer of n tokens. */
static double build_time(uint32_t n, int32_t type) {
    double best = 1e9;
    char *texts = malloc((size_t)n * 16);
    const char **list = malloc(n * sizeof *list);
    int32_t *types = malloc(n * sizeof *types);
    for (uint32_t i = 0; i < n; i++) {
        list[i] = texts + (size_t)i * 16;
        snprintf(texts + (size_t)i * 16, 16, "tok%u", i * 2654435761u);
        types[i] = type;
    }
    gguf_builder b;
    size_t size;
    gb_init(&b);
    gb_str(&b, "tokenizer.ggml.model", "llama");
    gb_arr_str(&b, "tokenizer.ggml.tokens", list, n);
    gb_arr_i32(&b, "tokenizer.ggml.token_type", types, n);
    unsigned char *bytes = gb_finish(&b, &size);
    gb_free(&b);
    llmoi_gguf *g;
    if (open_bytes(&mem, bytes, size, &g) != LLMO_OK) fail_msg("%s", llmoi_message());
    for (int k = 0; k < 2; k++) {
        llmoi_tokenizer *t;
        clock_t start = clock();
        if (llmoi_tokenizer_create(&mem, g, NULL, &t) != LLMO_OK) fail_msg("%s", llmoi_message());
        double s = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (s < best) best = s;
        llmoi_tokenizer_destroy(t);
    }
    llmoi_gguf_close(g);
    free(bytes);
    free(types);
    free(list);
    free(texts);
    return best;
}

static void twice_the_vocabulary_takes_at_most_thrice_the_time(void **state) {
    (void)state;
    for (int32_t type = NORMAL; type <= CONTROL; type += CONTROL - NORMAL) {
        double once = build_time(40000, type), twice = 0;
        for (int again = 0; again < 4; again++) {
            twice = build_time(80000, type);
            if (twice <= 3 * once + 0.005) break;
            once = build_time(40000, type);
        }
        if (twice > 3 * once + 0.005) fail_msg("%.4f s for 40,000 tokens, %.4f s for twice as many", once, twice);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(what_cannot_be_used_is_refused_by_name),
        TEST(odd_tokens_are_harmless),
        TEST(a_vocabulary_of_one_token_works),
        TEST(an_empty_pre_tokenizer_is_the_default),
        TEST(a_very_long_token_is_found_and_decoded),
        TEST(changed_bytes_are_harmless),
        TEST(twice_the_text_takes_at_most_thrice_the_time),
        TEST(nested_special_tokens_do_not_multiply_the_work),
        TEST(twice_the_vocabulary_takes_at_most_thrice_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
