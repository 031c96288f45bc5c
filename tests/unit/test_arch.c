/* Binding architectures: every fault of a key or tensor is refused with a sentence that names it. The files are built
 * here from lists of keys and tensors, so that each can be left out or changed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_build.h"
#include "llmoffload.h"
#include "shared_data.h"

enum { VOCAB = 259, EMBD = 32, FF = 64, HEADS = 4, KV_HEADS = 2, HEAD_DIM = EMBD / HEADS, EXPERTS = 4 };

/* --- a file with one fault ------------------------------------------------------------------------------------------------ */

typedef struct key {
    const char *name; /* without the architecture */
    bool required;
    enum { NUMBER, FRACTION, TEXT } kind;
    uint64_t number;
    double fraction;
    const char *text;
} key;

static const key dense_keys[] = {
    {"block_count", true, NUMBER, 1, 0, NULL},
    {"context_length", true, NUMBER, 128, 0, NULL},
    {"embedding_length", true, NUMBER, EMBD, 0, NULL},
    {"feed_forward_length", true, NUMBER, FF, 0, NULL},
    {"attention.head_count", true, NUMBER, HEADS, 0, NULL},
    {"attention.head_count_kv", false, NUMBER, KV_HEADS, 0, NULL},
    {"attention.layer_norm_rms_epsilon", true, FRACTION, 0, 1e-5, NULL},
    {"rope.dimension_count", false, NUMBER, HEAD_DIM, 0, NULL},
    {"rope.freq_base", false, FRACTION, 0, 10000, NULL},
    {NULL, false, NUMBER, 0, 0, NULL},
};
static const key expert_keys[] = {
    {"expert_count", true, NUMBER, EXPERTS, 0, NULL},
    {"expert_used_count", true, NUMBER, 2, 0, NULL},
    {NULL, false, NUMBER, 0, 0, NULL},
};

typedef struct tensor {
    const char *name;
    bool required;
    uint32_t n_dims;
    uint64_t dims[4];
} tensor;

static const tensor outer_tensors[] = {
    {"token_embd.weight", true, 2, {EMBD, VOCAB}},
    {"output_norm.weight", true, 1, {EMBD}},
    {"output.weight", false, 2, {EMBD, VOCAB}},
    {"blk.0.attn_norm.weight", true, 1, {EMBD}},
    {"blk.0.attn_q.weight", true, 2, {EMBD, EMBD}},
    {"blk.0.attn_k.weight", true, 2, {EMBD, KV_HEADS *HEAD_DIM}},
    {"blk.0.attn_v.weight", true, 2, {EMBD, KV_HEADS *HEAD_DIM}},
    {"blk.0.attn_output.weight", true, 2, {EMBD, EMBD}},
    {"blk.0.attn_q.bias", false, 1, {EMBD}},
    {"blk.0.attn_k.bias", false, 1, {KV_HEADS * HEAD_DIM}},
    {"blk.0.attn_v.bias", false, 1, {KV_HEADS * HEAD_DIM}},
    {"blk.0.ffn_norm.weight", true, 1, {EMBD}},
    {NULL, false, 0, {0}},
};
static const tensor dense_tensors[] = {
    {"blk.0.ffn_gate.weight", true, 2, {EMBD, FF}},
    {"blk.0.ffn_up.weight", true, 2, {EMBD, FF}},
    {"blk.0.ffn_down.weight", true, 2, {FF, EMBD}},
    {NULL, false, 0, {0}},
};
static const tensor expert_tensors[] = {
    {"blk.0.ffn_gate_inp.weight", true, 2, {EMBD, EXPERTS}},
    {"blk.0.ffn_gate_exps.weight", true, 3, {EMBD, FF, EXPERTS}},
    {"blk.0.ffn_up_exps.weight", true, 3, {EMBD, FF, EXPERTS}},
    {"blk.0.ffn_down_exps.weight", true, 3, {FF, EMBD, EXPERTS}},
    {NULL, false, 0, {0}},
};

typedef enum form { AS_IS, LEFT_OUT, AS_TEXT, AS_BOOL, AS_NUMBER, AS_FRACTION, AS_DOUBLE, AS_ARRAY } form;

typedef struct recipe {
    const char *arch; /* NULL: llama */
    bool experts;
    const char *key; /* the key to change, or one to add */
    form key_form;
    uint64_t number;
    double fraction;
    const char *text;
    const char *tensor; /* the tensor to change, or one to add */
    bool no_tensor;
    uint32_t tensor_type; /* 0: F32 */
    uint32_t n_dims;      /* 0: as it should be */
    uint64_t dims[4];
    int more_tokens; /* in the vocabulary than rows of the embedding */
} recipe;

