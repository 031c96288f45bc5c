/* Small vocabularies for tests: a list of tokens and merges becomes a GGUF header and a tokenizer. */
#ifndef VOCAB_BUILD_H
#define VOCAB_BUILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "gguf_open.h"
#include "tokenizer.h"

enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER = 4, UNUSED = 5, BYTE = 6 };

typedef struct test_token {
    const char *text;
    float score;
    int32_t type;
} test_token;

/* SentencePiece vocabulary, terminated by a NULL text. */
static inline void add_tokens(gguf_builder *b, const test_token *tokens, int scores) {
    const char *text[512];
    float score[512];
    int32_t type[512];
    uint64_t n = 0;
    for (; tokens[n].text; n++) {
        text[n] = tokens[n].text;
        score[n] = tokens[n].score;
        type[n] = tokens[n].type;
    }
    gb_arr_str(b, "tokenizer.ggml.tokens", text, n);
    if (scores) gb_arr_f32(b, "tokenizer.ggml.scores", score, n);
    gb_arr_i32(b, "tokenizer.ggml.token_type", type, n);
}

static inline void begin_spm(gguf_builder *b, const test_token *tokens) {
    gb_init(b);
    gb_str(b, "tokenizer.ggml.model", "llama");
    add_tokens(b, tokens, 1);
}

/* Byte-level BPE: the 256 characters of bytes as tokens 0..255 in the order of the bytes, then `tokens`. */
static inline void begin_bpe(gguf_builder *b, const char *model, const char *pre, const test_token *tokens,
                             const char *const *merges, uint64_t n_merges) {
    static char chars[256][3];
    test_token all[512] = {{0}};
    uint32_t next = 256;
    for (uint32_t c = 0; c < 256; c++) {
        uint32_t cp = (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174 ? c : next++;
        chars[c][0] = (char)(cp < 128 ? cp : 0xc0 | cp >> 6);
        chars[c][1] = (char)(cp < 128 ? 0 : 0x80 | (cp & 63));
        all[c] = (test_token){chars[c], 0, NORMAL};
    }
    for (size_t i = 0; tokens[i].text; i++) all[256 + i] = tokens[i];
    gb_init(b);
    gb_str(b, "tokenizer.ggml.model", model);
    if (pre) gb_str(b, "tokenizer.ggml.pre", pre);
    add_tokens(b, all, 0);
    gb_arr_str(b, "tokenizer.ggml.merges", merges, n_merges);
}

typedef struct test_vocab {
    llmoi_mem *mem;
    unsigned char *bytes;
    llmoi_gguf *g;
    llmoi_tokenizer *t;
} test_vocab;

/* Ends the file and makes the tokenizer; the builder is freed. */
static inline llmo_status try_vocab(llmoi_mem *mem, gguf_builder *b, const char *pre, test_vocab *v) {
    size_t size;
    *v = (test_vocab){.mem = mem, .bytes = gb_finish(b, &size)};
    gb_free(b);
    llmo_status st = open_bytes(mem, v->bytes, size, &v->g);
    if (st == LLMO_OK) st = llmoi_tokenizer_create(mem, v->g, pre, &v->t);
    return st;
}

static inline void close_vocab(test_vocab *v) {
    llmoi_tokenizer_destroy(v->t);
    llmoi_gguf_close(v->g);
    free(v->bytes);
}

static inline test_vocab make_vocab(llmoi_mem *mem, gguf_builder *b, const char *pre) {
    test_vocab v;
    if (try_vocab(mem, b, pre, &v) != LLMO_OK) fail_msg("%s", llmoi_message());
    return v;
}

#endif
