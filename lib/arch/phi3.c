/* phi3: Phi-3 and Phi-3.5. As llama with fused q, k, v and fused gate and up, RoPE on halves of part of each head, and
 * frequency divisors for short and long contexts (LongRoPE). */
#include "model.h"

static llmo_status bind(llmo_model *m) {
    llmoi_rope_params *rope = &m->hp.ropes[0];
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    bool longrope = rope->scaling == LLMOI_SCALING_LONGROPE;
    LLMOI_TRY(llmoi_arch_vec(m, -1, "rope_factors_short.weight", m->hp.n_rot / 2, longrope, &rope->divisors));
    LLMOI_TRY(llmoi_arch_vec(m, -1, "rope_factors_long.weight", m->hp.n_rot / 2, longrope, &rope->long_divisors));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) {
        LLMOI_TRY(llmoi_arch_layer(m, i, LLMOI_FFN_NORM));
        m->layers[i].attn.rope = LLMOI_ROPE_HALVES;
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_phi3 = {"phi3", bind};
