/* The runtime object: memory, threads, devices, log. Everything else holds a reference to one. */
#ifndef LLMOI_RUNTIME_H
#define LLMOI_RUNTIME_H

#include "backend.h"
#include "debug.h"
#include "handle.h"

struct llmo_runtime {
    llmoi_handle handle;
    llmoi_mem mem;
    llmoi_pool *pool;
    bool host_threads; /* the pool is the host's job system */
    int process_id;
    void *log_user;
    void (*log)(void *user, int32_t level, const char *line);
    int32_t log_level;
    const llmoi_backend *cpu;
    const llmoi_backend *cuda; /* NULL without a GPU */
    const char *gpu_note;
    llmoi_debug debug;
};

LLMOI_MUST_CHECK llmo_status llmoi_runtime_create(const llmo_runtime_params *params, llmo_runtime **out);
void llmoi_runtime_release(llmo_runtime *rt); /* drops a reference */
__attribute__((format(printf, 3, 4))) void llmoi_log(const llmo_runtime *rt, int32_t level, const char *fmt, ...);

#endif
