/* The struct_size rules of llmoffload.h: programs built with an older or newer header meet this library. Every struct
 * is placed at the end of a page that is followed by an inaccessible one, so that a read or write past it is a crash.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "llmoffload.h"
#include "shared_data.h"
#include "tiny_model.h"

static llmo_runtime *runtime;
static llmo_model *model;
static llmo_plan *plan;
static llmo_context *context;
static llmo_sequence *sequence;
static llmo_generation *generation;
static unsigned char *file;
static size_t file_bytes;

/* --- memory with an end ------------------------------------------------------------------------------------------ */

#define ROOM       8192u
#define SLACK_BYTE 0xa5

static unsigned char *room_end; /* the first byte that cannot be touched */

/* `bytes` bytes that end at the inaccessible page, or up to 7 bytes before it to be aligned. What is between has
 * SLACK_BYTE, and so has the memory itself. */
static void *place(size_t bytes) {
    memset(room_end - ROOM, SLACK_BYTE, ROOM);
    return room_end - (bytes + 7) / 8 * 8;
}

static void assert_slack_untouched(const void *p, size_t bytes) {
    for (const unsigned char *q = (const unsigned char *)p + bytes; q < room_end; q++) assert_int_equal(*q, SLACK_BYTE);
}

static void set_size(void *p, uint32_t size) {
    memcpy(p, &size, sizeof size);
}

static uint32_t get_size(const void *p) {
    uint32_t size;
    memcpy(&size, p, sizeof size);
    return size;
}

/* --- params: structs that the library reads ------------------------------------------------------------------------
 */

typedef struct params_case {
    const char *name;
    size_t size;
    bool exact; /* an element of an array: no other size is accepted */
    void (*init)(void *p);
    llmo_status (*use)(const void *p);
} params_case;

static llmo_status use_runtime(const void *p) {
    llmo_runtime *out = NULL;
    llmo_status st = llmo_runtime_create(p, &out);
    assert_true((st == LLMO_OK) == (out != NULL));
    llmo_runtime_destroy(out);
    return st;
}
static void init_runtime(void *p) {
    llmo_runtime_params_init(p);
}

static llmo_status use_model(const void *p) {
    llmo_model *out = NULL;
    llmo_status st = llmo_model_open_memory(runtime, file, file_bytes, p, &out);
    assert_true((st == LLMO_OK) == (out != NULL));
    llmo_model_destroy(out);
    return st;
}
static void init_model(void *p) {
    llmo_model_params_init(p);
}

static int32_t read_file_part(void *user, uint64_t offset, void *dst, size_t bytes) {
    (void)user;
    if (offset > file_bytes || bytes > file_bytes - offset) return 1;
    memcpy(dst, file + offset, bytes);
    return 0;
}
static llmo_status use_reader(const void *p) {
    llmo_model *out = NULL;
    llmo_status st = llmo_model_open_readers(runtime, p, 1, NULL, &out);
    assert_true((st == LLMO_OK) == (out != NULL));
    llmo_model_destroy(out);
    return st;
}
static void init_reader(void *p) {
    llmo_reader r = {.struct_size = sizeof r, .size_bytes = file_bytes, .read = read_file_part};
    memcpy(p, &r, sizeof r);
}

static llmo_status use_plan(const void *p) {
    llmo_plan *out = NULL;
    llmo_status st = llmo_plan_create(model, p, &out);
    assert_true((st == LLMO_OK) == (out != NULL));
    llmo_plan_destroy(out);
    return st;
}
static void init_plan(void *p) {
    llmo_plan_params_init(p);
}

static llmo_status use_context(const void *p) {
    llmo_context *out = NULL;
    llmo_status st = llmo_context_create(model, plan, p, &out);
    assert_true((st == LLMO_OK) == (out != NULL));
    llmo_context_destroy(out);
    return st;
}
static void init_context(void *p) {
    llmo_context_params_init(p);
}

static llmo_status use_generation(const void *p) {
    llmo_sequence *s = NULL;
    llmo_generation *out = NULL;
    assert_int_equal(llmo_sequence_create(context, &s), LLMO_OK);
    llmo_status st = llmo_generation_start(s, "abc", 3, p, &out);
    assert_true((st == LLMO_OK) == (out != NULL));
    llmo_generation_destroy(out);
    llmo_sequence_destroy(s);
    return st;
}
static void init_generation(void *p) {
    llmo_generation_params_init(p);
}

static llmo_status use_sampling(const void *p) {
    llmo_generation_params params;
    llmo_generation_params_init(&params);
    params.sampling = p;
    return use_generation(&params);
}
static void init_sampling(void *p) {
    llmo_sampling_params_init(p);
}

static const params_case params_cases[] = {
    {"llmo_runtime_params", sizeof(llmo_runtime_params), false, init_runtime, use_runtime},
    {"llmo_model_params", sizeof(llmo_model_params), false, init_model, use_model},
    {"llmo_reader", sizeof(llmo_reader), true, init_reader, use_reader},
    {"llmo_plan_params", sizeof(llmo_plan_params), false, init_plan, use_plan},
    {"llmo_context_params", sizeof(llmo_context_params), false, init_context, use_context},
    {"llmo_generation_params", sizeof(llmo_generation_params), false, init_generation, use_generation},
    {"llmo_sampling_params", sizeof(llmo_sampling_params), false, init_sampling, use_sampling},
};
#define N_PARAMS (sizeof params_cases / sizeof params_cases[0])

