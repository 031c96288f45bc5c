/* All that the library asks of the operating system. Bodies in os.c, the only file of lib/ and cpu/ with OS calls. */
#ifndef LLMOI_OS_H
#define LLMOI_OS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "status.h"

/* --- time, machine ------------------------------------------------------------------------------------------ */
uint64_t llmoi_os_time_us(void); /* monotonic */
int llmoi_os_process_id(void);
uint32_t llmoi_os_physical_cores(void); /* that this process may run on; at least 1 */
uint64_t llmoi_os_memory_total(void);
uint64_t llmoi_os_memory_available(void);
void llmoi_os_cpu_name(char *out, size_t cap);

/* --- pages -------------------------------------------------------------------------------------------------- */
/* Zeroed, 2 MiB-aligned, advised to huge pages. NULL when out of memory. bytes must be given back to free. */
void *llmoi_os_pages_alloc(size_t bytes);
void llmoi_os_pages_free(void *p, size_t bytes);

/* --- files: opened once, regular files only, O_CLOEXEC, only that descriptor is used ------------------------- */
typedef struct llmoi_os_file {
    int fd; /* -1: closed */
    uint64_t size_bytes;
} llmoi_os_file;

/* Fails with LLMO_E_IO and a sentence naming the path: missing, directory, FIFO, socket, device, no permission. */
LLMOI_MUST_CHECK llmo_status llmoi_os_file_open(llmoi_os_file *f, const char *path);
/* Reads exactly `bytes` at `offset`, from any thread; a short file is LLMO_E_IO. */
LLMOI_MUST_CHECK llmo_status llmoi_os_file_read(const llmoi_os_file *f, uint64_t offset, void *dst, size_t bytes);
void llmoi_os_file_close(llmoi_os_file *f);
/* Read-only mapping of the whole file; NULL with the sentence recorded on failure. */
const void *llmoi_os_file_map(const llmoi_os_file *f);
void llmoi_os_file_unmap(const void *p, uint64_t size_bytes);

/* --- threads ------------------------------------------------------------------------------------------------ */
typedef struct llmoi_thread {
    pthread_t id;
    void (*fn)(void *);
    void *arg;
} llmoi_thread;
LLMOI_MUST_CHECK llmo_status llmoi_os_thread_start(llmoi_thread *t, void (*fn)(void *), void *arg, const char *name);
void llmoi_os_thread_join(llmoi_thread *t);
void llmoi_os_yield(void);
static inline void llmoi_os_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

#endif
