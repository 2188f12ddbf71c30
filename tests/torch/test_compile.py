"""`torch.compile` makes one graph of calls, and the graph gives what eager calls give, bit for bit.

Most tests use the backend "aot_eager", which does all that Inductor does but generate code.
"""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters

import fastdrop as fd
import fastdrop.torch as fdt
from fastdrop.torch import functional as F
from tests.support.slow import slow_unless
from tests.support.subprocesses import run_scenario
from tests.torch.composed import CASES, P, numbers

DTYPES = [torch.float32, torch.bfloat16]
QUICK = {"dropout", "shard", "in place", "alpha_dropout", "softmax_dropout", "bias_act_dropout_add"}
Function: TypeAlias = Callable[..., Tensor]

# Warnings of torch's own code.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated"),
]

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="Inductor needs g++, which is not here"
)


@pytest.fixture(autouse=True)
def nothing_is_compiled_yet() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    """How many graphs were made, none of which ended early."""
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


def results(f: Function, *inputs: Tensor, seed: int = 1) -> list[Tensor]:
    """What a function gives after a seed, and its gradients; and what torch draws next."""
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    torch.manual_seed(seed)
    y = f(*leaves)
    drawn_next = torch.rand(1)
    dy = numbers(*y.shape, dtype=y.dtype, seed=seed + 7)
    if y.requires_grad:
        y.backward(dy)  # type: ignore[no-untyped-call]
    given = [x.grad for x in leaves if x.grad is not None]
    return [y.detach(), *given, drawn_next]


def assert_same(actual: list[Tensor], expected: list[Tensor], exact: bool = True) -> None:
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype and a.shape == e.shape and a.stride() == e.stride()
        if exact:
            assert torch.equal(a, e)
        else:
            torch.testing.assert_close(a, e)


def check(f: Function, *inputs: Tensor, backend: str = "aot_eager", exact: bool = True) -> None:
    """Compile a function to one graph, which must give the same as the function."""
    compiled = torch.compile(f, backend=backend, fullgraph=True)
    for seed in (1, 2):
        assert_same(results(compiled, *inputs, seed=seed), results(f, *inputs, seed=seed), exact)
        with torch.no_grad():
            made = results(compiled, *inputs, seed=seed)
            assert_same(made, results(f, *inputs, seed=seed), exact)
    assert graphs() == 2  # with gradients and without


# Functions


@pytest.mark.parametrize(
    ("name", "dtype"),
    slow_unless(
        lambda name, dtype: name in QUICK and (name == "dropout" or dtype == torch.float32),
        CASES,
        DTYPES,
    ),
    ids=str,
)
def test_functions_compile_to_one_graph(name: str, dtype: torch.dtype) -> None:
    check(lambda x: CASES[name].call(x, None), numbers(6, 7, dtype=dtype))


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_functions_compile_with_inductor(name: str, dtype: torch.dtype) -> None:
    case, x = CASES[name], numbers(6, 7, dtype=dtype)
    # Inductor fuses what stands beside our operators, and rounds it less often.
    check(lambda x: case.call(x, None), x, backend="inductor", exact=case.exact)


@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        "aot_eager",
        "aot_eager_decomp_partition",
        pytest.param("inductor", marks=needs_a_compiler),
    ],
)
def test_several_dropouts_in_a_graph(backend: str) -> None:
    def f(x: Tensor, w: Tensor) -> Tensor:
        x = F.dropout(torch.relu(x @ w), 0.2)
        x = F.dropout(torch.tanh(x @ w), 0.3) + F.drop_path(x, 0.4)
        return F.softmax_dropout(x, 0.5) * 2

    compiled = torch.compile(f, backend=backend, fullgraph=True)
    x, w = numbers(6, 8, dtype=torch.float32), numbers(8, 8, dtype=torch.float32)
    for seed in (1, 2):
        for actual, expected in zip(
            results(compiled, x, w, seed=seed), results(f, x, w, seed=seed), strict=True
        ):
            # Inductor may fuse other operators in another order of rounding.
            torch.testing.assert_close(actual, expected)
            assert torch.equal(actual == 0, expected == 0)
    assert graphs() == 1


@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=needs_a_compiler)]
)
def test_dropouts_of_the_same_input_differ(backend: str) -> None:
    """As in Monte Carlo dropout. Compilers merge operators whose arguments are equal."""

    def samples(x: Tensor) -> Tensor:
        return torch.stack([F.dropout(x, 0.5) for _ in range(4)])

    x = torch.ones(64)
    compiled = torch.compile(samples, backend=backend, fullgraph=True)
    for recorded in (False, True):
        with torch.set_grad_enabled(recorded):
            actual = results(compiled, x)
            assert_same(actual, results(samples, x))
        assert len({tuple(row.tolist()) for row in actual[0]}) == 4


