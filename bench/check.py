"""Validation before timing: a contender that computes something else must not be ranked."""

from __future__ import annotations

import math

import numpy as np

from .common import MI, Array, BenchError, size_label
from .contenders import Contender

# A correct contender fails one check in 5e8; a rate of 0.12 for 0.1 fails from 64 Ki elements up.
SIGMAS = 6.0
# 16-bit thresholds round p by up to 2**-17.
RATE_ROUNDING = 2.0**-17
# Peers may round the scale and the product once each, in float32.
RELATIVE = 4 * float(np.finfo(np.float32).eps)


class Wrong(BenchError):
    """A contender's output is not dropout of its input."""


def check(contender: Contender, x: Array, p: float, out: Array) -> None:
    """Run a contender once and check every element of its output.

    Parameters
    ----------
    contender : Contender
        Its module must be importable.
    x, out : ndarray
        Input without zeros, and the buffer for contenders that write in place. `out` is poisoned
        first, so that an element nobody wrote is found.
    p : float
        The drop probability.

    Raises
    ------
    Wrong
        Naming the contender, the size and what is wrong.
    """
    out.fill(np.nan)
    contender.set_threads()
    result = np.asarray(contender.setup(x, p, out)())
    where = f"{contender.label}, {size_label(x.size)} elements"
    if result.shape != x.shape:
        raise Wrong(f"{where}: shape {result.shape} is not the input's {x.shape}")

    dropped = wrong = 0
    first = ""
    # In pieces: whole-array temporaries would need several times the memory of the contenders.
    for start in range(0, x.size, MI):
        part, given = result[start : start + MI], x[start : start + MI].astype(np.float64)
        zero = part == 0
        dropped += int(np.count_nonzero(zero))
        scaled = given / (1 - p)
        # Written so that NaN counts as wrong.
        bad = ~zero & ~(np.abs(part - scaled) <= RELATIVE * np.abs(scaled))
        if bad.any() and not first:
            at = int(np.argmax(bad))
            first = f"first at {start + at}: {part[at]:.8g} instead of {scaled[at]:.8g} or 0"
        wrong += int(np.count_nonzero(bad))
    if wrong:
        raise Wrong(f"{where}: {wrong} of {x.size} elements are neither 0 nor x / (1 - p); {first}")

    rate = p if contender.drops else 0.0
    allowed = SIGMAS * math.sqrt(rate * (1 - rate) / x.size) + (RATE_ROUNDING if rate else 0.0)
    if abs(dropped / x.size - rate) > allowed:
        raise Wrong(f"{where}: drops {dropped / x.size:.6g} of the elements, not {rate:g}")

    for name, expected in contender.exact(x, p) if contender.exact else ():
        # As integers: also the sign of zero and the bits of NaN have to agree.
        bits = np.dtype(f"u{x.dtype.itemsize}")
        if result.dtype != x.dtype or not np.array_equal(result.view(bits), expected.view(bits)):
            raise Wrong(f"{where}: differs from {name}")
