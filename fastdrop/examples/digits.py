"""Train on handwritten digits without dropout, with stored masks, and with fastdrop.

Run it with ``python -m fastdrop.examples.digits``; ``--help`` lists the options. The network is
the three-layer one of the CS231n notes in plain NumPy (`_network`), the data are the real scans
that come with scikit-learn: 500 to train on, of which one in five has a wrong label (`_training`).
For each seed, three networks with the same initial weights train on the same minibatches; they
differ in their dropout layers only (`_variants`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastdrop._functions.progress import progress_bar
from fastdrop.examples._command_line import are_installed, figure_file, positive

EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib", "rich": "rich"}
FULL = {"seeds": 5, "epochs": 40, "hidden": 512}
QUICK = {"seeds": 1, "epochs": 30, "hidden": 256}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.digits",
        description="Compare no dropout, stored masks and fastdrop on handwritten digits.",
    )
    for name, what in {
        "seeds": "how many networks to train of each variant",
        "epochs": "times to go through the training set",
        "hidden": "units in either hidden layer",
    }.items():
        parser.add_argument(
            f"--{name}", type=positive, metavar="N", help=f"{what} (default: {FULL[name]})"
        )
    parser.add_argument(
        "--output",
        type=figure_file,
        default=Path("digits.png"),
        metavar="FILE",
        help="where to write the figure, as .png, .pdf or .svg (default: %(default)s)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run of seconds: one seed, a smaller network"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="instead of training: check the gradients numerically, and that a training that was "
        "saved and resumed ends in identical weights",
    )
    args = parser.parse_args(argv)
    for name, default in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
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
        The exit status: 0 on success, 1 if a check failed or a package is missing.
    """
    args = parse_args(argv)
    if not are_installed(EXTRAS):
        return 1
    if args.check:
        from fastdrop.examples._checks import run_checks

        return 0 if run_checks() else 1
    compare(args.seeds, args.epochs, args.hidden, args.output)
    return 0


def compare(seeds: int, epochs: int, hidden: int, output: Path) -> None:
    """Train all variants for all seeds, print the table, write the figure."""
    # Imported here, so that --help and the message on missing packages work without them.
    from rich.console import Console
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    from fastdrop.examples._report import Results, explanation, plot, summary
    from fastdrop.examples._training import Trainer, load_data
    from fastdrop.examples._variants import VARIANTS

    console = Console()
    results: Results = {variant: [] for variant in VARIANTS}

    def turns() -> Iterator[Trainer]:
        for seed in range(seeds):
            data = load_data(seed=seed)
            trainers = {
                variant: Trainer(data, layers(seed), seed=seed, hidden=hidden, epochs=epochs)
                for variant, layers in VARIANTS.items()
            }
            for _ in range(epochs):
                # Interleaved, so that other load on the machine affects all variants equally.
                yield from trainers.values()
            for variant, trainer in trainers.items():
                results[variant].append(trainer.finish())

    shown = progress_bar(True, "Training")
    # One thread for the matrix products: a second gains little at this size, and if another process
    # occupies a core, the two threads wait for each other and a step takes ten times as long.
    with threadpool_limits(1, user_api="blas"):
        for trainer in shown(turns(), seeds * len(VARIANTS) * epochs):
            trainer.train_epoch()
    console.print(summary(results))
    console.print(explanation(results))
    plot(results, output)
    console.print(f"Figure: {output}")


if __name__ == "__main__":
    raise SystemExit(main())
