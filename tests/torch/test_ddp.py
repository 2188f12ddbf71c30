"""Two processes with `DistributedDataParallel`, or with the activations of one model, on gloo.

They are those of `tests.support.scenarios.torch_ddp`, both of which are ended if one does not end
in time: masks differ by rank and parameters do not, and shards of one mask put together give, bit
for bit, what one process gives.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed

from tests.support.subprocesses import run_scenario


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="this torch has no gloo",
)
def test_two_ranks_on_gloo(tmp_path: Path) -> None:
    environment = {"GLOO_SOCKET_IFNAME": "lo"}
    assert (
        run_scenario("torch_ddp", tmp_path, environment=environment, seconds=20).strip() == "done"
    )
