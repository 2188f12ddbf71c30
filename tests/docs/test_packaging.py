"""Promises of the package: what importing costs, what it holds, and that its documents are true."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdrop
import fastdrop_kernels

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    *("numba", "llvmlite", "cupy", "dask", "torch", "jax", "tensorflow", "scipy", "matplotlib"),
    *("zarr", "h5py"),
)


def _python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_importing_it_imports_none_of_the_heavy_libraries() -> None:
    out = _python(
        f"import sys, json, fastdrop;print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    assert json.loads(out) == []


def test_importing_it_imports_little_beyond_numpy() -> None:
    # A count, not a time: timed tests fail on busy machines. The few are its own and the standard
    # library's; numpy.random, numpy.ma and concurrent.futures would be felt.
    out = _python(
        "import sys, json, numpy; before = set(sys.modules); import fastdrop;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    added = json.loads(out)
    assert not {"numpy.random", "numpy.ma", "concurrent.futures", "numpy.testing"} & set(added)
    ours = [m for m in added if m.partition(".")[0] in ("fastdrop", "fastdrop_kernels")]
    # An editable install's finder, where there is one, has imported importlib.util before.
    assert len(set(added) - {*ours, "importlib.util"}) <= 12, added


def test_everything_public_is_there_and_documented() -> None:
    for name in fastdrop.__all__:
        assert getattr(fastdrop, name).__doc__, name


@pytest.mark.parametrize(
    "module",
    [
        "_functions.alpha",
        "_functions.drop_block",
        "_functions.dropout",
        "_functions.gaussian",
        "_blocks.apply",
        "_check.key",
        "_layers.elementwise",
        "_mask.mask",
        "_functions.monte_carlo",
        "_layers.rnn",
        "_tools.threads",
        "_functions.structured",
    ],
)
def test_the_examples_of_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(
        importlib.import_module(f"fastdrop.{module}"),
        extraglobs={"fd": fastdrop, "np": np, "Key": fastdrop.Key},
    )
    assert result.failed == 0


def test_type_information_is_shipped() -> None:
    for package in (fastdrop, fastdrop_kernels):
        assert package.__file__ is not None
        assert (Path(package.__file__).parent / "py.typed").exists()


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the source tree is not here")
def test_versions_agree() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{fastdrop.__version__}"' in text
    assert f"## {fastdrop.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the source tree is not here")
def test_the_long_description_shows_no_picture_or_page_that_an_index_has_not() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text: str = runpy.run_path(str(ROOT / "setup.py"))["long_description"](readme)
    assert "](docs/" in readme and "![" in readme
    assert not re.search(r"!\[|<!--|\]\((?!https?://)", text)
    assert "`docs/dropout.md`" in text  # a page is still named
    assert set(re.findall("^#.*$", readme, re.M)) == set(re.findall("^#.*$", text, re.M))


@pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="the source tree is not here")
def test_every_text_that_names_an_install_names_ours() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^name = "fastdrop-kernels"$', text, re.MULTILINE)
    extras = re.search(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.DOTALL | re.MULTILINE
    )
    assert extras
    known = set(re.findall(r"^([a-z0-9-]+) = \[", extras[1], re.MULTILINE))
    assert known >= {"test", "bench", "examples", "cuda12", "cuda13"}
    files = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml", ".ci/run")]
    for folder in ("fastdrop", "kernels", "bench", "tests", "docs"):
        files += sorted(
            path for kind in ("py", "md") for path in (ROOT / folder).rglob(f"*.{kind}")
        )
    seen = 0
    for path in filter(Path.exists, files):
        # PyPI's fastdrop is another project: no text may send anybody there.
        for name, named in re.findall(
            r"(?<![\w./-])([\w-]*)\[([a-z0-9,-]+)\](?=[\'\"`])", path.read_text(encoding="utf-8")
        ):
            if name.startswith("fastdrop"):
                assert name == "fastdrop-kernels", (path, name)
                assert set(named.split(",")) <= known, (path, named)
                seen += 1
    assert seen >= 5
