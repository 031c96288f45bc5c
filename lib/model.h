/* A model by meaning: hyperparameters checked once, layers as data (a recipe), weights named by what they are for.
 * Immutable after open. Knows files and architectures, nothing of devices, contexts or sequences. */
#ifndef LLMOI_MODEL_H
#define LLMOI_MODEL_H

#include "kernel.h"
#include "runtime.h"
#include "tokenizer.h"

#define LLMOI_NONE      (-1) /* a weight that is not there */
#define LLMOI_MAX_ROPES 2u

typedef int32_t llmoi_mat_id; /* index into llmo_model.mats, or LLMOI_NONE */
typedef int32_t llmoi_vec_id; /* index into llmo_model.vecs, or LLMOI_NONE */

/* A matrix: what it is multiplied as. The head of a model with tied embeddings has the tensor of the embedding. */
typedef struct llmoi_mat {
    const llmoi_gguf_tensor *tensor;
    uint64_t offset, n_bytes; /* its rows in the tensor's data: all of them, or a slice of a fused tensor */
    llmoi_site site;          /* max_tokens and numerics are set by the plan */
    int32_t layer;            /* -1: outside the layers */
} llmoi_mat;

/* A vector (norm, bias): converted to f32 when loaded. */
typedef struct llmoi_vec {
    const llmoi_type_info *type;
    const llmoi_gguf_tensor *tensor;
    uint64_t n;
    uint64_t first; /* element of the tensor that it begins with: not 0 for a slice of a fused one */
    int32_t layer;
} llmoi_vec;

/* Frequencies of one kind of RoPE. See llmoi_rope_frequencies. */
typedef enum llmoi_rope_scaling {
    LLMOI_SCALING_NONE,
    LLMOI_SCALING_LINEAR,
    LLMOI_SCALING_YARN,
    LLMOI_SCALING_LONGROPE /* divisors for contexts up to n_ctx_orig and for longer ones */
} llmoi_rope_scaling;
typedef struct llmoi_rope_params {
    llmoi_rope_scaling scaling;
    float base;
    float factor; /* context extension, >= 1 means longer */
    uint32_t n_ctx_orig;
    float attn_factor, beta_fast, beta_slow, log_mul;
    llmoi_vec_id divisors;      /* n_rot / 2 divisors of the frequencies */
    llmoi_vec_id long_divisors; /* LONGROPE: those of contexts longer than n_ctx_orig */
} llmoi_rope_params;

/* One layer: the recipe that forward.c follows. */
typedef struct llmoi_layer {
    llmoi_vec_id attn_norm, ffn_norm; /* before; no ffn_norm: the attention's input is normed once for both */
    llmoi_vec_id attn_norm_bias, ffn_norm_bias;
    llmoi_vec_id attn_post, ffn_post; /* after, before the residual add */
    llmoi_mat_id wq, wk, wv, wo;
    llmoi_vec_id bq, bk, bv, bo;
    llmoi_vec_id q_norm, k_norm; /* per head */
    llmoi_mat_id gate, up, down; /* dense, or the experts' 3-D ones if router is there */
    llmoi_vec_id b_gate, b_up, b_down;
    llmoi_mat_id router;
    llmoi_vec_id b_router;
    llmoi_vec_id sinks; /* per head */
    llmoi_attn_dims attn;
    uint32_t rope; /* index into llmoi_hparams.ropes */
    llmoi_activation activation;
    uint32_t n_ff;
} llmoi_layer;

typedef struct llmoi_hparams {
    uint32_t n_layers, n_embd, n_vocab, n_heads, n_kv_heads, head_dim, n_rot, n_ff, n_ctx_train;
    uint32_t n_experts, n_experts_used;
    float norm_eps;
    bool layer_norm;      /* LayerNorm instead of RMS norm */
    bool qkv_biases;      /* q, k and v must have biases; otherwise they may */
    bool all_biases;      /* and so must every other matrix of a layer */
    bool ungated;         /* feed-forward parts have no gate: the hidden neurons are activated alone */
    bool parallel;        /* attention and feed-forward part both read the layer's input */
    float embed_scale;    /* of the embedding rows */
    float final_soft_cap; /* of the logits; 0: none */
    llmoi_rope_params ropes[LLMOI_MAX_ROPES];
    uint32_t n_ropes;
    /* Attention temperature by position: queries at pos are multiplied by 1 + scale * log(1 + floor(pos / step)). */
    float temperature_scale; /* 0: none */
    uint32_t temperature_step;
} llmoi_hparams;

typedef struct llmoi_weights llmoi_weights; /* weights.h */

