/* Bodies of the public calls, part 2: plan, context, sequence, eval, generation, step. A context is entered by one call at
 * a time; whoever comes second gets LLMO_E_BUSY. */
#include "api.h"

#include <stdio.h>

/* --- checks ------------------------------------------------------------------------------------------------------------ */

static llmo_status check_context(const llmo_context *c) {
    bool ok = c && llmoi_handle_is(&c->handle, LLMOI_CONTEXT);
    return llmoi_check(c ? &c->handle : NULL, LLMOI_CONTEXT, ok ? c->model->runtime : NULL, "context");
}

static bool is_sequence(const llmo_sequence *s) {
    return s && llmoi_handle_is(&s->handle, LLMOI_SEQUENCE);
}

static bool is_generation(const llmo_generation *g) {
    return g && llmoi_handle_is(&g->handle, LLMOI_GENERATION);
}

static llmo_status check_sequence(const llmo_sequence *s) {
    return llmoi_check(s ? &s->handle : NULL, LLMOI_SEQUENCE, is_sequence(s) ? s->ctx->model->runtime : NULL,
                       "sequence");
}

static llmo_status check_generation(const llmo_generation *g) {
    return llmoi_check(g ? &g->handle : NULL, LLMOI_GENERATION, is_generation(g) ? g->ctx->model->runtime : NULL,
                       "generation");
}

static llmo_status enter(llmo_context *c) {
    if (!atomic_exchange_explicit(&c->busy, true, memory_order_acquire)) return LLMO_OK;
    return llmoi_fail(LLMO_E_BUSY, "the context is in use by another call");
}

static llmo_status leave(llmo_context *c, llmo_status st) {
    (void)llmoi_handle_note(&c->handle, st);
    atomic_store_explicit(&c->busy, false, memory_order_release);
    return st;
}

/* --- plan -------------------------------------------------------------------------------------------------------------- */

static bool is_plan(const llmo_plan *p) {
    return p && llmoi_handle_is(&p->handle, LLMOI_PLAN);
}

static llmo_status check_plan(const llmo_plan *p) {
    return llmoi_check(p ? &p->handle : NULL, LLMOI_PLAN, is_plan(p) ? p->model->runtime : NULL, "plan");
}

void llmo_plan_params_init(llmo_plan_params *params) {
    if (!params) return;
    memset(params, 0, sizeof *params);
    params->struct_size = sizeof *params;
    params->n_sequences = 1;
    params->gpu_layers = LLMO_GPU_LAYERS_AUTO;
    params->vram_budget_bytes = LLMO_BYTES_UNLIMITED;
    params->ram_budget_bytes = LLMO_BYTES_UNLIMITED;
}

llmo_status llmo_plan_create(llmo_model *model, const llmo_plan_params *params, llmo_plan **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    bool ok = model && llmoi_handle_is(&model->handle, LLMOI_MODEL);
    LLMOI_TRY(llmoi_check(model ? &model->handle : NULL, LLMOI_MODEL, ok ? model->runtime : NULL, "model"));
    llmo_plan_params p;
    llmo_plan_params_init(&p);
    llmo_status st = llmoi_read_params(&p, sizeof p, params, "llmo_plan_params");
    if (st == LLMO_OK) st = llmoi_plan_create(model, &p, out);
    return llmoi_handle_note(&model->handle, st);
}

void llmo_plan_destroy(llmo_plan *plan) {
    if (plan && llmoi_handle_retire(&plan->handle, LLMOI_PLAN)) llmoi_plan_release(plan);
}

uint64_t llmo_plan_bytes(const llmo_plan *plan, uint32_t device, int32_t purpose) {
    if (!is_plan(plan) || device >= LLMOI_MAX_DEVICES || purpose < 0 || purpose > LLMO_PURPOSE_COUNT) return 0;
    uint64_t sum = 0;
    for (int32_t i = 0; i < LLMO_PURPOSE_COUNT; i++) {
        if (purpose == i || purpose == LLMO_PURPOSE_COUNT) sum += plan->bytes[device][i];
    }
    return sum;
}

