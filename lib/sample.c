/* The sampler: checks parameters, holds the generator and mirostat's state, and runs the steps in the order that
 * llmo_sampling_params documents. The steps themselves are in sample_penalty.c and sample_cut.c. Must not know of
 * models, sequences or text, and allocates in create only. */
#include "sample.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "sample_internal.h"
#include "sample_math.h"

#define LN2 0.6931471805599453

struct llmoi_sampler {
    llmo_sampling_params params; /* pointers replaced by the copies below */
    uint32_t n_vocab;
    size_t min_keep;
    size_t penalty_window, dry_window; /* tokens to look back at most; 0: off */
    llmo_token *bias_tokens;
    float *bias_values;
    uint8_t *breakers;
    uint32_t *dry_lengths;
    llmoi_dry dry;
    uint64_t pcg_state, pcg_increment;
    double mirostat_mu; /* bits */
};

/* --- parameters ------------------------------------------------------------------------------------------------ */

LLMO_API void llmo_sampling_params_init(llmo_sampling_params *params) {
    if (!params) return;
    *params = (llmo_sampling_params){
        .struct_size = sizeof *params,
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1.0f,
        .min_keep = 1,
        .penalty_last = 64,
        .penalty_repeat = 1.0f,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_last = -1,
        .xtc_threshold = 0.1f,
        .mirostat_tau = 5.0f,
        .mirostat_eta = 0.1f,
    };
}

static llmo_status check_finite(const char *name, float v) {
    if (v != v) return llmoi_fail(LLMO_E_ARG, "%s is NaN", name);
    if (v > FLT_MAX || v < -FLT_MAX) return llmoi_fail(LLMO_E_ARG, "%s is infinite", name);
    return LLMO_OK;
}

static llmo_status check_not_negative(const char *name, float v) {
    LLMOI_TRY(check_finite(name, v));
    if (v < 0.0f) return llmoi_fail(LLMO_E_ARG, "%s %g is negative", name, (double)v);
    return LLMO_OK;
}

static llmo_status check_fraction(const char *name, float v) {
    if (v != v) return llmoi_fail(LLMO_E_ARG, "%s is NaN", name);
    if (v < 0.0f || v > 1.0f) return llmoi_fail(LLMO_E_ARG, "%s %g is outside 0..1", name, (double)v);
    return LLMO_OK;
}

static llmo_status check_at_least(const char *name, int32_t v, int32_t min) {
    if (v < min) return llmoi_fail(LLMO_E_ARG, "%s %d is below %d", name, (int)v, (int)min);
    return LLMO_OK;
}

static llmo_status check_bias(const llmo_sampling_params *p, uint32_t n_vocab) {
    if (p->n_bias && !p->bias_tokens) return llmoi_fail(LLMO_E_ARG, "n_bias is %u, but bias_tokens is NULL", p->n_bias);
    if (p->n_bias && !p->bias_values) return llmoi_fail(LLMO_E_ARG, "n_bias is %u, but bias_values is NULL", p->n_bias);
    for (uint32_t i = 0; i < p->n_bias; i++) {
        llmo_token t = p->bias_tokens[i];
        if ((uint32_t)t >= n_vocab) {
            return llmoi_fail(LLMO_E_ARG, "bias token %d is outside the vocabulary of %u", (int)t, n_vocab);
        }
        float v = p->bias_values[i];
        if (v != v) return llmoi_fail(LLMO_E_ARG, "bias value of token %d is NaN", (int)t);
        if (v > FLT_MAX) return llmoi_fail(LLMO_E_ARG, "bias value of token %d is +infinity", (int)t);
    }
    return LLMO_OK;
}

