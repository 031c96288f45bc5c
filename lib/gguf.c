/* Parsing the header of GGUF files into checked tables. The only code that walks untrusted bytes: all of it goes
 * through need/take/skip of one cursor. Must not know what keys and tensors mean, apart from general.alignment.
 *
 * A header says its size nowhere. So each part is walked twice with the same code: once through a small window, to
 * measure and check it, and once over a buffer of exactly that size, to fill tables of exactly that many entries.
 * Memory thus stays proportional to what the file really holds, whatever it claims. */
#include "gguf_impl.h"

#include "quant.h"

#define WINDOW_BYTES   ((size_t)256 << 10) /* longer than the longest key */
#define MIN_KEY_BYTES  14u                 /* length, one byte of name, kind, one byte of value */
#define MIN_INFO_BYTES 33u                 /* length, one byte of name, n_dims, one dimension, type, offset */
#define TAG            LLMO_PURPOSE_HEADER

typedef struct parser {
    llmoi_gguf *g;
    llmoi_gguf_part *part;
    uint32_t part_no;
    bool store;            /* second walk: fill the tables of the part */
    uint32_t first_tensor; /* of this part in g->tensors */
    /* cursor: the bytes [start, start + len) of the part are in buf; pos goes up to limit */
    const llmoi_source *source; /* refills buf; NULL: buf holds everything */
    unsigned char *buf;
    size_t cap, len;
    uint64_t start, pos, limit;
    /* what is being read, for sentences */
    const char *what; /* "key", "tensor" or NULL */
    uint64_t what_at;
    uint32_t shown_bytes;
    char shown[LLMOI_GGUF_SHOWN_BYTES + 4];
    /* counts of this walk */
    uint32_t n_keys, n_tensors, n_strings;
    uint32_t alignment;
} parser;

/* --- sentences ---------------------------------------------------------------------------------------------- */

static bool utf8_without_nul(const unsigned char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        unsigned char c = s[i];
        size_t more = c < 0x80                ? 0
                      : c >= 0xc2 && c < 0xe0 ? 1
                      : c >= 0xe0 && c < 0xf0 ? 2
                      : c >= 0xf0 && c < 0xf5 ? 3
                                              : 9;
        if (c == 0 || more > n - i - 1) return false;
        for (size_t k = 1; k <= more; k++) {
            if ((s[i + k] & 0xc0) != 0x80) return false;
        }
        /* too long forms, surrogates, beyond U+10FFFF */
        if ((c == 0xe0 && s[i + 1] < 0xa0) || (c == 0xed && s[i + 1] > 0x9f) || (c == 0xf0 && s[i + 1] < 0x90) ||
            (c == 0xf4 && s[i + 1] > 0x8f)) {
            return false;
        }
        i += more + 1;
    }
    return true;
}

/* Copies the name for later sentences: the window may have moved on by then. */
static void remember_name(parser *p, const unsigned char *name, size_t len) {
    size_t n = len < LLMOI_GGUF_SHOWN_BYTES ? len : LLMOI_GGUF_SHOWN_BYTES;
    if (n < len) {
        while (n > 0 && (name[n] & 0xc0) == 0x80) n--;
    }
    bool clean = utf8_without_nul(name, n);
    for (size_t i = 0; i < n; i++) p->shown[i] = name[i] == 0 || (!clean && name[i] >= 0x80) ? '?' : (char)name[i];
    if (n < len) {
        memcpy(p->shown + n, "...", 3);
        n += 3;
    }
    p->shown_bytes = (uint32_t)n;
}

static void reading(parser *p, const char *what) {
    p->what = what;
    p->what_at = p->pos;
    p->shown_bytes = 0;
}

/* Puts the key or tensor being read, and its offset, in front of the sentence just recorded. */
__attribute__((cold)) static llmo_status blame(const parser *p, llmo_status st) {
    unsigned long long at = p->what_at;
    if (!p->what)
        llmoi_fail_prefix("header at offset %llu", at);
    else if (p->shown_bytes)
        llmoi_fail_prefix("%s '%.*s' at offset %llu", p->what, (int)p->shown_bytes, p->shown, at);
    else
        llmoi_fail_prefix("%s number %u at offset %llu", p->what, p->what[0] == 'k' ? p->n_keys : p->n_tensors, at);
    return st;
}

