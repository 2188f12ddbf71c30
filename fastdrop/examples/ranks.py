"""Dropout on several ranks: each draws its part of one mask, whatever the number of ranks.

Run it with ``python -m fastdrop.examples.ranks``, which starts processes, or under MPI with
``mpirun -n 4 python -m fastdrop.examples.ranks``. An array is cut over the ranks in three ways,
and a small network is trained in two (`_rank_model`). All is compared with one process: masks bit
for bit, losses up to the order in which their terms are added. With ``--checkpoint FILE``, a second
run goes on where the first ended, on any number of ranks, with the masks of a run without an end.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd
from fastdrop.examples import _rank_model as model
from fastdrop.examples._command_line import positive
from fastdrop.examples._rank_model import Array, Network, Training
from fastdrop.examples._rank_processes import Communicator, OneProcess, launch

WAYS = ("tensor-parallel", "data-parallel")  # of training
# What Open MPI, MPICH and PMIx tell the processes that they start.
MPI_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK")


class Results(NamedTuple):
    """What the ranks computed, as each of them knows in the end."""

    size: int
    parts: dict[str, list[tuple[tuple[int, ...], Array]]]
    trainings: dict[str, Training]


def work(ranks: Communicator, networks: dict[str, Network], steps: range) -> Results:
    """Do one rank's part."""
    model.compile_once(ranks)
    return Results(
        ranks.size,
        {way: ranks.allgather(model.draw(ranks, axis)) for way, axis in model.AXES.items()},
        {way: model.train(ranks, way, networks[way], steps) for way in WAYS},
    )


def report_parts(results: Results) -> bool:
    """Print what each rank drew; return whether the parts together are the single call's result."""
    print(f"An array of {model.SHAPE}, one key, {results.size} ranks. # is kept, . is dropped:\n")
    single, right = fd.dropout(model.activations(), model.P, rng=model.KEY), True
    for way, parts in results.parts.items():
        print(f"{way}")
        for rank, (offset, y) in enumerate(parts):
            bits = "".join(".#"[int(kept)] for kept in y.reshape(-1)[:24] != 0)
            print(f"  rank {rank}   shape {y.shape!s:13} offset {offset!s:12} {bits}...")
        whole = np.concatenate([y for _, y in parts], axis=model.AXES[way])
        right &= _says(whole.tobytes() == single.tobytes(), "together the bits of a single call")
    return right


def report_training(results: Results, steps: range) -> bool:
    """Print losses; return whether masks and losses are those of one process, from the start."""
    right = True
    for way, training in results.trainings.items():
        alone = model.train(OneProcess(), way, model.untrained(), range(steps.stop))
        print(f"{way} training, steps {steps.start} to {steps.stop - 1}")
        print("  losses " + " ".join(f"{loss:.6f}" for loss in training.losses))
        masks = zip(training.masks, alone.masks[steps.start :], strict=True)
        right &= _says(all(np.array_equal(*pair) for pair in masks), "the masks of one process")
        close = np.allclose(training.losses, alone.losses[steps.start :], rtol=1e-12, atol=0)
        right &= _says(close, "its losses, to 12 digits")
    return right


def _says(right: bool, what: str) -> bool:
    print(f"  {what}: {'yes' if right else 'NO'}")
    return right


def load(checkpoint: Path | None) -> tuple[dict[str, Network], int]:
    """Return the networks and the number of the step to go on with."""
    if checkpoint is None or not checkpoint.exists():
        return {way: model.untrained() for way in WAYS}, 0
    with np.load(checkpoint) as saved:
        networks = {
            way: Network(*(saved[f"{way} {name}"] for name in Network._fields)) for way in WAYS
        }
        return networks, int(saved["step"])


def save(checkpoint: Path, results: Results, step: int) -> None:
    """Write the networks and the number of the next step."""
    arrays: dict[str, Any] = {
        f"{way} {name}": weights
        for way, training in results.trainings.items()
        for name, weights in training.network._asdict().items()
    }
    with checkpoint.open("wb") as file:  # `savez` would append .npz to a name
        np.savez(file, step=np.array(step), **arrays)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.ranks", description="Draw one mask on several ranks."
    )
    parser.add_argument(
        "--ranks",
        type=positive,
        default=4,
        metavar="N",
        help="processes to start; under MPI, mpirun says how many (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=positive, default=4, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="go on from there, if it is there, and save"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if masks and losses are those of one process, else 1."""
    args = parse_args(argv)
    networks, start = load(args.checkpoint)
    steps = range(start, start + args.steps)
    if any(name in os.environ for name in MPI_VARIABLES):
        if find_spec("mpi4py") is None:
            print("Under MPI this example needs mpi4py: pip install mpi4py")
            return 1
        from mpi4py import MPI

        results = work(MPI.COMM_WORLD, networks, steps)
        if MPI.COMM_WORLD.rank:
            return 0  # rank 0 reports
    else:
        results = launch(args.ranks, work, networks, steps)[0]
    right = report_parts(results)
    right &= report_training(results, steps)
    if args.checkpoint is not None:
        save(args.checkpoint, results, steps.stop)
        print(f"Saved in {args.checkpoint}: go on with any number of ranks.")
    return 0 if right else 1


if __name__ == "__main__":
    raise SystemExit(main())
