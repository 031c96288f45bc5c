/* Fuzz target: any bytes as a model file, through the public interface: open, read all facts, tokenize and back, plan,
 * and, if the plan is small, generate. Whatever the bytes are, each call returns, and nothing leaks. */
#include <stdint.h>
#include <stdlib.h>

#include "llmoffload.h"

#define MAX_BYTES (64u << 20) /* of a plan that is run */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_facts(llmo_model *model) {
    char text[256];
    size_t len;
    uint32_t n_keys = llmo_model_meta_count(model);
    for (uint32_t i = 0; i <= n_keys && i < 100; i++) {
        const char *key = llmo_model_meta_key(model, i);
        if (key) (void)llmo_model_meta_text(model, key, text, sizeof text, &len);
    }
    llmo_model_info info = {.struct_size = sizeof info};
    if (llmo_model_get_info(model, &info) != LLMO_OK) abort(); /* it is a getter: a valid handle cannot fail */
    for (uint32_t i = 0; i < info.n_tensors && i < 100; i++) {
        llmo_tensor_info tensor = {.struct_size = sizeof tensor};
        if (llmo_model_get_tensor(model, i, &tensor) != LLMO_OK) abort();
    }
}

static void use_tokenizer(llmo_model *model) {
    static const char text[] = "Once  upon\na t\xc3\xafme <s> \xff 12345";
    llmo_token tokens[128];
    char back[4096];
    size_t n, len;
    if (llmo_tokenize(model, text, sizeof text - 1, LLMO_TOKENIZE_ADD_SPECIAL | LLMO_TOKENIZE_PARSE_SPECIAL, tokens,
                      128, &n) == LLMO_OK)
        (void)llmo_detokenize(model, tokens, n, LLMO_DETOKENIZE_SPECIAL, back, sizeof back, &len);
}

static void generate(llmo_model *model) {
    llmo_plan_params pp;
    llmo_plan_params_init(&pp);
    pp.n_ctx = 16;
    pp.n_batch = 8;
    pp.ram_budget_bytes = MAX_BYTES;
    llmo_plan *plan = NULL;
    llmo_context *context = NULL;
    llmo_sequence *sequence = NULL;
    if (llmo_plan_create(model, &pp, &plan) == LLMO_OK && llmo_context_create(model, plan, NULL, &context) == LLMO_OK &&
        llmo_sequence_create(context, &sequence) == LLMO_OK) {
        llmo_generation_params gp;
        llmo_generation_params_init(&gp);
        gp.max_tokens = 3;
        (void)llmo_generate(sequence, "ab", 2, &gp, NULL);
    }
    llmo_sequence_destroy(sequence);
    llmo_context_destroy(context);
    llmo_plan_destroy(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static llmo_runtime *runtime;
    if (!runtime) {
        llmo_runtime_params params;
        llmo_runtime_params_init(&params);
        params.n_threads = 1;
        if (llmo_runtime_create(&params, &runtime) != LLMO_OK) abort();
    }
    uint64_t before = llmo_runtime_bytes(runtime, LLMO_PURPOSE_COUNT);
    llmo_model *model = NULL;
    if (llmo_model_open_memory(runtime, data, size, NULL, &model) == LLMO_OK) {
        read_facts(model);
        use_tokenizer(model);
        generate(model);
    } else if (model || !llmo_last_error()[0]) {
        abort(); /* a failure leaves no handle and says why */
    }
    llmo_model_destroy(model);
    if (llmo_runtime_bytes(runtime, LLMO_PURPOSE_COUNT) != before) abort(); /* something was not given back */
    return 0;
}
