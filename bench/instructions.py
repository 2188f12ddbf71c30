"""``python -m bench gpu --instructions``: instructions of the CUDA kernels, counted without a GPU.

NVRTC compiles the kernels for sm_90, and the interpreter of the tests (tests/support/sass) runs the
machine code and counts. A count is of warp instructions for each group of 16 bytes of the output,
which is one thread's work; `hopper` says what an H200's bandwidth leaves for it. With ``--check``
the kernels are counted again and compared with the file.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from . import report
from .common import RESULTS, BenchError, load, progress
from .hopper import WARP, occupancy
from .kernel_calls import GROUPS, KernelCall, calls
from .results import SCHEMA, Results, Row
from .results import load as load_results

NAME, SECTION = "gpu-instructions", "instructions"
GROWTH = 1.03  # a count of more than so many times the file's fails the check
REWRITE = "python -m bench gpu --instructions, then python -m bench readme"
# Classes of instructions by their opcodes; IMAD.WIDE and IMAD.HI are a class of their own.
WIDE_PRODUCTS = "wide products"
CLASSES = {
    WIDE_PRODUCTS: "",
    "other IMAD": "IMAD",
    "LOP3": "LOP3",
    "IADD": "IADD3 VIADD IABS",
    "selections, shifts, bytes": (
        "SEL FSEL FMNMX HMNMX2 VIMNMX VIADDMNMX SHF LEA PRMT MOV FLO POPC BREV"
    ),
    "predicates": "ISETP FSETP DSETP HSETP2 PLOP3 R2P P2R VOTE",
    "MUFU": "MUFU",
    "float64": "DADD DMUL DFMA",
    "float": "FADD FMUL FFMA FCHK HADD2 HMUL2 HFMA2 HSET2",
    "conversions": "F2FP I2F I2FP F2I F2F FRND",
    "loads, stores": "LDG STG LDL STL",
    "shared memory, shuffles": "LDS STS SHFL BAR",
    "constants": "LDC ULDC S2R S2UR CS2R",
    "branches": "BRA BRX BRXU BSSY BSYNC BREAK CALL RET EXIT WARPSYNC",
    "uniform": "R2UR VOTEU",  # and all that begins with U
    "other": "",
}


def class_of(mnemonic: str) -> str:
    """Return the class of an instruction."""
    opcode, *modifiers = mnemonic.split(".")
    if opcode == "IMAD" and ("WIDE" in modifiers or "HI" in modifiers):
        return WIDE_PRODUCTS
    named = (name for name, opcodes in CLASSES.items() if opcode in opcodes.split())
    return next(named, "uniform" if opcode.startswith("U") else "other")


def counted(call: KernelCall) -> Row:
    """Make a call, and count its instructions."""
    driver, sass = load("fastdrop_kernels.cuda.driver"), load("tests.support.sass.launcher")
    driver._launcher = launcher = sass.MachineCodeLauncher(counts=True, one_kernel=True)
    arrays = call.make()
    (found,) = launcher.counted
    groups = arrays[0].nbytes / call.unit
    classes: dict[str, float] = collections.defaultdict(float)
    for instruction, count in zip(found.instructions, found.counts.tolist(), strict=True):
        classes[class_of(instruction.mnemonic)] += count * WARP / groups
    registers, stack, spilled, shared = found.report
    return {
        "section": SECTION,
        **{"function": call.function, "dtype": call.dtype, "p": call.p, "kernel": found.kernel},
        "instructions": sum(classes.values()),
        "classes": {name: classes[name] for name in CLASSES if classes[name]},
        **{"registers": registers, "spilled": stack + spilled, "shared": shared},
        "occupancy": occupancy(registers, shared, found.threads),
        "bytes": sum(array.nbytes for array in arrays) / groups,
    }


def _counted(numbers: list[int]) -> list[Row]:
    """Count some of the calls; in a worker process."""
    every = list(calls())
    return [counted(every[number]) for number in numbers]


def collect(wanted: Sequence[str] | None) -> list[Row]:
    """Count the instructions of all calls, or of those whose names contain one of the words."""
    # Those of one module together, so that a process compiles it once.
    modules: dict[str, list[int]] = collections.defaultdict(list)
    for n, call in enumerate(calls()):
        if not wanted or any(word in call.name for word in wanted):
            function = call.function.split(",")[0].removesuffix("_backward")
            modules[f"{function}, {call.dtype}"].append(n)
    if not modules:
        raise BenchError(f"no kernel has {' or '.join(wanted or ())} in its name")
    found: dict[int, Row] = {}
    with progress() as tell, ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = pool.map(_counted, modules.values())
        for name, numbers, some in zip(modules, modules.values(), rows, strict=True):
            found |= dict(zip(numbers, some, strict=True))
            tell(name, len(found) / sum(map(len, modules.values())))
    return [found[number] for number in sorted(found)]


def results_of(rows: list[Row], version: str) -> Results:
    """Return what the file holds."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {
        "schema": SCHEMA,
        "date": now,
        "versions": {"NVRTC": version},
        "hardware": {"architecture": "sm_90"},
        "settings": {"groups": GROUPS},
        "notes": [],
        "contenders": {},
        "rows": rows,
    }


def complaints(old: Results, rows: list[Row]) -> list[str]:
    """Say which counts have grown by more than 3%, and which the file lacks."""
    before = {_key(row): row["instructions"] for row in old["rows"]}
    found = []
    for row in rows:
        name, count = ", ".join(map(str, _key(row))), row["instructions"]
        was = before.get(_key(row))
        if was is None:
            found.append(f"{name}: not in the table")
        elif count > GROWTH * was:
            more = f"{count:.1f} instructions for {was:.1f}, {count / was - 1:.1%} more"
            found.append(f"{name} ({row['kernel']}): {more}")
    return found


def _key(row: Row) -> tuple[str, str, str]:
    return row["function"], row["dtype"], f"p = {row['p']:g}"


def check(rows: list[Row], version: str) -> int:
    """Compare with the file; the exit status is 1 where a count has grown."""
    old = load_results(RESULTS / f"{NAME}.json")
    found, recorded = complaints(old, rows), old["versions"]["NVRTC"]
    if version != recorded:
        print(f"All kernels compile and run; NVRTC {version} is not that of the table, {recorded}.")
        return 0
    for complaint in found:
        print(complaint, file=sys.stderr)
    if found:
        print(f"If that has to be: {REWRITE}", file=sys.stderr)
    else:
        print(f"{len(rows)} counts are at most {GROWTH - 1:.0%} above those of the table.")
    return int(bool(found))


def main(args: argparse.Namespace) -> int:
    """Count, and write the table or compare with it."""
    for option in ("first", "quick", "sizes", "dtypes"):
        if getattr(args, option):
            raise BenchError(f"--{option} is not for --instructions")
    sass, nvrtc = load("tests.support.sass.launcher"), load("tests.support.nvrtc")
    if missing := sass.absent():
        raise BenchError(missing)
    rows, version = collect(args.only), nvrtc.version()
    if args.check:
        return check(rows, version)
    report.finish(results_of(rows, version), args, NAME)
    return 0
