/* The CUDA backend as lib/ sees it: a list of GPUs. It has no matmul rows yet, so no plan places anything on them.
 * Must not include CUDA headers; those are for the .cu files. */
#include "backend.h"
#include "device.h"
#include "os.h"

#include <string.h>

static llmoi_cuda_gpu gpus[LLMOI_CUDA_GPUS_MAX];
static const char *why_none;
static llmoi_backend backend; /* written once by fill(), constant from then on */

/* The GPU may be asked for on a thread of the host's, whose current CUDA context must stay what it is: a short-lived
 * thread makes the call. */
typedef struct free_query {
    int32_t ordinal;
    uint64_t bytes;
} free_query;

static void ask_free(void *arg) {
    free_query *q = arg;
    q->bytes = llmoi_cuda_free_bytes(q->ordinal);
}

static uint64_t free_bytes(uint32_t device) {
    if (device >= backend.n_devices) return 0;
    free_query q = {.ordinal = gpus[device].ordinal};
    llmoi_thread thread;
    if (llmoi_os_thread_start(&thread, ask_free, &q, "llmo-cuda") != LLMO_OK) return 0;
    llmoi_os_thread_join(&thread);
    return q.bytes;
}

static void describe(uint32_t device, llmoi_device *out) {
    memset(out, 0, sizeof *out);
    if (device >= backend.n_devices) return;
    const llmoi_cuda_gpu *g = &gpus[device];
    out->kind = LLMO_DEVICE_CUDA;
    out->total_bytes = g->total_bytes;
    memcpy(out->name, g->name, sizeof out->name);
    memcpy(out->detail, g->detail, sizeof out->detail);
}

static void fill(void) {
    backend.name = "cuda";
    backend.n_devices = llmoi_cuda_list(gpus, LLMOI_CUDA_GPUS_MAX, &why_none);
    backend.describe = describe;
    backend.free_bytes = free_bytes;
}

const llmoi_backend *llmoi_cuda_backend(const char **note) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill);
    *note = why_none;
    return backend.n_devices > 0 ? &backend : NULL;
}
