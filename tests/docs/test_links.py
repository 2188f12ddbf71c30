"""Links between pages, to files of the tree and to headings lead somewhere. Nothing is fetched."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from .pages import PAGES, ROOT, anchors, code_spans, links

pytestmark = pytest.mark.skipif(not PAGES, reason="the source tree is not here")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


FOLDERS = ("fastdrop", "kernels", "tests", "bench", "docs")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_and_folders_that_are_named_are_there(page: Path) -> None:
    tree = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    there = [f"/{path.relative_to(ROOT).as_posix()}{'/' * path.is_dir()}" for path in tree]
    there += [f"/{folder}/" for folder in FOLDERS]
    for name in code_spans(page):
        if re.fullmatch(r"[\w./]+(\.py|\.cuh|\.md|\w/)", name):
            found = any(path.endswith(f"/{name}") for path in there)
            assert found or (ROOT / name).exists(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_modules_that_are_to_be_run_are_there(page: Path) -> None:
    for name in re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")):
        if name != "mpi4py":  # which is optional
            assert find_spec(name), f"{page.name} says python -m {name}"


def test_the_readme_links_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    assert {f"docs/{page.name}" for page in PAGES if page.parent == ROOT / "docs"} <= linked


def test_a_page_that_has_links_is_found_to_have_them() -> None:
    assert "docs/contract.md" in links(ROOT / "README.md")
    assert "fdmask" in anchors(ROOT / "docs" / "functions.md")
