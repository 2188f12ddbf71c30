"""The cases of arrays on a GPU: one table, for a real one and for CuPy arrays on the host."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import normals, oracle
from tests.support.devices import Device
from tests.support.oracle import POISON, Array

# All that dropout takes; a machine with a GPU need not have ml_dtypes.
BFLOAT16: tuple[Any, ...] = ()
if importlib.util.find_spec("ml_dtypes"):
    BFLOAT16 = (importlib.import_module("ml_dtypes").bfloat16,)
FLOATS: tuple[Any, ...] = ("float16", "float32", "float64", *BFLOAT16)
MOVED = ("bool", "int8", "uint8", "int16", "float16", "int32", "float32", "int64", "float64",
         "complex64", "complex128")  # fmt: skip
KEY = fd.Key(2**40 + 3, 2**63 + 11)
SHAPE = ROWS, COLUMNS = 37, 83
N = ROWS * COLUMNS

# Past 2**32 elements and blocks, and across them; and as far as indices go.
OFFSETS = (0, 1, 5, 7, 8, 2**32 - N // 2, 2**35 - N // 2 + 3, 2**60 + 1, 2**63 - N)
PLACES: list[dict[str, Any]] = [
    *({"offset": offset} for offset in OFFSETS),
    {"noise_shape": (None, 1)},
    {"noise_shape": (1, None)},
    {"noise_shape": ()},
    {"noise_shape": (None, 1), "offset": 2**32 - 17},
    {"offset": (3, 100), "global_shape": (ROWS + 9, COLUMNS + 333)},
    {"offset": (2**31, 5), "global_shape": (2**32, COLUMNS + 8)},
    {"offset": (3, 100), "global_shape": (ROWS + 9, COLUMNS + 333), "noise_shape": (None, 1)},
]
PROBABILITIES = (0.0, 2.0**-33, 0.1, 0.5, 0.9, 1 - 2.0**-33, 1.0)
# Sizes around what is treated at once: elements of a block, of a vector, of a warp, of a thread
# block, and none.
SIZES = (0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 255, 256, 257, 2047, 2048, 2049, 4099, 70_001)


@dataclass(frozen=True)
class Layout:
    """How an array lies in a larger one: the larger one's shape, and the view of it."""

    name: str
    base: Callable[[int, int], tuple[int, ...]]
    view: Callable[[Any, int, int], Any]


def _behind(k: int, a: Any, rows: int, columns: int) -> Any:
    return a[k : k + rows * columns].reshape(rows, columns)


LAYOUTS = (
    Layout("C order", lambda r, c: (r, c), lambda a, r, c: a),
    Layout("Fortran order", lambda r, c: (c, r), lambda a, r, c: a.T),
    Layout("columns", lambda r, c: (r, c + 5), lambda a, r, c: a[:, 3 : 3 + c]),
    Layout("Fortran columns", lambda r, c: (c + 2, r + 3), lambda a, r, c: a[1 : 1 + c, 2:-1].T),
    Layout("every other", lambda r, c: (2 * r, 3 * c), lambda a, r, c: a[::2, 1::3]),
    Layout("backwards", lambda r, c: (r, c), lambda a, r, c: a[::-1, ::-1]),
    *(
        Layout(
            f"{k} elements on",
            lambda r, c: (r * c + 8,),
            functools.partial(_behind, k),
        )
        for k in (1, 2, 3, 4, 7)
    ),
)


@dataclass
class Board:
    """An array on a device that lies in a larger one, which can be looked at as a whole."""

    device: Device
    base: Any
    view: Callable[[Any], Any]
    before: Array = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.device.get(self.base)

    @property
    def array(self) -> Any:
        return self.view(self.base)

    def values(self) -> Array:
        """Return the array as it is now."""
        now: Array = self.view(self.device.get(self.base))
        return now

    def assert_holds(self, expected: Array) -> None:
        """Assert that the array is this, bit for bit, and all around it what it was."""
        now = self.device.get(self.base)
        oracle.assert_same(np.ascontiguousarray(self.view(now)), np.ascontiguousarray(expected))
        self.view(now)[...] = self.view(self.before)
        assert now.tobytes() == self.before.tobytes(), "something beside it was written to"


