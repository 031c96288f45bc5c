/* The walk over the layers: THE file to read. One pass takes a batch of tokens of any mix of sequences through the model.
 * It is cut into units (embed, each layer's attention, each layer's feed-forward part, head), so that a step can stop
 * between two of them and go on later. What differs between architectures is data in llmoi_layer; who computes is the
 * backend's table of operations and the row that the plan chose for each matrix. No types, no devices, no ISA here. */
#include "context.h"

#include <math.h>

/* --- names of weights to pointers ---------------------------------------------------------------------------------- */

static const float *vec(const llmo_context *c, llmoi_vec_id id) {
    return id == LLMOI_NONE ? NULL : c->weights->vecs[id];
}

static llmoi_bound bound(const llmo_context *c, llmoi_mat_id mat, llmoi_vec_id bias) {
    const llmoi_choice *choice = &c->plan->mats[mat];
    return (llmoi_bound){&choice->site, choice->row, c->weights->mats[mat], vec(c, bias)};
}

static llmoi_norm norm(const llmo_context *c, llmoi_vec_id weight, llmoi_vec_id bias) {
    const llmoi_hparams *hp = &c->model->hp;
    return (llmoi_norm){.weight = vec(c, weight), .bias = vec(c, bias), .eps = hp->norm_eps, .layer = hp->layer_norm};
}

/* norms that never have a bias */
static llmoi_norm rms_norm(const llmo_context *c, llmoi_vec_id weight) {
    return norm(c, weight, LLMOI_NONE);
}

/* --- units --------------------------------------------------------------------------------------------------------- */

static void embed(llmo_context *c) {
    const llmo_model *m = c->model;
    c->be->embed(&c->exec, &c->plan->mats[m->embed].site, c->weights->mats[m->embed], c->pass.token,
                 c->pass.batch.n_tokens, m->hp.embed_scale, false, c->x);
    if (m->positions == LLMOI_NONE) return;
    c->be->embed(&c->exec, &c->plan->mats[m->positions].site, c->weights->mats[m->positions],
                 (const llmo_token *)c->pass.pos, c->pass.batch.n_tokens, 1.0f, true, c->x);
}

/* x += attention(norm(x)) */
static void attention(llmo_context *c, uint32_t layer) {
    const llmoi_layer *l = &c->model->layers[layer];
    uint32_t n = c->pass.batch.n_tokens;
    size_t rope = (size_t)l->rope * c->plan->params.n_batch * (l->attn.n_rot / 2);
    uint32_t d = c->model->hp.n_embd;
    if (c->layer_in) c->be->gather(&c->exec, c->x, NULL, n, d, c->layer_in);

    llmoi_group qkv = {.x = c->x, .n_tokens = n, .k = d, .norm = norm(c, l->attn_norm, l->attn_norm_bias)};
    qkv.w[0] = bound(c, l->wq, l->bq);
    qkv.w[1] = bound(c, l->wk, l->bk);
    qkv.w[2] = bound(c, l->wv, l->bv);
    qkv.out[0] = c->q;
    qkv.out[1] = c->k;
    qkv.out[2] = c->v;
    c->be->group(&c->exec, &qkv);

    llmoi_qkv_store store = {.dims = &l->attn,
                             .batch = &c->pass.batch,
                             .q = c->q,
                             .k = c->k,
                             .v = c->v,
                             .cos = c->rope_cos + rope,
                             .sin = c->rope_sin + rope,
                             .q_scale = c->q_scale,
                             .q_norm = rms_norm(c, l->q_norm),
                             .k_norm = rms_norm(c, l->k_norm),
                             .kv = &c->kv.layers[layer]};
    c->be->qkv_store(&c->exec, &store);

    llmoi_attend attend = {&l->attn, &c->pass.batch, c->q, &c->kv.layers[layer], vec(c, l->sinks), c->attn};
    c->be->attend(&c->exec, &attend);

    llmoi_group out = {.x = c->attn,
                       .n_tokens = n,
                       .k = l->attn.n_heads * l->attn.head_dim,
                       .add = true,
                       .post = rms_norm(c, l->attn_post),
                       .post_tmp = c->post};
    out.w[0] = bound(c, l->wo, l->bo);
    out.out[0] = c->x;
    c->be->group(&c->exec, &out);
}

