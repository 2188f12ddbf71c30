"""xarray's DataArrays that hold Dask arrays keep their labels, and stay lazy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.dask_cases import KEY, calls, dask_array, fd, normal
from tests.support.oracle import data

da = dask_array()
xarray: Any = pytest.importorskip("xarray")


def arrays() -> tuple[Any, Any]:
    """Return an array, and the same one in chunks."""
    x = xarray.DataArray(
        normal((6, 8)),
        dims=("time", "space"),
        coords={"time": np.arange(6) * 10, "space": list("abcdefgh")},
        name="v",
        attrs={"unit": "m"},
    )
    return x, x.chunk({"time": 4, "space": 3})


def assert_lazy(result: Any, expected: Any) -> None:
    assert isinstance(result, xarray.DataArray)
    assert isinstance(result.data, da.Array)
    computed = result.compute()
    xarray.testing.assert_identical(computed, expected)
    assert data(computed.values) == data(expected.values)


def test_results_are_lazy_and_labelled() -> None:
    x, lazy = arrays()
    bias = x[0]
    for call in calls(
        lambda x, bias: fd.dropout(x, 0.3, rng=KEY),
        lambda x, bias: fd.dropout(x, np.full(8, 0.5), rng=KEY),
        lambda x, bias: fd.alpha_dropout_backward(x, 0.3, rng=KEY),
        lambda x, bias: fd.masked_fill(x, 0.3, 1, rng=KEY),
        lambda x, bias: fd.bias_act_dropout_add(x, bias, "relu", rng=KEY, residual=x),
        lambda x, bias: fd.bias_act_dropout_add_backward(x, x, bias, "relu", rng=KEY)[0],
        lambda x, bias: fd.zoneout_backward(x, 0.3, rng=KEY)[1],
        lambda x, bias: fd.softmax_dropout(
            x if bias is None or x.chunks is None else x.chunk({"space": -1}), 0.3, rng=KEY
        ),
        lambda x, bias: fd.Dropout(0.3, rng=KEY)(x),
        lambda x, bias: x * fd.Mask(x.shape, 0.3, rng=KEY),
    ):
        for operand in (bias, lazy[0]):
            assert_lazy(call(lazy, operand), call(x, bias))
    assert fd.dropout(lazy, training=False) is lazy


def test_gradients_of_a_labelled_bias_have_its_labels() -> None:
    x, lazy = arrays()
    for bias in (x[0], lazy[0]):
        dbias = fd.bias_act_dropout_add_backward(lazy, lazy, bias, "relu", rng=KEY)[1]
        assert isinstance(dbias.data, da.Array)
        expected = fd.bias_act_dropout_add_backward(x, x, x[0], "relu", rng=KEY)[1]
        xarray.testing.assert_allclose(dbias.compute(), expected, rtol=1e-6)


def test_other_labels_and_out_are_refused() -> None:
    x, lazy = arrays()
    with pytest.raises(ValueError, match="other labels"):
        fd.bias_act_dropout_add(lazy, x[0].assign_coords(space=list("hgfedcba")), rng=1)
    with pytest.raises(TypeError, match="computed later"):
        fd.dropout(lazy, 0.3, rng=1, out=x.values)
    with pytest.raises(TypeError, match="x is not lazy"):
        fd.bias_act_dropout_add(x, lazy, rng=1)


def test_apply_ufunc_gives_each_block_the_same_mask_and_fastdrop_does_not() -> None:
    lazy = xarray.DataArray(da.ones((8, 8), chunks=(4, 8), dtype=np.float32), dims=("a", "b"))
    settings: dict[str, Any] = {"p": 0.5, "rng": KEY}
    naive = xarray.apply_ufunc(
        fd.dropout, lazy, kwargs=settings, dask="parallelized", output_dtypes=["f4"]
    ).values
    np.testing.assert_array_equal(naive[:4], naive[4:])
    assert data(fd.dropout(lazy, **settings).values) == data(
        fd.dropout(np.ones((8, 8), np.float32), **settings)
    )


def test_a_mask_like_a_lazy_array_has_its_chunks_and_no_labels() -> None:
    x, lazy = arrays()
    mask = fd.dropout_mask(lazy.shape, 0.3, rng=KEY, like=lazy)
    assert isinstance(mask, da.Array)
    assert mask.chunks == lazy.chunks
    assert data(mask.compute()) == data(fd.dropout_mask(x.shape, 0.3, rng=KEY))
