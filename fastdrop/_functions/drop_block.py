"""DropBlock: dropout of contiguous blocks, from a mask of block corners that is then dilated.

The functions call `dropout_mask` for the corners, dilate the mask by array operations, and call the
backend's `apply` to scale x.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

from .._arrays.adapter import Operation
from .._arrays.dispatch import backend_of, operand_backend_of
from .._call.coefficients import coefficients_of, compute_type
from .._call.rows import calls
from .._check import arguments
from .._check.arguments import Array, ArrayLike, Output, Training
from .._check.detect import a_kind_of, namespace
from .._check.key import AnyRNG, Key
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .._check.placement import placement_of
from .dropout import dropout_mask

_UNUSED_KEY = Key(0)  # where nothing is drawn


def block_length(value: Any) -> int:
    """Return the length of a block."""
    return arguments.whole("block_size", value, 1)


def epsilon(value: Any) -> float:
    """Return `eps`, which is added to the number of kept elements."""
    eps = arguments.real("eps", value)
    if eps < 0:
        raise ValueError(f"eps={eps!r} is negative: give 0 or more")
    return eps


def gamma_factor(value: Any) -> float:
    """Return `gamma_scale`, the factor of the probability that a block begins at an element."""
    scale = arguments.real("gamma_scale", value)
    if scale < 0:
        raise ValueError(f"gamma_scale={scale!r} is negative: give 0 or more")
    return scale


@checks_keywords
@calls("drop", "mark")
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
    """Drop square blocks at random, and scale the kept elements so that the mean is preserved.

    Linear in `x` for a given key, so **the backward pass is the same call** on the gradient: it
    draws the same blocks again and counts the kept elements again.

    Parameters
    ----------
    x : array_like
        Of shape (N, C, H, W), and a dtype that `dropout` takes, on the CPU or a GPU.
    p : float
        Target fraction of dropped elements, in [0, 1]. The actual fraction is somewhat smaller,
        because blocks overlap.
    block_size : int
        Side length of the blocks; ``min(block_size, H, W)`` in a smaller map. With 1, this is
        dropout scaled by the actual number of kept elements.
    rng, training, out
        As in `dropout`.
    eps : float
        Added to the number of kept elements when the scale is computed.
    couple_channels : bool
        Whether the same blocks are dropped in all channels of a sample, as in [1]_. False draws
        blocks for each channel.
    gamma_scale : float
        Factor of the probability that a block begins at an element, finite and not negative.
    scale_by_keep : bool
        Whether kept elements are scaled.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`, or `out`: +0.0 in the blocks, and elsewhere
        ``x * (size / (eps + kept))``, where `size` is the number of elements of the mask and `kept`
        the number of kept ones. `x` itself, of any shape, if `training` is False.

    Raises
    ------
    TypeError, ValueError
        As `dropout`; ValueError also if `x` has another number of axes in training.

    Notes
    -----
    At each position where it fits, a block begins with the probability ``gamma_scale * gamma``, at
    most 1, where

    ``gamma = p * H * W / (block_size**2 * (H - block_size + 1) * (W - block_size + 1))``,

    by the mask of `rng` on the grid (N, C, H - block_size + 1, W - block_size + 1). With coupled
    channels, C is 1 in the grid and in the mask whose elements are counted. These are the formulas
    of torchvision.ops.drop_block2d, which takes odd block sizes only; the scale is computed in
    float64 and rounded once. There is one scale for all of `x`, so a shard cannot be computed
    alone: there is no `offset`.

    timm's drop_block_2d couples channels by default, lets blocks extend over the edge of the map,
    limits them along each axis independently, and has an eps of 1e-7.

    This takes 4 to 7 times as long as `dropout`, hardly more for larger blocks: the mask is dilated
    by doubling, in ``2 * ceil(log2(block_size))`` passes over one byte per element, on one thread.
    Memory beyond the result: 2 bytes per element. On a GPU, the call waits for the number of kept
    elements.

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
        raise_argument_error("drop_block2d", unknown, x=x, p=p, block_size=block_size)
    blocks = Blocks.checked(p, block_size, eps, couple_channels, gamma_scale, scale_by_keep)
    return _drop_block("drop_block2d", "NCHW", x, blocks, rng, training, out)


@checks_keywords
@calls("drop", "mark")
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
    """Drop cubes at random, and scale the kept elements so that the mean is preserved.

    As `drop_block2d`, for `x` of shape (N, C, D, H, W): at each position where it fits, a cube
    begins with the probability ``p * D * H * W / (block_size**3 * (D - block_size + 1) * ...)``.
    **The backward pass is the same call** on the gradient.

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
        raise_argument_error("drop_block3d", unknown, x=x, p=p, block_size=block_size)
    blocks = Blocks.checked(p, block_size, eps, couple_channels, gamma_scale, scale_by_keep)
    return _drop_block("drop_block3d", "NCDHW", x, blocks, rng, training, out)


class Blocks(NamedTuple):
    """The checked arguments of DropBlock."""

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
        """Check the arguments, or raise."""
        return cls(
            arguments.probability(p),
            block_length(size),
            epsilon(eps),
            arguments.flag("couple_channels", coupled),
            gamma_factor(gamma_scale),
            arguments.flag("scale_by_keep", scaled),
        )


def _drop_block(
    name: str, axes: str, x: Any, blocks: Blocks, rng: AnyRNG, training: Any, out: Output
) -> Array:
    backend = operand_backend_of(x)  # NumPy or CuPy, whose functions dilate the mask
    xs = backend.array(x)
    compute_type(xs.dtype)
    if backend.is_lazy:
        raise TypeError(
            f"x is {a_kind_of(x)}, and {name} scales by how many elements of all of it are kept: "
            "give x.compute()"
        )
    if not arguments.in_training(training):
        return backend.identity(x, xs, out)
    shape = xs.shape
    if len(shape) != len(axes):
        raise ValueError(f"x has shape {shape}, and {name} takes ({', '.join(axes)})")
    # Checked before anything is drawn: a call that raises must not advance a Generator.
    target = None if out is None else backend.output(out, shape, xs.dtype, xs)
    with backend.ordered((xs,), target, rng):
        xp = namespace(xs)
        kept = _kept(xp, shape, blocks, rng)
        # If nothing is kept, no factor is needed; with eps = 0 it would be a division by zero.
        count = int(xp.count_nonzero(kept)) if blocks.scaled else 0
        factor = kept.size / (blocks.eps + count) if count else 1.0
        # The dropout kernel multiplies by the factor with p = 0, because it rounds half types once.
        # `dropout` itself would cache a plan for each factor, which differs from call to call.
        coefficients = coefficients_of(0.0, xs.dtype, factor)
        y = backend_of(xs).apply(
            Operation("drop", xs.dtype),
            *(xs, target, placement_of(shape), _UNUSED_KEY, *coefficients),
        )
        # Multiply the bits, as integers, by 0 or 1, so that a dropped NaN becomes 0 too. This
        # vectorises, and takes a quarter of the time of copyto(y, 0, where=...).
        bits = y.view(f"u{y.dtype.itemsize}")
        bits *= kept
    return backend.result(y, out)


def _kept(xp: Any, full: tuple[int, ...], blocks: Blocks, rng: AnyRNG) -> Array:
    """Return the mask, True = kept: a block begins where the mask of the grid drops.

    It broadcasts to the shape `full`; with coupled channels it has one channel.
    """
    shape = (full[0], 1, *full[2:]) if blocks.coupled else full
    space = shape[2:]
    kept: Array = xp.ones(shape, bool)
    size = max(min(blocks.size, *space), 1)
    grid = shape[:2] + tuple(n - size + 1 for n in space)
    coverage = size ** len(space) * math.prod(grid[2:])  # 0 in an empty map
    gamma = blocks.p * math.prod(space) / coverage if coverage else 0.0
    gamma = min(blocks.gamma_scale * gamma, 1.0)
    # Drawn into a contiguous array and copied: faster than drawing short rows into a view.
    inner = tuple(slice(n) for n in grid)
    kept[inner] = dropout_mask(grid, gamma, rng=rng, out=xp.empty(grid, bool))
    if size == 1 or not kept.size:
        return kept
    current, shifted = kept.reshape(-1), xp.empty(kept.size, bool)
    stride = 1
    for length in reversed(space):
        # No block begins in the last size - 1 elements of an axis, so shifting the flat array by
        # less than `size` never moves a block into the next row. Each pass up to doubles the
        # extent of the blocks.
        extent = 1
        while extent < size:
            by = min(extent, size - extent)
            head, tail = slice(by * stride), slice(by * stride, None)
            xp.bitwise_and(current[tail], current[: -by * stride], out=shifted[tail])
            shifted[head] = current[head]
            current, shifted = shifted, current
            extent += by
        stride *= length
    return current.reshape(shape)
