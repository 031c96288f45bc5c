/* llmo logits, llmo perplexity: what the model says about given tokens. */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

/* --- logits ------------------------------------------------------------------------------------------------------ */

/* Through a file beside it that is renamed when complete: nobody sees half of it. */
static int write_file(const char *path, const void *data, size_t n_bytes) {
    size_t length = strlen(path);
    char *name = malloc(length + 8);
    if (!name) return tool_fail_memory();
    memcpy(name, path, length);
    memcpy(name + length, ".XXXXXX", 8);
    int code = TOOL_OK;
    int fd = mkstemp(name);
    FILE *f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!f) {
        code = tool_fail("cannot create '%s': %s", name, strerror(errno));
        if (fd >= 0) (void)close(fd);
    } else {
        mode_t mask = umask(0); /* mkstemp makes it private; the result gets the rights of any new file */
        (void)umask(mask);
        bool good = fwrite(data, 1, n_bytes, f) == n_bytes && fchmod(fd, 0666 & ~mask) == 0;
        int reason = errno;
        if (fclose(f) != 0 && good) {
            good = false;
            reason = errno;
        }
        if (!good) {
            code = tool_fail("cannot write '%s': %s", name, strerror(reason));
        } else if (rename(name, path) != 0) {
            code = tool_fail("cannot rename '%s' to '%s': %s", name, path, strerror(errno));
        }
    }
    if (code && fd >= 0) (void)unlink(name);
    free(name);
    return code;
}

static uint32_t vocabulary(llmo_model *model) {
    llmo_model_info info = {.struct_size = sizeof info};
    return llmo_model_get_info(model, &info) == LLMO_OK ? info.n_vocab : 0;
}

static int logits(session *s, const session_options *o, const token_list *tokens, uint32_t last, const char *path) {
    int code = session_open_context(s, o);
    if (code) return code;
    size_t n_vocab = vocabulary(s->model);
    size_t n_floats = n_vocab * last;
    float *rows = n_floats ? malloc(n_floats * sizeof *rows) : NULL;
    if (!rows) return tool_fail_memory();
    llmo_sequence *sequence = NULL;
    if (llmo_sequence_create(s->context, &sequence) != LLMO_OK ||
        llmo_eval(sequence, tokens->items, tokens->n, last, rows, n_floats) != LLMO_OK) {
        code = tool_fail_library();
    }
    if (!code) code = write_file(path, rows, n_floats * sizeof *rows);
    llmo_sequence_destroy(sequence);
    free(rows);
    return code;
}

int command_logits(int argc, char **argv) {
    token_list tokens = {0};
    uint32_t last = 1;
    const char *path = NULL;
    session_options o;
    session_options_init(&o);
    options list = {.usage = "logits -m MODEL --tokens IDS --out FILE [options]",
                    .description = "Evaluates tokens and writes the logits after the last of them: raw little-endian\n"
                                   "32-bit floats, one row of the size of the vocabulary per token.\n",
                    .example = "  llmo logits -m model.gguf --tokens 1,403,407 --last 2 --out rows.f32\n"};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Input and output"},
        {.kind = OPTION_CUSTOM,
         .name = "--tokens",
         .arg = "IDS",
         .target = &tokens,
         .parse = option_parse_tokens,
         .help = "token ids: 1,2,3; nothing is added",
         .fallback = ""},
        {.kind = OPTION_U32,
         .name = "--last",
         .arg = "K",
         .target = &last,
         .min = 1,
         .max = INT32_MAX,
         .help = "rows to write, for the last K tokens"},
        {.kind = OPTION_TEXT,
         .name = "--out",
         .arg = "FILE",
         .target = &path,
         .help = "the file to write",
         .fallback = ""},
    };
    options_add(&list, own, TOOL_COUNT(own));
    session_add_model_options(&list, &o);
    session_add_plan_options(&list, &o);
    int code = options_parse(&list, argc, argv);
    if (code == OPTIONS_GO_ON) {
        if (!tokens.n) {
            code = tool_usage("no tokens (--tokens IDS)");
        } else if (last > tokens.n) {
            code = tool_usage("--last: %" PRIu32 " rows asked, but there are %zu tokens", last, tokens.n);
        } else if (!path) {
            code = tool_usage("no output file (--out FILE)");
        } else {
            session s = {0};
            code = logits(&s, &o, &tokens, last, path);
            session_close(&s);
        }
    }
    token_list_free(&tokens);
    return code;
}

