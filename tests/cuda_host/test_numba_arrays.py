"""Numba device arrays without CuPy, in processes that run Numba's CUDA simulator."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.slow import slow_unless
from tests.support.subprocesses import run_scenario


@pytest.mark.parametrize(
    "scene",
    slow_unless(
        lambda scene: scene in ("new_arrays", "errors"),
        ["new_arrays", "masks", "given_arrays", "layers", "errors"],
    ),
)
def test_numba_device_arrays_go_to_the_numba_kernels(scene: str) -> None:
    run_scenario("numba_arrays", scene, environment={"NUMBA_ENABLE_CUDASIM": "1"})


class _Event:
    def __init__(self, told: list[tuple[str, Any]]) -> None:
        self._told = told

    def record(self, stream: Any) -> None:
        self._told.append(("record", stream))

    def wait(self, stream: Any) -> None:
        self._told.append(("wait", stream))


class _Cuda:
    """Numba's events and streams, a stream being its handle."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def event(self, timing: bool) -> _Event:
        assert not timing
        return _Event(self.told)

    def external_stream(self, handle: int) -> int:
        return handle


@pytest.mark.parametrize(
    ("streams", "launched_on", "others"),
    [
        ((None, None), 0, []),  # of arrays that are bound to none, and so on the default stream
        ((None, 1), 0, []),  # which is the first in the interface
        ((None, 1), 1, []),
        ((7, 7), 7, []),
        ((7, 5), 7, [5]),
        ((None, 5), 0, [5]),
        ((7, None), 7, [0]),
        ((7, 1), 7, [0]),
    ],
)
def test_launches_are_in_order_with_the_streams_of_the_arrays(
    monkeypatch: pytest.MonkeyPatch, streams: Any, launched_on: int, others: list[int]
) -> None:
    memory = pytest.importorskip("fastdrop_kernels.numba_cuda.memory", reason="Numba has no CUDA")
    cuda = _Cuda()
    monkeypatch.setattr(memory, "cuda", cuda)
    monkeypatch.setattr(memory, "SIMULATED", False)
    arrays = tuple(memory.ArrayDescription(None, 0, (3,), (4,), stream) for stream in streams)
    with memory.ordered(arrays, launched_on):
        cuda.told.append(("launch", launched_on))
    on = 0 if launched_on == 1 else launched_on
    before = [told for other in others for told in (("record", other), ("wait", on))]
    after = [told for other in others for told in (("record", on), ("wait", other))]
    assert cuda.told == [*before, ("launch", launched_on), *after]
