/* Reading valid GGUF files: every value kind through every getter, values as text, every tensor type. */
#include <locale.h>
#include <math.h>
#include <stdio.h>

#include "shared_data.h"
#include "gguf_open.h"
#include "quant.h"

static llmoi_mem mem;

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

/* Every test gives back all memory. */
static int teardown(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) == 0 ? 0 : -1;
}

/* --- a file with one key of each kind ------------------------------------------------------------------------ */

static void one_of_each(gguf_builder *b, uint32_t version) {
    gb_init(b);
    b->version = version;
    int8_t i8 = -5;
    uint16_t u16 = 65535;
    int16_t i16 = -300;
    uint64_t big = UINT64_MAX;
    int64_t i64 = INT64_MIN;
    double f64 = 0.1, huge = 1e300;
    float inf = INFINITY;
    gb_u8(b, "k.u8", 200);
    gb_key(b, "k.i8", 4, 1), gb_raw(b, &i8, 1);
    gb_key(b, "k.u16", 5, 2), gb_raw(b, &u16, 2);
    gb_key(b, "k.i16", 5, 3), gb_raw(b, &i16, 2);
    gb_u32(b, "k.u32", 4000000000u);
    gb_i32(b, "k.i32", -7);
    gb_f32(b, "k.f32", 1e-5f);
    gb_bool(b, "k.true", 1);
    gb_bool(b, "k.false", 0);
    gb_strn(b, "k.str", "a\0b", 3);
    gb_str(b, "k.empty", "");
    gb_u64(b, "k.u64", big);
    gb_key(b, "k.i64", 5, 11), gb_raw(b, &i64, 8);
    gb_key(b, "k.f64", 5, 12), gb_raw(b, &f64, 8);
    gb_key(b, "k.huge", 6, 12), gb_raw(b, &huge, 8);
    gb_key(b, "k.inf", 5, 6), gb_raw(b, &inf, 4);
    gb_arr(b, "a.u8", 0, 3, "\1\2\377", 3);
    gb_arr(b, "a.i8", 1, 3, "\1\2\377", 3);
    gb_arr(b, "a.u16", 2, 2, "\1\0\377\377", 4);
    gb_arr(b, "a.i16", 3, 2, "\1\0\377\377", 4);
    gb_arr(b, "a.u32", 4, 1, "\377\377\377\377", 4);
    int32_t ints[100];
    for (int i = 0; i < 100; i++) ints[i] = i - 3;
    gb_arr_i32(b, "a.i32", ints, 100);
    float floats[3] = {0.5f, -2, NAN};
    gb_arr_f32(b, "a.f32", floats, 3);
    gb_arr(b, "a.bool", 7, 2, "\0\1", 2);
    const char *strings[4] = {"one", "", "\xc3\xa4", "four"};
    gb_arr_str(b, "a.str", strings, 4);
    gb_arr(b, "a.none", 8, 0, NULL, 0);
    uint64_t longs[3] = {(uint64_t)1 << 40, UINT64_MAX, (uint64_t)1 << 63};
    gb_arr(b, "a.u64", 10, 3, longs, 24);
    gb_arr(b, "a.i64", 11, 2, longs, 16);
    double doubles[2] = {0.25, 1e300};
    gb_arr(b, "a.f64", 12, 2, doubles, 16);
}

