/* The smallest host: hello MODEL.gguf "Once upon a time" */
#include <llmoffload.h>
#include <stdio.h>
#include <string.h>

static int32_t print_text(void *user, llmo_generation *generation, const char *text, size_t text_bytes) {
    (void)generation;
    return fwrite(text, 1, text_bytes, user) != text_bytes; /* not 0: stop */
}

int main(int argc, char **argv) {
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    llmo_runtime *runtime = NULL;
    llmo_model *model = NULL;
    llmo_context *context = NULL;
    llmo_sequence *sequence = NULL;
    llmo_generation_params params;

    if (argc < 2) return fprintf(stderr, "usage: hello MODEL.gguf [PROMPT]\n"), 2;
    llmo_generation_params_init(&params);
    params.max_tokens = 64;
    params.text = print_text;
    params.text_user = stdout;

    llmo_status status = llmo_runtime_create(NULL, &runtime);
    if (!status) status = llmo_model_open(runtime, argv[1], NULL, &model);
    if (!status) status = llmo_context_create(model, NULL, NULL, &context);
    if (!status) status = llmo_sequence_create(context, &sequence);
    if (!status) status = llmo_generate(sequence, prompt, strlen(prompt), &params, NULL);
    printf("\n");
    if (status) fprintf(stderr, "hello: %s: %s\n", llmo_status_name(status), llmo_last_error());

    llmo_context_destroy(context); /* ends its sequences too */
    llmo_model_destroy(model);
    llmo_runtime_destroy(runtime);
    return status != LLMO_OK;
}
