"""Single instructions of the interpreter of machine code, against expected bits."""

from __future__ import annotations

import itertools
import struct
from fractions import Fraction

import numpy as np
import pytest

from tests.support.sass import bits, rounding
from tests.support.sass.programs import executed


def single(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def wide(value: float) -> dict[int, int]:
    """The registers 2 and 3 that hold a float64."""
    whole = int(np.float64(value).view(np.uint64))
    return {2: whole & 0xFFFFFFFF, 3: whole >> 32}


ONES = 0xFFFFFFFF
TINIEST = 1  # the bits of the smallest subnormal float32
NAN = 0x7FFFFFFF
# An instruction that writes R0, what R1, R2 and R3 hold, and what R0 (and R1) are afterwards.
INSTRUCTIONS: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
    ("MOV R0, 0x12", (), (0x12,)),
    ("MOV R0, c[0x0][0x0]", (), (1,)),  # threads of a block
    ("LDC R0, c[0x2][R1+0x4]", (0,), (9,)),
    ("LDC.64 R0, c[0x2][0x0]", (), (7, 9)),
    ("LDC.U16 R0, c[0x2][0x4]", (), (9,)),
    ("IADD3 R0, R1, -R2, 0x5", (3, 4), (4,)),
    ("VIADD R0, R1, -0x1", (0,), (ONES,)),
    ("IMAD R0, R1, -0x2, R3", (3, 0, 7), (1,)),
    ("IMAD.WIDE.U32 R0, R1, R2, RZ", (ONES, ONES), (1, ONES - 1)),
    ("IMAD.WIDE R0, R1, R2, RZ", (ONES, 2), (ONES - 1, ONES)),
    ("IMAD.WIDE.U32 R0, R1, -0x2, R2", (1, 2, 0), (0, 1)),
    ("IMAD.HI.U32 R0, R1, R1, RZ", (ONES,), (ONES - 1,)),
    ("LEA R0, R1, R2, 0x3", (3, 1), (25,)),
    ("LEA.HI R0, R1, R2, R3, 0x4", (0xF0000000, 1, 2), (1 + 0x2F,)),
    ("IABS R0, R1", (ONES - 4,), (5,)),
    ("VIMNMX.U32 R0, R1, R2, PT", (ONES, 1), (1,)),
    ("VIMNMX R0, R1, R2, PT", (ONES, 1), (ONES,)),
    ("VIADDMNMX.U32 R0, R1, R2, 0x4, PT", (5, ONES), (4,)),
    ("VIADDMNMX.U16x2 R0, R1, R2, 0xffff0003, PT", (0xFFFF0001, 0x00020001), (0x00010002,)),
    ("VIMNMX.U16x2 R0, R1, R2, !PT", (0xFFFF0001, 0x00020003), (0xFFFF0003,)),
    ("VIMNMX.S16x2 R0, R1, R2, !PT", (0xFFFF0001, 0x00020003), (0x00020003,)),
    ("LOP3.LUT R0, R1, R2, R3, 0x96, !PT", (0b1100, 0b1010, 0b1111), (0b1001,)),
    ("LOP3.LUT R0, R1, R2, R3, 0xca, !PT", (0xF0, 0x55, 0xAA), (0x5A,)),
    ("SHF.L.U32 R0, R1, 0x4, RZ", (0x10000001,), (0x10,)),
    ("SHF.L.U32 R0, R1, R2, RZ", (1, 32), (0,)),
    ("SHF.L.U64.HI R0, R1, 0x8, R2", (0xAB000000, 0x1), (0x1AB,)),
    ("SHF.L.W.U32.HI R0, R1, 0x24, R1", (0x80000001,), (0x18,)),
    ("SHF.R.U32.HI R0, RZ, 0x1f, R1", (0x80000000,), (1,)),
    ("SHF.R.S32.HI R0, RZ, 0x1f, R1", (0x80000000,), (ONES,)),
    ("SHF.R.U64 R0, R1, 0x10, R2", (0x12345678, 0xABCD), (0xABCD1234,)),
    ("SHF.R.S64 R0, R1, 0x28, R2", (0, 0x80000000), (0xFF800000,)),
    ("PRMT R0, R1, 0x5410, R2", (0x1111AAAA, 0x2222BBBB), (0xBBBBAAAA,)),
    ("PRMT R0, R1, 0x7632, R2", (0x1111AAAA, 0x2222BBBB), (0x22221111,)),
    ("PRMT R0, R1, 0x8880, RZ", (0x80,), (0xFFFFFF80,)),  # a byte's sign
    ("FLO.U32 R0, R1", (0x00F00000,), (23,)),
    ("FLO.U32.SH R0, R1", (0x00F00000,), (8,)),
    ("POPC R0, R1", (0xF0F0,), (8,)),
    ("BREV R0, R1", (0x1,), (0x80000000,)),
    ("CS2R R0, SRZ", (5,), (0, 0)),
    ("FADD R0, R1, -R2", (single(3), single(1)), (single(2),)),
    ("FADD R0, R1, RZ", (TINIEST,), (TINIEST,)),
    ("FADD.FTZ R0, R1, RZ", (TINIEST,), (0,)),
    ("FADD.FTZ.SAT R0, R1, 1", (single(0.5),), (single(1),)),
    ("FMUL R0, R1, R1", (single(-np.inf),), (single(np.inf),)),
    ("FMUL R0, R1, RZ", (single(np.inf),), (NAN,)),  # one NaN, whatever it is made of
    # Rounded once: the product alone would be 1 + 2**-11, and the sum 0.
    ("FFMA R0, R1, R1, -1.00048828125", (single(1 + 2**-12),), (single(2.0**-24),)),
    ("FFMA.RM R0, R1, R1, R2", (single(1), TINIEST | 1 << 31), (single(1 - 2.0**-24),)),
    ("FFMA.RP R0, R1, R1, R2", (single(1), TINIEST), (single(1 + 2.0**-23),)),
    ("FMNMX R0, R1, R2, PT", (NAN, single(2)), (single(2),)),
    ("FMNMX.NAN R0, R1, R2, PT", (NAN, single(2)), (NAN,)),
    ("FMNMX R0, R1, R2, !PT", (1 << 31, 0), (0,)),
    ("FSEL R0, -R1, R2, PT", (single(1), 0), (single(-1),)),
    ("MUFU.RCP R0, R1", (single(4),), (single(0.25),)),
    ("MUFU.RCP R0, R1", (TINIEST,), (single(np.inf),)),  # a subnormal is zero
    ("MUFU.EX2 R0, R1", (single(-130),), (0,)),
    ("F2FP.F16.F32.PACK_AB R0, R1, R2", (single(1), single(2)), (0x3C004000,)),
    ("F2FP.BF16.F32.PACK_AB R0, R1, R2", (single(1 + 2**-8), single(3)), (0x3F804040,)),
    ("HADD2.F32 R0, -RZ, R1.H1_H1", (0x3C000000,), (single(1),)),
    ("HFMA2.MMA R0, -RZ, RZ, 1.875, 0", (), (0x3F800000,)),
    ("HMUL2.BF16_V2 R0, R1, R2", (0x40003F80, 0x40404040), (0x40C04040,)),
    ("HSET2.BF.GE.AND R0, R1, R2.H0_H0, PT", (0x3C004000, 0x4000), (0x00003C00,)),
    ("I2F.RP R0, R1", (0x01000001,), (single(2**24 + 2),)),
    ("I2FP.F32.S32 R0, R1", (ONES,), (single(-1),)),
    ("I2F.U64.RP R0, R1", (1, 1 << 31), (single(2**63 + 2**40),)),
    ("F2I.FTZ.U32.TRUNC.NTZ R0, R1", (single(-1.5),), (0,)),
    ("F2I.U64.TRUNC R0, R1", (single(2**40),), (0, 256)),
    ("FRND.TRUNC R0, R1", (single(-1.5),), (single(-1),)),
]


