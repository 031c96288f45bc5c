"""Runtime, Model and Plan: what any number of threads may share."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import _structs as s
from ._core import Error, Handle, check, lib, new_params, new_struct, ranged, text, to_bytes, token_array

if TYPE_CHECKING:
    from ._context import Context

LOG_LEVELS = {"none": 0, "error": 1, "warn": 2, "info": 3, "debug": 4}


@dataclass(frozen=True)
class Device:
    """A device that can be used: number 0 is the CPU."""

    kind: str
    name: str
    detail: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class ModelInfo:
    """Facts from a model's header; see llmo_model_info in llmoffload.h."""

    architecture: str
    name: str
    type: str
    tokenizer: str
    n_layers: int
    n_embd: int
    n_vocab: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    n_experts: int
    n_experts_used: int
    n_ctx_train: int
    n_tensors: int
    n_params: int
    weights_bytes: int
    file_bytes: int


class Runtime(Handle):
    """Worker threads, devices and the log.

    threads: number of CPU threads, None: one per core. log: called with (level, line), from any thread, for lines up to
    log_level ("error", "warn", "info", "debug").
    """

    _destroy = "llmo_runtime_destroy"

    def __init__(
        self,
        threads: int | None = None,
        *,
        log: Callable[[str, str], object] | None = None,
        log_level: str = "warn",
    ) -> None:
        super().__init__()
        params = new_params("llmo_runtime_params_init")
        if threads is not None:
            params.n_threads = ranged("threads", threads, 32, signed=True)
            if threads == s.THREADS_AUTO:
                raise ValueError("threads: -1 is out of range; None means one per core")
        if log_level not in LOG_LEVELS:
            raise ValueError(f"log_level: {log_level!r} is not one of {', '.join(LOG_LEVELS)}")
        self._log = s.LOG_FUNCTION()  # must live as long as the library may call it
        if log:
            names = {number: name for name, number in LOG_LEVELS.items()}
            sink = log
            self._log = s.LOG_FUNCTION(lambda user, level, line: sink(names.get(level, "unknown"), text(line)) and None)
            params.log = self._log
            params.log_level = LOG_LEVELS[log_level]
        pointer = ctypes.c_void_p()
        check(lib.llmo_runtime_create(ctypes.byref(params), ctypes.byref(pointer)))
        self._pointer = pointer

    @property
    def threads(self) -> int:
        """Worker threads in use, the calling one included."""
        return lib.llmo_runtime_threads(self._handle)

    def devices(self) -> list[Device]:
        """The devices; gpu_note says why no GPU is among them."""
        found = []
        for index in range(lib.llmo_device_count(self._handle)):
            info = new_struct(s.DeviceInfo)
            check(lib.llmo_device_get_info(self._handle, index, ctypes.byref(info)))
            kind = {0: "cpu", 1: "cuda"}.get(info.kind, "unknown")
            found.append(Device(kind, text(info.name), text(info.detail), info.total_bytes, info.free_bytes))
        return found

    @property
    def gpu_note(self) -> str:
        """Why no GPU is listed, "" if there is one."""
        return text(lib.llmo_device_gpu_note(self._handle))

    def memory(self, purpose: str | None = None) -> int:
        """Live bytes of this runtime and everything made from it: of one purpose ("weights", "kv", ...), or all."""
        return lib.llmo_runtime_bytes(self._handle, purpose_number(purpose))


def purpose_number(purpose: str | None) -> int:
    if purpose is None:
        return s.PURPOSE_COUNT
    if purpose not in s.PURPOSES:
        raise ValueError(f"purpose: {purpose!r} is not one of {', '.join(s.PURPOSES)}")
    return s.PURPOSES.index(purpose)


