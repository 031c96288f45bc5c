/* The smallest host program: prints the version of the library, and fails if header and library do not fit. */
#include <llmoffload.h>
#include <stdio.h>

int main(void) {
    llmo_runtime *runtime = NULL;
    if (llmo_abi_version() != LLMO_ABI_MAJOR) return 1;
    if (llmo_runtime_create(NULL, &runtime) != LLMO_OK) {
        fprintf(stderr, "%s\n", llmo_last_error());
        return 1;
    }
    llmo_runtime_destroy(runtime);
    printf("llmoffload %s\n", llmo_version());
    return 0;
}
