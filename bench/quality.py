"""``python -m bench quality``: tests of whether masks are random, judged by their p-values.

It runs the tests of `quality_bits`, `quality_keys` and `quality_values` under fixed keys, so that
a report says the same at every run, and exits with 1 if it rejects the generator. With
``--dieharder`` it puts what that program has printed into results.
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd

from . import common, quality_bits, quality_keys, quality_values, report
from .common import Tell, chosen
from .quality_dieharder import collected
from .quality_plot import drawn_ranks
from .quality_source import Source, key_of
from .quality_statistics import LEVEL, judge
from .results import Row, made

MINUTES = 60.0  # of CPU time
SHORT = 5  # repetitions of each test
# In a minute of CPU time on a Zen 5, November 2026. A number and not the clock, so that a report
# says the same at every run.
PER_MINUTE = 12
_CHUNK = quality_bits.CHUNK


@dataclass(frozen=True)
class Case:
    """A test with what it is of; a repetition looks at some chunks, each of so many elements."""

    name: str
    variant: str
    run: Callable[..., Any]
    chunks: int
    elements: int
    exact: bool = False  # its p-value is 1 or 0


def _of(name: str, run: Any, variants: Sequence[Any], chunks: Any, elements: Any) -> Iterator[Case]:
    """Yield the tests of some variants, which are the function's first argument."""
    for k, variant in enumerate(variants):
        each = chunks[k] if isinstance(chunks, tuple) else chunks
        text = f"{variant:,}" if isinstance(variant, int) else str(variant)
        if isinstance(variant, float):
            text = f"p = {variant:g}" if variant < 1 else f"{variant:g}"
        many = elements[k] if isinstance(elements, tuple) else elements
        yield Case(name, text, functools.partial(run, variant), each, many)


def _cases() -> Iterator[Case]:
    bits, keys, values = quality_bits, quality_keys, quality_values
    side = bits.SIDE**2
    yield from _of("counts", bits.counts, bits.PROBABILITIES, 15, bits.COUNT_CHUNK)
    yield from _of("autocorrelation", bits.autocorrelation, (0.5, 0.1, 0.01), 2, _CHUNK)
    yield from _of("gaps", bits.gaps, (0.1, 0.01, 1e-4), (8, 8, 32), _CHUNK)
    yield from _of("8 elements", bits.octets, (0.5, 0.1), 32, _CHUNK)
    yield Case("16 elements", "p = 0.5", bits.pairs_of_octets, 4, 4 * _CHUNK)
    yield from _of("uniforms", bits.uniforms, bits.UNIFORMS, 8, _CHUNK)
    for p in (0.5, 0.1):
        spectra = functools.partial(_swapped, bits.spectra, p)
        for test in _of("spectra", spectra, bits.ROWS, 6, side):
            yield Case(test.name, f"{test.variant}, p = {p:g}", test.run, test.chunks, side)
    yield Case("nestedness", "11 pairs of p", bits.nested, 8, _CHUNK, exact=True)
    yield from _of("neighbours", keys.neighbours, keys.PAIRS, 64, 2 * keys.LENGTH)
    yield Case("neighbours", "squares of 4 x 4 keys", keys.related, 16, 16 * keys.LENGTH)
    flipped, changed = keys.FLIPPED_ELEMENTS, keys.AVALANCHE_ELEMENTS
    yield from _of("flipped bits", keys.flips, keys.FLIPS, 16, flipped)
    yield from _of("avalanche", keys.avalanche, keys.AVALANCHES, (2, 8), changed)
    yield from _of("moments of normals", values.moments, values.DTYPES, 2, values.CHUNK)
    yield from _of("normals in cells", values.cells, values.DTYPES, 1, values.CHUNK)
    yield Case("tails of normals", "3, 4, 5, both sides", values.tails, 32, values.CHUNK)
    tokens = values.VOCABULARIES
    yield from _of("mask_tokens, vocabulary", values.tokens, tokens, (8, 8, 2), values.CHUNK)
    yield from _of("poisson_weights, mean", values.poisson, values.MEANS, 16, values.CHUNK)
    yield Case("keep_k", "subsets", values.subsets, 8, values.CHUNK)
    yield Case("swap_rows", "permutations, rows", values.permutations, 2, values.CHUNK)


