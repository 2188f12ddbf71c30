"""Order between streams, on CuPy arrays over host memory: right for every order of the streams.

`tests.support.streams` says how streams and the protocols of other libraries are modelled.
tests/gpu/test_library_streams.py makes such checks on a GPU, with the libraries themselves.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import internals, oracle, streams
from tests.support.devices import HostDevice, cupy_or_skip, seen
from tests.support.gpu_cases import KEY, numbers
from tests.support.oracle import Array
from tests.support.streams import Timeline, timeline_of

cupy_or_skip()
X, OUT, CUPY = 11, 12, 13  # streams of the libraries of x and of out, and CuPy's current one
SHAPE = 5, 24
KINDS: dict[str, Any] = {
    "cupy": streams.Cupy,
    "torch": streams.Torch,
    "jax": streams.Jax,
    "numba": streams.NumbaCuda,
    "interface": streams.InterfaceLibrary,
    "dlpack": streams.ExchangeLibrary,
}
OUTPUTS = ["new", *(kind for kind in KINDS if kind != "jax")]  # whose arrays are read-only
SAYS_ITS_STREAM = ("torch", "numba", "interface")
APART, TOGETHER = (X, OUT, CUPY), (X, X, X)


@pytest.fixture
def launcher(cuda_on_host: Any, host: HostDevice) -> Any:
    """What runs the launches of the CUDA kernels on the host."""
    return cuda_on_host


class Scene:
    """An x that is being written, and an out that is being read and written, on their streams."""

    def __init__(
        self, timeline: Timeline, host: HostDevice, x: str, out: str, at: tuple[int, int, int]
    ) -> None:
        timeline.current = at[2]
        self.timeline, self.host, self.new = timeline, host, out == "new"
        self.source = KINDS[x](timeline, host, at[2] if x == "cupy" else at[0])
        if out == x:
            self.sink = self.source
        elif out in ("new", "cupy"):
            self.sink = streams.Cupy(timeline, host, at[2])
        else:
            self.sink = KINDS[out](timeline, host, at[1])
        self.numbers, self.before = (numbers("float32", SHAPE) for _ in range(2))
        self.unwritten = np.full(SHAPE, np.nan, np.float32)
        self.found: list[Array] = []

    def play(self, call: Callable[[Any, Any], Any], order: tuple[int, ...]) -> Array:
        """Let x be written and out be used, make a call, and use both again; run all of it."""
        x, out = self.source.array(self.unwritten), None
        memory = memory_of(x)
        self.source.put(lambda: self._write(memory, self.numbers))
        if not self.new:
            out = self.sink.array(self.before)
            self.sink.put(lambda: self._read(out))
            self.sink.put(lambda: self._write(memory_of(out), self.unwritten))
        result = call(x, out)
        assert self.new or result is out
        self.sink.put(lambda: self._read(result))
        if not isinstance(self.source, streams.Jax):  # which does so once its array is gone
            self.source.put(lambda: streams.overwrite(memory))
        del x
        self.timeline.run(order)
        if not self.new:
            oracle.assert_same(self.found[0], self.before)
        return self.found[-1]

    def _write(self, memory: Any, values: Array) -> None:
        seen(memory)[...] = values

    def _read(self, x: Any) -> None:
        self.found.append(self.host.get(memory_of(x)))


def memory_of(x: Any) -> Any:
    """Return CuPy's array over the memory of an array of any library."""
    return getattr(x, "memory", x)


def in_every_order(
    host: HostDevice,
    launcher: Any,
    call: Callable[[Any, Any], Any],
    check: Callable[[Array, Array], None],
    x: str,
    out: str,
    at: tuple[int, int, int],
) -> Timeline:
    """Play a scene once for each order of the streams; return the last timeline."""
    for order in itertools.permutations(sorted(set(at))):
        internals.forget_plans()
        with timeline_of(host, launcher, torch=at[x != "torch"]) as timeline:
            scene = Scene(timeline, host, x, out, at)
            for _ in range(2):  # a call, and one like it
                check(scene.play(call, order), scene.numbers)
                assert timeline.current == at[2]
    return timeline


