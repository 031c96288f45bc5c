/* The thread pool: each index exactly once per job, jobs in turns, the host's job system, and the division of work. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "kernel_check.h"
#include "pool.h"

#define MAX_THREADS 16u

static llmoi_mem mem;

static llmoi_pool *pool_of(uint32_t n) {
    llmoi_pool *p = NULL;
    assert_int_equal(llmoi_pool_create(&mem, n, NULL, NULL, &p), LLMO_OK);
    assert_int_equal(llmoi_pool_threads(p), n);
    return p;
}

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

static int nothing_left(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) != 0;
}

/* Plain counters on purpose: the pool itself has to order the accesses (the thread sanitizer watches). */
typedef struct tally {
    uint32_t n_threads;
    uint32_t calls[MAX_THREADS];
    uint64_t part[MAX_THREADS];
} tally;

static void count_job(void *arg, uint32_t index, uint32_t n_threads) {
    tally *t = arg;
    if (index >= n_threads || n_threads != t->n_threads) abort();
    t->calls[index]++;
    uint64_t begin, end;
    llmoi_split(1000, 1, index, n_threads, &begin, &end);
    for (uint64_t i = begin; i < end; i++) t->part[index] += i;
}

static void check_tally(const tally *t, uint32_t runs) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < MAX_THREADS; i++) {
        assert_int_equal(t->calls[i], i < t->n_threads ? runs : 0);
        sum += t->part[i];
    }
    assert_int_equal(sum, runs * UINT64_C(499500));
}

static void each_index_runs_once(void **state) {
    (void)state;
    for (uint32_t n = 1; n <= MAX_THREADS; n++) {
        llmoi_pool *p = pool_of(n);
        for (int run = 0; run < 8; run++) {
            tally t = {.n_threads = n};
            llmoi_pool_run(p, count_job, &t);
            check_tally(&t, 1); /* all done when the call returns */
        }
        llmoi_pool_destroy(p);
    }
}

static void ten_thousand_short_runs(void **state) {
    (void)state;
    for (uint32_t n = 2; n <= 4; n += 2) {
        llmoi_pool *p = pool_of(n);
        tally t = {.n_threads = n};
        for (int run = 0; run < 10000; run++) llmoi_pool_run(p, count_job, &t);
        check_tally(&t, 10000);
        llmoi_pool_destroy(p);
    }
}

/* Workers that went to sleep wake up for the next job. */
static void runs_after_a_pause(void **state) {
    (void)state;
    llmoi_pool *p = pool_of(4);
    tally t = {.n_threads = 4};
    for (int run = 0; run < 8; run++) {
        nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
        llmoi_pool_run(p, count_job, &t);
    }
    check_tally(&t, 8);
    llmoi_pool_destroy(p);
}

static void which_thread(void *arg, uint32_t index, uint32_t n_threads) {
    (void)n_threads;
    ((pthread_t *)arg)[index] = pthread_self();
}

static void index_zero_is_the_caller_and_the_others_are_not(void **state) {
    (void)state;
    llmoi_pool *p = pool_of(4);
    pthread_t id[4];
    llmoi_pool_run(p, which_thread, id);
    assert_true(pthread_equal(id[0], pthread_self()));
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) assert_false(pthread_equal(id[i], id[j]));
    }
    llmoi_pool_destroy(p);
}

static void destroy_at_once_and_while_asleep(void **state) {
    (void)state;
    for (int round = 0; round < 200; round++) {
        llmoi_pool *p = pool_of(1 + (uint32_t)round % 5); /* workers may not even have begun */
        if (round % 50 == 0) nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
        llmoi_pool_destroy(p);
    }
    llmoi_pool_destroy(NULL);
    assert_int_equal(llmoi_mem_total(&mem), 0);
}

/* --- several callers ---------------------------------------------------------------------------------------------------- */

typedef struct shared_job {
    _Atomic int *inside; /* callers whose job runs at the moment */
    _Atomic int *overlaps;
    uint64_t n;
} shared_job;

static void exclusive_job(void *arg, uint32_t index, uint32_t n_threads) {
    shared_job *j = arg;
    (void)n_threads;
    if (index == 0) {
        if (atomic_fetch_add(j->inside, 1) != 0) atomic_fetch_add(j->overlaps, 1);
        j->n++;
        atomic_fetch_sub(j->inside, 1);
    }
}

typedef struct caller {
    pthread_t id;
    llmoi_pool *pool;
    shared_job job;
    tally tally;
} caller;

