"""The commands: all work, errors name the value, a part does not replace the committed results."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench import __main__, cpu, report
from bench.__main__ import COMMANDS, main, parse
from bench.common import ROOT, figure, parse_sizes, size_label
from bench.results import load


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "small", "layouts", "family", "loops", "files"])
def test_check_makes_every_call_once_and_judges_nothing(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.json"
    assert main([command, "--check", "--output", str(file)]) == 0
    assert "Nothing was judged" in capsys.readouterr().out
    assert load(file)["rows"] and load(file)["settings"]["check"]


def test_a_quick_part_prints_tables_and_is_written_where_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = ["--quick", "--sections", "forward", "--only", "fastdrop,cs231n", "--seconds", "0.1"]
    assert main(part) == 0
    out = capsys.readouterr().out
    assert "Part of a benchmark" in out and "relative to multiplying" in out
    assert "Written" not in out
    file = tmp_path / "file.json"
    assert main([*part, "--output", str(file)]) == 0
    found = {row["contender"]: row["ratio"] for row in load(file)["rows"]}
    assert set(found) == {"multiply", "fastdrop", "cs231n"} and found["multiply"] == 1.0
    assert found["cs231n"] > found["fastdrop"] > 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sections", "nothing"], "no section 'nothing'"),
        (["--only", "nobody", "--sections", "forward"], "no contender 'nobody'"),
        (["family", "--only", "nobody"], "no member 'nobody'"),
        (["family", "--sizes", "1000"], "1000 elements are no multiple of 65536"),
        (["batch", "--family", "nobody"], "no family 'nobody'"),
        (["loops", "--only", "nobody"], "no loop 'nobody'"),
        (["start", "--only", "nobody"], "no first call 'nobody'"),
        (["layouts", "--sizes", "100"], "multiples of 8192"),
        (["layouts", "--only", "nobody"], "no such layout"),
        (["layouts", "--against", "/"], "/ is no checkout of the project"),
        (["compare", "none.json", "none.json"], "no results in none.json"),
        (["--check", "--sections", "small-parts", "--only", "cs231n", "--output", "/"], "a folder"),
    ],
)
def test_errors_name_the_value(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--sizes", "0"], ["--seconds", "-1"], ["nothing"]])
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)


def test_an_interruption_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cpu, "collect", interrupt)
    assert main(["small"]) == __main__.INTERRUPTED
    assert "nothing more is written" in capsys.readouterr().err


def test_what_would_take_too_long_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "TELLING_SECONDS", 0.0)
    monkeypatch.setattr(cpu, "LIMIT_SECONDS", 1e-9)
    part = ["--only", "cs231n", "--sections", "forward", "--sizes", "64,1Ki", "--seconds", "0.01"]
    found = cpu.collect(parse(part), ["forward"])
    assert {(r["contender"], r["elements"]) for r in found["rows"]} >= {
        ("cs231n", 64),
        ("multiply", KI),
    }
    assert any("1 Ki: left out, for a call would take over" in note for note in found["notes"])


KI = 1024


def test_sections_have_no_row_twice_and_their_shares_are_all() -> None:
    for name in cpu.SECTIONS:
        ids = [contender.id for contender in cpu.contenders(name)]
        assert len(ids) == len(set(ids)) and ids[0] == "multiply"
        assert all(
            n % cpu.SECTIONS[name].get("multiple", 1) == 0 for n in cpu.SECTIONS[name]["sizes"]
        )
    assert abs(sum(section["share"] for section in cpu.SECTIONS.values()) - 1) < 1e-9
    assert cpu.thread_counts(2) == [1, 2] and cpu.thread_counts(24) == [*range(1, 9), 16, 24]


def test_figures_for_people() -> None:
    assert [figure(v) for v in (0.0123, 0.5, 1.234, 12.34, 1234.5)] == [
        *("0.012", "0.50", "1.23", "12.3", "1,234"),
    ]
    assert parse_sizes("16Mi,64Ki, 1000") == (1000, 65536, 1 << 24)
    assert [size_label(n) for n in (1000, 65536, 1 << 24)] == ["1000", "64 Ki", "16 Mi"]
    assert report.bytes_label(-0.004) == "0.00"


def test_no_module_imports_another_in_a_circle() -> None:
    imports: dict[str, set[str]] = {}
    for file in (ROOT / "bench").glob("*.py"):
        nodes = [
            n for n in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(n, ast.ImportFrom)
        ]
        inner = [node for node in nodes if node.level == 1]
        imports[file.stem] = {n.module for n in inner if n.module} | {
            alias.name for n in inner if n.module is None for alias in n.names
        }
    done: set[str] = set()
    while ready := {name for name in imports if name not in done and imports[name] <= done}:
        done |= ready
    assert done == set(imports), "these import each other in a circle"
    assert {module for module, _, _ in COMMANDS.values()} <= set(imports)
