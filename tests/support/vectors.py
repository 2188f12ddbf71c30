"""Known answers of Philox4x32, and the vectors of the mask contract, in tests/data."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np

import fastdrop as fd
from tests.support.oracle import ROOT, Array

DATA = ROOT / "tests" / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "mask_vectors.json").read_text())


class Answer(NamedTuple):
    rounds: int
    counter: list[int]
    key: list[int]
    output: list[int]


def known_answers() -> list[Answer]:
    answers = []
    for line in (DATA / "philox4x32_kat.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        rounds, *words = line.replace("->", " ").split()
        c = [int(word, 16) for word in words]
        answers.append(Answer(int(rounds), c[:4], c[4:6], c[6:]))
    return answers


ANSWERS = known_answers()


def arguments_of(v: dict[str, Any]) -> tuple[tuple[int, ...], float, fd.Key, dict[str, Any]]:
    """Shape, p, key and the rest of a mask vector."""
    where: dict[str, Any] = {
        name: tuple(v[name]) if isinstance(v[name], list) else v[name]
        for name in ("offset", "global_shape", "noise_shape")
        if name in v
    }
    p = float.fromhex(v["p"])
    return tuple(v["shape"]), p, fd.Key(int(v["seed"]), int(v["stream"])), where


def check_mask(kept: Array, v: dict[str, Any]) -> None:
    """Compare a mask with a mask vector."""
    assert kept.shape == tuple(v["shape"])
    flat = kept.ravel()
    packed = np.packbits(flat, bitorder="little")
    assert "".join("01"[bit] for bit in flat[:64].astype(int)) == v["first64"]
    assert int((~flat).sum()) == v["dropped"]
    assert hashlib.sha256(packed.tobytes()).hexdigest() == v["packed_sha256"]
