/* Opening models: header, tokenizer, architecture; binding tensors by meaning with their shapes checked. */
#include "model.h"

#include <stdio.h>

static const llmoi_arch *const archs[] = {
#define LLMOI_ARCH(id, name) &llmoi_arch_##id,
#include "arch_list.def"
#undef LLMOI_ARCH
};

/* --- binding helpers -------------------------------------------------------------------------------------------- */

static void arch_key(const llmo_model *m, const char *key, char *out, size_t cap) {
    (void)snprintf(out, cap, "%s.%s", m->arch, key);
}

llmo_status llmoi_arch_u32(const llmo_model *m, const char *key, bool required, uint32_t min, uint32_t max,
                           uint32_t *out) {
    char full[192];
    arch_key(m, key, full, sizeof full);
    return llmoi_gguf_u32(m->gguf, full, required, min, max, out);
}

llmo_status llmoi_arch_f32(const llmo_model *m, const char *key, bool required, float min, float max, float *out) {
    char full[192];
    arch_key(m, key, full, sizeof full);
    return llmoi_gguf_f32(m->gguf, full, required, min, max, out);
}

static const char *tensor_name(int32_t layer, const char *name, char *out, size_t cap) {
    if (layer >= 0)
        (void)snprintf(out, cap, "blk.%d.%s", layer, name);
    else
        (void)snprintf(out, cap, "%s", name);
    return out;
}

static bool has_tensor(const llmo_model *m, int32_t layer, const char *name) {
    char full[160];
    return llmoi_gguf_find(m->gguf, tensor_name(layer, name, full, sizeof full)) != NULL;
}

/* Finds a tensor and checks its shape; *out NULL if it is missing and not required. */
static llmo_status find_tensor(const llmo_model *m, int32_t layer, const char *name, const char *suffix,
                               const uint64_t *dims, uint32_t n_dims, bool required, const llmoi_gguf_tensor **out) {
    char full[160], with_suffix[128];
    (void)snprintf(with_suffix, sizeof with_suffix, "%s%s", name, suffix);
    (void)tensor_name(layer, with_suffix, full, sizeof full);
    const llmoi_gguf_tensor *t = llmoi_gguf_find(m->gguf, full);
    *out = t;
    if (!t) {
        return required ? llmoi_fail(LLMO_E_FORMAT, "tensor '%s' is missing", full) : LLMO_OK;
    }
    bool same = true;
    for (uint32_t i = 0; i < LLMOI_GGUF_MAX_DIMS; i++) same = same && t->dims[i] == (i < n_dims ? dims[i] : 1);
    if (!same) {
        return llmoi_fail(
            LLMO_E_FORMAT, "tensor '%s' has shape [%llu, %llu, %llu, %llu], the header asks for [%llu, %llu, %llu]",
            full, (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], (unsigned long long)t->dims[2],
            (unsigned long long)t->dims[3], (unsigned long long)dims[0], (unsigned long long)(n_dims > 1 ? dims[1] : 1),
            (unsigned long long)(n_dims > 2 ? dims[2] : 1));
    }
    return LLMO_OK;
}

static llmo_status add_mat(llmo_model *m, const llmoi_gguf_tensor *t, int32_t layer, uint64_t rows, uint64_t k,
                           uint32_t n_experts, llmoi_role role, llmoi_mat_id *id) {
    llmoi_mat *mat = &m->mats[m->n_mats];
    mat->tensor = t;
    mat->n_bytes = t->n_bytes;
    mat->layer = layer;
    mat->site =
        (llmoi_site){.type = llmoi_type_find(t->type), .rows = rows, .k = k, .n_experts = n_experts, .role = role};
    *id = (llmoi_mat_id)m->n_mats++;
    return LLMO_OK;
}

