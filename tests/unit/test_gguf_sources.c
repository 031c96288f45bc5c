/* Where GGUF files come from: files, maps, memory, the host's reader, split models in several parts; and reads and
 * allocations that fail on the way. */
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "shared_data.h"
#include "gguf_open.h"

static llmoi_mem mem;

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) == 0 ? 0 : -1;
}

/* --- real files ---------------------------------------------------------------------------------------------- */

static uint64_t hash_file(const llmoi_gguf *g) {
    uint64_t h = 1469598103934665603u;
    for (uint32_t i = 0; i < llmoi_gguf_n_keys(g); i++) {
        static char text[1 << 20];
        size_t len;
        assert_ok(llmoi_gguf_text(g, llmoi_gguf_key(g, i), text, sizeof text, &len));
        for (size_t k = 0; k < len; k++) h = (h ^ (unsigned char)text[k]) * 1099511628211u;
    }
    for (uint32_t i = 0; i < llmoi_gguf_n_tensors(g); i++) {
        const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(g, i);
        unsigned char *data = malloc(t->n_bytes);
        assert_ok(llmoi_source_read(llmoi_gguf_source(g, t->part), t->offset, data, t->n_bytes));
        for (size_t k = 0; k < t->n_bytes; k += 61) h = (h ^ data[k]) * 1099511628211u;
        free(data);
    }
    return h;
}

static uint64_t padded(uint64_t n) {
    return (n + 31) / 32 * 32;
}

static void every_shared_file_opens_and_is_covered_by_its_tensors(void **state) {
    (void)state;
    SKIP_WITHOUT_SHARED();
    const char *folders[] = {"models", "golden/arch", "golden/quantized", "vocab"};
    int files = 0;
    for (int f = 0; f < 4; f++) {
        const char *folder = shared_path("data/%s", folders[f]);
        char **names = list_files(folder, ".gguf");
        for (int i = 0; names[i]; i++, files++) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s", folder, names[i]);
            uint64_t hashes[2];
            for (int mapped = 0; mapped < 2; mapped++) {
                llmoi_source *parts;
                uint32_t n;
                llmoi_gguf *g;
                assert_ok(llmoi_gguf_open_files(&mem, path, mapped, &parts, &n));
                assert_ok(llmoi_gguf_open(&mem, parts, n, &g));
                llmoi_free(&mem, parts);
                const llmoi_source *s = llmoi_gguf_source(g, 0);
                assert_int_equal(s->map != NULL, mapped);
                if (mapped) assert_memory_equal(s->map, "GGUF", 4);
                uint64_t sum = 0, start = UINT64_MAX;
                for (uint32_t k = 0; k < llmoi_gguf_n_tensors(g); k++) {
                    const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(g, k);
                    sum += padded(t->n_bytes);
                    if (t->offset < start) start = t->offset;
                }
                if (sum) assert_true(start + sum == padded(s->size_bytes));
                hashes[mapped] = hash_file(g);
                llmoi_gguf_close(g);
            }
            assert_true(hashes[0] == hashes[1]);
            size_t size;
            char *bytes = read_file(path, &size);
            llmoi_gguf *g;
            assert_ok(open_bytes(&mem, bytes, size, &g));
            assert_true(hash_file(g) == hashes[0]);
            llmoi_gguf_close(g);
            test_reader r = {.bytes = (unsigned char *)bytes, .size = size};
            llmoi_source s = reader_source(&r);
            assert_ok(llmoi_gguf_open(&mem, &s, 1, &g));
            assert_true(hash_file(g) == hashes[0]);
            llmoi_gguf_close(g);
            free(bytes);
            free(names[i]);
        }
        free(names);
    }
    assert_true(files >= 100);
}

/* --- sources ------------------------------------------------------------------------------------------------- */

static void reads_past_the_end_fail(void **state) {
    (void)state;
    test_reader r = {.bytes = (const unsigned char *)"0123456789", .size = 10};
    llmoi_source sources[2] = {memory_source("0123456789", 10), reader_source(&r)};
    for (int i = 0; i < 2; i++) {
        char b[16];
        assert_ok(llmoi_source_read(&sources[i], 4, b, 6));
        assert_memory_equal(b, "456789", 6);
        assert_ok(llmoi_source_read(&sources[i], 10, b, 0));
        uint64_t calls = r.calls;
        assert_fails(llmoi_source_read(&sources[i], 4, b, 7), LLMO_E_IO, "at offset 4");
        assert_fails(llmoi_source_read(&sources[i], 11, b, 0), LLMO_E_IO, "at offset 11");
        assert_fails(llmoi_source_read(&sources[i], UINT64_MAX, b, 1), LLMO_E_IO, "past the end");
        assert_fails(llmoi_source_read(&sources[i], 1, b, SIZE_MAX), LLMO_E_IO, "past the end");
        assert_true(r.calls == calls); /* the host's callback is not asked */
    }
}