/* --- the cursor --------------------------------------------------------------------------------------------- */

static uint64_t left(const parser *p) {
    return p->limit - p->pos;
}

__attribute__((cold)) static llmo_status ran_out(const parser *p, uint64_t n) {
    if (!p->source || p->limit == p->source->size_bytes) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT,
                                   "the file ends too early: %llu bytes are needed at offset %llu, %llu are left",
                                   (unsigned long long)n, (unsigned long long)p->pos, (unsigned long long)left(p)));
    }
    return blame(p, llmoi_fail(LLMO_E_FORMAT, "the header would be larger than the limit of %llu bytes",
                               (unsigned long long)LLMOI_GGUF_MAX_HEADER_BYTES));
}

/* The next n <= WINDOW_BYTES bytes, valid until the next take. */
static llmo_status take(parser *p, size_t n, unsigned char **out) {
    if (n > left(p)) return ran_out(p, n);
    /* skips may have moved pos past the window */
    if (p->pos - p->start > p->len || n > p->len - (size_t)(p->pos - p->start)) {
        if (!p->source || n > p->cap) return llmoi_fail(LLMO_E_INTERNAL, "GGUF cursor outside its buffer");
        size_t len = left(p) < p->cap ? (size_t)left(p) : p->cap;
        p->len = 0;
        LLMOI_TRY(llmoi_source_read(p->source, p->pos, p->buf, len));
        p->start = p->pos;
        p->len = len;
    }
    *out = p->buf + (p->pos - p->start);
    p->pos += n;
    return LLMO_OK;
}

static llmo_status skip(parser *p, uint64_t n) {
    if (n > left(p)) return ran_out(p, n);
    p->pos += n;
    return LLMO_OK;
}

static llmo_status take_u32(parser *p, uint32_t *out) {
    unsigned char *b;
    LLMOI_TRY(take(p, sizeof *out, &b));
    *out = llmoi_load_u32(b);
    return LLMO_OK;
}

static llmo_status take_u64(parser *p, uint64_t *out) {
    unsigned char *b = NULL;
    LLMOI_TRY(take(p, sizeof *out, &b));
    *out = llmoi_load_u64(b);
    return LLMO_OK;
}

/* A key's or tensor's name; the bytes are remembered for sentences. */
static llmo_status take_name(parser *p, uint32_t max, unsigned char **name, size_t *len) {
    uint64_t n;
    LLMOI_TRY(take_u64(p, &n));
    if (n == 0) return blame(p, llmoi_fail(LLMO_E_FORMAT, "its name is empty"));
    if (n > max) {
        return blame(p,
                     llmoi_fail(LLMO_E_FORMAT, "its name has %llu bytes, the limit is %u", (unsigned long long)n, max));
    }
    LLMOI_TRY(take(p, (size_t)n, name));
    remember_name(p, *name, (size_t)n);
    if (!utf8_without_nul(*name, (size_t)n)) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT, "its name holds a NUL byte or is not UTF-8"));
    }
    *len = (size_t)n;
    return LLMO_OK;
}

/* --- keys --------------------------------------------------------------------------------------------------- */

static llmo_status check_bools(parser *p, uint64_t count) {
    while (count) {
        size_t n = count < 4096 ? (size_t)count : 4096;
        unsigned char *b = NULL;
        LLMOI_TRY(take(p, n, &b));
        for (size_t i = 0; i < n; i++) {
            if (b[i] > 1) return blame(p, llmoi_fail(LLMO_E_FORMAT, "the boolean value %u is neither 0 nor 1", b[i]));
        }
        count -= n;
    }
    return LLMO_OK;
}

static llmo_status walk_strings(parser *p, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        if (p->store) {
            if (p->n_strings == p->part->n_strings) return llmoi_fail(LLMO_E_IO, "the file changed while it was read");
            p->part->strings[p->n_strings] = (uint32_t)p->pos;
        }
        uint64_t n;
        LLMOI_TRY(take_u64(p, &n));
        if (n > left(p)) {
            return blame(p, llmoi_fail(LLMO_E_FORMAT, "string %llu of %llu has %llu bytes, but %llu are left",
                                       (unsigned long long)i, (unsigned long long)count, (unsigned long long)n,
                                       (unsigned long long)left(p)));
        }
        LLMOI_TRY(skip(p, n));
        p->n_strings++; /* each takes 8 bytes of a header below 1 GiB: no overflow */
    }
    return LLMO_OK;
}