/* --- perplexity -------------------------------------------------------------------------------------------------- */

typedef struct perplexity_sums {
    double nll, nll_squared;
    uint64_t scored;
} perplexity_sums;

/* -log softmax(row)[token], in double */
static double negative_log_likelihood(const float *row, size_t n_vocab, llmo_token token) {
    double max = (double)row[0];
    for (size_t i = 1; i < n_vocab; i++) {
        if ((double)row[i] > max) max = (double)row[i];
    }
    double sum = 0;
    for (size_t i = 0; i < n_vocab; i++) sum += exp((double)row[i] - max);
    return max + log(sum) - (double)row[token];
}

/* One chunk of n tokens on an empty sequence: the predictions of its second half are scored, in pieces of a size that
 * keeps the logits small. */
static llmo_status score_chunk(llmo_sequence *sequence, const llmo_token *chunk, size_t n, float *rows, size_t max_rows,
                               size_t n_vocab, perplexity_sums *sums) {
    size_t first = n / 2;
    llmo_status status = llmo_eval(sequence, chunk, first, 0, NULL, 0);
    for (size_t at = first; status == LLMO_OK && at + 1 < n;) {
        size_t count = n - 1 - at < max_rows ? n - 1 - at : max_rows;
        status = llmo_eval(sequence, chunk + at, count, count, rows, count * n_vocab);
        if (status != LLMO_OK) break;
        for (size_t i = 0; i < count; i++) {
            double nll = negative_log_likelihood(rows + i * n_vocab, n_vocab, chunk[at + i + 1]);
            sums->nll += nll;
            sums->nll_squared += nll * nll;
            sums->scored++;
        }
        at += count;
    }
    return status;
}

/* The text's tokens with the start token in front, if the model wants one; *bos is that or LLMO_TOKEN_NONE. */
static int text_tokens(llmo_model *model, const char *text, size_t n_bytes, token_list *out, llmo_token *bos) {
    token_list added = {0}, plain = {0};
    int code = token_list_from_text(&added, model, "", 0, LLMO_TOKENIZE_ADD_SPECIAL);
    if (code) return code;
    *bos = llmo_model_special_token(model, LLMO_SPECIAL_BOS);
    if (!added.n || added.items[0] != *bos) *bos = LLMO_TOKEN_NONE; /* the file asks for none (or for an end only) */
    token_list_free(&added);
    code = token_list_from_text(&plain, model, text, n_bytes, 0);
    if (code || *bos == LLMO_TOKEN_NONE) {
        *out = plain;
        return code;
    }
    llmo_token *items = malloc((plain.n + 1) * sizeof *items);
    if (!items) code = tool_fail_memory();
    if (items) {
        items[0] = *bos;
        if (plain.n) memcpy(items + 1, plain.items, plain.n * sizeof *items);
        *out = (token_list){.items = items, .n = plain.n + 1};
    }
    token_list_free(&plain);
    return code;
}

static int print_perplexity(const perplexity_sums *sums, size_t n_tokens, size_t n_ctx, size_t chunks, double seconds,
                            bool as_json) {
    double n = (double)sums->scored;
    double mean = sums->nll / n;
    double variance = sums->nll_squared / n - mean * mean;
    double ppl = exp(mean);
    double error = n > 1 && variance > 0 ? sqrt(variance / (n - 1)) * ppl : 0;
    if (!as_json) {
        printf("perplexity %.4f +/- %.4f (%" PRIu64 " tokens scored in %zu chunks of %zu)\n", ppl, error, sums->scored,
               chunks, n_ctx);
        return tool_finish(TOOL_OK);
    }
    cJSON *json = cJSON_CreateObject();
    if (!json) return tool_fail_memory();
    (void)cJSON_AddNumberToObject(json, "perplexity", ppl);
    (void)cJSON_AddNumberToObject(json, "standard_error", error);
    (void)cJSON_AddNumberToObject(json, "mean_nll", mean);
    json_add_u64(json, "n_ctx", n_ctx);
    json_add_u64(json, "chunks", chunks);
    json_add_u64(json, "scored", sums->scored);
    json_add_u64(json, "n_tokens", n_tokens);
    (void)cJSON_AddNumberToObject(json, "seconds", seconds);
    return json_finish(json);
}

