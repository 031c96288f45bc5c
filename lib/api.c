/* Bodies of the public calls, part 1: runtime, devices, model, tokens. Each checks its arguments, calls inside, and leaves
 * the sentence of a failure on the handle. No logic of its own. */
#include "api.h"

#include <stdio.h>

/* --- sized structs ---------------------------------------------------------------------------------------------------- */

#define MAX_STRUCT_BYTES 4096u /* no struct of this interface comes near; more is garbage */

/* Every struct has a member of 8-byte alignment, so every version's size is a multiple of 8 and cuts no field. */
static llmo_status check_size(uint32_t size, const char *name) {
    if (size >= 8 && size <= MAX_STRUCT_BYTES && size % 8 == 0) return LLMO_OK;
    return llmoi_fail(LLMO_E_ARG, "%s: struct_size %u is not the size of any version (use its init call)", name, size);
}

llmo_status llmoi_read_params(void *dst, size_t dst_bytes, const void *src, const char *name) {
    if (!src) return LLMO_OK;
    uint32_t size;
    memcpy(&size, src, sizeof size);
    LLMOI_TRY(check_size(size, name));
    for (size_t i = dst_bytes; i < size; i++) {
        if (((const char *)src)[i]) {
            return llmoi_fail(LLMO_E_VERSION,
                              "%s: struct_size %u, this library knows %zu bytes, and the rest is not zero", name, size,
                              dst_bytes);
        }
    }
    memcpy(dst, src, size < dst_bytes ? size : dst_bytes);
    uint32_t known = (uint32_t)dst_bytes;
    memcpy(dst, &known, sizeof known);
    return LLMO_OK;
}

llmo_status llmoi_write_info(void *out, const void *info, size_t info_bytes, const char *name) {
    LLMOI_CHECK_ARG(out, "%s is NULL", name);
    uint32_t size;
    memcpy(&size, out, sizeof size);
    LLMOI_TRY(check_size(size, name));
    if (info_bytes > size) info_bytes = size;
    memcpy((char *)out + sizeof size, (const char *)info + sizeof size, info_bytes - sizeof size);
    return LLMO_OK;
}

llmo_status llmoi_check(const llmoi_handle *h, llmoi_kind kind, const llmo_runtime *rt, const char *name) {
    LLMOI_CHECK_ARG(h && rt, "%s is NULL", name);
    LLMOI_CHECK_ARG(llmoi_handle_is(h, kind), "%s is not a live %s handle", name, name);
    if (rt->process_id != llmoi_os_process_id()) {
        return llmoi_fail(LLMO_E_FORKED, "%s belongs to the parent process", name);
    }
    return LLMO_OK;
}

static bool is_model(const llmo_model *m) {
    return m && llmoi_handle_is(&m->handle, LLMOI_MODEL);
}

static llmo_status check_runtime(const llmo_runtime *rt) {
    return llmoi_check(rt ? &rt->handle : NULL, LLMOI_RUNTIME, rt, "runtime");
}

static llmo_status check_model(const llmo_model *m) {
    return llmoi_check(m ? &m->handle : NULL, LLMOI_MODEL, is_model(m) ? m->runtime : NULL, "model");
}

/* --- version, runtime ------------------------------------------------------------------------------------------------- */

#define TEXT2(x) #x
#define TEXT(x)  TEXT2(x)

const char *llmo_version(void) {
    return TEXT(LLMO_VERSION_MAJOR) "." TEXT(LLMO_VERSION_MINOR) "." TEXT(LLMO_VERSION_PATCH);
}

uint32_t llmo_version_number(void) {
    return LLMO_VERSION_MAJOR << 16 | LLMO_VERSION_MINOR << 8 | LLMO_VERSION_PATCH;
}

uint32_t llmo_abi_version(void) {
    return LLMO_ABI_MAJOR;
}

void llmo_runtime_params_init(llmo_runtime_params *params) {
    if (!params) return;
    memset(params, 0, sizeof *params);
    params->struct_size = sizeof *params;
    params->n_threads = LLMO_THREADS_AUTO;
    params->log_level = LLMO_LOG_WARN;
}

llmo_status llmo_runtime_create(const llmo_runtime_params *params, llmo_runtime **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    llmo_runtime_params p;
    llmo_runtime_params_init(&p);
    LLMOI_TRY(llmoi_read_params(&p, sizeof p, params, "llmo_runtime_params"));
    return llmoi_runtime_create(&p, out);
}