COLUMNS = [0.3, 0.6] * 12
# What is called, and what then has to hold of what was found and x.
CALLS: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Array, Array], None]]] = {
    "dropout": (
        lambda x, out: fd.dropout(x, 0.3, rng=KEY, out=out),
        lambda y, x: oracle.assert_same(y, oracle.dropped(x, 0.3, KEY)),
    ),
    "dropout by a p of each column": (
        lambda x, out: fd.dropout(x, COLUMNS, rng=KEY, out=out),
        lambda y, x: oracle.assert_same(y, fd.dropout(x, COLUMNS, rng=KEY)),
    ),
    "evaluation": (
        lambda x, out: fd.dropout(x, 0.3, training=False, out=out),
        lambda y, x: oracle.assert_same(y, x),
    ),
    "softmax_dropout": (
        lambda x, out: fd.softmax_dropout(x, 0.3, rng=KEY, out=out),
        lambda y, x: np.testing.assert_allclose(y, fd.softmax_dropout(x, 0.3, rng=KEY), rtol=1e-5),
    ),
}


@pytest.fixture
def numba_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let results for Numba's arrays stay CuPy's, over which it could not make one here."""
    from numba import cuda

    def as_cuda_array(array: Any, sync: bool) -> Any:
        assert not sync
        return array

    monkeypatch.setattr(cuda, "as_cuda_array", as_cuda_array)


def stream_of_work(x: str, out: str, at: tuple[int, int, int]) -> int:
    """Return where the work belongs: to the library that is written, if it says where that is."""
    if out not in SAYS_ITS_STREAM:
        return at[2]
    return at[0] if out == x else at[1]


@pytest.mark.parametrize("at", [APART, TOGETHER], ids=["apart", "together"])
@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("x", KINDS)
@pytest.mark.usefixtures("numba_views")
def test_a_result_is_right_in_every_order_of_the_streams(
    host: HostDevice, launcher: Any, x: str, out: str, at: tuple[int, int, int]
) -> None:
    timeline = in_every_order(host, launcher, *CALLS["dropout"], x, out, at)
    launched_on = {one[1] for one in timeline.told if one[0] == "launch"}
    assert launched_on == {stream_of_work(x, out, at)}
    # The host waits where the library cannot be told to, and nowhere else.
    assert (timeline.count("synchronize") > 0) == ("dlpack" in (x, out))
    if at == TOGETHER:
        assert not timeline.crossings()


@pytest.mark.parametrize("name", [name for name in CALLS if name != "dropout"])
@pytest.mark.parametrize(
    ("x", "out"), [("torch", "torch"), ("cupy", "interface"), ("jax", "torch"), ("dlpack", "cupy")]
)
def test_other_calls_are_right_in_every_order(
    host: HostDevice, launcher: Any, name: str, x: str, out: str
) -> None:
    timeline = in_every_order(host, launcher, *CALLS[name], x, out, APART)
    launched_on = {one[1] for one in timeline.told if one[0] == "launch"}
    assert launched_on == {stream_of_work(x, out, APART)}


def test_libraries_on_the_default_stream_need_no_events(host: HostDevice, launcher: Any) -> None:
    for x, out in itertools.product(("cupy", "torch", "numba", "interface"), repeat=2):
        timeline = in_every_order(host, launcher, *CALLS["dropout"], x, out, (0, 0, 0))
        assert {one[0] for one in timeline.told} == {"launch"}, (x, out)


def test_one_library_on_its_stream_needs_no_events_and_leaves_cupys_alone(
    host: HostDevice, launcher: Any
) -> None:
    """So that the call can be captured in a graph of that library's."""
    for kind in SAYS_ITS_STREAM:
        for name in ("dropout", "softmax_dropout", "evaluation"):
            timeline = in_every_order(host, launcher, *CALLS[name], kind, kind, (X, X, CUPY))
            assert {one[:2] for one in timeline.told} == {("launch", X)}, (kind, name)


