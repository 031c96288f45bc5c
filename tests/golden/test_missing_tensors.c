/* Every golden architecture with one tensor renamed at a time: what the architecture needs is refused by name, what it
 * can do without loads. Nothing crashes, nothing leaks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_fixture.h"

/* Tensors that a model may lack: a head that is the embedding, divisors of RoPE, falcon's second norm, llama's biases. */
static bool optional(const char *arch, const char *name) {
    static const char *const parts[] = {"output.weight", "rope_freqs.weight", "attn_norm_2.weight"};
    if (strstr(name, "attn_output.weight")) return false;
    if (strcmp(arch, "llama") == 0 && strstr(name, ".bias")) return true;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (strstr(name, parts[i])) return true;
    }
    return false;
}

/* Where the tensor's name stands in the file: behind its length. */
static char *find_name(char *file, size_t size, const char *name) {
    uint64_t len = strlen(name);
    for (size_t i = 8; i + len <= size; i++) {
        if (memcmp(file + i - 8, &len, 8) == 0 && memcmp(file + i, name, len) == 0) return file + i;
    }
    return NULL;
}

/* Number of tensors tried. */
static uint32_t rename_each(llmo_runtime *rt, const char *path) {
    size_t size;
    char *file = read_file(path, &size);
    llmo_model_params borrow;
    llmo_model_params_init(&borrow);
    borrow.flags = LLMO_MODEL_BORROW;
    llmo_model *m = NULL;
    uint32_t n = 0;
    if (llmo_model_open_memory(rt, file, size, &borrow, &m) == LLMO_E_UNSUPPORTED) {
        print_message("[  SKIP    ] %s: %s\n", path, llmo_last_error());
        free(file);
        return 0;
    }
    assert_non_null(m);
    llmo_model_info info = {.struct_size = sizeof info};
    assert_ok(llmo_model_get_info(m, &info));
    llmo_tensor_info t = {.struct_size = sizeof t};
    for (; llmo_model_get_tensor(m, n, &t) == LLMO_OK; n++) {
        char *at = find_name(file, size, t.name);
        assert_non_null(at);
        char first = *at;
        *at = '~';
        llmo_model *broken = NULL;
        llmo_status st = llmo_model_open_memory(rt, file, size, &borrow, &broken);
        if (optional(info.architecture, t.name)) {
            if (st != LLMO_OK) fail_msg("%s without %s: %s", path, t.name, llmo_last_error());
            llmo_model_destroy(broken);
        } else {
            if (st != LLMO_E_FORMAT) fail_msg("%s without %s: %s", path, t.name, llmo_status_name(st));
            /* a fused tensor's name stands for what it holds, so the sentence may name one of its parts */
            bool fused = strstr(t.name, "attn_qkv") || strstr(t.name, "ffn_up");
            if (!fused && !strstr(llmo_last_error(), t.name)) {
                fail_msg("%s without %s: '%s' does not name it", path, t.name, llmo_last_error());
            }
            assert_null(broken);
        }
        *at = first;
    }
    llmo_model_destroy(m);
    free(file);
    return n;
}

static void missing_tensors_are_named(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    llmo_runtime *rt;
    assert_ok(llmo_runtime_create(NULL, &rt));
    uint64_t before = llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT);
    uint32_t n = 0;
    char **files = list_files(shared_path("data/golden/arch"), ".gguf");
    for (char **f = files; *f; f++) {
        n += rename_each(rt, shared_path("data/golden/arch/%s", *f));
        free(*f);
    }
    free(files);
    print_message("%u tensors renamed\n", n);
    assert_true(n > 400);
    assert_int_equal(llmo_runtime_bytes(rt, LLMO_PURPOSE_COUNT), before);
    llmo_runtime_destroy(rt);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(missing_tensors_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
