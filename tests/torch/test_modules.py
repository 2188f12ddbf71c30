"""Modules stand in for torch's: arguments, repr, state, modes, copies; and keys of their own."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.torch.cases import KEY, generator_state, numbers

PAIRS: dict[str, tuple[Any, Any]] = {
    name: (getattr(fdt, name), getattr(nn, name))
    for name in (
        "Dropout",
        "Dropout1d",
        "Dropout2d",
        "Dropout3d",
        "AlphaDropout",
        "FeatureAlphaDropout",
    )
}
EACH = pytest.mark.parametrize(("ours", "torchs"), PAIRS.values(), ids=list(PAIRS))
SHAPES = {"Dropout1d": (4, 5, 6), "Dropout3d": (2, 3, 2, 2, 2)}
FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    fdt.Dropout: F.dropout,
    fdt.Dropout1d: F.dropout1d,
    fdt.Dropout2d: F.dropout2d,
    fdt.Dropout3d: F.dropout3d,
    fdt.AlphaDropout: F.alpha_dropout,
    fdt.FeatureAlphaDropout: F.feature_alpha_dropout,
    fdt.DropPath: F.drop_path,
}
MODULES = pytest.mark.parametrize("kind", FUNCTIONS, ids=lambda kind: kind.__name__)


def given(kind: Any) -> Tensor:
    """An input of the axes that a module takes."""
    return numbers(*SHAPES.get(kind.__name__, (4, 5, 6, 2)))


def saved_and_loaded(module: nn.Module, weights_only: bool = False) -> Any:
    """A module, or a state, by `torch.save` and back."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


@EACH
def test_arguments_and_repr_are_those_of_torch(ours: Any, torchs: Any) -> None:
    assert issubclass(ours, torchs)
    for args in ((), (0.1,), (0, True), (1,), (0.25, False), (torch.tensor(0.5),)):
        one, other = ours(*args), torchs(*args)
        assert repr(one) == repr(other)
        assert (one.p, one.inplace) == (other.p, other.inplace)
        assert one.key is None
    assert repr(nn.Sequential(ours(p=0.3, inplace=True))) == repr(
        nn.Sequential(torchs(p=0.3, inplace=True))
    )
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="in \\[0, 1\\]"):
            ours(p)
        with pytest.raises(ValueError, match="between 0 and 1"):
            torchs(p)


def test_repr_of_drop_path() -> None:
    assert repr(fdt.DropPath(0.25)) == "DropPath(p=0.25, inplace=False, mode='row')"
    with pytest.raises(ValueError, match="mode='rows': give 'row' or 'batch'"):
        fdt.DropPath(mode="rows")
    x = numbers(6, 2)
    y = fdt.DropPath(mode="batch", key=3)(x)
    assert torch.equal(y, F.drop_path(x, mode="batch", key=3))


@EACH
def test_state_is_empty_and_loads_both_ways(ours: Any, torchs: Any) -> None:
    one, other = nn.Sequential(ours()), nn.Sequential(torchs())
    assert one.state_dict() == other.state_dict() == {}
    one.load_state_dict(other.state_dict())
    other.load_state_dict(one.state_dict())
    assert not list(one.parameters()) and not list(one.buffers())
    with pytest.raises(RuntimeError, match="Unexpected key"):
        one.load_state_dict({"0.key": torch.tensor([1, 2])})


@MODULES
@pytest.mark.parametrize("inplace", [False, True])
def test_forward_is_the_function(kind: Any, inplace: bool) -> None:
    layer, function = kind(0.4, inplace), FUNCTIONS[kind]
    for _ in range(2):
        x = given(kind)
        torch.manual_seed(11)
        y = layer(x)
        assert (y is x) == inplace
        torch.manual_seed(11)
        assert torch.equal(y, function(given(kind), 0.4, True))
    state = generator_state()
    x = given(kind)
    assert layer.eval()(x) is x
    assert generator_state() == state
    assert layer.train()(x).count_nonzero() <= x.numel()
    assert generator_state() != state


@MODULES
def test_copies_work_on(kind: Any) -> None:
    for layer in (kind(0.3, True), kind(0.3, key=KEY)):
        layer(given(kind))
        layer.eval()
        copies = [
            copy.copy(layer),
            copy.deepcopy(layer),
            pickle.loads(pickle.dumps(layer)),
            saved_and_loaded(layer),
        ]
        for twin in copies[1:]:
            assert type(twin) is kind
            assert repr(twin) == repr(layer)
            assert not twin.training
            torch.manual_seed(3)
            y = layer.train()(given(kind))
            torch.manual_seed(3)
            assert torch.equal(twin.train()(given(kind)), y)
            if layer.key is not None:  # each counts for itself
                assert twin.key is not layer.key
                layer.key[1] -= 1


