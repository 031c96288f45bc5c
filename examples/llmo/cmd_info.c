/* llmo info, llmo devices: facts about a file and about the machine. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* --- info -------------------------------------------------------------------------------------------------------- */

/* The value of a key as text, free() it; NULL after a message. */
static char *meta_value(llmo_model *model, const char *key, size_t *n_bytes) {
    size_t needed = 0;
    size_t cap = 256;
    for (int attempt = 0; attempt < 2; attempt++) {
        char *text = malloc(cap);
        if (!text) break;
        llmo_status status = llmo_model_meta_text(model, key, text, cap, &needed);
        if (status == LLMO_OK) {
            *n_bytes = needed;
            return text;
        }
        free(text);
        if (status != LLMO_E_BUFFER) {
            (void)tool_fail_library();
            return NULL;
        }
        cap = needed + 1;
    }
    (void)tool_fail_memory();
    return NULL;
}

static int show_meta(llmo_model *model, cJSON *json) {
    cJSON *object = json ? cJSON_AddObjectToObject(json, "meta") : NULL;
    if (!json) printf("\nmetadata\n");
    for (uint32_t i = 0; i < llmo_model_meta_count(model); i++) {
        const char *key = llmo_model_meta_key(model, i);
        size_t n_bytes = 0;
        char *value = key ? meta_value(model, key, &n_bytes) : NULL;
        if (!value) return key ? TOOL_FAILED : tool_fail_library();
        if (json) {
            json_add_text(object, key, value, n_bytes);
        } else {
            printf("  ");
            tool_print_text(stdout, key, strlen(key), SIZE_MAX);
            printf(" = ");
            tool_print_text(stdout, value, n_bytes, 160);
            printf("\n");
        }
        free(value);
    }
    return TOOL_OK;
}

static void shape_text(const llmo_tensor_info *t, char *out, size_t cap) {
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t d = 0; d < t->n_dims && d < 4 && used < cap; d++) {
        int n = snprintf(out + used, cap - used, "%s%" PRIu64, d ? " x " : "", t->dims[d]);
        used += n > 0 ? (size_t)n : 0;
    }
}

static int show_tensors(llmo_model *model, uint32_t n_tensors, cJSON *json) {
    cJSON *array = json ? cJSON_AddArrayToObject(json, "tensors") : NULL;
    if (!json) printf("\ntensors (contiguous dimension first)\n");
    for (uint32_t i = 0; i < n_tensors; i++) {
        llmo_tensor_info t = {.struct_size = sizeof t};
        if (llmo_model_get_tensor(model, i, &t) != LLMO_OK) return tool_fail_library();
        if (json) {
            cJSON *object = cJSON_CreateObject();
            cJSON_AddItemToArray(array, object);
            json_add_string(object, "name", t.name);
            json_add_string(object, "type", t.type);
            cJSON *shape = cJSON_AddArrayToObject(object, "shape");
            for (uint32_t d = 0; d < t.n_dims && d < 4; d++) {
                cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)t.dims[d]));
            }
            json_add_u64(object, "bytes", t.n_bytes);
            json_add_u64(object, "file_offset", t.file_offset);
            json_add_u64(object, "part", t.part);
        } else {
            char shape[96], size[32];
            shape_text(&t, shape, sizeof shape);
            printf("  %-8s %-24s %12s  ", t.type, shape, tool_bytes_text(t.n_bytes, size));
            tool_print_text(stdout, t.name, strlen(t.name), SIZE_MAX);
            printf("\n");
        }
    }
    return TOOL_OK;
}

static void info_json(cJSON *json, const llmo_model_info *m) {
    json_add_string(json, "architecture", m->architecture);
    json_add_string(json, "name", m->name);
    json_add_string(json, "type", m->type);
    json_add_string(json, "tokenizer", m->tokenizer);
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"n_layers", m->n_layers},
        {"n_embd", m->n_embd},
        {"n_vocab", m->n_vocab},
        {"n_heads", m->n_heads},
        {"n_kv_heads", m->n_kv_heads},
        {"head_dim", m->head_dim},
        {"n_ff", m->n_ff},
        {"n_experts", m->n_experts},
        {"n_experts_used", m->n_experts_used},
        {"n_ctx_train", m->n_ctx_train},
        {"n_tensors", m->n_tensors},
        {"n_params", m->n_params},
        {"weights_bytes", m->weights_bytes},
        {"file_bytes", m->file_bytes},
    };
    for (size_t i = 0; i < TOOL_COUNT(numbers); i++) json_add_u64(json, numbers[i].key, numbers[i].value);
}

static void print_field(const char *label, const char *text) {
    printf("%-14s ", label);
    tool_print_text(stdout, text, strlen(text), SIZE_MAX);
    printf("\n");
}

static void info_text(const llmo_model_info *m) {
    char size[32];
    print_field("name", m->name);
    print_field("architecture", m->architecture);
    print_field("weights", m->type);
    print_field("tokenizer", m->tokenizer);
    printf("%-14s %" PRIu64 " (%s in %" PRIu32 " tensors)\n", "parameters", m->n_params,
           tool_bytes_text(m->weights_bytes, size), m->n_tensors);
    printf("%-14s %s\n", "file", tool_bytes_text(m->file_bytes, size));
    printf("%-14s %" PRIu32 "\n", "layers", m->n_layers);
    printf("%-14s %" PRIu32 "\n", "width", m->n_embd);
    printf("%-14s %" PRIu32 " (%" PRIu32 " for keys and values) of %" PRIu32 "\n", "heads", m->n_heads, m->n_kv_heads,
           m->head_dim);
    printf("%-14s %" PRIu32 "\n", "feed-forward", m->n_ff);
    if (m->n_experts) {
        printf("%-14s %" PRIu32 ", %" PRIu32 " per token\n", "experts", m->n_experts, m->n_experts_used);
    }
    printf("%-14s %" PRIu32 " tokens\n", "vocabulary", m->n_vocab);
    printf("%-14s %" PRIu32 " tokens\n", "context", m->n_ctx_train);
}