llmo_status llmo_plan_get_params(const llmo_plan *plan, llmo_plan_params *params) {
    LLMOI_TRY(check_plan(plan));
    return llmoi_write_info(params, &plan->params, sizeof plan->params, "llmo_plan_params");
}

const char *llmo_plan_note(const llmo_plan *plan, uint32_t index) {
    return is_plan(plan) && index < plan->n_notes ? plan->notes[index] : NULL;
}

/* Sites are the matrices without the embedding, which is looked up, not multiplied. */
static const llmoi_choice *site_at(const llmo_plan *p, uint32_t index, uint32_t *mat) {
    for (uint32_t i = 0; i < p->model->n_mats; i++) {
        if (!p->mats[i].row) continue;
        if (index-- == 0) {
            *mat = i;
            return &p->mats[i];
        }
    }
    return NULL;
}

uint32_t llmo_plan_site_count(const llmo_plan *plan) {
    if (!is_plan(plan)) return 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan->model->n_mats; i++) n += plan->mats[i].row != NULL;
    return n;
}

llmo_status llmo_plan_get_site(const llmo_plan *plan, uint32_t index, llmo_site_info *info) {
    LLMOI_TRY(check_plan(plan));
    uint32_t mat = 0;
    const llmoi_choice *c = site_at(plan, index, &mat);
    LLMOI_CHECK_ARG(c, "site %u does not exist, the plan has %u", index, llmo_plan_site_count(plan));
    const llmoi_mat *m = &plan->model->mats[mat];
    llmo_site_info i = {.struct_size = sizeof i,
                        .layer = m->layer,
                        .device = c->device,
                        .n_declined = c->n_declined,
                        .rows = m->site.rows * m->site.n_experts,
                        .k = m->site.k,
                        .n_bytes = m->n_bytes};
    (void)snprintf(i.tensor, sizeof i.tensor, "%s", m->tensor->name);
    (void)snprintf(i.type, sizeof i.type, "%s", m->site.type->name);
    (void)snprintf(i.row, sizeof i.row, "%s", c->row->name);
    return llmoi_write_info(info, &i, sizeof i, "llmo_site_info");
}

const char *llmo_plan_site_reason(const llmo_plan *plan, uint32_t index, uint32_t declined) {
    uint32_t mat = 0;
    const llmoi_choice *c = is_plan(plan) ? site_at(plan, index, &mat) : NULL;
    return c && declined < c->n_declined ? plan->reasons[c->reason[declined]] : NULL;
}

/* --- context ----------------------------------------------------------------------------------------------------------- */

void llmo_context_params_init(llmo_context_params *params) {
    if (!params) return;
    memset(params, 0, sizeof *params);
    params->struct_size = sizeof *params;
}

static llmo_status create_context(llmo_model *model, const llmo_plan *plan, const llmo_context_params *params,
                                  llmo_context **out) {
    llmo_context_params p;
    llmo_context_params_init(&p);
    LLMOI_TRY(llmoi_read_params(&p, sizeof p, params, "llmo_context_params"));
    LLMOI_CHECK_ARG(p.reserved0 == 0, "reserved0 is %u, not 0", p.reserved0);
    if (plan) {
        LLMOI_TRY(check_plan(plan));
        LLMOI_CHECK_ARG(plan->model == model, "plan is one of another model");
        return llmoi_context_create(model, (llmo_plan *)(uintptr_t)plan, &p, out);
    }
    llmo_plan_params q;
    llmo_plan_params_init(&q);
    llmo_plan *own;
    LLMOI_TRY(llmoi_plan_create(model, &q, &own));
    llmo_status st = llmoi_context_create(model, own, &p, out);
    llmoi_plan_release(own);
    return st;
}

