/* Dividing text into the pieces inside which BPE merges, by the regular expressions of the model's pre-tokenizer.
 * Knows text and PCRE2; nothing of vocabularies. */
#include "tokenizer_internal.h"

#include <string.h>

#include "utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MAX_PATTERNS 8
#define GROUPS       "#" /* marks a pattern whose matches are divided into groups of three characters */

/* What one match may cost; far more than the patterns need, since they consume what they scan. */
#define HEAP_LIMIT_KIB (256u * 1024u)

typedef enum set_id {
#define SET(id, ...) SET_##id,
#define NAME(name, id, flags)
#include "pretokenize.def"
} set_id;

static const char *const sets[][MAX_PATTERNS] = {
#define SET(id, ...) [SET_##id] = {__VA_ARGS__},
#define NAME(name, id, flags)
#include "pretokenize.def"
};

static const struct {
    const char *name;
    set_id set;
    uint32_t flags;
} names[] = {
#define SET(id, ...)
#define NAME(name, id, flags) {name, SET_##id, flags},
#include "pretokenize.def"
};

typedef struct pcre_memory {
    llmoi_mem *mem;
    llmoi_tag tag;
} pcre_memory;

struct llmoi_pretokenizer {
    pcre_memory memory; /* of the compiled patterns; they keep a pointer to it */
    uint32_t n;
    bool groups[MAX_PATTERNS];
    pcre2_code *code[MAX_PATTERNS];
    char name[48];
};

static void *pcre_alloc(size_t bytes, void *data) {
    const pcre_memory *m = data;
    return llmoi_alloc(m->mem, m->tag, bytes);
}

static void pcre_free(void *p, void *data) {
    const pcre_memory *m = data;
    llmoi_free(m->mem, p);
}

/* --- names and patterns ------------------------------------------------------------------------------------------ */

static size_t find_name(llmoi_str name) {
    size_t i = 0;
    for (; i < sizeof names / sizeof names[0]; i++) {
        if (name.len == strlen(names[i].name) && memcmp(name.ptr, names[i].name, name.len) == 0) break;
    }
    return i;
}

llmo_status llmoi_pretokenizer_flags(llmoi_str name, uint32_t *flags) {
    size_t i = find_name(name);
    if (i == sizeof names / sizeof names[0]) {
        return llmoi_fail(
            LLMO_E_UNSUPPORTED,
            "tokenizer.ggml.pre: pre-tokenizer \"%.*s\" is not known; llmo_model_params.pre_tokenizer can "
            "name another one in its place",
            name.len < 48 ? (int)name.len : 48, name.ptr);
    }
    *flags = names[i].flags;
    return LLMO_OK;
}

static llmo_status compile(llmoi_pretokenizer *p, const char *pattern, pcre2_compile_context *context) {
    int error = 0;
    PCRE2_SIZE at = 0;
    p->groups[p->n] = pattern[0] == GROUPS[0];
    p->code[p->n] = pcre2_compile((PCRE2_SPTR)pattern + p->groups[p->n], PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                                  &error, &at, context);
    if (p->code[p->n]) {
        p->n++;
        return LLMO_OK;
    }
    if (error == PCRE2_ERROR_HEAP_FAILED || error == PCRE2_ERROR_NOMEMORY) return LLMO_E_NOMEM;
    return llmoi_fail(LLMO_E_INTERNAL, "pre-tokenizer %s: pattern %u, error %d at byte %zu", p->name, p->n, error, at);
}

