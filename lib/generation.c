/* Generations: from chosen tokens to text. Stop tokens and strings, whole UTF-8 characters, what is held back and what
 * is given out. Knows nothing of layers. All memory is taken at the start. */
#include "context.h"

/* --- text ------------------------------------------------------------------------------------------------------------ */

/* Length of a UTF-8 character by its first byte; 0 if none starts so. */
static uint32_t utf8_length(unsigned char c) {
    if (c < 0x80) return 1;
    if (c >= 0xc2 && c < 0xe0) return 2;
    if (c >= 0xe0 && c < 0xf0) return 3;
    if (c >= 0xf0 && c < 0xf5) return 4;
    return 0;
}

/* True if the n first bytes of a character can begin a valid one (no overlong forms, no surrogates). */
static bool utf8_prefix_ok(const unsigned char *p, uint32_t n) {
    if (!utf8_length(p[0])) return false;
    if (n > 1) {
        unsigned char lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
        unsigned char hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
        if (p[1] < lo || p[1] > hi) return false;
    }
    for (uint32_t i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return false;
    }
    return true;
}

static void put_text(llmo_generation *g, const void *bytes, size_t n) {
    /* grows only if nobody reads the text of a very talkative vocabulary; without memory the text is cut here */
    if (llmoi_grow(&g->ctx->mem, LLMO_PURPOSE_HOST, (void **)&g->text, &g->text_cap, g->text_len + n, 1) != LLMO_OK)
        return;
    memcpy(g->text + g->text_len, bytes, n);
    g->text_len += n;
}

static void flush_partial(llmo_generation *g) {
    if (g->n_partial) put_text(g, "\xef\xbf\xbd", 3);
    g->n_partial = 0;
}

/* Appends one byte of the model's output; whole characters reach the text, broken ones become U+FFFD. */
static void put_byte(llmo_generation *g, unsigned char c) {
    g->partial[g->n_partial++] = c;
    if (!utf8_prefix_ok(g->partial, g->n_partial)) {
        bool alone = g->n_partial == 1;
        g->n_partial = 1; /* what was collected is broken, c may begin a new character */
        flush_partial(g);
        if (!alone) put_byte(g, c);
        return;
    }
    if (g->n_partial == utf8_length(g->partial[0])) {
        put_text(g, g->partial, g->n_partial);
        g->n_partial = 0;
    }
}

/* Looks for a stop string that ends in the bytes from `from` on; cuts the text before it. */
static bool cut_at_stop(llmo_generation *g, size_t from) {
    size_t best = SIZE_MAX;
    const char *stop = g->stops;
    for (uint32_t i = 0; i < g->n_stops; i++, stop += strlen(stop) + 1) {
        size_t n = strlen(stop);
        size_t at = from > n ? from - n : 0;
        for (; at + n <= g->text_len && at < best; at++) {
            if (memcmp(g->text + at, stop, n) == 0) best = at;
        }
    }
    if (best == SIZE_MAX) return false;
    g->text_len = best;
    return true;
}

/* Text that no stop string can take back: all but the longest tail that begins one. */
static void update_safe(llmo_generation *g) {
    size_t hold = 0;
    const char *stop = g->stops;
    for (uint32_t i = 0; i < g->n_stops; i++, stop += strlen(stop) + 1) {
        size_t n = strlen(stop) - 1;
        if (n > g->text_len) n = g->text_len;
        while (n > hold && memcmp(g->text + g->text_len - n, stop, n) != 0) n--;
        if (n > hold) hold = n;
    }
    size_t safe = g->text_len - hold;
    while (safe > 0 && safe < g->text_len && ((unsigned char)g->text[safe] & 0xc0) == 0x80) safe--;
    if (safe > g->text_safe) g->text_safe = safe;
}

/* Gives the safe text to the callback; false if that asks to stop. */
static bool emit(llmo_generation *g) {
    if (!g->on_text || g->text_safe == 0) return true;
    size_t n = g->text_safe;
    int32_t answer = g->on_text(g->text_user, g, g->text, n);
    memmove(g->text, g->text + n, g->text_len - n);
    g->text_len -= n;
    g->text_safe = 0;
    return answer == 0;
}

size_t llmoi_generation_read(llmo_generation *g, char *buf, size_t cap) {
    size_t n = g->text_safe < cap ? g->text_safe : cap;
    while (n > 0 && n < g->text_len && ((unsigned char)g->text[n] & 0xc0) == 0x80) n--;
    if (n) memcpy(buf, g->text, n);
    memmove(g->text, g->text + n, g->text_len - n);
    g->text_len -= n;
    g->text_safe -= n;
    return n;
}

/* --- tokens ---------------------------------------------------------------------------------------------------------- */

/* Adds a token's text; true if a stop string was completed. */
static bool add_text(llmo_generation *g, llmo_token token) {
    const llmoi_tokenizer *tok = g->ctx->model->tokenizer;
    size_t n = llmoi_tokenizer_piece(tok, token, (g->flags & LLMO_GENERATE_SPECIAL) != 0, g->piece);
    size_t before = g->text_len;
    for (size_t i = 0; i < n; i++) put_byte(g, (unsigned char)g->piece[i]);
    if (g->n_stops && cut_at_stop(g, before)) {
        g->n_partial = 0;
        return true;
    }
    return false;
}