void llmo_runtime_destroy(llmo_runtime *runtime) {
    if (runtime && llmoi_handle_retire(&runtime->handle, LLMOI_RUNTIME)) llmoi_runtime_release(runtime);
}

const char *llmo_runtime_error(llmo_runtime *runtime) {
    return runtime && llmoi_handle_is(&runtime->handle, LLMOI_RUNTIME) ? runtime->handle.error : "";
}

static uint64_t bytes_of(const llmoi_mem *mem, int32_t purpose) {
    if (purpose == LLMO_PURPOSE_COUNT) return llmoi_mem_total(mem);
    if (purpose < 0 || purpose > LLMO_PURPOSE_COUNT) return 0;
    return atomic_load(&mem->bytes[purpose]);
}

uint64_t llmo_runtime_bytes(const llmo_runtime *runtime, int32_t purpose) {
    return runtime && llmoi_handle_is(&runtime->handle, LLMOI_RUNTIME) ? bytes_of(&runtime->mem, purpose) : 0;
}

uint32_t llmo_runtime_threads(const llmo_runtime *runtime) {
    bool ok = runtime && llmoi_handle_is(&runtime->handle, LLMOI_RUNTIME);
    return ok ? llmoi_pool_threads(runtime->pool) : 0;
}

/* --- devices ---------------------------------------------------------------------------------------------------------- */

uint32_t llmo_device_count(const llmo_runtime *runtime) {
    if (!runtime || !llmoi_handle_is(&runtime->handle, LLMOI_RUNTIME)) return 0;
    return 1 + (runtime->cuda ? runtime->cuda->n_devices : 0);
}

llmo_status llmo_device_get_info(llmo_runtime *runtime, uint32_t index, llmo_device_info *info) {
    LLMOI_TRY(check_runtime(runtime));
    if (index >= llmo_device_count(runtime)) {
        return llmoi_handle_note(&runtime->handle, llmoi_fail(LLMO_E_ARG, "device %u does not exist, there are %u",
                                                              index, llmo_device_count(runtime)));
    }
    const llmoi_backend *be = index ? runtime->cuda : runtime->cpu;
    uint32_t local = index ? index - 1 : 0;
    llmoi_device d;
    be->describe(local, &d);
    llmo_device_info i = {.struct_size = sizeof i, .kind = d.kind, .total_bytes = d.total_bytes};
    i.free_bytes = be->free_bytes(local);
    memcpy(i.name, d.name, sizeof i.name);
    memcpy(i.detail, d.detail, sizeof i.detail);
    return llmoi_handle_note(&runtime->handle, llmoi_write_info(info, &i, sizeof i, "llmo_device_info"));
}

const char *llmo_device_gpu_note(const llmo_runtime *runtime) {
    bool ok = runtime && llmoi_handle_is(&runtime->handle, LLMOI_RUNTIME);
    return ok && !runtime->cuda ? runtime->gpu_note : "";
}

/* --- model ------------------------------------------------------------------------------------------------------------ */

void llmo_model_params_init(llmo_model_params *params) {
    if (!params) return;
    memset(params, 0, sizeof *params);
    params->struct_size = sizeof *params;
}

/* Where a model's bytes come from: one of the three ways to open one. */
typedef struct origin {
    const char *path;
    const void *data;
    size_t size_bytes;
    const llmo_reader *readers;
    uint32_t n_readers;
} origin;

static llmo_status make_sources(llmo_model *m, const origin *from, uint32_t flags, llmoi_source **parts,
                                uint32_t *n_parts) {
    if (from->path) return llmoi_gguf_open_files(&m->mem, from->path, (flags & LLMO_MODEL_MMAP) != 0, parts, n_parts);
    uint32_t n = from->readers ? from->n_readers : 1;
    llmoi_source *list = llmoi_zalloc_array(&m->mem, LLMO_PURPOSE_HEADER, n, sizeof *list);
    if (!list) return LLMO_E_NOMEM;
    if (from->readers) {
        for (uint32_t i = 0; i < n; i++) {
            list[i].kind = LLMOI_SOURCE_READER;
            list[i].reader = from->readers[i];
            list[i].size_bytes = from->readers[i].size_bytes;
        }
    } else {
        list->kind = LLMOI_SOURCE_MEMORY;
        list->size_bytes = from->size_bytes;
        list->data = from->data;
        if (!(flags & LLMO_MODEL_BORROW)) {
            list->owned = llmoi_alloc(&m->mem, LLMO_PURPOSE_HEADER, from->size_bytes);
            if (!list->owned) {
                llmoi_free(&m->mem, list);
                return LLMO_E_NOMEM;
            }
            memcpy(list->owned, from->data, from->size_bytes);
            list->data = list->owned;
        }
    }
    *parts = list;
    *n_parts = n;
    return LLMO_OK;
}

