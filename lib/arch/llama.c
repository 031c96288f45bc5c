/* llama: Llama 1-3, Mistral, Mixtral (experts), and the many models exported in that form. RMS norms, interleaved RoPE,
 * grouped queries, SiLU-gated feed-forward; biases where the file has them. mistral3 (Ministral 3): the same with an
 * attention temperature that grows with the position. Keys and tensors only, no arithmetic. */
#include "model.h"

static llmo_status bind(llmo_model *m) {
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    /* Llama 3.1 and later: per-pair divisors of the RoPE frequencies */
    LLMOI_TRY(llmoi_arch_vec(m, -1, "rope_freqs.weight", m->hp.n_rot / 2, false, &m->hp.ropes[0].divisors));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) LLMOI_TRY(llmoi_arch_layer(m, i, LLMOI_FFN_NORM));
    return LLMO_OK;
}

static llmo_status bind_mistral3(llmo_model *m) {
    LLMOI_TRY(bind(m));
    LLMOI_TRY(llmoi_arch_f32(m, "attention.temperature_scale", false, 0.0f, 1e3f, &m->hp.temperature_scale));
    m->hp.temperature_step = m->hp.ropes[0].n_ctx_orig;
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_mistral3 = {"mistral3", bind_mistral3};
const llmoi_arch llmoi_arch_llama = {"llama", bind};