static void check_status(const char *name, size_t size, llmo_status got, bool right) {
    if (!right) fail_msg("%s with struct_size %zu: %s (%s)", name, size, llmo_status_name(got), llmo_last_error());
}

static void init_fills_exactly_one_struct_and_ignores_null(void **state) {
    (void)state;
    for (size_t i = 0; i < N_PARAMS; i++) {
        const params_case *c = &params_cases[i];
        void *p = place(c->size);
        c->init(p);
        assert_int_equal(get_size(p), c->size);
        assert_slack_untouched(p, c->size);
        if (!c->exact) c->init(NULL);
    }
}

static void a_struct_of_the_same_size_is_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < N_PARAMS; i++) {
        const params_case *c = &params_cases[i];
        void *p = place(c->size);
        c->init(p);
        llmo_status st = c->use(p);
        check_status(c->name, c->size, st, st == LLMO_OK);
    }
}

static void a_smaller_struct_of_an_older_header_is_accepted(void **state) {
    (void)state;
    for (size_t i = 0; i < N_PARAMS; i++) {
        const params_case *c = &params_cases[i];
        unsigned char whole[1024];
        assert_true(c->size <= sizeof whole);
        c->init(whole);
        for (size_t size = c->size - 4; size >= 8; size -= 4) {
            unsigned char *p = place(size);
            memcpy(p, whole, size);
            set_size(p, (uint32_t)size);
            llmo_status st = c->use(p);
            check_status(c->name, size, st, st == (c->exact || size % 8 ? LLMO_E_ARG : LLMO_OK));
        }
    }
}

static void a_larger_struct_with_a_zero_tail_is_accepted(void **state) {
    (void)state;
    static const size_t tails[] = {8, 16, 64, 400};
    for (size_t i = 0; i < N_PARAMS; i++) {
        const params_case *c = &params_cases[i];
        for (size_t t = 0; t < 4; t++) {
            size_t size = c->size + tails[t];
            unsigned char *p = place(size);
            memset(p, 0, size);
            c->init(p);
            set_size(p, (uint32_t)size);
            llmo_status st = c->use(p);
            check_status(c->name, size, st, st == (c->exact ? LLMO_E_VERSION : LLMO_OK));
        }
    }
}

static void a_larger_struct_with_an_unknown_field_set_is_refused(void **state) {
    (void)state;
    enum { TAIL = 24 };
    for (size_t i = 0; i < N_PARAMS; i++) {
        const params_case *c = &params_cases[i];
        for (size_t at = 0; at < TAIL; at++) {
            size_t size = c->size + TAIL;
            unsigned char *p = place(size);
            memset(p, 0, size);
            c->init(p);
            set_size(p, (uint32_t)size);
            p[c->size + at] = 1;
            llmo_status st = c->use(p);
            check_status(c->name, size, st, st == LLMO_E_VERSION);
            assert_true(strlen(llmo_last_error()) > 0);
        }
    }
}

static const uint32_t nonsense[] = {0, 1, 2, 3, 0x7fffffffu, 0x80000000u, 0xa5a5a5a5u, 0xffffffffu};
#define N_NONSENSE (sizeof nonsense / sizeof nonsense[0])

static void a_nonsense_size_is_refused_without_reading_past_the_struct(void **state) {
    (void)state;
    for (size_t i = 0; i < N_PARAMS; i++) {
        const params_case *c = &params_cases[i];
        for (size_t n = 0; n < N_NONSENSE; n++) {
            void *p = place(c->size);
            c->init(p);
            set_size(p, nonsense[n]);
            llmo_status st = c->use(p);
            check_status(c->name, nonsense[n], st, st == LLMO_E_ARG || st == LLMO_E_VERSION);
        }
    }
}

/* --- info: structs that the library fills --------------------------------------------------------------------------
 */

typedef struct info_case {
    const char *name;
    size_t size;
    bool steady; /* two calls give the same bytes */
    llmo_status (*get)(void *p);
} info_case;

static llmo_status get_device(void *p) {
    return llmo_device_get_info(runtime, 0, p);
}
static llmo_status get_model(void *p) {
    return llmo_model_get_info(model, p);
}
static llmo_status get_tensor(void *p) {
    return llmo_model_get_tensor(model, 1, p);
}
static llmo_status get_plan_params(void *p) {
    return llmo_plan_get_params(plan, p);
}
static llmo_status get_site(void *p) {
    return llmo_plan_get_site(plan, 0, p);
}
static llmo_status get_stats(void *p) {
    return llmo_context_get_stats(context, p);
}
static llmo_status get_generation(void *p) {
    return llmo_generation_get_info(generation, p);
}
static llmo_status get_step(void *p) {
    return llmo_context_step(context, LLMO_BUDGET_UNLIMITED, p);
}

