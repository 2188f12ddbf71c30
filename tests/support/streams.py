"""CUDA streams on the host: what is launched runs later, in the worst order that the events allow.

`Timeline` keeps what each stream was told. `run` goes through the streams one after the other, each
as far as it may: a result that is right for every order of the streams does not depend on luck.
There is no implicit order between a default stream and others, as a stream made with
`non_blocking=True` has none. The protocols of CuPy, PyTorch, JAX and Numba are followed as their
sources have them.
"""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fastdrop_kernels.cuda import driver
from fastdrop_kernels.cuda.launch import Launch
from tests.support import internals
from tests.support.devices import HostDevice, seen
from tests.support.oracle import Array

LEGACY = 1  # the default stream in the protocols; its handle is 0


class Timeline:
    """What streams were told, in order, and what the host was told to wait for."""

    def __init__(self) -> None:
        self.current = 0  # CuPy's
        self.capturing: set[int] = set()
        self.kept: list[Any] = []
        self.told: list[tuple[Any, ...]] = []  # ("launch", stream), ("wait", later, earlier), ...
        self._queues: dict[int, deque[tuple[str, Any]]] = {}
        self._done: set[int] = set()  # events

    def put(self, stream: int, action: Callable[[], Any]) -> None:
        """Put something on a stream that no test counts."""
        self._queue(stream).append(("run", action))

    def launch(self, action: Callable[[], Any]) -> None:
        """Launch on CuPy's current stream."""
        self.told.append(("launch", self.current))
        self.put(self.current, action)

    def record(self, event: Event, stream: int) -> None:
        """Record an event on a stream."""
        event.number, event.stream = len(self.told), stream
        self.told.append(("record", stream))
        self._queue(stream).append(("record", event.number))

    def wait(self, stream: int, event: Event) -> None:
        """Let a stream wait for an event."""
        if (event.stream in self.capturing) != (stream in self.capturing):
            if stream in self.capturing or not stream:
                raise AssertionError("a graph cannot wait for, nor be joined by, such a stream")
            self.capturing.add(stream)  # it joins the capture
        self.told.append(("wait", stream, event.stream))
        self._queue(stream).append(("wait", event.number))

    def synchronize(self, stream: int) -> None:
        """Let the host wait for a stream, and for nothing that the stream need not wait for."""
        assert stream not in self.capturing, "the host cannot wait for a graph"
        self.told.append(("synchronize", stream))
        self._advance(stream)

    def done(self, event: Event) -> bool:
        """Say whether an event has come."""
        assert event.stream not in self.capturing
        return event.number in self._done

    def run(self, order: Sequence[int]) -> None:
        """Run all that is left, a stream that comes earlier in `order` as far as it can get."""
        assert set(self._queues) <= set(order)
        while any(self._queues.values()):
            if not any(self._step(stream) for stream in order):
                raise AssertionError("the streams wait for each other")

    def crossings(self) -> set[tuple[int, int]]:
        """Return (later, earlier) for each wait of a stream for another."""
        waits = [one[1:] for one in self.told if one[0] == "wait"]
        return {(later, earlier) for later, earlier in waits if later != earlier}

    def count(self, what: str) -> int:
        """Return how often streams, or the host, were told something."""
        return sum(one[0] == what for one in self.told)

    def _queue(self, stream: int) -> deque[tuple[str, Any]]:
        return self._queues.setdefault(stream, deque())

    def _step(self, stream: int) -> bool:
        """Run a stream until it has to wait; say whether anything ran."""
        queue, ran = self._queue(stream), False
        while queue and not (queue[0][0] == "wait" and queue[0][1] not in self._done):
            what, of = queue.popleft()
            ran = True
            if what == "run":
                of()
            elif what == "record":
                self._done.add(of)
        return ran

    def _advance(self, stream: int) -> None:
        while queue := self._queue(stream):
            if not self._step(stream):
                needed = queue[0][1]
                owner = next(s for s, q in self._queues.items() if ("record", needed) in q)
                self._advance_to(owner, needed)

    def _advance_to(self, stream: int, event: int) -> None:
        queue = self._queue(stream)
        while event not in self._done:
            what, of = queue[0]
            if what == "wait" and of not in self._done:
                owner = next(s for s, q in self._queues.items() if ("record", of) in q)
                self._advance_to(owner, of)
            queue.popleft()
            if what == "run":
                of()
            elif what == "record":
                self._done.add(of)