/* x += ffn(norm(x)), or of what the attention read where both are parallel */
static void feed_forward(llmo_context *c, uint32_t layer) {
    const llmoi_layer *l = &c->model->layers[layer];
    const llmoi_hparams *hp = &c->model->hp;
    uint32_t n = c->pass.batch.n_tokens;

    if (l->router != LLMOI_NONE) {
        llmoi_moe moe = {.x = c->x,
                         .n_tokens = n,
                         .k = hp->n_embd,
                         .n_ff = l->n_ff,
                         .n_experts = hp->n_experts,
                         .n_used = hp->n_experts_used,
                         .norm = norm(c, l->ffn_norm, l->ffn_norm_bias),
                         .activation = l->activation};
        moe.router = bound(c, l->router, l->b_router);
        moe.gate = bound(c, l->gate, l->b_gate);
        moe.up = bound(c, l->up, l->b_up);
        moe.down = bound(c, l->down, l->b_down);
        c->be->moe(&c->exec, &moe);
        return;
    }

    bool gated = l->gate != LLMOI_NONE;
    llmoi_group in = {.x = c->layer_in ? c->layer_in : c->x,
                      .n_tokens = n,
                      .k = hp->n_embd,
                      .norm = norm(c, l->ffn_norm, l->ffn_norm_bias)};
    in.w[0] = gated ? bound(c, l->gate, l->b_gate) : bound(c, l->up, l->b_up);
    in.out[0] = c->gate;
    if (gated) {
        in.w[1] = bound(c, l->up, l->b_up);
        in.out[1] = c->up;
    }
    c->be->group(&c->exec, &in);

    c->be->gate_mul(&c->exec, l->activation, c->gate, gated ? c->up : NULL, c->gate, (size_t)n * l->n_ff);

    llmoi_group out = {
        .x = c->gate, .n_tokens = n, .k = l->n_ff, .add = true, .post = rms_norm(c, l->ffn_post), .post_tmp = c->post};
    out.w[0] = bound(c, l->down, l->b_down);
    out.out[0] = c->x;
    c->be->group(&c->exec, &out);
}

/* Logits of the tokens that were asked for. */
static void head(llmo_context *c) {
    const llmo_model *m = c->model;
    uint32_t n = c->pass.n_out, d = m->hp.n_embd;
    if (n == 0) return;
    c->be->gather(&c->exec, c->x, c->pass.out_rows, n, d, c->x);
    llmoi_group g = {.x = c->x, .n_tokens = n, .k = d, .norm = norm(c, m->final_norm, m->final_norm_bias)};
    g.w[0] = bound(c, m->head, LLMOI_NONE);
    g.out[0] = c->pass.out;
    c->be->group(&c->exec, &g);
    float cap = m->hp.final_soft_cap;
    if (cap > 0.0f) c->be->soft_cap(&c->exec, c->pass.out, (size_t)n * m->hp.n_vocab, cap);
}

/* --- the pass -------------------------------------------------------------------------------------------------------- */

/* Sines and cosines of the batch's positions for one kind of RoPE. */
static void rope_tables(llmo_context *c, uint32_t rope) {
    const llmoi_pass *p = &c->pass;
    uint32_t half = c->model->hp.n_rot / 2;
    const double *freq = c->rope_freq + (size_t)rope * half;
    size_t at = (size_t)rope * c->plan->params.n_batch * half;
    for (uint32_t t = 0; t < p->batch.n_tokens; t++) {
        for (uint32_t i = 0; i < half; i++, at++) {
            double angle = p->pos[t] * freq[i];
            c->rope_cos[at] = (float)(cos(angle) * c->rope_magnitude[rope]);
            c->rope_sin[at] = (float)(sin(angle) * c->rope_magnitude[rope]);
        }
    }
}

void llmoi_forward_begin(llmo_context *c) {
    llmoi_pass *p = &c->pass;
    const llmoi_hparams *hp = &c->model->hp;
    for (uint32_t r = 0; r < hp->n_ropes; r++) rope_tables(c, r);
    for (uint32_t t = 0; c->q_scale && t < p->batch.n_tokens; t++) {
        uint32_t steps = p->pos[t] / hp->temperature_step;
        c->q_scale[t] = (float)(1.0 + (double)hp->temperature_scale * log(1.0 + steps));
    }
    p->unit = 0;
    p->n_units = 2 * hp->n_layers + 2;
    p->busy_us = p->longest_unit_us = 0;
    p->active = true;
}

void llmoi_forward_unit(llmo_context *c) {
    uint32_t unit = c->pass.unit++;
    if (unit == 0)
        embed(c);
    else if (unit == c->pass.n_units - 1)
        head(c);
    else if (unit % 2)
        attention(c, (unit - 1) / 2);
    else
        feed_forward(c, (unit - 1) / 2);
}
