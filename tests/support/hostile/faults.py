"""Wrong values for every parameter of the public functions, by the parameter's name.

`table` looks them up: the table says which belong to what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd
from tests.support.hostile import calls

NAN, INF, HUGE = float("nan"), float("inf"), 10**400
KEY = fd.Key(3)


class Fresh(NamedTuple):
    """A value that is made for each call, as calls may change it."""

    make: Callable[[], Any]


class Wrong(NamedTuple):
    """Values that raise TypeError, and values that raise ValueError."""

    types: tuple[Any, ...] = ()
    values: tuple[Any, ...] = ()

    def __add__(self, other: Any) -> Wrong:
        """Return the values of both."""
        return Wrong(self.types + other.types, self.values + other.values)

    def but(self, *fine: Any) -> Wrong:
        """Return all values but some, which are told by their repr."""
        shown = {repr(value) for value in fine}
        return Wrong(
            tuple(v for v in self.types if repr(v) not in shown),
            tuple(v for v in self.values if repr(v) not in shown),
        )

    def all_values(self) -> Wrong:
        """Return the same where each raises ValueError, as none is right."""
        return Wrong((), self.types + self.values)

    def __iter__(self) -> Iterator[Any]:
        """Yield each value with the error that it raises."""
        yield from [(value, TypeError) for value in self.types]
        yield from [(value, ValueError) for value in self.values]


def types(*values: Any) -> Wrong:
    return Wrong(types=values)


def values(*values: Any) -> Wrong:
    return Wrong(values=values)


GENERATOR = Fresh(lambda: np.random.default_rng(1))
RAGGED = [[0.5], [0.5, 0.1]]
NO_NUMBERS = types(
    "0.5", None, True, np.True_, 0.5j, b"1", {}, object(), KEY, GENERATOR, int, Ellipsis,
    np.datetime64("2020-01-01"), [0.5], [], np.zeros((2, 2)), RAGGED, np.ma.masked,
)  # fmt: skip
REALS = NO_NUMBERS + values(NAN, INF, -INF, HUGE, -HUGE, np.float32(NAN))
ONE_P = REALS + values(-0.1, 1.5, 2, -1, -5e-324, np.float32(1.5))
# Where an array of p is taken.
P = ONE_P.but([0.5], [], np.zeros((2, 2)), RAGGED) + Wrong(
    (
        np.ma.array([0.5] * 4), np.array([0.5] * 4, object), np.array(["a"] * 4),
        np.array([0.5j] * 4), np.array([True] * 4),
    ),
    (np.full(4, -1.0), np.full(4, NAN), np.full(4, 1.5, np.float32), RAGGED),
)  # fmt: skip
WRONG_SHAPE_OF_P = values(np.full(7, 0.5), [], np.full((1, 1, 1, 1, 1, 4), 0.5))
INTEGERS = types(
    "1", None, True, np.True_, 1.5, 2.0, np.float64(1), 1j, b"1", {}, object(), KEY, GENERATOR,
    [1], np.zeros((2, 2)), np.array([1, 2]), np.array(1.0), [], NAN, INF, Ellipsis,
)  # fmt: skip
COUNTS = INTEGERS + values(-1, -HUGE)
OPTIONAL_COUNTS = COUNTS.but(None)
AXES = INTEGERS + values(5, -5, HUGE, -HUGE, 1 << 63)
FLAGS = types(
    2, -1, 1.0, "yes", "True", None, [], np.int64(1), np.array([True]), np.array(True), KEY,
    GENERATOR, NAN, object(),
)  # fmt: skip
STRICT_FLAGS = FLAGS + types(0, 1)
CHOICES = types(KEY, GENERATOR) + values(
    "bad", "", None, 1, True, [], {}, object(), b"row", ("row",), NAN, np.zeros((2, 2))
)
NAMES = types(None, 1, True, object(), KEY, b"dropout", NAN) + values("bad", "", ["bad"], [1])
RNG = types(
    1.5, NAN, True, "1", b"ab", [1.5], [True], [None], {}, {"seed": 1, "stream": 2}, object(),
    np.array([1.5]), np.random.default_rng, np.random.Philox, fd, int, Ellipsis, 1j, np.float64(1),
    calls.x(), np.zeros((2, 2, 2), np.uint64), lambda: 1,
) + values(-1, np.int64(-1), -HUGE, [-1], (1, -2))  # fmt: skip
SHARED_RNG = RNG + types(np.array([[1, 2], [3, 4]]), np.zeros((2, 2), np.uint64))
SAMPLES_RNG = RNG + types(np.zeros((2, 2), np.int64), np.zeros((2, 3), np.uint64))
KEYS_OF_OTHERS = values(np.zeros((3, 2), np.uint64))
OFFSET = types(
    1.5, True, "1", None, (1, 2), [0, 0], NAN, KEY, GENERATOR, {}, np.zeros(2), np.float64(0), 1j
) + values(-1, -HUGE, HUGE, 1 << 63)
# The size passes 2**63.
LAST_OFFSET = values((1 << 63) - 1)
GLOBAL_SHAPE = types(
    "ab", 1.5, (2.0, 4), (True, 4), (None, 4), {}, KEY, GENERATOR, NAN, True, np.zeros((2, 2)), 1j
) + values((2,), (-2, 4), (2, 4, 1, 1, 1, 1, 1), -1, HUGE, (), [0] * 6)
NOISE_SHAPE = types(
    "ab", 1, (1.5, 1), (True, 1), ("1", 1), ((1,), 1), {}, KEY, GENERATOR, NAN, np.zeros(2),
    np.ones((2, 2), int), True, HUGE,
) + values((3, 4), (2, 4, 1), (0, 4), (-1, 4), (HUGE, 1))  # fmt: skip
NOISE_SHAPE_OF_A_LAYER = NOISE_SHAPE.but((3, 4), (2, 4, 1), (HUGE, 1))
SCALE = (NO_NUMBERS.but(None)) + values(NAN, INF, -INF, 1e39, HUGE)
SCALE_OF_ANY_DTYPE = SCALE.but(1e39)
SHAPE = types(
    1.5, "3", None, (2, 1.0), (True,), ("a",), {3}, KEY, GENERATOR, NAN, True, ((2,),), {},
    object(), np.zeros(2), np.zeros((2, 2), int), 1j, (None, 2),
) + values(-1, (3, -2), (-HUGE,), HUGE, (1 << 40, 1 << 40), (0, 1 << 63))  # fmt: skip
PROGRESS = types(1, 0, [], KEY, object(), 1.5) + values("bad")
OPERAND = types(
    np.zeros(4), np.zeros(4, int), np.zeros(4, ">f4"), "a", [None], ["a"], [1j], KEY, GENERATOR,
    RAGGED, np.ma.array(calls.x()), {}, object(), True, [True] * 4, 1j, HUGE, set(), Ellipsis,
) + values(np.zeros(7, np.float32), np.zeros((1, 2, 4), np.float32), 1e39)  # fmt: skip
INDICES = types(
    [1.5, 2], ["a", "b"], [1 << 64, 1], [HUGE, 1], np.array([1.5, 2]), [True, False], KEY, "ab", {},
    GENERATOR, [None, 1], np.array([1, 2], object), [1 + 2j, 1], np.ma.array([1, 2]), object(), NAN,
    {1, 2},
) + values([-1, 1], 1, -1, [[1, 2]], [[1], [1, 2]])  # fmt: skip
SAMPLE_INDEX = INDICES + values([1], [1, 2, 3], [1 << 62, 1])
VALUE = types(
    None, "a", 1j, object(), {}, KEY, GENERATOR, np.ma.masked, b"1", Ellipsis, set(),
    np.datetime64("2020-01-01"),
) + values(HUGE, -HUGE, 1e39)  # fmt: skip
WEIGHTS_DTYPE = types(
    "bad",
    None,
    1,
    object(),
    "U3",
    object,
    "complex64",
    np.dtype("f8,f4"),
    ">f4",
    KEY,
    NAN,
    "uint8",
    True,
)


def arrays(right: Any, wrong: str) -> Wrong:
    """Return wrong arrays made of a right one, by the kinds of NumPy's dtypes that are wrong."""
    made: dict[str, Any] = {
        "b": right > 0,
        "i": np.zeros(right.shape, np.int64),
        "c": right.astype(np.complex64),
        "g": right.astype(np.longdouble),
        "O": right.astype(object),
        "U": right.astype("U3"),
        "S": right.astype("S3"),
        "V": np.zeros(right.shape, [("a", "f4")]),
        "M": np.zeros(right.shape, "M8[s]"),
        ">": right.astype(right.dtype.newbyteorder("S")),
        "f": right.astype(np.float32),
    }
    objects = types(
        np.ma.array(right), None, {1.0}, {"a": right}, Fresh(lambda: iter(())), KEY, GENERATOR,
        object(), int, HUGE, [HUGE], [None], Ellipsis,
    )  # fmt: skip
    return types(*[made[kind] for kind in wrong]) + objects + values(RAGGED)


FLOATS = arrays(calls.x(), "bicgOUSVM>") + types(memoryview(b"abc"))
FLOAT_MAPS = arrays(calls.maps(), "bicgOUSVM>")
FLOAT_VOLUMES = arrays(calls.maps(5), "bicgOUSVM>")
