"""Keys come from torch's generators: `torch.manual_seed` rules, and errors draw nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.torch.cases import CALLS, KEY, array, assert_equal, generator_state, numbers

NAMES = pytest.mark.parametrize("name", CALLS)


@NAMES
def test_the_same_seed_gives_the_same_masks_again(name: str) -> None:
    call, x = CALLS[name].torch, numbers(9, 40)
    torch.manual_seed(3)
    first, second = call(x), call(x)
    torch.manual_seed(3)
    assert torch.equal(call(x), first)
    state = torch.get_rng_state()
    assert torch.equal(call(x), second)
    torch.set_rng_state(state)
    assert torch.equal(call(x), second)
    assert not torch.equal(first, second)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        assert torch.equal(call(x), first)
    torch.set_rng_state(state)
    with torch.random.fork_rng():
        call(x)
    assert torch.equal(call(x), second)


@NAMES
def test_the_key_is_that_which_draw_key_draws(name: str) -> None:
    call, x = CALLS[name], numbers(9, 40)
    torch.manual_seed(3)
    keys = [fdt.draw_key() for _ in range(3)]
    assert len({tuple(key.tolist()) for key in keys}) == 3
    torch.manual_seed(3)
    for key in keys:
        assert key.shape == (2,) and key.dtype == torch.int64
        assert_equal(call.torch(x), call.numpy(array(x), rng=fdt.key_of(key)))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    for key in keys:  # the same, where a gradient is recorded
        assert torch.equal(call.torch(x.clone().requires_grad_()), call.torch(x, key=key))
    torch.set_rng_state(state)
    for key in keys:
        if call.inplace:
            assert torch.equal(call.torch(x.clone(), inplace=True), call.torch(x, key=key))


def test_a_draw_is_two_integers_of_torch() -> None:
    torch.manual_seed(8)
    key = fdt.draw_key()
    torch.manual_seed(8)
    expected = torch.randint(-(1 << 63), (1 << 63) - 1, (2,))
    assert torch.equal(key, expected)
    assert fdt.key_of(key) == fd.Key(*[n % (1 << 64) for n in expected.tolist()])
    torch.manual_seed(8)
    many = torch.stack([fdt.draw_key() for _ in range(2000)])
    assert 800 < (many < 0).sum(0).min() and (many < 0).sum(0).max() < 1200


@NAMES
def test_generators_given_are_asked_and_no_others(name: str) -> None:
    call, x = CALLS[name].torch, numbers(9, 40)
    generator = torch.Generator().manual_seed(3)
    state = generator_state()
    first, second = call(x, key=generator), call(x, key=generator)
    assert not torch.equal(first, second)
    assert torch.equal(call(x, key=generator.manual_seed(3)), first)
    key = fdt.draw_key(torch.Generator().manual_seed(3))
    assert torch.equal(call(x, key=key), first)
    assert generator_state() == state


@NAMES
def test_no_key_is_drawn_where_none_is_needed(name: str) -> None:
    x, state = numbers(3, 4), generator_state()
    CALLS[name].torch(x, key=KEY)
    CALLS[name].torch(x, key=5)
    CALLS[name].torch(x, key=torch.tensor([1, 2]))
    for function in FUNCTIONS.values():
        function(x, p=0.0)
        function(x, training=False)
    assert generator_state() == state


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "dropout": F.dropout,
    "dropout1d": F.dropout1d,
    "feature_dropout": F.feature_dropout,
    "alpha_dropout": lambda x, p=0.5, training=True, **more: F.alpha_dropout(
        x, p, training, **more
    ),
    "feature_alpha_dropout": lambda x, p=0.5, training=True, **more: F.feature_alpha_dropout(
        x, p, training, **more
    ),
    "drop_path": F.drop_path,
    "masked_fill": lambda x, p=0.5, **more: F.masked_fill(x, p, 2.0, **more),
    "softmax_dropout": F.softmax_dropout,
    "bias_act_dropout_add": F.bias_act_dropout_add,
}
LEAF = torch.ones(3, 4, requires_grad=True)
WRONG: list[tuple[str, Any, dict[str, Any], type[Exception]]] = [
    *[(name, torch.ones(3, 4), {"p": 1.5}, ValueError) for name in FUNCTIONS],
    *[(name, torch.ones(3, 4), {"p": "half"}, TypeError) for name in FUNCTIONS],
    *[(name, torch.ones(3, 4), {"p": torch.ones(2)}, TypeError) for name in FUNCTIONS],
    *[(name, torch.ones(3, 4), {"key": "a"}, TypeError) for name in FUNCTIONS],
    *[(name, [1.0, 2.0], {}, TypeError) for name in FUNCTIONS],
    *[(name, None, {"training": False}, TypeError) for name in FUNCTIONS],
    *[
        (name, torch.ones(3, 4, dtype=dtype), {}, NotImplementedError)
        for name in FUNCTIONS
        for dtype in (torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn)
        if name != "masked_fill"
    ],
    *[(name, torch.eye(3).to_sparse(), {}, NotImplementedError) for name in FUNCTIONS],
    *[(name, torch.eye(3).to_mkldnn(), {}, NotImplementedError) for name in FUNCTIONS],
    *[
        (name, LEAF, {"inplace": True}, RuntimeError)
        for name in FUNCTIONS
        if name not in ("softmax_dropout", "bias_act_dropout_add")
    ],
    ("dropout", torch.ones(4).expand(3, 4), {"inplace": True}, RuntimeError),
    ("dropout", torch.ones(3, 4), {"noise_shape": (3, 5)}, ValueError),
    ("dropout", torch.ones(3, 4), {"noise_shape": (1, 3, 4)}, ValueError),
    ("dropout", torch.ones(3, 4), {"noise_shape": 3}, TypeError),
    ("dropout", torch.ones(3, 4), {"offset": -1}, ValueError),
    ("dropout", torch.ones(3, 4), {"offset": 1.5}, TypeError),
    ("dropout", torch.ones(3, 4), {"offset": (0, 0)}, TypeError),
    ("dropout", torch.ones(3, 4), {"offset": 1 << 63}, ValueError),
    ("dropout", torch.ones(3, 4), {"offset": (1, 1), "global_shape": (3, 9)}, ValueError),
    ("dropout", torch.ones(3, 4), {"global_shape": (3, 4, 5)}, ValueError),
    ("dropout", torch.ones(3, 4), {"scale": "a"}, TypeError),
    ("dropout", torch.ones(3, 4), {"scale": float("inf")}, ValueError),
    ("dropout", torch.ones(3, 4), {"scale": 1e300}, ValueError),
    ("drop_path", torch.ones(3, 4), {"scale": float("nan")}, ValueError),
    ("drop_path", torch.ones(3, 4), {"mode": "rows"}, ValueError),
    ("drop_path", torch.ones(()), {}, ValueError),
    ("dropout1d", torch.ones(3), {}, RuntimeError),
    ("dropout1d", torch.ones(3, 4, 5, 6), {"training": False}, RuntimeError),
    ("feature_dropout", torch.ones(3), {}, RuntimeError),
    ("feature_alpha_dropout", torch.ones(3), {}, RuntimeError),
    ("softmax_dropout", torch.ones(3, 4), {"dim": 2}, IndexError),
    ("softmax_dropout", torch.ones(()), {}, IndexError),
    ("softmax_dropout", torch.ones(3, 4), {"scale": 1e300}, ValueError),
    ("softmax_dropout", torch.ones(3, 4), {"global_shape": (3, 9)}, ValueError),
    ("bias_act_dropout_add", torch.ones(3, 4), {"act": "swish"}, ValueError),
    ("bias_act_dropout_add", torch.ones(3, 4), {"bias": torch.ones(3)}, ValueError),
    ("bias_act_dropout_add", torch.ones(3, 4), {"bias": torch.ones(4).double()}, TypeError),
    ("bias_act_dropout_add", torch.ones(4), {"residual": torch.ones(3, 4)}, ValueError),
    ("bias_act_dropout_add", torch.ones(3, 4), {"residual": [1.0]}, TypeError),
    ("bias_act_dropout_add", torch.ones(3, 4), {"scale": "a"}, TypeError),
]


@pytest.mark.parametrize(("name", "x", "more", "kind"), WRONG, ids=lambda v: str(v)[:40])
def test_errors_are_raised_before_a_key_is_drawn(
    name: str, x: Any, more: dict[str, Any], kind: type[Exception]
) -> None:
    state = generator_state()
    before = x.clone() if isinstance(x, Tensor) and x.layout is torch.strided else None
    with pytest.raises(kind) as caught:
        FUNCTIONS[name](x, **more)
    assert type(caught.value) is kind
    assert generator_state() == state
    if before is not None:
        assert torch.equal(x, before)


FILLS: list[tuple[Any, torch.dtype]] = [
    (1.5, torch.int64),
    (300, torch.uint8),
    (1e300, torch.float32),
    (1e300, torch.bfloat16),
    (1j, torch.float32),
    ("a", torch.float32),
    (None, torch.float32),
]


@pytest.mark.parametrize(("value", "dtype"), FILLS, ids=str)
def test_fill_values_that_do_not_fit(value: Any, dtype: torch.dtype) -> None:
    state = generator_state()
    with pytest.raises((TypeError, ValueError)):
        F.masked_fill(torch.ones(3, dtype=dtype), 0.5, value)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        F.masked_fill(torch.ones(3), 0.5, torch.ones(2))
    assert generator_state() == state


def test_fills_of_dtypes_that_numpy_has_not() -> None:
    state = generator_state()
    x = torch.ones(3, dtype=torch.float8_e4m3fn)
    with pytest.raises(NotImplementedError, match="view"):
        F.masked_fill(x, 0.5, 1.0)
    assert generator_state() == state
    y = F.masked_fill(x.view(torch.uint8), 0.5, 0, key=KEY).view(torch.float8_e4m3fn)
    assert torch.equal(y.float() == 1, F.dropout_mask(3, key=KEY))


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout", "feature_alpha_dropout"])
def test_torch_raises_the_same_kinds(name: str) -> None:
    ours, torchs = getattr(F, name), getattr(torch.nn.functional, name)
    with torch.inference_mode():
        inference = torch.ones(2, 3, 4, 5)
    leaf = torch.ones(2, 3, 4, 5, requires_grad=True)
    with torch.no_grad():
        view = leaf[:1]
    for dtype in (torch.int32, torch.int64, torch.bool, torch.complex128, torch.float8_e5m2):
        assert_same_kind(ours, torchs, torch.ones(2, 3, 4, 5).to(dtype), 0.5, True)
    for p in (-0.1, 1.1, "a", None, 1j, torch.ones(1), (0.5,)):
        assert_same_kind(ours, torchs, leaf, p, True)
        assert_same_kind(ours, torchs, leaf, p, False)
    for x in (None, 1.0, "a", [1.0], numbers(2, 2).numpy()):
        assert_same_kind(ours, torchs, x, 0.5, True)
        assert_same_kind(ours, torchs, x, 0.5, False)
    for x in (leaf, view, leaf[:1], (leaf * 1).unbind()[0], leaf[:1].expand(9, 3, 4, 5), inference):
        assert_same_kind(ours, torchs, x, 0.5, True, True)
    for x in (leaf.detach().to_sparse(), leaf.detach().to_mkldnn()):
        assert_same_kind(ours, torchs, x, 0.5, True)


def assert_same_kind(ours: Any, torchs: Any, *args: Any) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: B017, PT011
        torchs(*args)
    with pytest.raises(type(theirs.value)):
        ours(*args)


def test_wrong_keys() -> None:
    for wrong in (
        torch.zeros(2),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(1, 2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.int32),
    ):
        with pytest.raises(TypeError, match="draw_key"):
            F.dropout(torch.ones(3), key=wrong)
        with pytest.raises(TypeError, match="two int64"):
            fdt.key_of(wrong)
    with pytest.raises(TypeError, match="two int64"):
        fdt.key_of(fd.Key(1))  # type: ignore[arg-type]
    for other in (1.5, "a", object(), -1):
        with pytest.raises((TypeError, ValueError)):
            F.dropout(torch.ones(3), key=other)  # type: ignore[arg-type]
