"""Modules: the CUDA C++ text of an operation's kernels, compiled as one.

A module is the headers and a macro for each form. Its kernels are named after the operation,
so that a profiler shows what runs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from .. import normal_coefficients as quantile

FLAT, LINE, RUNS, PANEL, ANY = FORMS = ("FLAT", "LINE", "RUNS", "PANEL", "ANY")  # see kernels.cuh

THREADS = 256  # of a CUDA block
IN_FLIGHT = 4  # groups that a thread loads before it draws, in the form FLAT
AXES, MOST_AXES = 8, 32  # that a kernel can walk over: any but ANY, and ANY

# Products are rounded before anything is added to them, as on the CPU.
OPTIONS = ("-std=c++17", "--fmad=false")

_HEADERS = tuple(
    f"{name}.cuh"
    for name in (
        *("contract", "storage", "normal", "activations"),
        *("operations", "epilogue", "kernels", "softmax"),
    )
)


class Module(NamedTuple):
    """What is compiled together."""

    name: str
    functor: str  # empty for the module that only advances keys
    forms: tuple[str, ...]
    share: int = 1  # it has IN_FLIGHT / share groups in flight, rounded up
    definition: str = ""  # C++ text in front of the kernels


ADVANCE = Module("advance", "", ())


def kernel_name(module: Module, form: str, narrow: bool) -> str:
    """Return the name of a kernel, which counts in 32 or 64 bits."""
    return f"{module.name}_{form.lower()}_{32 if narrow else 64}"


def _number(value: float) -> str:
    return f"{value!r}f"


def _numbers(values: tuple[float, ...]) -> str:
    return "{" + ", ".join(map(_number, values)) + "}"


@functools.cache
def header() -> str:
    """Return the text that all modules begin with."""
    folder = Path(__file__).parent
    settings: dict[str, int | str] = {
        "THREADS": THREADS,
        "IN_FLIGHT": IN_FLIGHT,
        "AXES": AXES,
        "MOST_AXES": MOST_AXES,
    }
    settings |= {
        "CENTRE": _number(quantile.CENTRE),
        "TAIL_CENTRE": _number(quantile.TAIL_CENTRE),
        "SPLIT": _number(quantile.SPLIT),
        "LOG_2": _number(quantile.LOG_2),
        "CENTRAL": _numbers(quantile.CENTRAL),
        "TAIL": _numbers(quantile.TAIL),
        "LOGARITHM": _numbers(quantile.LOGARITHM),
    }
    lines = (f"#define FASTDROP_{name} {value}\n" for name, value in settings.items())
    texts = ((folder / name).read_text(encoding="utf-8") for name in _HEADERS)
    return "".join((*lines, *texts))


def body(module: Module) -> str:
    """Return the text of a module behind the header."""
    if module == ADVANCE:
        return "FASTDROP_ADVANCE(advance)\n"
    what = f"(FASTDROP_IN_FLIGHT + {module.share - 1}) / {module.share}, {module.functor}"
    entries = (
        f"FASTDROP_FORM({module.name}_{form.lower()}, {form}, {what})\n" for form in module.forms
    )
    return module.definition + "".join(entries)


@functools.cache
def source(module: Module) -> str:
    """Return the whole text of a module."""
    return header() + body(module)
