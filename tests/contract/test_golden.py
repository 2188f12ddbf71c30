"""Results of every public function and layer are frozen by the digests in tests/golden."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from fastdrop_kernels import contract
from tests.golden import cases, file
from tests.support.scenarios.digests import DTYPES


@pytest.mark.minute
@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_result_has_its_digest(dtype: np.dtype[Any]) -> None:
    with np.errstate(all="ignore"):
        found = file.digests(cases.cases(dtype))
    kept = {k: v for k, v in file.load().items() if k.startswith(f"{dtype.name}: ")}
    assert found.keys() == kept.keys()
    assert [name for name in kept if found[name] != kept[name]] == []


def test_masks_and_keys_have_their_digests() -> None:
    with np.errstate(all="ignore"):
        found = file.digests(cases.without_dtype())
    kept = file.load()
    assert {name: kept[name] for name in found} == found


def test_every_public_function_and_layer_is_frozen() -> None:
    names = " ".join(file.load())
    without = {"Key", "MonteCarlo", "as_key", "cuda"}
    without |= {"get_num_threads", "set_num_threads", "show_versions", "threads"}
    without |= {"apply_blocks"}  # which gives what other functions give
    for name in set(fd.__all__) - without - {"warmup"}:
        if not name.endswith("_vjp"):  # which are the functions and their backwards
            assert name in names, name


def test_the_file_takes_new_cases_and_refuses_changes(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    assert file.save({"a": "1"}, path) == 1
    assert file.save({"a": "1", "b": "2"}, path) == 1
    before = path.read_text()
    for other in ({"a": "9", "b": "2"}, {"b": "2"}, {}):
        with pytest.raises(file.Frozen, match=rf"version {contract.VERSION}"):
            file.save(other, path)
        assert path.read_text() == before
    kept = json.loads(before)
    path.write_text(json.dumps({**kept, "contract": contract.VERSION - 1}))
    assert file.load(path) == {}
    assert file.save({"a": "9"}, path) == 1


def test_digests_see_shape_dtype_and_every_value() -> None:
    x = np.arange(6, dtype=np.float32)
    others: list[Any] = [
        x.reshape(2, 3),
        x.astype(np.float64),
        np.where(x == 0, -0.0, x).astype("f4"),
        x + 1,
    ]
    assert len({file.digest(y) for y in [x, *others]}) == 5
    nans = x.copy()
    nans[0] = np.nan
    turned = -nans
    turned[1:] = nans[1:]
    assert file.digest(nans) == file.digest(turned)
