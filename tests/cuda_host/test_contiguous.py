"""The schedule CONTIGUOUS where a warp's groups begin and end, for every place in a Philox block.

A warp decides for all its groups together, and leaves some to the next where groups cut blocks. So
its arithmetic, and that of the grid, differ with the mask index and the alignment of y.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastdrop_kernels.cuda import driver, launch, modules, operations
from tests.support.cuda_host.cases import KEY, check, dtype_of, made, tied_threshold

WARPS = modules.THREADS // launch.WARP
STORED = ["drop float32", "drop float64", "drop bfloat16", "fill int8", "fill complex128", "mark"]


@pytest.mark.usefixtures("cuda_on_host")
@pytest.mark.parametrize("offset", range(8))
@pytest.mark.parametrize("what", STORED)
def test_every_group_is_some_warps(what: str, offset: int, rng: np.random.Generator) -> None:
    dtype = dtype_of(what)
    group = 16 // dtype.itemsize
    per_block = modules.THREADS * modules.IN_FLIGHT * (2 if what == "mark" else 1)
    for left in (0, WARPS * max(8 // group, 2)):  # groups, to the warps of the next CUDA block
        for more in (-1, 0, group + 1):  # elements
            shape = ((per_block - left) * group + more,)
            by = dtype.itemsize * (more % group)
            x = None if what == "mark" else made(shape, dtype, by)
            threshold = tied_threshold({"offset": offset}, shape, shape[0] // 3, more % 2)
            check(what, made(shape, dtype, by), x, threshold, rng, offset=offset)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_no_cuda_block_is_without_groups(dtype: str) -> None:
    operation = driver.operation("drop", np.dtype(dtype))
    size = np.dtype(dtype).itemsize
    group = 16 // size
    full = modules.THREADS * modules.IN_FLIGHT * group

    def grids(elements: int, index: int) -> list[int]:
        steps, one = ((size,), (size,)), (elements,)
        planned = launch.launch_plan(operation, one, steps, index, (1,), 1 << 31)
        return [planned_launch.grid for planned_launch in planned(*KEY, 0, 0, 0)]

    assert grids(full, 0) == grids(full, 8) == [1]
    assert grids(full + 1, 0) == [2]
    # An odd index: the last groups of each warp are left to the next.
    open_groups = WARPS * max(8 // group, 2)
    empty = 1 % 8 // group if group < 8 else 0
    assert grids(full - (open_groups + empty) * group, 1) == [1]
    assert grids(full - (open_groups + empty) * group + 1, 1) == [2]
    if group < 8:  # groups are parts of blocks, and a warp begins with the first of a block
        assert grids(full - group, group) == [1]
        assert grids(full - group + 1, group) == [2]


def test_masks_have_twice_as_many_groups_per_thread() -> None:
    mark = operations.operation("mark")
    group = mark.storage.group
    elements = 2 * modules.THREADS * modules.IN_FLIGHT * group
    planned = launch.launch_plan(mark, (elements,), ((1,),), 0, (1,), 1 << 31)
    assert [one.grid for one in planned(*KEY, 0, 0)] == [1]
