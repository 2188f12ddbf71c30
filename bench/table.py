"""What results are shown as, in the terminal and in the README."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and a sentence on how to read them."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str
