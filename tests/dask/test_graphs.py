"""Graphs of Dask arrays: what is in them and what they cost, and what building them refuses."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support.dask_cases import CHUNKS, KEY, assert_same, calls, dask_array, each, fd, normal
from tests.support.subprocesses import assert_succeeds, run_python

da = dask_array()
dask: Any = pytest.importorskip("dask")


def array(chunks: Any = CHUNKS, **more: Any) -> Any:
    return da.from_array(normal(**more), chunks=chunks)


def unread(shape: tuple[int, ...] = (20, 6), chunks: Any = 4, dtype: Any = np.float32) -> Any:
    """Return an array whose blocks must not be computed."""

    def fail(block: Any) -> Any:
        raise AssertionError("a block was computed")

    return da.zeros(shape, chunks=chunks, dtype=dtype).map_blocks(
        fail, dtype=dtype, meta=np.empty((0,) * len(shape), dtype)
    )


def tasks(lazy: Any) -> dict[Any, Any]:
    return dict(lazy.__dask_graph__())


def test_there_is_one_task_a_block_with_what_is_around_it() -> None:
    x = da.zeros((40, 60), chunks=10, dtype=np.float32)
    y = fd.dropout(fd.alpha_dropout(x + 1, 0.1, rng=1) * 2, 0.5, rng=2) - 3
    assert len(tasks(dask.optimize(y)[0])) == 24


def test_small_operands_are_in_the_tasks_and_others_are_cut_as_x_is() -> None:
    x = da.zeros((40, 60), chunks=10, dtype=np.float32)
    of_numbers = fd.bias_act_dropout_add(x, 2.0, "relu", rng=1)
    assert len(tasks(of_numbers)) == 48
    biased = fd.bias_act_dropout_add(x, np.ones(60, np.float32), "relu", rng=1)
    assert len(tasks(biased)) == 48 + 6


def test_nothing_is_computed_when_a_graph_is_built() -> None:
    x = unread()
    p = unread((6,), dtype=np.float64)
    for make in calls(
        lambda: fd.dropout(x, 0.5, rng=1),
        lambda: fd.dropout(x, p, rng=1),
        lambda: fd.bias_act_dropout_add(x, unread((6,)), "gelu", rng=1, residual=x),
        lambda: fd.bias_act_dropout_add_backward(x, x, unread((6,)), "gelu", rng=1)[1],
        lambda: fd.softmax_dropout(unread(chunks=(4, 6)), rng=1),
        lambda: fd.Mask(x.shape, rng=1) * x,
        lambda: fd.dropout_mask(x.shape, p, rng=1, like=x),
        lambda: fd.zoneout_backward(x, rng=1)[1],
        lambda: fd.Dropout(0.5, rng=1)(x),
    ):
        lazy = make()
        assert isinstance(lazy, da.Array)
        with pytest.raises(AssertionError, match="was computed"):
            lazy.compute(scheduler="synchronous")


def test_the_meta_is_that_of_x() -> None:
    for dtype in (np.float32, np.float64):
        x = array(dtype=dtype)
        for y in (fd.dropout(x), fd.bias_act_dropout_add(x, 1.0), fd.Mask(x.shape) * x):
            assert type(y._meta) is np.ndarray
            assert (y._meta.dtype, y._meta.ndim) == (x.dtype, x.ndim)
            assert y.chunks == x.chunks
    assert (fd.Mask((3, 4)) * da.ones((3, 4), dtype=int))._meta.dtype == np.float64


SAME: dict[str, Callable[[Any, Any], Any]] = {
    "dropout": lambda x, rng: fd.dropout(x, 0.5, rng=rng),
    "masked_fill": lambda x, rng: fd.masked_fill(x, 0.5, np.nan, rng=rng),
    "array of p": lambda x, rng: fd.dropout(x, each((24, 5)), rng=rng),
    "operands": lambda x, rng: fd.bias_act_dropout_add(
        x, np.ones(5, np.float32), rng=rng, residual=1.0
    ),
    "mask": lambda x, rng: fd.dropout_mask(x.shape, 0.5, rng=rng, like=x),
    "packed mask": lambda x, rng: fd.dropout_mask((16, 3), 0.5, rng=rng, chunks=8, packed=True),
    "Mask": lambda x, rng: fd.Mask(x.shape, 0.5, rng=rng) * x,
}


@pytest.mark.parametrize("name", SAME)
def test_one_key_gives_one_name_and_another_gives_another(name: str) -> None:
    call, x = SAME[name], array()
    names = [call(x, rng).name for rng in (1, fd.Key(1), np.int64(1), 2, fd.Key(1, 1))]
    assert names[0] == names[1] == names[2]
    assert len(set(names)) == 3
    assert call(array(), 1).name == names[0]
    if "packed" not in name:
        assert call(x.rechunk(4), 1).name != names[0]


def test_other_settings_give_other_names() -> None:
    x = array()
    calls: list[dict[str, Any]] = [
        {}, {"p": 0.4}, {"scale": 1.0}, {"offset": 8}, {"noise_shape": (1, None, None)},
        {"global_shape": (9, 30, 9), "offset": (0, 0, 0)},
        {"global_shape": (9, 30, 9), "offset": (0, 1, 0)},
    ]  # fmt: skip
    names = {fd.dropout(x, **{"p": 0.5, **call}, rng=1).name for call in calls}
    assert len(names) == len(calls)
    assert fd.gaussian_dropout(x, 0.5, rng=1).name not in names
    # Views of one mask are one whatever they were made of, and names go by what they are.
    mask = fd.Mask((14, 24, 5), rng=1)
    assert (mask[::2] * x).name == (mask[::2][:] * x).name != (mask[1::2] * x).name


def test_names_are_the_same_in_another_process() -> None:
    code = """
