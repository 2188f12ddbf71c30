"""Modules: the CUDA C++ source of an operation's kernels.

A module lists the kernels of an operation, one for each schedule and index width, named after it
for profilers. `operations` describes the modules. The launcher compiles `source`: the headers and
one kernel, because a call needs one, and a kernel takes NVRTC 0.1 to 0.8 s.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from importlib import resources
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
        *("contract", "decisions", "storage", "elementary", "normal", "activations"),
        *("operations", "epilogue", "groups", "kernels", "row_sums", "softmax"),
    )
)


class Module(NamedTuple):
    """The kernels of an operation."""

    name: str
    functor: str = ""  # of the kernels below
    schedules: tuple[str, ...] = ()
    divisor: int = 1  # a thread has IN_FLIGHT / divisor groups in flight, rounded up
    definition: str = ""  # C++ text in front of the kernels
    others: tuple[tuple[str, str], ...] = ()  # further kernels: name, C++ text


ADVANCE = Module("advance", others=(("advance", "FASTDROP_ADVANCE(advance)\n"),))


def kernel_name(module: Module, schedule: str, index32: bool) -> str:
    """Return the name of a kernel with 32-bit or 64-bit indices."""
    return f"{module.name}_{schedule.lower()}_{32 if index32 else 64}"


def _number(value: float) -> str:
    return f"{value!r}f"


def _numbers(values: tuple[float, ...]) -> str:
    return "{" + ", ".join(map(_number, values)) + "}"


def source_file(name: str, package: str = "fastdrop_kernels.cuda") -> str:
    """Return the text of a CUDA source of a package, which may be in a zip file."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def header(**changed: int) -> str:
    """Return the source that all kernels begin with: settings and headers.

    Parameters
    ----------
    **changed : int
        Other values of THREADS and IN_FLIGHT, for measurements.
    """
    settings: dict[str, int | str] = {
        "THREADS": THREADS,
        "IN_FLIGHT": IN_FLIGHT,
        "AXES": AXES,
        "MAX_AXES": MAX_AXES,
        "CENTRE": _number(quantile.CENTRE),
        "TAIL_CENTRE": _number(quantile.TAIL_CENTRE),
        "SPLIT": _number(quantile.SPLIT),
        "LOG_2": _number(quantile.LOG_2),
        "CENTRAL": _numbers(quantile.CENTRAL),
        "TAIL": _numbers(quantile.TAIL),
        "LOGARITHM": _numbers(quantile.LOGARITHM),
    }
    settings |= changed
    lines = (f"#define FASTDROP_{name} {value}\n" for name, value in settings.items())
    return "".join((*lines, *(source_file(name) for name in _HEADERS)))


@functools.cache
def kernels(module: Module) -> dict[str, str]:
    """Return the C++ text of each kernel by its name; the most common one is the first."""
    rest = f"(FASTDROP_IN_FLIGHT + {module.divisor - 1}) / {module.divisor}, {module.functor}"
    texts = {
        kernel_name(module, schedule, index == "u32"): f"{schedule}, fastdrop::{index}, {rest}"
        for index in ("u32", "u64")
        for schedule in module.schedules
    }
    made = {name: f"FASTDROP_KERNEL({name}, {text})\n" for name, text in texts.items()}
    return made | dict(module.others)


def body(module: Module, names: Iterable[str] | None = None) -> str:
    """Return the source of kernels of a module after the header; by default of all."""
    texts = kernels(module)
    return module.definition + "".join(texts[name] for name in names or texts)


def source(module: Module, *names: str, **settings: int) -> str:
    """Return the whole source of kernels of a module; without names of all.

    `settings` are as in `header`.
    """
    return header(**settings) + body(module, names)
