/* Typed getters for the values of an opened GGUF file. Every value was checked when the file was opened; here its kind
 * and range are checked against what the caller asks for. Knows nothing of what keys mean. */
#include "gguf_impl.h"

#include <math.h>

#define SHOWN_KEY_MAX 96

static const char *kind_name(uint32_t kind) {
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

/* Puts the key and its offset in front of the sentence just recorded. */
__attribute__((cold)) static llmo_status blame(const char *key, const llmoi_gguf_value *v, llmo_status st) {
    llmoi_fail_prefix("key '%.*s' at offset %llu", SHOWN_KEY_MAX, key, (unsigned long long)v->offset);
    return st;
}

__attribute__((cold)) static llmo_status missing(const char *key) {
    return llmoi_fail(LLMO_E_FORMAT, "key '%.*s' is missing", SHOWN_KEY_MAX, key);
}

__attribute__((cold)) static llmo_status wrong_kind(const char *key, const llmoi_gguf_value *v, const char *wanted) {
    if (v->kind == LLMOI_GGUF_ARRAY) {
        return blame(key, v,
                     llmoi_fail(LLMO_E_FORMAT, "its value is an array of %s, not %s", kind_name(v->elem), wanted));
    }
    return blame(key, v, llmoi_fail(LLMO_E_FORMAT, "its value is of type %s, not %s", kind_name(v->kind), wanted));
}

/* An integer of any width: magnitude and sign. */
typedef struct integer {
    uint64_t bits; /* two's complement if negative */
    bool negative;
} integer;

static bool read_integer(uint32_t kind, const unsigned char *p, integer *out) {
    int64_t s;
    switch (kind) {
    case LLMOI_GGUF_U8: *out = (integer){p[0], false}; return true;
    case LLMOI_GGUF_U16: *out = (integer){(uint64_t)p[0] | (uint64_t)p[1] << 8, false}; return true;
    case LLMOI_GGUF_U32: *out = (integer){llmoi_load_u32(p), false}; return true;
    case LLMOI_GGUF_U64: *out = (integer){llmoi_load_u64(p), false}; return true;
    case LLMOI_GGUF_I8: s = (int8_t)p[0]; break;
    case LLMOI_GGUF_I16: s = (int16_t)(uint16_t)(p[0] | p[1] << 8); break;
    case LLMOI_GGUF_I32: s = (int32_t)llmoi_load_u32(p); break;
    case LLMOI_GGUF_I64: s = (int64_t)llmoi_load_u64(p); break;
    default: return false;
    }
    *out = (integer){(uint64_t)s, s < 0};
    return true;
}

/* F32 or F64 as float; NaN or infinite also if a double is too large. */
static bool read_float(uint32_t kind, const unsigned char *p, float *out) {
    if (kind == LLMOI_GGUF_F32) {
        memcpy(out, p, sizeof *out);
        return true;
    }
    if (kind != LLMOI_GGUF_F64) return false;
    double d;
    memcpy(&d, p, sizeof d);
    /* out of range is undefined for the conversion, by the letter of C */
    *out = fabs(d) <= 3.4028234663852886e38 ? (float)d : NAN;
    return true;
}

/* --- single values ------------------------------------------------------------------------------------------ */

llmo_status llmoi_gguf_part_u64(const llmoi_gguf *g, uint32_t part, const char *key, bool required, uint64_t min,
                                uint64_t max, uint64_t *out) {
    llmoi_gguf_value v;
    integer i;
    if (!llmoi_gguf_lookup(g, part, key, &v)) return required ? missing(key) : LLMO_OK;
    if (!read_integer(v.kind, v.data, &i)) return wrong_kind(key, &v, "an integer");
    if (i.negative) {
        return blame(key, &v,
                     llmoi_fail(LLMO_E_FORMAT, "value %lld is outside %llu..%llu", (long long)i.bits,
                                (unsigned long long)min, (unsigned long long)max));
    }
    if (i.bits < min || i.bits > max) {
        return blame(key, &v,
                     llmoi_fail(LLMO_E_FORMAT, "value %llu is outside %llu..%llu", (unsigned long long)i.bits,
                                (unsigned long long)min, (unsigned long long)max));
    }
    *out = i.bits;
    return LLMO_OK;
}

llmo_status llmoi_gguf_u64(const llmoi_gguf *g, const char *key, bool required, uint64_t min, uint64_t max,
                           uint64_t *out) {
    return llmoi_gguf_part_u64(g, 0, key, required, min, max, out);
}

llmo_status llmoi_gguf_u32(const llmoi_gguf *g, const char *key, bool required, uint32_t min, uint32_t max,
                           uint32_t *out) {
    uint64_t v = *out;
    LLMOI_TRY(llmoi_gguf_part_u64(g, 0, key, required, min, max, &v));
    *out = (uint32_t)v; /* at most max, or what it was */
    return LLMO_OK;
}

llmo_status llmoi_gguf_f32(const llmoi_gguf *g, const char *key, bool required, float min, float max, float *out) {
    llmoi_gguf_value v;
    float f;
    if (!llmoi_gguf_lookup(g, 0, key, &v)) return required ? missing(key) : LLMO_OK;
    if (!read_float(v.kind, v.data, &f)) return wrong_kind(key, &v, "a floating-point number");
    if (!isfinite(f)) return blame(key, &v, llmoi_fail(LLMO_E_FORMAT, "its value is not a finite 32-bit number"));
    if (f < min || f > max) {
        return blame(key, &v,
                     llmoi_fail(LLMO_E_FORMAT, "value %g is outside %g..%g", (double)f, (double)min, (double)max));
    }
    *out = f;
    return LLMO_OK;
}

llmo_status llmoi_gguf_bool(const llmoi_gguf *g, const char *key, bool required, bool *out) {
    llmoi_gguf_value v;
    if (!llmoi_gguf_lookup(g, 0, key, &v)) return required ? missing(key) : LLMO_OK;
    if (v.kind != LLMOI_GGUF_BOOL) return wrong_kind(key, &v, "a boolean");
    *out = v.data[0] != 0;
    return LLMO_OK;
}

llmo_status llmoi_gguf_string(const llmoi_gguf *g, const char *key, bool required, llmoi_str *out) {
    llmoi_gguf_value v;
    if (!llmoi_gguf_lookup(g, 0, key, &v)) return required ? missing(key) : LLMO_OK;
    if (v.kind != LLMOI_GGUF_STRING) return wrong_kind(key, &v, "a string");
    *out = llmoi_gguf_value_string(&v, 0);
    return LLMO_OK;
}

/* --- arrays ------------------------------------------------------------------------------------------------- */

llmoi_str llmoi_gguf_value_string(const llmoi_gguf_value *v, uint64_t i) {
    const unsigned char *p = v->kind == LLMOI_GGUF_ARRAY ? v->header + v->strings[i] : v->data;
    return (llmoi_str){(const char *)p + 8, (size_t)llmoi_load_u64(p)};
}

llmo_status llmoi_gguf_array(const llmoi_gguf *g, const char *key, bool required, llmoi_gguf_kind *elem,
                             uint64_t *count) {
    llmoi_gguf_value v;
    if (!llmoi_gguf_lookup(g, 0, key, &v)) {
        if (required) return missing(key);
        *count = 0;
        return LLMO_OK;
    }
    if (v.kind != LLMOI_GGUF_ARRAY) return wrong_kind(key, &v, "an array");
    *elem = (llmoi_gguf_kind)v.elem;
    *count = v.count;
    return LLMO_OK;
}

/* The key's array, and that it has an element `index`. */
static llmo_status find_element(const llmoi_gguf *g, const char *key, uint64_t index, llmoi_gguf_value *v) {
    if (!llmoi_gguf_lookup(g, 0, key, v)) return missing(key);
    if (v->kind != LLMOI_GGUF_ARRAY) return wrong_kind(key, v, "an array");
    if (index >= v->count) {
        return blame(key, v,
                     llmoi_fail(LLMO_E_FORMAT, "element %llu is asked for, the array has %llu",
                                (unsigned long long)index, (unsigned long long)v->count));
    }
    return LLMO_OK;
}

static const unsigned char *element(const llmoi_gguf_value *v, uint64_t index) {
    return v->data + index * llmoi_gguf_kind_bytes(v->elem);
}

llmo_status llmoi_gguf_array_i64(const llmoi_gguf *g, const char *key, uint64_t index, int64_t *out) {
    llmoi_gguf_value v;
    integer i;
    LLMOI_TRY(find_element(g, key, index, &v));
    if (!read_integer(v.elem, element(&v, index), &i)) return wrong_kind(key, &v, "of integers");
    if (!i.negative && i.bits > INT64_MAX) {
        return blame(key, &v,
                     llmoi_fail(LLMO_E_FORMAT, "element %llu, %llu, is larger than 2^63 - 1", (unsigned long long)index,
                                (unsigned long long)i.bits));
    }
    *out = (int64_t)i.bits;
    return LLMO_OK;
}

llmo_status llmoi_gguf_array_f32(const llmoi_gguf *g, const char *key, uint64_t index, float *out) {
    llmoi_gguf_value v;
    float f;
    LLMOI_TRY(find_element(g, key, index, &v));
    if (!read_float(v.elem, element(&v, index), &f)) return wrong_kind(key, &v, "of floating-point numbers");
    if (!isfinite(f)) {
        return blame(
            key, &v,
            llmoi_fail(LLMO_E_FORMAT, "element %llu is not a finite 32-bit number", (unsigned long long)index));
    }
    *out = f;
    return LLMO_OK;
}

llmo_status llmoi_gguf_array_bool(const llmoi_gguf *g, const char *key, uint64_t index, bool *out) {
    llmoi_gguf_value v;
    LLMOI_TRY(find_element(g, key, index, &v));
    if (v.elem != LLMOI_GGUF_BOOL) return wrong_kind(key, &v, "of booleans");
    *out = *element(&v, index) != 0;
    return LLMO_OK;
}

llmo_status llmoi_gguf_array_string(const llmoi_gguf *g, const char *key, uint64_t index, llmoi_str *out) {
    llmoi_gguf_value v;
    LLMOI_TRY(find_element(g, key, index, &v));
    if (v.elem != LLMOI_GGUF_STRING) return wrong_kind(key, &v, "of strings");
    *out = llmoi_gguf_value_string(&v, index);
    return LLMO_OK;
}

llmo_status llmoi_gguf_array_strings(const llmoi_gguf *g, const char *key, llmoi_str *out, uint64_t count) {
    llmoi_gguf_value v;
    if (!llmoi_gguf_lookup(g, 0, key, &v)) return missing(key);
    if (v.kind != LLMOI_GGUF_ARRAY || v.elem != LLMOI_GGUF_STRING) return wrong_kind(key, &v, "an array of strings");
    if (count > v.count) {
        return blame(key, &v,
                     llmoi_fail(LLMO_E_FORMAT, "%llu elements are asked for, the array has %llu",
                                (unsigned long long)count, (unsigned long long)v.count));
    }
    for (uint64_t i = 0; i < count; i++) out[i] = llmoi_gguf_value_string(&v, i);
    return LLMO_OK;
}
