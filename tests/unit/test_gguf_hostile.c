/* GGUF bytes that are broken, by class and by sweeps over every byte: refused with a sentence that names the culprit,
 * or loaded as what they are, never a crash. */
#include <stdio.h>

#include "shared_data.h"
#include "gguf_open.h"

static llmoi_mem mem;

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) == 0 ? 0 : -1;
}

/* --- helpers ------------------------------------------------------------------------------------------------- */

/* The bytes are refused with this status and a sentence that holds needle; nothing leaks. */
static void refused_bytes(const unsigned char *bytes, size_t size, llmo_status status, const char *needle) {
    unsigned char *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    llmoi_gguf *g = (llmoi_gguf *)exact;
    llmoi_message_clear();
    llmo_status st = open_bytes(&mem, exact, size, &g);
    if (st != status || !strstr(llmoi_message(), needle)) {
        fail_msg("%s: '%s', expected %s: '%s'", llmo_status_name(st), llmoi_message(), llmo_status_name(status),
                 needle);
    }
    assert_null(g);
    assert_true(llmoi_mem_total(&mem) == 0);
    free(exact);
}

/* Finishes and frees the builder. */
static void refused(gguf_builder *b, llmo_status status, const char *needle) {
    size_t size;
    unsigned char *bytes = gb_finish(b, &size);
    gb_free(b);
    refused_bytes(bytes, size, status, needle);
    free(bytes);
}

static void loads(gguf_builder *b) {
    size_t size;
    unsigned char *bytes = gb_finish(b, &size);
    gb_free(b);
    llmoi_gguf *g;
    llmo_status st = open_bytes(&mem, bytes, size, &g);
    if (st != LLMO_OK) fail_msg("%s: %s", llmo_status_name(st), llmoi_message());
    llmoi_gguf_close(g);
    free(bytes);
}

static gguf_builder *start(gguf_builder *b) {
    gb_init(b);
    gb_str(b, "general.architecture", "llama");
    return b;
}

static const float weights[256] = {1};

/* An info named "blk.0.w" over data that would fit 256 floats. */
static gguf_builder *with_info(gguf_builder *b, uint32_t type, uint32_t n_dims, const uint64_t *dims, uint64_t offset) {
    start(b);
    gb_info(b, "blk.0.w", 7, type, n_dims, dims, offset);
    gb_data(b, weights, sizeof weights);
    return b;
}

/* What must be true of any file that loads. */
static void check_invariants(const llmoi_gguf *g) {
    for (uint32_t i = 0; i < llmoi_gguf_n_keys(g); i++) {
        const char *key = llmoi_gguf_key(g, i);
        assert_true(strlen(key) > 0 && llmoi_gguf_has(g, key));
        char text[64];
        size_t len;
        llmo_status st = llmoi_gguf_text(g, key, text, sizeof text, &len);
        assert_true(st == LLMO_OK || st == LLMO_E_BUFFER);
    }
    for (uint32_t i = 0; i < llmoi_gguf_n_tensors(g); i++) {
        const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(g, i);
        uint64_t size = llmoi_gguf_source(g, t->part)->size_bytes;
        assert_ptr_equal(llmoi_gguf_find(g, t->name), t);
        assert_true(t->n_bytes > 0 && t->offset < size && t->n_bytes <= size - t->offset);
        assert_true(t->n_elems == t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3]);
        unsigned char data[4096];
        if (t->n_bytes <= sizeof data) {
            assert_int_equal(llmoi_source_read(llmoi_gguf_source(g, 0), t->offset, data, t->n_bytes), LLMO_OK);
        }
    }
}

/* Loads with its invariants, or is refused with a sentence. */
static bool survives(llmoi_source s) {
    llmoi_gguf *g;
    llmoi_message_clear();
    llmo_status st = llmoi_gguf_open(&mem, &s, 1, &g);
    if (st == LLMO_OK) {
        check_invariants(g);
        llmoi_gguf_close(g);
    } else {
        assert_true(st == LLMO_E_FORMAT || st == LLMO_E_UNSUPPORTED || st == LLMO_E_IO);
        assert_true(strlen(llmoi_message()) > 10);
    }
    assert_true(llmoi_mem_total(&mem) == 0);
    return st == LLMO_OK;
}

