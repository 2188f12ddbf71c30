"""List and run the recipes, or print one and run it."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence

from fastdrop.examples.recipes import RECIPES, recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Run recipes; return 1 if one fails, or if the named one needs a missing package."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.recipes", description=__doc__
    )
    parser.add_argument("name", nargs="?", choices=RECIPES, help="which one (default: all)")
    name = parser.parse_args(argv).name
    status = 0
    for each in RECIPES if name is None else (name,):
        try:
            module = recipe(each)
            if name is not None:
                print(inspect.getsource(module))
            print(f"{each:20}{str(module.__doc__).partition(chr(10))[0]}")
            module.run()
        except ModuleNotFoundError as error:
            print(f"{each:20}not run, it needs {error.name}: pip install {error.name}")
            status |= name is not None
        except AssertionError as error:
            print(f"{'':20}DOES NOT HOLD: {error}")
            status = 1
    if not status:
        print("All that were run hold.")
    return int(status)


if __name__ == "__main__":
    raise SystemExit(main())
