"""Calls that find no memory for what they need beside the output, which they must not touch then.

``python -m tests.support.scenarios.out_of_memory``, on Linux: the size of the address space is
limited to what is there, so that nothing as large as an array can be allocated. It prints the
calls that wanted more. glibc must keep nothing that is freed (MALLOC_MMAP_THRESHOLD_=65536), and
have no arenas of threads, whose memory is reserved beforehand (MALLOC_ARENA_MAX=1).
"""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support.oracle import Array, poisoned

assert sys.platform == "linux"

ROWS, COLUMNS = 8192, 1024
SLACK = 1 << 20  # bytes that may still be allocated, far less than an array is
KEY = fd.Key(5, 6)

Call = Callable[[], Any]


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(1).standard_normal(shape, np.float32).astype(dtype)


class Made:
    """A call, and the arrays that it writes to and reads."""

    def __init__(self, call: Call, out: Array | None = None, *read: Array) -> None:
        self.call, self.out, self.read = call, out, read


def calls() -> dict[str, Made]:
    """Return the calls by name; each has arrays of its own."""
    x = numbers(ROWS, COLUMNS)
    made: dict[str, Made] = {}

    def add(name: str, function: Any, *given: Any, like: Array | None = x, **named: Any) -> None:
        out = None if like is None else poisoned(like.shape, like.dtype)
        more = {} if out is None else {"out": out}
        arrays = [a for a in (*given, *named.values()) if isinstance(a, np.ndarray)]
        made[name] = Made(lambda: function(*given, rng=KEY, **named, **more), out, *arrays)

    p = np.random.default_rng(2).random((ROWS, COLUMNS))
    add("dropout, new result", fd.dropout, x, 0.3, like=None)
    add("dropout", fd.dropout, x, 0.3)
    add("dropout, p of elements", fd.dropout, x, p)
    add(
        "dropout, of lists",
        fd.dropout,
        [[1.0] * 4096] * 512,
        0.3,
        like=numbers(512, 4096, dtype="f8"),
    )
    add("dropout_mask, p of elements", fd.dropout_mask, x.shape, p, like=x.astype(np.bool_))
    add("masked_fill, values", fd.masked_fill, x, 0.3, x[::-1])
    add("masked_fill, other values", fd.masked_fill, x, 0.3, x.astype(np.float64))
    add("alpha_dropout", fd.alpha_dropout, x.T, 0.3, like=x.T)
    add("gaussian_noise", fd.gaussian_noise, x, 0.3)
    add("zoneout", fd.zoneout, x, x[::-1], 0.3)
    add("bias_act_dropout_add", fd.bias_act_dropout_add, x, x[0], "gelu", 0.3, residual=x[::-1])
    add("bias_act_dropout_add_backward", fd.bias_act_dropout_add_backward, x, x, x, "gelu", 0.3)
    add("softmax_dropout", fd.softmax_dropout, x, 0.3)
    add("softmax_dropout, of columns", fd.softmax_dropout, x, 0.3, axis=0)
    add("softmax_dropout_backward, of columns", fd.softmax_dropout_backward, x, x, 0.3, axis=0)
    planes = x.reshape(8, 4, 512, 512)
    add("drop_block2d", fd.drop_block2d, planes, 0.1, 3, like=planes)
    add("swap_rows", fd.swap_rows, x, 0.3)
    add("swap_rows, permuted", fd.swap_rows, x, 0.3, replace=False)
    add("keep_k, of columns", fd.keep_k, x.shape, 100, axis=0, like=x.astype(np.bool_))
    add("poisson_weights", fd.poisson_weights, x.shape, like=x.astype(np.int8))
    images = x.reshape(32, 1, 512, 512)
    add("random_erasing, noise", fd.random_erasing, images, 1.0, value="noise", like=images)
    add("spec_augment", fd.spec_augment, x[None], value=0.0, like=x[None])
    # Outputs that overlap what is read: as if they did not, so that something is copied.
    for name, function in (("dropout", fd.dropout), ("gaussian_dropout", fd.gaussian_dropout)):
        base = numbers(ROWS + 1, COLUMNS)
        made[f"{name}, overlapping"] = _overlapping(base, function)
    return made


def _overlapping(base: Array, function: Any) -> Made:
    return Made(lambda: function(base[:-1], 0.3, rng=KEY, out=base[1:]), base)


def _given(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Make all calls: with memory, without, and with memory again."""
    fd.set_num_threads(2)
    found = calls()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    for name, made in found.items():
        start = None if made.out is None else made.out.copy()
        result = made.call()  # compiles
        right = np.asarray(result[0] if isinstance(result, tuple) else result).copy()
        del result
        read = [a.tobytes() for a in made.read if a.size < 100_000]
        if made.out is not None and start is not None:
            made.out[...] = start
        gc.collect()
        resource.setrlimit(resource.RLIMIT_AS, (_given("VmSize") + SLACK, hard))
        failed = False
        try:
            made.call()
        except MemoryError:
            failed = True
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if failed:
            print(name)
            if made.out is not None and start is not None:
                assert made.out.tobytes() == start.tobytes(), f"{name}: out was written to"
            assert read == [a.tobytes() for a in made.read if a.size < 100_000], name
            again = made.call()
            again = np.asarray(again[0] if isinstance(again, tuple) else again)
        else:
            assert made.out is not None, f"{name}: nothing was allocated: this tests nothing"
            again = made.out if made.out.shape == right.shape else made.out[1:]
        assert again.tobytes() == right.tobytes(), f"{name}: wrong after that"


if __name__ == "__main__":
    main()
