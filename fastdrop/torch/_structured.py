"""Structured dropout on tensors: whole channels, or whole samples.

All of it is dropout, or alpha dropout, with a noise shape; see `masked` of `_checks`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from .._check import arguments
from ._checks import masked, overridable, probability
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
    return _by_channel("drop", input, 2, p, training, inplace, key, offset, global_shape)


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
    axes = input.dim()
    if axes not in (2, 3):
        raise RuntimeError(f"input has {axes} axes, and dropout1d takes (N, C, L) or (C, L)")
    return _by_channel("drop", input, axes - 1, p, training, inplace, key)


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

    Other numbers of axes are read as (N, C, ...), with a warning, as torch reads them; see
    `feature_dropout`.
    """
    axes = input.dim()
    if axes == 3 and not torch.compiler.is_compiling():  # warnings cannot be traced
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d, which is read as (N, C, L), and by a "
            "future torch as (C, H, W): give dropout1d the former, and input[None] for the latter",
            stacklevel=3,
        )
    elif axes != 4:
        _warn_of_axes("dropout2d", axes)
    return _by_channel("drop", input, 2, p, training, inplace, key)


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

    Four axes are read as (C, D, H, W), and so are other numbers of axes than five, with a warning,
    as torch reads them; see `feature_dropout`.
    """
    axes = input.dim()
    if axes not in (4, 5):
        _warn_of_axes("dropout3d", axes)
    return _by_channel("drop", input, 2 if axes == 5 else 1, p, training, inplace, key)


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
    return _by_channel("alpha", input, 2, p, training, inplace, key, offset, global_shape)


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


def _by_channel(
    operation: str,
    x: Tensor,
    axes: int,
    p: float,
    training: bool,
    inplace: bool,
    key: KeyLike,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
) -> Tensor:
    """Decide along the first axes only."""
    p = probability(p)
    if x.dim() < axes and training and 0.0 < p < 1.0:  # torch takes all axes in other cases
        raise RuntimeError(
            f"input has {x.dim()} axes, and whole channels are dropped: give an axis of samples "
            "and one of channels, or use dropout"
        )
    noise = tuple([None if axis < axes else 1 for axis in range(x.dim())])
    return masked(operation, x, p, training, inplace, key, noise, offset, global_shape)


def _warn_of_axes(function: str, axes: int) -> None:
    if torch.compiler.is_compiling():  # warnings cannot be traced
        return
    warnings.warn(
        f"{function}: Received a {axes}-D input to {function}, which torch is to refuse in a "
        "future release: use dropout or feature_dropout",
        stacklevel=4,  # behind this, the function and `overridable`
    )
