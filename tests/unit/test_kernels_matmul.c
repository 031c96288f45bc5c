/* Every row of the CPU's matmul table, over all block types: against double precision within a bound that follows from
 * the arithmetic, against the arithmetic of numerics.h spelled out naively (equal to the bit), and against itself under
 * other divisions of the work. The rows and types are read from their tables: a new one is tested without a change here. */
#include <stdio.h>

#include "backend.h"
#include "kernel_check.h"

#define MAX_K      768u
#define MAX_ROWS   64u
#define MAX_TOKENS 70u
#define N_ROLES    ((uint32_t)LLMOI_ROLE_HEAD + 1u)
#define U          0x1p-24 /* half a unit in the last place, relative */

static rng random_numbers = {20};
static uint64_t n_cases, n_refusals;

/* --- inputs ----------------------------------------------------------------------------------------------------------- */

typedef struct problem {
    llmoi_site site;
    uint32_t n_tokens;
    uint32_t expert; /* which slice is multiplied */
    weight_kind kind;
    void *file; /* weights of all experts as in the file */
    float *x;   /* (n_tokens, k) */
    int8_t *q;  /* the quantized form, if k allows */
    float *scale;
    int16_t *sum16;
    float *bias;   /* (rows) */
    float *before; /* (n_tokens, stride) what out holds before */
    size_t stride;
} problem;

typedef enum pattern {
    NORMAL,
    ZEROS,
    ONE_HUGE,
    SUBNORMAL,
    LARGEST, /* +-FLT_MAX here and there */
    ONE_NAN,
    ONE_INFINITE,
    TINY,
    MIXED_SIZES,
    N_PATTERNS
} pattern;

static void fill_token(rng *r, float *x, uint64_t k, pattern p) {
    for (uint64_t i = 0; i < k; i++) {
        float v = rng_normal(r);
        switch (p) {
        case ZEROS: v = rng_below(r, 2) ? 0.0f : -0.0f; break;
        case SUBNORMAL: v *= 1e-40f; break;
        case LARGEST: v = rng_below(r, 8) ? v : rng_below(r, 2) ? 3.4028235e38f : -3.4028235e38f; break;
        case TINY: v *= 1e-30f; break;
        case MIXED_SIZES: v = ldexpf(v, (int)rng_below(r, 40) - 20); break;
        default: break;
        }
        x[i] = v;
    }
    uint32_t at = rng_below(r, (uint32_t)k);
    if (p == ONE_HUGE) x[at] = 1e30f;
    if (p == ONE_NAN) x[at] = NAN;
    if (p == ONE_INFINITE) x[at] = -INFINITY;
}

static pattern pattern_of(uint32_t token, uint32_t salt) {
    return token % 2 ? NORMAL : (pattern)((token / 2 + salt) % N_PATTERNS);
}

/* The quantized form as llmoi_quantize32 defines it. */
static void quantize_token(const float *x, int8_t *q, float *scale, int16_t *sum16, uint64_t k) {
    for (uint64_t i = 0; i < k; i += LLMOI_QBLOCK) {
        scale[i / 32] = llmoi_quantize32(x + i, q + i);
        for (uint32_t h = 0; h < 2; h++) {
            int sum = 0;
            for (uint32_t j = 0; j < 16; j++) sum += q[i + h * 16 + j];
            sum16[i / 16 + h] = (int16_t)sum;
        }
    }
}