@pytest.mark.parametrize(("text", "given", "expected"), INSTRUCTIONS, ids=lambda v: str(v)[:40])
def test_instructions(text: str, given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    state = executed(text, registers=dict(enumerate(given, start=1)))
    assert [int(state.registers[n][0]) for n in range(len(expected))] == list(expected)


def test_registers_are_undefined_until_they_are_written_and_rz_is_zero() -> None:
    state = executed("MOV R0, R9", "IADD3 RZ, R0, 0x1, RZ", "MOV R1, RZ")
    assert (state.registers[0][0], state.registers[1][0]) == (0xDEADBEEF, 0)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (5, 7), (2**63, 1), (2**64 - 1, 2**64 - 1)])
def test_64_bits_are_added_subtracted_and_compared_by_carries(a: int, b: int) -> None:
    low, high = 0xFFFFFFFF, 32
    given = {1: a & low, 2: a >> high, 3: b & low, 4: b >> high}
    state = executed(
        *("IADD3 R5, P0, R1, R3, RZ", "IADD3.X R6, R2, R4, RZ, P0, !PT"),
        *("IADD3 R7, P1, R1, -R3, RZ", "IADD3.X R8, P5, R2, ~R4, RZ, P1, !PT"),
        *("LEA R10, P2, -R3, R1, 0x0", "IMAD.X R11, RZ, RZ, ~R4, P2", "VIADD R11, R11, R2"),
        *("ISETP.LT.U32.AND P3, PT, R1, R3, PT", "ISETP.LT.U32.AND.EX P3, P4, R2, R4, PT, P3"),
        registers=given,
    )
    words = [int(array[0]) for array in state.registers[:12]]
    for at, result in ((5, a + b), (7, a - b), (10, a - b)):
        assert words[at] | words[at + 1] << 32 == result % 2**64
    assert [bool(state.predicates[n][0]) for n in (5, 3, 4)] == [a >= b, a < b, a >= b]