llmo_status llmo_context_create(llmo_model *model, const llmo_plan *plan, const llmo_context_params *params,
                                llmo_context **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    bool ok = model && llmoi_handle_is(&model->handle, LLMOI_MODEL);
    LLMOI_TRY(llmoi_check(model ? &model->handle : NULL, LLMOI_MODEL, ok ? model->runtime : NULL, "model"));
    return llmoi_handle_note(&model->handle, create_context(model, plan, params, out));
}

void llmo_context_destroy(llmo_context *context) {
    if (!context || !llmoi_handle_is(&context->handle, LLMOI_CONTEXT)) return;
    if (enter(context) == LLMO_OK) llmoi_context_release(context);
}

const char *llmo_context_error(llmo_context *context) {
    return context && llmoi_handle_is(&context->handle, LLMOI_CONTEXT) ? context->handle.error : "";
}

uint64_t llmo_context_bytes(const llmo_context *context, uint32_t device, int32_t purpose) {
    if (!context || !llmoi_handle_is(&context->handle, LLMOI_CONTEXT) || device != 0) return 0;
    uint64_t sum = 0;
    for (int32_t i = 0; i < LLMO_PURPOSE_COUNT; i++) {
        if (purpose != i && purpose != LLMO_PURPOSE_COUNT) continue;
        sum += atomic_load(&context->mem.bytes[i]) + atomic_load(&context->weights->mem.bytes[i]);
    }
    return sum;
}

llmo_status llmo_context_get_stats(llmo_context *c, llmo_context_stats *stats) {
    LLMOI_TRY(check_context(c));
    LLMOI_TRY(enter(c));
    llmo_context_stats s = {.struct_size = sizeof s};
    for (uint32_t i = 0; i < c->plan->params.n_sequences; i++) s.n_sequences += is_sequence(&c->seqs[i]);
    s.n_generations = c->n_running;
    s.kv_tokens_total = (uint64_t)c->kv.n_pages * LLMOI_PAGE_TOKENS;
    s.kv_tokens_used = (uint64_t)(c->kv.n_pages - c->kv.n_free) * LLMOI_PAGE_TOKENS;
    s.n_passes = c->n_passes;
    s.n_tokens = c->n_tokens;
    s.n_allocs = atomic_load(&c->mem.n_allocs);
    s.busy_us = c->busy_us;
    return leave(c, llmoi_write_info(stats, &s, sizeof s, "llmo_context_stats"));
}

llmo_status llmo_context_cancel(llmo_context *context) {
    LLMOI_TRY(check_context(context));
    atomic_store(&context->cancel, true);
    return LLMO_OK;
}

/* --- sequence ---------------------------------------------------------------------------------------------------------- */

llmo_status llmo_sequence_create(llmo_context *context, llmo_sequence **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_context(context));
    LLMOI_TRY(enter(context));
    return leave(context, llmoi_sequence_create(context, out));
}

static llmo_status idle(const llmo_sequence *s) {
    return s->gen ? llmoi_fail(LLMO_E_BUSY, "a generation runs on the sequence") : LLMO_OK;
}

llmo_status llmo_sequence_fork(llmo_sequence *source, size_t n_tokens, llmo_sequence **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_sequence(source));
    llmo_context *c = source->ctx;
    LLMOI_TRY(enter(c));
    llmo_status st = idle(source);
    return leave(c, st == LLMO_OK ? llmoi_sequence_fork(source, n_tokens, out) : st);
}

void llmo_sequence_destroy(llmo_sequence *sequence) {
    if (!is_sequence(sequence)) return;
    llmo_context *c = sequence->ctx;
    if (c->model->runtime->process_id != llmoi_os_process_id() || enter(c) != LLMO_OK) return;
    llmoi_sequence_destroy(sequence);
    (void)leave(c, LLMO_OK);
}