static problem problem_create(const llmoi_site *site, uint32_t n_tokens, weight_kind kind, uint32_t salt) {
    rng *r = &random_numbers;
    problem p = {.site = *site, .n_tokens = n_tokens, .kind = kind, .expert = site->n_experts - 1};
    uint64_t k = site->k, rows = site->rows;
    p.file = aligned_bytes((size_t)site->n_experts * rows * llmoi_row_bytes(site->type, k));
    random_weights(r, site->type, kind, p.file, (size_t)(site->n_experts * rows * k));
    p.x = aligned_bytes(n_tokens * k * sizeof *p.x);
    p.q = aligned_bytes(n_tokens * k);
    p.scale = aligned_bytes(n_tokens * (k / 32) * sizeof *p.scale);
    p.sum16 = aligned_bytes(n_tokens * (k / 16) * sizeof *p.sum16);
    for (uint32_t t = 0; t < n_tokens; t++) {
        fill_token(r, p.x + t * k, k, pattern_of(t, salt));
        if (k % 32) continue;
        quantize_token(p.x + t * k, p.q + t * k, p.scale + t * (k / 32), p.sum16 + t * (k / 16), k);
    }
    p.bias = aligned_bytes(rows * sizeof *p.bias);
    for (uint64_t i = 0; i < rows; i++) p.bias[i] = rng_normal(r);
    p.stride = (size_t)rows + salt % 7;
    p.before = malloc(n_tokens * p.stride * sizeof *p.before);
    for (size_t i = 0; i < n_tokens * p.stride; i++) p.before[i] = rng_normal(r);
    return p;
}

static void problem_free(problem *p) {
    free(p->file);
    free(p->x);
    free(p->q);
    free(p->scale);
    free(p->sum16);
    free(p->bias);
    free(p->before);
}

static const char *weight_row(const problem *p, uint64_t row) {
    return (const char *)p->file + (p->expert * p->site.rows + row) * llmoi_row_bytes(p->site.type, p->site.k);
}

static const char *name_of(const problem *p, const llmoi_matmul_row *row) {
    static char text[160];
    snprintf(text, sizeof text, "%s: %s, %llu rows, k %llu, %u tokens, weights %d, role %d", row->name,
             p->site.type->name, (unsigned long long)p->site.rows, (unsigned long long)p->site.k, p->n_tokens, p->kind,
             p->site.role);
    return text;
}

/* --- the definition, spelled out --------------------------------------------------------------------------------------- */

/* numerics.h, word for word: the value of a row for one token. */
static float defined_f32(const problem *p, const float *w, const float *x) {
    float y = 0;
    for (uint64_t from = 0; from < p->site.k; from += 256) {
        float span = 0;
        for (uint64_t i = from; i < from + 256 && i < p->site.k; i++) span = fmaf(w[i], x[i], span);
        y = from ? y + span : span;
    }
    return y;
}

static float defined_q8(const problem *p, const llmoi_span *spans, const int8_t *q, const float *scale) {
    uint32_t group = p->site.type->group;
    float y = 0;
    for (uint64_t from = 0; from < p->site.k; from += 256) {
        const llmoi_span *s = &spans[from / 256];
        float span = 0;
        for (uint64_t i = from; i < from + 256 && i < p->site.k; i += group) {
            uint32_t g = (uint32_t)(i - from) / 16;
            float d = scale[i / 32];
            int32_t dot = 0, sum = 0;
            for (uint32_t j = 0; j < group; j++) {
                dot += s->q[i - from + j] * q[i + j];
                sum += q[i + j];
            }
            span = fmaf(s->scale[g] * d, (float)dot, span);
            if (p->site.type->has_offset) span = fmaf(s->offset[g], d * (float)sum, span);
        }
        y = from ? y + span : span;
    }
    return y;
}

/* The same products in double, and how far a correct row may be from that. Each term passes through at most 256 (f32) or
 * 32 (q8: 16 groups, each with an offset) fmas of its span and the sum over the spans, and each rounding is at most U of the running sum, which the
 * sum of magnitudes bounds; rounded products (q8) add one U each; underflow at most 2^-149 an operation. */
static double exact_f32(const problem *p, const float *w, const float *x, double *bound) {
    double y = 0, size = 0;
    for (uint64_t i = 0; i < p->site.k; i++) {
        y += (double)w[i] * x[i];
        size += fabs((double)w[i] * x[i]);
    }
    double spans = ceil((double)p->site.k / 256), chain = fmin((double)p->site.k, 256);
    *bound = (chain + spans) * U * size * 1.001 + (double)p->site.k * 0x1p-149;
    return y;
}

