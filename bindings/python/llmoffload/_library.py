"""Finds libllmoffload, checks that it is the one this package was written for, and declares its functions.

Looked for in this order: the file that LLMOFFLOAD_LIBRARY names, beside this package, the build folder of a source
tree that holds this package, the system's loader. A library of another ABI, or whose structs have other sizes, raises
ImportError: calling it would corrupt memory.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from . import _structs as s

_SONAME = f"libllmoffload.so.{s.ABI_MAJOR}"


def _candidates() -> list[str]:
    chosen = os.environ.get("LLMOFFLOAD_LIBRARY")
    if chosen:
        return [chosen]  # and nothing else: falling back would hide a wrong path
    here = Path(__file__).resolve().parent
    folders = [here, here.parents[2] / "build"] if len(here.parents) > 2 else [here]
    files = [str(folder / name) for folder in folders for name in (_SONAME, "libllmoffload.so")]
    return [file for file in files if os.path.exists(file)] + [_SONAME, "libllmoffload.so"]


def _open() -> tuple[ctypes.CDLL, str]:
    failures: list[str] = []
    for name in _candidates():
        try:
            return ctypes.CDLL(name), name
        except OSError as error:
            failures.append(str(error))
    raise ImportError(
        "libllmoffload was not found; set LLMOFFLOAD_LIBRARY to the file. Tried: " + "; ".join(failures)
    )


def _declare(library: ctypes.CDLL, name: str, path: str) -> None:
    try:
        function = getattr(library, name)
    except AttributeError:
        raise ImportError(f"{path} has no {name}: it is not libllmoffload {_text(s.VERSION)} or a later one") from None
    function.restype, function.argtypes = s.SIGNATURES[name]


def _text(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _check(library: ctypes.CDLL, path: str) -> None:
    for name in ("llmo_version", "llmo_version_number", "llmo_abi_version"):
        _declare(library, name, path)
    version = library.llmo_version().decode()
    abi = library.llmo_abi_version()
    number = library.llmo_version_number()
    wanted = s.VERSION[0] << 16 | s.VERSION[1] << 8 | s.VERSION[2]
    if abi != s.ABI_MAJOR or number < wanted:
        raise ImportError(
            f"{path} is libllmoffload {version} (ABI {abi}); this package needs {_text(s.VERSION)} or later "
            f"(ABI {s.ABI_MAJOR})"
        )
    for name in s.SIGNATURES:
        _declare(library, name, path)
    for name, struct in s.INIT_FUNCTIONS.items():
        # room for a library whose struct is larger than ours: it fills in its own size
        room = (ctypes.c_uint8 * (ctypes.sizeof(struct) + 4096))()
        params = ctypes.cast(room, ctypes.POINTER(struct))
        getattr(library, name)(params)
        if params.contents.struct_size != ctypes.sizeof(struct):
            raise ImportError(
                f"{struct.__name__} has {params.contents.struct_size} bytes in {path} (libllmoffload {version}) and "
                f"{ctypes.sizeof(struct)} bytes in this package ({_text(s.VERSION)})"
            )


def load() -> tuple[ctypes.CDLL, str]:
    """The checked library and where it was found."""
    library, path = _open()
    _check(library, path)
    return library, path