llmo_status llmoi_arch_mat(llmo_model *m, int32_t layer, const char *name, uint64_t rows, uint64_t k,
                           uint32_t n_experts, llmoi_role role, bool required, llmoi_mat_id *id) {
    const llmoi_gguf_tensor *t;
    uint64_t dims[3] = {k, rows, n_experts};
    *id = LLMOI_NONE;
    LLMOI_TRY(find_tensor(m, layer, name, ".weight", dims, n_experts > 1 ? 3 : 2, required, &t));
    return t ? add_mat(m, t, layer, rows, k, n_experts, role, id) : LLMO_OK;
}

llmo_status llmoi_arch_slices(llmo_model *m, uint32_t layer, const char *name, const uint64_t *rows, uint32_t n,
                              uint64_t k, llmoi_role role, llmoi_mat_id *const *ids) {
    uint64_t dims[2] = {k, 0}, first = 0;
    const llmoi_gguf_tensor *t;
    for (uint32_t i = 0; i < n; i++) dims[1] += rows[i];
    LLMOI_TRY(find_tensor(m, (int32_t)layer, name, ".weight", dims, 2, true, &t));
    uint64_t row_bytes = llmoi_row_bytes(llmoi_type_find(t->type), k);
    for (uint32_t i = 0; i < n; i++) {
        LLMOI_TRY(add_mat(m, t, (int32_t)layer, rows[i], k, 1, role, ids[i]));
        m->mats[*ids[i]].offset = first * row_bytes;
        m->mats[*ids[i]].n_bytes = rows[i] * row_bytes;
        first += rows[i];
    }
    return LLMO_OK;
}

static llmoi_vec_id add_vec(llmo_model *m, const llmoi_gguf_tensor *t, int32_t layer, uint64_t n, uint64_t first) {
    m->vecs[m->n_vecs] = (llmoi_vec){llmoi_type_find(t->type), t, n, first, layer};
    return (llmoi_vec_id)m->n_vecs++;
}

/* A float tensor of any shape as one vector. */
static llmo_status bind_vec(llmo_model *m, int32_t layer, const char *name, const uint64_t *dims, uint32_t n_dims,
                            bool required, llmoi_vec_id *id) {
    const llmoi_gguf_tensor *t;
    *id = LLMOI_NONE;
    LLMOI_TRY(find_tensor(m, layer, name, "", dims, n_dims, required, &t));
    if (!t) return LLMO_OK;
    if (llmoi_type_find(t->type)->group) {
        return llmoi_fail(LLMO_E_FORMAT, "tensor '%s' has type %s, a vector must be F32, F16 or BF16", t->name,
                          llmoi_type_find(t->type)->name);
    }
    *id = add_vec(m, t, layer, t->n_elems, 0);
    return LLMO_OK;
}

llmo_status llmoi_arch_vec(llmo_model *m, int32_t layer, const char *name, uint64_t n, bool required,
                           llmoi_vec_id *id) {
    return bind_vec(m, layer, name, &n, 1, required, id);
}

/* Biases of all experts, one expert after the other. */
static llmo_status expert_biases(llmo_model *m, int32_t layer, const char *name, uint64_t n, llmoi_vec_id *id) {
    const uint64_t dims[2] = {n, m->hp.n_experts};
    return bind_vec(m, layer, name, dims, 2, m->hp.all_biases, id);
}

/* --- what most architectures share ------------------------------------------------------------------------------ */