class Plan(Handle):
    """Which part of a model runs where, and how many bytes a context made from it takes. Made by Model.plan()."""

    _destroy = "llmo_plan_destroy"

    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int = 0,
        n_sequences: int = 1,
        n_batch: int = 0,
        n_kv_tokens: int = 0,
        kv: str = "f16",
        numerics: str = "auto",
        gpu_layers: int | None = None,
        vram: int | None = None,
        ram: int | None = None,
    ) -> None:
        super().__init__()
        params = new_params("llmo_plan_params_init")
        params.n_ctx = ranged("n_ctx", n_ctx, 32)
        params.n_sequences = ranged("n_sequences", n_sequences, 32)
        params.n_batch = ranged("n_batch", n_batch, 32)
        params.n_kv_tokens = ranged("n_kv_tokens", n_kv_tokens, 64)
        if kv not in s.KV_TYPES:
            raise ValueError(f"kv: {kv!r} is not one of {', '.join(s.KV_TYPES)}")
        params.kv_type_k = params.kv_type_v = s.KV_TYPES[kv]
        if numerics not in s.NUMERICS:
            raise ValueError(f"numerics: {numerics!r} is not one of {', '.join(s.NUMERICS)}")
        params.numerics = s.NUMERICS[numerics]
        if gpu_layers is not None:
            params.gpu_layers = ranged("gpu_layers", gpu_layers, 32, signed=True)
        if vram is not None:
            params.vram_budget_bytes = ranged("vram", vram, 64)
        if ram is not None:
            params.ram_budget_bytes = ranged("ram", ram, 64)
        pointer = ctypes.c_void_p()
        check(lib.llmo_plan_create(model._handle, ctypes.byref(params), ctypes.byref(pointer)))
        self._pointer = pointer
        self._model = model

    def memory(self, device: int = 0, purpose: str | None = None) -> int:
        """Bytes that a context of this plan allocates on a device, for one purpose or all."""
        return lib.llmo_plan_bytes(self._handle, ranged("device", device, 32), purpose_number(purpose))

    @property
    def notes(self) -> list[str]:
        """Remarks in plain words, e.g. why fewer layers than asked go to the GPU."""
        found: list[str] = []
        while note := lib.llmo_plan_note(self._handle, len(found)):
            found.append(text(note))
        return found

    @property
    def params(self) -> dict[str, int]:
        """The parameters with all automatic values resolved, by the names of llmo_plan_params."""
        params = new_struct(s.PlanParams)
        check(lib.llmo_plan_get_params(self._handle, ctypes.byref(params)))
        hidden = ("struct_size", "reserved0")
        return {name: getattr(params, name) for name, *_ in s.PlanParams._fields_ if name not in hidden}


