"""``python -m bench.device``: what the GPU is, its clocks, and the versions of what runs on it.

The first step of `bench.first`. What cannot be asked is said to be missing, and is no failure; a
GPU that CuPy cannot use is one.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from typing import Any

from . import common
from .common import BenchError
from .gpu import facts, load_cupy

# Packages whose versions decide what runs, and how fast.
_PACKAGES = r"(cupy|num(py|ba)|llvmlite|cuda-|nvidia-|torch|triton|jax|ml.dtypes|pytest)"


def _asked(*command: str) -> str:
    """Return what a program prints, or why it does not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    return done.stdout.strip() or done.stderr.strip()


def described() -> dict[str, Any]:
    """Return the versions, the clocks and the device; the last may be an error's text."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    named = {name: found[name] for name in sorted(found) if re.match(_PACKAGES, name, re.I)}
    about: dict[str, Any] = {"python": sys.version, "packages": named, "cpus": common.usable_cpus()}
    about["driver"] = _asked("nvidia-smi")
    about["clocks"] = _asked("nvidia-smi", "-q", "-d", "CLOCK,POWER,PERFORMANCE")
    about["CUDA_HOME"] = os.environ.get("CUDA_HOME")
    for tool in ("nvcc", "compute-sanitizer", "nvdisasm"):
        about[tool] = shutil.which(tool)
    try:
        about["device"] = facts(load_cupy())
    except BenchError as error:
        about["device"] = str(error)
    return about


def main() -> int:
    """Print all of it; 1 if there is no device."""
    about = described()
    for name, value in about.items():
        print(f"{name}: {value}")
    return 0 if isinstance(about["device"], dict) else 1


if __name__ == "__main__":
    sys.exit(main())
