/* Opening a model: from a path, from memory, through readers, mapped, in parts; and the facts that an opened one tells. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine_fixture.h"

#define N_PARTS 3

static unsigned char *file;
static size_t file_bytes;
static unsigned char *parts[N_PARTS];
static size_t part_bytes[N_PARTS];
static char folder[64], path[128], part_path[N_PARTS][128];
static llmo_runtime *rt;
static float expected[4 * TINY_VOCAB];

static void eval(llmo_model *model, float *logits) {
    llmo_context *ctx;
    llmo_sequence *s;
    llmo_token tokens[30];
    some_tokens(1, tokens, 30);
    assert_ok(llmo_context_create(model, NULL, NULL, &ctx));
    assert_ok(llmo_sequence_create(ctx, &s));
    assert_ok(llmo_eval(s, tokens, 30, 4, logits, 4 * TINY_VOCAB));
    llmo_context_destroy(ctx);
}

/* The model says what the reference says; it is destroyed. */
static void check(llmo_model *model) {
    float logits[4 * TINY_VOCAB];
    eval(model, logits);
    assert_memory_equal(logits, expected, sizeof logits);
    eval(model, logits); /* its weights can be read a second time */
    assert_memory_equal(logits, expected, sizeof logits);
    llmo_model_destroy(model);
}

static llmo_model_params flags(uint32_t f) {
    llmo_model_params p;
    llmo_model_params_init(&p);
    p.flags = f;
    return p;
}

typedef struct part_reader {
    const unsigned char *bytes;
    size_t size;
} part_reader;

static int32_t read_part(void *user, uint64_t offset, void *dst, size_t bytes) {
    const part_reader *r = user;
    assert_true(offset <= r->size && bytes <= r->size - offset); /* nothing outside is asked for */
    memcpy(dst, r->bytes + offset, bytes);
    return 0;
}

/* --- ways ---------------------------------------------------------------------------------------------------------------- */

static void a_path_opens(void **state) {
    (void)state;
    llmo_model *m;
    assert_ok(llmo_model_open(rt, path, NULL, &m));
    check(m);
}

static void a_mapped_file_gives_the_same(void **state) {
    (void)state;
    llmo_model *m;
    llmo_model_params p = flags(LLMO_MODEL_MMAP);
    assert_ok(llmo_model_open(rt, path, &p, &m));
    check(m);
    assert_ok(llmo_model_open(rt, part_path[0], &p, &m));
    check(m);
}

static void memory_is_copied(void **state) {
    (void)state;
    llmo_model *m;
    unsigned char *copy = malloc(file_bytes);
    memcpy(copy, file, file_bytes);
    assert_ok(llmo_model_open_memory(rt, copy, file_bytes, NULL, &m));
    memset(copy, 0xff, file_bytes);
    free(copy);
    check(m);
}

static void borrowed_memory_is_used_in_place(void **state) {
    (void)state;
    llmo_model *m;
    llmo_model_params p = flags(LLMO_MODEL_BORROW);
    uint64_t before = llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT);
    assert_ok(llmo_model_open_memory(rt, file, file_bytes, &p, &m));
    assert_true(llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT) - before < file_bytes);
    llmo_context *ctx;
    assert_ok(llmo_context_create(m, NULL, NULL, &ctx));
    assert_true(llmo_context_bytes(ctx, 0, LLMO_PURPOSE_WEIGHTS) < 10000); /* the norms, as f32 */
    llmo_context_destroy(ctx);
    check(m);
}

static void a_reader_opens(void **state) {
    (void)state;
    llmo_model *m;
    part_reader r = {file, file_bytes};
    llmo_reader reader = {sizeof reader, 0, &r, file_bytes, read_part};
    assert_ok(llmo_model_open_readers(rt, &reader, 1, NULL, &m));
    memset(&reader, 0, sizeof reader); /* the array is copied */
    check(m);
}

static void a_split_model_opens_by_its_first_part(void **state) {
    (void)state;
    llmo_model *m;
    assert_ok(llmo_model_open(rt, part_path[0], NULL, &m));
    llmo_tensor_info t = {.struct_size = sizeof t};
    uint32_t n_of_part[N_PARTS] = {0};
    for (uint32_t i = 0; llmo_model_get_tensor(m, i, &t) == LLMO_OK; i++) n_of_part[t.part]++;
    for (int i = 0; i < N_PARTS; i++) assert_true(n_of_part[i] >= 6);
    llmo_model_info info = {.struct_size = sizeof info};
    assert_ok(llmo_model_get_info(m, &info));
    assert_int_equal(info.file_bytes, part_bytes[0] + part_bytes[1] + part_bytes[2]);
    check(m);
    assert_int_not_equal(llmo_model_open(rt, part_path[1], NULL, &m), LLMO_OK);
    assert_null(m);
}

