"""A process that compiles CUDA kernels into CuPy's cache, for any GPU, and uses none.

`compile_ahead` runs several, as ``python -m fastdrop_kernels.cuda.compile_worker``. Each line of
stdin is a request in JSON, each line of stdout its answer: ``null``, a list, or an error's text.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from . import modules


def architectures() -> list[str]:
    """Return what CuPy compiles for on the GPUs here, such as "90", each once.

    That is their compute capability, or the newest that NVRTC knows.
    """
    import cupy
    from cupy.cuda import compiler

    capabilities: dict[str, int] = {}  # and a device that has it
    for number in range(cupy.cuda.runtime.getDeviceCount()):
        capabilities.setdefault(cupy.cuda.Device(number).compute_capability, number)
    if len(capabilities) == 1:
        return [compiler._get_arch()]  # of the current device, without a context on any
    found = set()
    for number in capabilities.values():
        with cupy.cuda.Device(number):
            found.add(compiler._get_arch())
    return sorted(found)


@functools.cache
def _cupys_compiler() -> Callable[..., Any]:
    """Return what `cupy.RawModule` compiles by, changed in this process to need no GPU."""
    from cupy._core import core
    from cupy.cuda import compiler, function

    class Unloaded(function.Module):  # type: ignore[misc]  # of any class where CuPy is missing
        """A module that stays on disk."""

        def load(self, cubin: bytes) -> None:
            """Do nothing: a GPU would be needed, and its memory taken."""

    compiler.function = SimpleNamespace(Module=Unloaded, LinkState=function.LinkState)
    # CuPy remembers its result for each device, and therefore asks which is the current one.
    compiler._get_arch_for_options_for_nvrtc = compiler._get_arch_for_options_for_nvrtc.__wrapped__
    return core.compile_with_cache  # type: ignore[no-any-return]


def compile_kernel(
    module: list[Any], kernel: str, architecture: str, settings: dict[str, int]
) -> None:
    """Compile a kernel unless CuPy's cache has it; `module` are the fields of a `Module`."""
    name, functor, schedules, divisor, definition, others = module
    pairs = tuple((other, text) for other, text in others)
    made = modules.Module(name, functor, tuple(schedules), divisor, definition, pairs)
    code = modules.source(made, kernel, **settings)
    compile_with_cache = _cupys_compiler()
    compile_with_cache(
        code, modules.OPTIONS, arch=architecture, prepend_cupy_headers=False, backend="nvrtc"
    )


def main() -> None:
    """Answer requests until stdin ends, which it does when the parent process is gone."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever libraries print is no answer
    for line in sys.stdin:
        request: list[Any] = json.loads(line)
        answer: list[str] | str | None = None
        try:
            if request:
                compile_kernel(*request)
            else:
                answer = architectures()
        except Exception as error:
            answer = f"{type(error).__name__}: {str(error).strip()}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
