/* A complete llama model made in memory: random weights that give no NaN, a vocabulary of bytes. For tests that must run
 * without the shared data. Knows the file format, nothing of the library. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stddef.h>
#include <stdint.h>

/* <unk>, <s>, </s>, <|eot|>, 256 bytes, the space, a..z, the space with a */
#define TINY_VOCAB       288u
#define TINY_UNK         0
#define TINY_BOS         1
#define TINY_EOS         2
#define TINY_BYTE(c)     (4 + (int32_t)(unsigned char)(c))
#define TINY_SPACE       260
#define TINY_LETTER(c)   (261 + ((c) - 'a'))
#define TINY_SPACE_AND_A 287
#define TINY_LAYERS      2u /* by default, as all in tiny_shape */
#define TINY_EMBD        64u
#define TINY_CTX         512u

/* Another type than F32 for the matrices. */
typedef struct tiny_type {
    uint32_t type; /* number in the file */
    size_t block_elems, block_bytes;
    void (*encode)(const float *src, void *dst, size_t n);
} tiny_type;

typedef struct tiny_shape {
    uint32_t n_layers, n_embd, n_ff, n_ctx; /* 0: 2, 64, 96, 512 */
    uint32_t n_experts;                     /* 0: dense; else two are used per token */
    int tied;                               /* no output.weight */
    tiny_type type;                         /* encode NULL: F32 */
} tiny_shape;

/* The file, malloc'ed. shape NULL: all defaults. The same bytes in every run. */
unsigned char *tiny_model(const tiny_shape *shape, size_t *size_bytes);

/* The same model split into n_parts files, malloc'ed each. */
void tiny_model_parts(const tiny_shape *shape, uint32_t n_parts, unsigned char **files, size_t *sizes);

#endif
