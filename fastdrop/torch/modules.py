"""Modules that stand in for torch's: `torch.nn.Dropout` and its like, drawn from a key.

They are subclasses of torch's modules with the same arguments, so that code which looks for those
finds them. `_convert` turns one into the other. They call `functional`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._check import arguments
from . import functional
from ._checks import probability
from ._draws import KeyLike, key_tensor
from ._keys import checked

__all__ = [
    "AlphaDropout",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
]


class _Keyed(nn.Module):
    """What the modules have in common: arguments, and a key of their own if one is given."""

    p: float
    inplace: bool
    key: Tensor | None = None

    def __init__(self, p: float = 0.5, inplace: bool = False, *, key: KeyLike = None) -> None:
        nn.Module.__init__(self)
        probability(p)
        self.p = p  # as it was given: torch shows 1 as 1, and not as 1.0
        self.inplace = inplace
        # No buffer: one would move to a GPU, where reading it waits, and be the same in all ranks.
        self.key = None if key is None else key_tensor(key, torch.empty(0, device="cpu")).clone()

    def _next_key(self, input: Any) -> Tensor | None:
        """Return the key of a training forward, and count it; None is one of torch's generator."""
        key = self.key
        if key is None or not self.training:
            return None
        if issubclass(type(input), torch.fx.Proxy):
            raise TypeError(
                "a module with a key of its own counts its forwards, and torch.fx would record the "
                "key of this one: give a tracer whose is_leaf_module is True for it"
            )
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                "a module with a key of its own counts its forwards, and this one is called in a "
                "backward, as torch.utils.checkpoint does to compute a forward again: give no key, "
                "so that torch's generator rules"
            )
        # A new tensor: other processes may have the old one, in shared memory.
        self.key = torch.stack([key[0], key[1] + 1])
        return key

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.key is not None:
            destination[prefix + "key"] = self.key.clone()

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        more = missing_keys, unexpected_keys, error_msgs
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *more)
        name = prefix + "key"
        if self.key is None:
            return
        if name in state_dict:
            try:
                self.key = checked(state_dict[name]).cpu().clone()
            except TypeError as error:
                error_msgs.append(f"{name}: {error}")
            if name in unexpected_keys:
                unexpected_keys.remove(name)
        elif strict:
            missing_keys.append(name)


class Dropout(_Keyed, nn.Dropout):
    """Dropout as a module: `torch.nn.Dropout`, by the kernels of fastdrop.

    Parameters
    ----------
    p : float
        Probability of **dropping** an element, in [0, 1].
    inplace : bool
        Whether forwards write to their input.
    key : Tensor, fastdrop.Key, int or torch.Generator, optional
        None draws a key of torch's default generator at each forward in training mode. Else the
        module has a key of its own, which is in its `state_dict`: its n-th forward in training
        mode (from 0 on) uses ``Key(seed, stream + n)``. A generator is asked for a key once.

    Attributes
    ----------
    key : Tensor or None
        The key of the next forward, on the CPU.

    Examples
    --------
    >>> import torch, fastdrop.torch
    >>> layer = fastdrop.torch.Dropout(0.5)
    >>> layer
    Dropout(p=0.5, inplace=False)
    >>> layer.eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.dropout` of the input."""
        return functional.dropout(
            input, self.p, self.training, self.inplace, key=self._next_key(input)
        )


class Dropout1d(_Keyed, nn.Dropout1d):
    """Dropout of whole channels of (N, C, L) or (C, L): `torch.nn.Dropout1d`; see `Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.dropout1d` of the input."""
        return functional.dropout1d(
            input, self.p, self.training, self.inplace, key=self._next_key(input)
        )


class Dropout2d(_Keyed, nn.Dropout2d):
    """Dropout of whole channels of (N, C, H, W): `torch.nn.Dropout2d`; see `Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.dropout2d` of the input."""
        return functional.dropout2d(
            input, self.p, self.training, self.inplace, key=self._next_key(input)
        )


class Dropout3d(_Keyed, nn.Dropout3d):
    """Dropout of whole channels of (N, C, D, H, W): `torch.nn.Dropout3d`; see `Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.dropout3d` of the input."""
        return functional.dropout3d(
            input, self.p, self.training, self.inplace, key=self._next_key(input)
        )


class AlphaDropout(_Keyed, nn.AlphaDropout):
    """Alpha dropout, for networks of SELUs: `torch.nn.AlphaDropout`; see `Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.alpha_dropout` of the input."""
        return functional.alpha_dropout(
            input, self.p, self.training, self.inplace, key=self._next_key(input)
        )


class FeatureAlphaDropout(_Keyed, nn.FeatureAlphaDropout):
    """Alpha dropout of whole channels: `torch.nn.FeatureAlphaDropout`; see `Dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.feature_alpha_dropout` of the input."""
        return functional.feature_alpha_dropout(
            input, self.p, self.training, self.inplace, key=self._next_key(input)
        )


class DropPath(_Keyed):
    """Stochastic depth as a module: whole samples of a residual branch are dropped; see `Dropout`.

    Parameters
    ----------
    p : float
        Probability of **dropping** a sample's path, in [0, 1].
    inplace : bool
        Whether forwards write to their input.
    mode : {"row", "batch"}
        Whether there is a decision for each sample, or one for the whole batch.
    key
        As in `Dropout`.
    """

    mode: str

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, mode: str = "row", key: KeyLike = None
    ) -> None:
        super().__init__(p, inplace, key=key)
        self.mode = arguments.choice("mode", mode, ("row", "batch"))

    def forward(self, input: Tensor) -> Tensor:
        """Return `functional.drop_path` of the input."""
        return functional.drop_path(
            input, self.p, self.training, self.inplace, mode=self.mode, key=self._next_key(input)
        )

    def extra_repr(self) -> str:
        """Show the settings, as torch's modules do."""
        return f"p={self.p}, inplace={self.inplace}, mode={self.mode!r}"
