/* UTF-8 by the character. Lenient where the tokenizers' conventions are: overlong forms and surrogates decode. */
#ifndef LLMOI_UTF8_H
#define LLMOI_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define LLMOI_UTF8_REPLACEMENT 0xfffdu

/* Bytes of the character that starts with this byte, as its high bits say; 1 for continuation bytes. */
static inline size_t llmoi_utf8_length(unsigned char lead) {
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Decodes one character of at most n bytes (n > 0). Returns the bytes used, or 0 if they are no character: a stray
 * continuation byte, a missing one, or a value above U+10FFFF. */
static inline size_t llmoi_utf8_decode(const char *text, size_t n, uint32_t *cp) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    if (s[0] < 0xc0 || s[0] >= 0xf8) return 0;
    size_t len = llmoi_utf8_length(s[0]);
    if (len > n) return 0;
    uint32_t c = s[0] & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    if (c > 0x10ffff) return 0;
    *cp = c;
    return len;
}

/* Writes cp (at most U+10FFFF) to out[4] and returns the number of bytes. */
static inline size_t llmoi_utf8_encode(uint32_t cp, char *out) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((0xf00u >> len & 0xf0u) | cp);
    return len;
}

#endif
