/* llmo run: continues one prompt. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

typedef struct run_options {
    session_options session;
    sampling_options sampling;
    const char *prompt;
    const char *prompt_file;
    token_list prompt_tokens;
    uint32_t max_tokens;
    uint64_t budget_us;
    bool ids;
    bool json;
    bool quiet;
} run_options;

static void print_statistics(const session *s, const reply *r) {
    const llmo_generation_info *i = &r->info;
    (void)fprintf(stderr,
                  "prompt: %" PRIu64 " tokens, %.1f tok/s | generated: %zu tokens, %.1f tok/s (%s) | load: %.2f s",
                  i->n_prompt, reply_prompt_speed(i), r->tokens.n, reply_decode_speed(i), reply_stop_name(i->stop),
                  (double)s->load_us / 1e6);
    (void)fprintf(stderr, " | memory:");
    for (uint32_t d = 0; d < llmo_device_count(s->runtime); d++) {
        char size[32];
        llmo_device_info info = {.struct_size = sizeof info};
        bool known = llmo_device_get_info(s->runtime, d, &info) == LLMO_OK;
        (void)fprintf(stderr, "%s %s %s", d ? "," : "", known && info.kind == LLMO_DEVICE_CUDA ? "GPU" : "CPU",
                      tool_bytes_text(llmo_context_bytes(s->context, d, LLMO_PURPOSE_COUNT), size));
    }
    (void)fprintf(stderr, "\n");
}

static int print_json(const session *s, const reply *r) {
    cJSON *json = cJSON_CreateObject();
    if (!json) return tool_fail_memory();
    const llmo_generation_info *i = &r->info;
    json_add_text(json, "text", r->text ? r->text : "", r->n_text);
    json_add_tokens(json, "ids", r->tokens.items, r->tokens.n);
    json_add_string(json, "stop", reply_stop_name(i->stop));
    json_add_u64(json, "prompt_tokens", i->n_prompt);
    json_add_u64(json, "generated_tokens", r->tokens.n);
    json_add_u64(json, "prompt_us", i->prompt_us);
    json_add_u64(json, "decode_us", i->decode_us);
    (void)cJSON_AddNumberToObject(json, "prompt_tokens_per_second", reply_prompt_speed(i));
    (void)cJSON_AddNumberToObject(json, "decode_tokens_per_second", reply_decode_speed(i));
    json_add_u64(json, "load_us", s->load_us);
    (void)cJSON_AddNumberToObject(json, "threads", llmo_runtime_threads(s->runtime));
    (void)cJSON_AddItemToObject(json, "memory", session_memory_json(s));
    return json_finish(json);
}

static int generate(session *s, run_options *o, const char *text, size_t n_text, reply *r) {
    llmo_generation_params params;
    llmo_generation_params_init(&params);
    params.max_tokens = o->max_tokens;
    params.tokenize_flags = LLMO_TOKENIZE_ADD_SPECIAL | LLMO_TOKENIZE_PARSE_SPECIAL;
    sampling_apply(&o->sampling, &params);
    llmo_sequence *sequence = NULL;
    if (llmo_sequence_create(s->context, &sequence) != LLMO_OK) return tool_fail_library();
    const token_list *tokens = o->prompt || o->prompt_file ? NULL : &o->prompt_tokens;
    int code = reply_generate(r, s, sequence, text, n_text, tokens, &params);
    llmo_sequence_destroy(sequence);
    return code;
}

/* What is printed once the text is complete, or cut short by SIGINT. */
static int report(const session *s, const run_options *o, const reply *r) {
    int code = TOOL_OK;
    if (o->json) {
        code = print_json(s, r);
    } else if (o->ids) {
        token_list_print(stdout, r->tokens.items, r->tokens.n);
    } else {
        (void)fputc('\n', stdout);
    }
    code = tool_finish(code);
    if (!o->json && !o->quiet && !code) print_statistics(s, r);
    return !code && r->interrupted ? TOOL_INTERRUPTED : code;
}

