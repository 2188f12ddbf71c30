"""The benchmark on a GPU, as far as it goes without one: plans, tables, goals, plots, the README.

The figures here are made up.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import readme, results
from bench.__main__ import main
from bench.check import Wrong
from bench.common import KI, MI, BenchError
from bench.gpu import collect, command, contenders, device, report, sweep
from bench.results import MemoryRow, Results, Row

GI = 1 << 30
TIMES = {"copy": 1.0, "copy-kernel": 1.02, "fastdrop": 1.04, "torch": 1.5, "cupy": 9.0}


def row(name: str, dtype: str, elements: int, ratio: float, base: float = 1e-3) -> Row:
    return {
        "contender": name,
        "dtype": dtype,
        "variant": "",
        "elements": elements,
        "seconds": ratio * base,
        "q1": ratio * base,
        "q3": ratio * base,
        "base": "copy",
        "ratio": ratio,
        "ratio_q1": ratio,
        "ratio_q3": ratio,
        "rounds": 5,
        "calls": 3,
    }


def kept(name: str, value: float) -> MemoryRow:
    return {
        "contender": name,
        "dtype": "float32",
        "elements": 16 * MI,
        "measure": "kept",
        "traced": value,
        "resident": None,
    }


def made_up(times: dict[str, float] | None = None, launch: float = 7e-6) -> Results:
    times = TIMES if times is None else times
    timings: dict[str, list[Row]] = {
        section: [
            row(name, dtype, n, ratio)
            for name, ratio in times.items()
            for dtype in ("float16", "bfloat16", "float32")
            for n in (64 * KI, 256 * MI)
        ]
        for section in ("forward", "step")
    }
    timings["launch"] = [row("fastdrop", "float32", 64 * KI, 1.0, launch)]
    return {
        "schema": results.SCHEMA,
        "date": "2020-01-02T03:04:05+00:00",
        "versions": {"python": "3.12.0", "cupy": "14.0.0", "torch": None},
        "hardware": {
            "gpu": "A GPU",
            "memory_gib": 1.0,
            "l2_kib": 50,
            "driver": "1.2",
            "cuda_runtime": 13000,
            "os": "L",
        },
        "settings": {"mode": "full", "p": 0.1, "rounds": 5},
        "notes": ["left out, not importable: somebody"],
        "contenders": {
            name: {"label": c.label, "role": c.role}
            for name, c in contenders.BY_NAME.items()
            if name in times
        },
        "timings": timings,
        "memory": [kept("fastdrop", 0.0), kept("torch", 1.0)],
        "profile": [],
    }


def states(found: Results) -> dict[str, str]:
    return {verdict.goal.text: verdict.state for verdict in report.judge(found)}


def test_good_figures_hold_every_goal() -> None:
    assert set(states(made_up()).values()) == {"held"}
    assert len(report.GOALS) == 9


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ({"fastdrop": 1.2}, "float16 from 256 MiB up"),
        # The faster copy is the roof, whichever it is.
        ({"copy-kernel": 0.9}, "float32 from 256 MiB up"),
        ({"torch": 1.2}, "torch F.dropout slower than fastdrop, bfloat16, a forward call"),
        ({"torch": 1.2}, "torch F.dropout slower than fastdrop, bfloat16, forward and backward"),
        ({"cupy": 5.0}, "the CuPy idiom slower than fastdrop, float32"),
    ],
)
def test_bad_figures_miss_their_goals(times: dict[str, float], text: str) -> None:
    found = states(made_up(TIMES | times))
    assert [state for name, state in found.items() if name.startswith(text)] == ["MISSED"]


def test_launches_and_memory_have_goals() -> None:
    slow = made_up(launch=10.1e-6)
    slow["memory"] = [kept("fastdrop", 0.0), kept("fastdrop-new", 1.0)]
    found = states(slow)
    assert found["a call at 64 Ki elements, from Python"] == "MISSED"
    assert found["kept between forward and backward"] == "MISSED"


def test_what_was_not_measured_is_said_so() -> None:
    found = made_up({"copy": 1.0})
    found["timings"]["launch"], found["memory"] = [], []
    assert set(states(found).values()) == {"not measured"}
    # Arrays below 256 MiB say nothing about the goals from there on.
    small = made_up()
    for section in report.PASSES:
        small["timings"][section] = [r for r in results.rows(small, section) if r["elements"] < MI]
    assert states(small)["bfloat16 from 256 MiB up, rate over the faster copy's, the least"] == (
        "not measured"
    )


def test_gigabytes_are_of_what_any_dropout_moves() -> None:
    # 1 Gi elements of 2 bytes, in and out, in a second; and twice that forward and backward.
    assert report.gigabytes("forward", row("torch", "bfloat16", GI, 1.0, 1.0)) == 4.294967296
    assert report.gigabytes("step", row("torch", "bfloat16", GI, 1.0, 1.0)) == 8.589934592


def test_tables_show_ratios_first_and_higher_is_faster() -> None:
    found = report.tables(made_up())
    assert found[0][0].title == "float16, a forward call: rate, relative to copying"
    lines = {line[0]: line[1:] for line in found[0][0].rows}
    assert lines["fastdrop, out=y"] == ["0.96", "0.96"]
    assert lines["torch F.dropout"] == ["0.67", "0.67"]
    titles = [table.title for table, _ in found]
    assert titles.index("Microseconds a call") > titles.index(
        "float32, forward and backward: gigabytes a second"
    )
    text = report.text(found[0][0])
    assert len({len(line) for line in text.splitlines()[1:-1]}) == 1


def test_losses_are_told() -> None:
    assert report.losses(made_up()) == ["No peer is faster than fastdrop at any size measured."]
    lines = report.losses(made_up(TIMES | {"torch": 0.52}))
    assert "bfloat16, a forward call, 256 Mi: torch F.dropout is 2.00 times as fast." in lines
    assert report.losses(made_up({"copy": 1.0, "fastdrop": 1.1})) == []


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    results.save(made_up(), file)
    assert results.load(file)["hardware"]["gpu"] == "A GPU"


def test_the_readme_has_the_results_or_says_that_there_are_none(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert "has been measured" in readme.gpu_region(file)
    results.save(made_up(), file)
    text = readme.gpu_region(file)
    for part in (
        "Measured 2020-01-02 on one A GPU",
        "- held: bfloat16 from 256 MiB up",
        "](../bench/results/gpu-forward.svg)",
        "| torch F.dropout |",
        "left out, not importable: somebody",
    ):
        assert part in text
    page = f"a\n{readme.CPU[0]}\n{readme.CPU[1]}\n{readme.GPU[0]}\nold\n{readme.GPU[1]}\nb"
    new = readme.replaced(page, text, markers=readme.GPU)
    assert "old" not in new
    assert readme.replaced(new, text, markers=readme.GPU) == new
    with pytest.raises(BenchError, match="bench:gpu:start"):
        readme.replaced("nothing", text, markers=readme.GPU)


@pytest.mark.slow
def test_plots_are_drawn_and_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip(
        "matplotlib", reason="plots are drawn with matplotlib: pip install -e '.[bench]'"
    )
    file = tmp_path / "gpu.json"
    results.save(made_up(), file)
    assert main(["plot", "--results", str(file)]) == 0
    plots = sorted(tmp_path.glob("*.svg"))
    assert [plot.name for plot in plots] == ["gpu-forward.svg", "gpu-step.svg"]
    text = plots[0].read_text(encoding="utf-8")
    for part in ("A GPU", "bfloat16", "torch F.dropout", "GB/s"):
        assert part in text
    assert main(["plot", "--results", str(file), "--output", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "gpu-forward.svg").read_text(encoding="utf-8") == text


def test_every_contender_can_be_drawn() -> None:
    pytest.importorskip(
        "matplotlib", reason="plots are drawn with matplotlib: pip install -e '.[bench]'"
    )
    from bench.gpu import plot

    assert set(plot.STYLES) == set(contenders.BY_NAME)


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(given)


def test_options_make_a_plan() -> None:
    assert command.plan_of(arguments()) == collect.Plan()
    quick = command.plan_of(arguments("--quick", "--dtypes", "float32", "--only", "torch"))
    assert quick.sizes == collect.QUICK
    assert (quick.mode, quick.dtypes, quick.only) == ("quick", ("float32",), frozenset({"torch"}))
    wanted = [c.name for c in contenders.CONTENDERS if quick.wants(c)]
    assert wanted == ["copy", "copy-kernel", "torch"]
    assert command.plan_of(arguments("--sizes", "64Ki,1Mi")).sizes == (64 * KI, MI)
    for wrong in (["--dtypes", "int8"], ["--only", "nobody"], ["--sizes", "1000"]):
        with pytest.raises(BenchError):
            command.plan_of(arguments(*wrong))


def test_a_part_is_written_only_where_it_is_said(tmp_path: Path) -> None:
    assert command.output_path(arguments()) == command.RESULTS
    for part in (["--quick"], ["--dtypes", "float32"], ["--sizes", "1Mi"], ["--only", "torch"]):
        assert command.output_path(arguments(*part)) is None
        given = tmp_path / "mine.json"
        assert command.output_path(arguments(*part, "--output", str(given))) == given
    with pytest.raises(BenchError, match="is a folder"):
        command.output_path(arguments("--output", str(tmp_path)))


def test_without_a_gpu_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main(["gpu", "--quick"]) == 2
    assert "CuPy cannot be imported" in capsys.readouterr().err


def test_sets_are_four_times_the_cache() -> None:
    l2 = 50 * MI
    for elements in (64 * KI, MI, 16 * MI, GI):
        for arrays in (2, 4):
            count = device.sets_needed(elements, 2, arrays, l2)
            assert count * elements * 2 * arrays >= 4 * l2
            assert count == 1 or (count - 1) * elements * 2 * arrays < 4 * l2
    assert device.Sets.bytes_needed(GI, 4, l2, step=True) == 16 * GI


@pytest.mark.parametrize("elements", [16, MI, MI + 16, 2 * MI, 3 * MI, 64 * MI])
def test_results_are_looked_at_from_both_ends(elements: int) -> None:
    parts = list(collect.pieces(elements))
    assert parts[0].start == 0
    assert parts[-1].stop == elements
    assert all(part.stop - part.start <= MI for part in parts)
    if elements <= 3 * MI:
        assert {i for p in parts for i in range(p.start, p.stop, 16)} >= set(range(0, elements, 16))


def test_wrong_results_are_found() -> None:
    import fastdrop as fd
    from bench.ours import key

    x = np.random.default_rng().uniform(1, 2, 64 * KI).astype(np.float32)
    right = fd.dropout(x, 0.1, rng=key(), offset=32)
    mine, peer, copy = (contenders.BY_NAME[name] for name in ("fastdrop", "torch", "copy"))
    collect._check_piece(mine, x, right, 32, "here")
    collect._check_piece(peer, x, right, 0, "here")
    collect._check_piece(copy, x, x.copy(), 0, "here")
    wrong: list[tuple[Any, Any, int]] = [
        (mine, right, 40),
        (mine, np.nextafter(right, np.float32(9)), 32),
        (peer, x, 0),
        (peer, right * np.float32(1.001), 0),
        (copy, right, 0),
    ]
    for contender, y, first in wrong:
        with pytest.raises(Wrong):
            collect._check_piece(contender, x, y, first, "here")


def test_a_sweep_compiles_other_kernels_and_puts_things_back() -> None:
    from fastdrop_kernels.cuda import driver, modules, operations

    launch: Any = importlib.import_module("fastdrop_kernels.cuda.launch")

    module = operations.MARK.module
    before = modules.source(module), launch.THREADS, modules.IN_FLIGHT, driver._launcher
    with sweep.settings(512, 8):
        assert "FASTDROP_THREADS 512" in modules.source(module)
        assert "FASTDROP_IN_FLIGHT 8" in modules.source(module)
        assert (launch.THREADS, launch.IN_FLIGHT) == (512, 8)
        (made,) = launch.launches(operations.MARK, [64], (10**6,), ((1,),), 0, (1,), 1, 2, 3)
        assert made.block == 512
    assert before == (
        modules.source(module),
        launch.THREADS,
        modules.IN_FLIGHT,
        driver._launcher,
    )