def laid(device: Device, x: Array, layout: Layout) -> Board:
    """Put an array of two axes on a device in a layout, poison around it."""
    rows, columns = x.shape
    base = oracle.poisoned(layout.base(rows, columns), x.dtype)
    layout.view(base, rows, columns)[...] = x
    return Board(device, device.put(base), lambda a: layout.view(a, rows, columns))


def finfo(dtype: Any) -> Any:
    """Return what is known of a dtype of floats."""
    if np.dtype(dtype).name == "bfloat16":
        return importlib.import_module("ml_dtypes").finfo(dtype)
    return np.finfo(dtype)


def numbers(dtype: Any, shape: tuple[int, ...] = SHAPE) -> Array:
    """Return numbers, infinities, a NaN, zeros of both signs, and what is smallest and largest."""
    n = int(np.prod(shape))
    rng = np.random.default_rng()
    if np.dtype(dtype) == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype)
    x = (rng.integers(-100, 100, n) / 8).astype(dtype)
    if x.dtype.kind not in "iuc" and n >= 8:
        info = finfo(x.dtype)
        special = [np.inf, -np.inf, np.nan, -0.0, info.tiny, info.smallest_subnormal, info.max]
        x[rng.choice(n, 7, replace=False)] = np.array(special, x.dtype)
    return x.reshape(shape)


def fill_value(dtype: Any) -> Any:
    """Return what masked_fill writes to arrays of a dtype."""
    return True if np.dtype(dtype) == np.bool_ else 7


@dataclass(frozen=True)
class Call:
    """A function: what it gives for x (which the masks need for its shape alone), and must give."""

    name: str
    dtype: Any
    made: Callable[..., Any]  # (x on the device, p, **place and out)
    expected: Callable[..., Array]  # (x, p, **place)

    @property
    def target(self) -> Any:
        return np.dtype("bool" if self.name == "dropout_mask" else self.dtype)


def _mask_like(x: Any, p: float, out: Any = None, **place: Any) -> Any:
    where = {"like": x} if out is None else {"out": out}
    return fd.dropout_mask(x.shape, p, **where, **place)


@functools.lru_cache(maxsize=64)
def _mask(shape: tuple[int, ...], p: float, place: tuple[tuple[str, Any], ...]) -> Array:
    return oracle.mask(shape, p, KEY, **dict(place))


def kept(x: Any, p: float, place: dict[str, Any]) -> Array:
    """Return the mask of an array of x's shape."""
    return _mask(x.shape, p, tuple(place.items()))


def calls(key: Any = KEY) -> Iterator[Call]:
    """Yield every function in every dtype; they draw from a key, and must as from KEY."""

    def dropped(x: Any, p: float, **place: Any) -> Any:
        return fd.dropout(x, p, rng=key, **place)

    def marked(x: Any, p: float, **place: Any) -> Any:
        return _mask_like(x, p, rng=key, **place)

    for dtype in FLOATS:
        yield Call(
            f"dropout of {np.dtype(dtype)}",
            dtype,
            dropped,
            lambda x, p, **place: oracle.applied(kept(x, p, place), x, contract.scale(p)),
        )
        yield Call(
            f"alpha_dropout of {np.dtype(dtype)}",
            dtype,
            lambda x, p, **place: fd.alpha_dropout(x, p, rng=key, **place),
            lambda x, p, **place: oracle.affine(kept(x, p, place), x, *oracle.alpha_numbers(p)),
        )
        for what, function in normals.FUNCTIONS.items():
            # Half of p, for at 1 there is no Gaussian dropout.
            yield Call(
                f"{function.__name__} of {np.dtype(dtype)}",
                dtype,
                lambda x, p, function=function, **place: function(x, p / 2, rng=key, **place),
                lambda x, p, what=what, **place: normals.expected(what, x, p / 2, KEY, **place),
            )
    for dtype in MOVED:
        value = fill_value(dtype)
        yield Call(
            f"masked_fill of {dtype}",
            dtype,
            lambda x, p, value=value, **place: fd.masked_fill(x, p, value, rng=key, **place),
            lambda x, p, value=value, **place: np.where(kept(x, p, place), x, x.dtype.type(value)),
        )
    yield Call(
        "dropout_mask",
        "uint8",
        marked,
        lambda x, p, **place: kept(x, p, place),
    )