static void a_split_model_opens_through_readers(void **state) {
    (void)state;
    llmo_model *m;
    part_reader r[N_PARTS];
    llmo_reader readers[N_PARTS];
    for (int i = 0; i < N_PARTS; i++) {
        r[i] = (part_reader){parts[i], part_bytes[i]};
        readers[i] = (llmo_reader){sizeof *readers, 0, &r[i], part_bytes[i], read_part};
    }
    assert_ok(llmo_model_open_readers(rt, readers, N_PARTS, NULL, &m));
    check(m);
    assert_status(llmo_model_open_readers(rt, readers, N_PARTS - 1, NULL, &m), LLMO_E_FORMAT);
    assert_null(m);
}

static void a_missing_part_is_an_io_error_that_names_it(void **state) {
    (void)state;
    llmo_model *m;
    assert_int_equal(unlink(part_path[2]), 0);
    llmo_status st = llmo_model_open(rt, part_path[0], NULL, &m);
    write_file(part_path[2], parts[2], part_bytes[2]);
    assert_int_equal(st, LLMO_E_IO);
    assert_non_null(strstr(llmo_last_error(), "00003-of-00003"));
}

static void files_that_are_no_models_are_refused_by_name(void **state) {
    (void)state;
    llmo_model *m;
    assert_status(llmo_model_open(rt, "/no/such/folder/model.gguf", NULL, &m), LLMO_E_IO);
    assert_non_null(strstr(llmo_last_error(), "/no/such/folder/model.gguf"));
    assert_status(llmo_model_open(rt, folder, NULL, &m), LLMO_E_IO);
    assert_status(llmo_model_open(rt, "", NULL, &m), LLMO_E_IO);
    assert_status(llmo_model_open_memory(rt, "GGUX and more than that, to be sure", 30, NULL, &m), LLMO_E_FORMAT);
    assert_status(llmo_model_open_memory(rt, file, 0, NULL, &m), LLMO_E_FORMAT);
    assert_status(llmo_model_open_memory(rt, file, file_bytes - 1, NULL, &m), LLMO_E_FORMAT);
    assert_null(m);
}

static void flags_of_another_way_are_refused(void **state) {
    (void)state;
    llmo_model *m;
    part_reader r = {file, file_bytes};
    llmo_reader reader = {sizeof reader, 0, &r, file_bytes, read_part};
    for (uint32_t f = 1; f < 16; f++) {
        llmo_model_params p = flags(f);
        if (f != LLMO_MODEL_MMAP) assert_status(llmo_model_open(rt, path, &p, &m), LLMO_E_ARG);
        if (f != LLMO_MODEL_BORROW) assert_status(llmo_model_open_memory(rt, file, file_bytes, &p, &m), LLMO_E_ARG);
        assert_status(llmo_model_open_readers(rt, &reader, 1, &p, &m), LLMO_E_ARG);
        assert_null(m);
    }
}

static void an_unknown_pre_tokenizer_is_unsupported_or_without_meaning(void **state) {
    (void)state;
    /* a SentencePiece vocabulary has none; whatever the library says, nothing is left behind */
    uint64_t before = llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT);
    llmo_model *m;
    llmo_model_params p = flags(0);
    p.pre_tokenizer = "no such pre-tokenizer";
    llmo_status st = llmo_model_open(rt, path, &p, &m);
    assert_true(st == LLMO_OK || st == LLMO_E_UNSUPPORTED);
    llmo_model_destroy(m);
    assert_int_equal(llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT), before);
}

/* --- facts ---------------------------------------------------------------------------------------------------------------- */

static llmo_model *opened(void) {
    llmo_model *m;
    assert_ok(llmo_model_open(rt, path, NULL, &m));
    return m;
}

static void info_tells_the_shape(void **state) {
    (void)state;
    llmo_model *m = opened();
    llmo_model_info i = {.struct_size = sizeof i};
    assert_ok(llmo_model_get_info(m, &i));
    assert_int_equal(i.n_layers, TINY_LAYERS);
    assert_int_equal(i.n_embd, TINY_EMBD);
    assert_int_equal(i.n_vocab, TINY_VOCAB);
    assert_int_equal(i.n_heads, 4);
    assert_int_equal(i.n_kv_heads, 2);
    assert_int_equal(i.head_dim, TINY_EMBD / 4);
    assert_int_equal(i.n_ff, 96);
    assert_int_equal(i.n_experts, 0);
    assert_int_equal(i.n_ctx_train, TINY_CTX);
    assert_int_equal(i.n_tensors, 3 + 9 * TINY_LAYERS);
    uint64_t d = TINY_EMBD, layer = 2 * d + 2 * d * d + 2 * d * d / 2 + 3 * d * 96;
    assert_int_equal(i.n_params, 2 * d * TINY_VOCAB + d + TINY_LAYERS * layer);
    assert_int_equal(i.weights_bytes, 4 * i.n_params);
    assert_int_equal(i.file_bytes, file_bytes);
    assert_string_equal(i.architecture, "llama");
    assert_string_equal(i.name, "tiny random llama");
    assert_string_equal(i.type, "F32");
    assert_string_equal(i.tokenizer, "llama");
    llmo_model_destroy(m);
}

