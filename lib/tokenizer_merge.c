/* Greedy merging of neighbouring symbols with a heap, shared by SentencePiece and byte-level BPE.
 * Knows symbols and priorities; what merges with what is the caller's function. */
#include "tokenizer_internal.h"

#include <string.h>

#include "utf8.h"

static void sift_down(uint64_t *heap, size_t n, size_t i) {
    uint64_t key = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
}

void llmoi_heap_make(uint64_t *heap, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(heap, n, i);
}

void llmoi_heap_push(uint64_t *heap, size_t *n, uint64_t key) {
    size_t i = (*n)++;
    while (i > 0 && heap[(i - 1) / 2] > key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = key;
}

uint64_t llmoi_heap_pop(uint64_t *heap, size_t *n) {
    uint64_t key = heap[0];
    heap[0] = heap[--*n];
    if (*n > 0) sift_down(heap, *n, 0);
    return key;
}

llmo_status llmoi_merge_reserve(llmoi_encoder *e, size_t n) {
    LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->symbols, &e->symbols_cap, n, sizeof *e->symbols));
    /* n - 1 pairs at first, then every merge takes one key out and puts at most two in */
    return llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->heap, &e->heap_cap, 2 * n, sizeof *e->heap);
}

/* True if the symbol merges with the next one; its fields say how. */
static bool look(llmoi_encoder *e, const char *text, uint32_t i, llmoi_pair_fn pair) {
    llmoi_symbol *s = &e->symbols[i];
    s->merged = LLMOI_NONE;
    if (s->next != LLMOI_NONE) pair(e->t, text, s, &e->symbols[s->next]);
    return s->merged != LLMOI_NONE;
}

static uint64_t key_of(const llmoi_encoder *e, uint32_t i) {
    return (uint64_t)e->symbols[i].priority << 32 | i;
}

void llmoi_merge(llmoi_encoder *e, const char *text, size_t n, llmoi_pair_fn pair) {
    llmoi_symbol *symbols = e->symbols;
    size_t n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        symbols[i].prev = i > 0 ? i - 1 : LLMOI_NONE;
        symbols[i].next = i + 1 < n ? i + 1 : LLMOI_NONE;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (look(e, text, i, pair)) e->heap[n_heap++] = key_of(e, i);
    }
    llmoi_heap_make(e->heap, n_heap);
    while (n_heap > 0) {
        uint64_t key = llmoi_heap_pop(e->heap, &n_heap);
        uint32_t left = (uint32_t)key;
        llmoi_symbol *s = &symbols[left];
        /* a key of a pair that is gone; where its priority is the new pair's too, it stands for that one */
        if (s->merged == LLMOI_NONE || s->priority != (uint32_t)(key >> 32)) continue;
        llmoi_symbol *gone = &symbols[s->next];
        s->id = s->merged;
        s->bytes += gone->bytes;
        s->next = gone->next;
        if (s->next != LLMOI_NONE) symbols[s->next].prev = left;
        gone->merged = LLMOI_NONE;
        if (s->prev != LLMOI_NONE && look(e, text, s->prev, pair)) {
            llmoi_heap_push(e->heap, &n_heap, key_of(e, s->prev));
        }
        if (look(e, text, left, pair)) llmoi_heap_push(e->heap, &n_heap, key_of(e, left));
    }
}

static void emit_bytes(llmoi_encoder *e, const char *text, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t id = e->t->byte_token[(unsigned char)text[i]];
        llmoi_emit(e, id != LLMOI_NONE ? id : e->t->special[LLMO_SPECIAL_UNK]);
    }
}

/* Bytes of the character at text: what its first byte says, except that a broken one ends before an escaped space,
 * which would not become a space again. */
static size_t char_length(const char *text, size_t n) {
    size_t len = llmoi_utf8_length((unsigned char)text[0]);
    if (len > n) len = n;
    for (size_t i = 1; i < len; i++) {
        if (n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0) return i;
    }
    return len;
}

llmo_status llmoi_merge_utf8(llmoi_encoder *e, const char *text, size_t bytes, llmoi_pair_fn pair) {
    const llmoi_tokenizer *t = e->t;
    size_t n = 0;
    for (size_t at = 0; at < bytes; n++) at += char_length(text + at, bytes - at);
    LLMOI_TRY(llmoi_merge_reserve(e, n));
    n = 0;
    for (size_t at = 0; at < bytes; n++) {
        size_t len = char_length(text + at, bytes - at);
        uint32_t id = llmoi_vocab_find(t, text + at, len);
        if (id != LLMOI_NONE && !(t->attr[id] & LLMOI_ATTR_TEXT)) id = LLMOI_NONE;
        e->symbols[n] = (llmoi_symbol){.offset = (uint32_t)at, .bytes = (uint32_t)len, .id = id};
        at += len;
    }
    if (n == 0) return LLMO_OK;
    llmoi_merge(e, text, n, pair);
    for (uint32_t i = 0; i != LLMOI_NONE; i = e->symbols[i].next) {
        const llmoi_symbol *s = &e->symbols[i];
        if (s->id != LLMOI_NONE)
            llmoi_emit(e, s->id);
        else
            emit_bytes(e, text + s->offset, s->bytes);
    }
    return LLMO_OK;
}
