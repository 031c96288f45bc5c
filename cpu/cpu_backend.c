/* The CPU backend: cuts each operation into parts for the thread pool and calls kernels. No arithmetic of its own. */
#include <string.h>

#include "cpu_features.h"
#include "cpu_rows.h"
#include "os.h"

static const llmoi_ref_kernels *kernels(void) {
#if defined(__x86_64__)
    if (llmoi_cpu_has_fma()) return &llmoi_ref_fma;
#endif
    return &llmoi_ref_plain;
}

/* --- scratch ---------------------------------------------------------------------------------------------------- */

typedef struct scratch {
    float *normed;    /* (n_batch, max_k) */
    int8_t *q;        /* (n_batch, max_k) */
    float *scale;     /* (n_batch, max_k / 32) */
    int16_t *sum16;   /* (n_batch, max_k / 16) */
    float *router;    /* (n_batch, n_experts) */
    uint32_t *expert; /* (n_batch, n_experts_used) chosen experts, ascending */
    float *share;     /* (n_batch, n_experts_used) their weights */
    uint32_t *list;   /* (n_batch) tokens of the expert at hand */
    float *list_share;
    float *moe_x;    /* (n_batch, n_embd) */
    float *moe_in;   /* (n_batch, n_embd) rows gathered for one expert */
    float *moe_gate; /* (n_batch, n_ff) */
    float *moe_up;
    float *moe_out; /* (n_batch, n_embd) */
} scratch;

static void *carve(uintptr_t *at, size_t bytes) {
    uintptr_t p = *at;
    *at += (bytes + 63) / 64 * 64;
    return (void *)p;
}

/* Lays the scratch out from base and returns its size; the one place that knows it. */
static size_t scratch_layout(const llmoi_dims *d, void *base, scratch *s) {
    uintptr_t at = (uintptr_t)base;
    size_t n = d->n_batch, k = ((size_t)d->max_k + 31) / 32 * 32;
    s->normed = carve(&at, n * k * sizeof(float));
    s->q = carve(&at, n * k);
    s->scale = carve(&at, n * k / 32 * sizeof(float));
    s->sum16 = carve(&at, n * k / 16 * sizeof(int16_t));
    n = d->n_experts ? n : 0; /* the rest takes nothing in a dense model */
    s->router = carve(&at, n * d->n_experts * sizeof(float));
    s->expert = carve(&at, n * d->n_experts_used * sizeof(uint32_t));
    s->share = carve(&at, n * d->n_experts_used * sizeof(float));
    s->list = carve(&at, n * sizeof(uint32_t));
    s->list_share = carve(&at, n * sizeof(float));
    s->moe_x = carve(&at, n * d->n_embd * sizeof(float));
    s->moe_in = carve(&at, n * d->n_embd * sizeof(float));
    s->moe_gate = carve(&at, n * d->n_ff * sizeof(float));
    s->moe_up = carve(&at, n * d->n_ff * sizeof(float));
    s->moe_out = carve(&at, n * d->n_embd * sizeof(float));
    return (size_t)(at - (uintptr_t)base);
}

static size_t scratch_bytes(const llmoi_dims *dims) {
    scratch s;
    return scratch_layout(dims, NULL, &s);
}

/* --- embed ------------------------------------------------------------------------------------------------------ */

typedef struct embed_job {
    const llmoi_site *site;
    const void *weight;
    const llmo_token *tokens;
    uint32_t n_tokens;
    float scale;
    bool add;
    float *x;
} embed_job;

static void embed_part(void *arg, uint32_t index, uint32_t n_threads) {
    const embed_job *j = arg;
    enum { PIECE = 256 }; /* elements at a time, a multiple of every block length */
    uint64_t begin, end;
    llmoi_split(j->n_tokens, 1, index, n_threads, &begin, &end);
    size_t row_bytes = llmoi_row_bytes(j->site->type, j->site->k);
    float piece[PIECE];
    for (uint64_t t = begin; t < end; t++) {
        const char *row = (const char *)j->weight + (size_t)j->tokens[t] * row_bytes;
        float *x = j->x + t * j->site->k;
        for (uint64_t from = 0; from < j->site->k; from += PIECE) {
            size_t n = j->site->k - from < PIECE ? (size_t)(j->site->k - from) : PIECE;
            j->site->type->decode(row + llmoi_row_bytes(j->site->type, from), piece, n);
            for (size_t i = 0; i < n; i++) {
                float y = piece[i] * j->scale;
                x[from + i] = j->add ? x[from + i] + y : y;
            }
        }
    }
}

