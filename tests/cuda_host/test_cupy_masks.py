"""Masks and CuPy arrays, whose memory is the host's: which kernel multiplies, and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop import Mask
from tests.support.devices import HostDevice, cupy_or_skip, seen
from tests.support.oracle import assert_same
from tests.support.stored_masks import multiplied, stored

cupy = cupy_or_skip()
KEY = fd.Key(2**40 + 3, 2**63 + 11)
SHAPE = 6, 13


def in_place(x: Any, mask: Mask) -> Any:
    y, same = x, x
    y *= mask
    assert y is same
    return y


def to_out(multiply: Callable[..., Any]) -> Callable[[Any, Mask], Any]:
    def product(x: Any, mask: Mask) -> Any:
        out = cupy.empty(np.broadcast_shapes(x.shape, mask.shape), x.dtype)
        seen(out)[...] = 7
        assert multiply(x, mask, out=out) is out
        return out

    return product


# All that CuPy and NumPy make of a product, as a user writes it.
PRODUCTS: dict[str, Callable[[Any, Mask], Any]] = {
    "x * mask": lambda x, mask: x * mask,
    "mask * x": lambda x, mask: mask * x,
    "x *= mask": in_place,
    "np.multiply": np.multiply,
    "np.multiply mask first": lambda x, mask: np.multiply(mask, x),
    "np.multiply to out": to_out(np.multiply),
    "cupy.multiply": cupy.multiply,
    "cupy.multiply mask first": lambda x, mask: cupy.multiply(mask, x),
    "cupy.multiply to out": to_out(cupy.multiply),
    "cupy.multiply to a third": lambda x, mask: to_out(
        lambda x, mask, out: cupy.multiply(x, mask, out)
    )(x, mask),
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_every_product_is_one_call_of_the_kernel(asked: Any, product: Any) -> None:
    host, driver = asked
    x = np.arange(1.0, 79.0).reshape(SHAPE)
    for dtype in ("float32", "float64", "float16"):
        given = x.astype(dtype)
        kept = stored(SHAPE, 0.3, KEY)
        for _ in range(3):  # the second call makes a plan, and the third runs it
            del driver.calls[:]
            y = product(host.put(given), Mask(SHAPE, 0.3, rng=KEY))
            assert isinstance(y, cupy.ndarray)
            assert_same(host.get(y), multiplied(given, kept))
            assert driver.calls == [f"drop-{dtype}"], "one launch, and no mask"


VIEWS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda m: m,
    "row": lambda m: m[2],
    "column": lambda m: m[:, 3:4],
    "backwards": lambda m: m[::-1, ::-1],
    "turned": lambda m: m.reshape(13, 6).T,
    "flat": lambda m: m.reshape(-1)[13:26],
    "one": lambda m: m[1, 2, ...],
    "another axis": lambda m: m[None],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_broadcasts_and_layouts(host: HostDevice, view: Callable[[Any], Any]) -> None:
    """With the CUDA kernels' source, where a compiler is here."""
    mask, kept = view(Mask(SHAPE, 0.4, rng=KEY)), view(stored(SHAPE, 0.4, KEY))
    for dtype in ("float32", "complex64"):
        part = np.arange(1.0, 79.0).reshape(SHAPE)
        x = part.astype(np.float32) if dtype == "float32" else (part + 2j * part).astype(dtype)
        for layout in ("C", "F", "backwards"):
            there = host.put(x.T if layout == "F" else x)
            there = there.T if layout == "F" else there[:, ::-1] if layout == "backwards" else there
            values = x[:, ::-1] if layout == "backwards" else x
            for _ in range(3):
                y = there * mask
                np.testing.assert_array_equal(host.get(y), multiplied(values, kept))
                assert y.dtype == dtype
                out = host.put(np.full(y.shape, 7, dtype))
                np.multiply(there, mask, out=out)
                np.testing.assert_array_equal(host.get(out), multiplied(values, kept))


def test_a_row_against_a_larger_mask(host: HostDevice) -> None:
    row = np.arange(1.0, 14.0, dtype=np.float32)
    for _ in range(3):
        y = host.put(row) * Mask(SHAPE, 0.4, rng=KEY)
        np.testing.assert_array_equal(host.get(y), multiplied(row, stored(SHAPE, 0.4, KEY)))


def test_wrong_outs_are_refused_before_anything_is_launched(asked: Any) -> None:
    host, driver = asked
    x, mask = host.put(np.ones(SHAPE)), Mask(SHAPE, 0.5, rng=KEY)
    numbers = host.put(np.ones(SHAPE, np.int32))
    with pytest.raises(TypeError, match="Cannot cast ufunc 'multiply' output"):
        numbers *= mask
    with pytest.raises(TypeError, match="Cannot cast ufunc 'multiply' output"):
        np.multiply(x, mask, out=numbers)
    with pytest.raises(ValueError, match=r"out has shape \(6, 12\)"):
        cupy.multiply(x, mask, out=host.put(np.ones((6, 12))))
    with pytest.raises(ValueError, match="x has shape"):
        x * Mask(5, 0.5)
    with pytest.raises(TypeError, match="out is a numpy.ndarray, and x lies on a GPU"):
        np.multiply(x, mask, out=np.ones(SHAPE))
    assert driver.calls == []


def test_other_kernels_get_the_stored_mask_on_the_device(asked: Any) -> None:
    host, _ = asked
    x, mask = host.put(np.ones(SHAPE)), Mask(SHAPE, 0.5, rng=KEY)
    given: list[Any] = []

    def kernel(*args: Any, **options: Any) -> str:
        given.extend(args)
        return "result"

    assert mask.__cupy_override_elementwise_kernel__(kernel, x, mask) == "result"
    assert given[0] is x
    assert isinstance(given[1], cupy.ndarray)
    assert_same(host.get(given[1]), np.asarray(mask))
