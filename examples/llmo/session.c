/* Opens what a command needs, from the options that commands share: runtime, model, plan, context. */
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* --- options ----------------------------------------------------------------------------------------------------- */

static int parse_threads(void *target, const char *option, const char *text) {
    int64_t n = LLMO_THREADS_AUTO;
    if (strcmp(text, "auto") != 0) {
        int code = option_parse_i64(option, text, 1, LLMO_THREADS_MAX, &n);
        if (code) return code;
    }
    *(int32_t *)target = (int32_t)n;
    return 0;
}

static int parse_gpu_layers(void *target, const char *option, const char *text) {
    int64_t n = LLMO_GPU_LAYERS_AUTO;
    if (strcmp(text, "auto") != 0) {
        int code = option_parse_i64(option, text, 0, INT32_MAX, &n);
        if (code) return code;
    }
    *(int32_t *)target = (int32_t)n;
    return 0;
}

static int parse_kv(void *target, const char *option, const char *text) {
    llmo_plan_params *plan = target;
    int32_t type = LLMO_KV_F16;
    if (strcmp(text, "f32") == 0) {
        type = LLMO_KV_F32;
    } else if (strcmp(text, "f16") != 0) {
        return tool_usage("%s: '%s' is not f16 or f32", option, text);
    }
    plan->kv_type_k = type;
    plan->kv_type_v = type;
    return 0;
}

static int parse_numerics(void *target, const char *option, const char *text) {
    static const char *const names[] = {"auto", "f32", "q8"};
    for (size_t i = 0; i < TOOL_COUNT(names); i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *(int32_t *)target = (int32_t)i;
        return 0;
    }
    return tool_usage("%s: '%s' is not auto, f32 or q8", option, text);
}

static int parse_log_level(void *target, const char *option, const char *text) {
    static const char *const names[] = {"none", "error", "warn", "info", "debug"};
    for (size_t i = 0; i < TOOL_COUNT(names); i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *(int32_t *)target = (int32_t)i;
        return 0;
    }
    return tool_usage("%s: '%s' is not none, error, warn, info or debug", option, text);
}

void session_options_init(session_options *o) {
    *o = (session_options){.n_threads = LLMO_THREADS_AUTO, .log_level = LLMO_LOG_NONE};
    llmo_plan_params_init(&o->plan);
}

void session_add_model_options(options *list, session_options *o) {
    const option items[] = {
        {.kind = OPTION_HEADING, .name = "Model"},
        {.kind = OPTION_TEXT,
         .letter = 'm',
         .name = "--model",
         .arg = "FILE",
         .target = &o->model_path,
         .help = "GGUF file, the first part of a split one",
         .fallback = ""},
        {.kind = OPTION_TEXT,
         .name = "--pre",
         .arg = "NAME",
         .target = &o->pre_tokenizer,
         .help = "pre-tokenizer instead of the file's, e.g. llama-bpe",
         .fallback = ""},
        {.kind = OPTION_FLAG,
         .name = "--mmap",
         .target = &o->mmap,
         .help = "map the file instead of reading it (a file cut meanwhile kills the process)"},
        {.kind = OPTION_CUSTOM,
         .name = "--log",
         .arg = "LEVEL",
         .target = &o->log_level,
         .parse = parse_log_level,
         .help = "the library's log on standard error: none, error, warn, info, debug",
         .fallback = "none"},
    };
    options_add(list, items, TOOL_COUNT(items));
}

