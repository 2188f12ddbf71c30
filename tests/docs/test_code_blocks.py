"""Every Python block of the README and of docs/ runs, a page's blocks one after the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd

from .pages import PAGES, blocks

pytestmark = pytest.mark.skipif(not PAGES, reason="the source tree is not here")


@pytest.fixture(autouse=True)
def global_settings() -> Iterator[None]:
    """Pages may set the number of threads, and draw from NumPy's and torch's global states."""
    threads, state = fd.get_num_threads(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    of_torch = torch.get_rng_state() if torch else None
    yield
    fd.set_num_threads(threads)
    np.random.set_state(state)  # noqa: NPY002
    if torch:
        torch.set_rng_state(of_torch)


NEEDS = {"torch": ["torch"], "dask": ["dask"], "files": ["zarr", "h5py"]}  # of other libraries


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path) -> None:
    for name in NEEDS.get(page.stem, ()):
        pytest.importorskip(name, reason=f"{page.name} needs {name}")
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language == "python":
            # Tracebacks name the line of the page.
            code = compile("\n" * block.line + block.text, page.name, "exec")
            if block.not_run is None:
                exec(code, namespace)


def test_the_pages_have_blocks_that_run() -> None:
    run = {
        page.stem
        for page in PAGES
        for b in blocks(page)
        if b.language == "python" and not b.not_run
    }
    assert run >= {
        "README",
        "contract",
        "dropout",
        "files",
        "functions",
        "processes",
        "recipes",
        "torch",
    }


def test_the_language_of_every_block_is_known() -> None:
    # A block of Python under another name would not be run, and nobody would notice.
    languages = {block.language for page in PAGES for block in blocks(page)}
    assert languages <= {"", "c", "diff", "python"}
    unnamed = [b.text for page in PAGES for b in blocks(page) if b.language == ""]
    assert not [text for text in unnamed if "import " in text or "fd." in text]
