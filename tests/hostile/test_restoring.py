"""States, configs and keys that come from a file: checked completely, and loaded whole or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.hostile.calls import CALLS, LAYERS

NAN, HUGE = float("nan"), 10**400
# Wrong numbers for any of the 64-bit words of a key.
WORDS: list[Any] = [-1, 1 << 64, HUGE, 1.0, NAN, True, None, "1", [1], {}, fd.Key(1), 1j]
# For counts, which may be larger.
COUNTS: list[Any] = [-1, -HUGE, 1.0, NAN, True, None, "1", [1], {}, fd.Key(1), 1j]
NO_MAPPINGS: list[Any] = [None, 1, "seed", [1, 2, 3], [("seed", 1)], fd.Key(1), {"seed"}]


def layer_of(name: str) -> Any:
    return getattr(fd, name)(**CALLS[name](), rng=fd.Key(3, 4))


def refused(call: Callable[[], Any], *texts: str) -> None:
    """Check that a call raises a sentence with these texts in it."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    for text in texts:
        assert text in str(caught.value)
    assert len(str(caught.value)) < 500


def changed(good: dict[str, Any], name: str) -> list[tuple[dict[str, Any], str]]:
    """Return what a file may have instead, each with a text of the error."""
    words = WORDS if name in ("seed", "stream") else COUNTS
    return [
        ({k: v for k, v in good.items() if k != name}, name),
        *[({**good, name: wrong}, name) for wrong in words],
    ]


@pytest.mark.parametrize("name", LAYERS)
def test_the_state_of_a_layer(name: str) -> None:
    layer = layer_of(name)
    layer.forwards = 5
    good = {"seed": 8, "stream": 9, "forwards": 10}
    for entry in good:
        for state, text in changed(good, entry):
            refused(lambda state=state: layer.load_state_dict(state), text)  # type: ignore[misc]
    refused(lambda: layer.load_state_dict({**good, "p": 0.5}), "'p'", "give")
    mixed: Any = {**good, 1: 2}
    refused(lambda: layer.load_state_dict(mixed), "'1'", "give")
    for state in NO_MAPPINGS:
        refused(lambda state=state: layer.load_state_dict(state), "give what state_dict")  # type: ignore[misc]
    assert layer.state_dict() == {"seed": 3, "stream": 4, "forwards": 5}
    layer.load_state_dict(json.loads(json.dumps(good)))
    assert layer.state_dict() == good


@pytest.mark.parametrize("name", LAYERS)
def test_the_config_of_a_layer(name: str) -> None:
    layer = layer_of(name)
    kind, config = type(layer), json.loads(json.dumps(layer.get_config()))
    assert kind.from_config(config).get_config() == layer.get_config()
    for word in ("seed", "stream"):
        for wrong, text in changed(config, word):
            refused(lambda wrong=wrong: kind.from_config(wrong), text)  # type: ignore[misc]
    for entry, value in config.items():
        junk: list[Any] = [NAN, {}, "nonsense"] + [-7] * (entry not in ("axis", "scale"))
        for other in junk:
            if other != value and entry not in ("seed", "stream"):
                made = {**config, entry: other}
                refused(lambda made=made: kind.from_config(made), entry)  # type: ignore[misc]
    refused(lambda: kind.from_config({**config, "rng": 1}), "['rng']", "give what get_config")
    refused(lambda: kind.from_config({**config, "forwards": 1}), "['forwards']")
    for none in NO_MAPPINGS:
        refused(lambda none=none: kind.from_config(none), "give what get_config")  # type: ignore[misc]


def test_configs_of_other_classes() -> None:
    configs = {name: layer_of(name).get_config() for name in LAYERS}
    for config in configs.values():
        for other in LAYERS:
            kind = getattr(fd, other)
            if set(config) == set(configs[other]):  # the same settings: nothing tells them apart
                assert isinstance(kind.from_config(config), kind)
            elif set(config) - set(configs[other]):
                refused(lambda k=kind, c=config: k.from_config(c), "config has [")  # type: ignore[misc]
    refused(lambda: fd.DropBlock2d.from_config({"seed": 1, "stream": 2}), "block_size", "'p'")


def test_a_p_of_several_from_json() -> None:
    layer = fd.Dropout([0.0, 0.5, 1.0], rng=1)
    config = json.loads(json.dumps(layer.get_config()))
    again = fd.Dropout.from_config(config)
    assert again(np.ones((2, 3))).tobytes() == layer(np.ones((2, 3))).tobytes()
    for wrong in ([0.0, NAN], [2.0], [[0.5], [0.5, 0.5]], ["0.5"], [None], [True]):
        refused(lambda wrong=wrong: fd.Dropout.from_config({**config, "p": wrong}), "p")  # type: ignore[misc]


@pytest.mark.parametrize("sample_index", [None, "index"])
def test_the_state_of_a_collator(sample_index: Any) -> None:
    collate = fd.TokenCollator(**CALLS["TokenCollator"](), rng=3, sample_index=sample_index)
    before = collate.state_dict()
    good = {"seed": 8, "stream": 9, "step": 10, "epoch": 0 if sample_index is None else 2}
    for entry in good:
        for state, text in changed(good, entry):
            refused(lambda state=state: collate.load_state_dict(state), text)  # type: ignore[misc]
    for entry in ("step", "epoch"):
        refused(lambda e=entry: collate.load_state_dict({**good, e: 1 << 62}), entry)  # type: ignore[misc]
    for state in NO_MAPPINGS:
        refused(lambda state=state: collate.load_state_dict(state), "give what state_dict")  # type: ignore[misc]
    if sample_index is None:
        refused(lambda: collate.load_state_dict({**good, "epoch": 2}), "epoch=2", "sample_index")
    assert collate.state_dict() == before
    collate.load_state_dict(json.loads(json.dumps(good)))
    assert collate.state_dict() == good


def test_a_key_of_json() -> None:
    key = fd.Key((1 << 64) - 1, 1 << 63)
    assert fd.Key(*json.loads(json.dumps(key))) == key
    assert fd.Key(**json.loads(json.dumps(key._asdict()))) == key
    for name in ("seed", "stream"):
        for wrong in WORDS:
            refused(lambda n=name, w=wrong: fd.Key(**{**key._asdict(), n: w}), name)  # type: ignore[misc]
            refused(lambda n=name, w=wrong: key._replace(**{n: w}), name)  # type: ignore[misc]
    bad: Any
    for bad in ({}, {"stream": 1}, {"seed": 1, "stream": 2, "more": 3}, {"seed": 1, "Stream": 2}):
        refused(lambda bad=bad: fd.Key(**bad), "Key")  # type: ignore[misc]
    for bad in ([], [1, 2, 3], [1.0, 2], ["1", "2"], [None, None]):
        refused(lambda bad=bad: fd.Key(*bad))  # type: ignore[misc]
    refused(lambda: fd.as_key(key._asdict()), "rng is a dict", "give fastdrop.Key(**rng)")  # type: ignore[arg-type]
