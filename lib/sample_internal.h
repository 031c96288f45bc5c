/* What the files of the sampler share: the candidates and the steps over them. For sample*.c only. */
#ifndef LLMOI_SAMPLE_INTERNAL_H
#define LLMOI_SAMPLE_INTERNAL_H

#include "sample.h"

#define LLMOI_SAMPLE_CHUNK   64u   /* logits per chunk maximum, weights per partial sum */
#define LLMOI_SAMPLE_BUCKETS 1024u /* of the histogram that finds the edge of a large candidate set */

struct llmoi_sample_scratch {
    uint32_t n_vocab;
    uint64_t *keys;     /* [n_vocab] for sorting */
    llmo_token *ids;    /* [n_vocab] of the candidates */
    float *weights;     /* [n_vocab] of the candidates */
    uint32_t *seen;     /* [n_vocab] by token; all zero between calls */
    float *chunk_max;   /* [chunks of n_vocab] */
    double *chunk_sums; /* [chunks of n_vocab] */
    double *bucket_mass;
    uint32_t *bucket_count;
};

/* The tokens that are still in the draw, in order of id, or of (logit descending, id) after top-k (which see). */
typedef struct llmoi_candidates {
    llmoi_sample_scratch *scratch;
    float *logits;   /* [n], the caller's array, compacted in place */
    llmo_token *ids; /* [n] */
    float *weights;  /* [n] exp((logit - max) / temperature) as weighed last */
    size_t n;
    float max;  /* largest logit, as of the last weighing */
    double sum; /* of weights, as of the last weighing or llmoi_cand_sum */
} llmoi_candidates;

/* --- sample_cut.c ----------------------------------------------------------------------------------------------- */

/* Maxima of chunks of LLMOI_SAMPLE_CHUNK values (NaN counts as -infinity) into out; returns the largest of all. */
float llmoi_chunk_maxima(const float *x, size_t n, float *out);
/* First index of max, the value that llmoi_chunk_maxima returned. */
uint32_t llmoi_first_of(const float *x, size_t n, const float *chunk_max, float max);

/* Starts with the tokens of a whole vocabulary whose logit is finite and >= floor; chunk_max is filled, no logit is
 * +infinity. */
void llmoi_cand_gather(llmoi_candidates *c, llmoi_sample_scratch *s, float *logits, float floor);
/* Starts with the k most likely ones, 0 < k: sorted by (logit descending, id) up to a k of 4096, above that by id. */
void llmoi_cand_top_k(llmoi_candidates *c, llmoi_sample_scratch *s, float *logits, uint32_t k);

/* Sets max, weights and sum. */
void llmoi_cand_weigh(llmoi_candidates *c, float temperature);
/* Sum of the weights again, after some were dropped. */
void llmoi_cand_sum(llmoi_candidates *c);

/* Each needs weights of temperature 1. At least min_keep (if there are so many) are kept, and never less than one. */
void llmoi_cand_typical(llmoi_candidates *c, double p, size_t min_keep);
/* mass: weights to reach, p times the sum over the set that p is about */
void llmoi_cand_top_p(llmoi_candidates *c, double mass, size_t min_keep);
void llmoi_cand_min_p(llmoi_candidates *c, double p, size_t min_keep);
void llmoi_cand_xtc(llmoi_candidates *c, double threshold, size_t min_keep);

/* Index of the candidate at u (0 <= u < 1) of the cumulated weights; never one of weight 0. */
size_t llmoi_cand_draw(const llmoi_candidates *c, double u);

/* --- sample_penalty.c ------------------------------------------------------------------------------------------- */

/* seen: n_vocab zeros, zeros again afterwards. Tokens outside the vocabulary are skipped. */
void llmoi_penalize(float *logits, uint32_t n_vocab, uint32_t *seen, const llmo_token *window, size_t n, float repeat,
                    float presence, float frequency);

typedef struct llmoi_dry {
    float multiplier, base;
    uint32_t allowed_length;
    const uint8_t *breakers; /* one bit per token of the vocabulary */
    uint32_t *lengths;       /* [n of the longest window] */
} llmoi_dry;

void llmoi_dry_apply(const llmoi_dry *dry, float *logits, uint32_t n_vocab, uint32_t *seen, const llmo_token *window,
                     size_t n);

#endif
