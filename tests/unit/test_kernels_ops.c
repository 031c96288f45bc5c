/* The CPU backend's operations other than products, through the backend's table as the engine calls them: against double
 * precision, with any number of threads, in any batch, and equal between the builds of the kernels. */
#include <stdio.h>

#include "backend.h"
#include "kernel_check.h"
#include "ref_kernels.h"

#define U 0x1p-24

static llmoi_mem mem;
static llmoi_pool *pools[3]; /* 1, 2 and 5 threads */
static const llmoi_ref_kernels *kernels[2] = {&llmoi_ref_plain, &llmoi_ref_plain};
static rng r = {33};

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels[1] = &llmoi_ref_fma;
#endif
    static const uint32_t n[] = {1, 2, 5};
    for (int i = 0; i < 3; i++) {
        if (llmoi_pool_create(&mem, n[i], NULL, NULL, &pools[i]) != LLMO_OK) return -1;
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) llmoi_pool_destroy(pools[i]);
    return llmoi_mem_total(&mem) != 0;
}

static float *random_floats(size_t n, float size) {
    float *x = aligned_bytes((n + !n) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = size * rng_normal(&r);
    return x;
}

static float *copy_floats(const float *x, size_t n) {
    float *y = aligned_bytes(n * sizeof *y);
    memcpy(y, x, n * sizeof *y);
    return y;
}

/* --- norms ---------------------------------------------------------------------------------------------------------------- */

static void norm_matches_double(void **state) {
    (void)state;
    static const uint32_t sizes[] = {1, 2, 15, 16, 17, 31, 64, 100, 256, 2048, 4097};
    for (size_t c = 0; c < sizeof sizes / sizeof *sizes * 16; c++) {
        uint32_t n = sizes[c / 16];
        float size = ldexpf(1, (int)(c % 5) * 8 - 16);
        float *x = random_floats(n, size), *w = random_floats(n, 1), *b = random_floats(n, 1), *out = guarded(n);
        llmoi_norm p = {.weight = w, .bias = c & 2 ? b : NULL, .eps = c & 4 ? 1e-5f : 0.03f, .layer = c & 1};
        double mean = 0, squares = 0, magnitude = 0;
        for (uint32_t i = 0; i < n; i++) mean += p.layer ? (double)x[i] / n : 0;
        for (uint32_t i = 0; i < n; i++) magnitude += fabs((double)x[i]) / n;
        for (uint32_t i = 0; i < n; i++) squares += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
        double scale = 1 / sqrt(squares + (double)p.eps);
        kernels[0]->norm(&p, x, out, n);
        assert_true(guards_intact(out, n));
        /* the mean is off by its chain's roundings; the sum of squares by n / 16 + 4 and half of that after the root */
        double chain = n / 16.0 + 6, mean_off = p.layer ? chain * U * magnitude : 0;
        for (uint32_t i = 0; i < n; i++) {
            double y = ((double)x[i] - mean) * scale * (double)w[i];
            double bound = fabs(y) * (chain + 8) * U +
                           fabs(scale * (double)w[i]) * (mean_off + 2 * U * fabs((double)x[i])) +
                           fabs(y) * mean_off * scale * 2;
            if (p.bias) y += (double)b[i], bound += 2 * U * (fabs(y) + fabs((double)b[i]));
            if (!(fabs((double)out[i] - y) <= bound)) {
                fail_msg("case %zu, n %u, element %u: %.9g, not %.9g +- %g", c, n, i, (double)out[i], y, bound);
            }
        }
        float *in_place = copy_floats(x, n), *fma = guarded(n);
        kernels[0]->norm(&p, in_place, in_place, n);
        kernels[1]->norm(&p, x, fma, n);
        assert_int_equal(first_difference(in_place, out, n), n);
        assert_int_equal(first_difference(fma, out, n), n);
        guarded_free(fma);
        guarded_free(out);
        free(in_place);
        free(x);
        free(w);
        free(b);
    }
}

/* --- groups: norm + products ------------------------------------------------------------------------------------------------ */

typedef struct layer {
    llmoi_site site;
    llmoi_bound bound;
    unsigned char *bytes;
} layer;

static layer random_layer(uint32_t type, uint64_t rows, uint64_t k, uint32_t experts, llmo_numerics numerics) {
    const llmoi_backend *be = llmoi_cpu_backend();
    layer l = {.site = {.type = llmoi_type_find(type),
                        .rows = rows,
                        .k = k,
                        .n_experts = experts,
                        .role = LLMOI_ROLE_GATE_UP,
                        .max_tokens = 64,
                        .numerics = numerics}};
    l.bytes = aligned_bytes(experts * rows * llmoi_row_bytes(l.site.type, k));
    random_weights(&r, l.site.type, WEIGHTS_ENCODED, l.bytes, experts * rows * k);
    l.bound = (llmoi_bound){.weight = l.bytes};
    for (uint32_t i = 0; i < be->n_rows && !l.bound.row; i++) {
        if (!be->rows[i].refuse(&l.site)) l.bound.row = &be->rows[i];
    }
    assert_non_null(l.bound.row);
    return l;
}

static llmoi_exec exec_of(int pool, const llmoi_dims *dims) {
    llmoi_exec e = {.pool = pools[pool], .dims = *dims};
    e.scratch = aligned_bytes(llmoi_cpu_backend()->scratch_bytes(dims));
    return e;
}

/* The same by its parts: norm, quantize, run, post norm, add. */
static void group_is_its_parts(void **state) {
    (void)state;
    enum { N = 9, K = 96 };
    static const uint32_t rows[3] = {40, 17, 17};
    for (int c = 0; c < 48; c++) {
        llmo_numerics numerics = c & 1 ? LLMO_NUMERICS_Q8 : LLMO_NUMERICS_F32;
        bool normed = c & 2, post = c % 3 == 1, add = c & 4;
        int n_w = post || add ? 1 : 3;
        layer l[3];
        float *x = random_floats(N * K, 1), *w = random_floats(K, 1), *pw = random_floats(40, 1);
        float *bias = random_floats(40, 1), *out[3], *want[3], *tmp = guarded(N * 40);
        llmoi_group g = {.x = x, .n_tokens = N, .k = K, .add = add, .post_tmp = tmp};
        if (normed) g.norm = (llmoi_norm){.weight = w, .eps = 1e-5f, .layer = c & 8};
        if (post) g.post = (llmoi_norm){.weight = pw, .eps = 1e-5f};
        for (int i = 0; i < n_w; i++) {
            l[i] = random_layer(i == 1 ? 0 : 8, rows[i], K, 1, numerics);
            g.w[i] = l[i].bound;
            g.w[i].site = &l[i].site;
            if (i != 2) g.w[i].bias = bias;
            out[i] = g.out[i] = guarded(N * rows[i]);
            want[i] = random_floats(N * rows[i], 1);
            memcpy(out[i], want[i], N * rows[i] * 4);
        }
        for (int t = 0; t < N; t++) {
            float h[K], y[40], d[K / 32];
            int8_t q[K];
            int16_t sum[K / 16];
            memcpy(h, x + t * K, sizeof h);
            if (normed) kernels[0]->norm(&g.norm, x + t * K, h, K);
            kernels[0]->quantize(h, q, d, sum, K);
            for (int i = 0; i < n_w; i++) {
                llmoi_matmul m = {.site = &l[i].site,
                                  .weight = l[i].bytes,
                                  .act = {h, q, d, sum},
                                  .n_tokens = 1,
                                  .bias = g.w[i].bias,
                                  .out = y,
                                  .out_stride = rows[i]};
                l[i].bound.row->run(&m, 0, rows[i]);
                if (post) kernels[0]->norm(&g.post, y, y, rows[i]);
                for (uint32_t j = 0; j < rows[i]; j++) {
                    float *o = &want[i][(uint32_t)t * rows[i] + j];
                    *o = add ? *o + y[j] : y[j];
                }
            }
        }
        llmoi_dims dims = {.n_batch = N, .max_k = K};
        llmoi_exec e = exec_of(c % 3, &dims);
        llmoi_cpu_backend()->group(&e, &g);
        for (int i = 0; i < n_w; i++) {
            assert_true(guards_intact(out[i], N * rows[i]));
            size_t at = first_difference(out[i], want[i], N * rows[i]);
            if (at < N * rows[i]) fail_msg("case %d, product %d, element %zu", c, i, at);
            guarded_free(out[i]);
            free(want[i]);
            free(l[i].bytes);
        }
        assert_true(guards_intact(tmp, N * 40));
        guarded_free(tmp);
        free(e.scratch);
        free(x);
        free(w);
        free(pw);
        free(bias);
    }
}

/* --- embed, gate_mul ------------------------------------------------------------------------------------------------------------ */

static void embed_looks_up_rows_of_every_type(void **state) {
    (void)state;
    size_t n;
    const llmoi_type_info *types = llmoi_type_table(&n);
    for (size_t i = 0; i < n; i++) {
        enum { K = 512, ROWS = 11, N = 7 };
        static const llmo_token tokens[N] = {3, 0, 10, 3, 9, 1, 10};
        size_t row_bytes = llmoi_row_bytes(&types[i], K);
        unsigned char *w = aligned_bytes(ROWS * row_bytes);
        random_weights(&r, &types[i], WEIGHTS_BLOCKS, w, ROWS * K);
        llmoi_site site = {.type = &types[i], .rows = ROWS, .k = K, .n_experts = 1, .role = LLMOI_ROLE_EMBED};
        for (int c = 0; c < 12; c++) {
            float scale = c & 1 ? 7.3f : 1.0f, want[K], *x = guarded(N * K);
            bool add = c >= 6;
            llmoi_exec e = {.pool = pools[c % 6 / 2]};
            for (int d = 0; d < N * K; d++) x[d] = add ? 0.5f : NAN;
            llmoi_cpu_backend()->embed(&e, &site, w, tokens, N, scale, add, x);
            assert_true(guards_intact(x, N * K));
            for (int t = 0; t < N; t++) {
                types[i].decode(w + (size_t)tokens[t] * row_bytes, want, K);
                for (int d = 0; d < K; d++) want[d] = add ? 0.5f + want[d] * scale : want[d] * scale;
                if (first_difference(x + t * K, want, K) < K) fail_msg("%s, token %d", types[i].name, t);
            }
            guarded_free(x);
        }
        free(w);
    }
}

/* From the published definition of gpt-oss: the gate is cut at 7, up at -7 and 7. */
static double swiglu_oai(double gate, double up) {
    double g = fmin(gate, 7), u = fmax(-7, fmin(up, 7));
    return g / (1 + exp(-1.702 * g)) * (u + 1);
}

static void swiglu_oai_matches_double(void **state) {
    (void)state;
    enum { N = 3000 };
    float *gate = random_floats(N, 6), *up = random_floats(N, 6), *out = guarded(N);
    llmoi_exec e = {.pool = pools[1]};
    llmoi_cpu_backend()->gate_mul(&e, LLMOI_ACTIVATION_SWIGLU_OAI, gate, up, out, N);
    assert_true(guards_intact(out, N));
    for (size_t i = 0; i < N; i++) {
        double want = swiglu_oai((double)gate[i], (double)up[i]);
        if (!(fabs((double)out[i] - want) <= 1e-6 * (1 + fabs(want)))) {
            fail_msg("gate %g, up %g: %g, not %g", (double)gate[i], (double)up[i], (double)out[i], want);
        }
    }
    free(gate);
    free(up);
    guarded_free(out);
}

/* Without up, the activation alone. */
static void gate_alone_is_activated(void **state) {
    (void)state;
    enum { N = 1000 };
    for (int act = LLMOI_ACTIVATION_SILU; act <= LLMOI_ACTIVATION_GELU; act++) {
        float *gate = random_floats(N, 6), *out = guarded(N), *want = random_floats(N, 1);
        llmoi_exec e = {.pool = pools[2]};
        llmoi_cpu_backend()->gate_mul(&e, (llmoi_activation)act, gate, NULL, out, N);
        for (size_t i = 0; i < N; i++) want[i] = act ? llmoi_geluf(gate[i]) : llmoi_siluf(gate[i]);
        assert_true(guards_intact(out, N));
        assert_int_equal(first_difference(out, want, N), N);
        free(gate);
        free(want);
        guarded_free(out);
    }
}

static void gather_moves_rows_down_in_place(void **state) {
    (void)state;
    enum { N = 9, K = 33 };
    static const uint32_t rows[] = {0, 3, 4, 8};
    float *x = random_floats(N * K, 1), *all = guarded(N * K), *want = guarded(N * K);
    llmoi_exec e = {.pool = pools[0]};
    llmoi_cpu_backend()->gather(&e, x, NULL, N, K, all);
    assert_int_equal(first_difference(all, x, N * K), N * K);
    for (int i = 0; i < 4; i++) memcpy(want + i * K, x + rows[i] * K, K * sizeof *x);
    llmoi_cpu_backend()->gather(&e, x, rows, 4, K, x);
    assert_int_equal(first_difference(x, want, 4 * K), 4 * K);
    llmoi_cpu_backend()->gather(&e, all, rows, 4, K, all);
    assert_int_equal(first_difference(all, want, 4 * K), 4 * K);
    assert_true(guards_intact(all, N * K));
    free(x);
    guarded_free(all);
    guarded_free(want);
}

static void gate_mul_is_the_same_for_any_threads_and_in_place(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 1000, 4096};
    for (int c = 0; c < 36; c++) {
        size_t n = sizes[c % 6];
        llmoi_activation act = c / 6 % 2 ? LLMOI_ACTIVATION_GELU : LLMOI_ACTIVATION_SILU;
        float *gate = guarded(n), *up = random_floats(n, 1);
        for (size_t i = 0; i < n; i++) gate[i] = 6 * rng_normal(&r);
        float *want = random_floats(n, 1);
        for (size_t i = 0; i < n; i++) want[i] = (act ? llmoi_geluf(gate[i]) : llmoi_siluf(gate[i])) * up[i];
        llmoi_exec e = {.pool = pools[c / 12]};
        llmoi_cpu_backend()->gate_mul(&e, act, gate, up, gate, n);
        assert_true(guards_intact(gate, n));
        assert_int_equal(first_difference(gate, want, n), n);
        guarded_free(gate);
        free(up);
        free(want);
    }
}

