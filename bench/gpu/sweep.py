"""Try the kernels' settings: threads of a block, and groups that a thread has in flight."""

from __future__ import annotations

import importlib
import itertools
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastdrop._call import plan_cache

from ..common import MI, size_label
from .collect import Plan, _Run, check
from .contenders import BY_NAME
from .device import Clock, Sets, facts, load_cupy

THREADS = (128, 256, 512, 1024)
IN_FLIGHT = (1, 2, 4, 8)
SIZES = (16 * MI, 256 * MI)


@contextmanager
def settings(threads: int, in_flight: int) -> Iterator[None]:
    """Compile and launch kernels with other settings, for a while."""
    package = "fastdrop_kernels.cuda"
    modules: Any = importlib.import_module(f"{package}.modules")
    launch: Any = importlib.import_module(f"{package}.launch")
    driver: Any = importlib.import_module(f"{package}.driver")

    def put(values: tuple[int, int], launcher: Any) -> None:
        for module in (modules, launch):
            module.THREADS, module.IN_FLIGHT = values
        for cached in (modules.header, modules.source, launch.pieces):
            cached.cache_clear()
        plan_cache.forget()
        driver._launcher = launcher  # which keeps compiled kernels

    before, launcher = (modules.THREADS, modules.IN_FLIGHT), driver._launcher
    try:
        put((threads, in_flight), None)
        yield
    finally:
        put(before, launcher)


def run(plan: Plan) -> None:
    """Print what each setting makes of fastdrop's rate, relative to the copy's."""
    cupy = load_cupy()
    clock, l2_bytes = Clock(cupy), facts(cupy).l2_bytes
    print(f"{'dtype':10}{'elements':>10}{'threads':>9}{'in flight':>11}{'of copy':>9}")
    for dtype, elements in itertools.product(plan.dtypes, SIZES):
        sets = Sets(cupy, elements, dtype, l2_bytes, step=False)
        roof, ours = BY_NAME["copy"], BY_NAME["fastdrop"]
        copying = _Run(roof, roof.setup(sets, roof.p), "forward", sets, clock)
        for threads, in_flight in itertools.product(THREADS, IN_FLIGHT):
            with settings(threads, in_flight):
                ready = ours.setup(sets, ours.p)
                check(ours, sets, ready, step=False)
                dropping = _Run(ours, ready, "forward", sets, clock)
                parts = [copying.time() / dropping.time() for _ in range(plan.rounds)]
            print(
                f"{dtype:10}{size_label(elements):>10}{threads:>9}{in_flight:>11}"
                f"{statistics.median(parts):>9.3f}",
                flush=True,
            )
