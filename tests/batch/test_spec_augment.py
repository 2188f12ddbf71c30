"""SpecAugment's bands: every result by an oracle in plain NumPy, their distribution, and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.batch_oracle import KEY
from tests.support.batch_oracle import spectrogram as expected
from tests.support.devices import HostDevice
from tests.support.internals import set_cpu_limits
from tests.support.oracle import Array, assert_same, misaligned, poison, poisoned
from tests.support.slow import slow_unless

DTYPES = ("float16", "bfloat16", "float32", "float64")
BANDS: dict[str, Any] = {"time_masks": 2, "time_width": 7, "freq_masks": 3, "freq_width": 5}
# Shapes, and which axes are time, frequency and samples.
LAYOUTS: tuple[tuple[tuple[int, ...], int, int, int | None], ...] = (
    ((13, 9), 0, 1, None),
    ((9, 13), 1, 0, None),
    ((3, 21, 16), 1, 2, 0),
    ((3, 16, 21), 2, 1, 0),
    ((3, 2, 21, 10), 2, 3, 0),
    ((21, 3, 10), 0, 2, 1),
    ((21, 10, 3), 0, 1, 2),
    ((3, 21, 10, 4), 1, 2, 0),
    ((2, 21, 3, 10), 1, 3, 0),
    ((2, 3, 21, 2, 10, 2), 2, 4, 0),
    ((2, 21, 700), 1, 2, 0),
)


def drawn(dtype: str) -> Array:
    return np.zeros(0, fd.bernoulli_weights(0, dtype=dtype).dtype)


def numbers(shape: tuple[int, ...], dtype: str = "float32") -> Array:
    x = np.arange(1, math.prod(shape) + 1, dtype=np.float64).reshape(shape)
    return (x % 1999).astype(drawn(dtype).dtype)


@pytest.mark.parametrize(
    ("layout", "name"),
    slow_unless(lambda layout, name: name in ("float32", "bfloat16"), LAYOUTS, DTYPES),
    ids=str,
)
def test_bands_are_those_of_the_oracle(layout: Any, name: str) -> None:
    shape, time, frequency, sample = layout
    x = numbers(shape, name)
    lengths = None if sample is None else [shape[time], 5, 0][: shape[sample]]
    places: tuple[dict[str, Any], ...] = (
        {},
        {"offset": 2**62 + 5},
        {"row_lengths": lengths},
        {"value": -3.5},
    )
    for where in places:
        wanted = expected(x, time, frequency, sample, **BANDS, **where)
        options = {"time_axis": time, "freq_axis": frequency - len(shape), **BANDS, **where}
        assert_same(fd.spec_augment(x, rng=KEY, **options), wanted)
        same = x.copy()
        assert fd.spec_augment(same, rng=KEY, **options, out=same) is same
        assert_same(same, wanted)


@pytest.mark.parametrize("options", [
    {"time_masks": 0},
    {"freq_masks": 0},
    {"time_masks": 0, "freq_masks": 0},
    {"time_width": 0, "freq_width": 0},
    {"freq_width": 16},
    {"time_width": 10**9},
    {"p_max": 0.2},
    {"p_max": 0.0},
], ids=str)  # fmt: skip
def test_numbers_and_widths_of_bands(options: dict[str, Any]) -> None:
    x = numbers((4, 50, 16))
    options = {**BANDS, **options}
    assert_same(fd.spec_augment(x, rng=KEY, **options), expected(x, 1, 2, 0, **options))
    lengths = [50, 11, 1, 0]
    made = fd.spec_augment(x, rng=KEY, row_lengths=lengths, **options)
    assert_same(made, expected(x, 1, 2, 0, row_lengths=lengths, **options))


def test_results_lie_in_memory_as_inputs_do() -> None:
    x = numbers((3, 20, 16))
    wanted = expected(x, 1, 2, 0, **BANDS)
    for order in ((0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0)):
        turned = np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
        made = fd.spec_augment(turned, rng=KEY, **BANDS)
        assert made.strides == turned.strides
        assert_same(made, wanted)
    wide = np.zeros((6, 20, 32), np.float32)
    wide[::2, :, 1::2] = x
    before = wide.copy()
    assert_same(fd.spec_augment(wide[::2, :, 1::2], rng=KEY, **BANDS), wanted)
    np.testing.assert_array_equal(wide, before)
    view = wide[::2, :, 1::2]
    assert fd.spec_augment(view, rng=KEY, **BANDS, out=view) is view
    before[::2, :, 1::2] = wanted
    np.testing.assert_array_equal(wide, before)
    crooked = misaligned(x, 2)
    assert_same(fd.spec_augment(crooked, rng=KEY, **BANDS), wanted)
    out = poison(np.empty((16, 20, 3), np.float32)).transpose(2, 1, 0)
    assert fd.spec_augment(x, rng=KEY, **BANDS, out=out) is out
    assert_same(out.copy(), wanted)


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_nothing_beside_a_contiguous_result_is_written(name: str) -> None:
    for shape in ((2, 9, 7), (2, 40, 33), (2, 7, 40)):
        x = numbers(shape, name)
        for in_place in (False, True):
            room = poisoned((4, *shape[1:]), x.dtype)
            before, out = room.copy(), room[1:3]
            out[...] = x
            fd.spec_augment(out if in_place else x, rng=KEY, **BANDS, out=out)
            assert_same(out.copy(), expected(x, 1, 2, 0, **BANDS))
            assert room[0].tobytes() + room[3].tobytes() == before[::3].tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_nontemporal_stores_write_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any number of bytes here; where the processor has none, stores are ordinary ones."""
    set_cpu_limits(monkeypatch, nontemporal_from=0)
    for layout in LAYOUTS:
        shape, time, frequency, sample = layout
        x = numbers(shape, name)
        lengths = None if sample is None else [shape[time], 5, 0][: shape[sample]]
        options: dict[str, Any] = {"time_axis": time, "freq_axis": frequency - len(shape), **BANDS}
        wanted = expected(x, time, frequency, sample, row_lengths=lengths, **BANDS)
        for begin in (0, 1, 5, 31):  # cache lines of y begin at any element
            room = poisoned((begin + x.size + 40,), x.dtype)
            before, out = room.copy(), room[begin : begin + x.size].reshape(shape)
            fd.spec_augment(x, rng=KEY, row_lengths=lengths, **options, out=out)
            assert_same(out.copy(), wanted)
            assert room[:begin].tobytes() == before[:begin].tobytes()
            assert room[begin + x.size :].tobytes() == before[begin + x.size :].tobytes()


