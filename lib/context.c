/* Creating and destroying contexts: every buffer is laid out by one function per block, which also gives the sizes that
 * plans predict. Knows nothing of what runs in them. */
#include "context.h"

#include "carve.h"

/* --- layout ---------------------------------------------------------------------------------------------------------- */

static uint64_t layout_state(const llmo_plan *p, void *base, llmo_context **out) {
    const llmo_plan_params *q = &p->params;
    uintptr_t at = (uintptr_t)base;
    llmo_context dry; /* receives the pointers when only the size is wanted */
    llmo_context *real = llmoi_carve(&at, 1, sizeof *real);
    llmo_context *c = base ? real : &dry;
    size_t n_batch = q->n_batch, n_seq = q->n_sequences;
    c->rope_freq = llmoi_carve(&at, p->model->hp.n_ropes * (p->model->hp.n_rot / 2), sizeof *c->rope_freq);
    c->kv.refs = llmoi_carve(&at, p->n_pages, sizeof *c->kv.refs);
    c->kv.free_list = llmoi_carve(&at, p->n_pages, sizeof *c->kv.free_list);
    c->kv.layers = llmoi_carve(&at, p->model->hp.n_layers, sizeof *c->kv.layers);
    c->kv.blocks = llmoi_carve(&at, p->model->hp.n_layers, sizeof *c->kv.blocks);
    c->pass.token = llmoi_carve(&at, n_batch, sizeof *c->pass.token);
    c->pass.pos = llmoi_carve(&at, n_batch, sizeof *c->pass.pos);
    c->pass.pages = llmoi_carve(&at, n_batch, sizeof *c->pass.pages);
    c->pass.out_rows = llmoi_carve(&at, n_batch, sizeof *c->pass.out_rows);
    c->pass.parts = llmoi_carve(&at, n_seq, sizeof *c->pass.parts);
    c->seqs = llmoi_carve(&at, n_seq, sizeof *c->seqs);
    for (uint32_t i = 0; i < q->n_sequences; i++) {
        llmo_token *tokens = llmoi_carve(&at, q->n_ctx, sizeof *tokens);
        uint32_t *pages = llmoi_carve(&at, p->pages_per_sequence, sizeof *pages);
        if (!base) continue;
        c->seqs[i].tokens = tokens;
        c->seqs[i].pages = pages;
    }
    if (base) *out = c;
    return at - (uintptr_t)base;
}

static uint64_t layout_compute(const llmo_plan *p, void *base, llmo_context *c) {
    const llmoi_hparams *hp = &p->model->hp;
    uintptr_t at = (uintptr_t)base;
    size_t n = p->params.n_batch;
    size_t heads = (size_t)hp->n_heads * hp->head_dim, kv_heads = (size_t)hp->n_kv_heads * hp->head_dim;
    c->x = llmoi_carve(&at, n * hp->n_embd, sizeof(float));
    c->q = llmoi_carve(&at, n * heads, sizeof(float));
    c->k = llmoi_carve(&at, n * kv_heads, sizeof(float));
    c->v = llmoi_carve(&at, n * kv_heads, sizeof(float));
    c->attn = llmoi_carve(&at, n * heads, sizeof(float));
    c->gate = c->up = c->post = NULL;
    if (!hp->n_experts) { /* experts have their buffers in the backend's scratch */
        c->gate = llmoi_carve(&at, n * hp->n_ff, sizeof(float));
        c->up = llmoi_carve(&at, n * hp->n_ff, sizeof(float));
    }
    bool post = false;
    for (uint32_t i = 0; i < hp->n_layers; i++) {
        post = post || p->model->layers[i].attn_post != LLMOI_NONE || p->model->layers[i].ffn_post != LLMOI_NONE;
    }
    c->layer_in = hp->parallel ? llmoi_carve(&at, n * hp->n_embd, sizeof(float)) : NULL;
    if (post) c->post = llmoi_carve(&at, n * hp->n_embd, sizeof(float));
    c->rope_cos = llmoi_carve(&at, hp->n_ropes * n * (hp->n_rot / 2), sizeof(float));
    c->rope_sin = llmoi_carve(&at, hp->n_ropes * n * (hp->n_rot / 2), sizeof(float));
    c->q_scale = NULL;
    if (hp->temperature_scale != 0.0f) c->q_scale = llmoi_carve(&at, n, sizeof(float));
    c->exec.scratch = llmoi_carve(&at, p->model->runtime->cpu->scratch_bytes(&p->dims), 1);
    return at - (uintptr_t)base;
}