struct llmo_model {
    llmoi_handle handle;
    llmo_runtime *runtime; /* a reference */
    llmoi_mem mem;
    llmoi_gguf *gguf;
    llmoi_tokenizer *tokenizer;
    bool vocab_only; /* the file has no tensors */
    char arch[64];
    llmoi_hparams hp;
    llmoi_layer *layers;
    llmoi_mat *mats;
    uint32_t n_mats;
    llmoi_vec *vecs;
    uint32_t n_vecs;
    llmoi_mat_id embed, head;
    llmoi_mat_id positions; /* learned position embeddings, or LLMOI_NONE */
    llmoi_vec_id final_norm, final_norm_bias;
    pthread_mutex_t weights_lock;
    llmoi_weights *weights; /* list of loaded stores, each referenced by its contexts */
};

/* --- open and close (the public calls are in api.c) ------------------------------------------------------------------ */

/* An empty model that holds a reference to the runtime. */
LLMOI_MUST_CHECK llmo_status llmoi_model_alloc(llmo_runtime *rt, llmo_model **out);
/* Parses the sources, an array allocated from m->mem; takes them and the array over, also on failure. */
LLMOI_MUST_CHECK llmo_status llmoi_model_load_header(llmo_model *m, llmoi_source *parts, uint32_t n_parts,
                                                     const char *pre_tokenizer);
void llmoi_model_release(llmo_model *m);
void llmoi_model_describe(const llmo_model *m, llmo_model_info *info); /* struct_size is left alone */

/* --- for arch/ ---------------------------------------------------------------------------------------------------- */

/* Reads the keys that most architectures share into hp: layers, widths, heads, norm epsilon, RoPE. */
LLMOI_MUST_CHECK llmo_status llmoi_arch_common(llmo_model *m);
/* Keys are given without the architecture: "block_count" is "llama.block_count". */
LLMOI_MUST_CHECK llmo_status llmoi_arch_u32(const llmo_model *m, const char *key, bool required, uint32_t min,
                                            uint32_t max, uint32_t *out);
LLMOI_MUST_CHECK llmo_status llmoi_arch_f32(const llmo_model *m, const char *key, bool required, float min, float max,
                                            float *out);
/* Binds the tensor "blk.<layer>.<name>.weight" ("<name>.weight" for layer -1) as a matrix of (rows, k), n_experts > 1 as
 * 3-D. A missing one is LLMO_E_FORMAT if required, else *id = LLMOI_NONE. Wrong shapes are LLMO_E_FORMAT. */
LLMOI_MUST_CHECK llmo_status llmoi_arch_mat(llmo_model *m, int32_t layer, const char *name, uint64_t rows, uint64_t k,
                                            uint32_t n_experts, llmoi_role role, bool required, llmoi_mat_id *id);
/* The same for a vector of n elements; name with its suffix ("attn_q.bias"). */
LLMOI_MUST_CHECK llmo_status llmoi_arch_vec(llmo_model *m, int32_t layer, const char *name, uint64_t n, bool required,
                                            llmoi_vec_id *id);
/* Binds a tensor that holds n matrices of the same k one below the other, rows[i] rows each, as n matrices. */
LLMOI_MUST_CHECK llmo_status llmoi_arch_slices(llmo_model *m, uint32_t layer, const char *name, const uint64_t *rows,
                                               uint32_t n, uint64_t k, llmoi_role role, llmoi_mat_id *const *ids);
/* Embedding, final norm and head (tied to the embedding if there is no output.weight); allocates the layers. */
LLMOI_MUST_CHECK llmo_status llmoi_arch_outer(llmo_model *m);
/* A layer of the common form: norm, attention with separate or fused q, k, v (biases if the file has them), norm, gated
 * feed-forward part (gate and up fused in "ffn_up" if there is no "ffn_gate"), dense or with experts by hp. Interleaved
 * RoPE, SiLU; the architecture changes what differs. ffn_norm: the tensor's name, LLMOI_FFN_NORM for most, NULL for none. */
#define LLMOI_FFN_NORM "ffn_norm"
LLMOI_MUST_CHECK llmo_status llmoi_arch_layer(llmo_model *m, uint32_t layer, const char *ffn_norm);

typedef struct llmoi_arch {
    const char *name; /* general.architecture */
    llmo_status (*bind)(llmo_model *m);
} llmoi_arch;

#define LLMOI_ARCH(id, name) extern const llmoi_arch llmoi_arch_##id;
#include "arch_list.def"
#undef LLMOI_ARCH

/* Angle per position of each rotated pair, n_rot / 2 doubles, and the factor on sine and cosine. divisors: the vector's
 * data or NULL. YaRN as in its paper (arXiv:2309.00071): pairs that turn more than beta_fast times in the original
 * context keep their frequency, those below beta_slow are divided by the factor, a linear ramp between. */
void llmoi_rope_frequencies(const llmoi_rope_params *p, uint32_t n_rot, const float *divisors, double *freq,
                            double *magnitude);

#endif