/* --- KV store and attention --------------------------------------------------------------------------------------------------------- */

/* One layer's pages, and sequences whose tables point at them in random order. */
enum { SEQS = 3, PAGES_EACH = 17, N_PAGES = SEQS * PAGES_EACH };

typedef struct cache {
    llmoi_attn_dims dims;
    llmoi_kv_layer kv;
    size_t bytes_k, bytes_v;
    uint32_t table[SEQS][PAGES_EACH];
} cache;

static size_t elem_bytes(llmoi_kv_elem e) {
    return e == LLMOI_KV_ELEM_F16 ? 2 : 4;
}

static cache cache_create(llmoi_attn_dims d, llmoi_kv_elem k, llmoi_kv_elem v) {
    cache c = {.dims = d};
    size_t elems = (size_t)LLMOI_PAGE_TOKENS * d.n_kv_heads * d.head_dim;
    c.kv = (llmoi_kv_layer){.k_elem = k,
                            .v_elem = v,
                            .k_page_bytes = (elems * elem_bytes(k) + 63) / 64 * 64,
                            .v_page_bytes = (elems * elem_bytes(v) + 63) / 64 * 64};
    c.bytes_k = c.kv.k_page_bytes * N_PAGES;
    c.bytes_v = c.kv.v_page_bytes * N_PAGES;
    c.kv.k = aligned_bytes(c.bytes_k); /* filled with a pattern: small values in both formats */
    c.kv.v = aligned_bytes(c.bytes_v);
    uint32_t order[N_PAGES];
    for (uint32_t i = 0; i < N_PAGES; i++) {
        uint32_t j = rng_below(&r, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    memcpy(c.table, order, sizeof order);
    return c;
}

static void cache_free(cache *c) {
    free(c->kv.k);
    free(c->kv.v);
}

/* Where an element of the cache is, written down independently: page, head, token in the page, dimension. */
static float stored(const cache *c, bool value, uint32_t seq, uint32_t pos, uint32_t head, uint32_t i) {
    const char *base = value ? c->kv.v : c->kv.k;
    size_t at = ((size_t)head * 64 + pos % 64) * c->dims.head_dim + i;
    base += (value ? c->kv.v_page_bytes : c->kv.k_page_bytes) * c->table[seq][pos / 64];
    if ((value ? c->kv.v_elem : c->kv.k_elem) == LLMOI_KV_ELEM_F32) return ((const float *)(const void *)base)[at];
    return llmoi_f16_to_f32(((const uint16_t *)(const void *)base)[at]);
}

typedef struct tokens {
    uint32_t n, seq[64], pos[64];
    const uint32_t *pages[64];
    llmoi_batch batch;
    float *q, *k, *v, *cos, *sin;
} tokens;

static void tokens_create(tokens *t, const cache *c, uint32_t n, const uint32_t *pos) {
    const llmoi_attn_dims *d = &c->dims;
    t->n = n;
    for (uint32_t i = 0; i < n; i++) {
        t->seq[i] = i % SEQS;
        t->pos[i] = pos[i];
        t->pages[i] = c->table[t->seq[i]];
    }
    t->batch = (llmoi_batch){.n_tokens = n, .pos = t->pos, .pages = t->pages};
    t->q = random_floats((size_t)n * d->n_heads * d->head_dim, 1);
    t->k = random_floats((size_t)n * d->n_kv_heads * d->head_dim, 1);
    t->v = random_floats((size_t)n * d->n_kv_heads * d->head_dim, 1);
    t->cos = random_floats((size_t)n * (d->n_rot / 2), 1);
    t->sin = random_floats((size_t)n * (d->n_rot / 2), 1);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < d->n_rot / 2; j++) {
            double angle = pos[i] * pow(10000, -2.0 * j / d->n_rot);
            t->cos[i * (d->n_rot / 2) + j] = (float)cos(angle);
            t->sin[i * (d->n_rot / 2) + j] = (float)sin(angle);
        }
    }
}

