"""Progress of long loops: bars of rich or tqdm where they are seen, and else lines now and then.

`mc_dropout`, `warmup`, `apply_blocks` and the examples call `progress_bar`. A package is imported
only if a bar of it is shown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeAlias, TypeVar

from fastdrop_kernels import console

from .._check import arguments

_T = TypeVar("_T")
# ``(items, number of items) -> items``, with a bar that advances as they are consumed
Tracked: TypeAlias = Callable[[Iterable[Any], int], Iterable[Any]]
# ``(title, number of items, stack) -> update``: shows ``update(done)`` until the stack closes
_Shows: TypeAlias = Callable[[str, int, ExitStack], Callable[[int], object]]

_PACKAGES = ("rich", "tqdm")
_DELAY = 1.0  # seconds before a bar of progress=None appears
_SOME, _MUCH = 10.0, 60.0  # seconds between lines: at least, and if a tenth takes longer


def progress_bar(progress: Any, title: str) -> Tracked:
    """Return a function that wraps an iterable of n items, and shows on stderr how many are done.

    `progress` is True, False, or the name of a package, whose bar is shown on a terminal or in a
    notebook. Where stderr is neither, such as a log file, there is a line now and then. None means
    a bar once the loop has run for a second, of rich on a terminal or of any in a notebook, if that
    is installed.
    """
    shows = _chosen(progress)
    if shows is None:
        return lambda items, n: items
    delay = _DELAY if progress is None else 0.0
    return lambda items, n: _tracked(items, n, title, shows, delay)


def _chosen(progress: Any) -> _Shows | None:
    """Return what shows the progress, or None if nothing does."""
    kind = console.kind()
    if progress is None:
        vanishing = partial(_rich, vanishes=True) if _has("rich") else None
        return {console.TERMINAL: vanishing, console.NOTEBOOK: _in_notebooks()}.get(kind)
    if isinstance(progress, str):
        name = arguments.choice("progress", progress, _PACKAGES)
        if not _has(name):
            raise ImportError(f"progress={name!r} needs {name}: pip install {name}")
        if kind == console.FILE or (kind == console.NOTEBOOK and not _is_for_notebooks(name)):
            return _lines
        return _BARS[name]
    if not arguments.flag("progress", progress):
        return None
    if kind == console.TERMINAL:
        return _installed("rich") or _installed("tqdm") or _lines
    return (_in_notebooks() if kind == console.NOTEBOOK else None) or _lines


def _has(name: str) -> bool:
    return find_spec(name) is not None


def _installed(name: str) -> _Shows | None:
    return _BARS[name] if _has(name) else None


def _in_notebooks() -> _Shows | None:
    return next((_installed(name) for name in ("tqdm", "rich") if _is_for_notebooks(name)), None)


def _is_for_notebooks(name: str) -> bool:
    """Say whether a package shows bars in notebooks; tqdm does without ipywidgets, as text."""
    return _has(name) and (name == "tqdm" or _has("ipywidgets"))


def _tracked(items: Iterable[_T], n: int, title: str, shows: _Shows, delay: float) -> Iterator[_T]:
    begun, update = time.monotonic(), None
    with ExitStack() as stack:
        for done, item in enumerate(items):
            if update is None and time.monotonic() - begun >= delay:
                update = shows(title, n, stack)
            if update is not None:
                update(done)
            yield item
        if update is not None:
            update(n)


def _rich(title: str, n: int, stack: ExitStack, vanishes: bool = False) -> Callable[[int], object]:
    from rich.console import Console
    from rich.progress import Progress

    # Few refreshes, because the bar's thread competes with what may be measured.
    bar = Progress(console=Console(stderr=True), transient=vanishes, refresh_per_second=4)
    stack.enter_context(bar)
    task = bar.add_task(title, total=n)
    return lambda done: bar.update(task, completed=done)


def _tqdm(title: str, n: int, stack: ExitStack) -> Callable[[int], object]:
    if console.kind() == console.NOTEBOOK and _has("ipywidgets"):
        from tqdm.notebook import tqdm  # type: ignore[import-untyped]
    else:  # and not of tqdm.auto, which warns where there are no ipywidgets
        from tqdm import tqdm  # type: ignore[import-untyped]
    bar = stack.enter_context(tqdm(desc=title, total=n))
    return lambda done: bar.update(done - bar.n)


def _lines(title: str, n: int, stack: ExitStack) -> Callable[[int], object]:
    """Show lines: when a tenth more is done, but at most every ten seconds; and at the end."""
    begun = last = time.monotonic()
    told = 0

    def update(done: int) -> None:
        nonlocal last, told
        now = time.monotonic()
        passed = now - last
        if done == n or (passed >= _SOME and 10 * (done - told) >= n) or passed >= _MUCH:
            last, told = now, done
            if sys.stderr is not None:
                text = f"{title}: {done} of {n} ({done / n:.0%}), {now - begun:.0f} s"
                print(text, file=sys.stderr, flush=True)

    return update


_BARS: dict[str, _Shows] = {"rich": _rich, "tqdm": _tqdm}