static llmo_status read_rope(llmo_model *m) {
    llmoi_hparams *hp = &m->hp;
    llmoi_rope_params *r = &hp->ropes[0];
    hp->n_ropes = 1;
    hp->n_rot = hp->head_dim;
    LLMOI_TRY(llmoi_arch_u32(m, "rope.dimension_count", false, 2, hp->head_dim, &hp->n_rot));
    if (hp->n_rot % 2) {
        return llmoi_fail(LLMO_E_FORMAT, "key '%s.rope.dimension_count': %u is odd", m->arch, hp->n_rot);
    }
    *r = (llmoi_rope_params){.base = 10000.0f,
                             .factor = 1.0f,
                             .attn_factor = 1.0f,
                             .beta_fast = 32.0f,
                             .beta_slow = 1.0f,
                             .n_ctx_orig = hp->n_ctx_train,
                             .divisors = LLMOI_NONE,
                             .long_divisors = LLMOI_NONE};
    LLMOI_TRY(llmoi_arch_f32(m, "rope.freq_base", false, 1.0f, 1e12f, &r->base));
    /* the older name of the linear factor, then the newer ones */
    bool has_old = false;
    char key[192];
    arch_key(m, "rope.scale_linear", key, sizeof key);
    has_old = llmoi_gguf_has(m->gguf, key);
    LLMOI_TRY(llmoi_arch_f32(m, "rope.scale_linear", false, 1e-3f, 1e6f, &r->factor));
    LLMOI_TRY(llmoi_arch_f32(m, "rope.scaling.factor", false, 1e-3f, 1e6f, &r->factor));
    llmoi_str type = {has_old ? "linear" : "none", has_old ? 6 : 4};
    arch_key(m, "rope.scaling.type", key, sizeof key);
    LLMOI_TRY(llmoi_gguf_string(m->gguf, key, false, &type));
    if (type.len == 6 && memcmp(type.ptr, "linear", 6) == 0)
        r->scaling = LLMOI_SCALING_LINEAR;
    else if (type.len == 4 && memcmp(type.ptr, "yarn", 4) == 0)
        r->scaling = LLMOI_SCALING_YARN;
    else if (type.len == 8 && memcmp(type.ptr, "longrope", 8) == 0)
        r->scaling = LLMOI_SCALING_LONGROPE;
    else if (type.len == 4 && memcmp(type.ptr, "none", 4) == 0)
        r->scaling = LLMOI_SCALING_NONE;
    else {
        return llmoi_fail(LLMO_E_UNSUPPORTED, "key '%s': RoPE scaling '%.*s' is not supported", key,
                          (int)(type.len < 64 ? type.len : 64), type.ptr);
    }
    LLMOI_TRY(llmoi_arch_u32(m, "rope.scaling.original_context_length", false, 1, 1u << 30, &r->n_ctx_orig));
    LLMOI_TRY(llmoi_arch_f32(m, "rope.scaling.attn_factor", false, 1e-3f, 1e3f, &r->attn_factor));
    LLMOI_TRY(llmoi_arch_f32(m, "rope.scaling.yarn_beta_fast", false, 1e-3f, 1e6f, &r->beta_fast));
    LLMOI_TRY(llmoi_arch_f32(m, "rope.scaling.yarn_beta_slow", false, 1e-3f, 1e6f, &r->beta_slow));
    return llmoi_arch_f32(m, "rope.scaling.yarn_log_multiplier", false, 0.0f, 1e3f, &r->log_mul);
}

