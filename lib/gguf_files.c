/* Where the bytes of a GGUF file come from: sources, the parts of a split model found by file name, and the check that
 * the parts given belong together. Knows nothing of the format below keys. */
#include "gguf_impl.h"

#define SPLIT_TAIL_BYTES 20u /* "-00001-of-00003.gguf" */

/* --- sources ------------------------------------------------------------------------------------------------ */

llmo_status llmoi_source_read(const llmoi_source *s, uint64_t offset, void *dst, size_t bytes) {
    if (offset > s->size_bytes || bytes > s->size_bytes - offset) {
        return llmoi_fail(LLMO_E_IO, "%zu bytes at offset %llu are past the end of the file (%llu bytes)", bytes,
                          (unsigned long long)offset, (unsigned long long)s->size_bytes);
    }
    if (bytes == 0) return LLMO_OK;
    /* a mapped file is read here too, not copied from its mapping: reading reports errors, touching pages kills */
    if (s->kind == LLMOI_SOURCE_FILE) return llmoi_os_file_read(&s->file, offset, dst, bytes);
    if (s->kind == LLMOI_SOURCE_MEMORY) {
        memcpy(dst, s->data + offset, bytes);
        return LLMO_OK;
    }
    int32_t answer = s->reader.read(s->reader.user, offset, dst, bytes);
    if (answer == 0) return LLMO_OK;
    return llmoi_fail(LLMO_E_IO, "the read callback failed at offset %llu, %zu bytes: it returned %d",
                      (unsigned long long)offset, bytes, answer);
}

void llmoi_source_close(llmoi_mem *mem, llmoi_source *s) {
    if (s->kind == LLMOI_SOURCE_FILE) {
        llmoi_os_file_unmap(s->map, s->size_bytes);
        llmoi_os_file_close(&s->file);
    }
    if (s->kind == LLMOI_SOURCE_MEMORY) llmoi_free(mem, s->owned);
    s->map = NULL;
    s->owned = NULL;
    s->data = NULL;
}

static llmo_status open_file(llmoi_source *s, const char *path, bool mmap) {
    *s = (llmoi_source){.kind = LLMOI_SOURCE_FILE};
    LLMOI_TRY(llmoi_os_file_open(&s->file, path));
    s->size_bytes = s->file.size_bytes;
    llmo_status st = LLMO_OK;
    if (s->size_bytes == 0) st = llmoi_fail(LLMO_E_IO, "'%.256s' is empty", path);
    if (st == LLMO_OK && mmap) {
        s->map = llmoi_os_file_map(&s->file);
        if (!s->map) {
            st = LLMO_E_IO;
            llmoi_fail_prefix("'%.256s'", path);
        }
    }
    if (st != LLMO_OK) llmoi_os_file_close(&s->file);
    return st;
}

/* --- split models ------------------------------------------------------------------------------------------- */

static bool five_digits(const char *s, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(s[i] - '0');
    }
    return true;
}

static void put_five_digits(char *s, uint32_t v) {
    for (int i = 4; i >= 0; i--, v /= 10) s[i] = (char)('0' + v % 10);
}

/* True for "...-00002-of-00003.gguf": no = 2, count = 3. */
static bool is_part_name(const char *path, size_t len, uint32_t *no, uint32_t *count) {
    if (len < SPLIT_TAIL_BYTES) return false;
    const char *tail = path + len - SPLIT_TAIL_BYTES;
    return tail[0] == '-' && five_digits(tail + 1, no) && memcmp(tail + 6, "-of-", 4) == 0 &&
           five_digits(tail + 10, count) && memcmp(tail + 15, ".gguf", 5) == 0;
}

