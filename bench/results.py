"""The results file: its format, reading and writing it.

All commands write one format: the conditions, the contenders, and rows, each of a section. The
report, the goals, the plots and the comparison read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, cast

from .common import BenchError, conditions, identity

SCHEMA = 3

Row: TypeAlias = dict[str, Any]

_TIMED = "contender variant dtype elements base seconds q1 q3 rounds ratio ratio_q1 ratio_q3"
# The keys of a section's rows, beside `section`. Times are seconds, and medians where nothing else
# is said; `ratio` is to `base` in the same rounds. Memory is bytes an element; in
# `steps` and `kept` it is bytes.
KEYS = {
    # `goal` is how many times as fast as this contender ours is meant to be; 0 is none.
    "batch": f"family {_TIMED} goal",
    "memory": "contender dtype elements measure bytes",
    "loops": "loop dtype variant steps step step_q1 step_q3 ratio dropout share elements masks "
    "kept activations",
    "steps": "loop variant seconds q1 q3 rounds ratio ratio_q1 ratio_q3 share kept peak",
    "kept": "contender dtype elements bytes",
    # `seconds` and `bytes` of a block there; `block` is in bytes, and `peak` and `before`
    # too; `cpu` is seconds of all processes.
    "dask-graph": "contender dtype elements blocks seconds bytes",
    "dask": f"{_TIMED} block cpu peak before",
    "dask-checksum": "elements chunks blocks checksum",
    "dask-constants": "contender dtype elements block workers start scheduler call bandwidth",
    "dask-model": "contender dtype elements block blocks predicted measured",
    "start": "first cache samples median worst call",
    "latency": "elements busy threads calls median p99 worst",
    # At a time: bytes and numbers of the process that calls. Memory grows with kernels, by so many
    # bytes each, of which some are compiled and others loaded; `growth` is that of an hour besides.
    "endure": "seconds resident threads files calls at_rest kernels compiled",
    "endure-calls": "function times",
    "endure-events": "event times",
    "endure-total": "seconds calls elements events resident at_rest kernels compiled loaded_bytes "
    "compiled_bytes growth threads files",
    # `compared` elements were compared with the reference one by one, the others by a checksum.
    "endure-large": "call dtype elements bytes compared seconds",
    "steady": "dtype elements processes seconds ratios",
    # Of `ratio`, the time of shutil.copyfile is the numerator: it is of speeds. Memory is MiB.
    "files": "way cached gib rounds seconds worst synced ratio anonymous",
    # Lists have an item for each checkout, but `faster` one for each pass.
    "layouts": "layout elements seconds rate multiply faster",
    # A p-value near 1 is given as what it lacks, negated: four digits are not enough there.
    # Of all p-values in rising order, those at `ranks` are kept, as `quality.folded` has them.
    "pvalues": "test variant repetitions elements smallest uniform value number",
    "all-pvalues": "number tests smallest uniform value ranks pvalues",
    "counts": "p elements dropped z",
    "dieharder": "test samples repetitions ntuples pvalues assessments",
    # For a group of 16 bytes of the output; registers of a thread, `shared` bytes of a block.
    "instructions": "function dtype p kernel instructions classes registers spilled shared "
    "occupancy bytes",
}


class Results(TypedDict):
    """What a results file holds; `contenders` has label and role of each by name."""

    schema: int
    date: str
    versions: dict[str, str | None]
    hardware: dict[str, Any]
    settings: dict[str, Any]
    notes: list[str]
    contenders: dict[str, dict[str, str]]
    rows: list[Row]


def made(
    rows: Iterable[Row],
    settings: dict[str, Any],
    contenders: dict[str, dict[str, str]] | None = None,
    notes: Iterable[str] = (),
) -> Results:
    """Return results that were measured now and here."""
    more = {"notes": list(dict.fromkeys(notes)), "contenders": contenders or {}, "rows": list(rows)}
    return {"schema": SCHEMA, **conditions(settings), **more}  # type: ignore[typeddict-item]


def rows(results: Results, section: str, **wanted: Any) -> list[Row]:
    """Return the rows of a section that have these values."""
    wanted["section"] = section
    return [row for row in results["rows"] if all(row.get(k) == v for k, v in wanted.items())]


def place(row: Row) -> str:
    """Return the id of a row's contender."""
    return identity(row["contender"], row["dtype"], row["variant"])


def sizes(results: Results, section: str = "forward") -> list[int]:
    """List the sizes measured, in rising order."""
    return sorted({row["elements"] for row in rows(results, section)})


def _rounded(value: Any) -> Any:
    """Four significant digits for floats: more is noise, and the file stays small."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def save(results: Results, path: Path) -> None:
    """Write a results file, one line a row, so that a diff shows what moved."""
    given = _rounded(results)
    lines = ",\n".join("  " + json.dumps(row) for row in given["rows"])
    head = json.dumps({**given, "rows": []}, indent=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head.removesuffix("[]\n}") + f"[\n{lines}\n ]\n}}\n", encoding="utf-8")


def load(path: Path) -> Results:
    """Read a results file; a BenchError says what of it is missing or unknown."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"no results in {path} ({error})") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise BenchError(f"{path} has no results of schema {SCHEMA}, which this code reads")
    if set(data) != set(Results.__annotations__):
        raise BenchError(f"{path} has {sorted(data)}, not {sorted(Results.__annotations__)}")
    for number, row in enumerate(data["rows"]):
        keys = {"section", *KEYS.get(row.get("section"), _TIMED).split()}
        if wrong := sorted(keys ^ set(row)):
            raise BenchError(f"{path}: row {number} has or lacks what others do not: {wrong}")
        if row.get("contender", "") not in {*data["contenders"], ""}:
            raise BenchError(f"{path}: row {number} is of {row['contender']!r}, which is unknown")
    return cast(Results, data)
