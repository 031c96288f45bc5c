/* What forward.c asks of a backend: the fused operations, and the rows of the matmul table. Data only; no thread, file
 * or model is known here. Shapes are in memory order; pointers are to memory of the device that runs the call. */
#ifndef LLMOI_KERNEL_H
#define LLMOI_KERNEL_H

#include "numerics.h"
#include "pool.h"
#include "quant.h"

/* --- matmul rows ------------------------------------------------------------------------------------------------ */

/* What a matrix is for; a row may depend on it. */
typedef enum llmoi_role {
    LLMOI_ROLE_EMBED, /* token_embd: rows are looked up, nothing is multiplied */
    LLMOI_ROLE_QKV,
    LLMOI_ROLE_ATTN_OUT,
    LLMOI_ROLE_GATE_UP,
    LLMOI_ROLE_DOWN,
    LLMOI_ROLE_ROUTER,
    LLMOI_ROLE_HEAD /* may be the embedding matrix itself */
} llmoi_role;

/* One matrix to be multiplied: all that a row may know when it is asked whether it can. */
typedef struct llmoi_site {
    const llmoi_type_info *type;
    uint64_t rows; /* of one expert */
    uint64_t k;
    uint32_t n_experts; /* 1 for a dense matrix */
    llmoi_role role;
    uint32_t max_tokens;    /* most tokens in one call */
    llmo_numerics numerics; /* asked for; never AUTO */
} llmoi_site;

/* Activations in the two forms that rows read. Only what a row's `act` names is there; the quantized form is made by
 * llmoi_quantize32 and needs k to be a multiple of 32, which integer block types ensure. */
typedef struct llmoi_act {
    const float *x;       /* (n_tokens, k) */
    const int8_t *q;      /* (n_tokens, k) */
    const float *scale;   /* (n_tokens, k / 32) */
    const int16_t *sum16; /* (n_tokens, k / 16): sums of 16 quants */
} llmoi_act;

typedef enum llmoi_act_form { LLMOI_ACT_F32 = 1, LLMOI_ACT_Q8 = 2 } llmoi_act_form;

typedef struct llmoi_matmul {
    const llmoi_site *site;
    const void *weight; /* in the file's layout */
    llmoi_act act;
    uint32_t n_tokens;
    const float *bias; /* (rows) or NULL */
    bool add;          /* out += result instead of out = result */
    float *out;        /* (n_tokens, out_stride) */
    size_t out_stride;
} llmoi_matmul;

typedef struct llmoi_matmul_row {
    const char *name;
    llmoi_act_form act; /* the form of the activations it reads */
    uint32_t row_step;  /* rows are divided among threads in multiples of this */
    /* NULL if the row can run the site, else the reason in a few words (a static string). */
    const char *(*refuse)(const llmoi_site *site);
    /* Bytes of one expert's matrix. Rows read the file's layout. */
    size_t (*weight_bytes)(const llmoi_site *site);
    /* Rows [begin, end) for all tokens. Called by several threads for different rows. */
    void (*run)(const llmoi_matmul *m, uint64_t begin, uint64_t end);
} llmoi_matmul_row;

/* --- the other operations ---------------------------------------------------------------------------------------- */

typedef struct llmoi_norm {
    const float *weight; /* NULL: no norm at all */
    const float *bias;   /* LayerNorm only, may be NULL */
    float eps;
    bool layer; /* LayerNorm (mean and variance) instead of RMS */
} llmoi_norm;

/* One weight of a fused group, bound to its row. */
typedef struct llmoi_bound {
    const llmoi_site *site; /* NULL: this place of the group is empty */
    const llmoi_matmul_row *row;
    const void *weight;
    const float *bias;
} llmoi_bound;

#define LLMOI_GROUP_MAX 3u

/* norm + up to three products of one input (QKV; gate and up), or one product added to the residual. */
typedef struct llmoi_group {
    const float *x; /* (n_tokens, k), densely */
    uint32_t n_tokens;
    uint32_t k;
    llmoi_norm norm;
    llmoi_bound w[LLMOI_GROUP_MAX];
    float *out[LLMOI_GROUP_MAX]; /* (n_tokens, rows) each, densely */
    bool add;                    /* out[0] += */
    llmoi_norm post;             /* applied to the product before the add */
    float *post_tmp;             /* (n_tokens, rows of w[0]) if post is used */
} llmoi_group;

