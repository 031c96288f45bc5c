/* The vocabulary's tables, read from the header: texts, types, scores, merges, and the hash tables over them.
 * Whatever the arrays hold, the tables are safe to use. Knows nothing of special roles or of encoding. */
#include "tokenizer_internal.h"

#include <string.h>

#include "utf8.h"

#define KEY_TOKENS "tokenizer.ggml.tokens"
#define KEY_TYPES  "tokenizer.ggml.token_type"
#define KEY_SCORES "tokenizer.ggml.scores"
#define KEY_MERGES "tokenizer.ggml.merges"

/* --- bytes as characters ---------------------------------------------------------------------------------------- */

/* Bytes that print in Latin-1 stand for themselves; the others, in order, for U+0100 and following. */
static bool prints(unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

uint32_t llmoi_byte_to_char(unsigned char b) {
    if (prints(b)) return b;
    return 256u + (b < 33 ? b : b < 161 ? 33u + b - 127u : 67u);
}

int llmoi_char_to_byte(uint32_t cp) {
    if (cp < 256) return prints(cp) ? (int)cp : -1;
    cp -= 256;
    if (cp < 33) return (int)cp;
    if (cp < 67) return (int)(cp - 33 + 127);
    return cp == 67 ? 173 : -1;
}

/* --- text -> token ---------------------------------------------------------------------------------------------- */

static uint32_t hash_text(uint64_t seed, const char *text, size_t n) {
    uint64_t h = llmoi_mix(seed, n), chunk;
    for (; n >= 8; n -= 8, text += 8) {
        memcpy(&chunk, text, 8);
        h = llmoi_mix(h, chunk);
    }
    chunk = 0;
    memcpy(&chunk, text, n);
    h = llmoi_mix(h, chunk);
    return (uint32_t)(h >> 32);
}

/* The slot of the text: its token's, or the empty one where it belongs. */
static llmoi_vocab_slot *find_slot(const llmoi_tokenizer *t, uint32_t hash, const char *text, size_t n) {
    for (uint32_t i = hash & t->slot_mask;; i = (i + 1) & t->slot_mask) {
        llmoi_vocab_slot *s = &t->slots[i];
        if (s->id == LLMOI_NONE) return s;
        if (s->hash == hash && t->text[s->id].len == n && memcmp(t->text[s->id].ptr, text, n) == 0) return s;
    }
}

uint32_t llmoi_vocab_find(const llmoi_tokenizer *t, const char *text, size_t n) {
    if (n == 0 || n > t->max_bytes) return LLMOI_NONE;
    return find_slot(t, hash_text(t->seed, text, n), text, n)->id;
}

/* Slots for n entries, filled to three quarters at most: a power of two. */
static uint32_t slot_count(uint64_t n) {
    uint32_t count = 16;
    while (count / 4 * 3 < n) count *= 2;
    return count;
}

static llmo_status hash_tokens(llmoi_tokenizer *t) {
    uint32_t count = slot_count(t->n);
    t->slots = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HEADER, count, sizeof *t->slots);
    if (!t->slots) return LLMO_E_NOMEM;
    memset(t->slots, 0xff, count * sizeof *t->slots);
    t->slot_mask = count - 1;
    for (uint32_t id = 0; id < t->n; id++) {
        llmoi_str s = t->text[id];
        if (s.len == 0) continue; /* matches no text */
        uint32_t hash = hash_text(t->seed, s.ptr, s.len);
        llmoi_vocab_slot *slot = find_slot(t, hash, s.ptr, s.len);
        if (slot->id == LLMOI_NONE) *slot = (llmoi_vocab_slot){hash, id};
    }
    return LLMO_OK;
}

/* --- arrays of the header --------------------------------------------------------------------------------------- */

/* True and the byte if the text is <0xXX>. */
static bool parse_escape(llmoi_str s, unsigned char *byte) {
    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) != 0 || s.ptr[5] != '>') return false;
    unsigned v = 0;
    for (int i = 3; i < 5; i++) {
        char c = s.ptr[i];
        if (c >= '0' && c <= '9')
            v = v * 16 + (unsigned)(c - '0');
        else if (c >= 'A' && c <= 'F')
            v = v * 16 + (unsigned)(c - 'A' + 10);
        else if (c >= 'a' && c <= 'f')
            v = v * 16 + (unsigned)(c - 'a' + 10);
        else
            return false;
    }
    *byte = (unsigned char)v;
    return true;
}

