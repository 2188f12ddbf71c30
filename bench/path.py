"""Where the time of a small call goes: the Python functions on the way from call to kernel.

One call is traced: which Python functions it enters, with which arguments. Then each of them is
timed alone, called again with the arguments it was given. Tracing slows a call down several times,
which is why no time is taken while it is on; what a function spends itself is its time less that of
the functions it calls. Only functions found by their name can be called again; the others count as
part of their caller. Kernels are no Python functions: they are seen through `bench.hooks`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from . import hooks, ours, peers, timing
from .common import KI, P, fresh_input, fresh_output, listing
from .contender import load
from .results import ProfileRow

SIZES = (64, KI, 4 * KI)
KERNEL = "compiled kernel"


@dataclass
class Visit:
    """A function entered, with its arguments; `parent` is the position of its caller's visit."""

    name: str
    depth: int
    parent: int | None
    call: Callable[[], object]
    children: list[int] = field(default_factory=list)


def trace(function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Visit]:
    """Call a function, and return the Python functions it enters, itself first, in order."""
    visits: list[Visit] = []
    stack: list[int | None] = []  # where frames entered are in `visits`; None if they are not

    def enter(name: str, call: Callable[[], object]) -> int:
        parent = next((at for at in reversed(stack) if at is not None), None)
        depth = visits[parent].depth + 1 if parent is not None else 0
        visits.append(Visit(name, depth, parent, call))
        if parent is not None:
            visits[parent].children.append(len(visits) - 1)
        return len(visits) - 1

    def spy(kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            enter(KERNEL, functools.partial(kernel, *given))
            return kernel(*given)

        return call

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_globals["__name__"] in (__name__, hooks.__name__):  # the spies' own
            return
        if event == "call":
            found = _function(frame)
            name = frame.f_code.co_name
            call = _replay(found, frame) if found else None
            stack.append(enter(name, call) if call else None)
        elif event == "return" and stack:
            stack.pop()

    with contextlib.ExitStack() as stacked:
        for hook in hooks.HOOKS:
            stacked.enter_context(hook(spy))
        sys.setprofile(watch)
        try:
            function(*args, **kwargs)
        finally:
            sys.setprofile(None)
    return visits


def _function(frame: FrameType) -> Any:
    """Find the function that a frame runs, by its name."""
    name = frame.f_code.co_name
    places = [frame.f_globals]
    if frame.f_code.co_argcount:  # a method, perhaps
        first = frame.f_locals.get(frame.f_code.co_varnames[0])
        places.append({name: inspect.getattr_static(type(first), name, None)})
    for place in places:
        found = place.get(name)
        if getattr(found, "__code__", None) is frame.f_code:
            return found
    return None


def _replay(function: Any, frame: FrameType) -> Callable[[], object]:
    """Bind a function to the arguments that a frame was entered with."""
    code, given = frame.f_code, dict(frame.f_locals)
    names = code.co_varnames
    positional = [given[name] for name in names[: code.co_argcount]]
    end = code.co_argcount + code.co_kwonlyargcount
    keywords = {name: given[name] for name in names[code.co_argcount : end]}
    if code.co_flags & inspect.CO_VARARGS:
        positional += given[names[end]]
        end += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        keywords |= given[names[end]]
    return functools.partial(function, *positional, **keywords)


def profile(
    elements: int, seconds: float, effort: timing.Effort = timing.FULL
) -> tuple[list[ProfileRow], list[str]]:
    """Return what the steps of a small call with a given output take, and notes.

    Parameters
    ----------
    elements : int
        Small enough for the call to use one thread.
    seconds : float
        Budget.
    effort : Effort
        How many rounds at least and at most.
    """
    x = fresh_input(elements)
    out = fresh_output(x)
    dropout, rng = load("fastdrop").dropout, ours.key()
    dropout(x, P, rng=rng, out=out)  # kernels are compiled now, and caches filled
    visits = trace(dropout, x, P, rng=rng, out=out)
    calls = {str(at): visit.call for at, visit in enumerate(visits)}
    calls["multiply"] = peers.multiply(x, P, out)
    entries = [timing.prepare(name, call, effort=effort) for name, call in calls.items()]
    samples = timing.measure(entries, seconds or 1e-9, effort=effort)
    summaries = timing.summarise(samples, {name: "multiply" for name in samples})
    notes = []
    if not any(visit.name == KERNEL for visit in visits):
        tried = listing([hook.__name__ for hook in hooks.HOOKS])
        notes.append(f"profile: no kernel was seen by {tried}; its time counts as its caller's")

    # The quarter least disturbed: small differences of them are what is asked for.
    def row(step: str, depth: int, name: str, children: list[int]) -> ProfileRow:
        taken = summaries[name].q1
        below = sum(summaries[str(child)].q1 for child in children)
        return {
            "elements": elements,
            "step": step,
            "depth": depth,
            "seconds": taken,
            "own": taken - below,
        }

    rows = [row("np.multiply(x, s, out=y)", 0, "multiply", [])]
    rows += [row(v.name, v.depth, str(at), v.children) for at, v in enumerate(visits)]
    return rows, notes
