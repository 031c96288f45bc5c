/* Special tokens: which token has which role, and where special tokens stand in a text.
 * Knows the vocabulary tables; nothing of how text between special tokens is encoded. */
#include "tokenizer_internal.h"

#include <string.h>

/* --- roles ------------------------------------------------------------------------------------------------------ */

/* Texts of the token that ends a turn, the likeliest first; used when the file does not name it. */
static const char *const eot_texts[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "<|end_of_text|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "<\xef\xbd\x9c"
                                        "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
                                        "<end_of_utterance>"};

/* Texts of tokens at which a generation stops, beside the roles. */
static const char *const end_texts[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|flush|>",
                                        "<|calls|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "</s>",
                                        "<|eom_id|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<|end_of_text|>",
                                        "<end_of_utterance>",
                                        "<eos>",
                                        "<turn|>",
                                        "<|tool_response>",
                                        "<\xef\xbd\x9c"
                                        "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
                                        "[e~["};

/* Marks of fill-in-the-middle and of files; what follows them is another document, so a generation stops there too:
 * padding, repository name, file separator. The first one of each group that exists counts. */
static const char *const fim_pad_texts[] = {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"};
static const char *const fim_repo_texts[] = {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"};
static const char *const fim_file_texts[] = {"<|file_sep|>"};

/* Marks that are control tokens although some files call them text. */
static const char *const fim_prefix_texts[] = {"<|fim_prefix|>",
                                               "<fim-prefix>",
                                               "<fim_prefix>",
                                               "<\xef\xbd\x9c"
                                               "fim\xe2\x96\x81"
                                               "begin\xef\xbd\x9c>",
                                               "<PRE>",
                                               "\xe2\x96\x81<PRE>",
                                               "<|code_prefix|>",
                                               "<|prefix|>"};
static const char *const fim_suffix_texts[] = {"<|fim_suffix|>",
                                               "<fim-suffix>",
                                               "<fim_suffix>",
                                               "<\xef\xbd\x9c"
                                               "fim\xe2\x96\x81hole\xef\xbd\x9c>",
                                               "<SUF>",
                                               "\xe2\x96\x81<SUF>",
                                               "<|code_suffix|>",
                                               "<|suffix|>"};
static const char *const fim_middle_texts[] = {"<|fim_middle|>",
                                               "<fim-middle>",
                                               "<fim_middle>",
                                               "<\xef\xbd\x9c"
                                               "fim\xe2\x96\x81"
                                               "end\xef\xbd\x9c>",
                                               "<MID>",
                                               "\xe2\x96\x81<MID>",
                                               "<|code_middle|>",
                                               "<|middle|>"};

/* Control tokens of OpenAI's harmony format that carry structure the caller must see: always rendered. */
static const char *const shown_texts[] = {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint32_t find_text(const llmoi_tokenizer *t, const char *s) {
    return llmoi_vocab_find(t, s, strlen(s));
}

static uint32_t find_any(const llmoi_tokenizer *t, const char *const *texts, size_t n) {
    uint32_t id = LLMOI_NONE;
    for (size_t i = 0; i < n && id == LLMOI_NONE; i++) id = find_text(t, texts[i]);
    return id;
}

static void add_attr(llmoi_tokenizer *t, uint32_t id, uint16_t attr) {
    if (id != LLMOI_NONE) t->attr[id] |= attr;
}

/* The token that a key names. An id outside the vocabulary leaves *id as it is: such files exist. */
static llmo_status read_id(const llmoi_tokenizer *t, const char *key, uint32_t *id) {
    uint64_t v = UINT64_MAX;
    LLMOI_TRY(llmoi_gguf_u64(t->g, key, false, 0, UINT64_MAX, &v));
    if (v < t->n) *id = (uint32_t)v;
    return LLMO_OK;
}

/* A role by key, else by text; a token found by text is a control token whatever its type says. */
static llmo_status role(llmoi_tokenizer *t, const char *key, const char *const *texts, size_t n, uint32_t *id) {
    *id = LLMOI_NONE;
    LLMOI_TRY(read_id(t, key, id));
    if (*id == LLMOI_NONE) {
        *id = find_any(t, texts, n);
        add_attr(t, *id, LLMO_TOKEN_ATTR_CONTROL);
    }
    return LLMO_OK;
}

static bool is_end(const llmoi_tokenizer *t, uint32_t id) {
    return id != LLMOI_NONE && t->attr[id] & LLMO_TOKEN_ATTR_END;
}

/* Two families list a token as an end that only ends a part of a reply. */
static void drop_false_ends(llmoi_tokenizer *t) {
    uint32_t end = find_text(t, "<|end|>");
    bool harmony = is_end(t, find_text(t, "<|return|>")) && is_end(t, find_text(t, "<|call|>"));
    bool solar = is_end(t, find_text(t, "<|calls|>")) && is_end(t, find_text(t, "<|flush|>"));
    if (is_end(t, end) && (harmony || solar)) t->attr[end] = LLMO_TOKEN_ATTR_USER;
    uint32_t s = find_text(t, "</s>");
    if (is_end(t, s) && is_end(t, find_text(t, "<|tool_response>"))) t->attr[s] = LLMOI_ATTR_NORMAL;
}

static bool contains(llmoi_str s, const char *word, bool any_case) {
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= s.len; i++) {
        size_t k = 0;
        for (; k < n; k++) {
            char c = s.ptr[i + k];
            if (any_case && c >= 'A' && c <= 'Z') c = (char)(c + 32);
            if (c != word[k]) break;
        }
        if (k == n) return true;
    }
    return false;
}

/* White space around special tokens that some tokenizers swallow. The format has no key for it, so the model's name and
 * the pre-tokenizer's tell. */
static llmo_status set_strips(llmoi_tokenizer *t, const char *pre_name) {
    llmoi_str name = {"", 0}, pre = {pre_name, strlen(pre_name)};
    LLMOI_TRY(llmoi_gguf_string(t->g, "general.name", false, &name));
    if (contains(pre, "jina-v2-de", false) || contains(pre, "jina-v2-es", false) ||
        contains(pre, "jina-v2-code", false)) {
        add_attr(t, find_text(t, "<mask>"), LLMOI_ATTR_LSTRIP);
    } else if (contains(name, "phi-3", true) || contains(name, "phi3", true)) {
        static const char *const kept[] = {"<unk>", "<s>", "<|endoftext|>"};
        for (uint32_t id = 0; id < t->n; id++) {
            if (t->attr[id] & (LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_USER | LLMO_TOKEN_ATTR_UNKNOWN)) {
                t->attr[id] |= LLMOI_ATTR_RSTRIP;
            }
        }
        add_attr(t, find_text(t, "</s>"), LLMOI_ATTR_RSTRIP);
        for (size_t i = 0; i < COUNT(kept); i++) {
            uint32_t id = find_text(t, kept[i]);
            if (id != LLMOI_NONE) t->attr[id] &= (uint16_t)~LLMOI_ATTR_RSTRIP;
        }
    } else if (contains(name, "modern-bert", true)) {
        add_attr(t, find_text(t, "[MASK]"), LLMOI_ATTR_LSTRIP);
    }
    return LLMO_OK;
}

static llmo_status set_ends(llmoi_tokenizer *t) {
    uint32_t roles[7];
    static const char *const eom_texts[] = {"<|eom_id|>"};
    /* fill-in-the-middle marks become control tokens; their ids are not needed */
    LLMOI_TRY(role(t, "tokenizer.ggml.fim_pre_token_id", fim_prefix_texts, COUNT(fim_prefix_texts), &roles[0]));
    LLMOI_TRY(role(t, "tokenizer.ggml.fim_suf_token_id", fim_suffix_texts, COUNT(fim_suffix_texts), &roles[0]));
    LLMOI_TRY(role(t, "tokenizer.ggml.fim_mid_token_id", fim_middle_texts, COUNT(fim_middle_texts), &roles[0]));
    LLMOI_TRY(role(t, "tokenizer.ggml.eot_token_id", eot_texts, COUNT(eot_texts), &t->special[LLMO_SPECIAL_EOT]));
    LLMOI_TRY(role(t, "tokenizer.ggml.eom_token_id", eom_texts, COUNT(eom_texts), &roles[0]));
    LLMOI_TRY(role(t, "tokenizer.ggml.fim_pad_token_id", fim_pad_texts, COUNT(fim_pad_texts), &roles[1]));
    LLMOI_TRY(role(t, "tokenizer.ggml.fim_rep_token_id", fim_repo_texts, COUNT(fim_repo_texts), &roles[2]));
    LLMOI_TRY(role(t, "tokenizer.ggml.fim_sep_token_id", fim_file_texts, COUNT(fim_file_texts), &roles[3]));
    roles[4] = t->special[LLMO_SPECIAL_EOS];
    roles[5] = t->special[LLMO_SPECIAL_EOT];
    for (size_t i = 0; i < COUNT(end_texts); i++) {
        add_attr(t, find_text(t, end_texts[i]), LLMO_TOKEN_ATTR_END | LLMO_TOKEN_ATTR_CONTROL);
    }
    for (size_t i = 0; i < COUNT(shown_texts); i++) {
        uint32_t id = find_text(t, shown_texts[i]);
        if (id != LLMOI_NONE) t->attr[id] = LLMO_TOKEN_ATTR_USER;
    }
    for (size_t i = 0; i < 6; i++) add_attr(t, roles[i], LLMO_TOKEN_ATTR_END);
    drop_false_ends(t);
    return LLMO_OK;
}

llmo_status llmoi_special_load(llmoi_tokenizer *t, const char *pre_name) {
    for (int i = LLMO_SPECIAL_BOS; i <= LLMO_SPECIAL_NL; i++) {
        if (t->special[i] != LLMOI_NONE && t->special[i] >= t->n) t->special[i] = LLMOI_NONE;
    }
    LLMOI_TRY(read_id(t, "tokenizer.ggml.bos_token_id", &t->special[LLMO_SPECIAL_BOS]));
    LLMOI_TRY(read_id(t, "tokenizer.ggml.eos_token_id", &t->special[LLMO_SPECIAL_EOS]));
    LLMOI_TRY(read_id(t, "tokenizer.ggml.unknown_token_id", &t->special[LLMO_SPECIAL_UNK]));
    LLMOI_TRY(read_id(t, "tokenizer.ggml.padding_token_id", &t->special[LLMO_SPECIAL_PAD]));
    LLMOI_TRY(llmoi_gguf_bool(t->g, "tokenizer.ggml.add_bos_token", false, &t->add_bos));
    LLMOI_TRY(llmoi_gguf_bool(t->g, "tokenizer.ggml.add_eos_token", false, &t->add_eos));
    LLMOI_TRY(set_ends(t));
    for (uint32_t id = 0; id < t->n; id++) {
        if (t->attr[id] & LLMO_TOKEN_ATTR_CONTROL && contains(t->text[id], "unused", false)) {
            t->attr[id] |= LLMO_TOKEN_ATTR_UNUSED;
        }
    }
    LLMOI_TRY(set_strips(t, pre_name));
    for (uint32_t id = 0; id < t->n; id++) {
        uint32_t never = LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_UNKNOWN | LLMOI_ATTR_ESCAPE;
        if (!(t->attr[id] & never)) t->attr[id] |= LLMOI_ATTR_TEXT;
    }
    llmoi_vocab_fill_byte_tokens(t);
    uint32_t nl = t->raw ? find_text(t, "\n") : LLMOI_NONE;
    if (nl == LLMOI_NONE) nl = t->byte_token['\n'];
    t->special[LLMO_SPECIAL_NL] = nl != LLMOI_NONE ? nl : t->special[LLMO_SPECIAL_PAD];
    return LLMO_OK;
}

/* --- index ------------------------------------------------------------------------------------------------------ */

/* Sorted by key, then (where texts is given) by the text of the token `value`, then by value. */
typedef struct sort_record {
    uint64_t key;
    uint32_t value;
    uint32_t entry; /* carried along */
} sort_record;

static bool comes_before(const sort_record *a, const sort_record *b, const llmoi_str *texts) {
    if (a->key != b->key) return a->key < b->key;
    if (texts) {
        llmoi_str x = texts[a->value], y = texts[b->value];
        int c = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
        if (c != 0) return c < 0;
        if (x.len != y.len) return x.len < y.len;
    }
    return a->value < b->value;
}

/* Merge sort: n log n on any input, with one buffer of n records. Returns the array that holds the result. */
static sort_record *sort_records(sort_record *a, sort_record *b, size_t n, const llmoi_str *texts) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * width) {
            size_t mid = lo + width < n ? lo + width : n, hi = lo + 2 * width < n ? lo + 2 * width : n;
            size_t i = lo, j = mid;
            for (size_t k = lo; k < hi; k++) {
                bool right = i == mid || (j < hi && comes_before(&a[j], &a[i], texts));
                b[k] = right ? a[j++] : a[i++];
            }
        }
        sort_record *swap = a;
        a = b;
        b = swap;
    }
    return a;
}

