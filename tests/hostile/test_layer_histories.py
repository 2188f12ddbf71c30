"""Random sequences of calls of a layer, by several threads, beside a plain model of its promises.

The model knows nothing of plans, runs and compiled paths: a forward has a number, its result is the
function's with the key of that number, and each thread has a stack of forwards.
"""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import fastdrop as fd
from tests.support.oracle import Array

THREADS = 3
SHAPES: list[tuple[int, ...]] = [(8,), (2, 16), (3, 4), (0, 4)]
DTYPES = [np.float32, np.float64]
BAD_STATES: list[Any] = [
    {}, {"seed": 1, "stream": 2}, {"seed": 1, "stream": 2, "forwards": -1}, None, [1, 2, 3],
    {"seed": 1, "stream": 2, "forwards": True}, {"seed": 1.0, "stream": 2, "forwards": 3},
    {"seed": 1, "stream": 1 << 64, "forwards": 3}, {"seed": -1, "stream": 2, "forwards": 3},
    {"seed": 1, "stream": 2, "forwards": 3, "p": 0.5}, {"seed": 1, "stream": 2, "forwards": "3"},
]  # fmt: skip


class Kind(NamedTuple):
    """A layer, its function, and its backward; whether that reads the forward's input."""

    make: Callable[..., Any]
    function: Callable[..., Array]
    backward: Callable[..., Any]
    reads_input: bool = False

    def gradient(self, record: Record, dy: Array) -> Array:
        """The gradient of a recorded forward, by the public functions."""
        training = record.key is not None
        arguments = dict(record.settings, rng=record.key, training=training)
        if not self.reads_input:
            return np.asarray(self.backward(dy, **arguments))
        gradient = self.backward(dy, record.x, **arguments)
        return np.asarray(gradient[0] if isinstance(gradient, tuple) else gradient)


class Record(NamedTuple):
    """A forward: its input, its key (None without dropout), and the settings then."""

    x: Array
    key: fd.Key | None
    settings: dict[str, Any]


KINDS = {
    "Dropout": Kind(fd.Dropout, fd.dropout, fd.dropout),
    "AlphaDropout": Kind(fd.AlphaDropout, fd.alpha_dropout, fd.alpha_dropout_backward),
    "DropPath": Kind(fd.DropPath, fd.drop_path, fd.drop_path),
    "SoftmaxDropout": Kind(
        fd.SoftmaxDropout, fd.softmax_dropout, fd.softmax_dropout_backward, reads_input=True
    ),
    "BiasActDropoutAdd": Kind(
        lambda p, rng: fd.BiasActDropoutAdd("relu", p, rng=rng),
        lambda x, **call: fd.bias_act_dropout_add(x, act="relu", **call),
        lambda dy, x, **call: fd.bias_act_dropout_add_backward(dy, x, act="relu", **call)[0],
        reads_input=True,
    ),
}


def same(actual: Any, expected: Any) -> bool:
    actual = actual[0] if isinstance(actual, tuple) else actual
    actual, expected = np.asarray(actual), np.asarray(expected)
    alike = actual.dtype == expected.dtype and actual.shape == expected.shape
    return bool(alike and actual.tobytes() == expected.tobytes())