@pytest.mark.parametrize("width", [1, 3, 8, 9, 17, 40, 64, 65, 129, 200])
def test_bands_of_any_width_are_filled_in_place(width: int) -> None:
    for name in DTYPES:
        x = numbers((6, 30, 211), name)
        bands: dict[str, Any] = {"time_masks": 1, "time_width": 3, "freq_masks": 4}
        bands["freq_width"] = width
        wanted = expected(x, 1, 2, 0, **bands)
        assert_same(fd.spec_augment(x, rng=KEY, **bands, out=x), wanted)


def test_samples_may_have_values_of_their_own() -> None:
    x = numbers((3, 20, 16))
    means = x.mean((1, 2))
    assert_same(
        fd.spec_augment(x, rng=KEY, value=means, **BANDS),
        expected(x, 1, 2, 0, value=means, **BANDS),
    )


def test_the_gradient_is_the_same_call() -> None:
    x, dy = numbers((3, 20, 16)) + 1, numbers((3, 20, 16), "float64")
    kept = fd.spec_augment(x, rng=KEY, value=0, **BANDS) != 0
    assert_same(fd.spec_augment(dy, rng=KEY, value=0, **BANDS), np.where(kept, dy, 0.0))


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_and_threads_give_the_same(threads: int) -> None:
    x = numbers((40, 500, 80))
    with fd.threads(threads):
        whole = fd.spec_augment(x, rng=KEY)
        assert_same(whole, expected(x, 1, 2, 0))
        part = fd.spec_augment(x[3:6], rng=KEY, offset=(3, 0, 0), global_shape=x.shape)
        assert_same(part, whole[3:6].copy())
        assert_same(fd.spec_augment(x[7], rng=KEY, offset=7 * 500 * 80), whole[7].copy())


def test_samples_have_their_own_bands_in_any_batch() -> None:
    x = numbers((3, 20, 16))
    made = fd.spec_augment(x, rng=KEY, sample_index=[4, 1, 9], **BANDS)
    for given, sample, n in zip(x, made, (4, 1, 9), strict=True):
        assert_same(sample.copy(), fd.spec_augment(given, rng=KEY.fold_in(n), **BANDS))
    again = fd.spec_augment(x[[2, 0]], rng=fd.sample_keys(KEY, [9, 4]), **BANDS)
    assert_same(again, made[[2, 0]].copy())


@pytest.mark.parametrize("name", DTYPES)
def test_cuda_gives_the_same(host: HostDevice, name: str) -> None:
    for shape, time, frequency, sample in LAYOUTS:
        x = numbers(shape, name)
        lengths = None if sample is None else [shape[time], 5, 0][: shape[sample]]
        options: dict[str, Any] = {"time_axis": time, "freq_axis": frequency, **BANDS}
        for more in ({}, {"offset": 2**35 - 3, "row_lengths": lengths, "value": 2.0}):
            options |= more
            wanted = fd.spec_augment(x, rng=KEY, **options)
            there = host.put(x)
            assert_same(host.get(fd.spec_augment(there, rng=KEY, **options)), wanted)
            fd.spec_augment(there, rng=KEY, **options, out=there)
            assert_same(host.get(there), wanted)
    x = numbers((3, 20, 16), name)
    own = fd.spec_augment(x, rng=KEY, sample_index=[1, 2, 2**40], value=x[:, 0, 0], **BANDS)
    there = host.put(x)
    made = fd.spec_augment(
        there, rng=KEY, sample_index=[1, 2, 2**40], value=host.put(x[:, 0, 0]), **BANDS
    )
    assert_same(host.get(made), own)