class Event:
    """`cupy.cuda.Event` on a timeline."""

    timeline: Timeline

    def __init__(self, *, disable_timing: bool) -> None:
        assert disable_timing, "an event with a time costs more"
        self.number, self.stream = -1, -1

    def record(self, stream: Any) -> None:
        self.timeline.record(self, stream.ptr)

    @property
    def done(self) -> bool:
        return self.timeline.done(self)


class Stream:
    """`cupy.cuda.Stream` on a timeline, for a handle."""

    timeline: Timeline
    null: Stream
    ptds: Stream

    def __init__(self, handle: int) -> None:
        self.ptr = handle

    @classmethod
    def from_external(cls, stream: Any) -> Stream:
        version, handle = stream.__cuda_stream__()
        assert version == 0
        return cls(handle)

    def use(self) -> None:
        self.timeline.current = self.ptr

    def wait_event(self, event: Event) -> None:
        self.timeline.wait(self.ptr, event)

    def synchronize(self) -> None:
        self.timeline.synchronize(self.ptr)


class DeferredLauncher:
    """Puts launches on a timeline, and lets another launcher run them when their time has come."""

    def __init__(self, inner: Any, timeline: Timeline) -> None:
        self._inner, self._timeline = inner, timeline

    def address(self, array: Any) -> int:
        address: int = self._inner.address(array)
        return address

    def launch(self, launch: Launch) -> None:
        self._timeline.launch(lambda: self._inner.launch(launch))


class Library:
    """A library with arrays on a GPU; `stream` is the one that it uses now."""

    def __init__(self, timeline: Timeline, host: HostDevice, stream: int) -> None:
        self.timeline, self.host, self.stream = timeline, host, stream

    def array(self, x: Array) -> Any:
        """Return an array of it, of its own memory."""
        return self.kind(self, self.host.put(x))

    kind: Any

    def put(self, action: Callable[[], Any]) -> None:
        """Put something on the stream that the library uses."""
        self.timeline.put(self.stream, action)


class _Array:
    """What the arrays of all libraries have: CuPy's array over the same memory."""

    def __init__(self, library: Any, memory: Any) -> None:
        self.library, self.memory = library, memory

    @property
    def shape(self) -> Any:
        return self.memory.shape

    @property
    def dtype(self) -> Any:
        return self.memory.dtype


class _Exchanged(_Array):
    """An array that speaks DLPack: a consumer's stream waits for the library's."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, stream: int | None = None, **how: Any) -> Any:
        timeline = self.library.timeline
        assert stream is not None and stream != 0, "the protocol disallows it"
        consumer = 0 if stream == LEGACY else stream
        if stream != -1 and consumer != self.library.stream:
            event = Event(disable_timing=True)
            timeline.record(event, self.library.stream)
            timeline.wait(consumer, event)
        return self


class Tensor(_Exchanged):
    """`torch.Tensor`."""

    __module__ = "torch"
    device = types.SimpleNamespace(type="cuda", index=0)
    requires_grad = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {**interface_of(self.memory), "version": 2}


class ArrayImpl(_Array):
    """`jax.Array`: a stream may wait until it is there; once dropped, its memory is used again."""

    __module__ = "jaxlib._jax"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, *, stream: int | None = None, **how: Any) -> Any:
        timeline = self.library.timeline
        assert stream is not None and stream > 0, "JAX takes any number for a stream's handle"
        event = Event(disable_timing=True)
        timeline.record(event, self.library.stream)
        timeline.wait(0 if stream == LEGACY else stream, event)
        return self

    def __del__(self) -> None:
        memory = self.memory
        self.library.put(lambda: overwrite(memory))


class Interfaced(_Array):
    """An array that says by the CUDA array interface which stream it is used on."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = self.library.stream or LEGACY
        return {**interface_of(self.memory), "stream": stream, "version": 3}


class DeviceNDArray(_Array):
    """A device array of Numba's, bound to a stream or, on the default one, to none."""

    __module__ = "numba.cuda.cudadrv.devicearray"

    def copy_to_host(self) -> Any:
        raise AssertionError("nothing is copied")

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = self.library.stream or None
        return {**interface_of(self.memory), "stream": stream, "version": 3}


