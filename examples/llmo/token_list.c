/* Lists of token ids: from text, from arguments, as JSON. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

void token_list_free(token_list *list) {
    free(list->items);
    *list = (token_list){0};
}

void token_list_print(FILE *f, const llmo_token *tokens, size_t n_tokens) {
    (void)fputc('[', f);
    for (size_t i = 0; i < n_tokens; i++) (void)fprintf(f, "%s%" PRId32, i ? "," : "", tokens[i]);
    (void)fputs("]\n", f);
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

const char *token_list_parse(token_list *list, const char *text, size_t n_bytes) {
    *list = (token_list){0};
    const char *end = text + n_bytes;
    while (end > text && is_space(end[-1])) end--;
    while (text < end && is_space(*text)) text++;
    if (text < end && *text == '[') {
        if (end - text < 2 || end[-1] != ']') return "the array does not end with ']'";
        text++;
        end--;
    }
    /* each id takes a digit, and a separator before the next one */
    size_t cap = (size_t)(end - text) / 2 + 1;
    llmo_token *items = malloc(cap * sizeof *items);
    const char *error = items ? NULL : "out of memory";
    size_t n = 0;
    bool comma = false; /* the last thing read */
    while (!error) {
        while (text < end && is_space(*text)) text++;
        if (text == end) {
            if (comma) error = "it ends with a comma";
            break;
        }
        int64_t value = 0;
        const char *digits = text;
        for (; text < end && *text >= '0' && *text <= '9' && value <= INT32_MAX; text++) {
            value = value * 10 + (*text - '0');
        }
        if (text == digits || (text < end && !is_space(*text) && *text != ',' && value <= INT32_MAX)) {
            error = "it holds something else than ids, commas and white space";
        } else if (value > INT32_MAX) {
            error = "an id is too large";
        } else {
            items[n++] = (llmo_token)value;
            while (text < end && is_space(*text)) text++;
            comma = text < end && *text == ',';
            if (comma) text++;
        }
    }
    if (error) {
        free(items);
        return error;
    }
    *list = (token_list){.items = items, .n = n};
    return NULL;
}

int token_list_from_text(token_list *list, llmo_model *model, const char *text, size_t n_bytes, uint32_t flags) {
    *list = (token_list){0};
    size_t cap = n_bytes / 2 + 16; /* mostly enough; else the library says how many there are */
    for (int attempt = 0; attempt < 2; attempt++) {
        llmo_token *items = cap < SIZE_MAX / sizeof *items ? malloc(cap * sizeof *items) : NULL;
        if (!items) return tool_fail_memory();
        size_t n = 0;
        llmo_status status = llmo_tokenize(model, text, n_bytes, flags, items, cap, &n);
        if (status == LLMO_OK) {
            *list = (token_list){.items = items, .n = n};
            return TOOL_OK;
        }
        free(items);
        if (status != LLMO_E_BUFFER) break;
        cap = n;
    }
    return tool_fail_library();
}

int option_parse_tokens(void *target, const char *option, const char *text) {
    token_list *list = target;
    token_list_free(list);
    const char *error = token_list_parse(list, text, strlen(text));
    return error ? tool_usage("%s: not a list of token ids: %s", option, error) : 0;
}
