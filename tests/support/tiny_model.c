#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>

#include "gguf_build.h"

typedef struct maker {
    tiny_shape shape;
    gguf_builder *parts;
    uint32_t n_parts;
    uint32_t n_tensors;
    uint64_t random_state;
} maker;

/* Near enough to a normal distribution: the sum of 12 uniform numbers. */
static float gaussian(maker *m) {
    double sum = 0;
    for (int i = 0; i < 12; i++) {
        m->random_state = m->random_state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(m->random_state >> 40) / (double)(1 << 24);
    }
    return (float)(sum - 6);
}

/* Tensors are dealt to the parts in turn. */
static void put(maker *m, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims, const void *bytes,
                size_t n_bytes) {
    gb_tensor(&m->parts[m->n_tensors++ % m->n_parts], name, type, n_dims, dims, bytes, n_bytes);
}

static void matrices(maker *m, const char *name, uint64_t k, uint64_t rows, uint64_t experts, float std) {
    const tiny_type *t = &m->shape.type;
    uint64_t dims[3] = {k, rows, experts}, n = k * rows * (experts ? experts : 1);
    float *x = malloc(n * sizeof *x);
    for (uint64_t i = 0; i < n; i++) x[i] = std * gaussian(m);
    if (t->encode) {
        size_t bytes = n / t->block_elems * t->block_bytes;
        void *q = malloc(bytes);
        t->encode(x, q, n);
        put(m, name, t->type, experts ? 3 : 2, dims, q, bytes);
        free(q);
    } else {
        put(m, name, 0, experts ? 3 : 2, dims, x, n * sizeof *x);
    }
    free(x);
}

static void matrix(maker *m, const char *name, uint64_t k, uint64_t rows, float std) {
    matrices(m, name, k, rows, 0, std);
}

static void vector(maker *m, const char *name, uint64_t n) {
    float *x = malloc(n * sizeof *x);
    for (uint64_t i = 0; i < n; i++) x[i] = 1.0f + 0.2f * gaussian(m);
    put(m, name, 0, 1, &n, x, n * sizeof *x);
    free(x);
}

static void vocabulary(gguf_builder *b) {
    static const char *const control[4] = {"<unk>", "<s>", "</s>", "<|eot|>"};
    const char *text[TINY_VOCAB];
    char made[TINY_VOCAB][8];
    int32_t type[TINY_VOCAB];
    float score[TINY_VOCAB];
    for (uint32_t i = 0; i < TINY_VOCAB; i++) {
        score[i] = i < TINY_SPACE ? 0.0f : -(float)i;
        type[i] = i == TINY_UNK ? 2 : i < 4 ? 3 : i < TINY_SPACE ? 6 : 1;
        text[i] = i < 4 ? control[i] : made[i];
        if (i < TINY_SPACE)
            snprintf(made[i], sizeof made[i], "<0x%02X>", (i - 4) & 0xffu);
        else if (i == TINY_SPACE || i == TINY_SPACE_AND_A)
            snprintf(made[i], sizeof made[i], "\xe2\x96\x81%s", i == TINY_SPACE ? "" : "a");
        else
            snprintf(made[i], sizeof made[i], "%c", 'a' + (int)(i - TINY_SPACE - 1));
    }
    gb_str(b, "tokenizer.ggml.model", "llama");
    gb_arr_str(b, "tokenizer.ggml.tokens", text, TINY_VOCAB);
    gb_arr_f32(b, "tokenizer.ggml.scores", score, TINY_VOCAB);
    gb_arr_i32(b, "tokenizer.ggml.token_type", type, TINY_VOCAB);
    gb_u32(b, "tokenizer.ggml.bos_token_id", TINY_BOS);
    gb_u32(b, "tokenizer.ggml.eos_token_id", TINY_EOS);
}

static void header(const tiny_shape *s, gguf_builder *b) {
    gb_str(b, "general.architecture", "llama");
    gb_str(b, "general.name", "tiny random llama");
    gb_u32(b, "llama.block_count", s->n_layers);
    gb_u32(b, "llama.context_length", s->n_ctx);
    gb_u32(b, "llama.embedding_length", s->n_embd);
    gb_u32(b, "llama.feed_forward_length", s->n_ff);
    gb_u32(b, "llama.attention.head_count", 4);
    gb_u32(b, "llama.attention.head_count_kv", 2);
    gb_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    if (s->n_experts) {
        gb_u32(b, "llama.expert_count", s->n_experts);
        gb_u32(b, "llama.expert_used_count", 2);
    }
    vocabulary(b);
}

static void layer(maker *m, uint32_t l) {
    uint64_t d = m->shape.n_embd, ff = m->shape.n_ff, e = m->shape.n_experts;
    char name[64];
#define NAME(s) (snprintf(name, sizeof name, "blk.%u." s, l), name)
    vector(m, NAME("attn_norm.weight"), d);
    matrix(m, NAME("attn_q.weight"), d, d, 0.175f);
    matrix(m, NAME("attn_k.weight"), d, d / 2, 0.175f);
    matrix(m, NAME("attn_v.weight"), d, d / 2, 0.15f);
    matrix(m, NAME("attn_output.weight"), d, d, 0.175f);
    vector(m, NAME("ffn_norm.weight"), d);
    if (e) {
        matrix(m, NAME("ffn_gate_inp.weight"), d, e, 0.175f);
        matrices(m, NAME("ffn_gate_exps.weight"), d, ff, e, 0.175f);
        matrices(m, NAME("ffn_up_exps.weight"), d, ff, e, 0.175f);
        matrices(m, NAME("ffn_down_exps.weight"), ff, d, e, 0.14f);
        return;
    }
    matrix(m, NAME("ffn_gate.weight"), d, ff, 0.175f);
    matrix(m, NAME("ffn_up.weight"), d, ff, 0.175f);
    matrix(m, NAME("ffn_down.weight"), ff, d, 0.14f);
#undef NAME
}

void tiny_model_parts(const tiny_shape *shape, uint32_t n_parts, unsigned char **files, size_t *sizes) {
    maker m = {.n_parts = n_parts, .random_state = 42};
    if (shape) m.shape = *shape;
    tiny_shape *s = &m.shape;
    if (!s->n_layers) s->n_layers = TINY_LAYERS;
    if (!s->n_embd) s->n_embd = TINY_EMBD;
    if (!s->n_ff) s->n_ff = 96;
    if (!s->n_ctx) s->n_ctx = TINY_CTX;
    m.parts = malloc(n_parts * sizeof *m.parts);
    for (uint32_t i = 0; i < n_parts; i++) gb_init(&m.parts[i]);
    header(s, &m.parts[0]);
    matrix(&m, "token_embd.weight", s->n_embd, TINY_VOCAB, 0.7f);
    if (!s->tied) matrix(&m, "output.weight", s->n_embd, TINY_VOCAB, 0.375f);
    vector(&m, "output_norm.weight", s->n_embd);
    for (uint32_t l = 0; l < s->n_layers; l++) layer(&m, l);
    for (uint32_t i = 0; i < n_parts; i++) {
        gguf_builder *b = &m.parts[i];
        if (n_parts > 1) {
            gb_u32(b, "split.no", i);
            gb_u32(b, "split.count", n_parts);
            gb_u32(b, "split.tensors.count", m.n_tensors);
        }
        files[i] = gb_finish(b, &sizes[i]);
        gb_free(b);
    }
    free(m.parts);
}

unsigned char *tiny_model(const tiny_shape *shape, size_t *size_bytes) {
    unsigned char *file;
    tiny_model_parts(shape, 1, &file, size_bytes);
    return file;
}
