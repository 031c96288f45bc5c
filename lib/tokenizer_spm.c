/* SentencePiece BPE: characters merge into the token of the best score, leftmost first; what is no token becomes bytes.
 * Knows nothing of special tokens: it gets the text between them. */
#include "tokenizer_internal.h"

#include <string.h>

llmo_status llmoi_escape_spaces(llmoi_encoder *e, const char *text, size_t bytes, bool prefix, bool collapse,
                                size_t *n) {
    if (collapse) {
        while (bytes > 0 && text[0] == ' ') text++, bytes--;
        while (bytes > 0 && text[bytes - 1] == ' ') bytes--;
    }
    LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->text, &e->text_cap, bytes * 3 + 3, 1));
    char *out = e->text;
    if (prefix) {
        memcpy(out, "\xe2\x96\x81", 3);
        out += 3;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] != ' ') {
            *out++ = text[i];
        } else if (!collapse || text[i - 1] != ' ') { /* the first byte of collapsed text is no space */
            memcpy(out, "\xe2\x96\x81", 3);
            out += 3;
        }
    }
    *n = (size_t)(out - e->text);
    return LLMO_OK;
}

/* Two symbols merge if their text together is a token. Neighbours lie side by side in the text. */
static void pair(const llmoi_tokenizer *t, const char *text, llmoi_symbol *s, const llmoi_symbol *next) {
    uint32_t id = llmoi_vocab_find(t, text + s->offset, (size_t)s->bytes + next->bytes);
    if (id == LLMOI_NONE || !(t->attr[id] & LLMOI_ATTR_TEXT)) return;
    s->merged = id;
    s->priority = t->priority[id];
}

llmo_status llmoi_spm_encode(llmoi_encoder *e, const char *text, size_t bytes, bool prefix) {
    size_t n;
    LLMOI_TRY(llmoi_escape_spaces(e, text, bytes, prefix, e->t->collapse_spaces, &n));
    return llmoi_merge_utf8(e, e->text, n, pair);
}
