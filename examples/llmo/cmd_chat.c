/* llmo chat: turns on one sequence. There is no chat template: the text typed is continued as it is, between the prefix
 * and suffix that the options give. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef LLMO_HAVE_LIBEDIT
#include <histedit.h>
#endif

#include "tool.h"

typedef struct chat_options {
    session_options session;
    sampling_options sampling;
    const char *user_prefix;
    const char *user_suffix;
    uint32_t max_tokens;
} chat_options;

/* --- reading lines ----------------------------------------------------------------------------------------------- */

typedef struct line_reader {
    bool terminal;
    char *line; /* of getline */
    size_t cap;
#ifdef LLMO_HAVE_LIBEDIT
    EditLine *edit; /* NULL: plain reading */
    History *history;
#endif
} line_reader;

#ifdef LLMO_HAVE_LIBEDIT
static char *edit_prompt(EditLine *edit) {
    static char text[] = "> ";
    (void)edit;
    return text;
}
#endif

static void line_reader_open(line_reader *l) {
    *l = (line_reader){.terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
#ifdef LLMO_HAVE_LIBEDIT
    if (!l->terminal) return;
    l->edit = el_init("llmo", stdin, stdout, stderr);
    if (!l->edit) return;
    (void)el_set(l->edit, EL_PROMPT, edit_prompt);
    (void)el_set(l->edit, EL_EDITOR, "emacs");
    (void)el_set(l->edit, EL_SIGNAL, 1); /* SIGINT at the prompt ends the program, with the terminal put right */
    l->history = history_init();
    HistEvent event;
    if (l->history && history(l->history, &event, H_SETSIZE, 1000) >= 0) {
        (void)el_set(l->edit, EL_HIST, history, l->history);
    }
#endif
}

/* The next line without its '\n', valid until the next call; NULL at the end of input. */
static char *line_reader_next(line_reader *l, size_t *n_bytes) {
    char *line = NULL;
    ssize_t length = -1;
#ifdef LLMO_HAVE_LIBEDIT
    if (l->edit) {
        int count = 0;
        const char *got = el_gets(l->edit, &count);
        if (!got || count <= 0) return NULL;
        HistEvent event;
        if (l->history && count > 1) (void)history(l->history, &event, H_ENTER, got);
        size_t needed = (size_t)count + 1;
        if (l->cap < needed) {
            char *grown = realloc(l->line, needed);
            if (!grown) return NULL;
            l->line = grown;
            l->cap = needed;
        }
        memcpy(l->line, got, needed);
        line = l->line;
        length = count;
    }
#endif
    if (!line) {
        if (l->terminal) (void)fputs("> ", stdout);
        (void)fflush(stdout);
        length = getline(&l->line, &l->cap, stdin);
        if (length < 0) return NULL;
        line = l->line;
    }
    if (length > 0 && line[length - 1] == '\n') length--;
    if (length > 0 && line[length - 1] == '\r') length--;
    line[length] = '\0';
    *n_bytes = (size_t)length;
    return line;
}

static void line_reader_close(line_reader *l) {
#ifdef LLMO_HAVE_LIBEDIT
    if (l->history) history_end(l->history);
    if (l->edit) el_end(l->edit);
#endif
    free(l->line);
}

/* --- turns ------------------------------------------------------------------------------------------------------- */

static int turn(session *s, llmo_sequence *sequence, chat_options *o, const char *line, size_t n_line) {
    size_t n_prefix = strlen(o->user_prefix);
    size_t n_suffix = strlen(o->user_suffix);
    size_t n_text = n_prefix + n_line + n_suffix;
    char *text = malloc(n_text + 1);
    if (!text) return tool_fail_memory();
    memcpy(text, o->user_prefix, n_prefix);
    memcpy(text + n_prefix, line, n_line);
    memcpy(text + n_prefix + n_line, o->user_suffix, n_suffix);

    llmo_generation_params params;
    llmo_generation_params_init(&params);
    params.max_tokens = o->max_tokens;
    /* the user of this tool may write control tokens; a program that serves strangers must not do this */
    params.tokenize_flags = LLMO_TOKENIZE_ADD_SPECIAL | LLMO_TOKENIZE_PARSE_SPECIAL;
    sampling_apply(&o->sampling, &params);
    reply r = {.stream = stdout, .budget_us = LLMO_BUDGET_UNLIMITED};
    interrupt_begin();
    int code = reply_generate(&r, s, sequence, text, n_text, NULL, &params);
    interrupt_end();
    (void)fputc('\n', stdout);
    if (!code && r.info.stop == LLMO_STOP_CONTEXT) {
        (void)fflush(stdout);
        (void)fputs("llmo: chat: the context is full; /reset starts over\n", stderr);
    }
    reply_free(&r);
    free(text);
    return tool_finish(code);
}

static int talk(session *s, llmo_sequence *sequence, chat_options *o) {
    line_reader lines;
    line_reader_open(&lines);
    if (lines.terminal) {
        printf("Type a text to continue. /reset forgets the conversation, /quit (or Ctrl-D) ends it.\n");
    }
    int last = TOOL_OK;
    char *line = NULL;
    size_t n_line = 0;
    while ((line = line_reader_next(&lines, &n_line)) != NULL) {
        if (n_line == 0) continue;
        if (strcmp(line, "/quit") == 0) break;
        if (strcmp(line, "/reset") == 0) {
            last = TOOL_OK;
            if (llmo_sequence_truncate(sequence, 0) != LLMO_OK) last = tool_fail_library();
            continue;
        }
        last = turn(s, sequence, o, line, n_line);
        if (ferror(stdout)) break;
    }
    line_reader_close(&lines);
    return tool_finish(last);
}

static int chat(session *s, chat_options *o) {
    int code = session_open_context(s, &o->session);
    if (code) return code;
    llmo_sequence *sequence = NULL;
    if (llmo_sequence_create(s->context, &sequence) != LLMO_OK) return tool_fail_library();
    code = talk(s, sequence, o);
    llmo_sequence_destroy(sequence);
    return code;
}

int command_chat(int argc, char **argv) {
    chat_options o = {.user_prefix = "", .user_suffix = "", .max_tokens = 256};
    session_options_init(&o.session);
    sampling_options_init(&o.sampling);
    options list = {
        .usage = "chat -m MODEL [options]",
        .description =
            "Reads lines and continues the conversation after each of them, on one sequence. Nothing is put around\n"
            "what you type (right for a base model) unless --user-prefix and --user-suffix say so; control tokens\n"
            "in it are recognized. /reset forgets the conversation, /quit or the end of input ends it. SIGINT "
            "(Ctrl-C)\n"
            "cuts a reply short, at the prompt it ends the program. If the last turn failed the exit code is 1.\n",
        .example = "  llmo chat -m model.gguf --user-prefix $'User: ' --user-suffix $'\\nBot:' --stop $'\\nUser:'\n"};
    const option own[] = {
        {.kind = OPTION_HEADING, .name = "Conversation"},
        {.kind = OPTION_TEXT,
         .name = "--user-prefix",
         .arg = "TEXT",
         .target = &o.user_prefix,
         .help = "stands in front of each line typed",
         .fallback = "nothing"},
        {.kind = OPTION_TEXT,
         .name = "--user-suffix",
         .arg = "TEXT",
         .target = &o.user_suffix,
         .help = "stands behind each line typed",
         .fallback = "nothing"},
        {.kind = OPTION_U32,
         .letter = 'n',
         .name = "--max-tokens",
         .arg = "N",
         .target = &o.max_tokens,
         .max = UINT32_MAX,
         .help = "most tokens of a reply, 0: until the context is full"},
    };
    options_add(&list, own, TOOL_COUNT(own));
    sampling_add_options(&list, &o.sampling);
    session_add_model_options(&list, &o.session);
    session_add_plan_options(&list, &o.session);
    int code = options_parse(&list, argc, argv);
    if (code == OPTIONS_GO_ON) {
        session s = {0};
        code = chat(&s, &o);
        session_close(&s);
    }
    sampling_options_free(&o.sampling);
    return code;
}
