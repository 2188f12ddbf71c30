"""Further draws of an element, derived keys and exact integers: known answers on every backend."""

from __future__ import annotations

import ctypes
import json
from typing import Any

import numba
import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from fastdrop_kernels import device as _registered  # noqa: F401  # makes them callable below
from tests.support.vectors import DATA

ANSWERS: dict[str, Any] = json.loads((DATA / "further_draws.json").read_text())
U64 = np.uint64


def words(entry: dict[str, Any], *names: str) -> list[np.uint64]:
    return [U64(int(entry[name])) for name in names]


def python_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x32-10 in Python's integers, written from the paper alone."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k, q % 2**32, (p >> 32) ^ d ^ m, p % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return [a, b, c, d]


def python_half(seed: int, stream: int, index: int, level: int) -> int:
    block, lane = divmod(index, 8)
    upper = (block >> 32) + (level % 2 << 31) + (level // 2 << 28)
    counter = [block % 2**32, upper, stream % 2**32, stream >> 32]
    word = python_philox(counter, [seed % 2**32, seed >> 32])[lane // 2]
    return word >> 16 if lane % 2 else word % 2**16


def python_draw(seed: int, stream: int, index: int, draw: int) -> int:
    high, low = (python_half(seed, stream, index, 2 * draw + k) for k in (0, 1))
    return high << 16 | low


def python_derived(seed: int, stream: int, n: int) -> tuple[int, int]:
    counter = [n % 2**32, (n >> 32) + (3 << 30), stream % 2**32, stream >> 32]
    a, b, c, d = python_philox(counter, [seed % 2**32, seed >> 32])
    return b << 32 | a, d << 32 | c


def python_below(seed: int, stream: int, index: int, draw: int, n: int) -> int:
    key, derived = (seed, stream), 0
    while True:
        product = python_draw(*key, index, draw) * n
        if product % 2**32 >= 2**32 % n:
            return product >> 32
        draw += 1
        if draw == 4:
            draw, derived = 0, derived + 1
            key = python_derived(seed, stream, derived)


def test_the_answers_are_those_of_an_independent_statement() -> None:
    for e in ANSWERS["draws"]:
        key, index = (int(e["seed"]), int(e["stream"])), int(e["index"])
        assert [python_draw(*key, index, draw) for draw in range(4)] == e["draws"]
    for e in ANSWERS["derived"]:
        made = python_derived(int(e["seed"]), int(e["stream"]), int(e["n"]))
        assert made == (int(e["new_seed"]), int(e["new_stream"]))
    for e in ANSWERS["below"]:
        key = int(e["seed"]), int(e["stream"])
        assert python_below(*key, int(e["index"]), e["draw"], int(e["n"])) == int(e["value"])


compiled_draw, compiled_derive, compiled_below = (
    numba.njit(f) for f in (contract.draw32, contract.derive, contract.uniform_below)
)


@pytest.mark.parametrize("draw32", [contract.draw32, compiled_draw], ids=["plain", "njit"])
def test_draws_are_the_known_ones(draw32: Any) -> None:
    assert len({d for e in ANSWERS["draws"] for d in e["draws"]}) > 3 * len(ANSWERS["draws"])
    for e in ANSWERS["draws"]:
        at = words(e, "seed", "stream", "index")
        assert [int(draw32(*at, U64(draw))) for draw in range(4)] == e["draws"]
        assert int(contract.uniform32(*at)) == e["draws"][0]


@pytest.mark.parametrize("derive", [contract.derive, compiled_derive], ids=["plain", "njit"])
def test_derived_keys_are_the_known_ones_and_no_folded_ones(derive: Any) -> None:
    for e in ANSWERS["derived"]:
        made = derive(*words(e, "seed", "stream", "n"))
        assert tuple(map(int, made)) == (int(e["new_seed"]), int(e["new_stream"]))
        key = fd.Key(int(e["seed"]), int(e["stream"]))
        assert key.fold_in(int(e["n"])) != tuple(map(int, made))


@pytest.mark.parametrize("below", [contract.uniform_below, compiled_below], ids=["plain", "njit"])
def test_exact_integers_are_the_known_ones(below: Any) -> None:
    rejected = 0
    for e in ANSWERS["below"]:
        made = below(*words(e, "seed", "stream", "index"), U64(e["draw"]), U64(int(e["n"])))
        assert int(made) == int(e["value"])
        first = python_draw(int(e["seed"]), int(e["stream"]), int(e["index"]), e["draw"])
        rejected += first * int(e["n"]) % 2**32 < 2**32 % int(e["n"])
    assert rejected > 20  # also those that need derived keys


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 2**31 + 1, 3 << 30, 2**32 - 1, 2**32])
def test_as_many_uniforms_give_each_integer(n: int) -> None:
    least = int(contract.rejected_below(U64(n)))
    assert least == 2**32 % n
    # u gives k if k * 2**32 <= u * n - (u * n mod 2**32) and the latter is at least `least`.
    for k in {0, n // 3, n - 1}:
        first = -(-(k * 2**32 + least) // n)
        last = ((k + 1) * 2**32 - 1) // n
        assert last - first + 1 == 2**32 // n


# Elements of key (42, 7) whose draws from one on are equal: (draw, i, j).
EQUAL = ((3, 282145, 305113), (3, 74260, 134608), (3, 23814, 210712), (1, 363786, 384120))


def order_of_equal(draw: int, i: int, j: int) -> bool:
    """Whether i precedes j, by the next draw of all: of draw 3, draw 0 of the first derived key."""
    assert python_draw(42, 7, i, draw) == python_draw(42, 7, j, draw)
    key, following = (python_derived(42, 7, 1)[:2], 0) if draw == 3 else ((42, 7), draw + 1)
    a, b = (python_draw(*key, index, following) for index in (i, j))
    assert a != b
    return a < b


@pytest.mark.parametrize(
    "precedes", [contract.precedes, numba.njit(contract.precedes)], ids=["plain", "njit"]
)
def test_equal_draws_are_ordered_by_the_next(precedes: Any) -> None:
    key = U64(42), U64(7)
    for draw, i, j in EQUAL:
        for a, b in ((i, j), (j, i)):
            assert bool(precedes(*key, U64(a), U64(b), U64(draw))) == order_of_equal(draw, a, b)
    for i, j in ((0, 1), (5, 2), (8, 800)):
        expected = python_draw(42, 7, i, 1) < python_draw(42, 7, j, 1)
        assert bool(precedes(*key, U64(i), U64(j), U64(1))) == expected


def test_masks_never_meet_further_draws() -> None:
    """Counters of masks, further draws, folded and derived keys differ in bits 28 to 31."""
    high = 2**28 - 1  # of the largest block
    masks = {int(contract.level_word(U64(level))) | high for level in range(2)}
    further = {int(contract.level_word(U64(level))) | high for level in range(2, 8)}
    assert len(masks | further) == 8
    assert all(word < 2**32 and word >> 30 & 1 == 0 for word in masks | further)


@pytest.mark.usefixtures("cuda_on_host")
def test_cuda_has_the_known_answers() -> None:
    from fastdrop_kernels.cuda import modules
    from tests.support.cuda_host import host

    library = host.library_of(modules.ADVANCE)
    u64, u32 = ctypes.c_ulonglong, ctypes.c_uint
    library.draw_on_host.restype, library.draw_on_host.argtypes = u32, [u64, u64, u64, u32]
    library.below_on_host.restype = u64
    library.below_on_host.argtypes = [u64, u64, u64, u32, u64]
    library.derived_on_host.argtypes = [u64, u64, u64, ctypes.c_void_p]
    for e in ANSWERS["draws"]:
        at = [int(e[name]) for name in ("seed", "stream", "index")]
        assert [library.draw_on_host(*at, draw) for draw in range(4)] == e["draws"]
    for e in ANSWERS["below"]:
        at = [int(e[name]) for name in ("seed", "stream", "index")]
        assert library.below_on_host(*at, e["draw"], int(e["n"])) == int(e["value"])
    library.precedes_on_host.restype = ctypes.c_bool
    library.precedes_on_host.argtypes = [u64, u64, u64, u64, u32]
    for draw, i, j in EQUAL:
        assert library.precedes_on_host(42, 7, i, j, draw) == order_of_equal(draw, i, j)
        assert library.precedes_on_host(42, 7, j, i, draw) == order_of_equal(draw, j, i)
    for e in ANSWERS["derived"]:
        made = (u64 * 4)()
        key = fd.Key(int(e["seed"]), int(e["stream"]))
        library.derived_on_host(*key, int(e["n"]), made)
        assert tuple(made) == (*key.fold_in(int(e["n"])), int(e["new_seed"]), int(e["new_stream"]))
