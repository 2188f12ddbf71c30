"""Cases of element-wise functions: dropout, masks, fills, noise, two operands, fused epilogues."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import bias_act, normals, oracle, per_element
from tests.support.oracle import Array, assert_same, mask, poisoned

from .draws import Draw, Target, unchanged

MOVED = "? i1 u1 i2 u2 f2 i4 u4 f4 i8 u8 f8 c8 c16 M8[s] V16 S4 >i4".split()
_EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-23, "float64": 2.0**-52}


def check_call(
    d: Draw, function: Any, x: Array, given: tuple[Any, ...], named: dict[str, Any], expected: Array
) -> None:
    """Call with x first, into some output, and compare; what is read must stay as it was."""
    before = np.array(x, order="C")
    target = d.target(expected, x if x.dtype == expected.dtype else None)
    out = None if target is None else target.array
    made = d.call(function, x, *given, **named, out=out)
    assert target is None or made is out
    d.compare(made, expected)
    if target is not None:
        target.check(expected)
    if out is not x:
        unchanged(x, before)


def dropout(d: Draw) -> None:
    """`dropout` and its backward, into anything, also over what it reads."""
    if d.chance(0.08):
        x, target = d.overlap(d.dtype())
        key, p = d.key(), d.p()
        expected = oracle.dropped(x.copy(), p, key)
        d.compare(d.call(fd.dropout, x, p, rng=key, out=target.array), expected)
        target.check(expected)
        return
    shape, dtype, (rng, key) = d.shape(), d.dtype(), d.rng()
    p, where = d.p(), d.place(shape)
    x = d.array(shape, dtype)
    scale = d.note("scale", d.one_of((None, None, 1.0, 0.0, -2.5)))
    factor = contract.scale(p) if scale is None else scale
    expected = oracle.applied(mask(shape, p, key, **where), np.array(x, order="C"), factor)
    named: dict[str, Any] = {**where, "rng": rng, "scale": scale}
    if d.chance(0.15):
        y, backward = d.call(fd.dropout_vjp, x, p, **named)
        d.compare(y, expected)
        dy = d.array(shape, dtype)
        wanted = oracle.applied(mask(shape, p, key, **where), np.array(dy, order="C"), factor)
        d.compare(d.call(backward, dy), wanted)
        return
    check_call(d, fd.dropout, x, (p,), named, expected)


def dropout_by_array(d: Draw) -> None:
    """`dropout` with a p of each element, row or column."""
    shape, dtype, (rng, key) = d.shape(1), d.dtype(), d.rng()
    p, where = d.p_array(shape), d.place(shape, noise=False)
    x = d.array(shape, dtype)
    with np.errstate(all="ignore"):
        expected = per_element.expected(np.array(x, order="C"), p, None, key, **where)
    check_call(d, fd.dropout, x, (p,), {**where, "rng": rng}, expected)


def dropout_mask(d: Draw) -> None:
    """Masks, of bytes or packed."""
    shape, (rng, key), packed = d.shape(), d.rng(), d.chance(0.5)
    where = d.place(shape)
    if shape and d.chance(0.2):
        p: Any = d.p_array(shape)
        where.pop("noise_shape", None)
        kept = per_element.kept_by(p, shape, key, **where)
    else:
        p = d.p()
        kept = mask(shape, p, key, **where)
    expected = np.packbits(kept.reshape(-1), bitorder="little") if packed else kept
    target = d.target(np.asarray(expected))
    out = None if target is None else target.array
    made = d.call(fd.dropout_mask, shape, p, rng=rng, packed=packed, **where, out=out)
    d.compare(made, np.asarray(expected))
    if target is not None:
        target.check(np.asarray(expected))


def masked_fill(d: Draw) -> None:
    """`masked_fill` of any dtype, with a number or an array."""
    dtype = d.note("dtype", d.one_of((*map(np.dtype, MOVED), d.dtype())))
    shape, (rng, key), p = d.shape(), d.rng(), d.p()
    where = d.place(shape)
    x = d.array(shape, dtype) if dtype.kind in "f" else d.laid(_anything(d, shape, dtype))
    value: Any = _anything(d, (), dtype)
    if dtype.kind not in "VSM" and d.chance(0.3):
        part = tuple(1 if d.chance(0.5) else n for n in shape)
        value = d.laid(_anything(d, part, dtype))
    elif d.chance(0.5):
        value = value[()]
    kept = mask(shape, p, key, **where)
    raw, rows = _rows(np.array(x, order="C")), _rows(np.broadcast_to(value, shape).copy())
    made = np.where(kept.reshape(-1, 1), raw, rows)
    expected = np.ascontiguousarray(made).view(dtype).reshape(shape)
    before = np.array(x, order="C")
    target = d.target(expected, x)
    out = None if target is None else target.array
    y = np.array(d.call(fd.masked_fill, x, p, value, rng=rng, **where, out=out), order="C")
    assert y.dtype == dtype and y.shape == shape
    d.elements += y.size
    assert oracle.data(y) == oracle.data(expected)
    if out is not x:
        assert oracle.data(np.array(x, order="C")) == oracle.data(before)


def _rows(x: Array) -> Array:
    rows: Array = np.frombuffer(x.tobytes(), np.uint8).reshape(x.size, x.itemsize)
    return rows


def _anything(d: Draw, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Random bytes, which are values of the dtype."""
    high = 2 if dtype.kind == "b" else 256
    raw = d.r.integers(0, high, math.prod(shape) * dtype.itemsize, np.uint8)
    values: Array = np.frombuffer(raw.tobytes(), dtype).reshape(shape).copy()
    return values