llmo_status llmoi_pretokenizer_create(llmoi_mem *mem, llmoi_str name, llmoi_pretokenizer **out) {
    uint32_t flags;
    *out = NULL;
    LLMOI_TRY(llmoi_pretokenizer_flags(name, &flags));
    size_t index = find_name(name);
    llmoi_pretokenizer *p = llmoi_zalloc(mem, LLMO_PURPOSE_HEADER, sizeof *p);
    if (!p) return LLMO_E_NOMEM;
    p->memory = (pcre_memory){mem, LLMO_PURPOSE_HEADER};
    memcpy(p->name, name.ptr, name.len); /* one of ours: shorter than the field */
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, &p->memory);
    pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
    llmo_status st = context ? LLMO_OK : LLMO_E_NOMEM;
    const char *const *patterns = sets[names[index].set];
    for (size_t i = 0; st == LLMO_OK && i < MAX_PATTERNS && patterns[i]; i++) st = compile(p, patterns[i], context);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (st != LLMO_OK) {
        llmoi_pretokenizer_destroy(p);
        return st;
    }
    *out = p;
    return LLMO_OK;
}

void llmoi_pretokenizer_destroy(llmoi_pretokenizer *p) {
    if (!p) return;
    for (uint32_t i = 0; i < p->n; i++) pcre2_code_free(p->code[i]);
    llmoi_free(p->memory.mem, p);
}

/* --- text that patterns can work on --------------------------------------------------------------------------------
 */

/* Surrogates are no characters for PCRE2, and it counts U+180E as white space, which Unicode did until 2013. The
 * patterns see a character of the same length in their place that is neither letter, number, mark, punctuation nor
 * space. */
static uint32_t stand_in(uint32_t cp) {
    if (cp >= 0xd800 && cp < 0xe000) return 0xe000;
    return cp == 0x180e ? 0x200b : cp;
}

/* One pass: *good if every character is well-formed and in its shortest form, *odd if one needs a stand-in. */
static void inspect(const char *text, size_t n, bool *good, bool *odd) {
    *good = true;
    *odd = false;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        char again[4];
        size_t len = llmoi_utf8_decode(text + i, n - i, &cp);
        if (len == 0 || (len > 1 && llmoi_utf8_encode(cp, again) != len)) *good = false;
        if (len > 0 && stand_in(cp) != cp) *odd = true;
        i += len > 0 ? len : 1;
    }
}

static llmo_status repair(llmoi_encoder *e, const char *text, size_t n, size_t *out_n) {
    LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->clean, &e->clean_cap, n * 3 + 1, 1));
    size_t out = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp = LLMOI_UTF8_REPLACEMENT;
        size_t len = llmoi_utf8_decode(text + i, n - i, &cp);
        out += llmoi_utf8_encode(cp, e->clean + out);
        i += len > 0 ? len : 1;
    }
    *out_n = out;
    return LLMO_OK;
}

static llmo_status make_subject(llmoi_encoder *e, const char *text, size_t n) {
    LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->subject, &e->subject_cap, n + 1, 1));
    for (size_t i = 0; i < n;) {
        uint32_t cp = LLMOI_UTF8_REPLACEMENT;
        (void)llmoi_utf8_decode(text + i, n - i, &cp);
        i += llmoi_utf8_encode(stand_in(cp), e->subject + i);
    }
    return LLMO_OK;
}

/* --- pieces ------------------------------------------------------------------------------------------------------ */

typedef struct splitter {
    llmoi_encoder *e;
    const llmoi_pretokenizer *p;
    const char *subject;
    int out;  /* which of e->ends is written */
    size_t n; /* pieces in it */
    pcre2_match_data *match;
    pcre2_match_context *context;
} splitter;

static llmo_status add_end(splitter *s, size_t end) {
    llmoi_encoder *e = s->e;
    uint32_t **ends = &e->ends[s->out];
    LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)ends, &e->ends_cap[s->out], s->n + 1, sizeof **ends));
    (*ends)[s->n++] = (uint32_t)end;
    return LLMO_OK;
}

static bool is_start(char c) {
    return ((unsigned char)c & 0xc0) != 0x80;
}

