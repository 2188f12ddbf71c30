"""Tensors on a GPU: as CuPy arrays on torch's current stream, and keys that kernels read there.

`_compute` calls `apply_mask`, or `launching` and `view` around the public functions, and `_checks`
calls `check`.
All memory is torch's, and all work on it is launched where torch's own is: between both there are
no events, no copies and no waits. CuPy is imported when the first such tensor comes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .._arrays import overlap
from .._arrays.adapter import Operation
from .._arrays.cupy_arrays import CupyBackend, cupy_backend
from .._call.coefficients import alpha_coefficients, coefficients_of
from .._check.key import Key, KeyOnDevice, made_key
from .._check.placement import placement_of
from ._keys import words

if TYPE_CHECKING:
    from ._compute import Masking

_NAMES = (
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_DTYPES = {getattr(torch, name): np.dtype(name) for name in _NAMES}


def check(x: Tensor) -> None:
    """Raise if nothing here computes on the device of a tensor, or with its dtype there."""
    if not x.is_cuda:
        raise NotImplementedError(
            f"input is on the device {x.device}, and fastdrop computes on the CPU and on CUDA "
            "devices: give input.cpu()"
        )
    _backend()
    _dtype_of(x.dtype)


def is_capturing() -> bool:
    """Say whether torch's current stream is captured in a CUDA graph."""
    # Before, there is no stream. A torch without CUDA knows the device of fake tensors only.
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return False
    return torch.cuda.is_current_stream_capturing()


@contextlib.contextmanager
def launching(x: Tensor, key: Tensor, p: float) -> Iterator[Key | KeyOnDevice]:
    """Let calls on views run on torch's current stream of the device of x; the value is the key.

    A key on a GPU is read by the kernels when they run. One on the host would be the same in all
    replays of a graph, which is an error.
    """
    with _on_stream(x) as captured:
        yield _key(x, key, captured and p > 0)


def apply_mask(x: Tensor, key: Tensor, call: Masking, out: Tensor) -> bool:
    """Write to `out`, which is x or disjoint, what a call makes of x; False if that has no plan.

    Then nothing has been done. The call is planned once for tensors of a layout, and then needs
    their addresses alone.
    """
    parameter = call.parameter
    # Zeros of both signs are equal here, and numbers of all types, but not the same parameters.
    if call.operation == "fill" or not (
        parameter is None or (type(parameter) is float and parameter)
    ):
        return False
    source = x.data_ptr()
    if not source or x.is_neg():
        return False
    what = call.operation, call.p, parameter, *call.placed
    run = _by_addresses(what, x.dtype, tuple(x.shape), x.stride(), out.stride())
    if run is None:
        return False
    with _on_stream(x) as captured:
        rng = _key(x, key, captured and call.p > 0)
        if isinstance(rng, Key):
            run(source, out.data_ptr(), *rng)
        else:
            run(source, out.data_ptr(), 0, 0, key_pointer=rng.pointer)
    return True


@functools.lru_cache(maxsize=512)
def _by_addresses(
    what: tuple[Any, ...],
    dtype: torch.dtype,
    shape: tuple[int, ...],
    steps: tuple[int, ...],
    steps_of_out: tuple[int, ...],
) -> Any:
    """Return ``call(x, y, seed, stream, *, key_pointer)`` for addresses, if there is one."""
    operation, p, parameter, *placed = what
    known, driver = _dtype_of(dtype), _backend().driver
    strides, written = (
        tuple([step * known.itemsize for step in those]) for those in (steps, steps_of_out)
    )
    if overlap.overlaps_itself(overlap.addresses(known.itemsize, shape, written, known.itemsize)):
        return None
    if operation == "alpha":
        coefficients = alpha_coefficients(p, known)
    else:
        coefficients = coefficients_of(p, known, parameter)
    placement = placement_of(shape, *placed)
    chosen = Operation(operation, known).of(driver)
    return driver.layout_call(chosen, shape, strides, written, *placement, *coefficients)


def _on_stream(x: Tensor) -> contextlib.AbstractContextManager[bool]:
    """Return a context for work on torch's current stream; its value is if it is captured."""
    check(x)
    device = x.get_device()
    return _backend().on_stream(torch.cuda.current_stream(device).cuda_stream, device)


def _key(x: Tensor, key: Tensor, repeated: bool) -> Key | _KeyOfTensor:
    """Return the key of a call; `repeated` says that a graph repeats it, by a mask."""
    if not key.is_cpu:
        return _KeyOfTensor(key, x)
    if repeated:
        raise RuntimeError(
            "a CUDA graph is being captured, and the key lies on the host, so that each replay "
            "would draw the same mask: give no key, which draws one of torch's generator on the "
            "GPU at each replay, or one in its memory, such as key=torch.tensor([seed, stream], "
            "device='cuda') and key[1] += 1 at the end of the graph (as fastdrop.cuda.DeviceKey "
            "does for CuPy)"
        )
    return made_key(*words(key))


class _KeyOfTensor(KeyOnDevice):
    """A key in the memory of a tensor, which lies there, or is copied there, by torch."""

    def __init__(self, key: Tensor, x: Tensor) -> None:
        key = key.detach()
        self._key = (key if key.device == x.device else key.to(x.device)).contiguous()

    @property
    def pointer(self) -> int:
        """Device address of seed and stream."""
        return self._key.data_ptr()

    @property
    def device(self) -> int:
        """Number of the device."""
        return self._key.get_device()

    def key(self) -> Key:
        """Return the key; waits for the device."""
        return made_key(*words(self._key))


def view(x: Tensor) -> Any:
    """Return a tensor as a CuPy array, for calls in `launching`.

    By its address, because an export by DLPack would ask for an order of streams at each call.
    """
    size, shape, steps = x.itemsize, tuple(x.shape), x.stride()
    last = sum([(n - 1) * step for n, step in zip(shape, steps, strict=True)])
    strides = tuple([step * size for step in steps])
    memory = x, x.data_ptr(), max(last + 1, 0) * size, x.get_device()
    return _backend().view_of_memory(*memory, shape, _dtype_of(x.dtype), strides)


def _dtype_of(dtype: torch.dtype) -> np.dtype[Any]:
    if known := _DTYPES.get(dtype):
        return known
    if dtype == torch.bfloat16:
        return _backend().bfloat16("input", "torch")
    raise NotImplementedError(f"input has {dtype}, which CuPy's arrays have not")


def _backend() -> CupyBackend:
    try:
        return cupy_backend()
    except ImportError as error:
        raise ImportError(
            f"input is a tensor on a GPU, and CuPy, through which fastdrop computes there, cannot "
            f"be imported ({error}): pip install 'fastdrop-kernels[cuda13]' (or [cuda12]), or give "
            "input.cpu()"
        ) from None