def test_a_plan_launches_on_what_is_the_current_stream_then(
    host: HostDevice, launcher: Any
) -> None:
    with timeline_of(host, launcher) as timeline:
        x = host.put(numbers("float32", SHAPE))
        out = host.put(numbers("float32", SHAPE))
        for timeline.current in (CUPY, X, 0, CUPY):
            fd.dropout(x, 0.3, rng=KEY, out=out)
            fd.dropout(x, 0.3, rng=KEY)
            fd.dropout_mask(SHAPE, 0.3, rng=KEY, like=x)
        assert timeline.told == [("launch", s) for s in (CUPY, X, 0, CUPY) for _ in range(3)]


@pytest.mark.parametrize("x", ["cupy", "torch", "interface", "jax"])
def test_in_a_capture_only_its_streams_are_ordered(host: HostDevice, launcher: Any, x: str) -> None:
    with timeline_of(host, launcher, torch=X) as timeline:
        source = KINDS[x](timeline, host, X if x == "torch" else OUT)
        timeline.current = CUPY
        torch = streams.Torch(timeline, host, X)
        a = source.array(numbers("float32", SHAPE))
        out = torch.array(numbers("float32", SHAPE))
        key = fd.cuda.DeviceKey(KEY)
        del timeline.told[:]
        timeline.capturing = {X}
        fd.dropout(a, 0.3, rng=key, out=out)
        waits = {pair for pair in timeline.crossings() if X in pair}
        assert not waits and not timeline.count("synchronize")
        assert ("launch", X) in timeline.told
        # A stream that is captured, too, is ordered.
        del timeline.told[:]
        timeline.capturing = {X, CUPY, OUT}
        fd.dropout(a, 0.3, rng=key, out=out)
        assert {(X, CUPY), (CUPY, X)} <= timeline.crossings()


def test_a_new_result_of_a_captured_input_is_an_error_on_the_default_stream(
    host: HostDevice, launcher: Any
) -> None:
    with timeline_of(host, launcher, torch=X) as timeline:
        x = streams.Torch(timeline, host, X).array(np.ones(SHAPE, np.float32))
        timeline.capturing = {X}
        with pytest.raises(RuntimeError, match="captures a CUDA graph.*give an out of the library"):
            fd.dropout(x, 0.3, rng=KEY)
        assert timeline.told == []
        timeline.current = CUPY  # which joins the capture, and comes back
        fd.dropout(x, 0.3, rng=KEY)
        told = [one for one in timeline.told if one[0] != "record"]
        assert told == [("wait", CUPY, X), ("launch", CUPY), ("wait", X, CUPY)]


def test_a_device_key_is_read_after_it_was_advanced(host: HostDevice, launcher: Any) -> None:
    x = numbers("float32", SHAPE)
    for order in itertools.permutations((X, CUPY)):
        with timeline_of(host, launcher, torch=X) as timeline:
            timeline.current = CUPY
            torch = streams.Torch(timeline, host, X)
            source, out = torch.array(x), torch.array(x)
            key = fd.cuda.DeviceKey(KEY)
            key.advance()
            fd.dropout(source, 0.3, rng=key, out=out)
            key.advance()
            timeline.run(order)
            oracle.assert_same(host.get(out.memory), oracle.dropped(x, 0.3, KEY.advanced(1)))


def test_operands_masks_and_products_are_ordered_too(host: HostDevice, launcher: Any) -> None:
    x, residual = (numbers("float32", SHAPE) for _ in range(2))
    with timeline_of(host, launcher, torch=X) as timeline:
        timeline.current = CUPY
        torch = streams.Torch(timeline, host, X)
        other = streams.InterfaceLibrary(timeline, host, OUT)

        def crossings(call: Callable[[], Any]) -> set[tuple[int, int]]:
            del timeline.told[:]
            call()
            return timeline.crossings()

        a, b, out = torch.array(x), other.array(residual), torch.array(x)
        add = crossings(lambda: fd.bias_act_dropout_add(a, residual=b, p=0.3, rng=KEY, out=out))
        assert add == {(X, OUT), (OUT, X)}
        kept = torch.array(np.ones(SHAPE, bool))
        assert crossings(lambda: fd.dropout_mask(SHAPE, 0.3, rng=KEY, out=kept)) == set()
        assert timeline.told == [("launch", X)]
        assert crossings(lambda: fd.dropout_mask(SHAPE, 0.3, rng=KEY, like=a)) == set()
        assert timeline.told == [("launch", CUPY)]
        mask = fd.Mask(SHAPE, 0.3, rng=KEY)
        assert crossings(lambda: mask * a) == {(CUPY, X), (X, CUPY)}
        grads = crossings(lambda: fd.softmax_dropout_backward(a, b, 0.3, rng=KEY, out=out))
        assert grads == {(X, OUT), (OUT, X)}


