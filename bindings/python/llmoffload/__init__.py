"""Run large GGUF language models, split between GPU and CPU: the Python binding of libllmoffload.

    import llmoffload as ll

    with ll.Model("model.gguf") as model, model.context(n_ctx=2048) as context:
        print(context.generate("Once upon a time", max_tokens=50, temperature=0))
        for piece in context.generate("Once upon a time", stream=True):
            print(piece, end="", flush=True)

A failed call raises Error. Models and runtimes may be shared by threads; a context, its sequences and its generations
belong to one thread at a time.
"""

from __future__ import annotations

from ._context import Context, Generation, GenerationInfo, Sequence
from ._core import Error, lib as _lib, library_path
from ._model import Device, Model, ModelInfo, Plan, Runtime

__version__ = "0.1.0"


def library_version() -> str:
    """The version of the library in use, which may be later than this package's."""
    return _lib.llmo_version().decode()


__all__ = [
    "Context",
    "Device",
    "Error",
    "Generation",
    "GenerationInfo",
    "Model",
    "ModelInfo",
    "Plan",
    "Runtime",
    "Sequence",
    "library_path",
    "library_version",
]
