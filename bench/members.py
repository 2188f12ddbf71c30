"""The family: its members, each beside the usual NumPy way, and PyTorch's where it has one.

To add one, write its `Member` below: shape, how ours and theirs are called, and what both must be;
or in `bench.fused`, if more than x and p goes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .check import SIGMAS
from .common import Array
from .contender import Call, load
from .ours import key

Shape = tuple[int, ...]
# ``(x, p, out)`` -> call: the array in its shape, the drop probability, and where ours writes.
Way = Callable[[Array, float, Array], Call]
# ``(x, y, p)`` -> what is wrong with y, or nothing: fresh noise, so of each by its own.
Check = Callable[[Array, Array, float], str]

CHANNELS, SIDE = 64, 32  # of images
BLOCKS = {4: 7, 5: 3}  # lengths of blocks, by the axes of an array
PASSES = 8
VALUE = 103.0
ALPHA = 1.7580993408473766
USUAL, NORMALS, ONE, ALL = "NumPy", "normals alone", "fastdrop, 1 thread", "fastdrop, all threads"
MULTIPLE = CHANNELS * SIDE * SIDE


@dataclass(frozen=True)
class Goal:
    """Of a function's way to be called: at least `least` times faster than another, where timed.

    `sizes` are timed too, where the sizes are not chosen; without any, all are judged.
    """

    least: float
    way: str
    base: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Member:
    """A function of the family.

    Attributes
    ----------
    name : str
        What tables and files call it.
    shape : callable
        The array's shape, for a number of elements that is a multiple of `MULTIPLE`.
    ours, usual : callable
        fastdrop's call, and that of from-scratch NumPy code. A backward may return a tuple: the
        gradient, and its sums over rows.
    check : callable
        What results of each must be.
    torch : callable, optional
        PyTorch's call; x and its result are tensors.
    goal : Goal, optional
        How much faster than something it has to be.
    """

    name: str
    shape: Callable[[int], Shape]
    ours: Way
    usual: Way
    check: Check
    torch: Way | None = None
    goal: Goal | None = None


def flat(n: int) -> Shape:
    """Return the shape of so many elements in a row."""
    return (n,)


def _images(n: int) -> Shape:
    return n // MULTIPLE, CHANNELS, SIDE, SIDE


def _volumes(n: int) -> Shape:
    return n // MULTIPLE, 2, SIDE, SIDE, SIDE


def _samples(n: int) -> Shape:
    return 256, n // 256


def _steps(n: int) -> Shape:
    return 32, 64, n // 2048  # time, batch, units


def _ours(function: str, *arguments: Any, number: Any = None, **settings: Any) -> Way:
    """Call a function of fastdrop's; `number` stands where p does, if it is no probability."""

    def way(x: Array, p: float, out: Array) -> Call:
        call, rng = getattr(load("fastdrop"), function), key()
        first = p if number is None else number
        return lambda: call(x, first, *arguments, rng=rng, out=out, **settings)

    return way


def _masked(shape_of: Callable[[Shape], Shape]) -> Way:
    """Draw a float32 mask of a shape, compare, divide, multiply."""

    def way(x: Array, p: float, out: Array) -> Call:
        random, shape = np.random.default_rng().random, shape_of(x.shape)
        q = np.float32(1 - p)
        return lambda: x * ((random(shape, np.float32) < q) / q)

    return way


def _normal(
    function: Callable[[Array, Array, np.float32], Array], of: Callable[[float], float]
) -> Way:
    def way(x: Array, p: float, out: Array) -> Call:
        normal, deviation = np.random.default_rng().standard_normal, np.float32(of(p))
        return lambda: function(x, normal(x.shape, np.float32), deviation)

    return way


def normals_alone(x: Array, p: float, out: Array) -> Call:
    """Draw normal numbers, and do nothing with them: what Gaussian functions are judged by."""
    normal: Any = np.random.default_rng().standard_normal
    return lambda: normal(out=out, dtype=np.float32)


def _alpha_numbers(p: float) -> tuple[float, float]:
    a = ((ALPHA**2 * p + 1) * (1 - p)) ** -0.5
    return a, a * ALPHA * p


def _usual_alpha(shape_of: Callable[[Shape], Shape]) -> Way:
    def way(x: Array, p: float, out: Array) -> Call:
        random, (a, b) = np.random.default_rng().random, map(np.float32, _alpha_numbers(p))
        q, floor, shape = np.float32(1 - p), np.float32(-ALPHA), shape_of(x.shape)
        return lambda: a * np.where(random(shape, np.float32) < q, x, floor) + b

    return way


def _usual_fill(x: Array, p: float, out: Array) -> Call:
    random, rate, value = np.random.default_rng().random, np.float32(p), np.float32(VALUE)
    return lambda: np.where(random(x.shape, np.float32) < rate, value, x)