static void meta_text_prints_values_and_asks_for_room(void **state) {
    (void)state;
    static const char *const want[][2] = {
        {"general.architecture", "llama"}, {"llama.block_count", "2"}, {"tokenizer.ggml.bos_token_id", "1"}};
    llmo_model *m = opened();
    char buf[64];
    size_t len;
    for (int i = 0; i < 3; i++) {
        assert_ok(llmo_model_meta_text(m, want[i][0], buf, sizeof buf, &len));
        assert_string_equal(buf, want[i][1]);
        assert_int_equal(len, strlen(want[i][1]));
    }
    for (size_t cap = 0; cap < 8; cap++) {
        memset(buf, 'x', sizeof buf);
        llmo_status st = llmo_model_meta_text(m, "general.architecture", buf, cap, &len);
        assert_int_equal(st, cap < 6 ? LLMO_E_BUFFER : LLMO_OK);
        assert_int_equal(len, 5);
        for (size_t i = cap; i < sizeof buf; i++) assert_int_equal(buf[i], 'x'); /* nothing past cap */
    }
    assert_int_equal(llmo_model_meta_text(m, "tokenizer.ggml.token_type", NULL, 0, &len), LLMO_E_BUFFER);
    char *text = malloc(len + 1);
    size_t again;
    assert_ok(llmo_model_meta_text(m, "tokenizer.ggml.token_type", text, len + 1, &again));
    assert_int_equal(again, len);
    assert_int_equal(strlen(text), len);
    assert_memory_equal(text, "[2, 3, 3, 3, 6, ", 16);
    assert_string_equal(text + len - 12, ", ... (288)]");
    free(text);
    assert_status(llmo_model_meta_text(m, "no.such.key", buf, sizeof buf, &len), LLMO_E_ARG);
    assert_non_null(strstr(llmo_last_error(), "no.such.key"));
    llmo_model_destroy(m);
}

static void keys_can_be_walked(void **state) {
    (void)state;
    llmo_model *m = opened();
    uint32_t n = llmo_model_meta_count(m);
    assert_int_equal(n, 15);
    char buf[4096];
    size_t len;
    for (uint32_t i = 0; i < n; i++) {
        const char *key = llmo_model_meta_key(m, i);
        assert_non_null(key);
        assert_ok(llmo_model_meta_text(m, key, buf, sizeof buf, &len));
    }
    assert_string_equal(llmo_model_meta_key(m, 0), "general.architecture");
    assert_null(llmo_model_meta_key(m, n));
    assert_null(llmo_model_meta_key(m, UINT32_MAX));
    llmo_model_destroy(m);
}

static void tensors_can_be_walked(void **state) {
    (void)state;
    llmo_model *m = opened();
    llmo_tensor_info t = {.struct_size = sizeof t};
    assert_ok(llmo_model_get_tensor(m, 0, &t));
    assert_string_equal(t.name, "token_embd.weight");
    assert_string_equal(t.type, "F32");
    assert_int_equal(t.n_dims, 2);
    assert_int_equal(t.dims[0], TINY_EMBD);
    assert_int_equal(t.dims[1], TINY_VOCAB);
    assert_int_equal(t.dims[2], 1);
    assert_int_equal(t.dims[3], 1);
    assert_int_equal(t.part, 0);
    uint64_t end = 0;
    uint32_t n = 0;
    for (; llmo_model_get_tensor(m, n, &t) == LLMO_OK; n++) {
        assert_true(t.file_offset >= end && t.file_offset % 32 == 0);
        assert_int_equal(t.n_bytes, t.dims[0] * t.dims[1] * 4);
        end = t.file_offset + t.n_bytes;
    }
    assert_int_equal(n, 3 + 9 * TINY_LAYERS);
    assert_int_equal(end, file_bytes);
    assert_status(llmo_model_get_tensor(m, n, &t), LLMO_E_ARG);
    llmo_model_destroy(m);
}

