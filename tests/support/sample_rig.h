/* Making and driving samplers, for their tests. */
#ifndef SAMPLE_RIG_H
#define SAMPLE_RIG_H

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "sample.h"

typedef struct rig {
    llmoi_mem mem;
    llmoi_sampler *sampler;
    void *memory;
    llmoi_sample_scratch *scratch;
    uint32_t n_vocab;
    float *logits;
} rig;

#define MAX_TOKENS 4096

static inline void rig_open(rig *r, const llmo_sampling_params *p, uint32_t n_vocab, const llmo_token *breakers,
                            size_t n) {
    llmoi_mem_init(&r->mem, NULL, NULL, NULL);
    r->n_vocab = n_vocab;
    r->logits = malloc(n_vocab * sizeof(float));
    assert_non_null(r->logits);
    r->memory = llmoi_alloc(&r->mem, LLMO_PURPOSE_LOGITS, llmoi_sample_scratch_bytes(n_vocab));
    assert_non_null(r->memory);
    memset(r->memory, 0xa5, llmoi_sample_scratch_bytes(n_vocab));
    r->scratch = llmoi_sample_scratch_init(r->memory, n_vocab);
    llmo_status st = llmoi_sampler_create(&r->mem, p, n_vocab, MAX_TOKENS, breakers, n, &r->sampler);
    if (st != LLMO_OK) fail_msg("%s", llmoi_message());
}

static inline void rig_close(rig *r) {
    llmoi_sampler_destroy(&r->mem, r->sampler);
    llmoi_free(&r->mem, r->memory);
    free(r->logits);
    assert_int_equal(llmoi_mem_total(&r->mem), 0);
}

static inline llmo_token rig_next(rig *r, const float *logits, const llmo_token *history, size_t n) {
    memcpy(r->logits, logits, r->n_vocab * sizeof(float));
    llmo_token t = llmoi_sampler_next(r->sampler, r->scratch, r->logits, history, n);
    assert_in_range(t, 0, r->n_vocab - 1);
    return t;
}

/* One token of a sampler made for it. */
static inline llmo_token once(const llmo_sampling_params *p, const float *logits, uint32_t n_vocab,
                              const llmo_token *history, size_t n) {
    rig r;
    rig_open(&r, p, n_vocab, NULL, 0);
    llmo_token t = rig_next(&r, logits, history, n);
    rig_close(&r);
    return t;
}

/* Everything off but the draw itself. */
static inline llmo_sampling_params plain(float temperature) {
    llmo_sampling_params p;
    llmo_sampling_params_init(&p);
    p.seed = 1234;
    p.temperature = temperature;
    p.top_k = 0;
    p.top_p = 1.0f;
    p.min_p = 0.0f;
    return p;
}

/* Pseudo-random numbers of the tests' own (splitmix64), exact on every machine. */
static inline uint64_t mix(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Logits with a bell shape of the given width: sums of four exact fractions. */
static inline void random_logits(float *x, size_t n, float width, uint64_t seed) {
    for (size_t i = 0; i < n; i++) {
        float sum = 0.0f;
        for (int k = 0; k < 4; k++) sum += (float)(mix(&seed) >> 48) * 0x1p-16f - 0.5f;
        x[i] = sum * width;
    }
}

/* What a sampler did to the logits, seen through greedy choices, is hard to measure: read the array itself. */
static inline void adjusted(const llmo_sampling_params *params, const float *x, float *out, uint32_t n,
                            const llmo_token *history, size_t n_history, const llmo_token *breakers,
                            size_t n_breakers) {
    llmo_sampling_params p = *params;
    p.temperature = 0.0f; /* leaves the logits as the penalties made them */
    rig r;
    rig_open(&r, &p, n, breakers, n_breakers);
    (void)rig_next(&r, x, history, n_history);
    memcpy(out, r.logits, n * sizeof(float));
    memcpy(r.logits, x, n * sizeof(float)); /* a second token: nothing of the first one is left */
    (void)llmoi_sampler_next(r.sampler, r.scratch, r.logits, history, n_history);
    assert_memory_equal(out, r.logits, n * sizeof(float));
    rig_close(&r);
}

#endif