def alpha_dropout(d: Draw) -> None:
    """`alpha_dropout` and its backward."""
    shape, dtype, (rng, key) = d.shape(), d.dtype(), d.rng()
    p, where, x = d.p(), d.place(shape), d.array(shape, dtype)
    a, b, c = oracle.alpha_numbers(p)
    function: Any = fd.alpha_dropout
    numbers = a, b, c
    if d.chance(0.4):
        function, numbers = fd.alpha_dropout_backward, (a, -0.0, 0.0)
    expected = oracle.affine(mask(shape, p, key, **where), np.array(x, order="C"), *numbers)
    check_call(d, function, x, (p,), {**where, "rng": rng}, expected)


def gaussian(d: Draw) -> None:
    """Normal factors, and normal noise."""
    what = d.note("what", d.one_of(("times", "plus")))
    shape, dtype, (rng, key) = d.shape(), d.dtype(), d.rng()
    number = d.p(below_one=True) if what == "times" else d.one_of((0.0, 0.1, 3.0))
    where, x = d.place(shape), d.array(shape, dtype)
    z = normals.normals_of(oracle.index_of(shape, **where), key)
    deviation = number if what == "plus" else math.sqrt(number / (1 - number))
    expected = normals.noisy(what, z, np.array(x, order="C"), deviation)
    check_call(d, normals.FUNCTIONS[what], x, (number,), {**where, "rng": rng}, expected)


def zoneout(d: Draw) -> None:
    """`zoneout` and its two gradients."""
    shape, dtype, (rng, key) = d.shape(), d.dtype(), d.rng()
    p, where = d.p(), d.place(shape, noise=False)
    x = d.array(shape, dtype)
    kept = mask(shape, p, key, **where)
    plain, zero = np.array(x, order="C"), dtype.type(0)
    if d.chance(0.4):
        dx, dh = d.call(fd.zoneout_backward, x, p, rng=rng, **where)
        d.compare(dx, np.where(kept, plain, zero))
        d.compare(dh, np.where(kept, zero, plain))
        return
    part = tuple(1 if d.chance(0.2) else n for n in shape)
    h = d.array(part, dtype)
    expected = np.where(kept, plain, np.broadcast_to(np.array(h, order="C"), shape))
    check_call(d, fd.zoneout, x, (h, p), {**where, "rng": rng}, expected)


