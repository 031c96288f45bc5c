/* Choosing the next token from logits. Pure arithmetic over arrays; knows nothing of models, sequences or text.
 * All memory is taken in create; choosing allocates nothing. */
#ifndef LLMOI_SAMPLE_H
#define LLMOI_SAMPLE_H

#include "mem.h"

typedef struct llmoi_sampler llmoi_sampler;

/* Scratch that samplers share, one per context: n_vocab candidates. bytes() is what the plan predicts for it. */
typedef struct llmoi_sample_scratch llmoi_sample_scratch;
size_t llmoi_sample_scratch_bytes(uint32_t n_vocab);
llmoi_sample_scratch *llmoi_sample_scratch_init(void *memory, uint32_t n_vocab); /* 64-byte aligned memory */

/* Checks and copies the params (struct_size already normalized by the caller; pointers inside may be NULL when their count
 * is 0). LLMO_E_ARG names the field: NaN, out of range, token outside the vocabulary. dry_breakers: the token lists of
 * the breaker strings are given by the caller: n_breaker_tokens tokens that end a match. max_tokens is the most tokens a
 * history can have. */
LLMOI_MUST_CHECK llmo_status llmoi_sampler_create(llmoi_mem *mem, const llmo_sampling_params *params, uint32_t n_vocab,
                                                  size_t max_tokens, const llmo_token *breaker_tokens,
                                                  size_t n_breaker_tokens, llmoi_sampler **out);
void llmoi_sampler_destroy(llmoi_mem *mem, llmoi_sampler *s);

/* The next token. logits (n_vocab floats) are changed. history: all tokens of the sequence so far. NaN logits count as
 * -infinity; if nothing is left, the first token of the largest raw logit is taken. Bit-reproducible. */
llmo_token llmoi_sampler_next(llmoi_sampler *s, llmoi_sample_scratch *scratch, float *logits, const llmo_token *history,
                              size_t n_history);

/* First index of the largest value; NaN never wins. 0 if all are NaN. */
uint32_t llmoi_argmax(const float *x, uint32_t n);

#endif
