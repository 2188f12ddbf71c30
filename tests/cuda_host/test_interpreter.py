"""The interpreter of machine code: divergence, calls, barriers, lanes, and accesses it refuses."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.support.oracle import Array
from tests.support.sass.disassembly import Kernel, assembled, kernels, parse
from tests.support.sass.instructions import UnknownInstruction
from tests.support.sass.interpreter import Code, Run, run
from tests.support.sass.memory import SHARED_BASE, AccessError, Extent, Global
from tests.support.sass.programs import PARAMETERS, code_of, executed, state_of


def test_threads_diverge_meet_again_and_are_counted() -> None:
    lines = """
        /*0000*/ S2R R0, SR_TID.X ;
        /*0010*/ ISETP.LT.U32.AND P0, PT, R0, 0x21, PT ;
        /*0020*/ @!P0 BRA `(.L_x_1) ;
        /*0030*/ IMAD R1, R0, 0x2, RZ ;
        /*0040*/ BRA `(.L_x_2) ;
    .L_x_1:
        /*0050*/ MOV R1, 0x7 ;
    .L_x_2:
        /*0060*/ IADD3 R1, R1, 0x1, RZ ;
        /*0070*/ @P0 EXIT ;
        /*0080*/ IADD3 R0, R0, -0x1, RZ ;
        /*0090*/ ISETP.GE.U32.AND P1, PT, R0, 0x20, PT ;
        /*00a0*/ @P1 BRA `(.L_x_2) ;
        /*00b0*/ EXIT ;
    """
    code, state = code_of(parse(lines.splitlines())), state_of(64)
    counts = np.zeros(12, np.int64)
    Run(code, state, counts).run()
    number = np.arange(64)
    loops = np.maximum(number - 31, 1)
    assert state.registers[1].tolist() == np.where(number < 33, 2 * number + 1, 7 + loops).tolist()
    # Both warps, then the first and a thread of the second, then the rest of the second.
    assert counts.tolist()[:7] == [2, 2, 2, 2, 2, 1, 2 + 31]
    assert counts.tolist()[8:] == [32, 32, 32, 1]


def test_a_function_is_called_and_returns() -> None:
    lines = """
        /*0000*/ MOV R4, 0x20 ;
        /*0010*/ CALL.REL.NOINC `($helper) ;
        /*0020*/ IADD3 R1, R1, 0x1, RZ ;
        /*0030*/ EXIT ;
    $helper:
        /*0040*/ MOV R1, 0x10 ;
        /*0050*/ RET.REL.NODEC R4 `(kernel) ;
    """
    state = state_of(1)
    Run(code_of(parse(lines.splitlines())), state).run()
    assert state.registers[1][0] == 0x11


def test_a_jump_table_is_followed() -> None:
    lines = ['BRX R1 -0x10 (*"BRANCH_TARGETS .L_x_1"*)', "MOV R2, 0x1", "MOV R3, 0x2"]
    state = executed(*lines, registers={1: 0x20, 2: 0})
    assert (state.registers[2][0], state.registers[3][0]) == (0, 2)
    lines[:1] = ["R2UR UR4, R1", "BRXU UR4 -0x20"]
    state = executed(*lines, registers={1: 0x30, 2: 0})
    assert (state.registers[2][0], state.registers[3][0]) == (0, 2)


def test_barriers_order_shared_memory() -> None:
    swap = [
        *("S2R R0, SR_TID.X", "IMAD R1, R0, 0x4, RZ", "STS [R1+0x400], R0"),
        *("BAR.SYNC.DEFER_BLOCKING 0x0", "LOP3.LUT R1, R1, 0xfc, RZ, 0x3c, !PT"),
        "LDS R2, [R1+0x400]",
    ]
    state = executed(*swap, threads=64, shared=256)
    assert state.registers[2].tolist() == list(range(63, -1, -1))
    apart = ["@P0 BRA `(.L)", "BAR.SYNC 0x0", "EXIT"]
    lines = [f"/*{16 * n:04x}*/ {text} ;" for n, text in enumerate(apart)]
    lines += [".L:", "/*0030*/ BAR.SYNC 0x0 ;", "/*0040*/ EXIT ;"]
    state = state_of(64)
    state.predicates[0][:5] = True
    with pytest.raises(UnknownInstruction, match="different barriers"):
        Run(code_of(parse(lines)), state).run()


