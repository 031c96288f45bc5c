#include "engine_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "quant.h"

static void finish_open(engine *e, engine_options o) {
    llmo_model_info info = {.struct_size = sizeof info};
    assert_ok(llmo_model_get_info(e->model, &info));
    e->n_vocab = info.n_vocab;
    llmo_plan_params p;
    llmo_plan_params_init(&p);
    p.n_ctx = o.n_ctx ? o.n_ctx : 256;
    p.n_sequences = o.n_sequences ? o.n_sequences : 1;
    p.n_batch = o.n_batch ? o.n_batch : 512;
    p.n_kv_tokens = o.n_kv_tokens;
    p.kv_type_k = p.kv_type_v = o.kv_type;
    p.numerics = o.numerics;
    assert_ok(llmo_plan_create(e->model, &p, &e->plan));
    assert_ok(llmo_context_create(e->model, e->plan, NULL, &e->ctx));
    assert_ok(llmo_sequence_create(e->ctx, &e->seq));
}

static void open_runtime(engine *e, engine_options o) {
    memset(e, 0, sizeof *e);
    llmo_runtime_params p;
    llmo_runtime_params_init(&p);
    p.n_threads = o.n_threads ? o.n_threads : 2;
    assert_ok(llmo_runtime_create(o.runtime ? o.runtime : &p, &e->rt));
}

engine engine_open(const char *path, engine_options o) {
    engine e;
    open_runtime(&e, o);
    assert_ok(llmo_model_open(e.rt, path, NULL, &e.model));
    finish_open(&e, o);
    return e;
}

engine engine_open_memory(const void *data, size_t size, engine_options o) {
    engine e;
    open_runtime(&e, o);
    assert_ok(llmo_model_open_memory(e.rt, data, size, NULL, &e.model));
    finish_open(&e, o);
    return e;
}

engine engine_open_tiny(engine_options o) {
    size_t size;
    unsigned char *file = tiny_model(NULL, &size);
    engine e = engine_open_memory(file, size, o);
    free(file);
    return e;
}

void engine_close(engine *e) {
    llmo_context_destroy(e->ctx);
    llmo_plan_destroy(e->plan);
    llmo_model_destroy(e->model);
    llmo_runtime_destroy(e->rt);
    memset(e, 0, sizeof *e);
}

unsigned char *tiny_llama(uint32_t type, const tiny_shape *shape, size_t *size) {
    const llmoi_type_info *t = llmoi_type_find(type);
    tiny_shape s = {0};
    if (shape) s = *shape;
    if (type) s.type = (tiny_type){type, t->block_elems, t->block_bytes, t->encode};
    return tiny_model(&s, size);
}

/* --- the host's memory -------------------------------------------------------------------------------------------------- */

static void *host_alloc(void *user, size_t bytes, size_t alignment) {
    host_memory *m = user;
    uint64_t number = atomic_fetch_add(&m->n_allocs, 1) + 1;
    if (m->fail_at && (number == m->fail_at || (m->fail_after && number > m->fail_at))) return NULL;
    void *p = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (!p) return NULL;
    memset(p, 0xa5, bytes); /* nothing may rely on zeros */
    atomic_fetch_add(&m->live_bytes, bytes);
    atomic_fetch_add(&m->live_blocks, 1);
    return p;
}

static void host_release(void *user, void *ptr, size_t bytes) {
    host_memory *m = user;
    memset(ptr, 0x5a, bytes); /* whoever uses it afterwards, or gives a wrong size, is seen */
    atomic_fetch_sub(&m->live_bytes, bytes);
    atomic_fetch_sub(&m->live_blocks, 1);
    free(ptr);
}

llmo_runtime_params host_memory_params(host_memory *m, int n_threads) {
    llmo_runtime_params p;
    llmo_runtime_params_init(&p);
    p.n_threads = n_threads;
    p.alloc_user = m;
    p.alloc = host_alloc;
    p.release = host_release;
    return p;
}

/* --- replies ------------------------------------------------------------------------------------------------------------ */