static void tokens_free(tokens *t) {
    free(t->q);
    free(t->k);
    free(t->v);
    free(t->cos);
    free(t->sin);
}

static const uint32_t border[] = {0, 1, 62, 63, 64, 65, 127, 128, 129, 191, 192, 1000, 1023, 1024, 500};
#define N_BORDER (sizeof border / sizeof *border)

/* Complex rotation in double: (x_a + i x_b) * e^(i angle). */
static void rotate(const llmoi_attn_dims *d, double *x, double pos) {
    for (uint32_t j = 0; d->rope != LLMOI_ROPE_NONE && j < d->n_rot / 2; j++) {
        uint32_t a = d->rope == LLMOI_ROPE_PAIRS ? 2 * j : j,
                 b = d->rope == LLMOI_ROPE_PAIRS ? a + 1 : a + d->n_rot / 2;
        double angle = pos * pow(10000, -2.0 * j / d->n_rot), re = x[a], im = x[b];
        x[a] = re * cos(angle) - im * sin(angle);
        x[b] = re * sin(angle) + im * cos(angle);
    }
}

/* A head's vector after norm and rotation, in double. */
static void exact_head(const llmoi_attn_dims *d, const llmoi_norm *norm, const float *x, uint32_t pos, double *out) {
    double squares = 0;
    for (uint32_t i = 0; i < d->head_dim; i++) squares += (double)x[i] * (double)x[i] / d->head_dim;
    for (uint32_t i = 0; i < d->head_dim; i++) {
        out[i] =
            norm->weight ? (double)x[i] / sqrt(squares + (double)norm->eps) * (double)norm->weight[i] : (double)x[i];
    }
    rotate(d, out, pos);
}

