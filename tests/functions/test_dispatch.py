"""Who computes: chosen by the type of x, without importing anything that x does not come from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop._arrays.dispatch import backend_of
from fastdrop._arrays.numpy_arrays import NUMPY
from tests.support.subprocesses import assert_succeeds, run_python


class Foreign:
    """An array of a library that nobody knows."""

    def __init__(self, device: int | None = None) -> None:
        self._device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        if self._device is None:
            raise RuntimeError("it has no memory")
        return self._device, 0


class Interfaced:
    """The same, which says where it lies in the older way."""

    def __init__(self, pointer: int = 1) -> None:
        self.__cuda_array_interface__ = {
            "shape": (3,),
            "typestr": "<f4",
            "data": (pointer, False),
            "version": 3,
        }


@pytest.mark.slow
def test_calls_with_numpy_arrays_import_nothing_of_a_gpu() -> None:
    code = """
import sys
import numpy as np
import fastdrop as fd
x = np.ones((4, 5), np.float32)
layer = fd.Dropout(0.5, rng=1)
for a in (x, x.T[::2], x.astype(float), [1.0, 2.0], 3.0, np.float32(1)):
    fd.dropout(a, 0.5, rng=1, offset=3)
    layer.backward(layer(a))
    fd.dropout(a, training=False)
    fd.masked_fill(a, 0.5, 0, rng=1)
for packed in (False, True):
    fd.dropout_mask((4, 5), rng=1, packed=packed)
    fd.dropout_mask((4, 5), rng=1, packed=packed, like=x)
for wrong in ({"rng": object()}, {"out": [1.0]}, {"p": 2}):
    try:
        fd.dropout(x, **wrong)
    except (TypeError, ValueError):
        pass
    else:
        raise AssertionError(wrong)
ours = ("fastdrop._arrays.cupy_arrays", "fastdrop_kernels.cuda")
gpu = ("cupy", "cupyx", "numba.cuda", "torch", *ours)
print([name for name in gpu if name in sys.modules])
"""
    assert assert_succeeds(run_python(code)) == "[]\n"


def test_everything_that_numpy_makes_arrays_of_is_numpys() -> None:
    for x in (np.ones(3), np.float32(1), 2.0, [1.0], (1.0,), None, "a", memoryview(b"ab")):
        assert backend_of(x) is NUMPY


def test_a_cupy_that_is_still_being_imported_disturbs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    assert backend_of([1.0, 2.0]) is NUMPY
    assert fd.dropout([1.0, 2.0], 0.0, rng=1).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("x", [Foreign(2), Foreign(13), Interfaced()])
def test_an_array_on_a_gpu_without_cupy_is_an_error_that_says_what_to_install(
    x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastdrop._arrays import cupy_arrays as _gpu

    _gpu.cupy_backend.cache_clear()
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    functions: list[Callable[[], Any]] = [
        lambda: fd.dropout(x, 0.5, rng=1),
        lambda: fd.masked_fill(x, 0.5, 1.0, rng=1),
        lambda: fd.dropout_mask(3, 0.5, rng=1, like=x),
        lambda: fd.dropout_mask(3, 0.5, rng=1, out=x),
        lambda: fd.Dropout(0.5, rng=1)(x),
    ]
    for function in functions:
        with pytest.raises(TypeError, match=rf"tests\.{type(x).__name__}.*pip install"):
            function()


@pytest.mark.parametrize("x", [Foreign(1), Foreign(None)])
def test_an_array_that_is_on_no_gpu_is_left_to_numpy(x: Any) -> None:
    assert backend_of(x) is NUMPY
    with pytest.raises(TypeError, match=r"x is a tests\.Foreign: give an array of numbers"):
        fd.dropout(x, 0.5, rng=1)


def test_tensors_on_the_cpu_are_an_error_that_says_the_way() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for x in (torch.ones(3), torch.ones(3, requires_grad=True)):
        with pytest.raises(TypeError, match=r"torch\.Tensor.*detach\(\)\.cpu\(\)\.numpy\(\)"):
            fd.dropout(x, 0.5, rng=1)
        with pytest.raises(TypeError, match=r"out is a torch\.Tensor: give a numpy\.ndarray"):
            fd.dropout(np.ones(3), 0.5, rng=1, out=x)


def test_a_device_key_without_cupy_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError):
        fd.cuda.DeviceKey(1)


def test_every_backend_has_what_the_others_have() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed: pip install -e '.[cuda13]'")
    import inspect

    from fastdrop._arrays import adapter as _backend
    from fastdrop._arrays import cupy_arrays as _gpu
    from fastdrop._arrays import numpy_arrays as _numpy

    for kind in (_numpy.NumpyBackend, _gpu.CupyBackend, _gpu.NumbaThroughCupy):
        for name, method in inspect.getmembers(_backend.Backend, inspect.isfunction):
            signature = inspect.signature(getattr(kind, name))
            variadic = inspect.Parameter.VAR_POSITIONAL
            if not any(p.kind is variadic for p in signature.parameters.values()):
                assert list(signature.parameters) == list(inspect.signature(method).parameters)
