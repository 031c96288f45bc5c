/* Values of a GGUF header as text, for hosts that show metadata. Independent of the locale. */
#include "gguf_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SHOWN_ELEMENTS 64u

/* Text that may be longer than the buffer: counts on, stores what fits. */
typedef struct sink {
    char *buf;
    size_t cap, len;
} sink;

static void put(sink *s, const char *text, size_t n) {
    if (s->len < s->cap) {
        size_t room = s->cap - s->len;
        memcpy(s->buf + s->len, text, n < room ? n : room);
    }
    s->len += n; /* at most 65 values of a header below 1 GiB */
}

static void put_text(sink *s, const char *text) {
    put(s, text, strlen(text));
}

/* printf writes the decimal point of the host's locale, which may be a comma or several bytes: make it a point. */
static void put_point(sink *s, const char *number) {
    for (const char *p = number; *p;) {
        size_t n = strspn(p, "0123456789+-einfa");
        put(s, p, n);
        p += n;
        if (!*p) break;
        put(s, ".", 1);
        while (*p && !strchr("0123456789+-einfa", *p)) p++;
    }
}

/* The shortest decimal that reads back as the same number. */
static void put_float(sink *s, double v, bool single) {
    char text[40];
    int digits = single ? 6 : 15;
    for (;; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, v);
        if (!isfinite(v) || digits == (single ? 9 : 17)) break;
        if (single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v) break;
    }
    if (isnan(v))
        put_text(s, "nan");
    else
        put_point(s, text);
}

static void put_unsigned(sink *s, uint64_t v) {
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)v);
    put_text(s, text);
}

static void put_signed(sink *s, int64_t v) {
    char text[24];
    (void)snprintf(text, sizeof text, "%lld", (long long)v);
    put_text(s, text);
}

static void put_element(sink *s, const llmoi_gguf_value *v, uint64_t i) {
    if (v->elem == LLMOI_GGUF_STRING) {
        llmoi_str str = llmoi_gguf_value_string(v, i);
        put(s, str.ptr, str.len);
        return;
    }
    const unsigned char *p = v->data + i * llmoi_gguf_kind_bytes(v->elem);
    float f;
    double d;
    switch (v->elem) {
    case LLMOI_GGUF_U8: put_unsigned(s, p[0]); break;
    case LLMOI_GGUF_I8: put_signed(s, (int8_t)p[0]); break;
    case LLMOI_GGUF_U16: put_unsigned(s, (uint64_t)p[0] | (uint64_t)p[1] << 8); break;
    case LLMOI_GGUF_I16: put_signed(s, (int16_t)(uint16_t)(p[0] | p[1] << 8)); break;
    case LLMOI_GGUF_U32: put_unsigned(s, llmoi_load_u32(p)); break;
    case LLMOI_GGUF_I32: put_signed(s, (int32_t)llmoi_load_u32(p)); break;
    case LLMOI_GGUF_U64: put_unsigned(s, llmoi_load_u64(p)); break;
    case LLMOI_GGUF_I64: put_signed(s, (int64_t)llmoi_load_u64(p)); break;
    case LLMOI_GGUF_BOOL: put_text(s, p[0] ? "true" : "false"); break;
    case LLMOI_GGUF_F32:
        memcpy(&f, p, sizeof f);
        put_float(s, (double)f, true);
        break;
    default:
        memcpy(&d, p, sizeof d);
        put_float(s, d, false);
        break;
    }
}

llmo_status llmoi_gguf_text(const llmoi_gguf *g, const char *key, char *buf, size_t cap, size_t *len) {
    llmoi_gguf_value v;
    if (!llmoi_gguf_lookup(g, 0, key, &v)) return llmoi_fail(LLMO_E_ARG, "there is no key '%.96s'", key);
    sink s = {buf, cap ? cap - 1 : 0, 0};
    bool array = v.kind == LLMOI_GGUF_ARRAY;
    if (array) put(&s, "[", 1);
    for (uint64_t i = 0; i < v.count && i < SHOWN_ELEMENTS; i++) {
        if (i) put(&s, ", ", 2);
        put_element(&s, &v, i);
    }
    if (v.count > SHOWN_ELEMENTS) {
        put_text(&s, ", ... (");
        put_unsigned(&s, v.count);
        put(&s, ")", 1);
    }
    if (array) put(&s, "]", 1);
    if (cap) buf[s.len < cap ? s.len : cap - 1] = '\0';
    *len = s.len;
    if (s.len >= cap) {
        return llmoi_fail(LLMO_E_BUFFER, "key '%.96s' takes %zu bytes with its NUL, the buffer has %zu", key, s.len + 1,
                          cap);
    }
    return LLMO_OK;
}