static void qkv_store_norms_rotates_and_stores(void **state) {
    (void)state;
    for (int c = 0; c < 24; c++) {
        llmoi_attn_dims d = {.n_heads = 4,
                             .n_kv_heads = 2,
                             .head_dim = c % 2 ? 24 : 32,
                             .n_rot = c % 4 < 2 ? 24 : 10,
                             .rope = (llmoi_rope_kind)(c % 3),
                             .scale = 1};
        cache a = cache_create(d, c / 3 % 2 ? LLMOI_KV_ELEM_F32 : LLMOI_KV_ELEM_F16,
                               c / 6 % 2 ? LLMOI_KV_ELEM_F32 : LLMOI_KV_ELEM_F16);
        unsigned char *seen_k = aligned_bytes(a.bytes_k);
        memcpy(seen_k, a.kv.k, a.bytes_k);
        tokens t;
        tokens_create(&t, &a, N_BORDER, border);
        float *qw = random_floats(d.head_dim, 1), *kw = random_floats(d.head_dim, 1);
        size_t nq = N_BORDER * d.n_heads * d.head_dim, nk = N_BORDER * d.n_kv_heads * d.head_dim;
        float *q0 = copy_floats(t.q, nq), *k0 = copy_floats(t.k, nk), *v0 = copy_floats(t.v, nk);
        llmoi_qkv_store s = {
            .dims = &a.dims, .batch = &t.batch, .q = t.q, .k = t.k, .v = t.v, .cos = t.cos, .sin = t.sin, .kv = &a.kv};
        if (c % 2)
            s.q_norm = (llmoi_norm){.weight = qw, .eps = 1e-6f}, s.k_norm = (llmoi_norm){.weight = kw, .eps = 1e-6f};
        llmoi_exec e = {.pool = pools[c % 3]};
        llmoi_cpu_backend()->qkv_store(&e, &s);
        size_t written = 0;
        for (uint32_t i = 0; i < N_BORDER; i++) {
            double x[32];
            for (uint32_t h = 0; h < d.n_heads; h++) {
                size_t at = ((size_t)i * d.n_heads + h) * d.head_dim;
                exact_head(&d, &s.q_norm, q0 + at, t.pos[i], x);
                for (uint32_t j = 0; j < d.head_dim; j++) assert_true(fabs((double)t.q[at + j] - x[j]) < 2e-6);
            }
            for (uint32_t h = 0; h < d.n_kv_heads; h++) {
                size_t at = ((size_t)i * d.n_kv_heads + h) * d.head_dim;
                exact_head(&d, &s.k_norm, k0 + at, t.pos[i], x);
                for (uint32_t j = 0; j < d.head_dim; j++) {
                    double half = a.kv.k_elem == LLMOI_KV_ELEM_F16 ? fabs(x[j]) * 0x1p-11 + 0x1p-25 : 0;
                    assert_true(fabs((double)stored(&a, false, t.seq[i], t.pos[i], h, j) - x[j]) < 2e-6 + half);
                    float v = v0[at + j];
                    if (a.kv.v_elem == LLMOI_KV_ELEM_F16) v = llmoi_f16_to_f32(llmoi_f32_to_f16(v));
                    assert_true(same_float(stored(&a, true, t.seq[i], t.pos[i], h, j), v));
                    written += elem_bytes(a.kv.k_elem);
                }
            }
        }
        /* nothing else in the pages was touched */
        size_t changed = 0;
        for (size_t i = 0; i < a.bytes_k; i++) changed += ((unsigned char *)a.kv.k)[i] != seen_k[i];
        assert_true(changed <= written && changed > written / 2);
        assert_int_equal(first_difference(t.v, v0, nk), nk);
        /* the other build, and each token alone, give the same bits */
        float *q1 = copy_floats(t.q, nq);
        unsigned char *k1 = aligned_bytes(a.bytes_k);
        memcpy(k1, a.kv.k, a.bytes_k);
        memcpy(t.q, q0, nq * 4);
        memcpy(t.k, k0, nk * 4);
        for (uint32_t i = N_BORDER; i > 0; i--) kernels[c & 1]->qkv_store(&s, i - 1);
        assert_int_equal(first_difference(t.q, q1, nq), nq);
        assert_memory_equal(a.kv.k, k1, a.bytes_k);
        free(q0), free(k0), free(v0), free(q1), free(k1), free(qw), free(kw), free(seen_k);
        tokens_free(&t);
        cache_free(&a);
    }
}

