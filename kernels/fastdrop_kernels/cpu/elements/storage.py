"""Storage types: load elements as values of the compute type, and store values as elements.

A storage type is a few lines: its `load` may convert, and its `store` may round. The rest of a
kernel does not depend on it. All functions are traced (see `vectors`), for vectors of `count` lanes
and, with a `count` of 0, for single elements. Operations name their storage types, and the loops
call `load` and `store`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from llvmlite import ir

from ..codegen import vectors as lanes
from ..codegen.target import CONVERTS_FLOAT16
from ..codegen.vectors import DOUBLE, FLOAT, HALF, I8, I16, I32, I64, Lanes, select

# The last argument is the mask of a masked access, or None.
Load: TypeAlias = Callable[[Any, Any, int, int, Lanes | None], Lanes]
Store: TypeAlias = Callable[[Lanes, Lanes, Lanes | int, Any, int, Lanes | None], Any]


class Storage(NamedTuple):
    """A format of elements in memory."""

    bits: int  # of an element
    load: Load  # (builder, pointer, offset in bytes, count, where)
    # (kept, value if kept, value if dropped, pointer, offset, where)
    store: Store
    load_value: Callable[[Any, Any, int], Lanes]  # (builder, pointer, k): the k-th parameter
    # Reorders lanes from the order of elements to the order that `load` returns,
    arranged: Callable[[Lanes], Lanes] = lambda numbers: numbers
    # and back.
    natural: Callable[[Lanes], Lanes] = lambda numbers: numbers
    # Whether the conversion instructions have memory operands.
    converts_memory: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.bits // 8

    @property
    def copied(self) -> bool:
        """Whether copying elements to the stack before they are needed is faster."""
        return self.bits > 0 and not self.converts_memory


def _plain(element: Any, bits: int, units: int = 1) -> Storage:
    """Return the storage type of elements that need no conversion, of `units` words each."""

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


# The half types are computed in float32, and rounded once when stored, to nearest, ties to even.
# NaN stays NaN.

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
    """Select, then round: one conversion per element."""
    return lambda kept, a, b: from_float(select(kept, a, b))


def _round_and_select(from_float: Callable[[Lanes], Lanes]) -> Rounded:
    """Round both, then select: for types whose `load` changes the order of lanes."""

    def rounded(kept: Lanes, a: Lanes, b: Lanes | int) -> Lanes:
        return select(kept, from_float(a), from_float(b) if isinstance(b, Lanes) else b)

    return rounded


def _widened(h: Lanes) -> Lanes:
    """Convert bfloat16, the high half of a float32, to float32; in vectors, even elements first.

    Separating even and odd elements takes shifts and masks, without shuffles: 64 Ki elements take
    2.3 times as long as np.multiply of float32, instead of 2.9 (Cascade Lake, November 2026).
    """
    if not h.count:
        return (h.convert(I32) << 16).bitcast(FLOAT)
    pairs = h.bitcast(I32)
    return (pairs << 16).concat(pairs & 0xFFFF0000).bitcast(FLOAT)


def _even_first(numbers: Lanes) -> Lanes:
    return numbers.shuffle([*range(0, numbers.count, 2), *range(1, numbers.count, 2)])


def _by_turns(numbers: Lanes) -> Lanes:
    if not numbers.count:
        return numbers
    first, rest = numbers.split()
    lower, upper = first.interleave(rest)
    return lower.concat(upper)


def _narrowed(x: Lanes) -> Lanes:
    """Round float32 to bfloat16 by integer arithmetic.

    LLVM's conversion flushes subnormals on some machines. The high half is incremented if the low
    half is above 0x8000, or equal to it with an odd high half: that is the carry of adding 0x7FFF,
    plus 1 if the high half is odd. In vectors, the halves of even and odd elements are combined
    first, so that twice as many are rounded at once, and the carry is the top bit of an average,
    which is one instruction: 64 Ki elements take 1.04 times as long as float32, instead of 1.20
    (Cascade Lake, November 2026).

    A NaN needs no test: it comes from a bfloat16 or from an operation of the processor, and its low
    half is 0, so there is no carry.
    """
    bits = x.bitcast(I32)
    if not x.count:
        return ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).convert(I16)
    even, odd = bits.split()
    upper = ((even >> 16).arithmetic_fence() | (odd & 0xFFFF0000)).bitcast(I16)
    lower = ((even & 0xFFFF) | (odd << 16).arithmetic_fence()).bitcast(I16)
    return upper + (lower.average(((upper & 1) | 0x7FFE).arithmetic_fence()) >> 15)


def _float16_to_float(h: Lanes) -> Lanes:
    """Convert float16 to float32 by integer arithmetic."""
    bits = h.convert(I32)
    sign, size = (bits & _SIGN16) << 16, bits & 0x7FFF
    # The exponent bias changes from 15 to 127; all ones stays infinity or NaN.
    normal = (size << 13) + select(size >= 0x7C00, size.constant(224 << 23), 112 << 23)
    # A subnormal is an integer multiple of 2**-24: inserted into the significand of 2**23. This
    # avoids subnormal float32 numbers, which a thread may be set to flush (see `fp_environment`).
    subnormal = ((size | 0x4B000000).bitcast(FLOAT) - 8388608.0) * 2.0**-24
    return (select(size < 0x0400, subnormal.bitcast(I32), normal) | sign).bitcast(FLOAT)


def _float_to_float16(x: Lanes) -> Lanes:
    """Round float32 to float16 by integer arithmetic."""
    bits = x.bitcast(I32)
    sign, size = (bits >> 16) & _SIGN16, bits & ~_SIGN32
    biased = size - (112 << 23)
    normal = (biased + (((biased >> 13) & 1) + 0x0FFF)) >> 13
    # Below 2**-14 the ulp is 2**-24, that of float32 in [0.5, 1): adding 0.5 rounds.
    subnormal = (size.bitcast(FLOAT) + 0.5).bitcast(I32) - 0x3F000000
    finite = select(size < 0x38800000, subnormal, normal)
    nan = ((size >> 13) & 0x03FF) | 0x7E00
    large = select(size > 0x7F800000, nan, 0x7C00)
    return (select(size >= 0x47800000, large, finite) | sign).convert(I16)


def _float16_to_float_by_machine(h: Lanes) -> Lanes:
    return h.bitcast(HALF).convert(FLOAT)


def _float_to_float16_by_machine(x: Lanes) -> Lanes:
    return x.convert(HALF).bitcast(I16)


def _load_nothing(
    builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None
) -> Lanes:
    return Lanes(builder, ir.Constant(I8, 0))


def _load_no_value(builder: Any, pointer: Any, k: int) -> Lanes:
    return Lanes(builder, ir.Constant(I8, 0))


def _store_nothing(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    raise AssertionError("NOTHING is for inputs only")


def _store_bool(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    return lanes.store(kept.convert(I8), pointer, offset, where)


def _store_bits(
    kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
) -> Any:
    return lanes.store(kept.as_integer(), pointer, offset)


FLOAT32 = _plain(FLOAT, 32)
FLOAT64 = _plain(DOUBLE, 64)
BFLOAT16 = _half_type(_widened, _round_and_select(_narrowed), _even_first, _by_turns)
FLOAT16_PORTABLE = _half_type(_float16_to_float, _select_and_round(_float_to_float16))


def _by_parts(kind: Storage, rounded: Callable[[Lanes], Lanes]) -> Storage:
    """Load and store vectors of float16 in two parts, each for one conversion instruction.

    The instruction then has a memory operand, and no shuffles are needed: 64 Ki float16 take 22.2
    us instead of 24.5 (Cascade Lake, November 2026).
    """

    def load(builder: Any, pointer: Any, offset: int, count: int, where: Lanes | None) -> Lanes:
        if not count or where is not None:
            return kind.load(builder, pointer, offset, count, where)
        first, rest = (
            kind.load(builder, pointer, offset + at, count // 2, None) for at in (0, count)
        )
        return first.concat(rest)

    def store(
        kept: Lanes, a: Lanes, b: Lanes | int, pointer: Any, offset: int, where: Lanes | None
    ) -> Any:
        if not kept.count or where is not None:
            return kind.store(kept, a, b, pointer, offset, where)
        first, rest = map(rounded, select(kept, a, b).split())
        lanes.store(first, pointer, offset)
        return lanes.store(rest, pointer, offset + kept.count)

    return kind._replace(load=load, store=store, converts_memory=True)


FLOAT16 = (
    _by_parts(
        _half_type(_float16_to_float_by_machine, _select_and_round(_float_to_float16_by_machine)),
        _float_to_float16_by_machine,
    )
    if CONVERTS_FLOAT16
    else FLOAT16_PORTABLE
)
# The input of operations without an input: no memory is accessed.
NOTHING = Storage(0, _load_nothing, _store_nothing, _load_no_value)
# The keep mask, one element per byte, or packed, in little bit order (whole bytes only).
BOOL = Storage(8, _load_nothing, _store_bool, _load_no_value)
BITS = Storage(1, _load_nothing, _store_bits, _load_no_value)
# Elements that are only copied, by their size in bytes.
MOVED = {
    1: _plain(I8, 8),
    2: _plain(I16, 16),
    4: _plain(I32, 32),
    8: _plain(I64, 64),
    16: _plain(I64, 128, units=2),
}


def computed_in(kind: Storage) -> Storage:
    """Return the storage type of the compute type of a float type."""
    return FLOAT64 if kind is FLOAT64 else FLOAT32
