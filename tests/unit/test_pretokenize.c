/* Pre-tokenizers: which pieces each set of patterns makes, and that time stays linear for long texts of any kind. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tokenizer_internal.h"

static llmoi_mem mem;

static int setup(void **state) {
    (void)state;
    llmoi_mem_init(&mem, NULL, NULL, NULL);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return llmoi_mem_total(&mem) == 0 ? 0 : -1;
}

static llmoi_pretokenizer *open_pre(const char *name) {
    llmoi_pretokenizer *p;
    if (llmoi_pretokenizer_create(&mem, (llmoi_str){name, strlen(name)}, &p) != LLMO_OK) {
        fail_msg("%s: %s", name, llmoi_message());
    }
    return p;
}

static void free_encoder(llmoi_encoder *e) {
    llmoi_free(&mem, e->ends[0]);
    llmoi_free(&mem, e->ends[1]);
    llmoi_free(&mem, e->clean);
    llmoi_free(&mem, e->subject);
}

/* The pieces joined with '#'. */
static const char *pieces_of(const char *name, const char *text) {
    static char out[8192];
    llmoi_pretokenizer *p = open_pre(name);
    llmoi_encoder e = {.mem = &mem};
    size_t n_text = strlen(text), n, at = 0, start = 0;
    const uint32_t *ends;
    if (llmoi_pretokenize(&e, p, &text, &n_text, &ends, &n) != LLMO_OK) fail_msg("%s: %s", name, llmoi_message());
    for (size_t i = 0; i < n; i++) {
        assert_true(ends[i] > start && ends[i] <= n_text);
        if (i) out[at++] = '#';
        memcpy(out + at, text + start, ends[i] - start);
        at += ends[i] - start;
        start = ends[i];
    }
    assert_int_equal(start, n_text);
    out[at] = '\0';
    free_encoder(&e);
    llmoi_pretokenizer_destroy(p);
    return out;
}

#define BAD "\xef\xbf\xbd"

static void each_set_of_patterns_makes_its_pieces(void **state) {
    (void)state;
    static const struct {
        const char *name, *text, *pieces;
    } cases[] = {
        {"default", "I've 12345+6 a.b  c", "I#'#ve# #123#45#+#6# a#.#b# # c"},
        {"llama-bpe", "I'VE 12345 a.b\n\n  c\t", "I#'VE# #123#45# a#.b#\n\n# # c#\t"},
        {"qwen2", "I'VE 123 a!!\n c", "I#'VE# #1#2#3# a#!!\n# c"},
        {"qwen35", "a\xcc\x81z 12", "a\xcc\x81z# #1#2"},
        {"laguna", "a \n\n b12", "a# #\n\n# b#1#2"},
        {"tekken", "HelloWORLD a/b//\n1", "Hello#WORLD# a#/b#//\n#1"},
        {"gpt-4o", "HelloWORLD's 1234 x/\n", "Hello#WORLD's# #123#4# x#/\n"},
        {"granite-embed-multi-97m", "\xc3\x89T\xc3\x89t\xc3\xa9 don'T", "\xc3\x89T\xc3\x89t\xc3\xa9# don'T"},
        {"tiny_aya", "x1234567 12 123456", "x#1#234#567# #12# #123#456"},
        {"superbpe", "one 1234567 two", "one #1#234#567# two"},
        {"afmoe",
         "n12345 \xe4\xbd\xa0\xe5\xa5\xbd"
         "a.b",
         "n#12#345# #\xe4\xbd\xa0\xe5\xa5\xbd#a#.b"},
        {"youtu",
         "aB\xe4\xbd\xa0\xe5\xa5\xbd"
         "c1",
         "a#B#\xe4\xbd\xa0\xe5\xa5\xbd#c#1"},
        {"deepseek-llm", "ab\n x=1\xe4\xbd\xa0  ", "ab#\n# x#=#1#\xe4\xbd\xa0#  "},
        {"deepseek-llm", "a   b   ", "a#  # b#   "},
        {"deepseek-coder", "ab\n x.12", "ab#\n# x#.#1#2"},
        {"deepseek-v3", "x=1234 a.b\xe4\xbd\xa0", "x#=#123#4# a#.b#\xe4\xbd\xa0"},
        {"falcon", "a1234`b", "a#123#4#`#b"},
        {"starcoder", "a 12 b", "a# #1#2# b"},
        {"gpt-2", "I've 123!  x\n", "I#'ve# 123#!# # x#\n"},
        {"bloom", "one two, (three)", "one# two#, (#three#)"},
        {"viking", "one 12, x", "one# #1#2#,# x"},
        {"chameleon", "<sentinel:1>a\tIMGIMGABCZ    1.", "<#sentinel#:#1#>#a#\t#IMGIMGABCZ#    #1#."},
        {"kimi-k2", "\xe4\xbd\xa0\xe5\xa5\xbdHello'll 1234", "\xe4\xbd\xa0\xe5\xa5\xbd#Hello'll# #123#4"},
        {"bailingmoe", "a\n\nb 'S12", "a#\n\n#b# '#S#1#2"},
        {"bailingmoe", "x'S", "x#'S"},
        {"seed-coder", "a;;\n12", "a#;;#\n#1#2"},
        {"exaone-moe", "one two  x\n\n1", "one two# # x#\n\n#1"},
        {"exaone-moe", "a!\n\nb", "a#!\n#\n#b"},
        {"minicpm5", "ab1234", "ab#123#4"},
        {"jais-2", "a       b", "a#    #  # b"},
        {"jais-2", " \n  x\t1", " \n# # x#\t#1"},
        {"gemma4", "a b\n\nc", "a b#\n\n#c"},
        {"gpt-2", "a\xff\xe4\xbd", "a#" BAD BAD BAD},
        {"gpt-2", "\xed\xa0\x80", "\xed\xa0\x80"}, /* a surrogate passes */
        {"gpt-2",
         "a\xc0\xa0"
         "b",
         "a# b"},                                       /* an overlong space is a space */
        {"gpt-2", "\xf4\x90\x80\x80", BAD BAD BAD BAD}, /* above U+10FFFF */
        {"gpt-2",
         "a\xe1\xa0\x8e"
         "b",
         "a#\xe1\xa0\x8e#b"}, /* U+180E is no space */
        {"gpt-2", "", ""},
    };
    size_t n_failed = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = pieces_of(cases[i].name, cases[i].text);
        if (strcmp(got, cases[i].pieces) != 0) {
            print_message("%s: '%s': got '%s', want '%s'\n", cases[i].name, cases[i].text, got, cases[i].pieces);
            n_failed++;
        }
    }
    assert_int_equal(n_failed, 0);
}

