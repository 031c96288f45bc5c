/* What runs next: collects batches from the running generations, drives passes unit by unit within a time budget, and
 * hands their results out. Results depend on tokens only, never on how they were batched or where a step stopped. */
#include "context.h"

#include "os.h"

/* --- collecting a batch ---------------------------------------------------------------------------------------------- */

static void clear_batch(llmo_context *c) {
    c->pass.batch.n_tokens = c->pass.n_parts = c->pass.n_out = 0;
    c->pass.out = c->logits;
}

/* Adds n tokens of the sequence from n_past on; its pages are reserved. */
static void add_part(llmo_context *c, llmo_sequence *s, llmo_generation *g, uint32_t n, uint32_t n_prompt, bool want) {
    llmoi_pass *p = &c->pass;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t t = p->batch.n_tokens++;
        p->token[t] = s->tokens[s->n_past + i];
        p->pos[t] = s->n_past + i;
        p->pages[t] = s->pages;
    }
    llmoi_part *part = &p->parts[p->n_parts++];
    *part = (llmoi_part){s, g, n, n_prompt, -1};
    if (!want) return;
    part->out = (int32_t)p->n_out;
    p->out_rows[p->n_out++] = p->batch.n_tokens - 1;
}

static bool runs(const llmo_sequence *s) {
    return llmoi_handle_is(&s->handle, LLMOI_SEQUENCE) && s->gen;
}

/* Adds the sequence's generation with at most `room` tokens. One that finds no KV pages ends. */
static void add_generation(llmo_context *c, llmo_sequence *s, uint32_t room) {
    llmo_generation *g = s->gen;
    uint32_t pending = s->n_tokens - s->n_past;
    uint32_t n = pending < room ? pending : room;
    llmo_status st = llmoi_kv_reserve(c, s, s->n_past + n);
    if (st != LLMO_OK) {
        if (g->state == LLMO_GENERATION_RUNNING) {
            llmoi_generation_end(g, LLMO_GENERATION_DONE, LLMO_STOP_CONTEXT, LLMO_OK);
        } else {
            llmoi_generation_end(g, LLMO_GENERATION_FAILED, LLMO_STOP_NONE, st);
        }
        return;
    }
    add_part(c, s, g, n, g->state == LLMO_GENERATION_PROMPT ? n : 0, n == pending);
}

/* Single tokens first, so that prompts do not hold up replies; then prompts, into what room is left. */
static void collect(llmo_context *c, uint32_t max_tokens) {
    uint32_t n_seq = c->plan->params.n_sequences;
    uint32_t limit = c->plan->params.n_batch;
    clear_batch(c);
    for (int prompts = 0; prompts < 2; prompts++) {
        for (uint32_t i = 0; i < n_seq; i++) {
            llmo_sequence *s = &c->seqs[(c->next_slot + i) % n_seq];
            if (!runs(s) || (s->gen->state == LLMO_GENERATION_PROMPT) != (prompts == 1)) continue;
            if (c->pass.batch.n_tokens >= limit) break;
            add_generation(c, s, limit - c->pass.batch.n_tokens);
        }
        /* whatever the chunk: one token of a prompt at least, or replies would hold it up until they end */
        if (max_tokens <= c->pass.batch.n_tokens) max_tokens = c->pass.batch.n_tokens + 1;
        if (max_tokens < limit) limit = max_tokens;
    }
    c->next_slot = (c->next_slot + 1) % n_seq; // NOLINT(clang-analyzer-core.DivideZero): a plan has 1 at least
}

/* --- running a pass -------------------------------------------------------------------------------------------------- */

static void run_unit(llmo_context *c, llmo_step_info *info) {
    uint64_t start = llmoi_os_time_us();
    llmoi_forward_unit(c);
    uint64_t us = llmoi_os_time_us() - start;
    c->pass.busy_us += us;
    if (us > c->pass.longest_unit_us) c->pass.longest_unit_us = us;
    if (us > info->longest_unit_us) info->longest_unit_us = us;
    info->n_units++;
}

/* Hands out the results of a finished pass. */
static void finish_pass(llmo_context *c, llmo_step_info *info) {
    llmoi_pass *p = &c->pass;
    p->active = false;
    c->n_passes++;
    c->n_tokens += p->batch.n_tokens;
    c->busy_us += p->busy_us;
    info->n_passes++;
    for (uint32_t i = 0; i < p->n_parts; i++) {
        llmoi_part *part = &p->parts[i];
        part->seq->n_past += part->n_tokens;
        llmo_generation *g = part->gen;
        if (!g) continue;
        g->n_prompt_done += part->n_prompt;
        *(part->n_prompt ? &g->prompt_us : &g->decode_us) += p->busy_us;
        info->n_prompt_tokens += part->n_prompt;
        if (part->out < 0) continue;
        info->n_new_tokens++;
        llmoi_generation_accept(g, p->out + (size_t)part->out * c->model->hp.n_vocab);
    }
}

