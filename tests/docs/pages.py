"""Markdown pages of the source tree, taken apart: headings, links and blocks of code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in (
        *(ROOT / "docs").glob("*.md"),
        *map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md")),
    )
    if page.exists()
)
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*")


class Block(NamedTuple):
    """A fenced block: its language, its text, the line it begins on, and why it is not run."""

    language: str
    text: str
    line: int
    not_run: str | None


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("gfm-like", {"linkify": False}).parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> list[Block]:
    found, before = [], ""
    for token in tokens(page):
        if token.type == "fence":
            assert token.map is not None
            mark = _NOT_RUN.fullmatch(before)
            reason = mark[1] if mark else None
            found.append(Block(token.info, token.content, token.map[0] + 1, reason))
        before = token.content if token.type == "html_block" else ""
    return found


def _inline(page: Path) -> Iterator[tuple[Token, list[Token]]]:
    """Every piece of running text, with the token before it."""
    previous = None
    for token in tokens(page):
        if token.type == "inline":
            assert previous is not None
            yield previous, token.children or []
        previous = token


def links(page: Path) -> list[str]:
    """Where links lead, and where pictures are."""
    children = [child for _, inline in _inline(page) for child in inline]
    given = [child.attrGet("href") or child.attrGet("src") for child in children]
    return [str(target) for target in given if target is not None]


def code_spans(page: Path) -> list[str]:
    """What is written as code in running text."""
    return [
        child.content
        for _, inline in _inline(page)
        for child in inline
        if child.type == "code_inline"
    ]


def anchors(page: Path) -> set[str]:
    """What GitHub names the headings of a page."""
    seen: Counter[str] = Counter()
    names = set()
    for opening, inline in _inline(page):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline).lower()
            name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            names.add(f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1
    return names
