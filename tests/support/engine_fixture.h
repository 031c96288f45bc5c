/* Opening a model and a context in one call, running replies, counting the host's memory: for tests of the engine. */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include <stdatomic.h>

#include "llmoffload.h"
#include "shared_data.h"
#include "tiny_model.h"

typedef struct engine {
    llmo_runtime *rt;
    llmo_model *model;
    llmo_plan *plan;
    llmo_context *ctx;
    llmo_sequence *seq; /* one, empty */
    uint32_t n_vocab;
} engine;

typedef struct engine_options {
    int n_threads;        /* 0: 2 */
    uint32_t n_ctx;       /* 0: 256 */
    uint32_t n_sequences; /* 0: 1 */
    uint32_t n_batch;     /* 0: 512 */
    uint64_t n_kv_tokens;
    int32_t kv_type;                    /* LLMO_KV_F16 or LLMO_KV_F32 */
    int32_t numerics;                   /* LLMO_NUMERICS_... */
    const llmo_runtime_params *runtime; /* NULL: the defaults, with n_threads */
} engine_options;

/* Fails the test on any error. */
engine engine_open(const char *path, engine_options o);
engine engine_open_memory(const void *data, size_t size, engine_options o);
engine engine_open_tiny(engine_options o); /* the tiny F32 model */
void engine_close(engine *e);

/* tiny_model() with matrices of a type by number (0 F32, 8 Q8_0, 12 Q4_K, ...), malloc'ed; shape may be NULL. */
unsigned char *tiny_llama(uint32_t type, const tiny_shape *shape, size_t *size);

/* --- the host's memory: counted, and failing on demand ----------------------------------------------------------------- */

typedef struct host_memory {
    _Atomic uint64_t live_bytes, live_blocks;
    _Atomic uint64_t n_allocs; /* asked for so far */
    uint64_t fail_at;          /* the number (from 1) of the one that fails; 0: none */
    bool fail_after;           /* and all after it */
} host_memory;

/* Default parameters that use it. */
llmo_runtime_params host_memory_params(host_memory *m, int n_threads);

/* --- replies ------------------------------------------------------------------------------------------------------------ */

/* n pseudo-random tokens with text, other ones for each seed. */
void some_tokens(uint32_t seed, llmo_token *tokens, size_t n);

/* Sampling at temperature 1 with a seed, or greedy; end tokens are ignored. */
void sampled_params(llmo_generation_params *p, llmo_sampling_params *s, uint64_t seed, uint32_t max_tokens);
void greedy_params(llmo_generation_params *p, llmo_sampling_params *s, uint32_t max_tokens);

/* Steps until nothing runs; sums up what the steps did, sum may be NULL. */
void step_to_end(llmo_context *ctx, uint64_t budget_us, llmo_step_info *sum);

/* A whole reply: its tokens go to out (max_tokens of the params), the number is returned. */
size_t reply(llmo_context *ctx, llmo_sequence *s, const llmo_token *prompt, size_t n, const llmo_generation_params *p,
             uint64_t budget_us, llmo_token *out);
size_t generated(llmo_generation *g, llmo_token *out, size_t cap);
llmo_generation_info generation_info(llmo_generation *g);
llmo_context_stats context_stats(llmo_context *c);

/* Makes a generation say a given list of tokens, through the logits callback. */
typedef struct script {
    llmo_token tokens[256];
    size_t n;
    size_t n_before; /* tokens of the sequence when the first one is chosen */
} script;
void script_text(script *s, const char *text, size_t n_before); /* as byte tokens */
void script_params(llmo_generation_params *p, llmo_sampling_params *sampling, script *s);

/* A new file in the folder for temporary files; its path goes to path. */
void temp_file(char path[64], const void *bytes, size_t n);
void write_file(const char *path, const void *bytes, size_t n);

uint32_t largest(const float *x, uint32_t n);

#define assert_ok(expr)                                                                                                \
    do {                                                                                                               \
        llmo_status assert_ok_ = (expr);                                                                               \
        if (assert_ok_ != LLMO_OK) {                                                                                   \
            fail_msg("%s: %s: %s", #expr, llmo_status_name(assert_ok_), llmo_last_error());                            \
        }                                                                                                              \
    } while (0)

/* A failure with its status, which leaves a sentence. */
#define assert_status(expr, want)                                                                                      \
    do {                                                                                                               \
        llmo_status assert_status_ = (expr);                                                                           \
        if (assert_status_ != (want)) {                                                                                \
            fail_msg("%s: %s instead of %s: %s", #expr, llmo_status_name(assert_status_), llmo_status_name(want),      \
                     llmo_last_error());                                                                               \
        }                                                                                                              \
        if ((want) != LLMO_OK) assert_true(llmo_last_error()[0] != 0);                                                 \
    } while (0)

#endif
