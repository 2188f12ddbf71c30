"""`convert` and `revert` swap dropout modules in models that exist."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastdrop.torch as fdt
from tests.torch.cases import numbers

KINDS = [
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
]


def model() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(8, 8),
        nn.Dropout(0.25, inplace=True),
        nn.ModuleDict({"a": nn.AlphaDropout(0.1), "b": nn.ModuleList([nn.Dropout2d()])}),
        nn.Sequential(nn.Dropout1d(), nn.Sequential(nn.FeatureAlphaDropout(), nn.Dropout3d(0.7))),
    )


def test_all_kinds_are_swapped_and_swapped_back() -> None:
    net = model()
    before = {name: (id(m), type(m), m.training) for name, m in net.named_modules()}
    text, state = repr(net), {k: v.clone() for k, v in net.state_dict().items()}
    assert fdt.convert(net) is net
    for name, module in net.named_modules():
        place, kind, training = before[name]
        assert id(module) == place
        assert isinstance(module, kind)
        assert type(module) is (getattr(fdt, kind.__name__) if kind in KINDS else kind)
        assert module.training is training
    assert repr(net) == text
    assert net.state_dict().keys() == state.keys()
    net.load_state_dict(state)
    assert fdt.convert(net) is net  # once more changes nothing
    assert fdt.revert(net) is net
    assert {name: (id(m), type(m), m.training) for name, m in net.named_modules()} == before
    assert all(type(m).__module__.startswith("torch.nn") for m in net.modules())
    assert repr(net) == text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_module_itself(kind: Any) -> None:
    layer = kind(0.4, True).eval()
    assert fdt.convert(layer) is layer
    assert type(layer) is getattr(fdt, kind.__name__)
    assert (layer.p, layer.inplace, layer.training, layer.key) == (0.4, True, False, None)
    x = numbers(*(2, 3, 4) if kind is nn.Dropout1d else (2, 3, 4, 5))
    assert layer(x) is x
    assert type(fdt.revert(layer)) is kind


def test_swapped_layers_drop_by_our_masks() -> None:
    net = fdt.convert(nn.Sequential(nn.Dropout(0.3)))
    x = numbers(50)
    torch.manual_seed(4)
    y = net(x)
    torch.manual_seed(4)
    assert torch.equal(y, fdt.functional.dropout(x, 0.3, key=fdt.draw_key()))
    fdt.revert(net)
    torch.manual_seed(4)
    y = net(x)
    torch.manual_seed(4)
    assert torch.equal(y, torch.nn.functional.dropout(x, 0.3))


def test_hooks_names_and_shared_modules_stay() -> None:
    shared = nn.Dropout(0.3)
    net: Any = nn.Sequential(shared, nn.ReLU(), shared)
    net.note = "mine"
    shared.note = "its own"  # type: ignore[assignment]
    seen: list[tuple[str, type]] = []
    shared.register_forward_pre_hook(lambda module, args: seen.append(("before", type(module))))
    shared.register_forward_hook(lambda module, args, out: seen.append(("after", type(module))))
    net.register_full_backward_hook(lambda *_: seen.append(("backward", nn.Sequential)))
    fdt.convert(net)
    assert net[0] is net[2] is shared
    assert (net.note, shared.note) == ("mine", "its own")
    net(numbers(5).requires_grad_()).sum().backward()
    assert seen == [("before", fdt.Dropout), ("after", fdt.Dropout)] * 2 + [
        ("backward", nn.Sequential)
    ]


def test_what_others_derived_is_left() -> None:
    class Mine(nn.Dropout):
        def forward(self, input: Tensor) -> Tensor:
            return input + 1

    class Ours(fdt.Dropout):
        pass

    net = nn.Sequential(Mine(), Ours(), nn.Identity(), fdt.DropPath())
    kinds = [type(m) for m in net]
    fdt.convert(net)
    fdt.revert(net)
    assert [type(m) for m in net] == kinds


def test_revert_forgets_a_key() -> None:
    layer = fdt.Dropout(0.3, key=42)
    fdt.revert(layer)
    assert type(layer) is nn.Dropout
    assert layer.state_dict() == {}
    assert not hasattr(layer, "key")
    assert fdt.convert(layer).key is None


@pytest.mark.parametrize(
    ("built_in", "warned"),
    [
        (nn.MultiheadAttention(8, 2, dropout=0.1), "MultiheadAttention, dropout=0.1"),
        (nn.LSTM(8, 8, num_layers=2, dropout=0.3), "LSTM, dropout=0.3"),
        (nn.GRU(8, 8, num_layers=2, dropout=0.3), "GRU, dropout=0.3"),
        (nn.RNN(8, 8, num_layers=2, dropout=0.3), "RNN, dropout=0.3"),
        (nn.MultiheadAttention(8, 2), None),
        (nn.LSTM(8, 8, num_layers=2), None),
    ],
    ids=str,
)
def test_modules_that_drop_by_themselves_are_named(built_in: nn.Module, warned: str | None) -> None:
    net = nn.Sequential()
    net.add_module("inner", nn.Sequential(nn.Dropout(), built_in))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fdt.convert(net)
        fdt.revert(net)
    if warned is None:
        assert not caught
        return
    (warning,) = caught
    assert warning.category is UserWarning
    assert warning.filename == __file__
    assert f"inner.1 ({warned})" in str(warning.message)


@pytest.mark.filterwarnings("ignore:these modules call torch's dropout")
def test_a_converted_transformer_trains() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
    net = nn.Sequential(layer, nn.Linear(16, 16))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    fdt.convert(net)
    assert {type(m) for m in net.modules() if isinstance(m, nn.Dropout)} == {fdt.Dropout}
    x = numbers(8, 5, 16)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (net(x) - x).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(p.grad is not None for p in net.parameters())
    net.eval()
    assert torch.equal(net(x), net(x))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    plain = nn.Sequential(copy.deepcopy(layer), nn.Linear(16, 16))
    fdt.revert(plain)
    plain.load_state_dict(torch.load(file, weights_only=True))
    torch.testing.assert_close(plain.eval()(x), net(x))
