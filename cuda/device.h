/* The GPUs of this machine, seen through the CUDA runtime. In plain C, so that backend_cuda.c needs no CUDA header and
 * device.cu no header of lib/ that is not C++. */
#ifndef LLMOI_DEVICE_H
#define LLMOI_DEVICE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LLMOI_CUDA_GPUS_MAX 16

typedef struct llmoi_cuda_gpu {
    int32_t ordinal; /* the CUDA runtime's number */
    uint64_t total_bytes;
    char name[128];
    char detail[128]; /* "compute 8.6, driver 13.0" */
} llmoi_cuda_gpu;

/* Fills in the GPUs that this build has code for, at most cap, and returns their number. 0: *note says why (a static
 * string). Makes no CUDA context, so it takes no VRAM. */
uint32_t llmoi_cuda_list(llmoi_cuda_gpu *gpus, uint32_t cap, const char **note);

/* Free VRAM of a GPU, 0 if that cannot be found out. Makes the GPU's primary context and the calling thread's current
 * one: not to be called on a thread of the host's. */
uint64_t llmoi_cuda_free_bytes(int32_t ordinal);

#ifdef __cplusplus
}
#endif

#endif
