"""What dieharder has printed of a stream of ``python -m fastdrop bits``, as rows of results.

`quality` calls `collected` for its option ``--dieharder``.
"""

from __future__ import annotations

import re
from pathlib import Path

from .common import BenchError
from .results import Row

_LINE = re.compile(
    r"\s*(\w+)\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|\s*(\d+)\s*\|\s*([\d.]+)\s*\|\s*(PASSED|WEAK|FAILED)\s*"
)


def collected(file: Path) -> tuple[list[Row], str]:
    """Return a row for each test in the output of dieharder, and a sentence on all of them."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(f"no output of dieharder in {file} ({error})") from None
    rows: dict[tuple[str, ...], Row] = {}
    for line in text.splitlines():
        if match := _LINE.fullmatch(line):
            name, ntuple, samples, repeats, p, assessment = match.groups()
            about = {"section": "dieharder", "test": name, "samples": int(samples)}
            empty = {"repetitions": int(repeats), "ntuples": [], "pvalues": []}
            row = rows.setdefault((name, samples, repeats), {**about, **empty, "assessments": []})
            row["ntuples"].append(int(ntuple))
            row["pvalues"].append(float(p))
            row["assessments"].append(assessment)
    if not rows:
        raise BenchError(f"{file} has no line of a result of dieharder")
    every = [assessment for row in rows.values() for assessment in row["assessments"]]
    weak, failed = every.count("WEAK"), every.count("FAILED")
    version = re.search(r"dieharder version (\S+)", text)
    said = f"dieharder {version[1] if version else '(of an unknown version)'}"
    return [*rows.values()], f"{said}: {len(every)} p-values, {weak} weak, {failed} failed."
