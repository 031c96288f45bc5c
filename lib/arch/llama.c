/* llama: Llama 1-3, Mistral, Mixtral (experts), and the many models exported in that form. RMS norms, interleaved RoPE,
 * grouped queries, SiLU-gated feed-forward; biases where the file has them. Keys and tensors only, no arithmetic. */
#include "model.h"

static llmo_status bind(llmo_model *m) {
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    /* Llama 3.1 and later: per-pair divisors of the RoPE frequencies */
    LLMOI_TRY(llmoi_arch_vec(m, -1, "rope_freqs.weight", m->hp.n_rot / 2, false, &m->hp.rope.divisors));
    for (uint32_t i = 0; i < m->hp.n_layers; i++) LLMOI_TRY(llmoi_arch_layer(m, i));
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_llama = {"llama", bind};
