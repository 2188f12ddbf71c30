"""Every line of docs/migrating.md: ours runs, and does what theirs does."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import ROOT, Array

PAGE = Path(ROOT, "docs", "migrating.md")
pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the source tree is not here")

LIBRARIES = {"tf": "tensorflow", "torch": "torch", "torchvision": "torchvision"}
W = np.random.default_rng(0).uniform(0.5, 1.5, (40, 30)).astype(np.float32)


class Line(NamedTuple):
    source: str
    theirs: str
    ours: str


def lines() -> list[Line]:
    if not PAGE.exists():
        return []
    text = PAGE.read_text(encoding="utf-8")
    region = re.search(r"<!-- coming-from:start -->(.*)<!-- coming-from:end -->", text, re.S)
    assert region
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| `(.+?)` \|$", region[1], re.M)
    # A header, a rule, and lines: none that the pattern does not know.
    assert len(rows) == region[1].count("\n|") - 2
    return [Line(*row) for row in rows]


LINES = lines()


def test_all_that_was_promised_is_there() -> None:
    theirs = " ".join(line.theirs for line in LINES)
    for name in (
        "keep_prob=",
        "rate=",
        "noise_shape=",
        "seed=",
        "v1.layers.dropout(",
        "v1.layers.Dropout(",
        "keras.layers.Dropout(",
        "SpatialDropout",
        "GaussianDropout(",
        "GaussianNoise(",
        "AlphaDropout(",
        "rnn_cell.DropoutWrapper(",
        "variational_recurrent=",
        "torch.nn.Dropout(",
        "functional.dropout(",
        "functional.alpha_dropout(",
        "drop_block2d(",
        "stochastic_depth(",
    ):
        assert name in theirs, name
    sources = {line.source for line in LINES}
    assert {"CS231n, vanilla", "CS231n, inverted", "MC dropout", "DropConnect"} <= sources


def net(x: Any, key: Any) -> Array:
    return fd.dropout(np.asarray(x), 0.5, rng=key) @ W


def arrays() -> dict[str, Any]:
    """What the lines speak of, without a zero in it."""
    rng = np.random.default_rng(1)
    shapes = {"x": (64, 40), "h": (64, 40), "maps": (40, 12, 8, 8), "images": (40, 8, 8, 12)}
    found = {n: rng.uniform(0.5, 1.5, s).astype(np.float32) for n, s in shapes.items()}
    return {**found, "W": W}


def ours_names() -> dict[str, Any]:
    return {"fd": fd, "np": np, "rng": np.random.default_rng(1), "net": net, **arrays()}


SEEDED = "after `np.random.seed(0)`"


def ours_of(line: Line, names: dict[str, Any] | None = None) -> Any:
    if line.source.startswith(SEEDED):
        np.random.seed(0)  # noqa: NPY002 - which is what the line is about
    return eval(line.ours, names or ours_names())


def theirs_of(line: Line) -> Any:
    if line.source.startswith(SEEDED):
        np.random.seed(0)  # noqa: NPY002
    library = next((m for m in LIBRARIES if re.match(rf"{m}\.", line.theirs)), None)
    names: dict[str, Any] = {"np": np, "rng": np.random.default_rng(1), "net": net, **arrays()}
    if library is not None:
        names[library] = pytest.importorskip(LIBRARIES[library])
        tensor: Any = names["tf"].constant if library == "tf" else None
        if tensor is None:
            tensor = pytest.importorskip("torch").from_numpy
        names |= {name: tensor(value) for name, value in arrays().items()}
    if "rnn_cell" in line.theirs:
        pytest.skip("ours is no wrapper of a cell: tests of RNNDropout state what theirs does")
    try:
        return np.asarray(eval(line.theirs, names))
    except AttributeError as error:  # TensorFlow 2.16 has lost layers of version 1
        if library is None or "v1.layers" not in line.theirs:
            raise
        pytest.skip(f"this {LIBRARIES[library]} has it no more: {error}")


def shared_axes(y: Array) -> tuple[int, ...]:
    """The axes along which all elements are dropped or kept together."""
    lost = y == 0
    axes = range(y.ndim)
    return tuple(a for a in axes if (lost.any(axis=a) == lost.all(axis=a)).all())


def factor_of(y: Array, line: Line) -> float:
    """What kept elements are multiplied by, which is the same for all."""
    given = next(arrays()[word] for word in re.findall(r"\w+", line.ours) if word in arrays())
    factors = y[y != 0] / given[y != 0]
    np.testing.assert_allclose(factors, factors.mean(), rtol=1e-5)
    return float(factors.mean())


def mean_and_deviation(line: Line, y: Array) -> tuple[float, float]:
    """Of what a normal number is drawn for: the factors of Gaussian dropout, or what is added."""
    x = arrays()["x"]
    noise = y - x if "GaussianNoise" in line.ours else y / x
    return float(noise.mean()), float(noise.std())


def a_and_b(y: Array) -> tuple[float, float]:
    """What alpha dropout of x keeps, ``a * x + b``, and how much: by the slope of most elements."""
    x = arrays()["x"].ravel()
    kept = y.ravel() != y.min()
    assert abs((~kept).mean() - 0.2) < 0.05
    a, b = np.polyfit(x[kept], y.ravel()[kept], 1)
    np.testing.assert_allclose(y.ravel()[kept], a * x[kept] + b, atol=1e-5)
    return float(a), float(b)


by_line = pytest.mark.parametrize(
    "line",
    [line for line in LINES if not re.search("Gaussian|[aA]lpha", line.ours)],
    ids=lambda line: line.theirs[:40],
)
normal_lines = pytest.mark.parametrize(
    "line", [line for line in LINES if "Gaussian" in line.ours], ids=lambda line: line.theirs[:40]
)
alpha_lines = pytest.mark.parametrize(
    "line", [line for line in LINES if "lpha" in line.ours], ids=lambda line: line.theirs[:40]
)


def values_of(ours: Any) -> Array:
    """An array that a line of ours makes: of RNNDropout, what it makes of `h`."""
    if isinstance(ours, fd.RNNDropout):
        ours.begin()
        return np.stack([ours.input(h := arrays()["h"], 0), ours.output(h, 0)])
    return np.asarray(ours)


# Those that say which mask: without a hidden state, or with a state that begins where it is made.
SAYS_WHICH = ("stateless_dropout(", "layers.Dropout(0.2, seed=1)")


def says_which(line: Line) -> bool:
    return line.source.startswith(SEEDED) or any(text in line.theirs for text in SAYS_WHICH)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.theirs[:40])
def test_ours_draws_anew_where_theirs_does(line: Line) -> None:
    names = ours_names()
    first, second = (values_of(ours_of(line, names)) for _ in range(2))
    assert np.array_equal(first, second) == says_which(line)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.theirs[:40])
def test_theirs_draws_anew(line: Line) -> None:
    first, second = theirs_of(line), theirs_of(line)
    again = "rng." in line.theirs  # a Generator made for each
    assert np.array_equal(first, second) == (again or says_which(line))


def test_the_lines_that_say_which_are_there() -> None:
    for text in SAYS_WHICH:
        assert sum(text in line.theirs for line in LINES) == 1
    assert sum(line.source.startswith(SEEDED) for line in LINES) == 1


def test_a_seed_reaches_the_module_and_not_none() -> None:
    drawn: dict[Any, list[Array]] = {np.random: [], None: []}
    for rng, masks in drawn.items():
        for _ in range(2):
            np.random.seed(0)  # noqa: NPY002
            masks.append(fd.dropout_mask(1000, 0.5, rng=rng))
    same = {rng: np.array_equal(masks[0], masks[1]) for rng, masks in drawn.items()}
    assert same == {np.random: True, None: False}


@normal_lines
def test_ours_adds_or_multiplies_by_normal_numbers(line: Line) -> None:
    mean, deviation = (0.0, 0.2) if "Noise" in line.ours else (1.0, 0.5)
    found = mean_and_deviation(line, ours_of(line))
    # 5 standard deviations of the mean, and 7 of the deviation, of 2,560 numbers.
    np.testing.assert_allclose(found, (mean, deviation), atol=deviation / 10)


@normal_lines
def test_normal_numbers_are_like_theirs(line: Line) -> None:
    theirs = mean_and_deviation(line, theirs_of(line))
    ours = mean_and_deviation(line, ours_of(line))
    np.testing.assert_allclose(ours, theirs, atol=theirs[1] / 7)


@alpha_lines
def test_ours_keeps_and_drops_as_alpha_dropout_does(line: Line) -> None:
    a, b = a_and_b(ours_of(line))
    alpha = 1.7580993408473766
    np.testing.assert_allclose(a, ((alpha**2 * 0.2 + 1) * 0.8) ** -0.5, rtol=1e-4)
    np.testing.assert_allclose(b, a * alpha * 0.2, rtol=1e-3)


@alpha_lines
def test_alpha_dropout_is_theirs(line: Line) -> None:
    ours, theirs = ours_of(line), theirs_of(line)
    np.testing.assert_allclose(a_and_b(ours), a_and_b(theirs), rtol=1e-3)
    np.testing.assert_allclose(ours.min(), theirs.min(), rtol=1e-5)


@by_line
def test_ours_drops(line: Line) -> None:
    ours = ours_of(line)
    if isinstance(ours, fd.RNNDropout):
        ours.begin()
        h = arrays()["h"]
        parts = [ours.input(h, 0), ours.state(h, 0), ours.output(h, 0)]
        assert [(part == 0).any() for part in parts] == [
            getattr(ours, name) > 0 for name in ("input_p", "state_p", "output_p")
        ]
    elif "net" in line.ours:
        np.testing.assert_allclose(ours, arrays()["x"] @ W, atol=4)
    else:
        p = 0.5 if "0.5" in line.ours else 0.2
        assert abs((ours == 0).mean() - p) < 0.1
        factor = 1.0 if "scale=1.0" in line.ours else 1 / (1 - (ours == 0).mean())
        assert abs(factor_of(ours, line) - factor) < 0.2


@by_line
def test_ours_does_what_theirs_does(line: Line) -> None:
    theirs, ours = theirs_of(line), ours_of(line)
    assert ours.shape == theirs.shape
    if "net" in line.ours:  # means of 100 passes, each with a standard deviation of about 7
        assert abs(ours - theirs).max() < 6
        return
    block = "drop_block" in line.ours
    shared = shared_axes(ours)
    assert shared == shared_axes(theirs)
    decisions = math.prod(n for axis, n in enumerate(ours.shape) if axis not in shared)
    if block:
        decisions //= 9
    # 5 standard deviations, or more, of the difference of two parts of so many decisions.
    assert abs((ours == 0).mean() - (theirs == 0).mean()) < 5 * math.sqrt(0.5 / decisions)
    # DropBlock scales by the realised count, which is another for another mask.
    tolerance = 0.1 if block else 1e-5
    np.testing.assert_allclose(factor_of(ours, line), factor_of(theirs, line), rtol=tolerance)
