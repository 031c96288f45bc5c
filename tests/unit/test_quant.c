/* Block types against the shared vectors: decode and unpack bit by bit, encoders against the reference encoder's blocks
 * and its error, any bits safe, half conversions exhaustively. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "shared_data.h"

#include "quant.h"
#include "quant_tables.h"

#define ROWS         64u
#define COLS         256u
#define ENCODED_ROWS 32u /* rows 0..31 of a vector were encoded from source.f32.bin, the others are random bits */

typedef struct vector {
    const llmoi_type_info *type;
    size_t row_bytes;
    unsigned char *blocks; /* ROWS rows */
    float *values;         /* ROWS x COLS */
} vector;

/* All vectors of the index, checked against the table. Fails if the index has a type that the table lacks. */
static vector *load_vectors(size_t *count) {
    cJSON *index = read_json(shared_path("data/quants/index.json"));
    assert_non_null(index);
    size_t n = (size_t)cJSON_GetArraySize(index);
    vector *v = calloc(n, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        const cJSON *e = cJSON_GetArrayItem(index, (int)i);
        const char *name = cJSON_GetObjectItem(e, "type")->valuestring;
        v[i].type = llmoi_type_find((uint32_t)cJSON_GetObjectItem(e, "ggml_type")->valueint);
        if (!v[i].type) fail_msg("no type %s", name);
        assert_string_equal(v[i].type->name, name);
        assert_int_equal(v[i].type->block_elems, cJSON_GetObjectItem(e, "block_elems")->valueint);
        assert_int_equal(v[i].type->block_bytes, cJSON_GetObjectItem(e, "block_bytes")->valueint);
        assert_int_equal(cJSON_GetObjectItem(e, "rows")->valueint, ROWS);
        assert_int_equal(cJSON_GetObjectItem(e, "cols")->valueint, COLS);
        size_t size;
        v[i].row_bytes = llmoi_row_bytes(v[i].type, COLS);
        v[i].blocks = (unsigned char *)read_file(shared_path("data/quants/%s.blocks.bin", name), &size);
        assert_int_equal(size, ROWS * v[i].row_bytes);
        v[i].values = (float *)(void *)read_file(shared_path("data/quants/%s.f32.bin", name), &size);
        assert_int_equal(size, ROWS * COLS * sizeof(float));
    }
    cJSON_Delete(index);
    *count = n;
    return v;
}

static void free_vectors(vector *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(v[i].blocks);
        free(v[i].values);
    }
    free(v);
}

/* --- decode and unpack -------------------------------------------------------------------------------------------- */

static void decode_matches_vectors(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    size_t n;
    vector *v = load_vectors(&n);
    assert_true(n >= 27);
    float *out = malloc(ROWS * COLS * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        size_t bytes = ROWS * v[i].row_bytes;
        unsigned char *shifted = malloc(bytes + 1); /* src is unaligned, and ends where the heap block ends */
        memcpy(shifted + 1, v[i].blocks, bytes);
        memset(out, 0xa5, ROWS * COLS * sizeof(float));
        v[i].type->decode(shifted + 1, out, ROWS * COLS);
        size_t bad = 0;
        for (size_t j = 0; j < ROWS * COLS; j++) {
            if (memcmp(&out[j], &v[i].values[j], 4) && bad++ == 0) {
                print_error("%s: row %zu column %zu: %a, expected %a\n", v[i].type->name, j / COLS, j % COLS,
                            (double)out[j], (double)v[i].values[j]);
            }
        }
        if (bad) fail_msg("%s: %zu values differ", v[i].type->name, bad);
        free(shifted);
    }
    free(out);
    free_vectors(v, n);
}

/* The integer form of one row against the vector's values. */
static void check_span(const vector *v, size_t row, const llmoi_span *s) {
    const float *want = v->values + row * COLS;
    double largest = 0;
    for (size_t j = 0; j < COLS; j++) largest = fmax(largest, fabs((double)want[j]));
    for (size_t j = 0; j < COLS; j++) {
        double got = (double)s->scale[j / 16] * s->q[j] + (double)s->offset[j / 16];
        if (!(fabs(got - (double)want[j]) <= 1e-6 * largest)) {
            fail_msg("%s: row %zu column %zu: %g, expected %g", v->type->name, row, j, got, (double)want[j]);
        }
    }
    for (size_t g = 0; g < LLMOI_SPAN_GROUPS; g++) {
        if (!v->type->has_offset) assert_true(s->offset[g] == 0.0f);
        if (v->type->group == 32 && g % 2) {
            assert_true(s->scale[g] == s->scale[g - 1]);
            assert_true(s->offset[g] == s->offset[g - 1]);
        }
    }
}

