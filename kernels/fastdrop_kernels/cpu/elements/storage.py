"""Storage types: how elements are read into values, and values written as elements.

A storage type is a few lines here: its loader may convert on the way in and its storer round on
the way out. Everything else of a kernel is the same. All of it is traced (see `lanes`), for whole
vectors (`count` lanes) and for single elements (`count` 0).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from llvmlite import ir

from ..codegen import vectors as lanes
from ..codegen.target import has
from ..codegen.vectors import DOUBLE, FLOAT, HALF, I8, I16, I32, I64, Lanes, select

# The last says of which elements; None of all.
Load: TypeAlias = Callable[[Any, Any, int, int, Lanes | None], Lanes]
Store: TypeAlias = Callable[[Lanes, Lanes, Lanes | int, Any, int, Lanes | None], Any]


class Storage(NamedTuple):
    """One way to keep elements in memory."""

    bits: int  # of an element
    load: Load  # (builder, pointer, offset in bytes, count, where)
    # (kept, what becomes of an element if it is, and if it is dropped, pointer, offset, where)
    store: Store
    load_value: Callable[[Any, Any, int], Lanes]  # (builder, pointer, k): the k-th parameter
    # (numbers of a vector of elements) -> the same in the order of `load`
    arranged: Callable[[Lanes], Lanes] = lambda numbers: numbers
    # and back
    natural: Callable[[Lanes], Lanes] = lambda numbers: numbers
    # Whether what converts elements reads them from memory by itself.
    converts_memory: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.bits // 8

    @property
    def copied(self) -> bool:
        """Whether it is worth while to copy elements to the stack before they are needed."""
        return self.bits > 0 and not self.converts_memory


def _plain(element: Any, bits: int, units: int = 1) -> Storage:
    """Elements that are what is computed with, or `units` of them."""

    def load(
        builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None = None
    ) -> Lanes:
        many = count * units if units > 1 and count else count or units * (units > 1)
        return lanes.load(builder, pointer, offset, element, many, where)

    def load_value(builder: Any, pointer: Any, k: int) -> Lanes:
        return load(builder, pointer, k * bits // 8, 0)

    return Storage(bits, load, _store_selected, load_value)


def _store_selected(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    return lanes.store(select(kept, a, b), pointer, offset, where)


# Half types are computed with as float32, and rounded once on the way out, to the nearest, ties to
# even. NaN stays NaN.

_SIGN16, _SIGN32 = 0x8000, 0x80000000

Rounded: TypeAlias = Callable[
    [Lanes, Lanes, Lanes | int], Lanes
]  # (kept, a, b), as `Storage.store`


def _half_type(
    to_float: Callable[[Lanes], Lanes],
    rounded: Rounded,
    arranged: Callable[[Lanes], Lanes] = lambda numbers: numbers,
    natural: Callable[[Lanes], Lanes] = lambda numbers: numbers,
) -> Storage:
    def load(builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None) -> Lanes:
        return to_float(lanes.load(builder, pointer, offset, I16, count, where))

    def store(
        kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
    ) -> Any:
        return lanes.store(rounded(kept, a, b), pointer, offset, where)

    def load_value(builder: Any, pointer: Any, k: int) -> Lanes:
        return lanes.load(builder, pointer, 4 * k, FLOAT, 0)

    return Storage(16, load, store, load_value, arranged, natural)


def _select_and_round(from_float: Callable[[Lanes], Lanes]) -> Rounded:
    """Select, and then round: one number of every element."""
    return lambda kept, a, b: from_float(select(kept, a, b))


def _round_and_select(from_float: Callable[[Lanes], Lanes]) -> Rounded:
    """Round both, and then select: for types whose vectors have another order in between."""

    def rounded(kept: Lanes, a: Lanes, b: Lanes | int) -> Lanes:
        return select(kept, from_float(a), from_float(b) if isinstance(b, Lanes) else b)

    return rounded


def _widened(h: Lanes) -> Lanes:
    """Return float32 of bfloat16, which is its upper half; of vectors, even elements come first.

    Even and odd elements are parted, not widened one by one, because that takes shifts and masks
    and no shuffles: 64 Ki in 2.3 times np.multiply of float32, not 2.9.
    """
    if not h.count:
        return (h.converted(I32) << 16).seen_as(FLOAT)
    pairs = h.seen_as(I32)
    return (pairs << 16).joined(pairs & 0xFFFF0000).seen_as(FLOAT)


def _even_first(numbers: Lanes) -> Lanes:
    return numbers.taken([*range(0, numbers.count, 2), *range(1, numbers.count, 2)])


def _by_turns(numbers: Lanes) -> Lanes:
    if not numbers.count:
        return numbers
    first, rest = numbers.parted()
    lower, upper = first.interleaved(rest)
    return lower.joined(upper)


def _narrowed(x: Lanes) -> Lanes:
    """Round in integers: LLVM's own conversion flushes subnormals on some machines.

    Up if the lower half is above 0x8000, or is that and the upper is odd: what the lower half
    carries to the upper if 0x7FFF is added, and 1 where that is odd. Of vectors, even and odd
    elements are put together first, so that twice as many are rounded at once, and the carry is the
    top bit of an average, for which there is an instruction: 64 Ki in 1.04 times float32, not 1.20.

    A NaN stays one without a test for it: it comes from a bfloat16 or from the processor, and has
    zeros in its lower half, so that nothing is carried.
    """
    bits = x.seen_as(I32)
    if not x.count:
        return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).converted(I16)
    even, odd = bits.parted()
    upper = ((even >> 16).fenced() | (odd & 0xFFFF0000)).seen_as(I16)
    lower = ((even & 0xFFFF) | (odd << 16).fenced()).seen_as(I16)
    return upper + (lower.average(((upper & 1) | 0x7FFE).fenced()) >> 15)


def _float16_to_float(h: Lanes) -> Lanes:
    """Widen, without the instructions that few machines lack."""
    bits = h.converted(I32)
    sign, size = (bits & _SIGN16) << 16, bits & 0x7FFF
    # The exponent is biased by 15 there and by 127 here, and means infinity or NaN where all ones.
    normal = (size << 13) + select(size >= 0x7C00, size.constant(224 << 23), 112 << 23)
    # A subnormal is a whole number of 2**-24: made from 2**23 and its digits, and so without
    # subnormal float32, which threads may flush (see `rounding`).
    subnormal = ((size | 0x4B000000).seen_as(FLOAT) - 8388608.0) * 2.0**-24
    return (select(size < 0x0400, subnormal.seen_as(I32), normal) | sign).seen_as(FLOAT)


def _float_to_float16(x: Lanes) -> Lanes:
    """Round, without the instructions that few machines lack."""
    bits = x.seen_as(I32)
    sign, size = (bits >> 16) & _SIGN16, bits & ~_SIGN32
    biased = size - (112 << 23)
    normal = (biased + (((biased >> 13) & 1) + 0x0FFF)) >> 13
    # Below 2**-14 the steps are 2**-24, those of float32 from a half on: the addition rounds.
    subnormal = (size.seen_as(FLOAT) + 0.5).seen_as(I32) - 0x3F000000
    finite = select(size < 0x38800000, subnormal, normal)
    nan = ((size >> 13) & 0x03FF) | 0x7E00
    large = select(size > 0x7F800000, nan, 0x7C00)
    return (select(size >= 0x47800000, large, finite) | sign).converted(I16)


def _float16_by_machine(h: Lanes) -> Lanes:
    return h.seen_as(HALF).converted(FLOAT)


def _machine_by_float16(x: Lanes) -> Lanes:
    return x.converted(HALF).seen_as(I16)


def _load_nothing(
    builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None
) -> Lanes:
    return Lanes(builder, ir.Constant(I8, 0))


def _load_no_value(builder: Any, pointer: Any, k: int) -> Lanes:
    return Lanes(builder, ir.Constant(I8, 0))


def _store_nothing(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    raise AssertionError("nothing is written as nothing")


def _store_bool(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    return lanes.store(kept.converted(I8), pointer, offset, where)


def _store_bits(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    return lanes.store(kept.as_number(), pointer, offset)


def _store_mark(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    ones = Lanes(kept.builder, ir.Constant(I16, 0xFFFF)).repeated(kept.count)
    return lanes.store(select(kept, ones, 0), pointer, offset, where)


FLOAT32 = _plain(FLOAT, 32)
FLOAT64 = _plain(DOUBLE, 64)
BFLOAT16 = _half_type(_widened, _round_and_select(_narrowed), _even_first, _by_turns)
FLOAT16_PORTABLE = _half_type(_float16_to_float, _select_and_round(_float_to_float16))


def _by_parts(kind: Storage, rounded: Callable[[Lanes], Lanes]) -> Storage:
    """Load and store vectors of halves in two parts, as long as an instruction takes.

    It reads or writes memory itself then, and no other is needed to put the parts together: 64 Ki
    float16 in 22.2 us on a Cascade Lake, not 24.5.
    """

    def load(builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None) -> Lanes:
        if not count or where is not None:
            return kind.load(builder, pointer, offset, count, where)
        first, rest = (
            kind.load(builder, pointer, offset + at, count // 2, None) for at in (0, count)
        )
        return first.joined(rest)

    def store(
        kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
    ) -> Any:
        if not kept.count or where is not None:
            return kind.store(kept, a, b, pointer, offset, where)
        first, rest = map(rounded, select(kept, a, b).parted())
        lanes.store(first, pointer, offset)
        return lanes.store(rest, pointer, offset + kept.count)

    return kind._replace(load=load, store=store, converts_memory=True)


# Without these instructions, LLVM 22 crashes on vectors of halves.
FLOAT16 = (
    _by_parts(
        _half_type(_float16_by_machine, _select_and_round(_machine_by_float16)),
        _machine_by_float16,
    )
    if has("f16c")
    else FLOAT16_PORTABLE
)
# An operation that has no input reads this: no memory is touched.
NOTHING = Storage(0, _load_nothing, _store_nothing, _load_no_value)
# Decisions, one to a byte, and eight to a byte in little bit order (whole bytes only).
BOOL = Storage(8, _load_nothing, _store_bool, _load_no_value)
BITS = Storage(1, _load_nothing, _store_bits, _load_no_value)
# Decisions as loops read them: all bits of a 16-bit word set for kept, none for dropped.
MARK = Storage(16, _load_nothing, _store_mark, _load_no_value)
# Elements that are only moved, by their size in bytes.
MOVED = {
    1: _plain(I8, 8),
    2: _plain(I16, 16),
    4: _plain(I32, 32),
    8: _plain(I64, 64),
    16: _plain(I64, 128, units=2),
}
