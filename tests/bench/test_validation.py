"""Contenders are checked before they are timed: right ones pass, and wrong ones are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench import cpu, family, timing
from bench.cases import BY_NAME, FORMS, Contender, as_step, available, form, in_dtype
from bench.check import STREAM, STREAM_WITHOUT_TIES, Wrong, draw, key
from bench.common import KI, Array, BenchError, fresh_input, fresh_output
from bench.layouts import STEADY

N = 64 * KI
ROOF, IDIOM, OURS = BY_NAME["multiply"], BY_NAME["cs231n"], BY_NAME["fastdrop"]


def validate(contender: Contender, elements: int = N) -> None:
    able, notes = available([contender])
    if not able:
        pytest.skip(notes[0])
    x = fresh_input(elements, contender.dtype)
    contender.validate(x, fresh_output(x))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_contender_passes(name: str) -> None:
    contender = BY_NAME[name]
    elements = (
        2 * KI if contender.right or contender.check(np.ones(1), np.ones(1), 0.1) == "" else N
    )
    validate(contender, elements)
    if contender.back:
        validate(as_step(contender), elements)


@pytest.mark.parametrize("name", [*FORMS, *STEADY])
@pytest.mark.parametrize("elements", [8192, pytest.param(N, marks=pytest.mark.slow)])
def test_every_way_to_call_passes(name: str, elements: int) -> None:
    validate(form(name), elements)


WRONG: dict[str, tuple[Contender, str]] = {
    "the scale forgotten": (
        replace(IDIOM, call="x * (np.random.rand(*x.shape) < q)"),
        "instead of",
    ),
    "another rate": (
        replace(IDIOM, call="x * ((np.random.rand(*x.shape) < 0.88) / q)"),
        "drops 0.1[12]",
    ),
    "elements not written": (
        replace(ROOF, call="np.multiply(x[1:], s, out=y[1:]) is None or y"),
        "element 0 is nan",
    ),
    "another shape": (replace(ROOF, call="np.multiply(x, s)[1:]"), "shape"),
    "a roof that drops": (replace(OURS, check=ROOF.check), "drops 0.1"),
    "another key": (replace(OURS, call="fd.dropout(x, p, rng=1, out=y)"), "differs from"),
    "another mask backward": (
        as_step(replace(IDIOM, back="dy * ((np.random.rand(*x.shape) < q) / q)")),
        "forward and backward drop different elements",
    ),
    "a gradient that is not scaled": (as_step(replace(IDIOM, back="dy * (kept > 0)")), "gradient"),
    "a part that is another": (
        replace(BY_NAME["noise-list"], call="fd.dropout(rows, p, rng=1, noise_shape=shape)"),
        "computes wrong values",
    ),
    "a way with another key": (
        replace(form("Fortran order"), call="fd.dropout(x, p, rng=1, out=y)"),
        "computes wrong values",
    ),
    "one bit": (
        replace(
            BY_NAME["fastdrop-new"],
            setup="one = np.zeros(x.size, np.int32)\none[-1] = 1",
            call="(fd.dropout(x, p, rng=key).view(np.int32) ^ one).view(np.float32)",
        ),
        "differs from",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_contender_is_refused(what: str) -> None:
    contender, message = WRONG[what]
    with pytest.raises(Wrong, match=message) as refused:
        validate(contender, 2 * KI if contender.name == "noise-list" else N)
    assert contender.label in str(refused.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_are_held_to_their_own_precision(dtype: str) -> None:
    pytest.importorskip("ml_dtypes")
    validate(in_dtype(ROOF, dtype))
    validate(in_dtype(OURS, dtype))
    small = {"float16": 2.0**-9, "bfloat16": 2.0**-6, "float64": 2.0**-49}[dtype]
    off = replace(in_dtype(ROOF, dtype), call=f"(x * s * s.dtype.type({1 + 5 * small}))")
    with pytest.raises(Wrong, match="instead of"):
        validate(off)


def test_ratios_are_to_the_roof_of_the_type() -> None:
    assert in_dtype(OURS, "float64").base == "multiply/float64"
    assert in_dtype(OURS, "float16").base == "multiply" and in_dtype(ROOF, "float16").role == "peer"


@pytest.mark.parametrize("p", [0.1, 0.125, 0.5])
def test_the_key_has_as_many_ties_as_are_to_be_expected(p: float) -> None:
    def ties(stream: int, n: int) -> int:
        # Their first 16 bits are the threshold's: kept by one of two rates 2**-16 apart alone.
        high = int(p * 2**32) >> 16
        low, up = (draw((n,), bits / 2**16, key(stream)) for bits in (high, high + 1))
        return int(np.count_nonzero(low != up))

    assert [ties(STREAM, n) for n in (16 * KI, 64 * KI)] == [0, 1]
    assert p != 0.1 or ties(STREAM_WITHOUT_TIES, 64 * KI) == 0


def of(name: str) -> tuple[Array, list[Contender]]:
    row = family.MEMBERS[name]
    x = fresh_input(family.MULTIPLE, seed=0)
    x = x.reshape(eval(row.get("shape", "(n,)"), {"n": x.size}))
    return x, list(family.contenders(name, x))


QUICK = ("alpha_dropout", "gaussian_noise", "drop_block2d", "softmax_dropout backward")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in family.MEMBERS],
)
def test_members_of_the_family_pass_and_wrong_ones_are_refused(name: str) -> None:
    x, contenders = of(name)
    for contender in available(contenders)[0]:
        contender.validate(x, fresh_output(x))
        if contender.role != "roof" and contender.name != "numpy":
            tuples = "backward" in name and "bias" in name
            first = f"({contender.call})[0]" if tuples else f"({contender.call})"
            wrong = replace(contender, call=f"{first} * 1.5 + 0.5")
            with pytest.raises((Wrong, ValueError)):
                wrong.validate(x, fresh_output(x))


def test_what_is_missing_is_noted_and_ours_is_not_forgiven() -> None:
    able, notes = available([replace(IDIOM, needs=("no_such_library",)), ROOF])
    assert able == [ROOF] and "left out, not importable: cs231n" in notes[0]
    with pytest.raises(BenchError, match="fastdrop cannot be imported"):
        available([replace(OURS, needs=("no_such_library",))])


def test_a_peer_that_fails_is_noted_and_ours_is_not_forgiven() -> None:
    def operands(dtype: str) -> tuple[Array, Array]:
        x = fresh_input(KI)
        return x, fresh_output(x)

    notes: list[str] = []
    failing: Any = {"call": "1 / 0"}
    peer = replace(BY_NAME["torch"], needs=("fastdrop",), threads=None, setup="", **failing)
    rows = cpu.timed("forward", [ROOF, peer], operands, 1e-9, notes, timing.ONCE)
    assert [row["contender"] for row in rows] == ["multiply"] and "ZeroDivisionError" in notes[0]
    with pytest.raises(ZeroDivisionError):
        cpu.timed("forward", [ROOF, replace(OURS, **failing)], operands, 1e-9, [], timing.ONCE)