static bool is_stop_token(const llmo_generation *g, llmo_token token) {
    for (uint32_t i = 0; i < g->n_stop_tokens; i++) {
        if (g->stop_tokens[i] == token) return true;
    }
    return false;
}

void llmoi_generation_end(llmo_generation *g, int32_t state, int32_t stop, llmo_status status) {
    if (!g->seq) return;
    llmo_context *c = g->ctx;
    llmo_sequence *s = g->seq;
    llmoi_engine_forget(c, s);
    if (g->state == LLMO_GENERATION_PROMPT) { /* what was not evaluated of the prompt does not stay */
        llmoi_sequence_truncate(s, s->n_past > g->n_before ? s->n_past : g->n_before);
    }
    g->state = state;
    g->stop = stop;
    g->status = status;
    if (status != LLMO_OK) (void)llmoi_handle_note(&g->handle, status);
    g->seq = NULL;
    s->gen = NULL;
    c->n_running--;
    if (stop == LLMO_STOP_CALLBACK) g->text_len = g->n_partial = 0; /* who asked to stop is not called again */
    flush_partial(g);
    g->text_safe = g->text_len;
    (void)emit(g);
}

static void end_done(llmo_generation *g, int32_t stop) {
    llmoi_generation_end(g, LLMO_GENERATION_DONE, stop, LLMO_OK);
}

void llmoi_generation_accept(llmo_generation *g, float *logits) {
    llmo_context *c = g->ctx;
    llmo_sequence *s = g->seq;
    g->state = LLMO_GENERATION_RUNNING;
    if (s->n_tokens >= c->plan->params.n_ctx) {
        end_done(g, LLMO_STOP_CONTEXT);
        return;
    }
    llmo_token token = llmoi_sampler_next(g->sampler, c->scratch, logits, s->tokens, s->n_tokens);
    g->tokens[g->n_tokens++] = token;
    bool end = (llmoi_tokenizer_attr(c->model->tokenizer, token) & LLMO_TOKEN_ATTR_END) != 0;
    if (end && !(g->flags & LLMO_GENERATE_IGNORE_END)) {
        end_done(g, LLMO_STOP_END);
        return;
    }
    if (is_stop_token(g, token)) {
        end_done(g, LLMO_STOP_TOKEN);
        return;
    }
    s->tokens[s->n_tokens++] = token;
    if (add_text(g, token)) {
        end_done(g, LLMO_STOP_STRING);
        return;
    }
    update_safe(g);
    if (!emit(g))
        end_done(g, LLMO_STOP_CALLBACK);
    else if (g->n_tokens == g->max_tokens)
        end_done(g, LLMO_STOP_LENGTH);
    else if (s->n_tokens >= c->plan->params.n_ctx)
        end_done(g, LLMO_STOP_CONTEXT);
}

/* --- start, free ----------------------------------------------------------------------------------------------------- */

static llmo_status copy_stops(llmo_generation *g, const llmo_generation_params *p) {
    llmoi_mem *mem = &g->ctx->mem;
    size_t total = 0;
    for (uint32_t i = 0; i < p->n_stops; i++) {
        if (!p->stops || !p->stops[i] || !p->stops[i][0])
            return llmoi_fail(LLMO_E_ARG, "stops[%u] is NULL or empty", i);
        size_t n = strlen(p->stops[i]);
        total += n + 1;
        if (n > g->longest_stop) g->longest_stop = n;
    }
    g->stops = llmoi_alloc(mem, LLMO_PURPOSE_HOST, total);
    g->stop_tokens = llmoi_alloc_array(mem, LLMO_PURPOSE_HOST, p->n_stop_tokens, sizeof *g->stop_tokens);
    if (!g->stops || !g->stop_tokens) return LLMO_E_NOMEM;
    char *at = g->stops;
    for (uint32_t i = 0; i < p->n_stops; i++) {
        size_t n = strlen(p->stops[i]) + 1;
        memcpy(at, p->stops[i], n);
        at += n;
    }
    g->n_stops = p->n_stops;
    if (p->n_stop_tokens && !p->stop_tokens)
        return llmoi_fail(LLMO_E_ARG, "stop_tokens is NULL, n_stop_tokens is not 0");
    if (p->n_stop_tokens) memcpy(g->stop_tokens, p->stop_tokens, p->n_stop_tokens * sizeof *g->stop_tokens);
    g->n_stop_tokens = p->n_stop_tokens;
    return LLMO_OK;
}

