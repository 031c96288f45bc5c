/* What must stay bounded when a GGUF file is opened: time and memory of files made to waste them; and paths that lead
 * to something other than a regular file, or to one that shrinks. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "shared_data.h"
#include "gguf_open.h"
#include "os.h"

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

/* --- bombs --------------------------------------------------------------------------------------------------- */

static uint64_t peak_bytes(void) {
    uint64_t sum = 0;
    for (int i = 0; i < LLMO_PURPOSE_COUNT; i++) sum += mem.peak[i];
    return sum;
}

/* Loads, or not, within a second; its memory stays below the limit. */
static void opens_within(gguf_builder *b, llmo_status want, uint64_t max_bytes, const char *what) {
    size_t size;
    unsigned char *bytes = gb_finish(b, &size);
    gb_free(b);
    llmoi_gguf *g;
    uint64_t t0 = llmoi_os_time_us();
    llmo_status st = open_bytes(&mem, bytes, size, &g);
    uint64_t us = llmoi_os_time_us() - t0;
    print_message("             %s: %.0f ms, %zu KiB of header, %llu KiB of memory\n", what, (double)us / 1000,
                  size / 1024, (unsigned long long)peak_bytes() / 1024);
    assert_int_equal(st, want);
    assert_true(us < 1000000 || max_bytes == 0);
    assert_true(max_bytes == 0 || peak_bytes() <= max_bytes);
    if (st == LLMO_OK) llmoi_gguf_close(g);
    free(bytes);
}

static void two_hundred_thousand_keys_open_in_a_second(void **state) {
    (void)state;
    for (int duplicate = 0; duplicate < 2; duplicate++) {
        gguf_builder b;
        llmoi_mem_init(&mem, NULL, NULL, NULL);
        gb_init(&b);
        for (int i = 0; i < 200000; i++) {
            char key[16];
            snprintf(key, sizeof key, "%x", i);
            gb_u8(&b, key, 0);
        }
        if (duplicate) gb_u8(&b, "0", 1);
        size_t header = 24 + b.kv_len;
        opens_within(&b, duplicate ? LLMO_E_FORMAT : LLMO_OK, 2 * header + (1 << 20), "200k keys");
        if (duplicate) assert_non_null(strstr(llmoi_message(), "key '0' at offset"));
    }
}

static void a_hundred_thousand_tensors_open_in_a_second(void **state) {
    (void)state;
    for (int order = 0; order < 3; order++) {
        gguf_builder b;
        llmoi_mem_init(&mem, NULL, NULL, NULL);
        gb_init(&b);
        uint64_t dims[1] = {8};
        for (uint32_t i = 0; i < 100000; i++) {
            char name[16];
            uint64_t at = order == 0 ? i : order == 1 ? 99999 - i : i * 77773ull % 100000;
            int n = snprintf(name, sizeof name, "%x", i);
            gb_info(&b, name, (size_t)n, 0, 1, dims, at * 32);
        }
        char *data = calloc(100000, 32);
        gb_data(&b, data, 3200000);
        free(data);
        /* a tensor costs about 100 bytes, more than its entry: see gguf_impl.h */
        opens_within(&b, LLMO_OK, 3 * (24 + b.infos_len) + 25 * 100000 + (1 << 20), "100k tensors");
    }
}

static void four_million_empty_strings_take_twice_their_header(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    uint64_t n = 4 << 20;
    char *zero = calloc(n, 8);
    gb_arr(&b, "tokens", 8, n, zero, n * 8);
    free(zero);
    size_t header = 24 + b.kv_len;
    opens_within(&b, LLMO_OK, 2 * header + (1 << 20), "4M empty strings");
}

static void sparse_files_are_refused_at_once(void **state) {
    (void)state;
    char path[] = "/tmp/gguf-sparse-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    uint64_t huge = (uint64_t)1 << 36;
    if (ftruncate(fd, (off_t)huge) != 0) {
        close(fd);
        unlink(path);
        print_message("[  SKIP    ] no sparse files here: %s\n", strerror(errno));
        skip();
    }
    for (int kind = 0; kind < 4; kind++) {
        gguf_builder b;
        gb_init(&b);
        if (kind == 2) gb_arr(&b, "bomb", 0, huge - 100, NULL, 0);
        if (kind == 1) gb_arr(&b, "bomb", 8, huge / 8 - 100, NULL, 0);
        if (kind == 0) b.n_kv = LLMOI_GGUF_MAX_KEYS;                              /* zeros: an empty key */
        if (kind == 3) gb_key(&b, "bomb", 4, 8), gb_raw(&b, "\0\0\0\0\2\0\0", 8); /* a string of 8 GiB */
        size_t size;
        unsigned char *bytes = gb_finish(&b, &size);
        assert_int_equal(pwrite(fd, bytes, size, 0), size);
        gb_free(&b);
        free(bytes);
        llmoi_source *parts;
        uint32_t n;
        llmoi_gguf *g;
        uint64_t t0 = llmoi_os_time_us();
        assert_int_equal(llmoi_gguf_open_files(&mem, path, false, &parts, &n), LLMO_OK);
        assert_int_equal(llmoi_gguf_open(&mem, parts, n, &g), LLMO_E_FORMAT);
        assert_true(llmoi_os_time_us() - t0 < 1000000);
        assert_non_null(strstr(llmoi_message(), kind == 0 ? "key number 0 at offset 24" : "key 'bomb' at offset 24"));
        if (kind == 3) assert_non_null(strstr(llmoi_message(), "larger than the limit of 1073741824 bytes"));
        assert_true(peak_bytes() <= 1 << 20);
        llmoi_source_close(&mem, parts);
        llmoi_free(&mem, parts);
    }
    close(fd);
    unlink(path);
}