static void unpack_reproduces_decode(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    size_t n;
    vector *v = load_vectors(&n);
    for (size_t i = 0; i < n; i++) {
        if (!v[i].type->unpack) {
            assert_int_equal(v[i].type->group, 0);
            continue;
        }
        bool offset_seen = false;
        for (size_t row = 0; row < ROWS; row++) {
            llmoi_span s;
            memset(&s, 0x5a, sizeof s);
            v[i].type->unpack(v[i].blocks + row * v[i].row_bytes, &s, COLS);
            check_span(&v[i], row, &s);
            for (size_t g = 0; g < LLMOI_SPAN_GROUPS; g++) offset_seen = offset_seen || s.offset[g] != 0.0f;

            /* a shorter span: the same start, zeros behind it */
            size_t part = v[i].type->block_elems % COLS;
            llmoi_span t;
            memset(&t, 0x5a, sizeof t);
            v[i].type->unpack(v[i].blocks + row * v[i].row_bytes, &t, part);
            assert_memory_equal(t.q, s.q, part);
            for (size_t j = part; j < COLS; j++) assert_int_equal(t.q[j], 0);
            for (size_t g = 0; g < LLMOI_SPAN_GROUPS; g++) {
                assert_true(t.scale[g] == (16 * g < part ? s.scale[g] : 0.0f));
                assert_true(t.offset[g] == (16 * g < part ? s.offset[g] : 0.0f));
            }
        }
        assert_int_equal(offset_seen, v[i].type->has_offset);
    }
    free_vectors(v, n);
}

/* Scales that the vectors lack. FP4 code 2 is 1. */
static void decode_of_special_scales(void **state) {
    (void)state;
    float out[64];
    llmoi_block_nvfp4 nv = {.d = {0x7f, 0x7e, 0x01, 0x38}};
    memset(nv.qs, 0x22, sizeof nv.qs);
    llmoi_type_find(LLMOI_TYPE_NVFP4)->decode(&nv, out, 64);
    assert_true(out[0] == 0.0f); /* the NaN of E4M3 counts as zero */
    assert_true(out[16] == 448.0f);
    assert_true(out[32] == 0x1p-9f);
    assert_true(out[48] == 1.0f);

    static const uint8_t e[] = {0, 1, 2, 127, 254, 255};
    static const float want[] = {0x1p-127f, 0x1p-126f, 0x1p-125f, 1.0f, 0x1p127f, INFINITY};
    for (size_t i = 0; i < sizeof e; i++) {
        llmoi_block_mxfp4 mx = {.e = e[i]};
        memset(mx.qs, 0x22, sizeof mx.qs);
        llmoi_type_find(LLMOI_TYPE_MXFP4)->decode(&mx, out, 32);
        assert_true(out[0] == want[i]);
    }

    llmoi_block_q4_k k = {.d = 0x7e00, .dmin = 0x3c00}; /* a NaN scale stays one */
    float row[256];
    llmoi_type_find(LLMOI_TYPE_Q4_K)->decode(&k, row, 256);
    for (size_t j = 0; j < 256; j++) assert_true(isnan(row[j]));
}

/* --- encode --------------------------------------------------------------------------------------------------------
 */

static float *load_source(void) {
    size_t size;
    float *x = (float *)(void *)read_file(shared_path("data/quants/source.f32.bin"), &size);
    assert_int_equal(size, ENCODED_ROWS * COLS * sizeof(float));
    return x;
}

/* Types whose usual rounding is fixed: the reference's blocks, byte for byte. */
static void encode_matches_reference_rows(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    static const char *const exact[] = {"F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"};
    size_t n, checked = 0;
    vector *v = load_vectors(&n);
    float *source = load_source();
    for (size_t i = 0; i < n; i++) {
        bool wanted = false;
        for (size_t k = 0; k < sizeof exact / sizeof exact[0]; k++) {
            wanted = wanted || strcmp(exact[k], v[i].type->name) == 0;
        }
        if (!wanted) continue;
        checked++;
        assert_non_null(v[i].type->encode);
        size_t bytes = ENCODED_ROWS * v[i].row_bytes;
        unsigned char *out = malloc(bytes + 1);
        v[i].type->encode(source, out + 1, ENCODED_ROWS * COLS);
        size_t bad = 0;
        for (size_t b = 0; b < bytes; b += v[i].type->block_bytes) {
            bad += memcmp(out + 1 + b, v[i].blocks + b, v[i].type->block_bytes) != 0;
        }
        if (bad) fail_msg("%s: %zu of %zu blocks differ", v[i].type->name, bad, bytes / v[i].type->block_bytes);
        free(out);
    }
    assert_int_equal(checked, sizeof exact / sizeof exact[0]);
    free(source);
    free_vectors(v, n);
}