llmo_status llmoi_gguf_open_files(llmoi_mem *mem, const char *path, bool mmap, llmoi_source **parts,
                                  uint32_t *n_parts) {
    *parts = NULL;
    *n_parts = 0;
    size_t len = strlen(path);
    uint32_t no = 1, count = 1;
    if (is_part_name(path, len, &no, &count)) {
        if (count == 0 || count > LLMOI_GGUF_MAX_PARTS || no == 0 || no > count) {
            return llmoi_fail(LLMO_E_ARG, "'%.256s' is named as part %u of %u: 1 to %u parts are supported", path, no,
                              count, LLMOI_GGUF_MAX_PARTS);
        }
        if (no != 1) {
            return llmoi_fail(LLMO_E_ARG,
                              "'%.256s' is part %u of a split model: open its first part, '...-00001-of-%05u.gguf'",
                              path, no, count);
        }
    }
    llmoi_source *list = llmoi_alloc_array(mem, LLMO_PURPOSE_HEADER, count, sizeof *list);
    char *name = list ? llmoi_strdup(mem, LLMO_PURPOSE_HEADER, path, len) : NULL;
    llmo_status st = name ? LLMO_OK : LLMO_E_NOMEM;
    uint32_t n = 0;
    for (; st == LLMO_OK && n < count; n++) {
        if (count > 1) put_five_digits(name + len - SPLIT_TAIL_BYTES + 1, n + 1);
        st = open_file(&list[n], name, mmap);
        if (st != LLMO_OK) {
            if (count > 1) llmoi_fail_prefix("part %u of %u", n + 1, count);
            break;
        }
    }
    llmoi_free(mem, name);
    if (st != LLMO_OK) {
        while (n > 0) llmoi_source_close(mem, &list[--n]);
        llmoi_free(mem, list);
        return st;
    }
    *parts = list;
    *n_parts = count;
    return LLMO_OK;
}

static llmo_status check_part(const llmoi_gguf *g, uint32_t i) {
    uint64_t count = 0, no = 0, tensors = g->n_tensors;
    LLMOI_TRY(llmoi_gguf_part_u64(g, i, "split.count", true, 0, UINT64_MAX, &count));
    if (count != g->n_parts) {
        return llmoi_fail(LLMO_E_FORMAT, "key 'split.count': the model has %llu parts, but %u were given",
                          (unsigned long long)count, g->n_parts);
    }
    LLMOI_TRY(llmoi_gguf_part_u64(g, i, "split.no", true, 0, UINT64_MAX, &no));
    if (no != i) {
        return llmoi_fail(LLMO_E_FORMAT,
                          "key 'split.no': this is part %llu of the model, counted from 0, in place of part %u",
                          (unsigned long long)no, i);
    }
    LLMOI_TRY(llmoi_gguf_part_u64(g, i, "split.tensors.count", i == 0, 0, UINT64_MAX, &tensors));
    if (tensors != g->n_tensors) {
        return llmoi_fail(LLMO_E_FORMAT, "key 'split.tensors.count': %llu tensors are announced, the parts have %u",
                          (unsigned long long)tensors, g->n_tensors);
    }
    return LLMO_OK;
}

llmo_status llmoi_gguf_check_split(const llmoi_gguf *g) {
    if (g->n_parts == 1) {
        /* files merged from parts keep the keys, with a count of 0 */
        uint64_t count = 1, no = 0;
        LLMOI_TRY(llmoi_gguf_part_u64(g, 0, "split.count", false, 0, UINT64_MAX, &count));
        if (count <= 1) return LLMO_OK;
        LLMOI_TRY(llmoi_gguf_part_u64(g, 0, "split.no", false, 0, UINT64_MAX, &no));
        return llmoi_fail(LLMO_E_FORMAT,
                          "key 'split.count': this is part %llu of a model split into %llu; open the first by its "
                          "name '...-00001-of-%05llu.gguf', with the others beside it",
                          (unsigned long long)no + 1, (unsigned long long)count, (unsigned long long)count);
    }
    for (uint32_t i = 0; i < g->n_parts; i++) {
        llmo_status st = check_part(g, i);
        if (st == LLMO_OK) continue;
        llmoi_fail_prefix("part %u of %u", i + 1, g->n_parts);
        return st;
    }
    return LLMO_OK;
}
