"""Fuse dropout into your own kernel: bias, ReLU and dropout in one pass over a layer's output.

Run it with ``python -m fastdrop.examples.own_kernel``. The kernel is compiled by `numba.njit`, and
calls `fastdrop.device` for the decision on an element. It is compared, bit for bit, with the same
computation by NumPy, and with `fastdrop.dropout` after bias and ReLU. If Numba finds a GPU, the
same kernel, compiled by ``numba.cuda.jit``, runs there too.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop import device

try:
    from numba import cuda
except ImportError:  # a Numba without the CUDA target
    cuda = None

Array: TypeAlias = npt.NDArray[np.float32]

SHAPE = (2048, 1000)  # minibatch and units
SMALL = (6, 50)  # for Numba's CUDA simulator, which is slow: 128 threads in Python
P = 0.3
KEY = fd.Key(42)
ROUNDS = 15
THREADS = 128
ZERO = np.float32(0)


@numba.njit  # type: ignore[untyped-decorator]
def bias_relu_dropout(
    x: Array, bias: Array, seed: Any, stream: Any, t: Any, scale: Any, y: Array
) -> None:
    """Write ``dropout(relu(x + bias))``; x and y are flattened, `bias` has one entry per column."""
    column = 0
    for block in range((x.size + 7) // 8):
        kept = device.keep8(seed, stream, block, t)  # one bit for each of 8 elements
        for i in range(8 * block, min(8 * block + 8, x.size)):
            a = max(x[i] + bias[column], ZERO)
            y[i] = a * scale if kept & np.uint64(1) else ZERO
            kept >>= np.uint64(1)
            column = column + 1 if column + 1 < bias.size else 0


def make_gpu_kernel() -> Any:
    """Return the same kernel for a GPU, where each thread processes one block of 8 elements."""

    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(x: Array, bias: Array, seed: Any, stream: Any, t: Any, scale: Any, y: Array) -> None:
        block = cuda.grid(1)
        if 8 * block < x.size:
            kept = device.keep8(seed, stream, block, t)
            for i in range(8 * block, min(8 * block + 8, x.size)):
                a = max(x[i] + bias[i % bias.size], ZERO)
                y[i] = a * scale if kept & np.uint64(1) else ZERO
                kept >>= np.uint64(1)

    return kernel


def chain(x: Array, bias: Array) -> Array:
    """Return the result by NumPy, with the mask of `dropout`."""
    kept = fd.dropout_mask(x.shape, P, rng=KEY)
    scale = np.float32(1 / (1 - P))
    result: Array = np.where(kept, np.maximum(x + bias, ZERO) * scale, ZERO)
    return result


def dropout_last(x: Array, bias: Array) -> Array:
    """Return the same by NumPy's bias and ReLU, followed by `fastdrop.dropout`."""
    result: Array = fd.dropout(np.maximum(x + bias, ZERO), P, rng=KEY)
    return result


def fused(x: Array, bias: Array) -> Array:
    """Return the same by the fused kernel."""
    x = np.ascontiguousarray(x)  # the kernel numbers elements in C order
    y = np.empty(x.shape, x.dtype)
    t, scale = device.threshold(P), np.float32(1 / (1 - P))
    bias_relu_dropout(x.reshape(-1), bias, *parts(KEY), t, scale, y.reshape(-1))
    return y


def fused_on_gpu(x: Array, bias: Array) -> Array:
    """Return the same by the fused kernel on a GPU."""
    x_gpu, bias_gpu = cuda.to_device(x.ravel()), cuda.to_device(bias)
    y_gpu = cuda.to_device(np.full(x.size, np.nan, np.float32))
    t, scale = device.threshold(P), np.float32(1 / (1 - P))
    blocks = -(-x.size // (8 * THREADS))
    make_gpu_kernel()[blocks, THREADS](x_gpu, bias_gpu, *parts(KEY), t, scale, y_gpu)
    result: Array = y_gpu.copy_to_host().reshape(x.shape)
    return result


def parts(key: fd.Key) -> tuple[np.uint64, np.uint64]:
    """Return a key's integers as uint64."""
    return np.uint64(key.seed), np.uint64(key.stream)


def inputs(shape: tuple[int, int]) -> tuple[Array, Array]:
    """Return a layer's output before its bias, and the bias."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    return x, rng.standard_normal(shape[1], np.float32)


def milliseconds(functions: dict[str, Callable[[Array, Array], Array]]) -> dict[str, float]:
    """Return the median time of each function, measured interleaved."""
    x, bias = inputs(SHAPE)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter()
            function(x, bias)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def simulated() -> bool:
    """Return whether Numba uses its CUDA simulator."""
    return bool(numba.config.ENABLE_CUDASIM)


def main() -> int:
    """Run the example; return 0 if all results are equal bit for bit, else 1."""
    if find_spec("rich") is None:
        print("This example needs rich: pip install 'fastdrop-kernels[examples]'", file=sys.stderr)
        return 1
    from rich.console import Console
    from rich.table import Table

    functions: dict[str, Callable[[Array, Array], Array]] = {
        "NumPy, and fastdrop.dropout_mask": chain,
        "NumPy, then fastdrop.dropout": dropout_last,
        "one kernel with fastdrop.device": fused,
    }
    expected = chain(*inputs(SHAPE))
    right = {name: _same(f(*inputs(SHAPE)), expected) for name, f in functions.items()}
    times = milliseconds(functions)
    table = Table(title=f"dropout(relu(x + bias), {P}), {SHAPE[0]} x {SHAPE[1]} float32")
    for heading in ("", "ms", "relative", "equal to the bit"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, taken in times.items():
        relative = f"{taken / min(times.values()):.2f}"
        table.add_row(name, f"{taken:.2f}", relative, "yes" if right[name] else "NO")
    console = Console()
    console.print(table)
    console.print(
        f"Medians of {ROUNDS} calls, results newly allocated. The kernel runs on one thread, "
        f"fastdrop's functions on up to {fd.get_num_threads()}."
    )
    if cuda is None or not cuda.is_available():
        console.print("On a GPU: not tried, Numba finds none.")
    else:
        shape = SMALL if simulated() else SHAPE
        where = "In Numba's simulator of a GPU" if simulated() else "On the GPU"
        on_gpu = _same(fused_on_gpu(*inputs(shape)), chain(*inputs(shape)))
        right[where] = on_gpu
        word = "equal to the bit" if on_gpu else "NOT EQUAL"
        console.print(f"{where}, {shape[0]} x {shape[1]}: {word}.")
    return 0 if all(right.values()) else 1


def _same(actual: Array, expected: Array) -> bool:
    return actual.tobytes() == expected.tobytes()


if __name__ == "__main__":
    raise SystemExit(main())
