"""The mask's building blocks, for kernels of your own that Numba compiles.

Every function here can be called from plain Python, from code under ``numba.njit``, and from code
under ``numba.cuda.jit``, by the same name and with the same result; there, it is inlined. So a
kernel of yours can decide on dropout while it has an element in a register, and the mask is that of
`fastdrop.dropout`, bit for bit. Importing this module imports Numba, but nothing of CUDA.

Arguments that are integers are taken modulo ``2**64`` in compiled code, and nothing is checked
there. Results are ``uint64``. Mind that Numba gives a float64 to ``uint64 + int64``: count in
``numpy.uint64``, or convert before you compute.

Examples
--------
Bias, ReLU and dropout in one pass over the rows of a matrix, an element at a time:

>>> import numba, numpy as np
>>> import fastdrop as fd
>>> from fastdrop import device
>>> @numba.njit
... def bias_relu_dropout(x, bias, seed, stream, p, y):
...     t = device.threshold(p)
...     scale = np.float32(1 / (1 - p))
...     rows, columns = x.shape
...     for i in range(rows):
...         for j in range(columns):
...             a = max(x[i, j] + bias[j], np.float32(0))
...             kept = device.keep(seed, stream, i * columns + j, t)
...             y[i, j] = a * scale if kept else np.float32(0)
>>> x, bias = np.ones((4, 8), np.float32), np.zeros(8, np.float32)
>>> key, y = fd.Key(42), np.empty_like(x)
>>> bias_relu_dropout(x, bias, key.seed, key.stream, 0.5, y)
>>> np.array_equal(y, fd.dropout(np.maximum(x + bias, 0), 0.5, rng=key))
True

A kernel for a GPU says the same, and draws for 8 elements at once, which takes an eighth of the
work::

    @numba.cuda.jit
    def bias_relu_dropout(x, bias, seed, stream, t, scale, y):  # x, y in C order, seen as 1-D
        block = numba.cuda.grid(1)
        kept = device.keep8(seed, stream, block, t)
        for lane in range(8):
            i = 8 * block + lane
            if i < x.size:
                a = max(x[i] + bias[i % bias.size], np.float32(0))
                y[i] = a * scale if kept >> np.uint64(lane) & np.uint64(1) else np.float32(0)

    blocks = -(-x.size // (8 * 128))
    scale = np.float32(1 / (1 - p))
    bias_relu_dropout[blocks, 128](
        x, bias, np.uint64(key.seed), np.uint64(key.stream), device.threshold(p), scale, y
    )

``python -m fastdrop.examples.own_kernel`` runs both, checks them, and shows what they take.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastdrop_kernels import contract
from fastdrop_kernels import device as _device

from ._check import arguments, detect

__all__ = ["bits8", "keep", "keep8", "threshold", "uniform32"]


def threshold(p: float) -> np.uint64:
    """Return the integer ``T`` of a drop probability: an element is dropped if, and only if, U < T.

    Parameters
    ----------
    p : float
        Probability of dropping, in [0, 1]; compiled code does not check it.

    Returns
    -------
    uint64
        `p` times ``2**32``, rounded half to even, and at most ``2**32 - 1`` below p = 1; ``2**32``
        at p = 1, above every U.

    Raises
    ------
    TypeError, ValueError
        If `p` is no number in [0, 1].

    Examples
    --------
    >>> int(threshold(0.5))
    2147483648
    """
    result: np.uint64 = np.uint64(contract.threshold(arguments.probability(p)))
    return result


def keep(seed: Any, stream: Any, index: Any, threshold: Any) -> Any:
    """Say whether an element is kept.

    Parameters
    ----------
    seed, stream : int
        Those of the `Key`, below ``2**64``.
    index : int or array of int
        The element's place in C order, below ``2**63``.
    threshold : int
        What the function `threshold` returns.

    Returns
    -------
    bool
        True = kept. In plain Python, an array if an argument is one.

    Notes
    -----
    Each call draws two blocks of 8 elements and uses one element of each. Where neighbours are
    wanted, `keep8` takes a sixteenth of the time.

    Examples
    --------
    >>> keep(42, 0, np.arange(8), threshold(0.5)).astype(int)
    array([1, 1, 0, 0, 0, 0, 1, 0])
    """
    _integers("index", index)
    _integers("threshold", threshold, ": give threshold(p)")
    return _keep(seed, stream, index, threshold)


def keep8(seed: Any, stream: Any, block: Any, threshold: Any) -> Any:
    """Say which of the 8 elements of a block are kept; for one block, not for arrays of them.

    Parameters
    ----------
    seed, stream : int
        Those of the `Key`, below ``2**64``.
    block : int
        Number of the block, below ``2**60``: its elements are ``8 * block`` to ``8 * block + 7``.
    threshold : int
        What the function `threshold` returns.

    Returns
    -------
    uint64
        Below 256: bit ``j`` is 1 if element ``8 * block + j`` is kept.

    Examples
    --------
    >>> bin(keep8(42, 0, 0, threshold(0.5)))
    '0b1000011'
    """
    _integers("block", block)
    _integers("threshold", threshold, ": give threshold(p)")
    return _keep8(seed, stream, block, threshold)


def _integers(name: str, value: Any, way: str = "") -> None:
    """Refuse what is no integer, and would be cut off; compiled code does not look."""
    if np.asarray(value).dtype.kind not in "iu":
        raise TypeError(f"{detect.described(name, value)}, and no integer{way}")


def uniform32(seed: Any, stream: Any, index: Any) -> Any:
    """Return an element's 32-bit uniform ``U``: it is dropped if, and only if, U < T.

    Parameters
    ----------
    seed, stream : int
        Those of the `Key`, below ``2**64``.
    index : int or array of int
        The element's place in C order, below ``2**63``.

    Returns
    -------
    uint64
        In ``[0, 2**32)``. In plain Python, an array if an argument is one.

    Examples
    --------
    >>> uniform32(42, 0, np.arange(2)) >= threshold(0.5)
    array([ True,  True])
    """
    return contract.uniform32(np.uint64(seed), np.uint64(stream), np.uint64(index))


def bits8(seed: Any, stream: Any, block: Any) -> Any:
    """Return the upper 16 bits of the uniforms of a block's 8 elements, by one Philox call.

    Parameters
    ----------
    seed, stream : int
        Those of the `Key`, below ``2**64``.
    block : int or array of int
        Number of the block, below ``2**60``: its elements are ``8 * block`` to ``8 * block + 7``.

    Returns
    -------
    low, high : uint64
        ``U(8 * block + j) >> 16`` is in bits ``16 * j`` to ``16 * j + 15`` of `low` for j below 4,
        and of `high`, counted from j = 4, for the others.

    Notes
    -----
    These bits alone decide on an element unless they are equal to ``T >> 16``, which happens to one
    in 65,536; then `uniform32` decides. `keep8` does that.

    Examples
    --------
    >>> low, high = bits8(42, 0, 0)
    >>> int(low) & 0xFFFF == int(uniform32(42, 0, 0)) >> 16
    True
    """
    zero = np.uint64(0)
    return contract.block_bits(np.uint64(seed), np.uint64(stream), np.uint64(block), zero)


# What compiled code means by the names above: it checks nothing.


def _threshold(p: float) -> Any:
    return np.uint64(contract.threshold(p))


def _keep(seed: Any, stream: Any, index: Any, threshold: Any) -> Any:
    return contract.keep(np.uint64(seed), np.uint64(stream), np.uint64(index), np.uint64(threshold))


def _keep8(seed: Any, stream: Any, block: Any, threshold: Any) -> Any:
    return _device.keep_block(
        np.uint64(seed), np.uint64(stream), np.uint64(block), np.uint64(threshold)
    )


_device.compiled(contract.threshold)
_device.compiled_as(threshold, _threshold)
_device.compiled_as(keep, _keep)
_device.compiled_as(keep8, _keep8)
for _function in (uniform32, bits8):
    _device.compiled(_function)
