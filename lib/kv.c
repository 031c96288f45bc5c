/* KV pages: who holds which, sharing and copy on write. A page number is the same in every layer. Knows no contents. */
#include "context.h"

void llmoi_kv_init(llmoi_kv *kv) {
    kv->n_free = kv->n_pages;
    for (uint32_t i = 0; i < kv->n_pages; i++) kv->free_list[i] = kv->n_pages - 1 - i; /* page 0 is taken first */
}

static uint32_t take_page(llmoi_kv *kv) {
    uint32_t page = kv->free_list[--kv->n_free];
    kv->refs[page] = 1;
    return page;
}

static void drop_page(llmoi_kv *kv, uint32_t page) {
    if (--kv->refs[page] == 0) kv->free_list[kv->n_free++] = page;
}

llmo_status llmoi_kv_reserve(llmo_context *c, llmo_sequence *s, uint32_t n_tokens) {
    llmoi_kv *kv = &c->kv;
    uint32_t need = (n_tokens + LLMOI_PAGE_TOKENS - 1) / LLMOI_PAGE_TOKENS;
    uint32_t first = s->n_past / LLMOI_PAGE_TOKENS; /* the page that is written first */
    bool copy = first < s->n_pages && first < need && kv->refs[s->pages[first]] > 1;
    uint32_t more = need > s->n_pages ? need - s->n_pages : 0;
    if (more + copy > kv->n_free) {
        return llmoi_fail(LLMO_E_CONTEXT_FULL, "the KV cache is full: %u pages of %u tokens needed, %u free",
                          more + copy, LLMOI_PAGE_TOKENS, kv->n_free);
    }
    if (copy) {
        uint32_t old = s->pages[first], page = take_page(kv);
        if (s->n_past % LLMOI_PAGE_TOKENS) {
            for (uint32_t i = 0; i < kv->n_layers; i++) c->be->copy_page(&kv->layers[i], old, page);
        }
        s->pages[first] = page;
        drop_page(kv, old);
    }
    while (s->n_pages < need) s->pages[s->n_pages++] = take_page(kv);
    return LLMO_OK;
}

void llmoi_kv_trim(llmo_context *c, llmo_sequence *s, uint32_t n_tokens) {
    uint32_t keep = (n_tokens + LLMOI_PAGE_TOKENS - 1) / LLMOI_PAGE_TOKENS;
    while (s->n_pages > keep) drop_page(&c->kv, s->pages[--s->n_pages]);
}

void llmoi_kv_share(llmo_context *c, const llmo_sequence *from, llmo_sequence *to, uint32_t n_tokens) {
    to->n_pages = (n_tokens + LLMOI_PAGE_TOKENS - 1) / LLMOI_PAGE_TOKENS;
    for (uint32_t i = 0; i < to->n_pages; i++) {
        to->pages[i] = from->pages[i];
        c->kv.refs[to->pages[i]]++;
    }
}
