"""``python -m tests.emulated.check``: compare golden cases with their digests, in the emulator."""

from __future__ import annotations

import platform
import sys

import numpy as np

from tests.golden import file

from .cases import parts


def main(short: bool) -> int:
    """Compare; return the exit status."""
    found: file.Digests = {}
    for prefix, cases in parts(short):
        with np.errstate(all="ignore"):
            found |= file.digests((prefix + name, result) for name, result in cases)
    kept = file.load()
    changed = [name for name in sorted(found) if found[name] != kept[name]]
    what = f"{len(found)} of {len(kept)} golden results on {platform.machine()}"
    print("\n".join([*changed, f"{what}: {len(changed) or 'none'} differ from x86-64's."]))
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main("--short" in sys.argv[1:]))
