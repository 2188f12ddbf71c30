"""`apply_blocks` gives the bits of one call on the whole array, whatever it reads and writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop
from tests.support.internals import block_cut, block_stores
from tests.support.oracle import Array, assert_same
from tests.support.slices import Sliced

fd: Any = fastdrop  # whose types do not know arrays on disk
KEY = fd.Key(0x1234567890ABCDEF, 7)
SHAPE = (45, 16, 10)
P_OF_COLUMN = np.linspace(0, 1, 10)


def normal(shape: tuple[int, ...] = SHAPE, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


SHARD: dict[str, Any] = {"offset": (2, 1, 3), "global_shape": (50, 25, 13)}
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "dropout": (fd.dropout, (0.3,), {}),
    "default p": (fd.dropout, (), {}),
    "shard": (fd.dropout, (0.3,), SHARD),
    "index": (fd.dropout, (0.3,), {"offset": 77}),
    "noise_shape": (fd.dropout, (0.3,), {"noise_shape": (None, 1, 10)}),
    "shared outer axis": (fd.dropout, (0.3,), {"noise_shape": (1, 16, 10)}),
    "vanilla": (fd.dropout, (), {"p": 0.3, "scale": 1.0}),
    "evaluation": (fd.dropout, (0.3,), {"training": False}),
    "p of columns": (fd.dropout, (P_OF_COLUMN,), {}),
    "p as a list": (fd.dropout, (P_OF_COLUMN.tolist(),), {}),
    "p of samples": (fd.masked_fill, (np.linspace(0, 1, 45)[:, None, None], 7.0), {}),
    "fill": (fd.masked_fill, (0.3, 7.0), {}),
    "feature_dropout": (fd.feature_dropout, (0.3,), {"data_format": "channels_last"}),
    "drop_path": (fd.drop_path, (0.3,), {}),
    "drop_path of a batch": (fd.drop_path, (0.3,), {"mode": "batch"}),
    "gaussian_dropout": (fd.gaussian_dropout, (0.3,), {}),
    "gaussian_noise": (fd.gaussian_noise, (0.3,), {}),
    "alpha": (fd.alpha_dropout, (0.3,), {}),
    "alpha, backward": (fd.alpha_dropout_backward, (0.3,), {}),
    "channels, alpha": (fd.feature_alpha_dropout, (0.3,), {}),
    "channels, alpha, backward": (fd.feature_alpha_dropout_backward, (0.3,), {}),
    "zoneout": (fd.zoneout, (normal(seed=2), 0.3), {}),
    "zoneout of a row": (fd.zoneout, (normal(seed=2)[0],), {"p": 0.3}),
    "epilogue": (
        fd.bias_act_dropout_add,
        ([0.5] * 10, "relu", 0.3),
        {"residual": normal(seed=2)},
    ),
    "softmax": (fd.softmax_dropout, (0.3,), {}),
    "softmax of columns": (fd.softmax_dropout, (0.3,), {"axis": 0}),
    "softmax, backward": (fd.softmax_dropout_backward, (normal(seed=2), 0.3), {"axis": 1}),
}


def mapped(values: Array, folder: Path, order: str = "C") -> Array:
    """Return an array that is mapped from a new file."""
    file = folder / f"{len(list(folder.iterdir()))}.bin"
    array: Any = np.memmap(file, values.dtype, "w+", 0, values.shape, order)  # type: ignore[call-overload]
    array[...] = values
    return array  # type: ignore[no-any-return]


@pytest.mark.parametrize("block_bytes", [1, 3000, None])
@pytest.mark.parametrize("name", CALLS)
def test_each_function_between_files(name: str, block_bytes: int | None, tmp_path: Path) -> None:
    function, args, keywords = CALLS[name]
    x = normal()
    y = mapped(np.full_like(x, np.nan), tmp_path)
    keywords = {**keywords, "rng": KEY}
    right = function(x, *args, **keywords)
    source = mapped(x, tmp_path)
    result = fd.apply_blocks(function, source, y, *args, block_bytes=block_bytes, **keywords)
    assert result is y
    assert_same(np.asarray(y), right)
    assert_same(np.asarray(source), x)
    assert fd.apply_blocks(function, source, None, *args, block_bytes=3000, **keywords) is source
    assert_same(np.asarray(source), right)


@pytest.mark.parametrize("block_bytes", [1, 3000, None])
def test_masks(block_bytes: int | None, tmp_path: Path) -> None:
    more: dict[str, Any] = {"rng": KEY, "block_bytes": block_bytes}
    for target in (
        mapped(np.zeros(SHAPE, bool), tmp_path),
        Sliced(np.zeros(SHAPE, bool), (9, 8, 3)),
    ):
        fd.apply_blocks(fd.dropout_mask, SHAPE, target, 0.3, **more)
        assert_same(np.asarray(target[...]), fd.dropout_mask(SHAPE, 0.3, rng=KEY))
        fd.apply_blocks(fd.dropout_mask, SHAPE, target, P_OF_COLUMN, **more, **SHARD)
        right = fd.dropout_mask(SHAPE, P_OF_COLUMN, rng=KEY, **SHARD)
        assert_same(np.asarray(target[...]), right)
    flat = np.zeros(1000, bool)
    assert fd.apply_blocks(fd.dropout_mask, 1000, flat, 0.3, rng=KEY, block_bytes=99) is flat
    assert_same(flat, fd.dropout_mask(1000, 0.3, rng=KEY))


def ends(folder: Path) -> Iterator[tuple[str, Callable[[Array], Any]]]:
    """Yield ways to store an array."""
    yield "memory", np.copy
    yield "strided", lambda x: np.repeat(x, 2, 1)[:, ::2]
    yield "memory in Fortran order", np.asfortranarray
    yield "file", lambda x: mapped(x, folder)
    yield "file in Fortran order", lambda x: mapped(x, folder, "F")
    yield "rows of a file", lambda x: mapped(np.concatenate([x, x, x]), folder)[45:90]
    yield "slices", lambda x: Sliced(x.copy())
    yield "slices of chunks", lambda x: Sliced(x.copy(), (7, 16, 4))
    yield "large chunks", lambda x: Sliced(x.copy(), (45, 8, 10))


ENDS = [name for name, _ in ends(Path())]


@pytest.mark.parametrize("target", ENDS)
@pytest.mark.parametrize("source", ENDS)
def test_each_source_and_each_target(source: str, target: str, tmp_path: Path) -> None:
    made = dict(ends(tmp_path))
    x = normal()
    right = fd.dropout(x, 0.3, rng=KEY)
    for block_bytes in (1000, None):
        given, result = made[source](x), made[target](np.full_like(x, np.nan))
        fd.apply_blocks(fd.dropout, given, result, 0.3, rng=KEY, block_bytes=block_bytes)
        assert_same(np.ascontiguousarray(result[...]), right)
        assert_same(np.ascontiguousarray(given[...]), x)
        fd.apply_blocks(fd.dropout, given, given, 0.3, rng=KEY, block_bytes=block_bytes)
        assert_same(np.ascontiguousarray(given[...]), right)


@pytest.mark.parametrize("library", ["h5py", "zarr"])
@pytest.mark.parametrize("chunks", [None, (20, 16, 3)])
def test_arrays_of_libraries(library: str, chunks: Any, tmp_path: Path) -> None:
    imported = pytest.importorskip(library, reason=f"{library} is not installed")
    x = normal()
    more: dict[str, Any] = {"rng": KEY, "block_bytes": 3000}
    if library == "h5py":
        file = imported.File(tmp_path / "x.h5", "w")
        packed = {"compression": "gzip", "compression_opts": 1} if chunks else {}
        make: Any = lambda name, a: file.create_dataset(name, data=a, chunks=chunks, **packed)  # noqa: E731
    else:

        def make(name: str, a: Array) -> Any:
            made = imported.open(
                str(tmp_path / name),
                mode="w",
                shape=a.shape,
                dtype=a.dtype,
                chunks=chunks or a.shape,
            )
            made[...] = a
            return made

    source, target = make("x", x), make("y", np.zeros_like(x))
    residual, mask = make("r", normal(seed=2)), make("m", np.zeros(SHAPE, bool))
    assert fd.apply_blocks(fd.dropout, source, target, 0.3, **more) is target
    assert_same(target[...], fd.dropout(x, 0.3, rng=KEY))
    fd.apply_blocks(
        fd.bias_act_dropout_add, source, target, None, "relu", 0.3, residual=residual, **more
    )
    given = None, "relu", 0.3
    right = fd.bias_act_dropout_add(x, *given, residual=normal(seed=2), rng=KEY)
    assert_same(target[...], right)
    file_target = mapped(x, tmp_path)
    fd.apply_blocks(fd.feature_dropout, source, file_target, 0.3, **more)
    assert_same(np.asarray(file_target), fd.feature_dropout(x, 0.3, rng=KEY))
    fd.apply_blocks(fd.softmax_dropout, file_target, source, 0.3, axis=0, **more)
    assert_same(source[...], fd.softmax_dropout(np.asarray(file_target), 0.3, axis=0, rng=KEY))
    fd.apply_blocks(fd.dropout_mask, SHAPE, mask, 0.3, **more)
    assert_same(mask[...], fd.dropout_mask(SHAPE, 0.3, rng=KEY))


@pytest.mark.parametrize("dtype", ["i2", "c16", "M8[s]", ">f4", "S8", "?"])
def test_fills_of_all_dtypes(dtype: str, tmp_path: Path) -> None:
    x = np.arange(5000).astype("i8").view("u1")[: 1000 * np.dtype(dtype).itemsize].view(dtype)
    x = mapped(x.astype(dtype), tmp_path)
    right = fd.masked_fill(np.array(x), 0.3, x[3], rng=KEY)
    fd.apply_blocks(fd.masked_fill, x, x, 0.3, x[3], rng=KEY, block_bytes=500)
    assert np.asarray(x).tobytes() == right.tobytes()


@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0), (1,), (1, 1, 5)])
def test_small_and_empty_arrays(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = np.ones(shape, np.float32)
    for target in (np.zeros_like(x), Sliced(np.zeros_like(x))):
        fd.apply_blocks(fd.dropout, x, target, 0.5, rng=KEY, block_bytes=1)
        assert_same(np.asarray(target[...]), fd.dropout(x, 0.5, rng=KEY))
    if x.size:
        y = mapped(x, tmp_path)
        fd.apply_blocks(fd.dropout, y, None, 0.5, rng=KEY, block_bytes=1)
        assert_same(np.asarray(y), fd.dropout(x, 0.5, rng=KEY))


def test_blocks_are_whole_chunks_and_each_is_written_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(map(int, rng.integers(1, 20, rng.integers(1, 4))))
        chunks = tuple(int(rng.integers(1, n + 2)) for n in shape)
        limit = int(rng.integers(1, 4 * math.prod(shape)))
        whole = frozenset(np.flatnonzero(rng.random(len(shape)) < 0.2).tolist())
        axes = list(range(len(shape)))[:: rng.choice([1, -1])]
        cut = block_cut.cut(shape, axes, 4, limit, chunks, whole)
        times = np.zeros(shape, int)
        for n in range(len(cut)):
            region = cut[n]
            times[region] += 1
            assert times[region].size <= cut.elements
            for axis, (at, chunk) in enumerate(zip(region, chunks, strict=True)):
                assert at.start % chunk == 0 or axis in whole
                assert at.stop % chunk == 0 or at.stop == shape[axis]
                assert axis not in whole or (at.start, at.stop) == (0, shape[axis])
            stretch = np.arange(math.prod(shape)).reshape(
                shape, order="C" if axes[0] == 0 else "F"
            )[region]
            if cut.are_contiguous(axes):
                assert stretch.max() - stretch.min() + 1 == stretch.size
        assert (times == 1).all()
        smallest = math.prod(
            n if a in whole else min(n, c)
            for a, (n, c) in enumerate(zip(shape, chunks, strict=True))
        )
        assert cut.elements * 4 <= max(limit, smallest * 4)


def test_chunks_of_source_and_target_are_kept_together_where_they_fit() -> None:
    x = normal((60, 40))
    source, target = Sliced(x, (10, 8)), Sliced(np.zeros_like(x), (15, 20))
    fd.apply_blocks(fd.dropout, source, target, 0.5, rng=KEY, block_bytes=30 * 40 * 4)
    assert target.written == [(slice(0, 30), slice(0, 40)), (slice(30, 60), slice(0, 40))]
    target.written.clear()
    fd.apply_blocks(fd.dropout, source, target, 0.5, rng=KEY, block_bytes=15 * 20 * 4)
    assert len(target.written) == 8


def test_files_are_not_read_through_their_mapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x: Any = mapped(normal(), tmp_path)
    x.flush()
    x[0] += 1  # which is not flushed
    right = fd.dropout(np.array(x), 0.5, rng=KEY)
    view = np.memmap(str(x.filename), np.float32, "r").reshape(SHAPE)
    for array in (x, np.asarray(x), x.view(np.memmap), x[3:40]):
        assert block_stores.opened_file(array, True) is not None
    opened: list[bool] = []
    real = block_stores.opened_file

    def counted(array: Any, for_writing: bool) -> Any:
        opened.append(for_writing)
        return real(array, for_writing)

    monkeypatch.setattr(block_stores, "opened_file", counted)
    fd.apply_blocks(fd.dropout, x, None, 0.5, rng=KEY, block_bytes=999)
    assert opened == [True]
    assert_same(np.asarray(x), right)
    assert_same(np.asarray(view), right)


def test_files_that_are_gone_replaced_or_private(tmp_path: Path) -> None:
    x, private = mapped(normal(), tmp_path), None
    file = Path(str(x.filename))  # type: ignore[attr-defined]
    private = np.memmap(file, np.float32, "c", shape=SHAPE)
    values = np.array(x)
    right = fd.dropout(values, 0.5, rng=KEY)
    assert block_stores.place_of(private) is None
    fd.apply_blocks(fd.dropout, private, None, 0.5, rng=KEY)
    assert_same(np.asarray(private), right)
    assert_same(np.asarray(x), values)  # what is private is not written to the file
    file.unlink()
    assert block_stores.opened_file(x, True) is None
    file.write_bytes(bytes(x.nbytes))  # another file of the same name
    assert block_stores.opened_file(x, True) is None
    fd.apply_blocks(fd.dropout, x, None, 0.5, rng=KEY)
    assert_same(np.asarray(x), right)
    assert not any(file.read_bytes())


def test_a_file_that_was_cut_short_is_an_error(tmp_path: Path) -> None:
    x = mapped(normal(), tmp_path)
    with open(str(x.filename), "r+b") as file:  # type: ignore[attr-defined]
        file.truncate(4096)
    with pytest.raises(EOFError, match="ends at byte 4096") as caught:
        fd.apply_blocks(fd.dropout, x, np.empty(SHAPE, np.float32), 0.5, rng=KEY, block_bytes=2048)
    assert caught.value.resume["start"] <= 2  # type: ignore[attr-defined]


def test_a_limit_of_threads_is_that_of_the_caller() -> None:
    class Asking(Sliced):
        def __getitem__(self, region: Any) -> Array:
            seen.append(fd.get_num_threads())
            return super().__getitem__(region)

    seen: list[int] = []
    x = Asking(normal())
    with fd.threads(3):
        fd.apply_blocks(fd.dropout, x, None, 0.5, rng=KEY)
    assert set(seen) == {3}
