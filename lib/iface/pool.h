/* The thread pool: one job at a time, split statically by thread index, so that results cannot depend on timing. */
#ifndef LLMOI_POOL_H
#define LLMOI_POOL_H

#include "mem.h"

typedef struct llmoi_pool llmoi_pool;

/* A job runs once per thread; index 0 is the calling thread. It divides its work by (index, n_threads). */
typedef void (*llmoi_job)(void *arg, uint32_t index, uint32_t n_threads);

/* n_threads >= 1 includes the calling thread. parallel_for: the host's job system, or NULL for own threads. */
LLMOI_MUST_CHECK llmo_status llmoi_pool_create(llmoi_mem *mem, uint32_t n_threads, void *parallel_user,
                                               void (*parallel_for)(void *, uint32_t, void (*)(void *, uint32_t),
                                                                    void *),
                                               llmoi_pool **out);
void llmoi_pool_destroy(llmoi_pool *p);
uint32_t llmoi_pool_threads(const llmoi_pool *p);

/* Runs the job on all threads and returns when all are done. Callers on several threads take turns. */
void llmoi_pool_run(llmoi_pool *p, llmoi_job job, void *arg);

/* The part of [0, n) that thread `index` of `n_threads` owns, in multiples of `step` (the last part takes the rest). */
static inline void llmoi_split(uint64_t n, uint64_t step, uint32_t index, uint32_t n_threads, uint64_t *begin,
                               uint64_t *end) {
    uint64_t units = (n + step - 1) / step;
    uint64_t b = units * index / n_threads * step;
    uint64_t e = units * (index + 1u) / n_threads * step;
    *begin = b < n ? b : n;
    *end = e < n ? e : n;
}

#endif
