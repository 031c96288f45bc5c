/* The tokenizer on small vocabularies: merging, special tokens, roles, decoding. */
#include <stdio.h>
#include <string.h>

#include "vocab_build.h"

static llmoi_mem mem;

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

/* Every test gives back all memory. */
static int teardown(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) == 0 ? 0 : -1;
}

#define assert_fails(expr, status, needle)                                                                             \
    do {                                                                                                               \
        llmo_status st_ = (expr);                                                                                      \
        if (st_ != (status) || !strstr(llmoi_message(), needle)) {                                                     \
            fail_msg("%s: %s: '%s', expected '%s'", #expr, llmo_status_name(st_), llmoi_message(), needle);            \
        }                                                                                                              \
    } while (0)

/* Tokens as text, "3 7 12", in one of four static buffers. */
static const char *encode_n(const test_vocab *v, const char *text, size_t n_text, uint32_t flags) {
    static char ring[4][4096];
    static int next;
    llmo_token ids[512];
    size_t n = 0, at = 0;
    if (llmoi_tokenizer_encode(v->t, &mem, text, n_text, flags, ids, 512, &n) != LLMO_OK)
        fail_msg("%s", llmoi_message());
    assert_true(atomic_load(&mem.bytes[LLMO_PURPOSE_HOST]) == 0);
    char *out = ring[next++ % 4];
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) at += (size_t)sprintf(out + at, i ? " %d" : "%d", ids[i]);
    return out;
}

static const char *encode(const test_vocab *v, const char *text, uint32_t flags) {
    return encode_n(v, text, strlen(text), flags);
}

static const char *decode(const test_vocab *v, const llmo_token *ids, size_t n, uint32_t flags) {
    static char text[4096];
    size_t len = 0;
    if (llmoi_tokenizer_decode(v->t, ids, n, flags, text, sizeof text - 1, &len) != LLMO_OK)
        fail_msg("%s", llmoi_message());
    text[len] = '\0';
    return text;
}
#define DECODE(v, flags, ...)                                                                                          \
    decode(v, (const llmo_token[]){__VA_ARGS__}, sizeof((const llmo_token[]){__VA_ARGS__}) / sizeof(llmo_token), flags)

#define ADD   LLMO_TOKENIZE_ADD_SPECIAL
#define PARSE LLMO_TOKENIZE_PARSE_SPECIAL
#define SP    "\xe2\x96\x81"

/* --- SentencePiece ------------------------------------------------------------------------------------------------ */

static const test_token spm_tokens[] = {
    {"<unk>", 0, UNKNOWN}, {"<s>", 0, CONTROL},  {"</s>", 0, CONTROL}, {"<0x00>", 0, BYTE},   {"<0x0A>", 0, BYTE},
    {"<0xC3>", 0, BYTE},   {"<0xA4>", 0, BYTE},  {SP, -1, NORMAL},     {"a", -1, NORMAL},     {"b", -1, NORMAL},
    {"c", -1, NORMAL},     {"ab", -5, NORMAL},   {"bc", -4, NORMAL},   {"abc", -6, NORMAL},   {SP "a", -4, NORMAL},
    {"aa", -7, NORMAL},    {"<", -1, NORMAL},    {"s", -1, NORMAL},    {">", -1, NORMAL},     {"<s", -2, NORMAL},
    {"<tool>", 0, USER},   {"<tool>b", 0, USER}, {SP SP, -3, NORMAL},  {"<hole>", 0, UNUSED}, {NULL, 0, 0}};

static test_vocab spm(void) {
    gguf_builder b;
    begin_spm(&b, spm_tokens);
    return make_vocab(&mem, &b, NULL);
}

static void spm_merges_the_best_score_first_then_the_leftmost(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(encode(&v, "abc", 0), "14 12");     /* _a and bc are equal: _a is further left */
    assert_string_equal(encode(&v, "babc", 0), "7 9 13");   /* bc (-4) before ab (-5), then a+bc */
    assert_string_equal(encode(&v, "baaa", 0), "7 9 15 8"); /* the left aa */
    assert_string_equal(encode(&v, "", 0), "");
    close_vocab(&v);
}

static void spm_text_that_is_no_token_becomes_bytes_then_unknown(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(encode(&v, "\n\xc3\xa4", 0), "7 4 5 6");
    assert_string_equal(encode_n(&v, "a\0b", 3, 0), "14 3 9");
    assert_string_equal(encode(&v, "z", 0), "7 0"); /* no token for the byte */
    close_vocab(&v);
}