static double exact_q8(const problem *p, const llmoi_span *spans, const int8_t *q, const float *scale, double *bound) {
    double y = 0, size = 0, underflow = 0;
    for (uint64_t g = 0; g < p->site.k / 16; g++) {
        const llmoi_span *s = &spans[g / 16];
        double dot = 0, sum = 0, d = scale[g / 2];
        for (uint64_t i = 0; i < 16; i++) {
            dot += (double)s->q[g % 16 * 16 + i] * q[g * 16 + i];
            sum += q[g * 16 + i];
        }
        double a = s->scale[g % 16] * d * dot, b = s->offset[g % 16] * d * sum;
        y += a + b;
        size += fabs(a) + fabs(b);
        underflow += 0x1p-149 * (fabs(dot) + fabs((double)s->offset[g % 16]) + 2);
    }
    double n_spans = ceil((double)p->site.k / 256);
    *bound = (32 + n_spans + 2) * U * size * 1.001 + underflow;
    return y;
}

/* --- one row of the table ------------------------------------------------------------------------------------------------ */

/* A copy of the weights for the row, in memory of exactly their size. */
static void *weights_of(const problem *p, const llmoi_matmul_row *row) {
    size_t bytes = row->weight_bytes(&p->site), file_bytes = p->site.rows * llmoi_row_bytes(p->site.type, p->site.k);
    char *weights = aligned_bytes(p->site.n_experts * bytes);
    for (uint32_t e = 0; e < p->site.n_experts; e++) {
        const char *src = (const char *)p->file + e * file_bytes;
        assert_int_equal(bytes, file_bytes);
        memcpy(weights + e * bytes, src, bytes);
    }
    return weights;
}

static llmoi_matmul call_of(const problem *p, const llmoi_matmul_row *row, const void *weights, float *out) {
    return (llmoi_matmul){
        .site = &p->site,
        .weight = (const char *)weights + p->expert * row->weight_bytes(&p->site),
        /* a row may read what its form names and nothing else */
        .act = {row->act == LLMOI_ACT_F32 ? p->x : NULL, row->act == LLMOI_ACT_Q8 ? p->q : NULL,
                row->act == LLMOI_ACT_Q8 ? p->scale : NULL, row->act == LLMOI_ACT_Q8 ? p->sum16 : NULL},
        .n_tokens = p->n_tokens,
        .out = out,
        .out_stride = p->stride,
    };
}

static void run_all(const problem *p, const llmoi_matmul_row *row, const llmoi_matmul *m) {
    row->run(m, 0, p->site.rows);
}

/* Arbitrary ranges that start at multiples of the row's step, last one first. */
static void run_in_parts(const problem *p, const llmoi_matmul_row *row, const llmoi_matmul *m) {
    uint64_t cuts[MAX_ROWS + 2];
    uint32_t n = 0;
    cuts[n++] = 0;
    for (uint64_t at = row->row_step; at < p->site.rows; at += row->row_step) {
        if (rng_below(&random_numbers, 2)) cuts[n++] = at;
    }
    cuts[n] = p->site.rows;
    for (uint32_t i = n; i > 0; i--) row->run(m, cuts[i - 1], cuts[i]);
}

static float *fresh_out(const problem *p) {
    size_t n = p->n_tokens * p->stride;
    float *out = guarded(n);
    memcpy(out, p->before, n * sizeof *out);
    return out;
}

/* That nothing beside the rows of each token was written. */
static void check_untouched(const problem *p, const llmoi_matmul_row *row, const float *out) {
    if (!guards_intact(out, p->n_tokens * p->stride)) fail_msg("%s: wrote outside out", name_of(p, row));
    for (uint32_t t = 0; t < p->n_tokens; t++) {
        for (size_t i = p->site.rows; i < p->stride; i++) {
            if (out[t * p->stride + i] != p->before[t * p->stride + i]) {
                fail_msg("%s: wrote past the rows of token %u", name_of(p, row), t);
            }
        }
    }
}