/* Makes the next budgeted pass such that its longest unit takes about half of the budget. */
static void adapt_chunk(llmo_context *c, uint64_t budget_us) {
    const llmoi_pass *p = &c->pass;
    if (p->longest_unit_us == 0) {
        c->chunk *= 2;
    } else {
        double ratio = 0.5 * (double)budget_us / (double)p->longest_unit_us;
        ratio = ratio < 0.25 ? 0.25 : ratio > 2 ? 2 : ratio;
        /* a pass of single tokens says little about prompts: let it lower the chunk, not raise it */
        double from = p->batch.n_tokens < c->chunk ? (double)c->chunk : (double)p->batch.n_tokens;
        if (p->batch.n_tokens < c->chunk && ratio > 1) ratio = 1;
        c->chunk = (uint32_t)(from * ratio);
    }
    if (c->chunk < 1) c->chunk = 1;
    if (c->chunk > c->plan->params.n_batch) c->chunk = c->plan->params.n_batch;
}

/* Ends generations that were cancelled; a pass that one of them took part in is dropped. */
static void end_cancelled(llmo_context *c) {
    for (uint32_t i = 0; i < c->plan->params.n_sequences; i++) {
        llmo_sequence *s = &c->seqs[i];
        if (runs(s) && atomic_load(&s->gen->cancel)) {
            llmoi_generation_end(s->gen, LLMO_GENERATION_DONE, LLMO_STOP_CANCEL, LLMO_OK);
        }
    }
}

void llmoi_engine_forget(llmo_context *c, const llmo_sequence *s) {
    for (uint32_t i = 0; c->pass.active && i < c->pass.n_parts; i++) {
        if (c->pass.parts[i].seq == s) c->pass.active = false;
    }
}

static llmo_status cancelled(llmo_context *c) {
    if (!atomic_exchange(&c->cancel, false)) return LLMO_OK;
    return llmoi_fail(LLMO_E_CANCELLED, "cancelled by llmo_context_cancel");
}

llmo_status llmoi_engine_step(llmo_context *c, uint64_t budget_us, llmo_step_info *info) {
    uint64_t start = llmoi_os_time_us();
    llmo_status st = LLMO_OK;
    bool whole_pass = budget_us == LLMO_BUDGET_UNLIMITED;
    for (;;) {
        end_cancelled(c);
        st = cancelled(c);
        if (st != LLMO_OK) break;
        if (!c->pass.active) {
            collect(c, whole_pass ? c->plan->params.n_batch : c->chunk);
            if (c->pass.batch.n_tokens == 0) break;
            llmoi_forward_begin(c);
        }
        run_unit(c, info);
        if (c->pass.unit == c->pass.n_units) {
            if (!whole_pass) adapt_chunk(c, budget_us);
            finish_pass(c, info);
            if (whole_pass) break;
        }
        if (llmoi_os_time_us() - start >= budget_us) break;
    }
    info->n_running = c->n_running;
    info->elapsed_us = llmoi_os_time_us() - start;
    return st;
}

/* --- eval ------------------------------------------------------------------------------------------------------------ */

/* Runs the pass in flight to its end. */
static llmo_status run_pass(llmo_context *c, llmo_step_info *info) {
    while (c->pass.active) {
        LLMOI_TRY(cancelled(c));
        run_unit(c, info);
        if (c->pass.unit == c->pass.n_units) finish_pass(c, info);
    }
    return LLMO_OK;
}

/* One chunk of an eval; logits of tokens from index `from` on (in the sequence) go to *logits, which moves on. */
static llmo_status eval_chunk(llmo_context *c, llmo_sequence *s, uint32_t from, float **logits) {
    llmo_step_info info = {0};
    llmoi_pass *p = &c->pass;
    uint32_t pending = s->n_tokens - s->n_past;
    uint32_t n = pending < c->plan->params.n_batch ? pending : c->plan->params.n_batch;
    LLMOI_TRY(llmoi_kv_reserve(c, s, s->n_past + n));
    clear_batch(c);
    uint32_t base = s->n_past;
    add_part(c, s, NULL, n, 0, false);
    for (uint32_t t = 0; t < n; t++) {
        if (base + t >= from) p->out_rows[p->n_out++] = t;
    }
    p->out = *logits;
    if (p->n_out) *logits += (size_t)p->n_out * c->model->hp.n_vocab;
    llmoi_forward_begin(c);
    llmo_status st = run_pass(c, &info);
    if (st != LLMO_OK) p->active = false;
    return st;
}

llmo_status llmoi_engine_eval(llmo_sequence *s, const llmo_token *tokens, size_t n, size_t n_logits, float *logits) {
    llmo_context *c = s->ctx;
    llmo_step_info info = {0};
    LLMOI_TRY(run_pass(c, &info));
    uint32_t n_tokens = s->n_tokens, n_past = s->n_past;
    LLMOI_TRY(llmoi_sequence_append(s, tokens, n));
    uint32_t from = s->n_tokens - (uint32_t)n_logits;
    llmo_status st = LLMO_OK;
    while (st == LLMO_OK && s->n_past < s->n_tokens) st = eval_chunk(c, s, from, &logits);
    if (st == LLMO_OK) return st;
    s->n_tokens = n_tokens;
    s->n_past = n_past;
    llmoi_kv_trim(c, s, n_past);
    return st;
}
