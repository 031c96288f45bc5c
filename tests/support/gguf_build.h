/* Building GGUF files in memory, for tests: valid ones, and broken ones by passing wrong counts or raw bytes. */
#ifndef GGUF_BUILD_H
#define GGUF_BUILD_H

#include <stddef.h>
#include <stdint.h>

typedef struct gguf_builder {
    unsigned char *kv; /* keys so far */
    size_t kv_len, kv_cap;
    unsigned char *infos; /* tensor infos so far */
    size_t infos_len, infos_cap;
    unsigned char *data; /* tensor data so far, aligned */
    size_t data_len, data_cap;
    uint64_t n_kv, n_tensors;
    uint32_t version, alignment;
} gguf_builder;

void gb_init(gguf_builder *b); /* version 3, alignment 32 */
void gb_free(gguf_builder *b);
void gb_raw(gguf_builder *b, const void *bytes, size_t n); /* appended to the keys, uncounted */
void gb_u32(gguf_builder *b, const char *key, uint32_t v);
void gb_u64(gguf_builder *b, const char *key, uint64_t v);
void gb_i32(gguf_builder *b, const char *key, int32_t v);
void gb_u8(gguf_builder *b, const char *key, uint8_t v);
void gb_f32(gguf_builder *b, const char *key, float v);
void gb_bool(gguf_builder *b, const char *key, int v);
void gb_str(gguf_builder *b, const char *key, const char *s);
void gb_strn(gguf_builder *b, const char *key, const char *s, size_t len);
void gb_arr_str(gguf_builder *b, const char *key, const char *const *s, uint64_t n);
void gb_arr_f32(gguf_builder *b, const char *key, const float *v, uint64_t n);
void gb_arr_i32(gguf_builder *b, const char *key, const int32_t *v, uint64_t n);
/* dims[0] is contiguous; bytes are copied */
void gb_tensor(gguf_builder *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims,
               const void *bytes, size_t n_bytes);
/* for the odd cases: name, kind and count of a key's value, whose bytes follow by gb_raw; an array of any kind; a
 * tensor info alone, with any name, n_dims numbers and data offset; bytes of data alone, after padding to the alignment
 */
void gb_key(gguf_builder *b, const char *name, size_t name_len, uint32_t kind);
void gb_arr(gguf_builder *b, const char *name, uint32_t elem, uint64_t n, const void *bytes, size_t n_bytes);
void gb_info(gguf_builder *b, const char *name, size_t name_len, uint32_t type, uint32_t n_dims, const uint64_t *dims,
             uint64_t offset);
uint64_t gb_data(gguf_builder *b, const void *bytes, size_t n_bytes); /* its offset */
/* the file, malloc'ed */
unsigned char *gb_finish(gguf_builder *b, size_t *size);

#endif
