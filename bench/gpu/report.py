"""Results of a GPU as tables, goals and text, for the terminal and for the README alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..common import HALF, KI, figure, size_label
from ..goals import Goal, Measure, Verdict
from ..report import Table, bytes_label
from ..results import Results, Row, find, rows

FROM_BYTES = 256 << 20  # goals are for arrays of so many bytes and more
ITEMSIZE = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
PASSES = {"forward": 2, "step": 4}  # arrays that must be read or written
TITLES = {"forward": "a forward call", "step": "forward and backward"}
ROOFS = ("copy", "copy-kernel")
NOT_MEASURED = (
    "Nothing has been measured on a GPU yet: `python -m bench gpu` does it, on a machine that has "
    "one with CuPy."
)


def gigabytes(section: str, row: Row) -> float:
    """Gigabytes a second, by the bytes that any dropout has to read and write."""
    moved = PASSES[section] * ITEMSIZE[row["dtype"]] * row["elements"]
    return moved / row["seconds"] / 1e9


def _table(
    results: Results, section: str, dtype: str, title: str, note: str, cell: Callable[[Row], str]
) -> Table | None:
    found = [row for row in rows(results, section) if row["dtype"] == dtype]
    columns = sorted({row["elements"] for row in found})
    lines = []
    for name, entrant in results["contenders"].items():
        mine = {row["elements"]: cell(row) for row in found if row["contender"] == name}
        if mine:
            lines.append([entrant["label"], *(mine.get(n, "") for n in columns)])
    head = ["elements", *map(size_label, columns)]
    return Table(title, head, lines, note) if lines else None


def ratios(results: Results, section: str, dtype: str) -> Table | None:
    """Return rates as parts of the copy's."""
    return _table(
        results,
        section,
        dtype,
        f"{dtype}, {TITLES[section]}: rate, relative to copying",
        "1.00 is as fast as cudaMemcpyAsync within the device, which reads and writes the same "
        "memory and draws nothing; higher is faster. Medians over rounds of the ratio within a "
        "round; none of the inputs is in the L2 cache.",
        lambda row: figure(1 / row["ratio"]),
    )


def rates(results: Results, section: str, dtype: str) -> Table | None:
    """Return gigabytes a second."""
    return _table(
        results,
        section,
        dtype,
        f"{dtype}, {TITLES[section]}: gigabytes a second",
        "By the bytes that any dropout has to read and write, whatever a contender moves beside "
        "them; higher is faster.",
        lambda row: figure(gigabytes(section, row)),
    )


def launches(results: Results) -> Table | None:
    """Return what a call takes on the host."""
    lines = [
        [results["contenders"][row["contender"]]["label"], figure(row["seconds"] * 1e6)]
        for row in rows(results, "launch")
    ]
    note = (
        f"{size_label(64 * KI)} float32 elements, calls made in a row from Python, by the host's "
        "clock until the last is done."
    )
    return Table("Microseconds a call", ["contender", "us"], lines, note) if lines else None


def memory(results: Results) -> Table | None:
    """Return what is kept between forward and backward."""
    lines = [
        [results["contenders"][row["contender"]]["label"], bytes_label(row["traced"])]
        for row in results["memory"]
    ]
    note = "Beyond the output, by the allocator of each library: bytes an element, float32."
    return Table("Kept for the backward", ["contender", "bytes"], lines, note) if lines else None


def tables(results: Results) -> list[tuple[Table, bool]]:
    """Return all tables, the ratios first, and whether each is to be folded in the README."""
    found: list[tuple[Table | None, bool]] = []
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows(results, "forward")))
    for table, folded in ((ratios, False), (rates, True)):
        for section in PASSES:
            for dtype in dtypes:
                usual = dtype in ("bfloat16", "float32")
                found.append((table(results, section, dtype), folded or not usual))
    found += [(launches(results), False), (memory(results), False)]
    return [(table, folded) for table, folded in found if table]


def _large(results: Results, section: str, dtype: str) -> list[int]:
    sizes = {row["elements"] for row in rows(results, section) if row["dtype"] == dtype}
    return sorted(n for n in sizes if n * ITEMSIZE[dtype] >= FROM_BYTES)