def bias_act_dropout_add(d: Draw) -> None:
    """The fused epilogue and its gradient, rounded as kernels round, or within a few eps."""
    shape, dtype, (rng, key) = d.shape(1, 4), d.dtype(), d.rng()
    act = d.note("act", d.one_of((*bias_act.EXACT, *bias_act.ACTIVATIONS)))
    p, where = d.p(), d.place(shape, noise=False)
    x = d.array(shape, dtype, special=False)
    parts = [shape[-1:], (1,) * len(shape), shape, (shape[0], *[1] * (len(shape) - 1))]
    bias = None if d.chance(0.2) else d.laid(d.values(d.one_of(parts), dtype, special=False))
    kept = mask(shape, p, key, **where)
    factor = contract.scale(p)
    if dtype != np.float64:
        factor = float(np.float32(factor))
    plain = np.array(x, order="C")
    if d.chance(0.4):
        dy = d.array(shape, dtype, special=False)
        wide = np.array(dy, order="C")
        made = d.call(fd.bias_act_dropout_add_backward, dy, x, bias, act, p, rng=rng, **where)[0]
        rounded = bias_act.rounded_gradient(wide, plain, bias, act, kept, factor)
        size = np.abs(wide.astype(np.float64)) * factor * 4 * kept
    else:
        residual = None if d.chance(0.3) else d.array(shape, dtype, special=False)
        target = d.target(plain, x)
        out = None if target is None else target.array
        made = d.call(
            fd.bias_act_dropout_add, x, bias, act, p, rng=rng, residual=residual, **where, out=out
        )
        rounded = bias_act.rounded_forward(plain, bias, act, kept, factor, residual)
        size = bias_act.forward(plain, bias, act, kept, factor, residual)[1]
        size = size + np.where(kept, factor * (np.abs(plain.astype(np.float64)) + 1), 0)
    if act in bias_act.EXACT:
        d.compare(made, rounded.astype(dtype))
        return
    d.elements += made.size
    got = np.array(made, order="C")
    assert got.dtype == dtype and got.shape == shape
    half = dtype.itemsize == 2
    bound = size * ((1.1 if half else 8) * _EPS[dtype.name]) + np.finfo(np.float32).tiny
    if dtype == np.float16:
        bound = bound + 2.0**-24
    off = np.abs(got.astype(np.float64) - rounded.astype(np.float64))
    assert (off <= bound).all(), ("off by", float(np.max(off / bound)))


def mask_object(d: Draw) -> None:
    """`fd.Mask` times an array, in any order, and as an array."""
    shape, dtype, key, p = d.shape(1), d.dtype(), d.key(), d.p()
    x = d.array(shape, dtype)
    made = fd.Mask(shape, p, rng=key)
    kept = mask(shape, p, key)
    expected = oracle.applied(kept, np.array(x, order="C"), contract.scale(p) if p < 1 else 0.0)
    d.compare(d.call(lambda: x * made if d.chance(0.5) else made * x), expected)
    if d.chance(0.2):
        stored = np.where(kept, contract.scale(p) if p < 1 else 0.0, 0.0)
        assert_same(np.asarray(made), np.asarray(stored))


def output_is_refused(d: Draw) -> None:
    """A wrong output raises before anything is written."""
    shape, dtype = d.shape(1), d.dtype()
    x = d.values(shape, dtype)
    out = poisoned((*shape, 2), dtype)
    before = out.copy()
    try:
        d.call(fd.dropout, x, 0.5, rng=1, out=out)
    except ValueError:
        Target(out).check(before)
        return
    raise AssertionError("an output of another shape was taken")


CASES = {
    "dropout": (dropout, 6),
    "dropout, array of p": (dropout_by_array, 2),
    "dropout_mask": (dropout_mask, 3),
    "masked_fill": (masked_fill, 3),
    "alpha_dropout": (alpha_dropout, 1),
    "gaussian": (gaussian, 2),
    "zoneout": (zoneout, 2),
    "bias_act_dropout_add": (bias_act_dropout_add, 3),
    "Mask": (mask_object, 1),
    "refused": (output_is_refused, 1),
}