/* Fills all positions of all sequences with random keys and values. */
static void fill_cache(cache *c) {
    for (uint32_t p = 0; p < N_PAGES; p++) {
        for (uint32_t i = 0; i < LLMOI_PAGE_TOKENS * c->dims.n_kv_heads * c->dims.head_dim; i++) {
            char *k = (char *)c->kv.k + p * c->kv.k_page_bytes, *v = (char *)c->kv.v + p * c->kv.v_page_bytes;
            float a = 1.5f * rng_normal(&r), b = rng_normal(&r);
            if (c->kv.k_elem == LLMOI_KV_ELEM_F32)
                ((float *)(void *)k)[i] = a;
            else
                ((uint16_t *)(void *)k)[i] = llmoi_f32_to_f16(a);
            if (c->kv.v_elem == LLMOI_KV_ELEM_F32)
                ((float *)(void *)v)[i] = b;
            else
                ((uint16_t *)(void *)v)[i] = llmoi_f32_to_f16(b);
        }
    }
}

/* Softmax over all that a query sees, in one go and in double. *bound: scores are off by their chain and exp, which
 * moves each weight by that factor. */
static void exact_attend(const cache *c, const tokens *t, uint32_t i, uint32_t head, const float *sinks, double *out,
                         double *bound) {
    const llmoi_attn_dims *d = &c->dims;
    const float *q = t->q + ((size_t)i * d->n_heads + head) * d->head_dim;
    uint32_t pos = t->pos[i], kv_head = head * d->n_kv_heads / d->n_heads;
    uint32_t first = d->window && pos + 1 > d->window ? pos + 1 - d->window : 0;
    double score[1100], best = -INFINITY, off = 0, total = 0, size = 0;
    for (uint32_t p = first; p <= pos; p++) {
        double s = 0, terms = 0;
        for (uint32_t j = 0; j < d->head_dim; j++) {
            double term = (double)q[j] * (double)stored(c, false, t->seq[i], p, kv_head, j);
            s += term;
            terms += fabs(term);
        }
        s *= (double)d->scale;
        double s_off = (d->head_dim + 2) * U * terms * (double)d->scale;
        if (d->soft_cap > 0) {
            s = (double)d->soft_cap * tanh(s / (double)d->soft_cap);
            s_off += (double)d->soft_cap * 0x1p-22;
        }
        score[p] = s;
        best = fmax(best, s);
        off = fmax(off, s_off);
    }
    for (uint32_t p = first; p <= pos; p++) total += exp(score[p] - best);
    if (sinks) total += exp((double)sinks[head] - best); /* takes its share, gives nothing */
    for (uint32_t j = 0; j < d->head_dim; j++) out[j] = 0;
    for (uint32_t p = first; p <= pos; p++) {
        for (uint32_t j = 0; j < d->head_dim; j++) {
            double v = stored(c, true, t->seq[i], p, kv_head, j);
            out[j] += exp(score[p] - best) / total * v;
            size = fmax(size, fabs(v));
        }
    }
    /* weight errors: score, exp (1 ulp and its argument's rounding), chains of 64 within and 17 across pages, twice */
    *bound = size * 2 * (off + 60 * U + (64 + 2 * 17 + 20) * U);
}