static int info(session *s, const session_options *o, bool as_json, bool tensors, bool meta) {
    int code = session_open_model(s, o);
    if (code) return code;
    llmo_model_info m = {.struct_size = sizeof m};
    if (llmo_model_get_info(s->model, &m) != LLMO_OK) return tool_fail_library();
    cJSON *json = as_json ? cJSON_CreateObject() : NULL;
    if (as_json && !json) return tool_fail_memory();
    if (json) {
        info_json(json, &m);
    } else {
        info_text(&m);
    }
    if (meta) code = show_meta(s->model, json);
    if (!code && tensors) code = show_tensors(s->model, m.n_tensors, json);
    if (code) {
        cJSON_Delete(json);
        return code;
    }
    return json ? json_finish(json) : tool_finish(TOOL_OK);
}

int command_info(int argc, char **argv) {
    bool as_json = false, tensors = false, meta = false;
    session_options o;
    session_options_init(&o);
    o.n_threads = 1;
    const char *positional = NULL;
    options list = {.usage = "info MODEL [--tensors] [--meta] [--json]",
                    .description = "Shows what the header of a GGUF file says; no weights are read.\n",
                    .example = "  llmo info model.gguf --tensors\n",
                    .positional = &positional};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Output"},
        {.kind = OPTION_FLAG, .name = "--tensors", .target = &tensors, .help = "list the tensors"},
        {.kind = OPTION_FLAG, .name = "--meta", .target = &meta, .help = "list the metadata"},
        {.kind = OPTION_FLAG, .name = "--json", .target = &as_json, .help = "one JSON object"},
    };
    options_add(&list, own, TOOL_COUNT(own));
    session_add_model_options(&list, &o);
    int code = options_parse(&list, argc, argv);
    if (code != OPTIONS_GO_ON) return code;
    if (positional && o.model_path) return tool_usage("unexpected argument '%s'", positional);
    if (positional) o.model_path = positional;
    session s = {0};
    code = info(&s, &o, as_json, tensors, meta);
    session_close(&s);
    return code;
}

/* --- devices ----------------------------------------------------------------------------------------------------- */

static int devices(session *s, const session_options *o, bool as_json) {
    int code = session_open_runtime(s, o);
    if (code) return code;
    const char *note = llmo_device_gpu_note(s->runtime);
    cJSON *json = as_json ? cJSON_CreateObject() : NULL;
    if (as_json && !json) return tool_fail_memory();
    cJSON *array = json ? cJSON_AddArrayToObject(json, "devices") : NULL;
    for (uint32_t d = 0; d < llmo_device_count(s->runtime); d++) {
        llmo_device_info info = {.struct_size = sizeof info};
        if (llmo_device_get_info(s->runtime, d, &info) != LLMO_OK) {
            cJSON_Delete(json);
            return tool_fail_library();
        }
        const char *kind = info.kind == LLMO_DEVICE_CPU ? "cpu" : info.kind == LLMO_DEVICE_CUDA ? "cuda" : "unknown";
        if (json) {
            cJSON *device = cJSON_CreateObject();
            cJSON_AddItemToArray(array, device);
            (void)cJSON_AddNumberToObject(device, "device", d);
            json_add_string(device, "kind", kind);
            json_add_string(device, "name", info.name);
            json_add_string(device, "detail", info.detail);
            json_add_u64(device, "total_bytes", info.total_bytes);
            json_add_u64(device, "free_bytes", info.free_bytes);
        } else {
            char total[32], available[32];
            printf("%" PRIu32 "  %-4s  %s, %s (%s free)\n         %s\n", d, kind, info.name,
                   tool_bytes_text(info.total_bytes, total), tool_bytes_text(info.free_bytes, available), info.detail);
        }
    }
    if (json) {
        (void)cJSON_AddNumberToObject(json, "threads", llmo_runtime_threads(s->runtime));
        json_add_string(json, "gpu_note", note);
        return json_finish(json);
    }
    printf("threads: %" PRIu32 "\n", llmo_runtime_threads(s->runtime));
    if (*note) printf("no GPU: %s\n", note);
    return tool_finish(TOOL_OK);
}

int command_devices(int argc, char **argv) {
    bool as_json = false;
    session_options o;
    session_options_init(&o);
    options list = {.usage = "devices [--json]",
                    .description = "Lists the devices that the library can use, or says why there is no GPU.\n",
                    .example = "  llmo devices\n"};
    const option own[] = {{.kind = OPTION_FLAG, .name = "--json", .target = &as_json, .help = "one JSON object"}};
    options_add(&list, own, TOOL_COUNT(own));
    int code = options_parse(&list, argc, argv);
    if (code != OPTIONS_GO_ON) return code;
    session s = {0};
    code = devices(&s, &o, as_json);
    session_close(&s);
    return code;
}
