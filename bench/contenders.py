"""Who is timed: one definition of each contender, for ``python -m bench`` and for pytest.

To add one, write its setup function and a line in CONTENDERS.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .common import MI, Array, BenchError

Call = Callable[[], Any]
Setup = Callable[[Array, float, Array], Call]
Expected = Iterator[tuple[str, Array]]

# The pure-NumPy reference takes about 0.3 s a Mi; fastdrop's own mask is compared at every size.
REFERENCE_LIMIT = MI


@dataclass(frozen=True)
class Contender:
    """One way to compute dropout, or the roof no dropout can pass.

    Attributes
    ----------
    name : str
        Stable name: in JSON, in test ids, on the command line.
    label : str
        What tables print.
    role : {"roof", "ours", "peer"}
        The roof multiplies by a constant and draws nothing; ratios are to it.
    setup : callable
        ``setup(x, p, out)`` returns a callable without arguments that does one forward call and
        returns the result: `out` itself where the contender can write in place, else a new array.
    needs : str, optional
        Module that must be importable, else the contender is left out with a note.
    threads : {"one", "all"}, optional
        Which thread count to set before timing; None for code that only ever uses one.
    exact : callable, optional
        ``exact(x, p)`` yields (what is compared with, expected output), to be met bit for bit.
    drops, traceable : bool
        Whether it drops elements at all; whether tracemalloc sees its allocations.
    """

    name: str
    label: str
    role: Literal["roof", "ours", "peer"]
    setup: Setup
    needs: str | None = None
    threads: Literal["one", "all"] | None = None
    exact: Callable[[Array, float], Expected] | None = None
    drops: bool = True
    traceable: bool = True

    def set_threads(self) -> None:
        """Set the thread count of the contender's library; called untimed before each batch."""
        if self.needs and self.threads:
            default = default_threads(self.needs)
            module: Any = importlib.import_module(self.needs)
            module.set_num_threads(default if self.threads == "all" else 1)


@functools.cache
def default_threads(module: str) -> int:
    """Thread count that a library chose by itself: read once, before anything sets it."""
    return int(importlib.import_module(module).get_num_threads())


def _multiply(x: Array, p: float, out: Array) -> Call:
    s = x.dtype.type(1 / (1 - p))
    return lambda: np.multiply(x, s, out=out)


def _cs231n(x: Array, p: float, out: Array) -> Call:
    # Exactly as the public loops write it, and so in float64 whatever x is.
    q = 1 - p
    return lambda: x * ((np.random.rand(*x.shape) < q) / q)  # noqa: NPY002 - that is the idiom


def _best_numpy(x: Array, p: float, out: Array) -> Call:
    # The fastest of some twenty formulations tried. SFC64's raw 64-bit words seen as 16-bit
    # integers: 2 times faster to draw than Generator.integers(dtype=uint16). Multiplying by the
    # mask: 2 times faster than putmask, copyto, indexing or where=. Chunks: 15% at 16 Mi.
    raw = np.random.SFC64().random_raw
    s = x.dtype.type(1 / (1 - p))
    threshold = np.uint16(round(p * 65536))
    chunk = 65536
    keep = np.empty(min(chunk, x.size), np.bool_)
    parts = [
        (x[i : i + chunk], out[i : i + chunk], keep[: min(chunk, x.size - i)])
        for i in range(0, x.size, chunk)
    ]

    def call() -> Array:
        for source, target, kept in parts:
            bits = raw((kept.size + 3) // 4).view(np.uint16)[: kept.size]
            np.greater_equal(bits, threshold, out=kept)
            np.multiply(source, s, out=target)
            np.multiply(target, kept, out=target)
        return out

    return call


def _torch(x: Array, p: float, out: Array) -> Call:
    torch: Any = importlib.import_module("torch")
    dropout = torch.nn.functional.dropout
    tensor = torch.from_numpy(x)
    return lambda: dropout(tensor, p, training=True)


def _fastdrop(x: Array, p: float, out: Array) -> Call:
    import fastdrop

    key = fastdrop.Key(2026, 1)
    dropout = fastdrop.dropout
    return lambda: dropout(x, p, rng=key, out=out)


def _fastdrop_new(x: Array, p: float, out: Array) -> Call:
    import fastdrop

    key = fastdrop.Key(2026, 1)
    dropout = fastdrop.dropout
    return lambda: dropout(x, p, rng=key)


def _fastdrop_exact(x: Array, p: float) -> Expected:
    import fastdrop
    from fastdrop_kernels import reference

    key = fastdrop.Key(2026, 1)
    scaled = x * x.dtype.type(1 / (1 - p))
    zero = x.dtype.type(0)
    mask = fastdrop.dropout_mask(x.shape, p, rng=key)
    yield "fastdrop.dropout_mask", np.where(mask, scaled, zero)
    if x.size <= REFERENCE_LIMIT:
        mask = reference.keep_mask(reference.mask_index(x.shape), p, key.seed, key.stream)
        yield "the NumPy reference", np.where(mask, scaled, zero)


def _ours(name: str, label: str, setup: Setup, threads: Literal["one", "all"]) -> Contender:
    return Contender(name, label, "ours", setup, "fastdrop", threads, exact=_fastdrop_exact)


def _torch_row(name: str, label: str, threads: Literal["one", "all"]) -> Contender:
    return Contender(name, label, "peer", _torch, "torch", threads, traceable=False)


ROOF = Contender("multiply", "np.multiply(x, s, out=y)", "roof", _multiply, drops=False)
CONTENDERS = (
    ROOF,
    _ours("fastdrop-1", "fastdrop, 1 thread", _fastdrop, "one"),
    _ours("fastdrop", "fastdrop, all threads", _fastdrop, "all"),
    _ours("fastdrop-new", "fastdrop, all threads, new array", _fastdrop_new, "all"),
    Contender("numpy-best", "best NumPy (SFC64, 16 bits, in place)", "peer", _best_numpy),
    Contender("cs231n", "cs231n: x * ((rand(*x.shape) < q) / q)", "peer", _cs231n),
    _torch_row("torch-1", "torch F.dropout, 1 thread", "one"),
    _torch_row("torch", "torch F.dropout, all threads", "all"),
)


def by_name(names: Iterable[str]) -> tuple[Contender, ...]:
    """Pick contenders by name, in the registry's order, and the roof always."""
    wanted = set(names)
    known = {contender.name for contender in CONTENDERS}
    if unknown := sorted(wanted - known):
        raise BenchError(f"no contender {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return tuple(c for c in CONTENDERS if c.name in wanted or c is ROOF)


def available(contenders: Iterable[Contender]) -> tuple[tuple[Contender, ...], list[str]]:
    """Split off the contenders whose module cannot be imported.

    Returns
    -------
    tuple of Contender
        Those that can run.
    list of str
        A note on each that cannot.
    """
    able, notes = [], []
    for contender in contenders:
        try:
            if contender.needs:
                importlib.import_module(contender.needs)
        except ImportError as error:
            if contender.role == "ours":
                raise BenchError(f"fastdrop cannot be imported: {error}") from error
            notes.append(f"left out, not importable: {contender.label} ({error})")
        else:
            able.append(contender)
    return tuple(able), notes
