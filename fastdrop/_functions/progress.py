"""Progress bars of rich or tqdm, which are imported only if a bar is shown.

`mc_dropout`, `warmup` and `apply_blocks` call `progress_bar`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias, TypeVar

from .._check import arguments

_T = TypeVar("_T")
# ``(items, number of items) -> items``, with a bar that advances as they are consumed
Tracked: TypeAlias = Callable[[Iterable[Any], int], Iterable[Any]]

_PACKAGES = ("rich", "tqdm")
_DELAY = 1.0  # seconds before a bar of progress=None appears


def progress_bar(progress: Any, title: str) -> Tracked:
    """Return a function that wraps an iterable of n items in a progress bar, or in none.

    `progress` is True, False, or the name of a package. None means a bar of rich, if that is
    installed and stderr is a terminal, once the loop has run for a second.
    """
    if progress is None:
        return lambda items, n: _with_delayed_bar(items, n, title)
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
            from tqdm.auto import tqdm  # type: ignore[import-untyped]  # notebooks too
        except ImportError:
            continue
        return lambda items, n: tqdm(items, title, n)
    raise ImportError(f"progress={progress!r} needs {' or '.join(names)}: pip install {names[0]}")


def _with_delayed_bar(items: Iterable[_T], n: int, title: str) -> Iterator[_T]:
    begun, bar = time.monotonic(), None
    with ExitStack() as stack:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - begun > _DELAY:
                bar = _terminal_bar(title, n, stack)
            if bar:
                bar(done)
            yield item


def _terminal_bar(title: str, n: int, stack: ExitStack) -> Any:
    """Show a bar until `stack` closes, and return ``update(done)``; False if none can be shown."""
    if not getattr(sys.stderr, "isatty", bool)():
        return False
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return False
    bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
    task = bar.add_task(title, total=n)
    return lambda done: bar.update(task, completed=done)
