"""Wrong arguments raise an error that names the argument and its value; nothing is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import data, poisoned

X = np.ones((4, 6), np.float32)
X.flags.writeable = False

# Every function that takes where an array lies, over an array of X's shape.
Call = Callable[..., Any]
PLACED: dict[str, Call] = {
    "dropout": lambda **where: fd.dropout(X, 0.5, rng=1, **where),
    "masked_fill": lambda **where: fd.masked_fill(X, 0.5, 0, rng=1, **where),
    "dropout_mask": lambda **where: fd.dropout_mask(X.shape, 0.5, rng=1, **where),
    "packed": lambda **where: fd.dropout_mask(X.shape, 0.5, rng=1, packed=True, **where),
}
WITH_P: dict[str, Callable[[Any], Any]] = {
    "dropout": lambda p: fd.dropout(X, p, rng=1),
    "evaluation": lambda p: fd.dropout(X, p, training=False),
    "masked_fill": lambda p: fd.masked_fill(X, p, 0, rng=1),
    "dropout_mask": lambda p: fd.dropout_mask(4, p, rng=1),
    "Dropout": lambda p: fd.Dropout(p, rng=1),
}


@pytest.fixture(params=PLACED, ids=str)
def placed(request: pytest.FixtureRequest) -> Call:
    return PLACED[request.param]


@pytest.fixture(params=WITH_P, ids=str)
def with_p(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return WITH_P[request.param]


@pytest.mark.parametrize(
    "p", [-0.1, 1.1, -1e-300, math.nextafter(1, 2), math.inf, -math.inf, 2, 50]
)
def test_a_p_outside_0_to_1_is_a_value_error_that_names_it(with_p: Any, p: Any) -> None:
    with pytest.raises(ValueError, match=f"p={float(p)!r} is not in"):
        with_p(p)


def test_a_p_that_is_nan_is_a_value_error_that_names_it(with_p: Any) -> None:
    for p in (math.nan, np.float32(math.nan)):
        with pytest.raises(ValueError, match="p=nan"):
            with_p(p)


@pytest.mark.parametrize("p", ["0.5", True, np.False_, None, 0.5j, np.complex64(0.5), b"1", {}],
                         ids=repr)  # fmt: skip
def test_a_p_that_is_no_number_is_a_type_error_that_names_it(with_p: Any, p: Any) -> None:
    with pytest.raises(TypeError, match="p="):
        with_p(p)


@pytest.mark.parametrize(
    "take",
    [
        fd.AlphaDropout,
        fd.GaussianDropout,
        fd.FeatureAlphaDropout,
        fd.SoftmaxDropout,
        fd.RNNDropout,
        lambda p: fd.BiasActDropoutAdd("relu", p),
        lambda p: fd.DropBlock2d(p, 1),
        lambda p: fd.alpha_dropout(X, p),
        lambda p: fd.alpha_dropout_backward(X, p),
        lambda p: fd.feature_alpha_dropout(X, p),
        lambda p: fd.gaussian_dropout(X, p),
        lambda p: fd.softmax_dropout(X, p),
        lambda p: fd.bias_act_dropout_add(X, p=p),
        lambda p: fd.drop_block2d(X[None, None], p, 1),
    ],
)
def test_what_takes_one_p_refuses_several_and_names_what_takes_them(take: Any) -> None:
    for p, shape in ([0.5], "(1,)"), (np.array([[0.5, 0.1]]), "(1, 2)"):
        with pytest.raises(TypeError) as caught:
            take(p)
        text = str(caught.value)
        assert f"p has shape {shape}, and this takes one number" in text
        assert "arrays are taken by dropout, dropout_mask" in text


@pytest.mark.parametrize("p", [np.float64(0.25), np.float32(0.25), np.float16(0.25)])
def test_a_numpy_p_is_the_number_it_holds(p: Any) -> None:
    assert data(fd.dropout(X, p, rng=3)) == data(fd.dropout(X, 0.25, rng=3))
    assert fd.Dropout(p).p == 0.25


@pytest.mark.parametrize("p", [0, 1, np.int64(1), np.uint8(0)])
def test_an_integer_p_is_taken(p: Any) -> None:
    assert bool(fd.dropout_mask(1, p, rng=3)[0]) is (int(p) == 0)


@pytest.mark.parametrize(
    "rng",
    ["1", 1.5, True, [1.0, 2], np.array([1.5, 2]), object()],
    ids=lambda rng: type(rng).__name__,
)
def test_a_wrong_rng_is_a_type_error_and_nothing_is_written(rng: Any) -> None:
    out, bits = poisoned(X.shape, X.dtype), poisoned((3,), np.uint8)
    before = data(out), data(bits)
    with pytest.raises(TypeError, match=r"rng="):
        fd.dropout(X, 0.5, rng=rng, out=out)
    with pytest.raises(TypeError, match=r"rng="):
        fd.masked_fill(X, 0.5, 0, rng=rng, out=out)
    with pytest.raises(TypeError, match=r"rng="):
        fd.dropout_mask(24, 0.5, rng=rng, packed=True, out=bits)
    with pytest.raises(TypeError, match=r"rng="):
        fd.Dropout(rng=rng)
    assert (data(out), data(bits)) == before


@pytest.mark.parametrize(
    "dtype",
    ["i1", "i8", "u4", "?", "c8", "c16", "g", "O", "S4", "U2", "M8[s]", "m8[s]", "V4"],
)
def test_another_dtype_is_a_type_error_that_names_it_and_the_way_out(dtype: str) -> None:
    x = np.zeros(3, dtype)
    out = x.copy()
    with pytest.raises(TypeError) as caught:
        fd.dropout(x, 0.5, rng=1, out=out)
    message = str(caught.value)
    assert str(x.dtype) in message
    assert " give " in message
    with pytest.raises(TypeError):
        fd.Dropout(0.5, rng=1)(x)


@pytest.mark.parametrize("dtype", [">f4", ">f8"])
def test_the_other_byte_order_is_a_type_error_that_names_it_and_the_way_out(dtype: str) -> None:
    x = np.ones(3, dtype) if np.little_endian else np.ones(3, dtype.replace(">", "<"))
    with pytest.raises(TypeError, match=r"byte order.*astype\(x\.dtype\.newbyteorder"):
        fd.dropout(x, 0.5, rng=1)
    fd.dropout(x.astype(x.dtype.newbyteorder("=")), 0.5, rng=1)  # the suggestion works


def test_integer_lists_are_refused_as_the_arrays_that_they_become() -> None:
    with pytest.raises(TypeError, match=r"int64.*float32"):
        fd.dropout([1, 2, 3], 0.5, rng=1)


def test_the_suggested_conversions_of_integers_work() -> None:
    for x in ([1, 2, 3], 1, True, (4, 5), np.arange(3), np.int64(3)):
        for call in (fd.dropout, fd.alpha_dropout, fd.gaussian_dropout):
            with pytest.raises(TypeError) as caught:
                call(x, 0.5, rng=1)
            array, other = str(caught.value).partition(": give ")[2].split(", or ")
            way = array if isinstance(x, np.ndarray | np.generic) else other.partition(" of a")[0]
            assert call(eval(way, {"x": x, "numpy": np}), 0.5, rng=1).shape == np.shape(x)


def test_ragged_lists_are_refused() -> None:
    ragged: Any = [[1.0, 2.0], [3.0]]
    with pytest.raises(ValueError, match="inhomogeneous"):
        fd.dropout(ragged, 0.5, rng=1)


def test_masked_arrays_are_refused_with_the_way_out() -> None:
    x = np.ma.masked_array(np.ones(3), [True, False, False])
    calls: list[Call] = [
        lambda: fd.dropout(x, 0.5, rng=1),
        lambda: fd.masked_fill(x, 0.5, 0.0, rng=1),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"masked array.*filled\(\)"):
            call()


def test_torch_tensors_are_refused_with_the_way_out() -> None:
    torch = pytest.importorskip("torch", reason="shows what a torch tensor meets")
    x = torch.ones(3)
    calls: list[Call] = [
        lambda: fd.dropout(x, 0.5, rng=1),
        lambda: fd.masked_fill(x, 0.5, 0, rng=1),
        lambda: fd.Dropout(0.5, rng=1)(x),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"torch\.Tensor.*\.numpy\(\)"):
            call()


@pytest.mark.parametrize("scale", ["1", None, True, 1j, [1.0], np.ones(2)], ids=repr)
def test_a_scale_that_is_no_number_is_a_type_error(scale: Any) -> None:
    if scale is None:
        assert fd.dropout(X, 0.0, rng=1, scale=None)[0, 0] == 1
        return
    with pytest.raises(TypeError, match="scale="):
        fd.dropout(X, 0.5, rng=1, scale=scale)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, 1e39, 1e300])
def test_a_scale_that_float32_cannot_hold_is_a_value_error(scale: float) -> None:
    with pytest.raises(ValueError, match="scale="):
        fd.dropout(X, 0.5, rng=1, scale=scale)


@pytest.mark.parametrize("training", [2, -1, 1.0, "yes", None, [], np.int64(1)], ids=repr)
def test_training_must_be_a_bool_or_0_or_1(training: Any) -> None:
    for call in (fd.dropout, lambda x, p, **k: fd.masked_fill(x, p, 0, **k)):
        with pytest.raises(TypeError, match=r"training="):
            call(X, 0.5, rng=1, training=training)


@pytest.mark.parametrize("training", [True, 1, np.True_, False, 0, np.False_], ids=repr)
def test_training_is_a_bool_of_python_or_numpy_or_0_or_1(training: Any) -> None:
    x = np.ones((2, 3, 4, 4), np.float32)
    calls: list[Call] = [
        fd.dropout, fd.alpha_dropout, fd.alpha_dropout_backward, fd.feature_dropout, fd.drop_path,
        fd.feature_alpha_dropout, fd.feature_alpha_dropout_backward, fd.gaussian_dropout,
        lambda x, p, **k: fd.gaussian_noise(x, 0.1, **k),
        lambda x, p, **k: fd.masked_fill(x, p, 0, **k),
        lambda x, p, **k: fd.dropout(x, [p] * 4, **k),
        lambda x, p, **k: fd.drop_block2d(x, p, 2, **k),
        fd.softmax_dropout,
        lambda x, p, **k: fd.softmax_dropout_backward(x, x, p, **k),
        lambda x, p, **k: fd.bias_act_dropout_add(x, 1.0, "relu", p, **k),
        lambda x, p, **k: fd.bias_act_dropout_add_backward(x, x, None, "relu", p, **k)[0],
    ]  # fmt: skip
    for call in calls:
        given = call(x, 0.5, rng=1, training=training)
        assert data(given) == data(call(x, 0.5, rng=1, training=bool(training)))


@pytest.mark.parametrize("packed", [1, 0, "yes", None])
def test_packed_must_be_a_bool(packed: Any) -> None:
    with pytest.raises(TypeError, match=r"packed="):
        fd.dropout_mask(3, 0.5, rng=1, packed=packed)


def wrong_outs() -> dict[str, Any]:
    frozen = poisoned((4, 6), np.float32)
    frozen.flags.writeable = False
    return {
        "shape": poisoned((6, 4), np.float32),
        "broadcastable shape": poisoned((1, 4, 6), np.float32),
        "size": poisoned((4, 7), np.float32),
        "dtype": poisoned((4, 6), np.float64),
        "kind": poisoned((4, 6), np.int32),
        "byte order": poisoned((4, 6), ">f4" if np.little_endian else "<f4"),
        "read-only": frozen,
        "masked": np.ma.masked_array(poisoned((4, 6), np.float32)),
    }


OUT_ERRORS = {
    "shape": (ValueError, r"\(6, 4\)"),
    "broadcastable shape": (ValueError, r"\(1, 4, 6\)"),
    "size": (ValueError, r"\(4, 7\)"),
    "dtype": (TypeError, "float64"),
    "kind": (TypeError, "int32"),
    "byte order": (TypeError, ">f4|<f4"),
    "read-only": (ValueError, "read-only"),
    "masked": (TypeError, "MaskedArray"),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", OUT_ERRORS)
def test_a_wrong_out_is_an_error_and_stays_as_it_was(kind: str, training: bool) -> None:
    error, message = OUT_ERRORS[kind]
    for call in (fd.dropout, lambda x, p, **k: fd.masked_fill(x, p, 0, **k)):
        out = wrong_outs()[kind]
        before = data(out)
        with pytest.raises(error, match=message):
            call(X, 0.5, rng=1, training=training, out=out)
        assert data(out) == before


@pytest.mark.parametrize(
    "out",
    [[1.0], (), "out", 3, b"123", memoryview(bytearray(4))],
    ids=lambda out: type(out).__name__,
)
def test_an_out_that_is_no_array_is_a_type_error(placed: Call, out: Any) -> None:
    with pytest.raises(TypeError, match=f"out is an? {type(out).__name__}"):
        placed(out=out)


def test_a_wrong_mask_out_is_an_error_and_stays_as_it_was() -> None:
    frozen = poisoned((9,), np.uint8).view(np.bool_)
    frozen.flags.writeable = False
    cases: list[tuple[Any, bool, type[Exception], str]] = [
        (poisoned((9,), np.uint8), False, TypeError, "uint8"),
        (poisoned((9,), np.float32), False, TypeError, "float32"),
        (poisoned((8,), np.uint8).view(np.bool_), False, ValueError, r"\(8,\)"),
        (frozen, False, ValueError, "read-only"),
        (poisoned((9,), np.uint8), True, ValueError, r"\(9,\)"),
        (poisoned((2,), np.uint8).view(np.bool_), True, TypeError, "bool"),
    ]
    for out, packed, error, message in cases:
        before = data(out)
        with pytest.raises(error, match=message):
            fd.dropout_mask(9, 0.5, rng=1, packed=packed, out=out)
        assert data(out) == before


@pytest.mark.parametrize("shape", [-1, (3, -2), (0, -1), [-4]])
def test_a_negative_length_is_a_value_error_that_shows_the_shape(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"shape=.*-\d"):
        fd.dropout_mask(shape, 0.5, rng=1)


@pytest.mark.parametrize("shape", [1.5, "3", None, (2, 1.0), (True,), ("a",), {3}], ids=repr)
def test_a_shape_of_something_else_is_a_type_error(shape: Any) -> None:
    with pytest.raises(TypeError, match="shape"):
        fd.dropout_mask(shape, 0.5, rng=1)


def test_shapes_may_be_ints_lists_and_numpy_integers() -> None:
    assert fd.dropout_mask(3, rng=1).shape == (3,)
    assert fd.dropout_mask([3, 2], rng=1).shape == (3, 2)
    assert fd.dropout_mask(np.int64(3), rng=1).shape == (3,)
    sizes: Any = np.array([3, 2])
    assert fd.dropout_mask((3, 2), rng=1, noise_shape=np.array([1, 2])).shape == (3, 2)
    assert fd.dropout_mask(sizes, rng=1).shape == (3, 2)
    assert fd.dropout_mask((), rng=1).shape == ()
