/* qwen2: Qwen 1.5, 2 and 2.5 dense. As llama, with biases on q, k, v and RoPE on halves. */
#include "model.h"

static llmo_status bind(llmo_model *m) {
    m->hp.qkv_biases = true;
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) {
        LLMOI_TRY(llmoi_arch_layer(m, i, LLMOI_FFN_NORM));
        m->layers[i].attn.rope = LLMOI_ROPE_HALVES;
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_qwen2 = {"qwen2", bind};
