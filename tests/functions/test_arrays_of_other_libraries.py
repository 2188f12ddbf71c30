"""Arrays of other libraries are never converted silently: the error suggests a conversion.

Where an error shows code, the tests run that code.
"""

from __future__ import annotations

import array
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import data

VALUES = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
FUNCTIONS: list[Callable[[Any], Any]] = [
    lambda x: fd.dropout(x, 0.5, rng=1),
    lambda x: fd.dropout(x, [0.5], rng=1),
    lambda x: fd.dropout(x, 0.5, rng=1, training=False),
    lambda x: fd.masked_fill(x, 0.5, 1.0, rng=1),
    lambda x: fd.alpha_dropout(x, 0.5, rng=1),
    lambda x: fd.gaussian_noise(x, 0.5, rng=1),
    lambda x: fd.feature_dropout(x, 0.5, rng=1),
    lambda x: fd.drop_path(x, 0.5, rng=1),
    lambda x: fd.drop_block2d(x, 0.5, 2, rng=1),
    lambda x: fd.softmax_dropout(x, 0.5, rng=1),
    lambda x: fd.bias_act_dropout_add(x, rng=1),
    fd.Dropout(0.5, rng=1),
]


def told(x: Any, call: Callable[[Any], Any] = FUNCTIONS[0]) -> str:
    """Return the error that an x gets."""
    with pytest.raises(TypeError) as caught:
        call(x)
    return str(caught.value)


def ways(x: Any) -> list[str]:
    """Return the code in an error that all functions give for an x."""
    text = told(x)
    for call in FUNCTIONS[1:]:
        assert told(x, call) == text
    code = text.partition(": give ")[2]
    parts = re.split(
        r", or, with ml_dtypes, |, or a part of it, |, of which |, and |, whose ", code
    )
    return [part for part in parts if re.match(r"(x|numpy)[.\[]", part)]


def followed(x: Any, count: int = 1, **places: Any) -> list[Any]:
    """Return the suggested conversions of x, each of which `dropout` takes."""
    given = [eval(way, {"x": x, "numpy": np, "fastdrop": fd, **places}) for way in ways(x)]
    assert len(given) == count
    for one in given:
        y = fd.dropout(one, 0.5, rng=1)
        assert data(y) == data(fd.dropout(np.array(one), 0.5, rng=1))
    return given


class Asked:
    """An array of an unknown library, which NumPy can convert."""

    def __init__(self) -> None:
        self.asked = 0

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.asked += 1
        return VALUES


class Described:
    """One that says where it lies in memory."""

    __array_interface__ = VALUES.__array_interface__


class Exported:
    """One that knows DLPack alone."""

    def __dlpack__(self, **more: Any) -> Any:
        return VALUES.__dlpack__(**more)

    def __dlpack_device__(self) -> Any:
        return VALUES.__dlpack_device__()


@pytest.mark.parametrize("kind", [Asked, Described, Exported])
def test_array_protocols_of_other_libraries_are_not_called(kind: type) -> None:
    x = kind()
    (given,) = followed(x)
    assert data(np.asarray(given)) == data(VALUES)
    assert getattr(x, "asked", 1) == 1
    for name, call in (
        ("bias", lambda x: fd.bias_act_dropout_add(VALUES, x)),
        ("dy", lambda x: fd.softmax_dropout_backward(x, VALUES)),
        ("dy", lambda x: fd.alpha_dropout_backward(x)),
    ):
        assert f"{name} is a tests.{kind.__name__}" in told(x, call)
        assert f"({name})" in told(x, call)


