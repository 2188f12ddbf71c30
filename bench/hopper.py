"""What an H200 leaves a kernel: instructions by its bandwidth, and threads by its registers.

`instructions` and `report` call it. Plain arithmetic; nothing is measured here.
"""

from __future__ import annotations

from .results import Row

# NVIDIA's whitepaper "H100 Tensor Core GPU Architecture": a multiprocessor has four schedulers, and
# each issues one warp instruction per clock. The H200 has as many of them as the H100 SXM.
MULTIPROCESSORS, SCHEDULERS, WARP = 132, 4, 32
# In GHz. The data sheet's 67 float32 TFLOPS are 132 x 128 x 2 x 1.98 GHz, the boost clock. A power
# limit lowers it: 1.755 GHz is the boost clock of the same chip at 350 W (H100 PCIe).
CLOCKS = (1.755, 1.98)
# Bytes per second, read and written, of a copy within the device: 90% of the data sheet's 4.8e12.
BANDWIDTH = 4.3e12
# The programming guide's technical specifications for compute capability 9.0.
REGISTERS, THREADS, BLOCKS, SHARED = 65536, 2048, 32, 228 << 10
# Warps take registers in units of 256, each from a quarter of a multiprocessor's. Blocks take
# shared memory in units of 128 bytes, and 1 KiB more for the system.
REGISTER_UNIT, SHARED_UNIT, SHARED_SYSTEM = 256, 128, 1024
# The guide's throughput of arithmetic instructions for 9.0: results per clock of a multiprocessor's
# unit, and the classes of instructions (see `instructions`) that it executes.
UNITS = {
    "ALU": (64, ("LOP3", "IADD", "selections, shifts, bytes", "predicates")),
    "multiplier": (64, ("wide products", "other IMAD")),
    "MUFU": (16, ("MUFU",)),
    "shuffles": (32, ("shared memory, shuffles",)),
}
ISSUED = 0.9  # part of the slots that can be used; above, memory and instructions bind together


def budget(row: Row) -> tuple[float, float]:
    """Return how many instructions a group may take before they bind, at either clock.

    A group's bytes take ``bytes / BANDWIDTH`` seconds, in which the schedulers issue so many
    instructions, each for the 32 threads of a warp.
    """
    low, high = (
        MULTIPROCESSORS * SCHEDULERS * clock * 1e9 * WARP * row["bytes"] / BANDWIDTH
        for clock in CLOCKS
    )
    return low, high


def busiest(row: Row) -> tuple[str, float]:
    """Return the unit that is busy longest with a group's instructions, and for how many slots."""
    slots = {
        unit: sum(row["classes"].get(name, 0) for name in classes) * WARP * SCHEDULERS / results
        for unit, (results, classes) in UNITS.items()
    }
    return max(slots.items(), key=lambda item: item[1])


def bound(row: Row) -> str:
    """Say what binds: memory, or instructions, which leave so much of a copy's bandwidth."""
    (low, high), (unit, busy) = budget(row), busiest(row)
    name, slots = max(("instructions", row["instructions"]), (unit, busy), key=lambda item: item[1])
    if slots <= ISSUED * low:
        return "memory"
    return f"{name}, at most {high / slots:.0%}" if slots > high else f"memory and {name}"


def occupancy(registers: int, shared: int, threads: int) -> float:
    """Return the part of a multiprocessor's threads that can be there at once."""
    warps = threads // WARP
    of_warp = -(-registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS // SCHEDULERS // of_warp * SCHEDULERS // warps
    of_block = -(-(shared + SHARED_SYSTEM) // SHARED_UNIT) * SHARED_UNIT
    blocks = min(BLOCKS, THREADS // threads, by_registers, SHARED // of_block)
    return blocks * threads / THREADS
