"""Train a masked-token model in plain NumPy on a text that comes with Python.

Run it with ``python -m fastdrop.examples.masked_tokens``; ``--help`` lists the options. The tokens
are the characters of Python's licence (`_python_text`). A step masks stretches of it by
`fastdrop.mask_tokens`, and the model (`_token_model`) learns what was there. Batches are masked in
two other ways too, and timed by turns, so that it can print the share of masking in a step.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop.examples._command_line import positive, seed_number
from fastdrop.examples._python_text import Text, find_text
from fastdrop.examples._token_model import Adam, WindowModel, cross_entropy

Array = npt.NDArray[Any]
FULL = {"steps": 300, "samples": 128}
QUICK = {"steps": 30, "samples": 16}
LENGTH, HELD_OUT = 256, 0.1
P, REPLACE, IGNORED = 0.15, (0.8, 0.1, 0.1), -100
OURS, THREE_BINOMIALS, GOOD = "fastdrop.mask_tokens", "three binomials", "good NumPy"


class Corpus(NamedTuple):
    """A text as numbers of characters, of which the end is held out."""

    characters: str  # by their numbers
    train: Array
    held_out: Array

    @property
    def mask_id(self) -> int:
        """The token that stands for masked ones, behind those of the characters."""
        return len(self.characters)

    @property
    def vocabulary(self) -> dict[str, Any]:
        """The arguments of `mask_tokens` that say what the tokens are."""
        return {"mask_id": self.mask_id, "vocab_size": len(self.characters) + 1}


class Results(NamedTuple):
    """What a training gave."""

    losses: list[float]
    masking: dict[str, list[float]]  # seconds, by way
    steps: list[float]  # seconds without masking
    held_out: float  # loss
    right: float  # share of masked characters that are guessed
    line: str  # a masked line of the text held out, and the guesses


def load_corpus(text: Text | None = None) -> Corpus:
    """Return a text as numbers of characters, by default that of `find_text`."""
    _, content = text or find_text()
    characters = "".join(sorted(set(content)))
    numbers = {character: number for number, character in enumerate(characters)}
    tokens = np.array([numbers[character] for character in content], np.int64)
    end = len(tokens) - int(HELD_OUT * len(tokens))
    return Corpus(characters, tokens[:end], tokens[end:])


def three_binomials(rng: np.random.Generator, ids: Array, corpus: Corpus) -> tuple[Array, Array]:
    """Mask as many collators do: a binomial for each token and each decision."""
    inputs, labels = ids.copy(), ids.copy()
    chosen = rng.binomial(1, np.full(ids.shape, P)).astype(bool)
    labels[~chosen] = IGNORED
    masked = rng.binomial(1, 0.8, ids.shape).astype(bool) & chosen
    inputs[masked] = corpus.mask_id
    random = rng.binomial(1, 0.5, ids.shape).astype(bool) & chosen & ~masked
    inputs[random] = rng.integers(0, corpus.mask_id + 1, np.count_nonzero(random))
    return inputs, labels


def good_numpy(rng: np.random.Generator, ids: Array, corpus: Corpus) -> tuple[Array, Array]:
    """Mask with a float32 for each token, and one more for the chosen ones."""
    places = np.flatnonzero(rng.random(ids.shape, np.float32) < P)
    inputs, labels = ids.copy(), np.full_like(ids, IGNORED)
    flat = inputs.reshape(-1)
    labels.reshape(-1)[places] = flat[places]
    share = rng.random(places.size, np.float32)
    flat[places[share < 0.8]] = corpus.mask_id
    random = places[share >= 0.9]
    flat[random] = rng.integers(0, corpus.mask_id + 1, random.size)
    return inputs, labels


def train(
    corpus: Corpus, steps: int, samples: int, seed: int, tell: Callable[[str], None] = print
) -> Results:
    """Train a model, and time its parts."""
    model = WindowModel(corpus.mask_id + 1, side=5, width=16, hidden=128, seed=seed)
    adam, key = Adam(model.weights, 3e-3), fd.Key(seed)
    starts = np.random.default_rng(seed)
    others = np.random.Generator(np.random.SFC64(seed))
    inputs = np.empty((samples, LENGTH), np.int64)
    labels = np.empty_like(inputs)

    def ours(ids: Array, step: int) -> None:
        fd.mask_tokens(
            ids, P, **corpus.vocabulary, replace=REPLACE, ignore_index=IGNORED,
            rng=key.fold_in(step), out=inputs, labels_out=labels,
        )  # fmt: skip

    ways: dict[str, Callable[[Array, int], object]] = {
        THREE_BINOMIALS: lambda ids, step: three_binomials(others, ids, corpus),
        GOOD: lambda ids, step: good_numpy(others, ids, corpus),
        OURS: ours,
    }
    found = Results([], {way: [] for way in ways}, [], 0.0, 0.0, "")
    ours(np.zeros_like(inputs), 0)  # loads the kernels, or compiles them
    for step in range(steps):
        begin = starts.integers(0, len(corpus.train) - LENGTH, (samples, 1))
        ids = corpus.train[begin + np.arange(LENGTH)]
        # One way in each step, right after the last step's work, as masking is in a training.
        way = list(ways)[step % len(ways)]
        start = time.perf_counter()
        ways[way](ids, step)
        found.masking[way].append(time.perf_counter() - start)
        if way != OURS:
            ours(ids, step)
        start = time.perf_counter()
        places = np.flatnonzero(labels != IGNORED)
        targets = labels.reshape(-1)[places]
        windows = model.windows(inputs, places)
        loss, gradients = model.loss_and_gradients(windows, targets, key.fold_in(2**40 + step))
        adam.step(gradients)
        found.steps.append(time.perf_counter() - start)
        found.losses.append(loss)
        if step % max(1, steps // 8) == 0 or step == steps - 1:
            tell(f"step {step:4}: loss {loss:.3f}")
    return found._replace(**evaluate(model, corpus, key.fold_in(2**50)))


def evaluate(model: WindowModel, corpus: Corpus, key: fd.Key) -> dict[str, Any]:
    """Return the loss of the text held out, the share of right guesses, and a line with guesses."""
    count = len(corpus.held_out) // LENGTH
    ids = corpus.held_out[: count * LENGTH].reshape(count, LENGTH)
    inputs, labels = fd.mask_tokens(ids, P, **corpus.vocabulary, replace=(1, 0, 0), rng=key)
    places = np.flatnonzero(labels != IGNORED)
    targets = labels.reshape(-1)[places]
    scores = model.scores(model.windows(inputs, places))
    guesses = scores.argmax(1)
    restored = inputs.copy()
    restored.reshape(-1)[places] = guesses

    def shown(tokens: Array) -> str:
        # Guesses may be the mask token, which is never right.
        letters = [*(c if c.isprintable() else " " for c in corpus.characters), "_"]
        return "".join(letters[token] for token in tokens[:76].tolist())

    line = "\n".join(f"  {shown(tokens[count // 2])}" for tokens in (inputs, restored, ids))
    loss, _ = cross_entropy(scores, targets)
    return {"held_out": loss, "right": float(np.mean(guesses == targets)), "line": line}


def report(found: Results) -> str:
    """Return what a training gave, as text."""
    step = float(np.median(found.steps))
    lines = [
        f"Held out: loss {found.held_out:.3f}, {found.right:.0%} of masked characters guessed. A "
        "line of it, masked, guessed, and as it is:",
        found.line,
        f"A step takes {step * 1e3:.1f} ms (median) beside masking, which takes:",
    ]
    for way, seconds in found.masking.items():
        masking = float(np.median(seconds))
        share = masking / (masking + step)
        lines.append(f"  {way:22} {masking * 1e6:8.0f} us, {share:.2%} of the step")
    return "\n".join(lines)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.masked_tokens",
        description="Train a masked-token model in plain NumPy on a text that comes with Python: "
        "losses, and the share of masking in a step.",
    )
    for name, what in {
        "steps": "training steps",
        "samples": f"stretches of {LENGTH} characters of a step",
    }.items():
        parser.add_argument(
            f"--{name}", type=positive, metavar="N", help=f"{what} (default: {FULL[name]})"
        )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a run of seconds: few steps and samples"
    )
    args = parser.parse_args(argv)
    for name, default in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return the exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; that of the process by default.
    """
    args = parse_args(argv)
    text = find_text()
    corpus = load_corpus(text)
    print(
        f"Text: {text.about}, {len(corpus.train):,} characters to train on and "
        f"{len(corpus.held_out):,} held out, {len(corpus.characters)} different ones."
    )
    with one_blas_thread():
        print(report(train(corpus, args.steps, args.samples, args.seed)))
    return 0


def one_blas_thread() -> contextlib.AbstractContextManager[Any]:
    """Let matrix products run on one thread, if threadpoolctl is installed.

    At this size a second gains little; if another process occupies a core, the two threads wait for
    each other, and a step takes ten times as long.
    """
    if find_spec("threadpoolctl") is None:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limited: contextlib.AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return limited


if __name__ == "__main__":
    raise SystemExit(main())
