"""The programs in docs/contract.md draw the masks that fastdrop draws."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract

from .pages import ROOT, blocks

PAGE = ROOT / "docs" / "contract.md"
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the source tree is not here")

# Seed, stream, p, first index, elements: all words of key and counter, and both ends of p.
CASES = [
    (42, 0, 0.5, 0, 1000),
    (2**64 - 1, 2**63 + 5, 0.1, 12_345, 300_000),
    (5, 2**31, 0.3, 2**35 - 100, 1000),
    (5, 9, 0.3, 2**62, 1000),
    (7, 3, 0.0, 0, 50),
    (7, 3, 1 - 2**-40, 0, 50),
    (7, 3, 1.0, 0, 50),
]


def program(language: str, containing: str) -> str:
    (text,) = (b.text for b in blocks(PAGE) if b.language == language and containing in b.text)
    return text


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("there is no gcc")
    folder = tmp_path_factory.mktemp("redrawn")
    (folder / "mask.c").write_text(program("c", "main"), encoding="utf-8")
    options = ["-std=c99", "-O2", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    subprocess.run(
        [gcc, *options, "-o", "mask", "mask.c", "-lm"], cwd=folder, check=True, timeout=120
    )
    return folder / "mask"


def drawn_by(c_program: Path, *arguments: object) -> str:
    return subprocess.run(
        [c_program, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=60
    ).stdout.rstrip("\n")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_c_program_draws_the_mask(
    case: tuple[int, int, float, int, int], c_program: Path
) -> None:
    seed, stream, p, first, n = case
    expected = fd.dropout_mask(n, p, rng=fd.Key(seed, stream), offset=first)
    drawn = drawn_by(c_program, seed, stream, p.hex(), first, n)
    np.testing.assert_array_equal(np.frombuffer(drawn.encode(), np.uint8) == ord("1"), expected)


def test_the_cases_have_ties() -> None:
    seed, stream, p, first, n = CASES[1]
    index = np.arange(first, first + n, dtype=np.uint64)
    halves = contract.half(np.uint64(seed), np.uint64(stream), index, np.uint64(0))
    assert (halves == contract.threshold(p) >> 16).any()


def test_the_call_that_the_page_shows_gives_what_it_shows(c_program: Path) -> None:
    shown = re.search(r"^\$ \./mask (.*)\n([01]+)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert shown
    assert drawn_by(c_program, *shown[1].split()) == shown[2]


TRITON_CHECK = """
import numpy as np
import torch

import fastdrop as fd
from redrawn import dropout

rng = np.random.default_rng(0)
for seed, stream, p, n in {cases}:
    x = rng.standard_normal(n).astype(np.float32)
    y = dropout(torch.from_numpy(x), p, seed, stream).numpy()
    expected = fd.dropout(x, p, rng=fd.Key(seed, stream))
    assert np.array_equal(y.view(np.uint32), expected.view(np.uint32)), (seed, stream, p)
print("the same")
"""


def test_the_triton_kernel_draws_the_mask_in_the_interpreter(tmp_path: Path) -> None:
    for name in ("torch", "triton"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    (tmp_path / "redrawn.py").write_text(program("python", "triton.jit"), encoding="utf-8")
    cases = [(s, t, p, min(n, 20_000)) for s, t, p, _, n in CASES]
    paths = [tmp_path, ROOT, ROOT / "kernels", os.environ.get("PYTHONPATH", "")]
    run = subprocess.run(
        [sys.executable, "-c", TRITON_CHECK.format(cases=cases)],
        env={
            **os.environ,
            "TRITON_INTERPRET": "1",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.stdout == "the same\n", run.stderr
