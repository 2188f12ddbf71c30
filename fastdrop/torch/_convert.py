"""Swap torch's dropout modules in a model for ours, and back."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

from torch import nn

from .._check.detect import described
from . import modules

_Model = TypeVar("_Model", bound=nn.Module)

_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: modules.Dropout,
    nn.Dropout1d: modules.Dropout1d,
    nn.Dropout2d: modules.Dropout2d,
    nn.Dropout3d: modules.Dropout3d,
    nn.AlphaDropout: modules.AlphaDropout,
    nn.FeatureAlphaDropout: modules.FeatureAlphaDropout,
}
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}


def convert(model: _Model) -> _Model:
    """Swap torch's dropout modules in a model for those of fastdrop, in place.

    The modules stay the same objects, with their settings, mode, hooks and names, so a `state_dict`
    and an optimiser go on to fit. Subclasses of torch's modules that others defined are left.

    Parameters
    ----------
    model : torch.nn.Module
        The model, or a dropout module itself.

    Returns
    -------
    torch.nn.Module
        The same model.

    Warns
    -----
    UserWarning
        If modules of torch's call its dropout themselves (`MultiheadAttention`, `LSTM`, `GRU`,
        `RNN`), which cannot be swapped; they are named.

    Examples
    --------
    >>> from torch import nn
    >>> import fastdrop.torch
    >>> model = fastdrop.torch.convert(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    >>> type(model[1])
    <class 'fastdrop.torch.modules.Dropout'>
    """
    _swap(model, _OURS)
    if left := [f"{name or 'model'} ({what})" for name, what in _built_in(model)]:
        warnings.warn(
            f"these modules call torch's dropout themselves, and stay as they are: "
            f"{', '.join(left)}",
            stacklevel=2,
        )
    return model


def revert(model: _Model) -> _Model:
    """Swap dropout modules of fastdrop in a model for torch's, in place; the inverse of `convert`.

    Parameters
    ----------
    model : torch.nn.Module
        The model. A key of a module's own is forgotten; `DropPath`, which torch has not, stays.

    Returns
    -------
    torch.nn.Module
        The same model.
    """
    _swap(model, _TORCHS)
    return model


def _swap(model: nn.Module, others: dict[type[nn.Module], type[nn.Module]]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{described('model', model)}: give a torch.nn.Module")
    for module in model.modules():
        if other := others.get(type(module)):
            module.__dict__.pop("key", None)
            module.__class__ = other


def _built_in(model: nn.Module) -> Any:
    """Yield name and description of modules that drop by themselves."""
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase) and module.dropout > 0:
            yield name, f"{type(module).__name__}, dropout={module.dropout}"
