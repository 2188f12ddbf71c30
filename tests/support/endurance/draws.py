"""Random arguments of a call, by the number of the case: shapes, layouts, keys, p, places, outputs.

The cases call it. All that is random comes from `Draw.r`, so a seed and a number repeat a case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

import fastdrop as fd
from fastdrop_kernels import threads
from tests.support.oracle import Array, assert_same, data, misaligned, poisoned
from tests.support.overlaps import OVERLAPS, overlapping

T = TypeVar("T")
FLOATS = tuple(np.dtype(d) for d in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))
TINY = (2.0**-32, 1e-12, 2.0**-33, 1.0 - 2.0**-33, 1e-6)
SHARED_FROM = 1 << 12  # elements that threads share, in most cases: far less than by default
LARGE = 3 << 19  # what they share by default too


class Target:
    """An array to write to, and the memory around its elements, which must stay as it is."""

    def __init__(self, array: Array, base: Array | None = None) -> None:
        self.array, self._base = array, base
        self._before = None if base is None else _bytes(base).copy()

    def check(self, expected: Array) -> None:
        """Assert that the array is as expected, and that nothing beside it was written."""
        made = self.array
        assert_same(np.array(made, order="C"), expected)
        if self._base is not None and self._before is not None and made.size:
            start = address(made) - address(self._base)
            view: Array = np.ndarray(made.shape, made.dtype, self._before, start, made.strides)
            view[...] = made
            same = np.array_equal(_bytes(self._base), self._before)
            assert same, "elements beside out were written"


def address(x: Array) -> int:
    """Where the first element of an array is."""
    return int(x.__array_interface__["data"][0])


def _bytes(base: Array) -> Array:
    return base.reshape(-1).view(np.uint8)


class Draw:
    """The random choices of a case."""

    def __init__(self, seed: int, number: int) -> None:
        self.r = np.random.default_rng([seed, number])
        self.notes: list[str] = []  # what was chosen, for a failure's line
        self.elements = 0  # that were compared
        self._threads = self.one_of(("none", "using", "using", "using", "threads", "set"))

    def one_of(self, given: Sequence[T]) -> T:
        """One of them."""
        return given[int(self.r.integers(len(given)))]

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return bool(self.r.random() < p)

    def note(self, name: str, value: T) -> T:
        """Remember a choice, and return it."""
        self.notes.append(f"{name}={value!r}" if not isinstance(value, np.ndarray) else name)
        return value

    # Keys

    def key(self) -> fd.Key:
        """Small keys, and any."""
        bits = self.one_of((8, 33, 64))
        words = [int(w) for w in self.r.integers(0, 2**64, 2, np.uint64)]
        seed, stream = (word >> (64 - bits) for word in words)
        return self.note("key", fd.Key(seed, 2**64 - 1 - stream if self.chance(0.1) else stream))

    def rng(self) -> tuple[Any, fd.Key]:
        """What `rng` takes, and the key that it is."""
        kind = self.one_of(("key", "key", "key", "int", "generator", "sequence"))
        if kind == "key":
            key = self.key()
            return key, key
        seed = int(self.r.integers(0, 2**62))
        if kind == "int":
            return seed, fd.Key(seed)
        if kind == "sequence":
            sequence = np.random.SeedSequence(seed)
            return sequence, fd.as_key(np.random.SeedSequence(seed))
        words = np.random.default_rng(seed).integers(0, 2**64, 2, np.uint64)
        return np.random.default_rng(seed), fd.Key(int(words[0]), int(words[1]))

    # Arrays

    def size(self) -> int:
        """A number of elements: mostly small, seldom as many as threads share by default."""
        if self.chance(0.002):
            return int(self.r.integers(LARGE // 2, LARGE))
        if self.chance(0.1):
            return int(self.r.integers(4000, 70_000))
        return int(2.0 ** self.r.uniform(0, 12.5))

    def shape(
        self, least_axes: int = 0, most_axes: int = 5, most: int = 1 << 40
    ) -> tuple[int, ...]:
        """Any shape: of no axes, and empty ones, too."""
        axes = int(self.r.integers(least_axes, most_axes + 1))
        total = min(self.size(), most)
        shape = []
        for left in range(axes, 0, -1):
            share = total if left == 1 else int(2 ** self.r.uniform(0, math.log2(max(total, 1))))
            shape.append(max(1, share))
            total = max(1, total // shape[-1])
        self.r.shuffle(shape)
        if shape and self.chance(0.03):
            shape[int(self.r.integers(axes))] = 0
        return self.note("shape", tuple(shape))

    def dtype(self) -> np.dtype[Any]:
        """One of the floating-point types; float32 and float64 more often."""
        return self.note("dtype", self.one_of((*FLOATS, *FLOATS[:2])))

    def values(self, shape: tuple[int, ...], dtype: np.dtype[Any], special: bool = True) -> Array:
        """Numbers in C order, sometimes with NaN, infinity, zeros and subnormal ones among them."""
        x = np.asarray(2 * self.r.standard_normal(shape, np.float32), np.float32).astype(dtype)
        if special and x.size and self.chance(0.3):
            odd = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 6e4, -1e-7]).astype(dtype)
            places = self.r.integers(0, x.size, min(8, x.size))
            x.reshape(-1)[places] = odd[: len(places)]
        return np.asarray(x)

    def laid(self, x: Array) -> Array:
        """The same values, somehow in memory."""
        return self.placed(x)[0]

    def placed(self, x: Array) -> tuple[Array, Array | None]:
        """The same values somehow in memory, and the array that they are a view of."""
        kinds = ["C", "C", "C", "F", "stepped", "backwards", "inner", "misaligned", "axes"]
        kind = self.note("layout", self.one_of(kinds))
        if kind == "C" or x.ndim == 0:
            return x.copy(), None
        if kind == "F":
            return np.asfortranarray(x), None
        if kind == "misaligned":
            return misaligned(np.ascontiguousarray(x), x.itemsize), None
        if kind == "axes":
            order = self.r.permutation(x.ndim)
            base = np.ascontiguousarray(x.transpose(order))
            return base.transpose(np.argsort(order)), None
        steps = [1] * x.ndim
        if kind in ("stepped", "backwards"):
            steps = [int(self.r.integers(1, 4)) for _ in x.shape]
        if kind == "backwards":
            steps = [-s if self.chance(0.6) else s for s in steps]
        padding = [int(self.r.integers(0, 3)) for _ in x.shape] if kind == "inner" else steps
        wide = [n * abs(s) + abs(b) for n, s, b in zip(x.shape, steps, padding, strict=True)]
        base = poisoned(tuple(wide), x.dtype)
        view = base[
            tuple(slice(0, n * abs(s), abs(s)) for n, s in zip(x.shape, steps, strict=True))
        ]
        view = view[tuple(slice(None, None, -1 if s < 0 else 1) for s in steps)]
        view[...] = x
        return view, base

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], special: bool = True) -> Array:
        """An input of any layout; sometimes broadcast, or not writable."""
        if shape and self.chance(0.05):
            part = tuple(1 if self.chance(0.5) else n for n in shape)
            return np.broadcast_to(self.values(part, dtype, special), shape)
        x = self.laid(self.values(shape, dtype, special))
        if self.chance(0.05):
            x.flags.writeable = False
        return x

    def target(self, x: Array, given: Array | None = None) -> Target | None:
        """None, x itself, or another array like it, full of poison; `given` is what is read."""
        kind = self.note("out", self.one_of(("none", "none", "new", "laid", "x")))
        if kind == "none":
            return None
        if kind == "x" and given is not None and given.flags.writeable:
            return Target(given)
        if kind == "laid":
            return Target(*self.placed(poisoned(x.shape, x.dtype)))
        return Target(poisoned(x.shape, x.dtype))

    def overlap(self, dtype: np.dtype[Any]) -> tuple[Array, Target]:
        """Two views of one array that overlap in part."""
        kind = self.note("overlap", self.one_of(OVERLAPS))
        base = self.values((80, 80), dtype, special=False)
        x, out = overlapping(kind, base)
        return x, Target(out, base)

    # Numbers

    def p(self, below_one: bool = False) -> float:
        """A probability: 0 and 1, tiny ones, and any."""
        kind = self.r.random()
        if kind < 0.15:
            p = 0.0
        elif kind < 0.25 and not below_one:
            p = 1.0
        elif kind < 0.4:
            p = self.one_of(TINY)
        else:
            p = self.one_of((0.1, 0.5, float(self.r.random())))
        return self.note("p", p)

    def p_array(self, shape: tuple[int, ...]) -> Array:
        """Probabilities that broadcast to a shape."""
        cut = int(self.r.integers(0, len(shape) + 1))
        part = tuple(1 if self.chance(0.4) else n for n in shape[cut:])
        p = self.r.random(part)
        odd = self.r.random(part)
        p = np.where(odd < 0.1, 0.0, np.where(odd > 0.9, 1.0, np.where(odd > 0.85, 2.0**-33, p)))
        return self.note("p", np.asarray(p))

    def place(
        self, shape: tuple[int, ...], noise: bool = True, whole: int | None = None
    ) -> dict[str, Any]:
        """Where an array lies in the mask: an offset, a shard, shared decisions, or all of it.

        Along the axis `whole` it is not cut.
        """
        where: dict[str, Any] = {}
        if shape and noise and self.chance(0.25):
            where["noise_shape"] = tuple(self.one_of((1, None)) for _ in shape)
            if self.chance(0.3) and where["noise_shape"][0] == 1:
                where["noise_shape"] = where["noise_shape"][1:]
        kind = self.r.random()
        if kind < 0.25:
            where["offset"] = self.far()
        elif kind < 0.4 and shape:
            behind = [int(self.r.integers(0, 4)) for _ in shape]
            before = [int(self.r.integers(0, 4)) for _ in shape]
            if whole is not None:
                before[whole] = behind[whole] = 0
            inner = math.prod(
                n + a + b for n, a, b in zip(shape[1:], before[1:], behind[1:], strict=True)
            )
            # The shard may begin past 2**32 or 2**60, as far as indices go.
            if whole is None or whole % len(shape):
                before[0] += self.far(2**60) // max(inner, 1)
            where["offset"] = tuple(before)
            where["global_shape"] = tuple(
                n + a + b for n, a, b in zip(shape, before, behind, strict=True)
            )
            if "noise_shape" in where and self.chance(0.5):
                del where["noise_shape"]
        return self.note("where", where)

    def far(self, most: int = 2**61) -> int:
        """An index: near 0, around 2**32, or far beyond."""
        kind = self.one_of(("near", "word", "block", "far"))
        if kind == "near":
            return int(self.r.integers(0, 5000))
        if kind == "word":
            return 2**32 - int(self.r.integers(-3000, 3000))
        if kind == "block":
            return 2**35 - int(self.r.integers(-3000, 3000))  # where block numbers pass 2**32
        return most - int(self.r.integers(0, 2**40))

    # Calls

    def call(self, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call on as many threads as the case says."""
        if self._threads == "using":
            with threads.using(int(self.r.integers(1, 5)), None, SHARED_FROM):
                return function(*given, **named)
        if self._threads == "threads":
            with fd.threads(int(self.r.integers(1, 5))):
                return function(*given, **named)
        if self._threads == "set":
            fd.set_num_threads(int(self.r.integers(1, 5)))
        return function(*given, **named)

    def compare(self, made: Any, expected: Array) -> None:
        """Compare a result bit for bit, and count its elements."""
        made = np.asarray(made)
        self.elements += made.size
        assert_same(np.array(made, order="C"), np.asarray(expected))


def unchanged(x: Array, before: Array) -> None:
    """Assert that an input is what it was."""
    assert data(np.array(x, order="C")) == data(before), "the input was written to"
