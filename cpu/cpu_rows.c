/* The CPU's matmul rows, best first. A row's refusal and its code stand together; lib/plan.c asks in this order. */
#include "cpu_rows.h"

#include "cpu_features.h"

static size_t file_bytes(const llmoi_site *site) {
    return (size_t)site->rows * llmoi_row_bytes(site->type, site->k);
}

static const char *refuse_q8(const llmoi_site *site) {
    if (site->numerics != LLMO_NUMERICS_Q8) return "f32 activations are asked for";
    if (!site->type->unpack) return "float weights have no integer form";
    if (site->k % LLMOI_QBLOCK) return "row length is no multiple of 32";
    return NULL;
}

static const char *refuse_none(const llmoi_site *site) {
    (void)site;
    return NULL;
}

#if defined(__x86_64__)
static const char *const no_fma = "this CPU has no AVX2 with FMA and F16C";

static const char *refuse_q8_fma(const llmoi_site *site) {
    return llmoi_cpu_has_fma() ? refuse_q8(site) : no_fma;
}

static const char *refuse_f32_fma(const llmoi_site *site) {
    (void)site;
    return llmoi_cpu_has_fma() ? NULL : no_fma;
}

static void run_q8_fma(const llmoi_matmul *m, uint64_t begin, uint64_t end) {
    llmoi_ref_fma.matmul_q8(m, begin, end);
}

static void run_f32_fma(const llmoi_matmul *m, uint64_t begin, uint64_t end) {
    llmoi_ref_fma.matmul_f32(m, begin, end);
}
#endif

static void run_q8(const llmoi_matmul *m, uint64_t begin, uint64_t end) {
    llmoi_ref_plain.matmul_q8(m, begin, end);
}

static void run_f32(const llmoi_matmul *m, uint64_t begin, uint64_t end) {
    llmoi_ref_plain.matmul_f32(m, begin, end);
}

/* clang-format off */
const llmoi_matmul_row llmoi_cpu_rows[LLMOI_CPU_N_ROWS] = {
/*   name                activations    step  refuse          bytes       run */
#if defined(__x86_64__)
    {"cpu-ref-q8-fma",   LLMOI_ACT_Q8,  1,    refuse_q8_fma,  file_bytes, run_q8_fma},
    {"cpu-ref-f32-fma",  LLMOI_ACT_F32, 8,    refuse_f32_fma, file_bytes, run_f32_fma},
#endif
    {"cpu-ref-q8",       LLMOI_ACT_Q8,  1,    refuse_q8,      file_bytes, run_q8},
    {"cpu-ref-f32",      LLMOI_ACT_F32, 8,    refuse_none,    file_bytes, run_f32},
};
/* clang-format on */
