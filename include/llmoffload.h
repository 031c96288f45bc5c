/*
 * llmoffload.h - run large GGUF language models inside your own program.
 *
 * This header is the whole interface and its manual. It needs nothing but <stddef.h> and <stdint.h>, compiles as C99 and
 * C++11, and stays binary compatible inside one ABI major (the number in libllmoffload.so.N).
 *
 * WORDS
 *   runtime     what a host makes first: memory hooks, log sink, worker threads, devices
 *   model       an opened GGUF file: immutable, shared by any number of contexts
 *   plan        which part of the model runs where, how many bytes that takes; made from the file's header alone
 *   context     buffers and KV cache made from a model and a plan
 *   sequence    one conversation: its tokens and their KV cache
 *   generation  one running reply on a sequence
 *   step        advance all running generations of a context within a time budget
 *
 * RULES THAT HOLD FOR EVERY CALL (a declaration says so where it differs)
 *   Status     A call returns llmo_status (LLMO_OK = 0), or is a plain getter. On failure llmo_last_error() has one
 *              sentence that names the file, key, tensor or argument; it is kept per thread. Output arguments are set on
 *              success only (handles are set to NULL on failure). After any failure the handle stays usable and can be
 *              destroyed; nothing leaks.
 *   Arguments  A NULL, foreign or already destroyed handle, a NULL output and a value out of range give LLMO_E_ARG. Using
 *              a handle after its destruction is an error of the caller; it is detected where that is possible.
 *   Structs    A params struct starts with struct_size and is filled by its llmo_..._params_init(). A smaller struct of
 *              an older header is accepted; a larger one is accepted if its unknown tail is zero, else LLMO_E_VERSION.
 *              A params pointer may be NULL for all defaults, where the call says so. Info structs work the same way:
 *              set struct_size, the library fills the part that you know.
 *   Ownership  The library copies what it is given, unless a call says otherwise. What a ..._create, ..._open, ..._start
 *              or ..._fork call returns is the caller's until the matching ..._destroy. Parents outlive their children
 *              inside the library: destroying a runtime, model or plan first is legal, the memory goes with the last
 *              child. Destroying a context ends its sequences and generations, whose handles then are invalid.
 *              Every ..._destroy accepts NULL.
 *   Threads    Runtime, model and plan may be used from any number of threads at once. A context with its sequences and
 *              generations belongs to one thread at a time; a second thread, or a callback calling back into the
 *              context that calls it, gets LLMO_E_BUSY. llmo_context_cancel and llmo_generation_cancel work from any
 *              thread and from callbacks.
 *   Fork       After fork() every call in the child that returns a status gives LLMO_E_FORKED; destroy calls return.
 *   Process    The library never ends the process, prints, throws, installs signal handlers or changes global state.
 *   Text       Is UTF-8 with an explicit length in bytes and may contain NUL bytes; returned strings are NUL-terminated.
 *   Since      Everything here is there since version 0.1.0, unless a declaration names a later one.
 */
#ifndef LLMOFFLOAD_H
#define LLMOFFLOAD_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(LLMO_BUILD) && defined(__GNUC__)
#define LLMO_API __attribute__((visibility("default")))
#else
#define LLMO_API
#endif

#define LLMO_VERSION_MAJOR 0
#define LLMO_VERSION_MINOR 1
#define LLMO_VERSION_PATCH 0
#define LLMO_ABI_MAJOR     0 /* the N of libllmoffload.so.N */

/* ============================================================================================================ status */

/* Numbers are fixed and never reused. X(value, name without LLMO_, text) */
#define LLMO_STATUS_LIST(X)                                                                                            \
    X(0, OK, "success")                                                                                                \
    X(1, E_ARG, "invalid argument or handle")                                                                          \
    X(2, E_VERSION, "struct of a newer header, with fields this library does not know")                                \
    X(3, E_BUSY, "the object is in use by another thread or by the caller of this callback")                           \
    X(4, E_FORKED, "the library cannot be used in a forked child")                                                     \
    X(5, E_INTERNAL, "internal error")                                                                                 \
    X(100, E_IO, "the file cannot be opened or read")                                                                  \
    X(101, E_FORMAT, "the file is damaged or breaks the GGUF format")                                                  \
    X(102, E_UNSUPPORTED, "valid, but not supported by this version")                                                  \
    X(200, E_NOMEM, "out of memory")                                                                                   \
    X(201, E_BUDGET, "does not fit into the memory budget given")                                                      \
    X(300, E_CONTEXT_FULL, "the context or the KV cache has no room left")                                             \
    X(301, E_CANCELLED, "cancelled")                                                                                   \
    X(302, E_CALLBACK, "a callback of the host asked to stop or failed")                                               \
    X(303, E_BUFFER, "the output buffer is too small; the size needed was returned")                                   \
    X(400, E_DEVICE, "no such device, or the device cannot be used")                                                   \
    X(401, E_DEVICE_LOST, "the device failed and is lost for this process")

typedef int32_t llmo_status;
enum {
#define LLMO_STATUS_ENUM_(value, name, text) LLMO_##name = value,
    LLMO_STATUS_LIST(LLMO_STATUS_ENUM_)
#undef LLMO_STATUS_ENUM_
        LLMO_STATUS_MAX_ = 0x7fffffff
};