llmo_status llmo_sequence_truncate(llmo_sequence *sequence, size_t n_tokens) {
    LLMOI_TRY(check_sequence(sequence));
    llmo_context *c = sequence->ctx;
    LLMOI_TRY(enter(c));
    llmo_status st = idle(sequence);
    if (st == LLMO_OK) llmoi_sequence_truncate(sequence, n_tokens < UINT32_MAX ? (uint32_t)n_tokens : UINT32_MAX);
    return leave(c, st);
}

size_t llmo_sequence_length(const llmo_sequence *sequence) {
    return is_sequence(sequence) ? sequence->n_tokens : 0;
}

static size_t copy_tokens(const llmo_token *from, size_t n, size_t first, llmo_token *to, size_t cap) {
    size_t count = first < n ? n - first : 0;
    if (count > cap) count = cap;
    if (count) memcpy(to, from + first, count * sizeof *to);
    return count;
}

llmo_status llmo_sequence_get_tokens(llmo_sequence *sequence, size_t first, llmo_token *tokens, size_t cap,
                                     size_t *n_tokens) {
    LLMOI_TRY(check_sequence(sequence));
    LLMOI_CHECK_ARG(tokens || cap == 0, "tokens is NULL, cap is %zu", cap);
    LLMOI_CHECK_ARG(n_tokens, "n_tokens is NULL");
    LLMOI_TRY(enter(sequence->ctx));
    *n_tokens = copy_tokens(sequence->tokens, sequence->n_tokens, first, tokens, cap);
    return leave(sequence->ctx, LLMO_OK);
}

/* --- eval -------------------------------------------------------------------------------------------------------------- */

static llmo_status check_eval(const llmo_sequence *s, const llmo_token *tokens, size_t n_tokens, size_t n_logits,
                              const float *logits, size_t logits_cap) {
    LLMOI_CHECK_ARG(tokens && n_tokens, "tokens is NULL or n_tokens is 0");
    LLMOI_CHECK_ARG(n_logits <= n_tokens, "n_logits %zu is larger than n_tokens %zu", n_logits, n_tokens);
    LLMOI_CHECK_ARG(logits || n_logits == 0, "logits is NULL, n_logits is %zu", n_logits);
    LLMOI_TRY(idle(s));
    size_t need;
    if (!llmoi_mul_ok(n_logits, s->ctx->model->hp.n_vocab, &need) || need > logits_cap) {
        return llmoi_fail(LLMO_E_BUFFER, "logits_cap %zu: %zu rows of %u floats do not fit", logits_cap, n_logits,
                          s->ctx->model->hp.n_vocab);
    }
    return LLMO_OK;
}

llmo_status llmo_eval(llmo_sequence *sequence, const llmo_token *tokens, size_t n_tokens, size_t n_logits,
                      float *logits, size_t logits_cap) {
    LLMOI_TRY(check_sequence(sequence));
    llmo_context *c = sequence->ctx;
    LLMOI_TRY(enter(c));
    llmo_status st = check_eval(sequence, tokens, n_tokens, n_logits, logits, logits_cap);
    return leave(c, st == LLMO_OK ? llmoi_engine_eval(sequence, tokens, n_tokens, n_logits, logits) : st);
}

/* --- generation -------------------------------------------------------------------------------------------------------- */

void llmo_generation_params_init(llmo_generation_params *params) {
    if (!params) return;
    memset(params, 0, sizeof *params);
    params->struct_size = sizeof *params;
    params->tokenize_flags = LLMO_TOKENIZE_ADD_SPECIAL;
}

/* Params of any version to this one's, with the sampling params inside. */
static llmo_status read_generation(const llmo_generation_params *params, llmo_generation_params *p,
                                   llmo_sampling_params *sampling) {
    llmo_generation_params_init(p);
    llmo_sampling_params_init(sampling);
    LLMOI_TRY(llmoi_read_params(p, sizeof *p, params, "llmo_generation_params"));
    LLMOI_TRY(llmoi_read_params(sampling, sizeof *sampling, p->sampling, "llmo_sampling_params"));
    LLMOI_CHECK_ARG(!(p->flags & ~3u), "flags 0x%x: unknown bits", p->flags);
    LLMOI_CHECK_ARG(!(p->tokenize_flags & ~3u), "tokenize_flags 0x%x: unknown bits", p->tokenize_flags);
    p->sampling = sampling;
    return LLMO_OK;
}

