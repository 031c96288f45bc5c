/* A backend: its devices, its matmul rows, best first, and its operations. cpu/ always gives one; cuda/ if it can. */
#ifndef LLMOI_BACKEND_H
#define LLMOI_BACKEND_H

#include "kernel.h"

typedef struct llmoi_device {
    int32_t kind; /* llmo_device_kind */
    uint64_t total_bytes;
    char name[128];
    char detail[128];
} llmoi_device;

/* What sizes a context's buffers; from the model and the plan. */
typedef struct llmoi_dims {
    uint32_t n_batch; /* most tokens in a pass */
    uint32_t max_k;   /* longest input of any matmul */
    uint32_t n_embd, n_ff, n_experts, n_experts_used;
} llmoi_dims;

/* One context's means to run on a device. */
typedef struct llmoi_exec {
    llmoi_pool *pool;
    llmoi_dims dims;
    void *scratch; /* scratch_bytes(dims) bytes, 64-byte aligned */
} llmoi_exec;

typedef struct llmoi_backend {
    const char *name;
    uint32_t n_devices;
    void (*describe)(uint32_t device, llmoi_device *out);
    uint64_t (*free_bytes)(uint32_t device);

    const llmoi_matmul_row *rows; /* best first, the reference last */
    uint32_t n_rows;

    size_t (*scratch_bytes)(const llmoi_dims *dims);
    /* Rows of an embedding matrix for the tokens (or positions), times scale, to x (n_tokens, k) or added to it. */
    void (*embed)(const llmoi_exec *e, const llmoi_site *site, const void *weight, const llmo_token *tokens,
                  uint32_t n_tokens, float scale, bool add, float *x);
    /* out[i] = x[rows[i]], n rows of k elements; rows ascend, NULL: all; out may be x */
    void (*gather)(const llmoi_exec *e, const float *x, const uint32_t *rows, uint32_t n, uint32_t k, float *out);
    void (*group)(const llmoi_exec *e, const llmoi_group *g);
    void (*qkv_store)(const llmoi_exec *e, const llmoi_qkv_store *s);
    void (*attend)(const llmoi_exec *e, const llmoi_attend *a);
    /* out[i] = act(gate[i]) * up[i], (n_tokens, n_ff) densely; out may be gate; up NULL: act(gate[i]) */
    void (*gate_mul)(const llmoi_exec *e, llmoi_activation act, const float *gate, const float *up, float *out,
                     size_t n);
    /* x[i] = cap * tanh(x[i] / cap), n elements */
    void (*soft_cap)(const llmoi_exec *e, float *x, size_t n, float cap);
    void (*moe)(const llmoi_exec *e, const llmoi_moe *m);
    /* Copies a page of one layer onto another. */
    void (*copy_page)(const llmoi_kv_layer *kv, uint32_t from, uint32_t to);
} llmoi_backend;

const llmoi_backend *llmoi_cpu_backend(void);
/* NULL if there is no usable GPU; *note then says why (static or per-process string). Called once per runtime. */
const llmoi_backend *llmoi_cuda_backend(const char **note);

#endif