/* The first eight bytes as a number, which orders as the bytes do. */
static uint64_t head_of(llmoi_str s) {
    uint64_t v = 0;
    for (size_t i = 0; i < 8; i++) v = v << 8 | (i < s.len ? (unsigned char)s.ptr[i] : 0);
    return v;
}

static bool is_prefix(llmoi_str p, const char *text, size_t n) {
    return p.len <= n && memcmp(p.ptr, text, p.len) == 0;
}

static void link_entries(const llmoi_tokenizer *t, llmoi_special_index *x) {
    unsigned next_byte = 0;
    for (uint32_t i = 0; i < x->n; i++) {
        llmoi_str s = t->text[x->id[i]];
        for (; next_byte <= (unsigned char)s.ptr[0]; next_byte++) x->first[next_byte] = i;
        uint32_t p = i > 0 ? i - 1 : LLMOI_NONE; /* sorted: the longest prefix is the previous entry or above it */
        while (p != LLMOI_NONE && !is_prefix(t->text[x->id[p]], s.ptr, s.len)) p = x->parent[p];
        x->parent[i] = p;
    }
    for (; next_byte <= 256; next_byte++) x->first[next_byte] = x->n;
}

static llmo_status build(llmoi_tokenizer *t, uint32_t attrs, llmoi_special_index *x) {
    uint32_t n = 0;
    for (uint32_t id = 0; id < t->n; id++) {
        llmoi_str s = t->text[id];
        if (t->attr[id] & attrs && llmoi_vocab_find(t, s.ptr, s.len) == id) n++;
    }
    x->n = n;
    if (n == 0) return LLMO_OK;
    uint32_t *arrays = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HEADER, n, 4 * sizeof *arrays);
    sort_record *a = llmoi_alloc_array(t->mem, LLMO_PURPOSE_HOST, n, 2 * sizeof *a), *sorted;
    if (arrays && a) {
        x->id = arrays;
        x->parent = arrays + n;
        x->order = arrays + 2 * (size_t)n;
        x->by_order = arrays + 3 * (size_t)n;
        n = 0;
        for (uint32_t id = 0; id < t->n; id++) {
            llmoi_str s = t->text[id];
            if (t->attr[id] & attrs && llmoi_vocab_find(t, s.ptr, s.len) == id)
                a[n++] = (sort_record){head_of(s), id, 0};
        }
        sorted = sort_records(a, a + n, n, t->text);
        for (uint32_t i = 0; i < n; i++) x->id[i] = sorted[i].value;
        link_entries(t, x);
        /* the order of matching: the longest first, equal lengths by token */
        for (uint32_t i = 0; i < n; i++) {
            a[i] = (sort_record){UINT64_MAX - t->text[x->id[i]].len, x->id[i], i};
        }
        sorted = sort_records(a, a + n, n, NULL);
        for (uint32_t i = 0; i < n; i++) {
            x->by_order[i] = sorted[i].entry;
            x->order[sorted[i].entry] = i;
        }
    }
    llmoi_free(t->mem, a);
    if (arrays && a) return LLMO_OK;
    llmoi_free(t->mem, arrays);
    return LLMO_E_NOMEM;
}