static int run(session *s, run_options *o) {
    char *file_text = NULL;
    const char *text = o->prompt;
    size_t n_text = text ? strlen(text) : 0;
    int code = TOOL_OK;
    if (o->prompt_file) {
        code = tool_read_file(o->prompt_file, &file_text, &n_text);
        text = file_text;
    }
    interrupt_begin();
    if (!code) code = session_open_context(s, &o->session);
    if (!code) {
        bool streams = !o->json && !o->ids;
        reply r = {.stream = streams ? stdout : NULL, .budget_us = o->budget_us};
        code = generate(s, o, text, n_text, &r);
        if (!code) {
            code = report(s, o, &r);
        } else if (streams && r.n_text) {
            (void)fputc('\n', stdout);
        }
        reply_free(&r);
    }
    interrupt_end();
    free(file_text);
    return code;
}

int command_run(int argc, char **argv) {
    run_options o = {.max_tokens = 128, .budget_us = LLMO_BUDGET_UNLIMITED};
    session_options_init(&o.session);
    sampling_options_init(&o.sampling);
    options list = {.usage = "run -m MODEL (-p TEXT | -f FILE | --tokens IDS) [options]",
                    .description =
                        "Continues a prompt. The new text goes to standard output as it comes, figures go to\n"
                        "standard error. SIGINT (Ctrl-C) ends the text; the exit code is 130 then.\n",
                    .example = "  llmo run -m model.gguf -p 'Once upon a time' -n 64 --temp 0\n"};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Prompt and reply"},
        {.kind = OPTION_TEXT,
         .letter = 'p',
         .name = "--prompt",
         .arg = "TEXT",
         .target = &o.prompt,
         .help = "the prompt; start tokens are added, control tokens recognized",
         .fallback = ""},
        {.kind = OPTION_TEXT,
         .letter = 'f',
         .name = "--file",
         .arg = "FILE",
         .target = &o.prompt_file,
         .help = "the same from a file, - is standard input",
         .fallback = ""},
        {.kind = OPTION_CUSTOM,
         .name = "--tokens",
         .arg = "IDS",
         .target = &o.prompt_tokens,
         .parse = option_parse_tokens,
         .help = "the prompt as token ids: 1,2,3; nothing is added",
         .fallback = ""},
        {.kind = OPTION_U32,
         .letter = 'n',
         .name = "--max-tokens",
         .arg = "N",
         .target = &o.max_tokens,
         .max = UINT32_MAX,
         .help = "most tokens to generate, 0: until the context is full"},
        {.kind = OPTION_U64,
         .name = "--budget-us",
         .arg = "N",
         .target = &o.budget_us,
         .help = "microseconds per step, as a frame of a game would give",
         .fallback = "no limit"},
        {.kind = OPTION_FLAG, .name = "--ids", .target = &o.ids, .help = "print the generated ids, not the text"},
        {.kind = OPTION_FLAG, .name = "--json", .target = &o.json, .help = "print one JSON object: text, ids, figures"},
        {.kind = OPTION_FLAG, .letter = 'q', .name = "--quiet", .target = &o.quiet, .help = "no figures"},
    };
    options_add(&list, own, TOOL_COUNT(own));
    sampling_add_options(&list, &o.sampling);
    session_add_model_options(&list, &o.session);
    session_add_plan_options(&list, &o.session);
    int code = options_parse(&list, argc, argv);
    if (code == OPTIONS_GO_ON) {
        int prompts = (o.prompt != NULL) + (o.prompt_file != NULL) + (o.prompt_tokens.items != NULL);
        if (prompts != 1) {
            code = tool_usage(prompts ? "only one of -p, -f, --tokens can be given" : "no prompt (-p, -f or --tokens)");
        } else {
            session s = {0};
            code = run(&s, &o);
            session_close(&s);
        }
    }
    token_list_free(&o.prompt_tokens);
    sampling_options_free(&o.sampling);
    return code;
}
