"""Tables that calls on a GPU read: made once, bounded, and kept while a graph has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support import internals
from tests.support.devices import HostDevice
from tests.support.gpu_batch_cases import OWN, check
from tests.support.oracle import assert_same

IDS = np.arange(60).reshape(4, 15)


def masked(host: HostDevice, special: list[int]) -> Any:
    rule: dict[str, Any] = {"mask_id": 7, "vocab_size": 60, "special": special, "rng": 1}
    made = fd.mask_tokens(host.put(IDS), 0.5, **rule)
    for a, b in zip(made, fd.mask_tokens(IDS, 0.5, **rule), strict=True):
        assert_same(host.get(a), b)


def test_a_gpus_cases_are_right(host: HostDevice) -> None:
    for name in ("mask_tokens, ids", "mask_tokens, places", "keep_k, positions"):
        check(host, name, rng=1)
        check(host, name, rng=1, sample_index=OWN)


@pytest.fixture
def uploads(host: HostDevice, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    tables, made = internals.cupy_tables(), []
    upload = tables.uploaded

    def uploaded(value: Any, device: int) -> Any:
        made.append(upload(value, device))
        return made[-1]

    monkeypatch.setattr(tables, "uploaded", uploaded)
    return made


def test_a_call_like_an_earlier_one_uploads_nothing(host: HostDevice, uploads: list[Any]) -> None:
    masked(host, [1, 2])
    assert len(uploads) == 2  # bits of the ids, and the ids
    masked(host, [1, 2])
    assert len(uploads) == 2
    masked(host, [1, 3])
    assert len(uploads) > 2
    before = len(uploads)
    for _ in range(2):
        fd.keep_k((3, 5), 2, rng=1, like=host.put(IDS))
    assert len(uploads) == before + 1
    fd.keep_k((3, 5), [1, 2, 3], rng=1, like=host.put(IDS))  # which is not kept
    assert len(uploads) == before + 1


def test_few_tables_are_kept(host: HostDevice, uploads: list[Any]) -> None:
    tables = internals.cupy_tables()
    x = host.put(IDS)
    for n in range(1000):
        tables.table(np.array([n]), 0)
    assert len(tables._kept) <= 256 and not tables._captured
    assert len(uploads) == 1000
    large = np.zeros(1 << 18)
    tables.table(large, 0)
    assert all(kept.nbytes < large.nbytes for kept in tables._kept.values())
    assert x.shape == IDS.shape


def test_what_a_graph_captures_stays(
    host: HostDevice, uploads: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = internals.cupy_tables()
    masked(host, [1, 2])
    monkeypatch.setattr(tables, "is_capturing", lambda: True)
    masked(host, [1, 2])
    fd.keep_k((4, 3), 1, rng=fd.sample_keys(1, range(4)), like=host.put(IDS))
    fd.keep_k((2, 5), [1, 2], rng=1, like=host.put(IDS))
    monkeypatch.setattr(tables, "is_capturing", lambda: False)
    captured = [*tables._captured.values()]
    assert len(captured) >= 4
    for n in range(600):
        tables.table(np.array([n]), 0)
    assert [*tables._captured.values()] == captured
    assert all(any(a is b for b in captured) for a in uploads[:2])
    masked(host, [1, 2])
