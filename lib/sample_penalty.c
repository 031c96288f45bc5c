/* Penalties on tokens of the history: repetition, presence, frequency, and DRY. Works on the logits of a whole
 * vocabulary; knows nothing of candidates or draws. Time is linear in the history's window, whatever the vocabulary. */
#include "sample_internal.h"

void llmoi_penalize(float *logits, uint32_t n_vocab, uint32_t *seen, const llmo_token *window, size_t n, float repeat,
                    float presence, float frequency) {
    for (size_t i = 0; i < n; i++) {
        if ((uint32_t)window[i] < n_vocab) seen[window[i]]++;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t t = (uint32_t)window[i];
        if (t >= n_vocab || seen[t] == 0) continue;
        float x = logits[t];
        x = x > 0.0f ? x / repeat : x * repeat;
        logits[t] = x - ((float)seen[t] * frequency + presence);
        seen[t] = 0;
    }
}

/* multiplier * base^n, at most 1e30: far beyond any logit, and a difference of two such stays finite. */
static float dry_penalty(const llmoi_dry *dry, uint32_t n) {
    const double most = 1e30;
    double power = dry->base;
    double penalty = dry->multiplier;
    for (; n && penalty < most; n >>= 1) {
        if (n & 1) penalty *= power;
        power *= power; /* may become infinity, which is above most */
    }
    return (float)(penalty < most ? penalty : most);
}

static bool is_breaker(const llmoi_dry *dry, uint32_t token) {
    return dry->breakers[token / 8] >> (token % 8) & 1;
}

/* The Z-algorithm over the reversed window: lengths[k] is how many tokens before position k (counted from the end)
 * equal the last tokens of the window. The token after such a place would continue that repetition. A repetition cannot
 * reach over a breaker, and lengths are measured from the end, so that the first breaker there limits them all. As in
 * the method's first publication a breaker itself is never penalized. */
void llmoi_dry_apply(const llmoi_dry *dry, float *logits, uint32_t n_vocab, uint32_t *seen, const llmo_token *window,
                     size_t n) {
    uint32_t least = dry->allowed_length > 1 ? dry->allowed_length : 1;
    size_t limit = 0;
    while (limit < n && (uint32_t)window[n - 1 - limit] < n_vocab &&
           !is_breaker(dry, (uint32_t)window[n - 1 - limit])) {
        limit++;
    }
    if (limit < least) return;

    const llmo_token *last = window + n - 1;
    uint32_t *lengths = dry->lengths;
    size_t left = 0, right = 0; /* the match that ends farthest: [left, right) equals [0, right - left) */
    for (size_t k = 1; k < n; k++) {
        size_t z = 0;
        if (k < right) z = lengths[k - left] < right - k ? lengths[k - left] : right - k;
        while (k + z < n && *(last - z) == *(last - k - z)) z++;
        lengths[k] = (uint32_t)z;
        if (k + z > right) {
            left = k;
            right = k + z;
        }
        uint32_t t = (uint32_t) * (last - (k - 1));
        uint32_t length = (uint32_t)(z < limit ? z : limit);
        if (length >= least && t < n_vocab && length > seen[t] && !is_breaker(dry, t)) seen[t] = length;
    }
    for (size_t i = 0; i < n; i++) {
        uint32_t t = (uint32_t)window[i];
        if (t >= n_vocab || seen[t] == 0) continue;
        logits[t] -= dry_penalty(dry, seen[t] - dry->allowed_length);
        seen[t] = 0;
    }
}