static int score_text(session *s, token_list *tokens, llmo_token bos, size_t n_ctx, size_t chunks, bool as_json) {
    size_t n_vocab = vocabulary(s->model);
    size_t max_rows = n_vocab ? ((size_t)16 << 20) / n_vocab : 0;
    if (max_rows < 1) max_rows = 1;
    if (max_rows > n_ctx) max_rows = n_ctx;
    float *rows = n_vocab ? malloc(max_rows * n_vocab * sizeof *rows) : NULL;
    if (!rows) return tool_fail_memory();
    progress shown;
    progress_begin(&shown);
    perplexity_sums sums = {0};
    llmo_sequence *sequence = NULL;
    llmo_status status = llmo_sequence_create(s->context, &sequence);
    for (size_t c = 0; c < chunks && status == LLMO_OK; c++) {
        llmo_token *chunk = tokens->items + c * n_ctx;
        if (bos != LLMO_TOKEN_NONE) chunk[0] = bos;
        status = llmo_sequence_truncate(sequence, 0);
        if (status == LLMO_OK) status = score_chunk(sequence, chunk, n_ctx, rows, max_rows, n_vocab, &sums);
        progress_update(&shown, "perplexity", c + 1, chunks);
    }
    double seconds = (double)(tool_time_us() - shown.start_us) / 1e6;
    progress_clear(&shown);
    int code = status == LLMO_OK ? TOOL_OK : tool_fail_library();
    llmo_sequence_destroy(sequence);
    free(rows);
    return code ? code : print_perplexity(&sums, tokens->n, n_ctx, chunks, seconds, as_json);
}

static int perplexity(session *s, const session_options *o, const char *path, uint32_t max_chunks, bool as_json) {
    char *text = NULL;
    size_t n_bytes = 0;
    int code = tool_read_file(path, &text, &n_bytes);
    if (!code) code = session_open_context(s, o);
    token_list tokens = {0};
    llmo_token bos = LLMO_TOKEN_NONE;
    if (!code) code = text_tokens(s->model, text, n_bytes, &tokens, &bos);
    free(text);
    if (!code) {
        size_t n_ctx = o->plan.n_ctx;
        size_t chunks = tokens.n / n_ctx;
        if (max_chunks && chunks > max_chunks) chunks = max_chunks;
        code = chunks ? score_text(s, &tokens, bos, n_ctx, chunks, as_json)
                      : tool_fail("'%s' has %zu tokens, too few for one chunk of %zu (--ctx)", path, tokens.n, n_ctx);
    }
    token_list_free(&tokens);
    return code;
}

int command_perplexity(int argc, char **argv) {
    const char *path = NULL;
    uint32_t max_chunks = 0;
    bool as_json = false;
    session_options o;
    session_options_init(&o);
    o.plan.n_ctx = 512;
    options list = {
        .usage = "perplexity -m MODEL -f FILE [options]",
        .description =
            "Measures how well a model predicts a text: exp of the mean negative log likelihood. The tokens of the\n"
            "text, the start token in front, are cut into chunks of --ctx tokens (an incomplete last one is dropped);\n"
            "the first token of each chunk is replaced by the start token, if the model has one; each chunk is\n"
            "evaluated on its own, and the predictions in its second half are scored.\n",
        .example = "  llmo perplexity -m model.gguf -f text.txt --ctx 512\n"};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Input and output"},
        {.kind = OPTION_TEXT,
         .letter = 'f',
         .name = "--file",
         .arg = "FILE",
         .target = &path,
         .help = "the text, - is standard input",
         .fallback = ""},
        {.kind = OPTION_U32,
         .name = "--chunks",
         .arg = "N",
         .target = &max_chunks,
         .min = 1,
         .max = INT32_MAX,
         .help = "score only the first N chunks",
         .fallback = "all"},
        {.kind = OPTION_FLAG, .name = "--json", .target = &as_json, .help = "one JSON object"},
    };
    options_add(&list, own, TOOL_COUNT(own));
    session_add_model_options(&list, &o);
    session_add_plan_options(&list, &o);
    int code = options_parse(&list, argc, argv);
    if (code != OPTIONS_GO_ON) return code;
    if (!path) return tool_usage("no text given (-f FILE)");
    if (o.plan.n_ctx < 4) return tool_usage("--ctx: %" PRIu32 " is out of range (4 or more)", o.plan.n_ctx);
    session s = {0};
    code = perplexity(&s, &o, path, max_chunks, as_json);
    session_close(&s);
    return code;
}