/* Name ("LLMO_E_IO") and one-line meaning of a status; never NULL. Static strings. Any thread. */
LLMO_API const char *llmo_status_name(llmo_status status);
LLMO_API const char *llmo_status_text(llmo_status status);

/* The sentence of the last failure on this thread ("" if none). Valid until this thread's next failing call. */
LLMO_API const char *llmo_last_error(void);

/* "0.1.0" and (major << 16 | minor << 8 | patch) of the library that runs, and its ABI major. Compare them with the
 * LLMO_VERSION_ and LLMO_ABI_ macros of the header you compiled with. Any thread. */
LLMO_API const char *llmo_version(void);
LLMO_API uint32_t llmo_version_number(void);
LLMO_API uint32_t llmo_abi_version(void);

/* =========================================================================================================== handles */

typedef struct llmo_runtime llmo_runtime;
typedef struct llmo_model llmo_model;
typedef struct llmo_plan llmo_plan;
typedef struct llmo_context llmo_context;
typedef struct llmo_sequence llmo_sequence;
typedef struct llmo_generation llmo_generation;

typedef int32_t llmo_token; /* 0 .. n_vocab - 1; LLMO_TOKEN_NONE where there is none */
#define LLMO_TOKEN_NONE (-1)

/* What memory is used for. */
typedef enum llmo_purpose {
    LLMO_PURPOSE_WEIGHTS = 0, /* model weights */
    LLMO_PURPOSE_KV = 1,      /* key/value cache pages */
    LLMO_PURPOSE_COMPUTE = 2, /* activations and scratch of one pass */
    LLMO_PURPOSE_LOGITS = 3,  /* logits and sampling tables */
    LLMO_PURPOSE_STATE = 4,   /* token lists, page tables, plan, context bookkeeping */
    LLMO_PURPOSE_HEADER = 5,  /* the file's header, vocabulary and tokenizer tables */
    LLMO_PURPOSE_HOST = 6,    /* objects of the caller: handles, prompts, generated text */
    LLMO_PURPOSE_COUNT = 7    /* number of purposes in this header, grows with versions */
} llmo_purpose;

/* "weights", "kv", ...; "unknown" for a number out of range. Static string. */
LLMO_API const char *llmo_purpose_name(int32_t purpose);

/* =========================================================================================================== runtime */

typedef enum llmo_log_level {
    LLMO_LOG_NONE = 0,
    LLMO_LOG_ERROR = 1,
    LLMO_LOG_WARN = 2,
    LLMO_LOG_INFO = 3,
    LLMO_LOG_DEBUG = 4
} llmo_log_level;

#define LLMO_THREADS_AUTO (-1) /* one per physical core this process may use */
#define LLMO_THREADS_MAX  512

typedef struct llmo_runtime_params {
    uint32_t struct_size;
    /* Worker threads for CPU work, the calling thread included: 1..LLMO_THREADS_MAX or LLMO_THREADS_AUTO. Results do not
     * depend on it, bit for bit. */
    int32_t n_threads;
    /* Memory hooks, both or none. alloc returns `bytes` bytes aligned to `alignment` (a power of two) or NULL; release
     * gets the pointer and the same size back. Called from any thread. Default: the library's own, huge pages for
     * large blocks. */
    void *alloc_user;
    void *(*alloc)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *ptr, size_t bytes);
    /* Log sink, NULL for silence. One line without '\n' per call, valid during the call. Called from any thread; it may
     * call the library, but not a context that is busy. */
    void *log_user;
    void (*log)(void *user, int32_t level, const char *line);
    int32_t log_level; /* llmo_log_level: what reaches `log` */
    int32_t reserved0; /* 0 */
    /* The host's job system, NULL for the library's own threads: run task(arg, 0 .. n_tasks-1), in any order, on any
     * threads, and return when all are done. n_tasks never exceeds n_threads. */
    void *parallel_user;
    void (*parallel_for)(void *user, uint32_t n_tasks, void (*task)(void *arg, uint32_t index), void *arg);
} llmo_runtime_params;

/* Fills in the defaults and struct_size. NULL is ignored. */
LLMO_API void llmo_runtime_params_init(llmo_runtime_params *params);

/* Creates a runtime; params may be NULL. Worker threads start here and sleep while there is no work.
 * Statuses: LLMO_E_ARG, LLMO_E_VERSION, LLMO_E_NOMEM. */
LLMO_API llmo_status llmo_runtime_create(const llmo_runtime_params *params, llmo_runtime **out);

/* Gives up the caller's reference; threads and memory go when the last model and context are gone. */
LLMO_API void llmo_runtime_destroy(llmo_runtime *runtime);

/* The sentence of the last failed call on this runtime ("" if none), valid until the next failure on it. For one thread
 * that did not see llmo_last_error(). The model and context variants below are the same for their handles. */
LLMO_API const char *llmo_runtime_error(llmo_runtime *runtime);

/* Live bytes taken by a runtime and everything made from it, for one purpose, or all with LLMO_PURPOSE_COUNT.
 * 0 for a bad handle or purpose. */
