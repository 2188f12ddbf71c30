"""``python -m bench family``: it runs, and times nothing that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bench.family", reason="bench or its libraries are not here")

from bench import family, family_report, members, readme
from bench.__main__ import main
from bench.check import Wrong
from bench.common import Array, P, fresh_input
from bench.contender import Call


@pytest.mark.slow
def test_every_call_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "family.json"
    assert main(["family", "--check", "--output", str(saved)]) == 0
    assert "All works" in capsys.readouterr().out
    rows = json.loads(saved.read_text())["rows"]
    assert {row["member"] for row in rows} == {member.name for member in family_report.MEMBERS}
    for member in family_report.MEMBERS:
        ways = [row["way"] for row in rows if row["member"] == member.name]
        assert ways[0] == members.USUAL
        assert {"fastdrop, 1 thread", "fastdrop, all threads"} <= set(ways)
        assert (members.NORMALS in ways) == member.name.startswith("gaussian")


def test_tables_show_ratios_and_the_goal(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sizes", "64Ki", "--seconds", "0.01", "--only", "gaussian_noise,masked_fill"]
    assert main(["family", *arguments]) == 0
    out = capsys.readouterr().out
    assert "Times faster than the usual NumPy way, 64 Ki elements" in out
    assert "gaussian_noise at 64 Ki, fastdrop, 1 thread: at least 5 times faster" in out


@pytest.mark.parametrize("member", family_report.MEMBERS, ids=lambda member: member.name)
def test_what_is_wrong_is_not_timed(member: members.Member) -> None:
    x = fresh_input(members.MULTIPLE).reshape(member.shape(members.MULTIPLE))
    out = np.ones_like(x)
    for made in (x, x * np.float32(1.3), np.zeros_like(x), np.full_like(x, np.nan)):

        def usual(x: Array, p: float, out: Array, made: Array = made) -> Call:
            return lambda: made

        wrong = replace(member, usual=usual)
        ways = list(family.runners(wrong, x, out, None))
        with pytest.raises(Wrong, match=f"{member.name}, NumPy, 64 Ki"):
            family.validate(wrong, ways, x, out)
    one = family.runners(member, x, out, None)
    made = {way.name: way for way in one}["fastdrop, 1 thread"].call()
    y = np.asarray(made[0] if isinstance(made, tuple) else made)
    assert not member.check(x, y, P)
    assert member.check(x, np.roll(y, 1, axis=-1), P)


def test_sums_that_come_with_a_gradient_are_checked() -> None:
    (member,) = family.chosen(["bias_act_dropout_add relu backward"])
    x = fresh_input(members.MULTIPLE).reshape(member.shape(members.MULTIPLE))
    out = np.ones_like(x)

    def usual(x: Array, p: float, out: Array) -> Call:
        dx, sums = member.usual(x, p, out)()
        return lambda: (dx, sums + np.float32(0.1))

    ways = list(family.runners(replace(member, usual=usual), x, out, None))
    with pytest.raises(Wrong, match="NumPy, 64 Ki elements: sums over rows are wrong"):
        family.validate(member, ways, x, out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--only", "nobody"], "no member 'nobody'"), (["--sizes", "1000"], "no multiple of")],
)
def test_what_is_not_there_is_named(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["family", *arguments]) == 2
    assert says in capsys.readouterr().err


def made_up(**faster: float) -> family_report.FamilyRow:
    """Return a row of softmax_dropout at 1 Mi, of a way and a ratio."""
    ((way, ratio),) = faster.items()
    return {
        "member": "softmax_dropout",
        "way": way.replace("_", " ").replace("fastdrop ", "fastdrop, "),
        "elements": 1 << 20,
        "seconds": 1e-3 / ratio,
        "q1": 1e-3 / ratio,
        "q3": 1e-3 / ratio,
        "faster": ratio,
        "rounds": 5,
    }


def test_losses_are_told_and_those_within_noise_are_not() -> None:
    ours = [made_up(NumPy=1.0), made_up(fastdrop_1_thread=0.5), made_up(fastdrop_all_threads=0.96)]
    said = family_report.losses(ours)
    assert said == ["Nothing of this is slower than NumPy's way or torch's."]
    torch = made_up(NumPy=1.92)
    torch["way"] = "torch, all threads"
    said = family_report.losses([*ours, torch])
    assert len(said) == 1
    assert said[0].endswith("all threads slower than torch, all threads at 1 Mi (2.00 times).")


def test_goals_are_judged_at_their_sizes() -> None:
    name = "bias_act_dropout_add relu"
    rows = [made_up(NumPy=1.0), made_up(fastdrop_all_threads=2.9)]
    for row in rows:
        row["member"] = name
    (said,) = family_report.verdicts(rows)
    assert said.startswith(
        f"MISSED: {name} at 1 Mi, fastdrop, all threads: at least 3 times faster"
    )
    for row in rows:
        row["elements"] *= 2
    assert family_report.verdicts(rows) == []


def test_sizes_of_goals_are_timed_too() -> None:
    groups = family.groups_of(family_report.MEMBERS, None)
    large = {member.name for member, elements in groups if elements == 64 << 20}
    assert large == {"bias_act_dropout_add relu", "bias_act_dropout_add gelu_tanh"}
    assert [elements for _, elements in groups] == sorted(elements for _, elements in groups)
    (member,) = family.chosen(["drop_path"])
    assert family.groups_of([member], (65536,)) == [(member, 65536)]


def test_the_readme_shows_what_was_measured(tmp_path: Path) -> None:
    saved = tmp_path / "family.json"
    arguments = ["--sizes", "64Ki", "--seconds", "0.01", "--only", "drop_path"]
    assert main(["family", *arguments, "--output", str(saved)]) == 0
    text = readme.family_region(family_report.load(saved))
    assert "| drop\\_path |" in text and "What it loses:" in text
    page = f"{readme.FAMILY[0]}\nold\n{readme.FAMILY[1]}\n"
    assert text in readme.replaced(page, text, markers=readme.FAMILY)
