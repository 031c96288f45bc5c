/* Shared by the gguf*.c files only: how an opened file is kept in memory.
 *
 * The header of each part is kept as it was read, with two edits that make names usable as C strings: the four bytes
 * after a key, its value's kind, become {0, kind, 0, 0}, and the byte after a tensor's name becomes 0. Beside it there
 * are 8 bytes per key, 6 per key in the hash table and 4 per string of an array, each less than what the entry takes in
 * the file: so keys cost at most twice the header. */
#ifndef LLMOI_GGUF_IMPL_H
#define LLMOI_GGUF_IMPL_H

#include <string.h>

#include "gguf.h"

typedef struct llmoi_gguf_entry {
    uint32_t key_at;  /* of the first byte of the key's name in the header; its length is in the 8 bytes before */
    uint32_t strings; /* array of strings: where its elements start in `strings` of the part */
} llmoi_gguf_entry;

typedef struct llmoi_gguf_part {
    llmoi_source source;
    unsigned char *header;
    uint32_t header_bytes; /* the header limit is far below 4 GiB */
    uint32_t n_keys, n_tensors, n_strings;
    uint32_t alignment;
    uint64_t data_at; /* where tensor data starts */
    llmoi_gguf_entry *keys;
    uint32_t *key_slots; /* hash table: index of the key + 1, 0 for a free slot */
    uint32_t *strings;   /* for each string of each array, where its length is in the header */
} llmoi_gguf_part;

struct llmoi_gguf {
    llmoi_mem *mem;
    uint32_t n_parts, n_tensors;
    llmoi_gguf_part *parts;
    llmoi_gguf_tensor *tensors;
    uint32_t *tensor_slots;
    uint64_t hash_key[2];
};

/* One key's value, as found in the header. */
typedef struct llmoi_gguf_value {
    uint32_t kind;             /* llmoi_gguf_kind */
    uint32_t elem;             /* kind of the elements of an ARRAY, else the kind itself */
    uint64_t count;            /* elements of an ARRAY, else 1 */
    const unsigned char *data; /* first element; for strings use llmoi_gguf_value_string */
    const unsigned char *header;
    const uint32_t *strings; /* ARRAY of STRING */
    uint64_t offset;         /* of the key in the file */
} llmoi_gguf_value;

#define LLMOI_GGUF_SHOWN_BYTES 96u /* of a name quoted in a sentence */

/* Puts "key 'x' at offset n" or "tensor ..." in front of the sentence just recorded; name points into the header. */
__attribute__((cold)) llmo_status llmoi_gguf_blame(const llmoi_gguf_part *part, const char *what, const char *name,
                                                   llmo_status st);

/* Steps of opening, once the tables are filled (gguf_index.c). */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_index_keys(llmoi_gguf *g, llmoi_gguf_part *part);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_index_tensors(llmoi_gguf *g);
LLMOI_MUST_CHECK llmo_status llmoi_gguf_check_overlaps(const llmoi_gguf *g);

bool llmoi_gguf_lookup(const llmoi_gguf *g, uint32_t part, const char *key, llmoi_gguf_value *out);
/* Element i < count of a value whose elem is STRING. */
llmoi_str llmoi_gguf_value_string(const llmoi_gguf_value *v, uint64_t i);
/* Key of the part's metadata as unsigned integer, for the checks of split models. */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_part_u64(const llmoi_gguf *g, uint32_t part, const char *key, bool required,
                                                 uint64_t min, uint64_t max, uint64_t *out);
/* split.count, split.no and split.tensors.count against the parts that were given (gguf_files.c). */
LLMOI_MUST_CHECK llmo_status llmoi_gguf_check_split(const llmoi_gguf *g);

/* Bytes of a value kind; 0 for STRING, ARRAY and numbers that are no kind. */
static inline uint32_t llmoi_gguf_kind_bytes(uint32_t kind) {
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return kind < sizeof bytes ? bytes[kind] : 0;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF numbers are read as they are");

static inline uint32_t llmoi_load_u32(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t llmoi_load_u64(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v); // NOLINT(clang-analyzer-core.NonNullParamChecker): it cannot follow the cursor in gguf.c
    return v;
}

#endif