static llmo_status open_origin(llmo_runtime *rt, const origin *from, const llmo_model_params *p, llmo_model **out) {
    llmo_model *m;
    LLMOI_TRY(llmoi_model_alloc(rt, &m));
    llmoi_source *parts = NULL;
    uint32_t n_parts = 0;
    llmo_status st = make_sources(m, from, p->flags, &parts, &n_parts);
    if (st == LLMO_OK) st = llmoi_model_load_header(m, parts, n_parts, p->pre_tokenizer);
    if (st != LLMO_OK) {
        llmoi_model_release(m);
        return st;
    }
    *out = m;
    return LLMO_OK;
}

static llmo_status open_model(llmo_runtime *rt, const origin *from, const llmo_model_params *params, uint32_t allowed,
                              llmo_model **out) {
    llmo_model_params p;
    llmo_model_params_init(&p);
    LLMOI_TRY(llmoi_read_params(&p, sizeof p, params, "llmo_model_params"));
    LLMOI_CHECK_ARG(!(p.flags & ~allowed), "flags 0x%x: not allowed for this way to open a model", p.flags & ~allowed);
    llmo_status st = open_origin(rt, from, &p, out);
    if (st != LLMO_OK && from->path) llmoi_fail_prefix("%.200s", from->path);
    return st;
}

llmo_status llmo_model_open(llmo_runtime *runtime, const char *path, const llmo_model_params *params,
                            llmo_model **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_runtime(runtime));
    LLMOI_CHECK_ARG(path, "path is NULL");
    origin from = {.path = path};
    return llmoi_handle_note(&runtime->handle, open_model(runtime, &from, params, LLMO_MODEL_MMAP, out));
}

llmo_status llmo_model_open_memory(llmo_runtime *runtime, const void *data, size_t size_bytes,
                                   const llmo_model_params *params, llmo_model **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_runtime(runtime));
    LLMOI_CHECK_ARG(data, "data is NULL");
    origin from = {.data = data, .size_bytes = size_bytes};
    return llmoi_handle_note(&runtime->handle, open_model(runtime, &from, params, LLMO_MODEL_BORROW, out));
}

llmo_status llmo_model_open_readers(llmo_runtime *runtime, const llmo_reader *readers, uint32_t n_readers,
                                    const llmo_model_params *params, llmo_model **out) {
    LLMOI_CHECK_ARG(out, "out is NULL");
    *out = NULL;
    LLMOI_TRY(check_runtime(runtime));
    LLMOI_CHECK_ARG(readers, "readers is NULL");
    LLMOI_CHECK_ARG(n_readers >= 1 && n_readers <= LLMOI_GGUF_MAX_PARTS, "n_readers %u is outside 1..%u", n_readers,
                    LLMOI_GGUF_MAX_PARTS);
    for (uint32_t i = 0; i < n_readers; i++) {
        if (readers[i].struct_size > sizeof *readers && readers[i].struct_size <= MAX_STRUCT_BYTES) {
            return llmoi_fail(LLMO_E_VERSION, "readers[%u].struct_size is %u, this library knows %zu bytes", i,
                              readers[i].struct_size, sizeof *readers);
        }
        LLMOI_CHECK_ARG(readers[i].struct_size == sizeof *readers, "readers[%u].struct_size is %u, not %zu", i,
                        readers[i].struct_size, sizeof *readers);
        LLMOI_CHECK_ARG(readers[i].reserved0 == 0, "readers[%u].reserved0 is not 0", i);
        LLMOI_CHECK_ARG(readers[i].read, "readers[%u].read is NULL", i);
    }
    origin from = {.readers = readers, .n_readers = n_readers};
    return llmoi_handle_note(&runtime->handle, open_model(runtime, &from, params, 0, out));
}

void llmo_model_destroy(llmo_model *model) {
    if (model && llmoi_handle_retire(&model->handle, LLMOI_MODEL)) llmoi_model_release(model);
}

const char *llmo_model_error(llmo_model *model) {
    return is_model(model) ? model->handle.error : "";
}