static llmo_status start_tokens(llmo_sequence *s, const llmo_token *tokens, size_t n,
                                const llmo_generation_params *params, llmo_generation **out) {
    llmo_generation_params p;
    llmo_sampling_params sampling;
    LLMOI_TRY(read_generation(params, &p, &sampling));
    return llmoi_generation_start(s, tokens, n, &p, out);
}

static llmo_status start_text(llmo_sequence *s, const char *text, size_t text_bytes,
                              const llmo_generation_params *params, llmo_generation **out) {
    llmo_generation_params p;
    llmo_sampling_params sampling;
    LLMOI_TRY(read_generation(params, &p, &sampling));
    llmo_context *c = s->ctx;
    uint32_t flags = p.tokenize_flags;
    if (s->n_tokens) flags &= ~(uint32_t)LLMO_TOKENIZE_ADD_SPECIAL;
    size_t n = 0;
    llmo_status st = llmoi_tokenizer_encode(c->model->tokenizer, &c->mem, text, text_bytes, flags, NULL, 0, &n);
    if (st != LLMO_OK && st != LLMO_E_BUFFER) return st;
    llmo_token *tokens = llmoi_alloc_array(&c->mem, LLMO_PURPOSE_HOST, n, sizeof *tokens);
    if (!tokens) return LLMO_E_NOMEM;
    st = llmoi_tokenizer_encode(c->model->tokenizer, &c->mem, text, text_bytes, flags, tokens, n, &n);
    if (st == LLMO_OK) st = llmoi_generation_start(s, tokens, n, &p, out);
    llmoi_free(&c->mem, tokens);
    return st;
}

llmo_status llmo_generation_start(llmo_sequence *sequence, const char *text, size_t text_bytes,
                                  const llmo_generation_params *params, llmo_generation **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_sequence(sequence));
    LLMOI_CHECK_ARG(text || text_bytes == 0, "text is NULL, text_bytes is %zu", text_bytes);
    llmo_context *c = sequence->ctx;
    LLMOI_TRY(enter(c));
    return leave(c, start_text(sequence, text ? text : "", text_bytes, params, out));
}

llmo_status llmo_generation_start_tokens(llmo_sequence *sequence, const llmo_token *tokens, size_t n_tokens,
                                         const llmo_generation_params *params, llmo_generation **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_sequence(sequence));
    LLMOI_CHECK_ARG(tokens || n_tokens == 0, "tokens is NULL, n_tokens is %zu", n_tokens);
    llmo_context *c = sequence->ctx;
    LLMOI_TRY(enter(c));
    return leave(c, start_tokens(sequence, tokens, n_tokens, params, out));
}

static void describe(const llmo_generation *g, llmo_generation_info *i) {
    *i = (llmo_generation_info){.struct_size = sizeof *i,
                                .state = g->state,
                                .stop = g->stop,
                                .status = g->status,
                                .n_prompt = g->n_prompt,
                                .n_prompt_done = g->n_prompt_done,
                                .n_generated = g->n_tokens,
                                .prompt_us = g->prompt_us,
                                .decode_us = g->decode_us};
}

llmo_status llmo_generation_get_info(llmo_generation *generation, llmo_generation_info *info) {
    LLMOI_TRY(check_generation(generation));
    llmo_context *c = generation->ctx;
    LLMOI_TRY(enter(c));
    llmo_generation_info i;
    describe(generation, &i);
    return leave(c, llmoi_write_info(info, &i, sizeof i, "llmo_generation_info"));
}

