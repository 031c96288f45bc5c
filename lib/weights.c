/* Reading weights: which bytes go where, read by all threads at once, with progress and cancel. Knows no contexts. */
#include "weights.h"

#include "os.h"

#define CHUNK_BYTES ((uint64_t)4 << 20) /* read at a time; progress and cancel are looked at in between */

static uint64_t align64(uint64_t n) {
    return (n + 63) / 64 * 64;
}

/* The matrix's bytes in place: in a mapping or in memory of the caller's; NULL if they must be read. */
static const void *in_place(const llmo_model *m, const llmoi_mat *a) {
    const llmoi_source *s = llmoi_gguf_source(m->gguf, a->tensor->part);
    if (s->map) return (const char *)s->map + a->tensor->offset + a->offset;
    if (s->kind == LLMOI_SOURCE_MEMORY) return s->data + a->tensor->offset + a->offset;
    return NULL;
}

static bool is_tied_head(const llmo_model *m, uint32_t mat) {
    return (int32_t)mat == m->head && m->mats[mat].tensor == m->mats[m->embed].tensor;
}

/* Bytes of a matrix in the store; 0 if it is used in place or is the embedding's. */
static uint64_t mat_bytes(const llmo_model *m, uint32_t mat) {
    const llmoi_mat *a = &m->mats[mat];
    if (is_tied_head(m, mat) || in_place(m, a)) return 0;
    return align64(a->n_bytes);
}

/* Walks one block in its fixed order, calling nothing if `set` is NULL; returns its size. */
static uint64_t block_layout(const llmo_model *m, uint32_t block, char *base, llmoi_weights *set) {
    int32_t layer = (int32_t)block - 1;
    uint64_t at = 0;
    for (uint32_t i = 0; i < m->n_mats; i++) {
        if (m->mats[i].layer != layer) continue;
        uint64_t n = mat_bytes(m, i);
        if (set) set->mats[i] = n ? base + at : in_place(m, &m->mats[i]);
        at += n;
    }
    for (uint32_t i = 0; i < m->n_vecs; i++) {
        if (m->vecs[i].layer != layer) continue;
        if (set) set->vecs[i] = (const float *)(const void *)(base + at);
        at += align64(m->vecs[i].n * sizeof(float));
    }
    return at;
}

