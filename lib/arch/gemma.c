/* gemma, gemma2, gemma3: embeddings scaled by sqrt(width), GELU gates, RoPE on halves, head tied to the embedding. gemma2
 * adds a norm after each part, soft caps on scores and logits, and a sliding window on every other layer. gemma3 has norms
 * of heads instead of caps, and a window with a RoPE of its own on five of six layers. (The +1 of the norm weights is in
 * the file's numbers already.) */
#include "model.h"

#define GEMMA2_27B_LAYERS 46u
#define GEMMA3_27B_LAYERS 62u

static llmo_status bind_common(llmo_model *m) {
    llmoi_hparams *hp = &m->hp;
    hp->embed_scale = sqrtf((float)hp->n_embd);
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(llmoi_arch_layer(m, i, LLMOI_FFN_NORM));
        l->attn.rope = LLMOI_ROPE_HALVES;
        l->activation = LLMOI_ACTIVATION_GELU;
    }
    return LLMO_OK;
}

static llmo_status bind_post_norms(llmo_model *m, uint32_t layer) {
    llmoi_layer *l = &m->layers[layer];
    LLMOI_TRY(llmoi_arch_vec(m, (int32_t)layer, "post_attention_norm.weight", m->hp.n_embd, true, &l->attn_post));
    return llmoi_arch_vec(m, (int32_t)layer, "post_ffw_norm.weight", m->hp.n_embd, true, &l->ffn_post);
}

/* The 27B models divide scores by the root of n_embd / n_heads; no key says so, their number of layers does. */
static void scale_by_width(llmo_model *m, uint32_t layer) {
    m->layers[layer].attn.scale = 1.0f / sqrtf((float)m->hp.n_embd / (float)m->hp.n_heads);
}

static llmo_status bind_gemma(llmo_model *m) {
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    return bind_common(m);
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
    LLMOI_TRY(bind_common(m));
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        LLMOI_TRY(bind_post_norms(m, i));
        m->layers[i].attn.soft_cap = attn_cap;
        m->layers[i].attn.window = i % 2 == 0 ? window : 0;
        if (hp->n_layers == GEMMA2_27B_LAYERS) scale_by_width(m, i);
    }
    return LLMO_OK;
}

static llmo_status bind_gemma3(llmo_model *m) {
    llmoi_hparams *hp = &m->hp;
    uint32_t window = 1024;
    LLMOI_TRY(llmoi_arch_common(m));
    LLMOI_TRY(llmoi_arch_outer(m));
    LLMOI_TRY(llmoi_arch_u32(m, "attention.sliding_window", false, 1, 1u << 30, &window));
    /* the local layers' RoPE: not scaled, a base of its own */
    hp->ropes[1] = (llmoi_rope_params){
        .base = 10000.0f, .factor = 1.0f, .attn_factor = 1.0f, .divisors = LLMOI_NONE, .long_divisors = LLMOI_NONE};
    LLMOI_TRY(llmoi_arch_f32(m, "rope.freq_base_swa", false, 1.0f, 1e12f, &hp->ropes[1].base));
    hp->n_ropes = 2;
    LLMOI_TRY(bind_common(m));
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        llmoi_layer *l = &m->layers[i];
        LLMOI_TRY(bind_post_norms(m, i));
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_q_norm.weight", hp->head_dim, true, &l->q_norm));
        LLMOI_TRY(llmoi_arch_vec(m, (int32_t)i, "attn_k_norm.weight", hp->head_dim, true, &l->k_norm));
        bool local = i % 6 != 5;
        l->attn.window = local ? window : 0;
        l->rope = local ? 1 : 0;
        if (hp->n_layers == GEMMA3_27B_LAYERS) scale_by_width(m, i);
    }
    return LLMO_OK;
}

const llmoi_arch llmoi_arch_gemma = {"gemma", bind_gemma};
const llmoi_arch llmoi_arch_gemma2 = {"gemma2", bind_gemma2};
const llmoi_arch llmoi_arch_gemma3 = {"gemma3", bind_gemma3};
