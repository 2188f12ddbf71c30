"""Keys in a GPU's memory, over CuPy arrays on the host: what they draw, and how they count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import gpu_cases, oracle
from tests.support.devices import HostDevice, cupy_or_skip, seen
from tests.support.gpu_cases import CALLS, KEY, LAYOUTS, Call

cupy_or_skip()


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_a_device_key_draws_what_its_key_draws(host: HostDevice, call: Call) -> None:
    key = fd.cuda.DeviceKey(KEY)
    named = next(c for c in gpu_cases.calls(key) if c.name == call.name)
    gpu_cases.check(host, named, LAYOUTS[2], 0.4, {"noise_shape": (None, 1)})
    gpu_cases.check_packed(host, (17, 5), 0.4, {}, key)


def test_a_device_key_has_its_kernel_loaded(asked: Any) -> None:
    """Before anybody captures a stream, which may not allow it then."""
    _, driver = asked
    key = fd.cuda.DeviceKey(fd.Key(3, 0))
    assert driver.calls == ["advance"]
    assert seen(key.words).tolist() == [3, 0]


def test_a_device_key_counts_as_a_layer_does(host: HostDevice) -> None:
    start = fd.Key(7, 2**64 - 2)
    key, layer = fd.cuda.DeviceKey(start), fd.Dropout(0.5, rng=start)
    assert repr(key) == "<DeviceKey on device 0>"
    assert key.pointer == key.words.data.ptr
    x = host.put(np.ones(100, np.float32))
    for n in range(4):
        y = fd.dropout(x, 0.5, rng=key)
        oracle.assert_same(host.get(y), host.get(layer(x)))
        key.advance()
        assert seen(key.words).tolist() == [7, (2**64 - 1 + n) % 2**64]


def test_a_device_key_is_for_arrays_on_a_gpu(host: HostDevice) -> None:
    key: Any = fd.cuda.DeviceKey(1)
    x = np.ones(3)
    for call in (
        lambda: fd.dropout(x, 0.5, rng=key),
        lambda: fd.masked_fill(x, 0.5, 1.0, rng=key),
        lambda: fd.dropout_mask(3, 0.5, rng=key),
        lambda: fd.as_key(key),
        lambda: fd.Dropout(0.5, rng=key),
    ):
        with pytest.raises(TypeError, match=r"rng is a DeviceKey.*rng\.key\(\)"):
            call()