static void put_key(gguf_builder *b, const char *full, form f, const recipe *r) {
    switch (f) {
    case AS_TEXT: gb_str(b, full, r->text ? r->text : "text"); break;
    case AS_BOOL: gb_bool(b, full, 1); break;
    case AS_NUMBER: gb_u64(b, full, r->number); break;
    case AS_FRACTION: gb_f32(b, full, (float)r->fraction); break;
    case AS_DOUBLE:
        gb_key(b, full, strlen(full), 12);
        gb_raw(b, &r->fraction, 8);
        break;
    case AS_ARRAY: gb_arr_i32(b, full, (int32_t[]){4, 4}, 2); break;
    default: break;
    }
}

static bool put_keys(gguf_builder *b, const key *keys, const recipe *r, const char *arch) {
    bool seen = false;
    for (; keys->name; keys++) {
        char full[128];
        snprintf(full, sizeof full, "%s.%s", arch, keys->name);
        recipe plain = {.number = keys->number, .fraction = keys->fraction, .text = keys->text};
        if (r->key && strcmp(r->key, keys->name) == 0) {
            put_key(b, full, r->key_form, r);
            seen = true;
        } else if (keys->kind == NUMBER) {
            gb_u32(b, full, (uint32_t)keys->number);
        } else {
            put_key(b, full, keys->kind == TEXT ? AS_TEXT : AS_FRACTION, &plain);
        }
    }
    return seen;
}

static void put_tensor(gguf_builder *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims) {
    static const float zeros[EMBD * VOCAB * 16];
    uint64_t n = 1;
    for (uint32_t i = 0; i < n_dims; i++) n *= dims[i];
    size_t bytes = type == 0 ? n * 4 : type == 8 ? n / 32 * 34 : n * 2;
    gb_tensor(b, name, type, n_dims, dims, zeros, bytes);
}

static bool put_tensors(gguf_builder *b, const tensor *t, const recipe *r) {
    bool seen = false;
    for (; t->name; t++) {
        bool mine = r->tensor && strcmp(r->tensor, t->name) == 0;
        seen = seen || mine;
        if (mine && r->no_tensor) continue;
        put_tensor(b, t->name, mine ? r->tensor_type : 0, mine && r->n_dims ? r->n_dims : t->n_dims,
                   mine && r->n_dims ? r->dims : t->dims);
    }
    return seen;
}

static void put_vocabulary(gguf_builder *b, uint32_t n) {
    static char text[VOCAB + 64][16];
    const char *tokens[VOCAB + 64];
    float scores[VOCAB + 64] = {0};
    int32_t types[VOCAB + 64];
    for (uint32_t i = 0; i < n; i++) {
        if (i < VOCAB)
            snprintf(text[i], sizeof text[i], "<0x%02X>", (i - 3) & 0xffu);
        else
            snprintf(text[i], sizeof text[i], "more%u", i);
        tokens[i] = text[i];
        types[i] = i < VOCAB ? 6 : 1;
    }
    tokens[0] = "<unk>", types[0] = 2;
    tokens[1] = "<s>", types[1] = 3;
    tokens[2] = "</s>", types[2] = 3;
    gb_str(b, "tokenizer.ggml.model", "llama");
    gb_arr_str(b, "tokenizer.ggml.tokens", tokens, n);
    gb_arr_f32(b, "tokenizer.ggml.scores", scores, n);
    gb_arr_i32(b, "tokenizer.ggml.token_type", types, n);
}

static unsigned char *build(const recipe *r, size_t *size) {
    const char *arch = r->arch ? r->arch : "llama";
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "general.architecture", arch);
    bool seen = put_keys(&b, dense_keys, r, arch);
    if (r->experts) seen |= put_keys(&b, expert_keys, r, arch);
    if (r->key && !seen) {
        char full[128];
        snprintf(full, sizeof full, "%s.%s", arch, r->key);
        put_key(&b, full, r->key_form, r);
    }
    put_vocabulary(&b, (uint32_t)(VOCAB + r->more_tokens));
    seen = put_tensors(&b, outer_tensors, r);
    seen |= put_tensors(&b, r->experts ? expert_tensors : dense_tensors, r);
    if (r->tensor && !seen) put_tensor(&b, r->tensor, r->tensor_type, r->n_dims, r->dims);
    unsigned char *file = gb_finish(&b, size);
    gb_free(&b);
    return file;
}