def test_threads_have_a_stack_of_their_own() -> None:
    state = executed(
        *("MOV R1, c[0x0][0x28]", "S2R R0, SR_TID.X", "VIADD R1, R1, -0x10", "STL [R1+0x8], R0"),
        *("MOV R0, RZ", "LDL R2, [R1+0x8]"),
        threads=64,
    )
    assert state.registers[2].tolist() == list(range(64))
    with pytest.raises(AccessError, match="of local memory"):
        executed("MOV R1, c[0x0][0x28]", "STL [R1], R0")


def test_lanes_are_read_and_asked() -> None:
    state = executed(
        *("S2R R0, SR_TID.X", "SHFL.BFLY PT, R1, R0, 0x1, 0x1f", "SHFL.IDX PT, R2, R0, 0x3, 0x1f"),
        *("SHFL.DOWN P0, R3, R0, 0x10, 0x1f", "ISETP.EQ.AND P1, PT, R0, 0x28, PT"),
        *("VOTE.ANY P2, P1", "VOTE.ANY R4, PT, P1"),
        threads=64,
    )
    number = np.arange(64)
    lane = number % 32
    assert state.registers[1].tolist() == (number ^ 1).tolist()
    assert state.registers[2].tolist() == (number - lane + 3).tolist()
    assert state.registers[3].tolist() == np.where(lane < 16, number + 16, number).tolist()
    assert state.predicates[0].tolist() == (lane < 16).tolist()
    assert state.predicates[2].tolist() == (number >= 32).tolist()
    assert state.registers[4].tolist() == np.where(number < 32, 0, 1 << 8).tolist()
    with pytest.raises(UnknownInstruction, match="takes no part"):
        executed(
            *("S2R R0, SR_TID.X", "ISETP.LT.AND P0, PT, R0, 0x1, PT"),
            "@P0 SHFL.BFLY PT, R1, R0, 0x1, 0x1f",
            threads=32,
        )


def launched(array: Array, *lines: str, writable: bool = True, by: int = 0) -> None:
    """Run lines on the address of an array, which is their argument; they may access no other."""
    start = array.__array_interface__["data"][0]
    argument = struct.pack("<Q", start + by)
    kernel = Kernel(assembled("LDC.64 R2, c[0x0][0x210]", *lines), {}, PARAMETERS + 8, 0)
    run(Code(kernel), argument, 1, 1, [Extent(start, start + array.nbytes, writable)])


