"""No cache serves the code of another version of the kernels: it is edited here, in a copy.

Every edit leaves the file's size and time as they were, the hardest case; in a process, kernels and
reference must agree, and be those of the files that it found.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import fastdrop as fd
import fastdrop_kernels
from fastdrop_kernels import source_stamps as sources
from tests.support.oracle import mask
from tests.support.subprocesses import Process, assert_succeeds

KEY, P, N = fd.Key(7, 1), 0.5, 64
OLD, NEW = "np.uint64(0x9E3779B9)", "np.uint64(0x9E3779BB)"

IMPORT = "import sys, numpy as np, fastdrop as fd"
CALL = f"""
kept = fd.dropout(np.ones({N}, np.float32), {P}, rng=fd.Key{tuple(KEY)}) != 0
from fastdrop_kernels import reference
index = np.arange({N}, dtype=np.uint64)
assert np.array_equal(kept, reference.keep_mask(index, {P}, *{tuple(KEY)}))
assert reference.__file__.startswith(sys.argv[1]), "not the copy"
print("".join("01"[int(k)] for k in kept))
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the source, and the folder of its compiled kernels."""

    folder: Path

    @property
    def contract(self) -> Path:
        """The file that is edited: the constants of the mask."""
        return self.folder / "fastdrop_kernels" / "contract.py"

    def call(self, code: str = IMPORT + CALL, **environment: str) -> str:
        """Draw a mask in a new process."""
        settings = {
            "FASTDROP_CACHE_DIR": str(self.folder / "cache"),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": "",
            **environment,
        }
        arguments = ["-c", code, str(self.folder)]
        return assert_succeeds(Process(arguments, settings, tree=self.folder).finish()).strip()

    def kernels(self) -> set[str]:
        """Names of what is in the cache."""
        return {path.name for path in (self.folder / "cache").iterdir()}

    def edit(self, old: str, new: str) -> None:
        """Edit the contract, so that its size and time stay."""
        before = self.contract.stat()
        text = self.contract.read_text(encoding="utf-8")
        assert text.count(old) == 1
        self.contract.write_text(text.replace(old, new), encoding="utf-8")
        os.utime(self.contract, ns=(before.st_atime_ns, before.st_mtime_ns))
        after = self.contract.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.fixture(scope="module")
def old_mask() -> str:
    return "".join("01"[int(kept)] for kept in mask((N,), P, KEY))


@pytest.fixture(scope="module")
def called_once(tmp_path_factory: pytest.TempPathFactory, old_mask: str) -> Copy:
    copy = Copy(tmp_path_factory.mktemp("stale") / "tree")
    for package in (fd, fastdrop_kernels):
        assert package.__file__ is not None
        source = Path(package.__file__).parent
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy.folder / source.name, ignore=leave)
    assert copy.call() == old_mask
    assert copy.kernels()
    return copy


@pytest.fixture
def copy(called_once: Copy, tmp_path: Path) -> Copy:
    """A copy whose kernels were called once, so that they are in the cache."""
    shutil.copytree(called_once.folder, tmp_path / "tree")
    return replace(called_once, folder=tmp_path / "tree")


def without_bytecode(copy: Copy) -> None:
    for folder in copy.folder.rglob("__pycache__"):
        shutil.rmtree(folder)


def test_an_edited_kernel_is_compiled_anew_and_the_old_one_found_again(
    copy: Copy, old_mask: str
) -> None:
    without_bytecode(copy)
    quiet = {"PYTHONDONTWRITEBYTECODE": "1"}
    of_old = copy.kernels()
    copy.edit(OLD, NEW)
    assert copy.call(**quiet) != old_mask
    of_both = copy.kernels()
    assert of_both > of_old
    copy.edit(NEW, OLD)
    assert copy.call(**quiet) == old_mask
    assert copy.kernels() == of_both


@pytest.mark.slow
def test_bytecode_that_python_takes_though_it_is_stale_is_not_kept(
    copy: Copy, old_mask: str
) -> None:
    copy.edit(OLD, NEW)
    # Python looks at size and time only, and so does not see the edit. That is its affair; but what
    # it compiles from now is not what the files say.
    assert copy.call() == old_mask
    without_bytecode(copy)
    assert copy.call() != old_mask


@pytest.mark.slow
def test_an_edit_between_import_and_first_call_is_not_mixed_up(copy: Copy, old_mask: str) -> None:
    shutil.rmtree(copy.folder / "cache")
    edit = f"""
import os
from pathlib import Path
file = Path({str(copy.contract)!r})
before = file.stat()
text = file.read_text(encoding="utf-8")
file.write_text(text.replace({OLD!r}, {NEW!r}), encoding="utf-8")
os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
"""
    assert copy.call(IMPORT + edit + CALL) == old_mask
    without_bytecode(copy)
    assert copy.call() != old_mask


def test_a_copied_tree_compiles_nothing(copy: Copy, old_mask: str) -> None:
    # Its bytecode is older than its sources, and has to be compared with them.
    assert list(copy.folder.rglob("*.pyc"))
    before = {path: path.stat().st_mtime_ns for path in (copy.folder / "cache").iterdir()}
    assert copy.call() == old_mask
    assert {path: path.stat().st_mtime_ns for path in (copy.folder / "cache").iterdir()} == before


def test_bytecode_that_python_sees_to_be_stale_does_not_turn_the_cache_off(
    copy: Copy, old_mask: str
) -> None:
    """An edited source of another size, in a process that writes no bytecode."""
    of_old = copy.kernels()
    with copy.contract.open("a", encoding="utf-8") as text:
        text.write("# one line more\n")
    assert copy.call(PYTHONDONTWRITEBYTECODE="1") == old_mask
    assert copy.kernels() > of_old


def test_every_source_of_the_kernels_counts() -> None:
    assert fastdrop_kernels.__file__ is not None
    files = Path(fastdrop_kernels.__file__).parent.rglob("*.py")
    assert {stamp.path for stamp in sources.AT_IMPORT} == set(map(str, files))
