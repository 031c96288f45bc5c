"""The structs, numbers and function signatures of llmoffload.h, in the order of the header.

Knows nothing of how the library is found (_library.py) or what Python programs see (__init__.py).
"""

from __future__ import annotations

import ctypes as c

VERSION = (0, 1, 0)  # of the header that this file was written after
ABI_MAJOR = 0

OK = 0
E_IO = 100
E_BUFFER = 303
E_CANCELLED = 301

STATUS_NAMES: dict[int, str] = {
    0: "OK",
    1: "E_ARG",
    2: "E_VERSION",
    3: "E_BUSY",
    4: "E_FORKED",
    5: "E_INTERNAL",
    100: "E_IO",
    101: "E_FORMAT",
    102: "E_UNSUPPORTED",
    200: "E_NOMEM",
    201: "E_BUDGET",
    300: "E_CONTEXT_FULL",
    301: "E_CANCELLED",
    302: "E_CALLBACK",
    303: "E_BUFFER",
    400: "E_DEVICE",
    401: "E_DEVICE_LOST",
}

PURPOSES = ("weights", "kv", "compute", "logits", "state", "header", "host")
PURPOSE_COUNT = len(PURPOSES)

THREADS_AUTO = -1
GPU_LAYERS_AUTO = -1
UNLIMITED = 2**64 - 1

MODEL_MMAP = 1
TOKENIZE_ADD_SPECIAL = 1
TOKENIZE_PARSE_SPECIAL = 2
DETOKENIZE_SPECIAL = 1
DETOKENIZE_CONTINUATION = 2
GENERATE_IGNORE_END = 1
GENERATE_SPECIAL = 2

KV_TYPES = {"f16": 0, "f32": 1}
NUMERICS = {"auto": 0, "f32": 1, "q8": 2}
STOP_NAMES = ("none", "end", "length", "context", "string", "token", "cancel", "callback")
GENERATION_DONE = 2
GENERATION_FAILED = 3
SPECIAL = {"bos": 0, "eos": 1, "eot": 2, "unk": 3, "pad": 4, "nl": 5}

u32, i32, u64, f32, size_t, void_p, char_p = (
    c.c_uint32, c.c_int32, c.c_uint64, c.c_float, c.c_size_t, c.c_void_p, c.c_char_p,
)  # fmt: skip

LOG_FUNCTION = c.CFUNCTYPE(None, void_p, i32, char_p)
PROGRESS_FUNCTION = c.CFUNCTYPE(i32, void_p, u64, u64)


class RuntimeParams(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("n_threads", i32),
        ("alloc_user", void_p),
        ("alloc", void_p),
        ("release", void_p),
        ("log_user", void_p),
        ("log", LOG_FUNCTION),
        ("log_level", i32),
        ("reserved0", i32),
        ("parallel_user", void_p),
        ("parallel_for", void_p),
    ]


class DeviceInfo(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("kind", i32),
        ("total_bytes", u64),
        ("free_bytes", u64),
        ("name", c.c_char * 128),
        ("detail", c.c_char * 128),
    ]


class ModelParams(c.Structure):
    _fields_ = [("struct_size", u32), ("flags", u32), ("pre_tokenizer", char_p)]


class ModelInfo(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("n_layers", u32),
        ("n_embd", u32),
        ("n_vocab", u32),
        ("n_heads", u32),
        ("n_kv_heads", u32),
        ("head_dim", u32),
        ("n_ff", u32),
        ("n_experts", u32),
        ("n_experts_used", u32),
        ("n_ctx_train", u32),
        ("n_tensors", u32),
        ("n_params", u64),
        ("weights_bytes", u64),
        ("file_bytes", u64),
        ("architecture", c.c_char * 64),
        ("name", c.c_char * 128),
        ("type", c.c_char * 32),
        ("tokenizer", c.c_char * 64),
    ]


class PlanParams(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("n_ctx", u32),
        ("n_sequences", u32),
        ("n_batch", u32),
        ("n_kv_tokens", u64),
        ("kv_type_k", i32),
        ("kv_type_v", i32),
        ("gpu_layers", i32),
        ("numerics", i32),
        ("vram_budget_bytes", u64),
        ("ram_budget_bytes", u64),
    ]


class ContextParams(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("reserved0", u32),
        ("progress_user", void_p),
        ("progress", PROGRESS_FUNCTION),
    ]


class ContextStats(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("n_sequences", u32),
        ("n_generations", u32),
        ("reserved0", u32),
        ("kv_tokens_total", u64),
        ("kv_tokens_used", u64),
        ("n_passes", u64),
        ("n_tokens", u64),
        ("n_allocs", u64),
        ("busy_us", u64),
    ]


class SamplingParams(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("reserved0", u32),
        ("seed", u64),
        ("temperature", f32),
        ("top_k", i32),
        ("top_p", f32),
        ("min_p", f32),
        ("typical_p", f32),
        ("min_keep", u32),
        ("penalty_last", i32),
        ("penalty_repeat", f32),
        ("penalty_presence", f32),
        ("penalty_frequency", f32),
        ("dry_multiplier", f32),
        ("dry_base", f32),
        ("dry_allowed_length", i32),
        ("dry_last", i32),
        ("dry_breakers", c.POINTER(char_p)),
        ("n_dry_breakers", u32),
        ("xtc_probability", f32),
        ("xtc_threshold", f32),
        ("mirostat", i32),
        ("mirostat_tau", f32),
        ("mirostat_eta", f32),
        ("n_bias", u32),
        ("reserved1", u32),
        ("bias_tokens", c.POINTER(i32)),
        ("bias_values", c.POINTER(f32)),
        ("logits_user", void_p),
        ("logits", void_p),
    ]