/* --- sweeps -------------------------------------------------------------------------------------------------- */

static void files_cut_at_any_byte_are_refused(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = small_file(&size);
    for (size_t n = 0; n <= size; n++) {
        unsigned char *exact = malloc(n ? n : 1);
        memcpy(exact, bytes, n);
        assert_int_equal(survives(memory_source(exact, n)), n == size);
        free(exact);
    }
    free(bytes);
}

static unsigned char changed(unsigned char c, int kind) {
    switch (kind) {
    case 0: return 0;
    case 1: return 0xff;
    case 2: return c ^ 0x80;
    case 3: return c ^ 0xff;
    default: return (unsigned char)(c + 1);
    }
}

static void any_changed_byte_is_survived(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = small_file(&size);
    unsigned char *bad = malloc(size);
    int refusals = 0, tries = 0;
    for (size_t i = 0; i < size; i++) {
        for (int kind = 0; kind < 5; kind++, tries++) {
            memcpy(bad, bytes, size);
            bad[i] = changed(bytes[i], kind);
            refusals += !survives(memory_source(bad, size));
        }
    }
    assert_in_range(refusals, tries / 8, tries);
    free(bad);
    free(bytes);
}

/* The header is walked twice: a reader may answer differently the second time. */
static void bytes_that_change_between_two_reads_are_survived(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = small_file(&size);
    unsigned char *bad = malloc(size);
    for (size_t i = 0; i < size; i++) {
        for (int kind = 0; kind < 5; kind++) {
            memcpy(bad, bytes, size);
            bad[i] = changed(bytes[i], kind);
            test_reader r = {.bytes = bytes, .other = bad, .size = size, .change_at = 2};
            (void)survives(reader_source(&r));
            assert_int_equal(r.bytes == bytes, true);
            r = (test_reader){.bytes = bad, .other = bytes, .size = size, .change_at = 2};
            (void)survives(reader_source(&r));
        }
    }
    free(bad);
    free(bytes);
}

/* Opens a reader that shows a at first, b from the second read on. */
static void changed_is_noticed(gguf_builder *a, gguf_builder *b) {
    size_t size, other_size;
    unsigned char *bytes = gb_finish(a, &size), *other = gb_finish(b, &other_size);
    gb_free(a);
    gb_free(b);
    assert_int_equal(size, other_size);
    for (int swap = 0; swap < 2; swap++) {
        test_reader r = {.bytes = swap ? other : bytes, .other = swap ? bytes : other, .size = size, .change_at = 2};
        llmoi_source s = reader_source(&r);
        llmoi_gguf *g;
        assert_fails(llmoi_gguf_open(&mem, &s, 1, &g), LLMO_E_IO, "the file changed while it was read");
    }
    free(bytes);
    free(other);
}

static void a_header_that_changes_between_two_reads_is_an_io_error(void **state) {
    (void)state;
    gguf_builder a, b;
    uint64_t zero[3] = {0, 0, 0}, eight[3] = {0, 8, 0}, one[1] = {1};
    /* other counts of strings in as many bytes */
    start(&a), gb_arr(&a, "tokens", 8, 3, zero, 24);
    start(&b), gb_arr(&b, "tokens", 8, 2, eight, 24);
    changed_is_noticed(&a, &b);
    /* other counts of keys and of tensors: the rest is data that no one asks for */
    start(&a), gb_u32(&a, "k", 1), gb_raw(&a, weights, 64);
    start(&b), gb_u32(&b, "k", 1), gb_raw(&b, weights, 64), b.n_kv--;
    changed_is_noticed(&a, &b);
    start(&a), gb_info(&a, "w", 1, 0, 1, one, 0), gb_data(&a, weights, 64);
    start(&b), gb_info(&b, "w", 1, 0, 1, one, 0), gb_info(&b, "v", 1, 0, 1, one, 0), gb_data(&b, weights, 32);
    changed_is_noticed(&a, &b);
    /* the same counts, but another end, or another alignment */
    start(&a), gb_str(&a, "k", "12345678");
    start(&b), gb_str(&b, "k", "1234567"), gb_raw(&b, "8", 1);
    changed_is_noticed(&a, &b);
    start(&a), gb_u32(&a, "general.alignment", 32);
    start(&b), gb_u32(&b, "general.alignment", 64);
    changed_is_noticed(&a, &b);
}

