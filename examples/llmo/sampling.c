/* The sampling options of run and chat; defaults are the library's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

void sampling_options_init(sampling_options *o) {
    *o = (sampling_options){0};
    llmo_sampling_params_init(&o->params);
}

void sampling_options_free(sampling_options *o) {
    free(o->dry_breakers.items);
    free(o->stops.items);
    free(o->bias_tokens);
    free(o->bias_values);
    *o = (sampling_options){0};
}

/* ID=VALUE */
static int parse_bias(void *target, const char *option, const char *text) {
    sampling_options *o = target;
    const char *equals = strchr(text, '=');
    char id[16];
    if (!equals || equals == text || (size_t)(equals - text) >= sizeof id) {
        return tool_usage("%s: '%s' is not ID=VALUE", option, text);
    }
    memcpy(id, text, (size_t)(equals - text));
    id[equals - text] = '\0';
    int64_t token = 0;
    float value = 0;
    int code = option_parse_i64(option, id, 0, INT32_MAX, &token);
    if (!code) code = option_parse_f32(option, equals + 1, -HUGE_VAL, HUGE_VAL, &value);
    if (code) return code;
    llmo_token *tokens = realloc(o->bias_tokens, (o->n_bias + 1u) * sizeof *tokens);
    if (tokens) o->bias_tokens = tokens;
    float *values = realloc(o->bias_values, (o->n_bias + 1u) * sizeof *values);
    if (values) o->bias_values = values;
    if (!tokens || !values) return tool_fail_memory();
    tokens[o->n_bias] = (llmo_token)token;
    values[o->n_bias++] = value;
    return 0;
}

static int parse_mirostat(void *target, const char *option, const char *text) {
    if (strcmp(text, "0") != 0 && strcmp(text, "2") != 0) return tool_usage("%s: '%s' is not 0 or 2", option, text);
    *(int32_t *)target = text[0] - '0';
    return 0;
}

#define F32(NAME, FIELD, MIN, MAX, HELP)                                                                               \
    { .kind = OPTION_F32, .name = NAME, .arg = "X", .target = &p->FIELD, .min = MIN, .max = MAX, .help = HELP }
#define I32(NAME, FIELD, MIN, HELP)                                                                                    \
    { .kind = OPTION_I32, .name = NAME, .arg = "N", .target = &p->FIELD, .min = MIN, .max = INT32_MAX, .help = HELP }

void sampling_add_options(options *list, sampling_options *o) {
    llmo_sampling_params *p = &o->params;
    const double big = 3e38;
    const option items[] = {
        {.kind = OPTION_HEADING, .name = "Sampling"},
        F32("--temp", temperature, 0, big, "temperature, 0: always the most likely token"),
        {.kind = OPTION_U64, .name = "--seed", .arg = "N", .target = &p->seed, .help = "same seed, same text"},
        I32("--top-k", top_k, 0, "keep the k most likely, 0: off"),
        F32("--top-p", top_p, 0, 1, "keep the fewest whose probability reaches p, 1: off"),
        F32("--min-p", min_p, 0, 1, "keep those at least so likely as the best times p, 0: off"),
        F32("--typical-p", typical_p, 0, 1, "locally typical sampling, 1: off"),
        {.kind = OPTION_U32,
         .name = "--min-keep",
         .arg = "N",
         .target = &p->min_keep,
         .min = 1,
         .max = INT32_MAX,
         .help = "the filters above keep at least so many"},
        I32("--penalty-last", penalty_last, -1, "tokens that the penalties look at, -1: all, 0: off"),
        F32("--repeat-penalty", penalty_repeat, 1e-6, big, "divides the logits of tokens seen, 1: off"),
        F32("--presence-penalty", penalty_presence, -big, big, "taken from the logits of tokens seen, 0: off"),
        F32("--frequency-penalty", penalty_frequency, -big, big, "the same for each time a token was seen, 0: off"),
        F32("--dry-multiplier", dry_multiplier, 0, big, "penalty on continued repetitions, 0: off"),
        F32("--dry-base", dry_base, 1, big, "its growth per token"),
        I32("--dry-allowed-length", dry_allowed_length, 0, "repetitions up to here are free"),
        I32("--dry-last", dry_last, -1, "tokens it looks at, -1: all, 0: off"),
        {.kind = OPTION_CUSTOM,
         .name = "--dry-breaker",
         .arg = "TEXT",
         .target = &o->dry_breakers,
         .parse = option_parse_text_list,
         .help = "repetitions end there; may be repeated",
         .fallback = "newline : \" *"},
        F32("--xtc-probability", xtc_probability, 0, 1, "how often the top choices are excluded, 0: off"),
        F32("--xtc-threshold", xtc_threshold, 0, 1, "what counts as a top choice"),
        {.kind = OPTION_CUSTOM,
         .name = "--mirostat",
         .arg = "0|2",
         .target = &p->mirostat,
         .parse = parse_mirostat,
         .help = "mirostat v2 instead of the filters",
         .fallback = "0, off"},
        F32("--mirostat-tau", mirostat_tau, 0, big, "its target surprise, bits"),
        F32("--mirostat-eta", mirostat_eta, 0, 1, "its learning rate"),
        {.kind = OPTION_CUSTOM,
         .name = "--logit-bias",
         .arg = "ID=X",
         .target = o,
         .parse = parse_bias,
         .help = "added to the logit of a token, -inf forbids it; may be repeated",
         .fallback = ""},
        {.kind = OPTION_CUSTOM,
         .name = "--stop",
         .arg = "TEXT",
         .target = &o->stops,
         .parse = option_parse_text_list,
         .help = "ends the text, not part of it; may be repeated",
         .fallback = ""},
        {.kind = OPTION_FLAG,
         .name = "--ignore-eos",
         .target = &o->ignore_end,
         .help = "go on after the model's end tokens"},
    };
    options_add(list, items, TOOL_COUNT(items));
}

void sampling_apply(sampling_options *o, llmo_generation_params *params) {
    if (o->dry_breakers.n) {
        o->params.dry_breakers = o->dry_breakers.items;
        o->params.n_dry_breakers = o->dry_breakers.n;
    }
    o->params.bias_tokens = o->bias_tokens;
    o->params.bias_values = o->bias_values;
    o->params.n_bias = o->n_bias;
    params->sampling = &o->params;
    params->stops = o->stops.items;
    params->n_stops = o->stops.n;
    if (o->ignore_end) params->flags |= LLMO_GENERATE_IGNORE_END;
}
