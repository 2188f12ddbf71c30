"""What ``python -m bench`` promises: what it ranks is right, and it says what it found."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from bench import results
from bench.__main__ import main
from bench.common import KI, MI, ROOT, BenchError, figure, size_label
from bench.contender import Contender
from bench.contenders import BY_NAME, CONTENDERS
from bench.sections import NAMES, SECTIONS, thread_counts

pytest.importorskip("rich", reason="the benchmark prints with rich: pip install -e '.[bench]'")

from bench import collect, run  # noqa: E402 - which print


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    return parser.parse_args(arguments)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )


# Whole runs


@pytest.mark.slow
def test_the_check_mode_makes_every_call_once_and_judges_nothing() -> None:
    # Without the peers that take seconds to import; CI runs it with all that it has.
    ours = ("fastdrop-1", "fastdrop", "fastdrop-new", "numpy-best", "cs231n", "binomial")
    plan = collect.Plan("check", 1e-9, NAMES, frozenset(ours))
    shown: list[float] = []
    found = collect.collect(plan, lambda doing, done: shown.append(done))
    assert list(found["timings"]) == list(SECTIONS)
    assert shown == sorted(shown) and shown[-1] < plan.groups()
    for name, rows in found["timings"].items():
        assert {row["elements"] for row in rows} == set(SECTIONS[name].tiny)
        assert {row["rounds"] for row in rows} == {row["calls"] for row in rows} == {1}
        roof = rows[0]
        assert (roof["contender"], roof["base"], roof["ratio"]) == ("multiply", "multiply", 1.0)
    assert {row["variant"] for row in found["timings"]["variants"]} > {"", "p = 0.5", "offset"}
    assert {row["measure"] for row in found["memory"]} == {"forward", "step", "kept"}
    assert found["profile"][1]["step"] == "dropout"
    run.check_the_rest(found)


@pytest.mark.slow
def test_the_check_command() -> None:
    done = bench("--check", "--only", "fastdrop,cs231n", "--sections", "forward,small")
    assert done.returncode == 0, done.stderr
    assert "All works: 6 calls of 3 contenders" in done.stdout
    assert "Goals" not in done.stdout and "Written" not in done.stdout


def test_quick_run(tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    wanted = ["multiply", "fastdrop-1", "fastdrop", "numpy-best", "cs231n"]
    done = bench(
        *("--quick", "--seconds", "0.3", "--sections", "forward,profile"),
        *("--only", ",".join(wanted), "--output", str(output)),
    )
    assert done.returncode == 0, done.stderr
    assert 0 < done.stdout.index("relative to multiplying") < done.stdout.index("Microseconds")
    assert "Goals:" in done.stdout

    written = json.loads(output.read_text(encoding="utf-8"))
    assert list(written) == list(results.Results.__annotations__)
    assert results.load(output) == written
    assert list(written["contenders"]) == wanted
    rows = written["timings"]["forward"]
    pairs = [(row["elements"], row["contender"]) for row in rows]
    assert pairs == [(elements, name) for elements in (KI, 64 * KI) for name in wanted]
    assert all(row["q1"] <= row["seconds"] <= row["q3"] for row in rows)
    assert all(row["ratio_q1"] <= row["ratio"] <= row["ratio_q3"] for row in rows)
    assert all(row["ratio"] == 1.0 for row in rows if row["contender"] == "multiply")
    assert written["versions"]["numpy"] == np.__version__
    assert written["hardware"]["usable_cpus"] >= 1


def test_small_prints_calls_and_where_their_time_goes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["small", "--sizes", "64", "--seconds", "0.2"]) == 0
    out = capsys.readouterr().out
    assert "over np.multiply" in out and "From call to kernel" in out and "dropout" in out


# Options


def test_a_part_does_not_replace_the_full_results() -> None:
    parts = (
        ["--quick"],
        ["--check"],
        ["--sizes", "1Ki"],
        ["--only", "cs231n"],
        ["--sections", "small"],
    )
    for part in parts:
        assert run.output_path(parsed(part)) is None
    assert run.output_path(parsed(["--quick", "--output", "a"])) == Path("a")
    assert run.output_path(parsed([])) == ROOT / "bench" / "results" / "cpu.json"


def test_options_make_a_plan() -> None:
    assert run.plan_of(parsed([])) == collect.Plan()
    assert "memory" not in run.plan_of(parsed(["--quick"])).sections
    plan = run.plan_of(parsed(["--check", "--sections", "small, forward", "--only", "cs231n"]))
    assert (plan.mode, plan.sections) == ("check", ("forward", "small"))
    assert plan.only == frozenset({"cs231n"})
    sizes = run.plan_of(parsed(["--sizes", "64,8Ki"]))
    assert sizes.sizes_of(SECTIONS["forward"]) == (64, 8 * KI)
    assert sizes.sizes_of(SECTIONS["variants"]) == (8 * KI,)  # 64 is too small for its shapes


def test_sizes_of_sections_suit_them() -> None:
    for section in SECTIONS.values():
        for sizes in (section.sizes, section.quick, section.tiny):
            assert sizes and all(n % section.multiple == 0 for n in sizes)
    assert SECTIONS["forward"].sizes[0] == 64 and SECTIONS["forward"].sizes[-1] == 64 * MI
    assert sum(section.share for section in SECTIONS.values()) == pytest.approx(1)


def test_sections_have_no_row_twice() -> None:
    for section in SECTIONS.values():
        ids = [contender.id for contender in section.contenders()]
        assert len(set(ids)) == len(ids)
        assert all(contender.base in ids for contender in section.contenders())


def test_thread_counts() -> None:
    assert [thread_counts(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 3, 4, 5, 6]]
    assert thread_counts(48) == [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 48]


def test_what_would_take_too_long_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "LIMIT_SECONDS", 1e-9)
    monkeypatch.setattr(collect, "TELLING_SECONDS", 0.0)
    plan = collect.Plan(
        "check", 1e-9, ("forward",), frozenset({"cs231n", "fastdrop"}), sizes=(64, 256)
    )
    found = collect.collect(plan)
    assert {row["elements"] for row in found["timings"]["forward"]} == {64, 256}
    at_large = [row["contender"] for row in found["timings"]["forward"] if row["elements"] == 256]
    assert at_large == ["multiply"]
    assert any("256: left out" in note and "cs231n" in note for note in found["notes"])


def failing(*_: object) -> NoReturn:
    raise MemoryError("no room\nfor that")


def test_a_peer_that_fails_is_noted_and_ours_is_not_forgiven(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = dataclasses.replace(BY_NAME["cs231n"], setup=failing)

    def enter(contender: Contender) -> None:
        both = (BY_NAME["multiply"], contender)
        section = dataclasses.replace(SECTIONS["forward"], contenders=lambda: both)
        monkeypatch.setitem(SECTIONS, "forward", section)
        monkeypatch.setattr(collect, "CONTENDERS", both)

    enter(peer)
    found = collect.collect(collect.Plan("check", 1e-9, ("forward", "memory")))
    assert [row["contender"] for row in found["timings"]["forward"]] == ["multiply"]
    text = f"left out, it fails: {peer.label} (MemoryError: no room)"
    assert found["notes"] == [f"forward, 1 Ki: {text}", f"memory: {text}"]

    ours = dataclasses.replace(BY_NAME["fastdrop"], setup=failing)
    enter(ours)
    with pytest.raises(MemoryError):
        collect.collect(collect.Plan("check", 1e-9, ("forward",)))


def test_sizes_that_suit_no_shape_are_noted() -> None:
    plan = collect.Plan("check", 1e-9, ("variants",), sizes=(64,))
    assert collect.collect(plan)["notes"][-1] == "variants: sizes have to be multiples of 4096"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--sizes", "1Ki,64Kb"], "'64Kb'"),
        (["--sizes", "0"], "'0'"),
        (["--seconds", "-1"], "'-1'"),
        (["--quick", "--check"], "--check"),
        (["redme"], "'redme'"),
        (["plot", "--quick"], "--quick"),
    ],
)
def test_errors_name_the_value(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--only", "cs232n"], "'cs232n'"), (["--sections", "smal"], "'smal'")],
)
def test_unknown_names_are_errors(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert named in capsys.readouterr().err


def test_an_interruption_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupt)
    assert main(["--quick"]) == 130
    assert "nothing is written" in capsys.readouterr().err


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "bench.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot"]) == 2
    assert "matplotlib is missing: pip install -e '.[bench]'" in capsys.readouterr().err


def test_a_plan_without_contenders_is_an_error() -> None:
    with pytest.raises(BenchError, match="no contender"):
        collect.collect(collect.Plan("check", only=frozenset()))
    assert {contender.name for contender in CONTENDERS} > {"jax", "tensorflow", "binomial"}


def test_figures_for_people() -> None:
    assert [figure(v) for v in (0, 0.00123, 0.8, 9.994, 12.34, 474_999.6)] == [
        "0.00",
        "0.0012",
        "0.80",
        "9.99",
        "12.3",
        "475,000",
    ]
    assert [size_label(n) for n in (1000, KI, 64 * KI, 64 * MI)] == [
        "1000",
        "1 Ki",
        "64 Ki",
        "64 Mi",
    ]
