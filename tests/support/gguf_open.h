/* Opening GGUF bytes in tests: from an exact copy in memory (so that the address sanitizer sees any read outside), with
 * every byte of memory accounted. */
#ifndef GGUF_OPEN_H
#define GGUF_OPEN_H

#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "gguf_build.h"
#include "shared_data.h"

#define assert_ok(expr)                                                                                                \
    do {                                                                                                               \
        llmo_status st_ = (expr);                                                                                      \
        if (st_ != LLMO_OK) fail_msg("%s: %s: %s", #expr, llmo_status_name(st_), llmoi_message());                     \
    } while (0)
#define assert_fails(expr, status, needle)                                                                             \
    do {                                                                                                               \
        llmo_status st_ = (expr);                                                                                      \
        if (st_ != (status) || !strstr(llmoi_message(), needle)) {                                                     \
            fail_msg("%s: %s: '%s', expected '%s'", #expr, llmo_status_name(st_), llmoi_message(), needle);            \
        }                                                                                                              \
    } while (0)

static inline llmoi_source memory_source(const void *bytes, size_t size) {
    return (llmoi_source){.kind = LLMOI_SOURCE_MEMORY, .size_bytes = size, .data = bytes};
}

static inline llmo_status open_bytes(llmoi_mem *mem, const void *bytes, size_t size, llmoi_gguf **out) {
    llmoi_source s = memory_source(bytes, size);
    return llmoi_gguf_open(mem, &s, 1, out);
}

/* A small file with a bit of everything: about 500 bytes of header. */
static inline unsigned char *small_file(size_t *size) {
    static const float w[64] = {1};
    gguf_builder b;
    gb_init(&b);
    gb_str(&b, "general.architecture", "llama");
    gb_u32(&b, "general.alignment", 32);
    gb_u64(&b, "u64", 1);
    gb_f32(&b, "f32", 1);
    gb_bool(&b, "bool", 1);
    const char *tokens[] = {"a", "bc", ""};
    gb_arr_str(&b, "tokens", tokens, 3);
    gb_arr(&b, "bools", 7, 3, "\0\1\1", 3);
    float scores[] = {1, 2};
    gb_arr_f32(&b, "scores", scores, 2);
    uint64_t dims[] = {32, 2};
    gb_tensor(&b, "token_embd.weight", 0, 2, dims, w, 256);
    gb_tensor(&b, "output.weight", 8, 2, dims, w, 68);
    unsigned char *bytes = gb_finish(&b, size);
    gb_free(&b);
    return bytes;
}

/* Allocator that fails call number fail_at (1 is the first), and all later ones if `forever`. */
typedef struct failing_allocator {
    uint64_t calls, fail_at;
    int64_t live;
    int forever;
} failing_allocator;

static inline void *failing_alloc(void *user, size_t bytes, size_t alignment) {
    failing_allocator *a = user;
    a->calls++;
    if (a->calls == a->fail_at || (a->forever && a->fail_at && a->calls > a->fail_at)) return NULL;
    a->live++;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static inline void failing_release(void *user, void *p, size_t bytes) {
    (void)bytes;
    ((failing_allocator *)user)->live--;
    free(p);
}

/* Host reader over memory that fails call number fail_at, and can show other bytes from call change_at on. */
typedef struct test_reader {
    const unsigned char *bytes, *other;
    size_t size;
    uint64_t calls, fail_at, change_at;
} test_reader;

static inline int32_t test_read(void *user, uint64_t offset, void *dst, size_t bytes) {
    test_reader *r = user;
    r->calls++;
    if (r->calls == r->fail_at) return 7;
    if (offset > r->size || bytes > r->size - offset) return 8;
    memcpy(dst, (r->change_at && r->calls >= r->change_at ? r->other : r->bytes) + offset, bytes);
    return 0;
}

static inline llmoi_source reader_source(test_reader *r) {
    llmoi_source s = {.kind = LLMOI_SOURCE_READER, .size_bytes = r->size};
    s.reader = (llmo_reader){sizeof(llmo_reader), 0, r, r->size, test_read};
    return s;
}

#endif