static void spm_puts_a_space_in_front_of_text_at_the_start_and_after_special_tokens(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_true(llmoi_tokenizer_strips_first_space(v.t));
    assert_string_equal(encode(&v, "a", ADD), "1 14");
    assert_string_equal(encode(&v, "", ADD), "1");
    assert_string_equal(encode(&v, "a<s>a", PARSE), "14 1 14");
    assert_string_equal(encode(&v, "c<tool>c", 0), "7 10 20 7 10");
    close_vocab(&v);
    gguf_builder b;
    begin_spm(&b, spm_tokens);
    gb_bool(&b, "tokenizer.ggml.add_space_prefix", 0);
    gb_bool(&b, "tokenizer.ggml.add_bos_token", 0);
    gb_bool(&b, "tokenizer.ggml.add_eos_token", 1);
    v = make_vocab(&mem, &b, NULL);
    assert_false(llmoi_tokenizer_strips_first_space(v.t));
    assert_string_equal(encode(&v, "a", ADD), "8 2");
    assert_string_equal(encode(&v, "a<s>a", PARSE), "8 1 8");
    close_vocab(&v);
}

static void spm_collapses_spaces_only_if_the_file_says_so(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(encode(&v, "  b  c ", 0), "22 7 9 22 10 7");
    close_vocab(&v);
    gguf_builder b;
    begin_spm(&b, spm_tokens);
    gb_bool(&b, "tokenizer.ggml.remove_extra_whitespaces", 1);
    v = make_vocab(&mem, &b, NULL);
    assert_string_equal(encode(&v, "  b  c ", 0), "7 9 7 10");
    assert_string_equal(encode(&v, "   ", 0), "7");
    close_vocab(&v);
}

static void a_broken_character_does_not_swallow_a_space(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(encode(&v, "\xc3 b", 0), "7 5 7 9");
    close_vocab(&v);
}

/* --- special tokens ----------------------------------------------------------------------------------------------- */

static void control_tokens_are_found_only_when_asked_for_and_cannot_be_forged(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(encode(&v, "<s>", PARSE), "1");
    /* "<s" + ">" is the text of a token, but of a control token */
    assert_string_equal(encode(&v, "<s>", 0), "7 19 18");
    assert_string_equal(encode(&v, "<0x0A>", 0), "7 16 0 0 0 0 18");
    close_vocab(&v);
}

static void user_defined_tokens_are_always_found_the_longest_first(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(encode(&v, "<tool>", 0), "20");
    assert_string_equal(encode(&v, "<tool>b<tool>a", 0), "21 20 14");
    assert_string_equal(encode(&v, "<tool<tool>>", 0), "7 16 0 0 0 0 20 7 18");
    close_vocab(&v);
}

static void overlapping_special_tokens_are_resolved_by_length_then_position(void **state) {
    (void)state;
    static const test_token tokens[] = {{"<unk>", 0, UNKNOWN}, {"<s>", 0, CONTROL}, {"</s>", 0, CONTROL},
                                        {"xy", 0, USER},       {"yzab", 0, USER},   {"x", 0, USER},
                                        {"abc", 0, USER},      {"xyz", 0, USER},    {"c", 0, NORMAL},
                                        {"z", 0, NORMAL},      {"y", 0, NORMAL},    {NULL, 0, 0}};
    gguf_builder b;
    begin_spm(&b, tokens);
    gb_bool(&b, "tokenizer.ggml.add_space_prefix", 0);
    test_vocab v = make_vocab(&mem, &b, NULL);
    assert_string_equal(encode(&v, "xyzabc", 0), "5 4 8"); /* yzab is the longest; xyz and xy no longer fit, x does */
    assert_string_equal(encode(&v, "xyzxyz", 0), "7 7");
    assert_string_equal(encode(&v, "xyxxyy", 0), "3 5 3 10");
    assert_string_equal(encode(&v, "abcxy", 0), "6 3");
    close_vocab(&v);
}

static void phi3_swallows_white_space_after_special_tokens(void **state) {
    (void)state;
    for (int phi = 0; phi < 2; phi++) {
        gguf_builder b;
        begin_spm(&b, spm_tokens);
        gb_str(&b, "general.name", phi ? "My PHI-3 mini" : "My Phi mini");
        test_vocab v = make_vocab(&mem, &b, NULL);
        assert_string_equal(encode(&v, "</s> \n\tb", PARSE), phi ? "2 7 9" : "2 22 4 0 9");
        assert_string_equal(encode(&v, "</s> </s>", PARSE), phi ? "2 2" : "2 22 2");
        assert_string_equal(encode(&v, "<s> b", PARSE), "1 22 9"); /* but not after this one */
        close_vocab(&v);
    }
}

