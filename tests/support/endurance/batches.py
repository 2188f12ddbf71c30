"""Cases of the functions on batches: weights, spans, bands, erasing, swapped rows, tokens."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastdrop as fd
from fastdrop_kernels import contract
from tests.support import batch_oracle, oracle, spans
from tests.support.erasing import erased
from tests.support.oracle import Array, index_of, mask

from .draws import FLOATS, Draw

INTEGERS = tuple(map(np.dtype, ("i1", "i2", "i4", "i8")))
RULES: tuple[dict[str, Any], ...] = (
    {"p": 0.65},
    {"p": 0.3, "length": 4},
    {"n": 3, "length": 5, "min_spacing": 2},
    {"p": 0.15, "kind": "spanbert"},
    {"p": 0.5, "kind": "spanbert", "length": 2.0, "max_length": 4},
    {"p": 0.15, "kind": "t5"},
    {"p": 0.4, "kind": "t5", "length": 2.0},
)
# Axes of time, frequency and samples.
SPECTROGRAMS = (
    (2, 0, 1, None),
    (2, 1, 0, None),
    (3, 1, 2, 0),
    (3, 2, 1, 0),
    (4, 2, 3, 0),
    (3, 0, 2, 1),
)


def _into(d: Draw, function: Any, *given: Any, expected: Array, **named: Any) -> None:
    """Call, sometimes into an array of any layout, and compare."""
    target = d.target(expected)
    if target is None:
        d.compare(d.call(function, *given, **named), expected)
        return
    made = d.call(function, *given, **named, out=target.array)
    assert made is target.array
    d.compare(made, expected)
    target.check(expected)


def weights(d: Draw) -> None:
    """Poisson and Bernoulli weights, also by keys of samples."""
    shape, key = d.shape(1, 3), d.key()
    dtype = d.note("dtype", d.one_of((*FLOATS, *INTEGERS)))
    if d.chance(0.3):
        numbers = d.r.integers(0, 2**40, shape[0])
        inner = shape[1:]
        rows = [_uniforms(index_of(inner), key.fold_in(int(n))) for n in numbers]
        u = np.array(rows, np.uint32).reshape(shape)
        where: dict[str, Any] = {"sample_index": numbers}
    else:
        where = d.place(shape, noise=False)
        u = _uniforms(index_of(shape, **where), key)
    if d.chance(0.5):
        rate = d.note("rate", d.one_of((0.0, 0.3, 1.0, 7.25)))
        expected = batch_oracle.counts(u, rate).astype(dtype)
        _into(d, fd.poisson_weights, shape, rate, dtype=dtype, rng=key, **where, expected=expected)
        return
    p = 0.5 if dtype.kind == "i" else d.p()
    kept = np.asarray(u >= contract.threshold(p))
    ones = np.ones(shape, np.float64 if dtype.kind == "i" else dtype)
    expected = oracle.applied(kept, ones, contract.scale(p)).astype(dtype)
    _into(d, fd.bernoulli_weights, shape, p, dtype=dtype, rng=key, **where, expected=expected)


def _uniforms(index: Array, key: fd.Key) -> Array:
    return np.asarray(contract.uniform32(*batch_oracle.words(key), index), np.uint32)


def mask_spans(d: Draw) -> None:
    """Spans by all rules, in rows of their own lengths."""
    key, rule = d.key(), d.note("rule", d.one_of(RULES))
    # Spans of one length that is more than the last axis has are refused.
    least = 1 if "kind" in rule else rule.get("length", 10)
    rows, n = int(d.r.integers(1, 12)), int(d.r.integers(least, 120))
    shape = d.note("shape", (rows, n))
    lengths = d.r.integers(0, n + 1, rows).tolist() if d.chance(0.4) else None
    where = d.place(shape, noise=False, whole=-1)
    expected = spans.expected(shape, rule, key, lengths, **where)
    _into(d, fd.mask_spans, shape, rng=key, row_lengths=lengths, **rule, **where, expected=expected)


def spec_augment(d: Draw) -> None:
    """Bands in spectrograms of any axes, also in place."""
    axes, time, frequency, sample = d.note("axes", d.one_of(SPECTROGRAMS))
    shape = tuple(int(n) for n in d.r.integers(4, 24, axes))
    width = int(d.r.integers(0, 1 + min(shape[time], shape[frequency])))
    named: dict[str, Any] = {"time_width": width, "freq_width": width}
    named |= {"time_masks": d.one_of((0, 1, 3)), "freq_masks": d.one_of((0, 2))}
    dtype, key = d.dtype(), d.key()
    if sample is not None and d.chance(0.4):
        named["row_lengths"] = d.r.integers(0, shape[time] + 1, shape[sample]).tolist()
    offset = d.far() if d.chance(0.3) else 0
    x = d.laid(d.values(d.note("shape", shape), dtype))
    plain = np.array(x, order="C")
    expected = batch_oracle.spectrogram(
        plain, time, frequency, sample, key=key, offset=offset, **named
    )
    named |= {"time_axis": time, "freq_axis": frequency, "rng": key, "offset": offset}
    out = x if d.chance(0.3) else None
    d.compare(d.call(fd.spec_augment, x, out=out, **named), expected)
    assert out is x or oracle.data(np.array(x, order="C")) == oracle.data(plain)


def random_erasing(d: Draw) -> None:
    """Rectangles of images, also in place."""
    n, c = int(d.r.integers(1, 6)), int(d.r.integers(1, 4))
    h, w = int(d.r.integers(4, 24)), int(d.r.integers(4, 24))
    form = d.note("form", d.one_of(("first", "last", "none")))
    shape = {"first": (n, c, h, w), "last": (n, h, w, c), "none": (n, h, w)}[form]
    dtype = d.note("dtype", d.one_of((np.dtype("u1"), *FLOATS, np.dtype("i4"))))
    x = d.laid(d.r.integers(1, 120, shape).astype(dtype))
    plain = np.array(x, order="C")
    own, key, p = d.chance(0.3), d.key(), d.p()
    value: Any = d.one_of((0, 7, plain[::-1]))
    settings: dict[str, Any] = {"count": d.one_of((1, 1, 3))}
    named: dict[str, Any] = {"rng": key, "value": value, **settings}
    if form == "last":
        named["data_format"] = "channels_last"
    if own:
        named["sample_index"] = d.r.integers(0, 2**40, n)
        table = fd.sample_keys(key, named["sample_index"])
        expected = erased(plain, p, table, value, form == "last", **settings)
    else:
        named["offset"] = d.far() if d.chance(0.3) else 0
        expected = erased(plain, p, key, value, form == "last", named["offset"], **settings)
    out = x if d.chance(0.3) else None
    d.compare(d.call(fd.random_erasing, x, p, out=out, **named), expected)


def swap_rows(d: Draw) -> None:
    """Values of other rows, with and without replacement, or of another table."""
    shape = d.note("shape", (int(d.r.integers(1, 400)), int(d.r.integers(1, 40))))
    dtype = d.note("dtype", d.one_of(tuple(map(np.dtype, "i1 f2 i4 f4 f8 c16".split()))))
    x = d.laid(d.r.integers(0, 100, shape).astype(dtype))
    plain, key, p = np.array(x, order="C"), d.key(), d.p()
    kept = mask(shape, p, key)
    source, replace = None, d.chance(0.6)
    if replace and d.chance(0.4):
        source = d.r.integers(0, 100, (int(d.r.integers(1, 90)), shape[1])).astype(dtype)
    taken = len(plain) if source is None else len(source)
    if replace:
        rows = batch_oracle.drawn_rows(index_of(shape), taken, key)
    else:
        rows = batch_oracle.permuted_rows(*shape, key)
    expected = batch_oracle.swapped(kept, plain, rows, source)
    made, found = d.call(
        fd.swap_rows, x, p, rng=key, replace=replace, source=source, return_mask=True
    )
    d.compare(made, expected)
    d.compare(found, kept)
    assert oracle.data(np.array(x, order="C")) == oracle.data(plain)


def keep_k(d: Draw) -> None:
    """Exactly k along an axis, and the positions."""
    shape = d.shape(1, 3, 20_000)
    axis, key = int(d.r.integers(0, len(shape))), d.key()
    where = d.place(shape, noise=False, whole=axis)
    n = shape[axis]
    if d.chance(0.3):
        k: Any = d.r.integers(0, n + 1, shape[:axis] + shape[axis + 1 :])
    else:
        k = int(d.r.integers(0, n + 1))
    d.note("k", k)
    expected = batch_oracle.chosen(index_of(shape, **where), k, axis, key)
    if isinstance(k, int) and d.chance(0.4) and expected.size:
        made = d.call(fd.keep_k, shape, k, axis=axis, rng=key, indices=True, **where)
        d.compare(made.mask, expected)
        last = np.moveaxis(expected, axis, -1)
        for found, part, length in ((made.kept, last, k), (made.dropped, ~last, n - k)):
            places = np.nonzero(part)[-1].reshape(*last.shape[:-1], length)
            d.compare(found, np.ascontiguousarray(np.moveaxis(places, -1, axis)))
        return
    _into(d, fd.keep_k, shape, k, axis=axis, rng=key, **where, expected=expected)


def mask_tokens(d: Draw) -> None:
    """BERT's masking of tokens of any integer dtype."""
    shape, key, p = d.shape(0, 3, 20_000), d.key(), d.p()
    dtype = d.note("dtype", d.one_of(tuple(map(np.dtype, "i1 u1 i2 u2 i4 u4 i8 u8".split()))))
    ids = d.laid(d.r.integers(0, 100, shape).astype(dtype))
    plain = np.array(ids, order="C")
    where = d.place(shape, noise=False)
    rule: dict[str, Any] = {"mask_id": 3, "vocab_size": 100}
    rule["ignore_index"] = 127 if dtype.kind == "u" else -100
    rule["replace"] = d.one_of(((0.8, 0.1, 0.1), (0.2, 0.5, 0.3), (0.0, 1.0, 0.0)))
    special = d.one_of((None, [0, 5], list(range(0, 50, 7))))
    marks = None if special is None else np.isin(plain, special)
    expected = batch_oracle.masked_tokens(plain, p, key=key, special=marks, **rule, **where)
    out = ids if d.chance(0.3) else None
    made = d.call(fd.mask_tokens, ids, p, special=special, rng=key, out=out, **rule, **where)
    for one, other in zip(made, expected, strict=True):
        d.compare(one, other)


