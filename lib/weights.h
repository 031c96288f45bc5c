/* A model's weights in memory: one block per layer and one for the rest, shared by the contexts of the model.
 * The sizing function is what plans predict and what loading allocates. */
#ifndef LLMOI_WEIGHTS_H
#define LLMOI_WEIGHTS_H

#include "model.h"

struct llmoi_weights {
    llmoi_mem mem; /* LLMO_PURPOSE_WEIGHTS: the blocks */
    llmo_model *model;
    struct llmoi_weights *next;    /* in model->weights, under weights_lock */
    uint32_t refs;                 /* under weights_lock */
    const llmoi_matmul_row **rows; /* the row each matrix was laid out for */
    void **blocks;                 /* n_layers + 1; block 0 is outside the layers */
    const void **mats;
    const float **vecs;
};

/* Bytes of block `block` (0: outside the layers, i + 1: layer i). The same for any rows: they read the file's layout. */
uint64_t llmoi_weights_block_bytes(const llmo_model *m, uint32_t block);

/* Finds the model's store for these rows or reads one; a reference either way. */
LLMOI_MUST_CHECK llmo_status llmoi_weights_acquire(llmo_model *m, const llmoi_matmul_row *const *rows,
                                                   const llmo_context_params *params, llmoi_weights **out);
void llmoi_weights_drop(llmoi_weights *w);

#endif