static void owned_memory_goes_with_the_file(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    gb_u32(&b, "k", 1);
    size_t size;
    unsigned char *bytes = gb_finish(&b, &size);
    gb_free(&b);
    llmoi_source s = {.kind = LLMOI_SOURCE_MEMORY, .size_bytes = size};
    s.owned = llmoi_alloc(&mem, LLMO_PURPOSE_WEIGHTS, size);
    memcpy(s.owned, bytes, size);
    s.data = s.owned;
    free(bytes);
    llmoi_gguf *g;
    assert_ok(llmoi_gguf_open(&mem, &s, 1, &g));
    llmoi_gguf_close(g); /* teardown sees a leak, the sanitizer a double free */
}

static void opening_with_no_parts_or_too_many_is_refused(void **state) {
    (void)state;
    llmoi_source s = memory_source("", 0);
    llmoi_gguf *g = (llmoi_gguf *)&s;
    assert_fails(llmoi_gguf_open(&mem, &s, 0, &g), LLMO_E_ARG, "0 parts");
    assert_null(g);
    assert_fails(llmoi_gguf_open(&mem, &s, LLMOI_GGUF_MAX_PARTS + 1, &g), LLMO_E_ARG, "1025 parts");
}

/* --- split models -------------------------------------------------------------------------------------------- */

typedef struct split {
    unsigned char *bytes[3];
    size_t size[3];
} split;

typedef struct split_faults {
    int count, no, tensors; /* added to what is right, in part 1 */
    bool duplicate, no_keys, no_total;
} split_faults;

/* Three parts: metadata and a, b in the first; c in the second; d in the third. */
static split make_split(split_faults f) {
    split s;
    for (int i = 0; i < 3; i++) {
        gguf_builder b;
        gb_init(&b);
        bool bad = i == 1;
        if (i == 0)
            gb_str(&b, "general.name", "first");
        else
            gb_str(&b, "general.name", "ignored");
        uint16_t no = (uint16_t)(i + (bad ? f.no : 0)), count = (uint16_t)(3 + (bad ? f.count : 0));
        if (!(bad && f.no_keys)) {
            gb_key(&b, "split.no", 8, 2), gb_raw(&b, &no, 2);
            gb_key(&b, "split.count", 11, 2), gb_raw(&b, &count, 2);
        }
        if (!f.no_total) gb_i32(&b, "split.tensors.count", 4 + (bad ? f.tensors : 0));
        uint64_t dims[1] = {8};
        float w[8];
        for (int k = 0; k < 8; k++) w[k] = (float)(10 * i + k);
        const char *names[] = {"a", "c", bad ? "x" : "d"};
        gb_tensor(&b, f.duplicate && bad ? "b" : names[i], 0, 1, dims, w, sizeof w);
        if (i == 0) gb_tensor(&b, "b", 0, 1, dims, w, sizeof w);
        s.bytes[i] = gb_finish(&b, &s.size[i]);
        gb_free(&b);
    }
    return s;
}

static void free_split(split *s) {
    for (int i = 0; i < 3; i++) free(s->bytes[i]);
}

static llmo_status open_split(const split *s, uint32_t n, llmoi_gguf **g) {
    llmoi_source parts[3];
    for (int i = 0; i < 3; i++) parts[i] = memory_source(s->bytes[i], s->size[i]);
    return llmoi_gguf_open(&mem, parts, n, g);
}

static void check_split_contents(const llmoi_gguf *g) {
    const char *names[] = {"a", "b", "c", "d"};
    const uint32_t parts[] = {0, 0, 1, 2};
    assert_int_equal(llmoi_gguf_n_parts(g), 3);
    assert_int_equal(llmoi_gguf_n_tensors(g), 4);
    for (uint32_t i = 0; i < 4; i++) {
        const llmoi_gguf_tensor *t = llmoi_gguf_tensor_at(g, i);
        float first;
        assert_string_equal(t->name, names[i]);
        assert_int_equal(t->part, parts[i]);
        assert_ok(llmoi_source_read(llmoi_gguf_source(g, t->part), t->offset, &first, 4));
        assert_true(first == 10.0f * (float)parts[i]);
        assert_ptr_equal(llmoi_gguf_find(g, names[i]), t);
    }
    llmoi_str name;
    assert_ok(llmoi_gguf_string(g, "general.name", true, &name));
    assert_memory_equal(name.ptr, "first", 5);
}