static void random_bytes_after_a_valid_start_are_survived(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = small_file(&size);
    unsigned char *bad = malloc(size);
    uint64_t x = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        memcpy(bad, bytes, size);
        int n = 1 + round % 8;
        for (int k = 0; k < n; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            bad[8 + x % (size - 8)] = (unsigned char)(round % 2 ? x >> 40 : (x >> 40) % 16);
        }
        (void)survives(memory_source(bad, size));
    }
    free(bad);
    free(bytes);
}

/* --- by class ------------------------------------------------------------------------------------------------ */

static void wrong_magic_and_versions_are_refused(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = small_file(&size);
    static const struct {
        uint32_t version;
        llmo_status status;
        const char *needle;
    } versions[] = {{0, LLMO_E_FORMAT, "version 0"},
                    {1, LLMO_E_UNSUPPORTED, "version 1 is too old"},
                    {4, LLMO_E_UNSUPPORTED, "version 4"},
                    {99, LLMO_E_UNSUPPORTED, "version 99"},
                    {0x03000000, LLMO_E_UNSUPPORTED, "big-endian (GGUF version 3"},
                    {0x02000000, LLMO_E_UNSUPPORTED, "big-endian"},
                    {UINT32_MAX, LLMO_E_UNSUPPORTED, "version 4294967295"}};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        memcpy(bytes + 4, &versions[i].version, 4);
        refused_bytes(bytes, size, versions[i].status, versions[i].needle);
    }
    memcpy(bytes, "ggjt", 4);
    refused_bytes(bytes, size, LLMO_E_FORMAT, "no GGUF file");
    memcpy(bytes,
           "\x7f"
           "ELF",
           4);
    refused_bytes(bytes, size, LLMO_E_FORMAT, "7f 45 4c 46");
    refused_bytes((const unsigned char *)"", 0, LLMO_E_FORMAT, "header at offset 0: the file ends too early");
    refused_bytes((const unsigned char *)"GGUF\3\0\0\0", 8, LLMO_E_FORMAT,
                  "header at offset 0: the file ends too early: 8 bytes are needed at offset 8, 0");
    free(bytes);
}

static void counts_that_cannot_fit_are_refused(void **state) {
    (void)state;
    static const uint64_t counts[] = {
        4, 100, (uint64_t)1 << 24, ((uint64_t)1 << 24) + 1, (uint64_t)1 << 32, (uint64_t)1 << 60, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        gguf_builder b;
        start(&b)->n_kv = counts[i];
        refused(&b, LLMO_E_FORMAT, "key count at offset 16");
        start(&b)->n_tensors = counts[i];
        refused(&b, LLMO_E_FORMAT, "tensor count at offset 8");
    }
}