LLMO_API uint64_t llmo_runtime_bytes(const llmo_runtime *runtime, int32_t purpose);

/* Number of worker threads in use, the calling thread included. 0 for a bad handle. */
LLMO_API uint32_t llmo_runtime_threads(const llmo_runtime *runtime);

/* ============================================================================================================ device */

typedef enum llmo_device_kind { LLMO_DEVICE_CPU = 0, LLMO_DEVICE_CUDA = 1 } llmo_device_kind;

typedef struct llmo_device_info {
    uint32_t struct_size;
    int32_t kind;         /* llmo_device_kind */
    uint64_t total_bytes; /* RAM or VRAM */
    uint64_t free_bytes;  /* at the time of the call */
    char name[128];       /* "AMD Ryzen 7 5800X", "NVIDIA GeForce RTX 3070" */
    char detail[128];     /* instruction sets, compute capability and driver */
} llmo_device_info;

/* Number of usable devices: device 0 is the CPU, GPUs follow. 0 for a bad handle. */
LLMO_API uint32_t llmo_device_count(const llmo_runtime *runtime);

/* Describes device `index`. Statuses: LLMO_E_ARG (index out of range), LLMO_E_VERSION. */
LLMO_API llmo_status llmo_device_get_info(llmo_runtime *runtime, uint32_t index, llmo_device_info *info);

/* Why no GPU is listed ("built without CUDA", "no NVIDIA driver", ...), "" if there is one. Lives with the runtime. */
LLMO_API const char *llmo_device_gpu_note(const llmo_runtime *runtime);

/* ============================================================================================================= model */

typedef enum llmo_model_flags {
    /* Map the file instead of reading weights into own memory. Saves memory when several processes share a model, but:
     * if the file is truncated or its disk fails while mapped, the operating system kills the process with SIGBUS,
     * which no library can catch. Off by default for that reason. Only for llmo_model_open. */
    LLMO_MODEL_MMAP = 1,
    /* llmo_model_open_memory only: use the caller's memory in place instead of copying the weights; it must stay valid
     * and unchanged until the model and its contexts are destroyed. */
    LLMO_MODEL_BORROW = 2
} llmo_model_flags;

typedef struct llmo_model_params {
    uint32_t struct_size;
    uint32_t flags; /* llmo_model_flags */
    /* Name of the pre-tokenizer to use instead of the file's tokenizer.ggml.pre, e.g. "llama-bpe"; NULL: the file's. An
     * unknown name is LLMO_E_UNSUPPORTED. */
    const char *pre_tokenizer;
} llmo_model_params;

LLMO_API void llmo_model_params_init(llmo_model_params *params);

/* A file of the host's (a packed asset, an encrypted archive): `read` fetches exactly `bytes` bytes at `offset` into
 * `dst` and returns 0, anything else is a failure. One call at a time, from the thread that opens the model or creates
 * a context. `user` must stay valid until the model and its contexts are destroyed. */
typedef struct llmo_reader {
    uint32_t struct_size; /* set it to sizeof(llmo_reader) */
    uint32_t reserved0;   /* 0 */
    void *user;
    uint64_t size_bytes;
    int32_t (*read)(void *user, uint64_t offset, void *dst, size_t bytes);
} llmo_reader;

/* Opens a GGUF file (v2 or v3, little-endian), reads and checks its header, builds the tokenizer. Weights are read later,
 * by llmo_context_create. A split model is opened by its first part ("x-00001-of-00003.gguf"); the other parts are found
 * beside it. Files are opened once and stay open until the last context made from them has its weights and the model is
 * gone. path must not be NULL; params may be. Statuses: LLMO_E_IO, LLMO_E_FORMAT (damaged), LLMO_E_UNSUPPORTED (unknown
 * architecture, tensor type, tokenizer), LLMO_E_NOMEM, LLMO_E_ARG, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_model_open(llmo_runtime *runtime, const char *path, const llmo_model_params *params,
                                     llmo_model **out);

/* The same from memory: one GGUF file of size_bytes bytes at data. Without LLMO_MODEL_BORROW the whole file is copied
 * and data may be freed after the call. */
LLMO_API llmo_status llmo_model_open_memory(llmo_runtime *runtime, const void *data, size_t size_bytes,
                                            const llmo_model_params *params, llmo_model **out);

/* The same through host callbacks: n_readers parts of a split model in order, or 1. The array is copied. A failing read
 * callback is LLMO_E_IO. */
LLMO_API llmo_status llmo_model_open_readers(llmo_runtime *runtime, const llmo_reader *readers, uint32_t n_readers,
                                             const llmo_model_params *params, llmo_model **out);

/* Gives up the caller's reference; contexts keep the model alive. */
LLMO_API void llmo_model_destroy(llmo_model *model);
LLMO_API const char *llmo_model_error(llmo_model *model);