static llmo_status walk_array(parser *p) {
    uint32_t elem;
    uint64_t count;
    LLMOI_TRY(take_u32(p, &elem));
    LLMOI_TRY(take_u64(p, &count));
    if (elem == LLMOI_GGUF_ARRAY) return blame(p, llmoi_fail(LLMO_E_UNSUPPORTED, "arrays of arrays are not supported"));
    uint32_t bytes = elem == LLMOI_GGUF_STRING ? 8 : llmoi_gguf_kind_bytes(elem);
    if (!bytes) return blame(p, llmoi_fail(LLMO_E_FORMAT, "its elements have the unknown value type %u", elem));
    if (count > left(p) / bytes) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT, "an array of %llu elements does not fit the %llu bytes left",
                                   (unsigned long long)count, (unsigned long long)left(p)));
    }
    if (elem == LLMOI_GGUF_STRING) return walk_strings(p, count);
    if (elem == LLMOI_GGUF_BOOL) return check_bools(p, count);
    return skip(p, count * bytes);
}

static llmo_status take_alignment(parser *p, uint32_t kind) {
    if (kind != LLMOI_GGUF_U32) {
        return blame(p,
                     llmoi_fail(LLMO_E_FORMAT, "its value must be a 32-bit unsigned integer, not value type %u", kind));
    }
    uint32_t a;
    LLMOI_TRY(take_u32(p, &a));
    if (a == 0 || a > LLMOI_GGUF_MAX_ALIGNMENT || (a & (a - 1)) != 0) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT, "value %u is no power of two in 1..%u", a, LLMOI_GGUF_MAX_ALIGNMENT));
    }
    p->alignment = a;
    return LLMO_OK;
}

static llmo_status walk_key(parser *p) {
    static const char alignment[] = "general.alignment";
    reading(p, "key");
    unsigned char *name = NULL, *k = NULL;
    size_t len;
    LLMOI_TRY(take_name(p, LLMOI_GGUF_MAX_KEY_BYTES, &name, &len));
    bool is_alignment = len == sizeof alignment - 1 && memcmp(name, alignment, len) == 0;
    uint64_t key_at = p->pos - len;
    LLMOI_TRY(take(p, 4, &k));
    uint32_t kind = llmoi_load_u32(k);
    if (kind > LLMOI_GGUF_F64) return blame(p, llmoi_fail(LLMO_E_FORMAT, "it has the unknown value type %u", kind));
    if (p->store) {
        memcpy(k, (unsigned char[4]){0, (unsigned char)kind, 0, 0}, 4);
        p->part->keys[p->n_keys] = (llmoi_gguf_entry){(uint32_t)key_at, p->n_strings};
    }
    if (is_alignment) return take_alignment(p, kind);
    if (kind == LLMOI_GGUF_ARRAY) return walk_array(p);
    if (kind == LLMOI_GGUF_BOOL) return check_bools(p, 1);
    uint64_t bytes = llmoi_gguf_kind_bytes(kind);
    if (kind == LLMOI_GGUF_STRING) LLMOI_TRY(take_u64(p, &bytes));
    return skip(p, bytes);
}

/* --- tensors ------------------------------------------------------------------------------------------------ */

/* Elements and bytes from type and dims. */
static llmo_status size_tensor(const parser *p, llmoi_gguf_tensor *t) {
    const llmoi_type_info *type = llmoi_type_find(t->type);
    if (!type) {
        return blame(p, llmoi_fail(LLMO_E_UNSUPPORTED, "tensor type number %u is unknown, removed or none for weights",
                                   t->type));
    }
    t->n_elems = 1;
    for (uint32_t i = 0; i < LLMOI_GGUF_MAX_DIMS; i++) {
        if (t->dims[i] == 0) return blame(p, llmoi_fail(LLMO_E_FORMAT, "dimension %u is 0", i));
        if (!llmoi_mul64_ok(t->n_elems, t->dims[i], &t->n_elems)) {
            return blame(p, llmoi_fail(LLMO_E_FORMAT, "its dimensions multiply to 2^64 or more elements"));
        }
    }
    if (t->dims[0] % type->block_elems != 0) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT,
                                   "rows of %llu elements are no multiple of the %u that a block of type %s holds",
                                   (unsigned long long)t->dims[0], type->block_elems, type->name));
    }
    if (!llmoi_mul64_ok(t->n_elems / type->block_elems, type->block_bytes, &t->n_bytes)) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT, "it would have 2^64 or more bytes"));
    }
    return LLMO_OK;
}

