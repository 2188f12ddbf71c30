"""Train a small transformer in torch without dropout, with torch's, and with fastdrop.torch.

Run it with ``python -m fastdrop.examples.torch_step``; ``--help`` lists the options. The text is
one that comes with Python (`_torch_text`), and the networks (`_torch_models`) are the same but for
their dropout (`_torch_training`). It prints where the time of a step goes (`_torch_parts`), and
goes on from a checkpoint, in this process and in a new one, to the same losses bit for bit.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fastdrop._functions.progress import progress_bar
from fastdrop.examples._command_line import are_installed, figure_file, positive, seed_number

if TYPE_CHECKING:
    from fastdrop.examples._torch_report import Results
    from fastdrop.examples._torch_text import Corpus
    from fastdrop.examples._torch_training import Settings, Trainer

EXTRAS = {"matplotlib": "matplotlib", "rich": "rich"}
FULL = {"steps": 100, "samples": 32, "length": 64, "width": 128}
QUICK = {"steps": 12, "samples": 8, "length": 32, "width": 32}
TESTS = 10  # of the loss on the text held out, in a training
# From PyTorch's own index, where it is no build for a GPU, of gigabytes.
INSTALL = "pip install torch --index-url https://download.pytorch.org/whl/cpu"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.torch_step",
        description="Train a small transformer in torch without dropout, with torch's dropout and "
        "with fastdrop.torch: time of a step by part, losses, and a resume from a checkpoint.",
    )
    for name, what in {
        "steps": "training steps of each network",
        "samples": "samples of a minibatch",
        "length": "characters of a sample",
        "width": "width of the network, a multiple of 4",
    }.items():
        parser.add_argument(
            f"--{name}", type=positive, metavar="N", help=f"{what} (default: {FULL[name]})"
        )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads of torch (default: torch's)"
    )
    parser.add_argument(
        "--output",
        type=figure_file,
        default=Path("torch_step.png"),
        metavar="FILE",
        help="where to write the figure, as .png, .pdf or .svg (default: %(default)s)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run of seconds: a small network, a few steps"
    )
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="keep the checkpoint there")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="instead: go on from a checkpoint to the end, and print the loss of each step",
    )
    args = parser.parse_args(argv)
    for name, default in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    if args.width % 4:
        parser.error(f"--width {args.width}: has to be a multiple of 4, the number of heads")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; that of the process by default.

    Returns
    -------
    int
        The exit status: 0 on success, 1 if a package is missing.

    Raises
    ------
    RuntimeError
        If a training that was resumed has other losses than the one that was not interrupted.
    """
    args = parse_args(argv)
    if find_spec("torch") is None:
        print(f"This example needs torch: {INSTALL}", file=sys.stderr)
        return 1
    if args.resume:
        return resume(args.resume)
    if not are_installed(EXTRAS):
        return 1
    import torch

    from fastdrop.examples._torch_training import Settings

    if args.threads:
        torch.set_num_threads(args.threads)
    settings = Settings(args.seed, args.steps, args.samples, args.length, args.width)
    if args.checkpoint:
        compare(settings, args.output, args.checkpoint)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(settings, args.output, Path(folder, "checkpoint.pt"))
    return 0


def compare(settings: Settings, output: Path, checkpoint: Path) -> None:
    """Train all networks, print the table, write the figure, and resume one of them."""
    # Imported here, so that --help and the message on missing packages work without them.
    import torch
    from rich.console import Console

    from fastdrop.examples._torch_report import explanation, plot, summary
    from fastdrop.examples._torch_text import load_corpus
    from fastdrop.examples._torch_training import OURS, VARIANTS, Trainer

    console, corpus = Console(), load_corpus()
    console.print(
        f"Text: {corpus.about}, {len(corpus.train):,} characters to train on and "
        f"{len(corpus.held_out):,} held out.",
        highlight=False,
    )
    trainers = {variant: Trainer(variant, settings, corpus) for variant in VARIANTS}
    results = train(trainers, checkpoint)
    console.print(summary(results))
    console.print(explanation(results, torch.get_num_threads()))
    whole = [step.loss for step in results[OURS].steps]
    check_resume(whole[settings.steps // 2 :], checkpoint, corpus)
    console.print(
        f"Resumed from a checkpoint after step {settings.steps // 2}, in this process and in a new "
        f"one: the losses of all {settings.steps - settings.steps // 2} steps are identical, bit "
        "for bit. The checkpoint has the network, the optimiser and torch.get_rng_state(), and "
        "nothing of dropout; with another state of the generator the losses differ."
    )
    plot(results, output)
    console.print(f"Figure: {output}")


def train(trainers: dict[str, Trainer], checkpoint: Path) -> Results:
    """Train networks by turns; write a checkpoint of fastdrop's in the middle."""
    from fastdrop.examples._torch_report import Run
    from fastdrop.examples._torch_training import OURS

    results: Results = {variant: Run() for variant in trainers}
    steps = trainers[OURS].settings.steps
    for step in progress_bar(True, "Training")(range(steps), steps):
        if step == steps // 2:
            trainers[OURS].save(checkpoint)
        # Interleaved, so that other load on the machine affects all networks equally.
        for variant, trainer in trainers.items():
            results[variant].steps.append(trainer.train_step(parts=step % 2 == 1))
        if (step + 1) % max(1, steps // TESTS) == 0 or step + 1 == steps:
            for variant, trainer in trainers.items():
                results[variant].held_out.append((step + 1, trainer.held_out_loss()))
    return results


def check_resume(whole: list[float], checkpoint: Path, corpus: Corpus) -> None:
    """Go on from a checkpoint, here and in a new process; raise RuntimeError if losses differ."""
    import torch

    from fastdrop.examples._torch_training import Trainer

    def rest(trainer: Trainer) -> list[float]:
        return [trainer.train_step().loss for _ in whole]

    found = {
        "in this process": rest(Trainer.load(checkpoint, corpus)),
        "in a new process": resumed_losses(checkpoint),
    }
    for where, losses in found.items():
        if losses != whole:
            raise RuntimeError(f"resumed {where}, the losses differ: {losses} and {whole}")
    other = Trainer.load(checkpoint, corpus)
    other.rng_state = torch.Generator().manual_seed(1).get_state()
    if rest(other) == whole:  # then the comparison could not have failed
        raise RuntimeError("with another state of the generator, the losses are the same")


def resumed_losses(checkpoint: Path) -> list[float]:
    """Return the losses of a training that a new process resumes."""
    paths = os.pathsep.join(filter(None, sys.path))  # it finds what this process finds
    command = [sys.executable, "-m", "fastdrop.examples.torch_step", "--resume", str(checkpoint)]
    environment = {**os.environ, "PYTHONPATH": paths}
    child = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE)
    return [float.fromhex(line.split()[-1]) for line in child.stdout.splitlines()]


def resume(checkpoint: Path) -> int:
    """Go on from a checkpoint, and print the loss of each step, the last word of which is exact."""
    from fastdrop.examples._torch_text import load_corpus
    from fastdrop.examples._torch_training import Trainer

    trainer = Trainer.load(checkpoint, load_corpus())
    while trainer.step < trainer.settings.steps:
        loss = trainer.train_step().loss
        print(f"step {trainer.step}: loss {loss:.6f}, {loss.hex()}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
