"""Tensors on a GPU: as CuPy arrays on torch's current stream, and keys that kernels read there.

`_compute` calls `launching` and `view` around the public functions, and `_checks` calls `check`.
All memory is torch's, and all work on it is launched where torch's own is: between both there are
no events, no copies and no waits. CuPy is imported when the first such tensor comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._arrays.cupy_arrays import CupyBackend, cupy_backend
from .._check.key import Key, KeyOnDevice, made_key
from ._keys import words

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
    _dtype_of(x)


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
    check(x)
    device, current = x.get_device(), torch.cuda.current_stream(x.device)
    with _backend().on_stream(current.cuda_stream, device) as captured:
        if not key.is_cpu:
            yield _KeyOfTensor(key, x)
        elif captured and p:
            raise RuntimeError(
                "a CUDA graph is being captured, and the key lies on the host, so that each replay "
                "would draw the same mask: give no key, which draws one of torch's generator on "
                "the GPU at each replay, or one in its memory, such as key=torch.tensor([seed, "
                "stream], device='cuda') and key[1] += 1 at the end of the graph (as "
                "fastdrop.cuda.DeviceKey does for CuPy)"
            )
        else:
            yield made_key(*words(key))


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
    return _backend().view_of_memory(*memory, shape, _dtype_of(x), strides)


def _dtype_of(x: Tensor) -> np.dtype[Any]:
    if known := _DTYPES.get(x.dtype):
        return known
    if x.dtype == torch.bfloat16:
        return _backend().bfloat16("input", "torch")
    raise NotImplementedError(f"input has {x.dtype}, which CuPy's arrays have not")


def _backend() -> CupyBackend:
    try:
        return cupy_backend()
    except ImportError as error:
        raise ImportError(
            f"input is a tensor on a GPU, and CuPy, through which fastdrop computes there, cannot "
            f"be imported ({error}): pip install 'fastdrop-kernels[cuda13]' (or [cuda12]), or give "
            "input.cpu()"
        ) from None
