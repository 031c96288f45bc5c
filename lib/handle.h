/* What every public handle starts with: a magic number that is wiped before the memory is freed, a reference count, and
 * the sentence of the handle's last failure. */
#ifndef LLMOI_HANDLE_H
#define LLMOI_HANDLE_H

#include <stdatomic.h>
#include <pthread.h>
#include <string.h>

#include "mem.h"

typedef enum llmoi_kind {
    LLMOI_RUNTIME = 0x72746d31,
    LLMOI_MODEL = 0x6d646c31,
    LLMOI_PLAN = 0x706c6e31,
    LLMOI_CONTEXT = 0x63747831,
    LLMOI_SEQUENCE = 0x73657131,
    LLMOI_GENERATION = 0x67656e31
} llmoi_kind;

typedef struct llmoi_handle {
    _Atomic uint32_t magic; /* llmoi_kind while alive */
    _Atomic uint32_t refs;
    pthread_mutex_t error_lock;
    char error[LLMOI_MESSAGE_BYTES];
} llmoi_handle;

void llmoi_handle_init(llmoi_handle *h, llmoi_kind kind);
void llmoi_handle_wipe(llmoi_handle *h);
static inline bool llmoi_handle_is(const llmoi_handle *h, llmoi_kind kind) {
    return h && atomic_load_explicit(&h->magic, memory_order_relaxed) == (uint32_t)kind;
}
/* The caller's destroy call: true once; from then on the handle is refused, however long children keep the object. */
static inline bool llmoi_handle_retire(llmoi_handle *h, llmoi_kind kind) {
    uint32_t alive = (uint32_t)kind;
    return atomic_compare_exchange_strong_explicit(&h->magic, &alive, 0, memory_order_acq_rel, memory_order_relaxed);
}
static inline void llmoi_handle_retain(llmoi_handle *h) {
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
}
/* True if this was the last reference. */
static inline bool llmoi_handle_drop(llmoi_handle *h) {
    return atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1;
}
/* Copies this thread's sentence to the handle; returns st. */
llmo_status llmoi_handle_note(llmoi_handle *h, llmo_status st);

#endif