static void check_same(const problem *p, const llmoi_matmul_row *row, const float *a, const float *b,
                       const char *what) {
    size_t n = p->n_tokens * p->stride, at = first_difference(a, b, n);
    if (at < n) {
        fail_msg("%s: %s: token %zu, row %zu: %a, not %a", name_of(p, row), what, at / p->stride, at % p->stride,
                 (double)a[at], (double)b[at]);
    }
}

/* Token t alone, from copies of its inputs. */
static void check_token_alone(const problem *p, const llmoi_matmul_row *row, const void *weights, const float *out,
                              uint32_t t) {
    problem one = *p;
    one.n_tokens = 1;
    one.x = p->x + t * p->site.k;
    one.q = p->q + t * p->site.k;
    one.scale = p->scale + t * (p->site.k / 32);
    one.sum16 = p->sum16 + t * (p->site.k / 16);
    one.before = p->before + t * p->stride;
    float *alone = fresh_out(&one);
    llmoi_matmul m = call_of(&one, row, weights, alone);
    run_all(&one, row, &m);
    check_untouched(&one, row, alone);
    check_same(&one, row, alone, out + t * p->stride, "token alone differs from token in a batch");
    guarded_free(alone);
}

static uint64_t checksum(const void *bytes, size_t n) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    return h;
}

static uint64_t inputs_checksum(const problem *p, const void *weights, const llmoi_matmul_row *row) {
    return checksum(p->x, p->n_tokens * p->site.k * 4) ^ checksum(p->q, p->n_tokens * p->site.k) * 3 ^
           checksum(p->scale, p->n_tokens * (p->site.k / 32) * 4) * 5 ^
           checksum(p->sum16, p->n_tokens * (p->site.k / 16) * 2) * 7 ^ checksum(p->bias, p->site.rows * 4) * 9 ^
           checksum(weights, p->site.n_experts * row->weight_bytes(&p->site)) * 11;
}

/* Against the definition, to the bit, and against double. `defined` receives the values. */
static void check_values(const problem *p, const llmoi_matmul_row *row, const float *out, float *defined) {
    float w[MAX_K];
    llmoi_span spans[MAX_K / 256];
    for (uint64_t r = 0; r < p->site.rows; r++) {
        p->site.type->decode(weight_row(p, r), w, (size_t)p->site.k);
        for (uint64_t from = 0; row->act == LLMOI_ACT_Q8 && from < p->site.k; from += 256) {
            p->site.type->unpack(weight_row(p, r) + llmoi_row_bytes(p->site.type, from), &spans[from / 256],
                                 p->site.k - from < 256 ? (size_t)(p->site.k - from) : 256);
        }
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            size_t at = t * p->stride + r;
            const float *x = p->x + t * p->site.k;
            const int8_t *q = p->q + t * p->site.k;
            const float *d = p->scale + t * (p->site.k / 32);
            bool q8 = row->act == LLMOI_ACT_Q8;
            defined[at] = q8 ? defined_q8(p, spans, q, d) : defined_f32(p, w, x);
            double bound, exact = q8 ? exact_q8(p, spans, q, d, &bound) : exact_f32(p, w, x, &bound);
            bool clean = isfinite(exact) && bound < 1e31; /* no partial sum can have overflowed */
            if (p->kind != WEIGHTS_ANY_BITS && clean && !(fabs((double)out[at] - exact) <= bound)) {
                fail_msg("%s: token %u, row %llu: %.9g, exactly %.9g, may be off by %g", name_of(p, row), t,
                         (unsigned long long)r, (double)out[at], exact, bound);
            }
            bool bad_input = false;
            for (uint64_t i = 0; i < p->site.k; i++) bad_input = bad_input || !isfinite(x[i]);
            if (bad_input && isfinite(out[at])) fail_msg("%s: hides a NaN or infinity", name_of(p, row));
        }
    }
}

