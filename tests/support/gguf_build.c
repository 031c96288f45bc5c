#include "gguf_build.h"

#include <stdlib.h>
#include <string.h>

static void put(unsigned char **p, size_t *len, size_t *cap, const void *bytes, size_t n) {
    if (*len + n > *cap) *p = realloc(*p, *cap = (*len + n) * 2 + 64);
    if (n) memcpy(*p + *len, bytes, n);
    *len += n;
}

void gb_init(gguf_builder *b) {
    memset(b, 0, sizeof *b);
    b->version = 3;
    b->alignment = 32;
}

void gb_free(gguf_builder *b) {
    free(b->kv);
    free(b->infos);
    free(b->data);
    memset(b, 0, sizeof *b);
}

void gb_raw(gguf_builder *b, const void *bytes, size_t n) {
    put(&b->kv, &b->kv_len, &b->kv_cap, bytes, n);
}

void gb_key(gguf_builder *b, const char *name, size_t name_len, uint32_t kind) {
    uint64_t n = name_len;
    gb_raw(b, &n, 8);
    gb_raw(b, name, name_len);
    gb_raw(b, &kind, 4);
    b->n_kv++;
}

static void key(gguf_builder *b, const char *k, uint32_t type) {
    gb_key(b, k, strlen(k), type);
}

static void str(gguf_builder *b, const char *s, uint64_t n) {
    gb_raw(b, &n, 8);
    gb_raw(b, s, n);
}

void gb_u32(gguf_builder *b, const char *k, uint32_t v) {
    key(b, k, 4);
    gb_raw(b, &v, 4);
}
void gb_u64(gguf_builder *b, const char *k, uint64_t v) {
    key(b, k, 10);
    gb_raw(b, &v, 8);
}
void gb_i32(gguf_builder *b, const char *k, int32_t v) {
    key(b, k, 5);
    gb_raw(b, &v, 4);
}
void gb_u8(gguf_builder *b, const char *k, uint8_t v) {
    key(b, k, 0);
    gb_raw(b, &v, 1);
}
void gb_f32(gguf_builder *b, const char *k, float v) {
    key(b, k, 6);
    gb_raw(b, &v, 4);
}
void gb_bool(gguf_builder *b, const char *k, int v) {
    unsigned char c = v != 0;
    key(b, k, 7);
    gb_raw(b, &c, 1);
}
void gb_str(gguf_builder *b, const char *k, const char *s) {
    gb_strn(b, k, s, strlen(s));
}
void gb_strn(gguf_builder *b, const char *k, const char *s, size_t len) {
    key(b, k, 8);
    str(b, s, len);
}

static void array(gguf_builder *b, const char *k, uint32_t elem, uint64_t n) {
    key(b, k, 9);
    gb_raw(b, &elem, 4);
    gb_raw(b, &n, 8);
}

void gb_arr(gguf_builder *b, const char *name, uint32_t elem, uint64_t n, const void *bytes, size_t n_bytes) {
    array(b, name, elem, n);
    gb_raw(b, bytes, n_bytes);
}

void gb_arr_str(gguf_builder *b, const char *k, const char *const *s, uint64_t n) {
    array(b, k, 8, n);
    for (uint64_t i = 0; i < n; i++) str(b, s[i], strlen(s[i]));
}
void gb_arr_f32(gguf_builder *b, const char *k, const float *v, uint64_t n) {
    array(b, k, 6, n);
    gb_raw(b, v, n * 4);
}
void gb_arr_i32(gguf_builder *b, const char *k, const int32_t *v, uint64_t n) {
    array(b, k, 5, n);
    gb_raw(b, v, n * 4);
}

static void pad(unsigned char **p, size_t *len, size_t *cap, size_t base, size_t alignment) {
    static const unsigned char zero[4096];
    size_t n = (alignment - (base + *len) % alignment) % alignment;
    while (n) {
        size_t m = n < sizeof zero ? n : sizeof zero;
        put(p, len, cap, zero, m);
        n -= m;
    }
}

void gb_info(gguf_builder *b, const char *name, size_t name_len, uint32_t type, uint32_t n_dims, const uint64_t *dims,
             uint64_t offset) {
    uint64_t n = name_len;
    put(&b->infos, &b->infos_len, &b->infos_cap, &n, 8);
    put(&b->infos, &b->infos_len, &b->infos_cap, name, name_len);
    put(&b->infos, &b->infos_len, &b->infos_cap, &n_dims, 4);
    put(&b->infos, &b->infos_len, &b->infos_cap, dims, n_dims * 8u);
    put(&b->infos, &b->infos_len, &b->infos_cap, &type, 4);
    put(&b->infos, &b->infos_len, &b->infos_cap, &offset, 8);
    b->n_tensors++;
}

uint64_t gb_data(gguf_builder *b, const void *bytes, size_t n_bytes) {
    pad(&b->data, &b->data_len, &b->data_cap, 0, b->alignment);
    uint64_t offset = b->data_len;
    put(&b->data, &b->data_len, &b->data_cap, bytes, n_bytes);
    return offset;
}

void gb_tensor(gguf_builder *b, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dims,
               const void *bytes, size_t n_bytes) {
    gb_info(b, name, strlen(name), type, n_dims, dims, gb_data(b, bytes, n_bytes));
}

unsigned char *gb_finish(gguf_builder *b, size_t *size) {
    unsigned char *f = NULL;
    size_t len = 0, cap = 0;
    put(&f, &len, &cap, "GGUF", 4);
    put(&f, &len, &cap, &b->version, 4);
    put(&f, &len, &cap, &b->n_tensors, 8);
    put(&f, &len, &cap, &b->n_kv, 8);
    put(&f, &len, &cap, b->kv, b->kv_len);
    put(&f, &len, &cap, b->infos, b->infos_len);
    if (b->n_tensors) {
        pad(&f, &len, &cap, 0, b->alignment);
        put(&f, &len, &cap, b->data, b->data_len);
    }
    *size = len;
    return f;
}
