/* The thread pool. Workers spin for some 50 us after a job, since the next one usually follows at once, then sleep, so
 * that an embedding host gets its cores back. Knows nothing of what jobs do. */
#include "pool.h"

#include <string.h>

#include "os.h"

#define SPIN_ROUNDS 4000u /* about 50 us of pause instructions */

typedef struct worker {
    llmoi_thread thread;
    struct llmoi_pool *pool;
    uint32_t index;
} worker;

struct llmoi_pool {
    llmoi_mem *mem;
    uint32_t n_threads;
    uint32_t n_started; /* worker threads really running */
    void *parallel_user;
    void (*parallel_for)(void *, uint32_t, void (*)(void *, uint32_t), void *);

    pthread_mutex_t turn; /* one job at a time */
    llmoi_job job;
    void *arg;

    pthread_mutex_t sleep_lock;
    pthread_cond_t wake;
    uint32_t n_sleeping; /* under sleep_lock */
    bool stop;           /* under sleep_lock, and published by round */

    _Alignas(64) _Atomic uint32_t round; /* counts jobs; a worker runs when it changes */
    _Alignas(64) _Atomic uint32_t n_running;
    worker workers[];
};

/* Waits for the round after `seen`. */
static uint32_t wait_round(llmoi_pool *p, uint32_t seen) {
    for (uint32_t i = 0; i < SPIN_ROUNDS; i++) {
        uint32_t r = atomic_load_explicit(&p->round, memory_order_acquire);
        if (r != seen) return r;
        llmoi_os_pause();
    }
    (void)pthread_mutex_lock(&p->sleep_lock);
    uint32_t r;
    while ((r = atomic_load_explicit(&p->round, memory_order_acquire)) == seen) {
        p->n_sleeping++;
        (void)pthread_cond_wait(&p->wake, &p->sleep_lock);
        p->n_sleeping--;
    }
    (void)pthread_mutex_unlock(&p->sleep_lock);
    return r;
}

static void worker_main(void *arg) {
    worker *w = arg;
    llmoi_pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        seen = wait_round(p, seen);
        if (p->stop) return;
        p->job(p->arg, w->index, p->n_threads);
        atomic_fetch_sub_explicit(&p->n_running, 1, memory_order_release);
    }
}

/* Makes all workers see a new round. */
static void start_round(llmoi_pool *p) {
    (void)pthread_mutex_lock(&p->sleep_lock);
    atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
    bool wake = p->n_sleeping > 0;
    (void)pthread_mutex_unlock(&p->sleep_lock);
    if (wake) (void)pthread_cond_broadcast(&p->wake);
}

llmo_status llmoi_pool_create(llmoi_mem *mem, uint32_t n_threads, void *parallel_user,
                              void (*parallel_for)(void *, uint32_t, void (*)(void *, uint32_t), void *),
                              llmoi_pool **out) {
    llmoi_pool *p = llmoi_zalloc(mem, LLMO_PURPOSE_STATE, sizeof *p + n_threads * sizeof(worker));
    if (!p) return LLMO_E_NOMEM;
    p->mem = mem;
    p->n_threads = n_threads;
    p->parallel_user = parallel_user;
    p->parallel_for = parallel_for;
    (void)pthread_mutex_init(&p->turn, NULL);
    (void)pthread_mutex_init(&p->sleep_lock, NULL);
    (void)pthread_cond_init(&p->wake, NULL);
    for (uint32_t i = 1; i < n_threads && !parallel_for; i++) {
        worker *w = &p->workers[i];
        w->pool = p;
        w->index = i;
        llmo_status st = llmoi_os_thread_start(&w->thread, worker_main, w, "llmo-worker");
        if (st != LLMO_OK) {
            llmoi_pool_destroy(p);
            return st;
        }
        p->n_started++;
    }
    *out = p;
    return LLMO_OK;
}

void llmoi_pool_destroy(llmoi_pool *p) {
    if (!p) return;
    p->stop = true;
    start_round(p);
    for (uint32_t i = 1; i <= p->n_started; i++) llmoi_os_thread_join(&p->workers[i].thread);
    (void)pthread_cond_destroy(&p->wake);
    (void)pthread_mutex_destroy(&p->sleep_lock);
    (void)pthread_mutex_destroy(&p->turn);
    llmoi_free(p->mem, p);
}

uint32_t llmoi_pool_threads(const llmoi_pool *p) {
    return p->n_threads;
}

static void host_task(void *arg, uint32_t index) {
    llmoi_pool *p = arg;
    p->job(p->arg, index, p->n_threads);
}

void llmoi_pool_run(llmoi_pool *p, llmoi_job job, void *arg) {
    if (p->n_threads == 1) {
        job(arg, 0, 1);
        return;
    }
    (void)pthread_mutex_lock(&p->turn);
    p->job = job;
    p->arg = arg;
    if (p->parallel_for) {
        p->parallel_for(p->parallel_user, p->n_threads, host_task, p);
    } else {
        atomic_store_explicit(&p->n_running, p->n_started, memory_order_relaxed);
        start_round(p);
        job(arg, 0, p->n_threads);
        for (uint32_t i = 0; atomic_load_explicit(&p->n_running, memory_order_acquire) != 0; i++) {
            if (i < SPIN_ROUNDS)
                llmoi_os_pause();
            else
                llmoi_os_yield(); /* more threads than free cores: let the workers run */
        }
    }
    (void)pthread_mutex_unlock(&p->turn);
}
