"""Tensors of torch that say they lie on a GPU, while their memory is the host's.

A torch without CUDA makes no others. All that fastdrop does with tensors on a GPU then runs as it
does there: torch's autograd and operators are its own, CuPy's arrays are over the tensors' memory,
and the kernels are CUDA's, compiled for the host, on the streams of a `Timeline`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastdrop_kernels.cuda import driver
from tests.support.devices import HostDevice
from tests.support.streams import Timeline, timeline_of

TORCH, CUPY = 11, 13  # torch's current stream of each device, plus its number, and CuPy's


class Tensors:
    """Where tensors lie: on device 0, but for keys, which lie on the host, and those moved."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.capturing = False
        self.drawn: list[torch.Tensor] = []  # by torch.randint
        self._devices: dict[int, int] = {}  # by address, where no other will ever lie
        self._moved: list[torch.Tensor] = []

    def move(self, x: torch.Tensor, device: int = 0) -> torch.Tensor:
        """Say that a tensor, and what else begins at its address, lies on a device."""
        self._devices[x.data_ptr()] = device
        self._moved.append(x)
        return x

    def device_of(self, x: torch.Tensor) -> int:
        """Return the number of a tensor's device; -1 is the CPU."""
        a_key = x.dtype == torch.int64 and x.shape == (2,)
        return self._devices.get(x.data_ptr(), -1 if a_key else 0)

    def launches(self) -> list[int]:
        """Return the streams of all launches; there must be nothing else, and no memory of CuPy."""
        assert {one[0] for one in self.timeline.told} <= {"launch"}
        assert self.timeline.kept == []
        return [one[1] for one in self.timeline.told]


@contextmanager
def tensors_on_gpu(host: HostDevice, launcher: Any, *, at_once: bool = True) -> Iterator[Tensors]:
    """Let tensors say that they lie on a GPU, for a while.

    What is launched runs at once, or else when the timeline is run.
    """
    with (
        timeline_of(host, launcher) as timeline,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setitem(sys.modules, "torch", torch)  # which the timeline has replaced
        tensors = Tensors(timeline)
        timeline.current = CUPY
        if at_once:
            patch.setattr(timeline, "put", lambda stream, action: action())
        _say_where(patch, tensors)
        _install_torchs_streams(patch, tensors)
        yield tensors
        assert timeline.current == CUPY


def _say_where(patch: pytest.MonkeyPatch, tensors: Tensors) -> None:
    def device(x: torch.Tensor) -> torch.device:
        number = tensors.device_of(x)
        return torch.device("cpu") if number < 0 else torch.device("cuda", number)

    kind = torch.Tensor
    patch.setattr(kind, "is_cpu", property(lambda x: tensors.device_of(x) < 0))
    patch.setattr(kind, "is_cuda", property(lambda x: tensors.device_of(x) >= 0))
    patch.setattr(kind, "device", property(device))
    patch.setattr(kind, "get_device", lambda x: tensors.device_of(x))


def _install_torchs_streams(patch: pytest.MonkeyPatch, tensors: Tensors) -> None:
    draw = torch.randint

    def randint(*args: Any, device: Any, **more: Any) -> torch.Tensor:
        drawn = draw(*args, **more)
        tensors.drawn.append(drawn)
        return drawn if torch.device(device).type == "cpu" else tensors.move(drawn)

    def current_stream(device: torch.device) -> Any:
        assert device.type == "cuda"
        return SimpleNamespace(cuda_stream=TORCH + device.index)

    patch.setattr(torch, "randint", randint)
    patch.setattr(torch.cuda, "current_stream", current_stream)
    patch.setattr(torch.cuda, "is_initialized", lambda: True)
    patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: tensors.capturing)


@contextmanager
def capture(tensors: Tensors) -> Iterator[Callable[[], None]]:
    """Capture what is launched on torch's stream in a graph; what is yielded replays it."""
    graph: list[Any] = []
    launcher: Any = driver._launcher

    class Capturing:
        address = staticmethod(launcher.address)

        @staticmethod
        def launch(launch: Any) -> None:
            assert tensors.timeline.current == TORCH
            graph.append(launch)

    def replay() -> None:
        for launch in graph:
            launcher.launch(launch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_launcher", Capturing)
        patch.setattr(tensors, "capturing", True)
        patch.setattr(tensors.timeline, "capturing", {TORCH})
        yield replay