/* Where the vectors have no example: ties, NaN. */
static void encode_rounds_ties_away_and_takes_nan(void **state) {
    (void)state;
    float x[32] = {127.0f, 0.5f, -0.5f, 2.5f, -2.5f, 0.49999997f, NAN, 126.5f};
    static const int8_t want[] = {127, 1, -1, 3, -3, 0, -127, 127};
    llmoi_block_q8_0 b;
    llmoi_type_find(LLMOI_TYPE_Q8_0)->encode(x, &b, 32);
    assert_true(llmoi_f16_to_f32(b.d) == 1.0f);
    for (size_t j = 0; j < sizeof want; j++) assert_int_equal(b.qs[j], want[j]);

    float y[32] = {-8.0f, NAN, 0.5f, -0.5f, 7.0f};
    static const uint8_t nibbles[] = {0, 0, 9, 8, 15};
    llmoi_block_q4_0 c;
    llmoi_type_find(LLMOI_TYPE_Q4_0)->encode(y, &c, 32);
    assert_true(llmoi_f16_to_f32(c.d) == 1.0f);
    for (size_t j = 0; j < sizeof nibbles; j++) assert_int_equal(c.qs[j] & 15, nibbles[j]);
}

static double rms_error(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)n);
}

/* Every encoder is at least about as good as the reference's. */
static void encode_error_is_reported(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    size_t n, count = ENCODED_ROWS * COLS;
    vector *v = load_vectors(&n);
    float *source = load_source(), *out = malloc(count * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        if (!v[i].type->encode) continue;
        unsigned char *blocks = malloc(ENCODED_ROWS * v[i].row_bytes);
        v[i].type->encode(source, blocks, count);
        v[i].type->decode(blocks, out, count);
        double ours = rms_error(out, source, count), reference = rms_error(v[i].values, source, count);
        print_message("%-7s rms error %.6f, reference %.6f, ratio %.4f\n", v[i].type->name, ours, reference,
                      ours / reference);
        assert_true(reference > 0);
        assert_true(ours <= 1.05 * reference);
        free(blocks);
    }
    free(out);
    free(source);
    free_vectors(v, n);
}

static void encode_handles_plain_extremes(void **state) {
    (void)state;
    size_t n;
    const llmoi_type_info *types = llmoi_type_table(&n);
    unsigned char blocks[COLS * 4];
    float x[COLS], y[COLS];
    static const float levels[] = {0.0f, -0.0f, 1.0f, -1.0f, 1e-30f, 1e-45f, 6e4f};
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; types[i].encode && k < sizeof levels / sizeof levels[0]; k++) {
            for (size_t j = 0; j < COLS; j++) x[j] = levels[k];
            types[i].encode(x, blocks, COLS);
            types[i].decode(blocks, y, COLS);
            /* a constant row is exact up to the scale's own rounding; what a half cannot hold becomes 0 */
            for (size_t j = 0; j < COLS; j++) {
                float tolerance = fabsf(levels[k]) * (strcmp(types[i].name, "MXFP4") ? 0.01f : 0.2f) + 1e-29f;
                if (!(fabsf(y[j] - x[j]) <= tolerance)) {
                    fail_msg("%s: %g became %g", types[i].name, (double)x[j], (double)y[j]);
                }
            }
        }
    }
}

/* --- hostile input --------------------------------------------------------------------------------------------------
 */