static llmo_status check_params(const llmo_sampling_params *p, uint32_t n_vocab) {
    if (p->reserved0 != 0) return llmoi_fail(LLMO_E_ARG, "reserved0 is %u, not 0", p->reserved0);
    if (p->reserved1 != 0) return llmoi_fail(LLMO_E_ARG, "reserved1 is %u, not 0", p->reserved1);
    LLMOI_TRY(check_not_negative("temperature", p->temperature));
    LLMOI_TRY(check_at_least("top_k", p->top_k, 0));
    LLMOI_TRY(check_fraction("top_p", p->top_p));
    LLMOI_TRY(check_fraction("min_p", p->min_p));
    LLMOI_TRY(check_fraction("typical_p", p->typical_p));
    LLMOI_TRY(check_at_least("penalty_last", p->penalty_last, -1));
    LLMOI_TRY(check_not_negative("penalty_repeat", p->penalty_repeat));
    if (p->penalty_repeat < FLT_MIN) {
        return llmoi_fail(LLMO_E_ARG, "penalty_repeat %g is not above 0 (1 turns it off)", (double)p->penalty_repeat);
    }
    LLMOI_TRY(check_finite("penalty_presence", p->penalty_presence));
    LLMOI_TRY(check_finite("penalty_frequency", p->penalty_frequency));
    LLMOI_TRY(check_not_negative("dry_multiplier", p->dry_multiplier));
    LLMOI_TRY(check_finite("dry_base", p->dry_base));
    if (p->dry_base < 1.0f) return llmoi_fail(LLMO_E_ARG, "dry_base %g is below 1", (double)p->dry_base);
    LLMOI_TRY(check_at_least("dry_allowed_length", p->dry_allowed_length, 0));
    LLMOI_TRY(check_at_least("dry_last", p->dry_last, -1));
    if (p->n_dry_breakers && !p->dry_breakers) {
        return llmoi_fail(LLMO_E_ARG, "n_dry_breakers is %u, but dry_breakers is NULL", p->n_dry_breakers);
    }
    LLMOI_TRY(check_fraction("xtc_probability", p->xtc_probability));
    LLMOI_TRY(check_fraction("xtc_threshold", p->xtc_threshold));
    if (p->mirostat != 0 && p->mirostat != 2) {
        return llmoi_fail(LLMO_E_ARG, "mirostat %d is neither 0 (off) nor 2", (int)p->mirostat);
    }
    LLMOI_TRY(check_not_negative("mirostat_tau", p->mirostat_tau));
    LLMOI_TRY(check_not_negative("mirostat_eta", p->mirostat_eta));
    return check_bias(p, n_vocab);
}

/* --- generator: PCG32 XSH-RR 64/32 ------------------------------------------------------------------------------ */

static uint32_t pcg_next(llmoi_sampler *s) {
    uint64_t old = s->pcg_state;
    s->pcg_state = old * 6364136223846793005u + s->pcg_increment;
    uint32_t x = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rotation = (uint32_t)(old >> 59);
    return x >> rotation | x << (-rotation & 31);
}

static void pcg_seed(llmoi_sampler *s, uint64_t seed, uint64_t stream) {
    s->pcg_state = 0;
    s->pcg_increment = stream << 1 | 1;
    (void)pcg_next(s);
    s->pcg_state += seed;
    (void)pcg_next(s);
}

/* 0 <= u < 1 */
static double uniform(llmoi_sampler *s) {
    return (double)pcg_next(s) * 0x1p-32;
}

/* --- creation --------------------------------------------------------------------------------------------------- */

static llmo_status copy_bias(llmoi_mem *mem, llmoi_sampler *s) {
    uint32_t n = s->params.n_bias;
    if (n == 0) return LLMO_OK;
    s->bias_tokens = llmoi_alloc_array(mem, LLMO_PURPOSE_HOST, n, sizeof *s->bias_tokens);
    s->bias_values = llmoi_alloc_array(mem, LLMO_PURPOSE_HOST, n, sizeof *s->bias_values);
    if (!s->bias_tokens || !s->bias_values) return LLMO_E_NOMEM;
    memcpy(s->bias_tokens, s->params.bias_tokens, n * sizeof *s->bias_tokens);
    memcpy(s->bias_values, s->params.bias_values, n * sizeof *s->bias_values);
    return LLMO_OK;
}

