"""The cache of compiled kernels does not grow for ever: what is not used is removed in the end."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from numba import types

from fastdrop_kernels.cpu.codegen import compiler

DAY = 86400


def made(name: str) -> Any:
    def function(x: Any) -> Any:
        return x

    return compiler.kernel(name, function, types.uint64(types.uint64))


def aged(file: Path, days: float) -> Path:
    file.touch()
    then = time.time() - days * DAY
    os.utime(file, (then, then))
    return file


def test_what_was_not_used_for_long_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    digest = 2 * "0123456789abcdef"
    old = [aged(tmp_path / name, 91) for name in (f"one-{digest}.kernel", "fastdrop-two.tmp")]
    kept = [
        aged(tmp_path / f"three-{digest}.kernel", 89),
        aged(tmp_path / "fastdrop-four.tmp", 1),
        # Somebody else's, in a folder that is used for more than this.
        *(aged(tmp_path / name, 1000) for name in ("notes.txt", "five.tmp", "linux.kernel")),
    ]
    assert made("age-of-kernels")(7) == 7
    assert not any(file.exists() for file in old)
    assert all(file.exists() for file in kept)
    assert len(list(tmp_path.glob("age-of-kernels-*.kernel"))) == 1


def test_what_is_used_stays_young(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    made("used-kernel")
    (file,) = tmp_path.glob("used-kernel-*.kernel")
    aged(file, 60)
    content = file.read_bytes()
    assert made("used-kernel")(8) == 8  # from the file
    assert file.read_bytes() == content
    assert time.time() - file.stat().st_mtime < DAY
