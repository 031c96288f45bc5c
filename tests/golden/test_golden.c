/* Golden logits and greedy continuations of every model in the shared data whose architecture the library supports, with
 * an F32 KV cache. Each model three ways, equal to the bit: one batch, token by token, in chunks.
 *   F32 activations (the default): max |error| <= 1e-4, and rms error <= the reference engine's on quantized files.
 *   8-bit activations: rms error <= 1.5 x the reference engine's, which rounds to 8 bits too: which of two roundings is
 *   luckier on 2304 logits is chance. Types with super-blocks of 256, where this library's scales are finer: <= 1 x.
 *   Where an expert is chosen by a hair: <= 10 x. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"
#include "quant.h"
#include "sample.h"

#define MAX_TOKENS 128

typedef struct golden {
    char path[1024], name[128];
    cJSON *json;
    float *logits; /* (sequences, 4, n_vocab) */
    uint32_t n_vocab, n_ctx;
    bool quantized;    /* has integer weights */
    bool super_blocks; /* and most of them in blocks of 256 */
    bool supported;
} golden;

static bool is_float_type(const char *type) {
    return strcmp(type, "F32") == 0 || strcmp(type, "F16") == 0 || strcmp(type, "BF16") == 0;
}

static golden open_golden(const char *folder, const char *file) {
    golden g = {0};
    snprintf(g.name, sizeof g.name, "%.*s", (int)(strlen(file) - 5), file);
    g.json = read_json(shared_path("%s/%s", folder, file));
    snprintf(g.path, sizeof g.path, "%s",
             shared_path("%s/%s", folder, cJSON_GetObjectItem(g.json, "model")->valuestring));
    g.n_vocab = (uint32_t)cJSON_GetObjectItem(g.json, "n_vocab")->valueint;
    g.n_ctx = (uint32_t)cJSON_GetObjectItem(g.json, "n_ctx")->valueint;
    size_t size;
    g.logits = (float *)(void *)read_file(
        shared_path("%s/%s", folder, cJSON_GetObjectItem(g.json, "logits_file")->valuestring), &size);
    llmo_runtime *rt;
    llmo_model *m;
    assert_ok(llmo_runtime_create(NULL, &rt));
    llmo_status st = llmo_model_open(rt, g.path, NULL, &m);
    g.supported = st == LLMO_OK;
    if (!g.supported) {
        if (st != LLMO_E_UNSUPPORTED) fail_msg("%s: %s", g.path, llmo_last_error());
        print_message("[  SKIP    ] %s: %s\n", g.name, llmo_last_error());
    }
    llmo_tensor_info t = {.struct_size = sizeof t};
    for (uint32_t i = 0; g.supported && llmo_model_get_tensor(m, i, &t) == LLMO_OK; i++) {
        if (!is_float_type(t.type)) g.quantized = true;
    }
    llmo_model_info info = {.struct_size = sizeof info};
    if (g.supported) {
        assert_ok(llmo_model_get_info(m, &info));
        if (g.n_ctx > info.n_ctx_train) g.n_ctx = info.n_ctx_train; /* learned positions end there */
        const llmoi_type_info *type = llmoi_type_find_name(info.type);
        g.super_blocks = type && type->block_elems == 256;
    }
    llmo_model_destroy(m);
    llmo_runtime_destroy(rt);
    return g;
}

static void close_golden(golden *g) {
    cJSON_Delete(g->json);
    free(g->logits);
}

static size_t ids(const cJSON *array, llmo_token *out) {
    size_t n = 0;
    for (const cJSON *i = array->child; i; i = i->next) out[n++] = i->valueint;
    return n;
}

/* Logits after the last four tokens, fed `step` tokens at a time. */
static void last_four(engine *e, const llmo_token *tokens, size_t n, size_t step, float *out) {
    float *rows = malloc(MAX_TOKENS * e->n_vocab * sizeof *rows);
    assert_ok(llmo_sequence_truncate(e->seq, 0));
    for (size_t at = 0; at < n; at += step) {
        size_t m = n - at < step ? n - at : step;
        assert_ok(llmo_eval(e->seq, tokens + at, m, m, rows + at * e->n_vocab, m * e->n_vocab));
    }
    memcpy(out, rows + (n - 4) * e->n_vocab, 4 * e->n_vocab * sizeof *out);
    free(rows);
}

