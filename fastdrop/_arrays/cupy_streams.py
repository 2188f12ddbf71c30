"""Order between CUDA streams: CuPy's current one, and those that other libraries work on.

`CupyBackend.ordered` calls `ordered` around whatever launches kernels on arrays of which one is
another library's. The work runs on the stream of the array that is written. Where that is not the
stream of all the others, events order it after what writes its inputs, and before what overwrites
them. The host waits only for libraries that cannot be told to: see `ordered`.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import cupy

from .._check.arguments import Array
from .cupy_views import LEGACY, PER_THREAD, LibraryMemory, memory_of

# Memory whose library waits for nothing, with an event behind the work that reads it.
_being_read: deque[tuple[Any, list[LibraryMemory]]] = deque()
_reading = threading.Lock()


@contextmanager
def ordered(inputs: Iterable[Array], target: Array | None, reads_cupys: bool) -> Iterator[None]:
    """Run what is launched meanwhile on the stream of `target`, in order with all other streams.

    `target` is the array that is written, or None if that is a new one, which lies on CuPy's
    current stream. `reads_cupys` says that other memory of CuPy's is read, too. All are on the
    current device.

    A library that exports arrays by DLPack alone cannot be told to wait. The host waits in its
    place until the work is done. But arrays of JAX never change, and are only kept until then.

    Where the work is captured in a CUDA graph, streams outside of the capture are left alone: a
    graph cannot wait for them, and its replays come in the order of those who launch it.
    """
    current = cupy.cuda.get_current_stream()
    here = _normal(current.ptr)
    arrays = [*inputs]
    own = here if target is None else _handle(target, here)
    handles = dict.fromkeys(_handle(array, here) for array in arrays)
    if reads_cupys:
        handles[here] = None
    handles.pop(own, None)
    streams = {here: current}
    work, *others = [streams.get(handle) or _stream(handle) for handle in (own, *handles)]
    memories = map(memory_of, arrays if target is None else [target, *arrays])
    silent = [memory for memory in memories if memory and memory.stream is None]
    waits = not all(memory.frozen for memory in silent)
    captured = bool(others or silent) and is_capturing(work)
    if captured:
        others = [other for other in others if is_capturing(other)]
    elif not own and any(map(is_capturing, others)):
        raise RuntimeError(
            "an input is on a stream that captures a CUDA graph, and CuPy's current stream, on "
            "which the result would be written, is the default one, which no graph can have: give "
            "an out of the library that captures, or make its stream CuPy's current one"
        )
    for other in others:
        _wait(work, other)
    work.use()  # and not `with`, which forgets a stream that was chosen by `use`
    try:
        yield
    finally:
        current.use()
        for other in others:
            _wait(other, work)
        if captured:
            pass  # nothing runs yet
        elif waits:
            work.synchronize()
        elif silent:
            _keep_while_read(silent, work)


class On:
    """Runs what is launched meanwhile on a stream of a device, that of all its arrays.

    No event is needed. The value is whether the stream is captured in a CUDA graph. It is a class,
    because a generator as a context takes longer than a launch.
    """

    __slots__ = ("_before", "_device", "_handle", "_other")

    def __init__(self, handle: int, device: int) -> None:
        self._handle, self._device = _normal(handle), device
        self._other: Any = None

    def __enter__(self) -> bool:
        """Make both CuPy's current ones."""
        runtime, handle = cupy.cuda.runtime, self._handle
        captured = handle != 0 and bool(runtime.streamIsCapturing(handle))
        if self._device != runtime.getDevice():
            self._other = cupy.cuda.Device(self._device)
            self._other.__enter__()
        self._before = cupy.cuda.get_current_stream()
        if _normal(self._before.ptr) != handle:
            _kept_stream(handle).use()
        return captured

    def __exit__(self, *error: object) -> None:
        """Go back to those before."""
        if _normal(self._before.ptr) != self._handle:
            self._before.use()
        if self._other is not None:
            self._other.__exit__(*error)


def _keep_while_read(memories: list[LibraryMemory], work: Any) -> None:
    """Keep memory until what was launched on a stream so far is done; forget what was read."""
    event = cupy.cuda.Event(disable_timing=True)
    event.record(work)
    with _reading:
        while _being_read and _being_read[0][0].done:
            _being_read.popleft()
        _being_read.append((event, memories))


def _handle(array: Array, here: int) -> int:
    """Return the handle of the stream that an array is used on; `here` is CuPy's current one."""
    memory = memory_of(array)
    return here if memory is None or memory.stream is None else memory.stream


def _normal(handle: int) -> int:
    return 0 if handle == LEGACY else handle


def _stream(handle: int) -> Any:
    """Return CuPy's object of a stream."""
    if not handle:
        return cupy.cuda.Stream.null
    return cupy.cuda.Stream.ptds if handle == PER_THREAD else _of_another_library(handle)


_kept_stream = functools.lru_cache(maxsize=64)(_stream)  # of libraries that end no streams


class _Handle:
    """A stream of another library, as CuPy takes it since version 14."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _of_another_library(handle: int) -> Any:
    if hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(_Handle(handle))
    return cupy.cuda.ExternalStream(handle)


def is_capturing(stream: Any) -> bool:
    """Say whether a stream is captured in a graph, which the default stream cannot be."""
    return _normal(stream.ptr) != 0 and bool(cupy.cuda.runtime.streamIsCapturing(stream.ptr))


def _wait(later: Any, earlier: Any) -> None:
    """Let what comes on one stream wait for what was launched on another so far."""
    event = cupy.cuda.Event(disable_timing=True)
    event.record(earlier)
    later.wait_event(event)