def test_arrays_of_libraries_that_do_not_wait_are_kept_until_they_are_read(
    host: HostDevice, launcher: Any
) -> None:
    with timeline_of(host, launcher) as timeline:
        jax = streams.Jax(timeline, host, X)
        gone: list[int] = []
        made = []
        for n in range(3):
            x = jax.array(np.ones(SHAPE, np.float32))
            weakref.finalize(x, gone.append, n)
            made.append(fd.dropout(x, 0.3, rng=KEY))
            del x
        assert gone == []
        timeline.run((0, X))
        fd.dropout(jax.array(np.ones(SHAPE, np.float32)), 0.3, rng=KEY)
        assert gone == [0, 1, 2]


def test_errors_come_before_anything_is_launched_and_leave_cupys_stream(
    host: HostDevice, launcher: Any
) -> None:
    with timeline_of(host, launcher, torch=X) as timeline:
        timeline.current = CUPY
        torch = streams.Torch(timeline, host, X)
        x = host.put(np.ones(SHAPE, np.float32))
        for out, match in (
            (torch.array(np.ones((5, 23), np.float32)), "out has shape"),
            (torch.array(np.ones(SHAPE, np.float64)), "out has dtype"),
        ):
            with pytest.raises((TypeError, ValueError), match=match):
                fd.dropout(x, 0.3, rng=KEY, out=out)
            assert timeline.current == CUPY
        assert not timeline.count("launch")


class Foreign:
    """A tensor of a dtype that DLPack numbers so."""

    __module__ = "torch"

    def __init__(self, dtype: str, code: int, bits: int) -> None:
        self.dtype, self.code, self.bits = dtype, code, bits

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **how: Any) -> Any:
        capsule = np.zeros(8).__dlpack__()
        address = ctypes.pythonapi.PyCapsule_GetPointer
        address.restype, address.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        at = address(capsule, b"dltensor") + 20
        assert ctypes.c_uint8.from_address(at).value == 2, "a float"
        (ctypes.c_uint8 * 2).from_address(at)[:] = [self.code, self.bits]
        return capsule


def test_cupy_13_is_not_given_dtypes_on_which_it_may_crash(
    host: HostDevice, launcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = internals.cupy_views()
    monkeypatch.setattr(views, "_MAY_CRASH", True)
    x = Foreign("torch.bfloat16", 4, 16)
    way = r"pip install 'cupy-cuda1.x>=14' ml_dtypes, or give {}\.float\(\)"
    with timeline_of(host, launcher) as timeline:
        with pytest.raises(TypeError, match="x is a torch.Foreign.*" + way.format("x")):
            fd.dropout(x, 0.5, rng=KEY)  # type: ignore[arg-type]
        a = host.put(np.ones(8, np.float32))
        with pytest.raises(TypeError, match="out is a torch.Foreign.*" + way.format("out")):
            fd.dropout(a, 0.5, rng=KEY, out=x)  # type: ignore[arg-type]
        assert timeline.told == []
        for code, bits in ((0, 64), (1, 8), (2, 16), (5, 128), (6, 8)):
            views._refuse_unknown(Foreign("", code, bits).__dlpack__())
        for code, bits in ((4, 16), (2, 8), (5, 32), (3, 64), (7, 8)):
            with pytest.raises(TypeError, match="does not know its dtype"):
                views._refuse_unknown(Foreign("", code, bits).__dlpack__())
