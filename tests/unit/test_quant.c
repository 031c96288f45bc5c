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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_matches_vectors),
        cmocka_unit_test(unpack_reproduces_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
