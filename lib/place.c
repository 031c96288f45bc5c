/* Placement: from what is asked for and what the machine has to a number of layers on the GPU. Pure: no device, file or
 * allocation is touched here. */
#include "plan.h"

#include <stdio.h>

uint32_t llmoi_place(int32_t asked, uint32_t n_layers, bool gpu_can_run, const char *gpu_note, char *note, size_t cap) {
    uint32_t want = asked == LLMO_GPU_LAYERS_AUTO ? n_layers : (uint32_t)asked;
    if (want > n_layers) want = n_layers;
    note[0] = '\0';
    if (gpu_can_run || asked == 0) return gpu_can_run ? want : 0;
    if (asked == LLMO_GPU_LAYERS_AUTO)
        (void)snprintf(note, cap, "all layers are on the CPU: %s", gpu_note);
    else
        (void)snprintf(note, cap, "gpu_layers %d asked, 0 given: %s", asked, gpu_note);
    return 0;
}