static void a_mask_token_swallows_white_space_in_front(void **state) {
    (void)state;
    static const test_token tokens[] = {{"<mask>", 0, CONTROL}, {NULL, 0, 0}};
    for (int jina = 0; jina < 2; jina++) {
        gguf_builder b;
        begin_bpe(&b, "gpt2", jina ? "jina-v2-code" : "gpt-2", tokens, NULL, 0);
        test_vocab v = make_vocab(&mem, &b, NULL);
        assert_string_equal(encode(&v, "a  <mask> b", PARSE), jina ? "97 256 32 98" : "97 32 32 256 32 98");
        close_vocab(&v);
    }
}

/* --- byte-level BPE ----------------------------------------------------------------------------------------------- */

#define G "\xc4\xa0" /* the character of the space */

static const test_token bpe_tokens[] = {{"he", 0, NORMAL},         {"ll", 0, NORMAL},     {"hell", 0, NORMAL},
                                        {"el", 0, NORMAL},         {"hello", 0, NORMAL},  {G "h", 0, NORMAL},
                                        {"<|eot_id|>", 0, NORMAL}, {"<|x|>", 0, CONTROL}, {"word", 0, NORMAL},
                                        {"12", 0, NORMAL},         {NULL, 0, 0}};
static const char *const bpe_merges[] = {"l l",     "h e",     "e l", "he ll", "1 2", G " h",
                                         "no such", "nospace", "h e", "",      " "};
#define N_MERGES (sizeof bpe_merges / sizeof bpe_merges[0])

static test_vocab bpe(const char *file_pre, const char *pre) {
    gguf_builder b;
    begin_bpe(&b, "gpt2", file_pre, bpe_tokens, bpe_merges, N_MERGES);
    return make_vocab(&mem, &b, pre);
}

static void bpe_merges_by_rank_then_the_leftmost(void **state) {
    (void)state;
    test_vocab v = bpe("gpt-2", NULL);
    assert_string_equal(llmoi_tokenizer_name(v.t), "gpt2/gpt-2");
    assert_string_equal(encode(&v, "hello", 0), "258 111");     /* ll, he, hell; hello itself is in no merge */
    assert_string_equal(encode(&v, "lll", 0), "257 108");       /* the left pair */
    assert_string_equal(encode(&v, "hel", 0), "256 108");       /* he before el */
    assert_string_equal(encode(&v, " hello", 0), "32 258 111"); /* he takes the h before the space does */
    assert_string_equal(encode(&v, " h", 0), "261");
    assert_string_equal(encode(&v, "a h", 0), "97 261");
    assert_string_equal(encode(&v, "\n\xc3\xa4", 0), "10 195 164");
    assert_string_equal(encode(&v, "\xff", 0), "239 191 189"); /* U+FFFD */
    close_vocab(&v);
}

static void ignore_merges_takes_a_whole_piece_that_is_a_token(void **state) {
    (void)state;
    test_vocab v = bpe("llama-bpe", NULL);
    assert_string_equal(encode(&v, "hello", 0), "260");
    assert_string_equal(encode(&v, "word", 0), "264");
    assert_string_equal(encode(&v, "words", 0), "119 111 114 100 115");
    close_vocab(&v);
}

static void the_pre_tokenizer_divides_the_text(void **state) {
    (void)state;
    test_vocab v = bpe("llama-bpe", NULL);
    assert_string_equal(encode(&v, "012", 0), "48 265");
    close_vocab(&v);
    v = bpe("qwen2", NULL); /* single digits */
    assert_string_equal(encode(&v, "012", 0), "48 49 50");
    close_vocab(&v);
    v = bpe("no-such-thing", "qwen2");
    assert_string_equal(llmoi_tokenizer_name(v.t), "gpt2/qwen2");
    assert_string_equal(encode(&v, "12", 0), "49 50");
    close_vocab(&v);
    v = bpe(NULL, NULL);
    assert_string_equal(llmoi_tokenizer_name(v.t), "gpt2/default");
    close_vocab(&v);
}

static void an_unknown_pre_tokenizer_is_refused_with_a_way_out(void **state) {
    (void)state;
    static const char *const file_pre[] = {"no-such-thing", "qwen2"}, *const pre[] = {NULL, "other"};
    for (int i = 0; i < 2; i++) {
        gguf_builder b;
        test_vocab v;
        begin_bpe(&b, "gpt2", file_pre[i], bpe_tokens, bpe_merges, N_MERGES);
        llmo_status st = try_vocab(&mem, &b, pre[i], &v);
        assert_fails(st, LLMO_E_UNSUPPORTED, i == 0 ? "\"no-such-thing\"" : "\"other\"");
        assert_fails(st, LLMO_E_UNSUPPORTED, "tokenizer.ggml.pre");
        assert_fails(st, LLMO_E_UNSUPPORTED, "llmo_model_params.pre_tokenizer");
        close_vocab(&v);
    }
}

