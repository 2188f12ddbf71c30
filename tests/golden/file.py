"""The file of digests: reading it, comparing with it, and writing it, which it seldom allows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from fastdrop_kernels import contract
from tests.support.oracle import ROOT, Array
from tests.support.scenarios.digests import same_nan

FILE = ROOT / "tests" / "golden" / "golden.json"
Digests = dict[str, str]


def digest(result: Array) -> str:
    """Return a digest of an array's shape, dtype and values; all NaN are alike."""
    found = hashlib.sha256(f"{result.shape} {result.dtype.name}".encode())
    found.update(same_nan(result).tobytes())
    return found.hexdigest()[:12]


def digests(results: Iterable[tuple[str, Array]]) -> Digests:
    """Return the digest of each case."""
    found: Digests = {}
    for name, result in results:
        assert name not in found, name
        found[name] = digest(result)
    return found


def load(file: Path = FILE) -> Digests:
    """Return the digests that are kept, of this version of the contract; none of another."""
    if not file.exists():
        return {}
    kept = json.loads(file.read_text(encoding="utf-8"))
    found: Digests = kept["digests"] if kept["contract"] == contract.VERSION else {}
    return found


class Frozen(Exception):
    """A case would change, or vanish, within one version of the mask contract."""


def save(found: Digests, file: Path = FILE) -> int:
    """Write the digests, and return how many are new.

    Raises
    ------
    Frozen
        If one that is kept is another now, or is not there: nothing is written then.
    """
    kept = load(file)
    changed = [name for name in kept if found.get(name) != kept[name]]
    if changed:
        some = "\n".join(f"  {name}" for name in changed[:20])
        raise Frozen(
            f"{len(changed)} of {len(kept)} results are not what they were:\n{some}\n"
            f"The mask contract is still version {contract.VERSION}, and results are frozen with "
            "it: mend the code. A new version is a breaking release."
        )
    content = {"contract": contract.VERSION, "digests": found}
    file.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
    return len(found) - len(kept)