llmo_status llmoi_arch_common(llmo_model *m) {
    llmoi_hparams *hp = &m->hp;
    uint32_t n_tensors = llmoi_gguf_n_tensors(m->gguf);
    LLMOI_TRY(llmoi_arch_u32(m, "block_count", true, 1, 4096, &hp->n_layers));
    if (hp->n_layers > n_tensors) {
        return llmoi_fail(LLMO_E_FORMAT, "key '%s.block_count': %u layers, but the file has %u tensors", m->arch,
                          hp->n_layers, n_tensors);
    }
    LLMOI_TRY(llmoi_arch_u32(m, "context_length", true, 1, 1u << 30, &hp->n_ctx_train));
    LLMOI_TRY(llmoi_arch_u32(m, "embedding_length", true, 1, 1u << 20, &hp->n_embd));
    LLMOI_TRY(llmoi_arch_u32(m, "feed_forward_length", true, 1, 1u << 22, &hp->n_ff));
    LLMOI_TRY(llmoi_arch_u32(m, "attention.head_count", true, 1, 4096, &hp->n_heads));
    hp->n_kv_heads = hp->n_heads;
    LLMOI_TRY(llmoi_arch_u32(m, "attention.head_count_kv", false, 1, hp->n_heads, &hp->n_kv_heads));
    if (hp->n_heads % hp->n_kv_heads) {
        return llmoi_fail(LLMO_E_FORMAT, "key '%s.attention.head_count_kv': %u does not divide head_count %u", m->arch,
                          hp->n_kv_heads, hp->n_heads);
    }
    hp->head_dim = hp->n_embd / hp->n_heads;
    char key[192];
    arch_key(m, "attention.key_length", key, sizeof key);
    if (!llmoi_gguf_has(m->gguf, key) && (hp->head_dim == 0 || hp->n_embd % hp->n_heads)) {
        return llmoi_fail(LLMO_E_FORMAT, "key '%s.embedding_length': %u is no multiple of head_count %u", m->arch,
                          hp->n_embd, hp->n_heads);
    }
    LLMOI_TRY(llmoi_arch_u32(m, "attention.key_length", false, 2, LLMOI_HEAD_DIM_MAX, &hp->head_dim));
    uint32_t value_length = hp->head_dim;
    LLMOI_TRY(llmoi_arch_u32(m, "attention.value_length", false, 2, LLMOI_HEAD_DIM_MAX, &value_length));
    if (value_length != hp->head_dim) {
        return llmoi_fail(LLMO_E_UNSUPPORTED, "key '%s.attention.value_length': %u differs from key_length %u", m->arch,
                          value_length, hp->head_dim);
    }
    if (hp->head_dim > LLMOI_HEAD_DIM_MAX) {
        return llmoi_fail(LLMO_E_FORMAT,
                          "key '%s.attention.head_count': heads of %u elements, at most %u are supported", m->arch,
                          hp->head_dim, LLMOI_HEAD_DIM_MAX);
    }
    const char *eps = hp->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon";
    LLMOI_TRY(llmoi_arch_f32(m, eps, true, 0.0f, 1.0f, &hp->norm_eps));
    LLMOI_TRY(llmoi_arch_u32(m, "expert_count", false, 0, 65536, &hp->n_experts));
    LLMOI_TRY(llmoi_arch_u32(m, "expert_used_count", hp->n_experts > 0, hp->n_experts ? 1 : 0,
                             hp->n_experts ? hp->n_experts : 65536, &hp->n_experts_used));
    /* the width of an expert has a key of its own where it can differ */
    if (hp->n_experts) LLMOI_TRY(llmoi_arch_u32(m, "expert_feed_forward_length", false, 1, 1u << 22, &hp->n_ff));
    hp->embed_scale = 1.0f;
    return read_rope(m);
}

/* A norm's weight, and for LayerNorm its bias. */
static llmo_status bind_norm(llmo_model *m, int32_t layer, const char *name, llmoi_vec_id *weight, llmoi_vec_id *bias) {
    char full[64];
    *bias = LLMOI_NONE;
    (void)snprintf(full, sizeof full, "%s.weight", name);
    LLMOI_TRY(llmoi_arch_vec(m, layer, full, m->hp.n_embd, true, weight));
    if (!m->hp.layer_norm) return LLMO_OK;
    (void)snprintf(full, sizeof full, "%s.bias", name);
    return llmoi_arch_vec(m, layer, full, m->hp.n_embd, true, bias);
}