void some_tokens(uint32_t seed, llmo_token *tokens, size_t n) {
    uint32_t x = seed * 2654435761u + 12345u;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        tokens[i] = (llmo_token)(4 + (x >> 8) % (TINY_VOCAB - 4));
    }
}

void sampled_params(llmo_generation_params *p, llmo_sampling_params *s, uint64_t seed, uint32_t max_tokens) {
    llmo_generation_params_init(p);
    llmo_sampling_params_init(s);
    s->seed = seed;
    s->temperature = 1.0f;
    p->sampling = s;
    p->max_tokens = max_tokens;
    p->flags = LLMO_GENERATE_IGNORE_END;
}

void greedy_params(llmo_generation_params *p, llmo_sampling_params *s, uint32_t max_tokens) {
    sampled_params(p, s, 0, max_tokens);
    s->temperature = 0.0f;
}

void step_to_end(llmo_context *ctx, uint64_t budget_us, llmo_step_info *sum) {
    if (sum) memset(sum, 0, sizeof *sum);
    llmo_step_info i = {.struct_size = sizeof i, .n_running = 1};
    while (i.n_running) {
        assert_ok(llmo_context_step(ctx, budget_us, &i));
        if (!sum) continue;
        sum->n_passes += i.n_passes;
        sum->n_units += i.n_units;
        sum->n_prompt_tokens += i.n_prompt_tokens;
        sum->n_new_tokens += i.n_new_tokens;
    }
}

size_t generated(llmo_generation *g, llmo_token *out, size_t cap) {
    size_t n;
    assert_ok(llmo_generation_get_tokens(g, 0, out, cap, &n));
    return n;
}

llmo_generation_info generation_info(llmo_generation *g) {
    llmo_generation_info i = {.struct_size = sizeof i};
    assert_ok(llmo_generation_get_info(g, &i));
    return i;
}

llmo_context_stats context_stats(llmo_context *c) {
    llmo_context_stats s = {.struct_size = sizeof s};
    assert_ok(llmo_context_get_stats(c, &s));
    return s;
}

size_t reply(llmo_context *ctx, llmo_sequence *s, const llmo_token *prompt, size_t n, const llmo_generation_params *p,
             uint64_t budget_us, llmo_token *out) {
    llmo_generation *g;
    assert_ok(llmo_generation_start_tokens(s, prompt, n, p, &g));
    for (int32_t state = LLMO_GENERATION_PROMPT; state < LLMO_GENERATION_DONE; state = generation_info(g).state)
        assert_ok(llmo_context_step(ctx, budget_us, NULL));
    assert_int_equal(generation_info(g).state, LLMO_GENERATION_DONE);
    size_t count = generated(g, out, p->max_tokens);
    llmo_generation_destroy(g);
    return count;
}

static void say(void *user, float *logits, uint32_t n_vocab, const llmo_token *tokens, size_t n_tokens) {
    const script *s = user;
    (void)tokens;
    size_t i = n_tokens - s->n_before;
    if (i >= s->n) fail_msg("the script has %zu tokens, one more is asked for", s->n);
    for (uint32_t t = 0; t < n_vocab; t++) logits[t] = (llmo_token)t == s->tokens[i] ? 1.0f : -INFINITY;
}

void script_text(script *s, const char *text, size_t n_before) {
    s->n = strlen(text);
    s->n_before = n_before;
    for (size_t i = 0; i < s->n; i++) s->tokens[i] = TINY_BYTE(text[i]);
}

void script_params(llmo_generation_params *p, llmo_sampling_params *sampling, script *s) {
    greedy_params(p, sampling, (uint32_t)s->n);
    sampling->logits = say;
    sampling->logits_user = s;
}

void write_file(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) fail_msg("cannot write %s", path);
}

void temp_file(char path[64], const void *bytes, size_t n) {
    strcpy(path, "/tmp/llmo-test-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) fail_msg("cannot make a temporary file");
    close(fd);
    write_file(path, bytes, n);
}

uint32_t largest(const float *x, uint32_t n) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) best = x[i] > x[best] ? i : best;
    return best;
}
