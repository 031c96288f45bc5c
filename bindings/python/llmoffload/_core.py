"""The loaded library, its errors as exceptions, and the base of all objects that own a handle."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from typing import Any, Self

from . import _library
from . import _structs as s

lib, library_path = _library.load()


class Error(Exception):
    """A call of the library failed: `status` is its number, `name` the name of that ("E_IO"), `message` the sentence."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.name = s.STATUS_NAMES.get(status) or lib.llmo_status_name(status).decode().removeprefix("LLMO_")
        self.message = message
        super().__init__(f"{self.name}: {message}")


def check(status: int) -> None:
    """Raises Error with the library's last sentence unless status is OK. Call it on the thread of the failed call."""
    if status == s.OK:
        return
    message = lib.llmo_last_error().decode(errors="replace") or lib.llmo_status_text(status).decode()
    raise Error(status, message)


def new_struct(struct: type[ctypes.Structure]) -> Any:
    """An info struct with its size set, for the library to fill in."""
    return struct(struct_size=ctypes.sizeof(struct))


def new_params(init: str) -> Any:
    """A params struct with the library's defaults."""
    params = s.INIT_FUNCTIONS[init]()
    getattr(lib, init)(ctypes.byref(params))
    return params


def text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def to_bytes(value: str | bytes) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", errors="surrogateescape")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"text must be str or bytes, not {type(value).__name__}")


def token_array(tokens: Iterable[int]) -> tuple[Any, int]:
    """A C array of tokens and its length. Numbers beyond 32 bits raise OverflowError: ctypes would cut them silently."""
    items = list(tokens)
    for item in items:
        if not -(2**31) <= item < 2**31:
            raise OverflowError(f"token {item} does not fit 32 bits")
    return (ctypes.c_int32 * len(items))(*items), len(items)


def ranged(name: str, value: int, bits: int, signed: bool = False) -> int:
    """The value, checked: ctypes cuts integers that are too large for a field silently."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is out of range ({low}..{high})")
    return value


class Handle:
    """Owns one handle of the library; usable as a context manager."""

    _destroy = ""  # name of the function that frees the handle

    def __init__(self) -> None:
        self._pointer: ctypes.c_void_p | None = None

    @property
    def _handle(self) -> ctypes.c_void_p:
        if not self._pointer:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._pointer

    @property
    def closed(self) -> bool:
        """Whether close() was called, on this object or on what it lives in."""
        return not self._pointer

    def close(self) -> None:
        """Frees it now instead of when the last reference goes. Closing twice is fine."""
        pointer, self._pointer = self._pointer, None
        if pointer:
            getattr(lib, self._destroy)(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            if self._pointer:
                self.close()
        except Exception:  # an object whose __init__ failed early, or the interpreter is shutting down
            pass