def _usual_blocks(x: Array, p: float, out: Array) -> Call:
    """Draw where blocks begin, let them grow along each axis, and scale by what is left."""
    random, lengths, block = np.random.default_rng().random, x.shape[2:], BLOCKS[x.ndim]
    grid = tuple(n - block + 1 for n in lengths)
    gamma = np.float32(p * math.prod(lengths) / block ** len(lengths) / math.prod(grid))

    def call() -> Any:
        lost = random((*x.shape[:2], *grid), np.float32) < gamma
        for axis, length in enumerate(lengths, 2):
            shape = list(lost.shape)
            shape[axis] = length
            grown = np.zeros(shape, np.bool_)
            for k in range(block):
                place = (*[slice(None)] * axis, slice(k, k + lost.shape[axis]))
                grown[place] |= lost
            lost = grown
        kept = lost.size - np.count_nonzero(lost)
        return x * (~lost * np.float32(lost.size / kept))

    return call


def _ours_passes(x: Array, p: float, out: Array) -> Call:
    fd = load("fastdrop")
    drop, rng = fd.dropout, key()
    return lambda: fd.mc_dropout(
        lambda x, key: drop(x, p, rng=key), x, PASSES, rng=rng
    ).mean.astype(np.float32)


def _usual_passes(x: Array, p: float, out: Array) -> Call:
    random, q = np.random.default_rng().random, np.float32(1 - p)

    def call() -> Any:
        passes = [x * ((random(x.shape, np.float32) < q) / q) for _ in range(PASSES)]
        return np.mean(passes, axis=0, dtype=np.float64).astype(np.float32)

    return call


def _ours_step(x: Array, p: float, out: Array) -> Call:
    cell = load("fastdrop").RNNDropout(p, rng=key())
    cell.begin()
    return lambda: cell.input(x, 3)


def _usual_kept(x: Array, p: float, out: Array) -> Call:
    random, q = np.random.default_rng().random, np.float32(1 - p)
    return lambda: x * (random(x.shape, np.float32) < q)


def _torch_kept(x: Any, p: float, out: Array) -> Call:
    drop = load("torch").nn.functional.dropout
    return lambda: drop(x, p) * (1 - p)


def _torch(function: str, **settings: Any) -> Way:
    def way(x: Any, p: float, out: Array) -> Call:
        call = getattr(load("torch").nn.functional, function)
        return lambda: call(x, p, training=True, **settings)

    return way


def _torch_normal(times: bool) -> Way:
    def way(x: Any, p: float, out: Array) -> Call:
        randn = load("torch").randn_like
        deviation = math.sqrt(p / (1 - p)) if times else p
        if times:
            return lambda: x * (randn(x) * deviation + 1)
        return lambda: x + randn(x) * deviation

    return way


def _torch_fill(x: Any, p: float, out: Array) -> Call:
    rand = load("torch").rand_like
    return lambda: x.masked_fill(rand(x) < p, VALUE)


def share(lost: Array, p: float, shared: tuple[int, ...]) -> str:
    """Say whether another part is lost than should be, or not all along the axes that share."""
    if shared and not (lost.any(axis=shared) == lost.all(axis=shared)).all():
        return f"decisions are not shared along axes {shared}"
    n = lost.size // math.prod(lost.shape[axis] for axis in shared)
    if not abs(float(lost.mean()) - p) < SIGMAS * math.sqrt(p * (1 - p) / n):
        return f"{lost.mean():.5g} of the elements are lost, not {p:g}"
    return ""


def lost_or_is(y: Array, lost: Array, kept: Array) -> str:
    """Say how many elements are neither lost nor what is to be kept."""
    # Written so that NaN counts as wrong.
    wrong = ~(lost | (np.abs(y - kept) <= 1e-5 * (1 + np.abs(kept))))
    return f"{np.count_nonzero(wrong)} elements are wrong" if wrong.any() else ""


def _is_dropout(*shared: int) -> Check:
    def check(x: Array, y: Array, p: float) -> str:
        lost = y == 0
        return lost_or_is(y, lost, x / np.float32(1 - p)) or share(lost, p, shared)

    return check


def _is_alpha(*shared: int) -> Check:
    def check(x: Array, y: Array, p: float) -> str:
        a, b = map(np.float32, _alpha_numbers(p))
        lost = np.abs(y - (b - a * np.float32(ALPHA))) < 1e-5
        if shared:  # a kept element may have come there by itself
            lost = np.broadcast_to(lost.all(axis=shared, keepdims=True), lost.shape)
        return lost_or_is(y, lost, a * x + b) or share(lost, p, shared)

    return check


def _is_kept(x: Array, y: Array, p: float) -> str:
    lost = y == 0
    return lost_or_is(y, lost, x) or share(lost, p, ())


