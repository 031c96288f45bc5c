/* Creating and releasing runtimes, the log, and what all handles share. */
#include "runtime.h"

#include <stdarg.h>
#include <stdio.h>

#include "os.h"

void llmoi_handle_init(llmoi_handle *h, llmoi_kind kind) {
    (void)pthread_mutex_init(&h->error_lock, NULL);
    h->error[0] = '\0';
    atomic_store_explicit(&h->refs, 1, memory_order_relaxed);
    atomic_store_explicit(&h->magic, (uint32_t)kind, memory_order_relaxed);
}

void llmoi_handle_wipe(llmoi_handle *h) {
    atomic_store_explicit(&h->magic, 0, memory_order_relaxed);
    (void)pthread_mutex_destroy(&h->error_lock);
}

llmo_status llmoi_handle_note(llmoi_handle *h, llmo_status st) {
    if (st == LLMO_OK) return st;
    (void)pthread_mutex_lock(&h->error_lock);
    memcpy(h->error, llmoi_message(), strlen(llmoi_message()) + 1);
    (void)pthread_mutex_unlock(&h->error_lock);
    return st;
}

const char *llmo_purpose_name(int32_t purpose) {
    static const char *const names[LLMO_PURPOSE_COUNT] = {"weights", "kv",     "compute", "logits",
                                                          "state",   "header", "host"};
    return purpose >= 0 && purpose < LLMO_PURPOSE_COUNT ? names[purpose] : "unknown";
}

void llmoi_log(const llmo_runtime *rt, int32_t level, const char *fmt, ...) {
    if (!rt->log || level > rt->log_level) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    rt->log(rt->log_user, level, line);
}

llmo_status llmoi_runtime_create(const llmo_runtime_params *p, llmo_runtime **out) {
    if (p->n_threads != LLMO_THREADS_AUTO && (p->n_threads < 1 || p->n_threads > LLMO_THREADS_MAX)) {
        return llmoi_fail(LLMO_E_ARG, "n_threads %d is neither LLMO_THREADS_AUTO nor in 1..%d", p->n_threads,
                          LLMO_THREADS_MAX);
    }
    if (p->reserved0) return llmoi_fail(LLMO_E_ARG, "reserved0 is %d, not 0", p->reserved0);
    if (!p->alloc != !p->release) return llmoi_fail(LLMO_E_ARG, "alloc and release must be given together");
    if (p->log_level < LLMO_LOG_NONE || p->log_level > LLMO_LOG_DEBUG) {
        return llmoi_fail(LLMO_E_ARG, "log_level %d is outside 0..%d", p->log_level, LLMO_LOG_DEBUG);
    }
    llmoi_mem root;
    llmoi_mem_init(&root, p->alloc_user, p->alloc, p->release);
    llmo_runtime *rt = llmoi_zalloc(&root, LLMO_PURPOSE_STATE, sizeof *rt);
    if (!rt) return LLMO_E_NOMEM;
    llmoi_handle_init(&rt->handle, LLMOI_RUNTIME);
    /* the runtime's own block was taken before its account existed: count it there, as its release will */
    llmoi_mem_init(&rt->mem, p->alloc_user, p->alloc, p->release);
    atomic_store(&rt->mem.bytes[LLMO_PURPOSE_STATE], sizeof *rt);
    rt->host_threads = p->parallel_for != NULL;
    rt->process_id = llmoi_os_process_id();
    rt->log_user = p->log_user;
    rt->log = p->log;
    rt->log_level = p->log_level;
    llmoi_debug_read(&rt->debug);
    uint32_t n = p->n_threads == LLMO_THREADS_AUTO ? llmoi_os_physical_cores() : (uint32_t)p->n_threads;
    if (n > LLMO_THREADS_MAX) n = LLMO_THREADS_MAX;
    llmo_status st = llmoi_pool_create(&rt->mem, n, p->parallel_user, p->parallel_for, &rt->pool);
    if (st != LLMO_OK) {
        llmoi_runtime_release(rt);
        return st;
    }
    rt->cpu = llmoi_cpu_backend();
    rt->gpu_note = "";
    rt->cuda = llmoi_cuda_backend(&rt->gpu_note);
    llmoi_log(rt, LLMO_LOG_INFO, "runtime: %u threads, %s", n, rt->cuda ? "GPU present" : rt->gpu_note);
    *out = rt;
    return LLMO_OK;
}

void llmoi_runtime_release(llmo_runtime *rt) {
    if (!llmoi_handle_drop(&rt->handle)) return;
    if (llmoi_os_process_id() == rt->process_id) llmoi_pool_destroy(rt->pool); /* a forked child has no workers */
    llmoi_handle_wipe(&rt->handle);
    llmoi_mem mem = {.user = rt->mem.user, .alloc = rt->mem.alloc, .release = rt->mem.release};
    llmoi_free(&mem, rt);
}