@MODULES
def test_a_key_of_its_own_is_counted(kind: Any) -> None:
    function, x = FUNCTIONS[kind], given(kind)
    state = generator_state()
    layer = kind(0.4, key=KEY)
    for n in range(4):
        layer.eval()(x)  # is not counted
        key = fd.Key(KEY.seed, (KEY.stream + n) % (1 << 64))
        assert fdt.key_of(layer.key) == key
        assert torch.equal(layer.train()(x), function(x, 0.4, True, key=key))
    assert generator_state() == state


def test_streams_wrap_around() -> None:
    layer = fdt.Dropout(key=fd.Key(5, (1 << 64) - 1))
    x = numbers(50)
    layer(x)
    assert fdt.key_of(layer.key) == fd.Key(5, 0)  # type: ignore[arg-type]
    layer = fdt.Dropout(key=fd.Key(5, (1 << 63) - 1))
    layer(x)
    assert fdt.key_of(layer.key) == fd.Key(5, 1 << 63)  # type: ignore[arg-type]


def test_keys_of_all_kinds() -> None:
    given = torch.tensor([7, 8])
    layer = fdt.Dropout(key=given)
    layer(numbers(5))
    assert given.tolist() == [7, 8]  # it counts a copy
    assert layer.key is not None and layer.key.tolist() == [7, 9]
    generator = torch.Generator().manual_seed(3)
    drawn = fdt.draw_key(torch.Generator().manual_seed(3))
    layer = fdt.Dropout(key=generator)
    assert layer.key is not None and torch.equal(layer.key, drawn)
    for wrong in ("a", 1.5, torch.zeros(2), torch.zeros(3, dtype=torch.int64), [1, "b"]):
        with pytest.raises(TypeError):
            fdt.Dropout(key=wrong)  # type: ignore[arg-type]


@MODULES
def test_the_key_is_in_the_state(kind: Any) -> None:
    layer, x = nn.Sequential(kind(key=KEY)), given(kind)
    layer(x)
    state = saved_and_loaded(layer.state_dict(), weights_only=True)
    assert list(state) == ["0.key"]
    assert fdt.key_of(state["0.key"]) == fd.Key(KEY.seed, KEY.stream + 1)
    y = layer(x)
    assert fdt.key_of(state["0.key"]) == fd.Key(KEY.seed, KEY.stream + 1)  # a copy
    other = nn.Sequential(kind(key=0))
    assert str(other.load_state_dict(state)) == "<All keys matched successfully>"
    assert torch.equal(other(x), y)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})
    assert other.load_state_dict({}, strict=False).missing_keys == ["0.key"]
    with pytest.raises(RuntimeError, match="Unexpected key"):
        nn.Sequential(kind()).load_state_dict(state)
    before = other[0].key.clone()
    for wrong in (torch.zeros(3, dtype=torch.int64), torch.zeros(2), torch.tensor(1), 42):
        with pytest.raises(RuntimeError, match="0.key: key"):
            other.load_state_dict({"0.key": wrong})
    assert torch.equal(other[0].key, before)


def test_the_key_stays_on_the_cpu_and_an_integer() -> None:
    layer = fdt.Dropout(key=KEY)
    for moved in (layer.to(torch.float16), layer.double(), layer.to("meta"), layer.half()):
        assert moved.key is not None
        assert moved.key.dtype == torch.int64
        assert moved.key.device.type == "cpu"


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputed_forwards_have_the_same_mask(reentrant: bool) -> None:
    layer = fdt.Dropout(0.5)
    x = numbers(40).requires_grad_()
    y = checkpoint(lambda x: layer(x) ** 2, x, use_reentrant=reentrant)
    y.sum().backward()
    torch.testing.assert_close(x.grad * x / 2, y)  # type: ignore[operator]


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_module_that_counts_is_not_recomputed(reentrant: bool) -> None:
    layer = fdt.Dropout(0.5, key=KEY)
    x = numbers(40).requires_grad_()
    y = checkpoint(lambda x: layer(x) ** 2, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="give no key"):
        y.sum().backward()


def test_subclasses_and_lazily_changed_settings() -> None:
    class Mine(fdt.Dropout):
        pass

    layer = Mine(0.2)
    assert repr(layer) == "Mine(p=0.2, inplace=False)"
    layer.p = 1.0
    assert not layer(numbers(9)).any()
    layer.p = 2.0
    with pytest.raises(ValueError, match="p=2.0"):
        layer(numbers(9))
    with pytest.raises(TypeError):
        fdt.Dropout(0.5, False, 42)  # type: ignore[misc]
