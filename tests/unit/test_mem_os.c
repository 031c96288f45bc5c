/* Memory accounts and the operating system's files and pages. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel_check.h"
#include "mem.h"
#include "os.h"

/* --- accounts ----------------------------------------------------------------------------------------------------------- */

static void accounts_chain_and_keep_tags_and_peaks(void **state) {
    (void)state;
    llmoi_mem root, model, store;
    llmoi_mem_init(&root, NULL, NULL, NULL);
    llmoi_mem_init_child(&model, &root);
    llmoi_mem_init_child(&store, &model);
    void *a = llmoi_alloc(&root, LLMO_PURPOSE_STATE, 100);
    void *b = llmoi_alloc(&model, LLMO_PURPOSE_HEADER, 1000);
    void *c = llmoi_zalloc(&store, LLMO_PURPOSE_WEIGHTS, 10000);
    assert_true(a && b && c);
    assert_int_equal(llmoi_mem_total(&root), 11100);
    assert_int_equal(llmoi_mem_total(&model), 11000);
    assert_int_equal(llmoi_mem_total(&store), 10000);
    assert_int_equal(root.bytes[LLMO_PURPOSE_WEIGHTS], 10000);
    assert_int_equal(model.bytes[LLMO_PURPOSE_HEADER], 1000);
    assert_int_equal(store.bytes[LLMO_PURPOSE_HEADER], 0);
    assert_int_equal(root.n_allocs, 3);
    assert_int_equal(model.n_allocs, 2);
    assert_int_equal(store.n_allocs, 1);
    llmoi_free(&store, c);
    assert_int_equal(root.bytes[LLMO_PURPOSE_WEIGHTS], 0);
    assert_int_equal(root.peak[LLMO_PURPOSE_WEIGHTS], 10000);
    assert_int_equal(store.peak[LLMO_PURPOSE_WEIGHTS], 10000);
    c = llmoi_alloc(&store, LLMO_PURPOSE_WEIGHTS, 4000);
    assert_int_equal(model.bytes[LLMO_PURPOSE_WEIGHTS], 4000);
    assert_int_equal(model.peak[LLMO_PURPOSE_WEIGHTS], 10000);
    llmoi_free(&store, c);
    llmoi_free(&model, b);
    llmoi_free(&root, a);
    llmoi_free(&root, NULL);
    assert_int_equal(llmoi_mem_total(&root) + llmoi_mem_total(&model) + llmoi_mem_total(&store), 0);
    assert_int_equal(root.n_allocs, 4); /* frees are no allocations */
}

static void blocks_are_aligned_writable_and_zeroed(void **state) {
    (void)state;
    llmoi_mem m;
    llmoi_mem_init(&m, NULL, NULL, NULL);
    static const size_t sizes[] = {
        0, 1, 63, 64, 65, 4096, (1 << 20) - 65, 1 << 20, 1048576 - 64, 1048576 + 1, 5000001, 2097152, 2097152 - 64};
    void *p[2 * sizeof sizes / sizeof *sizes];
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        size_t n = sizes[i / 2];
        p[i] = i % 2 ? llmoi_zalloc(&m, LLMO_PURPOSE_HOST, n) : llmoi_alloc(&m, LLMO_PURPOSE_KV, n);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        unsigned char *c = p[i];
        for (size_t j = 0; i % 2 && j < n; j++) assert_int_equal(c[j], 0);
        memset(p[i], (int)i + 1, n);
        total += n;
        assert_int_equal(llmoi_mem_total(&m), total);
    }
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        unsigned char *c = p[i];
        size_t n = sizes[i / 2];
        if (n) assert_true(c[0] == i + 1 && c[n / 2] == i + 1 && c[n - 1] == i + 1);
        llmoi_free(&m, p[i]);
    }
    assert_int_equal(llmoi_mem_total(&m), 0);
    assert_int_equal(m.peak[LLMO_PURPOSE_KV] + m.peak[LLMO_PURPOSE_HOST], total);
}

