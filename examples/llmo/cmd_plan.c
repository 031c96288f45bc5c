/* llmo plan: what a context would take and where it would run, before any weight is read. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* --- memory and parameters --------------------------------------------------------------------------------------- */

static void print_memory(const session *s) {
    printf("%-10s", "bytes");
    for (uint32_t d = 0; d < llmo_device_count(s->runtime); d++) {
        llmo_device_info info = {.struct_size = sizeof info};
        bool known = llmo_device_get_info(s->runtime, d, &info) == LLMO_OK;
        printf("  %24.24s", known ? info.name : "?");
    }
    printf("\n");
    for (int32_t p = 0; p <= LLMO_PURPOSE_COUNT; p++) {
        printf("%-10s", p == LLMO_PURPOSE_COUNT ? "total" : llmo_purpose_name(p));
        for (uint32_t d = 0; d < llmo_device_count(s->runtime); d++) {
            char size[32];
            uint64_t bytes = llmo_plan_bytes(s->plan, d, p);
            printf("  %12" PRIu64 " %11s", bytes, tool_bytes_text(bytes, size));
        }
        printf("\n");
    }
}

static const char *kv_name(int32_t type) {
    return type == LLMO_KV_F32 ? "f32" : type == LLMO_KV_F16 ? "f16" : "unknown";
}

static const char *numerics_name(int32_t numerics) {
    return numerics == LLMO_NUMERICS_Q8 ? "q8" : numerics == LLMO_NUMERICS_F32 ? "f32" : "unknown";
}

static void budget_text(uint64_t bytes, char out[static 32]) {
    if (bytes == LLMO_BYTES_UNLIMITED) {
        (void)snprintf(out, 32, "unlimited");
    } else {
        (void)tool_bytes_text(bytes, out);
    }
}

static void print_params(const llmo_plan_params *p) {
    char vram[32], ram[32];
    budget_text(p->vram_budget_bytes, vram);
    budget_text(p->ram_budget_bytes, ram);
    printf("\ncontext %" PRIu32 " tokens, sequences %" PRIu32 ", KV cache %" PRIu64 " tokens (keys %s, values %s), ",
           p->n_ctx, p->n_sequences, p->n_kv_tokens, kv_name(p->kv_type_k), kv_name(p->kv_type_v));
    printf("batch %" PRIu32 ", numerics %s\nGPU layers %" PRId32 ", VRAM budget %s, RAM budget %s\n", p->n_batch,
           numerics_name(p->numerics), p->gpu_layers, vram, ram);
}

static void params_json(cJSON *json, const llmo_plan_params *p) {
    cJSON *object = cJSON_AddObjectToObject(json, "params");
    json_add_u64(object, "n_ctx", p->n_ctx);
    json_add_u64(object, "n_sequences", p->n_sequences);
    json_add_u64(object, "n_batch", p->n_batch);
    json_add_u64(object, "n_kv_tokens", p->n_kv_tokens);
    json_add_string(object, "kv_type_k", kv_name(p->kv_type_k));
    json_add_string(object, "kv_type_v", kv_name(p->kv_type_v));
    (void)cJSON_AddNumberToObject(object, "gpu_layers", p->gpu_layers);
    json_add_string(object, "numerics", numerics_name(p->numerics));
    /* null: unlimited */
    if (p->vram_budget_bytes == LLMO_BYTES_UNLIMITED) {
        (void)cJSON_AddNullToObject(object, "vram_budget_bytes");
    } else {
        json_add_u64(object, "vram_budget_bytes", p->vram_budget_bytes);
    }
    if (p->ram_budget_bytes == LLMO_BYTES_UNLIMITED) {
        (void)cJSON_AddNullToObject(object, "ram_budget_bytes");
    } else {
        json_add_u64(object, "ram_budget_bytes", p->ram_budget_bytes);
    }
}

/* --- matmuls ----------------------------------------------------------------------------------------------------- */