def _swapped(run: Callable[..., Any], second: Any, first: Any, *rest: Any) -> Any:
    return run(first, second, *rest)


CASES = tuple(_cases())
NAMES = tuple(dict.fromkeys(test.name for test in CASES))


def folded(p: float) -> float:
    """Return a p-value so that four digits keep it near 1, too: as it is, or minus 1 - p."""
    return p if p <= 0.5 else -max(1 - p, 5e-324)


def unfolded(value: float) -> float:
    """Return the p-value that was folded."""
    return value if value >= 0 else 1 + value


def _row(test: Case, source: Source, repetitions: int) -> tuple[Row, int]:
    """Repeat a test; returns its row, and how many elements were dropped if it counts them."""
    pvalues, dropped = list[float](), 0
    for number in range(repetitions):
        found = test.run(source, key_of(f"{test.name}, {test.variant}", number), test.chunks)
        if isinstance(found, tuple):
            found, dropped = found[0], dropped + found[1]
        pvalues += found
    verdict = judge(pvalues)
    smallest, uniform, value = *verdict, verdict.value
    if test.exact:
        smallest = uniform = value = min(pvalues)
        pvalues = []
    elements = repetitions * test.chunks * test.elements
    about = {"section": "pvalues", "test": test.name, "variant": test.variant}
    sizes = {"repetitions": repetitions, "elements": elements}
    figures = {"smallest": smallest, "uniform": uniform, "value": value}
    return {**about, **sizes, **figures, "pvalues": [folded(p) for p in pvalues]}, dropped


def _count_row(row: Row, p: float, dropped: int) -> Row:
    """Return how far the number of all dropped elements is from what is expected."""
    n, q = row["elements"], quality_bits.exact(p)
    z = (dropped - n * q) / math.sqrt(n * q * (1 - q))
    return {"section": "counts", "p": p, "elements": n, "dropped": dropped, "z": z}


class _Outcome(NamedTuple):
    """What came of a test: its row, the elements dropped, and the seconds of CPU time."""

    row: Row
    dropped: int
    seconds: float


def _outcome(number: int, source: Source, repetitions: int) -> _Outcome:
    """Repeat the test of a number."""
    start = time.process_time()
    row, dropped = _row(CASES[number], source, repetitions)
    return _Outcome(row, dropped, time.process_time() - start)


def _outcomes(
    numbers: Sequence[int], source: Source, repetitions: int, tell: Tell, jobs: int
) -> list[_Outcome]:
    """Repeat tests in so many processes; each has keys of its own, so their order is no matter."""
    if jobs == 1:
        found = list[_Outcome]()
        for number in numbers:
            tell(f"{CASES[number].name}: {CASES[number].variant}", len(found) / len(numbers))
            found.append(_outcome(number, source, repetitions))
        return found
    context, one_thread = multiprocessing.get_context("spawn"), (1,)
    with ProcessPoolExecutor(jobs, context, fd.set_num_threads, one_thread) as pool:
        waiting = [pool.submit(_outcome, number, source, repetitions) for number in numbers]
        for done, _ in enumerate(as_completed(waiting)):
            tell(f"{done + 1} of {len(numbers)} tests", (done + 1) / len(numbers))
    return [each.result() for each in waiting]


def measure(
    source: Source,
    names: Sequence[str] = NAMES,
    repetitions: int = SHORT,
    tell: Tell = lambda doing, part: None,
) -> list[Row]:
    """Run tests, and return a row for each, one of all, and the counts."""
    wanted = _numbers(names)
    return _rows(wanted, _outcomes(wanted, source, repetitions, tell, 1))


