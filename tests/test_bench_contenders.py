"""Contenders of the benchmark: they are validated, and timed and measured side by side."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop
from bench import hooks, memory, ours, path, timing
from bench.check import Wrong, check
from bench.common import KI, MI, Array, BenchError, P, fresh_input
from bench.contender import Call, Contender, Step
from bench.contenders import BY_NAME, CONTENDERS, ROOF, as_step, available, in_dtype, known
from bench.sections import SECTIONS
from bench.variants import FORMS, variants

# Whatever is timed, once; what only the number of threads tells apart counts as one.
TIMED = {
    f"{name}-{contender.id}": contender
    for name, section in SECTIONS.items()
    for contender in section.contenders()
    if name in ("variants", "dtypes", "step") and contender.name != "fastdrop"
} | {contender.id: contender for contender in CONTENDERS}


def peer(forward: Callable[[Array, float, Array], Any]) -> Contender:
    """A made-up contender that computes `forward(x, p, out)`."""

    def setup(x: Array, p: float, out: Array) -> Call:
        return lambda: forward(x, p, out)

    return Contender("made-up", "made-up", "peer", setup)


def check_peer(forward: Callable[[Array, float, Array], Any], elements: int = 64 * KI) -> None:
    x = fresh_input(elements)
    check(peer(forward), x, np.empty_like(x))


def dropped(x: Array, p: float) -> Array:
    kept = np.random.default_rng().random(x.size) >= p
    result: Array = np.where(kept, x / np.float32(1 - p), np.float32(0))
    return result


# Validation


def test_correct_peer_passes() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        out[...] = dropped(x, p)
        return out

    check_peer(forward)


@pytest.mark.parametrize("name", TIMED)
def test_every_contender_passes(name: str) -> None:
    contender = TIMED[name]
    able, notes = available([contender])
    if not able:
        pytest.skip(notes[0])
    # No multiple of any block or chunk, where shapes allow it.
    x = fresh_input(8 * KI if contender.variant else 100_003, contender.dtype)
    check(contender, x, np.empty_like(x))


def test_forgotten_scale_is_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        return np.multiply(x, np.random.default_rng().random(x.size) >= p, out=out)

    with pytest.raises(Wrong, match="neither 0 nor x / "):
        check_peer(forward)


def test_wrong_rate_is_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        kept = np.random.default_rng().random(x.size) >= 0.12
        result: Array = x / np.float32(1 - p) * kept
        return result

    with pytest.raises(Wrong, match=r"drops 0\.1[12]\d* of the elements, not 0\.1"):
        check_peer(forward)


def test_unwritten_elements_are_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        out[:-1] = x[:-1] / np.float32(1 - p)
        return out

    with pytest.raises(Wrong, match=r"65535: nan instead"):
        check_peer(forward)


def test_wrong_shape_is_caught() -> None:
    with pytest.raises(Wrong, match=r"\(3,\)"):
        check_peer(lambda x, p, out: x[:3])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_half_types_are_held_to_their_own_precision(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 is that of ml_dtypes")
    x = fresh_input(64 * KI, dtype)
    out = np.empty_like(x)
    check(in_dtype(ROOF, dtype), x, out)
    factor = 1.03 if dtype != "float64" else 1 + 1e-12

    def forward(x: Array, p: float, out: Array) -> Array:
        product: Array = x.astype(np.float64) / (1 - p) * factor
        return product.astype(x.dtype)

    wrong = dataclasses.replace(peer(forward), dtype=dtype, role="roof")
    with pytest.raises(Wrong, match="neither 0 nor x / "):
        check(wrong, x, out)


def test_one_wrong_bit_of_an_exact_contender_is_caught() -> None:
    def forward(x: Array, p: float, out: Array) -> Array:
        result: Array = np.where(np.arange(x.size) % 10 != 0, x / np.float32(1 - p), np.float32(0))
        return result

    x = fresh_input(KI)
    expected = forward(x, P, x)
    exact = dataclasses.replace(peer(forward), exact=lambda x, p: iter([("the mask", expected)]))
    check(exact, x, np.empty_like(x))
    expected[0] = -0.0  # equal to 0.0 as a number
    with pytest.raises(Wrong, match="differs from the mask"):
        check(exact, x, np.empty_like(x))


def test_a_variant_that_draws_another_mask_is_caught() -> None:
    wrong = dataclasses.replace(FORMS["offset"], arguments=lambda shape: {"offset": 12_346})
    contender = next(c for c in variants() if c.variant == "offset")
    x = fresh_input(8 * KI)
    out = np.empty_like(x)
    check(contender, x, out)
    with pytest.raises(Wrong, match=r"\(offset\).*differs from the mask cut from the whole"):
        check(dataclasses.replace(contender, setup=wrong.setup), x, out)


def test_a_step_that_draws_again_in_the_backward_pass_is_caught() -> None:
    def steps(x: Array, dy: Array, p: float, y: Array, dx: Array) -> Step:
        return Step(lambda: (dropped(x, p), None), lambda _: dropped(dy, p))

    contender = dataclasses.replace(peer(lambda x, p, out: None), steps=steps)
    x = fresh_input(64 * KI)
    with pytest.raises(Wrong, match="forward and backward drop different elements"):
        check(as_step(contender), x, np.empty_like(x))


@pytest.mark.parametrize(
    ("stream", "p", "expected"),
    [(ours.STREAM, p, [0, 1]) for p in (0.1, 0.125, 0.5)]
    + [(ours.STREAM_WITHOUT_TIES, 0.1, [0, 0])],
)
def test_the_key_has_as_many_ties_as_are_to_be_expected(
    stream: int, p: float, expected: list[int]
) -> None:
    first = int(p * 65536)
    below, above = (
        fastdrop.dropout_mask(64 * KI, halves / 65536, rng=ours.key(stream))
        for halves in (first, first + 1)
    )
    ties = below & ~above
    assert [int(ties[:n].sum()) for n in (16 * KI, 64 * KI)] == expected


# Who can run


def test_missing_torch_leaves_its_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # so that importing it fails
    able, notes = available(c for c in CONTENDERS if c.needs in (None, "torch"))
    assert [c for c in able if c.needs == "torch"] == []
    assert ROOF in able
    assert len(notes) == sum(c.needs == "torch" for c in CONTENDERS)
    assert all("not importable: torch F.dropout" in note for note in notes)


def test_missing_fastdrop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastdrop", None)
    with pytest.raises(BenchError, match="fastdrop cannot be imported"):
        available([BY_NAME["fastdrop"]])


@pytest.mark.parametrize("takes", [True, False])
def test_half_types_are_timed_as_soon_as_fastdrop_takes_them(
    monkeypatch: pytest.MonkeyPatch, takes: bool
) -> None:
    def dropout(x: Array, p: float, rng: int) -> Array:
        if not takes:
            raise TypeError("x has dtype float16")
        return x

    monkeypatch.setattr(fastdrop, "dropout", dropout)
    both = [in_dtype(BY_NAME[name], "float16") for name in ("fastdrop-1", "fastdrop")]
    able, notes = available(both)
    assert list(able) == (both if takes else [])
    assert notes == ([] if takes else ["left out: fastdrop in float16 (x has dtype float16)"])


def test_names_are_known() -> None:
    assert known(["cs231n"]) == {"cs231n"}
    with pytest.raises(BenchError, match="'cs232n'"):
        known(["cs232n"])
    with pytest.raises(BenchError, match="'float33'"):
        in_dtype(ROOF, "float33")


def test_ratios_are_to_the_roof_of_the_dtype() -> None:
    plain = BY_NAME["fastdrop"]
    assert in_dtype(plain, "float64").base == in_dtype(ROOF, "float64").id == "multiply/float64"
    assert in_dtype(plain, "float16").base == ROOF.id
    assert in_dtype(ROOF, "float16").role == "peer"  # NumPy's is no roof


# Timing


def test_ratio_is_the_median_of_ratios_within_rounds() -> None:
    # The machine is 10 times slower in round 3; the ratio of medians would be 2.5.
    samples = {ROOF.name: [1.0, 2.0, 10.0], "other": [3.0, 5.0, 30.0], "same": [1.0, 2.0, 10.0]}
    summaries = timing.summarise(samples, dict.fromkeys(samples, ROOF.name))
    other = timing.Summary(5.0, 4.0, 17.5, ratio=3.0, ratio_q1=2.75, ratio_q3=3.0, rounds=3)
    assert summaries["other"] == other
    assert summaries["same"].ratio == summaries[ROOF.name].ratio == 1.0


def test_rounds_that_a_slow_call_sat_out_do_not_count() -> None:
    nan = float("nan")
    samples = {"roof": [1.0, 2.0, 4.0, 8.0], "slow": [10.0, 30.0, nan, nan]}
    slow = timing.summarise(samples, {"roof": "roof", "slow": "roof"})["slow"]
    assert (slow.seconds, slow.ratio, slow.rounds) == (20.0, 12.5, 2)


def entry(name: str, called: list[str], seconds: float = 0.1, spins: str = "") -> timing.Entry:
    return timing.Entry(name, lambda: called.append(name), 2, seconds, spins=spins)


def test_rounds_are_interleaved_and_rotated() -> None:
    called: list[str] = []
    done: list[float] = []
    entries = [entry(name, called) for name in "abc"]
    samples = timing.measure(entries, 1e-9, done.append)
    assert "".join(called[::2]) == "".join(called[1::2])  # batches of two
    rounds = ["".join(called[i : i + 6 : 2]) for i in range(0, len(called), 6)]
    assert rounds == ["abc", "bca", "cab", "abc", "bca"]  # the budget is spent: the least number
    assert {name: len(values) for name, values in samples.items()} == {"a": 5, "b": 5, "c": 5}
    assert done[-1] == 1.0


def test_slow_calls_are_made_in_fewer_rounds() -> None:
    called: list[str] = []
    entries = [entry("quick", called), entry("slow", called, seconds=2.0)]
    samples = timing.measure(entries, 1e-9)
    assert called.count("slow") == 2 * timing.FULL.least_slow
    assert np.isnan(samples["slow"]).tolist() == [False] * 3 + [True] * 2


def test_threads_settle_before_another_library_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: called.append("settle"))
    entries = [
        entry("one", called),
        entry("all", called, spins="ours"),
        entry("new", called, spins="ours"),
        entry("theirs", called, spins="other"),
    ]
    once = dataclasses.replace(timing.ONCE, settle=0.02)
    timing.measure(entries, 1e-9, effort=once)
    batches = "one one all all new new settle theirs theirs settle"
    assert " ".join(called) == batches


def test_fast_calls_are_timed_in_batches() -> None:
    x = fresh_input(KI)
    call = ROOF.setup(x, P, np.empty_like(x))
    assert timing.prepare("multiply", call).calls > 10
    assert timing.prepare("multiply", call, effort=timing.ONCE).calls == 1


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fastdrop", "fastdrop-new", "cs231n"])
def test_memory_beyond_the_results(name: str) -> None:
    found = {row["measure"]: row for row in memory.measure(BY_NAME[name], 4 * MI)}
    assert list(found) == ["forward", "step", "kept"]
    for what, least, most in (("forward", 4.9, 20.0), ("step", 15.0, 30.0), ("kept", 7.9, 8.2)):
        for value in (found[what]["traced"], found[what]["resident"]):
            if value is None:  # no /proc
                assert not sys.platform.startswith("linux")
            elif name == "cs231n":  # 8 of mask, and results that are 4 larger than they need be
                assert least < value < most
            else:  # a mask of 1 bit an element would be 0.125; the pages are counted in lumps
                assert value < 0.12


# The path of a small call


def _outer(a: int, *more: int, b: int = 0, **named: int) -> int:
    return _inner(a) + _Thing().method(b) + sum(_inner(n) for n in more) + sum(named.values())


def _inner(a: int) -> int:
    return a + 1


class _Thing:
    def method(self, b: int) -> int:
        return _inner(b)


def test_a_trace_lists_the_functions_and_can_call_them_again() -> None:
    visits = path.trace(_outer, 1, 2, b=3, c=4)
    listed = [(visit.name, visit.depth, visit.parent) for visit in visits]
    assert listed == [
        ("_outer", 0, None),
        ("_inner", 1, 0),
        ("method", 1, 0),
        ("_inner", 2, 2),
        ("_inner", 1, 0),  # from within a generator, which has no name to be found by
    ]
    assert [visit.call() for visit in visits] == [_outer(1, 2, b=3, c=4), 2, 4, 4, 3]
    assert visits[0].children == [1, 2, 4] and sys.getprofile() is None


def test_the_path_of_a_call_is_seen_down_to_the_kernel() -> None:
    rows, notes = path.profile(64, 1e-9, timing.ONCE)
    steps = [(row["step"], row["depth"]) for row in rows]
    assert steps[:2] == [("np.multiply(x, s, out=y)", 0), ("dropout", 0)]
    assert all(depth >= 1 for _, depth in steps[2:])
    seen = any(step == path.KERNEL for step, _ in steps)
    assert seen == (not notes)


def test_a_hook_that_is_gone_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "HOOKS", (hooks.driver_kernels,))
    monkeypatch.delattr("fastdrop_kernels.cpu.host.driver.flat")
    rows, notes = path.profile(64, 1e-9, timing.ONCE)
    assert path.KERNEL not in [row["step"] for row in rows] and len(rows) > 1
    assert "driver_kernels" in notes[0]
