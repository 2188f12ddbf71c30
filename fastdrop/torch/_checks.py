"""The checks of calls on tensors, which the public functions share.

Those of `functional` call them before a key is drawn. `masked` also makes the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .._call.coefficients import coefficients_of
from .._check import arguments
from .._check.detect import described
from .._check.fill_values import filling
from .._check.placement import placement_of
from . import _cuda
from ._compute import Masking, Placed
from ._draws import KeyLike, key_tensor
from ._elementwise import is_traced, mask

_F = TypeVar("_F", bound=Callable[..., Tensor])
_compiling = torch.compiler.is_compiling


def overridable(function: _F) -> _F:
    """Let subclasses of Tensor, and tracers of torch.fx, replace a function, as they do torch's."""

    @functools.wraps(function)
    def call(input: Tensor, *args: Any, **more: Any) -> Any:
        if has_torch_function_unary(input):
            return handle_torch_function(call, (input,), input, *args, **more)
        check_tensor(input)
        return function(input, *args, **more)

    return call  # type: ignore[return-value]


def masked(
    operation: str,
    x: Tensor,
    p: Any,
    training: bool,
    inplace: bool,
    key: KeyLike,
    noise_shape: Sequence[int | None] | None,
    offset: int | Sequence[int] = 0,
    global_shape: Sequence[int] | None = None,
    parameter: Any = None,
) -> Tensor:
    """Check a call of an element-wise function, and make it."""
    p = probability(p)
    if not training or p == 0.0:
        return x
    placed = placed_in(x, noise_shape, offset, global_shape)
    check(x, inplace, any_dtype=operation == "fill")
    check_parameter(operation, parameter, x)
    return mask(x, key_tensor(key, x), Masking(operation, p, parameter, placed), inplace)


def probability(p: Any) -> float:
    """Return p as a float; a tensor of no axes is a number, too, as for torch."""
    if type(p) is int and 0 <= p <= 1:  # compilers cannot trace the checks of all that p may be
        return float(p)
    if isinstance(p, Tensor) and not p.dim():
        p = p.item()
    return arguments.probability(p)


def placed_in(
    x: Tensor,
    noise_shape: Sequence[int | None] | None,
    offset: int | Sequence[int],
    global_shape: int | Sequence[int] | None,
) -> Placed:
    """Return where a tensor lies in its mask, of plain integers; raise ValueError if it cannot."""
    full: Any = global_shape
    start: Any = offset
    if _compiling():  # sizes may be symbols there, and the operator checks them
        full = full if full is None or isinstance(full, int) else tuple(full)
        start = start if isinstance(start, int) else tuple(start)
    else:
        placement_of(tuple(x.shape), noise_shape, offset, global_shape, "input")
        if full is None:
            start = arguments.integer("offset", offset)
        else:
            full = arguments.lengths("global_shape", full)
            at_origin = isinstance(start, int | np.integer) and start == 0
            start = 0 if at_origin else arguments.lengths("offset", start)
    noise = None
    if noise_shape is not None:
        shape = x.shape if full is None else full
        given = (*[1] * (len(shape) - len(noise_shape)), *noise_shape)
        noise = tuple([m if n is None else int(n) for n, m in zip(given, shape, strict=True)])
    return Placed(noise, start, full)


FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})


def check_tensor(x: Any, name: str = "input") -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{described(name, x)}: give a torch.Tensor")


def check(x: Tensor, inplace: bool, any_dtype: bool = False) -> None:
    """Refuse tensors that cannot be computed with, or not written to."""
    if not _compiling() and (x.layout is not torch.strided or x.is_nested):  # else in the graph
        what = "a nested tensor" if x.is_nested else f"of {x.layout}"
        raise NotImplementedError(
            f"input is {what}, and its elements have no places in a mask: give a strided tensor, "
            "such as .values() or .to_dense()"
        )
    if x.dtype not in FLOATS and not any_dtype:
        way = ".real and .imag one by one," if x.is_complex() else ".float(),"
        raise NotImplementedError(
            f"input has {x.dtype}, which is none of float16, bfloat16, float32 and float64: give "
            f"its {way} or use masked_fill"
        )
    if not x.is_cpu and not is_traced(x):
        _cuda.check(x)
    if not inplace:
        return
    if x.requires_grad and x.is_leaf and torch.is_grad_enabled():
        raise RuntimeError(
            "input is a leaf that requires a gradient, and inplace=True would overwrite it: give "
            "inplace=False"
        )
    if not _compiling() and x.is_inference() and not torch.is_inference_mode_enabled():
        raise RuntimeError(
            "input was made in inference mode, and inplace=True would write to it outside of that: "
            "give input.clone()"
        )
    if 0 in x.stride() and any(n > 1 and not s for n, s in zip(x.shape, x.stride(), strict=True)):
        raise RuntimeError(
            "input has elements that share memory, and inplace=True would write them twice: give "
            "input.clone()"
        )


def check_parameter(operation: str, parameter: Any, x: Tensor) -> None:
    """Refuse a factor or a fill value that does not fit the dtype of x."""
    if _compiling() or (parameter is None and operation != "fill"):
        return  # compiled, the operator checks it
    dtype = _numpy_dtype(x.dtype)
    if operation == "fill":
        filling(parameter, dtype)
    else:
        coefficients_of(1.0, dtype, parameter)


@functools.cache
def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    """Return NumPy's dtype of numbers of the same range."""
    name = "float32" if dtype == torch.bfloat16 else str(dtype).removeprefix("torch.")
    try:
        known = np.dtype(name)
    except TypeError:
        known = np.dtype(object)
    if known.isbuiltin != 1 or known.hasobject:
        raise NotImplementedError(
            f"input has {dtype}, which NumPy has not: give .view(dtype) of an integer type"
        )
    return known


def check_operand(name: str, operand: Tensor, x: Tensor) -> None:
    check_tensor(operand, name)
    if operand.dtype != x.dtype or operand.device != x.device:
        raise TypeError(
            f"{name} is of {operand.dtype} on {operand.device}, and input of {x.dtype} on "
            f"{x.device}: give {name}.to(input)"
        )
    try:
        fits = operand.expand(x.shape) is not None
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(operand.shape)}, which does not broadcast to that of input, "
            f"{tuple(x.shape)}"
        )
