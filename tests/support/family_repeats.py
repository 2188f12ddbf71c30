"""Calls like earlier ones, of the whole element-wise family: on the CPU, a GPU, or in its place.

Each check makes a call once, and then calls like it, which must go the short way and not see that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastdrop as fd
from tests.support import normals, oracle
from tests.support.oracle import Array
from tests.support.repeat_cases import short_ways_only

P = 0.25  # which is the same number in every dtype
KEYS = fd.Key(2**40 + 3, 2**63 + 11), fd.Key(2**64 - 1, 2**64 - 1), fd.Key(0, 0)
SHAPE = 5, 6, 47


class Host:
    """The place of NumPy's arrays, as `devices.Device` is that of CuPy's."""

    def put(self, x: Array) -> Array:
        return np.array(x, order="C")

    def get(self, x: Any) -> Array:
        result: Array = x
        return result


@dataclass(frozen=True)
class Member:
    """A function of the family, with a p and a parameter of its own."""

    name: str
    # (x, *, rng, **more) -> result
    call: Callable[..., Any]
    # (x, key, **where) -> what it must give
    expected: Callable[..., Array]
    dtype: str = "float32"
    made: Any = None  # the dtype of a mask, which has no x
    shares: bool = True  # takes a noise_shape

    def result(self, shape: tuple[int, ...]) -> Array:
        """Return a poisoned array that it can write to."""
        if self.made is None:
            return oracle.poisoned(shape, self.dtype)
        size = -(-int(np.prod(shape)) // 8)
        return oracle.poisoned(shape if self.made == "bool" else (size,), np.uint8).view(self.made)


def _mask(x: Any, **more: Any) -> Any:
    return fd.dropout_mask(x.shape, P, like=x, **more)


def _packed(x: Array, key: fd.Key, **where: Any) -> Array:
    return np.packbits(oracle.mask(x.shape, P, key, **where), axis=None, bitorder="little")


def _alpha(x: Array, key: fd.Key, **where: Any) -> Array:
    return oracle.affine(oracle.mask(x.shape, P, key, **where), x, *oracle.alpha_numbers(P))


def _alpha_backward(x: Array, key: fd.Key, **where: Any) -> Array:
    kept = oracle.mask(x.shape, P, key, **where)
    return oracle.applied(kept, x, oracle.alpha_numbers(P)[0])


def _feature(x: Array, key: fd.Key, **where: Any) -> Array:
    return oracle.dropped(x, P, key, noise_shape=(None, None, 1), **where)


def _path(x: Array, key: fd.Key, **where: Any) -> Array:
    return oracle.applied(oracle.mask(x.shape, P, key, noise_shape=(None, 1, 1), **where), x, 1.0)


MEMBERS = (
    Member(
        "dropout", lambda x, **more: fd.dropout(x, P, **more),
        lambda x, key, **where: oracle.dropped(x, P, key, **where),
    ),
    Member(
        "dropout by NumPy's p", lambda x, **more: fd.dropout(x, np.float32(P), **more),
        lambda x, key, **where: oracle.dropped(x, P, key, **where),
    ),
    Member(
        "scaled dropout", lambda x, **more: fd.dropout(x, P, scale=-2.5, **more),
        lambda x, key, **where: oracle.applied(oracle.mask(x.shape, P, key, **where), x, -2.5),
    ),
    Member(
        "masked_fill", lambda x, **more: fd.masked_fill(x, P, -0.0, **more),
        lambda x, key, **where: oracle.filled(x, P, -0.0, key, **where),
    ),
    Member(
        "masked_fill of integers", lambda x, **more: fd.masked_fill(x, P, 103, **more),
        lambda x, key, **where: oracle.filled(x, P, 103, key, **where), "int64",
    ),
    Member(
        "dropout_mask", _mask, lambda x, key, **where: oracle.mask(x.shape, P, key, **where),
        made="bool",
    ),
    Member("packed mask", lambda x, **more: _mask(x, packed=True, **more), _packed, made="uint8"),
    Member("alpha_dropout", lambda x, **more: fd.alpha_dropout(x, P, **more), _alpha),
    Member(
        "alpha_dropout_backward", lambda x, **more: fd.alpha_dropout_backward(x, P, **more),
        _alpha_backward,
    ),
    Member(
        "gaussian_dropout", lambda x, **more: fd.gaussian_dropout(x, P, **more),
        lambda x, key, **where: normals.expected("times", x, P, key, **where),
    ),
    Member(
        "gaussian_noise", lambda x, **more: fd.gaussian_noise(x, 0.75, **more),
        lambda x, key, **where: normals.expected("plus", x, 0.75, key, **where),
    ),
    Member(
        "feature_dropout", lambda x, **more: fd.feature_dropout(x, P, **more), _feature,
        shares=False,
    ),
    Member(
        "drop_path", lambda x, **more: fd.drop_path(x, P, scale_by_keep=False, **more), _path,
        shares=False,
    ),
)  # fmt: skip
NAMES = {member.name: member for member in MEMBERS}
WHERES: list[dict[str, Any]] = [
    {},
    {"offset": 77},
    {"offset": 2**40},
    {"offset": (1, 2, 3), "global_shape": (7, 9, 60)},
    {"noise_shape": (None, 1, 1)},
    {"noise_shape": (1, None), "offset": 8},
]

# How an array is laid: what is put somewhere, and the view of it that it is.
LAYOUTS: dict[str, tuple[Callable[[Array], Array], Callable[[Any], Any]]] = {
    "C": (lambda x: x, lambda a: a),
    "F": (lambda x: x.T, lambda a: a.T),
    "turned": (lambda x: x.transpose(1, 0, 2), lambda a: a.transpose(1, 0, 2)),
    "stepped": (lambda x: np.repeat(x, 2, -1), lambda a: a[..., ::2]),
    "backwards": (lambda x: x[::-1, ::-1], lambda a: a[::-1, ::-1]),
}


def numbers(member: Member, shape: tuple[int, ...] = SHAPE) -> Array:
    """Return fresh numbers, none of them 0."""
    drawn = np.random.default_rng().integers(1, 1000, shape)
    return drawn.astype(member.dtype) if member.dtype == "int64" else (drawn / 7).astype(np.float32)


def laid(device: Any, x: Array, layout: str) -> Any:
    """Put an array somewhere, laid as is said."""
    base, view = LAYOUTS[layout if x.ndim == len(SHAPE) else "C"]
    return view(device.put(base(x)))


def check_later_calls(device: Any, member: Member, layout: str, where: dict[str, Any]) -> None:
    """Other numbers, arrays and keys: new results, results that are given, and in place."""
    if not member.shares and "noise_shape" in where:
        return
    first = laid(device, numbers(member), layout)
    made = member.call(first, rng=KEYS[0], **where)
    member.call(first, rng=KEYS[0], out=laid(device, member.result(SHAPE), layout), **where)
    for key in KEYS:
        x = numbers(member)
        want = member.expected(x, key, **where)
        given, out = laid(device, x, layout), laid(device, member.result(SHAPE), layout)
        with short_ways_only():
            y = member.call(given, rng=key, **where)
            assert member.call(given, rng=key, out=out, **where) is out
        assert type(y) is type(made)
        assert (y.dtype, y.strides) == (made.dtype, made.strides)
        for result in (y, out):
            oracle.assert_same(np.ascontiguousarray(device.get(result)), want)
        oracle.assert_same(np.ascontiguousarray(device.get(given)), x)
        if member.made is None:
            with short_ways_only():
                assert member.call(given, rng=key, out=given, **where) is given
            oracle.assert_same(np.ascontiguousarray(device.get(given)), want)


def outcome(device: Any, call: Callable[..., Any], out: Any = None, **given: Any) -> Any:
    """Return all that a call does that can be seen: result or error, and what was written."""
    rng = np.random.default_rng(5)
    given = {"rng": rng, **given}
    if out is not None:
        given["out"] = out
    try:
        y = call(**given)
        seen = y if isinstance(y, np.ndarray) else device.get(y)
        result: Any = type(y), y.dtype, y.shape, y.strides, seen.tobytes(), y is out
    except (TypeError, ValueError) as error:
        result = type(error), str(error)
    written = None
    if hasattr(out, "strides"):
        written = (out if isinstance(out, np.ndarray) else device.get(out)).tobytes()
    return result, written, rng.bit_generator.state["state"]