typedef struct llmo_model_info {
    uint32_t struct_size;
    uint32_t n_layers;
    uint32_t n_embd;         /* width of the residual stream, elements */
    uint32_t n_vocab;        /* tokens */
    uint32_t n_heads;        /* query heads */
    uint32_t n_kv_heads;     /* key/value heads */
    uint32_t head_dim;       /* elements per head */
    uint32_t n_ff;           /* hidden neurons of the (dense) feed-forward part */
    uint32_t n_experts;      /* 0 for a dense model */
    uint32_t n_experts_used; /* per token */
    uint32_t n_ctx_train;    /* tokens of context the model was trained for */
    uint32_t n_tensors;
    uint64_t n_params;      /* weights, elements */
    uint64_t weights_bytes; /* tensor data as stored */
    uint64_t file_bytes;    /* all parts together */
    char architecture[64];  /* "llama" */
    char name[128];         /* general.name, may be empty */
    char type[32];          /* most common matrix type by bytes, "Q4_K" */
    char tokenizer[64];     /* "llama", "gpt2/llama-bpe", ... */
} llmo_model_info;

/* Facts from the header. Statuses: LLMO_E_ARG, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_model_get_info(llmo_model *model, llmo_model_info *info);

/* Metadata: number of keys, the i-th key (NULL if out of range; lives with the model), and a value as text: numbers and
 * booleans printed, strings as they are, arrays as "[a, b, c]" (the first 64 elements, then ", ... (N)").
 * llmo_model_meta_text writes at most cap bytes with the terminating NUL into buf and the length without NUL into *len;
 * with a buffer too small LLMO_E_BUFFER and *len. LLMO_E_ARG for an unknown key. */
LLMO_API uint32_t llmo_model_meta_count(const llmo_model *model);
LLMO_API const char *llmo_model_meta_key(const llmo_model *model, uint32_t index);
LLMO_API llmo_status llmo_model_meta_text(llmo_model *model, const char *key, char *buf, size_t cap, size_t *len);

typedef struct llmo_tensor_info {
    uint32_t struct_size;
    uint32_t n_dims;
    uint64_t dims[4]; /* dims[0] is the contiguous one; unused ones are 1 */
    uint64_t n_bytes;
    uint64_t file_offset; /* of the data, in its part */
    uint32_t part;        /* 0-based number of the file */
    char type[20];        /* "Q4_K" */
    char name[128];
} llmo_tensor_info;

/* The index-th tensor of the file, 0 .. n_tensors-1, in file order. */
LLMO_API llmo_status llmo_model_get_tensor(llmo_model *model, uint32_t index, llmo_tensor_info *info);

/* ============================================================================================================ tokens */

typedef enum llmo_tokenize_flags {
    /* Put the model's start token in front (and its end token behind) if the file asks for that. */
    LLMO_TOKENIZE_ADD_SPECIAL = 1,
    /* Recognize the text of control tokens ("<|im_start|>") as those tokens. Do not set it for text from users: they
     * could forge turns. */
    LLMO_TOKENIZE_PARSE_SPECIAL = 2
} llmo_tokenize_flags;

/* Turns text_bytes bytes of text into tokens. At most cap are written to tokens (may be NULL if cap is 0); *n_tokens is
 * the number needed. LLMO_E_BUFFER if cap is too small (nothing useful is in tokens then). Invalid UTF-8 is accepted:
 * byte-level BPE turns each bad byte into U+FFFD, SentencePiece into byte tokens. */
LLMO_API llmo_status llmo_tokenize(llmo_model *model, const char *text, size_t text_bytes, uint32_t flags,
                                   llmo_token *tokens, size_t cap, size_t *n_tokens);

typedef enum llmo_detokenize_flags {
    LLMO_DETOKENIZE_SPECIAL = 1,     /* render control tokens as their text; else they give nothing */
    LLMO_DETOKENIZE_CONTINUATION = 2 /* the tokens follow others: keep the leading space of the first one */
} llmo_detokenize_flags;

/* Turns tokens into text: at most cap bytes to text (no NUL is added, may be NULL if cap is 0), *text_bytes is the size
 * needed. The bytes are those of the tokens and may end inside a UTF-8 character; a generation's text never does.
 * LLMO_E_ARG for a token outside the vocabulary, LLMO_E_BUFFER if cap is too small. */
LLMO_API llmo_status llmo_detokenize(llmo_model *model, const llmo_token *tokens, size_t n_tokens, uint32_t flags,
                                     char *text, size_t cap, size_t *text_bytes);

typedef enum llmo_special {
    LLMO_SPECIAL_BOS = 0, /* start of text */
    LLMO_SPECIAL_EOS = 1, /* end of text */
    LLMO_SPECIAL_EOT = 2, /* end of a turn */
    LLMO_SPECIAL_UNK = 3,
    LLMO_SPECIAL_PAD = 4,
    LLMO_SPECIAL_NL = 5 /* the token of "\n" */
} llmo_special;

/* The model's token of that role, or LLMO_TOKEN_NONE. */
LLMO_API llmo_token llmo_model_special_token(const llmo_model *model, int32_t special);

typedef enum llmo_token_attr {
    LLMO_TOKEN_ATTR_CONTROL = 1, /* has a meaning, no text */
    LLMO_TOKEN_ATTR_USER = 2,    /* user-defined: always recognized in text */
    LLMO_TOKEN_ATTR_BYTE = 4,
    LLMO_TOKEN_ATTR_UNKNOWN = 8,
    LLMO_TOKEN_ATTR_UNUSED = 16,
    LLMO_TOKEN_ATTR_END = 32 /* a generation stops at it: end of text, of a turn, ... */
} llmo_token_attr;