static llmo_status prepare_dry(llmoi_mem *mem, llmoi_sampler *s, const llmo_token *breaker_tokens, size_t n_breakers) {
    if (s->dry_window == 0) return LLMO_OK;
    s->breakers = llmoi_zalloc(mem, LLMO_PURPOSE_HOST, (size_t)s->n_vocab / 8 + 1);
    s->dry_lengths = llmoi_alloc_array(mem, LLMO_PURPOSE_HOST, s->dry_window, sizeof *s->dry_lengths);
    if (!s->breakers || !s->dry_lengths) return LLMO_E_NOMEM;
    for (size_t i = 0; i < n_breakers; i++) {
        uint32_t t = (uint32_t)breaker_tokens[i];
        s->breakers[t / 8] |= (uint8_t)(1u << t % 8);
    }
    s->dry = (llmoi_dry){
        .multiplier = s->params.dry_multiplier,
        .base = s->params.dry_base,
        .allowed_length = (uint32_t)s->params.dry_allowed_length,
        .breakers = s->breakers,
        .lengths = s->dry_lengths,
    };
    return LLMO_OK;
}

static size_t window_size(int32_t last, size_t max_tokens) {
    return last < 0 || (size_t)last > max_tokens ? max_tokens : (size_t)last;
}

llmo_status llmoi_sampler_create(llmoi_mem *mem, const llmo_sampling_params *params, uint32_t n_vocab,
                                 size_t max_tokens, const llmo_token *breaker_tokens, size_t n_breaker_tokens,
                                 llmoi_sampler **out) {
    *out = NULL;
    if (n_vocab == 0 || n_vocab > INT32_MAX) return llmoi_fail(LLMO_E_ARG, "a vocabulary of %u tokens", n_vocab);
    LLMOI_TRY(check_params(params, n_vocab));
    for (size_t i = 0; i < n_breaker_tokens; i++) {
        if ((uint32_t)breaker_tokens[i] < n_vocab) continue;
        return llmoi_fail(LLMO_E_ARG, "dry_breakers: token %d is outside the vocabulary of %u", (int)breaker_tokens[i],
                          n_vocab);
    }
    llmoi_sampler *s = llmoi_zalloc(mem, LLMO_PURPOSE_HOST, sizeof *s);
    if (!s) return LLMO_E_NOMEM;
    s->params = *params;
    s->n_vocab = n_vocab;
    s->min_keep = params->min_keep ? params->min_keep : 1;
    bool penalties =
        params->penalty_repeat != 1.0f || params->penalty_presence != 0.0f || params->penalty_frequency != 0.0f;
    if (penalties) s->penalty_window = window_size(params->penalty_last, max_tokens);
    if (params->dry_multiplier > 0.0f) s->dry_window = window_size(params->dry_last, max_tokens);
    llmo_status st = copy_bias(mem, s);
    if (st == LLMO_OK) st = prepare_dry(mem, s, breaker_tokens, n_breaker_tokens);
    if (st != LLMO_OK) {
        llmoi_sampler_destroy(mem, s);
        return st;
    }
    s->params.bias_tokens = s->bias_tokens;
    s->params.bias_values = s->bias_values;
    s->params.dry_breakers = NULL;
    s->mirostat_mu = 2.0 * (double)params->mirostat_tau;
    pcg_seed(s, params->seed, 54);
    *out = s;
    return LLMO_OK;
}

void llmoi_sampler_destroy(llmoi_mem *mem, llmoi_sampler *s) {
    if (!s) return;
    llmoi_free(mem, s->bias_tokens);
    llmoi_free(mem, s->bias_values);
    llmoi_free(mem, s->breakers);
    llmoi_free(mem, s->dry_lengths);
    llmoi_free(mem, s);
}

/* --- scratch ---------------------------------------------------------------------------------------------------- */