static void an_unknown_kind_of_tokenizer_is_refused(void **state) {
    (void)state;
    static const char *const models[] = {"bert", "t5", "rwkv", "plamo2", ""};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        gguf_builder b;
        test_vocab v;
        begin_bpe(&b, models[i], "gpt-2", bpe_tokens, bpe_merges, N_MERGES);
        llmo_status st = try_vocab(&mem, &b, NULL, &v);
        assert_fails(st, LLMO_E_UNSUPPORTED, "tokenizer.ggml.model");
        assert_fails(st, LLMO_E_UNSUPPORTED, models[i]);
        close_vocab(&v);
    }
}

static void start_tokens_are_added_by_default_where_the_pre_tokenizer_says_so(void **state) {
    (void)state;
    test_vocab v = bpe("llama-bpe", NULL);
    assert_string_equal(encode(&v, "", ADD), "11"); /* the start token of files that do not name one */
    close_vocab(&v);
    v = bpe("gpt-2", NULL);
    assert_string_equal(encode(&v, "", ADD), "");
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_BOS), 11);
    close_vocab(&v);
    v = bpe("chatglm-bpe", NULL);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_BOS), LLMO_TOKEN_NONE);
    close_vocab(&v);
}

/* Spaces as U+2581, newlines as words, bytes as <0xXX>, merges on characters. */
static void raw_bpe_merges_characters_and_falls_back_to_bytes(void **state) {
    (void)state;
    static const test_token tokens[] = {{"<pad>", 0, CONTROL}, {"<eos>", 0, CONTROL},   {"<bos>", 0, CONTROL},
                                        {SP, 0, NORMAL},       {"a", 0, NORMAL},        {SP "a", 0, NORMAL},
                                        {"\n", 0, NORMAL},     {"\n\n", 0, NORMAL},     {"<0xC3>", 0, BYTE},
                                        {"<0xA4>", 0, BYTE},   {"\xc3\xb6", 0, NORMAL}, {"a\xc3\xb6", 0, NORMAL},
                                        {NULL, 0, 0}};
    static const char *const merges[] = {SP " a", "a \xc3\xb6"};
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "tokenizer.ggml.model", "gemma4");
    add_tokens(&b, tokens, 0);
    gb_arr_str(&b, "tokenizer.ggml.merges", merges, 2);
    gb_u32(&b, "tokenizer.ggml.bos_token_id", 2);
    gb_bool(&b, "tokenizer.ggml.add_bos_token", 0); /* files say so wrongly */
    test_vocab v = make_vocab(&mem, &b, NULL);
    assert_string_equal(llmoi_tokenizer_name(v.t), "gemma4/gemma4");
    assert_string_equal(encode(&v, "a a", ADD), "2 4 5");
    assert_string_equal(encode(&v, "a\n\na\n\n\n", 0), "4 7 4 6 6 6");
    assert_string_equal(encode(&v, "a\xc3\xb6\xc3\xa4", 0), "11 8 9");
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_NL), 6);
    assert_string_equal(DECODE(&v, 0, 4, 5, 7, 8, 9), "a a\n\n\xc3\xa4");
    close_vocab(&v);
}

/* --- roles -------------------------------------------------------------------------------------------------------- */

static uint32_t attr(const test_vocab *v, llmo_token id) {
    return llmoi_tokenizer_attr(v->t, id);
}

static void roles_come_from_keys_then_from_texts(void **state) {
    (void)state;
    gguf_builder b;
    begin_bpe(&b, "gpt2", "gpt-2", bpe_tokens, bpe_merges, N_MERGES);
    gb_u32(&b, "tokenizer.ggml.bos_token_id", 263);
    gb_u32(&b, "tokenizer.ggml.eos_token_id", 100000); /* outside: ignored */
    gb_u32(&b, "tokenizer.ggml.padding_token_id", 265);
    gb_u32(&b, "tokenizer.ggml.unknown_token_id", 264);
    test_vocab v = make_vocab(&mem, &b, NULL);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_BOS), 263);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_EOS), 11);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_EOT), 262);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_PAD), 265);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_UNK), 264);
    assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_NL), 10);
    assert_int_equal(llmoi_tokenizer_special(v.t, -1), LLMO_TOKEN_NONE);
    assert_int_equal(llmoi_tokenizer_special(v.t, 6), LLMO_TOKEN_NONE);
    /* a normal token in the file, but its text is that of a control token */
    assert_int_equal(attr(&v, 262), LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_END);
    assert_int_equal(attr(&v, 263), LLMO_TOKEN_ATTR_CONTROL);
    assert_int_equal(attr(&v, 11), LLMO_TOKEN_ATTR_END);
    assert_int_equal(attr(&v, 0), 0);
    assert_int_equal(attr(&v, 266), UINT32_MAX);
    assert_int_equal(attr(&v, -1), UINT32_MAX);
    close_vocab(&v);
}

