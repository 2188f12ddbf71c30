"""Every function, for a checker of memory accesses.

It runs as ``python -m tests.support.scenarios.gpu_memory``.

Allocations come from the driver one by one, so that a checker sees the bounds of each.
"""

from __future__ import annotations

from tests.support import gpu_cases
from tests.support.devices import Device, cupy_or_skip


def main() -> None:
    """Make calls of every form; their results are compared too."""
    cupy_or_skip().cuda.set_allocator(None)
    device = Device()
    for call in gpu_cases.CALLS:
        if not device.takes(call.dtype):
            continue
        for layout in gpu_cases.LAYOUTS:
            gpu_cases.check(device, call, layout, 0.3, {})
        for place in gpu_cases.PLACES[-5:]:
            gpu_cases.check(device, call, gpu_cases.LAYOUTS[0], 0.3, place)
        for n in gpu_cases.SIZES:
            for behind in (0, 1, 3):
                gpu_cases.check_size(device, call, n, behind, {"offset": behind})
    for shape in ((1,), (9,), (2049,), (37, 83)):
        gpu_cases.check_packed(device, shape, 0.3, {"offset": 3})
    print("all right")


if __name__ == "__main__":
    main()