static void *call_often(void *arg) {
    caller *c = arg;
    for (int i = 0; i < 500; i++) {
        llmoi_pool_run(c->pool, exclusive_job, &c->job);
        llmoi_pool_run(c->pool, count_job, &c->tally);
    }
    return NULL;
}

static void callers_take_turns(void **state) {
    (void)state;
    llmoi_pool *p = pool_of(3);
    _Atomic int inside = 0, overlaps = 0;
    caller c[4] = {0};
    for (int i = 0; i < 4; i++) {
        c[i].pool = p;
        c[i].job = (shared_job){.inside = &inside, .overlaps = &overlaps};
        c[i].tally.n_threads = 3;
        assert_int_equal(pthread_create(&c[i].id, NULL, call_often, &c[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(c[i].id, NULL);
        assert_int_equal(c[i].job.n, 500);
        check_tally(&c[i].tally, 500);
    }
    assert_int_equal(overlaps, 0);
    llmoi_pool_destroy(p);
}

/* --- the host's job system ------------------------------------------------------------------------------------------------ */

typedef struct host {
    uint32_t calls, tasks;
} host;

/* Runs the tasks on the calling thread, last one first: a host may choose any order. */
static void backwards(void *user, uint32_t n, void (*task)(void *, uint32_t), void *arg) {
    host *h = user;
    h->calls++;
    for (uint32_t i = n; i > 0; i--) {
        h->tasks++;
        task(arg, i - 1);
    }
}

typedef struct host_task {
    pthread_t id;
    void (*task)(void *, uint32_t);
    void *arg;
    uint32_t index;
} host_task;

static void *host_main(void *arg) {
    host_task *t = arg;
    t->task(t->arg, t->index);
    return NULL;
}

static void thread_each(void *user, uint32_t n, void (*task)(void *, uint32_t), void *arg) {
    host_task t[MAX_THREADS];
    ((host *)user)->calls++;
    for (uint32_t i = 0; i < n; i++) {
        t[i] = (host_task){.task = task, .arg = arg, .index = i};
        if (pthread_create(&t[i].id, NULL, host_main, &t[i]) != 0) abort();
    }
    for (uint32_t i = 0; i < n; i++) pthread_join(t[i].id, NULL);
}

static void the_host_runs_the_tasks(void **state) {
    (void)state;
    void (*const systems[])(void *, uint32_t, void (*)(void *, uint32_t), void *) = {backwards, thread_each};
    for (int s = 0; s < 2; s++) {
        for (uint32_t n = 2; n <= MAX_THREADS; n *= 2) {
            host h = {0};
            llmoi_pool *p = NULL;
            assert_int_equal(llmoi_pool_create(&mem, n, &h, systems[s], &p), LLMO_OK);
            tally t = {.n_threads = n};
            for (int run = 0; run < 10; run++) llmoi_pool_run(p, count_job, &t);
            check_tally(&t, 10);
            assert_int_equal(h.calls, 10);
            if (s == 0) assert_int_equal(h.tasks, 10 * n);
            llmoi_pool_destroy(p);
        }
    }
}

/* --- the division of work --------------------------------------------------------------------------------------------------- */

static void split_covers_everything_once(void **state) {
    (void)state;
    rng r = {7};
    for (int round = 0; round < 200000; round++) {
        uint64_t n = rng_next(&r) >> (16 + rng_below(&r, 48)), step = 1 + rng_below(&r, round % 2 ? 8 : 100000);
        uint32_t threads = 1 + rng_below(&r, 300);
        uint64_t at = 0, units = (n + step - 1) / step;
        for (uint32_t i = 0; i < threads; i++) {
            uint64_t begin, end;
            llmoi_split(n, step, i, threads, &begin, &end);
            assert_true(begin == at && begin <= end && end <= n);
            assert_true(end == n || end % step == 0);
            assert_true((end - begin + step - 1) / step <= units / threads + 1); /* even shares */
            at = end;
        }
        assert_true(at == n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_index_runs_once),
        cmocka_unit_test(ten_thousand_short_runs),
        cmocka_unit_test(runs_after_a_pause),
        cmocka_unit_test(index_zero_is_the_caller_and_the_others_are_not),
        cmocka_unit_test(destroy_at_once_and_while_asleep),
        cmocka_unit_test(callers_take_turns),
        cmocka_unit_test(the_host_runs_the_tasks),
        cmocka_unit_test(split_covers_everything_once),
    };
    return cmocka_run_group_tests(tests, setup, nothing_left);
}
