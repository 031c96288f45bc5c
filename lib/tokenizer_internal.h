/* What the files of the tokenizer share: the vocabulary tables, the state of one encode call, and who does what. */
#ifndef LLMOI_TOKENIZER_INTERNAL_H
#define LLMOI_TOKENIZER_INTERNAL_H

#include "tokenizer.h"

#define LLMOI_VOCAB_MAX ((uint64_t)1 << 24) /* tokens, and merges */
#define LLMOI_TEXT_MAX_BYTES                                                                                           \
    ((size_t)1 << 30)         /* one call; positions fit 32 bits after every expansion (at most 3x) \
                                                  */
#define LLMOI_NONE UINT32_MAX /* no token, no symbol */

/* Attributes beyond the public llmo_token_attr ones. */
#define LLMOI_ATTR_PUBLIC 63u
#define LLMOI_ATTR_NORMAL 64u   /* plain text */
#define LLMOI_ATTR_LSTRIP 128u  /* swallows white space in front of it when it is found in text */
#define LLMOI_ATTR_RSTRIP 256u  /* ... and behind it */
#define LLMOI_ATTR_TEXT   512u  /* may come out of merging; never a control token, so that text cannot forge one */
#define LLMOI_ATTR_ESCAPE 1024u /* its text is <0xXX> and stands for that byte */
#define LLMOI_ATTR_ALWAYS 2048u /* found in text without being asked for */

typedef struct llmoi_vocab_slot {
    uint32_t hash;
    uint32_t id; /* LLMOI_NONE: empty */
} llmoi_vocab_slot;

typedef struct llmoi_merge_slot {
    uint32_t left, right; /* tokens; left LLMOI_NONE: empty */
    uint32_t rank;        /* lower first */
    uint32_t merged;      /* token */
} llmoi_merge_slot;

/* Tokens that are looked for in the text before anything else, sorted by their bytes. */
typedef struct llmoi_special_index {
    uint32_t n;
    uint32_t *id;        /* token */
    uint32_t *parent;    /* entry with the longest text that is a proper prefix of this one's; LLMOI_NONE */
    uint32_t *order;     /* 0 for the entry that is matched first: the longest */
    uint32_t *by_order;  /* entry of that order */
    uint32_t first[257]; /* entries whose text starts with byte b: first[b] .. first[b + 1] - 1 */
} llmoi_special_index;

typedef struct llmoi_pretokenizer llmoi_pretokenizer;

typedef enum llmoi_vocab_kind { LLMOI_VOCAB_NONE = 0, LLMOI_VOCAB_SPM, LLMOI_VOCAB_BPE } llmoi_vocab_kind;

struct llmoi_tokenizer {
    llmoi_mem *mem;
    const llmoi_gguf *g;
    llmoi_vocab_kind kind;
    bool raw;             /* BPE on UTF-8 with U+2581 for spaces instead of the byte-to-character mapping */
    bool space_prefix;    /* SPM: text that starts, or follows a special token, gets a space in front */
    bool collapse_spaces; /* SPM: runs of spaces become one, none stay at the ends */
    bool ignore_merges;   /* BPE: a piece that is a token as a whole is taken without merging */
    bool newline_words;   /* BPE: the same for pieces of newlines only */
    bool add_bos, add_eos;
    char name[80];

    uint32_t n;         /* tokens */
    uint32_t max_bytes; /* of a token's text */
    llmoi_str *text;    /* into the header */
    uint16_t *attr;
    uint32_t *priority; /* SPM: scores, made so that the smaller number is merged first */
    uint64_t seed;      /* of both hash tables: a file cannot be made to collide */
    llmoi_vocab_slot *slots;
    uint32_t slot_mask;
    llmoi_merge_slot *merges;
    uint32_t merge_mask;
    uint32_t byte_token[256]; /* SPM, raw: byte fallback; BPE: the token of the byte's character. LLMOI_NONE */

    uint32_t special[LLMO_SPECIAL_NL + 1]; /* by llmo_special; LLMOI_NONE */
    llmoi_special_index always;            /* user-defined tokens */
    llmoi_special_index all;               /* and control tokens */
    llmoi_pretokenizer *pre;
};

/* A symbol of the text being merged: a character at first. */
typedef struct llmoi_symbol {
    uint32_t offset, bytes; /* in the text; not used by byte-level BPE */
    uint32_t id;            /* its token, or LLMOI_NONE */
    uint32_t prev, next;    /* neighbours, or LLMOI_NONE */
    uint32_t merged;        /* token of this symbol with the next one; LLMOI_NONE if they do not merge */
    uint32_t priority;      /* of that merge */
} llmoi_symbol;

/* One encode call: output and scratch memory, given back at its end. */
typedef struct llmoi_encoder {
    const llmoi_tokenizer *t;
    llmoi_mem *mem;
    llmo_token *out;
    size_t cap, n;
    llmoi_symbol *symbols;
    size_t symbols_cap;
    uint64_t *heap;
    size_t heap_cap;
    bool after_special; /* nothing but special tokens since the last text */
    char *text;         /* with spaces escaped */
    size_t text_cap;
    char *clean; /* made valid UTF-8 */
    size_t clean_cap;
    char *subject; /* text as the patterns see it */
    size_t subject_cap;
    char *word;
    size_t word_cap;
    uint32_t *ends[2]; /* ends of pieces, before and after a pattern */
    size_t ends_cap[2];
} llmoi_encoder;

static inline void llmoi_emit(llmoi_encoder *e, uint32_t id) {
    if (id == LLMOI_NONE) return;
    if (e->n < e->cap) e->out[e->n] = (llmo_token)id;
    e->n++;
}

