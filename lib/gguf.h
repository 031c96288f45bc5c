/* GGUF files, v2 and v3, little-endian, one part or several: header into checked tables, weights by read on demand.
 * Knows the format and nothing of models: keys and tensors are looked up by name. */
#ifndef LLMOI_GGUF_H
#define LLMOI_GGUF_H

#include "mem.h"
#include "os.h"

/* Limits of what is accepted, all in one place. */
#define LLMOI_GGUF_MAX_HEADER_BYTES ((uint64_t)1 << 30)
#define LLMOI_GGUF_MAX_KEY_BYTES    65535u
#define LLMOI_GGUF_MAX_NAME_BYTES   127u /* tensor names; llmo_tensor_info.name holds them */
#define LLMOI_GGUF_MAX_KEYS         ((uint64_t)1 << 24)
#define LLMOI_GGUF_MAX_TENSORS      ((uint64_t)1 << 20)
#define LLMOI_GGUF_MAX_DIMS         4u
#define LLMOI_GGUF_MAX_ALIGNMENT    ((uint32_t)1 << 20)
#define LLMOI_GGUF_MAX_PARTS        1024u

/* Where a part's bytes come from: a file opened once, memory, or the host's reader. */
typedef struct llmoi_source {
    enum { LLMOI_SOURCE_FILE, LLMOI_SOURCE_MEMORY, LLMOI_SOURCE_READER } kind;
    uint64_t size_bytes;
    llmoi_os_file file;
    const void *map;  /* FILE opened with mmap: the mapping, else NULL */
    const char *data; /* MEMORY */
    void *owned;      /* MEMORY: the copy that the model owns, or NULL if borrowed */
    llmo_reader reader;
} llmoi_source;

/* Reads exactly bytes at offset, thread-safe for FILE and MEMORY; range-checked against size_bytes first. */
LLMOI_MUST_CHECK llmo_status llmoi_source_read(const llmoi_source *s, uint64_t offset, void *dst, size_t bytes);
void llmoi_source_close(llmoi_mem *mem, llmoi_source *s);

typedef enum llmoi_gguf_kind { /* value types as numbered in the file */
                               LLMOI_GGUF_U8 = 0,
                               LLMOI_GGUF_I8 = 1,
                               LLMOI_GGUF_U16 = 2,
                               LLMOI_GGUF_I16 = 3,
                               LLMOI_GGUF_U32 = 4,
                               LLMOI_GGUF_I32 = 5,
                               LLMOI_GGUF_F32 = 6,
                               LLMOI_GGUF_BOOL = 7,
                               LLMOI_GGUF_STRING = 8,
                               LLMOI_GGUF_ARRAY = 9,
                               LLMOI_GGUF_U64 = 10,
                               LLMOI_GGUF_I64 = 11,
                               LLMOI_GGUF_F64 = 12
} llmoi_gguf_kind;

typedef struct llmoi_gguf_tensor {
    const char *name; /* NUL-terminated */
    uint32_t part;
    uint32_t type; /* index into llmoi_types (quant.h) is llmoi_type_find(type); known and not removed */
    uint32_t n_dims;
    uint64_t dims[LLMOI_GGUF_MAX_DIMS]; /* dims[0] contiguous; unused are 1; none is 0 */
    uint64_t offset;                    /* absolute in its part */
    uint64_t n_elems;
    uint64_t n_bytes; /* offset + n_bytes <= size of the part */
} llmoi_gguf_tensor;

typedef struct llmoi_str {
    const char *ptr; /* into the header, not NUL-terminated */
    size_t len;
} llmoi_str;

typedef struct llmoi_gguf llmoi_gguf; /* immutable after open; any thread */

/* Parses the headers of n_parts sources (copied and taken over on success: closed by llmoi_gguf_close, only the array
 * itself stays the caller's to free; on failure all stays the caller's). mem must outlive the result. Everything in the
 * header is checked before use; errors name the key or tensor and the byte offset. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_open(llmoi_mem *mem, llmoi_source *parts, uint32_t n_parts, llmoi_gguf **out);
void llmoi_gguf_close(llmoi_gguf *g);

/* Opens path (and, for "-00001-of-0000N.gguf", the other parts beside it) as sources. *parts is an array of *n_parts
 * allocated from mem with LLMO_PURPOSE_HEADER, for llmoi_gguf_open; mmap: map each file. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_open_files(llmoi_mem *mem, const char *path, bool mmap, llmoi_source **parts,
                                                   uint32_t *n_parts);

uint32_t llmoi_gguf_n_parts(const llmoi_gguf *g);
const llmoi_source *llmoi_gguf_source(const llmoi_gguf *g, uint32_t part);

/* --- keys ----------------------------------------------------------------------------------------------------- */
uint32_t llmoi_gguf_n_keys(const llmoi_gguf *g);
const char *llmoi_gguf_key(const llmoi_gguf *g, uint32_t index); /* NUL-terminated; NULL if out of range */
bool llmoi_gguf_has(const llmoi_gguf *g, const char *key);

/* Typed getters. A missing key leaves *out as it is and returns LLMO_OK if `required` is false, else LLMO_E_FORMAT; a
 * key of another type, or a value outside min..max, is LLMO_E_FORMAT naming the key. Integers of any width are accepted
 * for an integer getter (no floats, no strings); floats from F32 or F64, finite only. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_u64(const llmoi_gguf *g, const char *key, bool required, uint64_t min,
                                            uint64_t max, uint64_t *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_u32(const llmoi_gguf *g, const char *key, bool required, uint32_t min,
                                            uint32_t max, uint32_t *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_f32(const llmoi_gguf *g, const char *key, bool required, float min, float max,
                                            float *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_bool(const llmoi_gguf *g, const char *key, bool required, bool *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_string(const llmoi_gguf *g, const char *key, bool required, llmoi_str *out);

/* Arrays: count and element kind, then elements by index (index checked by the callee; kind by the typed getter).
 * llmoi_gguf_array: missing and not required gives count 0. String elements are found in O(1). */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_array(const llmoi_gguf *g, const char *key, bool required,
                                              llmoi_gguf_kind *elem, uint64_t *count);
/* Element as signed/unsigned integer or float; LLMO_E_FORMAT if the array's kind is no integer (for u64/i64: also a
 * negative value for u64) or the index is out of range. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_array_i64(const llmoi_gguf *g, const char *key, uint64_t index, int64_t *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_array_f32(const llmoi_gguf *g, const char *key, uint64_t index, float *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_array_bool(const llmoi_gguf *g, const char *key, uint64_t index, bool *out);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_array_string(const llmoi_gguf *g, const char *key, uint64_t index,
                                                     llmoi_str *out);
/* The first `count` strings of an array in one pass: out[count], pointing into the header. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_array_strings(const llmoi_gguf *g, const char *key, llmoi_str *out,
                                                      uint64_t count);

/* A value printed as in llmo_model_meta_text: at most cap bytes with NUL; *len is the full length without NUL. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_text(const llmoi_gguf *g, const char *key, char *buf, size_t cap, size_t *len);

/* --- tensors -------------------------------------------------------------------------------------------------- */
uint32_t llmoi_gguf_n_tensors(const llmoi_gguf *g);
const llmoi_gguf_tensor *llmoi_gguf_tensor_at(const llmoi_gguf *g, uint32_t index);
const llmoi_gguf_tensor *llmoi_gguf_find(const llmoi_gguf *g, const char *name); /* NULL: no such tensor */

#endif