static void bad_key_names_are_refused(void **state) {
    (void)state;
    gguf_builder b;
    char *longest = malloc(65536);
    memset(longest, 'k', 65536);
    start(&b), gb_key(&b, "", 0, 0), gb_raw(&b, "x", 1);
    refused(&b, LLMO_E_FORMAT, "key number 1 at offset 69: its name is empty");
    start(&b), gb_key(&b, longest, 65535, 0), gb_raw(&b, "x", 1);
    loads(&b);
    start(&b), gb_key(&b, longest, 65536, 0), gb_raw(&b, "x", 1);
    refused(&b, LLMO_E_FORMAT, "its name has 65536 bytes, the limit is 65535");
    start(&b), gb_key(&b, "a\0b", 3, 0), gb_raw(&b, "x", 1);
    refused(&b, LLMO_E_FORMAT, "key 'a?b' at offset 69: its name holds a NUL byte");
    static const char *const broken[] = {
        "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xe2\x82", "\xf4\x90\x80\x80", "\x80", "\xf8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        start(&b), gb_key(&b, broken[i], strlen(broken[i]), 0), gb_raw(&b, "x", 1);
        refused(&b, LLMO_E_FORMAT, "not UTF-8");
    }
    start(&b), gb_key(&b, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", 9, 0), gb_raw(&b, "x", 1);
    loads(&b);
    uint64_t huge[] = {(uint64_t)1 << 31, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < 4; i++) {
        start(&b), gb_raw(&b, &huge[i], 8), gb_raw(&b, longest, 100), b.n_kv++;
        refused(&b, LLMO_E_FORMAT, "key number 1 at offset 69");
    }
    free(longest);
}

static void duplicate_keys_are_refused(void **state) {
    (void)state;
    gguf_builder b;
    start(&b), gb_u32(&b, "x.unknown", 1), gb_u32(&b, "other", 1), gb_u32(&b, "x.unknown", 1);
    refused(&b, LLMO_E_FORMAT, "key 'x.unknown' at offset 115: the same key is at offset 69");
    start(&b), gb_u32(&b, "x.unknown", 1), gb_u32(&b, "x.unknow", 1), gb_u32(&b, "x.unknown1", 1);
    loads(&b);
    char name[122] = "x"; /* quoted up to the last whole character */
    for (int i = 0; i < 60; i++) memcpy(name + 1 + 2 * i, "\xc3\xa4", 3);
    gb_init(&b), gb_u8(&b, name, 1), gb_u8(&b, name, 1);
    refused(&b, LLMO_E_FORMAT, "\xc3\xa4' at offset 158: the same key is at offset 24 already");
}

static void bad_values_are_refused_by_key(void **state) {
    (void)state;
    static const uint32_t kinds[] = {13, 14, 255, 256, 0x0100, 0x80000000u, UINT32_MAX};
    gguf_builder b;
    char many[64] = {0};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        start(&b), gb_key(&b, "the.key", 7, kinds[i]), gb_raw(&b, many, 64);
        refused(&b, LLMO_E_FORMAT, "key 'the.key' at offset 69: it has the unknown value type");
        start(&b), gb_arr(&b, "the.key", kinds[i], 1, many, 64);
        refused(&b, LLMO_E_FORMAT, "key 'the.key' at offset 69: its elements have the unknown value type");
    }
    start(&b), gb_key(&b, "the.key", 7, 7), gb_raw(&b, "\2", 1);
    refused(&b, LLMO_E_FORMAT, "key 'the.key' at offset 69: the boolean value 2");
    char *bools = calloc(1, 10000);
    bools[9999] = -1;
    start(&b), gb_arr(&b, "the.key", 7, 10000, bools, 10000);
    refused(&b, LLMO_E_FORMAT, "key 'the.key' at offset 69: the boolean value 255");
    free(bools);
    uint64_t lengths[] = {9, 1000, (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX, UINT64_MAX - 8};
    for (size_t i = 0; i < 6; i++) {
        start(&b), gb_key(&b, "the.key", 7, 8), gb_raw(&b, &lengths[i], 8), gb_raw(&b, "12345678", 8);
        refused(&b, LLMO_E_FORMAT, "key 'the.key' at offset 69");
    }
    gb_init(&b), gb_key(&b, "\r\n\x1b[2Jkey", 9, 99), gb_raw(&b, many, 8);
    refused(&b, LLMO_E_FORMAT, "key '???[2Jkey' at offset 24"); /* nothing that a terminal obeys */
    char name[300];
    memset(name, 'n', sizeof name);
    gb_init(&b), gb_key(&b, name, sizeof name, 99), gb_raw(&b, many, 8);
    refused(&b, LLMO_E_FORMAT, "nnn...' at offset 24: it has the unknown value type 99");
}

static void bad_arrays_are_refused_by_key(void **state) {
    (void)state;
    gguf_builder b;
    uint64_t counts[] = {17,        (uint64_t)1 << 32, (uint64_t)1 << 60, ((uint64_t)1 << 61) + 1, (uint64_t)1 << 63,
                         UINT64_MAX};
    uint64_t data[2] = {0, 0};
    for (uint32_t elem = 0; elem <= 12; elem++) {
        for (size_t i = 0; i < 6; i++) {
            start(&b), gb_arr(&b, "the.key", elem, counts[i], data, 16);
            refused(&b, elem == 9 ? LLMO_E_UNSUPPORTED : LLMO_E_FORMAT, "key 'the.key' at offset 69: ");
        }
    }
    start(&b), gb_arr(&b, "the.key", 9, 0, NULL, 0);
    refused(&b, LLMO_E_UNSUPPORTED, "arrays of arrays");
    uint64_t length[] = {1, 1000, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < 5; i++) { /* the second string is longer than what is left */
        data[1] = length[i];
        start(&b), gb_arr(&b, "the.key", 8, 2, data, 16);
        refused(&b, LLMO_E_FORMAT, "key 'the.key' at offset 69: string 1 of 2 has");
    }
    /* arrays nested 300 000 deep */
    start(&b), gb_key(&b, "deep", 4, 9);
    for (int i = 0; i < 300000; i++) gb_raw(&b, "\x09\0\0\0\1\0\0\0\0\0\0\0", 12);
    refused(&b, LLMO_E_UNSUPPORTED, "key 'deep' at offset 69: arrays of arrays");
}

static void bad_alignments_are_refused(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 3, 24, 33, 96, (1u << 20) + 1, 1u << 21, 1u << 31, UINT32_MAX};
    gguf_builder b;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        start(&b), gb_u32(&b, "general.alignment", bad[i]);
        refused(&b, LLMO_E_FORMAT, "key 'general.alignment' at offset 69: value");
    }
    start(&b), gb_u64(&b, "general.alignment", 32);
    refused(&b, LLMO_E_FORMAT, "key 'general.alignment' at offset 69: its value must be");
    start(&b), gb_i32(&b, "general.alignment", 32);
    refused(&b, LLMO_E_FORMAT, "key 'general.alignment'");
    start(&b), gb_str(&b, "general.alignment", "32");
    refused(&b, LLMO_E_FORMAT, "key 'general.alignment'");
    uint64_t dims[1] = {4}, one[1] = {1};
    with_info(&b, 0, 1, dims, 16);
    refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: data offset 16 is no multiple of the alignment 32");
    start(&b), gb_u32(&b, "general.alignment", 1), gb_info(&b, "w", 1, 0, 1, one, 1), b.alignment = 1,
                                                                                      gb_data(&b, weights, 5);
    loads(&b);
}

