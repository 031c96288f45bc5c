/* The tokenizer against reference vectors: every vocabulary of the shared data. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared_data.h"
#include "tokenizer.h"

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

typedef struct vocab {
    llmoi_gguf *g;
    llmoi_tokenizer *t;
} vocab;

static vocab open_vocab(const char *path) {
    llmoi_source *parts;
    uint32_t n;
    vocab v;
    if (llmoi_gguf_open_files(&mem, path, false, &parts, &n) != LLMO_OK ||
        llmoi_gguf_open(&mem, parts, n, &v.g) != LLMO_OK || llmoi_tokenizer_create(&mem, v.g, NULL, &v.t) != LLMO_OK) {
        fail_msg("%s: %s", path, llmoi_message());
    }
    llmoi_free(&mem, parts);
    return v;
}

static void close_vocab(vocab v) {
    llmoi_tokenizer_destroy(v.t);
    llmoi_gguf_close(v.g);
}

#define CAP 20000
static llmo_token ids[CAP];
static char bytes[CAP * 8];

/* Tokens of the text, also checking that a dry run counts them right. */
static size_t encode(const vocab *v, const char *text, size_t n, uint32_t flags) {
    size_t n_ids = 0, n_dry = 0;
    llmo_status st = llmoi_tokenizer_encode(v->t, &mem, text, n, flags, NULL, 0, &n_dry);
    if (st != LLMO_OK && st != LLMO_E_BUFFER) fail_msg("%s", llmoi_message());
    if (llmoi_tokenizer_encode(v->t, &mem, text, n, flags, ids, CAP, &n_ids) != LLMO_OK)
        fail_msg("%s", llmoi_message());
    assert_int_equal(n_ids, n_dry);
    return n_ids;
}

static bool same_ids(const cJSON *want, size_t n) {
    size_t i = 0;
    const cJSON *x;
    if ((size_t)cJSON_GetArraySize(want) != n) return false;
    cJSON_ArrayForEach(x, want) {
        if (ids[i++] != x->valueint) return false;
    }
    return true;
}

static void show(const char *what, const cJSON *test, const cJSON *want, size_t n) {
    char *w = cJSON_PrintUnformatted(want);
    print_message("%s: [%s] %s\n  want %s\n  got ", what, cJSON_GetObjectItem(test, "cat")->valuestring,
                  cJSON_GetObjectItem(test, "in_b64")->valuestring, w);
    for (size_t i = 0; i < n; i++) print_message(" %d", ids[i]);
    print_message("\n");
    free(w);
}

/* The reference makes some decoded text prettier, as Python's clean_up_tokenization_spaces does; the library gives the
 * tokens' bytes. This is that clean-up, so that both can be compared. */
static size_t clean_up(char *s, size_t n) {
    size_t out = 0;
    for (size_t i = 0; i < n; i++) { /* " ?" " !" " ." " ," lose the space */
        if (i > 0 && s[i - 1] == ' ' && strchr("?!.,", s[i]) && s[i] && out > 0) out--;
        s[out++] = s[i];
    }
    n = out, out = 0;
    for (size_t i = 0; i < n; i++) { /* " ' " becomes "'" */
        if (i > 0 && s[i] == '\'' && i + 1 < n && s[i - 1] == ' ' && s[i + 1] == ' ') {
            s[out - 1] = '\'';
            i++;
        } else {
            s[out++] = s[i];
        }
    }
    n = out, out = 0;
    for (size_t i = 0; i < n; i++) { /* " 's" " 'm" " 're" " 've" lose the space */
        bool two = i + 2 < n && s[i + 2] == 'e' && (s[i + 1] == 'r' || s[i + 1] == 'v');
        bool one = i + 1 < n && (s[i + 1] == 's' || s[i + 1] == 'm');
        if (i > 0 && s[i - 1] == ' ' && s[i] == '\'' && (one || two)) out--;
        s[out++] = s[i];
    }
    return out;
}

static bool decodes_to(const vocab *v, size_t n, const unsigned char *want, size_t n_want) {
    size_t n_bytes = 0;
    if (llmoi_tokenizer_decode(v->t, ids, n, LLMO_DETOKENIZE_SPECIAL, bytes, sizeof bytes, &n_bytes) != LLMO_OK) {
        fail_msg("%s", llmoi_message());
    }
    if (n_bytes == n_want && memcmp(bytes, want, n_want) == 0) return true;
    n_bytes = clean_up(bytes, n_bytes);
    return n_bytes == n_want && memcmp(bytes, want, n_want) == 0;
}

