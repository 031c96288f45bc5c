#include "engine_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_build.h"
#include "quant.h"

static void finish_open(engine *e, engine_options o) {
    llmo_model_info info = {.struct_size = sizeof info};
    assert_ok(llmo_model_get_info(e->model, &info));
    e->n_vocab = info.n_vocab;
    llmo_plan_params p;
    llmo_plan_params_init(&p);
    p.n_ctx = o.n_ctx ? o.n_ctx : 256;
    p.n_sequences = o.n_sequences ? o.n_sequences : 1;
    p.n_batch = o.n_batch ? o.n_batch : 512;
    p.n_kv_tokens = o.n_kv_tokens;
    p.kv_type_k = p.kv_type_v = o.kv_type;
    p.numerics = o.numerics;
    assert_ok(llmo_plan_create(e->model, &p, &e->plan));
    assert_ok(llmo_context_create(e->model, e->plan, NULL, &e->ctx));
    assert_ok(llmo_sequence_create(e->ctx, &e->seq));
}

static void open_runtime(engine *e, engine_options o) {
    memset(e, 0, sizeof *e);
    llmo_runtime_params p;
    llmo_runtime_params_init(&p);
    p.n_threads = o.n_threads ? o.n_threads : 2;
    assert_ok(llmo_runtime_create(&p, &e->rt));
}

engine engine_open(const char *path, engine_options o) {
    engine e;
    open_runtime(&e, o);
    assert_ok(llmo_model_open(e.rt, path, NULL, &e.model));
    finish_open(&e, o);
    return e;
}

engine engine_open_memory(const void *data, size_t size, engine_options o) {
    engine e;
    open_runtime(&e, o);
    assert_ok(llmo_model_open_memory(e.rt, data, size, NULL, &e.model));
    finish_open(&e, o);
    return e;
}

void engine_close(engine *e) {
    llmo_context_destroy(e->ctx);
    llmo_plan_destroy(e->plan);
    llmo_model_destroy(e->model);
    llmo_runtime_destroy(e->rt);
    memset(e, 0, sizeof *e);
}

/* --- a small model ---------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static float gaussian(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        random_state = random_state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(random_state >> 40) / (double)(1 << 24);
    }
    return (float)(sum - 6);
}

static void matrix(gguf_builder *b, const char *name, uint32_t type, uint64_t k, uint64_t rows, float std) {
    const llmoi_type_info *t = llmoi_type_find(type);
    float *x = malloc(k * rows * sizeof *x);
    for (uint64_t i = 0; i < k * rows; i++) x[i] = std * gaussian();
    size_t bytes = llmoi_row_bytes(t, k) * rows;
    void *q = malloc(bytes);
    t->encode(x, q, k * rows);
    uint64_t dims[2] = {k, rows};
    gb_tensor(b, name, type, 2, dims, q, bytes);
    free(q);
    free(x);
}

static void vector(gguf_builder *b, const char *name, uint64_t n) {
    float *x = malloc(n * sizeof *x);
    for (uint64_t i = 0; i < n; i++) x[i] = 1.0f + 0.2f * gaussian();
    gb_tensor(b, name, 0, 1, &n, x, n * sizeof *x);
    free(x);
}

static void vocabulary(gguf_builder *b) {
    const char *text[TINY_VOCAB];
    static char bytes[256][8], pieces[TINY_VOCAB][8];
    int32_t type[TINY_VOCAB];
    float score[TINY_VOCAB];
    const char *control[4] = {"<unk>", "<s>", "</s>", "<|eot|>"};
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        score[i] = i < 260 ? 0.0f : -(float)i;
        type[i] = i == 0 ? 2 : i < 4 ? 3 : i < 260 ? 6 : 1;
        if (i < 4) {
            text[i] = control[i];
        } else if (i < 260) {
            snprintf(bytes[i - 4], sizeof bytes[0], "<0x%02X>", i - 4);
            text[i] = bytes[i - 4];
        } else {
            if (i == 260)
                snprintf(pieces[i], sizeof pieces[0], "\xe2\x96\x81");
            else if (i < 287)
                snprintf(pieces[i], sizeof pieces[0], "%c", 'a' + (int)(i - 261));
            else
                snprintf(pieces[i], sizeof pieces[0],
                         "\xe2\x96\x81"
                         "a");
            text[i] = pieces[i];
        }
    }
    gb_str(b, "tokenizer.ggml.model", "llama");
    gb_arr_str(b, "tokenizer.ggml.tokens", text, TINY_VOCAB);
    gb_arr_f32(b, "tokenizer.ggml.scores", score, TINY_VOCAB);
    gb_arr_i32(b, "tokenizer.ggml.token_type", type, TINY_VOCAB);
    gb_u32(b, "tokenizer.ggml.bos_token_id", 1);
    gb_u32(b, "tokenizer.ggml.eos_token_id", 2);
}

unsigned char *tiny_llama(uint32_t type, size_t *size) {
    enum { D = 64, HEADS = 4, KV = 2, FF = 96 };
    gguf_builder b;
    gb_init(&b);
    random_state = 42;
    gb_str(&b, "general.architecture", "llama");
    gb_str(&b, "general.name", "tiny random llama");
    gb_u32(&b, "llama.block_count", TINY_LAYERS);
    gb_u32(&b, "llama.context_length", 512);
    gb_u32(&b, "llama.embedding_length", D);
    gb_u32(&b, "llama.feed_forward_length", FF);
    gb_u32(&b, "llama.attention.head_count", HEADS);
    gb_u32(&b, "llama.attention.head_count_kv", KV);
    gb_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    vocabulary(&b);
    matrix(&b, "token_embd.weight", type, D, TINY_VOCAB, 0.7f);
    matrix(&b, "output.weight", type, D, TINY_VOCAB, 0.375f);
    vector(&b, "output_norm.weight", D);
    for (uint32_t l = 0; l < TINY_LAYERS; l++) {
        char name[64];
#define NAME(s) (snprintf(name, sizeof name, "blk.%u." s, l), name)
        vector(&b, NAME("attn_norm.weight"), D);
        matrix(&b, NAME("attn_q.weight"), type, D, D, 0.175f);
        matrix(&b, NAME("attn_k.weight"), type, D, D / HEADS * KV, 0.175f);
        matrix(&b, NAME("attn_v.weight"), type, D, D / HEADS * KV, 0.15f);
        matrix(&b, NAME("attn_output.weight"), type, D, D, 0.175f);
        vector(&b, NAME("ffn_norm.weight"), D);
        matrix(&b, NAME("ffn_gate.weight"), type, D, FF, 0.175f);
        matrix(&b, NAME("ffn_up.weight"), type, D, FF, 0.175f);
        matrix(&b, NAME("ffn_down.weight"), type, FF, D, 0.14f);
#undef NAME
    }
    unsigned char *file = gb_finish(&b, size);
    gb_free(&b);
    return file;
}