static uint64_t layout_logits(const llmo_plan *p, void *base, float **logits, void **scratch) {
    uintptr_t at = (uintptr_t)base;
    uint32_t n_vocab = p->model->hp.n_vocab;
    *logits = llmoi_carve(&at, (size_t)p->params.n_sequences * n_vocab, sizeof(float));
    *scratch = llmoi_carve(&at, llmoi_sample_scratch_bytes(n_vocab), 1);
    return at - (uintptr_t)base;
}

static size_t kv_elem_bytes(int32_t kv_type) {
    return kv_type == LLMO_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

static size_t kv_page_bytes(const llmo_plan *p, int32_t kv_type) {
    const llmoi_hparams *hp = &p->model->hp;
    size_t bytes = (size_t)LLMOI_PAGE_TOKENS * hp->n_kv_heads * hp->head_dim * kv_elem_bytes(kv_type);
    return (bytes + 63) / 64 * 64;
}

void llmoi_context_size(const llmo_plan *p, llmoi_context_sizes *out) {
    llmo_context dry;
    float *logits;
    void *scratch;
    out->state_bytes = layout_state(p, NULL, NULL);
    out->compute_bytes = layout_compute(p, NULL, &dry);
    out->logits_bytes = layout_logits(p, NULL, &logits, &scratch);
    out->kv_layer_bytes =
        (uint64_t)p->n_pages * (kv_page_bytes(p, p->params.kv_type_k) + kv_page_bytes(p, p->params.kv_type_v));
}

/* --- create, destroy ------------------------------------------------------------------------------------------------- */

static llmo_status allocate(llmo_context *c) {
    const llmo_plan *p = c->plan;
    llmoi_context_sizes size;
    llmoi_context_size(p, &size);
    c->compute_block = llmoi_zalloc(&c->mem, LLMO_PURPOSE_COMPUTE, (size_t)size.compute_bytes);
    c->logits_block = llmoi_zalloc(&c->mem, LLMO_PURPOSE_LOGITS, (size_t)size.logits_bytes);
    if (!c->compute_block || !c->logits_block) return LLMO_E_NOMEM;
    (void)layout_compute(p, c->compute_block, c);
    void *scratch;
    (void)layout_logits(p, c->logits_block, &c->logits, &scratch);
    c->scratch = llmoi_sample_scratch_init(scratch, p->model->hp.n_vocab);
    c->kv.n_pages = p->n_pages;
    c->kv.n_layers = p->model->hp.n_layers;
    for (uint32_t i = 0; i < c->kv.n_layers; i++) {
        char *block = llmoi_zalloc(&c->mem, LLMO_PURPOSE_KV, (size_t)size.kv_layer_bytes);
        if (!block) return LLMO_E_NOMEM;
        llmoi_kv_layer *l = &c->kv.layers[i];
        c->kv.blocks[i] = block;
        l->k_page_bytes = kv_page_bytes(p, p->params.kv_type_k);
        l->v_page_bytes = kv_page_bytes(p, p->params.kv_type_v);
        l->k = block;
        l->v = block + l->k_page_bytes * p->n_pages;
        l->k_elem = p->params.kv_type_k == LLMO_KV_F32 ? LLMOI_KV_ELEM_F32 : LLMOI_KV_ELEM_F16;
        l->v_elem = p->params.kv_type_v == LLMO_KV_F32 ? LLMOI_KV_ELEM_F32 : LLMOI_KV_ELEM_F16;
    }
    llmoi_kv_init(&c->kv);
    return LLMO_OK;
}

static llmo_status fill(llmo_context *c, const llmo_context_params *params) {
    const llmo_model *m = c->model;
    c->be = m->runtime->cpu;
    c->exec.pool = m->runtime->pool;
    c->exec.dims = c->plan->dims;
    c->pass.batch.token = c->pass.token;
    c->pass.batch.pos = c->pass.pos;
    c->pass.batch.pages = c->pass.pages;
    c->chunk = c->plan->params.n_batch < 16 ? c->plan->params.n_batch : 16;
    LLMOI_TRY(allocate(c));
    LLMOI_TRY(llmoi_weights_acquire(c->model, c->plan->rows, params, &c->weights));
    for (uint32_t i = 0; i < m->hp.n_ropes; i++) {
        const llmoi_rope_params *r = &m->hp.ropes[i];
        llmoi_vec_id id = r->scaling == LLMOI_SCALING_LONGROPE && c->plan->params.n_ctx > r->n_ctx_orig
                              ? r->long_divisors
                              : r->divisors;
        llmoi_rope_frequencies(r, m->hp.n_rot, id == LLMOI_NONE ? NULL : c->weights->vecs[id],
                               c->rope_freq + i * (m->hp.n_rot / 2), &c->rope_magnitude[i]);
    }
    return LLMO_OK;
}

llmo_status llmoi_context_create(llmo_model *m, llmo_plan *plan, const llmo_context_params *params,
                                 llmo_context **out) {
    llmoi_mem mem;
    llmoi_mem_init_child(&mem, &m->mem);
    llmoi_context_sizes size;
    llmoi_context_size(plan, &size);
    void *block = llmoi_zalloc(&mem, LLMO_PURPOSE_STATE, (size_t)size.state_bytes);
    if (!block) return LLMO_E_NOMEM;
    llmo_context *c;
    (void)layout_state(plan, block, &c);
    llmoi_handle_init(&c->handle, LLMOI_CONTEXT);
    llmoi_mem_init_child(&c->mem, &m->mem);
    /* the block was taken before the account inside it existed */
    atomic_store(&c->mem.bytes[LLMO_PURPOSE_STATE], size.state_bytes);
    c->model = m;
    llmoi_handle_retain(&m->handle);
    c->plan = plan;
    llmoi_handle_retain(&plan->handle);
    llmo_status st = fill(c, params);
    if (st != LLMO_OK) {
        llmoi_context_release(c);
        return st;
    }
    llmoi_log(m->runtime, LLMO_LOG_INFO, "context: %u sequences of %u tokens, %llu bytes and %llu of weights",
              plan->params.n_sequences, plan->params.n_ctx, (unsigned long long)llmoi_mem_total(&c->mem),
              (unsigned long long)llmoi_mem_total(&c->weights->mem));
    *out = c;
    return LLMO_OK;
}

void llmoi_context_release(llmo_context *c) {
    c->pass.active = false;
    while (c->gens) llmoi_generation_free(c->gens);
    for (uint32_t i = 0; i < c->plan->params.n_sequences; i++) {
        if (llmoi_handle_is(&c->seqs[i].handle, LLMOI_SEQUENCE)) llmoi_sequence_destroy(&c->seqs[i]);
    }
    if (c->weights) llmoi_weights_drop(c->weights);
    for (uint32_t i = 0; i < c->kv.n_layers; i++) llmoi_free(&c->mem, c->kv.blocks[i]);
    llmoi_free(&c->mem, c->compute_block);
    llmoi_free(&c->mem, c->logits_block);
    llmoi_handle_wipe(&c->handle);
    llmo_model *m = c->model;
    llmo_plan *plan = c->plan;
    llmoi_free(&m->mem, c);
    llmoi_plan_release(plan);
    llmoi_model_release(m);
}