static llmoi_gguf *open_each(uint32_t version, unsigned char **bytes, size_t *size) {
    gguf_builder b;
    one_of_each(&b, version);
    uint64_t dims[2] = {4, 2};
    float w[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    gb_tensor(&b, "w", 0, 2, dims, w, sizeof w);
    *bytes = gb_finish(&b, size);
    gb_free(&b);
    llmoi_gguf *g = NULL;
    assert_ok(open_bytes(&mem, *bytes, *size, &g));
    return g;
}

static void integers_of_every_width_are_read(void **state) {
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        unsigned char *bytes;
        size_t size;
        llmoi_gguf *g = open_each(version, &bytes, &size);
        static const struct {
            const char *key;
            uint64_t value;
        } good[] = {{"k.u8", 200}, {"k.u16", 65535}, {"k.u32", 4000000000u}, {"k.u64", UINT64_MAX}};
        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
            uint64_t v = 1;
            assert_ok(llmoi_gguf_u64(g, good[i].key, true, 0, UINT64_MAX, &v));
            assert_true(v == good[i].value);
        }
        const char *negative[] = {"k.i8", "k.i16", "k.i32", "k.i64"};
        const char *shown[] = {"value -5 ", "value -300 ", "value -7 ", "value -9223372036854775808 "};
        for (int i = 0; i < 4; i++) {
            uint64_t v = 77;
            assert_fails(llmoi_gguf_u64(g, negative[i], true, 0, UINT64_MAX, &v), LLMO_E_FORMAT, shown[i]);
            assert_non_null(strstr(llmoi_message(), negative[i]));
            assert_true(v == 77);
        }
        llmoi_gguf_close(g);
        free(bytes);
    }
}

static void other_kinds_are_read(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    float f = 0;
    bool t = false, n = true;
    llmoi_str s;
    assert_ok(llmoi_gguf_f32(g, "k.f32", true, 0, 1, &f));
    assert_true(f == 1e-5f);
    assert_ok(llmoi_gguf_f32(g, "k.f64", true, 0, 1, &f));
    assert_true(f == 0.1f);
    assert_ok(llmoi_gguf_bool(g, "k.true", true, &t));
    assert_ok(llmoi_gguf_bool(g, "k.false", true, &n));
    assert_true(t && !n);
    assert_ok(llmoi_gguf_string(g, "k.str", true, &s));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.ptr, "a\0b", 3);
    assert_ok(llmoi_gguf_string(g, "k.empty", true, &s));
    assert_int_equal(s.len, 0);
    assert_int_equal(llmoi_gguf_n_keys(g), 29);
    assert_string_equal(llmoi_gguf_key(g, 0), "k.u8");
    assert_string_equal(llmoi_gguf_key(g, 28), "a.f64");
    assert_null(llmoi_gguf_key(g, 29));
    assert_true(llmoi_gguf_has(g, "k.f64"));
    assert_false(llmoi_gguf_has(g, "k.f6"));
    assert_false(llmoi_gguf_has(g, "w"));
    llmoi_gguf_close(g);
    free(bytes);
}

static void array_elements_are_read(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    static const struct {
        const char *key;
        uint64_t count, index;
        int64_t value;
        llmoi_gguf_kind kind;
    } ints[] = {{"a.u8", 3, 2, 255, LLMOI_GGUF_U8},
                {"a.i8", 3, 2, -1, LLMOI_GGUF_I8},
                {"a.u16", 2, 1, 65535, LLMOI_GGUF_U16},
                {"a.i16", 2, 1, -1, LLMOI_GGUF_I16},
                {"a.u32", 1, 0, 4294967295, LLMOI_GGUF_U32},
                {"a.i32", 100, 99, 96, LLMOI_GGUF_I32},
                {"a.u64", 3, 0, (int64_t)1 << 40, LLMOI_GGUF_U64},
                {"a.i64", 2, 1, -1, LLMOI_GGUF_I64}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        llmoi_gguf_kind kind = LLMOI_GGUF_F64;
        uint64_t count = 0;
        int64_t v = 0;
        assert_ok(llmoi_gguf_array(g, ints[i].key, true, &kind, &count));
        assert_int_equal(kind, ints[i].kind);
        assert_true(count == ints[i].count);
        assert_ok(llmoi_gguf_array_i64(g, ints[i].key, ints[i].index, &v));
        assert_true(v == ints[i].value);
        assert_fails(llmoi_gguf_array_i64(g, ints[i].key, count, &v), LLMO_E_FORMAT, ints[i].key);
        assert_fails(llmoi_gguf_array_i64(g, ints[i].key, UINT64_MAX, &v), LLMO_E_FORMAT, ints[i].key);
    }
    int64_t v;
    float f = 0;
    bool t = false;
    llmoi_str s[4];
    assert_fails(llmoi_gguf_array_i64(g, "a.u64", 1, &v), LLMO_E_FORMAT, "a.u64");
    assert_fails(llmoi_gguf_array_i64(g, "a.u64", 2, &v), LLMO_E_FORMAT,
                 "9223372036854775808, is larger than 2^63 - 1");
    assert_ok(llmoi_gguf_array_f32(g, "a.f32", 1, &f));
    assert_true(f == -2);
    assert_fails(llmoi_gguf_array_f32(g, "a.f32", 2, &f), LLMO_E_FORMAT, "a.f32");
    assert_ok(llmoi_gguf_array_f32(g, "a.f64", 0, &f));
    assert_true(f == 0.25f);
    assert_fails(llmoi_gguf_array_f32(g, "a.f64", 1, &f), LLMO_E_FORMAT, "a.f64");
    assert_ok(llmoi_gguf_array_bool(g, "a.bool", 1, &t));
    assert_true(t);
    assert_ok(llmoi_gguf_array_strings(g, "a.str", s, 4));
    assert_true(s[0].len == 3 && s[1].len == 0 && s[2].len == 2 && s[3].len == 4);
    assert_memory_equal(s[3].ptr, "four", 4);
    assert_ok(llmoi_gguf_array_string(g, "a.str", 2, s));
    assert_memory_equal(s[0].ptr, "\xc3\xa4", 2);
    assert_fails(llmoi_gguf_array_strings(g, "a.str", s, 5), LLMO_E_FORMAT, "a.str");
    assert_fails(llmoi_gguf_array_string(g, "a.str", 4, s), LLMO_E_FORMAT, "a.str");
    llmoi_gguf_close(g);
    free(bytes);
}