static void bad_tensor_names_are_refused(void **state) {
    (void)state;
    gguf_builder b;
    uint64_t dims[1] = {8};
    char name[128];
    memset(name, 'n', sizeof name);
    start(&b), gb_info(&b, "", 0, 0, 1, dims, 0), gb_info(&b, "other", 5, 0, 1, dims, 0), gb_data(&b, weights, 32);
    refused(&b, LLMO_E_FORMAT, "tensor number 0 at offset 69: its name is empty");
    start(&b), gb_info(&b, name, 128, 0, 1, dims, 0), gb_data(&b, weights, 32);
    refused(&b, LLMO_E_FORMAT, "its name has 128 bytes, the limit is 127");
    start(&b), gb_info(&b, "w\0w", 3, 0, 1, dims, 0), gb_data(&b, weights, 32);
    refused(&b, LLMO_E_FORMAT, "tensor 'w?w' at offset 69: its name holds a NUL byte");
    start(&b), gb_tensor(&b, "same", 0, 1, dims, weights, 32), gb_tensor(&b, "x", 0, 1, dims, weights, 32);
    gb_tensor(&b, "same", 0, 1, dims, weights, 32);
    refused(&b, LLMO_E_FORMAT, "tensor 'same' at offset 138: a tensor of the same name came before");
}