llmo_status llmoi_special_build(llmoi_tokenizer *t) {
    /* a user-defined token that is a control token, too, counts as the latter */
    uint32_t attrs = LLMO_TOKEN_ATTR_CONTROL | LLMO_TOKEN_ATTR_UNKNOWN;
    for (uint32_t id = 0; id < t->n; id++) {
        if (t->attr[id] & LLMO_TOKEN_ATTR_USER && !(t->attr[id] & attrs)) t->attr[id] |= LLMOI_ATTR_ALWAYS;
    }
    LLMOI_TRY(build(t, LLMOI_ATTR_ALWAYS, &t->always));
    return build(t, attrs | LLMO_TOKEN_ATTR_USER, &t->all);
}

void llmoi_special_free(llmoi_tokenizer *t) {
    llmoi_free(t->mem, t->always.id);
    llmoi_free(t->mem, t->all.id);
}

/* --- finding ---------------------------------------------------------------------------------------------------- */

/* How text compares with an entry; *common: length of their common prefix. */
static int compare(llmoi_str s, const char *text, size_t n, size_t *common) {
    size_t k = 0, limit = s.len < n ? s.len : n;
    while (k + 32 <= limit && memcmp(s.ptr + k, text + k, 32) == 0) k += 32;
    while (k < limit && s.ptr[k] == text[k]) k++;
    *common = k;
    if (k < limit) return (unsigned char)text[k] < (unsigned char)s.ptr[k] ? -1 : 1;
    return n < s.len ? -1 : n > s.len;
}