/* DRY does not look across tokens whose text holds one of the breakers. */
static llmo_status make_sampler(llmo_generation *g, const llmo_sampling_params *p) {
    static const char *const usual[] = {"\n", ":", "\"", "*"};
    llmo_context *c = g->ctx;
    uint32_t n_vocab = c->model->hp.n_vocab;
    const char *const *breakers = p->dry_breakers ? p->dry_breakers : usual;
    uint32_t n = p->dry_breakers ? p->n_dry_breakers : 4;
    llmo_token *list = NULL;
    size_t count = 0, cap = 0;
    llmo_status st = LLMO_OK;
    for (uint32_t t = 0; st == LLMO_OK && p->dry_multiplier != 0.0f && t < n_vocab; t++) {
        size_t len = llmoi_tokenizer_piece(c->model->tokenizer, (llmo_token)t, false, g->piece);
        bool found = false;
        for (uint32_t i = 0; i < n && !found; i++) {
            size_t bl = breakers[i] ? strlen(breakers[i]) : 0;
            for (size_t at = 0; bl && !found && at + bl <= len; at++)
                found = memcmp(g->piece + at, breakers[i], bl) == 0;
        }
        if (!found) continue;
        st = llmoi_grow(&c->mem, LLMO_PURPOSE_HOST, (void **)&list, &cap, count + 1, sizeof *list);
        if (st == LLMO_OK) list[count++] = (llmo_token)t;
    }
    if (st == LLMO_OK) {
        st = llmoi_sampler_create(&c->mem, p, n_vocab, c->plan->params.n_ctx, list, count, &g->sampler);
    }
    llmoi_free(&c->mem, list);
    return st;
}

static llmo_status fill(llmo_generation *g, llmo_sequence *s, const llmo_generation_params *p) {
    llmoi_mem *mem = &g->ctx->mem;
    const llmoi_tokenizer *tok = g->ctx->model->tokenizer;
    uint32_t room = g->ctx->plan->params.n_ctx - s->n_tokens;
    g->flags = p->flags;
    uint32_t most = p->max_tokens && p->max_tokens < room ? p->max_tokens : room; /* that can be chosen at all */
    g->max_tokens = p->max_tokens;
    g->tokens = llmoi_alloc_array(mem, LLMO_PURPOSE_HOST, (size_t)most + 1, sizeof *g->tokens);
    size_t piece = llmoi_tokenizer_max_piece_bytes(tok);
    g->piece = llmoi_alloc(mem, LLMO_PURPOSE_HOST, piece + 1);
    if (!g->tokens || !g->piece) return LLMO_E_NOMEM;
    LLMOI_TRY(copy_stops(g, p));
    /* with a callback only what is held back stays here; without one, room for all text at 16 bytes a token; a broken byte
     * becomes three */
    size_t want = 3 * piece + g->longest_stop + 16 + (p->text ? 0 : (size_t)most * 16);
    LLMOI_TRY(llmoi_grow(mem, LLMO_PURPOSE_HOST, (void **)&g->text, &g->text_cap, want, 1));
    g->text_user = p->text_user;
    g->on_text = p->text;
    return make_sampler(g, p->sampling);
}

llmo_status llmoi_generation_start(llmo_sequence *s, const llmo_token *tokens, size_t n,
                                   const llmo_generation_params *params, llmo_generation **out) {
    llmo_context *c = s->ctx;
    if (s->gen) return llmoi_fail(LLMO_E_BUSY, "a generation runs on the sequence");
    if (n == 0 && s->n_tokens == 0) return llmoi_fail(LLMO_E_ARG, "the prompt is empty and so is the sequence");
    llmo_generation *g = llmoi_zalloc(&c->mem, LLMO_PURPOSE_HOST, sizeof *g);
    if (!g) return LLMO_E_NOMEM;
    llmoi_handle_init(&g->handle, LLMOI_GENERATION);
    g->ctx = c;
    g->prev = c->last_gen;
    *(g->prev ? &g->prev->next : &c->gens) = g;
    c->last_gen = g;
    uint32_t n_before = s->n_tokens;
    llmo_status st = llmoi_sequence_append(s, tokens, n);
    if (st == LLMO_OK) st = fill(g, s, params);
    if (st != LLMO_OK) {
        s->n_tokens = n_before;
        llmoi_generation_free(g);
        return st;
    }
    /* nothing new to evaluate: the last token again, for its logits */
    if (s->n_past == s->n_tokens) s->n_past--;
    g->n_before = n_before;
    g->n_prompt = s->n_tokens - s->n_past;
    g->seq = s;
    s->gen = g;
    c->n_running++;
    *out = g;
    return LLMO_OK;
}

void llmoi_generation_free(llmo_generation *g) {
    llmo_context *c = g->ctx;
    g->on_text = NULL; /* the handle is going away: no callback any more */
    llmoi_generation_end(g, LLMO_GENERATION_DONE, LLMO_STOP_CANCEL, LLMO_OK);
    *(g->prev ? &g->prev->next : &c->gens) = g->next;
    *(g->next ? &g->next->prev : &c->last_gen) = g->prev;
    llmoi_sampler_destroy(&c->mem, g->sampler);
    llmoi_free(&c->mem, g->tokens);
    llmoi_free(&c->mem, g->text);
    llmoi_free(&c->mem, g->piece);
    llmoi_free(&c->mem, g->stops);
    llmoi_free(&c->mem, g->stop_tokens);
    llmoi_handle_wipe(&g->handle);
    llmoi_free(&c->mem, g);
}
