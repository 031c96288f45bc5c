/* How a failure is recorded: a status code plus one sentence, kept per thread.
 * Knows nothing of handles; api.c copies the sentence to the handle. */
#ifndef LLMOI_STATUS_H
#define LLMOI_STATUS_H

#include "llmoffload.h"

#define LLMOI_MESSAGE_BYTES 512

/* Records the sentence for this thread (cut to LLMOI_MESSAGE_BYTES, always valid UTF-8 up to the cut) and returns st,
 * so that `return llmoi_fail(LLMO_E_FORMAT, "...")` is the whole error path. The sentence names the file, key, tensor
 * or argument. Text taken from a file goes through "%.*s" with a bounded length; control characters are replaced. */
__attribute__((format(printf, 2, 3), cold)) llmo_status llmoi_fail(llmo_status st, const char *fmt, ...);

#ifdef __clang_analyzer__ /* so that it knows that a failure is never LLMO_OK */
#define llmoi_fail(st, ...) ((void)llmoi_fail(st, __VA_ARGS__), (st))
#endif

/* Puts "prefix: " in front of the sentence recorded last, e.g. the path of the file that was being read. */
__attribute__((format(printf, 1, 2), cold)) void llmoi_fail_prefix(const char *fmt, ...);

/* The sentence recorded last on this thread; "" if none. */
const char *llmoi_message(void);
void llmoi_message_clear(void);

#define LLMOI_MUST_CHECK __attribute__((warn_unused_result))

#define LLMOI_TRY(expr)                                                                                                \
    do {                                                                                                               \
        llmo_status llmoi_try_ = (expr);                                                                               \
        if (llmoi_try_ != LLMO_OK) return llmoi_try_;                                                                  \
    } while (0)

#endif
