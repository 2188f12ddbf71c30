"""Progress bars, by packages that are imported only if one is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

from .._check import arguments

_T = TypeVar("_T")
Shown: TypeAlias = Callable[[Iterable[Any], int], Iterable[Any]]

_PACKAGES = ("rich", "tqdm")
_LONG = 1.0  # seconds


def shown_as(progress: Any, title: str) -> Shown:
    """Return what wraps so many items in a progress bar of a title, or in none.

    `progress` is True, False, the name of a package, or None: by rich where that is installed, in a
    terminal, if it takes long.
    """
    if progress is None:
        return lambda items, n: _if_it_takes_long(items, n, title)
    if isinstance(progress, str):
        names: tuple[str, ...] = (arguments.choice("progress", progress, _PACKAGES),)
    else:
        names = _PACKAGES if arguments.flag("progress", progress) else ()
    if not names:
        return lambda items, n: items
    for name in names:
        try:
            if name == "rich":
                from rich.progress import track

                return lambda items, n: track(items, title, n)
            from tqdm import tqdm  # type: ignore[import-untyped]
        except ImportError:
            continue
        return lambda items, n: tqdm(items, title, n)
    raise ImportError(f"progress={progress!r} needs {' or '.join(names)}: pip install {names[0]}")


def _if_it_takes_long(items: Iterable[_T], n: int, title: str) -> Iterator[_T]:
    begun, bar = time.monotonic(), None
    with ExitStack() as end:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - begun > _LONG:
                bar = _bar_in_a_terminal(title, n, end)
            if bar:
                bar(done)
            yield item


def _bar_in_a_terminal(title: str, n: int, end: ExitStack) -> Any:
    """Show a bar, to the end, and return what is told how many are done; False if none is shown."""
    if not getattr(sys.stderr, "isatty", bool)():
        return False
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return False
    bar = end.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task(title, total=n)
    return lambda done: bar.update(task, completed=done)
