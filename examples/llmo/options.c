/* The option parser. Knows tables of options and how to say what is wrong with an argument; knows no command. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

void options_add(options *list, const option *items, size_t n) {
    for (size_t i = 0; i < n && list->n < OPTIONS_MAX; i++) list->items[list->n++] = items[i];
}

/* --- values ------------------------------------------------------------------------------------------------------ */

/* Decimal digits with an optional '-', nothing else: strto*() alone would take blanks, signs of unsigned numbers, hex.
 */
static bool is_whole_number(const char *text, bool sign) {
    if (sign && *text == '-') text++;
    if (!*text) return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text)) return false;
    }
    return true;
}

int option_parse_i64(const char *option, const char *text, int64_t min, int64_t max, int64_t *out) {
    if (!is_whole_number(text, true)) return tool_usage("%s: '%s' is not a whole number", option, text);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno || value < min || value > max) {
        return tool_usage("%s: %s is out of range (%" PRId64 "..%" PRId64 ")", option, text, min, max);
    }
    *out = value;
    return 0;
}

static int parse_u64(const char *option, const char *text, uint64_t *out) {
    if (!is_whole_number(text, false)) return tool_usage("%s: '%s' is not a whole number >= 0", option, text);
    errno = 0;
    *out = strtoull(text, NULL, 10);
    if (errno) return tool_usage("%s: %s is out of range (0..%" PRIu64 ")", option, text, UINT64_MAX);
    return 0;
}

int option_parse_f32(const char *option, const char *text, double min, double max, float *out) {
    char *end = NULL;
    double value = strtod(text, &end);
    bool spaced = isspace((unsigned char)*text) != 0;
    if (spaced || end == text || *end || isnan(value) || strpbrk(text, "xX")) {
        return tool_usage("%s: '%s' is not a number", option, text);
    }
    if (value < min || value > max || (!isinf(value) && isinf((float)value))) {
        if (max > 1e30) return tool_usage("%s: %s is out of range (%g or more)", option, text, min);
        return tool_usage("%s: %s is out of range (%g..%g)", option, text, min, max);
    }
    *out = (float)value;
    return 0;
}

int option_parse_size(const char *option, const char *text, uint64_t *out) {
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits;
    unsigned shift = 0;
    if (*unit == 'K' || *unit == 'k') shift = 10;
    if (*unit == 'M' || *unit == 'm') shift = 20;
    if (*unit == 'G' || *unit == 'g') shift = 30;
    if (*unit == 'T' || *unit == 't') shift = 40;
    if (digits == 0 || (shift ? unit[1] : unit[0])) {
        return tool_usage("%s: '%s' is not a size (8G, 512M, 64K or bytes)", option, text);
    }
    errno = 0;
    uint64_t value = strtoull(text, NULL, 10);
    if (errno || value > UINT64_MAX >> shift) return tool_usage("%s: %s is out of range", option, text);
    *out = value << shift;
    return 0;
}

int option_parse_text_list(void *target, const char *option, const char *text) {
    text_list *list = target;
    (void)option;
    const char **grown = realloc(list->items, (list->n + 1u) * sizeof *grown);
    if (!grown) return tool_fail_memory();
    grown[list->n++] = text;
    list->items = grown;
    return 0;
}

/* --- parsing ----------------------------------------------------------------------------------------------------- */

static int take_value(const option *o, const char *name, const char *text) {
    int64_t number = 0;
    int code = 0;
    switch (o->kind) {
    case OPTION_TEXT: *(const char **)o->target = text; return 0;
    case OPTION_I32:
        code = option_parse_i64(name, text, (int64_t)o->min, (int64_t)o->max, &number);
        if (!code) *(int32_t *)o->target = (int32_t)number;
        return code;
    case OPTION_U32:
        code = option_parse_i64(name, text, (int64_t)o->min, (int64_t)o->max, &number);
        if (!code) *(uint32_t *)o->target = (uint32_t)number;
        return code;
    case OPTION_U64: return parse_u64(name, text, o->target);
    case OPTION_F32: return option_parse_f32(name, text, o->min, o->max, o->target);
    case OPTION_SIZE: return option_parse_size(name, text, o->target);
    case OPTION_CUSTOM: return o->parse(o->target, name, text);
    case OPTION_HEADING:
    case OPTION_FLAG: break;
    }
    return tool_usage("%s takes no argument", name);
}

/* The option that `arg` names; *value is the text behind '=' in "--name=value", else NULL. */
static const option *find_option(const options *list, const char *arg, const char **value) {
    *value = NULL;
    for (size_t i = 0; i < list->n; i++) {
        const option *o = &list->items[i];
        if (o->kind == OPTION_HEADING) continue;
        if (o->letter && arg[0] == '-' && arg[1] == o->letter && !arg[2]) return o;
        size_t length = strlen(o->name);
        if (strncmp(arg, o->name, length) != 0) continue;
        if (arg[length] == '=') *value = arg + length + 1;
        if (!arg[length] || *value) return o;
    }
    return NULL;
}

static void print_default(const option *o) {
    if (o->fallback) {
        if (*o->fallback) printf(" (default: %s)", o->fallback);
        return;
    }
    switch (o->kind) {
    case OPTION_I32: printf(" (default: %" PRId32 ")", *(int32_t *)o->target); break;
    case OPTION_U32: printf(" (default: %" PRIu32 ")", *(uint32_t *)o->target); break;
    case OPTION_U64: printf(" (default: %" PRIu64 ")", *(uint64_t *)o->target); break;
    case OPTION_F32: printf(" (default: %g)", (double)*(float *)o->target); break;
    default: break;
    }
}

static void print_help(const options *list) {
    printf("Usage: llmo %s\n\n%s", list->usage, list->description);
    bool headed = list->n && list->items[0].kind == OPTION_HEADING;
    if (!headed) printf("\nOptions:\n");
    for (size_t i = 0; i < list->n; i++) {
        const option *o = &list->items[i];
        if (o->kind == OPTION_HEADING) {
            printf("\n%s:\n", o->name);
            continue;
        }
        char left[64];
        const char *arg = o->arg ? o->arg : "";
        if (o->letter) {
            (void)snprintf(left, sizeof left, "-%c, %s %s", o->letter, o->name, arg);
        } else {
            (void)snprintf(left, sizeof left, "    %s %s", o->name, arg);
        }
        printf("  %-30s %s", left, o->help);
        print_default(o);
        printf("\n");
    }
    printf("  %-30s %s\n\nExample:\n%s", "    --help", "print this and exit", list->example);
}

int options_parse(options *list, int argc, char **argv) {
    /* help wins over every error beside it, and must show the defaults before any value has replaced them */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(list);
            return tool_finish(TOOL_OK);
        }
    }
    bool literal = false; /* behind "--" */
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (!literal && strcmp(arg, "--") == 0) {
            literal = true;
            continue;
        }
        if (literal || arg[0] != '-' || !arg[1]) {
            if (!list->positional || *list->positional) return tool_usage("unexpected argument '%s'", arg);
            *list->positional = arg;
            continue;
        }
        const char *value = NULL;
        const option *o = find_option(list, arg, &value);
        if (!o) return tool_usage("unknown option '%s'", arg);
        if (o->kind == OPTION_FLAG) {
            if (value) return tool_usage("%s takes no argument", o->name);
            *(bool *)o->target = true;
            continue;
        }
        if (!value) {
            if (i + 1 >= argc) return tool_usage("%s needs an argument (%s)", arg, o->arg);
            value = argv[++i];
        }
        int code = take_value(o, o->name, value);
        if (code) return code;
    }
    return OPTIONS_GO_ON;
}
