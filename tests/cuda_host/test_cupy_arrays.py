"""CuPy arrays over host memory: types of results, devices, overlap, and errors."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support import gpu_cases, oracle
from tests.support.devices import HostDevice, cupy_or_skip
from tests.support.gpu_cases import KEY

cupy_or_skip()


def on_device(host: HostDevice, x: Any) -> Any:
    return host.put(np.asarray(x))


def test_the_result_is_a_cupy_array_of_the_shape_and_layout_of_x(host: HostDevice) -> None:
    for x in (on_device(host, np.ones(())), on_device(host, np.ones((0, 3)))):
        y = fd.dropout(x, 0.5, rng=1)
        assert isinstance(y, host.cupy.ndarray)
        assert (y.shape, y.dtype) == (x.shape, x.dtype)
        assert y is not x
    cube = on_device(host, np.ones((2, 3, 4))).transpose(2, 0, 1)
    assert fd.dropout(cube, 0.5, rng=1).strides == cube.strides


def test_evaluation_returns_x_itself(asked: Any) -> None:
    host, driver = asked
    x = on_device(host, np.ones(5))
    assert fd.dropout(x, 0.5, training=False) is x
    assert fd.masked_fill(x, 0.5, 1.0, training=False) is x
    layer = fd.Dropout(0.5, rng=1).eval()
    assert layer(x) is x
    assert layer.backward(x) is x
    assert driver.calls == []


def test_evaluation_with_out_copies(host: HostDevice) -> None:
    x = gpu_cases.numbers("float16", (6, 7))
    out = on_device(host, np.zeros((7, 6), np.float16)).T
    assert fd.dropout(on_device(host, x), 0.5, training=False, out=out) is out
    oracle.assert_same(np.ascontiguousarray(host.get(out)), x)
    memory = on_device(host, np.arange(20.0))
    fd.dropout(memory[:-3], 0.5, training=False, out=memory[3:])
    np.testing.assert_array_equal(host.get(memory), [0, 1, 2, *range(17)])


def test_overlap_is_as_if_there_were_none(asked: Any) -> None:
    host, driver = asked
    x = np.arange(1.0, 101.0)
    # What is read and written, and whether it takes a copy.
    cases = [
        (slice(0, 90), slice(10, 100), True),
        (slice(10, 100), slice(0, 90), True),
        (slice(0, 50), slice(50, 100), False),
        (slice(0, None, 2), slice(1, None, 2), False),
        (slice(None, None, -1), slice(None), True),
        (slice(0, 100), slice(0, 100), False),
    ]
    for read, written, copied in cases:
        memory = on_device(host, x)
        del driver.calls[:]
        fd.dropout(memory[read], 0.5, rng=KEY, out=memory[written])
        expected = x.copy()
        expected[written] = oracle.dropped(x[read], 0.5, KEY)
        oracle.assert_same(host.get(memory), expected)
        assert len(driver.calls) == 1 + copied, (read, written)


def test_an_out_that_overlaps_itself(host: HostDevice) -> None:
    x = np.ones((5, 8), np.float32)
    row = on_device(host, np.zeros(8, np.float32))
    out = host.cupy.broadcast_to(row, (5, 8))
    assert fd.dropout(on_device(host, x), 0.5, rng=KEY, out=out) is out
    assert set(host.get(row)) <= {0.0, 2.0}
    marks = host.cupy.broadcast_to(on_device(host, np.zeros(8, np.bool_)), (5, 8))
    fd.dropout_mask((5, 8), 1.0, rng=KEY, out=marks)
    assert not host.get(marks).any()


def test_inputs_that_are_broadcast(host: HostDevice) -> None:
    row = gpu_cases.numbers("float32", (9,))
    wide = host.cupy.broadcast_to(on_device(host, row), (4, 9))
    y = fd.dropout(wide, 0.5, rng=KEY)
    oracle.assert_same(host.get(y), oracle.dropped(np.broadcast_to(row, (4, 9)), 0.5, KEY))


def test_memory_that_two_libraries_share_is_seen_to_overlap(host: HostDevice) -> None:
    memory = np.arange(1.0, 41.0)
    cuda = host.cupy.cuda

    def foreign(first: int, n: int) -> Any:
        part = memory[first : first + n]
        owned = cuda.UnownedMemory(part.ctypes.data, part.nbytes, part, 0)
        return host.cupy.ndarray((n,), np.float64, cuda.MemoryPointer(owned, 0))

    expected = oracle.dropped(memory[:30], 0.5, KEY)
    assert not host.cupy.may_share_memory(foreign(0, 30), foreign(7, 30))  # CuPy's own view of it
    fd.dropout(foreign(0, 30), 0.5, rng=KEY, out=foreign(7, 30))
    oracle.assert_same(memory[7:37].copy(), expected)


def test_masks_lie_where_like_or_out_lies(host: HostDevice) -> None:
    x = on_device(host, np.ones(3))
    for packed, dtype in ((False, np.bool_), (True, np.uint8)):
        made = fd.dropout_mask(40, 0.5, rng=KEY, packed=packed, like=x)
        assert isinstance(made, host.cupy.ndarray)
        assert made.dtype == dtype
        plain = fd.dropout_mask(40, 0.5, rng=KEY, packed=packed, like=np.ones(3))
        assert type(plain) is np.ndarray
        oracle.assert_same(host.get(made), plain)
        out = host.cupy.empty(plain.shape, dtype)
        assert fd.dropout_mask(40, 0.5, rng=KEY, packed=packed, out=out) is out
        oracle.assert_same(host.get(out), plain)
    with pytest.raises(TypeError, match="out is a cupy.ndarray on a GPU"):
        fd.dropout_mask(3, out=x, like=np.ones(3))
    with pytest.raises(TypeError, match="out is a numpy.ndarray.*cupy"):
        fd.dropout_mask(3, out=np.ones(3, np.bool_), like=x)


def test_errors_are_those_of_numpy_arrays(asked: Any) -> None:
    """And nothing is written, nor launched."""
    host, driver = asked
    bad: list[tuple[Any, dict[str, Any]]] = [
        (np.ones(3, np.int32), {}),
        (np.ones(3, np.complex64), {}),
        (np.ones(3), {"p": 1.5}),
        (np.ones(3), {"p": math.nan}),
        (np.ones(3), {"p": "0.5"}),
        (np.ones(3), {"scale": math.inf}),
        (np.ones(3, np.float32), {"scale": 1e300}),
        (np.ones(3), {"rng": 1.5}),
        (np.ones(3), {"rng": -1}),
        (np.ones(3), {"training": 2}),
        (np.ones(3), {"noise_shape": (2,)}),
        (np.ones(3), {"offset": -1}),
        (np.ones(3), {"offset": 2**63}),
        (np.ones(3), {"global_shape": (2,)}),
        (np.ones(3), {"out": np.ones(4)}),
        (np.ones(3), {"out": np.ones(3, np.float32)}),
    ]
    for x, given in bad:
        messages = []
        for put in (np.asarray, host.put):
            where = {**given}
            if "out" in given:
                where["out"] = put(given["out"])
            with pytest.raises((TypeError, ValueError)) as caught:
                fd.dropout(put(x), **where)
            messages.append(f"{caught.type} {caught.value}")
        assert messages[0] == messages[1], given
    assert driver.calls == []


def test_mixing_devices_is_an_error_that_says_so(host: HostDevice) -> None:
    x, far = np.ones(3), on_device(host, np.ones(3))
    with pytest.raises(TypeError, match="out is a cupy.ndarray on a GPU, where x is not"):
        fd.dropout(x, 0.5, out=far)
    with pytest.raises(TypeError, match="out is a numpy.ndarray, and x lies on a GPU"):
        fd.dropout(far, 0.5, out=x)
    with pytest.raises(TypeError, match="out is a list, and x lies on a GPU"):
        fd.dropout(far, 0.5, out=[1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="value is a cupy.ndarray, which does not lie where x does"):
        fd.masked_fill(x, 0.5, far[0])
    oracle.assert_same(host.get(fd.masked_fill(far, 0.5, far[0], rng=1)), np.ones(3))
    with host.cupy.cuda.Device(1):
        other = on_device(host, np.ones(3))
        key = fd.cuda.DeviceKey(1)
    with pytest.raises(ValueError, match="out lies on device 1, and x on device 0"):
        fd.dropout(far, 0.5, out=other)
    with pytest.raises(ValueError, match="DeviceKey on device 1, and x lies on device 0"):
        fd.dropout(far, 0.5, rng=key)


def test_the_result_lies_on_the_device_of_x_whichever_is_current(host: HostDevice) -> None:
    with host.cupy.cuda.Device(3):
        x = on_device(host, np.ones((4, 5)))
    results: list[Any] = [
        fd.dropout(x, 0.5, rng=1),
        fd.masked_fill(x, 0.5, 3.0, rng=1),
        fd.dropout_mask(7, 0.5, rng=1, like=x),
        fd.dropout_mask(7, 0.5, rng=1, like=x, packed=True),
        fd.dropout(x.T[::-1], 0.5, rng=1, out=x.T),  # which takes a copy
    ]
    assert [y.data.device_id for y in results] == [3] * 5
    assert host.cupy.cuda.runtime.getDevice() == 0


def test_layers_take_cupy_arrays(host: HostDevice) -> None:
    layer, same = (fd.Dropout(0.3, rng=5, noise_shape=(None, 1)) for _ in range(2))
    x = [gpu_cases.numbers("float32", (6, 5)) for _ in range(3)]
    for a in x:
        oracle.assert_same(host.get(layer(on_device(host, a))), same(a))
    assert len(layer._pending) == 1
    for a in x:
        with pytest.raises(ValueError, match=r"dy has shape \(5, 6\)"):
            layer.backward(on_device(host, a.T))
        oracle.assert_same(host.get(layer.backward(on_device(host, a))), same.backward(a))


def test_a_subclass_of_cupys_array_gives_a_plain_one(host: HostDevice) -> None:
    class Tagged(host.cupy.ndarray):  # type: ignore[name-defined,misc]
        pass

    x = on_device(host, np.ones(50))
    y = fd.dropout(x.view(Tagged), 0.5, rng=KEY)
    assert type(y) is host.cupy.ndarray
    oracle.assert_same(host.get(y), oracle.dropped(np.ones(50), 0.5, KEY))


def test_bfloat16_is_that_of_ml_dtypes(host: HostDevice) -> None:
    x = on_device(host, np.ones(50, ml_dtypes.bfloat16))
    assert fd.dropout(x, 0.5, rng=KEY).dtype == np.dtype(ml_dtypes.bfloat16)


def test_operands_must_lie_where_x_does(host: HostDevice) -> None:
    x = on_device(host, np.ones((4, 5), np.float32))
    with pytest.raises(TypeError, match="bias is a numpy.ndarray, which does not lie where x"):
        fd.bias_act_dropout_add(x, np.ones(5, np.float32))
    with host.cupy.cuda.Device(1):
        far = on_device(host, np.ones(5, np.float32))
    with pytest.raises(ValueError, match="residual lies on device 1, and x on device 0"):
        fd.bias_act_dropout_add(x, residual=far)
    y = fd.bias_act_dropout_add(x, [0, 1, 2, 3, 4], p=0.0, residual=1.5)
    np.testing.assert_array_equal(host.get(y), np.ones((4, 5)) + np.arange(5) + 1.5)


def test_an_array_p_is_numpys_and_lies_where_x_does(host: HostDevice) -> None:
    with host.cupy.cuda.Device(2):
        x = on_device(host, np.ones((4, 5), np.float32))
    p = [0.1, 0.9, 0.5, 0.0, 1.0]
    made: list[Any] = [
        fd.dropout(x, p, rng=1),
        fd.masked_fill(x, p, 3.0, rng=1),
        fd.dropout_mask((4, 5), p, rng=1, like=x),
    ]
    assert [y.data.device_id for y in made] == [2] * 3
    oracle.assert_same(host.get(made[0]), fd.dropout(np.ones((4, 5), np.float32), p, rng=1))
    assert fd.dropout(x, p, training=False) is x
    far, before = on_device(host, np.asarray(p)), host.get(x)
    for a in (x, np.ones((4, 5), np.float32)):
        refused = pytest.raises(TypeError, match=r"p is a cupy.ndarray.*give a numpy.ndarray")
        with refused:
            fd.dropout(a, far, rng=1, out=a)
        with refused:
            fd.masked_fill(a, far, 3.0, rng=1, out=a)
        with refused:
            fd.dropout_mask((4, 5), far, rng=1, like=a)
    with pytest.raises(ValueError, match=r"p\[1\]=1.5 is not in"):
        fd.dropout(x, [0.1, 1.5, 0.0, 0.0, 0.0], rng=1, out=x)
    with pytest.raises(ValueError, match=r"p has shape \(2,\)"):
        fd.dropout_mask((4, 5), [0.1, 0.5], rng=1, like=x)
    oracle.assert_same(host.get(x), before)
