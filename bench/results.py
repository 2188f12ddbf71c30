"""The results file: its schema, and reading and writing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from .common import BenchError

SCHEMA = 1


class Row(TypedDict):
    """One contender at one size: seconds a call, quartiles, ratio to the roof, sample counts."""

    contender: str
    dtype: str
    elements: int
    seconds: float
    q1: float
    q3: float
    ratio: float
    rounds: int
    calls: int


class MemoryRow(TypedDict):
    """Extra bytes per element of one call beyond an output like x; None where unseen."""

    contender: str
    dtype: str
    elements: int
    traced: float | None
    resident: float | None


class Entrant(TypedDict):
    """How tables show a contender."""

    label: str
    role: str


class Results(TypedDict):
    """A whole results file."""

    schema: int
    date: str
    versions: dict[str, str | None]
    hardware: dict[str, str | int | float | None]
    settings: dict[str, Any]
    notes: list[str]
    contenders: dict[str, Entrant]
    rows: list[Row]
    memory: list[MemoryRow]


def find(results: Results, contender: str, elements: int) -> Row | None:
    """Return the row of a contender at a size, if it was measured."""
    for row in results["rows"]:
        if row["contender"] == contender and row["elements"] == elements:
            return row
    return None


def sizes(results: Results) -> list[int]:
    """List the sizes measured, in rising order."""
    return sorted({row["elements"] for row in results["rows"]})


def _rounded(value: Any) -> Any:
    """Four significant digits for floats: more is noise, and the file stays small."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def dumps(results: Results) -> str:
    """Write results as JSON with one line a row, so that a diff shows what moved."""
    parts = []
    for key, value in _rounded(results).items():
        if isinstance(value, list) and value:
            lines = ",\n".join("  " + json.dumps(item) for item in value)
            parts.append(f" {json.dumps(key)}: [\n{lines}\n ]")
        elif isinstance(value, dict) and value:
            lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            parts.append(f" {json.dumps(key)}: {{\n{lines}\n }}")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def save(results: Results, path: Path) -> None:
    """Write a results file, making its folder where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(results), encoding="utf-8")


def load(path: Path) -> Results:
    """Read a results file.

    Raises
    ------
    BenchError
        Where it is missing, is not JSON, or has another schema version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"no results in {path}; python -m bench writes them") from None
    except ValueError as error:
        raise BenchError(f"{path} is not JSON: {error}") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise BenchError(f"{path} has results schema {schema!r}; this code reads {SCHEMA}")
    results: Results = data
    return results