/* --- opening it --------------------------------------------------------------------------------------------------------------- */

static llmo_runtime *runtime;
static unsigned n_refused;

static int setup(void **state) {
    (void)state;
    llmo_runtime_params p;
    llmo_runtime_params_init(&p);
    p.n_threads = 1;
    return llmo_runtime_create(&p, &runtime) != LLMO_OK;
}

static int teardown(void **state) {
    (void)state;
    print_message("%u faulty files refused by name\n", n_refused);
    llmo_runtime_destroy(runtime);
    return 0;
}

/* Opens, makes a context (so that all weights are read) and closes. */
static llmo_status try_recipe(const recipe *r) {
    size_t size;
    unsigned char *file = build(r, &size);
    llmo_model *m = NULL;
    llmo_status st = llmo_model_open_memory(runtime, file, size, NULL, &m);
    if (st == LLMO_OK) {
        llmo_context *c = NULL;
        st = llmo_context_create(m, NULL, NULL, &c);
        llmo_context_destroy(c);
        llmo_model_destroy(m);
    } else {
        assert_null(m);
    }
    free(file);
    return st;
}

static void assert_opens(recipe r) {
    llmo_status st = try_recipe(&r);
    if (st != LLMO_OK) {
        fail_msg("key '%s', tensor '%s': %s", r.key ? r.key : "", r.tensor ? r.tensor : "", llmo_last_error());
    }
}

/* The sentence has to name what is wrong. */
static void assert_refused_as(recipe r, llmo_status want, const char *name) {
    llmo_status st = try_recipe(&r);
    const char *text = llmo_last_error();
    if (st != want || !strstr(text, name)) {
        fail_msg("key '%s' (form %d, %llu, %g), tensor '%s': %s: '%s' does not name '%s'", r.key ? r.key : "",
                 r.key_form, (unsigned long long)r.number, r.fraction, r.tensor ? r.tensor : "", llmo_status_name(st),
                 text, name);
    }
    n_refused++;
}

static void assert_refused(recipe r) {
    assert_refused_as(r, LLMO_E_FORMAT, r.key ? r.key : r.tensor);
}

static const char *const both[] = {"llama", "qwen2"};

/* --- tests ---------------------------------------------------------------------------------------------------------------------- */

static void valid_files_open(void **state) {
    (void)state;
    for (int a = 0; a < 2; a++) assert_opens((recipe){.arch = both[a]});
    assert_opens((recipe){.experts = true});
    /* variations that are allowed: 64-bit numbers, optional things left out, F16 vectors, Q8_0 matrices */
    for (const key *k = dense_keys; k->name; k++) {
        if (k->kind == NUMBER) assert_opens((recipe){.key = k->name, .key_form = AS_NUMBER, .number = k->number});
        if (k->kind == FRACTION) assert_opens((recipe){.key = k->name, .key_form = AS_DOUBLE, .fraction = k->fraction});
    }
    assert_opens((recipe){.key = "rope.freq_base", .key_form = LEFT_OUT});
    assert_opens((recipe){.key = "rope.dimension_count", .key_form = LEFT_OUT});
    assert_opens((recipe){.tensor = "output.weight", .no_tensor = true});
    assert_opens((recipe){.tensor = "blk.0.attn_q.bias", .no_tensor = true});
    assert_opens((recipe){.tensor = "blk.0.attn_norm.weight", .tensor_type = 1});
    assert_opens((recipe){.tensor = "blk.0.ffn_norm.weight", .tensor_type = 30});
    assert_opens((recipe){.tensor = "blk.0.attn_k.weight", .tensor_type = 8});
    assert_opens((recipe){.tensor = "token_embd.weight", .tensor_type = 8});
    assert_opens((recipe){.tensor = "rope_freqs.weight", .n_dims = 1, .dims = {HEAD_DIM / 2}});
}

static void faulty_keys_are_named(void **state) {
    (void)state;
    for (int a = 0; a < 2; a++) {
        for (const key *k = dense_keys; k->name; k++) {
            recipe r = {.arch = both[a], .key = k->name};
            if (k->required) {
                r.key_form = LEFT_OUT;
                assert_refused(r);
            }
            r.key_form = AS_TEXT;
            assert_refused(r);
            r.key_form = AS_BOOL;
            assert_refused(r);
            r.key_form = k->kind == NUMBER ? AS_FRACTION : AS_NUMBER;
            r.fraction = (double)k->number;
            r.number = 1;
            assert_refused(r);
            if (k->kind != NUMBER) continue;
            r.key_form = AS_NUMBER;
            static const uint64_t huge[] = {0, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX, (uint64_t)1 << 63};
            for (int i = 0; i < 5; i++) {
                r.number = huge[i];
                assert_refused(r);
            }
        }
    }
    assert_refused((recipe){.key = "block_count", .key_form = AS_ARRAY});
    /* more layers than the file can have */
    assert_refused((recipe){.key = "block_count", .key_form = AS_NUMBER, .number = 4096});
    assert_refused_as((recipe){.key = "block_count", .key_form = AS_NUMBER, .number = 2}, LLMO_E_FORMAT, "blk.1.");
}

