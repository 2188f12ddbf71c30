"""What every part of the benchmark shares: arrays, sizes, the machine, fresh processes, progress.

All modules of bench import it; it imports none of them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import importlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]  # pytest's

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
P = 0.1  # the drop probability, where a contender has none of its own
KI, MI = 1 << 10, 1 << 20
HALF = ("float16", "bfloat16")
DTYPES = ("float32", "float64", *HALF)
PACKAGES = (
    "numpy numba llvmlite ml_dtypes randomgen torch jax jaxlib tensorflow scikit-learn dask "
    "distributed scipy"
)

Array = npt.NDArray[Any]
Tell = Callable[[str, float], None]  # (what is being done, part of the work that is done)


class BenchError(Exception):
    """An error whose message is all that the user needs."""


def toml(name: str) -> Any:
    """Read a file of data of this folder."""
    return tomllib.loads((ROOT / "bench" / f"{name}.toml").read_text(encoding="utf-8"))


def size_label(elements: int) -> str:
    """Write an element count as people say it: 65536 is ``64 Ki``, 1000 stays ``1000``."""
    for unit, name in ((MI, "Mi"), (KI, "Ki")):
        if elements >= unit and elements % unit == 0:
            return f"{elements // unit} {name}"
    return str(elements)


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read element counts such as ``1000,64Ki,16Mi``; in rising order, without repeats."""
    units, found = {"": 1, "ki": KI, "mi": MI}, set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([1-9]\d*)\s*(Ki|Mi)?\s*", part, re.IGNORECASE)
        if match is None:
            raise argparse.ArgumentTypeError(f"{part!r} is not a number of elements, as 64Ki is")
        found.add(int(match[1]) * units[(match[2] or "").lower()])
    return tuple(sorted(found))


def parse_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_positive(text: str) -> float:
    """Read a positive, finite number."""
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


def chosen(names: Sequence[str] | None, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return those of the known names that are wanted, all if None; an unknown one is an error."""
    if unknown := [name for name in names or () if name not in known]:
        raise BenchError(f"no {what} {unknown[0]!r}; there are {', '.join(known)}")
    return tuple(name for name in known if names is None or name in names)


def figure(value: float) -> str:
    """Three significant digits for people, two if it is small, with thousands separated."""
    if 0 < value < 0.1:
        return f"{value:.2g}"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def identity(name: str, dtype: str, variant: str) -> str:
    """Name a contender, with dtype and variant where they are not the usual ones."""
    return "/".join(filter(None, (name, "" if dtype == "float32" else dtype, variant)))


def failure(where: str, label: str, error: Exception) -> str:
    """Return the note on a contender whose library fails; the others are timed all the same."""
    first = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return f"{where}: left out, it fails: {label} ({first})"


def load(module: str) -> Any:
    """Import a library quietly: what it says or warns about while it starts is not our subject."""
    if module == "tensorflow":  # it talks through logs instead, and about retracing at every size
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        logging.getLogger(module).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


@functools.cache
def default_threads(module: str) -> int:
    """Thread count that a library chose by itself: read once, before anything sets it."""
    return int(load(module).get_num_threads())


def dtype_of(name: str) -> np.dtype[Any]:
    """Return a dtype by name; bfloat16 is that of ml_dtypes."""
    return np.dtype(load("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def placed(x: Array, order: Literal["C", "F"] = "C") -> Array:
    """Return a copy where malloc lays large arrays: 16 bytes behind the begin of a page.

    Where NumPy's arrays lie is chance, once their memory has been another's, and decides a fifth
    of what is compared: 64 Ki float32 take 21.0 us where the output begins with a cache line, 25.5
    elsewhere, and float16 24 to 25 in any place (Cascade Lake, 2026).
    """
    memory = np.empty(x.nbytes + 8192, np.uint8)
    begin = (16 - memory.ctypes.data) % 4096
    copy: Array = memory[begin : begin + x.nbytes].view(x.dtype).reshape(x.shape, order=order)
    copy[...] = x
    return copy


def fresh_input(elements: int, dtype: str = "float32", seed: int | None = None) -> Array:
    """Draw normals without zeros, so that a zero in an output means a dropped element."""
    x: Array = np.random.default_rng(seed).standard_normal(elements, dtype=np.float32)
    x = x.astype(dtype_of(dtype), copy=False)
    x[x == 0] = 1
    return placed(x)


def fresh_output(x: Array) -> Array:
    """Return an array like x to write to; its pages are there: faults are not what is timed."""
    return placed(np.ones_like(x), "C" if x.flags.c_contiguous else "F")


def usable_cpus() -> int:
    """Logical CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def version(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    found = [d.version for d in importlib.metadata.distributions(name=package)]
    return found[0] if found else None


def hardware() -> dict[str, Any]:
    """CPU, caches in KiB, memory in GiB and operating system. Nothing that names the machine."""

    def read(path: str) -> str:
        return Path(path).read_text(encoding="utf-8").strip() if Path(path).exists() else ""

    info, caches = read("/proc/cpuinfo"), "/sys/devices/system/cpu/cpu0/cache/index"
    model, flags = re.search(r"model name\s*:\s*(.+)", info), set(info.split())
    # The second index is that of the instructions' cache.
    sizes = {f"{k}_kib": read(f"{caches}{n}/size")[:-1] for k, n in dict(l1d=0, l2=2, l3=3).items()}
    simd = (flag for flag in ("avx512f", "avx2", "asimd", "sse4_2") if flag in flags)
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "simd": next(simd, None),
        "usable_cpus": usable_cpus(),
        **{name: int(size) if size else None for name, size in sizes.items()},
        "memory_gib": memory_gib(),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def memory_gib() -> float | None:
    """Return the machine's memory in GiB; None where the system does not say."""
    if sys.platform == "win32":
        return None
    else:  # noqa: RET505  # for mypy, which takes what follows a return for unreachable
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def conditions(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what results say of now and here, beside how they were measured."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    # The module's own version: the distribution called fastdrop is another project's.
    own = {"python": platform.python_version(), "fastdrop": load("fastdrop").__version__}
    versions = own | {package: version(package) for package in PACKAGES.split()}
    return {"date": now, "versions": versions, "hardware": hardware(), "settings": settings}


def child(arguments: Sequence[str], **environment: str) -> Any:
    """Run Python in a fresh process of this tree; returns the JSON of its last line."""
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])  # it imports what this one does
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise BenchError(f"a process that measures: {last}; nothing is written")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def progress() -> Iterator[Tell]:
    """Show a progress bar on stderr, and yield what moves it.

    It is refreshed by hand: a refreshing thread would run while calls are timed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda doing, part: bar.update(task, completed=part, description=doing, refresh=True)
