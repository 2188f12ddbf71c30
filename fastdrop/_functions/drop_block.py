"""DropBlock: dropout of blocks of neighbours, by a mask drawn on a small grid and then grown."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

from .._arrays.dispatch import backend_of, operand_backend_of
from .._call.coefficients import compute_type, law_of
from .._check import arguments, placement
from .._check.arguments import Array, ArrayLike, Output, Training
from .._check.detect import namespace
from .._check.key import AnyRNG, Key
from .._check.keywords import MISSING, named, refuse
from .dropout import dropout_mask

_ANY_KEY = Key(0)  # where nothing is drawn


def block_length(value: Any) -> int:
    """Return the length of a block."""
    return arguments.whole("block_size", value, 1)


def stabiliser(value: Any) -> float:
    """Return what is added to the number of kept elements."""
    eps = arguments.real("eps", value)
    if eps < 0:
        raise ValueError(f"eps={eps!r} is negative: give 0 or more")
    return eps


def frequency(value: Any) -> float:
    """Return a factor of the probability with which blocks begin."""
    scale = arguments.real("gamma_scale", value)
    if scale < 0:
        raise ValueError(f"gamma_scale={scale!r} is negative: give 0 or more")
    return scale


@named
def drop_block2d(
    x: ArrayLike,
    p: float,
    block_size: int,
    *,
    rng: AnyRNG = None,
    eps: float = 1e-6,
    couple_channels: bool = False,
    gamma_scale: float = 1.0,
    scale_by_keep: bool = True,
    training: Training = True,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Drop square blocks at random, and scale what is left to the same mean.

    Linear in `x` for a given key, so **the backward pass is the same call** on the gradient: it
    draws the blocks again, and counts them again.

    Parameters
    ----------
    x : array_like
        Of shape (N, C, H, W), and a dtype that `dropout` takes, on the CPU or a GPU.
    p : float
        About the part of the elements that is dropped, in [0, 1]: somewhat less in truth, for
        blocks overlap.
    block_size : int
        Length of the blocks along either axis; in a smaller map they have the length
        ``min(block_size, H, W)``. 1 is dropout by the realised count.
    rng, training, out
        As in `dropout`.
    eps : float
        Added to the number of kept elements when the scale is computed.
    couple_channels : bool
        Whether all channels of a sample lose the same blocks, as in [1]_. False draws blocks for
        each channel.
    gamma_scale : float
        Factor of the probability with which blocks begin, finite and not negative.
    scale_by_keep : bool
        Whether kept elements are scaled. False leaves them as they are.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`, or `out`: +0.0 in the blocks, and elsewhere
        ``x * (size / (eps + kept))``, where `size` elements are in the mask and `kept` are left.
        `x` itself, of any shape, if `training` is False.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also if `x` has another number of axes in training.

    Notes
    -----
    A block begins at each place where it fits with the probability ``gamma_scale * gamma``, at most
    1, where

    ``gamma = p * H * W / (block_size**2 * (H - block_size + 1) * (W - block_size + 1))``,

    by the mask of `rng` on the grid (N, C, H - block_size + 1, W - block_size + 1). C is 1 in the
    grid, and in the mask whose elements are counted, where channels are coupled. These are the
    formulas of torchvision.ops.drop_block2d, which takes odd block sizes alone; the scale is
    computed in float64 and rounded once. The scale is one for all of `x`, so that a shard would
    have to know the others: there is no `offset`.

    timm's drop_block_2d couples channels by default, lets blocks begin where they are cut by the
    edge of the map, clamps them along each axis by itself, and has an eps of 1e-7.

    It takes 4 to 7 times as long as `dropout`, hardly more for larger blocks: they are grown by
    doubling, in ``2 * ceil(log2(block_size))`` passes over a byte an element, by one thread. Memory
    beyond the result: 2 bytes an element. On a GPU, the number of kept elements is waited for.

    References
    ----------
    .. [1] G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for convolutional
       networks", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones((1, 1, 5, 9), np.float32)
    >>> (fd.drop_block2d(x, 0.25, 3, rng=4)[0, 0] != 0).astype(int)
    array([[1, 1, 1, 1, 1, 1, 1, 1, 1],
           [1, 1, 1, 1, 1, 1, 1, 1, 1],
           [1, 0, 0, 0, 0, 1, 1, 1, 1],
           [1, 0, 0, 0, 0, 1, 1, 1, 1],
           [1, 0, 0, 0, 0, 1, 1, 1, 1]])
    """
    if unknown or x is MISSING or p is MISSING or block_size is MISSING:
        refuse("drop_block2d", unknown, x=x, p=p, block_size=block_size)
    blocks = Blocks.checked(p, block_size, eps, couple_channels, gamma_scale, scale_by_keep)
    return _drop_block("drop_block2d", "NCHW", x, blocks, rng, training, out)