/* Attributes (a set of llmo_token_attr) of a token; 0 for a normal one, UINT32_MAX for one outside the vocabulary. */
LLMO_API uint32_t llmo_model_token_attr(const llmo_model *model, llmo_token token);

/* ============================================================================================================== plan */

typedef enum llmo_kv_type { LLMO_KV_F16 = 0, LLMO_KV_F32 = 1 } llmo_kv_type;

/* How matrix products with quantized weights are computed. Products with float weights are always as F32. Whatever it is,
 * results do not depend on threads, batches or budgets, bit for bit. */
typedef enum llmo_numerics {
    LLMO_NUMERICS_AUTO = 0, /* this version's choice: F32 */
    LLMO_NUMERICS_F32 = 1,  /* weights expanded to f32, activations in f32: closest to what the file says */
    LLMO_NUMERICS_Q8 = 2 /* activations rounded to 8 bits (a scale per 32), integer products: what fast kernels use */
} llmo_numerics;

#define LLMO_GPU_LAYERS_AUTO (-1)
#define LLMO_BYTES_UNLIMITED UINT64_MAX

typedef struct llmo_plan_params {
    uint32_t struct_size;
    uint32_t n_ctx;       /* tokens per sequence, prompt and reply; 0: the model's training length, at most 4096 */
    uint32_t n_sequences; /* sequences that can exist at the same time, 1..1024; default 1 */
    uint32_t n_batch;     /* most tokens in one pass, 1..65536; 0: 512. Larger: faster prompts, more memory */
    /* Tokens of KV cache shared by all sequences; 0: n_ctx * n_sequences, so that every sequence can be full. Sequences
     * with a common prefix (llmo_sequence_fork) need its tokens once. */
    uint64_t n_kv_tokens;
    int32_t kv_type_k; /* llmo_kv_type of the keys and the values; default LLMO_KV_F16 */
    int32_t kv_type_v;
    /* Layers for the GPU: LLMO_GPU_LAYERS_AUTO (as many as help and fit), or a number, counted from the last layer. More
     * than there are means all. What cannot be had stays on the CPU, and llmo_plan_note says why. */
    int32_t gpu_layers;
    int32_t numerics;           /* llmo_numerics */
    uint64_t vram_budget_bytes; /* per GPU; LLMO_BYTES_UNLIMITED: what is free */
    uint64_t ram_budget_bytes;  /* LLMO_BYTES_UNLIMITED: no limit; a plan that needs more is LLMO_E_BUDGET */
} llmo_plan_params;

LLMO_API void llmo_plan_params_init(llmo_plan_params *params);

/* Decides where each part of the model runs and how many bytes that takes, without reading weights or allocating on a
 * device. params may be NULL. Statuses: LLMO_E_ARG (a field out of range, named), LLMO_E_BUDGET (with the bytes needed),
 * LLMO_E_UNSUPPORTED (a vocabulary-only file), LLMO_E_NOMEM, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_plan_create(llmo_model *model, const llmo_plan_params *params, llmo_plan **out);
LLMO_API void llmo_plan_destroy(llmo_plan *plan);

/* Bytes that a context made from this plan allocates on a device for a purpose (LLMO_PURPOSE_COUNT: all of them);
 * exact. Weights are counted once however many contexts share them. 0 for a bad handle, device or purpose. */
LLMO_API uint64_t llmo_plan_bytes(const llmo_plan *plan, uint32_t device, int32_t purpose);

/* The parameters with all automatic values resolved. */
LLMO_API llmo_status llmo_plan_get_params(const llmo_plan *plan, llmo_plan_params *params);

/* Remarks in plain words: index 0.. until NULL. "gpu_layers 20 asked, 0 given: no NVIDIA driver". Live with the plan. */
LLMO_API const char *llmo_plan_note(const llmo_plan *plan, uint32_t index);

/* One matmul of the model. */
typedef struct llmo_site_info {
    uint32_t struct_size;
    int32_t layer;       /* 0.., or -1 outside the layers */
    uint32_t device;     /* that runs it */
    uint32_t n_declined; /* rows that come before the chosen one and declined */
    uint64_t rows;       /* shape in memory order: (rows, k) */
    uint64_t k;
    uint64_t n_bytes; /* weight bytes read per pass */
    char tensor[128]; /* "blk.0.attn_q.weight" */
    char type[20];    /* "Q4_K" */
    char row[44];     /* the kernel that runs it, "cpu-ref-q8" */
} llmo_site_info;

/* Number of matmuls, and the index-th one. */
LLMO_API uint32_t llmo_plan_site_count(const llmo_plan *plan);
LLMO_API llmo_status llmo_plan_get_site(const llmo_plan *plan, uint32_t index, llmo_site_info *info);

/* Why the declined-th better row (0 .. n_declined-1) does not run site `index`: "row: reason". NULL if out of range. */
LLMO_API const char *llmo_plan_site_reason(const llmo_plan *plan, uint32_t index, uint32_t declined);

/* =========================================================================================================== context */

