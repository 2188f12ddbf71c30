"""Lanes: Python text run on LLVM values, so that one definition makes vector code of any width.

The hot loops are not left to LLVM's vectoriser: it wants every loop in a form that it happens to
know, differs from release to release, and cannot hold bits, decision and element in registers at
once. Instead a function is *traced*: it runs while the code is generated, with `Lanes` in the place
of numbers, and each operator it uses writes one vector instruction. So the mask contract and the
operations, which are plain Python, are the kernels too. LLVM splits what a machine's registers
cannot hold, so that every machine can run any width.

Against loops that LLVM vectorised: 64 Ki float32 in 2.6 times np.multiply, not 3.5, and 16 Mi,
because loads, stores and arithmetic now overlap, in 1.0, not 1.45 (Cascade Lake).
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
    """A number, or a vector of numbers, of the code that is being generated.

    Integers are unsigned. A number meets a vector by being repeated; constants may be Python's or
    NumPy's, and take the other operand's type.
    """

    __slots__ = ("builder", "value")
    __array_ufunc__ = None  # so that NumPy's scalars leave ``uint64 * Lanes`` to Lanes
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    @property
    def count(self) -> int:
        """How many numbers; 0 means a single one that is no vector."""
        ty = self.value.type
        return ty.count if isinstance(ty, ir.VectorType) else 0

    @property
    def element(self) -> Any:
        """LLVM type of one number."""
        ty = self.value.type
        return ty.element if isinstance(ty, ir.VectorType) else ty

    def made(self, value: Any) -> Lanes:
        """Return Lanes of another value of the same code."""
        return Lanes(self.builder, value)

    def constant(self, number: Any) -> Lanes:
        """Return a constant of this type."""
        whole = not _is_float(self.element)
        one = ir.Constant(self.element, int(number) if whole else float(number))
        if self.count:
            return self.made(ir.Constant(self.value.type, [one] * self.count))
        return self.made(one)

    def repeated(self, count: int) -> Lanes:
        """Repeat one number, or a short vector as a whole, until there are `count` lanes."""
        if count == self.count:
            return self
        value = self.value
        if not self.count:
            empty = ir.Constant(ir.VectorType(self.element, 1), ir.Undefined)
            value = self.builder.insert_element(empty, value, ir.Constant(I32, 0))
        order = [k % max(1, self.count) for k in range(count)]
        return self.made(_shuffled(self.builder, value, value, order))

    def each_repeated(self, times: int) -> Lanes:
        """Repeat every lane by itself: a, a, b, b."""
        if times == 1 or not self.count:
            return self
        order = [k // times for k in range(self.count * times)]
        return self.made(_shuffled(self.builder, self.value, self.value, order))

    def taken(self, order: Sequence[int]) -> Lanes:
        """Return lanes of a vector in some order; a number that is none, as it is."""
        if not self.count:
            return self
        return self.made(_shuffled(self.builder, self.value, self.value, order))

    def interleaved(self, other: Lanes) -> tuple[Lanes, Lanes]:
        """Return the lanes of both, by turns, as two vectors of the same length."""
        n = self.count
        order = [k // 2 + n * (k % 2) for k in range(2 * n)]
        return tuple(  # type: ignore[return-value]
            self.made(_shuffled(self.builder, self.value, other.value, part))
            for part in (order[:n], order[n:])
        )

    def joined(self, other: Lanes) -> Lanes:
        """Return the lanes of this, and then those of another."""
        order = range(2 * self.count)
        return self.made(_shuffled(self.builder, self.value, other.value, order))

    def parted(self) -> tuple[Lanes, Lanes]:
        """Return the first half of the lanes, and the second."""
        n = self.count
        return tuple(  # type: ignore[return-value]
            self.made(_shuffled(self.builder, self.value, self.value, part))
            for part in (range(n // 2), range(n // 2, n))
        )

    def seen_as(self, element: Any) -> Lanes:
        """Return the same bits as lanes of another type."""
        size = max(1, self.count) * _bits(self.element)
        count = size // _bits(element)
        single = count == 1 and not self.count
        ty = element if single else ir.VectorType(element, count)
        return self.made(self.builder.bitcast(self.value, ty))

    def as_number(self) -> Lanes:
        """Return all bits of a vector as one integer."""
        if not self.count:
            return self
        return self.made(
            self.builder.bitcast(self.value, ir.IntType(self.count * _bits(self.element)))
        )

    def converted(self, element: Any) -> Lanes:
        """Return the numbers in another type: integers cut or extended by zeros, floats rounded."""
        old, new = _bits(self.element), _bits(element)
        ty = ir.VectorType(element, self.count) if self.count else element
        if _is_float(element):
            change = self.builder.fpext if new > old else self.builder.fptrunc
        else:
            change = self.builder.zext if new > old else self.builder.trunc
        return self.made(change(self.value, ty))

    def as_float(self) -> Lanes:
        """Return the numbers as float32, rounded; integers are signed ones here."""
        ty = ir.VectorType(FLOAT, self.count) if self.count else FLOAT
        return self.made(self.builder.sitofp(self.value, ty))

    def root(self) -> Lanes:
        """Return the square roots of floats."""
        ty = self.value.type
        kind = {FLOAT: "f32", DOUBLE: "f64"}[self.element]
        name = f"llvm.sqrt.v{self.count}{kind}" if self.count else f"llvm.sqrt.{kind}"
        root = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(ty, [ty]), name)
        return self.made(self.builder.call(root, [self.value]))

    def average(self, other: Any) -> Lanes:
        """Return half the sum of integers, rounded up, without overflow."""
        # LLVM takes a sum in wider integers apart again, and knows this.
        rounded: Lanes = (self | other) - ((self ^ other) >> 1)
        return rounded

    def fenced(self) -> Lanes:
        """Return the same, of which LLVM knows nothing: what follows is not merged with it.

        With AVX-512 it makes two-input shuffles of 16-bit lanes, three instructions each, out of a
        shift and an or. Elsewhere there are none, and this does nothing.
        """
        if not has("avx512bw"):
            return self
        ty = ir.VectorType(FLOAT, max(1, self.count) * _bits(self.element) // 32)
        name = f"llvm.arithmetic.fence.v{ty.count}f32"
        fence = cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(ty, [ty]), name)
        value = self.builder.call(fence, [self.builder.bitcast(self.value, ty)])
        return self.made(self.builder.bitcast(value, self.value.type))

    def _both(self, other: Any) -> tuple[Any, Any]:
        if not isinstance(other, Lanes):
            return self.value, self.constant(other).value
        count = max(self.count, other.count)
        if not count:
            return self.value, other.value
        return self.repeated(count).value, other.repeated(count).value

    def _apply(self, whole: str, real: str, other: Any, swapped: bool = False) -> Lanes:
        a, b = self._both(other)
        if swapped:
            a, b = b, a
        return self.made(getattr(self.builder, real if _is_float(self.element) else whole)(a, b))

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
        return self.made(self.builder.not_(self.value))

    def _compared(self, how: str, other: Any) -> Lanes:
        a, b = self._both(other)
        if _is_float(self.element):
            return self.made(self.builder.fcmp_ordered(how, a, b))
        return self.made(self.builder.icmp_unsigned(how, a, b))

    def __ge__(self, other: Any) -> Lanes:
        return self._compared(">=", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compared(">", other)

    def __lt__(self, other: Any) -> Lanes:
        return self._compared("<", other)

    def __eq__(self, other: object) -> bool:
        raise TypeError("Lanes have no ==, which would compare objects: use .equals")

    def equals(self, other: Any) -> Lanes:
        """Compare for equality, lane by lane."""
        return self._compared("==", other)


def select(condition: Lanes, a: Lanes, b: Any) -> Lanes:
    """Take from a where the condition holds, else from b, lane by lane.

    Where a has several lanes for one of the condition's (an element of two words), each of the
    condition's serves them all.
    """
    if not isinstance(b, Lanes):
        b = a.constant(b)
    if condition.count:
        condition = condition.each_repeated(a.count // condition.count)
    return a.made(a.builder.select(condition.value, a.value, b.repeated(a.count).value))


def load(
    builder: Any, pointer: Any, offset: int, element: Any, count: int, where: Lanes | None = None
) -> Lanes:
    """Load `count` numbers (0: one that is no vector) at any alignment, `offset` bytes on.

    Where `where` does not hold, no memory is read, and the number is 0.
    """
    ty = _lanes_type(element, count)
    place = _place(builder, pointer, offset, ty)
    if where is None:
        return Lanes(builder, builder.load(place, align=1))
    mask = where.each_repeated(count // where.count).value
    arguments = [place, ir.Constant(I32, 1), mask, ir.Constant(ty, None)]
    return Lanes(builder, _masked(builder, "load", ty, ty, arguments))


def store(
    value: Lanes, pointer: Any, offset: int, where: Lanes | None = None, align: int = 1
) -> Any:
    """Store numbers, those where `where` holds; returns the instruction."""
    builder, ty = value.builder, value.value.type
    place = _place(builder, pointer, offset, ty)
    if where is None:
        return builder.store(value.value, place, align=align)
    mask = where.each_repeated(value.count // where.count).value
    arguments = [value.value, place, ir.Constant(I32, align), mask]
    return _masked(builder, "store", ir.VoidType(), ty, arguments)


def make_nontemporal(builder: Any, begin: int) -> None:
    """Let the current block's stores, from its instruction `begin` on, bypass the caches.

    Each stores a vector, at an address that is a multiple of its bytes, or of a cache line's 64.
    """
    hint = builder.module.add_metadata([ir.Constant(I32, 1)])
    for instruction in builder.block.instructions[begin:]:
        if isinstance(instruction, ir.instructions.StoreInstr):
            ty = instruction.operands[0].type
            instruction.set_metadata("nontemporal", hint)
            instruction.align = min(64, ty.count * _bits(ty.element) // 8)


def window(a: Lanes, b: Lanes, first: Any) -> Lanes:
    """Return as many lanes of a and then b, from the lane `first` on, which need not be a constant.

    For vectors of 32 lanes of 16 bits, one instruction with AVX-512BW, which is required.
    """
    ty = a.value.type
    order = iota(a.builder, a.element, a.count) + first
    fnty = ir.FunctionType(ty, [ty, ty, ty])
    name = "llvm.x86.avx512.vpermi2var.hi.512"
    permute = cgutils.get_or_insert_function(a.builder.module, fnty, name)
    return a.made(a.builder.call(permute, [a.value, order.value, b.value]))


def _masked(builder: Any, what: str, result: Any, ty: Any, arguments: list[Any]) -> Any:
    kind = "if"[_is_float(ty.element)]
    name = f"llvm.masked.{what}.v{ty.count}{kind}{_bits(ty.element)}.p0"
    fnty = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, fnty, name)
    return builder.call(function, arguments)


def iota(builder: Any, element: Any, count: int) -> Lanes:
    """Return 0, 1, 2 and so on."""
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
