"""Dask arrays whose blocks are CuPy's, over the host's memory, stay arrays of CuPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.dask_cases import KEY, calls, dask_array, each, fd, normal
from tests.support.devices import HostDevice, cupy_or_skip
from tests.support.oracle import data

da = dask_array()
cupy = cupy_or_skip()


def on(device: HostDevice, x: Any, rows: int) -> Any:
    """Return a Dask array of CuPy's, of blocks of some rows, which Dask does not copy."""
    meta = device.put(np.empty((0,) * x.ndim, x.dtype))
    name = f"blocks-of-{x.ndim}-axes"
    blocks = {
        (name, n, *[0] * (x.ndim - 1)): device.put(x[n * rows : (n + 1) * rows])
        for n in range(-(-len(x) // rows))
    }
    chunks = da.core.normalize_chunks((rows, *[-1] * (x.ndim - 1)), x.shape)
    return da.Array(blocks, name, chunks, meta=meta)


def test_blocks_stay_cupys(host: HostDevice) -> None:
    x = normal((6, 8))
    lazy, bias = on(host, x, 4), normal((8,))
    for call in calls(
        lambda x, of: fd.dropout(x, 0.5, rng=KEY),
        lambda x, of: fd.dropout(x, each((8,)), rng=KEY),
        lambda x, of: fd.zoneout(x, of(bias), 0.5, rng=KEY),
        lambda x, of: fd.zoneout(x, 2.0, 0.5, rng=KEY),
        lambda x, of: fd.masked_fill(x, 0.5, of(bias), rng=KEY),
        lambda x, of: fd.zoneout_backward(x, 0.5, rng=KEY)[1],
        lambda x, of: fd.dropout_mask(x.shape, 0.5, rng=KEY, like=x),
    ):
        result, expected = call(lazy, lambda b: on(host, b, 8)), call(x, np.asarray)
        assert isinstance(result._meta, cupy.ndarray)
        assert (result._meta.dtype, result._meta.ndim) == (expected.dtype, expected.ndim)
        blocks = [part.compute(scheduler="synchronous") for part in result.to_delayed().ravel()]
        assert all(isinstance(block, cupy.ndarray) for block in blocks)
        assert b"".join(data(host.get(block)) for block in blocks) == data(expected)


def test_operands_must_lie_where_x_does(host: HostDevice) -> None:
    lazy = on(host, normal((6, 8)), 4)
    with pytest.raises(TypeError, match=r"bias is made of numpy\.ndarray, and x of cupy\.ndarray"):
        fd.bias_act_dropout_add(lazy, normal((8,)), rng=1)
    with pytest.raises(TypeError, match="p is a Dask array of CuPy's"):
        fd.dropout(lazy, on(host, normal((6, 8)), 4), rng=1)
