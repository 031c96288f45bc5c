/* Stands in for the CUDA backend in a build without it, so that lib/ needs no #ifdef. */
#include "backend.h"

const llmoi_backend *llmoi_cuda_backend(const char **note) {
    *note = "built without CUDA";
    return NULL;
}
