"""Masking of tokens, beside the transformers package's code, NumPy's and PyTorch's idioms.

`python -m bench batch` times the calls of `rows`. Without it: ``python -m bench.batch_tokens``.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop_kernels import contract

FAMILY = "masking of tokens"
OURS = "fastdrop"
HF = "transformers, numpy_mask_tokens"
GOOD = "NumPy, SFC64"
P, MASK, VOCABULARY, IGNORED = 0.15, 103, 30_522, -100
SPECIAL = (0, 100, 101, 102, 103)
LENGTH = 128
KEY = fd.Key(42)

Array = npt.NDArray[Any]
Calls = dict[str, Callable[[], object]]


def batch(tokens: int) -> tuple[Array, Array]:
    """Return tokens of that number, in rows as of BERT, and marks of the special ones."""
    ids = np.random.default_rng(0).integers(1000, VOCABULARY, (tokens // LENGTH, LENGTH))
    ids[:, 0] = 101
    lengths = np.random.default_rng(1).integers(LENGTH // 2, LENGTH, len(ids))
    place = np.arange(LENGTH) - lengths[:, None]
    ids[place == 0], ids[place > 0] = 102, 0
    return ids, np.isin(ids, SPECIAL)


def transformers_way(inputs: Array, special: Array) -> tuple[Array, Array]:
    """Mask in place as DataCollatorForLanguageModeling.numpy_mask_tokens does, version 4.57.

    Three binomials for each token, of which the first is by an array of p.
    """
    labels = np.copy(inputs)
    p = np.full(labels.shape, P)
    p[special] = 0
    binomial, randint = np.random.binomial, np.random.randint  # noqa: NPY002
    chosen = binomial(1, p, size=p.shape).astype(bool)
    labels[~chosen] = IGNORED
    masked = binomial(1, 0.8, size=labels.shape).astype(bool) & chosen
    inputs[masked] = MASK
    random = binomial(1, 0.5, size=labels.shape).astype(bool) & chosen & ~masked
    count = np.count_nonzero(random)
    inputs[random] = randint(0, VOCABULARY, size=count, dtype=np.int64)
    return inputs, labels


def good_numpy(
    generator: np.random.Generator, ids: Array, special: Array, inputs: Array, labels: Array
) -> None:
    """Mask with one 32-bit float for each token, and one more for the chosen ones."""
    chosen = generator.random(ids.shape, np.float32) < np.float32(P)
    chosen &= ~special
    np.copyto(inputs, ids)
    labels.fill(IGNORED)
    at = np.flatnonzero(chosen)
    flat = inputs.reshape(-1)
    labels.reshape(-1)[at] = flat[at]
    v = generator.random(at.size, np.float32)
    flat[at[v < 0.8]] = MASK
    random = at[v >= np.float32(0.9)]
    flat[random] = generator.integers(0, VOCABULARY, random.size)


def torch_way(ids: Array, special: Array) -> Callable[[], object]:
    """Return a call of DataCollatorForLanguageModeling.torch_mask_tokens, as of version 4.57."""
    import torch

    inputs, marks = torch.from_numpy(ids.copy()), torch.from_numpy(special)

    def call() -> object:
        labels = inputs.clone()
        p = torch.full(labels.shape, P)
        p.masked_fill_(marks, value=0.0)
        chosen = torch.bernoulli(p).bool()
        labels[~chosen] = IGNORED
        masked = torch.bernoulli(torch.full(labels.shape, 0.8)).bool() & chosen
        inputs[masked] = MASK
        random = torch.bernoulli(torch.full(labels.shape, 0.5)).bool() & chosen & ~masked
        words = torch.randint(VOCABULARY, labels.shape, dtype=torch.long)
        inputs[random] = words[random]
        return labels

    return call


def expected(ids: Array, special: Array) -> tuple[Array, Array]:
    """Return the inputs and the labels by the contract, in NumPy."""
    index = np.arange(ids.size, dtype=np.uint64).reshape(ids.shape)
    key = np.uint64(KEY.seed), np.uint64(KEY.stream)
    with np.errstate(over="ignore"):
        u, v = (np.asarray(contract.draw32(*key, index, np.uint64(d))) for d in (0, 1))
        chosen = (u < contract.threshold(P)) & ~special
        inputs: Array = np.where(chosen & (v < contract.threshold(0.8)), MASK, ids)
        random = chosen & (v >= contract.threshold(0.8)) & (v < contract.threshold(0.8 + 0.1))
        two, vocabulary = np.uint64(2), np.uint64(VOCABULARY)
        inputs[random] = [contract.uniform_below(*key, i, two, vocabulary) for i in index[random]]
    return inputs, np.where(chosen, ids, IGNORED)


def entrants(tokens: int, by_id: bool) -> Calls:
    """Return the calls, after comparing ours with the contract."""
    ids, special = batch(tokens)
    inputs, labels = np.empty_like(ids), np.empty_like(ids)
    rule: dict[str, Any] = {"mask_id": MASK, "vocab_size": VOCABULARY, "rng": KEY}
    rule["special"] = list(SPECIAL) if by_id else special
    there: dict[str, Any] = {"out": inputs, "labels_out": labels}

    def one_thread() -> None:
        with fd.threads(1):
            fd.mask_tokens(ids, P, **rule, **there)

    def copy_and_fill() -> None:
        np.copyto(inputs, ids)
        labels.fill(IGNORED)

    for made, wanted in zip(fd.mask_tokens(ids, P, **rule), expected(ids, special), strict=True):
        if not np.array_equal(made, wanted):
            raise AssertionError("mask_tokens differs from the contract")
    generator = np.random.Generator(np.random.SFC64(1))
    other = ids.copy(), np.empty_like(ids), np.empty_like(ids)
    calls: Calls = {
        OURS: lambda: fd.mask_tokens(ids, P, **rule, **there),
        "fastdrop, one thread": one_thread,
        "fastdrop, new arrays": lambda: fd.mask_tokens(ids, P, **rule),
        HF: functools.partial(transformers_way, other[0], special),
        GOOD: functools.partial(good_numpy, generator, ids, special, *other[1:]),
        "a copy and a fill": copy_and_fill,
    }
    if importlib.util.find_spec("torch") is not None:
        calls["transformers, torch_mask_tokens"] = torch_way(ids, special)
    return calls


def rows(seconds: float) -> Iterator[tuple[str, Calls, str, str, float]]:
    """Yield what is timed, the calls, which is ours, and beside which it is to be how much faster.

    `seconds` is how long each may take, which nothing depends on here. NumPy takes some eight times
    as long as a copy and a fill, so one thread cannot be 20 times faster.
    """
    for tokens in (1 << 17, 1 << 20):
        what = f"{tokens >> 10} Ki tokens, int64"
        for by_id in (False, True):
            calls = entrants(tokens, by_id)
            name = f"{what}, special by {'id' if by_id else 'place'}"
            yield name, calls, OURS, HF, 50.0
            yield name, {n: calls[n] for n in (OURS, GOOD)}, OURS, GOOD, 20.0


def main() -> None:
    """Time all calls by turns, and print medians."""
    import time

    for what, calls, ours, note, goal in rows(1.0):
        seen: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(21):
            for name, call in calls.items():
                time.sleep(0.02)  # threads of OpenMP spin for some milliseconds
                call()
                start = time.perf_counter()
                call()
                seen[name].append(time.perf_counter() - start)
        medians = {name: float(np.median(times)) for name, times in seen.items()}
        print(what, f"goal: {goal:g} times {note}; {medians[note] / medians[ours]:.1f}")
        for name, median in medians.items():
            least = min(seen[name])
            print(f"  {name:34} {median * 1e3:8.3f} ms, least {least * 1e3:8.3f}")


if __name__ == "__main__":
    main()
