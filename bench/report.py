"""Results as tables, for the terminal and for the README alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .common import HALF, figure, size_label
from .contenders import ROOF
from .memory import WARM_UP_PART
from .results import Conditions, Results, Row, find, rows, sizes
from .table import Table as Table

# One a library, and each by its best way to call it.
HEADLINE = ("fastdrop", "numpy-best", "cs231n", "torch", "jax", "tensorflow")


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _by_size(
    results: Results, section: str, title: str, note: str, cell: Callable[[Row], str]
) -> Table | None:
    """One row a contender, one column a size; empty cells where nothing was measured."""
    columns = sizes(results, section)
    names = _unique(row["contender"] for row in rows(results, section))
    lines = []
    for name in names:
        found = [find(results, section, name, elements) for elements in columns]
        label = results["contenders"][name]["label"]
        lines.append([label, *(cell(row) if row else "" for row in found)])
    head = ["elements", *map(size_label, columns)]
    return Table(title, head, lines, note) if lines else None


def _microseconds(row: Row) -> str:
    return figure(row["seconds"] * 1e6)


def _billions(row: Row) -> str:
    return figure(row["elements"] / row["seconds"] / 1e9)


def ratios(results: Results) -> Table | None:
    """Time of a call over the roof's."""
    return _by_size(
        results,
        "forward",
        "Time of a call, relative to multiplying by a constant",
        f"1.00 is as fast as {ROOF.label} by one thread, which reads and writes the same memory "
        "and draws nothing; lower is faster. Each is the median over rounds of the ratio within a "
        f"round. float32, p = {results['settings']['p']:g}. An empty cell: see the notes.",
        lambda row: figure(row["ratio"]),
    )


def times(results: Results) -> Table | None:
    """Microseconds of a call."""
    return _by_size(
        results,
        "forward",
        "Microseconds a call",
        "Median over rounds; lower is faster.",
        _microseconds,
    )


def throughput(results: Results) -> Table | None:
    """Elements a nanosecond."""
    return _by_size(
        results, "forward", "Billions of elements a second", "Higher is faster.", _billions
    )


def profile(results: Results) -> Table | None:
    """Where a small call's time goes: the functions from call to kernel, each alone."""
    found = results["profile"]
    columns = sorted({row["elements"] for row in found})
    steps = [[row for row in found if row["elements"] == elements] for elements in columns]
    if not found or len({len(step) for step in steps}) != 1:
        return None
    lines = []
    for across in zip(*steps, strict=True):
        cells = [f"{row[key] * 1e6:.2f}" for row in across for key in ("seconds", "own")]
        lines.append(["· " * across[0]["depth"] + across[0]["step"], *cells])
    return Table(
        "From call to kernel, microseconds",
        [
            "function",
            *(f"{size_label(n)}, {part}" for n in columns for part in ("alone", "itself")),
        ],
        lines,
        "fastdrop.dropout(x, p, rng=key, out=y). Alone: the function, called again with the "
        "arguments it was given, which costs up to 0.1 us by itself. Itself: without the functions "
        "below it.",
    )


def variants(results: Results) -> Table | None:
    """Rates of the other ways to call fastdrop, relative to the plain call."""
    columns = sizes(results, "variants")
    names = _unique(row["variant"] for row in rows(results, "variants") if row["variant"])
    ours = _unique(row["contender"] for row in rows(results, "variants") if row["variant"])

    def cell(variant: str, elements: int, name: str) -> str:
        plain = find(results, "variants", name, elements)
        row = find(results, "variants", name, elements, variant=variant)
        return f"{plain['ratio'] / row['ratio']:.0%}" if plain and row else ""

    lines = [
        [variant, *(cell(variant, elements, name) for elements in columns for name in ours)]
        for variant in names
    ]
    threads = {"fastdrop-1": "1 thread", "fastdrop": "all threads"}
    head = [f"{size_label(n)}, {threads.get(name, name)}" for n in columns for name in ours]
    return _filled(
        "Other ways to call it: rate relative to the plain call",
        ["variant", *head],
        lines,
        "Elements a second, against fastdrop.dropout(x, 0.1, rng=key, out=y) with as many threads; "
        "more than 100% is faster.",
    )


