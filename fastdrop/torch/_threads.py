"""Threads of calls on the CPU: as many as torch uses, and the same ones.

`_compute` enters `as_torch` around calls to the kernels. torch's kernels run on the threads of an
OpenMP runtime, and so do ours then, see `fastdrop_kernels.cpu.host.openmp`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import Any

import torch

from fastdrop_kernels import threads

from .._arrays.numpy_arrays import cpu_driver

_torchs_count = torch.get_num_threads


def as_torch() -> contextlib.AbstractContextManager[Any]:
    """Let calls use at most as many threads as torch does, on torch's, in a ``with`` statement."""
    return threads.using(min(_torchs_count(), threads.thread_count()), _team())


def region_at() -> int:
    """Return the address of a region on torch's threads; 0 if there is none, or one thread."""
    count, team = min(_torchs_count(), threads.thread_count()), _team()
    return team.region_at(count) if count > 1 and team is not None and team.is_usable() else 0


@functools.cache
def _team() -> Any:
    """Return the team of the OpenMP runtime that torch is linked to; None if there is none."""
    library = os.path.join(os.path.dirname(torch.__file__), "lib", "libtorch_cpu.so")
    return cpu_driver().team_of(library)
