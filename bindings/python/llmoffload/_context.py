"""Context, Sequence and Generation: what belongs to one thread at a time."""

from __future__ import annotations

import ctypes
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, Literal, overload

from . import _structs as s
from ._core import Error, Handle, check, lib, new_params, new_struct, ranged, text, to_bytes, token_array
from ._model import Model, Plan, purpose_number

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]

# Keyword arguments for sampling: the fields of llmo_sampling_params that hold one number.
SAMPLING_NAMES = frozenset(
    name
    for name, kind, *_ in s.SamplingParams._fields_
    if kind in (s.u32, s.i32, s.u64, s.f32) and not name.startswith(("struct_size", "reserved", "n_"))
)
_INTEGERS = {s.u32: (32, False), s.i32: (32, True), s.u64: (64, False)}

DEFAULT_BUDGET_US = 100_000  # a step returns to Python so often, which lets Ctrl-C through


@dataclass(frozen=True)
class GenerationInfo:
    """How a generation stands; `stop` says why it ended: "end", "length", "context", "string", "token", "cancel"."""

    done: bool
    stop: str
    n_prompt: int
    n_prompt_done: int
    n_generated: int
    prompt_us: int
    decode_us: int


class _Child(Handle):
    """What a context owns: its handle is gone once the context is."""

    context: Context

    def close(self) -> None:
        if self.context.closed:
            self._pointer = None
        super().close()


class Context(Handle):
    """Buffers and KV cache of a model, made by Model.context(). One thread at a time may use it and what it makes."""

    _destroy = "llmo_context_destroy"

    def __init__(self, model: Model, plan: Plan | None, progress: Callable[[int, int], object] | None = None) -> None:
        super().__init__()
        self.model = model
        self._children: weakref.WeakSet[_Child] = weakref.WeakSet()
        params = new_params("llmo_context_params_init")
        failure: list[BaseException] = []

        def report(user: int | None, done: int, total: int) -> int:
            try:
                assert progress is not None
                progress(done, total)
            except BaseException as error:  # it must not cross the library: kept, and raised below
                failure.append(error)
                return 1
            return 0

        callback = s.PROGRESS_FUNCTION(report)
        if progress:
            params.progress = callback
        pointer = ctypes.c_void_p()
        handle = plan._handle if plan else None
        status = lib.llmo_context_create(model._handle, handle, ctypes.byref(params), ctypes.byref(pointer))
        if failure:
            if pointer:
                lib.llmo_context_destroy(pointer)
            raise failure[0]
        check(status)
        self._pointer = pointer

    def close(self) -> None:
        """Frees the context; its sequences and generations are closed with it."""
        for kind in (Generation, Sequence):
            for child in list(self._children):
                if isinstance(child, kind):
                    child.close()
        super().close()

    def sequence(self) -> Sequence:
        """A new, empty sequence. There can be n_sequences (an option of Model.context()) at the same time."""
        pointer = ctypes.c_void_p()
        check(lib.llmo_sequence_create(self._handle, ctypes.byref(pointer)))
        return Sequence(self, pointer)

    @overload
    def generate(self, prompt: str | bytes | Iterable[int], *, stream: Literal[False] = ..., **options: Any) -> str: ...

    @overload
    def generate(self, prompt: str | bytes | Iterable[int], *, stream: Literal[True], **options: Any) -> Generation: ...

    def generate(self, prompt: str | bytes | Iterable[int], *, stream: bool = False, **options: Any) -> str | Generation:
        """Continues a prompt on a sequence of its own; options as in Sequence.generate()."""
        sequence = self.sequence()
        try:
            generation = sequence.start(prompt, **options)
        except BaseException:
            sequence.close()
            raise
        generation._owned = sequence  # ends with the generation
        if stream:
            return generation
        with generation:
            return generation.run()

    def step(self, budget_us: int | None = None) -> int:
        """Advances all running generations for about so many microseconds (None: one whole pass); returns how many
        still have work. Needed only by hosts that run several generations at once."""
        budget = s.UNLIMITED if budget_us is None else ranged("budget_us", budget_us, 64)
        info = new_struct(s.StepInfo)
        check(lib.llmo_context_step(self._handle, budget, ctypes.byref(info)))
        return info.n_running

    def cancel(self) -> None:
        """Stops the call that is running on the context (or the next one) with E_CANCELLED. From any thread."""
        check(lib.llmo_context_cancel(self._handle))

    def memory(self, device: int = 0, purpose: str | None = None) -> int:
        """Bytes that the context holds on a device, for one purpose or all; weights are included."""
        return lib.llmo_context_bytes(self._handle, ranged("device", device, 32), purpose_number(purpose))

    def stats(self) -> dict[str, int]:
        """Counters, by the names of llmo_context_stats."""
        stats = new_struct(s.ContextStats)
        check(lib.llmo_context_get_stats(self._handle, ctypes.byref(stats)))
        hidden = ("struct_size", "reserved0")
        return {name: getattr(stats, name) for name, *_ in s.ContextStats._fields_ if name not in hidden}