def test_empty_arrays() -> None:
    for shape in ((0, 20, 16), (3, 0, 16), (3, 20, 0), (3, 20, 16, 0)):
        x = np.zeros(shape, np.float32)
        made = fd.spec_augment(x, rng=KEY, time_axis=1, freq_axis=2, **BANDS)
        assert made.shape == shape
        assert fd.spec_augment(x, rng=KEY, time_axis=1, freq_axis=2, out=x, **BANDS) is x


def test_widths_and_starts_are_uniform() -> None:
    rows, length, width = 60_000, 12, 5
    x = np.ones((rows, length, 1), np.float32)
    kept = fd.spec_augment(x, time_masks=1, time_width=width, freq_masks=0, rng=1)[..., 0]
    widths = (kept == 0).sum(1)
    for w in range(width + 1):
        count, mean = int((widths == w).sum()), rows / (width + 1)
        assert abs(count - mean) < 5 * math.sqrt(mean)
        if w:
            starts = np.bincount((kept[widths == w] == 0).argmax(1), minlength=length)
            assert not starts[length - w + 1 :].any()
            each = count / (length - w + 1)
            assert (np.abs(starts[: length - w + 1] - each) < 5 * math.sqrt(each)).all()


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"freq_width": 17}, ValueError, "freq_width=17 is more than the frequency axis has, 16"),
        ({"freq_width": -1}, ValueError, "freq_width=-1 is below 0"),
        ({"time_width": -1}, ValueError, "time_width=-1 is below 0"),
        ({"time_masks": -1}, ValueError, "time_masks=-1 is below 0"),
        (
            {"freq_masks": 200},
            ValueError,
            "freq_masks=200 are more than the 160 bands that samples of 320",
        ),
        ({"freq_masks": 10**6}, ValueError, "more than 65536 bands"),
        ({"p_max": 1.5}, ValueError, r"p_max=1.5 is not in \[0, 1\]"),
        ({"time_axis": 3}, ValueError, "time_axis=3 is none of the 3 axes"),
        ({"time_axis": 2}, ValueError, "time_axis=2 and freq_axis=-1 are the same axis"),
        ({"value": "mean"}, TypeError, "value"),
        ({"value": np.zeros(4, np.float32)}, ValueError, r"value has shape \(4,\)"),
        ({"value": np.zeros(3)}, TypeError, "value has dtype float64, and x has float32"),
        ({"row_lengths": [1, 2]}, ValueError, r"row_lengths has shape \(2,\)"),
        ({"row_lengths": [1, 21, 0]}, ValueError, "row_lengths has 21, and the time axis has 20"),
        ({"offset": (0, 0, 1), "global_shape": (3, 20, 17)}, ValueError, "differ along axis 2"),
        ({"sample_index": [1, 2]}, ValueError, "sample_index has 2 numbers"),
        ({"sample_index": [1, 2, 3], "offset": 3}, ValueError, "offset is given, and each sample"),
        ({"out": np.zeros((3, 20, 16))}, TypeError, "out has dtype float64"),
        ({"out": np.zeros((3, 20, 17), np.float32)}, ValueError, r"out has shape \(3, 20, 17\)"),
        ({"size": 3}, TypeError, "size"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    x = np.ones((3, 20, 16), np.float32)
    with pytest.raises(kind, match=match):
        fd.spec_augment(x, rng=generator, **{"freq_width": 4, **arguments})
    assert generator.bit_generator.state == before
    assert (x == 1).all()


def test_wrong_arrays_are_refused() -> None:
    x = np.ones((3, 40, 16), np.float32)
    before = x.copy()
    with pytest.raises(ValueError, match="overlaps an array that is read"):
        fd.spec_augment(x[:, :20], rng=1, freq_width=3, out=x[:, 1:21])
    values = x[0, 0, :3]
    with pytest.raises(ValueError, match="overlaps an array that is read"):
        fd.spec_augment(x, rng=1, freq_width=3, value=values, out=x)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(TypeError, match="x has dtype int64"):
        fd.spec_augment(np.ones((3, 4), np.int64), rng=1)
    with pytest.raises(ValueError, match="axes for time and frequency"):
        fd.spec_augment(np.ones(4, np.float32), rng=1)
    with pytest.raises(ValueError, match="has no axes"):
        fd.spec_augment(x[0], rng=1, freq_width=3, sample_index=[1])