class Model(Handle):
    """An opened GGUF file, shared by any number of contexts and threads.

    threads, or runtime for one shared by several models. mmap maps the file instead of reading it: if it is cut
    meanwhile, the operating system kills the process.
    """

    _destroy = "llmo_model_destroy"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        threads: int | None = None,
        runtime: Runtime | None = None,
        mmap: bool = False,
        pre_tokenizer: str | None = None,
    ) -> None:
        super().__init__()
        if runtime and threads is not None:
            raise ValueError("threads belongs to the runtime when one is given")
        self.runtime = runtime or Runtime(threads)
        params = new_params("llmo_model_params_init")
        params.flags = s.MODEL_MMAP if mmap else 0
        params.pre_tokenizer = to_bytes(pre_tokenizer) if pre_tokenizer is not None else None
        name = os.fsencode(path)
        if b"\0" in name:
            raise ValueError("path: holds a NUL character")
        pointer = ctypes.c_void_p()
        check(lib.llmo_model_open(self.runtime._handle, name, ctypes.byref(params), ctypes.byref(pointer)))
        self._pointer = pointer
        self._info = self._read_info()

    def _read_info(self) -> ModelInfo:
        info = new_struct(s.ModelInfo)
        check(lib.llmo_model_get_info(self._handle, ctypes.byref(info)))
        values = {name: getattr(info, name) for name in ModelInfo.__dataclass_fields__}
        return ModelInfo(**{key: text(v) if isinstance(v, bytes) else v for key, v in values.items()})

    @property
    def info(self) -> ModelInfo:
        """Facts from the header."""
        return self._info

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        return self._info.n_vocab

    def meta(self) -> dict[str, str]:
        """The file's metadata, values as text (arrays shortened to their first 64 elements)."""
        found: dict[str, str] = {}
        for index in range(lib.llmo_model_meta_count(self._handle)):
            key = lib.llmo_model_meta_key(self._handle, index)
            length = ctypes.c_size_t()
            status, room = s.E_BUFFER, 256
            while status == s.E_BUFFER:
                buffer = ctypes.create_string_buffer(room)
                status = lib.llmo_model_meta_text(self._handle, key, buffer, room, ctypes.byref(length))
                room = length.value + 1
            check(status)
            found[text(key)] = text(buffer.raw[: length.value])
        return found

    def special_token(self, role: str) -> int | None:
        """The token of a role ("bos", "eos", "eot", "unk", "pad", "nl"), None if the model has none."""
        if role not in s.SPECIAL:
            raise ValueError(f"role: {role!r} is not one of {', '.join(s.SPECIAL)}")
        token = lib.llmo_model_special_token(self._handle, s.SPECIAL[role])
        return token if token >= 0 else None

    def tokenize(self, prompt: str | bytes, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Text to token ids.

        add_special puts the model's start token in front if the file asks for it. parse_special recognizes the text of
        control tokens; don't set it for text from users, they could forge turns.
        """
        raw = to_bytes(prompt)
        flags = (s.TOKENIZE_ADD_SPECIAL if add_special else 0) | (s.TOKENIZE_PARSE_SPECIAL if parse_special else 0)
        count = ctypes.c_size_t()
        status, room = s.E_BUFFER, len(raw) // 2 + 16
        while status == s.E_BUFFER:
            tokens = (ctypes.c_int32 * room)()
            status = lib.llmo_tokenize(self._handle, raw, len(raw), flags, tokens, room, ctypes.byref(count))
            room = count.value
        check(status)
        return tokens[: count.value]

    def detokenize_bytes(self, tokens: Iterable[int], *, special: bool = False, continuation: bool = False) -> bytes:
        """Token ids to the bytes of their text, which may end inside a UTF-8 character.

        special renders control tokens as their text; continuation keeps the leading space of the first token.
        """
        array, n = token_array(tokens)
        flags = (s.DETOKENIZE_SPECIAL if special else 0) | (s.DETOKENIZE_CONTINUATION if continuation else 0)
        length = ctypes.c_size_t()
        status, room = s.E_BUFFER, n * 8 + 64
        while status == s.E_BUFFER:
            buffer = ctypes.create_string_buffer(room)
            status = lib.llmo_detokenize(self._handle, array, n, flags, buffer, room, ctypes.byref(length))
            room = length.value
        check(status)
        return buffer.raw[: length.value]

    def detokenize(self, tokens: Iterable[int], *, special: bool = False, continuation: bool = False) -> str:
        """detokenize_bytes() as text; bytes that are not UTF-8 become U+FFFD."""
        return text(self.detokenize_bytes(tokens, special=special, continuation=continuation))

    def plan(self, **options: Any) -> Plan:
        """Where the model would run and the bytes that takes. Options:

        n_ctx: tokens per sequence, 0: what the model was trained for, at most 4096. n_sequences: conversations at the
        same time. n_batch: most tokens in one pass. n_kv_tokens: room of the KV cache. kv: "f16" or "f32". gpu_layers:
        None: as many as help and fit. vram, ram: budgets in bytes, None: what is free, no limit.
        """
        return Plan(self, **options)

    def context(
        self,
        plan: Plan | None = None,
        *,
        progress: Callable[[int, int], object] | None = None,
        **options: Any,
    ) -> Context:
        """Loads the weights and makes the buffers: from a plan, or from the options of Model.plan().

        progress is called with (done_bytes, total_bytes) while weights are read; an exception in it stops the load.
        """
        from ._context import Context

        if plan is not None and options:
            raise TypeError("give a plan or its options, not both")
        if plan is not None:
            return Context(self, plan, progress)
        with self.plan(**options) as own:
            return Context(self, own, progress)


__all__ = ["Device", "Error", "Model", "ModelInfo", "Plan", "Runtime"]