llmo_status llmoi_arch_outer(llmo_model *m) {
    llmoi_hparams *hp = &m->hp;
    const llmoi_gguf_tensor *embd = llmoi_gguf_find(m->gguf, "token_embd.weight");
    if (!embd) return llmoi_fail(LLMO_E_FORMAT, "tensor 'token_embd.weight' is missing");
    if (embd->dims[1] > (1u << 24)) {
        return llmoi_fail(LLMO_E_FORMAT, "tensor 'token_embd.weight': %llu tokens, at most 16777216 are supported",
                          (unsigned long long)embd->dims[1]);
    }
    hp->n_vocab = (uint32_t)embd->dims[1];
    uint32_t n_tokens = llmoi_tokenizer_n_vocab(m->tokenizer);
    if (n_tokens && n_tokens != hp->n_vocab) {
        return llmoi_fail(LLMO_E_FORMAT, "tensor 'token_embd.weight' has %u rows, 'tokenizer.ggml.tokens' %u tokens",
                          hp->n_vocab, n_tokens);
    }
    m->layers = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, hp->n_layers, sizeof *m->layers);
    if (!m->layers) return LLMO_E_NOMEM;
    LLMOI_TRY(llmoi_arch_mat(m, -1, "token_embd", hp->n_vocab, hp->n_embd, 1, LLMOI_ROLE_EMBED, true, &m->embed));
    LLMOI_TRY(bind_norm(m, -1, "output_norm", &m->final_norm, &m->final_norm_bias));
    LLMOI_TRY(llmoi_arch_mat(m, -1, "output", hp->n_vocab, hp->n_embd, 1, LLMOI_ROLE_HEAD, false, &m->head));
    if (m->head == LLMOI_NONE) {
        return add_mat(m, embd, -1, hp->n_vocab, hp->n_embd, 1, LLMOI_ROLE_HEAD, &m->head);
    }
    return LLMO_OK;
}

static llmo_status bind_attention(llmo_model *m, uint32_t layer) {
    const llmoi_hparams *hp = &m->hp;
    llmoi_layer *l = &m->layers[layer];
    int32_t n = (int32_t)layer;
    bool biased = hp->qkv_biases || hp->all_biases;
    uint64_t q = (uint64_t)hp->n_heads * hp->head_dim, kv = (uint64_t)hp->n_kv_heads * hp->head_dim;
    if (has_tensor(m, n, "attn_qkv.weight")) {
        const uint64_t rows[3] = {q, kv, kv};
        llmoi_mat_id *const ids[3] = {&l->wq, &l->wk, &l->wv};
        LLMOI_TRY(llmoi_arch_slices(m, layer, "attn_qkv", rows, 3, hp->n_embd, LLMOI_ROLE_QKV, ids));
    } else {
        LLMOI_TRY(llmoi_arch_mat(m, n, "attn_q", q, hp->n_embd, 1, LLMOI_ROLE_QKV, true, &l->wq));
        LLMOI_TRY(llmoi_arch_mat(m, n, "attn_k", kv, hp->n_embd, 1, LLMOI_ROLE_QKV, true, &l->wk));
        LLMOI_TRY(llmoi_arch_mat(m, n, "attn_v", kv, hp->n_embd, 1, LLMOI_ROLE_QKV, true, &l->wv));
    }
    LLMOI_TRY(llmoi_arch_mat(m, n, "attn_output", hp->n_embd, q, 1, LLMOI_ROLE_ATTN_OUT, true, &l->wo));
    if (has_tensor(m, n, "attn_qkv.bias")) {
        LLMOI_TRY(llmoi_arch_vec(m, n, "attn_qkv.bias", q + 2 * kv, true, &l->bq));
        llmoi_vec *fused = &m->vecs[l->bq];
        fused->n = q;
        l->bk = add_vec(m, fused->tensor, n, kv, q);
        l->bv = add_vec(m, fused->tensor, n, kv, q + kv);
    } else {
        LLMOI_TRY(llmoi_arch_vec(m, n, "attn_q.bias", q, biased, &l->bq));
        LLMOI_TRY(llmoi_arch_vec(m, n, "attn_k.bias", kv, biased, &l->bk));
        LLMOI_TRY(llmoi_arch_vec(m, n, "attn_v.bias", kv, biased, &l->bv));
    }
    LLMOI_TRY(llmoi_arch_vec(m, n, "attn_output.bias", hp->n_embd, hp->all_biases, &l->bo));
    l->q_norm = l->k_norm = l->attn_post = l->ffn_post = l->sinks = LLMOI_NONE;
    l->attn = (llmoi_attn_dims){.n_heads = hp->n_heads,
                                .n_kv_heads = hp->n_kv_heads,
                                .head_dim = hp->head_dim,
                                .n_rot = hp->n_rot,
                                .rope = LLMOI_ROPE_PAIRS,
                                .scale = 1.0f / sqrtf((float)hp->head_dim)};
    return LLMO_OK;
}