/* Places the arrays behind each other, 64-byte aligned; with base NULL only the size is of use. */
static size_t lay_out(llmoi_sample_scratch *s, char *base, uint32_t n_vocab) {
    size_t n = n_vocab;
    size_t n_chunks = (n + LLMOI_SAMPLE_CHUNK - 1) / LLMOI_SAMPLE_CHUNK;
    size_t used = (sizeof *s + 63) / 64 * 64;
#define LLMOI_PLACE(member, count)                                                                                     \
    do {                                                                                                               \
        if (base) s->member = (void *)(base + used);                                                                   \
        used += ((count) * sizeof *s->member + 63) / 64 * 64;                                                          \
    } while (0)
    LLMOI_PLACE(keys, n);
    LLMOI_PLACE(ids, n);
    LLMOI_PLACE(weights, n);
    LLMOI_PLACE(seen, n);
    LLMOI_PLACE(chunk_max, n_chunks);
    LLMOI_PLACE(chunk_sums, n_chunks);
    LLMOI_PLACE(bucket_mass, (size_t)LLMOI_SAMPLE_BUCKETS);
    LLMOI_PLACE(bucket_count, (size_t)LLMOI_SAMPLE_BUCKETS);
#undef LLMOI_PLACE
    return used;
}

size_t llmoi_sample_scratch_bytes(uint32_t n_vocab) {
    llmoi_sample_scratch s;
    return lay_out(&s, NULL, n_vocab);
}

llmoi_sample_scratch *llmoi_sample_scratch_init(void *memory, uint32_t n_vocab) {
    llmoi_sample_scratch *s = memory;
    s->n_vocab = n_vocab;
    (void)lay_out(s, memory, n_vocab);
    memset(s->seen, 0, n_vocab * sizeof *s->seen);
    return s;
}

/* --- choosing --------------------------------------------------------------------------------------------------- */

static void adjust(llmoi_sampler *s, llmoi_sample_scratch *scratch, float *logits, const llmo_token *history,
                   size_t n_history) {
    const llmo_sampling_params *p = &s->params;
    for (uint32_t i = 0; i < p->n_bias; i++) {
        float v = p->bias_values[i];
        float *x = &logits[p->bias_tokens[i]];
        *x = v < -FLT_MAX ? -INFINITY : *x + v; /* forbids even a token at +infinity */
    }
    size_t n = n_history < s->penalty_window ? n_history : s->penalty_window;
    if (n) {
        llmoi_penalize(logits, s->n_vocab, scratch->seen, history + (n_history - n), n, p->penalty_repeat,
                       p->penalty_presence, p->penalty_frequency);
    }
    n = n_history < s->dry_window ? n_history : s->dry_window;
    if (n) llmoi_dry_apply(&s->dry, logits, s->n_vocab, scratch->seen, history + (n_history - n), n);
}

/* Mirostat v2 as it is known from llama.cpp: tokens that surprise by more than mu are dropped, and what moves mu is the
 * surprise of the chosen token in the distribution that is left. */
static llmo_token choose_mirostat(llmoi_sampler *s, llmoi_sample_scratch *scratch, float *logits, float max) {
    double t = (double)s->params.temperature;
    llmoi_candidates c = {.scratch = scratch, .logits = logits, .weights = scratch->weights, .n = s->n_vocab};
    llmoi_cand_weigh(&c, s->params.temperature);
    /* surprise = (log sum + (max - logit) / t) / ln2 <= mu */
    double reach = s->mirostat_mu * LN2 - llmoi_log(c.sum);
    double floor = reach > 0.0 ? (double)max - reach * t : (double)max;
    llmoi_cand_gather(&c, scratch, logits, floor > -(double)FLT_MAX ? (float)floor : -FLT_MAX);
    if (reach <= 0.0) c.n = 1;
    llmoi_cand_weigh(&c, s->params.temperature);
    size_t chosen = llmoi_cand_draw(&c, uniform(s));
    double surprise = (llmoi_log(c.sum) + ((double)c.max - (double)c.logits[chosen]) / t) / LN2;
    s->mirostat_mu -= (double)s->params.mirostat_eta * (surprise - (double)s->params.mirostat_tau);
    return c.ids[chosen];
}

/* Without top-k: a logit below which no token can survive top-p and min-p, so that only few are gathered. *mass is the
 * sum over the whole vocabulary, which top-p is about. */