def dtypes(results: Results) -> Table | None:
    """Rates in other dtypes, and ratios to each dtype's roof."""
    columns = sizes(results, "dtypes")
    lines = []
    for dtype, name in dict.fromkeys(
        (row["dtype"], row["contender"]) for row in rows(results, "dtypes")
    ):
        found = [find(results, "dtypes", name, n, dtype=dtype) for n in columns]
        rates = [_billions(row) if row else "" for row in found]
        ratios = [figure(row["ratio"]) if row else "" for row in found]
        label = results["contenders"][name]["label"]
        lines.append([f"{dtype}: {label}", *rates, *ratios])
    heads = [f"{size_label(n)}, {unit}" for unit in ("billions a second", "ratio") for n in columns]
    return _filled(
        "Other dtypes: billions of elements a second, and time relative to multiplying",
        ["dtype", *heads],
        lines,
        f"The ratio of float64 is to {ROOF.label} in float64, that of {' and '.join(HALF)} to the "
        "same in float32, for NumPy multiplies half types one by one.",
    )


def step(results: Results) -> Table | None:
    """Time of forward plus backward over the roof's."""
    return _by_size(
        results,
        "step",
        "Forward plus backward, relative to multiplying twice by a constant",
        "The dropout of a training step, float32; each contender keeps for the backward pass what "
        "it needs. Lower is faster.",
        lambda row: figure(row["ratio"]),
    )


def headline(results: Results) -> Table | None:
    """Return the few figures that the README shows: of forward plus backward, and what is kept."""
    columns = sizes(results, "step")
    kept = {
        row["contender"]: seen_bytes(row["traced"], row["resident"])
        for row in results["memory"]
        if row["measure"] == "kept"
    }
    lines = []
    for name in HEADLINE:
        found = [find(results, "step", name, elements) for elements in columns]
        if any(found):
            label = results["contenders"][name]["label"]
            cells = [figure(row["ratio"]) if row else "" for row in found]
            lines.append([label, *cells, bytes_label(kept[name]) if name in kept else ""])
    cpu, count = results["hardware"]["cpu"], results["hardware"]["usable_cpus"]
    head = [f"{size_label(n)} elements" for n in columns]
    return _filled(
        "Time of dropout, forward plus backward, and what is kept in between",
        ["", *head, "kept, bytes an element"],
        lines,
        f"float32, p = {results['settings']['p']:g}. Times are relative to multiplying twice by a "
        f"constant ({ROOF.label}, one thread): lower is faster. Measured {results['date'][:10]} on "
        f"{cpu}, {count} CPUs.",
    )


def threads(results: Results) -> Table | None:
    """Time by the number of threads."""
    columns = sizes(results, "threads")
    names = _unique(row["variant"] for row in rows(results, "threads") if row["variant"])
    lines = []
    for name in names:
        found = [find(results, "threads", "fastdrop", n, variant=name) for n in columns]
        lines.append([name, *(figure(row["ratio"]) if row else "" for row in found)])
    return _filled(
        "Threads: time of a call, relative to multiplying by a constant on one thread",
        ["fastdrop", *map(size_label, columns)],
        lines,
        "Lower is faster.",
    )


def memory(results: Results) -> Table | None:
    """Extra memory of a call and of a step."""
    measures = ("forward", "kept", "step")
    names = _unique(row["contender"] for row in results["memory"])
    by = {(row["contender"], row["measure"]): row for row in results["memory"]}

    def cell(name: str, measure: str) -> str:
        row = by.get((name, measure))
        return "" if row is None else bytes_label(seen_bytes(row["traced"], row["resident"]))

    lines = [
        [results["contenders"][name]["label"], *(cell(name, measure) for measure in measures)]
        for name in names
    ]
    if not lines:
        return None
    return Table(
        "Memory beyond the results, bytes an element",
        ["contender", "forward, peak", "kept for backward", "forward and backward, peak"],
        lines,
        f"{size_label(results['memory'][0]['elements'])} float32 elements, each contender in a "
        "fresh process; by the resident set, or by tracemalloc where that sees more. Peaks are "
        "beyond one output, or output and gradient, of x's size; what is kept is beyond the "
        f"output. jax and TensorFlow, which are warmed up at a {WARM_UP_PART}th of the size, "
        "compile meanwhile: some 0.5 bytes.",
    )


def seen_bytes(*seen: float | None) -> float | None:
    """Return the most that was seen."""
    return max((value for value in seen if value is not None), default=None)


def bytes_label(value: float | None) -> str:
    """Write bytes an element; slightly below zero is the grain of the kernel's page counts."""
    if value is None:
        return "not seen"
    return f"{abs(value) if -0.005 < value < 0 else value:.2f}"


def _filled(title: str, head: list[str], lines: list[list[str]], note: str) -> Table | None:
    return Table(title, head, lines, note) if lines else None


def machine(results: Conditions) -> str:
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
