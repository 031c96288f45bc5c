/* gpt-oss: mixture of experts with biases everywhere, attention sinks, a sliding window on every other layer, YaRN, and
 * a clamped SwiGLU. */
#include "model.h"

static llmo_status bind(llmo_model *m) {
    uint32_t window = 128;
    m->hp.all_biases = true;
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    LLMOI_TRY(llmoi_arch_u32(m, "attention.sliding_window", false, 1, 1u << 30, &window));
    if (!m->hp.n_experts) return llmoi_fail(LLMO_E_FORMAT, "key 'gpt-oss.expert_count' is missing or 0");
    for (uint32_t i = 0; i < m->hp.n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(llmoi_arch_layer(m, i, "post_attention_norm"));
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_sinks.weight", m->hp.n_heads, true, &l->sinks));
        l->attn.rope = LLMOI_ROPE_HALVES;
        l->attn.window = i % 2 == 0 ? window : 0;
        l->activation = LLMOI_ACTIVATION_SWIGLU_OAI;
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_gpt_oss = {"gpt-oss", bind};
