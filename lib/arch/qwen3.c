/* qwen3 and qwen3moe: as llama, with an RMS norm on each head of q and k, and RoPE on halves; qwen3moe with experts of
 * their own width. */
#include "model.h"

static llmo_status bind(llmo_model *m) {
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(llmoi_arch_layer(m, i, LLMOI_FFN_NORM));
        l->attn.rope = LLMOI_ROPE_HALVES;
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_q_norm.weight", m->hp.head_dim, true, &l->q_norm));
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_k_norm.weight", m->hp.head_dim, true, &l->k_norm));
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_qwen3 = {"qwen3", bind};
const llmoi_arch llmoi_arch_qwen3moe = {"qwen3moe", bind};
