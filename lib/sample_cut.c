/* Candidates: selecting, truncating and drawing. Every sum has a fixed order and every comparison a strict order (ties
 * go to the smaller id), so that results are the same on every machine. Knows nothing of parameters or generators.
 *
 * Nothing sorts a vocabulary: top-k sorts k of those that may be in it, and a cut by probability mass sorts only the
 * tokens near the edge. */
#include "sample_internal.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "sample_math.h"

#define CHUNK LLMOI_SAMPLE_CHUNK

/* --- sorting ------------------------------------------------------------------------------------------------- */

static void sift_down(uint64_t *a, size_t root, size_t n) {
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && a[child + 1] > a[child]) child++;
        if (a[root] >= a[child]) return;
        uint64_t t = a[root];
        a[root] = a[child];
        a[child] = t;
    }
}

static void heap_sort(uint64_t *a, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift_down(a, i, n);
    for (size_t end = n; end-- > 1;) {
        uint64_t t = a[0];
        a[0] = a[end];
        a[end] = t;
        sift_down(a, 0, end);
    }
}

static void insertion_sort(uint64_t *a, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint64_t x = a[i];
        size_t j = i;
        for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
        a[j] = x;
    }
}

/* Hoare's partition around the median of three: a[0..s) <= pivot <= a[s..n), 0 < s < n. */
static size_t partition(uint64_t *a, size_t n) {
    uint64_t x = a[0], y = a[n / 2], z = a[n - 1];
    uint64_t low = x < y ? x : y, high = x < y ? y : x;
    uint64_t pivot = z < low ? low : z < high ? z : high;
    size_t i = 0, j = n - 1;
    for (;;) {
        while (a[i] < pivot) i++;
        while (a[j] > pivot) j--;
        if (i >= j) return j + 1 < n ? j + 1 : j;
        uint64_t t = a[i];
        a[i++] = a[j];
        a[j--] = t;
    }
}

/* Moves the k smallest of n different keys to the front, in ascending order: quicksort that leaves alone what cannot be
 * among them. `depth` bounds the recursion and bad luck with pivots. */
static void sort_first_within(uint64_t *a, size_t n, size_t k, int depth) {
    while (n > 24 && k > 0) {
        if (depth-- == 0) {
            heap_sort(a, n);
            return;
        }
        size_t s = partition(a, n);
        if (s < k) {
            sort_first_within(a, s, s, depth);
            a += s;
            n -= s;
            k -= s;
        } else {
            n = s;
        }
    }
    if (k > 0) insertion_sort(a, n);
}

static void sort_first(uint64_t *a, size_t n, size_t k) {
    int depth = 2;
    for (size_t m = n; m > 1; m >>= 1) depth += 2;
    sort_first_within(a, n, k < n ? k : n, depth);
}

static uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* A number that is smaller for a larger x (no NaN); 0 and -0 are the same. */
static uint32_t descending(float x) {
    uint32_t bits = float_bits(x + 0.0f);
    return bits & 0x80000000u ? bits : ~bits & 0x7fffffffu;
}

