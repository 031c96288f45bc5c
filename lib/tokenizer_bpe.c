/* BPE with ranked merges: the text's pieces, then merging inside each. Byte-level (every byte is a character of its
 * own) or on raw UTF-8. Knows nothing of special tokens: it gets the text between them. */
#include "tokenizer_internal.h"

#include "utf8.h"

static void pair(const llmoi_tokenizer *t, const char *text, llmoi_symbol *s, const llmoi_symbol *next) {
    (void)text;
    const llmoi_merge_slot *m = llmoi_vocab_merge(t, s->id, next->id);
    if (!m) return;
    s->merged = m->merged;
    s->priority = m->rank;
}

/* The token whose text is the whole piece, or LLMOI_NONE. */
static llmo_status find_word(llmoi_encoder *e, const char *text, size_t n, uint32_t *id) {
    const llmoi_tokenizer *t = e->t;
    *id = LLMOI_NONE;
    if (n > t->max_bytes) return LLMO_OK;
    if (t->raw) {
        *id = llmoi_vocab_find(t, text, n);
    } else {
        LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->word, &e->word_cap, 2 * n, 1));
        size_t len = 0;
        for (size_t i = 0; i < n; i++) {
            len += llmoi_utf8_encode(llmoi_byte_to_char((unsigned char)text[i]), e->word + len);
        }
        *id = llmoi_vocab_find(t, e->word, len);
    }
    if (*id != LLMOI_NONE && !(t->attr[*id] & LLMOI_ATTR_TEXT)) *id = LLMOI_NONE;
    return LLMO_OK;
}

static bool only_newlines(const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (text[i] != '\n') return false;
    }
    return true;
}

static llmo_status encode_piece(llmoi_encoder *e, const char *text, size_t n) {
    const llmoi_tokenizer *t = e->t;
    if (t->ignore_merges || (t->newline_words && only_newlines(text, n))) {
        uint32_t id;
        LLMOI_TRY(find_word(e, text, n, &id));
        if (id != LLMOI_NONE) {
            llmoi_emit(e, id);
            return LLMO_OK;
        }
    }
    if (t->raw) return llmoi_merge_utf8(e, text, n, pair);
    LLMOI_TRY(llmoi_merge_reserve(e, n));
    for (size_t i = 0; i < n; i++) e->symbols[i] = (llmoi_symbol){.id = t->byte_token[(unsigned char)text[i]]};
    llmoi_merge(e, NULL, n, pair);
    for (uint32_t i = 0; i != LLMOI_NONE; i = e->symbols[i].next) llmoi_emit(e, e->symbols[i].id);
    return LLMO_OK;
}

llmo_status llmoi_bpe_encode(llmoi_encoder *e, const char *text, size_t bytes) {
    if (e->t->raw) {
        LLMOI_TRY(llmoi_escape_spaces(e, text, bytes, false, false, &bytes));
        text = e->text;
    }
    const uint32_t *ends;
    size_t n;
    LLMOI_TRY(llmoi_pretokenize(e, e->t->pre, &text, &bytes, &ends, &n));
    uint32_t start = 0;
    for (size_t i = 0; i < n; i++) {
        if (ends[i] > start) LLMOI_TRY(encode_piece(e, text + start, ends[i] - start));
        start = ends[i];
    }
    return LLMO_OK;
}