def _numbers(names: Sequence[str]) -> list[int]:
    return [number for number, test in enumerate(CASES) if test.name in names]


def _rows(wanted: Sequence[int], found: Sequence[_Outcome]) -> list[Row]:
    """Return the rows of tests, one of all, and the counts before them."""
    rows, counts = list[Row](), list[Row]()
    probabilities = iter(quality_bits.PROBABILITIES)
    for number, (row, dropped, _) in zip(wanted, found, strict=True):
        test = CASES[number]
        rows.append(row)
        if test.name == "counts":
            counts.append(_count_row(row, next(probabilities), dropped))
    every = [p for row in rows for p in row["pvalues"]]
    if every:
        smallest, uniform = judge([unfolded(p) for p in every])
        about = {"section": "all-pvalues", "number": len(every), "tests": len(rows)}
        figures = {"smallest": smallest, "uniform": uniform, "value": overall(rows, uniform)}
        rows.append({**about, **figures})
    return [*counts, *rows]


def thinned(rows: Sequence[Row]) -> list[Row]:
    """Return rows for a file: p-values by their number, and of all of them those that are drawn."""
    every = np.array([p for row in rows for p in row.get("pvalues", ())])
    every = every[np.lexsort((every, every < 0))]  # rising, see `folded`
    ranks = drawn_ranks(len(every))
    kept: list[Row] = []
    for row in rows:
        new = dict(row)
        if row["section"] == "pvalues":
            new["number"] = len(new.pop("pvalues"))
        elif row["section"] == "all-pvalues":
            new |= {"ranks": ranks.tolist(), "pvalues": every[ranks].tolist()}
        kept.append(new)
    return kept


def overall(rows: Sequence[Row], uniform: float) -> float:
    """Return the p-value of a report: that of the worst test, or of all p-values together."""
    worst: float = min(uniform, *(row["value"] for row in rows))
    return min(1.0, (len(rows) + 1) * worst)


def rejected(rows: Sequence[Row]) -> list[str]:
    """Say what rejects the generator: nothing, if it is sound."""
    tests = [row for row in rows if row["section"] == "pvalues"]
    bound = LEVEL / (len(tests) + 1)
    found = [f"{r['test']}, {r['variant']}: {r['value']:.2g}" for r in tests if r["value"] < bound]
    every = [row for row in rows if row["section"] == "all-pvalues" and row["uniform"] < bound]
    return found + [f"all p-values together: {row['uniform']:.2g}" for row in every]


def main(args: argparse.Namespace) -> int:
    """Run the tests, or read dieharder's; the exit status is 1 if the generator is rejected."""
    if args.dieharder:
        rows, said = collected(args.dieharder)
        report.finish(made(rows, {}, notes=[said]), args, "dieharder")
        return int(any("FAILED" in row["assessments"] for row in rows))
    names = chosen(args.only, NAMES, "test")
    repetitions = max(1, round(PER_MINUTE * (args.minutes or MINUTES)))
    if args.check or args.short:
        repetitions = 1 if args.check else SHORT
    wanted, jobs = _numbers(names), 1 if args.check else fd.get_num_threads()
    with common.progress() as tell:
        found = _outcomes(wanted, Source(), repetitions, tell, jobs)
    rows, seconds = _rows(wanted, found), sum(each.seconds for each in found)
    bad = rejected(rows)
    said = f"The generator is rejected: {'; '.join(bad)}." if bad else "Nothing is rejected."
    settings = {"repetitions": repetitions, "level": LEVEL, "check": args.check}
    notes = [f"{said} It took {seconds:,.0f} s of CPU time."]
    report.finish(made(thinned(rows), settings, notes=notes), args, "quality")
    if bad:
        print(f"bench: {said}", file=sys.stderr)
    return int(bool(bad) and not args.check)