def test_two_keys_drawn_in_a_graph_differ() -> None:
    def f(x: Tensor) -> Tensor:
        return torch.stack([fdt.draw_key(), fdt.draw_key()]) + x

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    x = torch.zeros(1, dtype=torch.int64)
    actual = results(compiled, x)
    assert_same(actual, results(f, x))
    assert not torch.equal(actual[0][0], actual[0][1])


KEYS: dict[str, Any] = {
    "int": 5,
    "large int": (1 << 64) - 1,
    "Key": fd.Key(1 << 63, (1 << 64) - 3),
    "tensor": torch.tensor([-3, 4]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_explicit_keys(kind: str) -> None:
    key = KEYS[kind]
    check(lambda x: F.dropout(x, P, key=key), numbers(50))
    expected = fd.dropout_mask(50, P, rng=fdt.key_of(key) if kind == "tensor" else key)
    y = torch.compile(lambda x: F.dropout(x, P, key=key), backend="aot_eager")(torch.ones(50))
    assert torch.equal(y != 0, torch.from_numpy(expected))


def test_a_key_as_an_argument_makes_no_new_graph() -> None:
    compiled = torch.compile(
        lambda x, key: F.dropout(x, P, key=key), backend="aot_eager", fullgraph=True
    )
    for _ in range(4):
        key = fdt.draw_key()
        assert torch.equal(compiled(torch.ones(40), key), F.dropout(torch.ones(40), P, key=key))
    assert graphs() == 1


def test_the_edges_of_p() -> None:
    for p in (0, 1, 0.0, 1.0):
        x = numbers(20, dtype=torch.float32)
        for f in (F.dropout, F.softmax_dropout):
            compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
            assert torch.equal(compiled(x, p), f(x, p))
        compiled = torch.compile(F.drop_path, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x, p), F.drop_path(x, p))


def test_channels_of_more_axes() -> None:
    x = numbers(2, 3, 4, 5, 6, dtype=torch.float32)
    check(lambda x: F.dropout3d(x, P), x)
    check_again = torch.compile(lambda x: F.dropout2d(x, P), backend="aot_eager", fullgraph=True)
    assert_same(results(check_again, x[0]), results(lambda x: F.dropout2d(x, P), x[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # three axes are read as torch reads them
        expected = results(lambda x: F.dropout2d(x, P), x[0, 0])
    assert_same(results(check_again, x[0, 0]), expected)


def test_in_place_writes_to_the_input() -> None:
    compiled = torch.compile(
        lambda x: F.dropout(x, P, inplace=True), backend="aot_eager", fullgraph=True
    )
    x, y = torch.ones(50), torch.ones(50)
    torch.manual_seed(1)
    assert compiled(x) is x
    torch.manual_seed(1)
    assert torch.equal(x, F.dropout(y, P, inplace=True))
    assert torch.equal(x, y)


@pytest.mark.parametrize("layout", ["transposed", "strided", "channels_last", "expanded"])
def test_layouts(layout: str) -> None:
    x = numbers(4, 6, 4, 6, dtype=torch.float32)
    made = {
        "transposed": x.transpose(0, 3),
        "strided": x[:, ::2, 1:],
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "expanded": x[:1].expand(4, 6, 4, 6),
    }[layout]
    compiled = torch.compile(lambda x: F.dropout(x, P), backend="aot_eager", fullgraph=True)
    torch.manual_seed(1)
    y = compiled(made)
    torch.manual_seed(1)
    expected = F.dropout(made, P)
    assert torch.equal(y, expected) and y.stride() == expected.stride()


# Graphs


def test_more_calls_use_the_same_graph() -> None:
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda x: F.dropout(x, P), backend=backend, fullgraph=True)
    for p in (P, 0.1, 0.2):
        compiled(torch.ones(9))
        F.dropout(torch.ones(9), p)  # eager calls keep what they need for p
        F.dropout(torch.ones(9, requires_grad=True), p).sum().backward()  # type: ignore[no-untyped-call]
    assert backend.frame_count == 1
    # A key and what draws with it: no generator's state and no mask goes through the graph.
    nodes = backend.graphs[0].graph.nodes
    called = [str(node.target) for node in nodes if node.op.startswith("call")]
    assert called[-2:] == ["fastdrop.draw_key.default", "fastdrop.mask.default"]
    assert not any(name in call for call in called for name in ("rand", "bernoulli", "state"))


def test_explain_sees_one_graph_and_no_break() -> None:
    def f(x: Tensor) -> Tensor:
        return F.bias_act_dropout_add(F.dropout(x, P), x[0], "relu", P, residual=x)

    explained = torch._dynamo.explain(f)(numbers(3, 4))
    assert explained.graph_count == 1
    assert explained.graph_break_count == 0


DYNAMIC: dict[str, Function] = {
    **{name: lambda x, case=case: case.call(x, None) for name, case in CASES.items()},
    "noise_shape of sizes": lambda x: F.dropout(x, P, noise_shape=(x.shape[0], 1)),
    "offset of a size": lambda x: F.dropout(x, P, offset=x.shape[0]),
    "global_shape of sizes": lambda x: F.dropout(
        x, P, offset=(x.shape[0], 0), global_shape=(2 * x.shape[0], x.shape[1])
    ),
    "two": lambda x: F.dropout(x, P) + F.dropout(x, P),
}


@pytest.mark.parametrize(
    ("name", "backend"),
    slow_unless(
        lambda name, backend: (
            backend == "aot_eager"
            and name in ("dropout", "drop_path", "alpha_dropout", "global_shape of sizes")
        ),
        DYNAMIC,
        ["aot_eager", "inductor"],
    ),
)
def test_batches_of_other_sizes_make_one_more_graph(name: str, backend: str) -> None:
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("Inductor needs g++, which is not here")
    f = DYNAMIC[name]
    compiled = torch.compile(f, backend=backend, fullgraph=True)
    for rows in (4, 5, 8, 3, 6, 7):
        x = numbers(rows, 6, dtype=torch.float32)
        for actual, expected in zip(results(compiled, x), results(f, x), strict=True):
            torch.testing.assert_close(actual, expected)
            assert torch.equal(actual == 0, expected == 0)
    assert graphs() == 2  # of 4 rows, and of any number


def test_all_sizes_may_be_dynamic_at_once() -> None:
    def f(x: Tensor) -> Tensor:
        x = F.dropout(x, P, noise_shape=(None, 1), offset=x.shape[1])
        return F.softmax_dropout(
            F.feature_dropout(x, P), P, offset=(1, 0), global_shape=(50, x.shape[1])
        )

    compiled = torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=True)
    for shape in ((3, 4), (5, 6), (7, 3)):
        x = numbers(*shape, dtype=torch.float32)
        assert_same(results(compiled, x), results(f, x))
    assert graphs() == 1


# Modules


class Block(nn.Module):
    """A residual block with dropout of every kind."""

    def __init__(self, **key: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.dropout = fdt.Dropout(0.2, **key)
        self.path = fdt.DropPath(0.3, **key)
        self.alpha = fdt.AlphaDropout(0.1, **key)
        self.features = fdt.Dropout1d(0.25, **key)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(self.dropout(torch.relu(self.linear(x)))[None])[0]
        return x + self.path(self.alpha(y))  # type: ignore[no-any-return]


def steps(model: nn.Module, forward: Any, n: int = 4) -> list[Tensor]:
    """Losses of some training steps, and the parameters after them."""
    torch.manual_seed(3)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for step in range(n):
        optimiser.zero_grad()
        loss = forward(numbers(5, 8, dtype=torch.float32, seed=step)).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return [*losses, *(p.detach() for p in model.parameters())]


@pytest.mark.parametrize("key", [None, 9])
def test_training_steps_of_a_model(key: int | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Block(key=key), Block(key=key))
    again = copy.deepcopy(model)
    compiled = torch.compile(again, backend="aot_eager", fullgraph=True)
    assert_same(steps(again, compiled), steps(model, model))
    assert graphs() == 1
    assert str(again.state_dict()) == str(model.state_dict())  # with the keys, if there are any


def test_keyed_modules_go_on_without_a_new_graph() -> None:
    eager, other = fdt.Dropout(0.4, key=9), fdt.Dropout(0.4, key=9)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    x = torch.ones(30)
    ys = [compiled(x) for _ in range(6)]
    assert all(torch.equal(y, eager(x)) for y in ys)
    assert len({tuple(y.tolist()) for y in ys}) == 6
    assert torch.equal(other.key, torch.tensor([9, 6]))  # type: ignore[arg-type]
    assert graphs() == 1
    other.load_state_dict({"key": torch.tensor([9, 2])})
    assert torch.equal(compiled(x), ys[2])
    other.eval()
    assert compiled(x) is x
    other.train()
    assert torch.equal(compiled(x), ys[3])


def test_changes_of_the_mode_make_a_graph_of_each() -> None:
    model = nn.Sequential(nn.Linear(4, 4), fdt.Dropout(0.4))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    x = numbers(3, 4, dtype=torch.float32)
    for training in (True, False, True, False, True):
        model.train(training)
        assert_same(results(compiled, x), results(model, x))
    assert graphs() == 2


@pytest.mark.filterwarnings("ignore:these modules call torch's dropout themselves")
def test_converted_models_compile() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)
    plain = copy.deepcopy(model)
    fdt.convert(model)
    x = numbers(3, 4, 16, dtype=torch.float32)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_same(results(compiled, x), results(model, x))
    assert graphs() == 1
    # And go back to what they were.
    fdt.revert(model)
    expected = results(torch.compile(plain, backend="aot_eager", fullgraph=True), x)
    assert_same(results(torch.compile(model, backend="aot_eager", fullgraph=True), x), expected)


# Inductor's modes, and its cache


@pytest.mark.slow
@needs_a_compiler
@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune-no-cudagraphs"])
def test_modes_of_inductor(mode: str) -> None:
    def f(x: Tensor) -> Tensor:
        return F.dropout(x.sin(), P) * 2

    compiled = torch.compile(f, mode=mode, fullgraph=True)
    x = torch.ones(64)
    for seed in range(3):
        for actual, expected in zip(
            results(compiled, x, seed=seed), results(f, x, seed=seed), strict=True
        ):
            torch.testing.assert_close(actual, expected)
    assert graphs() == 1


@pytest.mark.slow
@needs_a_compiler
def test_a_graph_of_the_cache_on_disk_draws_anew(tmp_path: Path) -> None:
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_FX_GRAPH_CACHE": "1"}
    first, second = (
        eval(run_scenario("torch_compiled", environment=environment)) for _ in range(2)
    )
    assert (first["hits"], second["hits"]) == (0, 1)
    assert first["seeded"] == second["seeded"] == first["eager"]
    drawn = [tuple(mask) for run in (first, second) for mask in run["unseeded"]]
    assert len(set(drawn)) == len(drawn) == 4


@pytest.mark.slow
def test_recomputation_for_less_memory_draws_the_same() -> None:
    from torch._functorch import config

    # Of a budget of 0, torch computes random operators again from another state of its generator on
    # the CPU, its own dropout too, so that gradients are wrong there unless keys are given.
    key = fdt.draw_key()

    def drawing(x: Tensor, w: Tensor) -> Tensor:
        for _ in range(3):
            x = F.dropout(torch.relu(x @ w), 0.4)
        return x

    def given(x: Tensor, w: Tensor) -> Tensor:
        for i in range(3):
            x = F.dropout(torch.relu(x @ w), 0.4, key=key, offset=i * x.numel())
        return x

    for f, budget in ((drawing, 0.5), (given, 0.5), (given, 0.0)):
        torch._dynamo.reset()
        compiled = torch.compile(f, backend="aot_eager_decomp_partition", fullgraph=True)
        x, w = numbers(6, 8, dtype=torch.float32), numbers(8, 8, dtype=torch.float32)
        with config.patch(activation_memory_budget=budget):
            assert_same(results(compiled, x, w), results(f, x, w))


# What cannot be compiled

GENERATOR = torch.Generator()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: F.dropout(x, key=GENERATOR),
            TypeError,
            "torch.Generator, which compiled code cannot draw from: draw the key before",
        ),
        (lambda x: F.dropout(x.int()), NotImplementedError, "give its .float"),
        (lambda x: F.dropout(x, 1.5), ValueError, "p=1.5 is not in"),
        (lambda x: F.drop_path(x, mode="column"), ValueError, "mode"),
        (lambda x: F.dropout(x, key=torch.zeros(3)), TypeError, "give one of two int64"),
        (lambda x: F.dropout(x, noise_shape=(2,)), ValueError, r"noise_shape\[0\]=2 fits no axis"),
    ],
)
def test_errors_say_what_is_wrong(call: Function, error: Any, message: str) -> None:
    def raising(x: Tensor) -> str:
        try:
            call(x)
        except error as raised:
            return str(raised)
        return "nothing was raised"

    with pytest.raises(Exception, match=message) as caught:
        torch.compile(call, backend="aot_eager", fullgraph=True)(torch.ones(3))
    assert error is not ValueError or caught.value is not None
    # Where a graph may end early, it is the error of the call itself.
    torch._dynamo.reset()
    if "Generator" not in message:
        with pytest.raises(error, match=message):
            torch.compile(call, backend="aot_eager")(torch.ones(3))


def test_a_generator_ends_a_graph_and_is_drawn_from() -> None:
    generator = torch.Generator().manual_seed(7)
    compiled = torch.compile(
        lambda x, g: F.dropout(x, P, key=g) * 2,
        backend="aot_eager",
    )
    y = compiled(torch.ones(40), generator)
    generator.manual_seed(7)
    assert torch.equal(y, F.dropout(torch.ones(40), P, key=generator) * 2)


def test_an_exported_model_draws_its_keys() -> None:
    exported = torch.export.export(fdt.Dropout(0.4), (torch.ones(30),)).module()
    torch.manual_seed(1)
    y = exported(torch.ones(30))
    torch.manual_seed(1)
    assert torch.equal(y, F.dropout(torch.ones(30), 0.4))