static void wrong_kinds_are_refused_by_name(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    uint64_t u = 5, count = 9;
    uint32_t u32 = 6;
    float f = 7;
    bool t = true;
    int64_t i;
    llmoi_str s = {"x", 1};
    llmoi_gguf_kind kind = LLMOI_GGUF_U8;
    const char *no_integer[] = {"k.f32", "k.true", "k.str", "k.f64", "a.u8", "a.str"};
    for (int k = 0; k < 6; k++) {
        assert_fails(llmoi_gguf_u64(g, no_integer[k], false, 0, UINT64_MAX, &u), LLMO_E_FORMAT, no_integer[k]);
        assert_fails(llmoi_gguf_u32(g, no_integer[k], true, 0, 9, &u32), LLMO_E_FORMAT, "not an integer");
    }
    const char *no_float[] = {"k.u32", "k.true", "k.str", "a.f32", "k.i64"};
    for (int k = 0; k < 5; k++)
        assert_fails(llmoi_gguf_f32(g, no_float[k], true, -1, 1, &f), LLMO_E_FORMAT, no_float[k]);
    assert_fails(llmoi_gguf_bool(g, "k.u8", true, &t), LLMO_E_FORMAT, "its value is of type u8, not a boolean");
    assert_fails(llmoi_gguf_string(g, "a.str", true, &s), LLMO_E_FORMAT,
                 "its value is an array of string, not a string");
    assert_fails(llmoi_gguf_array(g, "k.str", false, &kind, &count), LLMO_E_FORMAT, "not an array");
    assert_fails(llmoi_gguf_array_i64(g, "a.f32", 0, &i), LLMO_E_FORMAT, "a.f32");
    assert_fails(llmoi_gguf_array_i64(g, "a.bool", 0, &i), LLMO_E_FORMAT, "a.bool");
    assert_fails(llmoi_gguf_array_i64(g, "a.str", 0, &i), LLMO_E_FORMAT, "a.str");
    assert_fails(llmoi_gguf_array_i64(g, "k.u8", 0, &i), LLMO_E_FORMAT, "k.u8");
    assert_fails(llmoi_gguf_array_f32(g, "a.i32", 0, &f), LLMO_E_FORMAT, "a.i32");
    assert_fails(llmoi_gguf_array_bool(g, "a.u8", 0, &t), LLMO_E_FORMAT, "a.u8");
    assert_fails(llmoi_gguf_array_string(g, "a.u8", 0, &s), LLMO_E_FORMAT, "a.u8");
    assert_fails(llmoi_gguf_array_strings(g, "a.u8", &s, 1), LLMO_E_FORMAT, "a.u8");
    assert_fails(llmoi_gguf_array_strings(g, "k.str", &s, 1), LLMO_E_FORMAT, "k.str");
    assert_true(u == 5 && u32 == 6 && f == 7 && t && s.len == 1 && count == 9);
    llmoi_gguf_close(g);
    free(bytes);
}