static float from_descending(uint32_t key) {
    uint32_t bits = key & 0x80000000u ? key : ~key & 0x7fffffffu;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* --- maxima --------------------------------------------------------------------------------------------------- */

/* Eight running maxima side by side: compilers make vector code of it. */
static float chunk_max(const float *x) {
    float m[8];
    for (size_t j = 0; j < 8; j++) m[j] = -INFINITY; /* a comparison with NaN never replaces it */
    for (size_t i = 0; i < CHUNK; i += 8) {
        for (size_t j = 0; j < 8; j++) m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
    }
    for (size_t j = 0; j < 4; j++) m[j] = m[j + 4] > m[j] ? m[j + 4] : m[j];
    for (size_t j = 0; j < 2; j++) m[j] = m[j + 2] > m[j] ? m[j + 2] : m[j];
    return m[1] > m[0] ? m[1] : m[0];
}

static float short_max(const float *x, size_t n) {
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

float llmoi_chunk_maxima(const float *x, size_t n, float *out) {
    float best = -INFINITY;
    for (size_t i = 0; i < n; i += CHUNK) {
        float m = n - i < CHUNK ? short_max(x + i, n - i) : chunk_max(x + i);
        out[i / CHUNK] = m;
        if (m > best) best = m;
    }
    return best;
}

uint32_t llmoi_first_of(const float *x, size_t n, const float *chunk_max, float max) {
    size_t chunk = 0;
    while ((chunk + 1) * CHUNK < n && chunk_max[chunk] < max) chunk++;
    for (size_t i = chunk * CHUNK; i < n; i++) {
        if (x[i] == max) return (uint32_t)i;
    }
    return 0;
}

uint32_t llmoi_argmax(const float *x, uint32_t n) {
    float best = -INFINITY;
    size_t at = 0;
    for (size_t i = 0; i < n; i += CHUNK) {
        float m = n - i < CHUNK ? short_max(x + i, n - i) : chunk_max(x + i);
        if (m > best) {
            best = m;
            at = i;
        }
    }
    for (size_t i = at; i < n; i++) {
        if (x[i] == best) return (uint32_t)i;
    }
    return 0;
}

/* --- starting sets --------------------------------------------------------------------------------------------- */

void llmoi_cand_gather(llmoi_candidates *c, llmoi_sample_scratch *s, float *logits, float floor) {
    size_t n = s->n_vocab, kept = 0;
    if (!(floor >= -FLT_MAX)) floor = -FLT_MAX;
    for (size_t start = 0; start < n; start += CHUNK) {
        if (!(s->chunk_max[start / CHUNK] >= floor)) continue;
        size_t end = n - start < CHUNK ? n : start + CHUNK;
        for (size_t i = start; i < end; i++) {
            float x = logits[i];
            logits[kept] = x;
            s->ids[kept] = (llmo_token)i;
            kept += x >= floor;
        }
    }
    *c = (llmoi_candidates){.scratch = s, .logits = logits, .ids = s->ids, .weights = s->weights, .n = kept};
}

/* The k-th largest chunk maximum is a floor below which no member of the top k can be, and in ordinary logits little
 * more than k reach it. */
static float top_k_floor(llmoi_sample_scratch *s, size_t k) {
    size_t n_chunks = (s->n_vocab + (size_t)CHUNK - 1) / CHUNK;
    if (k > n_chunks) return -FLT_MAX;
    for (size_t i = 0; i < n_chunks; i++) s->keys[i] = (uint64_t)descending(s->chunk_max[i]) << 32 | i;
    sort_first(s->keys, n_chunks, k);
    return from_descending((uint32_t)(s->keys[k - 1] >> 32));
}

/* --- weights --------------------------------------------------------------------------------------------------- */

void llmoi_cand_weigh(llmoi_candidates *c, float temperature) {
    const float *x = c->logits;
    float *w = c->weights;
    float max = llmoi_chunk_maxima(x, c->n, c->scratch->chunk_max);
    c->max = max;
    for (size_t i = 0; i < c->n; i++) w[i] = llmoi_exp_nonpositive((x[i] - max) / temperature);
    llmoi_cand_sum(c);
}

static double chunk_sum(const float *w, size_t n) {
    double a[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (size_t j = 0; j < 8; j++) a[j] += (double)w[i + j];
    }
    for (; i < n; i++) a[i % 8] += (double)w[i];
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
}

void llmoi_cand_sum(llmoi_candidates *c) {
    double sum = 0.0;
    for (size_t i = 0; i < c->n; i += CHUNK) {
        double part = chunk_sum(c->weights + i, c->n - i < CHUNK ? c->n - i : CHUNK);
        c->scratch->chunk_sums[i / CHUNK] = part;
        sum += part;
    }
    c->sum = sum;
}

size_t llmoi_cand_draw(const llmoi_candidates *c, double u) {
    double target = u * c->sum; /* below sum: u <= 1 - 2^-32 */
    double below = 0.0;
    size_t n_chunks = (c->n + CHUNK - 1) / CHUNK, chunk = 0;
    while (chunk + 1 < n_chunks && below + c->scratch->chunk_sums[chunk] <= target) {
        below += c->scratch->chunk_sums[chunk++];
    }
    size_t end = c->n < (chunk + 1) * CHUNK ? c->n : (chunk + 1) * CHUNK;
    size_t last = chunk * CHUNK; /* the last one that can be drawn, if rounding leaves the sum below the target */
    for (size_t i = chunk * CHUNK; i < end; i++) {
        below += (double)c->weights[i];
        if (below > target) return i;
        if (c->weights[i] > 0.0f) last = i;
    }
    return last;
}

/* --- truncation ------------------------------------------------------------------------------------------------ */

#define DROPPED (-1.0f) /* as a weight */

static void compact(llmoi_candidates *c) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) {
        float w = c->weights[i];
        c->logits[kept] = c->logits[i];
        c->ids[kept] = c->ids[i];
        c->weights[kept] = w;
        kept += w >= 0.0f;
    }
    c->n = kept;
}