static void bad_dimensions_are_refused_by_tensor(void **state) {
    (void)state;
    gguf_builder b;
    uint64_t ok[4] = {4, 4, 2, 2}, five[5] = {1, 1, 1, 1, 1};
    with_info(&b, 0, 4, ok, 0);
    loads(&b);
    with_info(&b, 0, 0, ok, 0);
    refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: it has 0 dimensions");
    with_info(&b, 0, 5, five, 0);
    refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: it has 5 dimensions");
    start(&b), gb_raw(&b, "\1\0\0\0\0\0\0\0w\xff\xff\xff\xff", 13), gb_raw(&b, weights, 64), b.n_tensors = 1;
    refused(&b, LLMO_E_FORMAT, "tensor 'w' at offset 69: it has 4294967295 dimensions");
    for (uint32_t d = 0; d < 4; d++) {
        uint64_t dims[4] = {4, 4, 2, 2};
        dims[d] = 0;
        char needle[80];
        snprintf(needle, sizeof needle, "tensor 'blk.0.w' at offset 69: dimension %u is 0", d);
        with_info(&b, 0, 4, dims, 0);
        refused(&b, LLMO_E_FORMAT, needle);
    }
    static const uint64_t wrap[][4] = {{(uint64_t)1 << 32, (uint64_t)1 << 32, 1, 1},
                                       {(uint64_t)1 << 63, 2, 1, 1},
                                       {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX},
                                       {4, (uint64_t)1 << 62, 1, 1},
                                       {(uint64_t)1 << 16, (uint64_t)1 << 16, (uint64_t)1 << 16, (uint64_t)1 << 16}};
    for (size_t i = 0; i < sizeof wrap / sizeof *wrap; i++) {
        with_info(&b, 0, 4, wrap[i], 0);
        refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: its dimensions multiply to 2^64");
    }
    static const uint64_t bytes_wrap[][4] = {
        {(uint64_t)1 << 62, 1, 1, 1}, {((uint64_t)1 << 62) + 1, 1, 1, 1}, {UINT64_MAX, 1, 1, 1}};
    for (size_t i = 0; i < sizeof bytes_wrap / sizeof *bytes_wrap; i++) {
        with_info(&b, 0, 4, bytes_wrap[i], 0);
        refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: it would have 2^64 or more bytes");
    }
}

static void tensor_data_outside_the_file_is_refused(void **state) {
    (void)state;
    gguf_builder b;
    uint64_t fits[1] = {256}, larger[1] = {257}, max[1] = {((uint64_t)1 << 62) - 1};
    static const uint64_t offsets[] = {
        32, 1024, (uint64_t)1 << 32, (uint64_t)1 << 63, UINT64_MAX - 31, UINT64_MAX - 1023};
    with_info(&b, 0, 1, fits, 0);
    loads(&b);
    with_info(&b, 0, 1, larger, 0);
    refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: its 1028 bytes of data are not inside the file");
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        with_info(&b, 0, 1, fits, offsets[i]);
        refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: its 1024 bytes of data are not inside the file");
        with_info(&b, 0, 1, max, offsets[i]);
        refused(&b, LLMO_E_FORMAT, "tensor 'blk.0.w' at offset 69: ");
    }
}

static void overlapping_tensors_are_refused(void **state) {
    (void)state;
    static const struct {
        uint64_t elems, offset;
        uint32_t type;
        bool ok;
    } second[] = {{8, 32, 0, true},   {8, 0, 0, false},   {64, 0, 1, false},  {64, 64, 1, false},
                  {16, 64, 0, true},  {32, 32, 0, true},  {64, 32, 1, false}, {32, 32, 1, false},
                  {31, 32, 0, false}, {33, 32, 0, false}, {4, 128, 0, false}};
    /* against 32 floats at offset 32: bytes 32..159 */
    for (size_t i = 0; i < sizeof second / sizeof *second; i++) {
        gguf_builder b;
        uint64_t a[1] = {32}, c[1] = {second[i].elems};
        bool touches = second[i].offset + second[i].elems * (second[i].type ? 2 : 4) > 32 && second[i].offset < 160;
        bool same = second[i].offset == 32 && second[i].elems == 32 && second[i].type == 0;
        for (int swap = 0; swap < 2; swap++) {
            start(&b);
            if (swap) gb_info(&b, "second", 6, second[i].type, 1, c, second[i].offset);
            gb_info(&b, "first", 5, 0, 1, a, 32);
            if (!swap) gb_info(&b, "second", 6, second[i].type, 1, c, second[i].offset);
            gb_data(&b, weights, sizeof weights);
            if (!touches || same)
                loads(&b);
            else
                refused(&b, LLMO_E_FORMAT, "its data overlaps that of tensor '");
        }
    }
    /* a long one over a later pair, among many in any order */
    gguf_builder b;
    start(&b);
    for (uint32_t i = 0; i < 8; i++) {
        char name[8];
        uint64_t dims[1] = {i == 5 ? 9 : 8};
        uint32_t at = i * 5 % 8;
        snprintf(name, sizeof name, "t%u", i);
        gb_info(&b, name, 2, 0, 1, dims, at * 32);
    }
    gb_data(&b, weights, sizeof weights);
    refused(&b, LLMO_E_FORMAT, "tensor 't2' at offset"); /* t5 at 32..67, t2 at 64 */
}