static void attend_matches_double(void **state) {
    (void)state;
    static const uint32_t heads[][2] = {{1, 1}, {4, 4}, {4, 2}, {6, 1}, {8, 2}}, dims[] = {8, 24, 64};
    static const uint32_t windows[] = {0, 1, 63, 64, 65, 100, 5000};
    for (uint32_t c = 0; c < 42; c++) {
        llmoi_attn_dims d = {.n_heads = heads[c % 5][0],
                             .n_kv_heads = heads[c % 5][1],
                             .head_dim = dims[c % 3],
                             .scale = 0.3f,
                             .soft_cap = c % 4 == 1 ? 3.0f : 0,
                             .window = windows[c % 7]};
        cache a = cache_create(d, c & 1 ? LLMOI_KV_ELEM_F32 : LLMOI_KV_ELEM_F16,
                               c & 2 ? LLMOI_KV_ELEM_F32 : LLMOI_KV_ELEM_F16);
        fill_cache(&a);
        tokens t;
        tokens_create(&t, &a, N_BORDER, border);
        if (c % 6 == 5) { /* sharp: one key takes nearly all */
            for (size_t i = 0; i < (size_t)N_BORDER * d.n_heads * d.head_dim; i++) t.q[i] *= 20;
        }
        size_t n = (size_t)N_BORDER * d.n_heads * d.head_dim;
        float *out = guarded(n), *again = guarded(n);
        static const float all_sinks[] = {1, -20, 3, 30, 0, -1, 2, 8};
        const float *sinks = c % 5 == 3 ? all_sinks : NULL;
        llmoi_attend call = {.dims = &a.dims, .batch = &t.batch, .q = t.q, .kv = &a.kv, .sinks = sinks, .out = out};
        llmoi_exec e = {.pool = pools[c % 3]};
        llmoi_cpu_backend()->attend(&e, &call);
        assert_true(guards_intact(out, n));
        for (uint32_t i = 0; i < N_BORDER; i++) {
            for (uint32_t h = 0; h < d.n_heads; h++) {
                double want[64], bound;
                exact_attend(&a, &t, i, h, sinks, want, &bound);
                const float *got = out + ((size_t)i * d.n_heads + h) * d.head_dim;
                for (uint32_t j = 0; j < d.head_dim; j++) {
                    if (!(fabs((double)got[j] - want[j]) <= bound)) {
                        fail_msg("case %u, position %u, head %u: %.9g, not %.9g +- %g", c, t.pos[i], h, (double)got[j],
                                 want[j], bound);
                    }
                }
            }
        }
        /* the other build, and every token in a batch of its own */
        call.out = again;
        for (uint32_t i = 0; i < N_BORDER * d.n_heads; i++) kernels[0]->attend(&call, i / d.n_heads, i % d.n_heads);
        assert_int_equal(first_difference(out, again, n), n);
        for (uint32_t i = 0; i < N_BORDER; i++) {
            llmoi_batch one = {.n_tokens = 1, .pos = t.pos + i, .pages = t.pages + i};
            size_t at = (size_t)i * d.n_heads * d.head_dim, len = (size_t)d.n_heads * d.head_dim;
            float *alone = guarded(len);
            llmoi_attend single = {
                .dims = &a.dims, .batch = &one, .q = t.q + at, .kv = &a.kv, .sinks = sinks, .out = alone};
            e.pool = pools[(c + i) % 3];
            llmoi_cpu_backend()->attend(&e, &single);
            assert_true(guards_intact(alone, len));
            assert_int_equal(first_difference(alone, out + at, len), len);
            guarded_free(alone);
        }
        guarded_free(out);
        guarded_free(again);
        tokens_free(&t);
        cache_free(&a);
    }
}