/* How far candidate i is from the best (center 0), or from the center: what the cuts sort by. Not negative. */
static float distance(const llmoi_candidates *c, size_t i, double center) {
    float d = c->max - c->logits[i];
    return fabsf(center == 0.0 ? d : (float)((double)d - center)); /* also makes 0 of -0 */
}

static uint32_t bucket_of(float d) {
    const float per_nat = 32.0f;
    float b = d * per_nat;
    return b < (float)(LLMOI_SAMPLE_BUCKETS - 1) ? (uint32_t)b : LLMOI_SAMPLE_BUCKETS - 1;
}

/* The bucket in which the nearest candidates reach the mass (and the count), and what is nearer than that bucket. */
static uint32_t edge_bucket(llmoi_candidates *c, double center, double mass, size_t min_keep, double *nearer_mass,
                            size_t *nearer) {
    llmoi_sample_scratch *s = c->scratch;
    memset(s->bucket_mass, 0, LLMOI_SAMPLE_BUCKETS * sizeof *s->bucket_mass);
    memset(s->bucket_count, 0, LLMOI_SAMPLE_BUCKETS * sizeof *s->bucket_count);
    for (size_t i = 0; i < c->n; i++) {
        uint32_t b = bucket_of(distance(c, i, center));
        s->bucket_mass[b] += (double)c->weights[i];
        s->bucket_count[b]++;
    }
    uint32_t b = 0;
    for (; b + 1 < LLMOI_SAMPLE_BUCKETS; b++) {
        if (*nearer_mass + s->bucket_mass[b] >= mass && *nearer + s->bucket_count[b] >= min_keep) break;
        *nearer_mass += s->bucket_mass[b];
        *nearer += s->bucket_count[b];
    }
    return b;
}

/* Moves to the front the smallest of n different keys whose candidates are needed to reach the mass and the count, on
 * top of what is reached already; returns their number. Quickselect by weight: linear time, nothing is sorted but the
 * last few. */
static size_t take_nearest(const llmoi_candidates *c, uint64_t *keys, size_t n, double reached, size_t kept,
                           double mass, size_t min_keep) {
    size_t taken = 0;
    int rounds = 2;
    for (size_t m = n; m > 1; m >>= 1) rounds += 2;
    while (n - taken > 24 && rounds-- > 0) {
        size_t s = partition(keys + taken, n - taken);
        double part = 0.0;
        for (size_t i = taken; i < taken + s; i++) part += (double)c->weights[(uint32_t)keys[i]];
        if (reached + part >= mass && kept + s >= min_keep) {
            n = taken + s;
        } else {
            reached += part;
            kept += s;
            taken += s;
        }
    }
    sort_first(keys + taken, n - taken, n - taken);
    while (taken < n && (reached < mass || kept < min_keep)) {
        reached += (double)c->weights[(uint32_t)keys[taken++]];
        kept++;
    }
    return taken;
}

