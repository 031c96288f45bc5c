/* The static dispatcher: resolves parameters, places layers, asks the rows in order who runs each matrix, and adds up the
 * bytes. Everything a plan says is decided here, once; the token loop has no choice left. */
#include "plan.h"

#include <stdio.h>

#include "context.h"

#define MAX_CTX ((uint32_t)1 << 24)

static void note(llmo_plan *p, const char *text) {
    if (text[0] && p->n_notes < LLMOI_MAX_NOTES) {
        (void)snprintf(p->notes[p->n_notes++], sizeof p->notes[0], "%s", text);
    }
}

static llmo_status check_range(const char *field, uint64_t v, uint64_t min, uint64_t max) {
    if (v >= min && v <= max) return LLMO_OK;
    return llmoi_fail(LLMO_E_ARG, "%s %llu is outside %llu..%llu", field, (unsigned long long)v,
                      (unsigned long long)min, (unsigned long long)max);
}

/* Replaces automatic values and checks all. */
static llmo_status resolve(llmo_plan *p) {
    llmo_plan_params *q = &p->params;
    uint32_t trained = p->model->hp.n_ctx_train;
    if (q->n_ctx == 0) q->n_ctx = trained < 4096 ? trained : 4096;
    if (q->n_batch == 0) q->n_batch = 512;
    LLMOI_TRY(check_range("n_ctx", q->n_ctx, 1, MAX_CTX));
    LLMOI_TRY(check_range("n_sequences", q->n_sequences, 1, 1024));
    LLMOI_TRY(check_range("n_batch", q->n_batch, 1, 65536));
    LLMOI_TRY(check_range("kv_type_k", (uint64_t)(int64_t)q->kv_type_k, LLMO_KV_F16, LLMO_KV_F32));
    LLMOI_TRY(check_range("kv_type_v", (uint64_t)(int64_t)q->kv_type_v, LLMO_KV_F16, LLMO_KV_F32));
    LLMOI_TRY(check_range("numerics", (uint64_t)(int64_t)q->numerics, LLMO_NUMERICS_AUTO, LLMO_NUMERICS_Q8));
    if (q->numerics == LLMO_NUMERICS_AUTO) q->numerics = LLMO_NUMERICS_F32;
    if (q->gpu_layers < LLMO_GPU_LAYERS_AUTO) {
        return llmoi_fail(LLMO_E_ARG, "gpu_layers %d is neither LLMO_GPU_LAYERS_AUTO nor a number of layers",
                          q->gpu_layers);
    }
    if (p->model->positions != LLMOI_NONE) LLMOI_TRY(check_range("n_ctx", q->n_ctx, 1, trained));
    p->pages_per_sequence = (q->n_ctx + LLMOI_PAGE_TOKENS - 1) / LLMOI_PAGE_TOKENS;
    uint64_t all = (uint64_t)p->pages_per_sequence * q->n_sequences;
    uint64_t pages = all;
    if (q->n_kv_tokens) {
        LLMOI_TRY(check_range("n_kv_tokens", q->n_kv_tokens, 1, (uint64_t)MAX_CTX * 1024));
        pages = (q->n_kv_tokens + LLMOI_PAGE_TOKENS - 1) / LLMOI_PAGE_TOKENS;
    }
    LLMOI_TRY(check_range("KV cache pages", pages, 1, UINT32_MAX / 2));
    p->n_pages = (uint32_t)(pages < all ? pages : all); /* more than all sequences can fill is never used */
    q->n_kv_tokens = (uint64_t)p->n_pages * LLMOI_PAGE_TOKENS;
    if (q->n_batch > q->n_ctx * (uint64_t)q->n_sequences) q->n_batch = (uint32_t)(q->n_ctx * (uint64_t)q->n_sequences);
    if (q->n_ctx > trained) {
        char text[192];
        (void)snprintf(text, sizeof text, "n_ctx %u is longer than the %u tokens the model was trained for", q->n_ctx,
                       trained);
        note(p, text);
    }
    return LLMO_OK;
}

/* Interns "row: reason". */
static uint16_t reason_id(llmo_plan *p, const char *row, const char *why) {
    char text[sizeof p->reasons[0]];
    (void)snprintf(text, sizeof text, "%s: %s", row, why);
    for (uint32_t i = 0; i < p->n_reasons; i++) {
        if (strcmp(p->reasons[i], text) == 0) return (uint16_t)i;
    }
    if (p->n_reasons == LLMOI_MAX_ROWS * 8) return 0; /* more texts than any table has; the first stands in */
    memcpy(p->reasons[p->n_reasons], text, sizeof text);
    return (uint16_t)p->n_reasons++;
}

