"""The epilogue: one pass gives what four do, and its backward what autograd does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fastdrop as fd
from tests.support import epilogues
from tests.support.epilogues import ACTIVATIONS
from tests.support.gradients import numerical_gradient
from tests.support.oracle import Array, assert_same, mask, misaligned, poisoned
from tests.support.thinning import thinned

KEY = fd.Key(2**41 + 3, 2**62 + 1)
DTYPES = [np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)]
FACTOR = float(np.float32(1 / (1 - 0.3)))
# How many eps of the dtype a result may be off, of the sizes that are added in it.
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-23, "float64": 2.0**-52}
SHAPE = 37, 83
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.copy,
    "F": lambda x: np.array(x, order="F"),
    "strided": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "misaligned": lambda x: misaligned(x, x.itemsize),
    "rows of wider ones": lambda x: np.pad(x, ((0, 0), (3, 5)))[:, 3:-5],
}


def numbers(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> Array:
    return np.asarray((2 * rng.standard_normal(shape)).astype(dtype))


def factor_of(dtype: Any) -> float:
    return 1 / (1 - 0.3) if dtype == np.float64 else FACTOR


def assert_close(got: Array, true: Array, size: Array, slack: float = 8) -> None:
    eps = EPS[got.dtype.name]
    half = got.dtype.itemsize == 2
    bound = size * ((1.01 if half else slack) * eps) + np.finfo(np.float32).tiny
    off = np.abs(got.astype(np.float64) - true)
    worst = np.unravel_index(np.argmax(off - bound), off.shape)
    assert (off <= bound).all(), (worst, got[worst], true[worst], off[worst] / bound[worst])


def named(value: Any) -> str:
    """How a test of a value is named: a kind of epilogue, or something else."""
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


# Every activation in both types that are computed in, and some in the others: each is compiled.
KINDS = [(act, dtype) for act in ACTIVATIONS for dtype in DTYPES[2:]] + [
    (act, dtype) for act in ("identity", "silu") for dtype in DTYPES[:2]
]
every_kind = pytest.mark.parametrize(
    "kind", thinned(lambda kind: kind[1] == np.float32 or kind[0] == "identity", KINDS), ids=named
)


@every_kind
def test_it_is_the_chain_of_its_parts(
    kind: tuple[str, np.dtype[Any]], rng: np.random.Generator
) -> None:
    act, dtype = kind
    x, residual = numbers(SHAPE, dtype, rng), numbers(SHAPE, dtype, rng)
    kept, factor = mask(SHAPE, 0.3, KEY), factor_of(dtype)
    biases = [numbers((83,), dtype, rng), numbers((37, 1), dtype, rng)]
    for bias in [*biases, None] if act == "silu" else biases:
        for added in [residual, residual[:1], None] if act == "silu" else [residual]:
            got = fd.bias_act_dropout_add(x, bias, act, 0.3, rng=KEY, residual=added)
            assert got.dtype == dtype
            assert_close(got, *epilogues.forward(x, bias, act, kept, factor, added))


@pytest.mark.parametrize(
    ("dtype", "layout"),
    thinned(lambda dtype, layout: dtype == np.float32, DTYPES, LAYOUTS),
    ids=str,
)
def test_the_layout_changes_no_bit(
    dtype: np.dtype[Any], layout: str, rng: np.random.Generator
) -> None:
    x, bias, residual = (numbers(s, dtype, rng) for s in (SHAPE, (83,), SHAPE))
    change = LAYOUTS[layout]
    true = fd.bias_act_dropout_add(x, bias, "silu", 0.3, rng=KEY, residual=residual)
    got = fd.bias_act_dropout_add(change(x), bias, "silu", 0.3, rng=KEY, residual=residual)
    assert_same(np.ascontiguousarray(got), true)
    out = change(poisoned(SHAPE, dtype))
    odd = change(residual), change(numbers(SHAPE, dtype, rng) * 0)[0] + bias
    assert fd.bias_act_dropout_add(x, odd[1], "silu", 0.3, rng=KEY, residual=odd[0], out=out) is out
    assert_same(np.ascontiguousarray(out), true)


SHAPES: list[tuple[tuple[int, ...], list[tuple[int, ...]]]] = [
    ((1,), [(1,), ()]),
    ((1025,), [(1025,)]),
    ((700, 3), [(3,), (700, 1)]),
    ((300, 49), [(49,), (1,), (300, 1)]),
    ((11, 1024), [(1024,), (11, 1)]),
    ((3, 5000), [(5000,), (3, 1)]),
    ((3, 7, 6, 5), [(7, 1, 1), (5,), (3, 1, 1, 1), (6, 1), (3, 7, 6, 5)]),
    ((2, 3, 40, 40), [(3, 1, 1), (40, 1)]),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s[0])))
def test_any_part_may_be_broadcast(
    shape: tuple[tuple[int, ...], list[tuple[int, ...]]], rng: np.random.Generator
) -> None:
    full, parts = shape
    x, kept = numbers(full, np.float32, rng), mask(full, 0.3, KEY, offset=77)
    for part in parts:
        for other in [*parts, full]:
            bias, residual = numbers(part, np.float32, rng), numbers(other, np.float32, rng)
            got = fd.bias_act_dropout_add(
                x, bias, "identity", 0.3, rng=KEY, residual=residual, offset=77
            )
            expected = np.where(kept, (x + bias) * np.float32(FACTOR), np.float32(0)) + residual
            assert_same(got, expected)


def test_shards_are_parts_of_the_whole(rng: np.random.Generator) -> None:
    x, residual = numbers((50, 300), np.float32, rng), numbers((50, 300), np.float32, rng)
    bias = numbers((300,), np.float32, rng)
    whole = fd.bias_act_dropout_add(x, bias, "gelu", 0.3, rng=KEY, residual=residual)
    for rows, columns in ((slice(0, 20), slice(7, 250)), (slice(20, 50), slice(299, 300))):
        got = fd.bias_act_dropout_add(
            np.ascontiguousarray(x[rows, columns]), bias[columns], "gelu", 0.3, rng=KEY,
            residual=residual[rows, columns], offset=(rows.start, columns.start),
            global_shape=(50, 300),
        )  # fmt: skip
        assert_same(got, np.ascontiguousarray(whole[rows, columns]))


def test_threads_change_no_bit(
    rng: np.random.Generator, set_threads: Callable[[int], None]
) -> None:
    x, dy = numbers((1700, 1100), np.float32, rng), numbers((1700, 1100), np.float32, rng)
    for bias in (numbers((1100,), np.float32, rng), numbers((1700, 1), np.float32, rng)):
        results = []
        for threads in (1, 2, 5):
            set_threads(threads)
            y = fd.bias_act_dropout_add(x, bias, "tanh", 0.3, rng=KEY, residual=dy)
            dx, dbias, _ = fd.bias_act_dropout_add_backward(dy, x, bias, "tanh", 0.3, rng=KEY)
            assert dbias is not None
            results.append((y.tobytes(), dx.tobytes(), dbias.tobytes()))
        assert results[0] == results[1] == results[2]


@every_kind
def test_the_backward_is_the_formulas(
    kind: tuple[str, np.dtype[Any]], rng: np.random.Generator
) -> None:
    act, dtype = kind
    x, dy, bias = (numbers(s, dtype, rng) for s in (SHAPE, SHAPE, (83,)))
    kept, factor = mask(SHAPE, 0.3, KEY), factor_of(dtype)
    for shift in (None, bias) if act == "silu" else (bias,):
        dx, dbias, dresidual = fd.bias_act_dropout_add_backward(dy, x, shift, act, 0.3, rng=KEY)
        assert dresidual is dy
        true = epilogues.gradient(dy, x, shift, act, kept, factor)
        assert_close(dx, true, np.abs(true) + 0.3 * np.abs(np.where(kept, dy, 0)))
        assert (dbias is None) == (shift is None)
    assert dbias is not None
    exact = dx.astype(np.float64).sum(axis=0)
    assert_same(dbias, exact.astype(dtype))


@pytest.mark.parametrize("act", thinned(lambda act: act == "gelu", ACTIVATIONS))
def test_the_backward_is_the_numerical_gradient(act: str, rng: np.random.Generator) -> None:
    x, bias, residual, weights = (rng.standard_normal(s) for s in ((4, 6), (6,), (4, 6), (4, 6)))

    def loss(x: Array, bias: Array, residual: Array) -> float:
        y = fd.bias_act_dropout_add(x, bias, act, 0.3, rng=5, residual=residual)
        return float(np.sum(np.sin(y) * weights))

    y = fd.bias_act_dropout_add(x, bias, act, 0.3, rng=5, residual=residual)
    dx, dbias, dresidual = fd.bias_act_dropout_add_backward(
        np.cos(y) * weights, x, bias, act, 0.3, rng=5
    )
    assert dbias is not None
    for got, true in (
        (dx, numerical_gradient(lambda a: loss(a, bias, residual), x)),
        (dbias, numerical_gradient(lambda a: loss(x, a, residual), bias)),
        (dresidual, numerical_gradient(lambda a: loss(x, bias, a), residual)),
    ):
        np.testing.assert_allclose(got, true, rtol=2e-6, atol=2e-8)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_autograd_agrees(act: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="the oracle is torch's autograd")
    functional = torch.nn.functional
    acts = {
        "identity": lambda t: t,
        "relu": functional.relu,
        "gelu": functional.gelu,
        "gelu_tanh": lambda t: functional.gelu(t, approximate="tanh"),
        "silu": functional.silu,
        "tanh": torch.tanh,
    }
    x, bias, residual, dy = (
        rng.standard_normal(s) * 3 for s in ((40, 70), (70,), (40, 70)) * 1 + ((40, 70),)
    )
    kept = mask((40, 70), 0.3, KEY)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, bias, residual)]
    y = acts[act](tensors[0] + tensors[1]) * torch.tensor(kept / 0.7) + tensors[2]
    y.backward(torch.tensor(dy))
    got = fd.bias_act_dropout_add(x, bias, act, 0.3, rng=KEY, residual=residual)
    np.testing.assert_allclose(got, y.detach().numpy(), rtol=1e-13, atol=1e-13)
    gradients = fd.bias_act_dropout_add_backward(dy, x, bias, act, 0.3, rng=KEY)
    for ours, tensor in zip(gradients, tensors, strict=True):
        np.testing.assert_allclose(ours, tensor.grad.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "alone"),
    thinned(lambda kind, alone: kind[1] == np.float32 and not alone, KINDS, [False, True]),
    ids=named,
)
def test_limits_and_what_is_no_number(kind: tuple[str, np.dtype[Any]], alone: bool) -> None:
    act, dtype = kind
    inf, nan = np.inf, np.nan
    x = np.array([-inf, inf, nan, 0.0, -0.0, 60000.0, -60000.0], dtype)
    nothing = None if alone else np.full_like(x, -0.0)  # which changes no number it is added to
    certain: dict[str, Any] = {"p": 1e-9, "rng": 1, "scale": 1.0}  # nothing is dropped
    y = fd.bias_act_dropout_add(x, nothing, act, residual=nothing, **certain)
    limits: Any = {"identity": (-inf, inf), "tanh": (-1, 1)}.get(act, (0.0, inf))
    assert (float(y[0]), float(y[1])) == limits
    assert np.isnan(y[2].astype(np.float32))
    assert_same(np.abs(y[3:5]), np.zeros(2, dtype))
    assert np.signbit(y[4].astype(np.float32)) == (act != "relu")
    dx, _, _ = fd.bias_act_dropout_add_backward(np.ones_like(x), x, nothing, act, **certain)
    slopes: Any = {"identity": (1, 1), "tanh": (0, 0)}.get(act, (0, 1))
    assert (float(dx[0]), float(dx[1])) == slopes
    lost = fd.bias_act_dropout_add(x, x, act, 1.0, residual=np.full_like(x, -0.0))
    assert not np.signbit(lost.astype(np.float32)).any()
    assert not lost.astype(np.float32).any()


def test_evaluation_leaves_out_the_dropout_alone(rng: np.random.Generator) -> None:
    x, bias = numbers((9, 30), np.float32, rng), numbers((30,), np.float32, rng)
    state = rng.bit_generator.state
    got = fd.bias_act_dropout_add(x, bias, "relu", 0.9, rng=rng, residual=x, training=False)
    assert_same(got, np.maximum(x + bias, 0) + x)
    dx, dbias, _ = fd.bias_act_dropout_add_backward(
        x, x, bias, "relu", 0.9, rng=rng, training=False
    )
    assert_same(dx, np.where(x + bias > 0, x, np.float32(0)))
    assert rng.bit_generator.state == state


@pytest.mark.slow
def test_evaluation_without_any_part_is_a_copy(rng: np.random.Generator) -> None:
    x = numbers((9, 30), np.float32, rng)
    plain = fd.bias_act_dropout_add(x, training=False)
    assert plain is not x
    assert_same(plain, x)


def test_a_scale_is_that_of_kept_elements(rng: np.random.Generator) -> None:
    x = numbers((9, 30), np.float32, rng)
    nothing = np.full_like(x, -0.0)  # which changes no number it is added to
    got = fd.bias_act_dropout_add(x, x, "relu", 0.4, rng=KEY, residual=nothing, scale=-3.0)
    factor, zero = np.float32(-3), np.float32(0)
    assert_same(got, np.where(mask(x.shape, 0.4, KEY), np.maximum(x + x, 0) * factor, zero))


@pytest.mark.parametrize("what", ["x", "bias", "residual", "row"])
def test_out_may_be_or_overlap_what_is_read(what: str, rng: np.random.Generator) -> None:
    for step in (0, 5, -5):
        memory = numbers((5000,), np.float32, rng)
        out = memory[10:3010].reshape(60, 50)
        other = memory[10 + step : 3010 + step].reshape(60, 50)
        parts: dict[str, Any] = {
            k: numbers((60, 50), np.float32, rng) for k in ("x", "bias", "residual")
        }
        parts["bias" if what == "row" else what] = other[3] if what == "row" else other
        apart: dict[str, Any] = {k: v.copy() for k, v in parts.items()}
        expected = fd.bias_act_dropout_add(**apart, act="silu", p=0.3, rng=KEY)
        assert fd.bias_act_dropout_add(**parts, act="silu", p=0.3, rng=KEY, out=out) is out
        assert_same(out.copy(), expected)


def test_the_gradient_may_be_written_over_what_is_read(rng: np.random.Generator) -> None:
    for which in (0, 1):
        dy, x, bias = (numbers(s, np.float32, rng) for s in ((60, 50), (60, 50), (50,)))
        true = fd.bias_act_dropout_add_backward(dy, x, bias, "gelu", 0.3, rng=KEY)
        out = (dy, x)[which]
        got = fd.bias_act_dropout_add_backward(dy, x, bias, "gelu", 0.3, rng=KEY, out=out)
        assert got[0] is out
        for a, b in zip(got[:2], true[:2], strict=True):
            assert a is not None
            assert b is not None
            assert_same(a, b)


def test_empty_arrays_and_numbers() -> None:
    x = np.zeros((0, 5), np.float32)
    bias = np.ones(5, np.float32)
    assert fd.bias_act_dropout_add(x, bias, "silu").shape == (0, 5)
    dx, dbias, _ = fd.bias_act_dropout_add_backward(x, x, bias, "silu")
    assert dx.shape == (0, 5)
    assert dbias is not None
    assert_same(dbias, np.zeros(5, np.float32))
    one = fd.bias_act_dropout_add(2.0, 1, "relu", 0.0, residual=4.0)
    assert float(one) == 7.0


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"act": "swish"}, ValueError, "act='swish'"),
    ({"bias": np.zeros(4, np.float32)}, ValueError, r"bias has shape \(4,\)"),
    ({"bias": np.zeros((1, 1, 5), np.float32)}, ValueError, r"bias has shape \(1, 1, 5\)"),
    ({"residual": np.zeros((3, 5))}, TypeError, "residual has dtype float64.*astype"),
    ({"p": 1.5}, ValueError, "p=1.5"),
    ({"x": np.zeros((3, 5), np.int32)}, TypeError, "int32"),
    ({"training": 2}, TypeError, "training=2"),
    ({"scale": np.inf}, ValueError, "scale=inf"),
    ({"out": np.zeros((3, 5))}, TypeError, "out has dtype"),
]


@pytest.mark.parametrize(("bad", "error", "match"), BAD, ids=lambda a: str(a)[:20])
def test_errors_say_what_is_wrong_before_anything_is_written(
    bad: dict[str, Any], error: type[Exception], match: str
) -> None:
    out = poisoned((3, 5), np.float32)
    before = out.tobytes()
    with pytest.raises(error, match=match):
        fd.bias_act_dropout_add(**{"x": np.zeros((3, 5), np.float32), "out": out, **bad})
    assert out.tobytes() == before


def test_the_gradient_must_fit() -> None:
    x = np.zeros((3, 5), np.float32)
    with pytest.raises(ValueError, match="dy has shape"):
        fd.bias_act_dropout_add_backward(x, x[:1])
    with pytest.raises(TypeError, match="x has dtype float64"):
        fd.bias_act_dropout_add_backward(x, np.zeros((3, 5)), act="relu")