static void check_row(const problem *p, const llmoi_matmul_row *row, uint32_t salt) {
    void *weights = weights_of(p, row);
    uint64_t inputs = inputs_checksum(p, weights, row);
    float *out = fresh_out(p), *again = fresh_out(p), *defined = fresh_out(p);
    llmoi_matmul m = call_of(p, row, weights, out);
    run_all(p, row, &m);
    check_untouched(p, row, out);
    check_values(p, row, out, defined);
    check_same(p, row, out, defined, "not as numerics.h defines it");
    m.out = again;
    run_in_parts(p, row, &m);
    check_untouched(p, row, again);
    check_same(p, row, again, out, "in parts");
    for (uint32_t i = 0; i < 4 && i < p->n_tokens; i++) {
        check_token_alone(p, row, weights, out, (i * 37 + salt) % p->n_tokens);
    }
    /* bias and add: after the sum, in this order */
    for (uint32_t form = 1; form < 4; form++) {
        if (p->n_tokens > 3 && form != 1 + salt % 3) continue; /* one of them is enough for the larger cases */
        m.bias = form & 1 ? p->bias : NULL;
        m.add = (form & 2) != 0;
        memcpy(again, p->before, p->n_tokens * p->stride * sizeof *again);
        run_in_parts(p, row, &m);
        for (uint32_t t = 0; t < p->n_tokens; t++) {
            for (uint64_t r = 0; r < p->site.rows; r++) {
                size_t at = t * p->stride + r;
                float y = m.bias ? out[at] + p->bias[r] : out[at];
                defined[at] = m.add ? p->before[at] + y : y;
            }
        }
        check_untouched(p, row, again);
        check_same(p, row, again, defined, m.add ? "add" : "bias");
    }
    /* no rows at all: nothing happens */
    memcpy(again, p->before, p->n_tokens * p->stride * sizeof *again);
    row->run(&m, p->site.rows, p->site.rows);
    check_same(p, row, again, p->before, "an empty range");
    assert_true(inputs == inputs_checksum(p, weights, row));
    guarded_free(defined);
    guarded_free(again);
    guarded_free(out);
    free(weights);
    n_cases++;
}

/* --- the walk ---------------------------------------------------------------------------------------------------------------- */

/* All rows that take the site; at least one must. */
static void check_site(const llmoi_site *site, uint32_t n_tokens, weight_kind kind, uint32_t salt) {
    const llmoi_backend *be = llmoi_cpu_backend();
    problem p = problem_create(site, n_tokens, kind, salt);
    for (uint32_t i = 0; i < be->n_rows; i++) {
        if (!be->rows[i].refuse(&p.site)) check_row(&p, &be->rows[i], salt);
    }
    problem_free(&p);
}

static const uint32_t some_rows[] = {1, 3, 8, 17, 64}, some_k[] = {32, 64, 96, 256, 288, 768, 37},
                      some_tokens[] = {1, 2, 7, 33, 70};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static llmoi_site site_of(const llmoi_type_info *type, uint64_t rows, uint64_t k, uint32_t salt) {
    /* role, experts and numerics go round with the cases */
    return (llmoi_site){.type = type,
                        .rows = rows,
                        .k = k,
                        .n_experts = salt % 4 == 3 ? 3 : 1,
                        .role = (llmoi_role)(LLMOI_ROLE_QKV + salt % (N_ROLES - 1)),
                        .max_tokens = MAX_TOKENS,
                        .numerics = LLMO_NUMERICS_F32};
}

static void check_site_both(llmoi_site site, uint32_t n_tokens, weight_kind kind, uint32_t salt) {
    site.numerics = LLMO_NUMERICS_F32;
    check_site(&site, n_tokens, kind, salt);
    site.numerics = LLMO_NUMERICS_Q8;
    check_site(&site, n_tokens, kind, salt);
}

