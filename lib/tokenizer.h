/* Text <-> tokens. Built from the header of a GGUF file; immutable afterwards, any thread.
 * Knows vocabularies, nothing of models or contexts. */
#ifndef LLMOI_TOKENIZER_H
#define LLMOI_TOKENIZER_H

#include "gguf.h"

typedef struct llmoi_tokenizer llmoi_tokenizer;

/* pre: name of the pre-tokenizer that replaces the file's, or NULL. Memory is tagged LLMO_PURPOSE_HEADER. The tokenizer
 * keeps pointers into g, which must outlive it. LLMO_E_UNSUPPORTED for a tokenizer.ggml.model or .pre it does not know
 * (the sentence says that llmo_model_params.pre_tokenizer can name another one). */
LLMOI_MUST_CHECK llmo_status llmoi_tokenizer_create(llmoi_mem *mem, const llmoi_gguf *g, const char *pre,
                                                    llmoi_tokenizer **out);
void llmoi_tokenizer_destroy(llmoi_tokenizer *t);

uint32_t llmoi_tokenizer_n_vocab(const llmoi_tokenizer *t);
llmo_token llmoi_tokenizer_special(const llmoi_tokenizer *t, int32_t special); /* llmo_special */
uint32_t llmoi_tokenizer_attr(const llmoi_tokenizer *t, llmo_token token);     /* llmo_token_attr; UINT32_MAX */
const char *llmoi_tokenizer_name(const llmoi_tokenizer *t);                    /* "llama", "gpt2/llama-bpe" */

/* As llmo_tokenize. Temporary memory comes from mem (LLMO_PURPOSE_HOST) and is given back. */
LLMOI_MUST_CHECK llmo_status llmoi_tokenizer_encode(const llmoi_tokenizer *t, llmoi_mem *mem, const char *text,
                                                    size_t text_bytes, uint32_t flags, llmo_token *tokens, size_t cap,
                                                    size_t *n_tokens);

/* As llmo_detokenize. */
LLMOI_MUST_CHECK llmo_status llmoi_tokenizer_decode(const llmoi_tokenizer *t, const llmo_token *tokens, size_t n_tokens,
                                                    uint32_t flags, char *text, size_t cap, size_t *text_bytes);

/* Bytes of one token when it follows others (no leading-space rule); special: render control tokens. At most
 * llmoi_tokenizer_max_piece_bytes; no allocation. Returns the number of bytes written to out. */
size_t llmoi_tokenizer_piece(const llmoi_tokenizer *t, llmo_token token, bool special, char *out);
size_t llmoi_tokenizer_max_piece_bytes(const llmoi_tokenizer *t);

/* True if a generation's first token must lose its leading space (SentencePiece with add_space_prefix, at the very start
 * of a sequence only). */
bool llmoi_tokenizer_strips_first_space(const llmoi_tokenizer *t);

#endif
