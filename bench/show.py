"""Print results in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable
from rich.text import Text

from . import report, small_report
from .goals import judge
from .losses import losses
from .results import Results

# All tables, the ratios first.
TABLES: tuple[Callable[[Results], report.Table | None], ...] = (
    report.ratios,
    report.times,
    report.throughput,
    small_report.small,
    small_report.step,
    small_report.parts,
    report.profile,
    report.variants,
    report.dtypes,
    report.step,
    report.threads,
    report.memory,
)
STYLES = {"held": "green", "acceptable": "yellow", "MISSED": "bold red", "not measured": "dim"}


def console() -> Console:
    """Return a console that cuts nothing off in a file or a pipe."""
    made = Console()
    if not made.is_terminal:
        made.width = 240
    return made


def progress() -> Progress:
    """Return a progress bar on stderr that is refreshed by hand.

    A refreshing thread would run while calls are timed.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), auto_refresh=False)


def show_tables(tables: Iterable[report.Table | None], out: Console) -> None:
    """Print tables, those that there are."""
    for table in filter(None, tables):
        out.print(Text(table.title, style="bold"))  # a table's own title wraps at its width
        rich = RichTable()
        for column, head in enumerate(table.head):
            rich.add_column(head, justify="right" if column else "left", no_wrap=True)
        for row in table.rows:
            rich.add_row(*map(Text, row))  # Text: brackets in labels are not markup
        out.print(rich)
        out.print(Text(table.note + "\n"))


def show(results: Results, out: Console) -> None:
    """Print tables, losses, notes, goals and the machine."""
    show_tables((table(results) for table in TABLES), out)
    for line in results["notes"] + losses(results):
        out.print(Text(line))
    out.print("\nGoals:")
    for verdict in judge(results):
        out.print(Text(f"  {verdict}", style=STYLES[verdict.state]))
    out.print(Text("\n" + report.machine(results)))
