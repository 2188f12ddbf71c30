"""The operators that tracers record, by torch's own checks of operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from fastdrop.torch import functional as F
from tests.support.slow import slow_unless
from tests.torch.cases import (
    DTYPES,
    KEY,
    LAYOUTS,
    TORCHS_OWN_WARNINGS,
    numbers,
    rows_of_a_wider,
    transposed,
    with_steps,
)

pytestmark = TORCHS_OWN_WARNINGS
OPS: Any = torch.ops.fastdrop
SEED = torch.tensor([42, -7])
WHOLE: tuple[Any, ...] = (None, [0], None)
SHARD: tuple[Any, ...] = (None, [1, 2, 3, 0], [4, 8, 9, 6])

MASKS: list[tuple[Any, ...]] = [
    ("drop", 0.3, None, *WHOLE),
    ("drop", 0.3, -1.5, [2, 1, 5, 1], [0], None),
    ("drop", 0.3, None, None, [17], None),
    ("drop", 0.3, None, *SHARD),
    ("drop", 1.0, None, [1, 8, 1, 1], *SHARD[1:]),
    ("alpha", 0.3, None, *WHOLE),
    ("alpha", 0.3, None, [2, 3, 1, 1], [0], None),
    ("fill", 0.3, 7.5, *WHOLE),
]


def leaf(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return numbers(*shape, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("call", MASKS, ids=str)
def test_mask(call: tuple[Any, ...]) -> None:
    opcheck(OPS.mask, (leaf(2, 3, 5, 4), SEED, *call))


@pytest.mark.parametrize(
    ("layout", "dtype"),
    slow_unless(
        lambda layout, dtype: (
            (layout == "channels_last") != (dtype == torch.float32) and layout != "transposed"
        ),
        ["contiguous", "channels_last", "transposed", "steps"],
        DTYPES,
    ),
    ids=str,
)
def test_mask_in_every_layout_and_dtype(layout: str, dtype: torch.dtype) -> None:
    x = LAYOUTS[layout](numbers(2, 3, 5, 4, dtype=dtype))
    opcheck(OPS.mask, (x, SEED, *MASKS[0]))
    opcheck(OPS.mask, (x.requires_grad_(), SEED, *MASKS[3]))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64], ids=str)
def test_fill_of_other_dtypes(dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, dtype=dtype)
    opcheck(OPS.mask, (x, SEED, "fill", 0.3, False if dtype == torch.bool else 3, *WHOLE))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0)], ids=str)
def test_mask_of_few_elements(shape: tuple[int, ...]) -> None:
    opcheck(OPS.mask, (leaf(*shape), SEED, *MASKS[0]))


def test_draw_key() -> None:
    utils = ("test_schema", "test_faketensor")  # the others compare two calls, whose keys differ
    opcheck(OPS.draw_key, (torch.empty(0), numbers(3)), test_utils=utils)
    assert torch.Tag.nondeterministic_seeded in OPS.draw_key.default.tags


SOFTMAXES: list[tuple[Any, ...]] = [
    (3, 0.3, None, [0], None),
    (0, 0.3, 2.0, [0], None),
    (2, 1.0, None, [9], None),
    (3, 0.3, None, [1, 2, 3, 0], [4, 8, 9, 4]),
]


@pytest.mark.parametrize("call", SOFTMAXES, ids=str)
def test_softmax(call: tuple[Any, ...]) -> None:
    x = leaf(2, 3, 5, 4)
    opcheck(OPS.softmax_dropout, (x, SEED, *call))
    dy = numbers(2, 3, 5, 4, seed=2)
    opcheck(OPS.softmax_dropout_backward, (dy, x.detach(), SEED, *call))


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "steps"])
def test_softmax_in_every_layout(layout: str) -> None:
    x = LAYOUTS[layout](numbers(2, 3, 5, 4)).requires_grad_()
    opcheck(OPS.softmax_dropout, (x, SEED, *SOFTMAXES[0]))
    dy = numbers(2, 3, 5, 4, seed=2)
    opcheck(OPS.softmax_dropout_backward, (dy, x.detach(), SEED, *SOFTMAXES[0]))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_softmax_in_other_dtypes(dtype: torch.dtype) -> None:
    x = leaf(2, 3, 5, 4, dtype=dtype)
    opcheck(OPS.softmax_dropout, (x, SEED, *SOFTMAXES[0]))


OPERANDS: list[tuple[tuple[int, ...] | None, tuple[int, ...] | None]] = [
    (None, None),
    ((4,), None),
    (None, (2, 3, 4)),
    ((3, 1), (4,)),
]


@pytest.mark.parametrize("shapes", OPERANDS, ids=str)
@pytest.mark.parametrize("activation", ["identity", "gelu"])
def test_epilogue(
    activation: str, shapes: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
) -> None:
    x = leaf(2, 3, 4)
    bias, residual = [None if s is None else leaf(*s) for s in shapes]
    call = activation, 0.3, None, [0], None
    opcheck(OPS.bias_act_dropout_add, (x, bias, residual, SEED, *call))
    operand = None if bias is None else bias.detach()
    dy = numbers(2, 3, 4, seed=2)
    opcheck(OPS.bias_act_dropout_add_backward, (dy, x.detach(), operand, SEED, *call))


@pytest.mark.parametrize("layout", [transposed, with_steps, rows_of_a_wider])
def test_epilogue_in_every_layout(layout: Any) -> None:
    x = layout(numbers(2, 3, 4)).requires_grad_()
    bias, residual = layout(numbers(3, 4)).requires_grad_(), layout(numbers(2, 3, 4))
    call = "silu", 0.3, 1.5, [1, 0, 2], [4, 3, 8]
    opcheck(OPS.bias_act_dropout_add, (x, bias, residual, SEED, *call))
    dy = numbers(2, 3, 4, seed=2)
    for gradient in (dy, layout(dy), dy[:, :1].expand(2, 3, 4)):
        given = gradient, x.detach(), bias.detach(), SEED
        opcheck(OPS.bias_act_dropout_add_backward, (*given, *call))


def test_operators_give_what_the_functions_give() -> None:
    x = numbers(2, 3, 5, 4)
    seed = torch.tensor([KEY.seed, KEY.stream - (1 << 64)])
    y = F.dropout(x, 0.3, key=KEY, offset=SHARD[1], global_shape=SHARD[2])
    assert torch.equal(OPS.mask(x, seed, "drop", 0.3, None, *SHARD), y)
    y = F.softmax_dropout(x, 0.3, 1, key=KEY, scale=2.0)
    assert torch.equal(OPS.softmax_dropout(x, seed, 1, 0.3, 2.0, [0], None), y)
    y = F.bias_act_dropout_add(x, x[0], "silu", 0.3, residual=x, key=KEY)
    found = OPS.bias_act_dropout_add(x, x[0], x, seed, "silu", 0.3, None, [0], None)
    assert torch.equal(found, y)