static size_t check_tests(const vocab *v, const cJSON *vectors, size_t *n_failed) {
    size_t n_tests = 0;
    const cJSON *test;
    cJSON_ArrayForEach(test, cJSON_GetObjectItem(vectors, "tests")) {
        size_t n_in, n_want;
        unsigned char *in = base64_decode(cJSON_GetObjectItem(test, "in_b64")->valuestring, &n_in);
        size_t n = encode(v, (char *)in, n_in, 0);
        const cJSON *want = cJSON_GetObjectItem(test, "ids"), *special = cJSON_GetObjectItem(test, "ids_special"),
                    *detok = cJSON_GetObjectItem(test, "detok_b64");
        if (want) {
            bool ok = same_ids(want, n);
            if (!ok) show("ids", test, want, n);
            unsigned char *text = detok ? base64_decode(detok->valuestring, &n_want) : in;
            if (!detok) n_want = n_in;
            if (ok && !decodes_to(v, n, text, n_want)) {
                show("decoded text", test, want, n);
                ok = false;
            }
            if (detok) free(text);
            n = encode(v, (char *)in, n_in, LLMO_TOKENIZE_PARSE_SPECIAL);
            if (!same_ids(special ? special : want, n)) {
                show("ids_special", test, special ? special : want, n);
                ok = false;
            }
            n_tests++;
            *n_failed += !ok;
        }
        free(in);
    }
    return n_tests;
}

static int32_t number(const cJSON *object, const char *name) {
    const cJSON *x = cJSON_GetObjectItem(object, name);
    assert_non_null(x);
    return x->valueint;
}

static void check_head(const vocab *v, const cJSON *vectors) {
    assert_int_equal(llmoi_tokenizer_n_vocab(v->t), number(vectors, "n_tokens"));
    assert_int_equal(llmoi_tokenizer_special(v->t, LLMO_SPECIAL_BOS), number(vectors, "bos"));
    assert_int_equal(llmoi_tokenizer_special(v->t, LLMO_SPECIAL_EOS), number(vectors, "eos"));
    assert_int_equal(llmoi_tokenizer_special(v->t, LLMO_SPECIAL_EOT), number(vectors, "eot"));
    assert_int_equal(llmoi_tokenizer_special(v->t, LLMO_SPECIAL_NL), number(vectors, "nl"));
    size_t n = encode(v, "", 0, LLMO_TOKENIZE_ADD_SPECIAL);
    assert_true(same_ids(cJSON_GetObjectItem(vectors, "add_special_prefix"), n));
    n = 0;
    for (uint32_t id = 0; id < llmoi_tokenizer_n_vocab(v->t); id++) {
        if (llmoi_tokenizer_attr(v->t, (llmo_token)id) & LLMO_TOKEN_ATTR_END) ids[n++] = (llmo_token)id;
    }
    assert_true(same_ids(cJSON_GetObjectItem(vectors, "eog"), n));
}

static size_t check_pieces(const vocab *v, const cJSON *vectors, size_t *n_failed) {
    size_t n_pieces = 0;
    const cJSON *piece;
    cJSON_ArrayForEach(piece, cJSON_GetObjectItem(vectors, "pieces")) {
        size_t n_want;
        llmo_token id = cJSON_GetArrayItem(piece, 0)->valueint;
        unsigned char *want = base64_decode(cJSON_GetArrayItem(piece, 1)->valuestring, &n_want);
        assert_true(llmoi_tokenizer_max_piece_bytes(v->t) <= sizeof bytes);
        size_t n = llmoi_tokenizer_piece(v->t, id, true, bytes);
        if (n != n_want || memcmp(bytes, want, n) != 0) {
            print_message("piece of %d: want '%s', got '%.*s'\n", id, want, (int)n, bytes);
            ++*n_failed;
        }
        n_pieces++;
        free(want);
    }
    return n_pieces;
}