def _is_mean_of_passes(x: Array, y: Array, p: float) -> str:
    """Of each element the number of passes that kept it is whole, and binomial."""
    kept = y.astype(np.float64) / x * PASSES * (1 - p)
    off = ~(np.abs(kept - np.rint(kept)) <= 1e-3)
    if off.any():
        return f"{np.count_nonzero(off)} elements are no mean of {PASSES} passes"
    n = x.size * PASSES
    if not abs(kept.sum() / n - (1 - p)) < SIGMAS * math.sqrt(p * (1 - p) / n):
        return f"{kept.sum() / n:.5g} of the elements are kept, not {1 - p:g}"
    return ""


def _is_filled(x: Array, y: Array, p: float) -> str:
    lost = y == VALUE
    return lost_or_is(y, lost, x) or share(lost, p, ())


def _is_normal(noise: Array, mean: float, deviation: float) -> str:
    n = noise.size
    off = abs(float(noise.mean()) - mean) * math.sqrt(n) / deviation
    spread = abs(float(noise.std()) / deviation - 1) * math.sqrt(2 * n)
    if not max(off, spread) < SIGMAS:
        return f"noise of mean {noise.mean():.5g} and deviation {noise.std():.5g}"
    return ""


def _is_times_normal(x: Array, y: Array, p: float) -> str:
    large = np.abs(x) > 0.1  # by which can be divided
    return _is_normal(y[large].astype(np.float64) / x[large], 1.0, math.sqrt(p / (1 - p)))


def _is_plus_normal(x: Array, y: Array, p: float) -> str:
    return _is_normal(y.astype(np.float64) - x, 0.0, p)


def _is_blocks(x: Array, y: Array, p: float) -> str:
    lost, block = y == 0, BLOCKS[x.ndim]
    scale = np.float32(lost.size / max(1, np.count_nonzero(~lost)))
    # Blocks overlap, by about that much; so many there are.
    likely, blocks = p * (1 - p / 2), p * lost.size / block ** (x.ndim - 2)
    if not abs(float(lost.mean()) / likely - 1) < 0.03 + SIGMAS / math.sqrt(blocks):
        return f"{lost.mean():.5g} of the elements are lost, not about {likely:.3g}"
    seen = lost[0, 0].any(axis=tuple(range(x.ndim - 3)))  # along the last axis
    lengths = np.diff(np.flatnonzero(np.diff(np.pad(seen, 1).astype(np.int8))))
    if lengths.size and lengths[::2].min() < block:
        return f"a block is {lengths[::2].min()} wide, not {block}"
    return lost_or_is(y, lost, x * scale)


_NORMAL = Goal(5.0, ONE, NORMALS)

MEMBERS = (
    Member(
        "alpha_dropout",
        flat,
        _ours("alpha_dropout"),
        _usual_alpha(lambda shape: shape),
        _is_alpha(),
        _torch("alpha_dropout"),
    ),
    Member(
        "feature_alpha_dropout",
        _images,
        _ours("feature_alpha_dropout"),
        _usual_alpha(lambda shape: (*shape[:2], 1, 1)),
        _is_alpha(2, 3),
        _torch("feature_alpha_dropout"),
    ),
    Member(
        "gaussian_dropout",
        flat,
        _ours("gaussian_dropout"),
        _normal(lambda x, z, d: x * (z * d + np.float32(1)), lambda p: math.sqrt(p / (1 - p))),
        _is_times_normal,
        _torch_normal(times=True),
        goal=_NORMAL,
    ),
    Member(
        "gaussian_noise",
        flat,
        _ours("gaussian_noise"),
        _normal(lambda x, z, d: x + z * d, lambda p: p),
        _is_plus_normal,
        _torch_normal(times=False),
        goal=_NORMAL,
    ),
    Member(
        "feature_dropout",
        _images,
        _ours("feature_dropout"),
        _masked(lambda shape: (*shape[:2], 1, 1)),
        _is_dropout(2, 3),
        _torch("dropout2d"),
    ),
    Member(
        "drop_path",
        _samples,
        _ours("drop_path"),
        _masked(lambda shape: (shape[0], 1)),
        _is_dropout(1),
    ),
    Member("drop_block2d", _images, _ours("drop_block2d", BLOCKS[4]), _usual_blocks, _is_blocks),
    Member("drop_block3d", _volumes, _ours("drop_block3d", BLOCKS[5]), _usual_blocks, _is_blocks),
    Member(
        "DropConnect's weights",
        flat,
        _ours("dropout", scale=1.0),
        _usual_kept,
        _is_kept,
        _torch_kept,
    ),
    Member(
        "RNNDropout, a step's input",
        _samples,
        _ours_step,
        _masked(lambda shape: shape),
        _is_dropout(),
    ),
    Member(
        f"mc_dropout of dropout, {PASSES} passes",
        flat,
        _ours_passes,
        _usual_passes,
        _is_mean_of_passes,
    ),
    Member(
        "locked dropout",
        _steps,
        _ours("dropout", noise_shape=(1, None, None)),
        _masked(lambda shape: (1, *shape[1:])),
        _is_dropout(0),
    ),
    Member("masked_fill", flat, _ours("masked_fill", VALUE), _usual_fill, _is_filled, _torch_fill),
)