llmo_status llmo_model_get_info(llmo_model *model, llmo_model_info *info) {
    LLMOI_TRY(check_model(model));
    llmo_model_info i = {.struct_size = sizeof i};
    llmoi_model_describe(model, &i);
    return llmoi_handle_note(&model->handle, llmoi_write_info(info, &i, sizeof i, "llmo_model_info"));
}

uint32_t llmo_model_meta_count(const llmo_model *model) {
    return is_model(model) ? llmoi_gguf_n_keys(model->gguf) : 0;
}

const char *llmo_model_meta_key(const llmo_model *model, uint32_t index) {
    return is_model(model) ? llmoi_gguf_key(model->gguf, index) : NULL;
}

llmo_status llmo_model_meta_text(llmo_model *model, const char *key, char *buf, size_t cap, size_t *len) {
    LLMOI_TRY(check_model(model));
    LLMOI_CHECK_ARG(key, "key is NULL");
    LLMOI_CHECK_ARG(buf || cap == 0, "buf is NULL, cap is %zu", cap);
    LLMOI_CHECK_ARG(len, "len is NULL");
    return llmoi_handle_note(&model->handle, llmoi_gguf_text(model->gguf, key, buf, cap, len));
}

llmo_status llmo_model_get_tensor(llmo_model *model, uint32_t index, llmo_tensor_info *info) {
    LLMOI_TRY(check_model(model));
    const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(model->gguf, index);
    if (!t) {
        return llmoi_handle_note(&model->handle, llmoi_fail(LLMO_E_ARG, "tensor index %u: the file has %u tensors",
                                                            index, llmoi_gguf_n_tensors(model->gguf)));
    }
    llmo_tensor_info i = {
        .struct_size = sizeof i, .n_dims = t->n_dims, .n_bytes = t->n_bytes, .file_offset = t->offset, .part = t->part};
    memcpy(i.dims, t->dims, sizeof i.dims);
    (void)snprintf(i.type, sizeof i.type, "%s", llmoi_type_find(t->type)->name);
    (void)snprintf(i.name, sizeof i.name, "%s", t->name);
    return llmoi_handle_note(&model->handle, llmoi_write_info(info, &i, sizeof i, "llmo_tensor_info"));
}

/* --- tokens ----------------------------------------------------------------------------------------------------------- */

llmo_status llmo_tokenize(llmo_model *model, const char *text, size_t text_bytes, uint32_t flags, llmo_token *tokens,
                          size_t cap, size_t *n_tokens) {
    LLMOI_TRY(check_model(model));
    LLMOI_CHECK_ARG(text || text_bytes == 0, "text is NULL, text_bytes is %zu", text_bytes);
    LLMOI_CHECK_ARG(tokens || cap == 0, "tokens is NULL, cap is %zu", cap);
    LLMOI_CHECK_ARG(n_tokens, "n_tokens is NULL");
    LLMOI_CHECK_ARG(!(flags & ~3u), "flags 0x%x: unknown bits", flags);
    return llmoi_handle_note(&model->handle, llmoi_tokenizer_encode(model->tokenizer, &model->mem, text ? text : "",
                                                                    text_bytes, flags, tokens, cap, n_tokens));
}

llmo_status llmo_detokenize(llmo_model *model, const llmo_token *tokens, size_t n_tokens, uint32_t flags, char *text,
                            size_t cap, size_t *text_bytes) {
    LLMOI_TRY(check_model(model));
    LLMOI_CHECK_ARG(tokens || n_tokens == 0, "tokens is NULL, n_tokens is %zu", n_tokens);
    LLMOI_CHECK_ARG(text || cap == 0, "text is NULL, cap is %zu", cap);
    LLMOI_CHECK_ARG(text_bytes, "text_bytes is NULL");
    LLMOI_CHECK_ARG(!(flags & ~3u), "flags 0x%x: unknown bits", flags);
    return llmoi_handle_note(&model->handle,
                             llmoi_tokenizer_decode(model->tokenizer, tokens, n_tokens, flags, text, cap, text_bytes));
}

llmo_token llmo_model_special_token(const llmo_model *model, int32_t special) {
    return is_model(model) ? llmoi_tokenizer_special(model->tokenizer, special) : LLMO_TOKEN_NONE;
}

uint32_t llmo_model_token_attr(const llmo_model *model, llmo_token token) {
    return is_model(model) ? llmoi_tokenizer_attr(model->tokenizer, token) : UINT32_MAX;
}