static llmo_status walk_tensor(parser *p) {
    reading(p, "tensor");
    unsigned char *name, *b;
    size_t len;
    LLMOI_TRY(take_name(p, LLMOI_GGUF_MAX_NAME_BYTES, &name, &len));
    uint64_t name_at = p->pos - len;
    LLMOI_TRY(take(p, 4, &b));
    llmoi_gguf_tensor t = {.part = p->part_no, .n_dims = llmoi_load_u32(b), .dims = {1, 1, 1, 1}};
    if (t.n_dims == 0 || t.n_dims > LLMOI_GGUF_MAX_DIMS) {
        return blame(
            p, llmoi_fail(LLMO_E_FORMAT, "it has %u dimensions, 1 to %u are allowed", t.n_dims, LLMOI_GGUF_MAX_DIMS));
    }
    if (p->store) b[0] = 0;
    for (uint32_t i = 0; i < t.n_dims; i++) LLMOI_TRY(take_u64(p, &t.dims[i]));
    LLMOI_TRY(take_u32(p, &t.type));
    LLMOI_TRY(take_u64(p, &t.offset));
    LLMOI_TRY(size_tensor(p, &t));
    if (t.offset % p->alignment != 0) {
        return blame(p, llmoi_fail(LLMO_E_FORMAT, "data offset %llu is no multiple of the alignment %u",
                                   (unsigned long long)t.offset, p->alignment));
    }
    if (p->store) {
        t.name = (const char *)p->part->header + name_at;
        p->g->tensors[p->first_tensor + p->n_tensors] = t;
    }
    return LLMO_OK;
}

/* --- one part ----------------------------------------------------------------------------------------------- */

static llmo_status check_version(uint32_t v) {
    if (v == 2 || v == 3) return LLMO_OK;
    if (v == 1) return llmoi_fail(LLMO_E_UNSUPPORTED, "GGUF version 1 is too old; versions 2 and 3 are supported");
    if (v == 0) return llmoi_fail(LLMO_E_FORMAT, "GGUF version 0 does not exist");
    if ((v & 0xffff) == 0) {
        return llmoi_fail(LLMO_E_UNSUPPORTED,
                          "the file is big-endian (GGUF version %u with its bytes swapped); only "
                          "little-endian files are supported",
                          __builtin_bswap32(v));
    }
    return llmoi_fail(LLMO_E_UNSUPPORTED, "GGUF version %u is unknown; versions 2 and 3 are supported", v);
}

static llmo_status walk_counts(parser *p, uint64_t *n_keys, uint64_t *n_tensors) {
    unsigned char *magic;
    uint32_t version;
    p->what = NULL;
    p->what_at = 0;
    LLMOI_TRY(take(p, 4, &magic));
    if (memcmp(magic, "GGUF", 4) != 0) {
        return llmoi_fail(LLMO_E_FORMAT,
                          "this is no GGUF file: it starts with bytes %02x %02x %02x %02x instead of 'GGUF'", magic[0],
                          magic[1], magic[2], magic[3]);
    }
    LLMOI_TRY(take_u32(p, &version));
    LLMOI_TRY(check_version(version));
    LLMOI_TRY(take_u64(p, n_tensors));
    LLMOI_TRY(take_u64(p, n_keys));
    if (*n_tensors > LLMOI_GGUF_MAX_TENSORS || *n_tensors > left(p) / MIN_INFO_BYTES) {
        return llmoi_fail(LLMO_E_FORMAT,
                          "tensor count at offset 8: %llu tensors do not fit the file or the limit of %llu",
                          (unsigned long long)*n_tensors, (unsigned long long)LLMOI_GGUF_MAX_TENSORS);
    }
    if (*n_keys > LLMOI_GGUF_MAX_KEYS || *n_keys > left(p) / MIN_KEY_BYTES) {
        return llmoi_fail(LLMO_E_FORMAT, "key count at offset 16: %llu keys do not fit the file or the limit of %llu",
                          (unsigned long long)*n_keys, (unsigned long long)LLMOI_GGUF_MAX_KEYS);
    }
    return LLMO_OK;
}

