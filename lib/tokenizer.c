/* The tokenizer: creation from a file's header, encode and decode. Dispatches to SentencePiece or BPE.
 * Knows nothing of models, sequences or chat formats. */
#include "tokenizer_internal.h"

#include <stdio.h>
#include <string.h>

#include "os.h"
#include "utf8.h"

/* --- creation ----------------------------------------------------------------------------------------------------- */

static bool str_is(llmoi_str s, const char *text) {
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

/* For messages and names: enough of a string of the file. */
static int shown(llmoi_str s) {
    return s.len < 48 ? (int)s.len : 48;
}

/* A file without a tokenizer: tokens can be used by number if the file says how many there are. */
static llmo_status create_none(llmoi_tokenizer *t) {
    llmoi_str arch = {"", 0};
    char key[128];
    memcpy(t->name, "none", 5);
    LLMOI_TRY(llmoi_gguf_string(t->g, "general.architecture", false, &arch));
    (void)snprintf(key, sizeof key, "%.*s.vocab_size", arch.len < 64 ? (int)arch.len : 64, arch.ptr);
    return llmoi_gguf_u32(t->g, key, false, 0, (uint32_t)LLMOI_VOCAB_MAX, &t->n);
}

static llmo_status create_spm(llmoi_tokenizer *t) {
    t->kind = LLMOI_VOCAB_SPM;
    t->special[LLMO_SPECIAL_BOS] = 1;
    t->special[LLMO_SPECIAL_EOS] = 2;
    t->special[LLMO_SPECIAL_UNK] = 0;
    t->space_prefix = true;
    t->add_bos = true;
    memcpy(t->name, "llama", 6);
    LLMOI_TRY(llmoi_gguf_bool(t->g, "tokenizer.ggml.add_space_prefix", false, &t->space_prefix));
    LLMOI_TRY(llmoi_gguf_bool(t->g, "tokenizer.ggml.remove_extra_whitespaces", false, &t->collapse_spaces));
    LLMOI_TRY(llmoi_vocab_load(t));
    LLMOI_TRY(llmoi_special_load(t, ""));
    return llmoi_special_build(t);
}

static llmo_status create_bpe(llmoi_tokenizer *t, llmoi_str model, llmoi_str pre) {
    uint32_t flags;
    t->kind = LLMOI_VOCAB_BPE;
    (void)snprintf(t->name, sizeof t->name, "%.*s/%.*s", shown(model) < 24 ? shown(model) : 24, model.ptr, shown(pre),
                   pre.ptr);
    LLMOI_TRY(llmoi_pretokenizer_flags(pre, &flags));
    t->raw = flags & LLMOI_PRE_RAW;
    t->ignore_merges = flags & LLMOI_PRE_IGNORE_MERGES;
    t->newline_words = flags & LLMOI_PRE_GEMMA4;
    t->add_bos = flags & LLMOI_PRE_ADD_BOS;
    if (str_is(model, "gpt2")) { /* what the first such files meant without saying so */
        t->special[LLMO_SPECIAL_EOS] = 11;
        if (!(flags & LLMOI_PRE_NO_BOS)) t->special[LLMO_SPECIAL_BOS] = 11;
    }
    LLMOI_TRY(llmoi_pretokenizer_create(t->mem, pre, &t->pre));
    LLMOI_TRY(llmoi_vocab_load(t));
    LLMOI_TRY(llmoi_special_load(t, strchr(t->name, '/') + 1));
    if (flags & LLMOI_PRE_GEMMA4) t->add_bos = true;
    LLMOI_TRY(llmoi_vocab_load_merges(t, !(flags & LLMOI_PRE_NO_MERGES)));
    return llmoi_special_build(t);
}

static llmo_status create(llmoi_tokenizer *t, const char *pre_override) {
    llmoi_str model = {"none", 4}, pre = {"default", 7};
    uint32_t flags;
    LLMOI_TRY(llmoi_gguf_string(t->g, "tokenizer.ggml.model", false, &model));
    LLMOI_TRY(llmoi_gguf_string(t->g, "tokenizer.ggml.pre", false, &pre));
    if (pre_override) {
        pre = (llmoi_str){pre_override, strlen(pre_override)};
        LLMOI_TRY(llmoi_pretokenizer_flags(pre, &flags));
    } else if (str_is(model, "gemma4")) {
        pre = (llmoi_str){"gemma4", 6};
    } else if (pre.len == 0) {
        pre = (llmoi_str){"default", 7};
    }
    if (str_is(model, "none") || str_is(model, "no_vocab")) return create_none(t);
    if (str_is(model, "llama")) return create_spm(t);
    if (str_is(model, "gpt2") || str_is(model, "gemma4")) return create_bpe(t, model, pre);
    return llmoi_fail(
        LLMO_E_UNSUPPORTED,
        "tokenizer.ggml.model: tokenizers of kind \"%.*s\" are not supported (llama, gpt2 and gemma4 are)",
        shown(model), model.ptr);
}

llmo_status llmoi_tokenizer_create(llmoi_mem *mem, const llmoi_gguf *g, const char *pre, llmoi_tokenizer **out) {
    *out = NULL;
    llmoi_tokenizer *t = llmoi_zalloc(mem, LLMO_PURPOSE_HEADER, sizeof *t);
    if (!t) return LLMO_E_NOMEM;
    t->mem = mem;
    t->g = g;
    t->seed = llmoi_mix(llmoi_os_time_us(), (uint64_t)(uintptr_t)t);
    for (int i = 0; i <= LLMO_SPECIAL_NL; i++) t->special[i] = LLMOI_NONE;
    llmo_status st = create(t, pre);
    if (st != LLMO_OK) {
        llmoi_tokenizer_destroy(t);
        return st;
    }
    *out = t;
    return LLMO_OK;
}

void llmoi_tokenizer_destroy(llmoi_tokenizer *t) {
    if (!t) return;
    llmoi_pretokenizer_destroy(t->pre);
    llmoi_special_free(t);
    llmoi_free(t->mem, t->merges);
    llmoi_free(t->mem, t->slots);
    llmoi_free(t->mem, t->priority);
    llmoi_free(t->mem, t->attr);
    llmoi_free(t->mem, t->text);
    llmoi_free(t->mem, t);
}

/* --- getters ------------------------------------------------------------------------------------------------------ */

uint32_t llmoi_tokenizer_n_vocab(const llmoi_tokenizer *t) {
    return t->n;
}

llmo_token llmoi_tokenizer_special(const llmoi_tokenizer *t, int32_t special) {
    if (special < LLMO_SPECIAL_BOS || special > LLMO_SPECIAL_NL) return LLMO_TOKEN_NONE;
    uint32_t id = t->special[special];
    return id == LLMOI_NONE ? LLMO_TOKEN_NONE : (llmo_token)id;
}

uint32_t llmoi_tokenizer_attr(const llmoi_tokenizer *t, llmo_token token) {
    if (token < 0 || (uint32_t)token >= t->n) return UINT32_MAX;
    return t->kind == LLMOI_VOCAB_NONE ? 0 : t->attr[token] & LLMOI_ATTR_PUBLIC;
}

const char *llmoi_tokenizer_name(const llmoi_tokenizer *t) {
    return t->name;
}

size_t llmoi_tokenizer_max_piece_bytes(const llmoi_tokenizer *t) {
    return t->max_bytes > 0 ? t->max_bytes : 1; /* no token's bytes are longer than its text */
}

bool llmoi_tokenizer_strips_first_space(const llmoi_tokenizer *t) {
    return t->kind == LLMOI_VOCAB_SPM && t->space_prefix;
}

/* --- encode ------------------------------------------------------------------------------------------------------- */

static llmo_status encode_fragment(llmoi_encoder *e, uint32_t id, const char *text, size_t n) {
    const llmoi_tokenizer *t = e->t;
    if (id != LLMOI_NONE) {
        llmoi_emit(e, id);
        e->after_special = true;
        return LLMO_OK;
    }
    bool prefix = t->space_prefix && e->after_special;
    e->after_special = false;
    return t->kind == LLMOI_VOCAB_SPM ? llmoi_spm_encode(e, text, n, prefix) : llmoi_bpe_encode(e, text, n);
}

llmo_status llmoi_tokenizer_encode(const llmoi_tokenizer *t, llmoi_mem *mem, const char *text, size_t text_bytes,
                                   uint32_t flags, llmo_token *tokens, size_t cap, size_t *n_tokens) {
    if (t->kind == LLMOI_VOCAB_NONE) return llmoi_fail(LLMO_E_UNSUPPORTED, "the file has no tokenizer");
    if (text_bytes > LLMOI_TEXT_MAX_BYTES) {
        return llmoi_fail(LLMO_E_ARG, "text_bytes: %zu, at most %zu at a time", text_bytes, LLMOI_TEXT_MAX_BYTES);
    }
    llmoi_encoder e = {.t = t, .mem = mem, .out = tokens, .cap = cap, .after_special = true};
    bool add = flags & LLMO_TOKENIZE_ADD_SPECIAL;
    if (add && t->add_bos) llmoi_emit(&e, t->special[LLMO_SPECIAL_BOS]);
    const llmoi_special_index *index = flags & LLMO_TOKENIZE_PARSE_SPECIAL ? &t->all : &t->always;
    llmo_status st = llmoi_special_split(&e, index, text, text_bytes, encode_fragment);
    if (add && t->add_eos) llmoi_emit(&e, t->special[LLMO_SPECIAL_EOS]);
    llmoi_free(mem, e.ends[1]);
    llmoi_free(mem, e.ends[0]);
    llmoi_free(mem, e.word);
    llmoi_free(mem, e.subject);
    llmoi_free(mem, e.clean);
    llmoi_free(mem, e.text);
    llmoi_free(mem, e.heap);
    llmoi_free(mem, e.symbols);
    if (st != LLMO_OK) return st;
    *n_tokens = e.n;
    if (e.n > cap) return llmoi_fail(LLMO_E_BUFFER, "tokens: room for %zu, %zu are needed", cap, e.n);
    return LLMO_OK;
}

/* --- decode ------------------------------------------------------------------------------------------------------- */

#define ESCAPED_SPACE "\xe2\x96\x81"

static bool starts_with_escaped_space(llmoi_str s) {
    return s.len >= 3 && memcmp(s.ptr, ESCAPED_SPACE, 3) == 0;
}

/* U+2581 back to spaces. Returns the number of bytes; out may be NULL. */
static size_t render_unescaped(llmoi_str s, char *out) {
    size_t n = 0;
    while (s.len > 0) {
        bool space = starts_with_escaped_space(s);
        if (out) out[n] = space ? ' ' : s.ptr[0];
        n++;
        s.ptr += space ? 3 : 1;
        s.len -= space ? 3 : 1;
    }
    return n;
}

/* Characters back to the bytes that they stand for; others stay as they are. */
static size_t render_byte_level(llmoi_str s, char *out) {
    size_t n = 0;
    while (s.len > 0) {
        uint32_t cp = UINT32_MAX;
        size_t len = llmoi_utf8_decode(s.ptr, s.len, &cp);
        int byte = len > 0 ? llmoi_char_to_byte(cp) : -1;
        if (len == 0) len = 1;
        if (byte >= 0) {
            if (out) out[n] = (char)byte;
            n++;
        } else {
            if (out) memcpy(out + n, s.ptr, len);
            n += len;
        }
        s.ptr += len;
        s.len -= len;
    }
    return n;
}

/* The token's bytes to out (NULL: only counted). strip: without one leading space. */
static size_t render(const llmoi_tokenizer *t, uint32_t id, bool special, bool strip, char *out) {
    uint32_t attr = t->attr[id];
    llmoi_str s = t->text[id];
    if (attr & LLMOI_ATTR_ESCAPE) {
        unsigned hi = (unsigned char)s.ptr[3], lo = (unsigned char)s.ptr[4];
        char byte = (char)(((hi & 15) + (hi > '9' ? 9 : 0)) << 4 | ((lo & 15) + (lo > '9' ? 9 : 0)));
        if (strip && byte == ' ') return 0;
        if (out) *out = byte;
        return 1;
    }
    bool hidden = attr & (LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_UNKNOWN);
    if (hidden && !special) return 0;
    bool literal = hidden || attr & LLMO_TOKEN_ATTR_USER;
    if (!literal && !(attr & (LLMOI_ATTR_NORMAL | LLMO_TOKEN_ATTR_BYTE))) return 0; /* unused or undefined */
    bool escaped = !literal && (t->raw || t->kind == LLMOI_VOCAB_SPM);
    if (strip && s.len > 0 && s.ptr[0] == ' ')
        s.ptr++, s.len--;
    else if (strip && escaped && starts_with_escaped_space(s))
        s.ptr += 3, s.len -= 3;
    if (escaped) return render_unescaped(s, out);
    if (!literal) return render_byte_level(s, out);
    if (out && s.len > 0) memcpy(out, s.ptr, s.len);
    return s.len;
}

size_t llmoi_tokenizer_piece(const llmoi_tokenizer *t, llmo_token token, bool special, char *out) {
    if (t->kind == LLMOI_VOCAB_NONE || token < 0 || (uint32_t)token >= t->n) return 0;
    return render(t, (uint32_t)token, special, false, out);
}

llmo_status llmoi_tokenizer_decode(const llmoi_tokenizer *t, const llmo_token *tokens, size_t n_tokens, uint32_t flags,
                                   char *text, size_t cap, size_t *text_bytes) {
    if (t->kind == LLMOI_VOCAB_NONE) return llmoi_fail(LLMO_E_UNSUPPORTED, "the file has no tokenizer");
    bool special = flags & LLMO_DETOKENIZE_SPECIAL;
    bool strip = llmoi_tokenizer_strips_first_space(t) && !(flags & LLMO_DETOKENIZE_CONTINUATION);
    size_t total = 0;
    for (size_t i = 0; i < n_tokens; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= t->n) {
            return llmoi_fail(LLMO_E_ARG, "tokens[%zu]: %d is outside the vocabulary of %u tokens", i, tokens[i], t->n);
        }
        uint32_t id = (uint32_t)tokens[i];
        size_t n = render(t, id, special, strip, NULL);
        if (total <= cap && n <= cap - total && n > 0) (void)render(t, id, special, strip, text + total);
        total += n;
        /* a start token that is not shown does not use the rule up: the space behind it was added, too */
        if (special || !(t->attr[id] & LLMO_TOKEN_ATTR_CONTROL)) strip = false;
    }
    *text_bytes = total;
    if (total > cap) return llmoi_fail(LLMO_E_BUFFER, "text: room for %zu bytes, %zu are needed", cap, total);
    return LLMO_OK;
}