/* The array's length; it must have an element for every token and be of the kind that the format says. */
static llmo_status check_array(const llmoi_tokenizer *t, const char *key, bool floats, bool *there) {
    llmoi_gguf_kind kind = LLMOI_GGUF_I32;
    uint64_t count = 0;
    *there = llmoi_gguf_has(t->g, key);
    if (!*there) return LLMO_OK;
    LLMOI_TRY(llmoi_gguf_array(t->g, key, true, &kind, &count));
    bool fits = floats ? kind == LLMOI_GGUF_F32 : kind == LLMOI_GGUF_I32 || kind == LLMOI_GGUF_U32;
    if (!fits) {
        return llmoi_fail(LLMO_E_FORMAT, "%s: elements are of kind %d, must be %s", key, (int)kind,
                          floats ? "f32" : "i32");
    }
    if (count < t->n) {
        return llmoi_fail(LLMO_E_FORMAT, "%s: %llu elements for %u tokens", key, (unsigned long long)count, t->n);
    }
    return LLMO_OK;
}

static llmo_status load_types(llmoi_tokenizer *t) {
    /* by the numbers of the file: undefined, normal, unknown, control, user-defined, unused, byte */
    static const uint16_t attr_of[] = {0,
                                       LLMOI_ATTR_NORMAL,
                                       LLMO_TOKEN_ATTR_UNKNOWN,
                                       LLMO_TOKEN_ATTR_CONTROL,
                                       LLMO_TOKEN_ATTR_USER,
                                       LLMO_TOKEN_ATTR_UNUSED,
                                       LLMO_TOKEN_ATTR_BYTE};
    bool there;
    LLMOI_TRY(check_array(t, KEY_TYPES, false, &there));
    t->attr = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HEADER, t->n, sizeof *t->attr);
    if (!t->attr) return LLMO_E_NOMEM;
    for (uint32_t id = 0; id < t->n; id++) {
        int64_t type = 1;
        unsigned char byte;
        if (there) LLMOI_TRY(llmoi_gguf_array_i64(t->g, KEY_TYPES, id, &type));
        t->attr[id] = type >= 0 && type <= 6 ? attr_of[type] : 0;
        if (type == 6 && parse_escape(t->text[id], &byte)) t->attr[id] |= LLMOI_ATTR_ESCAPE;
    }
    return LLMO_OK;
}

/* A number that is the smaller the larger the score is; NaN counts as the smallest score. */
static uint32_t priority_of(float score) {
    uint32_t bits;
    if (!(score == score)) return LLMOI_NONE;
    if (score == 0) score = 0; /* -0 and 0 are equal */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

static llmo_status load_scores(llmoi_tokenizer *t) {
    bool there;
    LLMOI_TRY(check_array(t, KEY_SCORES, true, &there));
    t->priority = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HEADER, t->n, sizeof *t->priority);
    if (!t->priority) return LLMO_E_NOMEM;
    for (uint32_t id = 0; id < t->n; id++) {
        float score = 0;
        if (there) LLMOI_TRY(llmoi_gguf_array_f32(t->g, KEY_SCORES, id, &score));
        t->priority[id] = priority_of(score);
    }
    return LLMO_OK;
}

llmo_status llmoi_vocab_load(llmoi_tokenizer *t) {
    llmoi_gguf_kind kind = LLMOI_GGUF_STRING;
    uint64_t count = 0;
    LLMOI_TRY(llmoi_gguf_array(t->g, KEY_TOKENS, true, &kind, &count));
    if (kind != LLMOI_GGUF_STRING) {
        return llmoi_fail(LLMO_E_FORMAT, KEY_TOKENS ": elements are of kind %d, must be strings", (int)kind);
    }
    if (count == 0) return llmoi_fail(LLMO_E_FORMAT, KEY_TOKENS ": no tokens");
    if (count > LLMOI_VOCAB_MAX) {
        return llmoi_fail(LLMO_E_UNSUPPORTED, KEY_TOKENS ": %llu tokens, at most %llu are supported",
                          (unsigned long long)count, (unsigned long long)LLMOI_VOCAB_MAX);
    }
    t->n = (uint32_t)count;
    t->text = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HEADER, t->n, sizeof *t->text);
    if (!t->text) return LLMO_E_NOMEM;
    LLMOI_TRY(llmoi_gguf_array_strings(t->g, KEY_TOKENS, t->text, t->n));
    for (uint32_t id = 0; id < t->n; id++) {
        if (t->text[id].len > t->max_bytes) t->max_bytes = (uint32_t)t->text[id].len;
    }
    LLMOI_TRY(hash_tokens(t));
    LLMOI_TRY(load_types(t));
    return t->kind == LLMOI_VOCAB_SPM ? load_scores(t) : LLMO_OK;
}

