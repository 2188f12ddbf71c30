"""``python -m bench small``: small calls, what is made beside them, and the goals of both."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop
from bench import small_calls, small_report, timing
from bench.__main__ import main
from bench.check import Wrong, check
from bench.common import BenchError, P, fresh_input, fresh_output
from bench.contender import Contender, Step
from bench.contenders import BY_NAME, as_step
from bench.goals import judge
from bench.results import load
from bench.sections import BY_THEMSELVES, SECTIONS

from .test_bench_results import made_up, row

pytest.importorskip("rich", reason="the benchmark prints with rich: pip install -e '.[bench]'")

from bench import collect, run  # noqa: E402 - which print

SMALL = {
    f"{name}-{contender.id}": contender
    for name in ("small", "small-step", "small-parts")
    for contender in SECTIONS[name].contenders()
}


@pytest.mark.parametrize("name", SMALL)
def test_every_contender_passes(name: str) -> None:
    contender = SMALL[name]
    elements = small_calls.PARTS_ELEMENTS if contender.kind == "made" else 10
    x = fresh_input(elements)
    check(contender, x, fresh_output(x))


def test_sizes_are_those_of_hidden_layers() -> None:
    assert SECTIONS["small"].sizes == SECTIONS["small-step"].sizes
    assert SECTIONS["small"].sizes == (10, 32, 64, 256, 1024, 2048, 4096)
    assert SECTIONS["small-between"].between and not SECTIONS["small-parts"].between


@pytest.mark.parametrize(
    ("name", "patched"),
    [
        ("as_key", "as_key"),
        ("new-layer", "Dropout"),
        ("noise-list", "dropout"),
        ("shard-moving", "dropout"),
    ],
)
def test_what_is_wrong_is_not_timed(
    name: str, patched: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = fresh_input(small_calls.PARTS_ELEMENTS)
    right = getattr(fastdrop, patched)
    wrong: dict[str, Any] = {
        "as_key": lambda: fastdrop.Key(1),
        "Dropout": lambda p, rng: right(p, rng=rng.fold_in(1)),
        "dropout": lambda x, p, rng, **other: right(x, p, rng=rng.fold_in(1), **other),
    }
    monkeypatch.setattr(fastdrop, patched, wrong[patched])
    with pytest.raises(Wrong):
        BY_NAME[name].setup(x, P, x)


def test_a_step_that_is_another_mask_backward_is_caught() -> None:
    class Layer(fastdrop.Dropout):
        def backward(self, dy: Any) -> Any:
            return fastdrop.dropout(dy, self.p, rng=fastdrop.Key(7))

    def steps(x: Any, dy: Any, p: float, y: Any, dx: Any) -> Any:
        layer = Layer(p, rng=1)
        return Step(lambda: (layer(x), None), lambda _: layer.backward(dy))

    x = fresh_input(4096)
    with pytest.raises(Wrong, match="different elements"):
        check(as_step(replace(BY_NAME["fastdrop-layer-step"], steps=steps)), x, np.empty_like(x))


def test_a_shard_begins_elsewhere_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    begins: list[int] = []
    right = fastdrop.dropout

    def dropout(x: Any, p: float, **other: Any) -> Any:
        begins.append(other["offset"][0])
        return right(x, p, **other)

    monkeypatch.setattr(fastdrop, "dropout", dropout)
    x = fresh_input(small_calls.PARTS_ELEMENTS)
    for name, distinct in (("shard", 1), ("shard-moving", 50)):
        call = BY_NAME[name].setup(x, P, x)
        begins.clear()
        for _ in range(50):
            call()
        assert len(set(begins)) == distinct


def test_single_calls_are_timed_between_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now, called = itertools.count(), []
    clock = {"call": 0.0}

    def tick() -> float:
        return next(now) * 1e-3 + clock["call"]

    def call() -> None:
        called.append("call")
        clock["call"] += 5.0

    monkeypatch.setattr(time, "perf_counter", tick)
    entry = timing.Entry("made-up", call, 100, 5.0)
    effort = timing.Effort(least=2, most=2)
    samples = timing.measure([entry], 1.0, effort=effort, work=lambda: called.append("work"))
    assert called == ["work", "call"] * timing.SINGLE_CALLS * 2
    # What reading the clock takes is no part of it.
    np.testing.assert_allclose(samples["made-up"], [5.0, 5.0], rtol=1e-9)


FIGURES = {
    "small-step": {"multiply": 1.0, "cs231n": 3.0, "fastdrop-layer-step": 4.5},
    "small": {"multiply": 1.0, "cs231n": 2.0, "fastdrop-new": 1.5, "fastdrop-generator": 4.0},
    "small-parts": {
        "multiply": 1.0,
        "fold_in": 0.5,
        "as_key": 1.5,
        "new-layer": 2.0,
        "noise-tuple": 4.0,
        "noise-list": 4.1,
        "shard": 5.0,
        "shard-moving": 5.5,
    },
}


def test_goals_are_judged() -> None:
    size = {"small-parts": small_calls.PARTS_ELEMENTS}
    timings = {
        section: [row(name, size.get(section, 32), ratio) for name, ratio in figures.items()]
        for section, figures in FIGURES.items()
    }
    results = made_up({}, timings)
    found = {v.goal.text: (v.value and round(v.value, 3), v.state) for v in judge(results)}
    expected = {
        "forward plus backward through a layer at 32 elements, over two np.multiply": (3.5, "held"),
        "a product with fd.Mask, over fd.dropout, the most": (None, "not measured"),
        "rng=Generator, over rng=Key, the most": (2.5, "MISSED"),
        "key.fold_in(n)": (0.5, "held"),
        "fd.as_key()": (1.5, "MISSED"),
        "a new fd.Dropout(0.5, rng=key)": (2.0, "held"),
        "noise_shape as a list, time over a tuple's": (1.025, "held"),
        "noise_shape as an array, time over a tuple's": (None, "not measured"),
        "a shard that begins elsewhere at each call, time over one that repeats": (
            1.1,
            "acceptable",
        ),
        "time over the cs231n idiom's, the most at any size from 10 elements up": (2.0, "MISSED"),
    }
    assert {text: found[text] for text in expected} == expected
    step = small_report.step(results)
    assert step is not None
    assert step.rows[-1] == [f"{BY_NAME['fastdrop-layer-step'].label}: over np.multiply", "3.50"]
    parts = small_report.parts(results)
    assert parts is not None
    assert [BY_NAME["fold_in"].label, "0.50", ""] in parts.rows


def test_it_prints_all_and_writes_what_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "small.json"
    only = "cs231n,fastdrop,fastdrop-layer-step,fold_in,shard"
    arguments = ["small", "--seconds", "0.2", "--only", only, "--output", str(output)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for text in ("Small calls, microseconds", "forward plus backward", "after other work"):
        assert text in out
    assert "From call to kernel" in out and "key.fold_in(n): at most 1 us" in out
    found = load(output)
    assert set(found["timings"]) == set(BY_THEMSELVES) - {"profile"}
    assert {r["elements"] for r in found["timings"]["small"]} == set(small_calls.SIZES)
    assert main(["small", "--sections", "forward"]) == 2
    assert "'forward' is none of small calls" in capsys.readouterr().err


def test_in_a_full_run_small_calls_have_a_process_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here: list[tuple[str, ...]] = []

    def collected(plan: collect.Plan, show: Any = None) -> Any:
        here.append(plan.sections)
        return collect_here(plan)

    collect_here = collect.collect
    monkeypatch.setattr(run, "collect", collected)
    plan = collect.Plan(
        "quick", 0.2, ("forward", "small-step", "profile"), frozenset({"fastdrop", "cs231n"})
    )
    found = run.run(plan)
    assert here == [("forward",)]
    assert list(found["timings"]) == ["forward", "small-step"]
    assert {r["contender"] for r in found["timings"]["small-step"]} >= {"multiply", "cs231n"}
    assert set(found["contenders"]) == {"multiply", "fastdrop", "cs231n"}
    assert found["profile"]
    monkeypatch.setattr(run, "run_alone", lambda plan: pytest.fail("a process for nothing else"))
    small = replace(plan, sections=("small-step",), sizes=(64,))
    assert list(run.run(small)["timings"]) == ["small-step"]


def test_a_small_run_that_fails_ends_the_full_one(capfd: pytest.CaptureFixture[str]) -> None:
    plan = collect.Plan("quick", 0.1, ("forward", "small"), frozenset(), sizes=(64,))
    with pytest.raises(BenchError, match="as said above"):
        run.run_alone(replace(plan, sections=("nothing",)))
    assert "no section 'nothing'" in capfd.readouterr().err


def test_a_made_thing_is_not_taken_for_an_array() -> None:
    made = Contender("made-up", "made-up", "ours", lambda x, p, out: lambda: "text", kind="made")
    x = fresh_input(64)
    check(made, x, fresh_output(x))
