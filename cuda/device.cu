/* Asks the CUDA runtime for the GPUs of this machine. The runtime is linked statically and looks for the driver when it
 * is first called, so a machine without one gets a reason here, no failing load. Knows nothing of models and plans. */
#include "device.h"

#include <cuda_runtime_api.h>
#include <stdio.h>

/* The oldest GPUs that the kernels are compiled for: Turing. */
#define OLDEST_MAJOR 7
#define OLDEST_MINOR 5

uint32_t llmoi_cuda_list(llmoi_cuda_gpu *gpus, uint32_t cap, const char **note) {
    int driver = 0;
    /* 0 without a driver; asked first, as the count's error then only says that the driver is too old */
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        (void)cudaGetLastError();
        *note = "no NVIDIA driver";
        return 0;
    }
    int n = 0;
    cudaError_t err = cudaGetDeviceCount(&n);
    if (err != cudaSuccess) {
        (void)cudaGetLastError();
        *note = cudaGetErrorString(err);
        return 0;
    }
    *note = n > 0 ? "every GPU is older than compute capability 7.5" : "no GPU found";
    uint32_t found = 0;
    for (int i = 0; i < n && found < cap; i++) {
        cudaDeviceProp prop;
        err = cudaGetDeviceProperties(&prop, i);
        if (err != cudaSuccess) {
            (void)cudaGetLastError();
            *note = cudaGetErrorString(err);
            continue;
        }
        if (prop.major < OLDEST_MAJOR || (prop.major == OLDEST_MAJOR && prop.minor < OLDEST_MINOR)) continue;
        llmoi_cuda_gpu *g = &gpus[found++];
        g->ordinal = i;
        g->total_bytes = prop.totalGlobalMem;
        snprintf(g->name, sizeof g->name, "%.*s", (int)sizeof g->name - 1, prop.name);
        snprintf(g->detail, sizeof g->detail, "compute %d.%d, driver %d.%d", prop.major, prop.minor, driver / 1000,
                 driver % 1000 / 10);
    }
    if (found) *note = "";
    return found;
}

uint64_t llmoi_cuda_free_bytes(int32_t ordinal) {
    size_t free_bytes = 0, total_bytes = 0;
    if (cudaSetDevice(ordinal) != cudaSuccess || cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return free_bytes;
}
