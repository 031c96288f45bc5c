/* One generation from prompt to end: steps it, streams and collects its text, stops at SIGINT. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

/* --- SIGINT ------------------------------------------------------------------------------------------------------ */

/* A handler may do next to nothing, so it sets a flag and wakes a thread, and that thread cancels the context. The flag
 * is checked between steps as well: a cancel that comes between two passes must not get lost. */
static volatile sig_atomic_t seen;
static sem_t wake;
static struct sigaction old_action;
static llmo_context *attached; /* written while the watcher does not run */
static pthread_t watcher;
static atomic_bool leaving;

static void on_interrupt(int number) {
    (void)number;
    int saved = errno;
    seen = 1;
    (void)sem_post(&wake);
    errno = saved;
}

static void *watch(void *arg) {
    (void)arg;
    for (;;) {
        while (sem_wait(&wake) != 0) continue; /* EINTR */
        if (atomic_load(&leaving)) return NULL;
        (void)llmo_context_cancel(attached);
    }
}

void interrupt_begin(void) {
    seen = 0;
    (void)sem_init(&wake, 0, 0);
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, &old_action);
}

void interrupt_attach(llmo_context *context) {
    if (attached) {
        atomic_store(&leaving, true);
        (void)sem_post(&wake);
        (void)pthread_join(watcher, NULL);
        attached = NULL;
    }
    if (!context) return;
    atomic_store(&leaving, false);
    attached = context;
    if (pthread_create(&watcher, NULL, watch, NULL) != 0) attached = NULL; /* the flag still works */
}

bool interrupt_seen(void) {
    return seen != 0;
}

void interrupt_end(void) {
    interrupt_attach(NULL);
    (void)sigaction(SIGINT, &old_action, NULL);
    (void)sem_destroy(&wake);
}

/* --- text -------------------------------------------------------------------------------------------------------- */

static int32_t take_text(void *user, llmo_generation *generation, const char *text, size_t n_bytes) {
    reply *r = user;
    (void)generation;
    if (r->cap - r->n_text < n_bytes) {
        size_t cap = (r->n_text + n_bytes) * 2;
        char *grown = realloc(r->text, cap);
        if (!grown) {
            r->out_of_memory = true;
            return 1;
        }
        r->text = grown;
        r->cap = cap;
    }
    if (n_bytes) memcpy(r->text + r->n_text, text, n_bytes);
    r->n_text += n_bytes;
    if (!r->stream) return 0;
    progress_clear(&r->progress);
    (void)fwrite(text, 1, n_bytes, r->stream);
    return fflush(r->stream) != 0; /* nobody can read the rest: the caller's tool_finish() reports it */
}

/* --- steps ------------------------------------------------------------------------------------------------------- */

/* Steps until the generation has ended or SIGINT came. Exit code. */
static int step_to_end(reply *r, session *s, llmo_generation *generation) {
    for (;;) {
        if (interrupt_seen()) {
            r->interrupted = true;
            (void)llmo_generation_cancel(generation);
        }
        llmo_status status = LLMO_OK;
        if (!r->interrupted) {
            status = llmo_context_step(s->context, r->budget_us, NULL);
            if (status == LLMO_E_CANCELLED) continue; /* by the watcher, maybe late: the flag decides */
        }
        int code = status == LLMO_OK ? TOOL_OK : tool_fail_library();
        r->info = (llmo_generation_info){.struct_size = sizeof r->info};
        if (!code && llmo_generation_get_info(generation, &r->info) != LLMO_OK) code = tool_fail_library();
        if (r->interrupted) r->info.stop = LLMO_STOP_CANCEL; /* it will be, at its next step, which never comes */
        if (code || r->interrupted || r->info.state >= LLMO_GENERATION_DONE) return code;
        if (r->info.state == LLMO_GENERATION_PROMPT) {
            progress_update(&r->progress, "prompt", r->info.n_prompt_done, r->info.n_prompt);
        }
    }
}

static int check_end(const reply *r, const session *s) {
    if (r->out_of_memory) return tool_fail_memory();
    if (r->info.state != LLMO_GENERATION_FAILED) return TOOL_OK;
    const char *text = llmo_context_error(s->context);
    return tool_fail("the generation failed: %s", text && *text ? text : llmo_status_text(r->info.status));
}

static int take_tokens(reply *r, llmo_generation *generation) {
    size_t n = (size_t)r->info.n_generated;
    r->tokens.items = malloc((n + 1) * sizeof *r->tokens.items);
    if (!r->tokens.items) return tool_fail_memory();
    llmo_status status = llmo_generation_get_tokens(generation, 0, r->tokens.items, n, &r->tokens.n);
    return status == LLMO_OK ? TOOL_OK : tool_fail_library();
}

int reply_generate(reply *r, session *s, llmo_sequence *sequence, const char *text, size_t n_text,
                   const token_list *tokens, llmo_generation_params *params) {
    progress_begin(&r->progress);
    params->text_user = r;
    params->text = take_text;
    llmo_generation *generation = NULL;
    llmo_status status = tokens ? llmo_generation_start_tokens(sequence, tokens->items, tokens->n, params, &generation)
                                : llmo_generation_start(sequence, text, n_text, params, &generation);
    if (status != LLMO_OK) return tool_fail_library();
    interrupt_attach(s->context);
    int code = step_to_end(r, s, generation);
    interrupt_attach(NULL);
    progress_clear(&r->progress);
    if (!code) code = check_end(r, s);
    if (!code) code = take_tokens(r, generation);
    llmo_generation_destroy(generation);
    return code;
}

void reply_free(reply *r) {
    free(r->text);
    token_list_free(&r->tokens);
    *r = (reply){0};
}

const char *reply_stop_name(int32_t stop) {
    static const char *const names[] = {"none", "end", "length", "context", "string", "token", "cancel", "callback"};
    return stop >= 0 && (size_t)stop < TOOL_COUNT(names) ? names[stop] : "unknown";
}

double reply_prompt_speed(const llmo_generation_info *info) {
    return info->prompt_us ? 1e6 * (double)info->n_prompt_done / (double)info->prompt_us : 0;
}

/* The first token comes out of the prompt's last pass, every further one takes a pass of its own. */
double reply_decode_speed(const llmo_generation_info *info) {
    if (info->n_generated < 2 || !info->decode_us) return 0;
    return 1e6 * (double)(info->n_generated - 1) / (double)info->decode_us;
}