/* Keeps the nearest candidates: the fewest whose weights sum up to mass, and min_keep. Ties go to the earlier one. */
static void keep_nearest(llmoi_candidates *c, double center, double mass, size_t min_keep) {
    const size_t small = 512; /* up to there a histogram costs more than it saves */
    double reached = 0.0;
    size_t kept = 0, n_edge = 0;
    uint64_t *keys = c->scratch->keys;
    bool all = c->n <= small;
    uint32_t edge = all ? 0 : edge_bucket(c, center, mass, min_keep, &reached, &kept);
    for (size_t i = 0; i < c->n; i++) {
        float d = distance(c, i, center);
        uint32_t b = all ? 0 : bucket_of(d);
        keys[n_edge] = (uint64_t)float_bits(d) << 32 | i;
        n_edge += b == edge;
        c->weights[i] = b > edge ? DROPPED : c->weights[i];
    }
    for (size_t e = take_nearest(c, keys, n_edge, reached, kept, mass, min_keep); e < n_edge; e++) {
        c->weights[(uint32_t)keys[e]] = DROPPED;
    }
    compact(c);
}

/* By selection alone, in order of id: sorting so many would cost more than all other steps. */
static void top_k_unsorted(llmoi_candidates *c, uint32_t k) {
    llmoi_cand_weigh(c, 1.0f);
    keep_nearest(c, 0.0, 0.0, k);
}

void llmoi_cand_top_k(llmoi_candidates *c, llmoi_sample_scratch *s, float *logits, uint32_t k) {
    const uint32_t most_sorted = 4096;
    llmoi_cand_gather(c, s, logits, top_k_floor(s, k));
    if (k > most_sorted) {
        top_k_unsorted(c, k);
        return;
    }
    for (size_t i = 0; i < c->n; i++) s->keys[i] = (uint64_t)descending(logits[i]) << 32 | (uint32_t)s->ids[i];
    sort_first(s->keys, c->n, k);
    if (c->n > k) c->n = k;
    for (size_t i = 0; i < c->n; i++) {
        logits[i] = from_descending((uint32_t)(s->keys[i] >> 32));
        s->ids[i] = (llmo_token)(uint32_t)s->keys[i];
    }
}

void llmoi_cand_top_p(llmoi_candidates *c, double mass, size_t min_keep) {
    keep_nearest(c, 0.0, mass, min_keep);
}

/* A token's surprise minus the entropy is (log sum + d) - (log sum + mean d) with d = max - logit: no logarithm. */
void llmoi_cand_typical(llmoi_candidates *c, double p, size_t min_keep) {
    double weighted = 0.0;
    for (size_t i = 0; i < c->n; i++) {
        if (c->weights[i] > 0.0f) weighted += (double)c->weights[i] * (double)(c->max - c->logits[i]);
    }
    keep_nearest(c, weighted / c->sum, p * c->sum, min_keep);
}

void llmoi_cand_min_p(llmoi_candidates *c, double p, size_t min_keep) {
    size_t kept = 0;
    for (size_t i = 0; i < c->n; i++) kept += (double)c->weights[i] >= p; /* the best one's weight is exactly 1 */
    if (kept < min_keep) {
        keep_nearest(c, 0.0, 0.0, min_keep);
        return;
    }
    for (size_t i = 0; i < c->n; i++) {
        if ((double)c->weights[i] < p) c->weights[i] = DROPPED;
    }
    compact(c);
}

void llmoi_cand_xtc(llmoi_candidates *c, double threshold, size_t min_keep) {
    llmoi_cand_sum(c);
    double least = threshold * c->sum;
    size_t above = 0, stays = 0;
    for (size_t i = 0; i < c->n; i++) {
        if ((double)c->weights[i] < least) continue;
        if (above == 0 || c->logits[i] <= c->logits[stays]) stays = i;
        above++;
    }
    if (above < 2 || c->n - (above - 1) < min_keep) return;
    for (size_t i = 0; i < c->n; i++) {
        if ((double)c->weights[i] >= least && i != stays) c->weights[i] = DROPPED;
    }
    compact(c);
}
