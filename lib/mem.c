/* The allocator: host hooks or own, a header per block with its size and tag, accounts that chain to the runtime's. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>

#include "os.h"

#define LLMOI_ALIGN      64u
#define LLMOI_PAGE_BLOCK ((size_t)1 << 20) /* own blocks from here on come from huge pages */

typedef struct block_header {
    size_t payload_bytes;
    uint32_t tag;
    uint32_t from_pages;
    char pad[LLMOI_ALIGN - 2 * sizeof(size_t)];
} block_header;
_Static_assert(sizeof(block_header) == LLMOI_ALIGN, "payload follows the header at 64-byte alignment");

void llmoi_mem_init(llmoi_mem *m, void *user, void *(*alloc)(void *, size_t, size_t),
                    void (*release)(void *, void *, size_t)) {
    memset(m, 0, sizeof *m);
    m->user = user;
    m->alloc = alloc;
    m->release = release;
}

void llmoi_mem_init_child(llmoi_mem *m, llmoi_mem *parent) {
    llmoi_mem_init(m, parent->user, parent->alloc, parent->release);
    m->parent = parent;
}

static void account(llmoi_mem *m, uint32_t tag, size_t bytes) {
    for (; m; m = m->parent) {
        uint64_t now = atomic_fetch_add_explicit(&m->bytes[tag], bytes, memory_order_relaxed) + bytes;
        uint64_t peak = atomic_load_explicit(&m->peak[tag], memory_order_relaxed);
        while (now > peak && !atomic_compare_exchange_weak_explicit(&m->peak[tag], &peak, now, memory_order_relaxed,
                                                                    memory_order_relaxed)) {
        }
        atomic_fetch_add_explicit(&m->n_allocs, 1, memory_order_relaxed);
    }
}

static block_header *take(llmoi_mem *m, size_t total, uint32_t *from_pages) {
    *from_pages = 0;
    if (m->alloc) return m->alloc(m->user, total, LLMOI_ALIGN);
    if (total >= LLMOI_PAGE_BLOCK) {
        *from_pages = 1;
        return llmoi_os_pages_alloc(total);
    }
    return aligned_alloc(LLMOI_ALIGN, (total + LLMOI_ALIGN - 1) / LLMOI_ALIGN * LLMOI_ALIGN);
}

void *llmoi_alloc(llmoi_mem *m, llmoi_tag tag, size_t bytes) {
    size_t total;
    uint32_t from_pages = 0;
    block_header *h = NULL;
    if (llmoi_add_ok(bytes, sizeof *h + LLMOI_ALIGN, &total)) h = take(m, total - LLMOI_ALIGN, &from_pages);
    if (!h) {
        (void)llmoi_fail(LLMO_E_NOMEM, "out of memory: %zu bytes for %s", bytes, llmo_purpose_name((int32_t)tag));
        return NULL;
    }
    h->payload_bytes = bytes;
    h->tag = (uint32_t)tag;
    h->from_pages = from_pages;
    account(m, (uint32_t)tag, bytes);
    return h + 1;
}

void *llmoi_zalloc(llmoi_mem *m, llmoi_tag tag, size_t bytes) {
    void *p = llmoi_alloc(m, tag, bytes);
    /* pages from the OS are zero already; writing to them would only fault them in early */
    if (p && !((block_header *)p)[-1].from_pages) memset(p, 0, bytes);
    return p;
}

void *llmoi_alloc_array(llmoi_mem *m, llmoi_tag tag, size_t count, size_t elem_bytes) {
    size_t bytes;
    return llmoi_alloc(m, tag, llmoi_mul_ok(count, elem_bytes, &bytes) ? bytes : SIZE_MAX);
}

void *llmoi_zalloc_array(llmoi_mem *m, llmoi_tag tag, size_t count, size_t elem_bytes) {
    size_t bytes;
    return llmoi_zalloc(m, tag, llmoi_mul_ok(count, elem_bytes, &bytes) ? bytes : SIZE_MAX);
}

llmo_status llmoi_grow(llmoi_mem *m, llmoi_tag tag, void **array, size_t *cap, size_t need, size_t elem_bytes) {
    if (need <= *cap) return LLMO_OK;
    size_t n = *cap < 8 ? 16 : *cap * 2;
    if (n < need) n = need;
    void *p = llmoi_alloc_array(m, tag, n, elem_bytes);
    if (!p) return LLMO_E_NOMEM;
    if (*array) memcpy(p, *array, *cap * elem_bytes);
    llmoi_free(m, *array);
    *array = p;
    *cap = n;
    return LLMO_OK;
}

void llmoi_free(llmoi_mem *m, void *ptr) {
    if (!ptr) return;
    block_header *h = (block_header *)ptr - 1;
    size_t bytes = h->payload_bytes;
    for (llmoi_mem *a = m; a; a = a->parent) {
        atomic_fetch_sub_explicit(&a->bytes[h->tag], bytes, memory_order_relaxed);
    }
    if (m->release)
        m->release(m->user, h, bytes + sizeof *h);
    else if (h->from_pages)
        llmoi_os_pages_free(h, bytes + sizeof *h);
    else
        free(h);
}

char *llmoi_strdup(llmoi_mem *m, llmoi_tag tag, const char *s, size_t len) {
    char *p = llmoi_alloc(m, tag, len < SIZE_MAX ? len + 1 : len);
    if (!p) return NULL;
    if (len) memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

uint64_t llmoi_mem_total(const llmoi_mem *m) {
    uint64_t sum = 0;
    for (int i = 0; i < LLMO_PURPOSE_COUNT; i++) sum += atomic_load_explicit(&m->bytes[i], memory_order_relaxed);
    return sum;
}