def token_collator(d: Draw) -> None:
    """Batches of sequences, one step after the other."""
    key, special = d.key(), [0, 90, 91]
    collate = fd.TokenCollator(mask_id=3, pad_id=0, vocab_size=100, special=special, rng=key)
    for step in range(2):
        rows = [d.r.integers(1, 100, int(n)).tolist() for n in d.r.integers(1, 30, 4)]
        batch = d.call(collate, rows)
        width = max(map(len, rows))
        ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
        expected = batch_oracle.masked_tokens(
            ids,
            0.15,
            mask_id=3,
            vocab_size=100,
            key=key.fold_in(step),
            special=np.isin(ids, special),
        )
        d.compare(batch["input_ids"], expected[0])
        d.compare(batch["labels"], expected[1])
        lengths = batch["attention_mask"].sum(1).tolist()
        assert lengths == [len(row) for row in rows] and math.prod(ids.shape) > 0


CASES = {
    "weights": (weights, 2),
    "mask_spans": (mask_spans, 1),
    "spec_augment": (spec_augment, 1),
    "random_erasing": (random_erasing, 1),
    "swap_rows": (swap_rows, 2),
    "keep_k": (keep_k, 2),
    "mask_tokens": (mask_tokens, 2),
    "TokenCollator": (token_collator, 1),
}
