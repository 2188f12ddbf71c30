"""Counts of the CUDA kernels' instructions: what they are compared with, and what they mean."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bench import hopper, instructions, kernel_calls, results
from bench.__main__ import main
from bench.common import RESULTS, load
from bench.results import Results, Row

FILE = RESULTS / f"{instructions.NAME}.json"


@pytest.fixture
def table() -> Results:
    return results.load(FILE)


def row(issued: float, moved: float = 32, **classes: float) -> Row:
    return {"instructions": issued, "bytes": moved, "classes": classes}


def test_the_budget_is_what_is_issued_while_the_bytes_are_moved() -> None:
    # 132 x 4 warp instructions a clock, while 32 threads move 32 bytes each.
    seconds = 32 * 32 / 4.3e12
    assert hopper.budget(row(0)) == pytest.approx((528 * 1.755e9 * seconds, 528 * 1.98e9 * seconds))
    assert [round(slots) for slots in hopper.budget(row(0))] == [221, 249]
    assert hopper.bound(row(150)) == "memory"
    assert hopper.bound(row(210)) == "memory and instructions"
    assert hopper.bound(row(498)) == "instructions, at most 50%"
    # A unit at half rate is busy twice as long as its instructions are issued.
    assert hopper.busiest(row(150, LOP3=60, IADD=20, MUFU=10)) == ("ALU", 160)
    assert hopper.bound(row(150, MUFU=62.3)) == "MUFU, at most 50%"


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "expected"),
    [
        (32, 0, 256, 1.0),  # 64 warps of 1,024 registers
        (33, 0, 256, 0.75),  # of 1,280: 12 in each quarter
        (64, 0, 256, 0.5),
        (110, 0, 256, 0.25),
        (128, 0, 256, 0.25),
        (16, 100 << 10, 256, 0.25),  # two blocks' shared memory
        (16, 0, 32, 0.5),  # at most 32 blocks
    ],
)
def test_occupancy(registers: int, shared: int, threads: int, expected: float) -> None:
    assert hopper.occupancy(registers, shared, threads) == expected


def test_instructions_have_classes() -> None:
    expected = {
        "wide products": ["IMAD.WIDE.U32", "IMAD.HI.U32"],
        "other IMAD": ["IMAD.MOV.U32", "IMAD"],
        "constants": ["ULDC.64", "LDC"],
        "uniform": ["UIADD3", "R2UR"],
        "float64": ["DADD"],
        "predicates": ["DSETP.GT.AND", "ISETP.NE.AND"],
        "loads, stores": ["LDG.E.128"],
        "branches": ["BSSY", "EXIT"],
        "selections, shifts, bytes": ["SHF.L.U32", "VIMNMX.U16x2"],
        "shared memory, shuffles": ["SHFL.BFLY", "LDS"],
        "other": ["NOP"],
    }
    for name, mnemonics in expected.items():
        assert {instructions.class_of(mnemonic) for mnemonic in mnemonics} == {name}


def test_growth_is_named_with_both_counts(table: Results) -> None:
    rows = copy.deepcopy(table["rows"])
    assert instructions.complaints(table, rows) == []
    first = rows[0]
    first["instructions"] *= 1.029
    assert instructions.complaints(table, rows) == []
    was = table["rows"][0]["instructions"]
    first["instructions"] = was * 1.04
    (complaint,) = instructions.complaints(table, rows)
    assert complaint.startswith("dropout, float32, p = 0.1 (drop_float32_contiguous_32): ")
    assert f"{was * 1.04:.1f} instructions for {was:.1f}, 4.0% more" in complaint
    first["function"] = "another"
    (complaint,) = instructions.complaints(table, rows)
    assert complaint == "another, float32, p = 0.1: not in the table"


def test_the_check_fails_by_the_compiler_of_the_table_alone(
    table: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, version = copy.deepcopy(table["rows"]), str(table["versions"]["NVRTC"])
    assert instructions.check(rows, version) == 0
    assert f"{len(rows)} counts are at most 3% above" in capsys.readouterr().out
    rows[0]["instructions"] *= 2
    assert instructions.check(rows, version) == 1
    assert "python -m bench gpu --instructions, then" in capsys.readouterr().err
    assert instructions.check(rows, "1.2.3") == 0
    assert "NVRTC 1.2.3 is not that of the table" in capsys.readouterr().out


def test_the_table_has_every_call_once(table: Results) -> None:
    calls = [(call.function, call.dtype, call.p) for call in kernel_calls.calls()]
    assert len(set(calls)) == len(calls)
    assert [(r["function"], r["dtype"], r["p"]) for r in table["rows"]] == calls
    for found in table["rows"]:
        assert set(found["classes"]) <= set(instructions.CLASSES)
        assert sum(found["classes"].values()) == pytest.approx(found["instructions"], rel=0.01)


def test_options_of_a_gpu_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--instructions", "--quick"]) == 2
    assert main(["gpu", "--check"]) == 2
    err = capsys.readouterr().err
    assert "--quick is not for --instructions" in err and "--check goes with --instructions" in err


@pytest.mark.slow
def test_a_kernel_is_counted(monkeypatch: pytest.MonkeyPatch, table: Results) -> None:
    sass: Any = load("tests.support.sass.launcher")
    if missing := sass.absent():
        pytest.skip(missing)
    driver = load("fastdrop_kernels.cuda.driver")
    monkeypatch.setattr(driver, "_launcher", None)
    call = next(call for call in kernel_calls.calls() if call.function == "feature_dropout")
    found = instructions.counted(call)
    # Nothing but the kernel moves 32 bytes a group; every group is loaded, or dropped, and stored.
    assert found["bytes"] == 32 and found["kernel"] == "drop_float32_runs_32"
    assert 1 + 0.8 < found["classes"]["loads, stores"] < 8
    assert found["spilled"] == 0 and 16 <= found["registers"] <= 255
