"""Layers that threads share: masks of their own, and backwards that meet their own forwards."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import Array, assert_same

THREADS = 4


def together(work: Callable[[int], Any]) -> list[Any]:
    """Call a function in several threads at once, each with its number; return the results."""
    results: list[Any] = [None] * THREADS
    begin = threading.Barrier(THREADS)

    def run(number: int) -> None:
        begin.wait()
        try:
            results[number] = work(number)
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


LAYERS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "Dropout": (lambda: fd.Dropout(0.5, rng=3), (256,)),
    "Dropout with noise_shape": (
        lambda: fd.Dropout(0.5, rng=3, noise_shape=(None, 1)),
        (256, 2),
    ),
    "FeatureDropout": (lambda: fd.FeatureDropout(0.5, rng=3), (16, 16, 2)),
    "AlphaDropout": (lambda: fd.AlphaDropout(0.5, rng=3), (256,)),
    "GaussianDropout": (lambda: fd.GaussianDropout(0.5, rng=3), (256,)),
    "DropPath": (lambda: fd.DropPath(0.5, rng=3), (256, 2)),
    "SoftmaxDropout": (lambda: fd.SoftmaxDropout(0.5, rng=3), (4, 64)),
    "BiasActDropoutAdd": (lambda: fd.BiasActDropoutAdd(p=0.5, rng=3), (256,)),
}
EACH_LAYER = pytest.mark.parametrize("name", LAYERS)


@EACH_LAYER
def test_each_forward_of_any_thread_has_a_mask_of_its_own(name: str) -> None:
    make, shape = LAYERS[name]
    layer, rounds = make(), 250
    x = np.ones(shape)
    masks = together(lambda _: [layer(x).tobytes() for _ in range(rounds)])
    assert layer.forwards == THREADS * rounds
    found = {mask for several in masks for mask in several}
    again = make()
    assert found == {again(x).tobytes() for _ in range(THREADS * rounds)}
    assert len(found) == THREADS * rounds


@EACH_LAYER
def test_the_backward_of_a_thread_meets_its_own_forward(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    twins = {n: make() for n in range(THREADS)}
    x = np.linspace(1.0, 2.0, np.prod(shape)).reshape(shape)

    def work(number: int) -> list[tuple[Array, Any]]:
        return [(layer(x), layer.backward(x)) for _ in range(100)]

    pairs = [pair for several in together(work) for pair in several]
    assert layer.forwards == len(pairs)
    # Which of a lone layer's forwards each was, its result says.
    lone = twins[0]
    expected = {}
    for _ in pairs:
        y = lone(x).tobytes()
        expected[y] = lone.backward(x)
    for y, dx in pairs:
        same(dx, expected[y.tobytes()])


def same(one: Any, other: Any) -> None:
    if isinstance(one, tuple):
        for mine, its in zip(one, other, strict=True):
            same(mine, its)
    elif one is not None:
        assert_same(one, other)


def test_a_first_call_that_compiles_does_not_set_the_count_back() -> None:
    layer = fd.Dropout(0.5, rng=3)
    x = np.ones(64)
    compiling, others = threading.Event(), threading.Event()
    function = fd.dropout

    def slow(*args: Any, **call: Any) -> Array:
        y = function(*args, **call)
        compiling.set()
        assert others.wait(30)
        return y

    class Slow(fd.Dropout):
        _function = staticmethod(slow)

    slow_layer = Slow(0.5, rng=3)
    thread = threading.Thread(target=slow_layer, args=(np.ones((4, 4)).T,))
    thread.start()
    assert compiling.wait(30)
    others.set()
    for _ in range(10):
        slow_layer(x)
    thread.join()
    assert slow_layer.forwards == 11
    assert layer.forwards == 0


def test_passes_of_an_rnn_dropout_are_those_of_their_threads() -> None:
    rnn = fd.RNNDropout(0.5, rng=3, variational=True)
    x = np.ones(128)

    def work(number: int) -> list[bytes]:
        found = []
        for _ in range(100):
            rnn.begin()
            y = rnn.input(x, 0)
            assert_same(rnn.input_backward(x, 0), y)
            found.append(y.tobytes())
        return found

    masks = [mask for several in together(work) for mask in several]
    assert rnn.forwards == 100 * THREADS
    assert len(set(masks)) == 100 * THREADS


def test_a_thread_does_not_see_the_forwards_of_another() -> None:
    layer = fd.Dropout(0.5, rng=3)
    x = np.ones(16)
    y = layer(x)

    def work() -> None:
        with pytest.raises(RuntimeError, match="in this thread"):
            layer.backward(x)

    errors: list[BaseException] = []
    thread = threading.Thread(target=lambda: errors.extend(raised(work)))
    thread.start()
    thread.join()
    assert not errors
    assert_same(layer.backward(x), y)


def raised(work: Callable[[], None]) -> list[BaseException]:
    try:
        work()
    except BaseException as error:
        return [error]
    return []


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_goes_back_by_itself(how: Callable[[Any], Any]) -> None:
    layer = fd.Dropout(0.5, rng=3)
    x = np.ones(16)
    ys = [layer(x) for _ in range(3)]
    twin = how(layer)
    for y in reversed(ys):
        assert_same(twin.backward(x), y)
    for y in reversed(ys):
        assert_same(layer.backward(x), y)
    assert_same(twin(x), layer(x))


def test_forget_reaches_all_threads() -> None:
    layer = fd.Dropout(0.5, rng=3)
    x = np.ones(16)
    forward, forgotten = threading.Event(), threading.Event()
    left: list[int] = []

    def work() -> None:
        layer(x)
        forward.set()
        forgotten.wait(30)
        left.append(len(layer._pending))

    thread = threading.Thread(target=work)
    thread.start()
    assert forward.wait(30)
    layer.forget()
    forgotten.set()
    thread.join()
    assert left == [0]


@pytest.mark.parametrize("order", ["C", "strided", "F"])
@EACH_LAYER
def test_calls_like_earlier_ones_draw_what_the_first_would(name: str, order: str) -> None:
    """By whichever way a call goes, prepared or not, it takes the next number."""
    make, shape = LAYERS[name]
    layer = make()
    x = np.linspace(1.0, 2.0, np.prod(shape)).reshape(shape)
    if order == "F":
        x = np.asfortranarray(x)
    elif order == "strided":
        x = np.repeat(x, 2, axis=0)[::2]
    for n in range(6):
        alone = make()
        alone.forwards = n
        y = layer(x)
        assert_same(np.ascontiguousarray(y), np.ascontiguousarray(alone(np.array(x, order="C"))))
        if n % 2:  # some forwards pile up
            same(layer.backward(x), alone.backward(x))
    assert layer.forwards == 6
    for n in (4, 2, 0):
        alone = make()
        alone.forwards = n
        alone(x)
        same(layer.backward(x), alone.backward(x))
    assert not layer._pending
