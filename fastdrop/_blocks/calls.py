"""A call of a public function on one block: which functions there are, and where a block lies.

`apply` makes a `Call` of what the user gave, and calls it with each block. The function is told by
`offset` and `global_shape` where the block lies in the whole mask.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._arrays.numpy_arrays import NUMPY
from .._call import operands
from .._call.per_element import is_per_element
from .._check import arguments, detect
from .._check.arguments import Array
from .._check.placement import placement_of
from .._check.probabilities import array_of_probabilities
from .._functions import alpha, bias_act, dropout, gaussian, softmax, structured, zoneout
from . import stores
from .cut import Region


class Taken(NamedTuple):
    """What is to be known of a function."""

    operands: tuple[str, ...] = ()  # arguments that may be arrays, of which a block has its part
    shares: bool = False  # whether decisions are shared along axes, even without a noise_shape
    by_rows: bool = False  # whether it needs a whole axis, which `axis` names


_P = ("p",)
TAKEN: dict[Callable[..., Any], Taken] = {
    dropout.dropout: Taken(_P),
    dropout.masked_fill: Taken(_P),
    dropout.dropout_mask: Taken(_P),
    gaussian.gaussian_dropout: Taken(),
    gaussian.gaussian_noise: Taken(),
    alpha.alpha_dropout: Taken(),
    alpha.alpha_dropout_backward: Taken(),
    alpha.feature_alpha_dropout: Taken(shares=True),
    alpha.feature_alpha_dropout_backward: Taken(shares=True),
    structured.feature_dropout: Taken(_P, shares=True),
    structured.drop_path: Taken(_P, shares=True),
    zoneout.zoneout: Taken(("h_prev",)),
    bias_act.bias_act_dropout_add: Taken(("bias", "residual")),
    softmax.softmax_dropout: Taken(by_rows=True),
    softmax.softmax_dropout_backward: Taken(("x",), by_rows=True),
}
_REFUSED = {
    "drop_block2d": "it scales by how many elements of the whole array are kept",
    "drop_block3d": "it scales by how many elements of the whole array are kept",
    "bias_act_dropout_add_backward": "it returns several arrays, and sums over the whole array",
    "zoneout_backward": "it returns two arrays: h_prev's is masked_fill's, and x's is dropout's",
    "mc_dropout": "it averages over passes of a network",
}


def checked_function(function: Any) -> Callable[..., Any]:
    """Return a function that can be applied to blocks, or raise with the names of those."""
    try:
        if function in TAKEN:
            result: Callable[..., Any] = function
            return result
    except TypeError:  # it has no hash
        pass
    name = getattr(function, "__name__", None)
    own = str(getattr(function, "__module__", "")).partition(".")[0] == __name__.partition(".")[0]
    if own and isinstance(name, str):
        reason = _REFUSED.get(name, "")
        shown = f"function={name} is not applied to blocks" + f": {reason}" * bool(reason)
    else:
        shown = f"{detect.described('function', function)}, and not one that is applied to blocks"
    names = ", ".join(taken.__name__ for taken in TAKEN)
    raise TypeError(f"{shown}; give one of fastdrop's {names}")


def is_mask(function: Callable[..., Any]) -> bool:
    """Return whether a function takes a shape, and no array."""
    return function is dropout.dropout_mask


class Call:
    """A function with its arguments, but for the arrays' blocks and the key."""

    def __init__(
        self,
        function: Callable[..., Any],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        args: Sequence[Any],
        keywords: Mapping[str, Any],
    ) -> None:
        self._function, self._taken = function, TAKEN[function]
        self._shape, self._dtype = shape, dtype
        parameters = inspect.signature(function).parameters.values()
        places = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        twice = [name for name in places[: len(args)] if name in keywords]
        if len(args) > len(places) or twice:
            bad = f"{len(args)} arguments after target" if not twice else f"{twice[0]} twice"
            raise TypeError(
                f"{function.__name__} is given {bad}: give {', '.join(places)}, once each"
            )
        self._arguments = {**dict(zip(places, args, strict=False)), **keywords}
        self._refuse_keywords()
        self._offset = self._arguments.pop("offset", 0)
        self._full = self._arguments.pop("global_shape", None)
        self.training = arguments.in_training(self._arguments.get("training", True))
        noise = self._arguments.get("noise_shape")
        placement_of(shape, noise, self._offset, self._full, "source")
        self._shares = self._taken.shares or noise is not None
        self._operands = {
            name: self._operand(name, self._arguments.pop(name))
            for name in self._taken.operands
            if _is_array(self._arguments.get(name))
        }

    def _refuse_keywords(self) -> None:
        if "out" in self._arguments:
            raise TypeError("out is given, and the result is written to target: leave it out")
        if is_mask(self._function):
            for name in ("packed", "like", "chunks"):
                if self._arguments.get(name) not in (None, False):
                    raise TypeError(
                        f"{name} is given, and blocks of masks are bools in memory: leave it out"
                    )

    def _operand(self, name: str, value: Any) -> Any:
        if name == "p":  # all of it is checked now, and not block by block
            operand: Any = np.asarray(array_of_probabilities(value))
        elif isinstance(value, np.ndarray | list | tuple):
            like_source = np.broadcast_to(np.zeros((), self._dtype), self._shape)
            operand = operands.operand(name, value, like_source, NUMPY, "source")
        else:
            operand = stores.checked(value, name)
        whole = name == "x"  # which does not broadcast
        if not operands.fits(operand.shape, self._shape) or (
            whole and tuple(operand.shape) != self._shape
        ):
            raise ValueError(
                f"{name} has shape {operand.shape}, which does not "
                f"{'equal' if whole else 'broadcast to'} that of source, {self._shape}"
            )
        return operand

    @property
    def operands(self) -> Mapping[str, Any]:
        """The arrays beside the source, by their names."""
        return self._operands

    @property
    def whole_axes(self) -> frozenset[int]:
        """The axes that a block must have whole."""
        if not self._taken.by_rows:
            return frozenset()
        return frozenset([arguments.axis(self._arguments.get("axis", -1), len(self._shape))])

    def placement(self, contiguous: bool) -> Callable[[Region], dict[str, Any]]:
        """Return a function from a block's region to the arguments that say where it lies.

        `contiguous` is whether each block is one stretch of the source in C order. Then it is one
        of the mask, too, and the fastest call takes it.
        """
        if contiguous and not self._shares and self._full is None:
            return functools.partial(_by_index, self._shape, int(self._offset))
        if self._full is None:
            if self._offset:
                raise ValueError(
                    f"offset={self._offset} is an index, and these blocks are no stretches of "
                    "indices: give global_shape, and where source begins along each of its axes"
                )
            return functools.partial(_by_axes, self._shape, (0,) * len(self._shape))
        full = arguments.lengths("global_shape", self._full)
        begins = (0,) * len(full)
        if not isinstance(self._offset, int | np.integer):
            begins = arguments.lengths("offset", self._offset)
        elif self._offset:
            begins = (int(self._offset),)
        return functools.partial(_by_axes, full, begins)

    def operand_blocks(self, region: Region) -> dict[str, Any]:
        """Return the parts of the operands that a block is computed with."""
        blocks: dict[str, Any] = {}
        for name, operand in self._operands.items():
            own = region[len(region) - operand.ndim :] if operand.ndim else ()
            part = tuple(
                slice(0, 1) if n == 1 else at for n, at in zip(operand.shape, own, strict=True)
            )
            blocks[name] = stores.Store(operand, name).read(part, None)
        return blocks

    def __call__(self, x: Any, key: Any, out: Array, blocks: Any, where: dict[str, Any]) -> Any:
        """Call the function on a block, or with the shape of one."""
        return self._function(x, **self._arguments, **blocks, **where, rng=key, out=out)


def _is_array(value: Any) -> bool:
    return is_per_element(value) or (hasattr(value, "shape") and not isinstance(value, np.generic))


def _by_index(shape: tuple[int, ...], first: int, region: Region) -> dict[str, Any]:
    index, step = 0, 1
    for at, n in zip(reversed(region), reversed(shape), strict=True):
        index += at.start * step
        step *= n
    return {"offset": first + index}


def _by_axes(full: tuple[int, ...], begins: tuple[int, ...], region: Region) -> dict[str, Any]:
    offset = tuple([begin + at.start for begin, at in zip(begins, region, strict=True)])
    return {"offset": offset, "global_shape": full}