static void values_outside_the_range_are_refused_by_name(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    gb_u32(&b, "llama.block_count", 0);
    gb_u64(&b, "wide", ((uint64_t)1 << 32) + 2);
    gb_f32(&b, "eps", -1);
    gb_f32(&b, "nan", NAN);
    double huge = 1e39;
    gb_key(&b, "huge", 4, 12), gb_raw(&b, &huge, 8);
    size_t size;
    unsigned char *bytes = gb_finish(&b, &size);
    llmoi_gguf *g;
    assert_ok(open_bytes(&mem, bytes, size, &g));
    uint32_t u = 3;
    float f = 3;
    assert_int_equal(llmoi_gguf_u32(g, "llama.block_count", true, 1, 4096, &u), LLMO_E_FORMAT);
    assert_string_equal(llmoi_message(), "key 'llama.block_count' at offset 24: value 0 is outside 1..4096");
    assert_int_equal(llmoi_gguf_u32(g, "wide", true, 0, UINT32_MAX, &u), LLMO_E_FORMAT);
    assert_string_equal(llmoi_message(), "key 'wide' at offset 57: value 4294967298 is outside 0..4294967295");
    assert_fails(llmoi_gguf_f32(g, "eps", true, 0, 1, &f), LLMO_E_FORMAT, "value -1 is outside 0..1");
    assert_fails(llmoi_gguf_f32(g, "nan", true, -1, 1, &f), LLMO_E_FORMAT, "key 'nan' at offset");
    assert_fails(llmoi_gguf_f32(g, "huge", true, -INFINITY, INFINITY, &f), LLMO_E_FORMAT, "key 'huge' at offset");
    assert_true(u == 3 && f == 3);
    llmoi_gguf_close(g);
    gb_free(&b);
    free(bytes);
}

static void missing_keys_fail_only_if_required(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    uint64_t u64 = 1, count = 4;
    uint32_t u32 = 2;
    float f = 3;
    bool t = true;
    int64_t i = 6;
    llmoi_str s = {"x", 1};
    llmoi_gguf_kind kind = LLMOI_GGUF_I8;
    for (int required = 0; required < 2; required++) {
        llmo_status want = required ? LLMO_E_FORMAT : LLMO_OK;
        assert_int_equal(llmoi_gguf_u64(g, "no.u64", required, 5, 6, &u64), want);
        assert_int_equal(llmoi_gguf_u32(g, "no.u32", required, 5, 6, &u32), want);
        assert_int_equal(llmoi_gguf_f32(g, "no.f32", required, 5, 6, &f), want);
        assert_int_equal(llmoi_gguf_bool(g, "no.bool", required, &t), want);
        assert_int_equal(llmoi_gguf_string(g, "no.str", required, &s), want);
        if (required) assert_string_equal(llmoi_message(), "key 'no.str' is missing");
        assert_int_equal(llmoi_gguf_array(g, "no.arr", required, &kind, &count), want);
    }
    assert_true(u64 == 1 && u32 == 2 && f == 3 && t && s.len == 1 && count == 0);
    assert_fails(llmoi_gguf_array_i64(g, "no.arr", 0, &i), LLMO_E_FORMAT, "no.arr");
    assert_fails(llmoi_gguf_array_strings(g, "no.arr", &s, 1), LLMO_E_FORMAT, "no.arr");
    llmoi_gguf_close(g);
    free(bytes);
}

/* --- text ---------------------------------------------------------------------------------------------------- */