static llmo_status walk_part(parser *p) {
    uint64_t n_keys = 0, n_tensors = 0;
    p->alignment = 32;
    LLMOI_TRY(walk_counts(p, &n_keys, &n_tensors));
    if (p->store && (n_keys != p->part->n_keys || n_tensors != p->part->n_tensors)) {
        return llmoi_fail(LLMO_E_IO, "the file changed while it was read");
    }
    for (; p->n_keys < n_keys; p->n_keys++) LLMOI_TRY(walk_key(p));
    for (; p->n_tensors < n_tensors; p->n_tensors++) LLMOI_TRY(walk_tensor(p));
    return LLMO_OK;
}

/* First walk: sizes and counts of a part. */
static llmo_status measure_part(llmoi_gguf *g, uint32_t no, unsigned char *window, size_t window_bytes) {
    llmoi_gguf_part *part = &g->parts[no];
    uint64_t size = part->source.size_bytes;
    parser p = {.g = g, .part = part, .part_no = no, .source = &part->source, .buf = window, .cap = window_bytes};
    p.limit = size < LLMOI_GGUF_MAX_HEADER_BYTES ? size : LLMOI_GGUF_MAX_HEADER_BYTES;
    LLMOI_TRY(walk_part(&p));
    part->header_bytes = (uint32_t)p.pos;
    part->n_keys = p.n_keys;
    part->n_tensors = p.n_tensors;
    part->n_strings = p.n_strings;
    part->alignment = p.alignment;
    uint64_t rest = (p.alignment - p.pos % p.alignment) % p.alignment;
    part->data_at = p.pos + rest;
    if (g->n_tensors + part->n_tensors > LLMOI_GGUF_MAX_TENSORS) {
        return llmoi_fail(LLMO_E_FORMAT, "the parts have more than %llu tensors together",
                          (unsigned long long)LLMOI_GGUF_MAX_TENSORS);
    }
    g->n_tensors += part->n_tensors;
    return LLMO_OK;
}

/* Second walk: the header into memory, its keys and tensors into the tables. */
static llmo_status store_part(llmoi_gguf *g, uint32_t no, uint32_t first_tensor) {
    llmoi_gguf_part *part = &g->parts[no];
    part->header = llmoi_alloc(g->mem, TAG, part->header_bytes);
    part->keys = llmoi_alloc_array(g->mem, TAG, part->n_keys, sizeof *part->keys);
    part->strings = llmoi_alloc_array(g->mem, TAG, part->n_strings, sizeof *part->strings);
    if (!part->header || !part->keys || !part->strings) return LLMO_E_NOMEM;
    LLMOI_TRY(llmoi_source_read(&part->source, 0, part->header, part->header_bytes));
    parser p = {.g = g,
                .part = part,
                .part_no = no,
                .store = true,
                .first_tensor = first_tensor,
                .buf = part->header,
                .cap = part->header_bytes,
                .len = part->header_bytes,
                .limit = part->header_bytes};
    /* the first walk accepted these bytes: a refusal now means that they are others */
    if (walk_part(&p) != LLMO_OK || p.pos != part->header_bytes || p.n_strings != part->n_strings ||
        p.alignment != part->alignment) {
        return llmoi_fail(LLMO_E_IO, "the file changed while it was read");
    }
    for (uint32_t i = first_tensor; i < first_tensor + part->n_tensors; i++) {
        llmoi_gguf_tensor *t = &g->tensors[i];
        uint64_t end;
        if (!llmoi_add64_ok(t->offset, part->data_at, &t->offset) || !llmoi_add64_ok(t->offset, t->n_bytes, &end) ||
            end > part->source.size_bytes) {
            return llmoi_gguf_blame(
                part, "tensor", t->name,
                llmoi_fail(LLMO_E_FORMAT, "its %llu bytes of data are not inside the file of %llu bytes",
                           (unsigned long long)t->n_bytes, (unsigned long long)part->source.size_bytes));
        }
    }
    return LLMO_OK;
}

