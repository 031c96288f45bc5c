/* What the bodies of the public calls share: checking handles and sized structs. */
#ifndef LLMOI_API_H
#define LLMOI_API_H

#include "context.h"

/* Copies the caller's params of any version over defaults: dst (dst_bytes, filled with the defaults) gets what src has of
 * it. NULL src leaves the defaults. */
LLMOI_MUST_CHECK llmo_status llmoi_read_params(void *dst, size_t dst_bytes, const void *src, const char *name);

/* The reverse for info structs: out->struct_size says how much the caller knows; info (info_bytes) is copied so far. */
LLMOI_MUST_CHECK llmo_status llmoi_write_info(void *out, const void *info, size_t info_bytes, const char *name);

/* Checks a handle's magic and the process; the sentence names the argument. */
LLMOI_MUST_CHECK llmo_status llmoi_check(const llmoi_handle *h, llmoi_kind kind, const llmo_runtime *rt,
                                         const char *name);

#define LLMOI_CHECK_ARG(cond, ...)                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return llmoi_fail(LLMO_E_ARG, __VA_ARGS__);                                                       \
    } while (0)

#endif
