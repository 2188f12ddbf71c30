"""Structured dropout on tensors: whole channels, or whole samples.

All of it is dropout, or alpha dropout, with a noise shape; see `masked` of `_checks`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor

from .._check import arguments
from ._checks import masked, overridable
from ._draws import KeyLike


@overridable
def feature_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: KeyLike = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Drop whole channels of each sample at random, and scale the others.

    Parameters
    ----------
    input : Tensor
        Samples along axis 0, channels along axis 1, and any number of other axes.
    p : float
        Probability of **dropping** a channel, in [0, 1].
    training, inplace, key, offset, global_shape
        As in `dropout`.

    Returns
    -------
    Tensor
        As `dropout`.

    Raises
    ------
    ValueError, NotImplementedError, RuntimeError
        As `dropout`; RuntimeError also if `input` has fewer than two axes, as torch.
    """
    noise = _channels(input, 2)
    return masked("drop", input, p, training, inplace, key, noise, offset, global_shape)


@overridable
def dropout1d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: KeyLike = None,
) -> Tensor:
    """Drop whole channels, as `torch.nn.functional.dropout1d` does: of (N, C, L) or (C, L).

    See `feature_dropout`.
    """
    _check_axes("dropout1d", input, (2, 3))
    noise = _channels(input, input.dim() - 1)
    return masked("drop", input, p, training, inplace, key, noise)


@overridable
def dropout2d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: KeyLike = None,
) -> Tensor:
    """Drop whole channels, as `torch.nn.functional.dropout2d` does: of (N, C, H, W).

    Three axes are read as (N, C, L), with a warning, as torch reads them; see `feature_dropout`.
    """
    if input.dim() == 3:
        warnings.warn(
            "dropout2d reads an input of 3 axes as (N, C, L), and torch is to read it as (C, H, W) "
            "in a future release: give dropout1d the former, and input[None] for the latter",
            stacklevel=3,
        )
    noise = _channels(input, 2)
    return masked("drop", input, p, training, inplace, key, noise)


@overridable
def dropout3d(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    key: KeyLike = None,
) -> Tensor:
    """Drop whole channels, as `torch.nn.functional.dropout3d` does: of (N, C, D, H, W).

    Four axes are read as (C, D, H, W), as in torch; see `feature_dropout`.
    """
    noise = _channels(input, 1 if input.dim() == 4 else 2)
    return masked("drop", input, p, training, inplace, key, noise)


@overridable
def feature_alpha_dropout(
    input: Tensor,
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
    *,
    key: KeyLike = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Apply `alpha_dropout` to whole channels, as `torch.nn.functional.feature_alpha_dropout` does.

    Parameters
    ----------
    input : Tensor
        As in `feature_dropout`.
    p, training, inplace, key, offset, global_shape
        As in `feature_dropout`; by default, it is no training, as in torch.

    Returns
    -------
    Tensor
        As `dropout`.

    Raises
    ------
    ValueError, NotImplementedError, RuntimeError
        As `feature_dropout`.
    """
    noise = _channels(input, 2) if training else None
    return masked("alpha", input, p, training, inplace, key, noise, offset, global_shape)


@overridable
def drop_path(
    input: Tensor,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    mode: str = "row",
    key: KeyLike = None,
    scale: float | None = None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Drop whole samples of a residual branch at random (stochastic depth), and scale the others.

    Parameters
    ----------
    input : Tensor
        Samples along axis 0, and any number of other axes.
    p : float
        Probability of **dropping** a sample's path, in [0, 1].
    mode : {"row", "batch"}
        Whether there is a decision for each sample, or one for the whole batch.
    training, inplace, key, scale, offset, global_shape
        As in `dropout`.

    Returns
    -------
    Tensor
        As `dropout`.

    Raises
    ------
    ValueError, NotImplementedError, RuntimeError
        As `dropout`; ValueError also if the mode is neither, or is "row" and there are no axes.
    """
    arguments.choice("mode", mode, ("row", "batch"))
    axes = input.dim()
    if mode == "row" and not axes and training:
        raise ValueError('input has no axes, and mode="row" needs one of samples: give "batch"')
    shape = input.shape if global_shape is None else global_shape
    noise = tuple([1 if axis or mode == "batch" else n for axis, n in enumerate(shape)])
    return masked("drop", input, p, training, inplace, key, noise, offset, global_shape, scale)


def _channels(x: Tensor, axes: int) -> tuple[int, ...]:
    """Return the noise shape that decides along the first axes only."""
    if x.dim() < 2:
        raise RuntimeError(
            f"input has {x.dim()} axes, and whole channels are dropped: give an axis of samples "
            "and one of channels, or use dropout"
        )
    return tuple([n if axis < axes else 1 for axis, n in enumerate(x.shape)])


def _check_axes(function: str, x: Tensor, allowed: tuple[int, ...]) -> None:
    if x.dim() not in allowed:
        one, other = allowed
        raise RuntimeError(f"input has {x.dim()} axes, and {function} takes {one} or {other}")
