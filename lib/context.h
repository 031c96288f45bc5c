/* A context from the inside: buffers, KV pages, sequences, generations, and the pass in flight. Shared by the files that
 * work on contexts: context.c (create, destroy), kv.c, sequence.c, generation.c, engine.c (what runs next), forward.c
 * (the walk over the layers). */
#ifndef LLMOI_CONTEXT_H
#define LLMOI_CONTEXT_H

#include "plan.h"
#include "sample.h"

/* --- sizes: what plans predict and context.c allocates ----------------------------------------------------------- */

typedef struct llmoi_context_sizes {
    uint64_t state_bytes, compute_bytes, logits_bytes, kv_layer_bytes;
} llmoi_context_sizes;
void llmoi_context_size(const llmo_plan *p, llmoi_context_sizes *out);

/* --- KV pages ------------------------------------------------------------------------------------------------------ */

#define LLMOI_NO_PAGE UINT32_MAX

typedef struct llmoi_kv {
    uint32_t n_pages, n_layers;
    uint32_t *refs;      /* (n_pages) sequences that hold the page */
    uint32_t *free_list; /* (n_pages) */
    uint32_t n_free;
    llmoi_kv_layer *layers;
    void **blocks; /* (n_layers) */
} llmoi_kv;

/* --- sequences ----------------------------------------------------------------------------------------------------- */

struct llmo_sequence {
    llmoi_handle handle; /* magic is 0 while the slot is free */
    llmo_context *ctx;
    llmo_token *tokens; /* (n_ctx) */
    uint32_t n_tokens;  /* known tokens; the last ones may not be evaluated yet */
    uint32_t n_past;    /* evaluated, their keys and values are in the pages */
    uint32_t *pages;    /* (pages_per_sequence) */
    uint32_t n_pages;
    llmo_generation *gen; /* running on it, or NULL */
};

/* --- generations ----------------------------------------------------------------------------------------------------- */

struct llmo_generation {
    llmoi_handle handle;
    llmo_context *ctx;
    llmo_sequence *seq;           /* NULL once ended */
    llmo_generation *next, *prev; /* all generations of the context */
    uint32_t flags, max_tokens;
    llmoi_sampler *sampler;
    _Atomic bool cancel;
    int32_t state, stop;
    llmo_status status;
    uint32_t n_before; /* tokens of the sequence before the prompt */
    uint64_t n_prompt, n_prompt_done, prompt_us, decode_us;
    llmo_token *tokens; /* generated so far; room for all that can be chosen, and an end token */
    uint32_t n_tokens;
    /* text */
    void *text_user;
    int32_t (*on_text)(void *user, llmo_generation *generation, const char *text, size_t text_bytes);
    char *text; /* generated, not yet given out */
    size_t text_len, text_cap;
    size_t text_safe;         /* of it ready: no stop string can begin there any more */
    unsigned char partial[4]; /* bytes of an unfinished UTF-8 character */
    uint32_t n_partial;
    char *piece; /* (max piece bytes) */
    /* stops */
    char *stops; /* all stop strings, NUL-terminated, one after the other */
    uint32_t n_stops;
    size_t longest_stop;
    llmo_token *stop_tokens;
    uint32_t n_stop_tokens;
};

/* --- the pass in flight -------------------------------------------------------------------------------------------- */

typedef struct llmoi_part { /* consecutive tokens of one sequence in the batch */
    llmo_sequence *seq;
    llmo_generation *gen; /* NULL: an eval */
    uint32_t n_tokens;
    uint32_t n_prompt; /* of them belong to a prompt */
    int32_t out;       /* row of the logits after its last token, or -1 */
} llmoi_part;

typedef struct llmoi_pass {
    bool active;
    uint32_t unit, n_units;
    llmoi_batch batch;
    llmo_token *token;
    uint32_t *pos;
    const uint32_t **pages;
    llmoi_part *parts; /* (n_sequences) */
    uint32_t n_parts;
    uint32_t *out_rows; /* tokens whose logits are wanted, ascending */
    uint32_t n_out;
    float *out; /* where the logits go */
    uint64_t busy_us, longest_unit_us;
} llmoi_pass;

