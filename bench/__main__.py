"""Entry point of ``python -m bench``: picks the command and hands over to its module."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from .common import BenchError

# Each is a module here with add_arguments(parser) and main(args) -> exit status.
COMMANDS = {
    "run": "validate, time, print tables, write results (what is done when no command is given)",
    "small": "time calls of 10 to 4,096 elements, what is made beside them, and where time goes",
    "family": "time the family beside the usual NumPy way and PyTorch's",
    "loops": "time dropout in real training steps: stored mask, fd.Mask, layer",
    "latency": "time single calls beside busy processes, threaded and serial",
    "start": "time the first call of fresh processes, from warm and empty caches",
    "steady": "time the plain calls in many fresh processes: is any of them slower?",
    "layouts": "rates of layouts that are not plain; with --against, of two checkouts",
    "gpu": "the same on a GPU, beside copies, torch, Triton, JAX and the CuPy idiom",
    "compare": "show what is slower in a results file than in an older one",
    "readme": "write the README's tables from the results, or --check them",
    "plot": "draw throughput, memory, steps and threads from the results",
}
EXTRA = ("matplotlib", "rich", "sklearn", "threadpoolctl")
INTERRUPTED = 130  # what a shell gives a process that Ctrl-C ended


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    argv = list(argv)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "run")
    top = argparse.ArgumentParser(
        prog="python -m bench",
        description="Benchmarks of fastdrop.",
        epilog="\n".join(f"  {name:8}{text}" for name, text in COMMANDS.items())
        + "\n\nOptions of a command: python -m bench COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("command", choices=COMMANDS, help="run, where it is left out")
    command = top.parse_args(argv[:1]).command
    try:
        # Only now: reading results needs no rich, timing no matplotlib.
        module = importlib.import_module(f"bench.{command}")
        parser = argparse.ArgumentParser(
            prog=f"python -m bench {command}", description=module.__doc__
        )
        module.add_arguments(parser)
        status: int = module.main(parser.parse_args(argv[1:]))
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        print(f"bench: {error.name} is missing: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; nothing is written", file=sys.stderr)
        return INTERRUPTED
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
