"""A damaged, missing or read-only kernel cache costs time, and never gives a wrong result."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels.cpu.codegen import compiler
from tests.support.subprocesses import Finished, Process, assert_succeeds, run_python
from tests.support.systems import needs_permissions

CALL = """
import numpy as np, fastdrop as fd
x = np.ones(1000, np.float32)
y = fd.dropout(x, 0.5, rng=42)
assert y[:8].tolist() == [2, 2, 0, 0, 0, 0, 2, 0], y[:8]
"""
# Another kernel, which is not in the cache after CALL.
ANOTHER_CALL = """
z = fd.masked_fill(np.ones(8, np.uint8), 0.5, 7, rng=42)
assert z.tolist() == [1, 1, 7, 7, 7, 7, 1, 7], z
"""
# That a call warns once, though it compiles several kernels.
WARNED_ONCE = """
import warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
""" + "".join(f"    {line}\n" for line in (CALL + ANOTHER_CALL).splitlines())
WARNED_ONCE += """
texts = [str(w.message) for w in seen if "FASTDROP_CACHE_DIR" in str(w.message)]
assert len(texts) == 1, texts
print(texts[0])
"""


def call(folder: Path, code: str = CALL) -> None:
    assert_succeeds(run_python(code, FASTDROP_CACHE_DIR=str(folder)))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture(scope="module")
def called_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    call(folder)
    assert list(folder.iterdir())
    return folder


@pytest.fixture
def cache(called_once: Path, tmp_path: Path) -> Path:
    """A cache that holds the kernels of CALL."""
    folder: Path = shutil.copytree(called_once, tmp_path / "cache")
    return folder


def is_root() -> bool:
    return bool(sys.platform != "win32" and os.geteuid() == 0)


@pytest.fixture
def powerless() -> list[str]:
    """What to put before a command, so that root may not write to read-only folders either."""
    if not is_root():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root writes to read-only folders too, and setpriv is not here")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture
def read_only(tmp_path: Path, powerless: list[str]) -> Iterator[Path]:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    yield folder
    folder.chmod(0o700)


def powerless_call(code: str, powerless: list[str], **environment: str) -> Finished:
    return Process(["-c", code], environment, before=powerless).finish()


def test_kernels_are_kept_in_the_named_folder_and_nothing_else_is(called_once: Path) -> None:
    files = list(called_once.iterdir())
    assert files
    assert all(path.suffix == ".kernel" for path in files)  # and no temporary file is left


def test_a_second_process_compiles_nothing(cache: Path) -> None:
    before = times(cache)
    call(cache)
    assert times(cache) == before


@needs_permissions
@pytest.mark.slow
def test_a_home_that_does_not_exist_costs_time_and_a_warning() -> None:
    gone = {"HOME": "/proc/nonexistent", "XDG_CACHE_HOME": "", "FASTDROP_CACHE_DIR": ""}
    done = run_python(WARNED_ONCE, **gone)
    assert_succeeds(done)
    assert "/proc/nonexistent" in done.stdout and "cannot be written" in done.stdout


@needs_permissions
@pytest.mark.slow
def test_a_home_that_is_read_only_costs_time_and_a_warning(
    read_only: Path, powerless: list[str]
) -> None:
    home = {"HOME": str(read_only), "XDG_CACHE_HOME": "", "FASTDROP_CACHE_DIR": ""}
    assert_succeeds(powerless_call(WARNED_ONCE, powerless, **home))
    assert not list(read_only.iterdir())


@needs_permissions
@pytest.mark.slow
def test_a_cache_folder_that_is_read_only_is_used_and_not_written_to(
    cache: Path, powerless: list[str]
) -> None:
    before = times(cache)
    cache.chmod(0o500)
    try:
        here = {"FASTDROP_CACHE_DIR": str(cache)}
        assert_succeeds(powerless_call(CALL, powerless, **here))  # all of it is there
        assert_succeeds(powerless_call(WARNED_ONCE, powerless, **here))
    finally:
        cache.chmod(0o700)
    assert times(cache) == before


@pytest.mark.slow
@pytest.mark.parametrize("below", ["", "below"])
def test_a_cache_folder_that_cannot_be_made_costs_time_and_a_warning(
    below: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    call(file / below, WARNED_ONCE)
    assert file.read_text() == "not a folder"


@needs_permissions
@pytest.mark.slow
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_every_user_may_write_to_is_not_run(cache: Path, what: str) -> None:
    before = times(cache)
    for path in cache.iterdir() if what == "file" else [cache]:
        path.chmod(path.stat().st_mode | 0o002)
    call(cache, WARNED_ONCE)
    assert times(cache) != before  # compiled anew, and written with the usual permissions
    if what == "file":
        call(cache)


@needs_permissions
@pytest.mark.slow
def test_what_another_user_owns_is_run_only_in_a_folder_that_was_named(
    cache: Path, tmp_path: Path, powerless: list[str]
) -> None:
    if not is_root():
        pytest.skip("only root can give files to another user")
    home = tmp_path / "home"
    home.mkdir()
    shutil.move(cache, home / "fastdrop")
    for path in (home / "fastdrop", *(home / "fastdrop").iterdir()):
        shutil.chown(path, 12345, 12345)
    call(home / "fastdrop")
    unnamed = {"XDG_CACHE_HOME": str(home), "FASTDROP_CACHE_DIR": ""}
    done = run_python(WARNED_ONCE, **unnamed)
    assert_succeeds(done)
    assert "which another user owns" in done.stdout


@pytest.mark.slow
def test_a_cache_folder_may_be_removed_while_a_process_runs(cache: Path) -> None:
    remove = f"""
