"""What calls keep for the backward, and how torch finds that it has been overwritten."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from fastdrop.torch import functional as F
from tests.torch.cases import CALLS, KEY, numbers

LINEAR = [name for name, call in CALLS.items() if call.inplace]


def saved(function: Callable[[], Tensor]) -> list[Tensor]:
    """The tensors that a graph keeps."""
    kept: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with saved_tensors_hooks(pack, lambda x: x):
        y = function()
    assert y.requires_grad
    return kept


def size(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", LINEAR)
def test_the_key_alone_is_kept(name: str, inplace: bool) -> None:
    x = numbers(40, 50).requires_grad_() + 0
    kept = saved(lambda: CALLS[name].torch(x, key=KEY, inplace=inplace))
    assert [(t.dtype, tuple(t.shape)) for t in kept] == [(torch.int64, (2,))]
    assert size(kept) == 16


def test_a_linear_epilogue_keeps_the_key_alone() -> None:
    x, bias, residual = [numbers(40, 50, seed=i).requires_grad_() for i in range(3)]
    kept = saved(lambda: F.bias_act_dropout_add(x, bias, p=0.3, residual=residual, key=KEY))
    assert size(kept) == 16


@pytest.mark.parametrize("act", ["relu", "gelu", "gelu_tanh", "silu", "tanh"])
def test_other_epilogues_keep_input_bias_and_key(act: str) -> None:
    x, residual = numbers(40, 50).requires_grad_(), numbers(40, 50)
    bias = numbers(50).requires_grad_()
    kept = saved(lambda: F.bias_act_dropout_add(x, bias, act, 0.3, residual=residual, key=KEY))
    assert size(kept) == 16 + 4 * (40 * 50 + 50)
    places = {t.data_ptr() for t in kept}
    assert {x.data_ptr(), bias.data_ptr()} <= places  # and no copies of them


def test_softmax_keeps_scores_and_key() -> None:
    x = numbers(40, 50).requires_grad_()
    kept = saved(lambda: F.softmax_dropout(x, 0.3, key=KEY))
    assert size(kept) == 16 + 4 * 40 * 50
    assert x.data_ptr() in {t.data_ptr() for t in kept}


def test_nothing_is_kept_where_no_gradient_is_recorded() -> None:
    x = numbers(40, 50).requires_grad_()
    for call in CALLS.values():
        with torch.no_grad():
            assert not call.torch(x, key=KEY).requires_grad
        with torch.inference_mode():
            assert not call.torch(x, key=KEY).requires_grad
        assert not call.torch(x.detach(), key=KEY).requires_grad


@pytest.mark.parametrize("name", LINEAR)
def test_torch_finds_a_saved_tensor_that_dropout_changed(name: str) -> None:
    for recorded in (False, True):
        x = numbers(4, 5).requires_grad_()
        y = x.exp()  # which its backward reads
        with torch.set_grad_enabled(recorded):
            assert CALLS[name].torch(y, key=KEY, inplace=True) is y
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize("name", ["softmax_dropout", "bias_act_dropout_add"])
def test_torch_finds_a_changed_input_of_ours(name: str) -> None:
    x = numbers(4, 5).requires_grad_() * 2
    y = CALLS[name].torch(x, key=KEY)
    F.dropout(x, key=KEY, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_versions_count_as_torch_counts_them() -> None:
    x = numbers(4, 5)
    whole, part = x, x[1:]
    for count in range(1, 4):
        assert F.dropout(part, key=KEY, inplace=True) is part
        assert whole._version == part._version == count
    F.dropout(x, key=KEY)
    assert x._version == 3


def test_a_changed_output_does_not_matter() -> None:
    x = numbers(4, 5).requires_grad_()
    y = F.dropout(x, 0.3, key=KEY)
    y.mul_(2)
    y.sum().backward()
    expected = torch.where(F.dropout_mask((4, 5), 0.3, key=KEY), 2 * (1 / 0.7), 0.0)
    torch.testing.assert_close(x.grad, expected)


def test_a_key_that_changes_between_forward_and_backward_is_found() -> None:
    key = torch.tensor([1, 2])
    x = numbers(4, 5).requires_grad_()
    y = F.dropout(x, key=key)
    key.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_leaves_views_and_inference_tensors_in_place() -> None:
    x = numbers(6, 5).requires_grad_()
    refused: list[Tensor] = [x, x[1:], (x * 1).unbind()[0]]
    with torch.no_grad():
        refused.append(x[:3])
    refused.append(numbers(5).expand(6, 5))
    with torch.inference_mode():
        refused.append(numbers(3))
        changed = numbers(3) + 1
        assert F.dropout(changed, 1.0, key=KEY, inplace=True) is changed
        assert not changed.any()
    for given in refused:
        for function in (torch.nn.functional.dropout, F.dropout):
            before = given.detach().clone()
            with pytest.raises(RuntimeError):
                function(given, 0.5, True, True)
            if function is F.dropout and given._base is None:
                assert torch.equal(given, before)


def test_inference_mode_takes_other_tensors() -> None:
    x = numbers(3).requires_grad_()
    with torch.inference_mode():
        y = F.dropout(x, key=KEY)
        z = F.dropout(y, key=KEY)
    assert torch.equal(F.dropout(y, key=KEY), z)
    leaf = numbers(3).requires_grad_()
    with torch.no_grad():
        F.dropout(leaf, key=KEY, inplace=True)
    assert torch.equal(leaf, y)


@pytest.mark.parametrize("name", CALLS)
def test_negated_views(name: str) -> None:
    """Memory has the numbers before their signs change, with a bit that says so."""
    call = CALLS[name]
    for whole in (numbers(3, 4), numbers(4, 3).T, numbers(3, 8)[:, ::2]):
        x = torch._neg_view(whole)
        expected = call.torch(-whole, key=KEY)
        assert torch.equal(call.torch(x, key=KEY), expected)
        leaf, dy = numbers(3, 4).requires_grad_(), numbers(3, 4, seed=2)
        y = call.torch(leaf, key=KEY)
        (one,) = torch.autograd.grad(y, leaf, torch._neg_view(dy), retain_graph=True)
        assert torch.equal(one, torch.autograd.grad(y, leaf, -dy)[0])
        if call.inplace:
            assert call.torch(x, key=KEY, inplace=True) is x
            assert torch.equal(x, expected)
            assert torch.equal(whole, -expected)


def test_conjugated_views() -> None:
    whole = torch.complex(numbers(9), numbers(9, seed=2))
    x = whole.conj()
    value = torch.tensor(2j)
    expected = F.masked_fill(x.resolve_conj(), 0.5, value, key=KEY)
    assert torch.equal(F.masked_fill(x, 0.5, value, key=KEY), expected)
    assert F.masked_fill(x, 0.5, value, key=KEY, inplace=True) is x
    assert torch.equal(x, expected)
    assert torch.equal(whole, expected.conj())
    part = whole.conj().imag
    assert part.is_neg()
    kept = F.dropout(-whole.imag, key=KEY)
    assert torch.equal(F.dropout(part, key=KEY, inplace=True), kept)
    assert torch.equal(whole.imag, -kept)
