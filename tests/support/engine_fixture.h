/* Opening a model and a context in one call, for tests of the engine. */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H

#include "llmoffload.h"
#include "shared_data.h"

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
    int32_t kv_type;  /* LLMO_KV_F16 or LLMO_KV_F32 */
    int32_t numerics; /* LLMO_NUMERICS_... */
} engine_options;

/* Fails the test on any error. */
engine engine_open(const char *path, engine_options o);
engine engine_open_memory(const void *data, size_t size, engine_options o);
void engine_close(engine *e);

/* A small llama model with random weights and a byte vocabulary (4 control tokens, 256 bytes, some pieces), malloc'ed:
 * for tests that must run without the shared data. type: block type number of its matrices (0 F32, 8 Q8_0, ...). */
unsigned char *tiny_llama(uint32_t type, size_t *size);
#define TINY_VOCAB  288u
#define TINY_LAYERS 2u

#define assert_ok(expr)                                                                                                \
    do {                                                                                                               \
        llmo_status assert_ok_ = (expr);                                                                               \
        if (assert_ok_ != LLMO_OK) {                                                                                   \
            fail_msg("%s: %s: %s", #expr, llmo_status_name(assert_ok_), llmo_last_error());                            \
        }                                                                                                              \
    } while (0)

#endif