static void embed(const llmoi_exec *e, const llmoi_site *site, const void *weight, const llmo_token *tokens,
                  uint32_t n_tokens, float scale, bool add, float *x) {
    embed_job j = {site, weight, tokens, n_tokens, scale, add, x};
    llmoi_pool_run(e->pool, embed_part, &j);
}

static void gather(const llmoi_exec *e, const float *x, const uint32_t *rows, uint32_t n, uint32_t k, float *out) {
    (void)e;                           /* a copy, too little to share out */
    for (uint32_t i = 0; i < n; i++) { /* rows ascend, so moving them down in place is safe */
        memmove(out + (size_t)i * k, x + (size_t)(rows ? rows[i] : i) * k, k * sizeof *x);
    }
}

/* --- norm + products -------------------------------------------------------------------------------------------- */

typedef struct group_job {
    const llmoi_group *g;
    scratch s;
    bool need_q8;
    const float *x; /* input of the products: normed, or as it came */
} group_job;

static void prepare_part(void *arg, uint32_t index, uint32_t n_threads) {
    const group_job *j = arg;
    const llmoi_group *g = j->g;
    uint64_t begin, end;
    llmoi_split(g->n_tokens, 1, index, n_threads, &begin, &end);
    for (uint64_t t = begin; t < end; t++) {
        size_t at = t * g->k;
        if (g->norm.weight) kernels()->norm(&g->norm, g->x + at, j->s.normed + at, g->k);
        if (j->need_q8) kernels()->quantize(j->x + at, j->s.q + at, j->s.scale + at / 32, j->s.sum16 + at / 16, g->k);
    }
}

static void products_part(void *arg, uint32_t index, uint32_t n_threads) {
    const group_job *j = arg;
    const llmoi_group *g = j->g;
    for (uint32_t i = 0; i < LLMOI_GROUP_MAX; i++) {
        const llmoi_bound *w = &g->w[i];
        if (!w->site) continue;
        bool post = g->post.weight != NULL;
        llmoi_matmul m = {
            .site = w->site,
            .weight = w->weight,
            .act = {j->x, j->s.q, j->s.scale, j->s.sum16},
            .n_tokens = g->n_tokens,
            .bias = w->bias,
            .add = g->add && !post,
            .out = post ? g->post_tmp : g->out[i],
            .out_stride = (size_t)w->site->rows,
        };
        uint64_t begin, end;
        llmoi_split(w->site->rows, w->row->row_step, index, n_threads, &begin, &end);
        if (begin < end) w->row->run(&m, begin, end);
    }
}

static void post_part(void *arg, uint32_t index, uint32_t n_threads) {
    const group_job *j = arg;
    const llmoi_group *g = j->g;
    uint32_t n = (uint32_t)g->w[0].site->rows;
    uint64_t begin, end;
    llmoi_split(g->n_tokens, 1, index, n_threads, &begin, &end);
    for (uint64_t t = begin; t < end; t++) {
        float *y = g->post_tmp + t * n;
        float *out = g->out[0] + t * n;
        kernels()->norm(&g->post, y, y, n);
        for (uint32_t i = 0; i < n; i++) out[i] = g->add ? out[i] + y[i] : y[i];
    }
}

static void group(const llmoi_exec *e, const llmoi_group *g) {
    group_job j = {.g = g, .x = g->x};
    (void)scratch_layout(&e->dims, e->scratch, &j.s);
    for (uint32_t i = 0; i < LLMOI_GROUP_MAX; i++) {
        if (g->w[i].site && g->w[i].row->act == LLMOI_ACT_Q8) j.need_q8 = true;
    }
    if (g->norm.weight) j.x = j.s.normed;
    if (g->norm.weight || j.need_q8) llmoi_pool_run(e->pool, prepare_part, &j);
    llmoi_pool_run(e->pool, products_part, &j);
    if (g->post.weight) llmoi_pool_run(e->pool, post_part, &j);
}

/* --- attention -------------------------------------------------------------------------------------------------- */