CALLS = tuple(calls())


def check(device: Device, call: Call, layout: Layout, p: float, place: dict[str, Any]) -> None:
    """Make a call: for a new array, for one that is given, and in place."""
    if not device.takes(call.dtype):
        pytest.skip(f"CuPy {device.cupy.__version__} takes no {np.dtype(call.dtype)}")
    x = numbers(call.dtype)
    expected = call.expected(x, p, **place)
    given = laid(device, x, layout)

    made = call.made(given.array, p, **place)
    oracle.assert_same(np.ascontiguousarray(device.get(made)), np.ascontiguousarray(expected))
    assert made.dtype == call.target
    if call.name != "dropout_mask":  # which has no x to be laid out like
        assert made.strides == np.empty_like(layout.view(device.get(given.base), *SHAPE)).strides
    given.assert_holds(x)

    # Poison is no bool: as bytes.
    poison = oracle.poisoned(
        SHAPE, f"u{call.target.itemsize}" if call.target == "?" else call.target
    )
    out = laid(device, poison.view(call.target), layout)
    assert call.made(given.array, p, out=(target := out.array), **place) is target
    out.assert_holds(expected)
    given.assert_holds(x)

    if call.name != "dropout_mask":
        board = laid(device, x, layout)
        call.made((x_and_out := board.array), p, out=x_and_out, **place)
        board.assert_holds(expected)


def check_packed(
    device: Device, shape: tuple[int, ...], p: float, place: dict[str, Any], key: Any = KEY
) -> None:
    """Draw a packed mask: to a new array, to one that is given, and to every other byte of one."""
    expected = np.packbits(oracle.mask(shape, p, KEY, **place), bitorder="little")
    like = device.put(np.zeros(1, np.uint8))
    made = fd.dropout_mask(shape, p, rng=key, packed=True, like=like, **place)
    oracle.assert_same(device.get(made), expected)
    for step in (1, 2):
        base = device.put(np.full(step * expected.size + 3, POISON, np.uint8))

        def view(a: Any, step: int = step) -> Any:
            return a[1 : 1 + step * expected.size : step]

        board = Board(device, base, view)
        fd.dropout_mask(shape, p, rng=key, packed=True, out=board.array, **place)
        board.assert_holds(expected)


def check_size(device: Device, call: Call, n: int, behind: int, place: dict[str, Any]) -> None:
    """Make a call on `n` contiguous elements, `behind` elements into memory, poison around them."""
    if not device.takes(call.dtype):
        pytest.skip(f"CuPy {device.cupy.__version__} takes no {np.dtype(call.dtype)}")
    x = numbers(call.dtype, (n,))

    def view(a: Any) -> Any:
        return a[behind : behind + n]

    def board(dtype: Any, values: Array | None) -> Board:
        base = oracle.poisoned((n + 40,), dtype)
        if values is not None:
            view(base)[...] = values
        return Board(device, device.put(base), view)

    given, out = board(call.dtype, x), board(call.target, None)
    call.made(given.array, 0.3, out=out.array, **place)
    out.assert_holds(call.expected(x, 0.3, **place))
    given.assert_holds(x)


def check_packed_each(device: Device) -> None:
    """Draw packed masks by a p of each channel and element, also to an array that is given."""
    like = device.put(np.ones(1))
    for shape, of_p in (((4, 6, 11, 13), (6, 1, 1)), ((1003,), (1003,)), ((5, 7), (5, 1))):
        p = np.random.default_rng().random(of_p)
        expected = np.packbits(fd.dropout_mask(shape, p, rng=KEY), bitorder="little")
        made = fd.dropout_mask(shape, p, rng=KEY, packed=True, like=like)
        oracle.assert_same(device.get(made), expected)
        board = device.put(np.full(2 * expected.size, 0xA5, np.uint8))
        out = board[::2]
        assert fd.dropout_mask(shape, p, rng=KEY, packed=True, out=out) is out
        written = device.get(board)
        oracle.assert_same(np.ascontiguousarray(written[::2]), expected)
        assert (written[1::2] == 0xA5).all()