static void impossible_sizes_are_refused_with_a_sentence(void **state) {
    (void)state;
    llmoi_mem root, m;
    llmoi_mem_init(&root, NULL, NULL, NULL);
    llmoi_mem_init_child(&m, &root);
    for (size_t back = 0; back < 300; back++) {
        assert_null(llmoi_alloc(&m, LLMO_PURPOSE_WEIGHTS, SIZE_MAX - back));
        assert_null(llmoi_zalloc(&m, LLMO_PURPOSE_WEIGHTS, SIZE_MAX - ((size_t)4 << 20) + back));
    }
    llmoi_message_clear();
    assert_null(llmoi_alloc(&m, LLMO_PURPOSE_KV, SIZE_MAX / 2));
    assert_non_null(strstr(llmoi_message(), "out of memory"));
    assert_non_null(strstr(llmoi_message(), "kv"));
    assert_null(llmoi_alloc_array(&m, LLMO_PURPOSE_KV, SIZE_MAX / 4, 8));
    assert_null(llmoi_zalloc_array(&m, LLMO_PURPOSE_KV, (SIZE_MAX / 16) + 2, 16));
    assert_null(llmoi_alloc_array(&m, LLMO_PURPOSE_KV, 1u << 31, (size_t)1 << 33));
    assert_null(llmoi_strdup(&m, LLMO_PURPOSE_HOST, "x", SIZE_MAX));
    assert_int_equal(llmoi_mem_total(&root), 0);
    assert_int_equal(root.n_allocs, 0);
    void *p = llmoi_alloc_array(&m, LLMO_PURPOSE_KV, 0, 8);
    assert_non_null(p);
    llmoi_free(&m, p);
}

static void arrays_grow_and_keep_their_contents(void **state) {
    (void)state;
    llmoi_mem m;
    llmoi_mem_init(&m, NULL, NULL, NULL);
    uint32_t *a = NULL;
    size_t cap = 0, grown = 0;
    for (uint32_t i = 0; i < 5000; i++) {
        size_t before = cap;
        assert_int_equal(llmoi_grow(&m, LLMO_PURPOSE_HOST, (void **)&a, &cap, i + 1, sizeof *a), LLMO_OK);
        assert_true(cap > i);
        grown += cap != before;
        a[i] = i * 3;
    }
    assert_true(grown < 20);
    for (uint32_t i = 0; i < 5000; i++) assert_int_equal(a[i], i * 3);
    uint32_t *old = a;
    size_t old_cap = cap;
    assert_int_equal(llmoi_grow(&m, LLMO_PURPOSE_HOST, (void **)&a, &cap, SIZE_MAX / 2, sizeof *a), LLMO_E_NOMEM);
    assert_ptr_equal(a, old);
    assert_int_equal(cap, old_cap);
    assert_int_equal(a[4999], 14997);
    assert_int_equal(llmoi_grow(&m, LLMO_PURPOSE_HOST, (void **)&a, &cap, 1, sizeof *a), LLMO_OK);
    assert_int_equal(cap, old_cap);
    assert_int_equal(llmoi_mem_total(&m), cap * sizeof *a);
    llmoi_free(&m, a);
    char *s = llmoi_strdup(&m, LLMO_PURPOSE_HOST, "a\0b\xff", 4);
    assert_memory_equal(s, "a\0b\xff\0", 5);
    llmoi_free(&m, s);
    s = llmoi_strdup(&m, LLMO_PURPOSE_HOST, NULL, 0);
    assert_string_equal(s, "");
    llmoi_free(&m, s);
    assert_int_equal(llmoi_mem_total(&m), 0);
}

typedef struct host {
    uint64_t live_bytes, calls;
    bool refuse;
} host;

static void *host_alloc(void *user, size_t bytes, size_t alignment) {
    host *h = user;
    h->calls++;
    if (h->refuse) return NULL;
    assert_int_equal(alignment, 64);
    h->live_bytes += bytes;
    size_t *p = aligned_alloc(64, (bytes + 64 + 63) / 64 * 64);
    p[0] = bytes; /* seen again when it is released */
    return (char *)p + 64;
}

