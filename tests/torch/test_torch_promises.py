"""What torch's tests promise of its dropout, checked of torch's modules and of ours.

Torch compares fractions within tolerances; here, masks of ours are compared one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.torch.cases import numbers

BOTH = pytest.mark.parametrize("library", [nn, fdt], ids=["torch", "fastdrop"])
MEMORY = [torch.contiguous_format, torch.channels_last, torch.channels_last_3d]


def of_shape(*shape: int, memory: torch.memory_format = torch.contiguous_format) -> Tensor:
    return numbers(*shape).abs().add(1).contiguous(memory_format=memory)


def drawn_mask(shape: Any, p: float, seed: int) -> Tensor:
    """The mask of the key that torch's generator draws after a seed."""
    torch.manual_seed(seed)
    return F.dropout_mask(shape, p, key=fdt.draw_key())


LAYERS: list[tuple[str, tuple[int, ...], tuple[int, ...], torch.memory_format]] = [
    # A module, an input, the shape of its mask, and the input's layout.
    ("Dropout", (1000,), (1000,), MEMORY[0]),
    ("Dropout", (), (), MEMORY[0]),
    ("Dropout", (2, 3, 4, 5), (2, 3, 4, 5), MEMORY[1]),
    ("Dropout1d", (12, 11, 10), (12, 11, 1), MEMORY[0]),
    ("Dropout1d", (50, 2), (50, 1), MEMORY[0]),
    ("Dropout2d", (20, 3, 4, 5), (20, 3, 1, 1), MEMORY[0]),
    ("Dropout2d", (20, 3, 4, 5), (20, 3, 1, 1), MEMORY[1]),
    ("Dropout3d", (20, 3, 2, 4, 5), (20, 3, 1, 1, 1), MEMORY[0]),
    ("Dropout3d", (20, 3, 2, 4, 5), (20, 3, 1, 1, 1), MEMORY[2]),
    ("Dropout3d", (50, 2, 4, 5), (50, 1, 1, 1), MEMORY[0]),
    ("Dropout3d", (50, 2, 4, 5), (50, 1, 1, 1), MEMORY[1]),
    ("AlphaDropout", (5000,), (5000,), MEMORY[0]),
    ("FeatureAlphaDropout", (50, 20, 3, 4), (50, 20, 1, 1), MEMORY[0]),
]


@pytest.mark.parametrize(("name", "shape", "noise", "memory"), LAYERS, ids=str)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_masks_layouts_and_gradients_of_each_module(
    name: str,
    shape: tuple[int, ...],
    noise: tuple[int, ...],
    memory: torch.memory_format,
    inplace: bool,
    p: float,
) -> None:
    layer = getattr(fdt, name)(p, inplace)
    x = of_shape(*shape, memory=memory).requires_grad_()
    torch.manual_seed(21)
    y = layer(x + 0)
    kept = drawn_mask(noise, p, 21).expand(shape)
    dropped = y[~kept]
    assert kept.any() or not shape
    if "Alpha" in name:
        assert dropped.unique().numel() <= 1
        assert (dropped < 0).all()
    else:
        assert torch.equal(y != 0, kept)
        assert torch.equal(y, torch.where(kept, x * (1 / (1 - p)), 0.0))
    assert y.is_contiguous(memory_format=memory)
    y.backward(x.detach())
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=memory)
    assert torch.equal(x.grad != 0, kept)
    assert layer.eval()(x) is x


@pytest.mark.parametrize(("name", "shape", "noise", "memory"), LAYERS, ids=str)
@pytest.mark.parametrize("inplace", [False, True])
@BOTH
def test_layouts_of_outputs_are_those_of_torch(
    library: Any,
    name: str,
    shape: tuple[int, ...],
    noise: tuple[int, ...],
    memory: torch.memory_format,
    inplace: bool,
) -> None:
    x = of_shape(*shape, memory=memory)
    y = getattr(library, name)(0.5, inplace)(x.clone(memory_format=torch.preserve_format))
    assert y.stride() == x.stride()
    if 1 in noise and "Alpha" not in name:  # a channel is kept, or dropped, as a whole
        kept = y.flatten(noise.index(1)) != 0
        assert torch.equal(kept, kept[..., :1].expand_as(kept))


@BOTH
@pytest.mark.parametrize("memory", MEMORY[:2])
@pytest.mark.parametrize("p", [0, 1e-10])
def test_what_is_not_contiguous_becomes_contiguous(library: Any, memory: Any, p: float) -> None:
    x = torch.empty(2, 3, 3, 6, memory_format=memory)[..., ::2].copy_(torch.ones(2, 3, 3, 3))
    for name in ("Dropout", "Dropout2d", "Dropout3d"):
        y = getattr(library, name)(p)(x)
        assert torch.equal(y, x)
        assert p == 0 or y.is_contiguous(memory_format=memory)
        assert p != 0 or y.stride() == x.stride()


@BOTH
def test_permuted_parts_keep_the_order_of_their_axes(library: Any) -> None:
    for order in itertools.permutations(range(4)):
        back = tuple(order.index(axis) for axis in range(4))
        whole = torch.ones(2, 3, 4, 5).permute(order).contiguous().permute(back)
        for start in itertools.product((0, 1), repeat=2):
            x = whole[start[0] :, start[1] :]
            assert torch.equal(library.Dropout(1e-10)(x), x)
            y = library.Dropout(0.5)(x)
            assert y.permute(order).is_contiguous()
            assert not torch.equal(y, x)