static void tokens_keep_the_attributes_of_the_file(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_int_equal(attr(&v, 0), LLMO_TOKEN_ATTR_UNKNOWN);
    assert_int_equal(attr(&v, 1), LLMO_TOKEN_ATTR_CONTROL);
    assert_int_equal(attr(&v, 2), LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_END);
    assert_int_equal(attr(&v, 3), LLMO_TOKEN_ATTR_BYTE);
    assert_int_equal(attr(&v, 8), 0);
    assert_int_equal(attr(&v, 20), LLMO_TOKEN_ATTR_USER);
    assert_int_equal(attr(&v, 23), LLMO_TOKEN_ATTR_UNUSED);
    close_vocab(&v);
}

static void end_of_a_part_is_no_end_in_the_harmony_format(void **state) {
    (void)state;
    static const test_token tokens[] = {{"<|return|>", 0, CONTROL},  {"<|call|>", 0, CONTROL},  {"<|end|>", 0, CONTROL},
                                        {"<|channel|>", 0, CONTROL}, {"<unused1>", 0, CONTROL}, {NULL, 0, 0}};
    for (size_t skip = 0; skip < 2; skip++) {
        gguf_builder b;
        begin_bpe(&b, "gpt2", "gpt-4o", tokens + skip, NULL, 0);
        test_vocab v = make_vocab(&mem, &b, NULL);
        llmo_token end = 258 - (llmo_token)skip;
        assert_int_equal(attr(&v, end), skip ? LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_END : LLMO_TOKEN_ATTR_USER);
        assert_int_equal(attr(&v, end - 1), LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_END);
        assert_int_equal(attr(&v, end + 1), LLMO_TOKEN_ATTR_USER);
        assert_int_equal(attr(&v, end + 2), LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_UNUSED);
        close_vocab(&v);
    }
}

