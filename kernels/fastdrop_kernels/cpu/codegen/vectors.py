"""`Lanes`: LLVM values with Python's operators, for tracing plain Python into vector code.

The hot loops do not rely on LLVM's loop vectoriser: it requires certain forms of loops, changes
between releases, and cannot keep bits, decision and element in registers at once. Instead a
function is *traced*: it runs while code is generated, with `Lanes` in place of numbers, and each
operator emits one vector instruction. So the mask contract and the operations, which are plain
Python, are also the kernels' code. The sampler, the operations, the storage types and the loops use
this module. LLVM splits vectors that are wider than the registers, so any width runs on every
machine.

Compared with loops that LLVM vectorised (Cascade Lake, November 2026), 64 Ki float32 take 2.6 times
as long as np.multiply instead of 3.5. 16 Mi take 1.0 instead of 1.45, because loads, stores and
arithmetic overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .target import has

BIT = ir.IntType(1)
I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
HALF, FLOAT, DOUBLE = ir.HalfType(), ir.FloatType(), ir.DoubleType()


class Lanes:
    """A scalar or a vector in the code that is being generated.

    Integers are unsigned. Operators broadcast scalars to vectors. The other operand may be a number
    of Python or NumPy, which is converted to this type.
    """

    __slots__ = ("builder", "value")
    __array_ufunc__ = None  # so that NumPy scalars return NotImplemented for ``uint64 * Lanes``
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def count(self) -> int:
        """Number of lanes of a vector; 0 for a scalar."""
        ty = self.value.type
        return ty.count if isinstance(ty, ir.VectorType) else 0

    @property
    def element(self) -> Any:
        """LLVM type of a lane."""
        ty = self.value.type
        return ty.element if isinstance(ty, ir.VectorType) else ty

    def with_value(self, value: Any) -> Lanes:
        """Return Lanes of another LLVM value, with the same builder."""
        return Lanes(self.builder, value)

    def constant(self, number: Any) -> Lanes:
        """Return a constant of this type."""
        whole = not _is_float(self.element)
        one = ir.Constant(self.element, int(number) if whole else float(number))
        if self.count:
            return self.with_value(ir.Constant(self.value.type, [one] * self.count))
        return self.with_value(one)

    def broadcast(self, count: int) -> Lanes:
        """Broadcast a scalar, or repeat a short vector as a whole, to `count` lanes."""
        if count == self.count:
            return self
        value = self.value
        if not self.count:
            empty = ir.Constant(ir.VectorType(self.element, 1), ir.Undefined)
            value = self.builder.insert_element(empty, value, ir.Constant(I32, 0))
        order = [k % max(1, self.count) for k in range(count)]
        return self.with_value(_shuffled(self.builder, value, value, order))

    def repeat_each(self, times: int) -> Lanes:
        """Repeat each lane: a, a, b, b."""
        if times == 1 or not self.count:
            return self
        order = [k // times for k in range(self.count * times)]
        return self.with_value(_shuffled(self.builder, self.value, self.value, order))

    def shuffle(self, order: Sequence[int], other: Lanes | None = None) -> Lanes:
        """Return lanes of a vector, with `other` appended, in an order; a scalar unchanged."""
        if not self.count:
            return self
        second = self if other is None else other
        return self.with_value(_shuffled(self.builder, self.value, second.value, order))

    def interleave(self, other: Lanes) -> tuple[Lanes, Lanes]:
        """Interleave the lanes of two vectors, as two vectors of the same length."""
        n = self.count
        order = [k // 2 + n * (k % 2) for k in range(2 * n)]
        return tuple(  # type: ignore[return-value]
            self.with_value(_shuffled(self.builder, self.value, other.value, part))
            for part in (order[:n], order[n:])
        )

    def concat(self, other: Lanes) -> Lanes:
        """Concatenate the lanes of two vectors."""
        order = range(2 * self.count)
        return self.with_value(_shuffled(self.builder, self.value, other.value, order))

    def split(self) -> tuple[Lanes, Lanes]:
        """Return the first and the second half of the lanes."""
        n = self.count
        return tuple(  # type: ignore[return-value]
            self.with_value(_shuffled(self.builder, self.value, self.value, part))
            for part in (range(n // 2), range(n // 2, n))
        )

    def bitcast(self, element: Any) -> Lanes:
        """Reinterpret the bits as lanes of another type."""
        size = max(1, self.count) * _bits(self.element)
        count = size // _bits(element)
        single = count == 1 and not self.count
        ty = element if single else ir.VectorType(element, count)
        return self.with_value(self.builder.bitcast(self.value, ty))

    def as_integer(self) -> Lanes:
        """Reinterpret all bits of a vector as one integer."""
        if not self.count:
            return self
        return self.with_value(
            self.builder.bitcast(self.value, ir.IntType(self.count * _bits(self.element)))
        )

    def convert(self, element: Any) -> Lanes:
        """Convert to another type: integers are truncated or zero-extended, floats rounded."""
        old, new = _bits(self.element), _bits(element)
        ty = ir.VectorType(element, self.count) if self.count else element
        if _is_float(element):
            change = self.builder.fpext if new > old else self.builder.fptrunc
        else:
            change = self.builder.zext if new > old else self.builder.trunc
        return self.with_value(change(self.value, ty))

    def as_float(self) -> Lanes:
        """Convert signed integers to float32, rounded."""
        ty = ir.VectorType(FLOAT, self.count) if self.count else FLOAT
        return self.with_value(self.builder.sitofp(self.value, ty))

    def sqrt(self) -> Lanes:
        """Return the square roots."""
        ty = self.value.type
        kind = {FLOAT: "f32", DOUBLE: "f64"}[self.element]
        name = f"llvm.sqrt.v{self.count}{kind}" if self.count else f"llvm.sqrt.{kind}"
        root = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(ty, [ty]), name)
        return self.with_value(self.builder.call(root, [self.value]))

    def average(self, other: Any) -> Lanes:
        """Return the average of integers, rounded up, without overflow."""
        # LLVM makes an average instruction of this expression, but not of a sum in wider integers.
        rounded: Lanes = (self | other) - ((self ^ other) >> 1)
        return rounded

    def arithmetic_fence(self) -> Lanes:
        """Return the same value behind an optimisation barrier.

        With AVX-512, LLVM would combine a shift and an or into a two-input shuffle of 16-bit lanes,
        of three instructions. On other machines there is no such shuffle, and this does nothing.
        """
        if not has("avx512bw"):
            return self
        ty = ir.VectorType(FLOAT, max(1, self.count) * _bits(self.element) // 32)
        name = f"llvm.arithmetic.fence.v{ty.count}f32"
        fence = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(ty, [ty]), name)
        value = self.builder.call(fence, [self.builder.bitcast(self.value, ty)])
        return self.with_value(self.builder.bitcast(value, self.value.type))

    def _both(self, other: Any) -> tuple[Any, Any]:
        if not isinstance(other, Lanes):
            return self.value, self.constant(other).value
        count = max(self.count, other.count)
        if not count:
            return self.value, other.value
        return self.broadcast(count).value, other.broadcast(count).value

    def _apply(self, whole: str, real: str, other: Any, swapped: bool = False) -> Lanes:
        a, b = self._both(other)
        if swapped:
            a, b = b, a
        return self.with_value(
            getattr(self.builder, real if _is_float(self.element) else whole)(a, b)
        )

    def __add__(self, other: Any) -> Lanes:
        return self._apply("add", "fadd", other)

    def __sub__(self, other: Any) -> Lanes:
        return self._apply("sub", "fsub", other)

    def __rsub__(self, other: Any) -> Lanes:
        return self._apply("sub", "fsub", other, swapped=True)

    def __mul__(self, other: Any) -> Lanes:
        return self._apply("mul", "fmul", other)

    def __truediv__(self, other: Any) -> Lanes:
        return self._apply("udiv", "fdiv", other)

    def __rtruediv__(self, other: Any) -> Lanes:
        return self._apply("udiv", "fdiv", other, swapped=True)

    def __and__(self, other: Any) -> Lanes:
        return self._apply("and_", "and_", other)

    def __or__(self, other: Any) -> Lanes:
        return self._apply("or_", "or_", other)

    def __xor__(self, other: Any) -> Lanes:
        return self._apply("xor", "xor", other)

    def __lshift__(self, other: Any) -> Lanes:
        return self._apply("shl", "shl", other)

    def __rshift__(self, other: Any) -> Lanes:
        return self._apply("lshr", "lshr", other)

    __radd__, __rmul__, __rand__, __ror__, __rxor__ = __add__, __mul__, __and__, __or__, __xor__

    def __invert__(self) -> Lanes:
        return self.with_value(self.builder.not_(self.value))

    def _compared(self, how: str, other: Any) -> Lanes:
        a, b = self._both(other)
        if _is_float(self.element):
            return self.with_value(self.builder.fcmp_ordered(how, a, b))
        return self.with_value(self.builder.icmp_unsigned(how, a, b))

    def __ge__(self, other: Any) -> Lanes:
        return self._compared(">=", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compared(">", other)

    def __lt__(self, other: Any) -> Lanes:
        return self._compared("<", other)

    def __eq__(self, other: object) -> bool:
        raise TypeError("Lanes have no ==, which would compare objects: use .equals")

    def signed_above(self, other: Any) -> Lanes:
        """Compare as signed integers, lane by lane: self > other."""
        a, b = self._both(other)
        return self.with_value(self.builder.icmp_signed(">", a, b))

    def equals(self, other: Any) -> Lanes:
        """Compare for equality, lane by lane."""
        return self._compared("==", other)


def select(condition: Lanes, a: Lanes, b: Any) -> Lanes:
    """Select lanes of a where the condition holds, else of b.

    If a has several lanes for each lane of the condition (an element of two words), the condition's
    lanes are repeated.
    """
    if not isinstance(b, Lanes):
        b = a.constant(b)
    if condition.count:
        condition = condition.repeat_each(a.count // condition.count)
    return a.with_value(a.builder.select(condition.value, a.value, b.broadcast(a.count).value))


def load(
    builder: Any, pointer: Any, offset: int, element: Any, count: int, where: Lanes | None = None
) -> Lanes:
    """Load a vector of `count` lanes, or a scalar for 0, at ``pointer + offset``, unaligned.

    Lanes where `where` does not hold are not read, and are 0.
    """
    ty = _lanes_type(element, count)
    place = _place(builder, pointer, offset, ty)
    if where is None:
        return Lanes(builder, builder.load(place, align=1))
    mask = where.repeat_each(count // where.count).value
    arguments = [place, ir.Constant(I32, 1), mask, ir.Constant(ty, None)]
    return Lanes(builder, _masked(builder, "load", ty, ty, arguments))


def store(
    value: Lanes, pointer: Any, offset: int, where: Lanes | None = None, align: int = 1
) -> Any:
    """Store a value, only lanes where `where` holds if given; return the instruction."""
    builder, ty = value.builder, value.value.type
    place = _place(builder, pointer, offset, ty)
    if where is None:
        return builder.store(value.value, place, align=align)
    mask = where.repeat_each(value.count // where.count).value
    arguments = [value.value, place, ir.Constant(I32, align), mask]
    return _masked(builder, "store", ir.VoidType(), ty, arguments)


def make_nontemporal(builder: Any, begin: int) -> None:
    """Make the stores of the current block, from instruction `begin` on, nontemporal.

    They must store vectors at addresses aligned to the vector's size, or to a cache line of 64
    bytes if that is larger.
    """
    hint = builder.module.add_metadata([ir.Constant(I32, 1)])
    for instruction in builder.block.instructions[begin:]:
        if isinstance(instruction, ir.instructions.StoreInstr):
            ty = instruction.operands[0].type
            instruction.set_metadata("nontemporal", hint)
            instruction.align = min(64, ty.count * _bits(ty.element) // 8)


def align_lanes(a: Lanes, b: Lanes, first: Any) -> Lanes:
    """Return a vector from lane `first` of the concatenation of a and b; `first` may be variable.

    Requires AVX-512BW and vectors of 32 lanes of 16 bits; one instruction.
    """
    ty = a.value.type
    order = iota(a.builder, a.element, a.count) + first
    fnty = ir.FunctionType(ty, [ty, ty, ty])
    name = "llvm.x86.avx512.vpermi2var.hi.512"
    permute = cgutils.get_or_insert_function(a.builder.module, fnty, name)
    return a.with_value(a.builder.call(permute, [a.value, order.value, b.value]))


def _masked(builder: Any, what: str, result: Any, ty: Any, arguments: list[Any]) -> Any:
    kind = "if"[_is_float(ty.element)]
    name = f"llvm.masked.{what}.v{ty.count}{kind}{_bits(ty.element)}.p0"
    fnty = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, fnty, name)
    return builder.call(function, arguments)


def iota(builder: Any, element: Any, count: int) -> Lanes:
    """Return the vector 0, 1, 2, ..."""
    numbers = [ir.Constant(element, k) for k in range(count)]
    return Lanes(builder, ir.Constant(ir.VectorType(element, count), numbers))


def _lanes_type(element: Any, count: int) -> Any:
    return ir.VectorType(element, count) if count else element


def _place(builder: Any, pointer: Any, offset: int, ty: Any) -> Any:
    moved = builder.gep(pointer, [ir.Constant(I64, offset)]) if offset else pointer
    return builder.bitcast(moved, ty.as_pointer())


def _shuffled(builder: Any, a: Any, b: Any, order: Sequence[int]) -> Any:
    positions = ir.Constant(ir.VectorType(I32, len(order)), [ir.Constant(I32, k) for k in order])
    return builder.shuffle_vector(a, b, positions)


def _bits(element: Any) -> int:
    return {HALF: 16, FLOAT: 32, DOUBLE: 64}[element] if _is_float(element) else element.width


def _is_float(element: Any) -> bool:
    return isinstance(element, ir.HalfType | ir.FloatType | ir.DoubleType)