static llmo_status bind_experts(llmo_model *m, uint32_t layer) {
    const llmoi_hparams *hp = &m->hp;
    llmoi_layer *l = &m->layers[layer];
    int32_t n = (int32_t)layer;
    uint32_t e = hp->n_experts;
    LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_gate_inp", e, hp->n_embd, 1, LLMOI_ROLE_ROUTER, true, &l->router));
    LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_gate_exps", l->n_ff, hp->n_embd, e, LLMOI_ROLE_GATE_UP, true, &l->gate));
    LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_up_exps", l->n_ff, hp->n_embd, e, LLMOI_ROLE_GATE_UP, true, &l->up));
    LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_down_exps", hp->n_embd, l->n_ff, e, LLMOI_ROLE_DOWN, true, &l->down));
    LLMOI_TRY(llmoi_arch_vec(m, n, "ffn_gate_inp.bias", e, hp->all_biases, &l->b_router));
    LLMOI_TRY(expert_biases(m, n, "ffn_gate_exps.bias", l->n_ff, &l->b_gate));
    LLMOI_TRY(expert_biases(m, n, "ffn_up_exps.bias", l->n_ff, &l->b_up));
    return expert_biases(m, n, "ffn_down_exps.bias", hp->n_embd, &l->b_down);
}

static llmo_status bind_ffn(llmo_model *m, uint32_t layer) {
    const llmoi_hparams *hp = &m->hp;
    llmoi_layer *l = &m->layers[layer];
    int32_t n = (int32_t)layer;
    char name[160];
    l->activation = LLMOI_ACTIVATION_SILU;
    l->n_ff = hp->n_ff;
    l->gate = l->router = l->b_router = l->b_gate = LLMOI_NONE;
    if (hp->n_experts) return bind_experts(m, layer);
    const llmoi_gguf_tensor *up = llmoi_gguf_find(m->gguf, tensor_name(n, "ffn_up.weight", name, sizeof name));
    if (!hp->ungated && up && up->dims[1] == 2 * (uint64_t)l->n_ff && !has_tensor(m, n, "ffn_gate.weight")) {
        const uint64_t rows[2] = {l->n_ff, l->n_ff};
        llmoi_mat_id *const ids[2] = {&l->gate, &l->up};
        LLMOI_TRY(llmoi_arch_slices(m, layer, "ffn_up", rows, 2, hp->n_embd, LLMOI_ROLE_GATE_UP, ids));
    } else {
        if (!hp->ungated) {
            LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_gate", l->n_ff, hp->n_embd, 1, LLMOI_ROLE_GATE_UP, true, &l->gate));
            LLMOI_TRY(llmoi_arch_vec(m, n, "ffn_gate.bias", l->n_ff, hp->all_biases, &l->b_gate));
        }
        LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_up", l->n_ff, hp->n_embd, 1, LLMOI_ROLE_GATE_UP, true, &l->up));
    }
    LLMOI_TRY(llmoi_arch_mat(m, n, "ffn_down", hp->n_embd, l->n_ff, 1, LLMOI_ROLE_DOWN, true, &l->down));
    LLMOI_TRY(llmoi_arch_vec(m, n, "ffn_up.bias", l->n_ff, hp->all_biases, &l->b_up));
    return llmoi_arch_vec(m, n, "ffn_down.bias", hp->n_embd, hp->all_biases, &l->b_down);
}

