/* Sequences: slots of a context with a token list and a page table. */
#include "context.h"

llmo_status llmoi_sequence_create(llmo_context *c, llmo_sequence **out) {
    for (uint32_t i = 0; i < c->plan->params.n_sequences; i++) {
        llmo_sequence *s = &c->seqs[i];
        if (llmoi_handle_is(&s->handle, LLMOI_SEQUENCE)) continue;
        llmoi_handle_init(&s->handle, LLMOI_SEQUENCE);
        s->ctx = c;
        s->n_tokens = s->n_past = s->n_pages = 0;
        s->gen = NULL;
        *out = s;
        return LLMO_OK;
    }
    return llmoi_fail(LLMO_E_CONTEXT_FULL, "all %u sequences of the context are in use (n_sequences)",
                      c->plan->params.n_sequences);
}

llmo_status llmoi_sequence_fork(llmo_sequence *source, size_t n_tokens, llmo_sequence **out) {
    llmo_sequence *s = NULL;
    LLMOI_TRY(llmoi_sequence_create(source->ctx, &s));
    s->n_tokens = n_tokens < source->n_tokens ? (uint32_t)n_tokens : source->n_tokens;
    s->n_past = s->n_tokens < source->n_past ? s->n_tokens : source->n_past;
    if (s->n_tokens) memcpy(s->tokens, source->tokens, s->n_tokens * sizeof *s->tokens);
    llmoi_kv_share(s->ctx, source, s, s->n_past);
    *out = s;
    return LLMO_OK;
}

void llmoi_sequence_destroy(llmo_sequence *s) {
    if (s->gen) llmoi_generation_end(s->gen, LLMO_GENERATION_DONE, LLMO_STOP_CANCEL, LLMO_OK);
    llmoi_kv_trim(s->ctx, s, 0);
    llmoi_handle_wipe(&s->handle);
}

void llmoi_sequence_truncate(llmo_sequence *s, uint32_t n_tokens) {
    if (n_tokens >= s->n_tokens) return;
    s->n_tokens = n_tokens;
    if (s->n_past > n_tokens) s->n_past = n_tokens;
    llmoi_kv_trim(s->ctx, s, s->n_past);
}

llmo_status llmoi_sequence_append(llmo_sequence *s, const llmo_token *tokens, size_t n) {
    const llmo_context *c = s->ctx;
    for (size_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= c->model->hp.n_vocab) {
            return llmoi_fail(LLMO_E_ARG, "token %d at index %zu is outside the vocabulary of %u", tokens[i], i,
                              c->model->hp.n_vocab);
        }
    }
    if (n > c->plan->params.n_ctx - s->n_tokens) {
        return llmoi_fail(LLMO_E_CONTEXT_FULL, "%zu tokens after %u do not fit the context of %u (n_ctx)", n,
                          s->n_tokens, c->plan->params.n_ctx);
    }
    if (n) memcpy(s->tokens + s->n_tokens, tokens, n * sizeof *tokens);
    s->n_tokens += (uint32_t)n;
    return LLMO_OK;
}
