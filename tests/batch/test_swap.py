"""Swapped rows: every value by the contract, permutations, on CPU and CUDA, and their errors."""

from __future__ import annotations

import itertools
import math
import mmap
import sys
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.batch import permutations as sorting
from fastdrop_kernels.cpu.batch import swap as swapping
from tests.support.batch_oracle import KEY, U64, drawn_rows, permuted_rows, swapped, words
from tests.support.devices import HostDevice
from tests.support.oracle import Array, Mask, assert_same, index_of, mask, poisoned

SHAPES = (
    (1,),
    (1, 1),
    (7,),
    (5, 3),
    (100, 7),
    (333, 64),
    (40, 1500),
    (1030, 1),
    (9, 2, 5),
    (70, 17),
)
DTYPES = ("bool", "int8", "float16", "int32", "float32", "datetime64[s]", "float64", "complex128")


def expected(x: Array, p: float, replace: bool, key: fd.Key = KEY) -> tuple[Array, Mask]:
    if replace:
        rows = drawn_rows(index_of(x.shape), len(x), key)
    else:
        rows = permuted_rows(len(x), math.prod(x.shape[1:]), key)
    kept = mask(x.shape, p, key)
    return swapped(kept, x, rows), kept


def table(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    numbers = np.random.default_rng(math.prod(shape)).integers(0, 2**15, shape)
    return (numbers % 2 == 1) if dtype == "bool" else numbers.astype(dtype)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("order", ["C", "F"])
def test_elements_take_the_rows_that_the_contract_says(order: Any, replace: bool) -> None:
    for shape in SHAPES:
        x = np.asarray(table(shape), order=order)
        for p in (0.0, 0.3, 1.0):
            right, kept = expected(x, p, replace)
            assert_same(fd.swap_rows(x, p, rng=KEY, replace=replace), right)
            made, told = fd.swap_rows(x, p, rng=KEY, replace=replace, return_mask=True)
            assert_same(made, right)
            assert_same(told, kept)
            assert_same(told, fd.dropout_mask(shape, p, rng=KEY))


@pytest.mark.parametrize("name", DTYPES)
def test_elements_of_any_dtype_are_moved(name: str) -> None:
    for x in (table((60, 11), name), np.asfortranarray(table((60, 11), name))):
        for replace in (True, False):
            assert_same(fd.swap_rows(x, rng=KEY, replace=replace), expected(x, 0.5, replace)[0])
    halves = np.dtype([("a", "<i4"), ("b", "<f4")])
    x = table((60, 11), "int64").view(halves)
    made = fd.swap_rows(x, rng=KEY)
    np.testing.assert_array_equal(made, expected(x, 0.5, True)[0])


@pytest.mark.parametrize("replace", [True, False])
def test_permutations_of_columns_and_their_order_in_memory(replace: bool) -> None:
    """p = 1 shows the rows themselves; results lie as x does."""
    x = np.tile(np.arange(500)[:, None], (1, 30))
    made = fd.swap_rows(x, 1.0, rng=KEY, replace=replace)
    if not replace:
        np.testing.assert_array_equal(np.sort(made, axis=0), x)
        assert len({column.tobytes() for column in made.T}) == 30
    assert made.flags.c_contiguous
    assert fd.swap_rows(np.asfortranarray(x), rng=KEY, replace=replace).flags.f_contiguous


def test_views_of_any_strides_are_read_and_written() -> None:
    base = table((120, 40))
    for x in (
        base[::2, 5:25],
        base[::-1],
        base.T,
        base[:, ::-3],
        np.broadcast_to(base[:1], (9, 40)),
    ):
        for replace in (True, False):
            right, _ = expected(x, 0.4, replace)
            assert_same(fd.swap_rows(x, 0.4, rng=KEY, replace=replace).copy(), right)
            room = poisoned((2 * x.shape[0], 2 * x.shape[1]), x.dtype)
            for out in (room[::2, 1::2], poisoned(x.shape[::-1], x.dtype).T):
                before = room.copy()
                assert fd.swap_rows(x, 0.4, rng=KEY, replace=replace, out=out) is out
                assert_same(out.copy(), right)
                if out.base is room:
                    out[...] = before[::2, 1::2]
                    np.testing.assert_array_equal(room, before)
    deep = table((12, 6, 5)).transpose(0, 2, 1)
    assert_same(fd.swap_rows(deep, rng=KEY), expected(deep, 0.5, True)[0])


def test_empty_tables() -> None:
    for shape in ((0,), (0, 5), (5, 0), (3, 0, 2)):
        for replace in (True, False):
            made, kept = fd.swap_rows(
                np.empty(shape, np.int16), rng=KEY, replace=replace, return_mask=True
            )
            assert made.shape == kept.shape == shape and kept.dtype == bool


@pytest.mark.parametrize("threads", [1, 3])
def test_permutations_of_some_columns_at_a_time(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn by whole rows, or where these are long, by the columns that are permuted."""
    monkeypatch.setattr(swapping, "_ORDER_BYTES", 64)
    with fd.threads(threads):
        assert swapping.memory(100, 40)[0][0] == (20, 100)
    for shape in ((100, 40), (1500, 33), (37, 5000), (40, 3, 16), (3, 17), (700, 16), (90, 700)):
        for order in ("C", "F"):
            x = np.asarray(table(shape), order=order)
            for p in (0.0, 0.3, 1.0):
                right, kept = expected(x, p, False)
                with fd.threads(threads):
                    assert_same(fd.swap_rows(x, p, rng=KEY, replace=False), right)
                    made, told = fd.swap_rows(x, p, rng=KEY, replace=False, return_mask=True)
                assert_same(made, right)
                assert_same(told, kept)


@pytest.mark.parametrize("threads", [1, 3])
def test_no_memory_is_asked_for_between_the_parts(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may run out, and a part of `out` would have been written."""
    monkeypatch.setattr(swapping, "_ORDER_BYTES", 64)
    asked = []

    def sorted_with(*arguments: Any) -> Any:
        *_, ready = arguments
        asked.append(len(ready))
        assert all(memory.size >= sorting.sort_memory(5000) for memory in ready)
        return sorting.permutations(*arguments)

    monkeypatch.setattr(swapping, "permutations", sorted_with)
    x = table((5000, 40))
    with fd.threads(threads):
        assert_same(fd.swap_rows(x, 0.3, rng=KEY, replace=False), expected(x, 0.3, False)[0])
    assert asked == [threads, threads]


@pytest.mark.parametrize("replace", [True, False])
def test_threads_do_the_same(replace: bool) -> None:
    for order in "CF":
        x = np.asarray(table((12_000, 17)), order=order)  # type: ignore[call-overload]
        with fd.threads(1):
            one = fd.swap_rows(x, 0.3, rng=KEY, replace=replace)
        with fd.threads(3):
            made, kept = fd.swap_rows(x, 0.3, rng=KEY, replace=replace, return_mask=True)
        assert_same(made, one)
        right, told = expected(x, 0.3, replace)
        assert_same(made, right)
        assert_same(kept, told)


def tied_key(n: int) -> fd.Key:
    """A key by which two of n elements have equal draws."""
    for key in map(KEY.fold_in, range(400)):
        draws = np.asarray(contract.draw32(*words(key), np.arange(n, dtype=U64), U64(1)))
        if len(np.unique(draws)) < n:
            return key
    raise AssertionError


def test_equal_draws_are_settled_by_the_next(host: HostDevice) -> None:
    n = 20_000
    key, x = tied_key(n), np.arange(n, dtype=np.int32)
    right = permuted_rows(n, 1, key)[:, 0].astype(np.int32)
    assert_same(fd.swap_rows(x, 1.0, rng=key, replace=False), right)
    assert_same(host.get(fd.swap_rows(host.put(x), 1.0, rng=key, replace=False)), right)


@pytest.mark.skipif(sys.platform == "win32", reason="6 GiB of empty pages take memory on Windows")
def test_rejected_draws_are_drawn_again(host: HostDevice) -> None:
    """Of 2**31 + 1 rows, half of the uniforms are rejected. They are pages of zeros, never read."""
    n, x = 2**31 + 1, np.full((90, 3), 255, np.uint8)
    pages = mmap.mmap(-1, 3 * n)
    if sys.platform == "linux":
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    source = np.frombuffer(pages, np.uint8).reshape(n, 3)
    rows, column = drawn_rows(index_of(x.shape), n, KEY), np.arange(3)
    first = np.asarray(contract.draw32(*words(KEY), index_of(x.shape), U64(1)))
    assert np.mean((first * U64(n) & U64(2**32 - 1)) < U64(2**32 % n)) > 0.4
    source[rows, column] = np.arange(1, x.size + 1).reshape(x.shape) % 251
    right = source[rows, column]
    assert_same(fd.swap_rows(x, 1.0, rng=KEY, source=source), right)
    owner = host.cupy.cuda.UnownedMemory(source.ctypes.data, source.nbytes, source, 0)
    there = host.cupy.ndarray((n, 3), np.uint8, host.cupy.cuda.MemoryPointer(owner, 0))
    assert_same(host.get(fd.swap_rows(host.put(x), 1.0, rng=KEY, source=there)), right)


def test_another_table_is_the_source() -> None:
    x, source = table((50, 6)), np.asfortranarray(table((1234, 6)))
    rows = drawn_rows(index_of(x.shape), len(source), KEY)
    right = swapped(mask(x.shape, 0.6, KEY), x, rows, source)
    assert_same(fd.swap_rows(x, 0.6, rng=KEY, source=source), right)
    # Rows do not depend on each other: a part is that of the whole, and a row has its own key.
    part = fd.swap_rows(x[20:30], 0.6, rng=KEY, source=source, offset=120)
    assert_same(part, right[20:30].copy())
    block = fd.swap_rows(
        x[20:30, 2:5], 0.6, rng=KEY, source=source[:, 2:5], offset=(20, 2), global_shape=(50, 6)
    )
    assert_same(block, right[20:30, 2:5].copy())
    deep = source.reshape(1234, 3, 2)
    again = fd.swap_rows(x.reshape(50, 3, 2), 0.6, rng=KEY, source=deep)
    assert_same(again, right.reshape(50, 3, 2))
    place: dict[str, Any] = {"offset": (20, 1, 0), "global_shape": (50, 3, 2)}
    corner = x.reshape(50, 3, 2)[20:30, 1:]
    made = fd.swap_rows(corner, 0.6, rng=KEY, source=deep[:, 1:], **place)
    assert_same(made, right.reshape(50, 3, 2)[20:30, 1:].copy())


def test_samples_are_corrupted_alike_in_any_batch() -> None:
    data, index = table((300, 2, 9)), [17, 250, 3]
    made = fd.swap_rows(data[index], rng=KEY, source=data, sample_index=index)
    for row, n in zip(made, index, strict=True):
        alone = fd.swap_rows(data[n : n + 1], rng=KEY.fold_in(n), source=data)
        assert_same(row.copy(), alone[0].copy())
    again = fd.swap_rows(data[index[::-1]], source=data, rng=fd.sample_keys(KEY, index[::-1]))
    assert_same(again, made[::-1].copy())


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_cuda_gives_the_same(host: HostDevice, size: int) -> None:
    dtype = {1: "int8", 2: "float16", 4: "float32", 8: "float64", 16: "complex128"}[size]

    def check(x: Array, p: float, source: Array | None = None, **more: Any) -> None:
        theirs = None if source is None else host.put(source)
        made, kept = fd.swap_rows(host.put(x), p, rng=KEY, source=theirs, return_mask=True, **more)
        right = fd.swap_rows(x, p, rng=KEY, source=source, return_mask=True, **more)
        assert_same(host.get(made).copy(), right[0])
        assert_same(host.get(kept), right[1])

    for shape in ((1,), (5, 3), (40, 13), (70, 2, 4), (0, 3)):
        for p in (0.0, 0.4, 1.0):
            for replace in (True, False):
                check(table(shape, dtype), p, replace=replace)
    data = table((90, 3, 4), dtype)
    check(data[:5], 0.7, data, sample_index=[2**40, 1, 0, 5, 88])
    check(data[:5, :2], 0.7, data[:, :2], offset=(3, 1, 0), global_shape=(9, 3, 4))
    across = host.put(table((20, 30), dtype)).T
    made = fd.swap_rows(across, rng=KEY)
    assert made.strides == across.strides
    right = fd.swap_rows(table((20, 30), dtype).T, rng=KEY)
    np.testing.assert_array_equal(host.get(made), right)


def test_every_permutation_is_as_likely() -> None:
    """Chi-square over the 24 permutations of 4 rows, in 48,000 columns."""
    columns = 48_000
    x = np.tile(np.arange(4)[:, None], (1, columns))
    made = fd.swap_rows(x, 1.0, rng=5, replace=False)
    numbers = {order: k for k, order in enumerate(itertools.permutations(range(4)))}
    counts = np.bincount([numbers[tuple(c)] for c in made.T.tolist()], minlength=24)
    assert ((counts - columns / 24) ** 2 / (columns / 24)).sum() < 49.7  # 0.999 of 23 degrees


def test_every_row_is_as_likely() -> None:
    n = 13
    x = np.tile(np.arange(n)[:, None], (1, 20_000))
    made, kept = fd.swap_rows(x, 0.3, rng=5, return_mask=True)
    assert abs(kept.mean() - 0.7) < 5 * math.sqrt(0.21 / x.size)
    counts = np.bincount(made[~kept], minlength=n)
    each = counts.sum() / n
    assert ((counts - each) ** 2 / each).sum() < 32.9  # 0.999 of 12 degrees


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"p": 1.5}, ValueError, "p=1.5 is not in"),
        ({"replace": 1}, TypeError, "give True or False"),
        ({"x": np.float32(1)}, ValueError, "has no axes: give one of rows"),
        ({"x": np.array([["a"], [None]], object)}, TypeError, "does not move Python objects"),
        ({"x": np.zeros((3, 2), "S3")}, TypeError, "of 3 bytes"),
        ({"sample_index": [0, 1, 2]}, ValueError, "sample_index is given, and rows take values"),
        ({"rng": np.zeros((3, 2), np.uint64)}, ValueError, "rng, a key for each row, is given"),
        ({"offset": 3}, ValueError, "offset=3 is given, and rows take .* give source"),
        ({"global_shape": (6, 2)}, ValueError, r"global_shape=\(6, 2\) is given, and rows"),
        ({"source": np.zeros((3, 2)), "replace": False}, ValueError, "give one of them"),
        ({"source": np.zeros((3, 2), np.float32)}, TypeError, "source has dtype float32"),
        ({"source": np.zeros((3, 3))}, ValueError, r"source has shape \(3, 3\)"),
        ({"source": np.zeros((0, 2))}, ValueError, "source has no rows"),
        ({"source": np.zeros((9, 2)), "sample_index": [1]}, ValueError, "1 numbers, and x has 3"),
        ({"out": np.zeros((3, 2), np.float32)}, TypeError, "out has dtype float32"),
        ({"out": np.zeros((2, 3))}, ValueError, "out has shape"),
        ({"out": np.broadcast_to(0.0, (3, 2))}, ValueError, "read-only"),
        ({"size": 3}, TypeError, "size"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    arguments = {"x": np.zeros((3, 2)), "rng": generator, **arguments}
    with pytest.raises(kind, match=match):
        fd.swap_rows(**arguments)
    assert generator.bit_generator.state == before


def test_what_is_read_is_not_written() -> None:
    x, source = table((6, 4)), table((9, 4))
    before, other = x.copy(), source.copy()
    for out in (x, x[::-1]):
        with pytest.raises(ValueError, match="out overlaps an array that is read"):
            fd.swap_rows(x, rng=KEY, out=out)
    with pytest.raises(ValueError, match="overlaps an array that is read"):
        fd.swap_rows(x, rng=KEY, source=source, out=source[3:])
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(source, other)


def test_frames_keep_their_labels() -> None:
    pandas = pytest.importorskip("pandas")
    values = table((30, 3), "float64")
    frame = pandas.DataFrame(values, columns=list("abc"), index=np.arange(30) * 2)
    made = fd.swap_rows(frame, rng=KEY)
    assert type(made) is pandas.DataFrame and list(made.columns) == list("abc")
    np.testing.assert_array_equal(made.to_numpy(), expected(values, 0.5, True)[0])
    with pytest.raises(ValueError, match=r"source\[x.columns\]"):
        fd.swap_rows(frame[["b", "a", "c"]], rng=KEY, source=frame)


@pytest.mark.parametrize("n", [2, 31, 32, 33, 4097, 70_001, 1_050_000])
def test_permutations_by_buckets_are_those_by_digits(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets that are too full, and columns that are too long, are sorted by digits."""
    made = [np.empty((2 if n < 10**6 else 1, n), np.uint32) for _ in range(2)]
    for y, mean in zip(made, (32, 300), strict=True):
        monkeypatch.setattr(sorting, "_MEAN", mean)
        sorting.permutations(y, KEY.seed, KEY.stream)
    assert_same(made[0], made[1])
    index = np.arange(n, dtype=np.uint64)
    u = contract.draw32(np.uint64(KEY.seed), np.uint64(KEY.stream), index, np.uint64(1))
    assert (np.diff(np.asarray(u)[made[0][0]].astype(np.int64)) >= 0).all()
    assert_same(np.sort(made[0][0]), np.arange(n, dtype=np.uint32))