llmo_status llmoi_arch_layer(llmo_model *m, uint32_t layer, const char *ffn_norm) {
    llmoi_layer *l = &m->layers[layer];
    LLMOI_TRY(bind_norm(m, (int32_t)layer, "attn_norm", &l->attn_norm, &l->attn_norm_bias));
    LLMOI_TRY(bind_attention(m, layer));
    l->ffn_norm = l->ffn_norm_bias = LLMOI_NONE;
    if (ffn_norm) LLMOI_TRY(bind_norm(m, (int32_t)layer, ffn_norm, &l->ffn_norm, &l->ffn_norm_bias));
    return bind_ffn(m, layer);
}

void llmoi_rope_frequencies(const llmoi_rope_params *p, uint32_t n_rot, const float *divisors, double *freq,
                            double *magnitude) {
    double low = 0, high = 0;
    *magnitude = p->attn_factor;
    if (p->scaling == LLMOI_SCALING_YARN) {
        /* index of the pair that turns `beta` times within the original context */
        const double two_pi = 6.283185307179586;
        double per = n_rot / (2 * log((double)p->base));
        low = fmax(0, floor(per * log(p->n_ctx_orig / (p->beta_fast * two_pi))));
        high = fmin(n_rot - 1.0, ceil(per * log(p->n_ctx_orig / (p->beta_slow * two_pi))));
        double longer = p->factor > 1 ? log((double)p->factor) : 0;
        *magnitude *= (1 + 0.1 * longer) / (1 + 0.1 * (double)p->log_mul * longer);
    }
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double f = pow((double)p->base, -2.0 * i / n_rot);
        if (divisors) f /= (double)divisors[i];
        if (p->scaling == LLMOI_SCALING_LINEAR) f /= p->factor;
        if (p->scaling == LLMOI_SCALING_YARN) {
            double ramp = (i - low) / fmax(0.001, high - low);
            double keep = 1 - fmin(1, fmax(0, ramp));
            f = f * keep + f / p->factor * (1 - keep);
        }
        freq[i] = f;
    }
}

/* --- open, close ------------------------------------------------------------------------------------------------ */

static llmo_status bind_arch(llmo_model *m) {
    uint32_t n = llmoi_gguf_n_tensors(m->gguf);
    /* a tensor holds three matrices at most; + a tied head */
    m->mats = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, 3 * (size_t)n + 1u, sizeof *m->mats);
    m->vecs = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, 3 * (size_t)n, sizeof *m->vecs);
    m->positions = LLMOI_NONE;
    if (!m->mats || !m->vecs) return LLMO_E_NOMEM;
    for (size_t i = 0; i < sizeof archs / sizeof *archs; i++) {
        if (strcmp(archs[i]->name, m->arch) == 0) return archs[i]->bind(m);
    }
    return llmoi_fail(LLMO_E_UNSUPPORTED, "key 'general.architecture': '%s' is not supported", m->arch);
}

static llmo_status open_model(llmo_model *m, llmoi_source *parts, uint32_t n_parts, const char *pre, bool *taken) {
    LLMOI_TRY(llmoi_gguf_open(&m->mem, parts, n_parts, &m->gguf));
    *taken = true;
    llmoi_str arch;
    LLMOI_TRY(llmoi_gguf_string(m->gguf, "general.architecture", true, &arch));
    if (arch.len == 0 || arch.len >= sizeof m->arch || memchr(arch.ptr, 0, arch.len)) {
        return llmoi_fail(LLMO_E_FORMAT,
                          "key 'general.architecture': a name of 1..63 bytes is needed, this one has %zu", arch.len);
    }
    memcpy(m->arch, arch.ptr, arch.len);
    LLMOI_TRY(llmoi_tokenizer_create(&m->mem, m->gguf, pre, &m->tokenizer));
    m->vocab_only = llmoi_gguf_n_tensors(m->gguf) == 0;
    if (m->vocab_only) {
        m->hp.n_vocab = llmoi_tokenizer_n_vocab(m->tokenizer);
        return LLMO_OK;
    }
    return bind_arch(m);
}