static void split_models_open_from_memory(void **state) {
    (void)state;
    split s = make_split((split_faults){0});
    llmoi_gguf *g;
    assert_ok(open_split(&s, 3, &g));
    check_split_contents(g);
    llmoi_gguf_close(g);
    assert_fails(open_split(&s, 1, &g), LLMO_E_FORMAT, "'split.count'");
    assert_fails(open_split(&s, 2, &g), LLMO_E_FORMAT, "'split.count'");
    split swapped = {{s.bytes[0], s.bytes[2], s.bytes[1]}, {s.size[0], s.size[2], s.size[1]}};
    assert_fails(open_split(&swapped, 3, &g), LLMO_E_FORMAT, "part 2 of 3: key 'split.no'");
    split second = {{s.bytes[1], s.bytes[2], s.bytes[0]}, {s.size[1], s.size[2], s.size[0]}};
    assert_fails(open_split(&second, 1, &g), LLMO_E_FORMAT, "this is part 2 of a model split into 3");
    free_split(&s);
}

static void split_models_whose_keys_disagree_are_refused(void **state) {
    (void)state;
    static const struct {
        split_faults faults;
        const char *needle;
    } cases[] = {{{.count = 1}, "part 2 of 3: key 'split.count'"},
                 {{.no = 1}, "part 2 of 3: key 'split.no'"},
                 {{.tensors = -1}, "part 2 of 3: key 'split.tensors.count'"},
                 {{.no_keys = true}, "part 2 of 3: key 'split.count' is missing"},
                 {{.no_total = true}, "part 1 of 3: key 'split.tensors.count' is missing"},
                 {{.duplicate = true}, "tensor 'b' at offset"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        split s = make_split(cases[i].faults);
        llmoi_gguf *g;
        assert_fails(open_split(&s, 3, &g), LLMO_E_FORMAT, cases[i].needle);
        assert_null(g);
        free_split(&s);
    }
}

static void a_merged_file_may_keep_its_split_keys(void **state) {
    (void)state;
    for (uint16_t count = 0; count <= 1; count++) {
        gguf_builder b;
        gb_init(&b);
        gb_key(&b, "split.count", 11, 2), gb_raw(&b, &count, 2);
        size_t size;
        unsigned char *bytes = gb_finish(&b, &size);
        llmoi_gguf *g;
        assert_ok(open_bytes(&mem, bytes, size, &g));
        llmoi_gguf_close(g);
        gb_free(&b);
        free(bytes);
    }
}

static int open_descriptors(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static void split_models_open_from_files_by_their_first_part(void **state) {
    (void)state;
    split s = make_split((split_faults){0});
    char folder[] = "/tmp/gguf-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[4][128];
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/m-%05d-of-00003.gguf", folder, i + 1);
        write_bytes(path[i], s.bytes[i], s.size[i]);
    }
    snprintf(path[3], sizeof path[3], "%s/single.gguf", folder);
    write_bytes(path[3], s.bytes[0], s.size[0]);
    int before = open_descriptors();
    llmoi_source *parts;
    uint32_t n;
    llmoi_gguf *g;
    for (int mapped = 0; mapped < 2; mapped++) {
        assert_ok(llmoi_gguf_open_files(&mem, path[0], mapped, &parts, &n));
        assert_int_equal(n, 3);
        assert_ok(llmoi_gguf_open(&mem, parts, n, &g));
        llmoi_free(&mem, parts);
        check_split_contents(g);
        llmoi_gguf_close(g);
    }
    assert_fails(llmoi_gguf_open_files(&mem, path[1], false, &parts, &n), LLMO_E_ARG,
                 "open its first part, '...-00001-of-00003.gguf'");
    assert_null(parts);
    assert_int_equal(n, 0);
    /* under another name the first part is a file alone */
    assert_ok(llmoi_gguf_open_files(&mem, path[3], false, &parts, &n));
    assert_int_equal(n, 1);
    assert_fails(llmoi_gguf_open(&mem, parts, n, &g), LLMO_E_FORMAT, "-00001-of-00003.gguf");
    llmoi_source_close(&mem, parts);
    llmoi_free(&mem, parts);
    unlink(path[2]);
    assert_fails(llmoi_gguf_open_files(&mem, path[0], true, &parts, &n), LLMO_E_IO, "m-00003-of-00003.gguf");
    assert_null(parts);
    const char *odd[] = {"m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-00000.gguf",
                         "m-00001-of-99999.gguf"};
    for (int i = 0; i < 4; i++)
        assert_fails(llmoi_gguf_open_files(&mem, odd[i], false, &parts, &n), LLMO_E_ARG, odd[i]);
    assert_int_equal(open_descriptors(), before);
    for (int i = 0; i < 4; i++) unlink(path[i]);
    rmdir(folder);
    free_split(&s);
}

/* --- failures on the way ------------------------------------------------------------------------------------- */

static void each_failing_read_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    gb_u32(&b, "first", 1);
    char *big = calloc(1, 300000);
    gb_arr(&b, "big", 0, 300000, big, 300000); /* more than a window */
    const char *some[] = {"x", "y"};
    gb_arr_str(&b, "after", some, 2);
    uint64_t dims[1] = {4};
    gb_tensor(&b, "w", 0, 1, dims, big, 16);
    size_t size;
    unsigned char *bytes = gb_finish(&b, &size);
    uint64_t reads = 0;
    for (uint64_t k = 1;; k++) {
        test_reader r = {.bytes = bytes, .size = size, .fail_at = k};
        llmoi_source s = reader_source(&r);
        llmoi_gguf *g;
        llmo_status st = llmoi_gguf_open(&mem, &s, 1, &g);
        if (st == LLMO_OK) {
            reads = r.calls;
            llmoi_gguf_close(g);
            break;
        }
        assert_int_equal(st, LLMO_E_IO);
        assert_non_null(strstr(llmoi_message(), "the read callback failed at offset"));
        assert_true(llmoi_mem_total(&mem) == 0);
    }
    assert_in_range(reads, 3, 100);
    gb_free(&b);
    free(bytes);
    free(big);
}

