/* A plan: who runs what, and how many bytes that takes. Plain data, made from the header alone. */
#ifndef LLMOI_PLAN_H
#define LLMOI_PLAN_H

#include "weights.h"

#define LLMOI_MAX_DEVICES 17u
#define LLMOI_MAX_ROWS    32u
#define LLMOI_MAX_NOTES   8u

/* The answer of the dispatcher for one matrix. */
typedef struct llmoi_choice {
    llmoi_site site; /* the model's, with max_tokens */
    const llmoi_matmul_row *row;
    uint32_t device;
    uint32_t n_declined;
    uint16_t reason[LLMOI_MAX_ROWS]; /* index into llmo_plan.reasons */
} llmoi_choice;

struct llmo_plan {
    llmoi_handle handle;
    llmo_model *model;       /* a reference */
    llmo_plan_params params; /* resolved */
    uint32_t n_pages, pages_per_sequence;
    llmoi_dims dims;
    llmoi_choice *mats;            /* of all matrices of the model; row is NULL for the embedding */
    const llmoi_matmul_row **rows; /* the same rows, as the weight store wants them */
    uint64_t bytes[LLMOI_MAX_DEVICES][LLMO_PURPOSE_COUNT];
    char notes[LLMOI_MAX_NOTES][192];
    uint32_t n_notes;
    char (*reasons)[160]; /* "row: reason", each text once */
    uint32_t n_reasons;
};

LLMOI_MUST_CHECK llmo_status llmoi_plan_create(llmo_model *m, const llmo_plan_params *params, llmo_plan **out);
void llmoi_plan_release(llmo_plan *p);

/* place.c: how many of the last layers the GPU takes; pure. Writes a remark into note if it is fewer than asked. */
uint32_t llmoi_place(int32_t asked, uint32_t n_layers, bool gpu_can_run, const char *gpu_note, char *note, size_t cap);

#endif