/* What lies after a query's position, or before its window, has no influence, whatever its bits are. */
static void attend_reads_only_what_a_query_sees(void **state) {
    (void)state;
    llmoi_attn_dims d = {.n_heads = 2, .n_kv_heads = 1, .head_dim = 16, .scale = 0.25f, .window = 70};
    for (uint32_t b = 0; b < N_BORDER; b++) {
        cache a = cache_create(d, LLMOI_KV_ELEM_F32, LLMOI_KV_ELEM_F16);
        fill_cache(&a);
        tokens t;
        tokens_create(&t, &a, 1, &border[b]);
        float before[32], after[32];
        llmoi_attend call = {.dims = &a.dims, .batch = &t.batch, .q = t.q, .kv = &a.kv, .out = before};
        llmoi_exec e = {.pool = pools[0]};
        llmoi_cpu_backend()->attend(&e, &call);
        for (uint32_t p = 0; p < N_PAGES; p++) {
            for (uint32_t s = 0; s < 64; s++) {
                bool sees = false;
                for (uint32_t k = 0; k < PAGES_EACH; k++) {
                    uint32_t pos = k * 64 + s;
                    sees = sees || (a.table[0][k] == p && pos <= border[b] && pos + 70 > border[b]);
                }
                if (sees) continue;
                memset((char *)a.kv.k + p * a.kv.k_page_bytes + s * 16 * 4, 0xff, 16 * 4); /* NaN */
                memset((char *)a.kv.v + p * a.kv.v_page_bytes + s * 16 * 2, 0xff, 16 * 2);
            }
        }
        call.out = after;
        llmoi_cpu_backend()->attend(&e, &call);
        assert_memory_equal(before, after, sizeof before);
        for (int i = 0; i < 32; i++) assert_true(isfinite(after[i]));
        tokens_free(&t);
        cache_free(&a);
    }
}

static void copy_page_copies_one_page(void **state) {
    (void)state;
    llmoi_attn_dims d = {.n_heads = 2, .n_kv_heads = 2, .head_dim = 24};
    cache a = cache_create(d, LLMOI_KV_ELEM_F32, LLMOI_KV_ELEM_F16);
    fill_cache(&a);
    unsigned char *k = aligned_bytes(a.bytes_k), *v = aligned_bytes(a.bytes_v);
    memcpy(k, a.kv.k, a.bytes_k);
    memcpy(v, a.kv.v, a.bytes_v);
    llmoi_cpu_backend()->copy_page(&a.kv, 5, 40);
    memcpy(k + 40 * a.kv.k_page_bytes, k + 5 * a.kv.k_page_bytes, a.kv.k_page_bytes);
    memcpy(v + 40 * a.kv.v_page_bytes, v + 5 * a.kv.v_page_bytes, a.kv.v_page_bytes);
    assert_memory_equal(a.kv.k, k, a.bytes_k);
    assert_memory_equal(a.kv.v, v, a.bytes_v);
    free(k), free(v);
    cache_free(&a);
}

/* --- experts --------------------------------------------------------------------------------------------------------------------------- */

enum { MK = 64, MFF = 96, ME = 6, MT = 13 };

static void decode_matrix(const layer *l, uint32_t expert, double *w) {
    float row[MFF];
    for (uint64_t i = 0; i < l->site.rows; i++) {
        l->site.type->decode(l->bytes + (expert * l->site.rows + i) * llmoi_row_bytes(l->site.type, l->site.k), row,
                             l->site.k);
        for (uint64_t j = 0; j < l->site.k; j++) w[i * l->site.k + j] = row[j];
    }
}

static void multiply(const layer *l, uint32_t expert, const double *x, double *y) {
    static double w[MFF * MK];
    decode_matrix(l, expert, w);
    for (uint64_t i = 0; i < l->site.rows; i++) {
        y[i] = l->bound.bias ? (double)l->bound.bias[expert * l->site.rows + i] : 0;
        for (uint64_t j = 0; j < l->site.k; j++) y[i] += w[i * l->site.k + j] * x[j];
    }
}

/* The layer's definition in double: softmax, the largest (first index wins a tie), shares renormalized. */
static void exact_moe(const llmoi_moe *m, const layer *l, const float *x, double *out) {
    double h[MK], score[ME], squares = 0, total = 0, gate[MFF], up[MFF], y[MK];
    for (int i = 0; i < MK; i++) squares += (double)x[i] * (double)x[i] / MK;
    for (int i = 0; i < MK; i++) h[i] = (double)x[i] / sqrt(squares + (double)m->norm.eps) * (double)m->norm.weight[i];
    multiply(&l[0], 0, h, score);
    bool used[ME] = {false};
    for (uint32_t u = 0; u < m->n_used; u++) {
        int best = -1;
        for (int i = 0; i < ME; i++) {
            if (!used[i] && (best < 0 || score[i] > score[best])) best = i;
        }
        used[best] = true;
        total += exp(score[best]);
    }
    for (int i = 0; i < MK; i++) out[i] = x[i];
    for (uint32_t e = 0; e < ME; e++) {
        if (!used[e]) continue;
        multiply(&l[1], e, h, gate);
        multiply(&l[2], e, h, up);
        for (int i = 0; i < MFF; i++) {
            double g = gate[i], tanh_arg = 0.7978845608028654 * (g + 0.044715 * g * g * g);
            gate[i] =
                (m->activation == LLMOI_ACTIVATION_SILU ? g / (1 + exp(-g)) : 0.5 * g * (1 + tanh(tanh_arg))) * up[i];
        }
        multiply(&l[3], e, gate, y);
        for (int i = 0; i < MK; i++) out[i] += exp(score[e]) / total * y[i];
    }
}

