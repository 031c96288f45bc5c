/* Operating system calls, all of them (POSIX; Linux where it gives more). A port to another system replaces this file. */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

uint64_t llmoi_os_time_us(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

int llmoi_os_process_id(void) {
    return (int)getpid();
}

/* One line of a /proc or /sys file that starts with `key` (NULL: the first line), without the key. */
static bool read_line(const char *path, const char *key, char *out, size_t cap) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool found = false;
    char line[512];
    while (!found && fgets(line, sizeof line, f)) {
        size_t skip = key ? strlen(key) : 0;
        if (key && strncmp(line, key, skip) != 0) continue;
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(out, cap, "%s", line + skip);
        found = true;
    }
    (void)fclose(f);
    return found;
}

uint32_t llmoi_os_physical_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        return n < 1 ? 1 : (uint32_t)n;
    }
    uint32_t cores = 0;
    for (unsigned c = 0; c < CPU_SETSIZE; c++) {
        if (!CPU_ISSET((size_t)c, &set)) continue;
        /* a hyper-thread counts only if it is the first allowed one of its core */
        char path[96];
        char list[512];
        (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", c);
        bool first = true;
        if (read_line(path, NULL, list, sizeof list)) {
            for (char *p = list; *p && first;) {
                unsigned lo = 0, hi = 0;
                int used = 0;
                if (sscanf(p, "%u%n", &lo, &used) != 1) break;
                p += used;
                hi = lo;
                if (*p == '-' && sscanf(p + 1, "%u%n", &hi, &used) == 1) p += 1 + used;
                for (unsigned s = lo; s <= hi && s < c; s++) {
                    if (CPU_ISSET(s, &set)) first = false;
                }
                if (*p == ',') p++;
            }
        }
        cores += first;
    }
    return cores ? cores : 1;
}

static uint64_t meminfo_bytes(const char *key) {
    char text[128];
    unsigned long long kib = 0;
    if (!read_line("/proc/meminfo", key, text, sizeof text) || sscanf(text, "%llu", &kib) != 1) return 0;
    return (uint64_t)kib * 1024u;
}

uint64_t llmoi_os_memory_total(void) {
    return meminfo_bytes("MemTotal:");
}

uint64_t llmoi_os_memory_available(void) {
    return meminfo_bytes("MemAvailable:");
}

void llmoi_os_cpu_name(char *out, size_t cap) {
    char text[256];
    if (!read_line("/proc/cpuinfo", "model name", text, sizeof text)) {
        (void)snprintf(out, cap, "CPU");
        return;
    }
    const char *p = text + strspn(text, "\t :");
    (void)snprintf(out, cap, "%s", p);
}

/* --- pages -------------------------------------------------------------------------------------------------- */

static size_t page_bytes(size_t bytes) {
    return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

void *llmoi_os_pages_alloc(size_t bytes) {
    if (bytes > SIZE_MAX - 2 * HUGE_PAGE) return NULL;
    size_t want = page_bytes(bytes);
    char *p = mmap(NULL, want + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t skip = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (skip) (void)munmap(p, skip);
    if (skip < HUGE_PAGE) (void)munmap(p + skip + want, HUGE_PAGE - skip);
    (void)madvise(p + skip, want, MADV_HUGEPAGE); /* advice only: 4 KiB pages work too */
    return p + skip;
}

void llmoi_os_pages_free(void *p, size_t bytes) {
    if (p) (void)munmap(p, page_bytes(bytes));
}

/* --- files -------------------------------------------------------------------------------------------------- */

static const char *file_kind(mode_t mode) {
    if (S_ISDIR(mode)) return "a directory";
    if (S_ISFIFO(mode)) return "a FIFO";
    if (S_ISSOCK(mode)) return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
    return "not a regular file";
}

llmo_status llmoi_os_file_open(llmoi_os_file *f, const char *path) {
    f->fd = -1;
    f->size_bytes = 0;
    /* O_NONBLOCK: opening a FIFO must not wait for a writer; it has no effect on regular files */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return llmoi_fail(LLMO_E_IO, "cannot open '%.256s': %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0) {
        int e = errno;
        (void)close(fd);
        return llmoi_fail(LLMO_E_IO, "cannot stat '%.256s': %s", path, strerror(e));
    }
    if (!S_ISREG(st.st_mode)) {
        (void)close(fd);
        return llmoi_fail(LLMO_E_IO, "'%.256s' is %s, a regular file is needed", path, file_kind(st.st_mode));
    }
    f->fd = fd;
    f->size_bytes = (uint64_t)st.st_size;
    return LLMO_OK;
}

llmo_status llmoi_os_file_read(const llmoi_os_file *f, uint64_t offset, void *dst, size_t bytes) {
    char *p = dst;
    while (bytes) {
        ssize_t n = pread(f->fd, p, bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0)
            return llmoi_fail(LLMO_E_IO, "read error at offset %llu: %s", (unsigned long long)offset, strerror(errno));
        if (n == 0) {
            return llmoi_fail(LLMO_E_IO,
                              "file ends at offset %llu, %zu more bytes were expected (truncated while in use?)",
                              (unsigned long long)offset, bytes);
        }
        p += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return LLMO_OK;
}

void llmoi_os_file_close(llmoi_os_file *f) {
    if (f->fd >= 0) (void)close(f->fd);
    f->fd = -1;
}

const void *llmoi_os_file_map(const llmoi_os_file *f) {
    if (f->size_bytes == 0 || f->size_bytes > SIZE_MAX) {
        (void)llmoi_fail(LLMO_E_IO, "cannot map a file of %llu bytes", (unsigned long long)f->size_bytes);
        return NULL;
    }
    void *p = mmap(NULL, (size_t)f->size_bytes, PROT_READ, MAP_PRIVATE, f->fd, 0);
    if (p == MAP_FAILED) {
        (void)llmoi_fail(LLMO_E_IO, "cannot map the file: %s", strerror(errno));
        return NULL;
    }
    return p;
}

void llmoi_os_file_unmap(const void *p, uint64_t size_bytes) {
    if (p) (void)munmap((void *)(uintptr_t)p, (size_t)size_bytes);
}

/* --- threads ------------------------------------------------------------------------------------------------ */

static void *thread_main(void *arg) {
    llmoi_thread *t = arg;
    t->fn(t->arg);
    return NULL;
}

llmo_status llmoi_os_thread_start(llmoi_thread *t, void (*fn)(void *), void *arg, const char *name) {
    t->fn = fn;
    t->arg = arg;
    /* signals belong to the host's threads */
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&t->id, NULL, thread_main, t);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) return llmoi_fail(LLMO_E_NOMEM, "cannot start a thread: %s", strerror(e));
    (void)pthread_setname_np(t->id, name);
    return LLMO_OK;
}

void llmoi_os_thread_join(llmoi_thread *t) {
    (void)pthread_join(t->id, NULL);
}

void llmoi_os_yield(void) {
    (void)sched_yield();
}