static void store_part(void *arg, uint32_t index, uint32_t n_threads) {
    const llmoi_qkv_store *s = arg;
    uint64_t begin, end;
    llmoi_split(s->batch->n_tokens, 1, index, n_threads, &begin, &end);
    for (uint64_t t = begin; t < end; t++) kernels()->qkv_store(s, (uint32_t)t);
}

static void qkv_store(const llmoi_exec *e, const llmoi_qkv_store *s) {
    llmoi_pool_run(e->pool, store_part, (void *)(uintptr_t)s);
}

static void attend_part(void *arg, uint32_t index, uint32_t n_threads) {
    const llmoi_attend *a = arg;
    uint64_t n_heads = a->dims->n_heads;
    /* dealt out like cards: later tokens of a prompt have more to read, so contiguous shares would be uneven */
    for (uint64_t i = index; i < a->batch->n_tokens * n_heads; i += n_threads) {
        kernels()->attend(a, (uint32_t)(i / n_heads), (uint32_t)(i % n_heads));
    }
}

static void attend(const llmoi_exec *e, const llmoi_attend *a) {
    llmoi_pool_run(e->pool, attend_part, (void *)(uintptr_t)a);
}

static void copy_page(const llmoi_kv_layer *kv, uint32_t from, uint32_t to) {
    memcpy((char *)kv->k + to * kv->k_page_bytes, (const char *)kv->k + from * kv->k_page_bytes, kv->k_page_bytes);
    memcpy((char *)kv->v + to * kv->v_page_bytes, (const char *)kv->v + from * kv->v_page_bytes, kv->v_page_bytes);
}

/* --- activation, experts ---------------------------------------------------------------------------------------- */

typedef struct gate_job {
    llmoi_activation act;
    const float *gate, *up;
    float *out;
    size_t n;
} gate_job;

static void gate_part(void *arg, uint32_t index, uint32_t n_threads) {
    const gate_job *j = arg;
    uint64_t begin, end;
    llmoi_split(j->n, 64, index, n_threads, &begin, &end);
    if (begin < end) kernels()->gate_mul(j->act, j->gate, j->up, j->out, (size_t)begin, (size_t)end);
}

static void gate_mul(const llmoi_exec *e, llmoi_activation act, const float *gate, const float *up, float *out,
                     size_t n) {
    gate_job j = {act, gate, up, out, n};
    llmoi_pool_run(e->pool, gate_part, &j);
}

typedef struct cap_job {
    float *x;
    size_t n;
    float cap;
} cap_job;

static void cap_part(void *arg, uint32_t index, uint32_t n_threads) {
    const cap_job *j = arg;
    uint64_t begin, end;
    llmoi_split(j->n, 64, index, n_threads, &begin, &end);
    if (begin < end) kernels()->soft_cap(j->x, j->cap, (size_t)begin, (size_t)end);
}

static void soft_cap(const llmoi_exec *e, float *x, size_t n, float cap) {
    cap_job j = {x, n, cap};
    llmoi_pool_run(e->pool, cap_part, &j);
}

/* Softmax over the router's scores, the n_used largest (first index wins a tie), weights renormalized to sum to 1; the
 * chosen experts are left in ascending order. */
static void choose_experts(float *score, uint32_t n_experts, uint32_t n_used, uint32_t *expert, float *share) {
    float best = score[0];
    for (uint32_t i = 1; i < n_experts; i++) best = score[i] > best ? score[i] : best;
    for (uint32_t i = 0; i < n_experts; i++) score[i] = llmoi_expf(score[i] - best);
    for (uint32_t u = 0; u < n_used; u++) {
        uint32_t pick = UINT32_MAX;
        for (uint32_t i = 0; i < n_experts; i++) {
            bool taken = false;
            for (uint32_t v = 0; v < u; v++) taken = taken || expert[v] == i;
            if (!taken && (pick == UINT32_MAX || score[i] > score[pick])) pick = i;
        }
        uint32_t at = u; /* insertion keeps the list ascending */
        for (; at > 0 && expert[at - 1] > pick; at--) expert[at] = expert[at - 1];
        expert[at] = pick;
    }
    float sum = 0.0f;
    for (uint32_t u = 0; u < n_used; u++) sum += score[expert[u]];
    for (uint32_t u = 0; u < n_used; u++) share[u] = score[expert[u]] / sum;
}