void llmoi_vocab_fill_byte_tokens(llmoi_tokenizer *t) {
    static const char hex[] = "0123456789ABCDEF";
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        uint32_t id;
        if (t->kind == LLMOI_VOCAB_SPM || t->raw) {
            memcpy(text, "<0x", 3);
            text[3] = hex[b >> 4];
            text[4] = hex[b & 15];
            text[5] = '>';
            id = llmoi_vocab_find(t, text, 6);
            text[0] = (char)b;
            if (id == LLMOI_NONE) id = llmoi_vocab_find(t, text, 1);
        } else {
            id = llmoi_vocab_find(t, text, llmoi_utf8_encode(llmoi_byte_to_char((unsigned char)b), text));
        }
        if (id != LLMOI_NONE && t->attr[id] & (LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_UNKNOWN)) id = LLMOI_NONE;
        t->byte_token[b] = id;
    }
}

/* --- merges ------------------------------------------------------------------------------------------------------ */

static llmoi_merge_slot *find_merge(const llmoi_tokenizer *t, uint32_t left, uint32_t right) {
    uint32_t i = (uint32_t)(llmoi_mix(t->seed, (uint64_t)left << 32 | right) >> 32) & t->merge_mask;
    for (;; i = (i + 1) & t->merge_mask) {
        llmoi_merge_slot *m = &t->merges[i];
        if (m->left == LLMOI_NONE || (m->left == left && m->right == right)) return m;
    }
}

const llmoi_merge_slot *llmoi_vocab_merge(const llmoi_tokenizer *t, uint32_t left, uint32_t right) {
    if (left == LLMOI_NONE || right == LLMOI_NONE || !t->merges) return NULL;
    const llmoi_merge_slot *m = find_merge(t, left, right);
    return m->left == LLMOI_NONE ? NULL : m;
}

/* Adds the merge "left right". One that names text that is no token, or that would make no token or a control token,
 * can never take part and is left out. word holds max_bytes. */
static void add_merge(llmoi_tokenizer *t, llmoi_str s, uint32_t rank, char *word) {
    const char *space = s.len > 1 ? memchr(s.ptr + 1, ' ', s.len - 1) : NULL;
    if (!space) return;
    size_t n_left = (size_t)(space - s.ptr), n_right = s.len - n_left - 1;
    if (n_left + n_right > t->max_bytes) return;
    uint32_t left = llmoi_vocab_find(t, s.ptr, n_left), right = llmoi_vocab_find(t, space + 1, n_right);
    if (left == LLMOI_NONE || right == LLMOI_NONE) return;
    memcpy(word, s.ptr, n_left);
    memcpy(word + n_left, space + 1, n_right);
    uint32_t merged = llmoi_vocab_find(t, word, n_left + n_right);
    if (merged == LLMOI_NONE || !(t->attr[merged] & LLMOI_ATTR_TEXT)) return;
    llmoi_merge_slot *m = find_merge(t, left, right);
    if (m->left == LLMOI_NONE) *m = (llmoi_merge_slot){left, right, rank, merged};
}

llmo_status llmoi_vocab_load_merges(llmoi_tokenizer *t, bool required) {
    llmoi_gguf_kind kind = LLMOI_GGUF_STRING;
    uint64_t count = 0;
    LLMOI_TRY(llmoi_gguf_array(t->g, KEY_MERGES, required, &kind, &count));
    if (count == 0) return LLMO_OK;
    if (kind != LLMOI_GGUF_STRING) {
        return llmoi_fail(LLMO_E_FORMAT, KEY_MERGES ": elements are of kind %d, must be strings", (int)kind);
    }
    if (count > LLMOI_VOCAB_MAX) {
        return llmoi_fail(LLMO_E_UNSUPPORTED, KEY_MERGES ": %llu merges, at most %llu are supported",
                          (unsigned long long)count, (unsigned long long)LLMOI_VOCAB_MAX);
    }
    uint32_t slots = slot_count(count);
    t->merges = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HEADER, slots, sizeof *t->merges);
    llmoi_str *list = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HOST, (size_t)count, sizeof *list);
    char *word = llmoi_alloc(t->mem, LLMO_PURPOSE_HOST, t->max_bytes);
    llmo_status st = t->merges && list && word ? LLMO_OK : LLMO_E_NOMEM;
    if (st == LLMO_OK) {
        memset(t->merges, 0xff, slots * sizeof *t->merges);
        t->merge_mask = slots - 1;
        st = llmoi_gguf_array_strings(t->g, KEY_MERGES, list, count);
    }
    for (uint32_t i = 0; st == LLMO_OK && i < count; i++) add_merge(t, list[i], i, word);
    llmoi_free(t->mem, word);
    llmoi_free(t->mem, list);
    return st;
}