def test_every_function_of_three_bits() -> None:
    a, b, c = (np.array(t, bool) for t in zip(*itertools.product((0, 1), repeat=3), strict=True))
    for table in range(256):
        expected = [bool(table >> n & 1) for n in range(8)]
        assert bits.lookup(table, a, b, c).tolist() == expected


def test_fused_multiply_adds_round_once(rng: np.random.Generator) -> None:
    a, b = (rng.standard_normal(300) for _ in "ab")
    c = -(a * b) * (1 + rng.integers(-3, 4, 300) * 2.0**-52)
    exact = [Fraction(x) * Fraction(y) + Fraction(z) for x, y, z in zip(a, b, c, strict=True)]
    got = rounding.fused_double(a, b, c)
    assert got.tolist() == [float(value) for value in exact]
    short = [v.astype(np.float32) for v in (a, b, c)]
    parts = [[Fraction(float(x)) for x in v] for v in short]
    sums = [x * y + z for x, y, z in zip(*parts, strict=True)]
    narrow = rounding.narrowed(rounding.fused(*short))
    for value, result in zip(sums, narrow, strict=True):
        below, above = (np.nextafter(result, np.float32(end)) for end in (-np.inf, np.inf))
        distance = abs(Fraction(float(result)) - value)
        assert all(distance <= abs(Fraction(float(v)) - value) for v in (below, above))


def test_doubles() -> None:
    state = executed("DADD R0, R2, 1", "DSETP.GT.AND P0, PT, R2, |R2|, PT", registers=wide(-3.0))
    low, high = (int(state.registers[n][0]) for n in (0, 1))
    assert struct.unpack("<d", struct.pack("<2I", low, high)) == (-2.0,)
    assert not state.predicates[0][0]
    for value, other, largest in ((-3.0, "2", False), (np.nan, "2", False), (3.0, "+QNAN", True)):
        state = executed(f"DSETP.MAX.AND P0, P1, R2, {other}, PT", registers=wide(value))
        assert (state.predicates[0][0], state.predicates[1][0]) == (largest, False)
    state = executed("DSETP.MIN.AND P0, P1, R2, 0x7ff80000, PT", registers=wide(np.nan))
    assert state.predicates[1][0]
    state = executed("F2F.F32.F64 R0, R2", registers=wide(1 + 2.0**-40))
    assert state.registers[0][0] == single(1)


def test_predicates_are_packed_and_combined() -> None:
    state = executed(
        *("ISETP.EQ.AND P0, P1, R1, 0x3, PT", "P2R R2, PR, RZ, 0x3", "R2P PR, R3.B1, 0x18"),
        *("PLOP3.LUT P5, PT, P0, P3, P4, 0x80, 0x0", "LOP3.LUT P6, RZ, R1, 0x4, RZ, 0xc0, !PT"),
        registers={1: 3, 3: 0xFF00},
    )
    assert state.registers[2][0] == 1
    held = [bool(predicate[0]) for predicate in state.predicates]
    assert held == [True, False, False, True, True, True, False, True]