class GenerationParams(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("flags", u32),
        ("max_tokens", u32),
        ("n_stops", u32),
        ("stops", c.POINTER(char_p)),
        ("n_stop_tokens", u32),
        ("tokenize_flags", u32),
        ("stop_tokens", c.POINTER(i32)),
        ("sampling", c.POINTER(SamplingParams)),
        ("text_user", void_p),
        ("text", void_p),
    ]


class GenerationInfo(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("state", i32),
        ("stop", i32),
        ("status", i32),
        ("n_prompt", u64),
        ("n_prompt_done", u64),
        ("n_generated", u64),
        ("prompt_us", u64),
        ("decode_us", u64),
    ]


class StepInfo(c.Structure):
    _fields_ = [
        ("struct_size", u32),
        ("n_running", u32),
        ("n_passes", u32),
        ("n_units", u32),
        ("n_prompt_tokens", u64),
        ("n_new_tokens", u64),
        ("elapsed_us", u64),
        ("longest_unit_us", u64),
    ]


P = c.POINTER
tokens_p, floats_p, size_p, handle_p = P(i32), P(f32), P(size_t), P(void_p)

# Params structs and the call that fills them: sizes are compared with the library's at import.
INIT_FUNCTIONS: dict[str, type[c.Structure]] = {
    "llmo_runtime_params_init": RuntimeParams,
    "llmo_model_params_init": ModelParams,
    "llmo_plan_params_init": PlanParams,
    "llmo_context_params_init": ContextParams,
    "llmo_sampling_params_init": SamplingParams,
    "llmo_generation_params_init": GenerationParams,
}

# name: (result, arguments); i32 results are statuses unless the header says otherwise
SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "llmo_status_name": (char_p, [i32]),
    "llmo_status_text": (char_p, [i32]),
    "llmo_last_error": (char_p, []),
    "llmo_version": (char_p, []),
    "llmo_version_number": (u32, []),
    "llmo_abi_version": (u32, []),
    "llmo_purpose_name": (char_p, [i32]),
    "llmo_runtime_create": (i32, [P(RuntimeParams), handle_p]),
    "llmo_runtime_destroy": (None, [void_p]),
    "llmo_runtime_bytes": (u64, [void_p, i32]),
    "llmo_runtime_threads": (u32, [void_p]),
    "llmo_device_count": (u32, [void_p]),
    "llmo_device_get_info": (i32, [void_p, u32, P(DeviceInfo)]),
    "llmo_device_gpu_note": (char_p, [void_p]),
    "llmo_model_open": (i32, [void_p, char_p, P(ModelParams), handle_p]),
    "llmo_model_destroy": (None, [void_p]),
    "llmo_model_get_info": (i32, [void_p, P(ModelInfo)]),
    "llmo_model_meta_count": (u32, [void_p]),
    "llmo_model_meta_key": (char_p, [void_p, u32]),
    "llmo_model_meta_text": (i32, [void_p, char_p, char_p, size_t, size_p]),
    "llmo_tokenize": (i32, [void_p, char_p, size_t, u32, tokens_p, size_t, size_p]),
    "llmo_detokenize": (i32, [void_p, tokens_p, size_t, u32, char_p, size_t, size_p]),
    "llmo_model_special_token": (i32, [void_p, i32]),
    "llmo_model_token_attr": (u32, [void_p, i32]),
    "llmo_plan_create": (i32, [void_p, P(PlanParams), handle_p]),
    "llmo_plan_destroy": (None, [void_p]),
    "llmo_plan_bytes": (u64, [void_p, u32, i32]),
    "llmo_plan_get_params": (i32, [void_p, P(PlanParams)]),
    "llmo_plan_note": (char_p, [void_p, u32]),
    "llmo_context_create": (i32, [void_p, void_p, P(ContextParams), handle_p]),
    "llmo_context_destroy": (None, [void_p]),
    "llmo_context_error": (char_p, [void_p]),
    "llmo_context_bytes": (u64, [void_p, u32, i32]),
    "llmo_context_get_stats": (i32, [void_p, P(ContextStats)]),
    "llmo_context_cancel": (i32, [void_p]),
    "llmo_sequence_create": (i32, [void_p, handle_p]),
    "llmo_sequence_fork": (i32, [void_p, size_t, handle_p]),
    "llmo_sequence_destroy": (None, [void_p]),
    "llmo_sequence_truncate": (i32, [void_p, size_t]),
    "llmo_sequence_length": (size_t, [void_p]),
    "llmo_sequence_get_tokens": (i32, [void_p, size_t, tokens_p, size_t, size_p]),
    "llmo_eval": (i32, [void_p, tokens_p, size_t, size_t, floats_p, size_t]),
    "llmo_generation_start": (i32, [void_p, char_p, size_t, P(GenerationParams), handle_p]),
    "llmo_generation_start_tokens": (i32, [void_p, tokens_p, size_t, P(GenerationParams), handle_p]),
    "llmo_generation_get_info": (i32, [void_p, P(GenerationInfo)]),
    "llmo_generation_read": (i32, [void_p, char_p, size_t, size_p]),
    "llmo_generation_get_tokens": (i32, [void_p, size_t, tokens_p, size_t, size_p]),
    "llmo_generation_cancel": (i32, [void_p]),
    "llmo_generation_destroy": (None, [void_p]),
    "llmo_context_step": (i32, [void_p, u64, P(StepInfo)]),
    **{name: (None, [P(struct)]) for name, struct in INIT_FUNCTIONS.items()},
}