/* The expert's slice of a 3-D weight. */
static llmoi_bound expert_of(const llmoi_bound *w, uint32_t expert) {
    llmoi_bound b = *w;
    b.weight = (const char *)w->weight + expert * w->row->weight_bytes(w->site);
    if (w->bias) b.bias = w->bias + expert * w->site->rows;
    return b;
}

static void run_expert(const llmoi_exec *e, const llmoi_moe *m, const scratch *s, uint32_t expert, uint32_t n) {
    llmoi_group gate_up = {.x = s->moe_in, .n_tokens = n, .k = m->k};
    gate_up.w[0] = expert_of(&m->gate, expert);
    gate_up.w[1] = expert_of(&m->up, expert);
    gate_up.out[0] = s->moe_gate;
    gate_up.out[1] = s->moe_up;
    group(e, &gate_up);
    gate_mul(e, m->activation, s->moe_gate, s->moe_up, s->moe_gate, (size_t)n * m->n_ff);
    llmoi_group down = {.x = s->moe_gate, .n_tokens = n, .k = m->n_ff};
    down.w[0] = expert_of(&m->down, expert);
    down.out[0] = s->moe_out;
    group(e, &down);
}

static void moe(const llmoi_exec *e, const llmoi_moe *m) {
    scratch s;
    (void)scratch_layout(&e->dims, e->scratch, &s);
    for (uint32_t t = 0; t < m->n_tokens; t++) {
        kernels()->norm(&m->norm, m->x + (size_t)t * m->k, s.moe_x + (size_t)t * m->k, m->k);
    }
    llmoi_group router = {.x = s.moe_x, .n_tokens = m->n_tokens, .k = m->k};
    router.w[0] = m->router;
    router.out[0] = s.router;
    group(e, &router);
    for (uint32_t t = 0; t < m->n_tokens; t++) {
        choose_experts(s.router + (size_t)t * m->n_experts, m->n_experts, m->n_used, s.expert + (size_t)t * m->n_used,
                       s.share + (size_t)t * m->n_used);
    }
    for (uint32_t x = 0; x < m->n_experts; x++) {
        uint32_t n = 0;
        for (uint32_t t = 0; t < m->n_tokens; t++) {
            for (uint32_t u = 0; u < m->n_used; u++) {
                if (s.expert[(size_t)t * m->n_used + u] != x) continue;
                s.list[n] = t;
                s.list_share[n] = s.share[(size_t)t * m->n_used + u];
                memcpy(s.moe_in + (size_t)n * m->k, s.moe_x + (size_t)t * m->k, m->k * sizeof(float));
                n++;
            }
        }
        if (!n) continue;
        run_expert(e, m, &s, x, n);
        for (uint32_t i = 0; i < n; i++) {
            float *x_out = m->x + (size_t)s.list[i] * m->k;
            const float *y = s.moe_out + (size_t)i * m->k;
            for (uint32_t d = 0; d < m->k; d++) x_out[d] = fmaf(s.list_share[i], y[d], x_out[d]);
        }
    }
}

/* --- the table -------------------------------------------------------------------------------------------------- */

static uint64_t free_bytes(uint32_t device) {
    (void)device;
    return llmoi_os_memory_available();
}

static void describe(uint32_t device, llmoi_device *out) {
    (void)device;
    memset(out, 0, sizeof *out);
    out->kind = LLMO_DEVICE_CPU;
    out->total_bytes = llmoi_os_memory_total();
    llmoi_os_cpu_name(out->name, sizeof out->name);
    llmoi_cpu_describe(out->detail, sizeof out->detail);
}

const llmoi_backend *llmoi_cpu_backend(void) {
    static const llmoi_backend backend = {
        .name = "cpu",
        .n_devices = 1,
        .describe = describe,
        .free_bytes = free_bytes,
        .rows = llmoi_cpu_rows,
        .n_rows = LLMOI_CPU_N_ROWS,
        .scratch_bytes = scratch_bytes,
        .embed = embed,
        .gather = gather,
        .group = group,
        .qkv_store = qkv_store,
        .attend = attend,
        .gate_mul = gate_mul,
        .soft_cap = soft_cap,
        .moe = moe,
        .copy_page = copy_page,
    };
    return &backend;
}