class Sequence(_Child):
    """One conversation: its tokens and their KV cache. Made by Context.sequence() or fork()."""

    _destroy = "llmo_sequence_destroy"

    def __init__(self, context: Context, pointer: ctypes.c_void_p) -> None:
        super().__init__()
        self.context = context
        self._pointer = pointer
        context._children.add(self)

    def __len__(self) -> int:
        return lib.llmo_sequence_length(self._handle)

    def __bool__(self) -> bool:
        return True  # an empty sequence is a sequence

    @property
    def tokens(self) -> list[int]:
        """The evaluated tokens."""
        room = len(self)
        tokens = (ctypes.c_int32 * (room + 1))()
        count = ctypes.c_size_t()
        check(lib.llmo_sequence_get_tokens(self._handle, 0, tokens, room, ctypes.byref(count)))
        return tokens[: count.value]

    def fork(self, n_tokens: int | None = None) -> Sequence:
        """A new sequence that shares the first n_tokens tokens (None: all) and their KV cache."""
        pointer = ctypes.c_void_p()
        wanted = s.UNLIMITED >> (64 - 8 * ctypes.sizeof(ctypes.c_size_t))
        if n_tokens is not None:
            wanted = ranged("n_tokens", n_tokens, 8 * ctypes.sizeof(ctypes.c_size_t))
        check(lib.llmo_sequence_fork(self._handle, wanted, ctypes.byref(pointer)))
        return Sequence(self.context, pointer)

    def truncate(self, n_tokens: int) -> None:
        """Forgets all but the first n_tokens tokens."""
        check(lib.llmo_sequence_truncate(self._handle, ranged("n_tokens", n_tokens, 8 * ctypes.sizeof(ctypes.c_size_t))))

    def eval(self, tokens: Iterable[int], n_logits: int = 1) -> Any:
        """Appends tokens, evaluates them, and returns the logits after the last n_logits of them.

        Row i has n_vocab floats: result[i][token]. A numpy array (n_logits, n_vocab) where numpy is installed, else a
        list of array('f').
        """
        items, n = token_array(tokens)
        if not 0 <= n_logits <= n:
            raise ValueError(f"n_logits: {n_logits} is out of range (0..{n})")
        n_vocab = self.context.model.n_vocab
        rows = (ctypes.c_float * (n_logits * n_vocab))()
        check(lib.llmo_eval(self._handle, items, n, n_logits, rows if n_logits else None, n_logits * n_vocab))
        if numpy is not None:
            return numpy.frombuffer(rows, dtype=numpy.float32).reshape(n_logits, n_vocab)
        flat = array("f")
        flat.frombytes(bytes(rows))
        return [flat[i * n_vocab : (i + 1) * n_vocab] for i in range(n_logits)]

    def start(
        self,
        prompt: str | bytes | Iterable[int],
        *,
        max_tokens: int = 128,
        stop: str | SequenceOf[str] = (),
        stop_tokens: Iterable[int] = (),
        ignore_end: bool = False,
        render_special: bool = False,
        parse_special: bool = False,
        logit_bias: Mapping[int, float] | None = None,
        dry_breakers: SequenceOf[str] | None = None,
        budget_us: int | None = DEFAULT_BUDGET_US,
        **sampling: float,
    ) -> Generation:
        """Queues a prompt and a reply; nothing is computed before the Generation is iterated. Options as in generate()."""
        keep: list[Any] = []  # what the structs point to; the library copies it in the call below
        params = new_params("llmo_generation_params_init")
        params.max_tokens = ranged("max_tokens", max_tokens, 32)
        params.flags = (s.GENERATE_IGNORE_END if ignore_end else 0) | (s.GENERATE_SPECIAL if render_special else 0)
        params.tokenize_flags |= s.TOKENIZE_PARSE_SPECIAL if parse_special else 0
        params.stops, params.n_stops = _strings("stop", [stop] if isinstance(stop, str) else stop)
        stop_array, params.n_stop_tokens = token_array(stop_tokens)
        params.stop_tokens = ctypes.cast(stop_array, ctypes.POINTER(ctypes.c_int32))
        own = _sampling(sampling, logit_bias, dry_breakers, keep)
        params.sampling = ctypes.pointer(own)
        pointer = ctypes.c_void_p()
        if isinstance(prompt, (str, bytes)):
            raw = to_bytes(prompt)
            status = lib.llmo_generation_start(
                self._handle, raw, len(raw), ctypes.byref(params), ctypes.byref(pointer)
            )
        else:
            tokens, n = token_array(prompt)
            status = lib.llmo_generation_start_tokens(
                self._handle, tokens, n, ctypes.byref(params), ctypes.byref(pointer)
            )
        check(status)
        return Generation(self.context, pointer, budget_us)

    @overload
    def generate(self, prompt: str | bytes | Iterable[int], *, stream: Literal[False] = ..., **options: Any) -> str: ...

    @overload
    def generate(self, prompt: str | bytes | Iterable[int], *, stream: Literal[True], **options: Any) -> Generation: ...

    def generate(self, prompt: str | bytes | Iterable[int], *, stream: bool = False, **options: Any) -> str | Generation:
        """Appends a prompt (text, or token ids) and a reply to it; returns the reply's text.

        stream=True returns a Generation instead: an iterator of pieces of text as they come. Options: max_tokens (0:
        until the context is full), stop (a string or several), stop_tokens, ignore_end (go on after end tokens),
        render_special, parse_special (recognize control tokens in the prompt: not for text from users), logit_bias
        {token: value}, dry_breakers, budget_us (of each step, None: whole passes), and the fields of
        llmo_sampling_params: temperature (0: greedy), seed, top_k, top_p, min_p, typical_p, min_keep, penalty_last,
        penalty_repeat, penalty_presence, penalty_frequency, dry_multiplier, dry_base, dry_allowed_length, dry_last,
        xtc_probability, xtc_threshold, mirostat, mirostat_tau, mirostat_eta.
        """
        generation = self.start(prompt, **options)
        if stream:
            return generation
        with generation:
            return generation.run()


