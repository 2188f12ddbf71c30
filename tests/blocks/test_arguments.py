"""Errors of `apply_blocks` come before anything is drawn or written, and say what to give."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop
from tests.support.oracle import Array
from tests.support.slices import Sliced
from tests.support.subprocesses import assert_succeeds, run_python

fd: Any = fastdrop  # whose types do not know what is wrong here
X = np.ones((6, 8), np.float32)


def told(*given: Any, kind: type[Exception] = ValueError, **keywords: Any) -> str:
    """Return the error of a call that must neither write nor ask its generator."""
    rng = np.random.default_rng(3)
    keywords.setdefault("rng", rng)
    keywords.setdefault("block_bytes", 64)
    values = [np.array(a) if isinstance(a, np.ndarray) else None for a in given]
    with pytest.raises(kind) as caught:
        fd.apply_blocks(*given, **keywords)
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state
    for before, after in zip(values, given, strict=True):
        assert before is None or before.tobytes() == after.tobytes()
    assert not hasattr(caught.value, "resume")
    return str(caught.value)


def frozen() -> Array:
    x: Array = X.copy()
    x.flags.writeable = False
    return x


def test_targets() -> None:
    y = X.copy()
    assert "misses target" in told(fd.dropout, y, kind=TypeError)
    assert "target=0.5 is a float: give an array" in told(fd.dropout, y, 0.5, kind=TypeError)
    assert "target has shape (6, 7)" in told(fd.dropout, y, np.ones((6, 7), np.float32), 0.5)
    wide = np.ones((6, 8))
    assert "target has dtype float64" in told(fd.dropout, y, wide, 0.5, kind=TypeError)
    assert "target is read-only" in told(fd.dropout, y, frozen(), 0.5)
    assert "target is read-only" in told(fd.dropout, frozen(), None, 0.5)
    assert "target has dtype float32" in told(fd.dropout_mask, (6, 8), y, 0.5, kind=TypeError)
    masked = np.ma.masked_array(X)
    assert "target is a masked array" in told(fd.dropout, y, masked, 0.5, kind=TypeError)
    big = np.ones((7, 8), np.float32)
    assert "target overlaps source in part" in told(fd.dropout, big[:6], big[1:], 0.5)
    assert "target overlaps source in part" in told(fd.dropout, big[:6], big[5::-1], 0.5)
    assert "target overlaps h_prev in part" in told(fd.zoneout, y, big[1:], big[:6], 0.5)
    fd.apply_blocks(fd.dropout, big.ravel()[::2], big.ravel()[1::2], 0.5, rng=1)  # disjoint


def test_files_that_overlap(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(np.ones(100, np.float32).tobytes())

    def part(first: int, mode: Any = "r+") -> Any:
        return np.memmap(file, np.float32, mode, offset=4 * first, shape=(6, 8))

    text = told(fd.dropout, part(0), part(1), 0.5)
    assert "target overlaps source in part" in text
    assert "target is read-only" in told(fd.dropout, part(0), part(50, "r"), 0.5)
    right = fd.dropout(X, 0.5, rng=1)
    fd.apply_blocks(fd.dropout, part(0), part(50), 0.5, rng=1)
    fd.apply_blocks(fd.dropout, part(0, "r"), part(0), 0.5, rng=1)  # two mappings of the same
    assert (part(0) == right).all() and (part(50) == right).all()


def test_stores_that_may_not_be_written(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = X
    with h5py.File(tmp_path / "x.h5", "r") as file:
        assert "target is read-only" in told(fd.dropout, X, file["x"], 0.5)
    zarr.open(str(tmp_path / "z"), mode="w", shape=X.shape, dtype="f4")
    z = zarr.open(str(tmp_path / "z"), mode="r")
    assert "target is read-only" in told(fd.dropout, X, z, 0.5)


def test_sources() -> None:
    assert "source=3 is an int: give an array" in told(fd.dropout, 3, X, 0.5, kind=TypeError)
    text = told(fd.dropout, [1.0, 2.0], None, 0.5, kind=TypeError)
    assert "source" in text and "a list" in text
    assert "source is a Key" in told(fd.dropout, fd.Key(1), X, 0.5, kind=TypeError)
    whole = np.ones((6, 8), np.int32)
    assert "int32" in told(fd.dropout, whole, None, 0.5, kind=TypeError)

    class Short(Sliced):
        def __getitem__(self, region: Any) -> Array:
            first: Array = super().__getitem__(region)[:1]
            return first

    x = Short(X.copy())
    with pytest.raises(ValueError, match="a block of source has shape .* and source says"):
        fd.apply_blocks(fd.dropout, x, X.copy(), 0.5, rng=1)


def test_arrays_of_other_libraries_have_other_ways() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.Series(X[0])
    assert "source.to_numpy()" in told(fd.dropout, frame, X[0].copy(), 0.5, kind=TypeError)
    dask = pytest.importorskip("dask.array", reason="Dask is not installed")
    text = told(fd.dropout, dask.ones((6, 8), dtype=np.float32), X.copy(), 0.5, kind=TypeError)
    assert "call the function itself" in text


def test_functions() -> None:
    text = told(fd.drop_block2d, X, None, 0.5, 3, kind=TypeError)
    assert "function=drop_block2d is not applied to blocks: it scales by how many" in text
    assert "give one of fastdrop's dropout, masked_fill" in text
    for other in (fd.zoneout_backward, fd.dropout_vjp, fd.mc_dropout, fd.Dropout(0.5), np.exp, 3):
        assert "give one of fastdrop's dropout," in told(other, X, None, 0.5, kind=TypeError)


def test_arguments_of_the_function() -> None:
    y = X.copy()
    assert "p=1.5 is not in [0, 1]" in told(fd.dropout, y, None, 1.5)
    assert "give p=1 - keep_prob" in told(fd.dropout, y, None, keep_prob=0.9, kind=TypeError)
    assert "missing 1 required" in told(fd.gaussian_noise, y, None, kind=TypeError)
    assert "p twice" in told(fd.dropout, y, None, 0.5, p=0.5, kind=TypeError)
    assert "2 arguments after target" in told(fd.dropout, y, None, 0.5, 0.5, kind=TypeError)
    assert "out is given" in told(fd.dropout, y, None, 0.5, out=y, kind=TypeError)
    text = told(fd.dropout_mask, (6, 8), X > 0, 0.5, packed=True, kind=TypeError)
    assert "packed is given" in text
    p = np.full((6, 1), 0.5)
    p[5] = np.nan  # in the last block
    assert "p[5, 0]=nan is not in [0, 1]" in told(fd.dropout, y, None, p)
    assert "p has shape (5,)" in told(fd.dropout, y, None, [0.5] * 5)
    assert "h_prev has shape (5, 8)" in told(fd.zoneout, y, None, X[:5], 0.5)
    assert "residual has dtype float64" in told(
        fd.bias_act_dropout_add, y, None, residual=np.ones((6, 8)), kind=TypeError
    )
    assert "noise_shape[0]=2 fits no axis" in told(fd.dropout, y, None, 0.5, noise_shape=(2, 1))
    assert "does not fit" in told(fd.dropout, y, None, 0.5, offset=(1, 0), global_shape=(6, 8))
    assert "below 2**63" in told(fd.dropout, y, None, 0.5, offset=2**63 - 47)
    text = told(fd.dropout, np.asfortranarray(y), None, 0.5, offset=5)
    assert "offset=5 is an index" in text and "global_shape" in text
    with pytest.raises(np.exceptions.AxisError):
        fd.apply_blocks(fd.softmax_dropout, y, None, axis=2)


def test_own_arguments() -> None:
    y = X.copy()
    assert "start=7 is not one of the blocks: there are 3" in told(fd.dropout, y, None, start=7)
    assert "start=-1" in told(fd.dropout, y, None, start=-1)
    assert "start" in told(fd.dropout, y, None, start=1.5, kind=TypeError)
    assert "block_bytes=0" in told(fd.dropout, y, None, block_bytes=0)
    for rng in (None, np.random.default_rng(1), np.random):
        assert "start=1 goes on with a mask" in told(fd.dropout, y, None, start=1, rng=rng)
    assert "progress='bar'" in told(fd.dropout, y, None, progress="bar")
    assert "rng" in told(fd.dropout, y, None, rng="seed", kind=TypeError)


def test_what_is_asked_for_a_key_is_asked_once() -> None:
    rng, other = np.random.default_rng(3), np.random.default_rng(3)
    y = X.copy()
    fd.apply_blocks(fd.dropout, X, y, 0.5, rng=rng, block_bytes=32)
    assert (y == fd.dropout(X, 0.5, rng=other)).all()
    assert rng.bit_generator.state == other.bit_generator.state
    fd.apply_blocks(fd.dropout, X, y, 0.5, rng=rng, training=False)
    assert rng.bit_generator.state == other.bit_generator.state and (y == X).all()
    for same in (5, fd.Key(5), [5, 6], np.random.SeedSequence(5)):
        fd.apply_blocks(fd.dropout, X, y, 0.5, rng=same, block_bytes=32)
        fd.apply_blocks(fd.dropout, X, y, 0.5, rng=same, block_bytes=32, start=3)
        assert (y == fd.dropout(X, 0.5, rng=same)).all()


def test_the_progress_of_blocks_is_told() -> None:
    seen: list[tuple[int, int]] = []
    y = X.copy()
    more: Any = {"rng": 1, "block_bytes": 32, "progress": lambda *n: seen.append(n)}
    fd.apply_blocks(fd.dropout, X, y, 0.5, start=4, **more)
    assert seen == [(5, 6), (6, 6)]


@pytest.mark.parametrize("package", ["tqdm", "rich"])
def test_a_progress_bar_where_stderr_is_no_terminal(package: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    done = run_python(  # in which warnings are errors
        f"import numpy as np, fastdrop as fd; x = np.ones((6, 8), np.float32);"
        f"fd.apply_blocks(fd.dropout, x, x, rng=1, block_bytes=32, progress={package!r});"
        "import sys; print(*{'rich', 'tqdm'} & set(sys.modules))"
    )
    assert done.status == 0 and "Warning" not in done.stderr, str(done)
    assert done.stderr == "fastdrop.dropout: 6 of 6 (100%), 0 s\n", str(done)
    assert package not in done.stdout, str(done)  # not imported


def test_a_progress_bar_of_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich", "rich.progress", "tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    y = X.copy()
    for name in ("rich", "tqdm"):
        with pytest.raises(ImportError, match=f"progress='{name}' needs .*pip install {name}"):
            fd.apply_blocks(fd.dropout, y, None, rng=1, progress=name)
    assert (y == X).all()


def test_no_library_is_imported_that_is_not_given() -> None:
    code = (
        "import sys, numpy as np, fastdrop as fd; x = np.ones((6, 8), np.float32);"
        "fd.apply_blocks(fd.dropout, x, x, rng=1);"
        "print(*{'zarr', 'h5py', 'tqdm', 'rich', 'dask'} & set(sys.modules))"
    )
    assert assert_succeeds(run_python(code)).strip() == ""
