/* llmo tokenize, llmo detokenize: standard input to standard output, bytes in and out. */
#include <stdlib.h>

#include "tool.h"

static int tokenize(session *s, const session_options *o, uint32_t flags) {
    int code = session_open_model(s, o);
    char *text = NULL;
    size_t n_bytes = 0;
    if (!code) code = tool_read_file("-", &text, &n_bytes);
    if (code) return code;
    token_list tokens = {0};
    code = token_list_from_text(&tokens, s->model, text, n_bytes, flags);
    if (!code) token_list_print(stdout, tokens.items, tokens.n);
    token_list_free(&tokens);
    free(text);
    return tool_finish(code);
}

int command_tokenize(int argc, char **argv) {
    bool no_bos = false, no_special = false;
    session_options o;
    session_options_init(&o);
    o.n_threads = 1;
    options list = {.usage = "tokenize -m MODEL [--no-bos] [--no-special] < TEXT",
                    .description = "Turns all of standard input into token ids: one JSON array on one line.\n"
                                   "Start and end tokens are added as the file asks for.\n",
                    .example = "  printf 'Once upon a time' | llmo tokenize -m model.gguf\n"};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Text"},
        {.kind = OPTION_FLAG, .name = "--no-bos", .target = &no_bos, .help = "add no start and end tokens"},
        {.kind = OPTION_FLAG,
         .name = "--no-special",
         .target = &no_special,
         .help = "take the text of control tokens as plain text"},
    };
    options_add(&list, own, TOOL_COUNT(own));
    session_add_model_options(&list, &o);
    int code = options_parse(&list, argc, argv);
    if (code != OPTIONS_GO_ON) return code;
    uint32_t flags = 0;
    if (!no_bos) flags |= LLMO_TOKENIZE_ADD_SPECIAL;
    if (!no_special) flags |= LLMO_TOKENIZE_PARSE_SPECIAL;
    session s = {0};
    code = tokenize(&s, &o, flags);
    session_close(&s);
    return code;
}

static int write_text(llmo_model *model, const token_list *tokens) {
    size_t cap = tokens->n * 8 + 64;
    for (int attempt = 0; attempt < 2; attempt++) {
        char *text = malloc(cap);
        if (!text) return tool_fail_memory();
        size_t n_bytes = 0;
        llmo_status status =
            llmo_detokenize(model, tokens->items, tokens->n, LLMO_DETOKENIZE_SPECIAL, text, cap, &n_bytes);
        if (status == LLMO_OK) (void)fwrite(text, 1, n_bytes, stdout);
        free(text);
        if (status == LLMO_OK) return TOOL_OK;
        if (status != LLMO_E_BUFFER) break;
        cap = n_bytes;
    }
    return tool_fail_library();
}

static int detokenize(session *s, const session_options *o) {
    int code = session_open_model(s, o);
    char *text = NULL;
    size_t n_bytes = 0;
    if (!code) code = tool_read_file("-", &text, &n_bytes);
    if (code) return code;
    token_list tokens = {0};
    const char *error = token_list_parse(&tokens, text, n_bytes);
    free(text);
    if (error) return tool_fail("standard input is not a list of token ids: %s", error);
    code = write_text(s->model, &tokens);
    token_list_free(&tokens);
    return tool_finish(code);
}

int command_detokenize(int argc, char **argv) {
    session_options o;
    session_options_init(&o);
    o.n_threads = 1;
    options list = {.usage = "detokenize -m MODEL < IDS",
                    .description =
                        "Turns token ids on standard input (a JSON array, or numbers between white space or\n"
                        "commas) into text. Control tokens are shown as their text.\n",
                    .example = "  echo '[1, 403, 407]' | llmo detokenize -m model.gguf\n"};
    session_add_model_options(&list, &o);
    int code = options_parse(&list, argc, argv);
    if (code != OPTIONS_GO_ON) return code;
    session s = {0};
    code = detokenize(&s, &o);
    session_close(&s);
    return code;
}
