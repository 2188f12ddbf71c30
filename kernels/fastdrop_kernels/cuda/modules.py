"""Modules: the CUDA C++ source of an operation's kernels, compiled together.

A module is the headers and one macro call for each schedule. Its kernels are named after the
operation, for profilers. The launcher compiles `source`; `operations` describes the modules.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import NamedTuple

from .. import normal_coefficients as quantile

SCHEDULES = ("CONTIGUOUS", "STRIDED", "RUNS", "TRANSPOSED", "ANY")  # see groups.cuh
CONTIGUOUS, STRIDED, RUNS, TRANSPOSED, ANY = SCHEDULES

THREADS = 256  # of a CUDA block
IN_FLIGHT = 4  # groups that a thread loads before it draws, in the schedule CONTIGUOUS
AXES, MAX_AXES = 8, 32  # axes that a kernel supports: of all schedules but ANY, and of ANY

# No fused multiply-add: products are rounded before the addition, as on the CPU.
OPTIONS = ("-std=c++17", "--fmad=false")

_HEADERS = tuple(
    f"{name}.cuh"
    for name in (
        *("contract", "decisions", "storage", "normal", "activations"),
        *("operations", "epilogue", "groups", "kernels", "softmax"),
    )
)


class Module(NamedTuple):
    """Kernels that are compiled together."""

    name: str
    functor: str  # empty for the module that only advances keys
    schedules: tuple[str, ...]
    divisor: int = 1  # a thread has IN_FLIGHT / divisor groups in flight, rounded up
    definition: str = ""  # C++ text in front of the kernels


ADVANCE = Module("advance", "", ())


def kernel_name(module: Module, schedule: str, index32: bool) -> str:
    """Return the name of a kernel with 32-bit or 64-bit indices."""
    return f"{module.name}_{schedule.lower()}_{32 if index32 else 64}"


def _number(value: float) -> str:
    return f"{value!r}f"


def _numbers(values: tuple[float, ...]) -> str:
    return "{" + ", ".join(map(_number, values)) + "}"


@functools.cache
def header() -> str:
    """Return the source that all modules begin with: settings and headers."""
    folder = Path(__file__).parent
    settings: dict[str, int | str] = {
        "THREADS": THREADS,
        "IN_FLIGHT": IN_FLIGHT,
        "AXES": AXES,
        "MAX_AXES": MAX_AXES,
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
    """Return the source of a module after the header."""
    if module == ADVANCE:
        return "FASTDROP_ADVANCE(advance)\n"
    rest = f"(FASTDROP_IN_FLIGHT + {module.divisor - 1}) / {module.divisor}, {module.functor}"
    entries = (
        f"FASTDROP_SCHEDULE({module.name}_{schedule.lower()}, {schedule}, {rest})\n"
        for schedule in module.schedules
    )
    return module.definition + "".join(entries)


@functools.cache
def source(module: Module) -> str:
    """Return the whole source of a module."""
    return header() + body(module)
