"""Who is timed on a GPU: copies, which no dropout can pass, fastdrop, and how others do it."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .. import ours
from ..common import HALF, P
from ..contender import load
from .device import Sets

Call = Callable[[int], Any]


@dataclass(frozen=True)
class Ready:
    """A contender made ready for some sets of arrays.

    Attributes
    ----------
    forward : callable
        ``forward(i)`` does one forward on the i-th set and returns the output.
    begin, finish : callable, optional
        ``y, kept = begin(i)`` does a forward of training, ``finish(i, kept)`` its backward.
    step : callable, optional
        Both at once, where they cannot be told apart.
    allocated : callable, optional
        Bytes that its allocator has given out now.
    view : callable
        Turns an output into a CuPy array.
    done : callable, optional
        Waits until all is done, for those who have a stream of their own.
    """

    forward: Call
    begin: Callable[[int], tuple[Any, Any]] | None = None
    finish: Callable[[int, Any], Any] | None = None
    step: Call | None = None
    allocated: Callable[[], int] | None = None
    view: Callable[[Any], Any] = lambda y: y
    done: Callable[[], object] | None = None

    def both(self) -> Call | None:
        """Return forward and backward as one call."""
        if self.step or self.begin is None or self.finish is None:
            return self.step
        begin, finish = self.begin, self.finish

        def step(i: int) -> Any:
            y, kept = begin(i)
            return y, finish(i, kept)

        return step


@dataclass(frozen=True)
class Contender:
    """One way to compute dropout on a GPU, or a copy.

    `fresh` says whether its output is a new array; `setup` makes it ready.
    """

    name: str
    label: str
    role: Literal["roof", "ours", "peer"]
    setup: Callable[[Sets, float], Ready]
    needs: tuple[str, ...] = ()
    fresh: bool = False
    dtypes: tuple[str, ...] = (*HALF, "float32", "float64")
    p: float = P


def _alternating(sets: Sets, one: Callable[[Any, Any], Any]) -> Ready:
    """Make ready what computes y of x: the backward is the same on the gradient."""
    x, y = sets.parts("x"), sets.parts("y")
    dy, dx = (sets.parts("dy"), sets.parts("dx")) if sets.step else (x, y)
    n = sets.count

    return Ready(
        forward=lambda i: one(x[i % n], y[i % n]),
        begin=lambda i: (one(x[i % n], y[i % n]), None),
        finish=lambda i, kept: one(dy[i % n], dx[i % n]),
        allocated=sets.cupy.get_default_memory_pool().used_bytes,
    )


def copy(sets: Sets, p: float) -> Ready:
    """Copy by the driver: cudaMemcpyAsync."""
    runtime, stream = sets.cupy.cuda.runtime, sets.cupy.cuda.get_current_stream().ptr

    def one(x: Any, y: Any) -> Any:
        kind = runtime.memcpyDeviceToDevice
        runtime.memcpyAsync(y.data.ptr, x.data.ptr, x.nbytes, kind, stream)
        return y

    return _alternating(sets, one)


_COPY = """
extern "C" __global__ void copy(const uint4* x, uint4* y, unsigned long long n) {
    const unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i];
}
"""


def copy_kernel(sets: Sets, p: float) -> Ready:
    """Copy by a kernel of 16 bytes a thread."""
    kernel = sets.cupy.RawKernel(_COPY, "copy")
    vectors = sets.elements * sets.dtype.itemsize // 16
    count = sets.cupy.uint64(vectors)

    def one(x: Any, y: Any) -> Any:
        kernel((-(-vectors // 256),), (256,), (x, y, count))
        return y

    return _alternating(sets, one)


def fastdrop(sets: Sets, p: float) -> Ready:
    """Write to a given output."""
    dropout, key = load("fastdrop").dropout, ours.key()
    return _alternating(sets, lambda x, y: dropout(x, p, rng=key, out=y))


def fastdrop_new(sets: Sets, p: float) -> Ready:
    """Return a new array."""
    dropout, key = load("fastdrop").dropout, ours.key()
    return _alternating(sets, lambda x, y: dropout(x, p, rng=key))


def cupy_idiom(sets: Sets, p: float) -> Ready:
    """Draw uniforms, compare, multiply, divide; the mask is kept for the backward."""
    random, q = sets.cupy.random.random, 1 - p
    x, n = sets.parts("x"), sets.count
    dy = sets.parts("dy") if sets.step else x

    def begin(i: int) -> tuple[Any, Any]:
        mask = random(x[i % n].shape, dtype=sets.cupy.float32) >= p
        return x[i % n] * mask / q, mask

    return Ready(
        forward=lambda i: begin(i)[0],
        begin=begin,
        finish=lambda i, mask: dy[i % n] * mask / q,
        allocated=sets.cupy.get_default_memory_pool().used_bytes,
    )


def _tensors(sets: Sets, name: str) -> list[Any]:
    torch = load("torch")
    whole = torch.from_dlpack(sets.whole[name])
    return list(whole.split(sets.elements))


def torch(sets: Sets, p: float) -> Ready:
    """Torch's fused dropout, which keeps a byte an element for the backward."""
    module = load("torch")
    dropout, gradient = module.nn.functional.dropout, module.autograd.grad
    x, n = _tensors(sets, "x"), sets.count
    leaves = [part.detach().requires_grad_() for part in x]
    dy = _tensors(sets, "dy") if sets.step else x

    def begin(i: int) -> tuple[Any, Any]:
        y = dropout(leaves[i % n], p, True)
        return y.detach(), y

    return Ready(
        forward=lambda i: dropout(x[i % n], p, True),
        begin=begin,
        finish=lambda i, y: gradient(y, leaves[i % n], dy[i % n])[0],
        allocated=module.cuda.memory_allocated,
        view=sets.cupy.from_dlpack,
    )