/* Ends inside from .. to so that every group but the first has three characters. */
static llmo_status add_groups(splitter *s, size_t from, size_t to) {
    size_t chars = 0;
    for (size_t i = from; i < to; i++) chars += is_start(s->subject[i]);
    for (size_t i = from; i < to; i++) {
        if (!is_start(s->subject[i])) continue;
        if (i > from && chars % 3 == 0) LLMOI_TRY(add_end(s, i));
        chars--;
    }
    return LLMO_OK;
}

static llmo_status match_failed(const splitter *s, int rc) {
    if (rc == PCRE2_ERROR_NOMEMORY) return LLMO_E_NOMEM;
    bool limit = rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT;
    return llmoi_fail(limit ? LLMO_E_UNSUPPORTED : LLMO_E_INTERNAL,
                      "pre-tokenizer %s: dividing the text %s (PCRE2 error %d)", s->p->name,
                      limit ? "takes too much work or memory" : "failed", rc);
}

/* Divides from .. to by one pattern. */
static llmo_status split_piece(splitter *s, uint32_t pattern, size_t from, size_t to) {
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
    size_t n = to - from, done = 0;
    if (n <= llmoi_utf8_length((unsigned char)s->subject[from])) return add_end(s, to); /* one character */
    while (done < n) {
        int rc = pcre2_match(s->p->code[pattern], (PCRE2_SPTR)s->subject + from, n, done, PCRE2_NO_UTF_CHECK, s->match,
                             s->context);
        if (rc == PCRE2_ERROR_NOMATCH) break;
        if (rc < 0) return match_failed(s, rc);
        size_t start = span[0], end = span[1];
        if (end <= start || start < done) break; /* no pattern matches nothing */
        if (start > done) LLMOI_TRY(add_end(s, from + start));
        if (s->p->groups[pattern]) LLMOI_TRY(add_groups(s, from + start, from + end));
        LLMOI_TRY(add_end(s, from + end));
        done = end;
    }
    return done < n ? add_end(s, to) : LLMO_OK;
}

static llmo_status split_all(splitter *s, size_t bytes) {
    if (bytes == 0) return LLMO_OK;
    LLMOI_TRY(add_end(s, bytes));
    for (uint32_t k = 0; k < s->p->n; k++) {
        size_t n_in = s->n, from = 0;
        s->out = !s->out;
        s->n = 0;
        for (size_t i = 0; i < n_in; i++) {
            size_t to = s->e->ends[!s->out][i];
            LLMOI_TRY(split_piece(s, k, from, to));
            from = to;
        }
    }
    return LLMO_OK;
}

llmo_status llmoi_pretokenize(llmoi_encoder *e, const llmoi_pretokenizer *p, const char **text, size_t *bytes,
                              const uint32_t **ends, size_t *n) {
    bool good, odd;
    inspect(*text, *bytes, &good, &odd);
    if (!good) {
        LLMOI_TRY(repair(e, *text, *bytes, bytes));
        *text = e->clean;
    }
    splitter s = {.e = e, .p = p, .subject = *text};
    if (odd) {
        LLMOI_TRY(make_subject(e, *text, *bytes));
        s.subject = e->subject;
    }
    pcre_memory memory = {e->mem, LLMO_PURPOSE_HOST};
    pcre2_general_context *general = pcre2_general_context_create(pcre_alloc, pcre_free, &memory);
    s.match = general ? pcre2_match_data_create(1, general) : NULL;
    s.context = general ? pcre2_match_context_create(general) : NULL;
    llmo_status st = LLMO_E_NOMEM;
    if (s.match && s.context) {
        uint64_t limit = 64 * (uint64_t)*bytes + 1000000;
        (void)pcre2_set_match_limit(s.context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
        (void)pcre2_set_heap_limit(s.context, HEAP_LIMIT_KIB);
        st = split_all(&s, *bytes);
    }
    pcre2_match_context_free(s.context);
    pcre2_match_data_free(s.match);
    pcre2_general_context_free(general);
    *ends = e->ends[s.out];
    *n = s.n;
    return st;
}
