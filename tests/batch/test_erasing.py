"""Random erasing: every element by the contract, on CPU and CUDA, its statistics and its errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels.cuda import modules
from fastdrop_kernels.cuda.batch import erasing
from tests.support import nvrtc
from tests.support.devices import HostDevice
from tests.support.erasing import erased, exponential, rectangles
from tests.support.oracle import Array, assert_same, data, misaligned, poisoned
from tests.support.slow import slow_unless

KEY = fd.Key(2**63 + 5, 11)
FORMS = {"first": (9, 3, 20, 27), "last": (9, 20, 27, 3), "none": (9, 20, 27)}
LAST = {"data_format": "channels_last"}


def images(shape: tuple[int, ...], dtype: Any = "u1", seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(1, 120, shape).astype(dtype))


def form_of(name: str) -> dict[str, Any]:
    return LAST if name == "last" else {}


@pytest.mark.parametrize(
    ("dtype", "name"),
    slow_unless(
        lambda dtype, name: dtype in ("u1", "f4"),
        ["u1", "i2", "f4", "f8", "c16", "bfloat16", ">i4", "?"],
        FORMS,
    ),
)
def test_elements_are_those_of_the_oracle(dtype: str, name: str) -> None:
    kind = fd.bernoulli_weights((), dtype="bfloat16").dtype if dtype == "bfloat16" else dtype
    x, other = images(FORMS[name], kind), images(FORMS[name], kind, 1)
    last, form = name == "last", form_of(name)
    for p in (0.0, 0.6, 1.0):
        for value in (True, other, other[:1], other[..., :1], other[:, :1], other[::-1]):
            for settings in ({}, {"count": 3}):
                y = fd.random_erasing(x, p, value=value, rng=KEY, **form, **settings)  # type: ignore[arg-type]
                expected = erased(x, p, KEY, value, last, **settings)
                assert data(y) == data(expected)
                assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert data(x) == data(images(FORMS[name], kind))


@pytest.mark.parametrize("name", FORMS)
def test_a_colour_has_a_number_for_each_channel(name: str) -> None:
    x, last = images(FORMS[name]), name == "last"
    colour = [7] if name == "none" else [7, 8, 9]
    value = np.array(colour if last else np.reshape(colour, (-1, 1, 1)), "u1")
    expected = erased(x, 0.7, KEY, value.reshape(()) if name == "none" else value, last)
    for given in (colour, tuple(colour), np.array(colour), np.array(colour, "u1")):
        assert_same(fd.random_erasing(x, 0.7, value=given, rng=KEY, **form_of(name)), expected)
    with pytest.raises(ValueError, match="value has shape .4,., and images has"):
        fd.random_erasing(x, value=[1, 2, 3, 4], **form_of(name))


@pytest.mark.parametrize(
    ("dtype", "name"),
    slow_unless(
        lambda dtype, name: dtype == "float32" or name == "first",
        ["float16", "bfloat16", "float32", "float64"],
        FORMS,
    ),
)
def test_noise_is_normal_numbers_of_draw_1(dtype: str, name: str) -> None:
    x = images(FORMS[name], fd.bernoulli_weights((), dtype=dtype).dtype)
    for offset in (0, 3, 2**62 + 5):
        y = fd.random_erasing(x, 0.8, value="noise", rng=KEY, offset=offset, **form_of(name))
        assert_same(y, erased(x, 0.8, KEY, "noise", name == "last", offset))


@pytest.mark.parametrize(
    ("scale", "ratio"),
    [((0.0, 1.0), (0.01, 100.0)), ((0.25, 0.25), (1, 1)), ((0.9, 1.0), (1.0, 1.0)),
     ((0.0, 0.0), (0.3, 3.3)), ((1e-300, 1.0), (1e-300, 1e300))],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(50, 1, 16, 24), (30, 2, 1, 9), (30, 1, 7, 1), (40, 3, 2, 2)])
def test_any_scale_and_ratio(shape: tuple[int, ...], scale: Any, ratio: Any) -> None:
    x = images(shape)
    settings = {"scale": scale, "ratio": ratio, "count": 2}
    y = fd.random_erasing(x, 0.9, rng=KEY, **settings)
    with np.errstate(all="ignore"):
        assert_same(y, erased(x, 0.9, KEY, **settings))


@pytest.mark.parametrize("dtype", ["u1", "f4"])
@pytest.mark.parametrize("name", FORMS)
def test_in_place_only_rectangles_are_written(name: str, dtype: str) -> None:
    whole = images(FORMS[name], dtype)
    for value in (0, "noise") if dtype == "f4" else (0,):
        expected = erased(whole, 0.7, KEY, value, name == "last")
        for x in (whole.copy(), misaligned(whole, 1), np.asfortranarray(whole)):
            y = fd.random_erasing(x, 0.7, value=value, rng=KEY, out=x, **form_of(name))
            assert y is x
            assert data(x) == data(expected)
    wide = images((9, 3, 40, 60))
    before, crop = wide.copy(), wide[:, :, 5:25, 7:34]
    fd.random_erasing(crop, 1.0, rng=KEY, out=crop)
    expected = before.copy()
    expected[:, :, 5:25, 7:34] = erased(before[:, :, 5:25, 7:34], 1.0, KEY)
    assert_same(wide, expected)


def test_values_may_be_other_images_of_the_batch_in_place() -> None:
    x = images((9, 3, 20, 27))
    expected = erased(x, 1.0, KEY, x[::-1])
    assert_same(fd.random_erasing(x, 1.0, value=x[::-1], rng=KEY, out=x), expected)


def test_out_and_layouts() -> None:
    x = images((9, 3, 20, 27), "f4")
    expected = erased(x, 0.7, KEY)
    views = (
        np.asfortranarray(x), np.ascontiguousarray(x[..., ::-1])[..., ::-1], misaligned(x, 2),
        np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    )  # fmt: skip
    for view in views:
        assert_same(fd.random_erasing(view, 0.7, rng=KEY), expected)
        out = np.empty_like(view)
        assert fd.random_erasing(x, 0.7, rng=KEY, out=out) is out
        assert data(out) == data(expected)
    out = poisoned(x.shape, x.dtype)
    fd.random_erasing(x, 0.7, rng=KEY, out=out)
    assert_same(out, expected)
    assert_same(fd.random_erasing(x.tolist(), 0.7, rng=KEY), expected.astype("f8"))


@pytest.mark.parametrize("threads", [1, 2])
def test_shards_samples_and_threads_give_the_same(threads: int) -> None:
    x = images((60, 3, 128, 128), "f8")  # large enough for two threads
    expected = erased(x, 0.5, KEY)
    with fd.threads(threads):
        assert_same(fd.random_erasing(x, rng=KEY), expected)
        part = fd.random_erasing(x[7:19], rng=KEY, offset=(7, 0, 0, 0), global_shape=x.shape)
        assert_same(part, expected[7:19])
        part = fd.random_erasing(x[7:19], rng=KEY, offset=7 * 3 * 128 * 128)
        assert_same(part, expected[7:19])
        index = np.arange(100, 160)
        own = fd.random_erasing(x, rng=KEY, sample_index=index, count=2)
        assert_same(own, erased(x, 0.5, fd.sample_keys(KEY, index), count=2))
        assert_same(fd.random_erasing(x, rng=fd.sample_keys(KEY, index), count=2), own)
        again = fd.random_erasing(x[::-1], rng=KEY, sample_index=index[::-1], count=2)
        assert_same(again, np.ascontiguousarray(own[::-1]))


def test_an_image_is_erased_where_dropout_drops_its_first_element() -> None:
    x = np.ones((2000, 8, 8), np.uint8)
    y = fd.random_erasing(x, 0.3, scale=(0.2, 0.5), rng=KEY)
    dropped = ~fd.dropout_mask(x.shape, 0.3, rng=KEY)[:, 0, 0]
    np.testing.assert_array_equal((y == 0).any((1, 2)), dropped)


def test_rectangles_are_distributed_as_they_should_be() -> None:
    """Areas uniformly, ratios log-uniformly, and places uniformly: 5 deviations at most."""
    n, side = 4000, 256
    x = np.ones((n, side, side), np.uint8)
    y = fd.random_erasing(x, 1.0, scale=(0.05, 0.15), ratio=(0.5, 2.0), rng=KEY) == 0
    rows, columns = y.any(2), y.any(1)
    heights, widths = rows.sum(1), columns.sum(1)
    assert (y.sum((1, 2)) == heights * widths).all()  # rectangles, and none is missing
    u = (heights * widths / side**2 - 0.05) / 0.1
    v = (np.log(heights / widths) - math.log(0.5)) / math.log(4.0)
    top, left = rows.argmax(1) / (side - heights), columns.argmax(1) / (side - widths)
    for share in (u, v, top, left):
        assert abs(share.mean() - 0.5) < 5 / math.sqrt(12 * n)
        assert abs((share**2).mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / n) + 0.01
    several = np.corrcoef([u, v, top, left]) - np.eye(4)
    assert (np.abs(several) < 5 / math.sqrt(n)).all()


def test_positions_are_uniform() -> None:
    """Of all 1 x 1 rectangles of a 3 x 4 image; chi-square of 11 degrees, below its 1e-6 tail."""
    x = np.ones((30_000, 3, 4), np.uint8)
    y = fd.random_erasing(x, 1.0, scale=(1 / 12, 1 / 12), ratio=(1, 1), rng=KEY)
    assert ((y == 0).sum((1, 2)) == 1).all()
    found = (y == 0).sum(0).ravel()
    assert ((found - 2500) ** 2 / 2500).sum() < 50


def test_the_exponential_is_as_exact_as_rectangles_need() -> None:
    for t in np.linspace(-2.5, 2.5, 501):
        assert exponential(float(t)) == pytest.approx(math.exp(t), rel=1e-11)


def test_noise_does_not_depend_on_what_is_erased() -> None:
    x = np.zeros((4000, 2, 2), np.float32)
    made = [y[0, 0] for y in fd.random_erasing(
        x, 0.5, scale=(0.25, 0.25), ratio=(1, 1), value="noise", rng=KEY) if y[0, 0]]  # fmt: skip
    assert len(made) > 400
    assert abs(np.mean(made)) < 5 / math.sqrt(len(made))


@pytest.mark.parametrize(
    ("dtype", "name"),
    slow_unless(lambda dtype, name: dtype in ("u1", "f4"), ["u1", "i2", "f4", "f8", "c16"], FORMS),
)
def test_cuda_gives_the_same(host: HostDevice, dtype: str, name: str) -> None:
    last, form = name == "last", form_of(name)
    for shape in (FORMS[name], (5, 7, 6, 3)[: len(FORMS[name])]):
        x, other = images(shape, dtype), images(shape, dtype, 1)
        colour = other[0, 0, 0] if last else other[0, ..., :1, :1]
        for value in (3, host.put(other), host.put(colour)):
            its = value if isinstance(value, int) else host.get(value)
            for count in (1, 3):
                there = host.put(x)
                call: dict[str, Any] = {"value": value, "count": count, "rng": KEY, **form}
                y = fd.random_erasing(there, 0.7, **call)
                expected = erased(x, 0.7, KEY, its, last, count=count)
                assert_same(host.get(y), expected)
                assert_same(host.get(there), x)
                assert fd.random_erasing(there, 0.7, out=there, **call) is there
                assert_same(host.get(there), expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_cuda_gives_the_same_noise_samples_and_shards(host: HostDevice, dtype: str) -> None:
    if not host.takes(kind := fd.bernoulli_weights((), dtype=dtype).dtype):
        pytest.skip(f"CuPy takes no {dtype}")
    x = images((5, 3, 7, 9), kind)
    for offset in (0, 3, 2**35 - 100):
        y = fd.random_erasing(host.put(x), 0.8, value="noise", rng=KEY, offset=offset)
        assert_same(host.get(y), erased(x, 0.8, KEY, "noise", False, offset))
    keys = fd.sample_keys(KEY, [5, 2**40, 0, 7, 1])
    y = fd.random_erasing(there := host.put(x), 0.8, value="noise", rng=keys, out=there)
    assert y is there
    assert_same(host.get(y), erased(x, 0.8, keys, "noise"))
    colour = fd.random_erasing(host.put(x), 0.8, value=[1, 2, 3], rng=keys, count=2)
    expected = np.reshape([1, 2, 3], (3, 1, 1))
    assert_same(host.get(colour), erased(x, 0.8, keys, expected, count=2))


def test_device_keys_are_refused(host: HostDevice) -> None:
    x = host.put(images((5, 3, 7, 9)))
    key = fd.cuda.DeviceKey.__new__(fd.cuda.DeviceKey)
    with pytest.raises(TypeError, match=r"rng is a DeviceKey.*give rng\.key\(\)"):
        fd.random_erasing(x, rng=key)


def test_no_images_and_no_pixels() -> None:
    for shape in ((0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)):
        x = np.zeros(shape, np.uint8)
        y = fd.random_erasing(x, rng=1)
        assert y is not x and y.shape == shape
    x = images((3, 4, 5))
    assert fd.random_erasing(x, 0.0, rng=1) is not x


@pytest.mark.parametrize(
    ("arguments", "kind", "match"),
    [
        ({"p": 1.5}, ValueError, r"p=1\.5"),
        ({"scale": (0.3, 0.2)}, ValueError, r"scale=\(0\.3, 0\.2\) is not in order"),
        ({"scale": (-0.1, 0.2)}, ValueError, r"scale=.* is not in \[0, 1\]"),
        ({"scale": (0.1, 1.2)}, ValueError, r"scale=.* is not in \[0, 1\]"),
        ({"scale": 0.3}, TypeError, r"scale=0\.3 is a float: give two numbers"),
        ({"scale": (0.1, 0.2, 0.3)}, TypeError, "scale=.*: give two numbers"),
        ({"scale": (0.1, float("nan"))}, ValueError, r"scale\[1\]=nan is not finite"),
        ({"scale": (0.1, "a")}, TypeError, r"scale\[1\]='a'"),
        ({"ratio": (0.0, 1.0)}, ValueError, "ratio=.* not positive"),
        ({"ratio": (3.0, 1.0)}, ValueError, "ratio=.* not in order"),
        ({"ratio": (1.0, float("inf"))}, ValueError, r"ratio\[1\]=inf"),
        ({"count": 0}, ValueError, "count=0 is below 1"),
        ({"count": 1.0}, TypeError, "count"),
        ({"data_format": "NHWC"}, ValueError, "data_format='NHWC'"),
        ({"value": 300}, ValueError, "value=300 .*uint8 of images"),
        ({"value": [1, 2, 300]}, ValueError, "value has 300.*uint8 of images"),
        ({"value": [1, 2]}, ValueError, r"value has shape \(2,\), and images has 3 channels"),
        ({"value": np.zeros((2, 3, 4, 5), "u1")}, ValueError, "value has shape .* of images"),
        ({"value": "noise"}, TypeError, "value='noise' is of normal numbers.*uint8"),
        ({"value": "random"}, ValueError, "value='random'"),
        ({"value": None}, TypeError, "value=None"),
        ({"out": np.zeros((5, 3, 6, 7), np.int8)}, TypeError, "out has dtype int8"),
        ({"out": np.zeros((5, 3, 6, 8), np.uint8)}, ValueError, "out has shape"),
        ({"sample_index": [1, 2]}, ValueError, "sample_index has 2 numbers, and images has 5"),
        ({"sample_index": range(5), "offset": 3}, ValueError, "offset is given, and each sample"),
        ({"offset": (0, 1, 0, 0), "global_shape": (9, 9, 6, 7)}, ValueError, "larger images"),
        ({"offset": -1}, ValueError, "offset=-1"),
        ({"inplace": True}, TypeError, "inplace"),
        ({"images": np.zeros((4, 5), "u1")}, ValueError, r"images has shape \(4, 5\): give"),
        ({"images": np.array([[[None]]])}, TypeError, "images has dtype object, and random_er"),
        ({"images": np.broadcast_to(np.uint8(0), (1, 2**17, 2**17))}, ValueError, r"2\*\*32"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(
    arguments: dict[str, Any], kind: type[Exception], match: str
) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    given = {"images": images((5, 3, 6, 7)), "rng": generator, **arguments}
    with pytest.raises(kind, match=match):
        fd.random_erasing(**given)
    assert generator.bit_generator.state == before


def test_out_that_overlaps_images_otherwise_is_refused() -> None:
    board = images((6, 3, 6, 7))
    before = board.copy()
    with pytest.raises(ValueError, match="out overlaps an array that is read"):
        fd.random_erasing(board[:5], 1.0, rng=1, out=board[1:])
    with pytest.raises(ValueError, match="read-only|overlaps itself"):
        view = np.broadcast_to(board[:1], board.shape)
        fd.random_erasing(view, 1.0, rng=1, out=view)
    assert_same(board, before)


def test_the_oracle_draws_from_the_contract() -> None:
    """Known rectangles, which are frozen: top, left, height, width."""
    found = [rectangles((42, 0), 100 * r, 10, 10, 1.0) for r in range(3)]
    assert found == [[(1, 2, 5, 6)], [(2, 2, 6, 3)], [(8, 7, 2, 3)]]
    assert contract.VERSION == 1


@pytest.mark.slow
@pytest.mark.skipif(nvrtc.library() is None, reason=nvrtc.ABSENT)
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_the_kernels_compile_and_stay_in_registers(architecture: str) -> None:
    cubin, ptx, reports = nvrtc.compiled(erasing.module(), architecture)
    assert cubin.startswith(b"\x7fELF")
    assert set(reports) == set(modules.kernels(erasing.module()))
    for kernel, report in reports.items():
        assert report.stack == report.spilled == 0, kernel
    assert ".ftz" not in ptx, "subnormal numbers would be taken for zeros"