static void a_file_without_a_tokenizer_has_token_numbers_only(void **state) {
    (void)state;
    static const char *const models[] = {NULL, "none", "no_vocab"};
    for (int i = 0; i < 4; i++) {
        gguf_builder b;
        size_t n = 0;
        gb_init(&b);
        gb_str(&b, "general.architecture", "llama");
        if (i < 3) gb_u32(&b, "llama.vocab_size", 77);
        if (i < 3 && models[i]) gb_str(&b, "tokenizer.ggml.model", models[i]);
        test_vocab v = make_vocab(&mem, &b, NULL);
        assert_int_equal(llmoi_tokenizer_n_vocab(v.t), i < 3 ? 77 : 0);
        assert_string_equal(llmoi_tokenizer_name(v.t), "none");
        llmo_token id = 1;
        char text[8];
        assert_fails(llmoi_tokenizer_encode(v.t, &mem, "a", 1, 0, &id, 1, &n), LLMO_E_UNSUPPORTED, "no tokenizer");
        assert_fails(llmoi_tokenizer_decode(v.t, &id, 1, 0, text, 8, &n), LLMO_E_UNSUPPORTED, "no tokenizer");
        assert_int_equal(llmoi_tokenizer_piece(v.t, 1, true, text), 0);
        assert_int_equal(attr(&v, 1), i < 3 ? 0 : UINT32_MAX);
        assert_int_equal(llmoi_tokenizer_special(v.t, LLMO_SPECIAL_BOS), LLMO_TOKEN_NONE);
        close_vocab(&v);
    }
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

static void decoding_takes_the_first_space_back(void **state) {
    (void)state;
    test_vocab v = spm();
    assert_string_equal(DECODE(&v, 0, 14, 14), "a a");
    assert_string_equal(DECODE(&v, LLMO_DETOKENIZE_CONTINUATION, 14, 14), " a a");
    assert_string_equal(DECODE(&v, 0, 22, 8), " a"); /* one of two */
    assert_string_equal(DECODE(&v, 0, 1, 14), "a");  /* behind a start token that is not shown */
    assert_string_equal(DECODE(&v, LLMO_DETOKENIZE_SPECIAL, 1, 14), "<s> a");
    assert_string_equal(DECODE(&v, 0, 8, 2, 14), "a a");
    assert_string_equal(DECODE(&v, 0, 5, 6, 20, 23, 0), "\xc3\xa4<tool>");
    assert_string_equal(DECODE(&v, LLMO_DETOKENIZE_SPECIAL, 0, 2), "<unk></s>");
    close_vocab(&v);
}

static void byte_level_tokens_become_their_bytes(void **state) {
    (void)state;
    static const test_token tokens[] = {{G "\xc4\x8a"
                                           "a",
                                         0, NORMAL},
                                        {"\xe4\xbd\xa0", 0, NORMAL},
                                        {"\xff\xe4", 0, NORMAL},
                                        {G "u", 0, USER},
                                        {"<|c|>", 0, CONTROL},
                                        {NULL, 0, 0}};
    gguf_builder b;
    begin_bpe(&b, "gpt2", "gpt-2", tokens, NULL, 0);
    test_vocab v = make_vocab(&mem, &b, NULL);
    assert_string_equal(DECODE(&v, 0, 256), " \na");
    assert_string_equal(DECODE(&v, 0, 257), "\xe4\xbd\xa0"); /* no characters of bytes: as they are */
    assert_string_equal(DECODE(&v, 0, 258), "\xff\xe4");
    assert_string_equal(DECODE(&v, 0, 259, 260), G "u"); /* text of user-defined tokens is literal */
    assert_string_equal(DECODE(&v, LLMO_DETOKENIZE_SPECIAL, 260), "<|c|>");
    for (int c = 1; c < 256; c++) {
        const char want[2] = {(char)c, 0};
        assert_string_equal(DECODE(&v, 0, c), want);
    }
    close_vocab(&v);
}

static void outputs_that_do_not_fit_report_the_size_needed(void **state) {
    (void)state;
    test_vocab v = spm();
    llmo_token ids[3] = {-5, -5, -5};
    char text[4] = "....";
    size_t n = 0;
    assert_fails(llmoi_tokenizer_encode(v.t, &mem, "abc", 3, ADD, ids, 2, &n), LLMO_E_BUFFER, "3");
    assert_int_equal(n, 3);
    assert_int_equal(ids[2], -5);
    assert_int_equal(llmoi_tokenizer_encode(v.t, &mem, "abc", 3, ADD, ids, 3, &n), LLMO_OK);
    assert_fails(llmoi_tokenizer_encode(v.t, &mem, "", (size_t)1 << 31, 0, ids, 3, &n), LLMO_E_ARG, "text_bytes");
    assert_fails(llmoi_tokenizer_decode(v.t, ids, 3, 0, text, 2, &n), LLMO_E_BUFFER, "3");
    assert_int_equal(n, 3);
    assert_int_equal(text[2], '.');
    assert_fails(llmoi_tokenizer_decode(v.t, ids, 3, 0, NULL, 0, &n), LLMO_E_BUFFER, "3");
    assert_int_equal(llmoi_tokenizer_decode(v.t, ids, 0, 0, NULL, 0, &n), LLMO_OK);
    assert_int_equal(n, 0);
    ids[1] = 24;
    assert_fails(llmoi_tokenizer_decode(v.t, ids, 3, 0, text, 4, &n), LLMO_E_ARG, "tokens[1]: 24");
    ids[1] = -1;
    assert_fails(llmoi_tokenizer_decode(v.t, ids, 3, 0, text, 4, &n), LLMO_E_ARG, "tokens[1]: -1");
    close_vocab(&v);
}

static void a_piece_needs_no_memory_and_keeps_its_space(void **state) {
    (void)state;
    test_vocab v = spm();
    char text[16];
    uint64_t n_allocs = atomic_load(&mem.n_allocs);
    assert_int_equal(llmoi_tokenizer_max_piece_bytes(v.t), 7);
    assert_int_equal(llmoi_tokenizer_piece(v.t, 14, false, text), 2);
    assert_memory_equal(text, " a", 2);
    assert_int_equal(llmoi_tokenizer_piece(v.t, 1, false, text), 0);
    assert_int_equal(llmoi_tokenizer_piece(v.t, 1, true, text), 3);
    assert_memory_equal(text, "<s>", 3);
    assert_int_equal(llmoi_tokenizer_piece(v.t, 24, true, text), 0);
    assert_int_equal(llmoi_tokenizer_piece(v.t, -1, true, text), 0);
    assert_int_equal(atomic_load(&mem.n_allocs), n_allocs);
    close_vocab(&v);
}

/* --- against plain, slow versions of the same rules ---------------------------------------------------------------- */

static uint64_t random_state = 99;
static unsigned rnd(unsigned n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % n;
}

/* Token by token, the longest first: takes every occurrence, left to right, that touches nothing taken before. */
static size_t slow_split(const char *const *list, size_t n_list, const char *text, llmo_token *out) {
    size_t n = strlen(text), n_out = 0;
    llmo_token at[64];
    bool taken[64] = {false};
    memset(at, 0xff, sizeof at);
    for (size_t len = n; len > 0; len--) {
        for (size_t k = 0; k < n_list; k++) {
            if (strlen(list[k]) != len) continue;
            for (size_t i = 0; i + len <= n; i++) {
                bool is_free = memcmp(text + i, list[k], len) == 0;
                for (size_t j = i; j < i + len; j++) is_free = is_free && !taken[j];
                if (!is_free) continue;
                memset(taken + i, true, len);
                at[i] = (llmo_token)k;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (at[i] >= 0)
            out[n_out++] = at[i];
        else if (!taken[i])
            out[n_out++] = (llmo_token)(n_list + (size_t)(text[i] - 'a'));
    }
    return n_out;
}

static void splitting_equals_the_plain_algorithm(void **state) {
    (void)state;
    for (int round = 0; round < 300; round++) {
        char words[8][8];
        const char *list[11];
        int32_t types[11];
        size_t n_words = 0;
        while (n_words < 8) {
            size_t len = 2 + rnd(5), same = 0;
            for (size_t i = 0; i < len; i++) words[n_words][i] = (char)('a' + rnd(3));
            words[n_words][len] = '\0';
            for (size_t k = 0; k < n_words; k++) same += strcmp(words[k], words[n_words]) == 0;
            if (!same) list[n_words] = words[n_words], types[n_words] = USER, n_words++;
        }
        static const char *const letters[] = {"a", "b", "c"};
        for (int k = 0; k < 3; k++) list[8 + k] = letters[k], types[8 + k] = NORMAL;
        gguf_builder b;
        gb_init(&b);
        gb_str(&b, "tokenizer.ggml.model", "llama");
        gb_arr_str(&b, "tokenizer.ggml.tokens", list, 11);
        gb_arr_i32(&b, "tokenizer.ggml.token_type", types, 11);
        gb_bool(&b, "tokenizer.ggml.add_space_prefix", 0);
        test_vocab v = make_vocab(&mem, &b, NULL);
        for (int k = 0; k < 20; k++) {
            char text[41];
            llmo_token got[64], want[64];
            size_t n_text = rnd(40), n_got = 0;
            for (size_t i = 0; i < n_text; i++) text[i] = (char)('a' + rnd(3));
            text[n_text] = '\0';
            size_t n_want = slow_split(list, 8, text, want);
            assert_int_equal(llmoi_tokenizer_encode(v.t, &mem, text, n_text, 0, got, 64, &n_got), LLMO_OK);
            assert_int_equal(n_got, n_want);
            assert_memory_equal(got, want, n_want * sizeof *want);
        }
        close_vocab(&v);
    }
}

/* Merges the neighbours whose text is the best token, the leftmost of equals, until none is left. */
static size_t slow_merge(const char *const *list, const float *score, size_t n_list, const char *text,
                         llmo_token *out) {
    size_t n = strlen(text), start[65];
    for (size_t i = 0; i <= n; i++) start[i] = i;
    for (;;) {
        size_t best = SIZE_MAX;
        float best_score = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            size_t len = start[i + 2] - start[i];
            for (size_t k = 0; k < n_list; k++) {
                if (strlen(list[k]) == len && memcmp(text + start[i], list[k], len) == 0 &&
                    (best == SIZE_MAX || score[k] > best_score)) {
                    best = i;
                    best_score = score[k];
                }
            }
        }
        if (best == SIZE_MAX) break;
        for (size_t i = best + 1; i < n; i++) start[i] = start[i + 1];
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        size_t len = start[i + 1] - start[i];
        for (size_t k = 0; k < n_list; k++) {
            if (strlen(list[k]) == len && memcmp(text + start[i], list[k], len) == 0) out[i] = (llmo_token)k;
        }
    }
    return n;
}

static void merging_equals_the_plain_algorithm(void **state) {
    (void)state;
    for (int round = 0; round < 300; round++) {
        char words[24][8];
        const char *list[24];
        float score[24];
        size_t n_words = 0;
        while (n_words < 24) {
            size_t len = n_words < 2 ? 1 : 2 + rnd(4), same = 0;
            for (size_t i = 0; i < len; i++) words[n_words][i] = (char)('a' + (n_words < 2 ? n_words : rnd(2)));
            words[n_words][len] = '\0';
            for (size_t k = 0; k < n_words; k++) same += strcmp(words[k], words[n_words]) == 0;
            if (same) continue;
            list[n_words] = words[n_words];
            score[n_words++] = (float)rnd(9) - 4; /* ties, both signs and zero */
        }
        gguf_builder b;
        gb_init(&b);
        gb_str(&b, "tokenizer.ggml.model", "llama");
        gb_arr_str(&b, "tokenizer.ggml.tokens", list, 24);
        gb_arr_f32(&b, "tokenizer.ggml.scores", score, 24);
        gb_bool(&b, "tokenizer.ggml.add_space_prefix", 0);
        test_vocab v = make_vocab(&mem, &b, NULL);
        for (int k = 0; k < 10; k++) {
            char text[41];
            llmo_token got[64], want[64];
            size_t n_text = rnd(40), n_got = 0;
            for (size_t i = 0; i < n_text; i++) text[i] = (char)('a' + rnd(2));
            text[n_text] = '\0';
            size_t n_want = slow_merge(list, score, 24, text, want);
            assert_int_equal(llmoi_tokenizer_encode(v.t, &mem, text, n_text, 0, got, 64, &n_got), LLMO_OK);
            assert_int_equal(n_got, n_want);
            assert_memory_equal(got, want, n_want * sizeof *want);
        }
        close_vocab(&v);
    }
}

/* --- memory ------------------------------------------------------------------------------------------------------- */

/* Creates and encodes; any status but success must be LLMO_E_NOMEM with everything given back. */
static llmo_status create_and_encode(llmoi_mem *m, const unsigned char *bytes, size_t size) {
    static const char text[] = "hello <|x|> words 123\xff\xed\xa0\x80 <tool>a bc";
    llmoi_gguf *g = NULL;
    llmoi_tokenizer *t = NULL;
    llmo_token ids[128];
    size_t n = 0;
    llmo_status st = open_bytes(m, bytes, size, &g);
    if (st == LLMO_OK) st = llmoi_tokenizer_create(m, g, NULL, &t);
    if (st == LLMO_OK) st = llmoi_tokenizer_encode(t, m, text, sizeof text - 1, PARSE, ids, 128, &n);
    if (st == LLMO_OK) assert_true(n > 10);
    assert_int_equal(atomic_load(&m->bytes[LLMO_PURPOSE_HOST]), 0);
    llmoi_tokenizer_destroy(t);
    llmoi_gguf_close(g);
    return st;
}

static void every_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        gguf_builder b;
        size_t size;
        if (kind == 0)
            begin_spm(&b, spm_tokens);
        else
            begin_bpe(&b, "gpt2", kind == 1 ? "llama-bpe" : "deepseek-llm", bpe_tokens, bpe_merges, N_MERGES);
        unsigned char *bytes = gb_finish(&b, &size);
        gb_free(&b);
        uint64_t k = 1;
        for (;; k++) {
            failing_allocator a = {.fail_at = k};
            llmoi_mem m;
            llmoi_mem_init(&m, &a, failing_alloc, failing_release);
            llmo_status st = create_and_encode(&m, bytes, size);
            assert_int_equal(a.live, 0);
            assert_int_equal(llmoi_mem_total(&m), 0);
            if (st == LLMO_OK) break;
            assert_int_equal(st, LLMO_E_NOMEM);
            assert_true(k < 1000);
        }
        assert_true(k > 15); /* there were allocations to fail */
        free(bytes);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(spm_merges_the_best_score_first_then_the_leftmost),
        TEST(spm_text_that_is_no_token_becomes_bytes_then_unknown),
        TEST(spm_puts_a_space_in_front_of_text_at_the_start_and_after_special_tokens),
        TEST(spm_collapses_spaces_only_if_the_file_says_so),
        TEST(a_broken_character_does_not_swallow_a_space),
        TEST(control_tokens_are_found_only_when_asked_for_and_cannot_be_forged),
        TEST(user_defined_tokens_are_always_found_the_longest_first),
        TEST(overlapping_special_tokens_are_resolved_by_length_then_position),
        TEST(phi3_swallows_white_space_after_special_tokens),
        TEST(a_mask_token_swallows_white_space_in_front),
        TEST(bpe_merges_by_rank_then_the_leftmost),
        TEST(ignore_merges_takes_a_whole_piece_that_is_a_token),
        TEST(the_pre_tokenizer_divides_the_text),
        TEST(an_unknown_pre_tokenizer_is_refused_with_a_way_out),
        TEST(an_unknown_kind_of_tokenizer_is_refused),
        TEST(start_tokens_are_added_by_default_where_the_pre_tokenizer_says_so),
        TEST(raw_bpe_merges_characters_and_falls_back_to_bytes),
        TEST(roles_come_from_keys_then_from_texts),
        TEST(tokens_keep_the_attributes_of_the_file),
        TEST(end_of_a_part_is_no_end_in_the_harmony_format),
        TEST(a_file_without_a_tokenizer_has_token_numbers_only),
        TEST(decoding_takes_the_first_space_back),
        TEST(byte_level_tokens_become_their_bytes),
        TEST(outputs_that_do_not_fit_report_the_size_needed),
        TEST(a_piece_needs_no_memory_and_keeps_its_space),
        TEST(splitting_equals_the_plain_algorithm),
        TEST(merging_equals_the_plain_algorithm),
        TEST(every_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
