"""Validation before timing: a contender that computes something else must not be ranked."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .common import HALF, MI, Array, BenchError, dtype_of, size_label
from .contender import Contender

# A correct contender fails one check in 5e8; a rate of 0.12 for 0.1 fails from 64 Ki elements up.
SIGMAS = 6.0
# 16-bit thresholds round p by up to 2**-17.
RATE_ROUNDING = 2.0**-17


class Checked(NamedTuple):
    """What has to be known of a contender to judge its elements."""

    name: str
    role: str
    p: float


class Wrong(BenchError):
    """A contender's output is not dropout of its input."""


def check(contender: Contender, x: Array, out: Array) -> None:
    """Run a contender once and check every element of its output.

    Parameters
    ----------
    contender : Contender
        Its module must be importable.
    x, out : ndarray
        Input without zeros, and the buffer for contenders that write in place. `out` is poisoned
        first, so that an element nobody wrote is found.

    Raises
    ------
    Wrong
        Naming the contender, the size and what is wrong.
    """
    out.fill(np.nan)
    contender.set_threads()
    result = contender.setup(x, contender.p, out)()
    where = f"{contender.label}{_aside(contender)}, {size_label(x.size)} elements"
    if contender.kind == "made":
        return
    if contender.kind == "step":
        _check_step(contender, x, result, where)
        return
    given = np.asarray(result)
    if contender.kind != "exact":
        check_elements(contender, x, given, where)
    _check_exact(contender, x, given, where)


def _aside(contender: Contender) -> str:
    usual = contender.dtype == "float32" and not contender.variant
    return "" if usual else f" ({contender.id.partition('/')[2]})"


def _check_step(contender: Contender, x: Array, result: Any, where: str) -> None:
    y, dx = (np.asarray(part) for part in result)
    for name, given, part in (("output", x, y), ("gradient", -x, dx)):
        check_elements(contender, given, part, f"{where}, {name}")
        _check_exact(contender, given, part, f"{where}, {name}")
    if contender.name != "multiply" and not np.array_equal(y == 0, dx == 0):
        raise Wrong(f"{where}: forward and backward drop different elements")


def check_elements(contender: Contender | Checked, x: Array, result: Array, where: str) -> None:
    """Check that elements are dropped or scaled, and how many are dropped."""
    p = contender.p
    if result.shape != x.shape:
        raise Wrong(f"{where}: shape {result.shape} is not the input's {x.shape}")
    relative, smallest = _rounding(x.dtype.name)
    compute = np.dtype(np.float64 if x.dtype.itemsize > 4 else np.float32)
    s = compute.type(1 / (1 - p))
    dropped = wrong = 0
    first = ""
    # In pieces: whole-array temporaries would need several times the memory of the contenders.
    for start in range(0, x.size, MI):
        piece = slice(start, start + MI)
        part = result[piece].astype(compute, copy=False)
        scaled = x[piece].astype(compute, copy=False) * s
        zero = part == 0
        dropped += int(np.count_nonzero(zero))
        # Written so that NaN counts as wrong.
        bad = ~(zero | (np.abs(part - scaled) <= np.abs(scaled) * relative + smallest))
        if bad.any() and not first:
            at = int(np.argmax(bad))
            first = f"first at {start + at}: {part[at]:.8g} instead of {scaled[at]:.8g} or 0"
        wrong += int(np.count_nonzero(bad))
    if wrong:
        raise Wrong(f"{where}: {wrong} of {x.size} elements are neither 0 nor x / (1 - p); {first}")

    rate = 0.0 if contender.role == "roof" or contender.name == "multiply" else p
    allowed = SIGMAS * math.sqrt(rate * (1 - rate) / x.size) + (RATE_ROUNDING if rate else 0.0)
    if abs(dropped / x.size - rate) > allowed:
        raise Wrong(f"{where}: drops {dropped / x.size:.6g} of the elements, not {rate:g}")


def _rounding(dtype: str) -> tuple[Any, Any]:
    """Return what peers may be off by: relative, absolute.

    They round scale and product once each, to half an eps, and so does the check. Only the half
    types have subnormals that normals of variance 1 reach.
    """
    if dtype == "bfloat16":
        return np.float32(4 * 2.0**-7), np.float32(0)
    about = np.finfo(dtype_of(dtype))
    smallest = about.smallest_subnormal if dtype in HALF else about.dtype.type(0)
    kind = np.float64 if dtype == "float64" else np.float32
    return kind(4 * about.eps), kind(smallest)


def _check_exact(contender: Contender, x: Array, result: Array, where: str) -> None:
    if contender.exact is None:
        return
    for name, expected in contender.exact(x, contender.p):
        # As bytes: also the sign of zero and the bits of NaN have to agree.
        bits = np.dtype(f"u{expected.dtype.itemsize}")
        same = result.dtype == expected.dtype and result.shape == expected.shape
        if not same or not np.array_equal(result.view(bits), expected.view(bits)):
            raise Wrong(f"{where}: differs from {name}")