static uint64_t next_random(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static bool same_or_nan(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* Decode and unpack of `bytes` agree, for two spans at the very end of a heap block, so that a sanitizer sees overruns.
 */
static void check_any_bits(const llmoi_type_info *t, const unsigned char *bytes) {
    size_t span_bytes = llmoi_row_bytes(t, COLS), n = 2 * COLS;
    unsigned char *src = malloc(2 * span_bytes + 1);
    float *out = malloc((n + 1) * sizeof(float)), guard = 12345.0f;
    memcpy(src + 1, bytes, 2 * span_bytes);
    out[n] = guard;
    t->decode(src + 1, out, n);
    assert_true(out[n] == guard);
    for (size_t part = 0; t->unpack && part < 2; part++) {
        llmoi_span s;
        t->unpack(src + 1 + part * span_bytes, &s, COLS);
        for (size_t j = 0; j < COLS; j++) {
            float want = s.scale[j / 16] * (float)s.q[j];
            if (t->has_offset) want += s.offset[j / 16];
            assert_true(same_or_nan(out[part * COLS + j], want));
        }
    }
    free(out);
    free(src);
}

static void random_bits_are_safe(void **state) {
    (void)state;
    size_t n;
    const llmoi_type_info *types = llmoi_type_table(&n);
    uint64_t seed = 0x9e3779b97f4a7c15u;
    unsigned char bytes[2 * COLS * 4];
    for (size_t i = 0; i < n; i++) {
        for (int round = 0; round < 300; round++) {
            if (round < 2)
                memset(bytes, round ? 0xff : 0, sizeof bytes);
            else
                for (size_t j = 0; j < sizeof bytes; j++) bytes[j] = (unsigned char)(next_random(&seed) >> 32);
            check_any_bits(&types[i], bytes);
            if (!types[i].encode) continue;
            /* the same bits as floats: NaN, infinities, subnormals and huge values among them */
            float x[COLS];
            memcpy(x, bytes, sizeof x);
            if (round % 3 == 0) {
                for (size_t j = 0; j < COLS; j++) x[j] = isnan(x[j]) ? INFINITY : x[j] * 1e30f;
            }
            size_t size = llmoi_row_bytes(&types[i], COLS);
            unsigned char *out = malloc(size + 1);
            types[i].encode(x, out + 1, COLS);
            float y[COLS];
            types[i].decode(out + 1, y, COLS);
            free(out);
        }
    }
}

/* --- half conversions ------------------------------------------------------------------------------------------------
 */

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* The value of a finite half, from the definition. */
static double half_value(uint32_t h) {
    int exponent = (int)(h >> 10 & 31);
    double m = (double)(h & 1023);
    double v = exponent ? ldexp(1024 + m, exponent - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static void check_half(uint32_t h) {
    float f = llmoi_f16_to_f32((uint16_t)h);
    uint32_t magnitude = h & 0x7fff;
    if (magnitude > 0x7c00) {
        assert_true(isnan(f));
        assert_true((llmoi_f32_to_f16(f) & 0x7fff) > 0x7c00);
        assert_int_equal(llmoi_f32_to_f16(f) >> 15, h >> 15);
        return;
    }
    if (magnitude == 0x7c00)
        assert_true(isinf(f));
    else
        assert_true((double)f == half_value(h));
    assert_int_equal(signbit(f) != 0, h >> 15);
    assert_int_equal(llmoi_f32_to_f16(f), h);
    if (magnitude >= 0x7c00) return;
    /* halfway to the next larger magnitude (past the largest: to 65536, which is infinity) */
    double next = magnitude == 0x7bff ? 65536.0 : fabs(half_value(magnitude + 1));
    float tie = (float)copysign((fabs(half_value(h)) + next) / 2, (double)f);
    assert_int_equal(llmoi_f32_to_f16(tie), h & 1 ? h + 1 : h);
    assert_int_equal(llmoi_f32_to_f16(nextafterf(tie, 0)), h);
    assert_int_equal(llmoi_f32_to_f16(nextafterf(tie, copysignf(INFINITY, f))), h + 1);
}

static void check_bf16(uint32_t h) {
    float f = llmoi_bf16_to_f32((uint16_t)h);
    assert_true(same_or_nan(f, from_bits(h << 16)));
    if ((h & 0x7fff) > 0x7f80) {
        assert_true(isnan(f));
        assert_true((llmoi_f32_to_bf16(f) & 0x7fff) > 0x7f80);
        return;
    }
    assert_int_equal(llmoi_f32_to_bf16(f), h);
    if ((h & 0x7fff) == 0x7f80) return;
    assert_int_equal(llmoi_f32_to_bf16(from_bits(h << 16 | 0x7fff)), h);
    assert_int_equal(llmoi_f32_to_bf16(from_bits(h << 16 | 0x8000)), h & 1 ? h + 1 : h);
    assert_int_equal(llmoi_f32_to_bf16(from_bits(h << 16 | 0x8001)), h + 1);
}

static void half_conversions_round_to_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        check_half(h);
        check_bf16(h);
    }
    assert_int_equal(llmoi_f32_to_f16(65519.99f), 0x7bff);
    assert_int_equal(llmoi_f32_to_f16(65520.0f), 0x7c00);
    assert_int_equal(llmoi_f32_to_f16(-3e38f), 0xfc00);
    assert_int_equal(llmoi_f32_to_f16(0x1p-25f), 0x0000);
    assert_int_equal(llmoi_f32_to_f16(0x1.8p-25f), 0x0001);
    assert_int_equal(llmoi_f32_to_f16(-1e-45f), 0x8000);
    /* a NaN whose payload lies in the low bits only must not become infinity */
    assert_true((llmoi_f32_to_f16(from_bits(0x7f800001)) & 0x7fff) > 0x7c00);
    assert_true((llmoi_f32_to_bf16(from_bits(0xff800001)) & 0x7fff) > 0x7f80);
    assert_int_equal(llmoi_f32_to_bf16(3.4e38f), 0x7f80);
}

/* --- the table -------------------------------------------------------------------------------------------------------
 */

static void check_grid(const uint16_t *grid, size_t n, unsigned bits, unsigned top) {
    bool *seen = calloc(65536, sizeof *seen);
    for (size_t i = 0; i < n; i++) {
        for (unsigned shift = 0; shift < 16; shift += bits) assert_true((grid[i] >> shift & ((1u << bits) - 1)) <= top);
        assert_false(seen[grid[i]]);
        seen[grid[i]] = true;
    }
    free(seen);
}

static void type_table_is_consistent(void **state) {
    (void)state;
    size_t n, found = 0;
    const llmoi_type_info *t = llmoi_type_table(&n);
    assert_int_equal(n, 28);
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(llmoi_type_find(t[i].type), &t[i]);
        assert_ptr_equal(llmoi_type_find_name(t[i].name), &t[i]);
        assert_non_null(t[i].decode);
        assert_true(t[i].group == 0 || t[i].group == 16 || t[i].group == 32);
        assert_int_equal(t[i].group == 0, t[i].unpack == NULL);
        assert_int_equal(t[i].group == 0, t[i].block_elems == 1);
        assert_true(t[i].block_bytes > 0 && LLMOI_SPAN % t[i].block_elems == 0);
        assert_true(llmoi_row_bytes(&t[i], UINT64_C(1) << 40) ==
                    (UINT64_C(1) << 40) / t[i].block_elems * t[i].block_bytes);
    }
    for (uint32_t no = 0; no < 1000; no++) found += llmoi_type_find(no) != NULL;
    assert_int_equal(found, n);
    assert_null(llmoi_type_find(UINT32_MAX));
    assert_null(llmoi_type_find(4)); /* a removed type */
    assert_int_equal(llmoi_type_find_name("q4_k")->type, LLMOI_TYPE_Q4_K);
    assert_int_equal(llmoi_type_find_name("mXfP4")->type, LLMOI_TYPE_MXFP4);
    assert_null(llmoi_type_find_name("q4_"));
    assert_null(llmoi_type_find_name("q4_ks"));
    assert_null(llmoi_type_find_name(""));
    assert_null(llmoi_type_find_name(NULL));
    assert_true(llmoi_row_bytes(llmoi_type_find(LLMOI_TYPE_F32), UINT64_MAX) == 0);
    static const char *const written[] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0",   "Q4_1", "Q5_0",
                                          "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4"};
    for (size_t i = 0; i < sizeof written / sizeof written[0]; i++) {
        assert_non_null(llmoi_type_find_name(written[i])->encode);
    }
    check_grid(llmoi_grid_iq2_xxs, 256, 2, 2);
    check_grid(llmoi_grid_iq2_xs, 512, 2, 2);
    check_grid(llmoi_grid_iq2_s, 1024, 2, 2);
    check_grid(llmoi_grid_iq3_xxs, 256, 4, 7);
    check_grid(llmoi_grid_iq3_s, 512, 4, 7);
    check_grid(llmoi_grid_iq1, 2048, 2, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_matches_vectors),
        cmocka_unit_test(unpack_reproduces_decode),
        cmocka_unit_test(decode_of_special_scales),
        cmocka_unit_test(encode_matches_reference_rows),
        cmocka_unit_test(encode_rounds_ties_away_and_takes_nan),
        cmocka_unit_test(encode_error_is_reported),
        cmocka_unit_test(encode_handles_plain_extremes),
        cmocka_unit_test(random_bits_are_safe),
        cmocka_unit_test(half_conversions_round_to_even),
        cmocka_unit_test(type_table_is_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