static const char *const names[] = {
#define SET(id, ...)
#define NAME(name, id, flags) name,
#include "pretokenize.def"
};

/* One name per set of patterns. */
static const char *const one_of_each[] = {
    "default",  "gpt-2",      "starcoder",    "falcon",         "llama-bpe",
    "qwen2",    "qwen35",     "tekken",       "gpt-4o",         "granite-embed-multi-97m",
    "tiny_aya", "youtu",      "deepseek-llm", "deepseek-coder", "deepseek-v3",
    "afmoe",    "bloom",      "viking",       "chameleon",      "kimi-k2",
    "superbpe", "bailingmoe", "seed-coder",   "laguna",         "exaone-moe",
    "minicpm5", "jais-2",     "gemma4"};

static void every_name_is_known_and_keeps_the_text(void **state) {
    (void)state;
    assert_true(sizeof names / sizeof names[0] > 80);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *pieces = pieces_of(names[i], "It's 12345 words,\r\n\tof  THIS \xc3\xa9\xe4\xbd\xa0 -- ok?   ");
        size_t n = 0;
        for (const char *p = pieces; *p; p++) n += *p != '#';
        assert_int_equal(n, strlen("It's 12345 words,\r\n\tof  THIS \xc3\xa9\xe4\xbd\xa0 -- ok?   "));
        assert_non_null(strchr(pieces, '#'));
    }
}

static void an_unknown_name_is_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {"", "llama", "llama-bpe ", "LLAMA-BPE"};
    for (size_t i = 0; i < 4; i++) {
        llmoi_pretokenizer *p;
        uint32_t flags;
        llmoi_str name = {wrong[i], strlen(wrong[i])};
        assert_int_equal(llmoi_pretokenizer_flags(name, &flags), LLMO_E_UNSUPPORTED);
        assert_int_equal(llmoi_pretokenizer_create(&mem, name, &p), LLMO_E_UNSUPPORTED);
        assert_null(p);
    }
}

/* Processor time of one split, in seconds; the better of two. */
static double time_of(const llmoi_pretokenizer *p, const char *unit, size_t bytes) {
    char *text = malloc(bytes);
    size_t n_unit = strlen(unit);
    double best = 1e9;
    for (size_t i = 0; i < bytes; i++) text[i] = unit[i % n_unit];
    for (int k = 0; k < 2; k++) {
        llmoi_encoder e = {.mem = &mem};
        const char *t = text;
        const uint32_t *ends;
        size_t n = bytes, n_ends;
        clock_t start = clock();
        if (llmoi_pretokenize(&e, p, &t, &n, &ends, &n_ends) != LLMO_OK) fail_msg("%s", llmoi_message());
        double s = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (s < best) best = s;
        free_encoder(&e);
    }
    free(text);
    return best;
}

static void twice_the_text_takes_at_most_thrice_the_time(void **state) {
    (void)state;
    static const char *const units[] = {
        " ",     "a",    "1",    "\n",      "A",        "\xe4\xbd\xa0", "\xf0\x9f\x98\x80",
        "\t \n", "aB",   "!",    "a ",      "\xcc\x81", "\n          ", " 1",
        "'",     "\xff", "ab. ", "\xc3\xa9"};
    const size_t bytes = 40000;
    for (size_t i = 0; i < sizeof one_of_each / sizeof one_of_each[0]; i++) {
        llmoi_pretokenizer *p = open_pre(one_of_each[i]);
        for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
            double once = time_of(p, units[u], bytes), twice = 0;
            for (int again = 0; again < 4; again++) { /* other processes disturb the clock */
                twice = time_of(p, units[u], 2 * bytes);
                if (twice <= 3 * once + 0.002) break;
                once = time_of(p, units[u], bytes);
            }
            if (twice > 3 * once + 0.002) {
                fail_msg("%s on '%s': %.4f s for %zu bytes, %.4f s for twice as many", one_of_each[i], units[u], once,
                         bytes, twice);
            }
        }
        llmoi_pretokenizer_destroy(p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_set_of_patterns_makes_its_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(every_name_is_known_and_keeps_the_text, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_name_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(twice_the_text_takes_at_most_thrice_the_time, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