static void special_tokens_and_attributes_are_told(void **state) {
    (void)state;
    llmo_model *m = opened();
    assert_int_equal(llmo_model_special_token(m, LLMO_SPECIAL_BOS), TINY_BOS);
    assert_int_equal(llmo_model_special_token(m, LLMO_SPECIAL_EOS), TINY_EOS);
    assert_int_equal(llmo_model_special_token(m, LLMO_SPECIAL_NL), TINY_BYTE('\n'));
    assert_int_equal(llmo_model_special_token(m, LLMO_SPECIAL_PAD), LLMO_TOKEN_NONE);
    assert_int_equal(llmo_model_special_token(m, -1), LLMO_TOKEN_NONE);
    assert_int_equal(llmo_model_special_token(m, 99), LLMO_TOKEN_NONE);
    assert_true(llmo_model_token_attr(m, TINY_UNK) & LLMO_TOKEN_ATTR_UNKNOWN);
    assert_int_equal(llmo_model_token_attr(m, TINY_BOS), LLMO_TOKEN_ATTR_CONTROL);
    assert_int_equal(llmo_model_token_attr(m, TINY_EOS), LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_END);
    assert_int_equal(llmo_model_token_attr(m, TINY_BYTE('a')), LLMO_TOKEN_ATTR_BYTE);
    assert_int_equal(llmo_model_token_attr(m, TINY_LETTER('a')), 0);
    assert_int_equal(llmo_model_token_attr(m, (llmo_token)TINY_VOCAB), UINT32_MAX);
    assert_int_equal(llmo_model_token_attr(m, -1), UINT32_MAX);
    llmo_model_destroy(m);
}

static void text_becomes_tokens_and_comes_back(void **state) {
    (void)state;
    llmo_model *m = opened();
    llmo_token t[32];
    char text[64];
    size_t n, len;
    assert_int_equal(llmo_tokenize(m, "abc \xc3\xa9", 6, 0, NULL, 0, &n), LLMO_E_BUFFER);
    assert_true(n >= 6 && n <= 8);
    size_t need = n;
    assert_ok(llmo_tokenize(m, "abc \xc3\xa9", 6, 0, t, 32, &n));
    assert_int_equal(n, need);
    assert_int_equal(llmo_detokenize(m, t, n, 0, NULL, 0, &len), LLMO_E_BUFFER);
    assert_int_equal(len, 6);
    assert_ok(llmo_detokenize(m, t, n, 0, text, 6, &len));
    assert_memory_equal(text, "abc \xc3\xa9", 6);
    assert_ok(llmo_tokenize(m, "", 0, LLMO_TOKENIZE_ADD_SPECIAL, t, 32, &n));
    assert_int_equal(n, 1);
    assert_int_equal(t[0], TINY_BOS);
    assert_ok(llmo_tokenize(m, "<s>", 3, LLMO_TOKENIZE_PARSE_SPECIAL, t, 32, &n));
    assert_int_equal(t[0], TINY_BOS);
    assert_ok(llmo_tokenize(m, "<s>", 3, 0, t, 32, &n));
    assert_true(n >= 3);
    llmo_model_destroy(m);
}

static int set_up(void **state) {
    (void)state;
    file = tiny_model(NULL, &file_bytes);
    tiny_model_parts(NULL, N_PARTS, parts, part_bytes);
    strcpy(folder, "/tmp/llmo-test-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(path, sizeof path, "%s/whole.gguf", folder);
    write_file(path, file, file_bytes);
    for (int i = 0; i < N_PARTS; i++) {
        snprintf(part_path[i], sizeof part_path[i], "%s/x-%05d-of-%05d.gguf", folder, i + 1, N_PARTS);
        write_file(part_path[i], parts[i], part_bytes[i]);
    }
    if (llmo_runtime_create(NULL, &rt) != LLMO_OK) return -1;
    llmo_model *m = opened();
    eval(m, expected);
    llmo_model_destroy(m);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    llmo_runtime_destroy(rt);
    unlink(path);
    for (int i = 0; i < N_PARTS; i++) {
        unlink(part_path[i]);
        free(parts[i]);
    }
    rmdir(folder);
    free(file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_opens),
        cmocka_unit_test(a_mapped_file_gives_the_same),
        cmocka_unit_test(memory_is_copied),
        cmocka_unit_test(borrowed_memory_is_used_in_place),
        cmocka_unit_test(a_reader_opens),
        cmocka_unit_test(a_split_model_opens_by_its_first_part),
        cmocka_unit_test(a_split_model_opens_through_readers),
        cmocka_unit_test(a_missing_part_is_an_io_error_that_names_it),
        cmocka_unit_test(files_that_are_no_models_are_refused_by_name),
        cmocka_unit_test(flags_of_another_way_are_refused),
        cmocka_unit_test(an_unknown_pre_tokenizer_is_unsupported_or_without_meaning),
        cmocka_unit_test(info_tells_the_shape),
        cmocka_unit_test(meta_text_prints_values_and_asks_for_room),
        cmocka_unit_test(keys_can_be_walked),
        cmocka_unit_test(tensors_can_be_walked),
        cmocka_unit_test(special_tokens_and_attributes_are_told),
        cmocka_unit_test(text_becomes_tokens_and_comes_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