/* The entry of the longest text, at most n bytes, that text starts with; LLMOI_NONE. */
static uint32_t longest_match(const llmoi_tokenizer *t, const llmoi_special_index *x, const char *text, size_t n) {
    uint32_t lo = x->first[(unsigned char)text[0]], hi = x->first[(unsigned char)text[0] + 1];
    uint32_t best = LLMOI_NONE;
    size_t best_common = 0;
    while (lo < hi) { /* the last entry that is not above the text: the match is that one or a prefix of it */
        uint32_t mid = lo + (hi - lo) / 2;
        size_t common;
        if (compare(t->text[x->id[mid]], text, n, &common) >= 0) {
            best = mid;
            best_common = common;
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    while (best != LLMOI_NONE && t->text[x->id[best]].len > best_common) best = x->parent[best];
    return best;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* One bit per byte of the text: taken by a token, or by white space that a token swallowed. */
typedef struct bit_set {
    uint8_t *bits;
} bit_set;

static bool has(const bit_set *b, size_t i) {
    return b->bits[i >> 3] >> (i & 7) & 1;
}

static void take(bit_set *b, size_t i) {
    b->bits[i >> 3] |= (uint8_t)(1u << (i & 7));
}

/* First taken byte in from .. to - 1, or to. */
static size_t next_taken(const bit_set *b, size_t from, size_t to) {
    while (from < to && !has(b, from)) {
        if ((from & 7) == 0 && b->bits[from >> 3] == 0)
            from += 8;
        else
            from++;
    }
    return from < to ? from : to;
}

/* Marks the token at `at` and the white space around it that it swallows. */
static void accept(const llmoi_tokenizer *t, uint32_t id, const char *text, size_t n, size_t at, bit_set *taken) {
    size_t end = at + t->text[id].len;
    for (size_t i = at; i < end; i++) take(taken, i);
    if (t->attr[id] & LLMOI_ATTR_LSTRIP) {
        while (at > 0 && is_space(text[at - 1]) && !has(taken, at - 1)) take(taken, --at);
    }
    if (t->attr[id] & LLMOI_ATTR_RSTRIP) {
        while (end < n && is_space(text[end]) && !has(taken, end)) take(taken, end++);
    }
}

/* Takes candidates in order (longest token first, then by position), each if its place is free; one that is blocked by
 * a token behind it is tried again with the longest shorter token that fits. found gets the tokens' positions. */
static size_t choose(llmoi_encoder *e, const llmoi_special_index *x, const char *text, size_t n, size_t n_heap,
                     bit_set *taken, uint64_t *found) {
    const llmoi_tokenizer *t = e->t;
    size_t n_found = 0;
    llmoi_heap_make(e->heap, n_heap);
    while (n_heap > 0) {
        uint64_t key = llmoi_heap_pop(e->heap, &n_heap);
        size_t at = (uint32_t)key;
        uint32_t entry = x->by_order[key >> 32];
        size_t len = t->text[x->id[entry]].len, room = next_taken(taken, at, at + len) - at;
        if (room == 0) continue;
        if (room == len) {
            accept(t, x->id[entry], text, n, at, taken);
            found[n_found++] = (uint64_t)at << 32 | entry;
            continue;
        }
        while (entry != LLMOI_NONE && t->text[x->id[entry]].len > room) entry = x->parent[entry];
        if (entry != LLMOI_NONE) llmoi_heap_push(e->heap, &n_heap, (uint64_t)x->order[entry] << 32 | at);
    }
    return n_found;
}

static llmo_status hand_out(llmoi_encoder *e, const llmoi_special_index *x, const char *text, size_t n,
                            const bit_set *taken, uint64_t *found, size_t n_found, llmoi_fragment_fn fn) {
    const llmoi_tokenizer *t = e->t;
    llmoi_heap_make(found, n_found);
    for (size_t at = 0; at < n;) {
        if (!has(taken, at)) {
            size_t end = next_taken(taken, at, n);
            LLMOI_TRY(fn(e, LLMOI_NONE, text + at, end - at));
            at = end;
        } else if (n_found > 0 && found[0] >> 32 == at) {
            uint32_t id = x->id[(uint32_t)llmoi_heap_pop(found, &n_found)];
            LLMOI_TRY(fn(e, id, text + at, t->text[id].len));
            at += t->text[id].len;
        } else {
            at++; /* swallowed */
        }
    }
    return LLMO_OK;
}

llmo_status llmoi_special_split(llmoi_encoder *e, const llmoi_special_index *x, const char *text, size_t n,
                                llmoi_fragment_fn fn) {
    size_t n_heap = 0;
    for (size_t at = 0; at < n && x->n > 0; at++) {
        unsigned char b = (unsigned char)text[at];
        if (x->first[b] == x->first[b + 1]) continue;
        uint32_t entry = longest_match(e->t, x, text + at, n - at);
        if (entry == LLMOI_NONE) continue;
        LLMOI_TRY(llmoi_grow(e->mem, LLMO_PURPOSE_HOST, (void **)&e->heap, &e->heap_cap, n_heap + 1, sizeof *e->heap));
        e->heap[n_heap++] = (uint64_t)x->order[entry] << 32 | at;
    }
    if (n_heap == 0) return n > 0 ? fn(e, LLMOI_NONE, text, n) : LLMO_OK;
    bit_set taken = {llmoi_zalloc(e->mem, LLMO_PURPOSE_HOST, n / 8 + 1)};
    uint64_t *found = llmoi_alloc_array(e->mem, LLMO_PURPOSE_HOST, n_heap, sizeof *found);
    llmo_status st = LLMO_E_NOMEM;
    if (taken.bits && found) {
        size_t n_found = choose(e, x, text, n, n_heap, &taken, found);
        st = hand_out(e, x, text, n, &taken, found, n_found, fn);
    }
    llmoi_free(e->mem, found);
    llmoi_free(e->mem, taken.bits);
    return st;
}