static void unknown_tensor_types_are_refused_with_their_number(void **state) {
    (void)state;
    static const uint32_t bad[] = {4,  5,  9,  15, 24, 25, 26,  27,     28,          31,        32,
                                   33, 36, 37, 38, 43, 99, 255, 0x0100, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_builder b;
        uint64_t dims[1] = {256};
        char needle[80];
        snprintf(needle, sizeof needle, "tensor 'blk.0.w' at offset 69: tensor type number %u is", bad[i]);
        with_info(&b, bad[i], 1, dims, 0);
        refused(&b, LLMO_E_UNSUPPORTED, needle);
    }
}

static void rows_that_are_no_multiple_of_the_block_are_refused(void **state) {
    (void)state;
    static const struct {
        uint32_t type;
        uint64_t row;
    } bad[] = {{2, 16}, {8, 33}, {8, 1}, {12, 32}, {12, 255}, {14, 257}, {20, 31}, {23, 128}, {39, 48}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_builder b;
        uint64_t dims[2] = {bad[i].row, 256}; /* whole blocks in all, but not in a row */
        char needle[80];
        snprintf(needle, sizeof needle, "tensor 'blk.0.w' at offset 69: rows of %u elements", (unsigned)bad[i].row);
        with_info(&b, bad[i].type, 2, dims, 0);
        refused(&b, LLMO_E_FORMAT, needle);
    }
}

static void bad_split_keys_are_refused(void **state) {
    (void)state;
    gguf_builder b;
    start(&b), gb_i32(&b, "split.count", -1);
    refused(&b, LLMO_E_FORMAT, "key 'split.count' at offset 69: value -1 is outside");
    start(&b), gb_str(&b, "split.count", "3");
    refused(&b, LLMO_E_FORMAT, "key 'split.count' at offset 69: its value is of type string, not an integer");
    start(&b), gb_u64(&b, "split.count", UINT64_MAX);
    refused(&b, LLMO_E_FORMAT, "key 'split.count'");
    start(&b), gb_u32(&b, "split.count", 2), gb_str(&b, "split.no", "x");
    refused(&b, LLMO_E_FORMAT, "key 'split.no'");
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(files_cut_at_any_byte_are_refused),
        T(any_changed_byte_is_survived),
        T(bytes_that_change_between_two_reads_are_survived),
        T(a_header_that_changes_between_two_reads_is_an_io_error),
        T(random_bytes_after_a_valid_start_are_survived),
        T(wrong_magic_and_versions_are_refused),
        T(counts_that_cannot_fit_are_refused),
        T(bad_key_names_are_refused),
        T(duplicate_keys_are_refused),
        T(bad_values_are_refused_by_key),
        T(bad_arrays_are_refused_by_key),
        T(bad_alignments_are_refused),
        T(bad_tensor_names_are_refused),
        T(bad_dimensions_are_refused_by_tensor),
        T(tensor_data_outside_the_file_is_refused),
        T(overlapping_tensors_are_refused),
        T(unknown_tensor_types_are_refused_with_their_number),
        T(rows_that_are_no_multiple_of_the_block_are_refused),
        T(bad_split_keys_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
