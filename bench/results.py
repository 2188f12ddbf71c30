"""The results file: its schema, and reading and writing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from .common import BenchError

SCHEMA = 2


class Row(TypedDict):
    """One contender at one size: seconds a call and ratio to the base, medians and quartiles."""

    contender: str
    dtype: str
    variant: str
    elements: int
    seconds: float
    q1: float
    q3: float
    base: str
    ratio: float
    ratio_q1: float
    ratio_q3: float
    rounds: int
    calls: int


class MemoryRow(TypedDict):
    """Bytes an element that a contender takes; None where unseen.

    `measure` is what was measured: "forward", the peak of a call beyond an output like x; "step",
    the peak of forward and backward beyond an output and a gradient; "kept", what is held between
    them beyond the output.
    """

    contender: str
    dtype: str
    elements: int
    measure: str
    traced: float | None
    resident: float | None


class ProfileRow(TypedDict):
    """A step on the way from call to kernel: seconds alone, and without the steps below it."""

    elements: int
    step: str
    depth: int
    seconds: float
    own: float


class Entrant(TypedDict):
    """How tables show a contender."""

    label: str
    role: str


class Versioned(TypedDict):
    """What every results file begins with."""

    schema: int


class Conditions(TypedDict):
    """When, with what, on what, and how something was measured."""

    date: str
    versions: dict[str, str | None]
    hardware: dict[str, str | int | float | None]
    settings: dict[str, Any]


class Measured(Versioned, Conditions):
    """What results files say of which all was measured at once."""


class Results(Measured):
    """A whole results file; `timings` has the rows of each section."""

    notes: list[str]
    contenders: dict[str, Entrant]
    timings: dict[str, list[Row]]
    memory: list[MemoryRow]
    profile: list[ProfileRow]


def rows(results: Results, section: str) -> list[Row]:
    """Return the rows of a section, none where it was not run."""
    return results["timings"].get(section, [])


def find(
    results: Results,
    section: str,
    contender: str,
    elements: int,
    *,
    dtype: str = "float32",
    variant: str = "",
) -> Row | None:
    """Return the row of a contender at a size, if it was measured."""
    wanted = (contender, elements, dtype, variant)
    for row in rows(results, section):
        if (row["contender"], row["elements"], row["dtype"], row["variant"]) == wanted:
            return row
    return None


def sizes(results: Results, section: str = "forward") -> list[int]:
    """List the sizes measured, in rising order."""
    return sorted({row["elements"] for row in rows(results, section)})


def _rounded(value: Any) -> Any:
    """Four significant digits for floats: more is noise, and the file stays small."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def _json(value: Any, indent: str) -> str:
    """Write mappings and lists over several lines, but what is in a list on a line each."""
    deeper = indent + " "
    if isinstance(value, list) and value:
        lines = ",\n".join(deeper + json.dumps(item) for item in value)
        return f"[\n{lines}\n{indent}]"
    if isinstance(value, dict) and value:
        lines = ",\n".join(f"{deeper}{json.dumps(k)}: {_json(v, deeper)}" for k, v in value.items())
        return f"{{\n{lines}\n{indent}}}"
    return json.dumps(value)


def dumps(results: Mapping[str, object]) -> str:
    """Write results as JSON with one line a row, so that a diff shows what moved."""
    return _json(_rounded(results), "") + "\n"


def save(results: Mapping[str, object], path: Path) -> None:
    """Write a results file, making its folder where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dumps(results), encoding="utf-8")


def read(path: Path, expected: int, command: str) -> Any:
    """Return what a file of a schema holds.

    Raises
    ------
    BenchError
        Where it is missing, is not JSON, or has another schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError(f"no results in {path}; {command} writes them") from None
    except IsADirectoryError:
        raise BenchError(f"{path} is a folder, not a results file") from None
    except ValueError as error:
        raise BenchError(f"{path} is not JSON: {error}") from error
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != expected:
        raise BenchError(f"{path} has results schema {schema!r}; this code reads {expected}")
    return data


def load(path: Path) -> Results:
    """Read a results file.

    Raises
    ------
    BenchError
        Where it is missing, is not JSON, has another schema version, or lacks something.
    """
    data = read(path, SCHEMA, "python -m bench")
    check_keys(path, "the file", data, Results)
    parts: list[tuple[str, Any, Any]] = [
        ("memory", data["memory"], MemoryRow),
        ("profile", data["profile"], ProfileRow),
        *((f"timings.{name}", found, Row) for name, found in data["timings"].items()),
    ]
    for name, found, kind in parts:
        for number, row in enumerate(found):
            check_keys(path, f"{name}[{number}]", row, kind)
            if kind is not ProfileRow and row["contender"] not in data["contenders"]:
                raise BenchError(f"{path}: {name}[{number}] names no contender of the file")
    results: Results = data
    return results


def check_keys(path: Path, where: str, given: Any, kind: Any) -> None:
    """Raise a BenchError unless a mapping has the keys of a TypedDict, and no others."""
    expected, found = set(kind.__annotations__), set(given) if isinstance(given, dict) else set()
    if expected != found:
        missing, foreign = sorted(expected - found), sorted(found - expected)
        raise BenchError(f"{path}: {where} lacks {missing} and has {foreign} that nobody knows")