def aligned(count: int) -> Array:
    memory = np.arange(count + 4, dtype=np.uint32)
    return memory[-memory.__array_interface__["data"][0] % 16 // 4 :][:count]


def test_memory_is_loaded_and_stored_in_every_width() -> None:
    x = aligned(16)
    x[:4] = 0x80818283, 2, 3, 4
    copies = ["LDG.E.128 R4, desc[UR4][R2.64]", "STG.E.128 desc[UR4][R2.64+0x10], R4"]
    launched(x, *copies, "LDG.E.U8 R8, desc[UR4][R2.64+0x1]", "STG.E desc[UR4][R2.64+0x20], R8")
    assert x[4:9].tolist() == [0x80818283, 2, 3, 4, 0x82]
    copies = ["LDG.E.S16 R4, desc[UR4][R2.64+0x2]", "LDG.E.64 R6, desc[UR4][R2.64+0x8]"]
    stores = ["STG.E desc[UR4][R2.64+0x24], R4", "STG.E.64 desc[UR4][R2.64+0x28], R6"]
    launched(x, *copies, *stores, "STG.E.U16 desc[UR4][R2.64+0x32], R4")
    assert x[9:13].tolist() == [0xFFFF8081, 3, 4, 0x8081000C]


@pytest.mark.parametrize(
    ("text", "by", "complaint"),
    [
        ("LDG.E.128 R4, desc[UR4][R2.64+0x8]", 0, "misaligned: 16 bytes"),
        ("LDG.E.U16 R4, desc[UR4][R2.64]", 1, "misaligned: 2 bytes"),
        ("LDG.E R4, desc[UR4][R2.64+0x40]", 0, "out of bounds: 4 bytes read"),
        ("LDG.E.128 R4, desc[UR4][R2.64+0x30]", 16, "out of bounds: 16 bytes read"),
        ("LDG.E.U8 R4, desc[UR4][R2.64+-0x1]", 0, "out of bounds: 1 bytes read"),
        ("STG.E desc[UR4][R2.64+-0x4], R4", 0, "out of bounds: 4 bytes written"),
        ("LDG.E R4, desc[UR4][RZ.64]", 0, "out of bounds: 4 bytes read at 0x0"),
        ("LDS R4, [RZ+0x400]", 0, "of shared memory"),
    ],
)
def test_accesses_that_the_hardware_or_the_launch_forbids(
    text: str, by: int, complaint: str
) -> None:
    x = aligned(16)
    before = x.copy()
    with pytest.raises(AccessError, match=complaint) as raised:
        launched(x, text, by=by)
    assert text.split()[0] in str(raised.value)
    np.testing.assert_array_equal(x, before)


def test_inputs_may_not_be_written() -> None:
    with pytest.raises(AccessError, match="out of bounds: 4 bytes written"):
        launched(aligned(4), "STG.E desc[UR4][R2.64], R2", writable=False)


def test_accesses_to_two_arrays_at_once_stay_in_theirs() -> None:
    x, y = aligned(4), aligned(4)
    starts = [int(a.__array_interface__["data"][0]) for a in (x, y)]
    memory = Global([Extent(start, start + 16, True) for start in starts])
    address = np.array([starts[0] + 4, starts[1] + 8], np.uint64)
    loaded = memory.load(address, 4)
    assert loaded.tolist() == [x[1], y[2]]
    memory.store(address, 4, loaded + np.uint32(1000))
    assert (x[1], y[2]) == tuple((loaded + 1000).tolist())
    with pytest.raises(AccessError, match="out of bounds"):
        memory.load(address + np.uint64(16), 4)


@pytest.mark.parametrize("text", ["TEX R0, R1", "FADD.RZ R0, R1, R2", "MOV R0, SR_CLOCKLO"])
def test_what_is_unknown_is_an_error_with_the_instruction(text: str) -> None:
    with pytest.raises((UnknownInstruction, KeyError), match=text.split()[0].split(".")[0]):
        executed(text)


def test_sections_of_a_cubin_are_found() -> None:
    names = [b"", b".nv.constant0.k", b".nv.constant2.k", b".nv.shared.k", b".text.k", b".shstrtab"]
    strings = b"\0".join(names) + b"\0"
    # The immediate of an instruction is its second word.
    text = struct.pack("<8I", 0, 0xFFF00000, 0, 0, *[0] * 4)
    data = [b"", bytes(0x218), b"table", b"", text, strings]
    sizes = [0, 0x218, 5, SHARED_BASE + 96, len(text), len(strings)]
    body, headers = b"", b""
    for name, content, size in zip(names, data, sizes, strict=True):
        kind = 8 if name.startswith(b".nv.shared") else 1
        at = 64 + len(body)
        headers += struct.pack("<IIQQQQIIQQ", strings.index(name), kind, 0, 0, at, size, *[0] * 4)
        body += content
    elf = bytes(40) + struct.pack("<Q", 64 + len(body)) + bytes(10)
    elf += struct.pack("<3H", 64, len(names), len(names) - 1) + body + headers
    lines = ["/*0000*/ FSEL R0, R1, -QNAN , P0 ;", "/*0010*/ EXIT ;"]
    (kernel,) = kernels(elf, "\n".join([".text.k:", *lines, ".section .x"])).values()
    assert (kernel.bank0, kernel.constants, kernel.shared) == (0x218, {2: b"table"}, 96)
    assert list(map(str, kernel.program.instructions)) == ["FSEL R0, R1, 0xfff00000, P0", "EXIT "]
