"""``python -m bench loops``: networks that are right, masks that are the same, and what is said."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the loops train on scikit-learn's data")
pytest.importorskip("rich", reason="the benchmark prints with rich: pip install -e '.[bench]'")

import fastdrop
from bench import loops, loops_report, readme, timing
from bench.__main__ import main
from bench.check import Wrong
from bench.common import Array
from bench.loop_cases import BY_NAME, CASES, LOOPS, Loop
from bench.loop_nets import Batch, Network
from bench.loop_sites import LAYER, MASK, NONE, STORED, VARIANTS, Multiplied, site
from bench.results import save

each_loop = pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.name)


def tiny(loop: Loop) -> Loop:
    return replace(loop, samples=3, hidden=8)


def first_batch(loop: Loop, dtype: str = "float64") -> Batch:
    return next(loop.batches(dtype, np.random.default_rng(1)))


def with_fixed_masks(loop: Loop) -> Callable[[], Network]:
    """Return what builds the same network with the same masks again."""

    def make(number: int) -> Callable[[tuple[int, ...]], Array]:
        ahead, p = itertools.count(), loop.spots[number].p
        key = fastdrop.Key(number)
        return lambda shape: fastdrop.dropout(np.ones(shape), p, rng=key.fold_in(next(ahead)))

    spots = list(enumerate(loop.spots))
    return lambda: loop.build([Multiplied(make(n), s.in_place) for n, s in spots], "float64")


@each_loop
def test_gradients_are_those_of_central_differences(loop: Loop) -> None:
    loop = tiny(loop)
    build, batch = with_fixed_masks(loop), first_batch(loop)
    network = build()
    _, gradients = network.loss_and_gradients(batch)
    assert set(gradients) == set(network.params)
    rng, step = np.random.default_rng(0), 1e-6

    def loss(name: str, index: Any, change: float) -> float:
        other = build()
        other.params[name][index] += change
        return other.loss_and_gradients(batch)[0]

    for name, gradient in gradients.items():
        assert gradient.shape == network.params[name].shape
        for _ in range(4):
            index = tuple(rng.integers(n) for n in gradient.shape)
            difference = (loss(name, index, step) - loss(name, index, -step)) / (2 * step)
            np.testing.assert_allclose(
                gradient[index], difference, rtol=0, atol=1e-7 * max(1, abs(gradient).max())
            )


@each_loop
@pytest.mark.parametrize("variant", VARIANTS)
def test_networks_learn_with_any_dropout(loop: Loop, variant: str) -> None:
    loop = replace(loop, samples=32, hidden=32)
    sites = [site(variant, spot, n) for n, spot in enumerate(loop.spots)]
    network = loop.build(sites, "float64")
    batches = loop.batches("float64", np.random.default_rng(2))
    np.random.seed(3)  # noqa: NPY002 - which stored masks, and those of fastdrop, are drawn from
    # With two threads, BLAS waits for the core that another test has.
    with timing.one_blas_thread():
        losses = [network.step(next(batches)) for _ in range(100)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert all(each.seconds > 0 for each in network.sites) == (variant != NONE)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_same_masks_give_the_same_gradients(name: str, dtype: str) -> None:
    loops.validate(tiny(BY_NAME[name]), dtype)


def test_another_mask_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(fastdrop.Dropout):
        def __init__(self, p: float, *, rng: fastdrop.Key) -> None:
            super().__init__(p, rng=rng.advanced(1))

    monkeypatch.setattr(fastdrop, "Dropout", Later)
    with pytest.raises(Wrong, match=r"cs231n, float32: fd\.Dropout layer has another"):
        loops.validate(BY_NAME["cs231n"], "float32")


def test_batches_are_fresh_and_of_their_dtype() -> None:
    for name, dtype in CASES:
        batches = BY_NAME[name].batches(dtype, np.random.default_rng(1))
        first, second = next(batches), next(batches)
        assert first.x.dtype == dtype and len(first.x) == len(first.labels)
        assert not np.array_equal(first.x, second.x)


def test_masks_turn_activations_of_a_public_loop_to_float64_and_ours_do_not() -> None:
    loop = tiny(BY_NAME["layers"])
    rows = loops.measure(loop, "float32", 1e-9, (1, 1), lambda part: None)
    found = {row["variant"]: row for row in rows}
    assert {v: found[v]["activations"] for v in VARIANTS} == {
        NONE: "float32",
        STORED: "float64",
        MASK: "float32",
        LAYER: "float32",
    }
    assert {v: found[v]["kept"] for v in VARIANTS} == {NONE: 0, STORED: 384, MASK: 32, LAYER: 0}
    assert {row["elements"] for row in rows} == {48} and {row["masks"] for row in rows} == {2}
    assert found[NONE]["dropout"] == 0 < found[MASK]["dropout"] < found[MASK]["step"]


def test_the_check_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loops", "--check", "--only", "lstm,transformer"]) == 0
    assert "All works: 8 training steps made" in capsys.readouterr().out
    assert main(["loops", "--only", "lstn"]) == 2
    assert "no loop 'lstn'" in capsys.readouterr().err


def made_up(mask_ms: float = 0.5) -> loops_report.LoopResults:
    figures = {
        NONE: (10.0, 0.0, 0, "float32"),
        STORED: (14.0, 2.0, 4096, "float64"),
        MASK: (11.0, mask_ms, 32, "float32"),
        LAYER: (10.5, 0.4, 0, "float32"),
    }
    rows: list[loops_report.LoopRow] = [
        {
            "loop": "layers",
            "dtype": "float32",
            "variant": variant,
            "steps": 20,
            "step": step / 1e3,
            "step_q1": step / 1e3,
            "step_q3": step / 1e3,
            "ratio": float(f"{step / 14:.4g}"),
            "dropout": dropout / 1e3,
            "share": float(f"{dropout / step:.4g}"),
            "elements": 512,
            "masks": 2,
            "kept": kept,
            "activations": activations,
        }
        for variant, (step, dropout, kept, activations) in figures.items()
    ]
    return {
        "schema": loops_report.SCHEMA,
        "date": "2020-01-02T03:04:05+00:00",
        "versions": {"python": "3.10.0"},
        "hardware": {"cpu": "A CPU", "simd": None, "usable_cpus": 2, "memory_gib": 1.0, "os": "L"},
        "settings": {},
        "rows": rows,
    }


def test_the_table_says_what_a_mask_changes() -> None:
    (line,) = loops_report.summary(made_up()).rows
    assert line[1:] == [
        "2.00 → 0.50 ms",
        "4.0",
        "14.3% → 4.5%",
        "14.0 → 11.0 ms",
        "4.00 KiB → 32 bytes",
        "float64 → float32",
    ]
    assert len(loops_report.every(made_up()).rows) == 4


def test_goals_are_judged() -> None:
    states = [v.state for v in loops_report.judge(made_up())]
    assert states == ["held"] * 6
    states = [v.state for v in loops_report.judge(made_up(mask_ms=1.5))]
    assert states == ["MISSED", *["held"] * 5]


def test_results_survive_the_file_the_readme_and_the_plot(tmp_path: Path) -> None:
    saved = tmp_path / "loops.json"
    save(made_up(), saved)
    assert loops_report.load(saved) == made_up()
    region = readme.loops_region(saved)
    assert "| times cheaper |" in region and "(../bench/results/loops.svg)" in region
    assert "Nothing has been measured" in readme.loops_region(tmp_path / "other.json")
    start, end = readme.LOOPS
    assert readme.replaced(f"a {start} b {end} c", region, markers=readme.LOOPS).count(region) == 1

    pytest.importorskip("matplotlib", reason="plots need matplotlib: pip install -e '.[bench]'")
    from bench.loops_plot import draw_file

    drawn = draw_file(made_up(), saved)
    assert drawn == tmp_path / "loops.svg" and "all in float64" in drawn.read_text("utf-8")
