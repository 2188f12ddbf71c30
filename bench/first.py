"""What a fresh process does first, timed in it: ``python -m bench start`` runs this many times.

Nothing but what Python has loaded anyway is imported before the clock runs; each module that this
one imported would be missing from what fastdrop's import takes.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False  # typing's own is an import
if TYPE_CHECKING:
    from typing import Any

P = 0.1
SEED, STREAM = 2026, 1
ROWS = COLUMNS = 256
ELEMENTS = ROWS * COLUMNS
LARGE = 16 << 20  # threads share it
CHECKED = 1 << 20  # of so many elements and a few more, of a larger array, the values are checked


class First:
    """A first call: of what, and how; `place` says where the array lies in the mask."""

    def __init__(
        self,
        dtype: str = "float32",
        shape: tuple[int, ...] = (ROWS, COLUMNS),
        order: str = "C",
        p: float = P,
        *,
        mask: bool = False,  # dropout_mask, which takes no array
        warmup: bool = False,
        with_numpy: bool = False,  # NumPy's import is timed too
        **place: Any,
    ) -> None:
        self.dtype, self.shape, self.order, self.p = dtype, shape, order, p
        self.mask, self.warmup, self.with_numpy, self.place = mask, warmup, with_numpy, place

    def array(self) -> Any:
        """Make an array without zeros, with no more of NumPy than its import brings."""
        import numpy as np

        n = 1
        for length in self.shape:
            n *= length
        x = (np.arange(n, dtype=np.int32) % 251 - 250.5).astype(self.dtype).reshape(self.shape)
        return x if self.order == "C" else np.asfortranarray(x)

    def call(self, fastdrop: Any, x: Any) -> Any:
        """Make the call."""
        key = fastdrop.Key(SEED, STREAM)
        if self.mask:
            return fastdrop.dropout_mask(self.shape, self.p, rng=key, **self.place)
        return fastdrop.dropout(x, self.p, rng=key, **self.place)

    def complaint(self, x: Any, y: Any) -> str:
        """Compare with the reference; returns what is wrong, if anything is."""
        import numpy as np

        from fastdrop_kernels import reference

        from .ours import scaled

        if y is x or y.shape != self.shape:
            return "does not return a new array of the shape"
        step = max(1, y.size // CHECKED) | 1  # odd: every lane and place in a block
        index = reference.mask_index(self.shape, **self.place).reshape(-1)[::step]
        expected = reference.keep_mask(index, self.p, SEED, STREAM)
        if not self.mask:
            product = scaled(x.reshape(-1)[::step], self.p)
            expected = np.where(expected, product, x.dtype.type(0))
        found = y.reshape(-1)[::step]
        if found.dtype != expected.dtype or found.tobytes() != expected.tobytes():
            return "computes wrong values"
        return ""


FIRST = {
    "float32": First(),
    "float64": First("float64"),
    "float16": First("float16"),
    "float32 and NumPy's import": First(with_numpy=True),
    "dropout_mask": First(mask=True),
    "p = 0": First(p=0.0),
    "noise_shape": First(noise_shape=(ROWS, 1)),
    "Fortran order": First(order="F"),
    "shard": First(offset=(64, 32), global_shape=(2 * ROWS, 2 * COLUMNS)),
    "16 Mi on all threads": First(shape=(LARGE,)),
    "float32 and fastdrop.warmup": First(warmup=True),
}
IMPORTS = {"NumPy's import alone": "numpy", "Numba's import alone": "numba"}


def time_first(first: First) -> dict[str, float]:
    """Return seconds from before ``import fastdrop`` to the call's end, and those of the call.

    Raises
    ------
    ValueError
        Where the call's result is not what it has to be.
    """
    clock = time.perf_counter
    x = None if first.with_numpy else first.array()
    start = clock()
    import fastdrop

    if x is None:
        x = first.array()
    if first.warmup:
        fastdrop.warmup(first.dtype, "dropout", progress=False)
    before = clock()
    y = first.call(fastdrop, x)
    end = clock()
    if complaint := first.complaint(x, y):
        raise ValueError(f"fastdrop {complaint}")
    return {"total": end - start, "call": end - before}


def time_import(module: str) -> dict[str, float]:
    """Return seconds of an import alone, NumPy's own aside."""
    if module != "numpy":
        import numpy  # noqa: F401 - what others import of it is not theirs
    start = time.perf_counter()
    __import__(module)
    return {"total": time.perf_counter() - start}


def main(name: str) -> None:
    """Time one, and print it as JSON on the last line."""
    timed = time_import(IMPORTS[name]) if name in IMPORTS else time_first(FIRST[name])
    import json

    print(json.dumps(timed))
