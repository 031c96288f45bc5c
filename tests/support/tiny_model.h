/* A complete llama model of a few KiB, made in memory: one layer, byte tokens, weights that give no NaN. For tests of
 * the interface, which need a model that opens and generates, whatever it says. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stddef.h>

#define TINY_MODEL_VOCAB 259u /* <unk>, <s>, </s>, 256 bytes */
#define TINY_MODEL_EMBD  32u
#define TINY_MODEL_CTX   64u

/* The file, malloc'ed. */
unsigned char *tiny_model(size_t *size_bytes);

#endif
