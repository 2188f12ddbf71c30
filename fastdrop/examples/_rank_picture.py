"""The picture of `docs/ranks.md`: which key and which offset each rank has, and the masks of that.

``python -m fastdrop.examples._rank_picture docs/ranks.svg`` writes it; a test compares the file
with what this draws. The masks in it are those of the calls that are written above them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import fastdrop as fd

Mask: TypeAlias = npt.NDArray[np.bool_]
Part: TypeAlias = tuple[int, int, Mask]  # column and row of its first cell, kept cells

KEY, P, RANKS = fd.Key(7), 0.5, 4
ROWS, COLUMNS = 8, 24
SAMPLES = 2  # of sequences, which are drawn beside each other
CELL, GAP = 10, 4  # pixels from cell to cell, and between ranks
WIDTH, HEIGHT, LEFT, TOP = 820, 408, 28, 100
SAYS = "Which key and which offset each of four ranks has, and which elements it keeps"

STYLE = """\
  .card { fill: #ffffff; stroke: #d0d7de; }
  .title { fill: #1f2328; font-size: 14px; font-weight: bold; }
  .text { fill: #57606a; font-size: 12px; }
  text { font-family: -apple-system, Segoe UI, Helvetica, Arial, sans-serif; }
  text.code { fill: #1f2328; font-size: 12px; }
  text.code { font-family: ui-monospace, Menlo, Consolas, monospace; }
  .off { fill: #d0d7de; }
  .rank0 { fill: #0072b2; } .rank1 { fill: #d55e00; }
  .rank2 { fill: #009e73; } .rank3 { fill: #cc79a7; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #30363d; }
    .title, text.code { fill: #e6edf3; }
    .text { fill: #8b949e; }
    .off { fill: #30363d; }
    .rank0 { fill: #58a6ff; } .rank1 { fill: #f0883e; }
    .rank2 { fill: #3fb950; } .rank3 { fill: #db8fc3; }
  }
"""


class Panel(NamedTuple):
    """A way to give ranks their masks: how it is called, and each rank's parts of the picture."""

    title: str
    code: str
    text: str
    ranks: list[list[Part]]


def panels() -> Iterator[Panel]:
    """Draw the masks."""
    rows, columns = ROWS // RANKS, COLUMNS // RANKS
    yield Panel(
        "tensor-parallel",
        f"rng=key, offset=(0, {columns} * rank)",
        "some units of all samples",
        [[(columns * rank, 0, _part((0, columns * rank), (ROWS, columns)))] for rank in _ranks()],
    )
    yield Panel(
        "data-parallel, one batch",
        f"rng=key, offset=({rows} * rank, 0)",
        "some samples",
        [[(0, rows * rank, _part((rows * rank, 0), (rows, COLUMNS)))] for rank in _ranks()],
    )
    yield Panel(
        "restarted on two ranks",
        f"rng=key, offset=({2 * rows} * rank, 0)",
        "the same mask, cut in another way",
        [
            [(0, 2 * rows * rank, _part((2 * rows * rank, 0), (2 * rows, COLUMNS)))]
            for rank in range(RANKS // 2)
        ],
    )
    features = COLUMNS // SAMPLES
    shape = (SAMPLES, ROWS, features)
    sequences = [
        fd.dropout_mask(
            (SAMPLES, rows, features), P, rng=KEY, offset=(0, rows * rank, 0), global_shape=shape
        )
        for rank in _ranks()
    ]
    yield Panel(
        "sequence-parallel",
        f"rng=key, offset=(0, {rows} * rank, 0)",
        "some positions of all (here two) sequences",
        [
            [(features * n, rows * rank, mask) for n, mask in enumerate(masks)]
            for rank, masks in enumerate(sequences)
        ],
    )
    own = [fd.dropout_mask((rows, COLUMNS), P, rng=KEY.fold_in(rank)) for rank in _ranks()]
    yield Panel(
        "data-parallel, keys of their own",
        "rng=key.fold_in(rank)",
        "other masks on more or fewer ranks",
        [[(0, rows * rank, mask)] for rank, mask in enumerate(own)],
    )
    same = fd.dropout_mask((rows, COLUMNS), P, rng=KEY)
    yield Panel(
        "WRONG: one key and no offset",
        "rng=key",
        "all samples share a mask of two rows",
        [[(0, rows * rank, same)] for rank in _ranks()],
    )


def _ranks() -> range:
    return range(RANKS)


def _part(offset: tuple[int, int], shape: tuple[int, int]) -> Mask:
    mask: Mask = fd.dropout_mask(shape, P, rng=KEY, offset=offset, global_shape=(ROWS, COLUMNS))
    return mask


def picture() -> str:
    """Return the SVG."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="{SAYS}">',
        f"<style>\n{STYLE}</style>",
        f'  <rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" class="card"/>',
        f'  <text x="{LEFT}" y="32" class="code">fd.dropout(part, {P}, rng=..., offset=..., '
        "global_shape=...) on each of four ranks</text>",
    ]
    x = LEFT
    for rank in _ranks():
        lines.append(f'  <path d="{_square(x, 46)}" class="rank{rank}"/>')
        lines.append(f'  <text x="{x + 14}" y="55" class="text">kept by rank {rank}</text>')
        x += 110
    lines.append(f'  <path d="{_square(x, 46)}" class="off"/>')
    lines.append(f'  <text x="{x + 14}" y="55" class="text">dropped</text>')
    for n, panel in enumerate(panels()):
        lines += _drawn(panel, LEFT + n % 3 * 266, TOP + n // 3 * 168)
    return "\n".join([*lines, "</svg>", ""])


def _drawn(panel: Panel, left: int, top: int) -> Iterator[str]:
    yield f'  <text x="{left}" y="{top - 10}" class="title">{panel.title}</text>'
    yield f'  <text x="{left}" y="{top + 8}" class="code">{panel.code}</text>'
    for rank, parts in enumerate(panel.ranks):
        for kept in (False, True):
            squares = "".join(
                _square(
                    left + (column + j) * CELL + _gaps(panel, 0, column),
                    top + 18 + (row + i) * CELL + _gaps(panel, 1, row),
                )
                for column, row, mask in parts
                for i, j in np.argwhere(mask == kept).tolist()
            )
            yield f'  <path d="{squares}" class="{f"rank{rank}" if kept else "off"}"/>'
    yield f'  <text x="{left}" y="{top + 124}" class="text">{panel.text}</text>'


def _gaps(panel: Panel, axis: int, place: int) -> int:
    """Return the pixels that the parts before a place, along an axis, are moved apart."""
    starts = {part[axis] for parts in panel.ranks for part in parts}
    return GAP * len([start for start in starts if start < place])


def _square(x: int, y: int) -> str:
    return f"M{x} {y}h{CELL - 1}v{CELL - 1}h-{CELL - 1}z"


def main(argv: Sequence[str]) -> int:
    """Write the picture to a file, or print it."""
    if argv:
        Path(argv[0]).write_text(picture(), encoding="utf-8")
    else:
        print(picture(), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
