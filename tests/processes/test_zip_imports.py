"""The package works from a zip file and in an application, and its kernel cache does, too."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipapp
import zipfile
from pathlib import Path

import pytest

import fastdrop as fd
import fastdrop_kernels
from fastdrop_kernels.cpu.codegen import kernel_cache
from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.batch import launch
from tests.processes.test_kernel_cache import CALL, WARNED_ONCE, times
from tests.support.subprocesses import Finished, Process, assert_succeeds

FOLDERS = [Path(package.__path__[0]) for package in (fd, fastdrop_kernels)]
# The text of every CUDA kernel, which is the same wherever it is read.
SOURCES = """
import hashlib
from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.batch import launch
texts = [modules.header(), *map(modules.body, launch.modules())]
print(hashlib.sha256("".join(texts).encode()).hexdigest())
"""


def write_zip(path: Path, *, edit: tuple[bytes, bytes] = (b"", b"")) -> Path:
    """Write the two packages into a zip file; `edit` replaces text of the contract."""
    with zipfile.ZipFile(path, "w") as zipped:
        for folder in FOLDERS:
            for file in sorted(folder.rglob("*")):
                if file.suffix in (".py", ".cuh") and "__pycache__" not in file.parts:
                    content = file.read_bytes()
                    if file.name == "contract.py" and edit[0]:
                        assert content.count(edit[0]) == 1
                        content = content.replace(*edit)
                    zipped.writestr(file.relative_to(folder.parent).as_posix(), content)
    return path


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Spaces and other letters than ASCII's, which paths may have.
    folder = tmp_path_factory.mktemp("zip") / "Größe Ж 1"
    folder.mkdir()
    return write_zip(folder / "fast drop.zip")


def run(path: Path, code: str, *arguments: str, **environment: str) -> Finished:
    """Run code in a process that imports from a zip file; its folder has nothing else to import."""
    settings = {"PYTHONPATH": str(path), **environment}
    command = ["-c", code, *arguments] if code else arguments
    return Process(command, settings, tree=path.parent).finish()


def test_functions_layers_and_batches_from_a_zip_file(zipped: Path) -> None:
    code = f"""
import fastdrop, fastdrop_kernels
for package in fastdrop, fastdrop_kernels:
    assert package.__file__.startswith({str(zipped)!r}), package.__file__
{CALL}
layer = fd.Dropout(0.5, rng=42)
assert layer(x).tobytes() == layer.backward(x).tobytes() == y.tobytes()
assert fd.keep_k((4, 8), 3, rng=1).sum(1).tolist() == [3] * 4
from fastdrop_kernels.cpu.codegen import kernel_cache
print(kernel_cache.DIGEST)
"""
    # The same sources have the same kernels, in a zip file and in a folder: the caches are one.
    assert assert_succeeds(run(zipped, code)).split() == [kernel_cache.DIGEST]


def test_cuda_sources_are_read_from_a_zip_file(zipped: Path) -> None:
    texts = [modules.header()]
    texts += map(modules.body, launch.modules())
    digest = hashlib.sha256("".join(texts).encode()).hexdigest()
    assert assert_succeeds(run(zipped, SOURCES)).split() == [digest]


@pytest.mark.slow
def test_the_command_line_from_a_zip_file(zipped: Path) -> None:
    done = run(zipped, "", "-m", "fastdrop")
    assert "all passed" in assert_succeeds(done)


@pytest.mark.slow
def test_kernels_are_kept_until_the_zip_file_changes(zipped: Path, tmp_path: Path) -> None:
    cache, copy = tmp_path / "cache", tmp_path / "copy.zip"
    shutil.copy(zipped, copy)
    here = {"FASTDROP_CACHE_DIR": str(cache)}
    assert_succeeds(run(copy, CALL, **here))
    before = times(cache)
    assert before
    assert_succeeds(run(copy, CALL, **here))
    assert times(cache) == before
    write_zip(copy, edit=(b"0x9E3779B9", b"0x9E3779BB"))
    assert "AssertionError: [" in run(copy, CALL, **here).stderr  # another mask
    assert times(cache).keys() > before.keys()


@pytest.mark.slow
def test_a_zip_file_that_changes_after_its_import_is_not_believed(
    zipped: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.zip"
    shutil.copy(zipped, copy)
    touch = f"""
import os, fastdrop_kernels.cpu.host.driver
os.utime({str(copy)!r}, ns=(0, 0))
"""
    assert_succeeds(run(copy, touch + CALL, FASTDROP_CACHE_DIR=str(tmp_path / "cache")))
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_bytecode_without_sources_has_a_cache(tmp_path: Path) -> None:
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    for folder in FOLDERS:
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder, tree / folder.name, ignore=leave)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-b", str(tree)], check=True)
    for file in tree.rglob("*.py"):
        file.unlink()
    here = {"FASTDROP_CACHE_DIR": str(cache)}
    assert_succeeds(run(tree, CALL, **here))
    before = times(cache)
    assert before
    assert_succeeds(run(tree, CALL, **here))
    assert times(cache) == before


# As some frozen applications do: modules are no files, and __file__ is a name of nothing.
IN_MEMORY = """
import importlib.abc, importlib.util, sys, zipfile
zipped = zipfile.ZipFile(sys.argv[1])
texts = {name: zipped.read(name) for name in zipped.namelist()}

class Loader(importlib.abc.InspectLoader):
    def find_spec(self, name, path=None, target=None):
        place = name.replace(".", "/")
        for file in (place + "/__init__.py", place + ".py"):
            if file in texts:
                return importlib.util.spec_from_loader(
                    name, self, origin="frozen/" + file, is_package=file.endswith("__init__.py")
                )
    def is_package(self, name):
        return name.replace(".", "/") + "/__init__.py" in texts
    def get_source(self, name):
        place = name.replace(".", "/")
        return texts[place + ("/__init__.py" if self.is_package(name) else ".py")].decode()

sys.meta_path.insert(0, Loader())
import fastdrop, fastdrop_kernels
assert not hasattr(fastdrop_kernels, "__file__")
"""


@pytest.mark.slow
def test_modules_that_are_no_files_have_no_cache_and_a_warning_says_so(
    zipped: Path, tmp_path: Path
) -> None:
    here = {"FASTDROP_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": ""}
    warned = WARNED_ONCE.replace('"FASTDROP_CACHE_DIR"', '"cache of compiled kernels"')
    done = run(tmp_path, IN_MEMORY + warned, str(zipped), **here)
    assert "neither files nor in a zip file" in assert_succeeds(done)
    assert not (tmp_path / "cache").exists()


# An application of one file, whose workers import it too.
APPLICATION = """
import multiprocessing
import numpy as np
import fastdrop as fd

def work(key):
    return fd.dropout(np.ones(8, np.float32), 0.5, rng=key).tolist()

def main():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(work, [fd.Key(42)]) == [work(42)] == [[2, 2, 0, 0, 0, 0, 2, 0]]
    print(fd.__file__)
"""


@pytest.mark.slow
def test_an_application_in_a_zip_file_and_its_spawned_workers(zipped: Path, tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", tmp_path / "our application.pyz"
    with zipfile.ZipFile(zipped) as opened:
        opened.extractall(tree)
    (tree / "application.py").write_text(APPLICATION, encoding="utf-8")
    zipapp.create_archive(tree, target, main="application:main")
    elsewhere = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    done = Process([str(target)], elsewhere, tree=tmp_path).finish()
    assert assert_succeeds(done).strip() == os.path.join(target, "fastdrop", "__init__.py")
