"""offset, global_shape and noise_shape that make no sense: an error that shows the value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

X = np.ones((4, 6), np.float32)
Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "dropout": lambda **where: fd.dropout(X, 0.5, rng=1, **where),
    "masked_fill": lambda **where: fd.masked_fill(X, 0.5, 0, rng=1, **where),
    "dropout_mask": lambda **where: fd.dropout_mask(X.shape, 0.5, rng=1, **where),
    "packed": lambda **where: fd.dropout_mask(X.shape, 0.5, rng=1, packed=True, **where),
}


@pytest.fixture(params=CALLS, ids=str)
def call(request: pytest.FixtureRequest) -> Call:
    return CALLS[request.param]


@pytest.mark.parametrize("offset", [1.5, "3", None, (1, 2), [0, 0], (0,), 2.0, np.float64(1)])
def test_an_offset_alone_must_be_an_integer(call: Call, offset: Any) -> None:
    with pytest.raises(TypeError, match=r"offset=.*global_shape"):
        call(offset=offset)


def test_a_bool_is_no_offset(call: Call) -> None:
    with pytest.raises(TypeError, match="offset=True"):
        call(offset=True)


@pytest.mark.parametrize("offset", [-1, -(2**40), np.int64(-7)])
def test_a_negative_offset_is_a_value_error(call: Call, offset: Any) -> None:
    with pytest.raises(ValueError, match=f"offset={int(offset)} is negative"):
        call(offset=offset)


def test_numpy_integers_are_offsets() -> None:
    for offset in (np.int64(5), np.uint64(5), np.uint8(5)):
        kept = fd.dropout_mask(40, 0.5, rng=1, offset=offset)
        np.testing.assert_array_equal(kept, fd.dropout_mask(45, 0.5, rng=1)[5:])


def test_the_mask_index_may_reach_the_last_one_and_no_further(call: Call) -> None:
    call(offset=2**63 - 24)
    with pytest.raises(ValueError, match=rf"{2**63}.*2\*\*63"):
        call(offset=2**63 - 23)
    with pytest.raises(ValueError, match=r"2\*\*63"):
        call(offset=2**64)


def test_shared_decisions_take_up_indices_once(call: Call) -> None:
    call(offset=2**63 - 6, noise_shape=(1, None))
    call(offset=2**63 - 1, noise_shape=(1, 1))
    with pytest.raises(ValueError, match=r"2\*\*63"):
        call(offset=2**63 - 5, noise_shape=(1, None))


def test_a_global_shape_may_have_2_to_the_63_elements_and_no_more(call: Call) -> None:
    call(global_shape=(2**32, 2**31))
    call(global_shape=(2**32, 2**31), offset=(2**32 - 4, 2**31 - 6))
    with pytest.raises(ValueError, match=r"2\*\*63"):
        call(global_shape=(2**32, 2**31 + 1))


@pytest.mark.parametrize("full", [(4,), (4, 6, 1), (), 24, [24]])
def test_a_global_shape_of_other_axes_is_a_value_error(call: Call, full: Any) -> None:
    with pytest.raises(ValueError, match=r"global_shape=\(.*2"):
        call(global_shape=full)


@pytest.mark.parametrize(
    ("offset", "full", "axis"),
    [((0, 0), (3, 6), 0), ((0, 0), (4, 5), 1), ((1, 0), (4, 6), 0), ((0, 7), (9, 12), 1),
     (0, (3, 9), 0), ((2**62, 0), (2**62 + 3, 6), 0)],
)  # fmt: skip
def test_a_block_that_does_not_fit_is_a_value_error_that_names_the_axis(
    call: Call, offset: Any, full: Any, axis: int
) -> None:
    with pytest.raises(ValueError, match=rf"along axis {axis} .*\({full[0]}, {full[1]}\)"):
        call(offset=offset, global_shape=full)


@pytest.mark.parametrize("offset", [(1,), (1, 1, 1), (), 1, np.int64(3)])
def test_an_offset_of_other_axes_than_the_global_shape_is_a_value_error(
    call: Call, offset: Any
) -> None:
    with pytest.raises(ValueError, match=r"offset=.*global_shape=\(10, 10\).*2 integers"):
        call(offset=offset, global_shape=(10, 10))


@pytest.mark.parametrize("full", [(10, -1), (-10, 10)])
def test_a_negative_global_length_is_a_value_error(call: Call, full: Any) -> None:
    with pytest.raises(ValueError, match=r"global_shape=.*negative"):
        call(global_shape=full)


def test_a_negative_start_is_a_value_error(call: Call) -> None:
    with pytest.raises(ValueError, match=r"offset=\(0, -1\).*negative"):
        call(offset=(0, -1), global_shape=(10, 10))


@pytest.mark.parametrize("full", [(4.0, 6), "46", (None, 6), (True, 6), 1.5])
def test_a_global_shape_of_no_integers_is_a_type_error(call: Call, full: Any) -> None:
    with pytest.raises(TypeError, match="global_shape"):
        call(global_shape=full)


@pytest.mark.parametrize("start", [(1.0, 0), (None, 0), ("1", 0), (True, 0)])
def test_a_start_of_no_integers_is_a_type_error(call: Call, start: Any) -> None:
    with pytest.raises(TypeError, match=r"offset\[0\]="):
        call(offset=start, global_shape=(10, 10))


@pytest.mark.parametrize("noise", [4, "ab", np.array(4), {4}, 1.5], ids=repr)
def test_a_noise_shape_that_is_no_tuple_is_a_type_error(call: Call, noise: Any) -> None:
    with pytest.raises(TypeError, match="noise_shape="):
        call(noise_shape=noise)


@pytest.mark.parametrize("noise", [(2, 6), (4, 3), (4, 0), (4, -1), (6, 4), (4, 7)])
def test_a_noise_shape_that_does_not_broadcast_is_a_value_error(call: Call, noise: Any) -> None:
    with pytest.raises(ValueError, match=r"noise_shape\[[01]\]=-?\d+ fits no axis"):
        call(noise_shape=noise)


def test_a_noise_shape_of_too_many_axes_is_a_value_error(call: Call) -> None:
    with pytest.raises(ValueError, match=r"noise_shape=\(1, 4, 6\)"):
        call(noise_shape=(1, 4, 6))


@pytest.mark.parametrize("noise", [(1.0, 6), ("1", 6), (True, 6), (np.float32(1), 6)], ids=repr)
def test_a_noise_shape_of_no_integers_is_a_type_error(call: Call, noise: Any) -> None:
    with pytest.raises(TypeError, match=r"noise_shape\[0\]="):
        call(noise_shape=noise)


def test_a_noise_shape_is_that_of_the_whole_array(call: Call) -> None:
    call(noise_shape=(10, 1), offset=(1, 2), global_shape=(10, 20))
    with pytest.raises(ValueError, match=r"noise_shape\[0\]=4.*\(10, 20\)"):
        call(noise_shape=(4, 1), offset=(1, 2), global_shape=(10, 20))


def test_a_layer_checks_its_noise_shape_in_the_forward() -> None:
    layer = fd.Dropout(0.5, rng=1, noise_shape=(5, 1))
    with pytest.raises(ValueError, match=r"noise_shape\[0\]=5"):
        layer(X)
    assert layer.forwards == 0
    with pytest.raises(RuntimeError, match="backward without a forward"):
        layer.backward(X)


@pytest.mark.parametrize("layer_of", [fd.Dropout, fd.AlphaDropout, fd.GaussianDropout,
                                      lambda **k: fd.GaussianNoise(0.1, **k)])  # fmt: skip
def test_layers_refuse_lengths_below_1_when_they_are_made(layer_of: Any) -> None:
    for wrong, says in (((0, 4), r"\[0\]=0"), ((4, -1), r"\[1\]=-1"), ((None, 0), r"\[1\]=0")):
        with pytest.raises(ValueError, match=rf"noise_shape{says} is below 1.*None.*1 to share"):
            layer_of(rng=1, noise_shape=wrong)
        layer = layer_of(rng=1)
        with pytest.raises(ValueError, match="below 1"):
            layer.noise_shape = wrong
        assert layer.noise_shape is None


@pytest.mark.parametrize(
    "noise", [[4, 1], np.array([4, 1]), (np.int64(4), np.uint8(1)), np.array([None, 1], object)],
    ids=repr,
)  # fmt: skip
def test_a_noise_shape_may_be_a_list_or_an_array(noise: Any) -> None:
    x = np.ones((4, 6))
    expected = fd.dropout(x, 0.5, rng=1, noise_shape=(4, 1)).tobytes()
    for _ in range(3):  # later calls are prepared
        assert fd.dropout(x, 0.5, rng=1, noise_shape=noise).tobytes() == expected
    layer = fd.Dropout(0.5, rng=1, noise_shape=noise)
    assert layer(x).tobytes() == expected
    assert layer.noise_shape in ((4, 1), (None, 1))
    assert eval(repr(layer), {"Dropout": fd.Dropout, "Key": fd.Key}).noise_shape == (
        layer.noise_shape
    )
    mask = fd.dropout_mask((4, 6), 0.5, rng=1, noise_shape=noise)
    assert mask.tolist() == fd.dropout_mask((4, 6), 0.5, rng=1, noise_shape=(4, 1)).tolist()


def test_a_batch_of_nothing_has_a_noise_shape_at_a_call() -> None:
    assert fd.dropout(np.ones((0, 3)), 0.5, rng=1, noise_shape=(0, 3)).shape == (0, 3)
