/* gemma and gemma2: embeddings scaled by sqrt(width), GELU gates, RoPE on halves, head tied to the embedding. gemma2 adds a
 * norm after each part, soft caps on scores and logits, and a sliding window on every other layer. (The +1 of the norm
 * weights is in the file's numbers already.) */
#include "model.h"

#define GEMMA2_27B_LAYERS 46u

static llmo_status bind_common(llmo_model *m, uint32_t window, float attn_cap) {
    llmoi_hparams *hp = &m->hp;
    hp->embed_scale = sqrtf((float)hp->n_embd);
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(llmoi_arch_layer(m, i));
        l->attn.rope = LLMOI_ROPE_HALVES;
        l->attn.soft_cap = attn_cap;
        l->attn.window = i % 2 == 0 ? window : 0;
        l->activation = LLMOI_ACTIVATION_GELU;
    }
    return LLMO_OK;
}

static llmo_status bind_gemma(llmo_model *m) {
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    return bind_common(m, 0, 0.0f);
}

static llmo_status bind_gemma2(llmo_model *m) {
    llmoi_hparams *hp = &m->hp;
    float attn_cap = 50.0f;
    uint32_t window = 4096;
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    LLMOI_TRY(llmoi_arch_f32(m, "attn_logit_softcapping", false, 1e-3f, 1e6f, &attn_cap));
    hp->final_soft_cap = 30.0f;
    LLMOI_TRY(llmoi_arch_f32(m, "final_logit_softcapping", false, 1e-3f, 1e6f, &hp->final_soft_cap));
    LLMOI_TRY(llmoi_arch_u32(m, "attention.sliding_window", false, 1, 1u << 30, &window));
    LLMOI_TRY(bind_common(m, window, attn_cap));
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "post_attention_norm.weight", hp->n_embd, true, &l->attn_post));
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "post_ffw_norm.weight", hp->n_embd, true, &l->ffn_post));
        /* the 27B model divides scores by the root of n_embd / n_heads; no key says so, its number of layers does */
        if (hp->n_layers == GEMMA2_27B_LAYERS) l->attn.scale = 1.0f / sqrtf((float)hp->n_embd / (float)hp->n_heads);
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_gemma = {"gemma", bind_gemma};
const llmoi_arch llmoi_arch_gemma2 = {"gemma2", bind_gemma2};