static void fractions_out_of_range_are_named(void **state) {
    (void)state;
    static const double bad_eps[] = {NAN, INFINITY, -INFINITY, -1e-5, 1.5, 1e300},
                        bad_base[] = {NAN, INFINITY, -10000, 0, 0.5, 1e13, 1e300};
    for (int form = AS_FRACTION; form <= AS_DOUBLE; form++) {
        for (size_t i = 0; i < sizeof bad_eps / sizeof *bad_eps; i++) {
            assert_refused(
                (recipe){.key = "attention.layer_norm_rms_epsilon", .key_form = form, .fraction = bad_eps[i]});
        }
        for (size_t i = 0; i < sizeof bad_base / sizeof *bad_base; i++) {
            assert_refused((recipe){.key = "rope.freq_base", .key_form = form, .fraction = bad_base[i]});
        }
        static const char *const scaling[] = {"rope.scaling.factor", "rope.scale_linear", "rope.scaling.attn_factor",
                                              "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow"};
        static const double bad[] = {NAN, INFINITY, -1, 0, 1e30};
        for (int k = 0; k < 5; k++) {
            for (int i = 0; i < 5; i++)
                assert_refused((recipe){.key = scaling[k], .key_form = form, .fraction = bad[i]});
        }
        assert_refused((recipe){.key = "rope.scaling.yarn_log_multiplier", .key_form = form, .fraction = -1});
    }
}

static void shapes_that_contradict_each_other_are_named(void **state) {
    (void)state;
    /* heads that do not divide */
    assert_refused_as((recipe){.key = "attention.head_count", .key_form = AS_NUMBER, .number = 5}, LLMO_E_FORMAT,
                      "head_count");
    assert_refused_as((recipe){.key = "attention.head_count", .key_form = AS_NUMBER, .number = 64}, LLMO_E_FORMAT,
                      "head_count");
    assert_refused((recipe){.key = "attention.head_count_kv", .key_form = AS_NUMBER, .number = 3});
    assert_refused((recipe){.key = "attention.head_count_kv", .key_form = AS_NUMBER, .number = 8});
    for (uint64_t odd = 3; odd < HEAD_DIM; odd += 2) {
        assert_refused((recipe){.key = "rope.dimension_count", .key_form = AS_NUMBER, .number = odd});
    }
    assert_refused((recipe){.key = "rope.dimension_count", .key_form = AS_NUMBER, .number = 1});
    assert_refused((recipe){.key = "rope.dimension_count", .key_form = AS_NUMBER, .number = HEAD_DIM + 2});
    assert_refused((recipe){.key = "attention.key_length", .key_form = AS_NUMBER, .number = 1025});
    assert_refused_as((recipe){.key = "attention.value_length", .key_form = AS_NUMBER, .number = 16},
                      LLMO_E_UNSUPPORTED, "value_length");
    assert_refused_as((recipe){.key = "embedding_length", .key_form = AS_NUMBER, .number = 2 * EMBD}, LLMO_E_FORMAT,
                      "token_embd.weight");
    assert_refused_as((recipe){.key = "feed_forward_length", .key_form = AS_NUMBER, .number = FF + 1}, LLMO_E_FORMAT,
                      "ffn_gate.weight");
    /* the vocabulary has other tokens than the embedding rows */
    assert_refused_as((recipe){.more_tokens = 1}, LLMO_E_FORMAT, "token_embd.weight");
    assert_refused_as((recipe){.more_tokens = 64}, LLMO_E_FORMAT, "tokenizer.ggml.tokens");
    assert_refused_as((recipe){.tensor = "token_embd.weight", .n_dims = 2, .dims = {EMBD, 1}}, LLMO_E_FORMAT,
                      "token_embd.weight");
}