typedef struct llmo_context_params {
    uint32_t struct_size;
    uint32_t reserved0; /* 0 */
    /* Loading progress, NULL for none: bytes done of bytes total, from the calling thread, at least every few MiB.
     * Returning other than 0 stops the load: LLMO_E_CANCELLED. It must not call the library with this model. */
    void *progress_user;
    int32_t (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);
} llmo_context_params;

LLMO_API void llmo_context_params_init(llmo_context_params *params);

/* Allocates what the plan says and reads the weights (once per model, later contexts share them). plan may be NULL for
 * the default plan, params may be NULL. The plan must be of the same model. After this call no memory is allocated while
 * tokens are generated. Statuses: LLMO_E_NOMEM, LLMO_E_IO (the file changed or ended early), LLMO_E_CANCELLED,
 * LLMO_E_ARG, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_context_create(llmo_model *model, const llmo_plan *plan, const llmo_context_params *params,
                                         llmo_context **out);

/* Ends all generations and sequences of the context and frees it. From the owning thread, never from a callback of this
 * context (ignored there). */
LLMO_API void llmo_context_destroy(llmo_context *context);
LLMO_API const char *llmo_context_error(llmo_context *context);

/* Bytes this context really holds on a device for a purpose (LLMO_PURPOSE_COUNT: all). Weights are the model's and are
 * included. LLMO_PURPOSE_HOST counts generations, which no plan predicts. Any thread. */
LLMO_API uint64_t llmo_context_bytes(const llmo_context *context, uint32_t device, int32_t purpose);

typedef struct llmo_context_stats {
    uint32_t struct_size;
    uint32_t n_sequences;   /* alive */
    uint32_t n_generations; /* running */
    uint32_t reserved0;
    uint64_t kv_tokens_total; /* room in the KV cache */
    uint64_t kv_tokens_used;  /* in pages taken; shared pages count once */
    uint64_t n_passes;        /* passes over the model finished since creation */
    uint64_t n_tokens;        /* tokens evaluated in them */
    uint64_t n_allocs;        /* allocations made for this context since creation */
    uint64_t busy_us;         /* time spent in steps */
} llmo_context_stats;

/* Counters since the context was created. Statuses: LLMO_E_ARG, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_context_get_stats(llmo_context *context, llmo_context_stats *stats);

/* Makes the step, eval or generate call that is running on the context (or else the next one) return LLMO_E_CANCELLED
 * at the next layer boundary. Generations stay as they are and go on with the next step. Any thread. */
LLMO_API llmo_status llmo_context_cancel(llmo_context *context);

/* ========================================================================================================== sequence */

/* Creates an empty sequence. LLMO_E_CONTEXT_FULL if n_sequences exist already. No memory is allocated. */
LLMO_API llmo_status llmo_sequence_create(llmo_context *context, llmo_sequence **out);

/* A new sequence that starts with the first n_tokens tokens of another one (SIZE_MAX: all) and shares their KV cache. A
 * page that both hold is copied when one of them first writes to it, which can only be the last, partly filled one. So a
 * prompt shared by many conversations is evaluated once and forked. LLMO_E_CONTEXT_FULL as above; LLMO_E_BUSY while a
 * generation runs on the source. */
LLMO_API llmo_status llmo_sequence_fork(llmo_sequence *source, size_t n_tokens, llmo_sequence **out);

/* Ends a sequence and gives its pages back; a generation running on it is ended first (its handle stays readable). */
LLMO_API void llmo_sequence_destroy(llmo_sequence *sequence);

/* Forgets all but the first n_tokens tokens; more than there are changes nothing; 0 empties the sequence.
 * LLMO_E_BUSY while a generation runs on it. */
LLMO_API llmo_status llmo_sequence_truncate(llmo_sequence *sequence, size_t n_tokens);

/* Number of tokens; the last one may not be evaluated yet (a reply's last token is evaluated when the sequence goes on).
 * 0 for a bad handle. */
LLMO_API size_t llmo_sequence_length(const llmo_sequence *sequence);

/* Copies the tokens from index first on, at most cap; *n_tokens is the number copied. */
LLMO_API llmo_status llmo_sequence_get_tokens(llmo_sequence *sequence, size_t first, llmo_token *tokens, size_t cap,
                                              size_t *n_tokens);

/* ============================================================================================================== eval */

/* Appends tokens to the sequence, evaluates them and returns the logits after the last n_logits of them (0..n_tokens):
 * row i of logits, n_vocab floats, belongs to tokens[n_tokens - n_logits + i]. logits holds logits_cap floats, at least
 * n_logits * n_vocab, else LLMO_E_BUFFER; NULL if n_logits is 0. A pass in flight is finished first; generations do not
 * advance beyond it. On any failure the sequence is as before. Statuses: LLMO_E_CONTEXT_FULL (longer than n_ctx, or no
 * KV pages left), LLMO_E_CANCELLED, LLMO_E_ARG (token outside the vocabulary), LLMO_E_BUSY (a generation runs on the
 * sequence). */
LLMO_API llmo_status llmo_eval(llmo_sequence *sequence, const llmo_token *tokens, size_t n_tokens, size_t n_logits,
                               float *logits, size_t logits_cap);

/* ======================================================================================================== generation */