@pytest.mark.parametrize("name", ["h5py", "zarr"])
def test_arrays_on_disk_are_not_read(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "h5py":
        with library.File(tmp_path / "x.h5", "w") as file:
            x = file.create_dataset("x", data=VALUES)
            followed(x, 2)
            assert "x[()]" in told(file.create_dataset("y", data=1.0))
            assert "x is an h5py.File: give its arrays one by one, such as x['x']" in told(file)
        return
    x = library.create_array(store={}, shape=VALUES.shape, dtype="f4", chunks=(1, 4))
    x[...] = VALUES
    whole, part = followed(x, 2)
    assert data(whole) == data(part) == data(VALUES)
    assert "offset and global_shape" in told(x)
    where: Any = {"global_shape": x.shape, "rng": 1}
    rows = fd.dropout(x[1:3], 0.5, offset=(1, 0), **where)
    assert data(rows) == data(fd.dropout(VALUES, 0.5, rng=1)[1:3])


def test_a_variable_on_disk_that_reads_masked_arrays() -> None:
    variable = of_module(
        "netCDF4._netCDF4", "Variable", shape=VALUES.shape,
        __getitem__=lambda self, part: np.ma.array(VALUES[part], mask=VALUES[part] > 1),
        __array__=lambda self, *a: pytest.fail("it was read"),
    )  # fmt: skip
    for given in followed(variable(), 2):
        np.testing.assert_array_equal(given, np.where(VALUES > 1, np.nan, VALUES))


def test_what_is_lazy_beside_dask_arrays_is_not_computed() -> None:
    dask = pytest.importorskip("dask", reason="Dask is not installed: pip install -e '.[dask]'")
    assert re.search(
        r"dask\.\w+, which is lazy: give x\.compute\(\)$", told(dask.delayed(VALUES.sum)())
    )
    frame = of_module("dask.dataframe", "DataFrame", compute=None, to_dask_array=None)
    assert told(frame()).endswith(": give x.to_dask_array(lengths=True), or x.compute()")


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia", "lil", "dok"])
@pytest.mark.parametrize("family", ["matrix", "array"])
def test_the_error_for_a_sparse_matrix_names_its_stored_elements(kind: str, family: str) -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    x = getattr(sparse, f"{kind}_{family}")(np.diag([1.0, 2.0, 3.0, 4.0]))
    text = told(x)
    assert f"scipy.{kind}_{family}" in text
    (stored,) = followed(x)
    assert sorted(stored[stored != 0].ravel()) == [1, 2, 3, 4]
    if kind in ("lil", "dok"):
        return
    places: dict[str, Any] = {"x": x, "fastdrop": fd, "p": 0.5, "key": fd.Key(3)}
    exec(text.rpartition("copy, ")[2], places)
    y = places["y"]
    assert type(y) is type(x) and data(y.data) == data(fd.dropout(x.data, 0.5, rng=3))
    assert set(y.toarray().ravel()) <= {0.0, 2.0, 4.0, 6.0, 8.0}
    assert x.toarray().trace() == 10


def test_the_error_for_an_autograd_box_names_what_can_be_differentiated() -> None:
    autograd = pytest.importorskip("autograd", reason="autograd is not installed")
    texts = []

    def box(x: Any) -> Any:
        texts.append(told(x))
        assert data(x._value) == data(VALUES)
        assert fd.dropout(x._value, 0.5, rng=1).shape == VALUES.shape
        return autograd.numpy.sum(x)

    autograd.grad(box)(VALUES)
    assert "x is an autograd.ArrayBox" in texts[0]
    mask = fd.Mask(VALUES.shape, 0.5, rng=3)
    dx = autograd.grad(lambda x: autograd.numpy.sum((x * mask) ** 2))(VALUES.astype(float))
    expected = 8 * VALUES.astype(float) * fd.dropout_mask(VALUES.shape, 0.5, rng=3)
    np.testing.assert_allclose(dx, expected, rtol=1e-15)
    assert "fastdrop.Mask" in texts[0] and "autograd.extend.primitive" in texts[0]
    drop = autograd.extend.primitive(fd.dropout)
    autograd.extend.defvjp(drop, lambda y, x, p, rng: lambda dy: drop(dy, p, rng=rng))
    x = VALUES.astype(np.float64)
    dx = autograd.grad(lambda x: autograd.numpy.sum(drop(x, 0.5, rng=3) ** 2))(x)
    kept = fd.dropout_mask(x.shape, 0.5, rng=3)
    np.testing.assert_allclose(dx, 8 * x * kept, rtol=1e-15)


class Variable:
    """What a from-scratch framework wraps arrays in."""

    def __init__(self, data: Any) -> None:
        self.data, self.grad = data, None

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        return Variable(self.data[index])


def test_the_error_for_a_framework_s_variable_names_its_array() -> None:
    x = Variable(VALUES)
    (given,) = followed(x)
    assert given is VALUES
    assert "x is a tests.Variable, whose graph" in told(x)
    assert "bias.data" in told(x, lambda x: fd.bias_act_dropout_add(VALUES, x))


def torch_tensors() -> dict[str, Callable[[Any], Any]]:
    return {
        "plain": lambda torch: torch.ones(3, 4),
        "requires grad": lambda torch: torch.ones(3, 4, requires_grad=True),
        "result": lambda torch: torch.ones(3, 4, requires_grad=True) * 2,
        "parameter": lambda torch: torch.nn.Parameter(torch.ones(3, 4)),
        "sparse": lambda torch: torch.eye(3).to_sparse(),
        "sparse csr": lambda torch: torch.eye(3).to_sparse_csr(),
        "sparse grad": lambda torch: torch.eye(3).requires_grad_().to_sparse(),
        "transposed": lambda torch: torch.ones(3, 4).T,
        "0-d": lambda torch: torch.tensor(1.5),
        "negated": lambda torch: torch.ones(3, dtype=torch.complex64).conj().imag,
        "half": lambda torch: torch.ones(3, dtype=torch.float16),
    }


@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.parametrize("make", torch_tensors().values(), ids=torch_tensors())
def test_the_suggestion_for_a_tensor_works(make: Callable[[Any], Any]) -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    followed(make(torch))


@pytest.mark.parametrize("grad", [False, True])
def test_the_error_for_a_bfloat16_tensor_has_two_suggestions(grad: bool) -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    x = torch.linspace(-1, 1, 9).to(torch.bfloat16).requires_grad_(grad)
    single, same = followed(x, 2, torch=torch, ml_dtypes=ml_dtypes)
    assert single.dtype == np.float32 and same.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(single, same.astype(np.float32))
    (small,) = followed(torch.ones(3).to(torch.float8_e4m3fn))
    assert small.tolist() == [1, 1, 1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_suggestion_for_a_quantized_tensor_works() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    (given,) = followed(torch.quantize_per_tensor(torch.ones(3), 0.5, 0, torch.quint8))
    assert given.tolist() == [1, 1, 1]


def test_a_tensor_without_numbers_is_not_sent_to_numpy() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    text = told(torch.ones(3, device="meta"))
    assert "meta device" in text and "numpy()" not in text


def test_subclasses_of_other_libraries_arrays_are_recognised() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")

    class Mine(torch.Tensor):  # type: ignore[misc,name-defined]
        pass

    x = torch.ones(3).as_subclass(Mine).requires_grad_()
    assert "x.detach().cpu().numpy()" in told(x)


def library(monkeypatch: pytest.MonkeyPatch, name: str) -> ModuleType:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def of_module(module: str, name: str, *bases: type, **members: Any) -> Any:
    return type(name, bases, {"__module__": module, **members})


def test_the_error_for_a_jax_tracer_names_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = of_module("jax._src.core", "Tracer", shape=(3, 4), dtype=np.dtype(np.float32),
                       __array__=None)  # fmt: skip
    kinds = (
        of_module("jax._src.interpreters.partial_eval", "DynamicJaxprTracer", tracer),
        of_module("jax._src.interpreters.ad", "LinearizeTracer", tracer),
    )
    calls = []

    class Struct:
        def __init__(self, shape: Any, dtype: Any) -> None:
            self.shape, self.dtype = shape, dtype

    class Jax:
        ShapeDtypeStruct = Struct

        @staticmethod
        def pure_callback(function: Any, result: Any, x: Any, *, vmap_method: str) -> Any:
            calls.append((result.shape, result.dtype, vmap_method))
            return function(VALUES)  # with arrays, later

    for kind in kinds:
        x = kind()
        text = told(x)
        assert f"x is a jax.{kind.__name__}, which has no numbers yet" in text
        assert "jax.custom_vjp" in text
        code = text.partition(": give ")[2].partition(", in a function")[0]
        places = {"x": x, "jax": Jax, "numpy": np, "fastdrop": fd, "p": 0.5, "key": fd.Key(1)}
        assert data(eval(code, places)) == data(fd.dropout(VALUES, 0.5, rng=1))
    assert calls == [((3, 4), np.float32, "sequential")] * 2
    eager = of_module("jaxlib._jax", "ArrayImpl", __array__=lambda self, *a, **k: VALUES)()
    followed(eager)


def test_the_suggestion_for_a_jax_tracer_works() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")

    def advised(x: Any) -> Any:
        code = told(x).partition(": give ")[2].partition(", in a function")[0]
        places = {"x": x, "jax": jax, "numpy": np, "fastdrop": fd, "p": 0.5, "key": fd.Key(1)}
        return eval(code, places)

    expected = fd.dropout(VALUES, 0.5, rng=1)
    assert data(np.asarray(jax.jit(advised)(VALUES))) == data(expected)
    assert np.asarray(jax.vmap(advised)(VALUES[None])).shape == (1, 3, 4)
    drop = jax.custom_vjp(advised)
    drop.defvjp(lambda x: (advised(x), None), lambda _, dy: (advised(dy),))
    dx = jax.jit(jax.grad(lambda x: drop(x).sum()))(VALUES)
    assert data(np.asarray(dx)) == data(fd.dropout(np.ones_like(VALUES), 0.5, rng=1))
    followed(jax.numpy.ones(3))


def test_tensors_of_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    eager = of_module("tensorflow.python.framework.ops", "EagerTensor",
                      numpy=lambda self: VALUES, dtype="float32",
                      __array__=lambda self, *a: VALUES)()  # fmt: skip
    followed(eager)
    for module, name in (("tensorflow.python.framework.ops", "SymbolicTensor"),
                         ("keras.src.backend.common.keras_tensor", "KerasTensor")):  # fmt: skip
        x = of_module(module, name, dtype="float32", shape=(3, 4), __array__=None)()
        text = told(x)
        assert "which has no numbers yet" in text
        seen: list[Any] = []

        class TensorFlow:
            @staticmethod
            def numpy_function(function: Any, inputs: Any, dtype: Any, seen: Any = seen) -> Any:
                seen.append((inputs, dtype))
                return function(VALUES)

        places = {"x": x, "tensorflow": TensorFlow, "fastdrop": fd, "p": 0.5, "key": fd.Key(1)}
        y = eval(text.partition(": give ")[2], places)
        assert data(y) == data(fd.dropout(VALUES, 0.5, rng=1))
        assert seen == [([x], "float32")]


def test_objects_that_are_no_arrays() -> None:
    cases: list[tuple[Any, str]] = [
        (None, "x is None: give an array"),
        ({"w": VALUES}, "x is a dict: give its arrays one by one, such as x['w']"),
        ({1.0, 2.0}, "x is a set: give numpy.array(sorted(x))"),
        ((one for one in (1.0, 2.0)), "x is a generator: give numpy.array(list(x))"),
        (map(float, (1, 2)), "x is a map: give numpy.array(list(x))"),
        (np.ndarray, "x is a type: give an array of numbers"),
        (object(), "x is an object: give an array of numbers"),
    ]
    for x, text in cases:
        for call in FUNCTIONS:
            assert told(x, call) == text
        code = text.partition(": give ")[2]
        if code.startswith("numpy"):
            assert fd.dropout(eval(code, {"x": x, "numpy": np}), 0.5, rng=1).shape == (2,)
    assert "dtype <U3" in told("abc")


def test_the_error_for_a_list_of_objects_names_what_can_be_converted() -> None:
    x = [Decimal("0.5"), Decimal(2)]
    text = told(x)
    assert "x is a list of objects, the first of them a decimal.Decimal" in text
    given = eval("numpy.array(x, float)", {"x": x, "numpy": np})
    assert "numpy.array(x, float)" in text and given.tolist() == [0.5, 2.0]
    assert fd.dropout(given, 0.5, rng=1).shape == (2,)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_numpy_s_own_objects_are_accepted(tmp_path: Path) -> None:
    right = fd.dropout(VALUES, 0.5, rng=1)
    on_disk = np.memmap(tmp_path / "x", np.float32, "w+", shape=VALUES.shape)
    on_disk[...] = VALUES
    record = VALUES.view(np.recarray)
    taken: list[Any] = [
        on_disk, record, np.asmatrix(VALUES), memoryview(VALUES.copy().data), VALUES.tolist(),
        tuple(map(tuple, VALUES.tolist())),
    ]  # fmt: skip
    for x in taken:
        y = fd.dropout(x, 0.5, rng=1)
        assert type(y) is np.ndarray
        assert data(y.astype(np.float32)) == data(right)
    buffer = array.array("f", [1.0, 2.0, 3.0])
    assert data(fd.dropout(buffer, 0.5, rng=1)) == data(
        fd.dropout(np.array([1, 2, 3], np.float32), 0.5, rng=1)
    )
    for number in (1.0, np.float64(1.0), np.array(1.0)):
        assert float(fd.dropout(number, 0.0, rng=1)) == 1.0


P_CALLS: list[Callable[[Any], Any]] = [
    lambda p: fd.dropout(VALUES, p, rng=1),
    lambda p: fd.masked_fill(VALUES, p, 0, rng=1),
    lambda p: fd.dropout_mask((3, 4), p, rng=1),
    lambda p: fd.drop_path(VALUES, p, rng=1),
    lambda p: fd.Dropout(p, rng=1)(VALUES),
]
ONE_P: list[Callable[[Any], Any]] = [
    lambda p: fd.alpha_dropout(VALUES, p, rng=1),
    lambda p: fd.gaussian_dropout(VALUES, p, rng=1),
    lambda p: fd.softmax_dropout(VALUES, p, rng=1),
    lambda p: fd.AlphaDropout(p, rng=1)(VALUES),
]


@pytest.mark.parametrize("kind", ["pandas", "torch", "xarray", "dask", "asked"])
def test_the_suggestion_for_a_p_works(kind: str) -> None:
    chances = np.array([0.1, 0.5, 0.25, 0.9])
    p: Any = Asked()
    if kind != "asked":
        name = "dask.array" if kind == "dask" else kind
        library = pytest.importorskip(name, reason=f"{kind} is not installed")
        made = {"pandas": "Series", "torch": "tensor", "xarray": "DataArray", "dask": "from_array"}
        p = getattr(library, made[kind])(chances)
    for call in P_CALLS[:3]:
        text = told(p, call)
        assert text.startswith(("p is a ", "p is an "))
        way = text.partition(": give ")[2].partition(", or a part")[0]
        given = eval(way, {"p": p, "numpy": np})
        if kind != "asked":  # whose values are no probabilities
            np.testing.assert_array_equal(call(given), call(chances))
    for call in P_CALLS[3:]:
        assert told(p, call) == text
    for call in ONE_P:
        assert "this takes one number for all elements" in told(p, call)


def test_the_error_for_a_zero_dimensional_p_suggests_float() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    numbers: list[Any] = [torch.tensor(0.25), xarray.DataArray(0.25), np.array(0.25)]
    for p in numbers:
        for call in (*ONE_P, lambda p: fd.dropout(VALUES, scale=p)):
            text = told(p, call)
            name = "scale" if "scale" in text else "p"
            assert f"float({name})" in text
            call(eval(f"float({name})", {name: p}))  # type: ignore[no-untyped-call]


def test_the_error_for_a_fill_value_of_another_library_suggests_a_number() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    values: list[Any] = [torch.tensor(1.5), xarray.DataArray(1.5)]
    text = told(torch.tensor([1.5]), lambda value: fd.masked_fill(VALUES, 0.5, value, rng=1))
    assert text.endswith("give value.detach().cpu().numpy()")
    for value in values:
        for p in (0.5, [0.5]):
            text = told(value, lambda value, p=p: fd.masked_fill(VALUES, p, value, rng=1))  # type: ignore[misc]
            given = eval(text.partition("such as ")[2], {"value": value})
            assert fd.masked_fill(VALUES, 1.0, given, rng=1).tolist() == [[1.5] * 4] * 3


def test_the_error_for_a_result_of_another_library_suggests_a_conversion() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    with pytest.raises(TypeError, match=r"fn's result is a torch.*give it\.detach\(\)\.cpu"):
        fd.mc_dropout(lambda x, key: torch.ones(3), None, 2, rng=1)