import shutil
import sys
shutil.rmtree({str(cache)!r})
"""
    call(cache, CALL + remove + CALL + ANOTHER_CALL)
    assert list(cache.iterdir())  # made again, with what was compiled since
    assert all(path.suffix == ".kernel" for path in cache.iterdir())


@pytest.mark.slow
def test_a_cache_folder_may_become_a_file_while_a_process_runs(cache: Path) -> None:
    replace = f"""
import pathlib, shutil
shutil.rmtree({str(cache)!r})
pathlib.Path({str(cache)!r}).write_text("not a folder")
"""
    call(cache, CALL + replace + CALL + WARNED_ONCE)
    assert cache.read_text() == "not a folder"


@pytest.mark.slow
def test_two_processes_that_compile_at_once_both_compute_and_fill_one_cache(
    called_once: Path, tmp_path: Path
) -> None:
    cache, meeting = tmp_path / "cache", tmp_path / "meeting"
    meeting.mkdir()
    # They meet when all is imported, and then compile the same kernels at the same time.
    meet = f"""
import os, pathlib, time
import fastdrop as fd
import fastdrop_kernels.cpu.host.driver
meeting = pathlib.Path({str(meeting)!r})
(meeting / str(os.getpid())).touch()
while len(list(meeting.iterdir())) < 2:
    time.sleep(0.001)
"""
    settings = {"FASTDROP_CACHE_DIR": str(cache)}
    processes = [Process(["-c", meet + CALL + ANOTHER_CALL], settings) for _ in range(2)]
    for done in [process.finish() for process in processes]:
        assert_succeeds(done)
    before = times(cache)
    assert all(name.endswith(".kernel") for name in before)
    assert before.keys() > times(called_once).keys()
    call(cache, CALL + ANOTHER_CALL)
    assert times(cache) == before


@pytest.mark.slow
def test_damaged_files_are_replaced(cache: Path) -> None:
    kernels = sorted(cache.iterdir())
    sizes = {path: path.stat().st_size for path in kernels}
    damages = [b"", b"rubbish", b"\x80\x05K\x01.", None]  # the third is a pickle of something else
    for i, path in enumerate(kernels):
        damage = damages[i % len(damages)]
        path.write_bytes(path.read_bytes()[:1000] if damage is None else damage)
    call(cache)
    assert sorted(cache.iterdir()) == kernels
    for path in kernels:  # whole again
        assert abs(path.stat().st_size - sizes[path]) < 0.2 * sizes[path]


@needs_permissions
@pytest.mark.slow
def test_kernels_may_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    call(tmp_path, "import os; os.umask(0o027)\n" + CALL)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_a_kernel_under_the_name_of_another_is_not_run(cache: Path) -> None:
    kernels = sorted(cache.iterdir())
    contents = [path.read_bytes() for path in kernels]
    for path, content in zip(kernels, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)
    call(cache)


@pytest.mark.slow
def test_damaged_machine_code_is_not_run(cache: Path) -> None:
    for file in cache.iterdir():
        content = bytearray(file.read_bytes())
        for place in range(len(content) // 3, len(content) * 2 // 3, 97):
            content[place] ^= 0x55  # inside the machine code, where LLVM would crash
        file.write_bytes(content)
    call(cache)


@pytest.mark.slow
def test_code_is_named_after_its_kernel() -> None:
    # Else LLVM may find another's, which another process kept under the same name.
    fd.dropout(np.ones((8, 8)).T, 0.5, rng=1)
    fd.dropout(np.ones((8, 8)), 0.5, rng=1, noise_shape=(8, 1))
    assert len(compiler._alive) > 3
    for dispatcher in compiler._alive:
        (result,) = dispatcher.overloads.values()
        name, _, number = result.fndesc.unique_name.rpartition("$")
        assert name == re.sub(r"\W", "_", dispatcher._cache._name) and number.isdigit()
