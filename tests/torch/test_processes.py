"""Masks in several processes: forked and spawned ones, and the workers of a DataLoader.

The processes are those of `tests.support.scenarios.torch_processes`, all of which are ended if one
does not end in time.
"""

from __future__ import annotations

import io
import pickle

import pytest
import torch
from torch import nn

import fastdrop.torch as fdt
from tests.support.scenarios.torch_calls import keyed
from tests.support.subprocesses import run_scenario
from tests.support.systems import needs_fork


def succeeds(scenario: str) -> bool:
    return run_scenario("torch_processes", scenario).strip() == "done"


@needs_fork
def test_forked_children_compute_after_their_parent_used_its_threads() -> None:
    assert succeeds("forked")


@pytest.mark.parametrize(
    "method",
    [pytest.param("fork", marks=needs_fork), pytest.param("spawn", marks=pytest.mark.slow)],
)
def test_processes_share_modules_and_tensors(method: str) -> None:
    assert succeeds(method)


@pytest.mark.parametrize(
    "method",
    [pytest.param("fork", marks=needs_fork), pytest.param("spawn", marks=pytest.mark.slow)],
)
def test_workers_of_a_loader_draw_masks_of_their_own(method: str) -> None:
    assert succeeds(f"loader_{method}")


def test_modules_go_through_pickle() -> None:
    layer = keyed()
    model = nn.Sequential(nn.Linear(64, 64), layer, fdt.DropPath(0.2, mode="batch"), fdt.Dropout())
    again = pickle.loads(pickle.dumps(model))
    assert str(again) == str(model)
    again[1](torch.ones(64))
    assert again[1].key.tolist() == [7, 4]
    assert layer.key is not None and layer.key.tolist() == [7, 3]  # a copy of its own
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    x = torch.ones(3, 64)
    torch.manual_seed(1)
    expected = model(x)
    torch.manual_seed(1)
    assert torch.equal(torch.load(saved, weights_only=False)(x), expected)