static void host_release(void *user, void *ptr, size_t bytes) {
    host *h = user;
    size_t *p = (size_t *)(void *)((char *)ptr - 64);
    assert_int_equal(p[0], bytes);
    h->live_bytes -= bytes;
    free(p);
}

static void host_hooks_get_the_same_sizes_back(void **state) {
    (void)state;
    host h = {0};
    llmoi_mem root, m;
    llmoi_mem_init(&root, &h, host_alloc, host_release);
    llmoi_mem_init_child(&m, &root);
    void *p[40];
    for (size_t i = 0; i < 40; i++) {
        size_t n = i * i * 3001; /* up to 4.5 MB: the host gets the large ones too */
        p[i] = i % 2 ? llmoi_alloc(&m, LLMO_PURPOSE_COMPUTE, n) : llmoi_zalloc(&root, LLMO_PURPOSE_COMPUTE, n);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        for (size_t j = 0; i % 2 == 0 && j < n; j += 997) assert_int_equal(((char *)p[i])[j], 0);
        memset(p[i], 1, n);
    }
    assert_int_equal(h.calls, 40);
    assert_true(h.live_bytes >= llmoi_mem_total(&root));
    for (size_t i = 0; i < 40; i++) llmoi_free(i % 2 ? &m : &root, p[i]);
    assert_int_equal(h.live_bytes, 0);
    assert_int_equal(llmoi_mem_total(&root), 0);
    h.refuse = true;
    assert_null(llmoi_alloc(&m, LLMO_PURPOSE_LOGITS, 10));
    assert_non_null(strstr(llmoi_message(), "10 bytes for logits"));
    assert_int_equal(llmoi_mem_total(&root), 0);
}

/* --- pages ----------------------------------------------------------------------------------------------------------------- */

static void pages_are_zero_and_aligned(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9 << 20};
    for (int i = 0; i < 6; i++) {
        unsigned char *p = llmoi_os_pages_alloc(sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (2 << 20), 0);
        for (size_t j = 0; j < sizes[i]; j += 511) assert_int_equal(p[j], 0);
        p[0] = p[sizes[i] - 1] = 7;
        llmoi_os_pages_free(p, sizes[i]);
    }
    assert_null(llmoi_os_pages_alloc(SIZE_MAX));
    assert_null(llmoi_os_pages_alloc(SIZE_MAX - ((size_t)2 << 20)));
    assert_null(llmoi_os_pages_alloc((size_t)1 << 60));
    llmoi_os_pages_free(NULL, 5);
}

/* --- the machine -------------------------------------------------------------------------------------------------------------- */

static void the_machine_describes_itself(void **state) {
    (void)state;
    uint64_t t = llmoi_os_time_us();
    usleep(2000);
    uint64_t passed = llmoi_os_time_us() - t;
    assert_in_range(passed, 1900, 60000000);
    assert_in_range(llmoi_os_physical_cores(), 1, 4096);
    assert_true(llmoi_os_memory_total() > 1 << 20);
    assert_true(llmoi_os_memory_available() <= llmoi_os_memory_total());
    assert_int_equal(llmoi_os_process_id(), getpid());
    char name[8];
    memset(name, 'x', sizeof name);
    llmoi_os_cpu_name(name, sizeof name);
    assert_true(memchr(name, 0, sizeof name) != NULL && name[0] != 0);
}

/* --- files ------------------------------------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/llmo-os-XXXXXX";

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char path[200];
    static const char *const names[] = {"data", "fifo", "socket", "empty", "link", "secret"};
    for (int i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static const char *in_folder(const char *name) {
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_bytes(const char *path, const void *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void assert_refused(const char *path, const char *why) {
    llmoi_os_file f = {.fd = 77};
    assert_int_equal(llmoi_os_file_open(&f, path), LLMO_E_IO);
    assert_int_equal(f.fd, -1);
    if (!strstr(llmoi_message(), path) || !strstr(llmoi_message(), why)) {
        fail_msg("'%s' names not '%s' and '%s'", llmoi_message(), path, why);
    }
}

static void only_regular_files_are_opened(void **state) {
    (void)state;
    assert_refused(in_folder("missing"), "No such file");
    assert_refused(folder, "directory");
    assert_refused("/dev/zero", "device");
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_refused(in_folder("fifo"), "FIFO"); /* and without waiting for a writer */
    assert_int_equal(symlink("fifo", in_folder("link")), 0);
    assert_refused(in_folder("link"), "FIFO");
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", in_folder("socket"));
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof a), 0);
    assert_refused(in_folder("socket"), "");
    close(s);
    if (geteuid() != 0) {
        write_bytes(in_folder("secret"), "x", 1);
        assert_int_equal(chmod(in_folder("secret"), 0), 0);
        assert_refused(in_folder("secret"), "ermission");
    }
}