@named
def drop_block3d(
    x: ArrayLike,
    p: float,
    block_size: int,
    *,
    rng: AnyRNG = None,
    eps: float = 1e-6,
    couple_channels: bool = False,
    gamma_scale: float = 1.0,
    scale_by_keep: bool = True,
    training: Training = True,
    out: Output = None,
    **unknown: NoReturn,
) -> Array:
    """Drop cubes at random, and scale what is left to the same mean.

    As `drop_block2d`, for `x` of shape (N, C, D, H, W): a cube begins where it fits with the
    probability ``p * D * H * W / (block_size**3 * (D - block_size + 1) * ...)``. **The backward
    pass is the same call** on the gradient.

    Parameters
    ----------
    x : array_like
        Of shape (N, C, D, H, W), and a dtype that `dropout` takes.
    p, block_size, rng, eps, couple_channels, gamma_scale, scale_by_keep, training, out
        As in `drop_block2d`.

    Returns
    -------
    ndarray
        As `drop_block2d`.

    Raises
    ------
    TypeError, ValueError
        As `drop_block2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> x = np.ones((2, 3, 8, 8, 8))
    >>> y = fd.drop_block3d(x, 0.3, 3, rng=1)
    >>> round(float(y.mean()), 6)
    1.0
    """
    if unknown or x is MISSING or p is MISSING or block_size is MISSING:
        refuse("drop_block3d", unknown, x=x, p=p, block_size=block_size)
    blocks = Blocks.checked(p, block_size, eps, couple_channels, gamma_scale, scale_by_keep)
    return _drop_block("drop_block3d", "NCDHW", x, blocks, rng, training, out)


class Blocks(NamedTuple):
    """What blocks are drawn by, checked."""

    p: float
    size: int
    eps: float
    coupled: bool
    gamma_scale: float
    scaled: bool

    @classmethod
    def checked(
        cls, p: Any, size: Any, eps: Any, coupled: Any, gamma_scale: Any, scaled: Any
    ) -> Blocks:
        """Return them, or raise."""
        return cls(
            arguments.probability(p),
            block_length(size),
            stabiliser(eps),
            arguments.flag("couple_channels", coupled),
            frequency(gamma_scale),
            arguments.flag("scale_by_keep", scaled),
        )


def _drop_block(
    name: str, axes: str, x: Any, blocks: Blocks, rng: AnyRNG, training: Any, out: Output
) -> Array:
    backend = operand_backend_of(x)  # for which there is a library of arrays: it grows the blocks
    xs = backend.array(x)
    compute_type(xs.dtype)
    if not arguments.in_training(training):
        return backend.untouched(x, xs, out)
    shape = xs.shape
    if len(shape) != len(axes):
        raise ValueError(f"x has shape {shape}, and {name} takes ({', '.join(axes)})")
    # Before anything is drawn: a Generator must not go on for a call that fails.
    target = None if out is None else backend.output(out, shape, xs.dtype, xs)
    with backend.where(xs):
        xp = namespace(xs)
        kept = _kept(xp, shape, blocks, rng)
        # Where nothing is kept, no factor is needed, and eps = 0 would give none.
        count = int(xp.count_nonzero(kept)) if blocks.scaled else 0
        factor = kept.size / (blocks.eps + count) if count else 1.0
        # The kernel of dropout multiplies, for it rounds half types once. The factor is another one
        # at each call, so that `dropout` would remember them in vain.
        threshold, value = law_of(0.0, xs.dtype, factor)
        place = placement.place(shape)
        y = backend_of(xs).apply(
            lambda driver: driver.dropping(xs.dtype), xs, target, place, _ANY_KEY, threshold, value
        )
        # Chosen, as dropout does, so that NaN is gone too: the bits are multiplied by 0 or 1. It
        # vectorises, and takes a quarter of what copyto(y, 0, where=...) takes.
        bits = y.view(f"u{y.dtype.itemsize}")
        bits *= kept
    return backend.result(y, out)


def _kept(xp: Any, full: tuple[int, ...], blocks: Blocks, rng: AnyRNG) -> Array:
    """Return the mask, True = kept: blocks that begin where a mask on the small grid drops.

    It broadcasts to the shape `full`: with coupled channels it has one of them.
    """
    shape = (full[0], 1, *full[2:]) if blocks.coupled else full
    space = shape[2:]
    kept: Array = xp.ones(shape, bool)
    size = max(min(blocks.size, *space), 1)
    grid = shape[:2] + tuple(n - size + 1 for n in space)
    places = size ** len(space) * math.prod(grid[2:])  # 0 in a map of no elements
    gamma = blocks.p * math.prod(space) / places if places else 0.0
    gamma = min(blocks.gamma_scale * gamma, 1.0)
    # Drawn densely and then copied, which is quicker than drawing short rows into a view.
    inner = tuple(slice(n) for n in grid)
    kept[inner] = dropout_mask(grid, gamma, rng=rng, out=xp.empty(grid, bool))
    if size == 1 or not kept.size:
        return kept
    now, then = kept.reshape(-1), xp.empty(kept.size, bool)
    step = 1
    for length in reversed(space):
        # No block begins in the last size - 1 places of an axis, so that shifting all of the array
        # by less than size places never moves a block into the next row. Blocks of a length give
        # blocks of up to twice that length.
        reach = 1
        while reach < size:
            by = min(reach, size - reach)
            xp.bitwise_and(now[by * step :], now[: -by * step], out=then[by * step :])
            then[: by * step] = now[: by * step]
            now, then = then, now
            reach += by
        step *= length
    return now.reshape(shape)
