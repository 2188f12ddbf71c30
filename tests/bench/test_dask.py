"""Dask arrays: checksums are exact, the model adds up, and what is timed is validated."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import dask_calls, dask_pipeline, report, results
from bench.__main__ import main
from bench.check import Wrong
from bench.common import KI, MI
from bench.dask_cluster import Cluster, Run
from bench.dask_model import TIB, Constants, constants, error, tebibyte, useful_workers
from bench.dask_pipeline import CALLS, COLUMNS
from tests.support.dask_cases import NO_DISTRIBUTED, dask_array, fd
from tests.support.systems import needs_proc

da = dask_array()
SHAPE = (40, 24)


class Here(Cluster):
    """The graphs of a cluster, computed in this thread."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def run(self, lazy: Any) -> Run:
        return Run(1.0, int(lazy.compute(scheduler="synchronous")), 2, 1, 0.1, 0.2)


def checksum(y: Any, chunks: Any) -> int:
    lazy = dask_pipeline.reduced(da.from_array(y, chunks=chunks), placed=True)
    return int(lazy.compute(scheduler="synchronous"))


def by_python(y: Any) -> int:
    bits = map(int, y.view(np.uint32).ravel())
    return sum(n * (2 * index + 1) for index, n in enumerate(bits)) % 2**64


def test_the_checksum_is_the_sum_over_the_whole_array() -> None:
    y = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    cuts = [SHAPE, (1, 24), (40, 1), (7, 5), ((1, 30, 9), (23, 1))]
    assert {checksum(y, chunks) for chunks in cuts} == {by_python(y)}
    high = np.full((300, 1000), np.float32(-np.inf))  # so that sums exceed 2^64
    assert sum(int(n) * 600_000 for n in high.view(np.uint32).ravel()) > 2**64
    assert checksum(high, (64, 999)) == by_python(high)


def test_the_checksum_shows_one_bit_and_two_places() -> None:
    y = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    right = checksum(y, 9)
    for row, column in ((0, 0), (13, 23), (39, 5)):
        other = y.copy()
        other.view(np.uint32)[row, column] ^= 1
        assert checksum(other, 9) != right
        other = y.copy()
        other[row, column], other[20, 11] = y[20, 11], y[row, column]
        assert checksum(other, 9) != right


def test_a_sum_of_bits_is_exact_and_blocks_follow_from_their_place() -> None:
    x = dask_pipeline.source((300, 5000), (70, 999), "a test's")
    whole = dask_pipeline.values((slice(0, 300), slice(0, 5000)))
    assert x.compute(scheduler="synchronous").tobytes() == whole.tobytes()
    assert whole.min() > 0 and len(np.unique(whole[:, 0])) == 300
    found = dask_pipeline.reduced(x).compute(scheduler="synchronous")
    assert int(found) == sum(map(int, whole.view(np.uint32).ravel()))


@pytest.mark.parametrize("elements", [128 * KI, 16 * MI, dask_calls.ELEMENTS])
def test_five_chunkings_differ(elements: int) -> None:
    shape = dask_calls.shape_of(elements)
    block = min(dask_calls.BLOCK, elements // 8)
    cuts = [*dask_pipeline.chunkings(shape, block)]
    whole = [da.core.normalize_chunks(cut, shape, dtype=np.float32) for cut in cuts]
    assert len({*whole}) == 5
    sizes = [rows[0] * columns[0] for rows, columns in whole]
    assert max(sizes) < 2 * block  # which the memory of workers is enough for


def test_a_result_that_depends_on_the_chunks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*dask_calls.chunkings(Here(), 32 * COLUMNS, 4 * COLUMNS)]
    assert len(rows) == 6 and len({row["checksum"] for row in rows}) == 1
    where = slice(0, 32), slice(0, COLUMNS)
    y = fd.dropout(dask_pipeline.values(where), 0.1, rng=fd.Key(2026, 0))
    assert int(rows[0]["checksum"], 16) == by_python(y) == int(rows[3]["checksum"], 16)
    monkeypatch.setitem(CALLS, "fastdrop", CALLS["uniform"])
    with pytest.raises(Wrong, match=r"depends on the chunks: checksums NumPy: [0-9a-f]{16}, \[4, "):
        [*dask_calls.chunkings(Here(), 32 * COLUMNS, 4 * COLUMNS)]


def test_every_call_is_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    dask_calls.validate()
    wrong = {"fastdrop": "fd.dropout(x, p, rng=1)", "uniform": "x * (rng.random(x.shape) >= 0.2)"}
    for name, call in wrong.items():
        with monkeypatch.context() as patch:
            patch.setitem(CALLS, name, CALLS[name] | {"call": call})
            with pytest.raises(Wrong, match="dropout: differs|random >= p"):
                dask_calls.validate()


def test_the_model_adds_up() -> None:
    found = Constants(start=0.5, scheduler=1e-3, call=2e-3, bandwidth=4e9)
    assert found.seconds(8e9, 100, 1) == pytest.approx(0.5 + 0.1 + 0.2 + 2.0)
    assert found.seconds(8e9, 100, 10) == pytest.approx(0.5 + 0.1 + 0.02 + 0.2)
    # With so many workers the scheduler takes as long as they do.
    workers = found.balance(1e7)
    total = found.seconds(1e9, 100, workers) - found.start
    assert total == pytest.approx(2 * 100 * found.scheduler)
    row = {**vars(found), "block": 1 << 26}
    assert constants(row) == found
    assert tebibyte(row, 100) == found.seconds(TIB, 16384, 100)
    assert useful_workers(row) == found.balance(1 << 26)
    assert error({"predicted": 3.0, "measured": 2.0}) == 0.5


def test_graphs_are_measured_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed", reason=NO_DISTRIBUTED)
    file = tmp_path / "file.json"
    assert main(["dask", "--sections", "graph", "--check", "--output", str(file)]) == 0
    assert "Nothing was judged" in capsys.readouterr().out
    found = {row["contender"]: row for row in results.load(file)["rows"]}
    assert {*found} == {*dask_calls.GRAPHS}
    assert 0 < found["fastdrop"]["bytes"] < found["uniform"]["bytes"]
    (table,) = report.tables(results.load(file))
    assert [row[0] for row in table.rows][::3] == ["fd.dropout", "fd.dropout_mask"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sections", "nothing"], "no section 'nothing'"),
        (["--only", "nobody"], "no contender 'nobody'"),
        (["--sizes", "1000"], "1000 elements are no multiple of 32768"),
        (["--sizes", "1Mi,2Mi"], "one size at a time"),
    ],
)
def test_errors_name_the_value(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dask", *arguments]) == 2
    assert text in capsys.readouterr().err


@needs_proc
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # distributed's own
def test_check_makes_every_call_once_on_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed", reason=NO_DISTRIBUTED)
    file = tmp_path / "file.json"
    assert main(["dask", "--check", "--output", str(file)]) == 0
    assert "Nothing was judged" in capsys.readouterr().out
    found = results.load(file)
    sections = {row["section"] for row in found["rows"]}
    assert sections == {
        f"dask{part}" for part in ("", "-graph", "-checksum", "-constants", "-model")
    }
    assert {row["contender"] for row in results.rows(found, "dask")} == {*CALLS}
    assert all(row["peak"] >= row["before"] > 0 for row in results.rows(found, "dask"))
    assert found["versions"]["distributed"]


def test_what_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, way in {"distributed": "distributed", "dask": "-e '.[bench,dask]'"}.items():
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            assert main(["dask", "--check"]) == 2
        assert f"pip install {way}" in capsys.readouterr().err
