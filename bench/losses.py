"""What fastdrop loses, in sentences: to peers, to other ways to call it, to the roof."""

from __future__ import annotations

from .common import figure, listing, size_label
from .contenders import ROOF
from .results import Results, find, rows, sizes

# Differences smaller than this are noise on a shared machine, not a loss.
NOISE = 1.05


def _slower(results: Results, section: str, ours: str, other: str) -> str:
    """List the sizes at which `other` beats `ours`, with the factor at each."""
    found = []
    for elements in sizes(results, section):
        mine = find(results, section, ours, elements)
        theirs = find(results, section, other, elements)
        if mine and theirs and mine["ratio"] > NOISE * theirs["ratio"]:
            factor = figure(mine["ratio"] / theirs["ratio"])
            found.append(f"{size_label(elements)} ({factor} times)")
    return listing(found) if found else ""


# Sections in which every peer is compared with every way of ours, and what is added to a loss.
COMPARED = {"forward": "", "small": ", of small calls", "step": ", forward plus backward"}


def losses(results: Results) -> list[str]:
    """Say where fastdrop is slower than a peer, than another way to call it, or than the roof."""
    entrants = results["contenders"]
    lines = []
    compared = False
    for section, aside in COMPARED.items():
        here = {row["contender"] for row in rows(results, section)}
        ours = [n for n, entrant in entrants.items() if entrant["role"] == "ours" and n in here]
        peers = [n for n, entrant in entrants.items() if entrant["role"] == "peer" and n in here]
        compared |= bool(ours and peers)
        for mine in ours:
            for peer in peers:
                if where := _slower(results, section, mine, peer):
                    labels = entrants[mine]["label"], entrants[peer]["label"]
                    lines.append(f"{labels[0]}{aside}: slower than {labels[1]} at {where}.")
    if compared and not lines:
        lines.append("No peer is faster than fastdrop at any size measured.")
    for mine, other, text in (
        ("fastdrop", "fastdrop-1", "All threads: slower than 1 thread"),
        ("fastdrop-new", "fastdrop", "New array: slower than out=y"),
        ("fastdrop-1", ROOF.name, "1 thread: slower than multiplying by a constant"),
        ("fastdrop", ROOF.name, "All threads: slower than multiplying by a constant"),
    ):
        if where := _slower(results, "forward", mine, other):
            lines.append(f"{text} at {where}.")
    return lines