static inline uint64_t llmoi_mix(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ b) * 0x9e3779b97f4a7c15u;
    x ^= x >> 32;
    return x * 0xd6e8feb86659fd93u;
}

/* --- tokenizer_vocab.c: the tables ------------------------------------------------------------------------------ */
LLMOI_MUST_CHECK llmo_status llmoi_vocab_load(llmoi_tokenizer *t);
LLMOI_MUST_CHECK llmo_status llmoi_vocab_load_merges(llmoi_tokenizer *t, bool required);
uint32_t llmoi_vocab_find(const llmoi_tokenizer *t, const char *text, size_t bytes); /* lowest id, or LLMOI_NONE */
const llmoi_merge_slot *llmoi_vocab_merge(const llmoi_tokenizer *t, uint32_t left, uint32_t right); /* or NULL */
void llmoi_vocab_fill_byte_tokens(llmoi_tokenizer *t);
/* Byte <-> character of byte-level BPE. */
uint32_t llmoi_byte_to_char(unsigned char byte);
int llmoi_char_to_byte(uint32_t cp); /* -1: none */

/* --- tokenizer_special.c: roles, and finding special tokens in text --------------------------------------------- */
/* Reads and guesses the roles; sets attributes by text; then builds the indexes. */
LLMOI_MUST_CHECK llmo_status llmoi_special_load(llmoi_tokenizer *t, const char *pre_name);
LLMOI_MUST_CHECK llmo_status llmoi_special_build(llmoi_tokenizer *t);
void llmoi_special_free(llmoi_tokenizer *t);
/* Divides text into tokens and the runs between them; fn is called for each in order: id LLMOI_NONE for a run. */
typedef llmo_status (*llmoi_fragment_fn)(llmoi_encoder *e, uint32_t id, const char *text, size_t bytes);
LLMOI_MUST_CHECK llmo_status llmoi_special_split(llmoi_encoder *e, const llmoi_special_index *index, const char *text,
                                                 size_t bytes, llmoi_fragment_fn fn);

/* --- tokenizer_merge.c: the greedy merging both kinds share ----------------------------------------------------- */
void llmoi_heap_make(uint64_t *heap, size_t n);
void llmoi_heap_push(uint64_t *heap, size_t *n, uint64_t key);
uint64_t llmoi_heap_pop(uint64_t *heap, size_t *n); /* the smallest; n > 0 */
/* Sets merged and priority of s if s and next merge. */
typedef void (*llmoi_pair_fn)(const llmoi_tokenizer *t, const char *text, llmoi_symbol *s, const llmoi_symbol *next);
/* Room for n symbols and their merges. */
LLMOI_MUST_CHECK llmo_status llmoi_merge_reserve(llmoi_encoder *e, size_t n);
/* Merges symbols 0..n-1 (n > 0): the pair of the smallest priority first, the leftmost among equals. The result is the
 * list from symbol 0 along next. O(n log n). */
void llmoi_merge(llmoi_encoder *e, const char *text, size_t n, llmoi_pair_fn pair);
/* The same for UTF-8 text: a symbol per character with its token; then tokens, or bytes where there is none, are
 * emitted. */
LLMOI_MUST_CHECK llmo_status llmoi_merge_utf8(llmoi_encoder *e, const char *text, size_t bytes, llmoi_pair_fn pair);

/* --- tokenizer_spm.c, tokenizer_bpe.c: a run of text to tokens --------------------------------------------------- */
LLMOI_MUST_CHECK llmo_status llmoi_spm_encode(llmoi_encoder *e, const char *text, size_t bytes, bool prefix);
LLMOI_MUST_CHECK llmo_status llmoi_bpe_encode(llmoi_encoder *e, const char *text, size_t bytes);
/* Spaces to U+2581 into e->text. */
LLMOI_MUST_CHECK llmo_status llmoi_escape_spaces(llmoi_encoder *e, const char *text, size_t bytes, bool prefix,
                                                 bool collapse, size_t *n);

/* --- pretokenize.c ------------------------------------------------------------------------------------------------ */
#define LLMOI_PRE_IGNORE_MERGES 1u  /* a piece that is a token is not merged */
#define LLMOI_PRE_ADD_BOS       2u  /* add_bos_token is true by default */
#define LLMOI_PRE_NO_BOS        4u  /* no start token unless the file names one */
#define LLMOI_PRE_RAW           8u  /* see llmoi_tokenizer.raw */
#define LLMOI_PRE_NO_MERGES     16u /* files without merges exist */
#define LLMOI_PRE_GEMMA4        32u /* pieces of newlines are tokens; the start token is added whatever the file says */

/* Flags of a pre-tokenizer; LLMO_E_UNSUPPORTED if it is not known. */
LLMOI_MUST_CHECK llmo_status llmoi_pretokenizer_flags(llmoi_str name, uint32_t *flags);
LLMOI_MUST_CHECK llmo_status llmoi_pretokenizer_create(llmoi_mem *mem, llmoi_str name, llmoi_pretokenizer **out);
void llmoi_pretokenizer_destroy(llmoi_pretokenizer *p);
/* Divides text into pieces. text becomes valid UTF-8 (bad bytes as U+FFFD), in e->clean if it was not; *ends are
 * the pieces' ends. */
LLMOI_MUST_CHECK llmo_status llmoi_pretokenize(llmoi_encoder *e, const llmoi_pretokenizer *p, const char **text,
                                               size_t *bytes, const uint32_t **ends, size_t *n);

#endif