/* --- open, close -------------------------------------------------------------------------------------------- */

static void free_tables(llmoi_gguf *g) {
    llmoi_mem *mem = g->mem;
    for (uint32_t i = 0; g->parts && i < g->n_parts; i++) {
        llmoi_free(mem, g->parts[i].header);
        llmoi_free(mem, g->parts[i].keys);
        llmoi_free(mem, g->parts[i].key_slots);
        llmoi_free(mem, g->parts[i].strings);
    }
    llmoi_free(mem, g->parts);
    llmoi_free(mem, g->tensors);
    llmoi_free(mem, g->tensor_slots);
    llmoi_free(mem, g);
}

static llmo_status name_part(const llmoi_gguf *g, uint32_t no, llmo_status st) {
    if (st != LLMO_OK && g->n_parts > 1) llmoi_fail_prefix("part %u of %u", no + 1, g->n_parts);
    return st;
}

static llmo_status load(llmoi_gguf *g) {
    uint64_t window_bytes = 0; /* no larger than the largest part */
    for (uint32_t i = 0; i < g->n_parts; i++) {
        if (g->parts[i].source.size_bytes > window_bytes) window_bytes = g->parts[i].source.size_bytes;
    }
    if (window_bytes > WINDOW_BYTES) window_bytes = WINDOW_BYTES;
    unsigned char *window = llmoi_alloc(g->mem, TAG, (size_t)window_bytes);
    if (!window) return LLMO_E_NOMEM;
    llmo_status st = LLMO_OK;
    for (uint32_t i = 0; i < g->n_parts && st == LLMO_OK; i++)
        st = name_part(g, i, measure_part(g, i, window, (size_t)window_bytes));
    llmoi_free(g->mem, window);
    if (st != LLMO_OK) return st;
    g->tensors = llmoi_alloc_array(g->mem, TAG, g->n_tensors, sizeof *g->tensors);
    if (!g->tensors) return LLMO_E_NOMEM;
    uint32_t first = 0;
    for (uint32_t i = 0; i < g->n_parts; i++) {
        LLMOI_TRY(name_part(g, i, store_part(g, i, first)));
        first += g->parts[i].n_tensors;
        LLMOI_TRY(name_part(g, i, llmoi_gguf_index_keys(g, &g->parts[i])));
    }
    LLMOI_TRY(llmoi_gguf_check_split(g));
    LLMOI_TRY(llmoi_gguf_index_tensors(g));
    return llmoi_gguf_check_overlaps(g);
}

llmo_status llmoi_gguf_open(llmoi_mem *mem, llmoi_source *parts, uint32_t n_parts, llmoi_gguf **out) {
    *out = NULL;
    if (n_parts == 0 || n_parts > LLMOI_GGUF_MAX_PARTS) {
        return llmoi_fail(LLMO_E_ARG, "%u parts were given, 1 to %u are allowed", n_parts, LLMOI_GGUF_MAX_PARTS);
    }
    llmoi_gguf *g = llmoi_zalloc(mem, TAG, sizeof *g);
    if (!g) return LLMO_E_NOMEM;
    g->mem = mem;
    g->n_parts = n_parts;
    g->hash_key[0] = llmoi_os_time_us() * 0x9e3779b97f4a7c15u;
    g->hash_key[1] = (uint64_t)(uintptr_t)g ^ (uint64_t)(uintptr_t)&n_parts << 20;
    g->parts = llmoi_zalloc_array(mem, TAG, n_parts, sizeof *g->parts);
    llmo_status st = g->parts ? LLMO_OK : LLMO_E_NOMEM;
    for (uint32_t i = 0; i < n_parts && st == LLMO_OK; i++) g->parts[i].source = parts[i];
    if (st == LLMO_OK) st = load(g);
    if (st != LLMO_OK) {
        free_tables(g);
        return st;
    }
    *out = g;
    return LLMO_OK;
}

void llmoi_gguf_close(llmoi_gguf *g) {
    if (!g) return;
    for (uint32_t i = 0; i < g->n_parts; i++) llmoi_source_close(g->mem, &g->parts[i].source);
    free_tables(g);
}