static void unknown_kinds_are_unsupported(void **state) {
    (void)state;
    assert_refused_as((recipe){.arch = "llamas"}, LLMO_E_UNSUPPORTED, "llamas");
    assert_refused_as((recipe){.arch = "LLAMA"}, LLMO_E_UNSUPPORTED, "LLAMA");
    assert_refused_as((recipe){.arch = ""}, LLMO_E_FORMAT, "general.architecture");
    static const char *const scaling[] = {"longrope2", "Yarn", "", "yarn ", "linea"};
    for (int i = 0; i < 5; i++) {
        assert_refused_as((recipe){.key = "rope.scaling.type", .key_form = AS_TEXT, .text = scaling[i]},
                          LLMO_E_UNSUPPORTED, "rope.scaling.type");
    }
    assert_refused((recipe){.key = "rope.scaling.type", .key_form = AS_NUMBER, .number = 1});
    assert_opens((recipe){.key = "rope.scaling.type", .key_form = AS_TEXT, .text = "yarn"});
    assert_opens((recipe){.key = "rope.scaling.type", .key_form = AS_TEXT, .text = "linear"});
    assert_opens((recipe){.key = "rope.scaling.type", .key_form = AS_TEXT, .text = "none"});
}

static void check_tensors(const tensor *t, const char *arch, bool experts) {
    for (; t->name; t++) {
        recipe r = {.arch = arch, .experts = experts, .tensor = t->name};
        if (t->required) {
            r.no_tensor = true;
            assert_refused(r);
            r.no_tensor = false;
        }
        /* each dimension larger by a block, or swapped, or one dimension more or fewer */
        for (uint32_t d = 0; d < t->n_dims; d++) {
            r.n_dims = t->n_dims;
            memcpy(r.dims, t->dims, sizeof r.dims);
            r.dims[d] += 32;
            assert_refused(r);
            r.dims[d] = 1;
            assert_refused(r);
        }
        r.n_dims = t->n_dims + 1;
        memcpy(r.dims, t->dims, sizeof r.dims);
        r.dims[t->n_dims] = 2;
        assert_refused(r);
        if (t->n_dims == 1) { /* vectors are never quantized */
            r.n_dims = 0;
            r.tensor_type = 8;
            if (t->dims[0] % 32 == 0) assert_refused(r);
        }
    }
}

static void faulty_tensors_are_named(void **state) {
    (void)state;
    for (int a = 0; a < 2; a++) {
        check_tensors(outer_tensors, both[a], false);
        check_tensors(dense_tensors, both[a], false);
    }
    check_tensors(expert_tensors, "llama", true);
    /* optional ones that are there must fit as well */
    assert_refused((recipe){.tensor = "blk.0.ffn_up.bias", .n_dims = 1, .dims = {FF + 1}});
    assert_refused((recipe){.tensor = "blk.0.attn_output.bias", .n_dims = 2, .dims = {EMBD, 2}});
    assert_refused((recipe){.tensor = "rope_freqs.weight", .n_dims = 1, .dims = {HEAD_DIM}});
    assert_refused((recipe){.tensor = "rope_freqs.weight", .n_dims = 1, .dims = {HEAD_DIM / 2 + 1}});
}

static void expert_counts_are_checked(void **state) {
    (void)state;
    static const uint64_t bad_used[] = {0, EXPERTS + 1, UINT32_MAX, UINT64_MAX};
    for (int i = 0; i < 4; i++) {
        assert_refused(
            (recipe){.experts = true, .key = "expert_used_count", .key_form = AS_NUMBER, .number = bad_used[i]});
    }
    assert_refused((recipe){.experts = true, .key = "expert_used_count", .key_form = LEFT_OUT});
    assert_refused((recipe){.experts = true, .key = "expert_used_count", .key_form = AS_TEXT});
    assert_refused((recipe){.experts = true, .key = "expert_count", .key_form = AS_NUMBER, .number = UINT32_MAX});
    assert_refused_as((recipe){.experts = true, .key = "expert_count", .key_form = AS_NUMBER, .number = EXPERTS - 1},
                      LLMO_E_FORMAT, "ffn_gate_inp");
    assert_opens((recipe){.experts = true, .key = "expert_used_count", .key_form = AS_NUMBER, .number = EXPERTS});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_files_open),
        cmocka_unit_test(faulty_keys_are_named),
        cmocka_unit_test(fractions_out_of_range_are_named),
        cmocka_unit_test(shapes_that_contradict_each_other_are_named),
        cmocka_unit_test(unknown_kinds_are_unsupported),
        cmocka_unit_test(faulty_tensors_are_named),
        cmocka_unit_test(expert_counts_are_checked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