def _strings(name: str, values: SequenceOf[str]) -> tuple[Any, int]:
    raw = [to_bytes(value) for value in values]
    if any(b"\0" in item for item in raw):
        raise ValueError(f"{name}: a string holds a NUL character")
    # cast() keeps the array alive through the pointer, a field assignment through the struct
    return ctypes.cast((ctypes.c_char_p * len(raw))(*raw), ctypes.POINTER(ctypes.c_char_p)), len(raw)


def _sampling(
    values: Mapping[str, float],
    logit_bias: Mapping[int, float] | None,
    dry_breakers: SequenceOf[str] | None,
    keep: list[Any],
) -> s.SamplingParams:
    params = new_params("llmo_sampling_params_init")
    kinds = {name: kind for name, kind, *_ in s.SamplingParams._fields_}
    for name, value in values.items():
        if name not in SAMPLING_NAMES:
            raise TypeError(f"unknown option {name!r}")
        if kinds[name] in _INTEGERS:
            value = ranged(name, int(value), *_INTEGERS[kinds[name]])
        setattr(params, name, value)
    if dry_breakers is not None:
        params.dry_breakers, params.n_dry_breakers = _strings("dry_breakers", dry_breakers)
    if logit_bias:
        tokens, n = token_array(logit_bias)
        biases = (ctypes.c_float * n)(*logit_bias.values())
        keep += [tokens, biases]
        params.bias_tokens = ctypes.cast(tokens, ctypes.POINTER(ctypes.c_int32))
        params.bias_values = ctypes.cast(biases, ctypes.POINTER(ctypes.c_float))
        params.n_bias = n
    return params