static void reads_are_exact(void **state) {
    (void)state;
    unsigned char bytes[10000], got[10001];
    rng r = {9};
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)rng_next(&r);
    write_bytes(in_folder("data"), bytes, sizeof bytes);
    llmoi_os_file f;
    assert_int_equal(llmoi_os_file_open(&f, in_folder("data")), LLMO_OK);
    assert_int_equal(f.size_bytes, sizeof bytes);
    assert_true(fcntl(f.fd, F_GETFD) & FD_CLOEXEC);
    for (int round = 0; round < 200; round++) {
        size_t at = rng_below(&r, sizeof bytes), n = rng_below(&r, (uint32_t)(sizeof bytes - at) + 1);
        got[n] = 0x77;
        assert_int_equal(llmoi_os_file_read(&f, at, got, n), LLMO_OK);
        assert_memory_equal(got, bytes + at, n);
        assert_int_equal(got[n], 0x77);
    }
    assert_int_equal(llmoi_os_file_read(&f, 12345678, got, 0), LLMO_OK);
    assert_int_equal(llmoi_os_file_read(&f, 9990, got, 11), LLMO_E_IO);
    assert_non_null(strstr(llmoi_message(), "ends at offset 10000, 1 more"));
    assert_int_equal(llmoi_os_file_read(&f, 10000, got, 1), LLMO_E_IO);
    assert_int_equal(llmoi_os_file_read(&f, UINT64_MAX - 5, got, 1), LLMO_E_IO);
    const void *map = llmoi_os_file_map(&f);
    assert_non_null(map);
    assert_memory_equal(map, bytes, sizeof bytes);
    llmoi_os_file_unmap(map, f.size_bytes);
    assert_int_equal(truncate(in_folder("data"), 5000), 0); /* while it is open */
    assert_int_equal(llmoi_os_file_read(&f, 4000, got, 2000), LLMO_E_IO);
    assert_int_equal(llmoi_os_file_read(&f, 4000, got, 1000), LLMO_OK);
    llmoi_os_file_close(&f);
    assert_int_equal(f.fd, -1);
    llmoi_os_file_close(&f); /* twice does no harm */
    assert_int_equal(llmoi_os_file_read(&f, 0, got, 1), LLMO_E_IO);
}

static void an_empty_file_cannot_be_mapped(void **state) {
    (void)state;
    write_bytes(in_folder("empty"), "", 0);
    llmoi_os_file f;
    assert_int_equal(llmoi_os_file_open(&f, in_folder("empty")), LLMO_OK);
    assert_int_equal(f.size_bytes, 0);
    assert_null(llmoi_os_file_map(&f));
    assert_non_null(strstr(llmoi_message(), "0 bytes"));
    llmoi_os_file_unmap(NULL, 0);
    llmoi_os_file_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts_chain_and_keep_tags_and_peaks),
        cmocka_unit_test(blocks_are_aligned_writable_and_zeroed),
        cmocka_unit_test(impossible_sizes_are_refused_with_a_sentence),
        cmocka_unit_test(arrays_grow_and_keep_their_contents),
        cmocka_unit_test(host_hooks_get_the_same_sizes_back),
        cmocka_unit_test(pages_are_zero_and_aligned),
        cmocka_unit_test(the_machine_describes_itself),
        cmocka_unit_test(only_regular_files_are_opened),
        cmocka_unit_test(reads_are_exact),
        cmocka_unit_test(an_empty_file_cannot_be_mapped),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
