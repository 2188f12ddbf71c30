"""The report of the example `torch_step`: tables, their explanation, and a figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from fastdrop.examples._torch_parts import BACKWARD, FORWARD, OPTIMISER, PARTS
from fastdrop.examples._torch_training import FUSED, NONE, Step

FIRST = 2  # steps of each network that are not timed: they compile, and touch memory first
LAST = 10  # steps whose mean is the training loss
# From Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#56B4E9")
PART_COLOURS = ("#666666", "#8C8C8C", "#009E73", "#B3B3B3", "#D9D9D9")


@dataclass
class Run:
    """The training of one network: its steps, and losses on the text held out, by step."""

    steps: list[Step] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)

    @property
    def loss(self) -> float:
        """The mean training loss of the last steps."""
        return mean(step.loss for step in self.steps[-LAST:])

    def plain(self) -> list[float]:
        """Return the seconds of the steps whose parts were not timed."""
        return [step.seconds for step in self.steps[FIRST:] if step.parts is None]

    def part(self, part: str, direction: str) -> float:
        """Return the median milliseconds of a part."""
        timed = [step.parts for step in self.steps[FIRST:] if step.parts is not None]
        return 1e3 * median(seconds[part, direction] for seconds in timed)


Results = dict[str, Run]  # by variant


def share(results: Results, variant: str) -> float:
    """Return the part of a step that dropout takes: what the step without it does not take."""
    pairs = zip(results[NONE].plain(), results[variant].plain(), strict=True)
    return median(1 - without / with_it for without, with_it in pairs)


def summary(results: Results) -> Table:
    """Return the table of times and losses, a column for each variant."""
    table = Table(title="Milliseconds of a training step, forward + backward")
    table.add_column("Dropout by", no_wrap=True)
    for variant in results:
        table.add_column(variant.replace(", ", ",\n"), justify="right", no_wrap=True)
    rows = {part: [_part(run, part) for run in results.values()] for part in PARTS}
    rows["step"] = [_ms(1e3 * median(run.plain())) for run in results.values()]
    rows["dropout's share"] = [
        "-" if variant == NONE else f"{share(results, variant):.1%}" for variant in results
    ]
    rows["loss in training"] = [f"{run.loss:.4f}" for run in results.values()]
    rows["loss held out"] = [f"{run.held_out[-1][1]:.4f}" for run in results.values()]
    for name, cells in rows.items():
        ends = name in (OPTIMISER, "dropout's share")
        table.add_row(name, *cells, end_section=ends)
    return table


def _part(run: Run, part: str) -> str:
    if part == OPTIMISER:
        return _ms(run.part(part, ""))
    return " + ".join(_ms(run.part(part, direction)) for direction in (FORWARD, BACKWARD))


def _ms(milliseconds: float) -> str:
    """Return milliseconds in four places: the table is to fit into 80 columns."""
    return f"{milliseconds:.0f}" if milliseconds >= 99.95 else f"{milliseconds:.1f}"


def explanation(results: Results, threads: int) -> str:
    """Return the explanation of the tables."""
    plain, timed = (
        median(
            step.seconds
            for run in results.values()
            for step in run.steps[FIRST:]
            if (step.parts is not None) == with_parts
        )
        for with_parts in (False, True)
    )
    return (
        "All begin with the same weights and see the same minibatches, by turns; torch has "
        f"{threads} thread{'s' * (threads > 1)}. Times are medians. Parts: of every other step, by "
        f"hooks of torch, which cost {timed / plain - 1:+.1%} here; the backward of a part is that "
        "of the functions which its forward called. Rest: embedding, last norm, scores and loss. "
        "Step: of the steps between, without a clock in it. Dropout's share: what the step without "
        f"dropout does not take of a step, by turns. In '{FUSED}', attention and feed-forward "
        "contain their dropout; it draws the masks that 'fastdrop' draws. Losses: cross-entropy of "
        f"a character, the mean of the last {LAST} steps, and of the text held out, without "
        "dropout."
    )


def plot(results: Results, path: Path) -> None:
    """Draw the losses over steps, and the time of a step by part; write the figure to `path`."""
    # Not pyplot, which may need a display.
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (variant, run), colour in zip(results.items(), COLOURS, strict=True):
        style = ":" if variant == FUSED else "-"  # over that of fastdrop
        loss = [step.loss for step in run.steps]
        left.plot(np.arange(1, len(loss) + 1), loss, style, color=colour, lw=0.6, alpha=0.5)
        left.plot(*zip(*run.held_out, strict=True), style, color=colour, label=variant)
    left.set(xlabel="step", ylabel="cross-entropy", title="Loss: held out, and in training (thin)")
    left.legend(frameon=False)
    left.grid(alpha=0.3)

    for row, (variant, run) in enumerate(results.items()):
        at = 0.0
        for part, colour in zip(PARTS, PART_COLOURS, strict=True):
            directions = ("",) if part == OPTIMISER else (FORWARD, BACKWARD)
            width = sum(run.part(part, direction) for direction in directions)
            label = part if row == 0 else None
            right.barh(row, width, left=at, color=colour, height=0.55, label=label)
            at += width
        text = variant if variant == NONE else f"{variant}: {share(results, variant):.1%}"
        right.text(0, row - 0.33, text, va="bottom")
    right.set_ylim(len(results) - 0.1, -0.8)
    right.set_yticks([])
    title = "Time of a step by part, and dropout's share of it"
    right.set(xlabel="milliseconds (medians)", title=title)
    right.legend(frameon=False, ncols=len(PARTS), loc="lower center", fontsize=8, columnspacing=1)
    right.spines["left"].set_visible(False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