static void moe_matches_double(void **state) {
    (void)state;
    for (int c = 0; c < 24; c++) {
        bool ties = c % 4 == 3, q8 = c % 5 == 4;
        llmo_numerics numerics = q8 ? LLMO_NUMERICS_Q8 : LLMO_NUMERICS_F32;
        layer l[4] = {random_layer(0, ME, MK, 1, numerics), random_layer(8, MFF, MK, ME, numerics),
                      random_layer(8, MFF, MK, ME, numerics), random_layer(8, MK, MFF, ME, numerics)};
        for (int i = 0; i < ME * MK; i++) ((float *)(void *)l[0].bytes)[i] *= 20; /* clear choices */
        if (ties) {                                                               /* experts 1, 3 and 4 score alike */
            float *w = (float *)(void *)l[0].bytes;
            memcpy(w + 3 * MK, w + 1 * MK, MK * 4);
            memcpy(w + 4 * MK, w + 1 * MK, MK * 4);
        }
        float *bias = random_floats(ME * MFF, 0.3f); /* of each expert its own */
        for (int i = 0; i < 4; i++) {
            l[i].bound.site = &l[i].site;
            if (i && c % 3 == 1) l[i].bound.bias = bias;
        }
        float *x = random_floats(MT * MK, 1), *nw = random_floats(MK, 1), *got = guarded(MT * MK);
        memcpy(got, x, MT * MK * 4);
        llmoi_moe m = {.x = got,
                       .n_tokens = MT,
                       .k = MK,
                       .n_ff = MFF,
                       .n_experts = ME,
                       .n_used = 1 + (uint32_t)c % ME,
                       .norm = {.weight = nw, .eps = 1e-5f},
                       .router = l[0].bound,
                       .gate = l[1].bound,
                       .up = l[2].bound,
                       .down = l[3].bound,
                       .activation = c & 1 ? LLMOI_ACTIVATION_GELU : LLMOI_ACTIVATION_SILU};
        llmoi_dims dims = {
            .n_batch = MT, .max_k = MFF, .n_embd = MK, .n_ff = MFF, .n_experts = ME, .n_experts_used = m.n_used};
        llmoi_exec e = exec_of(c % 3, &dims);
        llmoi_cpu_backend()->moe(&e, &m);
        assert_true(guards_intact(got, MT * MK));
        for (int t = 0; t < MT; t++) {
            double want[MK];
            exact_moe(&m, l, x + t * MK, want);
            for (int i = 0; i < MK; i++) {
                /* three products of up to 96 terms and two activations: far below, unless an expert was mistaken */
                double bound = q8 ? 0.05 : 2e-5 * fmax(1, fabs(want[i]));
                if (!(fabs((double)got[t * MK + i] - want[i]) <= bound)) {
                    fail_msg("case %d, token %d: %.9g, not %.9g", c, t, (double)got[t * MK + i], want[i]);
                }
            }
            /* alone, the same bits */
            float *alone = guarded(MK);
            memcpy(alone, x + t * MK, MK * 4);
            llmoi_moe one = m;
            one.x = alone;
            one.n_tokens = 1;
            llmoi_cpu_backend()->moe(&e, &one);
            assert_true(guards_intact(alone, MK));
            assert_int_equal(first_difference(alone, got + t * MK, MK), MK);
            guarded_free(alone);
        }
        /* a token of NaN stays alone with it */
        float *with_nan = guarded(MT * MK);
        memcpy(with_nan, x, MT * MK * 4);
        with_nan[5 * MK + 3] = NAN;
        m.x = with_nan;
        llmoi_cpu_backend()->moe(&e, &m);
        for (int i = 0; i < MT * MK; i++) {
            if (i / MK == 5)
                assert_true(isnan(with_nan[i]));
            else
                assert_true(same_float(with_nan[i], got[i]));
        }
        guarded_free(with_nan);
        guarded_free(got);
        free(e.scratch), free(x), free(nw), free(bias);
        for (int i = 0; i < 4; i++) free(l[i].bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_matches_double),
        cmocka_unit_test(group_is_its_parts),
        cmocka_unit_test(embed_looks_up_rows_of_every_type),
        cmocka_unit_test(swiglu_oai_matches_double),
        cmocka_unit_test(gate_alone_is_activated),
        cmocka_unit_test(gather_moves_rows_down_in_place),
        cmocka_unit_test(gate_mul_is_the_same_for_any_threads_and_in_place),
        cmocka_unit_test(qkv_store_norms_rotates_and_stores),
        cmocka_unit_test(attend_matches_double),
        cmocka_unit_test(attend_reads_only_what_a_query_sees),
        cmocka_unit_test(copy_page_copies_one_page),
        cmocka_unit_test(moe_matches_double),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
