"""``python -m fastdrop``: show the environment, and check that masks are right on this machine.

``python -m fastdrop warmup`` compiles kernels ahead, by `fastdrop.warmup`, and ``python -m fastdrop
bits`` streams the bits of masks to other programs, by `_tools.bits`.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from . import warmup
from ._tools import bits
from ._tools.environment import show_versions
from ._tools.self_check import checks


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop",
        description="Show the environment, and check that masks are right on this machine.",
    )
    about = "compile kernels ahead, as fastdrop.warmup does"
    commands = parser.add_subparsers(dest="command")
    bits.add_arguments(commands.add_parser)
    command = commands.add_parser(
        "warmup", help=about, description=f"{about[0].upper()}{about[1:]}; lists have commas."
    )
    for name, text in (
        ("dtypes", "default: float32,float64; of functions on batches, their usual ones"),
        ("functions", "default: dropout,masked_fill,dropout_mask; all: all of them, minutes"),
        ("activations", "of bias_act_dropout_add; default: all"),
        ("arch", "with --cuda, compute capabilities such as 90; default: of the GPUs here"),
    ):
        command.add_argument(f"--{name}", type=_names, metavar="NAMES", help=text)
    command.add_argument("--p-arrays", action="store_true", help="for arrays of p, too")
    command.add_argument("--cuda", action="store_true", help="kernels of the GPU, not of the CPU")
    return parser


def _warm_up(args: argparse.Namespace) -> int:
    given = {name: getattr(args, name) for name in ("dtypes", "functions", "activations", "arch")}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if args.functions == ["all"]:
        chosen["functions"] = "all"
    start = time.perf_counter()
    try:
        warmup(**chosen, p_arrays=args.p_arrays, device="cuda" if args.cuda else "cpu")
    except (TypeError, ValueError, RuntimeError, ImportError) as error:
        print(f"fastdrop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastdrop: interrupted; what was compiled is kept", file=sys.stderr)
        return 130
    print(f"ready in {time.perf_counter() - start:.1f} s")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Print the report and the self-check; return 1 if that fails. Or compile ahead."""
    args = _parser().parse_args(argv)
    if args.command == "warmup":
        return _warm_up(args)
    if args.command == "bits":
        return bits.write(args)
    show_versions()
    print("\nself-check, exact comparison with the NumPy reference:")
    start = time.perf_counter()
    failed = 0
    for name, passed in checks():
        print(f"  {'ok    ' if passed else 'FAILED'} {name}", flush=True)
        failed += not passed
    print(
        f"{'all passed' if not failed else f'{failed} FAILED'} "
        f"in {time.perf_counter() - start:.1f} s"
    )
    if failed:
        print("Masks drawn on this machine are wrong. Please report it, with all of the above.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