/* Greedy tokens, up to the first step whose margin is below twice the tolerance. */
static void check_greedy(engine *e, const golden *g, const cJSON *seq, const float *first, double tolerance) {
    float *row = malloc(e->n_vocab * sizeof *row);
    memcpy(row, first, e->n_vocab * sizeof *row);
    const cJSON *want = cJSON_GetObjectItem(seq, "greedy")->child;
    const cJSON *margin = cJSON_GetObjectItem(seq, "greedy_margin")->child;
    for (int i = 0; want; i++, want = want->next, margin = margin->next) {
        if (margin->valuedouble < 2 * tolerance) break;
        llmo_token t = (llmo_token)llmoi_argmax(row, e->n_vocab);
        if (t != want->valueint) fail_msg("%s: greedy token %d is %d, not %d", g->name, i, t, want->valueint);
        assert_ok(llmo_eval(e->seq, &t, 1, 1, row, e->n_vocab));
    }
    free(row);
}

typedef struct result {
    double max_error, rms_error;
} result;

/* All sequences of one golden file. */
static result run_golden(const golden *g, int32_t numerics) {
    engine_options o = {.n_ctx = g->n_ctx, .kv_type = LLMO_KV_F32, .numerics = numerics};
    engine e = engine_open(g->path, o);
    o.n_batch = 7;
    o.n_threads = 1;
    engine chunky = engine_open(g->path, o);
    assert_int_equal(e.n_vocab, g->n_vocab);
    size_t row_bytes = 4 * g->n_vocab * sizeof(float);
    float *batch = malloc(row_bytes), *other = malloc(row_bytes);
    double sum = 0, max = 0;
    size_t count = 0, index = 0;
    for (const cJSON *seq = cJSON_GetObjectItem(g->json, "sequences")->child; seq; seq = seq->next, index++) {
        llmo_token tokens[MAX_TOKENS];
        size_t n = ids(cJSON_GetObjectItem(seq, "tokens"), tokens);
        bool q8 = numerics == LLMO_NUMERICS_Q8;
        if (!q8) last_four(&e, tokens, n, 1, other);
        last_four(&e, tokens, n, n, batch);
        if (!q8) assert_memory_equal(batch, other, row_bytes); /* token by token, to the bit */
        last_four(&chunky, tokens, n, n, other);
        assert_memory_equal(batch, other, row_bytes); /* chunks of 7 on one thread */
        const float *want = g->logits + index * 4 * g->n_vocab;
        for (size_t i = 0; i < 4 * g->n_vocab; i++, count++) {
            double d = (double)batch[i] - (double)want[i];
            sum += d * d;
            if (!(fabs(d) <= max)) max = fabs(d);
        }
        if (!q8) check_greedy(&e, g, seq, batch + 3 * g->n_vocab, 1e-4);
    }
    free(batch);
    free(other);
    engine_close(&e);
    engine_close(&chunky);
    return (result){max, sqrt(sum / (double)count)};
}

/* True if the figures of one golden file are good; prints them. */
static bool judge(const golden *g, int32_t numerics) {
    result r = run_golden(g, numerics);
    double stock = cJSON_GetObjectItem(g->json, "stock_rms_diff")->valuedouble;
    bool q8 = numerics == LLMO_NUMERICS_Q8;
    double bound = g->super_blocks ? 1.0 : 1.5;
    /* where the router's choice is this close, 8-bit noise picks another expert, in either engine */
    const cJSON *margin = cJSON_GetObjectItem(g->json, "moe_min_selection_margin");
    if (margin && margin->valuedouble < 0.005) bound = 10;
    bool ok = q8 ? r.rms_error <= bound * stock : r.max_error <= 1e-4 && (!g->quantized || r.rms_error <= stock);
    print_message("%-24s %s  max %.2e  rms %.2e  reference rms %.2e  ratio %.2f %s\n", g->name, q8 ? "q8 " : "f32",
                  r.max_error, r.rms_error, stock, r.rms_error / stock, ok ? "" : "FAILED");
    return ok;
}

static int check_folder(const char *folder) {
    int checked = 0, failed = 0;
    char **files = list_files(shared_path("%s", folder), ".json");
    for (char **f = files; *f; f++) {
        golden g = open_golden(folder, *f);
        if (g.supported) {
            failed += !judge(&g, LLMO_NUMERICS_AUTO);
            if (g.quantized) failed += !judge(&g, LLMO_NUMERICS_Q8);
            checked++;
        }
        close_golden(&g);
        free(*f);
    }
    free(files);
    assert_int_equal(failed, 0);
    return checked;
}

static void golden_logits_of_architectures(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    assert_true(check_folder("data/golden/arch") >= 24);
}

static void golden_logits_of_quantized_files(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    assert_true(check_folder("data/golden/quantized") >= 73);
}

static void golden_logits_of_a_trained_model(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    assert_int_equal(check_folder("data/models"), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_logits_of_architectures),
        cmocka_unit_test(golden_logits_of_quantized_files),
        cmocka_unit_test(golden_logits_of_a_trained_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
