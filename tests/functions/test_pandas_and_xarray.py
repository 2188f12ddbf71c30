"""pandas and xarray objects keep their labels, names and attributes in every function."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop
from tests.support.oracle import data
from tests.support.subprocesses import assert_succeeds, run_python

fd: Any = fastdrop  # the type of results is that of arrays without labels
SHAPE = (3, 4)
Call = Callable[..., Any]
FUNCTIONS: dict[str, Call] = {
    "dropout": lambda x, **k: fd.dropout(x, 0.5, **k),
    "p array": lambda x, **k: fd.dropout(x, np.full(x.shape, 0.5), **k),
    "noise_shape": lambda x, **k: fd.dropout(x, 0.5, noise_shape=(1,), **k),
    "masked_fill": lambda x, **k: fd.masked_fill(x, 0.5, 7, **k),
    "alpha_dropout": lambda x, **k: fd.alpha_dropout(x, 0.5, **k),
    "alpha_dropout_backward": lambda x, **k: fd.alpha_dropout_backward(x, 0.5, **k),
    "gaussian_dropout": lambda x, **k: fd.gaussian_dropout(x, 0.5, **k),
    "gaussian_noise": lambda x, **k: fd.gaussian_noise(x, 0.5, **k),
    "drop_path": lambda x, **k: fd.drop_path(x, 0.5, **k),
    "softmax_dropout": lambda x, **k: fd.softmax_dropout(x, 0.5, **k),
    "softmax_dropout_backward": lambda x, **k: fd.softmax_dropout_backward(x, x, 0.5, **k),
    "bias_act_dropout_add": lambda x, **k: fd.bias_act_dropout_add(x, 1.0, "relu", 0.5, **k),
    "residual": lambda x, **k: fd.bias_act_dropout_add(x, x, "relu", 0.5, residual=x, **k),
    "bias_act_dropout_add_backward": lambda x, **k: fd.bias_act_dropout_add_backward(
        x, x, x, "relu", 0.5, **k
    )[0],
    "dbias": lambda x, **k: fd.bias_act_dropout_add_backward(x, x, x, "relu", 0.5, **k)[1],
}
OF_CHANNELS: dict[str, Call] = {
    "feature_dropout": lambda x, **k: fd.feature_dropout(x, 0.5, **k),
    "feature_alpha_dropout": lambda x, **k: fd.feature_alpha_dropout(x, 0.5, **k),
    "feature_alpha_dropout_backward": lambda x, **k: fd.feature_alpha_dropout_backward(x, 0.5, **k),
}
OF_MAPS: dict[str, Call] = {
    "drop_block2d": lambda x, **k: fd.drop_block2d(x, 0.3, 2, **k),
}


def values(shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def frame(dtype: Any = np.float32) -> Any:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    # In C order, whose kernels other tests compile too; pandas would copy to Fortran order.
    given: dict[str, Any] = {"index": ["r", "s", "t"], "columns": [5, 3, "a", "b"], "copy": False}
    x = pandas.DataFrame(values(SHAPE, dtype), **given)
    x.index.name, x.columns.name = "row", "column"
    x.attrs["unit"] = "m"
    return x


def series(dtype: Any = np.float32) -> Any:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    x = pandas.Series(values((5,), dtype), index=list("vwxyz"), name="speed")
    x.attrs["unit"] = "m/s"
    return x


def data_array(shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> Any:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    names = "tcyxabdefg"[: len(shape)]
    coordinates = {names[0]: np.arange(shape[0]) * 10, "height": 2.0} if shape else {}
    return xarray.DataArray(
        values(shape, dtype), dims=list(names), coords=coordinates, name="temperature",
        attrs={"unit": "K"},
    )  # fmt: skip


def assert_labels(y: Any, x: Any) -> None:
    """Check that y has the labels, names and attributes of x."""
    assert type(y) is type(x)
    assert y.attrs == x.attrs
    if hasattr(x, "dims"):
        assert y.dims == x.dims and y.name == x.name and y.encoding == x.encoding
        assert set(y.coords) == set(x.coords)
        for name in x.coords:
            assert y.coords[name].identical(x.coords[name])
        return
    assert y.index.equals(x.index) and y.index.name == x.index.name
    if x.ndim == 2:
        assert y.columns.equals(x.columns) and y.columns.name == x.columns.name
    else:
        assert y.name == x.name


MADE: dict[str, tuple[Callable[..., Any], dict[str, Call]]] = {
    "DataFrame": (frame, {**FUNCTIONS, **OF_CHANNELS}),
    "Series": (series, FUNCTIONS),
    "DataArray": (data_array, {**FUNCTIONS, **OF_CHANNELS}),
    "maps": (lambda: data_array((2, 3, 6, 5)), {**OF_CHANNELS, **OF_MAPS}),
}
CASES = [(kind, name) for kind, (_, functions) in MADE.items() for name in functions]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_labels_are_kept_and_bits_are_those_of_the_values(kind: str, name: str) -> None:
    make, functions = MADE[kind]
    x, call = make(), functions[name]
    before = x.copy()
    for training in (True, False):
        y = call(x, rng=3, training=training)
        assert_labels(y, x)
        expected = call(x.to_numpy(), rng=3, training=training)
        assert y.to_numpy().dtype == np.float32
        assert data(y.to_numpy()) == data(np.asarray(expected))
    assert_labels(x, before)
    assert data(x.to_numpy()) == data(before.to_numpy())


@pytest.mark.parametrize("make", [frame, series, data_array])
def test_the_result_does_not_share_what_can_be_written_to(make: Any) -> None:
    x = make()
    y = fd.dropout(x, 0.0, rng=1)
    y.attrs["unit"] = "other"
    assert x.attrs["unit"] != "other"
    assert not np.shares_memory(y.to_numpy(), x.to_numpy())


@pytest.mark.parametrize("make", [frame, series, data_array])
def test_out_is_an_array_of_numpys(make: Any) -> None:
    x = make()
    out = np.empty(x.shape, np.float32)
    for training in (True, False):
        assert fd.dropout(x, 0.5, rng=1, training=training, out=out) is out
        expected = fd.dropout(x.to_numpy(), 0.5, rng=1, training=training)
        assert data(out) == data(np.ascontiguousarray(expected))
    kind = f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"
    with pytest.raises(TypeError, match=rf"out is an? {kind}: give a numpy\.ndarray"):
        fd.dropout(x, 0.5, rng=1, out=x)


@pytest.mark.parametrize("make", [frame, series, data_array])
def test_layers_keep_labels(make: Any) -> None:
    x = make()
    for layer in (fd.Dropout(0.5, rng=3), fd.AlphaDropout(0.5, rng=3), fd.SoftmaxDropout(rng=3)):
        y = layer(x)
        assert_labels(y, x)
        assert_labels(layer.backward(y), x)
        assert_labels(layer.eval()(x), x)
    layer = fd.BiasActDropoutAdd("relu", 0.5, rng=3)
    assert_labels(layer(x, x, residual=x), x)
    for gradient in layer.backward(x):
        assert_labels(gradient, x)
    with pytest.raises(ValueError, match="dy has shape"):
        layer(x)
        layer.backward(np.ones((9, 9), np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("make", [frame, series, lambda dtype: data_array(SHAPE, dtype)])
def test_other_dtypes(make: Any, dtype: Any) -> None:
    x = make(dtype)
    y = fd.dropout(x, 0.5, rng=3)
    assert data(y.to_numpy()) == data(fd.dropout(x.to_numpy(), 0.5, rng=3))
    assert y.to_numpy().dtype == dtype


def test_masked_fill_of_what_is_no_number() -> None:
    pandas = pytest.importorskip("pandas")
    when = pandas.Series(pandas.date_range("2020-01-01", periods=9), name="when")
    y = fd.masked_fill(when, 0.5, np.datetime64("NaT"), rng=1)
    kept = fd.dropout_mask(9, 0.5, rng=1)
    assert y.dtype == when.dtype and (y.isna() == ~kept).all()
    assert (y[kept] == when[kept]).all()
    tokens = pandas.DataFrame(np.arange(12).reshape(3, 4))
    filled = fd.masked_fill(tokens, 0.5, -1, rng=1)
    assert data(filled.to_numpy()) == data(fd.masked_fill(tokens.to_numpy(), 0.5, -1, rng=1))


def test_a_mask_like_them_is_numpys() -> None:
    for x in (frame(), series(), data_array()):
        for packed in (False, True):
            mask = fd.dropout_mask(x.shape, 0.5, rng=1, like=x, packed=packed)
            assert type(mask) is np.ndarray
            assert data(mask) == data(fd.dropout_mask(x.shape, 0.5, rng=1, packed=packed))


def test_wide_and_empty_and_fragmented_frames() -> None:
    pandas = pytest.importorskip("pandas")
    fragmented = pandas.DataFrame({"a": [1.0, 2.0, 3.0]})
    fragmented["b"] = np.array([4.0, 5.0, 6.0])
    fragmented["c"] = fragmented["a"] + 1
    for x in (
        fragmented,
        fragmented.T,
        fragmented[::2],
        fragmented[["c", "a"]],
        pandas.DataFrame(np.zeros((3, 0))),
        pandas.DataFrame(np.zeros((0, 3))),
        pandas.DataFrame(np.ones((2, 2)), columns=["same", "same"]),
        pandas.concat([fragmented, fragmented], keys=["k", "l"]),
    ):
        y = fd.dropout(x, 0.5, rng=1)
        assert_labels(y, x)
        assert data(y.to_numpy(float)) == data(fd.dropout(x.to_numpy(float), 0.5, rng=1))


def test_a_subclass_stays_one() -> None:
    pandas = pytest.importorskip("pandas")

    class Named(pandas.DataFrame):  # type: ignore[misc,name-defined]
        _metadata = ["origin"]  # noqa: RUF012

        @property
        def _constructor(self) -> Any:
            return Named

    x = Named(np.ones((2, 2)))
    x.origin = "sensor"
    y = fd.dropout(x, 0.5, rng=1)
    assert type(y) is Named and y.origin == "sensor"


def test_labels_that_differ_are_no_silent_matter() -> None:
    pandas = pytest.importorskip("pandas")
    x = frame()
    bias = pandas.Series(np.arange(4, dtype=np.float32), index=x.columns)
    y = fd.bias_act_dropout_add(x, bias, p=0.0, rng=1)
    assert data(y.to_numpy()) == data((x + bias).to_numpy())
    with pytest.raises(ValueError, match=r"bias has other labels than x.*bias\.to_numpy\(\)"):
        fd.bias_act_dropout_add(x, bias[::-1], p=0.0, rng=1)
    reversed_bias = bias[::-1].to_numpy()  # as the error suggests
    assert_labels(fd.bias_act_dropout_add(x, reversed_bias, p=0.0, rng=1), x)
    with pytest.raises(ValueError, match="dy has other labels than x"):
        fd.softmax_dropout_backward(x[::-1], x, 0.5, rng=1)
    with pytest.raises(ValueError, match="residual has other labels than x"):
        fd.bias_act_dropout_add(x, residual=x[::-1], rng=1)


def test_dimensions_that_differ_are_no_silent_matter() -> None:
    x = data_array((3, 3))
    with pytest.raises(ValueError, match=r"residual has other labels than x"):
        fd.bias_act_dropout_add(x, residual=x.transpose(), rng=1)
    later = x.assign_coords(t=x.t + 5)
    with pytest.raises(ValueError, match=r"dy has other labels than x"):
        fd.softmax_dropout_backward(later, x, 0.5, rng=1)
    bias = x[0].drop_vars("t")
    assert_labels(fd.bias_act_dropout_add(x, bias, p=0.0, rng=1), x)
    _, dbias, _ = fd.bias_act_dropout_add_backward(x, x, bias, "relu", 0.5, rng=1)
    assert_labels(dbias, bias)


def test_monte_carlo_keeps_labels() -> None:
    for x in (frame(), series(), data_array()):
        mean, variance, samples = fd.mc_dropout(
            lambda x, key: fd.dropout(x, 0.5, rng=key), x, 4, rng=1, return_samples=True
        )
        assert_labels(mean, x)
        assert_labels(variance, x)
        assert type(samples) is np.ndarray
    with pytest.raises(TypeError, match=r"fn returned a pandas\.DataFrame.*\.to_numpy\(\)"):
        fd.mc_dropout(lambda x, keys: frame(), frame(), 4, rng=1, batch_size=3)


PANDAS_WAYS: dict[str, Callable[[Any], Any]] = {
    "nullable": lambda pd: pd.DataFrame({"a": [1.0, None]}, dtype="Float64"),
    "nullable series": lambda pd: pd.Series([1.0, None, 2.0], dtype="Float32"),
    "nullable integers": lambda pd: pd.Series([1, None, 2], dtype="Int64"),
    "nullable bools": lambda pd: pd.Series([True, None], dtype="boolean"),
    "sparse": lambda pd: pd.Series(pd.arrays.SparseArray([0.0, 1.0])),
    "two floats": lambda pd: pd.DataFrame({"a": np.ones(3, np.float32), "b": np.ones(3)}),
    "ints and floats": lambda pd: pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}),
    "texts and numbers": lambda pd: pd.DataFrame({"a": ["x", "y"], "b": [0.5, 1.5], "c": [1, 2]}),
    "integers": lambda pd: pd.DataFrame({"a": [1, 2]}),
}


@pytest.mark.parametrize("make", PANDAS_WAYS.values(), ids=PANDAS_WAYS)
def test_other_frames_name_a_way_out_that_is_one(make: Callable[[Any], Any]) -> None:
    pandas = pytest.importorskip("pandas")
    x = make(pandas)
    with pytest.raises(TypeError) as caught:
        fd.dropout(x, 0.5, rng=1)
    way = str(caught.value).rpartition(": give ")[2].partition(", ")[0]
    given = eval(way, {"x": x, "numpy": np})
    y = fd.dropout(given, 0.5, rng=1)
    assert_labels(y, given)


@pytest.mark.parametrize("dtype", ["str", "category", "mixed"])
def test_frames_of_no_numbers_name_a_way_out_that_is_one(dtype: str) -> None:
    pandas = pytest.importorskip("pandas")
    texts = pandas.Series(["a", "b", "a"], dtype="category" if dtype == "category" else "str")
    x = pandas.DataFrame({"a": texts, "b": ["a", "a", "b"]}) if dtype == "mixed" else texts
    if dtype == "mixed":
        x["b"] = x["b"].astype("category")
    with pytest.raises(TypeError) as caught:
        fd.masked_fill(x, 0.5, "a", rng=1)
    way = str(caught.value).rpartition("take ")[2]
    places = {"x": x, "fastdrop": fd, "p": 0.5, "key": fd.Key(1), "value": "a"}
    y = eval(way, places)
    expected = np.where(fd.dropout_mask(x.shape, 0.5, rng=1), x.to_numpy(object), "a")
    assert y.to_numpy(object).tolist() == expected.tolist()


def test_a_dataset_names_its_variables() -> None:
    x = data_array().to_dataset(name="first")
    with pytest.raises(TypeError, match=r"x is an xarray\.Dataset.*give one of them.*x\['first'\]"):
        fd.dropout(x, 0.5, rng=1)
    assert_labels(fd.dropout(x["first"], 0.5, rng=1), x["first"])
    with pytest.raises(TypeError, match=r"x is an xarray\.Variable: give x\.values"):
        fd.dropout(x["first"].variable, 0.5, rng=1)
    fd.dropout(x["first"].variable.values, 0.5, rng=1)


def test_other_objects_of_pandas_are_told_of_their_values() -> None:
    pandas = pytest.importorskip("pandas")
    for x in (pandas.Index([1.0, 2.0]), pandas.array([1.0, 2.0], dtype="Float64")):
        with pytest.raises(TypeError, match=r"give x\.to_numpy\(\)$"):
            fd.dropout(x, 0.5, rng=1)
        assert fd.dropout(x.to_numpy(), 0.5, rng=1).shape == (2,)


def test_what_xarray_has_not_read_from_disk_is_not_read(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed")
    xarray = pytest.importorskip("xarray")
    values = data_array().to_dataset(name="v")
    values.to_netcdf(tmp_path / "x.nc", engine="scipy")
    with xarray.open_dataset(tmp_path / "x.nc", engine="scipy") as read:
        x = read["v"]
        for call in (fd.dropout, fd.alpha_dropout, fd.softmax_dropout, fd.Dropout(0.5)):
            with pytest.raises(TypeError, match=r"x is an xarray\.DataArray .*from disk") as error:
                call(x)
        whole, part = str(error.value).rpartition(" give ")[2].split(", or a part of it, ")
        with pytest.raises(TypeError, match="read from disk"):
            fd.dropout(x, training=False)
        assert not x.variable._in_memory
        for way in (whole, part):
            given = eval(way, {"x": x})
            assert_labels(fd.dropout(given), given)


class Duck(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that xarray holds as it is."""

    def __init__(self, data: Any) -> None:
        self.held, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim

    def __array_ufunc__(self, *call: Any, **more: Any) -> Any:
        return NotImplemented

    def __array_function__(self, *call: Any) -> Any:
        return NotImplemented

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AssertionError("it was converted")


