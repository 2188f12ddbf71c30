"""`fastdrop.device` in plain Python and in code that `numba.njit` compiles; docstrings are true."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

import fastdrop as fd
from fastdrop import device
from fastdrop_kernels import contract, reference
from tests.support.subprocesses import assert_succeeds, run_python

KEYS = [fd.Key(0), fd.Key(42, 7), fd.Key(2**64 - 1, 2**64 - 1), fd.Key(2**32, 2**63)]
FIRST = [0, 8, 2**32 - 8, 2**32, 2**35 - 8, 2**35, 2**60 + 8, 2**63 - 8]  # of a block
PROBABILITIES = [0.0, 2.0**-32, 0.1, 0.5, 1 - 2.0**-32, 1 - 2.0**-40, 1.0]


@numba.njit  # type: ignore[untyped-decorator]
def compiled_keep(seed: Any, stream: Any, index: Any, threshold: Any) -> Any:
    return device.keep(seed, stream, index, threshold)


@numba.njit  # type: ignore[untyped-decorator]
def compiled_keep8(seed: Any, stream: Any, block: Any, threshold: Any) -> Any:
    return device.keep8(seed, stream, block, threshold)


@numba.njit  # type: ignore[untyped-decorator]
def compiled_uniform32(seed: Any, stream: Any, index: Any) -> Any:
    return device.uniform32(seed, stream, index)


@numba.njit  # type: ignore[untyped-decorator]
def compiled_bits8(seed: Any, stream: Any, block: Any) -> Any:
    return device.bits8(seed, stream, block)


@numba.njit  # type: ignore[untyped-decorator]
def compiled_threshold(p: float) -> Any:
    return device.threshold(p)


Functions = tuple[Callable[..., Any], ...]
PLAIN: Functions = (device.keep, device.keep8, device.uniform32, device.bits8)
COMPILED: Functions = (compiled_keep, compiled_keep8, compiled_uniform32, compiled_bits8)


def uniforms(key: fd.Key, index: Any) -> Any:
    return contract.uniform32(np.uint64(key.seed), np.uint64(key.stream), index)


# What a user may hold an integer in; a Numba function would be compiled for each.
@pytest.mark.parametrize("kind", [int, np.uint64])
@pytest.mark.parametrize("functions", [PLAIN, COMPILED], ids=["plain", "njit"])
def test_every_function_gives_what_the_reference_gives(functions: Functions, kind: Any) -> None:
    keep, keep8, uniform32, bits8 = functions
    for key in KEYS:
        seed, stream = np.uint64(key.seed), np.uint64(key.stream)
        for first in FIRST:
            index = np.uint64(first) + np.arange(8, dtype=np.uint64)
            u = uniforms(key, index)
            block = kind(first // 8)
            low, high = bits8(seed, stream, block)
            halves = [int(pair) >> 16 * j & 0xFFFF for pair in (low, high) for j in range(4)]
            assert halves == [int(v) >> 16 for v in u]
            # Ties, too: thresholds that part an element's uniform from the next.
            ties = [int(u[3]), int(u[3]) + 1, int(u[6]) & ~0xFFFF, int(u[0]) | 0xFFFF]
            for t in ties + [contract.threshold(p) for p in (0.0, 0.3, 1.0)]:
                kept = u >= np.uint64(t)
                expected = int(np.packbits(kept, bitorder="little")[0])
                assert int(keep8(seed, stream, block, kind(t))) == expected
                assert bool(keep(seed, stream, kind(first + 3), kind(t))) == kept[3]
            assert int(uniform32(seed, stream, kind(first + 5))) == u[5]


def test_plain_functions_take_arrays() -> None:
    index: Any
    for index in (np.arange(20), np.arange(20, dtype=np.uint64), np.arange(20, dtype=np.int32)):
        expected = reference.keep_mask(index.astype(np.uint64), 0.3, 42, 7)
        kept = device.keep(42, 7, index, device.threshold(0.3))
        assert kept.dtype == np.bool_
        np.testing.assert_array_equal(kept, expected)
        u = device.uniform32(42, 7, index)
        assert u.dtype == np.uint64
        np.testing.assert_array_equal(u >= np.uint64(contract.threshold(0.3)), expected)
        low, high = device.bits8(42, 7, index)
        assert low.dtype == high.dtype == np.uint64 and low.shape == high.shape == (20,)


def test_they_draw_the_mask_of_dropout() -> None:
    key = fd.Key(2**40 + 1, 3)
    t = device.threshold(0.4)
    expected = fd.dropout_mask(64, 0.4, rng=key, offset=2**35 - 24)
    index = np.arange(2**35 - 24, 2**35 + 40)
    np.testing.assert_array_equal(device.keep(*key, index, t), expected)
    bits = [int(device.keep8(*key, 2**32 - 3 + k, t)) for k in range(8)]
    assert bits == np.packbits(expected, bitorder="little").tolist()


@pytest.mark.parametrize("p", PROBABILITIES)
def test_threshold_is_the_contract_s_everywhere(p: float) -> None:
    assert device.threshold(p) == compiled_threshold(p) == contract.threshold(p)
    assert type(device.threshold(p)) is np.uint64


@pytest.mark.parametrize("p", [-0.1, 1.5, np.nan])
def test_threshold_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"is not in \[0, 1\]"):
        device.threshold(p)


def test_results_are_uint64_in_compiled_code() -> None:
    uint64 = numba.types.uint64
    calls: list[tuple[Any, tuple[Any, ...], Any]] = [
        (compiled_keep8, (1, 2, 3, 4), uint64),
        (compiled_uniform32, (1, 2, 3), uint64),
        (compiled_bits8, (1, 2, 3), numba.types.UniTuple(uint64, 2)),
        (compiled_threshold, (0.5,), uint64),
    ]
    for function, arguments, expected in calls:
        function(*arguments)
        returned = {overload.signature.return_type for overload in function.overloads.values()}
        assert returned == {expected}


def test_importing_it_imports_nothing_of_cuda() -> None:
    code = "import sys, fastdrop.device; print([m for m in sys.modules if 'numba.cuda' in m])"
    assert assert_succeeds(run_python(code)).strip() == "[]"


def test_the_examples_of_docstrings_are_true() -> None:
    result = doctest.testmod(device)
    assert result.failed == 0 and result.attempted >= 10


def test_everything_public_is_documented() -> None:
    for name in device.__all__:
        assert "Returns" in getattr(device, name).__doc__
    assert sys.modules["fastdrop.device"] is device