static void each_failing_allocation_is_reported_and_leaks_nothing(void **state) {
    (void)state;
    split s = make_split((split_faults){0});
    char folder[] = "/tmp/gguf-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char path[3][128];
    for (int i = 0; i < 3; i++) {
        snprintf(path[i], sizeof path[i], "%s/m-%05d-of-00003.gguf", folder, i + 1);
        write_bytes(path[i], s.bytes[i], s.size[i]);
    }
    int before = open_descriptors();
    for (int forever = 0; forever < 2; forever++) {
        uint64_t k = 1;
        for (bool done = false; !done; k++) {
            failing_allocator a = {.fail_at = k, .forever = forever};
            llmoi_mem m;
            llmoi_mem_init(&m, &a, failing_alloc, failing_release);
            llmoi_source *parts;
            uint32_t n;
            llmoi_gguf *g = NULL;
            llmo_status st = llmoi_gguf_open_files(&m, path[0], false, &parts, &n);
            if (st == LLMO_OK) {
                st = llmoi_gguf_open(&m, parts, n, &g);
                if (st != LLMO_OK) {
                    assert_null(g);
                    for (uint32_t i = 0; i < n; i++) llmoi_source_close(&m, &parts[i]);
                }
                llmoi_free(&m, parts);
            }
            if (st == LLMO_OK)
                llmoi_gguf_close(g);
            else
                assert_int_equal(st, LLMO_E_NOMEM);
            done = st == LLMO_OK;
            assert_true(a.live == 0 && llmoi_mem_total(&m) == 0);
            assert_int_equal(open_descriptors(), before);
        }
        assert_in_range(k, 15, 100);
    }
    for (int i = 0; i < 3; i++) unlink(path[i]);
    rmdir(folder);
    free_split(&s);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(every_shared_file_opens_and_is_covered_by_its_tensors),
        T(reads_past_the_end_fail),
        T(owned_memory_goes_with_the_file),
        T(opening_with_no_parts_or_too_many_is_refused),
        T(split_models_open_from_memory),
        T(split_models_whose_keys_disagree_are_refused),
        T(a_merged_file_may_keep_its_split_keys),
        T(split_models_open_from_files_by_their_first_part),
        T(each_failing_read_is_reported_and_leaks_nothing),
        T(each_failing_allocation_is_reported_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