/* The name without its layer number: "blk.*.attn_q.weight". */
static void group_name(const llmo_site_info *site, char *out, size_t cap) {
    char number[24];
    (void)snprintf(number, sizeof number, ".%" PRId32 ".", site->layer);
    const char *at = site->layer >= 0 ? strstr(site->tensor, number) : NULL;
    if (at) {
        (void)snprintf(out, cap, "%.*s.*.%s", (int)(at - site->tensor), site->tensor, at + strlen(number));
    } else {
        (void)snprintf(out, cap, "%s", site->tensor);
    }
}

static bool same_group(const llmo_plan *plan, uint32_t a, const llmo_site_info *x, uint32_t b,
                       const llmo_site_info *y) {
    char name_x[160], name_y[160];
    group_name(x, name_x, sizeof name_x);
    group_name(y, name_y, sizeof name_y);
    if (x->device != y->device || x->rows != y->rows || x->k != y->k || x->n_declined != y->n_declined ||
        (x->layer < 0) != (y->layer < 0) || strcmp(x->type, y->type) != 0 || strcmp(x->row, y->row) != 0 ||
        strcmp(name_x, name_y) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < x->n_declined; i++) {
        const char *reason_x = llmo_plan_site_reason(plan, a, i);
        const char *reason_y = llmo_plan_site_reason(plan, b, i);
        if (!reason_x || !reason_y || strcmp(reason_x, reason_y) != 0) return false;
    }
    return true;
}

static void print_range(int32_t first, int32_t last, bool more) {
    printf(more ? "," : "  layers ");
    if (first == last) {
        printf("%" PRId32, first);
    } else {
        printf("%" PRId32 "-%" PRId32, first, last);
    }
}

/* The group of site `at`: everything from there on that is equal; marks its members in `done`. */
static void print_group(const llmo_plan *plan, const llmo_site_info *sites, uint32_t n, uint32_t at, bool *done) {
    const llmo_site_info *site = &sites[at];
    char name[160], size[32];
    group_name(site, name, sizeof name);
    uint64_t bytes = 0;
    uint32_t members = 0;
    int32_t first = 0, last = 0;
    bool open = false, more = false;
    printf("  ");
    tool_print_text(stdout, name, strlen(name), SIZE_MAX);
    printf(":");
    for (uint32_t i = at; i < n; i++) {
        if (done[i] || !same_group(plan, at, site, i, &sites[i])) continue;
        done[i] = true;
        members++;
        bytes += sites[i].n_bytes;
        if (site->layer < 0) continue;
        if (open && sites[i].layer == last + 1) {
            last = sites[i].layer;
            continue;
        }
        if (open) {
            print_range(first, last, more);
            more = true;
        }
        first = last = sites[i].layer;
        open = true;
    }
    if (open) print_range(first, last, more);
    printf("  %s (%" PRIu64 ", %" PRIu64 ")  device %" PRIu32 "  %s  %" PRIu32 " x, %s\n", site->type, site->rows,
           site->k, site->device, site->row, members, tool_bytes_text(bytes, size));
    for (uint32_t i = 0; i < site->n_declined; i++) {
        const char *reason = llmo_plan_site_reason(plan, at, i);
        printf("      not %s\n", reason ? reason : "?");
    }
}

static void site_json(cJSON *array, const llmo_plan *plan, uint32_t index, const llmo_site_info *site) {
    cJSON *object = cJSON_CreateObject();
    (void)cJSON_AddItemToArray(array, object);
    json_add_string(object, "tensor", site->tensor);
    (void)cJSON_AddNumberToObject(object, "layer", site->layer);
    json_add_u64(object, "device", site->device);
    json_add_string(object, "type", site->type);
    json_add_u64(object, "rows", site->rows);
    json_add_u64(object, "k", site->k);
    json_add_u64(object, "bytes", site->n_bytes);
    json_add_string(object, "row", site->row);
    cJSON *declined = cJSON_AddArrayToObject(object, "declined");
    for (uint32_t i = 0; i < site->n_declined; i++) {
        const char *reason = llmo_plan_site_reason(plan, index, i);
        if (reason) json_append_text(declined, reason);
    }
}