/* The dispatcher: first row of the backend's table that does not refuse. */
static llmo_status choose(llmo_plan *p, const llmoi_backend *be, uint32_t mat) {
    llmoi_choice *c = &p->mats[mat];
    c->site = p->model->mats[mat].site;
    c->site.max_tokens = p->params.n_batch;
    c->site.numerics = (llmo_numerics)p->params.numerics;
    if (c->site.role == LLMOI_ROLE_EMBED) return LLMO_OK;
    for (uint32_t i = 0; i < be->n_rows; i++) {
        const llmoi_matmul_row *row = &be->rows[i];
        const char *why = row->refuse(&c->site);
        if (!why && llmoi_debug_row_off(&p->model->runtime->debug, row->name)) why = "switched off by LLMO_ROWS";
        if (!why) {
            c->row = p->rows[mat] = row;
            return LLMO_OK;
        }
        if (c->n_declined < LLMOI_MAX_ROWS) c->reason[c->n_declined++] = reason_id(p, row->name, why);
    }
    return llmoi_fail(LLMO_E_UNSUPPORTED, "no row can run tensor '%s' (%s)", p->model->mats[mat].tensor->name,
                      c->site.type->name);
}

static void size_buffers(llmo_plan *p) {
    const llmoi_hparams *hp = &p->model->hp;
    uint32_t max_k = hp->n_embd;
    for (uint32_t i = 0; i < p->model->n_mats; i++) {
        if (p->mats[i].row && p->mats[i].site.k > max_k) max_k = (uint32_t)p->mats[i].site.k;
    }
    p->dims = (llmoi_dims){.n_batch = p->params.n_batch,
                           .max_k = max_k,
                           .n_embd = hp->n_embd,
                           .n_ff = hp->n_ff,
                           .n_experts = hp->n_experts,
                           .n_experts_used = hp->n_experts_used};
    uint64_t *bytes = p->bytes[0];
    for (uint32_t b = 0; b <= hp->n_layers; b++) {
        bytes[LLMO_PURPOSE_WEIGHTS] += llmoi_weights_block_bytes(p->model, b);
    }
    llmoi_context_sizes s;
    llmoi_context_size(p, &s);
    bytes[LLMO_PURPOSE_KV] = s.kv_layer_bytes * hp->n_layers;
    bytes[LLMO_PURPOSE_COMPUTE] = s.compute_bytes;
    bytes[LLMO_PURPOSE_LOGITS] = s.logits_bytes;
    bytes[LLMO_PURPOSE_STATE] = s.state_bytes;
}

static llmo_status fill(llmo_plan *p) {
    llmo_model *m = p->model;
    if (m->vocab_only) return llmoi_fail(LLMO_E_UNSUPPORTED, "the file has a vocabulary only, no weights to run");
    LLMOI_TRY(resolve(p));
    p->mats = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HOST, m->n_mats, sizeof *p->mats);
    p->rows = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HOST, m->n_mats, sizeof *p->rows);
    p->reasons = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HOST, LLMOI_MAX_ROWS * 8, sizeof *p->reasons);
    if (!p->mats || !p->rows || !p->reasons) return LLMO_E_NOMEM;
    const llmo_runtime *rt = m->runtime;
    char text[192];
    bool gpu_can_run = rt->cuda && rt->cuda->n_rows > 0;
    const char *why = rt->cuda ? "this version has no GPU kernels" : rt->gpu_note;
    uint32_t given = llmoi_place(p->params.gpu_layers, m->hp.n_layers, gpu_can_run, why, text, sizeof text);
    note(p, text);
    p->params.gpu_layers = (int32_t)given;
    for (uint32_t i = 0; i < m->n_mats; i++) LLMOI_TRY(choose(p, rt->cpu, i));
    size_buffers(p);
    uint64_t ram = 0;
    for (int i = 0; i < LLMO_PURPOSE_COUNT; i++) ram += p->bytes[0][i];
    if (ram > p->params.ram_budget_bytes) {
        return llmoi_fail(LLMO_E_BUDGET, "the plan needs %llu bytes of RAM, ram_budget_bytes is %llu",
                          (unsigned long long)ram, (unsigned long long)p->params.ram_budget_bytes);
    }
    return LLMO_OK;
}

llmo_status llmoi_plan_create(llmo_model *m, const llmo_plan_params *params, llmo_plan **out) {
    llmo_plan *p = llmoi_zalloc(&m->mem, LLMO_PURPOSE_HOST, sizeof *p);
    if (!p) return LLMO_E_NOMEM;
    llmoi_handle_init(&p->handle, LLMOI_PLAN);
    p->model = m;
    llmoi_handle_retain(&m->handle);
    p->params = *params;
    llmo_status st = fill(p);
    if (st != LLMO_OK) {
        llmoi_plan_release(p);
        return st;
    }
    for (uint32_t i = 0; i < p->n_notes; i++) llmoi_log(m->runtime, LLMO_LOG_INFO, "plan: %s", p->notes[i]);
    *out = p;
    return LLMO_OK;
}

void llmoi_plan_release(llmo_plan *p) {
    if (!llmoi_handle_drop(&p->handle)) return;
    llmo_model *m = p->model;
    llmoi_free(&m->mem, p->mats);
    llmoi_free(&m->mem, p->rows);
    llmoi_free(&m->mem, p->reasons);
    llmoi_handle_wipe(&p->handle);
    llmoi_free(&m->mem, p);
    llmoi_model_release(m);
}