static void every_own_vector_passes(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    char **names = list_files(shared_path("data/vocab/vectors"), ".tok.json");
    size_t n_files = 0, n_failed_files = 0;
    for (char **name = names; *name; name++, n_files++) {
        cJSON *vectors = read_json(shared_path("data/vocab/vectors/%s", *name));
        const char *file = cJSON_GetObjectItem(vectors, "vocab")->valuestring;
        const char *folder = strncmp(file, "stories", 7) == 0 ? "models" : "vocab";
        vocab v = open_vocab(shared_path("data/%s/%s", folder, file));
        size_t n_failed = 0;
        check_head(&v, vectors);
        size_t n_tests = check_tests(&v, vectors, &n_failed), n_pieces = check_pieces(&v, vectors, &n_failed);
        print_message("%-34s %3zu texts, %3zu pieces, %zu failed\n", file, n_tests, n_pieces, n_failed);
        assert_true(n_tests > 300 && n_pieces > 400);
        n_failed_files += n_failed > 0;
        close_vocab(v);
        cJSON_Delete(vectors);
        free(*name);
    }
    free(names);
    assert_int_equal(n_files, 25);
    assert_int_equal(n_failed_files, 0);
}

/* Texts of .inp and lines of ids of .out. */
static void every_official_vector_passes(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char **names = list_files(shared_path("data/vocab"), ".gguf.inp");
    size_t n_files = 0;
    for (char **name = names; *name; name++, n_files++) {
        (*name)[strlen(*name) - 4] = '\0';
        vocab v = open_vocab(shared_path("data/vocab/%s", *name));
        char *in = read_file(shared_path("data/vocab/%s.inp", *name), NULL);
        char *out = read_file(shared_path("data/vocab/%s.out", *name), NULL), *line = out, *text = in;
        size_t n_tests = 0;
        while (text && *line) {
            char *end = strstr(text, separator), *line_end = strchr(line, '\n');
            assert_non_null(line_end);
            size_t n = encode(&v, text, end ? (size_t)(end - text) : strlen(text), 0), i = 0;
            for (char *p = line; p < line_end; i++) {
                long want = strtol(p, &p, 10);
                if (i >= n || ids[i] != want) fail_msg("%s: text %zu, token %zu: want %ld", *name, n_tests, i, want);
                while (*p == ' ') p++;
            }
            assert_int_equal(i, n);
            text = end ? end + strlen(separator) : NULL;
            line = line_end + 1;
            n_tests++;
        }
        if (text) { /* the last text is empty, and so has no line */
            assert_string_equal(text, "");
            assert_int_equal(encode(&v, text, 0, 0), 0);
            n_tests++;
        }
        print_message("%-34s %zu texts\n", *name, n_tests);
        assert_int_equal(n_tests, 47);
        free(in);
        free(out);
        close_vocab(v);
        free(*name);
    }
    free(names);
    assert_int_equal(n_files, 6);
}

/* Any bytes, encoded and decoded: the same, with bad UTF-8 replaced where the tokenizer replaces it. */
static void random_bytes_survive_a_round_trip(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    static const char *const files[] = {"vocab/mini-spm.gguf", "vocab/mini-llama-bpe.gguf", "vocab/mini-qwen2.gguf",
                                        "vocab/mini-deepseek-llm.gguf", "models/stories260K.gguf"};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        vocab v = open_vocab(shared_path("data/%s", files[f]));
        bool spm = strcmp(llmoi_tokenizer_name(v.t), "llama") == 0;
        uint64_t seed = 1;
        for (int round = 0; round < 2000; round++) {
            char text[64], again[64 * 3];
            size_t n = (size_t)(round % 64), n_again = 0;
            for (size_t i = 0; i < n; i++) {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                unsigned r = (unsigned)(seed >> 40);
                /* U+2581 is SentencePiece's space; byte-level BPE keeps ASCII and replaces bad bytes */
                text[i] = (char)(spm ? r & 255 : r & 127);
                if (text[i] == '\xe2') text[i] = ' ';
            }
            size_t n_ids = encode(&v, text, n, 0);
            if (llmoi_tokenizer_decode(v.t, ids, n_ids, 0, again, sizeof again, &n_again) != LLMO_OK) {
                fail_msg("%s", llmoi_message());
            }
            assert_int_equal(n_again, n);
            assert_memory_equal(again, text, n);
        }
        close_vocab(v);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_own_vector_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(every_official_vector_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(random_bytes_survive_a_round_trip, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