/* How the next token is chosen. The order: logit bias, penalties, DRY, then, unless greedy or mirostat, top-k, typical-p,
 * top-p, min-p, XTC, temperature, and a draw. Each one is off at the value that `..._init` sets, except for
 * temperature 0.8, top_k 40, top_p 0.95 and min_p 0.05. */
typedef struct llmo_sampling_params {
    uint32_t struct_size;
    uint32_t reserved0; /* 0 */
    /* The generator is PCG32 (XSH-RR 64/32) seeded with this number and stream 54; one draw of 32 bits per sampled
     * token, plus one per token for XTC when it is on. Same seed, same model, same text. */
    uint64_t seed;
    float temperature; /* logits are divided by it; 0: greedy, the first of the largest logits */
    int32_t top_k;     /* keep the k most likely; 0: off */
    float top_p;       /* keep the fewest whose probability reaches p; 1: off */
    float min_p;       /* keep those at least min_p times as likely as the best; 0: off */
    float typical_p;   /* locally typical sampling; 1: off */
    uint32_t min_keep; /* top-p, min-p, typical-p, XTC keep at least so many; default 1 */
    /* Penalties over the last penalty_last tokens (prompt included; -1: all of the sequence, 0: off). repeat divides
     * positive and multiplies negative logits of tokens seen (1: off); presence is subtracted once, frequency per
     * occurrence (0: off). */
    int32_t penalty_last;
    float penalty_repeat;
    float penalty_presence;
    float penalty_frequency;
    /* DRY: a token that would continue a repetition of length L >= dry_allowed_length loses
     * dry_multiplier * dry_base^(L - dry_allowed_length). Looks at the last dry_last tokens (-1: all, 0: off).
     * Sequences do not match across dry_breakers (NULL: "\n", ":", "\"", "*"). */
    float dry_multiplier;       /* 0: off */
    float dry_base;             /* 1.75 */
    int32_t dry_allowed_length; /* 2 */
    int32_t dry_last;           /* -1 */
    const char *const *dry_breakers;
    uint32_t n_dry_breakers;
    /* XTC: with probability xtc_probability, drop all but the least likely of the tokens above xtc_threshold. */
    float xtc_probability; /* 0: off */
    float xtc_threshold;   /* 0.1 */
    /* Mirostat v2 replaces top-k .. XTC: keeps the surprise of each token near tau (bits), learning rate eta. */
    int32_t mirostat;   /* 0: off, 2: on */
    float mirostat_tau; /* 5 */
    float mirostat_eta; /* 0.1 */
    /* n_bias pairs: bias_values[i] is added to the logit of bias_tokens[i]; -INFINITY forbids the token. */
    uint32_t n_bias;
    uint32_t reserved1; /* 0 */
    const llmo_token *bias_tokens;
    const float *bias_values;
    /* Called with the raw logits (n_vocab floats, may be changed) before everything else; NULL: none. */
    void *logits_user;
    void (*logits)(void *user, float *logits, uint32_t n_vocab, const llmo_token *tokens, size_t n_tokens);
} llmo_sampling_params;

LLMO_API void llmo_sampling_params_init(llmo_sampling_params *params);

typedef enum llmo_generation_flags {
    LLMO_GENERATE_IGNORE_END = 1, /* do not stop at the model's end tokens */
    LLMO_GENERATE_SPECIAL = 2     /* render control tokens in the text */
} llmo_generation_flags;

typedef struct llmo_generation_params {
    uint32_t struct_size;
    uint32_t flags;      /* llmo_generation_flags */
    uint32_t max_tokens; /* most tokens to generate; 0: until the context is full */
    uint32_t n_stops;    /* stop strings: generation ends when the text contains one; it is not part of the text. */
    const char *const *stops; /* NUL-terminated, may span tokens */
    uint32_t n_stop_tokens;
    uint32_t
        tokenize_flags; /* llmo_tokenize_flags for a text prompt; default ADD_SPECIAL (on an empty sequence only) */
    const llmo_token *stop_tokens;
    const llmo_sampling_params *sampling; /* NULL: the defaults. Copied, with everything it points to */
    /* Called inside step with new text (whole UTF-8 characters, no NUL is added); NULL: none, read it with
     * llmo_generation_read. Returning other than 0 ends the generation (LLMO_STOP_CALLBACK). */
    void *text_user;
    int32_t (*text)(void *user, llmo_generation *generation, const char *text, size_t text_bytes);
} llmo_generation_params;

LLMO_API void llmo_generation_params_init(llmo_generation_params *params);

/* Queues a prompt on a sequence and a reply to it: nothing is computed before the next step. The prompt is appended to
 * what the sequence holds. It may be empty if there is something to continue from: tokens of the sequence, or a start
 * token that tokenizing adds. params may be NULL. Statuses: LLMO_E_ARG, LLMO_E_BUSY (a generation runs on the sequence),
 * LLMO_E_CONTEXT_FULL (the prompt does not fit n_ctx), LLMO_E_NOMEM, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_generation_start(llmo_sequence *sequence, const char *text, size_t text_bytes,
                                           const llmo_generation_params *params, llmo_generation **out);

/* The same with tokens. */
LLMO_API llmo_status llmo_generation_start_tokens(llmo_sequence *sequence, const llmo_token *tokens, size_t n_tokens,
                                                  const llmo_generation_params *params, llmo_generation **out);

