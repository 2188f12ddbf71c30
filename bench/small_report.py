"""Tables and goals of small calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .common import figure, size_label
from .results import Results, Row, find, rows, sizes
from .small_calls import PARTS_ELEMENTS, PARTS_SHAPE
from .table import Table

US = 1e6
# A figure over another is this much at most where the two are to be the same, on a quiet machine.
SAME, NEARLY = 1.05, 1.2


def _contenders(results: Results, section: str) -> list[str]:
    return list(dict.fromkeys(row["contender"] for row in rows(results, section)))


def _microseconds(row: Row | None) -> str:
    return "" if row is None else figure(row["seconds"] * US)


def small(results: Results) -> Table | None:
    """Microseconds of small calls, and what ours take over the roof."""
    title = "Small calls, microseconds"
    note = (
        "One forward call, float32. The first line multiplies by a constant and draws nothing, "
        "the second is what most loops have. What fastdrop takes over np.multiply is Python's "
        "part, and the drawing. Median over rounds, of calls made in a row."
    )
    return _by_size(results, "small", title, note, ("fastdrop", "fastdrop-new", "fastdrop-mask"))


def step(results: Results) -> Table | None:
    """Microseconds of forward plus backward, and what ours take over the roof."""
    title = "Small calls, forward plus backward, microseconds"
    note = (
        "The dropout of a training step. The first line is two multiplications by a constant; the "
        "second keeps its mask for the backward pass, as fd.Mask does in 16 bytes. A layer and an "
        "fd.Mask draw another mask at each step; fastdrop, out=y and new array, are two calls of "
        "fd.dropout with one key."
    )
    ours = ("fastdrop", "fastdrop-new", "fastdrop-layer-step", "fastdrop-mask-step")
    return _by_size(results, "small-step", title, note, ours)


def _by_size(
    results: Results, section: str, title: str, note: str, over: Iterable[str]
) -> Table | None:
    columns = sizes(results, section)
    lines = []
    for name in _contenders(results, section):
        found = [find(results, section, name, n) for n in columns]
        lines.append([results["contenders"][name]["label"], *map(_microseconds, found)])
    roof = [find(results, section, "multiply", n) for n in columns]
    for name in over:
        mine = [find(results, section, name, n) for n in columns]
        if any(mine) and any(roof):
            cells = [
                f"{(row['seconds'] - base['seconds']) * US:.2f}" if row and base else ""
                for row, base in zip(mine, roof, strict=True)
            ]
            lines.append([f"{results['contenders'][name]['label']}: over np.multiply", *cells])
    head = ["elements", *map(size_label, columns)]
    return Table(title, head, lines, note) if lines else None


def parts(results: Results) -> Table | None:
    """Microseconds of what is made beside small calls, in a row and between other work."""
    names = dict.fromkeys(
        name for section in PARTS_SECTIONS for name in _contenders(results, section)
    )
    lines = [
        [
            results["contenders"][name]["label"],
            *(_microseconds(find(results, s, name, PARTS_ELEMENTS)) for s in PARTS_SECTIONS),
        ]
        for name in names
    ]
    rows_of, columns = PARTS_SHAPE
    return (
        Table(
            "What is made beside small calls, microseconds",
            ["", "in a row", "after other work"],
            lines,
            f"Calls with arrays: of {rows_of} x {columns} float32, but for slices. In a row: the "
            "same call again and again, which has the caches to itself. After other work: each "
            "call alone, after about a millisecond of what a network does, as in a training loop; "
            "there every call takes longer, np.multiply too.",
        )
        if lines
        else None
    )


PARTS_SECTIONS = ("small-parts", "small-between")


class Measured(NamedTuple):
    """A goal of small calls: at most `limit`."""

    text: str
    unit: str
    limit: float
    measure: Callable[[Results], float | None]
    acceptable: float | None = None


def _over(
    section: str, mine: str, other: str, only: int | None = None
) -> Callable[..., float | None]:
    """Microseconds of one call over another's: the most at any size, or at one."""

    def measure(results: Results) -> float | None:
        found = []
        for n in sizes(results, section) if only is None else [only]:
            a, b = (find(results, section, name, n) for name in (mine, other))
            if a and b:
                found.append((a["seconds"] - b["seconds"]) * US)
        return max(found, default=None)

    return measure


def _takes(name: str) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        row = find(results, "small-parts", name, PARTS_ELEMENTS)
        return row["seconds"] * US if row else None

    return measure


def _times(
    mine: str, other: str, section: str = "small-parts"
) -> Callable[[Results], float | None]:
    def measure(results: Results) -> float | None:
        a, b = (find(results, section, name, PARTS_ELEMENTS) for name in (mine, other))
        return a["ratio"] / b["ratio"] if a and b else None

    return measure


GOALS = (
    Measured(
        "forward plus backward through a layer at 32 elements, over two np.multiply",
        " us",
        4.0,
        _over("small-step", "fastdrop-layer-step", "multiply", 32),
    ),
    Measured(
        "a product with fd.Mask, over fd.dropout, the most",
        " us",
        1.0,
        _over("small", "fastdrop-mask", "fastdrop-new"),
    ),
    Measured(
        "rng=Generator, over rng=Key, the most",
        " us",
        2.0,
        _over("small", "fastdrop-generator", "fastdrop-new"),
    ),
    Measured("key.fold_in(n)", " us", 1.0, _takes("fold_in")),
    Measured("fd.as_key()", " us", 1.0, _takes("as_key")),
    Measured("a new fd.Dropout(0.5, rng=key)", " us", 2.0, _takes("new-layer")),
    Measured("a new fd.Mask(shape, 0.5, rng=np.random)", " us", 2.0, _takes("new-mask"), 3.0),
    Measured(
        "noise_shape as a list, time over a tuple's",
        "",
        SAME,
        _times("noise-list", "noise-tuple"),
        NEARLY,
    ),
    Measured(
        "noise_shape as an array, time over a tuple's",
        "",
        SAME,
        _times("noise-array", "noise-tuple"),
        NEARLY,
    ),
    Measured(
        "a shard that begins elsewhere at each call, time over one that repeats",
        "",
        SAME,
        _times("shard-moving", "shard"),
        NEARLY,
    ),
    Measured(
        "a layer's forward of x[:, t], 64 x 8, after other work, time over the idiom's",
        "",
        1.0,
        _times("slice", "slice-idiom", "small-between"),
    ),
)
