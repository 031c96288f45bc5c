/* The older architectures with LayerNorm and a feed-forward part without gate: gpt2 (learned positions, fused q, k, v),
 * starcoder2 (RoPE, biases everywhere), falcon (attention and feed-forward part in parallel, one or two norms). */
#include "model.h"

static llmo_status bind_outer(llmo_model *m) {
    m->hp.layer_norm = true;
    m->hp.ungated = true;
    LLMOI_TRY(llmoi_arch_common(m));
    return llmoi_arch_outer(m);
}

static llmo_status bind_layer(llmo_model *m, uint32_t layer, const char *ffn_norm, llmoi_rope_kind rope) {
    LLMOI_TRY(llmoi_arch_layer(m, layer, ffn_norm));
    m->layers[layer].attn.rope = rope;
    m->layers[layer].activation = LLMOI_ACTIVATION_GELU;
    return LLMO_OK;
}

static llmo_status bind_gpt2(llmo_model *m) {
    m->hp.all_biases = true;
    LLMOI_TRY(bind_outer(m));
    LLMOI_TRY(llmoi_arch_mat(m, -1, "position_embd", m->hp.n_ctx_train, m->hp.n_embd, 1, LLMOI_ROLE_EMBED, true,
                             &m->positions));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) LLMOI_TRY(bind_layer(m, i, LLMOI_FFN_NORM, LLMOI_ROPE_NONE));
    return LLMO_OK;
}

static llmo_status bind_starcoder2(llmo_model *m) {
    m->hp.all_biases = true;
    LLMOI_TRY(bind_outer(m));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) LLMOI_TRY(bind_layer(m, i, LLMOI_FFN_NORM, LLMOI_ROPE_HALVES));
    return LLMO_OK;
}

static llmo_status bind_falcon(llmo_model *m) {
    m->hp.parallel = true;
    LLMOI_TRY(bind_outer(m));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(bind_layer(m, i, NULL, LLMOI_ROPE_HALVES));
        l->ffn_norm = l->attn_norm;
        l->ffn_norm_bias = l->attn_norm_bias;
        llmoi_vec_id second; /* the larger ones have a norm of its own for the attention */
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_norm_2.weight", m->hp.n_embd, false, &second));
        if (second == LLMOI_NONE) continue;
        l->attn_norm = second;
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_norm_2.bias", m->hp.n_embd, true, &l->attn_norm_bias));
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_gpt2 = {"gpt2", bind_gpt2};
const llmoi_arch llmoi_arch_starcoder2 = {"starcoder2", bind_starcoder2};
const llmoi_arch llmoi_arch_falcon = {"falcon", bind_falcon};