static void every_row_computes_its_definition(void **state) {
    (void)state;
    size_t n;
    const llmoi_type_info *types = llmoi_type_table(&n);
    uint32_t salt = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t a = 0; a < COUNT(some_rows); a++) {
            for (size_t b = 0; b < COUNT(some_k); b++) {
                if (some_k[b] % types[i].block_elems) continue;
                check_site_both(site_of(&types[i], some_rows[a], some_k[b], salt), 1 + salt % 3,
                                (weight_kind)(salt % 3), salt);
                salt++;
            }
        }
        for (size_t c = 0; c < COUNT(some_tokens); c++) {
            for (uint32_t kind = 0; kind < 3; kind++) {
                if (some_tokens[c] > 7 && kind != (c + i) % 3) continue;
                check_site_both(site_of(&types[i], c ? 17 : 3, c % 2 ? 768 : 256, salt), some_tokens[c],
                                (weight_kind)kind, salt);
                salt++;
            }
        }
    }
    print_message("%llu cases of a row, a shape and weights\n", (unsigned long long)n_cases);
    assert_true(n_cases > 28 * 30);
}

/* --- refusals ------------------------------------------------------------------------------------------------------------------ */

static void every_type_and_role_has_a_row_and_refusals_have_reasons(void **state) {
    (void)state;
    const llmoi_backend *be = llmoi_cpu_backend();
    size_t n;
    const llmoi_type_info *types = llmoi_type_table(&n);
    static const uint32_t tokens[] = {1, 512, 65536}, rows[] = {1, 17, 151936};
    for (size_t i = 0; i < n; i++) {
        for (uint32_t role = LLMOI_ROLE_QKV; role < N_ROLES; role++) {
            for (int form = 0; form < 3 * 3 * 2 * 2 * 2; form++) {
                llmoi_site s = {.type = &types[i],
                                .rows = rows[form % 3],
                                .max_tokens = tokens[form / 3 % 3],
                                .numerics = form / 9 % 2 ? LLMO_NUMERICS_Q8 : LLMO_NUMERICS_F32,
                                .n_experts = form / 18 % 2 ? 8 : 1,
                                .k = types[i].block_elems * (form / 36 % 2 ? 5u : 1u),
                                .role = (llmoi_role)role};
                uint32_t taken = 0;
                bool right_form = false;
                for (uint32_t r = 0; r < be->n_rows; r++) {
                    const char *why = be->rows[r].refuse(&s);
                    if (why) {
                        assert_true(strlen(why) > 3);
                        n_refusals++;
                        continue;
                    }
                    /* the first one is what a plan takes: 8-bit activations where asked and possible, never unasked */
                    if (!taken++) {
                        bool q8 = s.numerics == LLMO_NUMERICS_Q8 && types[i].unpack && s.k % 32 == 0;
                        right_form = be->rows[r].act == (q8 ? LLMOI_ACT_Q8 : LLMOI_ACT_F32);
                    }
                    assert_true(be->rows[r].weight_bytes(&s) >= s.rows * llmoi_row_bytes(s.type, s.k) / 8);
                    if (be->rows[r].act == LLMOI_ACT_Q8) assert_true(s.k % 32 == 0 && s.type->unpack != NULL);
                }
                if (!taken || !right_form) fail_msg("%s, role %u, form %d", types[i].name, role, form);
            }
        }
    }
    print_message("%llu refusals\n", (unsigned long long)n_refusals);
    assert_true(n_refusals > 100);
}

static void row_table_is_well_formed(void **state) {
    (void)state;
    const llmoi_backend *be = llmoi_cpu_backend();
    assert_true(be->n_rows >= 2);
    for (uint32_t i = 0; i < be->n_rows; i++) {
        const llmoi_matmul_row *r = &be->rows[i];
        assert_true(strncmp(r->name, "cpu-", 4) == 0 && strlen(r->name) < 44);
        assert_true(r->act == LLMOI_ACT_F32 || r->act == LLMOI_ACT_Q8);
        assert_true(r->row_step >= 1);
        for (uint32_t j = 0; j < i; j++) assert_string_not_equal(r->name, be->rows[j].name);
    }
    /* the last row is the reference that takes everything with f32 activations */
    assert_int_equal(be->rows[be->n_rows - 1].act, LLMOI_ACT_F32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_table_is_well_formed),
        cmocka_unit_test(every_type_and_role_has_a_row_and_refusals_have_reasons),
        cmocka_unit_test(every_row_computes_its_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
