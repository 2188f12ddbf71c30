"""Masks applied to the memory of tensors: the one place where torch's tensors meet fastdrop.

`_elementwise`, `_fused_calls` and `_ops` call it with tensors whose gradients are not recorded.
Contiguous tensors on the CPU go to the kernels by their addresses; others are viewed as NumPy
arrays, and tensors on a GPU as CuPy's (see `_cuda`), without a copy.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from .._arrays.numpy_arrays import cpu_driver
from .._call.coefficients import alpha_coefficients, alpha_scale, coefficients_of
from .._check.key import made_key
from .._functions.alpha import alpha_dropout
from .._functions.dropout import dropout, masked_fill
from . import _cuda
from ._keys import WORD, words
from ._memory import LARGE, empty_like
from ._threads import as_torch, region_at

Lengths: TypeAlias = "tuple[int, ...]"


class Placed(NamedTuple):
    """Where a tensor lies in its mask; see `fastdrop.dropout`."""

    noise_shape: Lengths | None = None
    offset: int | Lengths = 0
    global_shape: Lengths | None = None


WHOLE = Placed()


class Masking:
    """What is done to a tensor by a mask: all that a call needs beside the tensor and the key.

    Attributes
    ----------
    operation : {"drop", "alpha", "fill"}
        Its name in the kernels' catalogue.
    p : float
        Probability of dropping.
    parameter : number or None
        The factor of kept elements, or what replaces dropped ones.
    placed : Placed
        Where the tensor lies in its mask.
    gradient : Masking
        What the backward does to the gradient: all of these operations are affine.
    by_addresses : dict
        Calls on contiguous tensors on the CPU, by dtype, once they were made; None if there is
        none. A dict of each object, because hashing all the rest takes 0.3 us.
    """

    __slots__ = ("by_addresses", "gradient", "operation", "p", "parameter", "placed")

    def __init__(
        self, operation: str, p: float, parameter: Any = None, placed: Placed = WHOLE
    ) -> None:
        self.operation, self.p, self.parameter, self.placed = operation, p, parameter, placed
        self.by_addresses: dict[torch.dtype, Any] = {}
        if operation == "drop":
            self.gradient = self
        else:
            self.gradient = Masking(
                "drop", p, alpha_scale(p) if operation == "alpha" else 1.0, placed
            )

    def at(self, placed: Placed) -> Masking:
        """Return the same on a tensor that lies elsewhere in its mask."""
        return Masking(self.operation, self.p, self.parameter, placed)


_FUNCTIONS: dict[str, Callable[[Masking], tuple[Callable[..., Any], dict[str, Any]]]] = {
    "drop": lambda call: (dropout, {"scale": call.parameter}),
    "alpha": lambda call: (alpha_dropout, {}),
    "fill": lambda call: (masked_fill, {"value": call.parameter}),
}


def computed(x: Tensor, key: Tensor, call: Masking, inplace: bool = False) -> Tensor:
    """Do to a tensor whose gradient is not recorded what a call says, by the mask of a key."""
    if inplace and not (x.is_neg() or x.is_conj()):
        apply_mask(x, key, call, x)
        if not x.is_inference():
            increment_version(x)
        return x
    # What `empty_like` does besides takes 0.3 us.
    y = torch.empty_like(x) if x.numel() < _SMALL else empty_like(x)
    apply_mask(x, key, call, y)
    return x.copy_(y) if inplace else y


def apply_mask(x: Tensor, key: Tensor, call: Masking, out: Tensor) -> None:
    """Write to `out`, which is x or disjoint, and of its layout, what a call makes of x."""
    try:
        run = call.by_addresses[x.dtype]
    except KeyError:
        run = call.by_addresses[x.dtype] = _by_addresses(call, x.dtype)
    if run is not None and x.is_cpu and x.is_contiguous() and not x.is_neg():
        n, (seed, stream) = x.numel(), key.tolist()
        at = x.data_ptr()  # 0: a tensor of zeros without memory, as forward-mode makes them
        where = at, out.data_ptr(), n, call.placed.offset, seed & WORD, stream & WORD
        if n < _SERIAL:
            if at and (run.on_one_thread(*where) or run(*where)):
                return
        elif (region := region_at()) and run.on_team(*where, region):
            return
        else:
            with as_torch():
                if run(*where):
                    return
    if not out.numel():
        return
    if x.is_cuda and _cuda.apply_mask(x, key, call, out):
        return
    function, more = _FUNCTIONS[call.operation](call)
    with calling(x, key, call.p) as rng:
        function(array(x), p=call.p, rng=rng, out=array(out), **more, **call.placed._asdict())


# Elements below which no thread is worth a wait, see `fastdrop_kernels.cpu.host.openmp`.
_SERIAL = 1 << 16
_SMALL = LARGE // 8  # elements of any dtype that are fewer bytes than large
_NAMES = {
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float32: "float32",
    torch.float64: "float64",
}


def _by_addresses(call: Masking, dtype: torch.dtype) -> Any:
    """Return the call by addresses of contiguous tensors on the CPU; None if there is none."""
    plain = call.placed._replace(offset=0) == WHOLE and isinstance(call.placed.offset, int)
    if not plain or call.operation == "fill" or dtype not in _NAMES:
        return None
    driver, computed_in = cpu_driver(), np.dtype("d" if dtype == torch.float64 else "f")
    if call.operation == "alpha":
        coefficients = alpha_coefficients(call.p, computed_in)
    else:
        coefficients = coefficients_of(call.p, computed_in, call.parameter)
    operation = driver.operation_by_name(call.operation, _NAMES[dtype], dtype.itemsize)
    return driver.address_call(operation, *coefficients)


@contextlib.contextmanager
def calling(x: Tensor, key: Tensor, p: float) -> Iterator[Any]:
    """Let calls on `array(x)` use the threads, or the stream, that torch uses; with their rng."""
    if x.is_cpu:
        with as_torch():
            yield made_key(*words(key))
    else:
        with _cuda.launching(x, key, p) as rng:
            yield rng


def array(x: Tensor) -> Any:
    """Return what the public functions take in the place of a tensor, without a copy."""
    x = x.detach()
    if x.is_neg() or x.is_conj() or x._is_zerotensor():
        x = x.clone()  # which computes what its memory only says
    if not x.is_cpu:
        return _cuda.view(x)
    if x.dtype == torch.bfloat16:
        return x.view(torch.int16).numpy().view(_bfloat16())
    return x.numpy()


@functools.cache
def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "a bfloat16 tensor of this layout needs ml_dtypes: pip install ml_dtypes"
        ) from None
    known: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return known