def triton(sets: Sets, p: float) -> Ready:
    """Triton's seeded dropout: the mask is drawn again, from a seed."""
    seeded = importlib.import_module("bench.gpu.triton_dropout").seeded
    names = ("x", "y", "dy", "dx") if sets.step else ("x", "y", "x", "y")
    x, y, dy, dx = (_tensors(sets, name) for name in names)
    n = sets.count
    return Ready(
        forward=lambda i: seeded(x[i % n], y[i % n], p),
        begin=lambda i: (seeded(x[i % n], y[i % n], p), None),
        finish=lambda i, kept: seeded(dy[i % n], dx[i % n], p),
        allocated=load("torch").cuda.memory_allocated,
        view=sets.cupy.from_dlpack,
    )


@functools.cache
def _jax() -> Any:
    # Otherwise it takes most of the memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return load("jax")


def jax(sets: Sets, p: float) -> Ready:
    """JAX's bernoulli and where, compiled; forward and backward in one compiled function."""
    module = _jax()
    if module.default_backend() != "gpu":
        raise ImportError("this JAX has no GPU")
    numpy, key, n = module.numpy, module.random.key(2026), sets.count

    def drop(x: Any) -> Any:
        kept = module.random.bernoulli(key, 1 - p, x.shape)
        return numpy.where(kept, x / (1 - p), 0).astype(x.dtype)

    def both(x: Any, dy: Any) -> Any:
        y, back = module.vjp(drop, x)
        return y, back(dy)[0]

    forward, step = module.jit(drop), module.jit(both)
    x = [numpy.from_dlpack(part) for part in sets.parts("x")]
    dy = [numpy.from_dlpack(part) for part in sets.parts("dy")] if sets.step else x
    last: list[Any] = [None]

    def keep(made: Any) -> Any:
        last[0] = made
        return made

    return Ready(
        forward=lambda i: keep(forward(x[i % n])),
        step=lambda i: keep(step(x[i % n], dy[i % n])),
        view=sets.cupy.from_dlpack,
        done=lambda: module.block_until_ready(last[0]),
    )


ROOF = Contender("copy", "copy, cudaMemcpyAsync", "roof", copy)
CONTENDERS = (
    ROOF,
    Contender("copy-kernel", "copy, a kernel of 16 bytes a thread", "roof", copy_kernel),
    Contender("fastdrop", "fastdrop, out=y", "ours", fastdrop, ("fastdrop",)),
    Contender("fastdrop-new", "fastdrop, new array", "ours", fastdrop_new, ("fastdrop",), True),
    Contender("torch", "torch F.dropout", "peer", torch, ("torch",), True),
    # It hands numbers over as float32.
    Contender(
        "triton", "Triton, seeded", "peer", triton, ("torch", "triton"), dtypes=(*HALF, "float32")
    ),
    Contender("cupy", "x * (random(x.shape) >= p) / (1 - p)", "peer", cupy_idiom, fresh=True),
    Contender("jax", "JAX bernoulli + where, jit", "peer", jax, ("jax",), True),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
DTYPES = (*HALF, "float32", "float64")


def unavailable(contender: Contender) -> str | None:
    """Say why a contender cannot run here; None if it can, as far as is seen without trying."""
    try:
        for module in contender.needs:
            _jax() if module == "jax" else load(module)
        if "torch" in contender.needs and not load("torch").cuda.is_available():
            return f"left out: {contender.label} (this torch has no CUDA)"
    except ImportError as error:
        return f"left out, not importable: {contender.label} ({error})"
    return None