static const info_case info_cases[] = {
    {"llmo_device_info", sizeof(llmo_device_info), false, get_device},
    {"llmo_model_info", sizeof(llmo_model_info), true, get_model},
    {"llmo_tensor_info", sizeof(llmo_tensor_info), true, get_tensor},
    {"llmo_plan_params", sizeof(llmo_plan_params), true, get_plan_params},
    {"llmo_site_info", sizeof(llmo_site_info), true, get_site},
    {"llmo_context_stats", sizeof(llmo_context_stats), true, get_stats},
    {"llmo_generation_info", sizeof(llmo_generation_info), true, get_generation},
    {"llmo_step_info", sizeof(llmo_step_info), false, get_step},
};
#define N_INFOS (sizeof info_cases / sizeof info_cases[0])

static void a_smaller_info_gets_the_part_it_has_room_for(void **state) {
    (void)state;
    for (size_t i = 0; i < N_INFOS; i++) {
        const info_case *c = &info_cases[i];
        unsigned char whole[1024];
        memset(whole, 0, sizeof whole);
        set_size(whole, (uint32_t)c->size);
        llmo_status st = c->get(whole);
        check_status(c->name, c->size, st, st == LLMO_OK);
        for (size_t size = c->size; size >= 8; size -= 4) {
            unsigned char *p = place(size);
            set_size(p, (uint32_t)size);
            st = c->get(p);
            check_status(c->name, size, st, st == (size % 8 ? LLMO_E_ARG : LLMO_OK));
            assert_slack_untouched(p, size);
            if (st != LLMO_OK) continue;
            assert_int_equal(get_size(p), size);
            if (c->steady) assert_memory_equal(p + 4, whole + 4, size - 4);
        }
    }
}

static void a_larger_info_keeps_its_unknown_tail_zero(void **state) {
    (void)state;
    enum { TAIL = 64 };
    static const unsigned char zeros[TAIL];
    for (size_t i = 0; i < N_INFOS; i++) {
        const info_case *c = &info_cases[i];
        unsigned char *p = place(c->size + TAIL);
        memset(p, 0, c->size + TAIL);
        set_size(p, (uint32_t)(c->size + TAIL));
        llmo_status st = c->get(p);
        check_status(c->name, c->size + TAIL, st, st == LLMO_OK);
        assert_memory_equal(p + c->size, zeros, TAIL);
    }
}

static void a_nonsense_info_size_touches_nothing_past_the_struct(void **state) {
    (void)state;
    for (size_t i = 0; i < N_INFOS; i++) {
        const info_case *c = &info_cases[i];
        for (size_t n = 0; n < N_NONSENSE; n++) {
            void *p = place(c->size);
            memset(p, 0, c->size);
            set_size(p, nonsense[n]);
            llmo_status st = c->get(p);
            check_status(c->name, nonsense[n], st, st == LLMO_E_ARG || st == LLMO_E_VERSION);
        }
    }
}

/* -------------------------------------------------------------------------------------------------------------------
 */

static int set_up(void **state) {
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = (ROOM + page - 1) / page * page;
    unsigned char *room = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED || mprotect(room + bytes, page, PROT_NONE) != 0) return -1;
    room_end = room + bytes;

    file = tiny_model(NULL, &file_bytes);
    llmo_runtime_params rp;
    llmo_runtime_params_init(&rp);
    rp.n_threads = 1;
    llmo_plan_params pp;
    llmo_plan_params_init(&pp);
    pp.n_sequences = 4;
    if (llmo_runtime_create(&rp, &runtime) != LLMO_OK ||
        llmo_model_open_memory(runtime, file, file_bytes, NULL, &model) != LLMO_OK ||
        llmo_plan_create(model, &pp, &plan) != LLMO_OK || llmo_context_create(model, plan, NULL, &context) != LLMO_OK ||
        llmo_sequence_create(context, &sequence) != LLMO_OK ||
        llmo_generation_start(sequence, "abc", 3, NULL, &generation) != LLMO_OK) {
        fprintf(stderr, "set-up: %s\n", llmo_last_error());
        return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    llmo_generation_destroy(generation);
    llmo_sequence_destroy(sequence);
    llmo_context_destroy(context);
    llmo_plan_destroy(plan);
    llmo_model_destroy(model);
    llmo_runtime_destroy(runtime);
    free(file);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_fills_exactly_one_struct_and_ignores_null),
        cmocka_unit_test(a_struct_of_the_same_size_is_accepted),
        cmocka_unit_test(a_smaller_struct_of_an_older_header_is_accepted),
        cmocka_unit_test(a_larger_struct_with_a_zero_tail_is_accepted),
        cmocka_unit_test(a_larger_struct_with_an_unknown_field_set_is_refused),
        cmocka_unit_test(a_nonsense_size_is_refused_without_reading_past_the_struct),
        cmocka_unit_test(a_smaller_info_gets_the_part_it_has_room_for),
        cmocka_unit_test(a_larger_info_keeps_its_unknown_tail_zero),
        cmocka_unit_test(a_nonsense_info_size_touches_nothing_past_the_struct),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
