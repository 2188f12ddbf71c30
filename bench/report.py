"""Results as tables and sentences, for the terminal and for the README alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .common import figure, size_label
from .contenders import ROOF
from .results import Results, Row, find, sizes

# Differences smaller than this are noise on a shared machine, not a loss.
NOISE = 1.05


@dataclass(frozen=True)
class Table:
    """A title, column heads, rows of text, and a sentence on how to read them."""

    title: str
    head: list[str]
    rows: list[list[str]]
    note: str


def _by_size(results: Results, title: str, note: str, cell: Callable[[Row], str]) -> Table:
    columns = sizes(results)
    rows = []
    for name, entrant in results["contenders"].items():
        found = [find(results, name, elements) for elements in columns]
        rows.append([entrant["label"], *(cell(row) if row else "" for row in found)])
    return Table(title, ["elements", *map(size_label, columns)], rows, note)


def ratios(results: Results) -> Table:
    """Time of a call over the roof's."""
    return _by_size(
        results,
        "Time of a call, relative to multiplying by a constant",
        f"1.00 is as fast as {ROOF.label} by one thread, which reads and writes the same memory "
        "and draws nothing; lower is faster. Each is the median over rounds of the ratio within a "
        f"round. float32, p = {results['settings']['p']:g}.",
        lambda row: figure(row["ratio"]),
    )


def times(results: Results) -> Table:
    """Microseconds of a call."""
    return _by_size(
        results,
        "Microseconds a call",
        "Median over rounds; lower is faster.",
        lambda row: figure(row["seconds"] * 1e6),
    )


def throughput(results: Results) -> Table:
    """Elements a nanosecond."""
    return _by_size(
        results,
        "Billions of elements a second",
        "Higher is faster.",
        lambda row: figure(row["elements"] / row["seconds"] / 1e9),
    )


def memory(results: Results) -> Table | None:
    """Extra memory of a call, where it was measured."""
    if not results["memory"]:
        return None

    def cell(value: float | None) -> str:
        # Slightly below zero is the grain of the kernel's page counts.
        return "not seen" if value is None else f"{abs(value) if value > -0.005 else value:.2f}"

    rows = [
        [
            results["contenders"][row["contender"]]["label"],
            cell(row["traced"]),
            cell(row["resident"]),
        ]
        for row in results["memory"]
    ]
    return Table(
        "Memory beyond the output, bytes an element",
        ["peak of one call", "tracemalloc", "resident set"],
        rows,
        f"{size_label(results['memory'][0]['elements'])} elements, each contender in a fresh "
        "process. The output is one float32 array; buffers kept between calls count. tracemalloc "
        "sees what Python and NumPy allocate, the resident set all.",
    )


def _listing(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


def _slower(results: Results, ours: str, other: str) -> str:
    """List the sizes at which `other` beats `ours`, with the factor at each."""
    found = []
    for elements in sizes(results):
        mine, theirs = find(results, ours, elements), find(results, other, elements)
        if mine and theirs and mine["ratio"] > NOISE * theirs["ratio"]:
            factor = figure(mine["ratio"] / theirs["ratio"])
            found.append(f"{size_label(elements)} ({factor} times)")
    return _listing(found) if found else ""


def losses(results: Results) -> list[str]:
    """Say where fastdrop is slower than a peer, than another way to call it, or than the roof."""
    entrants = results["contenders"]
    ours = [name for name, entrant in entrants.items() if entrant["role"] == "ours"]
    peers = [name for name, entrant in entrants.items() if entrant["role"] == "peer"]
    lines = []
    for mine in ours:
        for peer in peers:
            if where := _slower(results, mine, peer):
                labels = entrants[mine]["label"], entrants[peer]["label"]
                lines.append(f"{labels[0]}: slower than {labels[1]} at {where}.")
    if peers and not lines:
        lines.append("No peer is faster than fastdrop at any size measured.")
    for mine, other, text in (
        ("fastdrop", "fastdrop-1", "All threads: slower than 1 thread"),
        ("fastdrop-new", "fastdrop", "New array: slower than out=y"),
        ("fastdrop-1", ROOF.name, "1 thread: slower than multiplying by a constant"),
        ("fastdrop", ROOF.name, "All threads: slower than multiplying by a constant"),
    ):
        if where := _slower(results, mine, other):
            lines.append(f"{text} at {where}.")
    return lines


def machine(results: Results) -> str:
    """Describe hardware, versions and date in a line."""
    hardware, versions = results["hardware"], results["versions"]
    caches = ", ".join(
        f"{name} {hardware[key]} KiB"
        for name, key in (("L1d", "l1d_kib"), ("L2", "l2_kib"), ("L3", "l3_kib"))
        if hardware.get(key)
    )
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    cpu = ", ".join(filter(None, [str(hardware["cpu"]), str(hardware["simd"] or ""), caches]))
    return (
        f"Measured {results['date'][:10]} on {cpu}, {hardware['usable_cpus']} usable CPUs, "
        f"{hardware['memory_gib']} GiB, {hardware['os']}; {packages}."
    )
