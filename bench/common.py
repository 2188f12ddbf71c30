"""What every part of the benchmark shares: the settings, element counts as text, errors."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "cpu.json"

P = 0.1  # the drop probability, where a contender has none of its own
KI, MI = 1 << 10, 1 << 20
HALF = ("float16", "bfloat16")
DTYPES = ("float32", "float64", *HALF)

Array = npt.NDArray[Any]


class BenchError(Exception):
    """An error whose message is all that the user needs."""


def size_label(elements: int) -> str:
    """Write an element count as people say it: 65536 is ``64 Ki``, 1000 stays ``1000``."""
    for unit, name in ((MI, "Mi"), (KI, "Ki")):
        if elements >= unit and elements % unit == 0:
            return f"{elements // unit} {name}"
    return str(elements)


def parse_size(text: str) -> int:
    """Read an element count: ``64Ki``, ``64 Ki``, ``16Mi`` or ``1000``."""
    match = re.fullmatch(r"\s*(\d+)\s*(Ki|Mi)?\s*", text, re.IGNORECASE)
    unit = {None: 1, "ki": KI, "mi": MI}
    value = int(match[1]) * unit[match[2] and match[2].lower()] if match else 0
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of elements; write 1000, 64Ki or 16Mi"
        )
    return value


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read element counts separated by commas, in rising order and without repeats."""
    return tuple(sorted({parse_size(part) for part in text.split(",")}))


def identity(name: str, dtype: str, variant: str) -> str:
    """Name a contender, with dtype and variant where they are not the usual ones."""
    return "/".join(filter(None, (name, "" if dtype == "float32" else dtype, variant)))


def parse_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_seconds(text: str) -> float:
    """Read a time budget: a positive, finite number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def dtype_of(name: str) -> np.dtype[Any]:
    """Return a dtype by name; bfloat16 is that of ml_dtypes."""
    chosen: Any = importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name
    dtype: np.dtype[Any] = np.dtype(chosen)
    return dtype


_PAGE, _BEHIND = 4096, 16  # bytes


def placed(x: Array, order: Literal["C", "F"] = "C") -> Array:
    """Return a copy where malloc lays large arrays: 16 bytes behind the begin of a page.

    Where NumPy's arrays lie is chance, once their memory has been another's, and decides a fifth
    of what is compared: 64 Ki float32 take 21.0 us where the output begins with a cache line, 25.5
    elsewhere, and float16 24 to 25 in any place (Cascade Lake).
    """
    memory = np.empty(x.nbytes + 2 * _PAGE, np.uint8)
    begin = (_BEHIND - memory.ctypes.data) % _PAGE
    copy: Array = memory[begin : begin + x.nbytes].view(x.dtype).reshape(x.shape, order=order)
    copy[...] = x
    return copy


def fresh_input(elements: int, dtype: str = "float32") -> Array:
    """Draw normals without zeros, so that a zero in an output means a dropped element."""
    x: Array = np.random.default_rng().standard_normal(elements, dtype=np.float32)
    x = x.astype(dtype_of(dtype), copy=False)
    x[x == 0] = 1
    return placed(x)


def fresh_output(x: Array) -> Array:
    """Return an array like x to write to; its pages are there: faults are not what is timed."""
    return placed(np.ones_like(x), "C" if x.flags.c_contiguous else "F")


def figure(value: float) -> str:
    """Three significant digits for people, two if it is small, with thousands separated."""
    if 0 < value < 0.1:
        return f"{value:.2g}"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def listing(items: Sequence[str]) -> str:
    """Join words as a sentence does: ``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