class Generation(_Child):
    """A running reply: an iterator of pieces of its text. Closing it, or leaving a with block, ends it."""

    _destroy = "llmo_generation_destroy"

    def __init__(self, context: Context, pointer: ctypes.c_void_p, budget_us: int | None) -> None:
        super().__init__()
        self.context = context
        self._pointer = pointer
        self._budget_us = budget_us
        self._owned: Sequence | None = None
        self._buffer = ctypes.create_string_buffer(4096)
        context._children.add(self)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            piece = self.read()
            if piece:
                return piece
            if self.info().done:
                raise StopIteration
            try:
                self.context.step(self._budget_us)
            except Error as error:
                if error.status == s.E_CANCELLED:
                    self.cancel()  # Context.cancel(): end, with what there is
                raise

    def read(self) -> str:
        """Text that was generated and not read yet, without computing more."""
        count = ctypes.c_size_t()
        check(lib.llmo_generation_read(self._handle, self._buffer, len(self._buffer), ctypes.byref(count)))
        return text(self._buffer.raw[: count.value])

    def run(self) -> str:
        """Runs to the end and returns the text not read yet."""
        return "".join(self)

    def info(self) -> GenerationInfo:
        """How it stands. Raises Error if the generation failed."""
        info = new_struct(s.GenerationInfo)
        check(lib.llmo_generation_get_info(self._handle, ctypes.byref(info)))
        if info.state == s.GENERATION_FAILED:
            message = lib.llmo_context_error(self.context._handle).decode(errors="replace")
            raise Error(info.status, message or lib.llmo_status_text(info.status).decode())
        stop = s.STOP_NAMES[info.stop] if 0 <= info.stop < len(s.STOP_NAMES) else "unknown"
        return GenerationInfo(
            done=info.state == s.GENERATION_DONE,
            stop=stop,
            n_prompt=info.n_prompt,
            n_prompt_done=info.n_prompt_done,
            n_generated=info.n_generated,
            prompt_us=info.prompt_us,
            decode_us=info.decode_us,
        )

    @property
    def tokens(self) -> list[int]:
        """The tokens generated so far, a final end token included."""
        room = self.info().n_generated
        tokens = (ctypes.c_int32 * (room + 1))()
        count = ctypes.c_size_t()
        check(lib.llmo_generation_get_tokens(self._handle, 0, tokens, room, ctypes.byref(count)))
        return tokens[: count.value]

    def cancel(self) -> None:
        """Ends the generation; what was generated stays in the sequence. From any thread."""
        check(lib.llmo_generation_cancel(self._handle))

    def close(self) -> None:
        """Ends it if it runs and frees it, with the sequence that Context.generate() made for it."""
        super().close()
        owned, self._owned = self._owned, None
        if owned:
            owned.close()


__all__ = ["Context", "Generation", "GenerationInfo", "Sequence"]