@BOTH
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    ("name", "shape"), [("Dropout1d", (50, 2)), ("Dropout3d", (50, 2, 2, 2))], ids=str
)
def test_a_sample_alone_is_a_batch_of_one(
    library: Any, name: str, shape: tuple[int, ...], inplace: bool
) -> None:
    layer, x = getattr(library, name)(0.5, inplace), numbers(*shape)
    torch.manual_seed(7)
    batched = layer(x[None].clone())[0]
    torch.manual_seed(7)
    assert torch.equal(layer(x.clone()), batched)
    kept = batched.flatten(1).count_nonzero(1)
    assert set(kept.tolist()) == {0, batched[0].numel()}


@BOTH
@pytest.mark.parametrize(
    ("name", "axes", "message"),
    [
        ("Dropout2d", 2, "Received a 2-D input to dropout2d"),
        ("Dropout2d", 5, "Received a 5-D input to dropout2d"),
        ("Dropout2d", 3, "Received a 3D input to dropout2d"),
        ("Dropout3d", 2, "Received a 2-D input to dropout3d"),
        ("Dropout3d", 3, "Received a 3-D input to dropout3d"),
        ("Dropout3d", 6, "Received a 6-D input to dropout3d"),
    ],
)
def test_warnings_of_other_axes(library: Any, name: str, axes: int, message: str) -> None:
    x = torch.ones(2, 3, 4, 5, 6, 7)[(0,) * (6 - axes)]
    with pytest.warns(UserWarning, match=message):
        y = getattr(library, name)(0.5)(x)
    assert y.shape == x.shape
    kept = y != 0
    decided = 2 if name == "Dropout2d" else 1
    rest = kept.reshape(*x.shape[:decided], -1)
    assert torch.equal(rest, rest[..., :1].expand_as(rest))


def test_warnings_name_the_callers_line() -> None:
    with pytest.warns(UserWarning) as caught:
        F.dropout2d(torch.ones(2, 3, 4))
        F.dropout3d(torch.ones(2, 3, 4))
    assert [warning.filename for warning in caught] == [__file__] * 2


@pytest.mark.filterwarnings("ignore:dropout.d. Received")
@pytest.mark.parametrize("axes", range(2, 7))
def test_which_axes_decide(axes: int) -> None:
    shape = (3, 4, 2, 2, 2, 2)[:axes]
    for name, decided in (("dropout2d", 2), ("dropout3d", 2 if axes == 5 else 1)):
        noise = tuple(n if axis < decided else 1 for axis, n in enumerate(shape))
        y = getattr(F, name)(torch.ones(shape), 0.5, key=5)
        assert torch.equal(y != 0, F.dropout_mask(shape, 0.5, key=5, noise_shape=noise))


@BOTH
@pytest.mark.parametrize("kind", ["AlphaDropout", "FeatureAlphaDropout"])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_alpha_dropout_keeps_mean_and_deviation(library: Any, kind: str, p: float) -> None:
    torch.manual_seed(2)  # not that of x, from whose bits torch would draw the mask
    x = numbers(*(20_000,) if kind == "AlphaDropout" else (1000, 20, 2)).requires_grad_()
    y = getattr(library, kind)(p)(x)
    assert abs(y.mean() - x.mean()) < 0.05
    assert abs(y.std() - x.std()) < 0.05
    y.backward(x.detach())


@BOTH
def test_alpha_dropout_of_one_value_has_two(library: Any) -> None:
    torch.manual_seed(1)
    values = library.AlphaDropout(0.3)(torch.ones(1000, dtype=torch.float64)).unique()
    a, floor = (0.7 * (1 + 0.3 * 1.7580993408473766**2)) ** -0.5, -1.7580993408473766
    expected = torch.tensor([a * floor * 0.7, a - 0.3 * a * floor], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=1e-12)


FUNCTIONS = ["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"]
FUNCTIONS += ["feature_alpha_dropout"]
AXES = {"dropout1d": 3, "dropout3d": 5}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("inplace", [False, True])
def test_edges_are_those_of_torch(name: str, inplace: bool) -> None:
    ours: Callable[..., Tensor] = getattr(F, name)
    torchs: Callable[..., Tensor] = getattr(nn.functional, name)
    for shape in [(2,) * AXES.get(name, 4), (0,) * AXES.get(name, 4)]:
        for p, training in itertools.product((0.0, 1.0, 0, 1, torch.tensor(1.0)), (True, False)):
            x, other = numbers(*shape), numbers(*shape)
            y, true = ours(x, p, training, inplace), torchs(other, p, training, inplace)
            assert torch.equal(y, true)
            assert y.stride() == true.stride()
            assert (y is x) == (true is other) or 0 in shape
            assert torch.equal(x, other)
            leaf, twin = numbers(*shape).requires_grad_(), numbers(*shape).requires_grad_()
            ours(leaf + 0, p, training, inplace).sum().backward()
            torchs(twin + 0, p, training, inplace).sum().backward()
            assert leaf.grad is not None and twin.grad is not None
            assert torch.equal(leaf.grad, twin.grad)


@BOTH
def test_no_elements(library: Any) -> None:
    for shape in [(0,), (0, 3), (3, 0, 2)]:
        x = torch.empty(shape, requires_grad=True)
        y = library.Dropout()(x * 1)
        assert y.shape == shape
        y.sum().backward()
        assert x.grad is not None and x.grad.shape == shape