struct llmo_context {
    llmoi_handle handle;
    llmoi_mem mem;
    llmo_model *model;
    llmo_plan *plan;
    llmoi_weights *weights;
    _Atomic bool busy;
    _Atomic bool cancel;
    const llmoi_backend *be;
    llmoi_exec exec;
    void *compute_block, *logits_block;

    /* activations of one pass, (n_batch, ...) */
    float *x;                   /* residual stream */
    float *q, *k, *v, *attn;    /* heads */
    float *gate, *up;           /* hidden neurons */
    float *layer_in;            /* input of the layer, kept for a parallel feed-forward part; else NULL */
    float *post;                /* product before its post norm */
    float *rope_cos, *rope_sin; /* (n_ropes, n_batch, n_rot / 2) */
    float *q_scale;             /* (n_batch) temperature by position, NULL if the model has none */
    double *rope_freq;          /* (n_ropes, n_rot / 2) angle per position */
    double rope_magnitude[LLMOI_MAX_ROPES];
    float *logits; /* (n_sequences, n_vocab) */
    llmoi_sample_scratch *scratch;

    llmoi_kv kv;
    llmo_sequence *seqs; /* (n_sequences) slots */
    llmo_generation *gens, *last_gen;
    uint32_t n_running;
    uint32_t next_slot; /* fairness: where the next pass begins to collect */
    uint32_t chunk;     /* most tokens of the next budgeted pass */
    llmoi_pass pass;
    uint64_t n_passes, n_tokens, busy_us;
};

/* context.c */
LLMOI_MUST_CHECK llmo_status llmoi_context_create(llmo_model *m, llmo_plan *plan, const llmo_context_params *params,
                                                  llmo_context **out);
void llmoi_context_release(llmo_context *c);

/* kv.c: pages */
void llmoi_kv_init(llmoi_kv *kv);
/* Makes positions n_past .. n_tokens-1 of the sequence writable: own pages, the partly filled one copied if shared.
 * LLMO_E_CONTEXT_FULL leaves the sequence as it was. */
LLMOI_MUST_CHECK llmo_status llmoi_kv_reserve(llmo_context *c, llmo_sequence *s, uint32_t n_tokens);
/* Gives back the pages that hold no position below n_tokens. */
void llmoi_kv_trim(llmo_context *c, llmo_sequence *s, uint32_t n_tokens);
void llmoi_kv_share(llmo_context *c, const llmo_sequence *from, llmo_sequence *to, uint32_t n_tokens);

/* sequence.c */
LLMOI_MUST_CHECK llmo_status llmoi_sequence_create(llmo_context *c, llmo_sequence **out);
LLMOI_MUST_CHECK llmo_status llmoi_sequence_fork(llmo_sequence *source, size_t n_tokens, llmo_sequence **out);
void llmoi_sequence_destroy(llmo_sequence *s);
void llmoi_sequence_truncate(llmo_sequence *s, uint32_t n_tokens);
LLMOI_MUST_CHECK llmo_status llmoi_sequence_append(llmo_sequence *s, const llmo_token *tokens, size_t n);

/* generation.c */
LLMOI_MUST_CHECK llmo_status llmoi_generation_start(llmo_sequence *s, const llmo_token *tokens, size_t n,
                                                    const llmo_generation_params *params, llmo_generation **out);
/* Takes the next token from logits; may end the generation. */
void llmoi_generation_accept(llmo_generation *g, float *logits);
/* Ends a running generation; text that was held back is given out. */
void llmoi_generation_end(llmo_generation *g, int32_t state, int32_t stop, llmo_status status);
void llmoi_generation_free(llmo_generation *g);
size_t llmoi_generation_read(llmo_generation *g, char *buf, size_t cap);

/* engine.c */
LLMOI_MUST_CHECK llmo_status llmoi_engine_step(llmo_context *c, uint64_t budget_us, llmo_step_info *info);
LLMOI_MUST_CHECK llmo_status llmoi_engine_eval(llmo_sequence *s, const llmo_token *tokens, size_t n, size_t n_logits,
                                               float *logits);
/* Drops the pass in flight if the generation or sequence takes part in it; its other tokens run again in the next. */
void llmoi_engine_forget(llmo_context *c, const llmo_sequence *s);

/* forward.c */
void llmoi_forward_begin(llmo_context *c); /* of a pass whose batch is set */
void llmoi_forward_unit(llmo_context *c);  /* runs unit pass.unit and counts it up; the last one makes the logits */

#endif
