"""Training loops: the networks learn, their gradients are right, and another mask is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import loops
from bench.check import Wrong
from bench.loops import LAYER, LOOPS, MASK, STORED, VARIANTS, Network, Site

SMALL = {name: loop | {"samples": 4, "hidden": 16} for name, loop in LOOPS.items()}
CASES = [(name, dtype) for name, loop in LOOPS.items() for dtype in loop["dtypes"]]


@pytest.mark.parametrize("name", LOOPS)
def test_gradients_are_those_of_central_differences(name: str) -> None:
    loop = SMALL[name]
    network = Network(loop, [Site(False) for _ in loop["spots"]], np.float64)
    x, labels = next(loops.batches(loop, np.float64, 0))
    gradients = network.loss_and_gradients(x, labels)[1]
    rng = np.random.default_rng(0)
    for param_name, param in network.params.items():
        for at in rng.integers(param.size, size=2):
            losses = []
            for step in (1e-5, -1e-5):
                param.flat[at] += step
                losses.append(network.loss_and_gradients(x, labels)[0])
                param.flat[at] -= step
            slope = (losses[0] - losses[1]) / 2e-5
            assert abs(gradients[param_name].flat[at] - slope) < 1e-6 + 1e-5 * abs(slope)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_networks_learn_with_any_dropout(name: str, variant: str) -> None:
    loop = LOOPS[name] | {"samples": 16, "hidden": 16}
    spots = [(0.1, idiom, in_place) for _, idiom, in_place in loop["spots"]]
    sites = [loops.site(variant, spot, n) for n, spot in enumerate(spots)]
    network, batch = Network(loop, sites, "float32"), next(loops.batches(loop, "float32", 0))
    first = network.step(*batch)
    for _ in range(40):
        last = network.step(*batch)
    assert last < 0.8 * first


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_same_masks_give_the_same_gradients(name: str, dtype: str) -> None:
    loops.validate(SMALL[name], dtype)


def test_another_mask_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = Site._timed

    def off(self: Site, x: Any, there: bool) -> Any:
        return timed(self, x, there) * (1.5 if self.layer is not None and not there else 1)

    monkeypatch.setattr(Site, "_timed", off)
    with pytest.raises(Wrong, match=f"{LAYER} has another loss, or gradient"):
        loops.validate(SMALL["cs231n"], "float64")


def test_rows_say_what_was_kept_and_computed_in() -> None:
    rows = list(loops.measure(SMALL["layers"], "float32", 0.0, lambda part: None))
    by = {row["variant"]: row for row in rows}
    assert list(by) == list(VARIANTS)
    assert by[STORED]["activations"] == "float64" and by[MASK]["activations"] == "float32"
    assert by[MASK]["kept"] == 16 * by[MASK]["masks"] == 32 and by[LAYER]["kept"] == 0
    assert by[STORED]["kept"] == 8 * by[STORED]["elements"] == 8 * 2 * 4 * 16
    assert by[STORED]["ratio"] == 1.0 and 0 < by[STORED]["share"] < 1
