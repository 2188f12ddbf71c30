"""What a result depends on: versions and hardware, as far as they can be found out."""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from .results import Conditions

PACKAGES = (
    "numpy",
    "numba",
    "llvmlite",
    "ml_dtypes",
    "randomgen",
    "torch",
    "jax",
    "jaxlib",
    "tensorflow",
)


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that matter; None for those not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    # The module's own, for the tree may not be installed, and not that of a distribution called
    # fastdrop, which is another project's.
    found["fastdrop"] = importlib.import_module("fastdrop").__version__
    return found | {package: version(package) for package in PACKAGES}


def version(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def usable_cpus() -> int:
    """Logical CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            match = re.search(r"^model name\s*:\s*(.+)$", info.read(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else platform.processor() or platform.machine()


def _cache_kib(level: int) -> int | None:
    """Size of the data cache at a level; sysconf reports 0 on many virtual machines."""
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            about = [(folder / name).read_text().strip() for name in ("level", "type", "size")]
        except OSError:
            continue
        if about[0] == str(level) and about[1] != "Instruction" and about[2].endswith("K"):
            return int(about[2][:-1])
    name = "SC_LEVEL1_DCACHE_SIZE" if level == 1 else f"SC_LEVEL{level}_CACHE_SIZE"
    value = _sysconf(name)
    return None if value is None else value // 1024


def _sysconf(name: str) -> int | None:
    try:
        value = os.sysconf(name)
    except (AttributeError, OSError, ValueError):
        return None
    return value if value > 0 else None


def _simd() -> str | None:
    """Name the widest vector extension of those that decide the speed here."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
            flags = set(info.read().split())
    except OSError:
        return None
    return next((flag for flag in ("avx512f", "avx2", "asimd", "sse4_2") if flag in flags), None)


def hardware() -> dict[str, str | int | float | None]:
    """CPU, caches in KiB, memory in GiB and operating system. Nothing that names the machine."""
    pages, page = _sysconf("SC_PHYS_PAGES"), _sysconf("SC_PAGE_SIZE")
    return {
        "cpu": _cpu_model(),
        "simd": _simd(),
        "usable_cpus": usable_cpus(),
        "l1d_kib": _cache_kib(1),
        "l2_kib": _cache_kib(2),
        "l3_kib": _cache_kib(3),
        "memory_gib": round(pages * page / 2**30, 1) if pages and page else None,
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def conditions(settings: dict[str, Any]) -> Conditions:
    """Return what results say of now and here, beside how they were measured."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "date": now.isoformat(timespec="seconds"),
        "versions": versions(),
        "hardware": hardware(),
        "settings": settings,
    }
