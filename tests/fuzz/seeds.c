/* Writes the inputs that fuzzing starts from: small valid model files. usage: seeds FOLDER */
#include <stdio.h>
#include <stdlib.h>

#include "tiny_model.h"

static void save(const char *folder, const char *name, const void *bytes, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    size_t n;
    static const tiny_shape small = {.n_layers = 1, .n_embd = 32, .n_ff = 32, .n_ctx = 64, .tied = 1};
    unsigned char *model = tiny_model(&small, &n);
    save(argv[1], "tiny.gguf", model, n);
    save(argv[1], "tiny-header.gguf", model, n / 8); /* ends inside the vocabulary */
    free(model);
    return 0;
}