static int show_sites(const llmo_plan *plan, cJSON *json) {
    uint32_t n = llmo_plan_site_count(plan);
    llmo_site_info *sites = calloc((size_t)n + 1, sizeof *sites);
    bool *done = calloc((size_t)n + 1, sizeof *done);
    if (!sites || !done) {
        free(sites);
        free(done);
        return tool_fail_memory();
    }
    int code = TOOL_OK;
    for (uint32_t i = 0; i < n && !code; i++) {
        sites[i].struct_size = sizeof sites[i];
        if (llmo_plan_get_site(plan, i, &sites[i]) != LLMO_OK) code = tool_fail_library();
    }
    if (!code && json) {
        cJSON *array = cJSON_AddArrayToObject(json, "sites");
        for (uint32_t i = 0; i < n; i++) site_json(array, plan, i, &sites[i]);
    } else if (!code) {
        printf("\nmatmuls: type (rows, k), device, the kernel that runs them, how many and their bytes\n");
        for (uint32_t i = 0; i < n; i++) {
            if (!done[i]) print_group(plan, sites, n, i, done);
        }
    }
    free(sites);
    free(done);
    return code;
}

/* --- command ----------------------------------------------------------------------------------------------------- */

static int plan(session *s, const session_options *o, bool as_json) {
    int code = session_open_plan(s, o);
    if (code) return code;
    llmo_plan_params params = {.struct_size = sizeof params};
    if (llmo_plan_get_params(s->plan, &params) != LLMO_OK) return tool_fail_library();
    cJSON *json = as_json ? cJSON_CreateObject() : NULL;
    if (as_json && !json) return tool_fail_memory();
    if (json) {
        params_json(json, &params);
        (void)cJSON_AddItemToObject(json, "memory", session_memory_json(s));
    } else {
        print_memory(s);
        print_params(&params);
    }
    cJSON *notes = json ? cJSON_AddArrayToObject(json, "notes") : NULL;
    const char *note = NULL;
    for (uint32_t i = 0; (note = llmo_plan_note(s->plan, i)) != NULL; i++) {
        if (json) {
            json_append_text(notes, note);
        } else {
            printf("note: %s\n", note);
        }
    }
    code = show_sites(s->plan, json);
    if (code) {
        cJSON_Delete(json);
        return code;
    }
    return json ? json_finish(json) : tool_finish(TOOL_OK);
}

int command_plan(int argc, char **argv) {
    bool as_json = false;
    session_options o;
    session_options_init(&o);
    options list = {.usage = "plan -m MODEL [options]",
                    .description =
                        "Shows the bytes that a context takes per device and purpose, exactly, and for each\n"
                        "matmul the kernel that runs it and why better ones do not (JSON: one entry each).\n"
                        "Only the header of the file is read.\n",
                    .example = "  llmo plan -m model.gguf --ctx 8192 --vram 8G\n"};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Output"},
        {.kind = OPTION_FLAG, .name = "--json", .target = &as_json, .help = "one JSON object"},
    };
    const option sequences[] = {
        {.kind = OPTION_U32,
         .name = "--sequences",
         .arg = "N",
         .target = &o.plan.n_sequences,
         .min = 1,
         .max = 1024,
         .help = "conversations at the same time"},
    };
    options_add(&list, own, TOOL_COUNT(own));
    session_add_model_options(&list, &o);
    session_add_plan_options(&list, &o);
    options_add(&list, sequences, TOOL_COUNT(sequences));
    int code = options_parse(&list, argc, argv);
    if (code != OPTIONS_GO_ON) return code;
    session s = {0};
    code = plan(&s, &o, as_json);
    session_close(&s);
    return code;
}