static void values_print_as_text(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    static const char *const want[][2] = {{"k.u8", "200"},
                                          {"k.i8", "-5"},
                                          {"k.u16", "65535"},
                                          {"k.i16", "-300"},
                                          {"k.u32", "4000000000"},
                                          {"k.i32", "-7"},
                                          {"k.f32", "1e-05"},
                                          {"k.true", "true"},
                                          {"k.false", "false"},
                                          {"k.empty", ""},
                                          {"k.u64", "18446744073709551615"},
                                          {"k.i64", "-9223372036854775808"},
                                          {"k.f64", "0.1"},
                                          {"k.huge", "1e+300"},
                                          {"k.inf", "inf"},
                                          {"a.u8", "[1, 2, 255]"},
                                          {"a.i8", "[1, 2, -1]"},
                                          {"a.f32", "[0.5, -2, nan]"},
                                          {"a.bool", "[false, true]"},
                                          {"a.str", "[one, , \xc3\xa4, four]"},
                                          {"a.none", "[]"},
                                          {"a.f64", "[0.25, 1e+300]"},
                                          {"a.i64", "[1099511627776, -1]"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char text[600];
        size_t len = 999;
        assert_ok(llmoi_gguf_text(g, want[i][0], text, sizeof text, &len));
        assert_string_equal(text, want[i][1]);
        assert_int_equal(len, strlen(text));
    }
    char text[600];
    size_t len;
    assert_ok(llmoi_gguf_text(g, "a.i32", text, sizeof text, &len));
    assert_memory_equal(text, "[-3, -2, -1, 0,", 15);
    assert_string_equal(text + len - 19, " 59, 60, ... (100)]");
    assert_ok(llmoi_gguf_text(g, "k.str", text, sizeof text, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(text, "a\0b", 4);
    assert_fails(llmoi_gguf_text(g, "no.key", text, sizeof text, &len), LLMO_E_ARG, "no.key");
    llmoi_gguf_close(g);
    free(bytes);
}

static void text_that_does_not_fit_gives_its_length(void **state) {
    (void)state;
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    size_t len = 0;
    assert_int_equal(llmoi_gguf_text(g, "a.u8", NULL, 0, &len), LLMO_E_BUFFER);
    assert_int_equal(len, 11);
    for (size_t cap = 1; cap <= 13; cap++) {
        char *text = malloc(cap); /* exact: the sanitizer sees a byte too many */
        len = 0;
        assert_int_equal(llmoi_gguf_text(g, "a.u8", text, cap, &len), cap >= 12 ? LLMO_OK : LLMO_E_BUFFER);
        assert_int_equal(len, 11);
        assert_int_equal(strlen(text), cap >= 12 ? 11 : cap - 1);
        assert_memory_equal(text, "[1, 2, 255]", strlen(text));
        free(text);
    }
    llmoi_gguf_close(g);
    free(bytes);
}

static void numbers_print_the_same_in_every_locale(void **state) {
    (void)state;
    const char *locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "ps_AF.UTF-8"};
    bool found = false;
    for (int i = 0; i < 4 && !found; i++) found = setlocale(LC_NUMERIC, locales[i]) != NULL;
    if (!found) {
        print_message("[  SKIP    ] no locale with a decimal comma is installed\n");
        skip();
    }
    unsigned char *bytes;
    size_t size;
    llmoi_gguf *g = open_each(3, &bytes, &size);
    char text[64];
    size_t len;
    llmo_status st = llmoi_gguf_text(g, "k.f64", text, sizeof text, &len);
    setlocale(LC_NUMERIC, "C");
    assert_int_equal(st, LLMO_OK);
    assert_string_equal(text, "0.1");
    llmoi_gguf_close(g);
    free(bytes);
}

/* --- tensors ------------------------------------------------------------------------------------------------- */

static void tensors_of_every_type_have_their_size(void **state) {
    (void)state;
    size_t n_types;
    const llmoi_type_info *types = llmoi_type_table(&n_types);
    assert_in_range(n_types, 20, 64);
    for (uint32_t alignment = 1; alignment <= 4096; alignment *= 8) {
        gguf_builder b;
        gb_init(&b);
        b.alignment = alignment;
        gb_u32(&b, "general.alignment", alignment);
        unsigned char *data = calloc(1, 1 << 16);
        for (size_t i = 0; i < n_types; i++) {
            uint64_t dims[4] = {types[i].block_elems * 2u, 3, 1, 2};
            data[0] = (unsigned char)(i + 1);
            gb_tensor(&b, types[i].name, types[i].type, 1 + i % 4, dims, data,
                      2u * types[i].block_bytes * (i % 4 >= 1 ? 3 : 1) * (i % 4 == 3 ? 2 : 1));
        }
        size_t size;
        unsigned char *bytes = gb_finish(&b, &size);
        llmoi_gguf *g;
        assert_ok(open_bytes(&mem, bytes, size, &g));
        assert_int_equal(llmoi_gguf_n_tensors(g), n_types);
        for (uint32_t i = 0; i < n_types; i++) {
            const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(g, i);
            assert_string_equal(t->name, types[i].name);
            assert_ptr_equal(llmoi_gguf_find(g, types[i].name), t);
            assert_int_equal(t->type, types[i].type);
            assert_int_equal(t->n_dims, 1 + i % 4);
            assert_true(t->dims[0] == types[i].block_elems * 2u && t->dims[1] == (i % 4 >= 1 ? 3 : 1));
            assert_true(t->dims[2] == 1 && t->dims[3] == (i % 4 == 3 ? 2 : 1));
            assert_true(t->n_elems == t->dims[0] * t->dims[1] * t->dims[3]);
            assert_true(t->n_bytes == t->n_elems / types[i].block_elems * types[i].block_bytes);
            assert_true(t->offset % alignment == 0 && t->offset + t->n_bytes <= size);
            unsigned char first;
            assert_ok(llmoi_source_read(llmoi_gguf_source(g, t->part), t->offset, &first, 1));
            assert_int_equal(first, i + 1);
        }
        assert_null(llmoi_gguf_tensor_at(g, (uint32_t)n_types));
        assert_null(llmoi_gguf_find(g, "nothing"));
        llmoi_gguf_close(g);
        gb_free(&b);
        free(bytes);
        free(data);
    }
}

static void aliases_gaps_and_any_order_may_load(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    uint64_t dims[2] = {8, 4};
    float w[96] = {0};
    gb_data(&b, w, 96 * 4);
    gb_info(&b, "last", 4, 0, 2, dims, 256);
    gb_info(&b, "first", 5, 0, 2, dims, 0);
    gb_info(&b, "alias", 5, 0, 2, dims, 256);
    char name[127];
    memset(name, 'n', sizeof name);
    gb_info(&b, name, sizeof name, 0, 2, dims, 0);
    size_t size;
    unsigned char *bytes = gb_finish(&b, &size);
    llmoi_gguf *g;
    assert_ok(open_bytes(&mem, bytes, size, &g));
    assert_true(llmoi_gguf_find(g, "last")->offset == llmoi_gguf_find(g, "alias")->offset);
    assert_int_equal(strlen(llmoi_gguf_tensor_at(g, 3)->name), 127);
    llmoi_gguf_close(g);
    gb_free(&b);
    free(bytes);
}

static void a_file_without_keys_and_tensors_loads(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    size_t size;
    unsigned char *bytes = gb_finish(&b, &size);
    assert_int_equal(size, 24);
    llmoi_gguf *g;
    assert_ok(open_bytes(&mem, bytes, size, &g));
    assert_int_equal(llmoi_gguf_n_keys(g), 0);
    assert_int_equal(llmoi_gguf_n_tensors(g), 0);
    assert_int_equal(llmoi_gguf_n_parts(g), 1);
    assert_null(llmoi_gguf_key(g, 0));
    assert_null(llmoi_gguf_source(g, 1));
    llmoi_gguf_close(g);
    llmoi_gguf_close(NULL);
    free(bytes);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(integers_of_every_width_are_read),
        T(other_kinds_are_read),
        T(array_elements_are_read),
        T(wrong_kinds_are_refused_by_name),
        T(values_outside_the_range_are_refused_by_name),
        T(missing_keys_fail_only_if_required),
        T(values_print_as_text),
        T(text_that_does_not_fit_gives_its_length),
        T(numbers_print_the_same_in_every_locale),
        T(tensors_of_every_type_have_their_size),
        T(aliases_gaps_and_any_order_may_load),
        T(a_file_without_keys_and_tensors_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
