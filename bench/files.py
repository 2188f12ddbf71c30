"""``python -m bench files``: dropout of a file larger than a process may be, beside copying it.

Each is done in a fresh process with little memory of its own: the system gives it no more. Run as
``python -m bench.files WAY SOURCE TARGET`` it does one of them in this process, and prints JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import mmap
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import common, report
from .check import key
from .common import KI, MI, Array, BenchError, P, load
from .results import Row, made

LIMIT = 512 * MI  # bytes of private writable memory of a process, by RLIMIT_DATA
COPY = "shutil.copyfile"
LOOP = "a loop of read and write"
OTHER, IN_PLACE = "dropout into another file", "dropout in place"
CACHED = {True: "in the page cache", False: "on the disk"}
_TILE = 16 * MI  # elements of the source, which repeats them
_ROUNDS = 3
_SAMPLE_SECONDS = 0.01


def _copy(source: str, target: str) -> None:
    """Copy a file by the system's calls."""
    with open(source, "rb", buffering=0) as given, open(target, "wb", buffering=0) as made:
        part = memoryview(bytearray(256 * KI))  # the best size, see `_blocks.stores`
        while count := given.readinto(part):
            made.write(part[:count])


def _dropout(source: str, target: str) -> None:
    x = np.memmap(source, np.float32, "r+" if source == target else "r")
    y = x if source == target else np.memmap(target, np.float32, "w+", shape=x.shape)
    load("fastdrop").apply_blocks(load("fastdrop").dropout, x, y, P, rng=key())


WAYS: dict[str, Callable[[str, str], Any]] = {
    COPY: shutil.copyfile,
    LOOP: _copy,
    OTHER: _dropout,
    IN_PLACE: _dropout,
}


def anonymous() -> int:
    """Bytes of this process' own memory: resident, and of no file."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def _limit_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))


def _use_pages(size: int) -> None:
    """Use as many pages as a file needs, and give them back.

    Free pages of a virtual machine may be memory that its host has to find first: 2 GiB then take
    1.3 to 6.3 s to copy.
    """
    if sys.platform == "linux":
        flags = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        mmap.mmap(-1, size, flags=flags).close()


def _here(way: str, source: str, target: str) -> dict[str, float]:
    """Do one of the ways in this process, with little memory, and time it."""
    _limit_memory()
    peak, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            peak[0] = max(peak[0], anonymous())

    if WAYS[way] is _dropout:  # its kernel is compiled, or loaded
        load("fastdrop").dropout(np.ones(MI, np.float32), P, rng=key())
    _use_pages(os.path.getsize(source))
    sampling = threading.Thread(target=sample)
    sampling.start()
    begin = time.perf_counter()
    WAYS[way](source, target)
    seconds = time.perf_counter() - begin
    peak[0] = max(peak[0], anonymous())
    ended.set()
    sampling.join()
    _synchronise(target)
    return {
        "seconds": seconds,
        "synced": time.perf_counter() - begin,
        "anonymous": peak[0],
    }


def _synchronise(file: str, forget: bool = False) -> None:
    """Wait until a file is on the disk; also leave none of it in the page cache."""
    number = os.open(file, os.O_RDWR)
    os.fsync(number)
    if sys.platform == "linux" and forget:
        os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(number)


def _tile() -> Array:
    return common.fresh_input(_TILE, seed=0)


def _write(file: Path, elements: int) -> None:
    tile = _tile()
    with file.open("wb") as made:
        for first in range(0, elements, _TILE):
            made.write(tile[: elements - first].data)


def _check(file: Path, passes: int) -> None:
    """Compare parts of a result with calls on them, bit for bit."""
    y, tile = np.memmap(file, np.float32, "r"), _tile()
    for first in np.linspace(0, len(y) - MI, 9).astype(int).tolist():
        part = np.take(tile, range(first, first + MI), mode="wrap")
        for _ in range(passes):
            part = load("fastdrop").dropout(part, P, rng=key(), offset=first)
        if not np.array_equal(y[first : first + MI].view(np.uint32), part.view(np.uint32)):
            raise BenchError(f"apply_blocks computes wrong values, after element {first}")


def _read(file: Path) -> None:
    """Have a file in the page cache."""
    part = bytearray(4 * MI)
    with file.open("rb", buffering=0) as given:
        while given.readinto(part):
            pass


def _prepare(source: Path, target: Path, cached: bool) -> None:
    """Remove the target, and bring the source into its state."""
    target.unlink(missing_ok=True)
    _synchronise(str(source), forget=not cached)
    if cached:
        _read(source)


def measure(folder: Path, gib: float, rounds: int) -> list[Row]:
    """Time all ways by turns, with the source in the page cache and not."""
    elements = max(int(gib * 2**30) // 4 // MI, 1) * MI
    source, target, passes = folder / "source", folder / "target", 0
    if shutil.disk_usage(folder).free < 2.1 * 4 * elements:
        raise BenchError(f"{folder} has no room for two files of {gib:g} GiB: set TMPDIR")
    _write(source, elements)
    found: dict[tuple[str, bool], list[dict[str, float]]] = {}
    todo = list(itertools.product(range(rounds), CACHED, WAYS))
    with common.progress() as tell:
        for done, (turn, cached, way) in enumerate(todo):
            tell(f"{way}, {CACHED[cached]}", done / len(todo))
            _prepare(source, target, cached)
            written = source if way == IN_PLACE else target
            command = ["-m", "bench.files", way, str(source), str(written)]
            found.setdefault((way, cached), []).append(common.child(command))
            passes += way == IN_PLACE
            if WAYS[way] is _dropout and turn in (0, rounds - 1):
                _check(written, passes + (way == OTHER))
    rows = []
    for (way, cached), samples in found.items():
        seconds = [sample["seconds"] for sample in samples]
        base = [sample["seconds"] for sample in found[COPY, cached]]
        ratios = [copy / own for copy, own in zip(base, seconds, strict=True)]
        about = {"section": "files", "way": way, "cached": cached, "gib": 4 * elements / 2**30}
        times = {"rounds": rounds, "seconds": statistics.median(seconds), "worst": max(seconds)}
        on_disk = statistics.median([sample["synced"] for sample in samples])
        peak = max(sample["anonymous"] for sample in samples) / 2**20
        more = {"synced": on_disk, "ratio": statistics.median(ratios), "anonymous": peak}
        rows.append({**about, **times, **more})
    return rows


def main(args: argparse.Namespace) -> int:
    """Run the command; the exit status is 0 whatever it says."""
    if not Path("/proc/self/status").exists():
        raise BenchError("files are measured on Linux, which tells a process's own memory")
    gib, rounds = (1 / 16, 1) if args.check else (args.gib or 8.0, _ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), gib, rounds)
    settings = {"p": P, "limit": LIMIT, "check": args.check}
    report.finish(made(rows, settings), args, "files")
    return 0


if __name__ == "__main__":
    print(json.dumps(_here(*sys.argv[1:])))