def _part_of_copy(section: str, dtype: str, results: Results) -> float | None:
    """Rate relative to the faster of both copies: the least from FROM_BYTES on."""
    parts = []
    for n in _large(results, section, dtype):
        mine = find(results, section, "fastdrop", n, dtype=dtype)
        roofs = [row for name in ROOFS if (row := find(results, section, name, n, dtype=dtype))]
        if mine and roofs:
            parts.append(min(row["ratio"] for row in roofs) / mine["ratio"])
    return min(parts, default=None)


def _lead(section: str, dtype: str, peer: str, results: Results) -> float | None:
    """How many times slower a peer is: the least from FROM_BYTES on."""
    leads = []
    for n in _large(results, section, dtype):
        mine = find(results, section, "fastdrop", n, dtype=dtype)
        other = find(results, section, peer, n, dtype=dtype)
        if mine and other:
            leads.append(other["ratio"] / mine["ratio"])
    return min(leads, default=None)


def _launch(results: Results) -> float | None:
    row = find(results, "launch", "fastdrop", 64 * KI)
    return row["seconds"] * 1e6 if row else None


def _kept(results: Results) -> float | None:
    ours = [r["traced"] for r in results["memory"] if r["contender"].startswith("fastdrop")]
    return max((value for value in ours if value is not None), default=None)


def _goal(text: str, unit: str, limit: float, measure: Measure) -> Goal[Results]:
    return Goal(text, unit, limit, measure, at_least=True)


GOALS = (
    *(
        _goal(
            f"{dtype} from 256 MiB up, rate over the faster copy's, the least",
            "",
            0.92,
            partial(_part_of_copy, "forward", dtype),
        )
        for dtype in (*HALF, "float32")
    ),
    *(
        _goal(
            f"torch F.dropout slower than fastdrop, bfloat16, {TITLES[section]}, least lead",
            " times",
            1.25,
            partial(_lead, section, "bfloat16", "torch"),
        )
        for section in PASSES
    ),
    *(
        _goal(
            f"the CuPy idiom slower than fastdrop, {dtype}, least lead",
            " times",
            5.0,
            partial(_lead, "forward", dtype, "cupy"),
        )
        for dtype in ("float16", "float32")
    ),
    Goal("a call at 64 Ki elements, from Python", " us", 10.0, _launch),
    Goal("kept between forward and backward", " bytes an element", 0.0, _kept),
)


def judge(results: Results) -> list[Verdict]:
    """Compare every goal with the results."""
    return [Verdict(goal, goal.measure(results)) for goal in GOALS]


def losses(results: Results) -> list[str]:
    """Say where a peer is faster than fastdrop."""
    lines = []
    labels = results["contenders"]
    for section in PASSES:
        for row in rows(results, section):
            mine = find(results, section, "fastdrop", row["elements"], dtype=row["dtype"])
            if labels[row["contender"]]["role"] == "peer" and mine:
                factor = mine["ratio"] / row["ratio"]
                if factor > 1.02:
                    lines.append(
                        f"{row['dtype']}, {TITLES[section]}, {size_label(row['elements'])}: "
                        f"{labels[row['contender']]['label']} is {figure(factor)} times as fast."
                    )
    peers = any(entrant["role"] == "peer" for entrant in labels.values())
    return lines or (["No peer is faster than fastdrop at any size measured."] if peers else [])


def machine(results: Results) -> str:
    """Describe GPU, driver, versions and date in a line."""
    about, versions = results["hardware"], results["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    driver = f"driver {about['driver']}, " if about.get("driver") else ""
    return (
        f"Measured {results['date'][:10]} on one {about['gpu']}, {about['memory_gib']} GiB, L2 "
        f"{about['l2_kib']} KiB, {driver}CUDA {about['cuda_runtime']}, {about['os']}; {packages}."
    )


def text(table: Table) -> str:
    """Write a table for a terminal."""
    columns = list(zip(table.head, *table.rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    lines = [table.title]
    for line in (table.head, *table.rows):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join([*lines, f"  {table.note}"])
