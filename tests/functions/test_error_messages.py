"""What is refused, and in which words: the argument is named, and a way out; nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import device

X = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
MAPS = np.ones((2, 3, 4, 4), np.float32)
P_ARRAY = np.array([0.1, 0.2, 0.3])

Call = Callable[[], Any]


def refused(call: Call, kind: type[Exception], *says: str) -> None:
    """Check that a call raises, and that the message has all of these texts in it."""
    with pytest.raises(kind) as caught:
        call()
    for text in says:
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "bias",
    [[None, 1, 2], [1 + 2j, 0, 0], ["1", "2", "3"], [True, False, True], True, [[1], [2, 3]]],
    ids=repr,
)
def test_operands_that_are_no_numbers(bias: Any) -> None:
    refused(lambda: fd.bias_act_dropout_add(X, bias, rng=1), TypeError, "bias", "give real numbers")
    refused(
        lambda: fd.bias_act_dropout_add(X, residual=bias, rng=1),
        TypeError,
        "residual",
        "give real numbers",
    )


@pytest.mark.parametrize("bias", [1e39, [0, 1e39, 0], np.float64(1e39)], ids=repr)
def test_operands_too_large_for_the_dtype(bias: Any) -> None:
    refused(lambda: fd.bias_act_dropout_add(X, bias, rng=1), ValueError, "bias", "float32")
    assert np.isinf(fd.bias_act_dropout_add(X, [np.inf] * 3, p=0.0, rng=1)).all()


@pytest.mark.parametrize("one", [np.float64(1), np.float32(1), np.int64(1), 1, 1.0], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_kinds_of_numbers_are_operands(one: Any, dtype: Any) -> None:
    x = X.astype(dtype)
    right = fd.bias_act_dropout_add(x, np.ones(3, dtype), rng=1)
    assert fd.bias_act_dropout_add(x, one, rng=1).tobytes() == right.tobytes()


def test_a_masked_p() -> None:
    p = np.ma.array([0, 0.9, 0.9], mask=[False, True, True])
    for call in (
        lambda: fd.dropout(X, p, rng=1),
        lambda: fd.dropout_mask(3, p, rng=1),
        lambda: fd.masked_fill(X, p, 0, rng=1),
        lambda: fd.dropout(X, np.ma.masked, rng=1),
    ):
        refused(call, TypeError, "p is a masked array", "p.filled()")


@pytest.mark.parametrize(
    "function",
    [
        fd.alpha_dropout,
        fd.gaussian_dropout,
        fd.softmax_dropout,
        lambda x, p, rng: fd.drop_block2d(MAPS, p, 2, rng=rng),
        lambda x, p, rng: fd.bias_act_dropout_add(x, p=p, rng=rng),
    ],
)
def test_a_p_array_where_one_number_is_taken(function: Any) -> None:
    for p in (P_ARRAY, list(P_ARRAY)):
        refused(partial(function, X, p, rng=1), TypeError, "p has shape (3,)", "takes one number")
    with pytest.raises(TypeError) as caught:
        function(X, np.zeros(900), rng=1)
    assert "p has shape (900,)" in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_arrays_of_probabilities(dtype: Any) -> None:
    above = np.nextafter(dtype(1), dtype(2))
    for bad in (above, -np.finfo(dtype).smallest_subnormal, np.nan, -np.nan, np.inf, -np.inf):
        p = np.array([0, 0.5, bad], dtype)
        refused(partial(fd.dropout_mask, 3, p, rng=1), ValueError, "p[2]=", "[0, 1]")
        refused(partial(fd.dropout_mask, 3, p[::-1], rng=1), ValueError, "p[0]=", "[0, 1]")
    fine = np.array([0.0, -0.0, 1.0], dtype)
    assert fd.dropout_mask(3, fine, rng=1).tolist() == [True, True, False]


def test_a_p_array_of_whole_parts() -> None:
    p = np.array([0.0, 1.0])[:, None]
    y = fd.drop_path(X, p, rng=1)
    assert (y == np.array([[1.0], [0.0]], np.float32) * X).all()
    maps = fd.feature_dropout(MAPS, np.array([0.0, 1.0, 0.0])[:, None, None], rng=1)
    assert maps.sum() == MAPS[:, ::2].sum()


def test_layers_of_whole_parts_take_arrays_of_p() -> None:
    p = np.array([[0.0], [1.0]])
    paths = fd.DropPath(p, rng=1)
    assert paths(X).tobytes() == fd.drop_path(X, p, rng=1).tobytes()
    channels = fd.FeatureDropout(p[..., None, None], rng=1)
    y = fd.feature_dropout(MAPS, p[..., None, None], rng=1)
    assert channels(MAPS).tobytes() == channels.backward(MAPS).tobytes() == y.tobytes()


def test_errors_name_the_array_that_they_are_about() -> None:
    whole = np.ones((2, 3), np.int64)
    backwards: list[Callable[[Any], Any]] = [
        lambda dy: fd.alpha_dropout_backward(dy, rng=1),
        lambda dy: fd.feature_alpha_dropout_backward(dy, rng=1),
        lambda dy: fd.bias_act_dropout_add_backward(dy, X, rng=1),
    ]
    for backward in backwards:
        refused(lambda b=backward: b(whole), TypeError, "dy has dtype int64", "dy.astype")  # type: ignore[misc]
        refused(
            lambda b=backward: b(np.ma.array(X)),  # type: ignore[misc]
            TypeError,
            "dy is a masked array",
            "dy.filled()",
        )
    refused(
        lambda: fd.feature_alpha_dropout_backward(np.ones(3), rng=1),
        ValueError,
        "dy has 1 axes",
        "dy[None]",
    )
    refused(
        lambda: fd.bias_act_dropout_add_backward(X, X.astype(np.float64), rng=1),
        TypeError,
        "x has dtype float64, and dy has float32: give x.astype(dy.dtype)",
    )
    refused(
        lambda: fd.dropout_mask((2, 3), 0.5, rng=1, global_shape=(6,)), ValueError, "the mask has 2"
    )
    refused(
        lambda: fd.bias_act_dropout_add(X, np.ma.array([1, 2, 3]), rng=1),
        TypeError,
        "bias is a masked array",
    )


def test_dtypes_have_a_way_out_that_loses_nothing() -> None:
    refused(lambda: fd.dropout(X.astype(np.complex64), rng=1), TypeError, "x.real and x.imag")
    refused(lambda: fd.dropout(X.astype(np.longdouble), rng=1), TypeError, "numpy.float64")
    refused(lambda: fd.dropout(X.astype(np.int8), rng=1), TypeError, "masked_fill")


def test_evaluation_checks_where_the_array_lies() -> None:
    for training in (True, False):
        refused(
            lambda training=training: fd.dropout(X, 0.5, training=training, offset=-5),  # type: ignore[misc]
            ValueError,
            "offset=-5",
        )
        refused(
            lambda training=training: fd.dropout(X, 0.5, training=training, noise_shape="bad"),  # type: ignore[misc,arg-type]
            TypeError,
            "noise_shape='bad'",
        )


def test_a_call_that_fails_takes_nothing_from_a_generator() -> None:
    rng, other = np.random.default_rng(1), np.random.default_rng(1)
    refused(lambda: fd.drop_block2d(MAPS.astype(int), 0.5, 2, rng=rng), TypeError, "int64")
    refused(
        lambda: fd.drop_block2d(MAPS, 0.5, 2, rng=rng, out=np.empty(3, np.float32)),
        ValueError,
        "out has shape (3,)",
    )
    assert rng.random() == other.random()


def test_gaussian_dropout_has_a_range_of_its_own() -> None:
    for p in (1.0, 1.5, -0.1, np.nan):
        refused(lambda p=p: fd.gaussian_dropout(X, p, rng=1), ValueError, f"p={p}", "[0, 1)")  # type: ignore[misc]


def test_keys_are_advanced_by_integers() -> None:
    key = fd.Key(1, 5)
    assert key.advanced(np.int64(-6)) == fd.Key(1, 2**64 - 1)
    assert key.advanced(np.uint64(3)) == fd.Key(1, 8)
    wrong: Any
    for wrong in (0.5, "a", True):
        refused(lambda wrong=wrong: key.advanced(wrong), TypeError, f"n={wrong!r}")  # type: ignore[misc]


def test_device_functions_take_thresholds() -> None:
    wrong: Any = 0.5
    refused(lambda: device.keep(1, 0, 0, wrong), TypeError, "threshold=0.5", "give threshold(p)")
    refused(lambda: device.keep8(1, 0, 0, wrong), TypeError, "threshold=0.5", "give threshold(p)")
    refused(lambda: device.keep(1, 0, 1.7, device.threshold(0.5)), TypeError, "index=1.7")
    assert fd.device is device


def test_a_list_is_no_tuple_of_states() -> None:
    rnn = fd.RNNDropout(state_p=0.5, rng=1)
    rnn.begin()
    refused(lambda: rnn.state([X, X], 0), TypeError, "give a tuple of states")


def test_samples_of_several_dtypes() -> None:
    def fn(x: Any, key: fd.Key) -> Any:
        return np.array([1, 2]) if key == fd.Key(0).fold_in(0) else np.array([1.5, 2.5])

    refused(
        lambda: fd.mc_dropout(fn, None, 3, rng=0, return_samples=True),
        TypeError,
        "fn returned dtype float64 in pass 1, before int64",
    )
    assert fd.mc_dropout(fn, None, 3, rng=0).mean.tolist() == [4 / 3, 7 / 3]


def test_spread_of_numbers_and_of_what_is_infinite() -> None:
    mean, variance, _ = fd.mc_dropout(lambda x, key: 1.0, None, 3, rng=0)
    assert isinstance(mean, np.ndarray) and isinstance(variance, np.ndarray)
    infinite = fd.mc_dropout(lambda x, key: np.array([np.inf, 1]), None, 3, rng=0)
    assert np.isnan(infinite.variance).tolist() == [True, False]


def test_the_numbers_of_threads() -> None:
    wrong: Any
    for wrong, kind in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        refused(lambda wrong=wrong: fd.set_num_threads(wrong), kind, f"n={wrong}")  # type: ignore[misc]


def test_layers_check_what_is_set() -> None:
    wrong: Any
    for wrong in ("bad", 1, (2, 1.5)):
        refused(partial(fd.Dropout, 0.5, rng=1, noise_shape=wrong), TypeError, "noise_shape")
    layer = fd.Dropout(0.5, rng=1)
    refused(lambda: setattr(layer, "key", 0.5), TypeError, "rng=0.5")
    refused(lambda: setattr(layer, "forwards", 0.5), TypeError, "forwards=0.5")
    layer.key = fd.Key(5)
    assert layer(X).tobytes() == fd.dropout(X, 0.5, rng=5).tobytes()
    wrong = {"seed": 1, "stream": 0, 1: 2}
    refused(lambda: layer.load_state_dict(wrong), ValueError, "['1', 'seed', 'stream']")


def test_forwards_that_never_go_back_are_forgotten_on_request() -> None:
    layer = fd.Dropout(0.5, rng=1)
    layer(X)
    layer.forget()
    layer.eval()
    assert layer.backward(X) is X
    assert layer.forwards == 1