class LayerMachine(RuleBasedStateMachine):
    """A layer and its model."""

    kind: Kind

    saved, backwards = Bundle("saved"), Bundle("backwards")
    threads = st.integers(0, THREADS - 1)
    inputs = st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.booleans())
    modes = st.sampled_from([None, None, True, False])

    def __init__(self) -> None:
        super().__init__()
        self.pools = [ThreadPoolExecutor(1) for _ in range(THREADS)]
        self.numbers = np.random.default_rng(1)

    def teardown(self) -> None:
        for pool in self.pools:
            pool.shutdown()

    def run(self, thread: int, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Call something in a thread."""
        return self.pools[thread].submit(work, *given, **named).result()

    def refused(self, kind: type[Exception], thread: int, work: Any, *given: Any) -> None:
        with pytest.raises(kind) as caught:
            self.run(thread, work, *given)
        assert str(caught.value)

    def array(self, given: tuple[Any, ...]) -> Array:
        shape, dtype, fortran = given
        made = self.numbers.standard_normal(shape).astype(dtype)
        return np.asfortranarray(made) if fortran else made

    @initialize(p=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    def begin(self, p: float) -> None:
        self.key, self.count, self.training, self.settings = fd.Key(7, 2**64 - 3), 0, True, {"p": p}
        self.layer = self.kind.make(p=p, rng=self.key)
        self.stacks: list[list[Record]] = [[] for _ in range(THREADS)]
        self.last: list[Record | None] = [None] * THREADS  # of layers that read their input

    # The model

    def next_key(self) -> fd.Key:
        self.count += 1
        return self.key.advanced(self.count - 1)

    def made(self, x: Array, mode: bool) -> tuple[Any, Record]:
        """What a forward must give, and what it leaves."""
        record = Record(x, self.next_key() if mode else None, dict(self.settings))
        y = self.kind.function(x, rng=record.key, training=mode, **self.settings)
        return y, record

    def record(self, thread: int, record: Record) -> None:
        if record.key is not None and (self.training or not self.kind.reads_input):
            self.stacks[thread].append(record)
            self.last[thread] = None
        elif self.kind.reads_input:
            self.last[thread] = record

    def next_back(self, thread: int) -> Record | None:
        stack, last = self.stacks[thread], self.last[thread]
        if last is not None and (not stack or not self.training):
            return last
        return stack[-1] if stack else None

    def gone_back(self, thread: int, record: Record) -> None:
        if record is self.last[thread]:
            self.last[thread] = None
        else:
            self.stacks[thread].pop()

    # What users do

    @rule(thread=threads, given=inputs, mode=modes)
    def forward(self, thread: int, given: Any, mode: bool | None) -> None:
        x = self.array(given)
        chosen = self.training if mode is None else mode
        y, record = self.made(x, chosen)
        got = self.run(thread, self.layer, x, training=mode)
        assert same(got, y)
        assert chosen or self.kind.reads_input or got is x
        self.record(thread, record)

    @rule(thread=threads)
    def backward(self, thread: int) -> None:
        record = self.next_back(thread)
        if record is None:
            dy = np.ones(3)
            if self.training or self.kind.reads_input:
                self.refused(RuntimeError, thread, self.layer.backward, dy)
            else:
                assert self.run(thread, self.layer.backward, dy) is dy
            return
        dy = self.numbers.standard_normal(record.x.shape).astype(record.x.dtype)
        assert same(self.run(thread, self.layer.backward, dy), self.kind.gradient(record, dy))
        self.gone_back(thread, record)

    @rule(thread=threads, wrong=st.sampled_from(["shape", "dtype", "mask", "None"]))
    def wrong_backward(self, thread: int, wrong: str) -> None:
        record = self.next_back(thread)
        if record is None:
            return
        dy: Any = {
            "shape": np.ones((*record.x.shape, 2), record.x.dtype),
            "dtype": np.ones(record.x.shape, np.int64),
            "mask": np.ma.ones(record.x.shape),
            "None": None,
        }[wrong]
        kind = ValueError if wrong == "shape" else TypeError
        self.refused(kind, thread, self.layer.backward, dy)

    @rule(thread=threads, wrong=st.sampled_from([np.ones(3, int), None, np.ma.ones((2, 2))]))
    def wrong_forward(self, thread: int, wrong: Any) -> None:
        if self.training:
            self.refused(TypeError, thread, self.layer, wrong)

    @rule(target=backwards, thread=threads, given=inputs, mode=modes)
    def vjp(self, thread: int, given: Any, mode: bool | None) -> Any:
        x = self.array(given)
        y, record = self.made(x, self.training if mode is None else mode)
        got, back = self.run(thread, self.layer.vjp, x, training=mode)
        assert same(got, y)
        return back, record

    @rule(thread=threads, pair=backwards)
    def backward_of_a_vjp(self, thread: int, pair: Any) -> None:
        back, record = pair
        dy = np.ones(record.x.shape, record.x.dtype)
        assert same(self.run(thread, back, dy), self.kind.gradient(record, dy))
        self.refused(ValueError, thread, back, np.ones((*record.x.shape, 2), record.x.dtype))

    @rule(thread=threads, given=inputs)
    def fixed_mask(self, thread: int, given: Any) -> None:
        x, before = self.array(given), self.layer.training
        self.layer.train()

        def work() -> tuple[Any, ...]:
            with self.layer.fixed():
                ys = [self.layer(x) for _ in range(2)]
                return *ys, self.layer.backward(np.ones_like(x))

        record = Record(x, self.next_key(), dict(self.settings))
        y = self.kind.function(x, rng=record.key, **self.settings)
        first, second, dx = self.run(thread, work)
        assert same(first, y) and same(second, y)
        assert same(dx, self.kind.gradient(record, np.ones_like(x)))
        self.layer.train(before)

    @rule(times=st.integers(1, 3))
    def forwards_at_once(self, times: int) -> None:
        if not self.training or self.settings["p"] in (0.0, 1.0):
            return  # masks are told apart below
        x = np.linspace(1, 2, 64).reshape(64, 1)
        if self.kind is KINDS["SoftmaxDropout"]:
            x = x.T.copy()

        def work() -> list[Array]:
            return [self.layer(x) for _ in range(times)]

        futures = [pool.submit(work) for pool in self.pools]
        ys = [future.result() for future in futures]
        of = {}
        for _ in range(times * THREADS):
            y, record = self.made(x, True)
            of[y.tobytes()] = record
        assert len(of) == times * THREADS
        for thread, results in enumerate(ys):
            for y in results:
                self.record(thread, of.pop(y.tobytes()))

    @rule(mode=st.sampled_from([True, False, 0, 1]))
    def train(self, mode: Any) -> None:
        assert self.layer.train(mode) is self.layer
        self.training = bool(mode)

    @rule()
    def evaluate(self) -> None:
        assert self.layer.eval() is self.layer
        self.training = False

    @rule(p=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    def set_p(self, p: float) -> None:
        self.layer.p = p
        self.settings = {"p": p}

    @rule(p=st.sampled_from([-0.1, 1.1, float("nan"), None, "0.5", True]))
    def set_a_wrong_p(self, p: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            self.layer.p = p

    @rule(seed=st.integers(0, 2**64 - 1), forwards=st.integers(0, 2**64 + 5))
    def set_key_and_count(self, seed: int, forwards: int) -> None:
        self.layer.key, self.layer.forwards = seed, forwards
        self.key, self.count = fd.Key(seed), forwards

    @rule(target=saved)
    def save(self) -> Any:
        return json.loads(json.dumps(self.layer.state_dict()))

    @rule(state=saved)
    def load(self, state: Any) -> None:
        self.layer.load_state_dict(state)
        self.key, self.count = fd.Key(state["seed"], state["stream"]), state["forwards"]
        self.forget_all()

    @rule(state=st.sampled_from(BAD_STATES))
    def load_what_is_none(self, state: Any) -> None:
        with pytest.raises((TypeError, ValueError)):
            self.layer.load_state_dict(state)

    @rule()
    def forget(self) -> None:
        self.layer.forget()
        self.forget_all()

    def forget_all(self) -> None:
        self.stacks = [[] for _ in range(THREADS)]
        self.last = [None] * THREADS

    @rule(thread=threads, how=st.sampled_from([copy.deepcopy, copy.copy, "pickle"]))
    def go_on_with_a_copy(self, thread: int, how: Any) -> None:
        """A copy has the history of the thread that copies, and the original keeps its own."""
        again = (lambda layer: pickle.loads(pickle.dumps(layer))) if how == "pickle" else how
        self.layer = self.run(thread, again, self.layer)
        stack, last = self.stacks[thread], self.last[thread]
        self.forget_all()
        self.stacks[thread], self.last[thread] = list(stack), last

    @rule()
    def go_on_with_the_config(self) -> None:
        config = json.loads(json.dumps(self.layer.get_config()))
        self.layer = type(self.layer).from_config(config)
        self.count, self.training = 0, True
        self.forget_all()

    @invariant()
    def the_state_is_that_of_the_model(self) -> None:
        layer = self.layer
        assert (layer.key, layer.forwards) == (self.key, self.count)
        assert (layer.training, layer.p) == (self.training, self.settings["p"])
        assert layer.state_dict() == {
            "seed": self.key.seed, "stream": self.key.stream, "forwards": self.count
        }  # fmt: skip


@pytest.mark.parametrize(
    ("examples", "steps"), [(6, 30), pytest.param(60, 60, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", KINDS)
def test_layers_beside_their_model(name: str, examples: int, steps: int) -> None:
    machine = type(f"{name}Machine", (LayerMachine,), {"kind": KINDS[name]})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=steps)
    )