uint64_t llmoi_weights_block_bytes(const llmo_model *m, uint32_t block) {
    return block_layout(m, block, NULL, NULL);
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

typedef struct load_job {
    const llmo_model *m;
    const llmoi_weights *w;
    const llmo_context_params *params;
    uint64_t total, n_chunks;
    bool one_thread; /* host readers are called by one thread only */
    _Atomic uint64_t next_chunk, done;
    _Atomic bool stop;
    pthread_mutex_t lock; /* of status and message */
    llmo_status status;
    char message[LLMOI_MESSAGE_BYTES];
} load_job;

static uint64_t chunks_of(const llmo_model *m, uint32_t mat) {
    return mat_bytes(m, mat) ? (m->mats[mat].n_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES : 0;
}

static llmo_status read_chunk(const load_job *j, uint64_t chunk, uint64_t *bytes) {
    const llmo_model *m = j->m;
    uint32_t mat = 0;
    for (; chunk >= chunks_of(m, mat); mat++) chunk -= chunks_of(m, mat);
    const llmoi_mat *a = &m->mats[mat];
    const llmoi_gguf_tensor *t = a->tensor;
    uint64_t from = chunk * CHUNK_BYTES;
    *bytes = a->n_bytes - from < CHUNK_BYTES ? a->n_bytes - from : CHUNK_BYTES;
    char *dst = (char *)(uintptr_t)j->w->mats[mat] + from;
    llmo_status st =
        llmoi_source_read(llmoi_gguf_source(m->gguf, t->part), t->offset + a->offset + from, dst, (size_t)*bytes);
    if (st != LLMO_OK) llmoi_fail_prefix("tensor '%s'", t->name);
    return st;
}

static void stop_load(load_job *j, llmo_status st) {
    (void)pthread_mutex_lock(&j->lock);
    if (j->status == LLMO_OK) {
        j->status = st;
        memcpy(j->message, llmoi_message(), strlen(llmoi_message()) + 1);
    }
    (void)pthread_mutex_unlock(&j->lock);
    atomic_store(&j->stop, true);
}

static void report(load_job *j) {
    if (!j->params->progress || atomic_load(&j->stop)) return;
    if (j->params->progress(j->params->progress_user, atomic_load(&j->done), j->total) != 0) {
        stop_load(j, llmoi_fail(LLMO_E_CANCELLED, "loading was stopped by the progress callback"));
    }
}

static void load_part(void *arg, uint32_t index, uint32_t n_threads) {
    load_job *j = arg;
    (void)n_threads;
    while (!atomic_load(&j->stop)) {
        uint64_t chunk = atomic_fetch_add(&j->next_chunk, 1), bytes;
        if (chunk >= j->n_chunks) break;
        llmo_status st = read_chunk(j, chunk, &bytes);
        if (st != LLMO_OK)
            stop_load(j, st);
        else
            atomic_fetch_add(&j->done, bytes);
        if (index == 0) report(j);
    }
}

/* Vectors are small and converted to f32 as they are read. */
static llmo_status load_vecs(llmo_model *m, llmoi_weights *w) {
    char raw[4096];
    for (uint32_t i = 0; i < m->n_vecs; i++) {
        const llmoi_vec *v = &m->vecs[i];
        float *dst = (float *)(uintptr_t)w->vecs[i];
        size_t per = sizeof raw / v->type->block_bytes;
        for (uint64_t at = 0; at < v->n; at += per) {
            size_t n = v->n - at < per ? (size_t)(v->n - at) : per;
            llmo_status st = llmoi_source_read(llmoi_gguf_source(m->gguf, v->tensor->part),
                                               v->tensor->offset + (v->first + at) * v->type->block_bytes, raw,
                                               n * v->type->block_bytes);
            if (st != LLMO_OK) {
                llmoi_fail_prefix("tensor '%s'", v->tensor->name);
                return st;
            }
            v->type->decode(raw, dst + at, n);
        }
    }
    return LLMO_OK;
}

static llmo_status load(llmo_model *m, llmoi_weights *w, const llmo_context_params *params) {
    load_job j = {.m = m, .w = w, .params = params};
    for (uint32_t i = 0; i < m->n_mats; i++) {
        if (!mat_bytes(m, i)) continue;
        j.n_chunks += chunks_of(m, i);
        j.total += m->mats[i].n_bytes;
    }
    for (uint32_t i = 0; i < llmoi_gguf_n_parts(m->gguf); i++) {
        j.one_thread = j.one_thread || llmoi_gguf_source(m->gguf, i)->kind == LLMOI_SOURCE_READER;
    }
    (void)pthread_mutex_init(&j.lock, NULL);
    report(&j);
    /* callbacks of the host are called from this thread only, so no job system of the host's between them */
    if (j.one_thread || m->runtime->host_threads)
        load_part(&j, 0, 1);
    else
        llmoi_pool_run(m->runtime->pool, load_part, &j);
    report(&j);
    (void)pthread_mutex_destroy(&j.lock);
    if (j.status != LLMO_OK) return llmoi_fail(j.status, "%s", j.message);
    return load_vecs(m, w);
}

/* --- the store -------------------------------------------------------------------------------------------------- */

static void free_store(llmoi_weights *w) {
    llmo_model *m = w->model;
    for (uint32_t b = 0; w->blocks && b <= m->hp.n_layers; b++) llmoi_free(&w->mem, w->blocks[b]);
    llmoi_free(&m->mem, w->blocks);
    llmoi_free(&m->mem, w->rows);
    llmoi_free(&m->mem, w->mats);
    llmoi_free(&m->mem, w->vecs);
    llmoi_free(&m->mem, w);
}

static llmo_status fill_store(llmo_model *m, llmoi_weights *w, const llmoi_matmul_row *const *rows,
                              const llmo_context_params *params) {
    w->blocks = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, m->hp.n_layers + 1u, sizeof *w->blocks);
    w->rows = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, m->n_mats, sizeof *w->rows);
    w->mats = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, m->n_mats, sizeof *w->mats);
    w->vecs = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, m->n_vecs, sizeof *w->vecs);
    if (!w->blocks || !w->rows || !w->mats || !w->vecs) return LLMO_E_NOMEM;
    memcpy(w->rows, rows, m->n_mats * sizeof *rows);
    for (uint32_t b = 0; b <= m->hp.n_layers; b++) {
        w->blocks[b] = llmoi_alloc(&w->mem, LLMO_PURPOSE_WEIGHTS, (size_t)block_layout(m, b, NULL, NULL));
        if (!w->blocks[b]) return LLMO_E_NOMEM;
        (void)block_layout(m, b, w->blocks[b], w);
    }
    for (uint32_t i = 0; i < m->n_mats; i++) {
        if (is_tied_head(m, i)) w->mats[i] = w->mats[m->embed];
    }
    return load(m, w, params);
}

llmo_status llmoi_weights_acquire(llmo_model *m, const llmoi_matmul_row *const *rows, const llmo_context_params *params,
                                  llmoi_weights **out) {
    llmo_status st = LLMO_OK;
    (void)pthread_mutex_lock(&m->weights_lock);
    llmoi_weights *w = m->weights;
    while (w && memcmp(w->rows, rows, m->n_mats * sizeof *rows) != 0) w = w->next;
    if (w) {
        w->refs++;
    } else {
        w = llmoi_zalloc(&m->mem, LLMO_PURPOSE_HEADER, sizeof *w);
        st = w ? LLMO_OK : LLMO_E_NOMEM;
        if (w) {
            w->model = m;
            w->refs = 1;
            llmoi_mem_init_child(&w->mem, &m->mem);
            st = fill_store(m, w, rows, params);
            if (st != LLMO_OK) free_store(w);
        }
        if (st == LLMO_OK) {
            w->next = m->weights;
            m->weights = w;
        }
    }
    (void)pthread_mutex_unlock(&m->weights_lock);
    *out = st == LLMO_OK ? w : NULL;
    return st;
}

void llmoi_weights_drop(llmoi_weights *w) {
    llmo_model *m = w->model;
    (void)pthread_mutex_lock(&m->weights_lock);
    if (--w->refs == 0) {
        llmoi_weights **at = &m->weights;
        while (*at != w) at = &(*at)->next;
        *at = w->next;
        free_store(w);
    }
    (void)pthread_mutex_unlock(&m->weights_lock);
}