void session_add_plan_options(options *list, session_options *o) {
    llmo_plan_params *plan = &o->plan;
    const option items[] = {
        {.kind = OPTION_HEADING, .name = "Machine and memory"},
        {.kind = OPTION_CUSTOM,
         .name = "--threads",
         .arg = "N|auto",
         .target = &o->n_threads,
         .parse = parse_threads,
         .help = "CPU threads",
         .fallback = "auto, one per core"},
        {.kind = OPTION_U32,
         .name = "--ctx",
         .arg = "N",
         .target = &plan->n_ctx,
         .min = 1,
         .max = INT32_MAX,
         .help = "tokens of context, prompt and reply",
         .fallback = plan->n_ctx ? NULL : "what the model was trained for, at most 4096"},
        {.kind = OPTION_U32,
         .name = "--batch",
         .arg = "N",
         .target = &plan->n_batch,
         .min = 1,
         .max = 65536,
         .help = "most tokens in one pass",
         .fallback = "512"},
        {.kind = OPTION_CUSTOM,
         .name = "--kv",
         .arg = "f16|f32",
         .target = plan,
         .parse = parse_kv,
         .help = "type of the KV cache",
         .fallback = "f16"},
        {.kind = OPTION_CUSTOM,
         .name = "--numerics",
         .arg = "auto|f32|q8",
         .target = &plan->numerics,
         .parse = parse_numerics,
         .help = "activations in f32, or rounded to 8 bits against quantized weights",
         .fallback = "auto"},
        {.kind = OPTION_CUSTOM,
         .name = "--gpu-layers",
         .arg = "N|auto",
         .target = &plan->gpu_layers,
         .parse = parse_gpu_layers,
         .help = "layers for the GPU",
         .fallback = "auto, as many as help and fit"},
        {.kind = OPTION_SIZE,
         .name = "--vram",
         .arg = "SIZE",
         .target = &plan->vram_budget_bytes,
         .help = "most GPU memory to use, e.g. 8G, 512M",
         .fallback = "what is free"},
        {.kind = OPTION_SIZE,
         .name = "--ram",
         .arg = "SIZE",
         .target = &plan->ram_budget_bytes,
         .help = "most main memory to use",
         .fallback = "no limit"},
    };
    options_add(list, items, TOOL_COUNT(items));
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static void log_line(void *user, int32_t level, const char *line) {
    static const char *const names[] = {"none", "error", "warn", "info", "debug"};
    (void)user;
    bool known = level >= 0 && (size_t)level < TOOL_COUNT(names);
    (void)fprintf(stderr, "[%s] %s\n", known ? names[level] : "log", line);
}

int session_open_runtime(session *s, const session_options *o) {
    llmo_runtime_params params;
    llmo_runtime_params_init(&params);
    params.n_threads = o->n_threads;
    params.log_level = o->log_level;
    params.log = o->log_level == LLMO_LOG_NONE ? NULL : log_line;
    return llmo_runtime_create(&params, &s->runtime) == LLMO_OK ? TOOL_OK : tool_fail_library();
}

int session_open_model(session *s, const session_options *o) {
    if (!o->model_path) return tool_usage("no model given (-m FILE)");
    uint64_t start = tool_time_us();
    int code = session_open_runtime(s, o);
    if (code) return code;
    llmo_model_params params;
    llmo_model_params_init(&params);
    params.pre_tokenizer = o->pre_tokenizer;
    if (o->mmap) params.flags |= LLMO_MODEL_MMAP;
    if (llmo_model_open(s->runtime, o->model_path, &params, &s->model) != LLMO_OK) return tool_fail_library();
    s->load_us = tool_time_us() - start;
    return TOOL_OK;
}

int session_open_plan(session *s, const session_options *o) {
    int code = session_open_model(s, o);
    if (code) return code;
    uint64_t start = tool_time_us();
    if (llmo_plan_create(s->model, &o->plan, &s->plan) != LLMO_OK) return tool_fail_library();
    s->load_us += tool_time_us() - start;
    return TOOL_OK;
}

static int32_t load_progress(void *user, uint64_t done_bytes, uint64_t total_bytes) {
    progress_update(user, "loading", done_bytes, total_bytes);
    return interrupt_seen();
}

int session_open_context(session *s, const session_options *o) {
    int code = session_open_plan(s, o);
    if (code) return code;
    uint64_t start = tool_time_us();
    progress shown;
    progress_begin(&shown);
    llmo_context_params params;
    llmo_context_params_init(&params);
    params.progress_user = &shown;
    params.progress = load_progress;
    llmo_status status = llmo_context_create(s->model, s->plan, &params, &s->context);
    progress_clear(&shown);
    if (status == LLMO_E_CANCELLED && interrupt_seen()) return TOOL_INTERRUPTED;
    if (status != LLMO_OK) return tool_fail_library();
    s->load_us += tool_time_us() - start;
    return TOOL_OK;
}

void session_close(session *s) {
    llmo_context_destroy(s->context);
    llmo_plan_destroy(s->plan);
    llmo_model_destroy(s->model);
    llmo_runtime_destroy(s->runtime);
    *s = (session){0};
}

/* --- memory ------------------------------------------------------------------------------------------------------ */

cJSON *session_memory_json(const session *s) {
    cJSON *devices = cJSON_CreateArray();
    for (uint32_t d = 0; d < llmo_device_count(s->runtime); d++) {
        llmo_device_info info = {.struct_size = sizeof info};
        if (llmo_device_get_info(s->runtime, d, &info) != LLMO_OK) continue;
        cJSON *device = cJSON_CreateObject();
        cJSON_AddItemToArray(devices, device);
        (void)cJSON_AddNumberToObject(device, "device", d);
        json_add_string(device, "name", info.name);
        for (int32_t p = 0; p <= LLMO_PURPOSE_COUNT; p++) {
            uint64_t bytes = s->context ? llmo_context_bytes(s->context, d, p) : llmo_plan_bytes(s->plan, d, p);
            const char *name = p == LLMO_PURPOSE_COUNT ? "total" : llmo_purpose_name(p);
            char key[48];
            (void)snprintf(key, sizeof key, "%s_bytes", name);
            json_add_u64(device, key, bytes);
        }
    }
    return devices;
}