static void parts_with_too_many_tensors_together_are_refused(void **state) {
    (void)state;
    gguf_builder b;
    gb_init(&b);
    uint64_t dims[1] = {1};
    for (uint32_t i = 0; i < (1u << 19) + 1; i++) gb_info(&b, "t", 1, 0, 1, dims, 0);
    size_t size;
    unsigned char *bytes = gb_finish(&b, &size);
    gb_free(&b);
    llmoi_source parts[2] = {memory_source(bytes, size), memory_source(bytes, size)};
    llmoi_gguf *g;
    assert_fails(llmoi_gguf_open(&mem, parts, 2, &g), LLMO_E_FORMAT,
                 "part 2 of 2: the parts have more than 1048576 tensors");
    assert_fails(llmoi_gguf_open(&mem, parts, 1, &g), LLMO_E_FORMAT, "tensor 't' at offset");
    free(bytes);
}

/* --- file system --------------------------------------------------------------------------------------------- */

static void no_file(const char *path, const char *needle) {
    for (int mapped = 0; mapped < 2; mapped++) {
        llmoi_source *parts = (llmoi_source *)&parts;
        uint32_t n = 9;
        llmoi_message_clear();
        llmo_status st = llmoi_gguf_open_files(&mem, path, mapped, &parts, &n);
        if (st != LLMO_E_IO || !strstr(llmoi_message(), needle)) {
            fail_msg("%.60s: %s: '%s', expected '%s'", path, llmo_status_name(st), llmoi_message(), needle);
        }
        assert_null(parts);
        assert_int_equal(n, 0);
    }
}

static void what_is_no_regular_file_is_refused(void **state) {
    (void)state;
    char folder[] = "/tmp/gguf-fs-XXXXXX", path[5][64];
    static const char *const names[] = {"fifo", "loop", "empty", "socket", "none"};
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 5; i++) snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
    assert_int_equal(mkfifo(path[0], 0600), 0);
    assert_int_equal(symlink(path[1], path[1]), 0);
    fclose(fopen(path[2], "w"));
    int s = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path[3]);
    assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
    no_file(folder, "a directory");
    no_file(path[0], "a FIFO");
    no_file(path[1], "cannot open '/tmp/gguf-fs");
    no_file(path[2], "is empty");
    no_file(path[3], "cannot open '/tmp/gguf-fs");
    no_file(path[4], "cannot open '/tmp/gguf-fs");
    no_file("/dev/zero", "a device");
    no_file("/proc/self/mem", "is empty");
    no_file("", "cannot open ''");
    char *long_path = malloc(5001);
    memset(long_path, 'x', 5000);
    long_path[5000] = 0;
    no_file(long_path, "cannot open 'xxxx");
    memcpy(long_path + 4980, "-00001-of-00003.gguf", 20);
    no_file(long_path, "part 1 of 3: cannot open 'xxxx");
    free(long_path);
    close(s);
    for (int i = 0; i < 4; i++) unlink(path[i]);
    rmdir(folder);
}

static void a_file_that_cannot_be_mapped_is_refused(void **state) {
    (void)state;
    int fd = memfd_create("gguf", 0);
    if (fd < 0 || ftruncate(fd, (off_t)1 << 62) != 0) {
        print_message("[  SKIP    ] no huge memory files here: %s\n", strerror(errno));
        skip();
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    llmoi_source *parts;
    uint32_t n;
    assert_fails(llmoi_gguf_open_files(&mem, path, true, &parts, &n), LLMO_E_IO, "/proc/self/fd/");
    assert_non_null(strstr(llmoi_message(), "cannot map"));
    close(fd);
}

static void a_file_truncated_after_it_was_opened_is_an_io_error(void **state) {
    (void)state;
    size_t size;
    unsigned char *bytes = small_file(&size);
    char path[] = "/tmp/gguf-cut-XXXXXX";
    int fd = mkstemp(path);
    for (size_t left = 0; left < size; left += 101) {
        assert_int_equal(pwrite(fd, bytes, size, 0), size);
        llmoi_source *parts;
        uint32_t n;
        llmoi_gguf *g;
        assert_int_equal(llmoi_gguf_open_files(&mem, path, true, &parts, &n), LLMO_OK);
        assert_int_equal(ftruncate(fd, (off_t)left), 0);
        /* read, not touched through the mapping: no SIGBUS */
        assert_int_equal(llmoi_gguf_open(&mem, parts, n, &g), LLMO_E_IO);
        assert_non_null(strstr(llmoi_message(), "truncated while in use"));
        llmoi_source_close(&mem, parts);
        llmoi_free(&mem, parts);
    }
    close(fd);
    unlink(path);
    free(bytes);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(two_hundred_thousand_keys_open_in_a_second),
        T(a_hundred_thousand_tensors_open_in_a_second),
        T(four_million_empty_strings_take_twice_their_header),
        T(sparse_files_are_refused_at_once),
        T(parts_with_too_many_tensors_together_are_refused),
        T(a_file_that_cannot_be_mapped_is_refused),
        T(what_is_no_regular_file_is_refused),
        T(a_file_truncated_after_it_was_opened_is_an_io_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