class Torch(Library):
    kind = Tensor


class Jax(Library):
    kind = ArrayImpl


class InterfaceLibrary(Library):
    kind = Interfaced


class NumbaCuda(Library):
    kind = DeviceNDArray


class ExchangeLibrary(Library):
    """A library that speaks DLPack alone."""

    kind = _Exchanged


class Cupy(Library):
    """CuPy itself, whose stream is the timeline's current one."""

    @property
    def stream(self) -> int:
        return self.timeline.current

    @stream.setter
    def stream(self, stream: int) -> None:
        self.timeline.current = stream

    def array(self, x: Array) -> Any:
        return self.host.put(x)


def interface_of(x: Any) -> dict[str, Any]:
    """Return the interface of a CuPy array without the entries about streams."""
    about = {"shape": x.shape, "typestr": x.dtype.str, "strides": x.strides}
    return {**about, "data": (x.data.ptr, False)}


def overwrite(x: Any) -> None:
    """Fill memory with other bits, as a library does that uses it again."""
    seen(x)[...] = 77


@contextmanager
def timeline_of(host: HostDevice, launcher: Any, torch: int = 0) -> Iterator[Timeline]:
    """Put CuPy's streams, and the launches of the CUDA driver, on a timeline for a while.

    `launcher` runs what is launched when its time has come. PyTorch is on the stream `torch`.
    """
    timeline, allocate = Timeline(), host.cupy.cuda.get_allocator()

    def keep(size: int) -> Any:
        """Allocate what is never freed, because what is launched runs later."""
        timeline.kept.append(allocate(size))
        return timeline.kept[-1]

    with pytest.MonkeyPatch.context() as patch, host.cupy.cuda.using_allocator(keep):
        _install(patch, timeline, host.cupy)
        patch.setattr(driver, "_launcher", DeferredLauncher(launcher, timeline))
        module: Any = types.ModuleType("torch")
        current = types.SimpleNamespace(cuda_stream=torch)
        module.cuda = types.SimpleNamespace(current_stream=lambda device: current)
        patch.setitem(sys.modules, "torch", module)
        yield timeline


def _install(patch: pytest.MonkeyPatch, timeline: Timeline, cupy: Any) -> None:
    Event.timeline = Stream.timeline = timeline
    Stream.null, Stream.ptds = Stream(0), Stream(2)

    def from_dlpack(x: Any) -> Any:
        """As CuPy does: it gives its current stream, and tries again without what is new."""
        assert x.__dlpack_device__()[0] == 2
        stream = timeline.current or LEGACY
        try:
            owner = x.__dlpack__(stream=stream, max_version=(1, 0), copy=None)
        except TypeError:
            owner = x.__dlpack__(stream=stream)
        whole = owner.memory.data
        memory = cupy.cuda.UnownedMemory(whole.mem.ptr, whole.mem.size, owner, 0)
        pointer = cupy.cuda.MemoryPointer(memory, whole.ptr - memory.ptr)
        return cupy.ndarray(owner.shape, owner.dtype, pointer, owner.memory.strides)

    def asarray(x: Any) -> Any:
        """As CuPy does: the host waits for the stream that an array names."""
        about = x.__cuda_array_interface__
        if about.get("stream") is not None:
            timeline.synchronize(0 if about["stream"] == LEGACY else about["stream"])
        size = int(np.prod(about["shape"])) * np.dtype(about["typestr"]).itemsize
        memory = cupy.cuda.UnownedMemory(about["data"][0], size, x, 0)
        pointer = cupy.cuda.MemoryPointer(memory, 0)
        return cupy.ndarray(about["shape"], about["typestr"], pointer, about["strides"])

    patch.setattr(cupy.cuda, "Stream", Stream)
    patch.setattr(cupy.cuda, "Event", Event)
    patch.setattr(cupy.cuda, "get_current_stream", lambda: Stream(timeline.current))
    patch.setattr(
        cupy.cuda.runtime, "streamIsCapturing", lambda stream: stream in timeline.capturing
    )
    patch.setattr(cupy, "from_dlpack", from_dlpack)
    patch.setattr(cupy, "asarray", asarray)
    patch.setattr(internals.cupy_streams(), "_being_read", deque())
