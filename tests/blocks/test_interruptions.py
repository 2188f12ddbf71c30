"""What interrupts `apply_blocks` leaves whole blocks, and says where to go on."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.mapped_rows import KEY, P, opened
from tests.support.oracle import Array, assert_same
from tests.support.slices import Sliced
from tests.support.subprocesses import Process, run_scenario

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are mapped on Linux")
X = np.random.default_rng(0).standard_normal((1600, 1000)).astype(np.float32)
SMALL = 4000 * 16  # bytes of a block of 16 rows


def test_interrupted_in_place_and_resumed(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(X.tobytes())
    # What was being written is complete. The blocks were 0, 3, 4 and 60.
    assert run_scenario("blocks", "interrupted", file).split() == ["1", "4", "5", "61"]
    assert file.read_bytes() == fd.dropout(X, P, rng=KEY).tobytes()


@pytest.mark.slow
def test_interrupted_at_any_time(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(X[:400].tobytes())
    assert int(run_scenario("blocks", "hammered", file, 10, seconds=10)) > 5


def test_killed_and_resumed_into_another_file(tmp_path: Path) -> None:
    source, target = tmp_path / "x.bin", tmp_path / "y.bin"
    source.write_bytes(X.tobytes())
    target.write_bytes(np.full_like(X, np.nan).tobytes())
    arguments = ["-m", "tests.support.scenarios.blocks", "killed", str(source), str(target), "37"]
    done = Process(arguments, {}).finish()
    assert done.status == -9, str(done)
    told = [int(line) for line in done.stdout.split()]
    assert told == list(range(1, 38))
    x, y = opened(str(source), "r"), opened(str(target), "r+")
    right = fd.dropout(X, P, rng=KEY)
    assert_same(np.asarray(y[: 37 * 16]), right[: 37 * 16])
    assert np.isnan(y[37 * 16 + 8 :]).all() and not np.isnan(y[37 * 16 : 37 * 16 + 8]).any()
    fd.apply_blocks(fd.dropout, x, y, P, rng=KEY, block_bytes=SMALL, start=told[-1])
    assert_same(np.asarray(y), right)


@pytest.mark.slow
def test_a_file_larger_than_the_memory_of_the_process(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    with open(file, "wb") as written:
        for _ in range(100):
            written.write(X.tobytes())  # 640 MB in all
    most = int(run_scenario("blocks", "small", file, 512 << 20))
    assert most < 40 << 20
    y = opened(str(file), "r")
    right = fd.dropout(X, P, rng=KEY, offset=99 * X.size)
    assert_same(np.asarray(y[-1600:]), right)


class Failing(Sliced):
    """Slices of chunks of 10 rows of a small array; a read or a write may fail."""

    def __init__(self, reading: int = -1, writing: int = -1) -> None:
        super().__init__(X[:100].copy(), (10, 1000))
        self.fails_at, self.reads_fail_at = writing, reading

    def __getitem__(self, region: Any) -> Array:
        if len(self.read) == self.reads_fail_at:
            raise OSError("the disk is gone")
        return super().__getitem__(region)


def test_an_error_in_reading() -> None:
    x = Failing(reading=6)
    with pytest.raises(OSError, match="the disk is gone") as caught:
        fd.apply_blocks(fd.dropout, x, None, P, rng=KEY, block_bytes=1)
    resume = caught.value.resume  # type: ignore[attr-defined]
    start = resume["start"]
    right = fd.dropout(X[:100], P, rng=KEY)
    assert start <= 6
    assert_same(x.values[: 10 * start], right[: 10 * start])
    assert_same(x.values[10 * start :], X[10 * start : 100])
    if sys.version_info >= (3, 11):
        (note,) = caught.value.__notes__
        assert note == (
            f"{start} of 10 blocks are done: go on with start={start}, rng={KEY}, block_bytes=1"
        )
    x.reads_fail_at = -1
    fd.apply_blocks(fd.dropout, x, None, P, **resume)
    assert_same(x.values, right)


def test_an_error_in_writing_names_the_block_that_may_be_torn() -> None:
    x, y = X[:100], Failing(writing=4)
    rng = np.random.default_rng(3)
    key = fd.as_key(np.random.default_rng(3))
    with pytest.raises(OSError, match="the disk is full") as caught:
        fd.apply_blocks(fd.dropout, x, y, P, rng=rng, block_bytes=1)
    resume = caught.value.resume  # type: ignore[attr-defined]
    assert resume == {"start": 4, "rng": key, "block_bytes": 1}
    if sys.version_info >= (3, 11):
        assert "and block 4 may be written in part" in caught.value.__notes__[0]
    y.fails_at = -1
    fd.apply_blocks(fd.dropout, x, y, P, **resume)
    assert_same(y.values, fd.dropout(x, P, rng=key))


@pytest.mark.parametrize("block", [1, 5, 10])
def test_an_error_in_progress_leaves_whole_blocks_in_memory(block: int) -> None:
    def tell(done: int, count: int) -> None:
        assert count == 10
        if done == block:
            raise KeyboardInterrupt

    x = X[:100].copy()
    right = fd.dropout(x, P, rng=KEY)
    with pytest.raises(KeyboardInterrupt) as caught:
        fd.apply_blocks(fd.dropout, x, x, P, rng=KEY, block_bytes=40000, progress=tell)
    resume: dict[str, Any] = caught.value.resume  # type: ignore[attr-defined]
    rows = 10 * resume["start"]
    assert rows >= 10 * block
    assert_same(x[:rows], right[:rows])
    assert_same(x[rows:], X[rows:100])
    assert fd.apply_blocks(fd.dropout, x, x, P, **resume) is x
    assert_same(x, right)


def test_a_fill_may_be_done_again() -> None:
    x = X[:100].copy()
    for start in (0, 3, 0):
        fd.apply_blocks(fd.masked_fill, x, x, P, 7, rng=KEY, block_bytes=40000, start=start)
    assert_same(x, fd.masked_fill(X[:100], P, 7, rng=KEY))