static float whole_vocabulary_floor(const llmoi_sampler *s, llmoi_sample_scratch *scratch, float *logits, float max,
                                    double *mass) {
    const llmo_sampling_params *p = &s->params;
    double n = (double)s->n_vocab;
    double floor = -(double)FLT_MAX;
    if (p->typical_p < 1.0f || s->min_keep > 1) return -FLT_MAX; /* may keep unlikely ones */
    if (p->top_p < 1.0f) {
        llmoi_candidates all = {.scratch = scratch, .logits = logits, .weights = scratch->weights, .n = s->n_vocab};
        llmoi_cand_weigh(&all, 1.0f);
        *mass = all.sum;
        /* all tokens of weight <= (1 - p) sum / n together are within the 1 - p that may go; 2 is the margin for
         * rounding */
        floor = (double)max + llmoi_log((1.0 - (double)p->top_p) * all.sum / (2.0 * n));
    }
    if (p->min_p > 0.0f) {
        double margin = 1e-3 + fabs((double)max) * 1e-6;
        double f = (double)max + llmoi_log((double)p->min_p) - margin;
        if (f > floor) floor = f;
    }
    return floor > -(double)FLT_MAX ? (float)floor : -FLT_MAX;
}

static llmo_token choose(llmoi_sampler *s, llmoi_sample_scratch *scratch, float *logits, float max) {
    const llmo_sampling_params *p = &s->params;
    llmoi_candidates c;
    double mass = 0.0; /* of the set that top-p is about, if known */
    if (p->top_k > 0 && (uint32_t)p->top_k < s->n_vocab) {
        llmoi_cand_top_k(&c, scratch, logits, (uint32_t)p->top_k);
    } else {
        llmoi_cand_gather(&c, scratch, logits, whole_vocabulary_floor(s, scratch, logits, max, &mass));
    }
    if (p->typical_p < 1.0f) {
        llmoi_cand_weigh(&c, 1.0f);
        llmoi_cand_typical(&c, (double)p->typical_p, s->min_keep);
    }
    if (p->top_p < 1.0f || p->min_p > 0.0f || p->xtc_probability > 0.0f) llmoi_cand_weigh(&c, 1.0f);
    if (p->top_p < 1.0f) llmoi_cand_top_p(&c, (double)p->top_p * (mass > 0.0 ? mass : c.sum), s->min_keep);
    if (p->min_p > 0.0f) llmoi_cand_min_p(&c, (double)p->min_p, s->min_keep);
    if (p->xtc_probability > 0.0f && uniform(s) < (double)p->xtc_probability) {
        llmoi_cand_xtc(&c, (double)p->xtc_threshold, s->min_keep);
    }
    llmoi_cand_weigh(&c, p->temperature);
    return c.ids[llmoi_cand_draw(&c, uniform(s))];
}

llmo_token llmoi_sampler_next(llmoi_sampler *s, llmoi_sample_scratch *scratch, float *logits, const llmo_token *history,
                              size_t n_history) {
    const llmo_sampling_params *p = &s->params;
    bool changes = p->logits || p->n_bias || s->penalty_window || s->dry_window;
    uint32_t raw_best = changes ? llmoi_argmax(logits, s->n_vocab) : 0;
    if (p->logits) p->logits(p->logits_user, logits, s->n_vocab, history, n_history);
    if (changes) adjust(s, scratch, logits, history, n_history);
    float max = llmoi_chunk_maxima(logits, s->n_vocab, scratch->chunk_max);
    if (max < -FLT_MAX)
        return (llmo_token)(changes ? raw_best : llmoi_argmax(logits, s->n_vocab)); /* nothing is left */
    if (p->temperature == 0.0f || max > FLT_MAX) {
        return (llmo_token)llmoi_first_of(logits, s->n_vocab, scratch->chunk_max, max);
    }
    if (p->mirostat == 2) return choose_mirostat(s, scratch, logits, max);
    return choose(s, scratch, logits, max);
}