def test_what_xarray_holds_is_named() -> None:
    xarray = pytest.importorskip("xarray")
    x = xarray.DataArray(Duck(values(SHAPE)), dims=("t", "c"), attrs={"unit": "K"})
    with pytest.raises(TypeError, match=r"holds a tests\.Duck: give x\.data.*x\.copy\(data=result"):
        fd.dropout(x, 0.5, rng=1)
    result = fd.dropout(x.data.held, 0.5, rng=1)
    assert_labels(x.copy(data=result), x)


@pytest.mark.slow
def test_neither_library_is_imported() -> None:
    code = """
import sys
import numpy as np
import fastdrop as fd
x = np.ones((4, 5), np.float32)
fd.dropout(x, 0.5, rng=1)
fd.dropout([1.0], 0.5, rng=1)
fd.alpha_dropout(memoryview(np.ones(3)), 0.5, rng=1)
try:
    fd.dropout({"a": x}, 0.5, rng=1)
except TypeError:
    pass
print([name for name in ("pandas", "xarray", "dask", "torch") if name in sys.modules])
"""
    assert assert_succeeds(run_python(code)) == "[]\n"


def test_a_pandas_that_is_still_being_imported_disturbs_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from types import ModuleType

    for name in ("pandas", "xarray"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    buffer = array.array("d", [1.0, 1.0])
    assert fd.dropout(buffer, 0.0, rng=1).tolist() == [1.0, 1.0]