llmo_status llmoi_model_alloc(llmo_runtime *rt, llmo_model **out) {
    llmo_model *m = llmoi_zalloc(&rt->mem, LLMO_PURPOSE_STATE, sizeof *m);
    if (!m) return LLMO_E_NOMEM;
    llmoi_handle_init(&m->handle, LLMOI_MODEL);
    llmoi_mem_init_child(&m->mem, &rt->mem);
    (void)pthread_mutex_init(&m->weights_lock, NULL);
    m->runtime = rt;
    llmoi_handle_retain(&rt->handle);
    *out = m;
    return LLMO_OK;
}

llmo_status llmoi_model_load_header(llmo_model *m, llmoi_source *parts, uint32_t n_parts, const char *pre_tokenizer) {
    bool taken = false;
    llmo_status st = open_model(m, parts, n_parts, pre_tokenizer, &taken);
    for (uint32_t i = 0; i < n_parts && !taken; i++) llmoi_source_close(&m->mem, &parts[i]);
    llmoi_free(&m->mem, parts);
    if (st == LLMO_OK) {
        llmoi_log(m->runtime, LLMO_LOG_INFO, "model: %s, %u layers, %u tensors, tokenizer %s", m->arch, m->hp.n_layers,
                  llmoi_gguf_n_tensors(m->gguf), llmoi_tokenizer_name(m->tokenizer));
    }
    return st;
}

void llmoi_model_release(llmo_model *m) {
    if (!llmoi_handle_drop(&m->handle)) return;
    llmoi_tokenizer_destroy(m->tokenizer);
    llmoi_free(&m->mem, m->layers);
    llmoi_free(&m->mem, m->mats);
    llmoi_free(&m->mem, m->vecs);
    llmoi_gguf_close(m->gguf);
    (void)pthread_mutex_destroy(&m->weights_lock);
    llmoi_handle_wipe(&m->handle);
    llmo_runtime *rt = m->runtime;
    llmoi_free(&rt->mem, m);
    llmoi_runtime_release(rt);
}

static void copy_text(char *dst, size_t cap, const char *src, size_t len) {
    size_t n = len < cap ? len : cap - 1;
    if (n) memcpy(dst, src, n);
    dst[n] = '\0';
}

void llmoi_model_describe(const llmo_model *m, llmo_model_info *info) {
    const llmoi_hparams *hp = &m->hp;
    info->n_layers = hp->n_layers;
    info->n_embd = hp->n_embd;
    info->n_vocab = hp->n_vocab;
    info->n_heads = hp->n_heads;
    info->n_kv_heads = hp->n_kv_heads;
    info->head_dim = hp->head_dim;
    info->n_ff = hp->n_ff;
    info->n_experts = hp->n_experts;
    info->n_experts_used = hp->n_experts_used;
    info->n_ctx_train = hp->n_ctx_train;
    info->n_tensors = llmoi_gguf_n_tensors(m->gguf);
    uint64_t by_type[256] = {0};
    const llmoi_type_info *most = NULL;
    for (uint32_t i = 0; i < info->n_tensors; i++) {
        const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(m->gguf, i);
        info->n_params += t->n_elems;
        info->weights_bytes += t->n_bytes;
        if (t->n_dims < 2 || t->type > 255) continue;
        by_type[t->type] += t->n_bytes;
        if (!most || by_type[t->type] > by_type[most->type]) most = llmoi_type_find(t->type);
    }
    for (uint32_t i = 0; i < llmoi_gguf_n_parts(m->gguf); i++)
        info->file_bytes += llmoi_gguf_source(m->gguf, i)->size_bytes;
    (void)snprintf(info->type, sizeof info->type, "%s", most ? most->name : "");
    (void)snprintf(info->architecture, sizeof info->architecture, "%s", m->arch);
    llmoi_str name = {"", 0};
    if (llmoi_gguf_string(m->gguf, "general.name", false, &name) == LLMO_OK) {
        copy_text(info->name, sizeof info->name, name.ptr, name.len);
    }
    (void)snprintf(info->tokenizer, sizeof info->tokenizer, "%s", llmoi_tokenizer_name(m->tokenizer));
}
