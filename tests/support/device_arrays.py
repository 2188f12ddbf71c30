"""What is promised of arrays in a GPU's memory: run on a GPU, and in Numba's simulator of one.

Each promise is a function that fails by an assertion. What must come out is the oracle's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba import config, cuda

import fastdrop as fd
from fastdrop import device
from fastdrop._check import placement
from fastdrop_kernels import contract, reference
from fastdrop_kernels.numba_cuda import driver
from tests.support import oracle
from tests.support.oracle import POISON, Array, assert_same

SIMULATED = bool(config.ENABLE_CUDASIM)
KEY = fd.Key(2**40 + 3, 2**63 + 11)
FLOATS = ("float16", "float32", "float64")
# Past 2**32 blocks and across it, near the end, and not multiples of 8.
OFFSETS = (0, 3, 2**32 - 9, 2**35 - 500, 2**60 + 5, 2**63 - 5000)
VECTORS = json.loads((oracle.ROOT / "tests" / "data" / "mask_vectors.json").read_text())


class Placed:
    """A NumPy array that is a view of `memory`, whose like is made on the device."""

    def __init__(self, memory: Array, view: Array) -> None:
        self._view, self._memory = view, memory
        if SIMULATED:
            return
        flat = memory.reshape(-1, order="A").view(np.uint8)
        self._on_device = cuda.to_device(flat)
        behind = view.ctypes.data - flat.ctypes.data
        self.__cuda_array_interface__ = {
            "shape": view.shape,
            "strides": view.strides,
            "typestr": view.dtype.str,
            "data": (self._on_device.__cuda_array_interface__["data"][0] + behind, False),
            "version": 3,
        }

    @property
    def array(self) -> Any:
        """What is given to the driver: in the simulator, NumPy's arrays are the device's."""
        return self._view if SIMULATED else self

    def read(self) -> tuple[Array, Array]:
        """All the memory, as bytes, and what the array holds."""
        if not SIMULATED:
            flat = self._memory.reshape(-1, order="A").view(np.uint8)
            flat[...] = self._on_device.copy_to_host()
        return self._memory, self._view.copy(order="C")


LAYOUTS = ("C", "F", "every other", "backwards", "behind", "turned")


def empty(shape: tuple[int, ...], dtype: Any, layout: str) -> tuple[Array, Array]:
    """Poisoned memory, and an array of a layout in it."""
    dtype = np.dtype(dtype)
    n = math.prod(shape)
    room = {"every other": 2 * n, "behind": n + 3}.get(layout, n)
    memory = oracle.poison(np.empty(room, dtype))
    if layout == "F":
        return memory, memory.reshape(shape, order="F")
    if layout == "every other":
        return memory, memory[::2].reshape(shape, copy=False)
    if layout == "backwards":
        return memory, memory[::-1].reshape(shape, copy=False)
    if layout == "behind":
        return memory, memory[3:].reshape(shape)
    if layout == "turned":  # the first axis lies between the others
        turned = memory.reshape(shape[1:2] + shape[:1] + shape[2:])
        return memory, turned.swapaxes(0, 1) if len(shape) > 1 else turned
    return memory, memory.reshape(shape)


def given(x: Array, layout: str) -> Placed:
    memory, view = empty(x.shape, x.dtype, layout)
    view[...] = x
    return Placed(memory, view)


def numbers(shape: tuple[int, ...], dtype: Any) -> Array:
    x = (np.arange(math.prod(shape)) % 100 - 50).astype(dtype).reshape(shape)
    if x.dtype.kind == "f" and x.size > 4:
        x.flat[:5] = [np.inf, -np.inf, np.nan, -0.0, np.finfo(x.dtype).smallest_subnormal]
    return x


def parts(p: float, key: fd.Key) -> tuple[int, int, int]:
    return key.seed, key.stream, contract.threshold(p)


def check_dropout(
    x: Array, p: float, *, layout: str = "C", to: str | None = None, key: fd.Key = KEY, **where: Any
) -> None:
    source = given(x, layout)
    target = Placed(*empty(x.shape, x.dtype, to or layout))
    computed = np.float64 if x.dtype == np.float64 else np.float32
    factor = np.array(contract.scale(p), computed)
    place = placement.placement_of(x.shape, **where)
    operation = driver.dropping(x.dtype)
    driver.apply(operation, source.array, target.array, *place, *parts(p, key), factor)
    memory, result = target.read()
    assert_same(result, oracle.dropped(x, p, key, **where))
    check_the_rest(memory, x.size)


def check_the_rest(memory: Array, written: int) -> None:
    """What is no element of the array has not been written."""
    poison = oracle.poison(np.empty(1, memory.dtype)).tobytes()
    left = sum(element.tobytes() == poison for element in memory)
    assert left == memory.size - written


def dropout_of_every_dtype_length_and_offset() -> None:
    lengths = (1, 7, 8, 9, 1024, 1025, 2500)
    for k, (dtype, p) in enumerate([(d, p) for p in (0.1, 0.5) for d in FLOATS]):
        check_dropout(numbers((lengths[k],), dtype), p, offset=OFFSETS[k])
        check_dropout(numbers((lengths[-1 - k],), dtype), p, layout="behind", offset=OFFSETS[k])
    for offset in OFFSETS:
        check_dropout(numbers((70,), "float32"), 0.3, offset=offset)
    check_dropout(numbers((), "float32"), 0.3)
    check_dropout(numbers((0, 3), "float32"), 0.3)


def certain_and_next_to_certain() -> None:
    x = numbers((150,), "float32")
    for p in (0.0, 2.0**-32, 1 - 2.0**-32, 1 - 2.0**-40, 1.0):
        check_dropout(x, p)
        check_dropout(x, p, layout="backwards", to="C")


def ties_are_settled() -> None:
    """Thresholds that part neighbours by the second 16 bits, or by the last bit."""
    x = np.ones(64, np.float32)
    uniforms = contract.uniform32(
        np.uint64(KEY.seed), np.uint64(KEY.stream), np.arange(64, dtype=np.uint64)
    )
    for element in (0, 5, 12, 63):
        u = int(uniforms[element])
        for t in (u, u + 1, u & ~0xFFFF, u | 0xFFFF):
            p = t / 2**32
            assert contract.threshold(p) == t
            check_dropout(x, p)
            check_dropout(x, p, layout="every other")


def every_layout() -> None:
    x = numbers((5, 9, 4), "float32")
    for layout in LAYOUTS:
        check_dropout(x, 0.4, layout=layout)
        check_dropout(x, 0.4, layout=layout, to="C", offset=2**35 - 50)
        check_dropout(x, 0.4, layout="F", to=layout, offset=(0, 3, 1), global_shape=(6, 12, 7))
    row = np.arange(9, dtype=np.float64)
    wide = np.broadcast_to(row, (7, 9))
    source, target = Placed(row, wide), Placed(*empty((7, 9), np.float64, "C"))
    factor = np.array(contract.scale(0.4))
    operation = driver.dropping(row.dtype)
    driver.apply(operation, source.array, target.array, 0, None, *parts(0.4, KEY), factor)
    assert_same(target.read()[1], oracle.dropped(wide, 0.4, KEY))


def every_noise_shape() -> None:
    x = numbers((6, 7, 5), "float32")
    for noise in [(None, 1, 1), (1, None, None), (None, 1, None), (1, 1, 1), (None, None, 1)]:
        check_dropout(x, 0.5, noise_shape=noise)
        check_dropout(x, 0.5, layout="turned", noise_shape=noise)


def masked_fill_of_every_size() -> None:
    values: list[Any] = [
        np.int8(-7),
        np.bool_(True),
        np.int16(-300),
        np.float16(np.nan),
        np.uint32(2**32 - 1),
        np.float32(-0.0),
        np.int64(-(2**62)),
        np.datetime64("2020-01-01", "s"),
        np.complex128(complex(-0.0, np.nan)),
    ]
    for value in values:
        dtype = np.dtype(type(value)) if value.dtype.kind != "M" else value.dtype
        x = np.arange(350).astype("i8").astype(dtype).reshape(7, 50)
        for layout in ("C", "turned"):
            source = given(x, layout)
            target = Placed(*empty(x.shape, dtype, layout))
            filling = np.array(value, dtype)
            driver.apply(
                driver.filling(dtype),
                *(source.array, target.array, 5, None, *parts(0.3, KEY), filling),
            )
            expected = oracle.filled(x, 0.3, filling, KEY, offset=5)
            assert target.read()[1].tobytes() == expected.tobytes(), (dtype, layout)


def masks_and_packed_masks() -> None:
    shape = (9, 41)
    nothing = np.array(0, np.uint8)
    wheres: list[dict[str, Any]] = [
        {},
        {"offset": 16},
        {"offset": 2**35 - 3},
        {"noise_shape": (None, 1)},
        {"offset": (2, 3), "global_shape": (11, 60)},
    ]
    for where in wheres:
        place = placement.placement_of(shape, **where)
        expected = oracle.mask(shape, 0.3, KEY, **where)
        for layout in ("C", "F"):
            target = Placed(*empty(shape, np.uint8, layout))
            driver.apply(
                driver.marking(),
                *(target.array, target.array, *place, *parts(0.3, KEY), nothing),
            )
            np.testing.assert_array_equal(target.read()[1], expected.astype(np.uint8))
        packed = Placed(*empty((47,), np.uint8, "behind"))
        driver.pack(packed.array, shape, *place, *parts(0.3, KEY))
        memory, result = packed.read()
        np.testing.assert_array_equal(result, np.packbits(expected, bitorder="little"))
        assert memory[:3].tolist() == [POISON] * 3


def in_place() -> None:
    x = numbers((1500,), "float32")
    both = given(x, "behind")
    factor = np.array(contract.scale(0.25), np.float32)
    driver.apply(
        driver.dropping(x.dtype), both.array, both.array, 1, None, *parts(0.25, KEY), factor
    )
    assert_same(both.read()[1], oracle.dropped(x, 0.25, KEY, offset=1))


def blocks_behind_the_end_do_nothing() -> None:
    """Grids are larger than they must be, so that Numba does not warn of small ones."""
    before, driver.LEAST_BLOCKS = driver.LEAST_BLOCKS, 3
    try:
        check_dropout(numbers((9,), "float32"), 0.5, layout="behind")
        check_dropout(numbers((3, 5), "float32"), 0.5, layout="every other")
        for where in (0, None), (3, None):
            packed = Placed(*empty((2,), np.uint8, "behind"))
            driver.pack(packed.array, (9,), *where, *parts(0.3, KEY))
            expected = oracle.mask((9,), 0.3, KEY, offset=where[0])
            memory, result = packed.read()
            np.testing.assert_array_equal(result, np.packbits(expected, bitorder="little"))
            check_the_rest(memory, 2)
    finally:
        driver.LEAST_BLOCKS = before


def small_vectors() -> Iterator[tuple[tuple[int, ...], float, fd.Key, dict[str, Any], str]]:
    for v in VECTORS["masks"]:
        where = {
            name: tuple(v[name]) if isinstance(v[name], list) else v[name]
            for name in ("offset", "global_shape", "noise_shape")
            if name in v
        }
        shape, key = tuple(v["shape"]), fd.Key(int(v["seed"]), int(v["stream"]))
        if math.prod(shape) <= (4000 if SIMULATED else 2**40):
            yield shape, float.fromhex(v["p"]), key, where, v["packed_sha256"]


def the_known_answers() -> None:
    import hashlib

    count = 0
    for shape, p, key, where, digest in small_vectors():
        place = placement.placement_of(shape, **where)
        target = Placed(*empty(shape, np.uint8, "C"))
        nothing = np.array(0, np.uint8)
        driver.apply(driver.marking(), target.array, target.array, *place, *parts(p, key), nothing)
        packed = np.packbits(target.read()[1].ravel(), bitorder="little")
        assert hashlib.sha256(packed.tobytes()).hexdigest() == digest, (shape, p)
        count += 1
    assert count >= 3


def the_building_blocks_in_a_kernel() -> None:
    """Every function of `fastdrop.device`, of every index, in a kernel of a user's."""

    @cuda.jit  # type: ignore[untyped-decorator]
    def kernel(blocks: Any, seed: Any, stream: Any, p: Any, out: Any) -> None:
        i = cuda.grid(1)
        if i < blocks.size:
            t = device.threshold(p)
            block = blocks[i]
            out[i, 0] = t
            out[i, 1] = device.keep8(seed, stream, block, t)
            low, high = device.bits8(seed, stream, block)
            out[i, 2] = low
            out[i, 3] = high
            for lane in range(8):
                index = block * np.uint64(8) + np.uint64(lane)
                out[i, 4 + lane] = device.uniform32(seed, stream, index)
                out[i, 12 + lane] = np.uint64(device.keep(seed, stream, index, t))

    blocks = np.array([0, 1, 2**29 - 1, 2**29, 2**32, 2**57, 2**60 - 1], np.uint64)
    out = cuda.to_device(oracle.poisoned((blocks.size, 20), np.uint64))
    seed, stream = np.uint64(KEY.seed), np.uint64(KEY.stream)
    kernel[driver.LEAST_BLOCKS, 16](cuda.to_device(blocks), seed, stream, 0.3, out)
    result = out.copy_to_host()
    index = blocks[:, None] * np.uint64(8) + np.arange(8, dtype=np.uint64)
    kept = reference.keep_mask(index, 0.3, *KEY)
    uniforms = contract.uniform32(seed, stream, index)
    assert (result[:, 0] == contract.threshold(0.3)).all()
    assert (result[:, 1] == np.packbits(kept, axis=1, bitorder="little")[:, 0]).all()
    halves = result[:, 2:4].astype("<u8").view("<u2")
    np.testing.assert_array_equal(halves, uniforms >> np.uint64(16))
    np.testing.assert_array_equal(result[:, 4:12], uniforms)
    np.testing.assert_array_equal(result[:, 12:].astype(bool), kept)


PROMISES: dict[str, Callable[[], None]] = {
    promise.__name__: promise
    for promise in (
        dropout_of_every_dtype_length_and_offset,
        certain_and_next_to_certain,
        ties_are_settled,
        every_layout,
        every_noise_shape,
        masked_fill_of_every_size,
        masks_and_packed_masks,
        in_place,
        blocks_behind_the_end_do_nothing,
        the_known_answers,
        the_building_blocks_in_a_kernel,
    )
}
