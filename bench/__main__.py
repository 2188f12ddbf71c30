"""Entry point of ``python -m bench``: reads the command and its options, and calls its module."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .common import BenchError, parse_names, parse_positive, parse_sizes

OPTIONS: dict[str, dict[str, Any]] = {
    "sections": {"type": parse_names, "metavar": "NAMES", "help": "what to run (default: all)"},
    "only": {"type": parse_names, "metavar": "NAMES", "help": "only these, by name"},
    "family": {"type": parse_names, "metavar": "NAMES", "help": "only these families"},
    "sizes": {"type": parse_sizes, "help": "element counts, such as 1Ki,64Ki,16Mi"},
    "dtypes": {"type": parse_names, "metavar": "NAMES", "help": "data types (default: all)"},
    "seconds": {"type": parse_positive, "help": "time for timing; some rounds are always made"},
    "minutes": {"type": parse_positive, "help": "how long (default: 30; quality: 60, of CPU time)"},
    "seed": {"type": int, "help": "repeat the cases of another run"},
    "case": {"metavar": "N", "help": "with --seed: this case alone, or an event, as in e12"},
    "large": {"action": "store_true", "help": "instead: arrays past 2**32 elements, 9 GiB"},
    "gib": {"type": parse_positive, "help": "size of the file (default: 8)"},
    "against": {"type": Path, "metavar": "PATH", "help": "another checkout, measured by turns"},
    "first": {"type": Path, "metavar": "FOLDER", "help": "all that a first run should do, there"},
    "rehearse": {"action": "store_true", "help": "with --first: the same steps without a GPU"},
    "instructions": {"action": "store_true", "help": "count instructions, without a GPU"},
    "short": {"action": "store_true", "help": "a minute or less"},
    "dieharder": {"type": Path, "metavar": "FILE", "help": "what dieharder has printed"},
    "quick": {"action": "store_true", "help": "fewer sizes and rounds; figures are rough"},
    "check": {"action": "store_true", "help": "make every call once, to see that all works"},
    "output": {"type": Path, "metavar": "FILE", "help": "where to write (default: bench/results)"},
    "results": {"type": Path, "metavar": "FILE", "help": "results file (default: all)"},
    "threshold": {"type": parse_positive, "help": "least change that counts (default: 0.1)"},
    "fail": {"action": "store_true", "help": "exit 1 where something is slower or gone"},
}
# Command: module, options, help.
COMMANDS = {
    "run": ("cpu", "sections only sizes seconds quick check output", "all of it; the default"),
    "small": ("cpu", "only sizes seconds quick check output", "calls of 10 to 4,096 elements"),
    "layouts": ("layouts", "against only sizes seconds check output", "other ways to call it"),
    "family": ("family", "only sizes seconds check output", "the other functions"),
    "batch": ("batch", "family seconds check output", "the functions on batches"),
    "loops": ("loops", "only seconds check output", "dropout in real training steps"),
    "torch": (
        "torch_calls",
        "sections only sizes seconds check output",
        "dropout of torch's tensors",
    ),
    "dask": (
        "dask_calls",
        "sections only sizes seconds check output",
        "dropout of Dask arrays, on worker processes",
    ),
    "latency": ("processes", "seconds check output", "single calls beside busy processes"),
    "start": ("processes", "only check output", "the first call of fresh processes"),
    "steady": ("layouts", "check output", "the plain calls in many fresh processes"),
    "files": ("files", "gib check output", "a file larger than memory, beside copying it"),
    "endure": (
        "endure",
        "minutes seed case large check output",
        "random calls for half an hour, all compared",
    ),
    "gpu": (
        "gpu",
        "first rehearse instructions quick check only sizes dtypes output",
        "the same on a GPU",
    ),
    "sweep": ("sweep", "only sizes dtypes output", "launch shapes of the GPU's plain kernel"),
    "quality": (
        "quality",
        "only minutes short check dieharder output",
        "whether masks are random",
    ),
    "compare": ("compare", "old new threshold fail", "what is slower in a newer file"),
    "readme": ("readme", "check", "write the tables of the pages from the results"),
    "plot": ("plot", "results output", "draw the results"),
}
EXTRA = (
    *("matplotlib", "rich", "scipy", "sklearn", "threadpoolctl", "tomli", "torch", "dask"),
    "distributed",
)
INTERRUPTED = 130  # what a shell gives a process that Ctrl-C ended


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; without a command it is ``run``."""
    argv = list(argv)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "run")
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks of fastdrop.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, options, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        for option in options.split():
            if option in OPTIONS:
                command.add_argument(f"--{option}", **OPTIONS[option])
            else:
                command.add_argument(option, type=Path)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    args = parse(argv)
    try:
        # Only now: reading results needs no matplotlib.
        module = importlib.import_module(f"bench.{COMMANDS[args.command][0]}")
        status: int = module.main(args)
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        extras = f"bench,{error.name}" if error.name in ("torch", "dask") else "bench"
        way = "distributed" if error.name == "distributed" else f"-e '.[{extras}]'"
        print(f"bench: {error.name} is missing: pip install {way}", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing more is written", file=sys.stderr)
        return INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