llmo_status llmo_generation_read(llmo_generation *generation, char *buf, size_t cap, size_t *text_bytes) {
    LLMOI_TRY(check_generation(generation));
    LLMOI_CHECK_ARG(buf || cap == 0, "buf is NULL, cap is %zu", cap);
    LLMOI_CHECK_ARG(text_bytes, "text_bytes is NULL");
    LLMOI_TRY(enter(generation->ctx));
    *text_bytes = llmoi_generation_read(generation, buf, cap);
    return leave(generation->ctx, LLMO_OK);
}

llmo_status llmo_generation_get_tokens(llmo_generation *generation, size_t first, llmo_token *tokens, size_t cap,
                                       size_t *n_tokens) {
    LLMOI_TRY(check_generation(generation));
    LLMOI_CHECK_ARG(tokens || cap == 0, "tokens is NULL, cap is %zu", cap);
    LLMOI_CHECK_ARG(n_tokens, "n_tokens is NULL");
    LLMOI_TRY(enter(generation->ctx));
    *n_tokens = copy_tokens(generation->tokens, generation->n_tokens, first, tokens, cap);
    return leave(generation->ctx, LLMO_OK);
}

llmo_status llmo_generation_cancel(llmo_generation *generation) {
    LLMOI_TRY(check_generation(generation));
    atomic_store(&generation->cancel, true);
    return LLMO_OK;
}

void llmo_generation_destroy(llmo_generation *generation) {
    if (!is_generation(generation)) return;
    llmo_context *c = generation->ctx;
    if (c->model->runtime->process_id != llmoi_os_process_id() || enter(c) != LLMO_OK) return;
    llmoi_generation_free(generation);
    (void)leave(c, LLMO_OK);
}

/* --- step -------------------------------------------------------------------------------------------------------------- */

llmo_status llmo_context_step(llmo_context *context, uint64_t budget_us, llmo_step_info *info) {
    LLMOI_TRY(check_context(context));
    LLMOI_TRY(enter(context));
    llmo_step_info i = {.struct_size = sizeof i};
    llmo_status st = llmoi_engine_step(context, budget_us, &i);
    if (info) {
        llmo_status written = llmoi_write_info(info, &i, sizeof i, "llmo_step_info");
        if (st == LLMO_OK) st = written;
    }
    return leave(context, st);
}

static llmo_status generate(llmo_sequence *s, const char *text, size_t text_bytes, const llmo_generation_params *params,
                            llmo_generation_info *info) {
    llmo_context *c = s->ctx;
    llmo_generation *g = NULL;
    LLMOI_TRY(start_text(s, text, text_bytes, params, &g));
    llmo_status st = LLMO_OK;
    while (st == LLMO_OK && g->seq) {
        llmo_step_info step = {0};
        st = llmoi_engine_step(c, LLMO_BUDGET_UNLIMITED, &step);
    }
    if (g->seq) llmoi_generation_end(g, LLMO_GENERATION_DONE, LLMO_STOP_CANCEL, LLMO_OK);
    if (st == LLMO_OK && g->status != LLMO_OK) st = llmoi_fail(g->status, "%s", g->handle.error);
    if (info) {
        llmo_generation_info i;
        describe(g, &i);
        llmo_status written = llmoi_write_info(info, &i, sizeof i, "llmo_generation_info");
        if (st == LLMO_OK) st = written;
    }
    llmoi_generation_free(g);
    return st;
}

llmo_status llmo_generate(llmo_sequence *sequence, const char *text, size_t text_bytes,
                          const llmo_generation_params *params, llmo_generation_info *info) {
    LLMOI_TRY(check_sequence(sequence));
    LLMOI_CHECK_ARG(text || text_bytes == 0, "text is NULL, text_bytes is %zu", text_bytes);
    llmo_context *c = sequence->ctx;
    LLMOI_TRY(enter(c));
    return leave(c, generate(sequence, text ? text : "", text_bytes, params, info));
}