from tests.dask.test_graphs import SAME, array
print([call(array(), 1).name for call in SAME.values()])
"""
    here = [call(array(), 1).name for call in SAME.values()]
    assert assert_succeeds(run_python(code, PYTHONHASHSEED="1")).strip() == str(here)


def test_generators_are_asked_once_when_the_graph_is_built() -> None:
    x, rng = array(), np.random.default_rng(3)
    y = fd.dropout(x, 0.5, rng=rng)
    after = rng.bit_generator.state
    expected = fd.dropout(normal(), 0.5, rng=np.random.default_rng(3))
    for _ in range(2):
        assert_same(y, expected)
    assert rng.bit_generator.state == after
    again = np.random.default_rng(3)
    fd.dropout(normal(), 0.5, rng=again)
    assert again.bit_generator.state == after
    fresh = fd.dropout(x, 0.5)
    assert fresh.name != fd.dropout(x, 0.5).name
    assert_same(fresh, fresh.compute())


def test_a_call_that_raises_asks_no_generator() -> None:
    x, rng = array(), np.random.default_rng(3)
    before = rng.bit_generator.state
    for call in calls(
        lambda: fd.dropout(x, 1.5, rng=rng),
        lambda: fd.dropout(x, 0.5, rng=rng, out=normal()),
        lambda: fd.dropout(x.astype(int), 0.5, rng=rng),
        lambda: fd.masked_fill(x.astype(object), 0.5, 0, rng=rng),
        lambda: fd.dropout(x, np.full((3, 3), 0.5), rng=rng),
        lambda: fd.dropout(x, [0.5, 0.5, 0.5, 2.0, 0.5], rng=rng),
        lambda: fd.softmax_dropout(x, rng=rng),
        lambda: fd.bias_act_dropout_add(x, normal((3,)), rng=rng),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
        assert rng.bit_generator.state == before


def test_chunks_of_unknown_sizes_are_refused_with_the_way_out() -> None:
    x = array()
    unknown = x.ravel()[x.ravel() > 0]
    for call in calls(
        lambda: fd.dropout(unknown, 0.5, rng=1),
        lambda: fd.dropout(unknown, 0.5, training=False),
        lambda: fd.bias_act_dropout_add(unknown, 1.0, rng=1),
        lambda: fd.softmax_dropout(unknown, rng=1),
        lambda: fd.Mask((3,), rng=1) * unknown,
    ):
        with pytest.raises(ValueError, match=r"x\.compute_chunk_sizes\(\)"):
            call()
    known = unknown.compute_chunk_sizes()
    values = normal().ravel()
    assert_same(fd.dropout(known, 0.5, rng=1), fd.dropout(values[values > 0], 0.5, rng=1))


def test_out_is_refused_with_the_reason() -> None:
    x, out = array(), normal()
    for call in calls(
        lambda: fd.dropout(x, 0.5, rng=1, out=out),
        lambda: fd.dropout(x, 0.5, training=False, out=out),
        lambda: fd.bias_act_dropout_add(x, 1.0, rng=1, out=out),
        lambda: fd.softmax_dropout(x.rechunk(-1), rng=1, out=out),
        lambda: fd.dropout_mask(x.shape, rng=1, like=x, out=np.empty(x.shape, bool)),
        lambda: np.multiply(x, fd.Mask(x.shape), out=out),
    ):
        with pytest.raises(TypeError, match=r"computed later: leave it out, .*dask\.array\.store"):
            call()
    with pytest.raises(TypeError, match=r"out is a dask\.Array: give a numpy\.ndarray"):
        fd.dropout(out, 0.5, out=x)
    stored = np.empty_like(out)
    da.store(fd.dropout(x, 0.5, rng=1), stored, scheduler="synchronous")
    np.testing.assert_array_equal(stored, fd.dropout(out, 0.5, rng=1))


def test_a_softmax_over_several_chunks_says_how_to_rechunk() -> None:
    x = array()
    for axis in (-1, 1):
        with pytest.raises(ValueError, match=r"give x\.rechunk\(\{\d: -1\}\)") as error:
            fd.softmax_dropout(x, axis=axis, rng=1)
        way = str(error.value).rpartition("give ")[2]
        lazy = fd.softmax_dropout(eval(way), axis=axis, rng=1)
        assert_same(lazy, fd.softmax_dropout(normal(), axis=axis, rng=1))


def test_lazy_probabilities_are_checked_in_their_blocks() -> None:
    x, bad = array(), each((24, 5))
    bad[3, 2] = 1.5
    lazy = fd.dropout(x, da.from_array(bad, chunks=3), rng=1)
    with pytest.raises(ValueError, match=r"=1\.5 is not in \[0, 1\]"):
        lazy.compute(scheduler="synchronous")
    with pytest.raises(TypeError, match="p has dtype complex128"):
        fd.dropout(x, da.zeros(5, dtype=complex), rng=1)
    with pytest.raises(ValueError, match="does not broadcast"):
        fd.dropout(x, da.zeros(4), rng=1)
    with pytest.raises(TypeError, match=r"p is a dask\.Array, which is lazy: give p\.compute\(\)"):
        fd.dropout(normal(), da.zeros(5), rng=1)


def test_lazy_operands_need_a_lazy_x() -> None:
    x, lazy = normal(), array()
    for call in calls(
        lambda: fd.bias_act_dropout_add(x, lazy, rng=1),
        lambda: fd.zoneout(x, lazy, rng=1),
        lambda: fd.softmax_dropout_backward(lazy, x, rng=1),
    ):
        with pytest.raises(TypeError, match=r"x is not lazy: give dask\.array\.from_array\(x\)"):
            call()


def test_blocks_that_are_not_what_their_array_says_are_an_error() -> None:
    x = da.from_array(normal((8, 6)), chunks=4)
    kinds = {"float64": x.map_blocks(lambda b: b.astype(np.float64), dtype=np.float32)}
    kinds["shape \\(4, 3\\)"] = x.rechunk((4, 6)).map_blocks(lambda b: b[:, :3], dtype=np.float32)
    for what, lying in kinds.items():
        with pytest.raises(ValueError, match=f"a block has .*{what}.*its Dask array says"):
            fd.dropout(lying, 0.5, rng=1).compute(scheduler="synchronous")


def test_arrays_of_other_libraries_in_blocks_are_refused() -> None:
    masked = array().map_blocks(np.ma.masked_less, 0)
    with pytest.raises(TypeError, match=r"x is a Dask array of numpy\.MaskedArray.*map_blocks"):
        fd.dropout(masked, 0.5, rng=1)


def test_drop_block_counts_all_of_x() -> None:
    with pytest.raises(TypeError, match=r"drop_block2d scales by .*give x\.compute\(\)"):
        fd.drop_block2d(da.zeros((2, 3, 8, 8), dtype=np.float32), 0.1, 3, rng=1)


@pytest.mark.parametrize("shape, chunks", [((10_000, 4), (1, 4)), ((1000, 1000), (10, 10))])
def test_graphs_of_ten_thousand_blocks_are_quick_and_small(shape: Any, chunks: Any) -> None:
    x = da.zeros(shape, chunks=chunks, dtype=np.float32)
    blocks = int(np.prod(x.numblocks))
    assert blocks == 10_000
    bias = da.zeros(shape[-1], dtype=np.float32, chunks=chunks[-1])
    for call in calls(
        lambda: fd.dropout(x, 0.5, rng=KEY),
        lambda: fd.bias_act_dropout_add(x, bias, "relu", rng=KEY),
        lambda: fd.Mask(shape, rng=KEY) * x,
        lambda: fd.dropout_mask(shape, 0.5, rng=KEY, like=x),
    ):
        took = []
        for _ in range(5):
            start = time.perf_counter()
            y = call()
            took.append(time.perf_counter() - start)
        assert min(took) / blocks < 2e-6
        layers = y.dask.layers
        own = {key: task for key, task in dict(layers[y.name]).items() if key[0] == y.name}
        assert len(own) == blocks
        assert len(pickle.dumps(own)) / blocks < 200
        assert len(pickle.dumps(layers[y.name])) / blocks < 200


@pytest.mark.slow
def test_ten_thousand_blocks_have_the_bits_of_one() -> None:
    x = normal((1000, 100))
    for lazy in (da.from_array(x, chunks=(10, 1)), da.from_array(x, chunks=(1, 10))):
        assert lazy.npartitions == 10_000
        assert_same(fd.dropout(lazy, 0.5, rng=KEY), fd.dropout(x, 0.5, rng=KEY))


def test_a_task_is_small() -> None:
    x = da.zeros((40, 60), chunks=10, dtype=np.float32)
    y = fd.dropout(x, 0.5, rng=KEY)
    (task, *_) = [task for key, task in tasks(y).items() if key[0] == y.name]
    assert len(pickle.dumps(task)) < 1000


def test_dask_is_not_imported_for_other_arrays() -> None:
    code = """
import sys
import numpy as np
import fastdrop as fd
fd.dropout(np.ones(4), [0.5] * 4, rng=1)
fd.Mask((4,)) * np.ones(4)
fd.dropout([1.0], 0.5)
print([name for name in sys.modules if "dask" in name or "block_calls" in name])
"""
    assert assert_succeeds(run_python(code)).strip() == "[]"


def test_a_dask_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask, "__version__", "2024.8.0")
    with pytest.raises(ImportError, match=r"Dask 2024\.8\.0 cannot .*: install 2024\.12\.1"):
        fd.dropout(array(), 0.5, rng=1)
