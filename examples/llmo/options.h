/* Command-line options as a table: the same entries parse the arguments and print the help, defaults included. */
#ifndef LLMO_OPTIONS_H
#define LLMO_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum option_kind {
    OPTION_HEADING, /* not an option: a title in the help */
    OPTION_FLAG,    /* bool, no argument */
    OPTION_TEXT,    /* const char *, not copied */
    OPTION_I32,
    OPTION_U32,
    OPTION_U64,
    OPTION_F32,
    OPTION_SIZE,  /* uint64_t bytes: 8G, 512M, 64K, 100 */
    OPTION_CUSTOM /* parse() decides */
} option_kind;

typedef struct option {
    option_kind kind;
    char letter;      /* 'm' for -m, 0: none */
    const char *name; /* "--model", or the heading */
    const char *arg;  /* what the help calls the argument */
    void *target;     /* holds the default before parsing */
    double min, max;  /* of I32, U32, F32, both included */
    const char *help;
    const char *fallback; /* the default in words; NULL: the help prints what target holds, "": nothing */
    int (*parse)(void *target, const char *option, const char *text); /* 0 or the exit code, having said why */
} option;

#define OPTIONS_MAX 96
typedef struct options {
    const char *usage;       /* "run -m MODEL -p TEXT [options]" */
    const char *description; /* a paragraph, ends with '\n' */
    const char *example;     /* lines, each ends with '\n' */
    const char **positional; /* takes one argument without a dash, NULL: there is none */
    option items[OPTIONS_MAX];
    size_t n;
} options;

void options_add(options *list, const option *items, size_t n);

/* Parses argv[1..]. OPTIONS_GO_ON, or the exit code: help was printed, or an error. */
#define OPTIONS_GO_ON (-1)
int options_parse(options *list, int argc, char **argv);

/* Values as words: the whole text must parse. 0, or the exit code after a message that names the option. */
int option_parse_f32(const char *option, const char *text, double min, double max, float *out);
int option_parse_size(const char *option, const char *text, uint64_t *out);
/* A whole number min..max. */
int option_parse_i64(const char *option, const char *text, int64_t min, int64_t max, int64_t *out);

/* A growing list of texts (not copied); the target of option_parse_text_list. */
typedef struct text_list {
    const char **items;
    uint32_t n;
} text_list;
int option_parse_text_list(void *target, const char *option, const char *text);

#endif
