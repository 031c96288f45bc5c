#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>

#include "gguf_build.h"

/* A tensor of small pseudo-random values, the same in every run; ones for a norm (one dimension). */
static void add(gguf_builder *b, const char *name, uint64_t k, uint64_t rows, unsigned *seed) {
    uint64_t dims[2] = {k, rows};
    size_t n = (size_t)(k * (rows ? rows : 1));
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        values[i] = rows ? (float)(*seed >> 8) / 16777216.0f * 0.4f - 0.2f : 1.0f;
    }
    gb_tensor(b, name, 0 /* F32 */, rows ? 2 : 1, dims, values, n * sizeof *values);
    free(values);
}

unsigned char *tiny_model(size_t *size_bytes) {
    enum {
        vocab = TINY_MODEL_VOCAB,
        embd = TINY_MODEL_EMBD,
        ff = 64,
        heads = 4,
        kv_heads = 2,
        head_dim = embd / heads
    };
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "general.architecture", "llama");
    gb_str(&b, "general.name", "tiny");
    gb_u32(&b, "llama.block_count", 1);
    gb_u32(&b, "llama.context_length", TINY_MODEL_CTX);
    gb_u32(&b, "llama.embedding_length", embd);
    gb_u32(&b, "llama.feed_forward_length", ff);
    gb_u32(&b, "llama.attention.head_count", heads);
    gb_u32(&b, "llama.attention.head_count_kv", kv_heads);
    gb_f32(&b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gb_u32(&b, "llama.rope.dimension_count", head_dim);
    gb_u32(&b, "llama.vocab_size", vocab);

    static char text[vocab][8];
    const char *tokens[vocab];
    float scores[vocab];
    int32_t types[vocab];
    for (int i = 0; i < vocab; i++) {
        snprintf(text[i], sizeof text[i], "<0x%02X>", (unsigned)(i - 3) & 0xffu);
        tokens[i] = text[i];
        scores[i] = 0.0f;
        types[i] = 6; /* byte */
    }
    tokens[0] = "<unk>", types[0] = 2;
    tokens[1] = "<s>", types[1] = 3;
    tokens[2] = "</s>", types[2] = 3;
    gb_str(&b, "tokenizer.ggml.model", "llama");
    gb_arr_str(&b, "tokenizer.ggml.tokens", tokens, vocab);
    gb_arr_f32(&b, "tokenizer.ggml.scores", scores, vocab);
    gb_arr_i32(&b, "tokenizer.ggml.token_type", types, vocab);
    gb_u32(&b, "tokenizer.ggml.bos_token_id", 1);
    gb_u32(&b, "tokenizer.ggml.eos_token_id", 2);
    gb_u32(&b, "tokenizer.ggml.unknown_token_id", 0);

    unsigned seed = 1;
    add(&b, "token_embd.weight", embd, vocab, &seed);
    add(&b, "blk.0.attn_norm.weight", embd, 0, &seed);
    add(&b, "blk.0.attn_q.weight", embd, embd, &seed);
    add(&b, "blk.0.attn_k.weight", embd, head_dim * kv_heads, &seed);
    add(&b, "blk.0.attn_v.weight", embd, head_dim * kv_heads, &seed);
    add(&b, "blk.0.attn_output.weight", embd, embd, &seed);
    add(&b, "blk.0.ffn_norm.weight", embd, 0, &seed);
    add(&b, "blk.0.ffn_gate.weight", embd, ff, &seed);
    add(&b, "blk.0.ffn_up.weight", embd, ff, &seed);
    add(&b, "blk.0.ffn_down.weight", ff, embd, &seed);
    add(&b, "output_norm.weight", embd, 0, &seed);
    unsigned char *file = gb_finish(&b, size_bytes);
    gb_free(&b);
    return file;
}