typedef enum llmoi_kv_elem { LLMOI_KV_ELEM_F16, LLMOI_KV_ELEM_F32 } llmoi_kv_elem;

#define LLMOI_PAGE_TOKENS  64u
#define LLMOI_HEAD_DIM_MAX 1024u

/* Key/value pages of one layer: page p holds K then V of LLMOI_PAGE_TOKENS tokens for all KV heads, (head, token, dim). */
typedef struct llmoi_kv_layer {
    void *k; /* page 0; pages follow at k_page_bytes */
    void *v;
    size_t k_page_bytes;
    size_t v_page_bytes;
    llmoi_kv_elem k_elem, v_elem;
} llmoi_kv_layer;

/* The tokens of one pass. */
typedef struct llmoi_batch {
    uint32_t n_tokens;
    const llmo_token *token;
    const uint32_t *pos;          /* in its sequence */
    const uint32_t *const *pages; /* page table of its sequence */
} llmoi_batch;

typedef enum llmoi_rope_kind {
    LLMOI_ROPE_NONE,
    LLMOI_ROPE_PAIRS /* (0,1) (2,3) */,
    LLMOI_ROPE_HALVES /* (0,n/2) */
} llmoi_rope_kind;

typedef struct llmoi_attn_dims {
    uint32_t n_heads, n_kv_heads, head_dim, n_rot;
    llmoi_rope_kind rope;
    float scale;     /* of the scores */
    float soft_cap;  /* 0: none */
    uint32_t window; /* a query sees the last `window` positions, itself included; 0: all */
} llmoi_attn_dims;

/* QK norm, RoPE on q and k, and the store of k and v into their pages. */
typedef struct llmoi_qkv_store {
    const llmoi_attn_dims *dims;
    const llmoi_batch *batch;
    float *q, *k, *v;          /* (n_tokens, heads, head_dim), rotated in place */
    const float *cos, *sin;    /* (n_tokens, n_rot / 2) */
    const float *q_scale;      /* (n_tokens) factor on q after RoPE, or NULL */
    llmoi_norm q_norm, k_norm; /* per head */
    const llmoi_kv_layer *kv;
} llmoi_qkv_store;

/* Attention of every token over its sequence, positions 0..pos (or the window). Defined per head and page in page
 * order: s_t = scale * chain of fmaf(q_d, k_td); soft cap; m = max of the page; e_t = exp(s_t - m); sum of e_t in
 * LLMOI_LANES lanes (token % 16), llmoi_lane_sum; a_d = chain of fmaf(e_t, v_td) over t. Pages merge in order:
 * M' = max(M, m), A = A * exp(M - M') + a * exp(m - M'), L likewise. A sink of the head is one more score without a
 * value, merged last. Out = A / L. */
typedef struct llmoi_attend {
    const llmoi_attn_dims *dims;
    const llmoi_batch *batch;
    const float *q; /* (n_tokens, n_heads, head_dim) */
    const llmoi_kv_layer *kv;
    const float *sinks; /* (n_heads) or NULL */
    float *out;         /* (n_tokens, n_heads, head_dim) */
} llmoi_attend;

typedef enum llmoi_activation {
    LLMOI_ACTIVATION_SILU,
    LLMOI_ACTIVATION_GELU,
    /* gpt-oss: g = min(gate, 7), u = up clamped to -7..7, g * sigmoid(1.702 * g) * (u + 1) */
    LLMOI_ACTIVATION_SWIGLU_OAI
} llmoi_activation;

/* Mixture of experts: x is normed, the router picks, out += the weighted experts. Per token the experts' outputs are
 * added in the order of expert numbers. */
typedef struct llmoi_moe {
    float *x; /* (n_tokens, k): input and residual, the result is added */
    uint32_t n_tokens, k, n_ff, n_experts, n_used;
    llmoi_norm norm;
    llmoi_bound router, gate, up, down;
    llmoi_activation activation;
} llmoi_moe;

#endif