typedef enum llmo_generation_state {
    LLMO_GENERATION_PROMPT = 0,  /* the prompt is queued or partly evaluated */
    LLMO_GENERATION_RUNNING = 1, /* tokens are being generated */
    LLMO_GENERATION_DONE = 2,    /* see stop */
    LLMO_GENERATION_FAILED = 3   /* see status */
} llmo_generation_state;

typedef enum llmo_stop {
    LLMO_STOP_NONE = 0,
    LLMO_STOP_END = 1,     /* an end token of the model (not part of the sequence's text, nor evaluated) */
    LLMO_STOP_LENGTH = 2,  /* max_tokens */
    LLMO_STOP_CONTEXT = 3, /* the sequence is full, or the KV cache is */
    LLMO_STOP_STRING = 4,  /* a stop string */
    LLMO_STOP_TOKEN = 5,   /* a stop token of the params */
    LLMO_STOP_CANCEL = 6,  /* llmo_generation_cancel, or its sequence was destroyed */
    LLMO_STOP_CALLBACK = 7 /* the text callback asked for it */
} llmo_stop;

typedef struct llmo_generation_info {
    uint32_t struct_size;
    int32_t state;     /* llmo_generation_state */
    int32_t stop;      /* llmo_stop */
    int32_t status;    /* llmo_status of a failed generation */
    uint64_t n_prompt; /* tokens to evaluate before the first choice: the prompt, and a reply's last token before it */
    uint64_t n_prompt_done; /* of them evaluated */
    uint64_t n_generated;   /* tokens chosen so far */
    uint64_t prompt_us;     /* time of passes that held prompt tokens of this generation */
    uint64_t decode_us;     /* time of passes for its generated tokens */
} llmo_generation_info;

/* Where a generation stands. Statuses: LLMO_E_ARG, LLMO_E_VERSION. */
LLMO_API llmo_status llmo_generation_get_info(llmo_generation *generation, llmo_generation_info *info);

/* Takes text that was generated and not read yet: at most cap bytes, whole UTF-8 characters only, into buf; *text_bytes
 * is the number written (0: nothing new). Not for generations with a text callback (they give nothing). */
LLMO_API llmo_status llmo_generation_read(llmo_generation *generation, char *buf, size_t cap, size_t *text_bytes);

/* Copies the tokens generated from index first on (a final end token included), at most cap; *n_tokens: copied. */
LLMO_API llmo_status llmo_generation_get_tokens(llmo_generation *generation, size_t first, llmo_token *tokens,
                                                size_t cap, size_t *n_tokens);

/* Ends the generation (LLMO_STOP_CANCEL) at the next layer boundary; what was generated stays in the sequence. Any
 * thread, also from callbacks. No effect on one that has ended. */
LLMO_API llmo_status llmo_generation_cancel(llmo_generation *generation);

/* Ends it if it runs and frees the handle. Not from a callback of the same context (ignored there). */
LLMO_API void llmo_generation_destroy(llmo_generation *generation);

/* ============================================================================================================== step */

#define LLMO_BUDGET_UNLIMITED UINT64_MAX

typedef struct llmo_step_info {
    uint32_t struct_size;
    uint32_t n_running;       /* generations that still have work */
    uint32_t n_passes;        /* passes finished in this call */
    uint32_t n_units;         /* units of work (a part of a layer for the whole batch) done in this call */
    uint64_t n_prompt_tokens; /* prompt tokens and */
    uint64_t n_new_tokens;    /* generated tokens in those passes */
    uint64_t elapsed_us;
    uint64_t longest_unit_us; /* the step overran its budget by less than this */
} llmo_step_info;

/* Advances all running generations of the context as one batch, prompts in chunks beside single tokens, for about
 * budget_us microseconds: the call returns at the first unit boundary (inside a layer's parts) after that, and goes on
 * exactly there next time. At least one unit is done, whatever the budget; prompt chunks are made smaller so that a unit
 * stays below the budget where the machine allows it. LLMO_BUDGET_UNLIMITED: one whole pass; call again while n_running
 * is not 0. What is generated does not depend on budgets. info may be NULL. A generation that fails alone ends as
 * LLMO_GENERATION_FAILED, the step goes on. Statuses: LLMO_E_CANCELLED (go on with the next step), LLMO_E_ARG,
 * LLMO_E_BUSY, LLMO_E_DEVICE_LOST. */
LLMO_API llmo_status llmo_context_step(llmo_context *context, uint64_t budget_us, llmo_step_info *info);

/* Starts a generation, steps until it has ended (other generations of the context advance too) and frees it. Text goes to
 * params->text. info may be NULL. Statuses as llmo_generation_start and llmo_context_step, and the status of a failed
 * generation. LLMO_E_CANCELLED after llmo_context_cancel: the generation is ended. */
LLMO_API llmo_status llmo_generate(llmo_sequence *sequence, const char *text, size_t text_bytes,
                                   const llmo_generation_params *params, llmo_generation_info *info);

#ifdef __cplusplus
}
#endif

#endif
