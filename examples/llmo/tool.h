/* What the files of the llmo tool share. The tool is an ordinary host of the library: it knows llmoffload.h and nothing
 * from inside it. */
#ifndef LLMO_TOOL_H
#define LLMO_TOOL_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "llmoffload.h"
#include "options.h"

enum { TOOL_OK = 0, TOOL_FAILED = 1, TOOL_USAGE = 2, TOOL_INTERRUPTED = 130 };

#define TOOL_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- message.c: words for people --------------------------------------------------------------------------------- */
void tool_set_command(const char *name); /* "run": stands in front of every error */
/* One line on standard error; control characters in it are escaped. Both return the exit code. */
int tool_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* TOOL_FAILED */
int tool_usage(const char *format, ...) __attribute__((format(printf, 1, 2))); /* TOOL_USAGE */
int tool_fail_library(void); /* the library's last error; TOOL_FAILED */
int tool_fail_memory(void);
/* Flushes standard output; `code`, or TOOL_FAILED with a message if something could not be written. */
int tool_finish(int code);

uint64_t tool_time_us(void);
/* "1.25 GiB" in a buffer of the caller, which is returned. */
const char *tool_bytes_text(uint64_t bytes, char out[static 32]);
/* Bytes of the UTF-8 character at s, of which n_bytes > 0 bytes are there; 0 if it is not one. */
size_t tool_utf8_length(const unsigned char *s, size_t n_bytes);
/* Writes text of a file to a terminal: control characters and bad UTF-8 as escapes, "... (N bytes)" after max_bytes. */
void tool_print_text(FILE *f, const char *text, size_t n_bytes, size_t max_bytes);

/* Progress on standard error: silent unless that is a terminal and the work takes over a second. */
typedef struct progress {
    uint64_t start_us;
    uint64_t drawn_us;
    bool terminal;
    bool drawn; /* a line stands there */
} progress;
void progress_begin(progress *p);
void progress_update(progress *p, const char *what, uint64_t done, uint64_t total);
void progress_clear(progress *p);

/* Reads a whole file, "-" is standard input. *out has a NUL behind its *n_bytes bytes; free() it. Exit code. */
int tool_read_file(const char *path, char **out, size_t *n_bytes);

/* --- json_out.c: output for programs ----------------------------------------------------------------------------- */
/* Text of a model may hold any bytes: bad UTF-8 becomes U+FFFD, NUL becomes \u0000. */
void json_add_text(cJSON *object, const char *key, const char *text, size_t n_bytes);
void json_add_string(cJSON *object, const char *key, const char *text);
void json_add_u64(cJSON *object, const char *key, uint64_t value); /* all 64 bits, no detour over double */
void json_add_tokens(cJSON *object, const char *key, const llmo_token *tokens, size_t n_tokens);
void json_append_text(cJSON *array, const char *text);
/* Prints one line and deletes the object. Exit code. */
int json_finish(cJSON *object);

/* --- token_list.c ------------------------------------------------------------------------------------------------ */
typedef struct token_list {
    llmo_token *items;
    size_t n;
} token_list;
void token_list_free(token_list *list);
void token_list_print(FILE *f, const llmo_token *tokens, size_t n_tokens); /* "[1,2,3]\n" */
/* Ids from a JSON array, or separated by white space and commas. NULL, or what is wrong (static text). */
const char *token_list_parse(token_list *list, const char *text, size_t n_bytes);
int token_list_from_text(token_list *list, llmo_model *model, const char *text, size_t n_bytes, uint32_t flags);
int option_parse_tokens(void *target, const char *option, const char *text); /* for a token_list */

/* --- session.c: runtime, model, plan and context from the options ------------------------------------------------- */
typedef struct session_options {
    const char *model_path;
    const char *pre_tokenizer;
    bool mmap;
    int32_t n_threads;
    int32_t log_level;
    llmo_plan_params plan;
} session_options;

typedef struct session {
    llmo_runtime *runtime;
    llmo_model *model;
    llmo_plan *plan;
    llmo_context *context;
    uint64_t load_us; /* opening, planning and reading the weights */
} session;

void session_options_init(session_options *o);
void session_add_model_options(options *list, session_options *o); /* -m, --pre, --log */
void session_add_plan_options(options *list, session_options *o);  /* --threads, --ctx, --gpu-layers, ... */
/* Each opens what stands before it in the struct as well. Exit codes; session_close() also after a failure. */
int session_open_runtime(session *s, const session_options *o);
int session_open_model(session *s, const session_options *o);
int session_open_plan(session *s, const session_options *o);
int session_open_context(session *s, const session_options *o);
void session_close(session *s);
/* Bytes held (context) or planned (plan) per device and purpose, as a JSON array. */
cJSON *session_memory_json(const session *s);

/* --- sampling.c: options of run and chat -------------------------------------------------------------------------- */
typedef struct sampling_options {
    llmo_sampling_params params;
    text_list dry_breakers;
    text_list stops;
    llmo_token *bias_tokens;
    float *bias_values;
    uint32_t n_bias;
    bool ignore_end;
} sampling_options;
void sampling_options_init(sampling_options *o);
void sampling_options_free(sampling_options *o);
void sampling_add_options(options *list, sampling_options *o);
/* Points generation parameters (initialised by the caller) at the options. */
void sampling_apply(sampling_options *o, llmo_generation_params *params);

/* --- reply.c: one generation, interruptible ----------------------------------------------------------------------- */
typedef struct reply {
    FILE *stream;       /* in: text is written there as it comes, NULL: it is only kept */
    uint64_t budget_us; /* in: of each step */
    char *text;         /* out: all of the text, n_text bytes */
    size_t n_text;
    token_list tokens; /* out */
    llmo_generation_info info;
    bool interrupted;
    /* inside */
    size_t cap;
    bool out_of_memory;
    progress progress;
} reply;
/* The prompt is `tokens` if that is not NULL, else the text. params->text is taken. Exit code; an interrupted
 * generation is TOOL_OK with `interrupted` set. */
int reply_generate(reply *r, session *s, llmo_sequence *sequence, const char *text, size_t n_text,
                   const token_list *tokens, llmo_generation_params *params);
void reply_free(reply *r);
const char *reply_stop_name(int32_t stop);
/* Tokens per second of the prompt and of decoding, 0 where nothing was measured. */
double reply_prompt_speed(const llmo_generation_info *info);
double reply_decode_speed(const llmo_generation_info *info);

/* SIGINT: the first one is remembered and cancels the work of the attached context, the second one kills. */
void interrupt_begin(void);
void interrupt_attach(llmo_context *context); /* NULL detaches */
bool interrupt_seen(void);
void interrupt_end(void);

/* --- commands: argv[0] is the name of the command ----------------------------------------------------------------- */
int command_info(int argc, char **argv);
int command_devices(int argc, char **argv);
int command_plan(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_detokenize(int argc, char **argv);
int command_run(int argc, char **argv);
int command_chat(int argc, char **argv);
int command_logits(int argc, char **argv);
int command_perplexity(int argc, char **argv);

#endif
