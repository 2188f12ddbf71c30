"""Train a small masked autoencoder on handwritten digits, and draw what it makes of a quarter.

Run it with ``python -m fastdrop.examples.masked_digits``; ``--help`` lists the options. Of each
scan of 8x8 pixels, cut into 16 patches, `fastdrop.keep_k` keeps 4, others in each epoch. The
network (`_autoencoder`, in plain NumPy) learns to say what the other 12 are. The figure shows scans
that it has not been trained on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import fastdrop as fd
from fastdrop.examples._autoencoder import Adam, Autoencoder, Masking, images_of, patches_of
from fastdrop.examples._command_line import are_installed, figure_file, positive, seed_number
from fastdrop.examples._network import Array

SIDE, HEIGHT = 2, 8  # pixels: of a patch, of a scan
PATCHES, KEPT = 16, 4
BATCH, RATE, WARM_UP = 50, 4e-3, 3  # scans of a step, largest learning rate, epochs until that
TEST = 297  # scans to be judged by; the other 1,500 are trained on
EXTRAS = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}
TEST_KEY = 1 << 40  # folded in for the masks of the test, where epochs have their own


class Data(NamedTuple):
    """Scans, cut into patches, with pixels in [0, 1]."""

    train: Array
    test: Array
    test_labels: npt.NDArray[np.int64]


class Times(NamedTuple):
    """Medians over all epochs, in seconds."""

    steps: float  # an epoch without masking
    keep_k: float  # its masks
    argsort: float  # masks as they are usually drawn


def load_data(seed: int) -> Data:
    """Load the scans that come with scikit-learn, in an order drawn by the seed."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    patches = patches_of((images[order] / 16).astype(np.float32).reshape(-1, HEIGHT, HEIGHT), SIDE)
    return Data(patches[TEST:], patches[:TEST], labels[order[:TEST]])


def masking_of(
    key: fd.Key,
    images: int,
    patches: int = PATCHES,
    kept: int = KEPT,
    out: Masking | None = None,
) -> Masking:
    """Return the masks of an epoch, a row for each image: they do not depend on its batch."""
    made = fd.keep_k((images, patches), kept, rng=key, indices=True, out=out)
    return Masking(made.mask, made.kept, made.dropped, made.restore)


def masking_by_argsort(
    rng: np.random.Generator, images: int, patches: int = PATCHES, kept: int = KEPT
) -> Masking:
    """Mask as most code does: sort noise."""
    shuffle = np.argsort(rng.random((images, patches), np.float32), axis=1)
    restore = np.argsort(shuffle, axis=1)
    mask = np.zeros((images, patches), bool)
    mask[:, :kept] = True
    mask = np.take_along_axis(mask, restore, axis=1)
    return Masking(mask, shuffle[:, :kept], shuffle[:, kept:], restore)


def train(data: Data, epochs: int, seed: int) -> tuple[Autoencoder, Times]:
    """Train a network, and print its loss now and then."""
    rng, key = np.random.default_rng(seed), fd.Key(seed)
    model = Autoencoder(PATCHES, SIDE * SIDE, rng)
    adam = Adam(model.params)
    test = masking_of(key.fold_in(TEST_KEY), len(data.test))
    mean_scan = data.train.mean(0)
    guess = float((((data.test - mean_scan) ** 2)[~test.mask]).mean())
    print(f"The mean scan as a guess: error {guess:.4f} of dropped pixels of the test\n")
    print("epoch   loss in training   error in the test")
    scans, clock, times = len(data.train), time.perf_counter, []
    masks = masking_of(key, scans)  # whose memory the masks of each epoch are written to
    batches = scans // BATCH
    for epoch in range(epochs):
        by_keep_k = by_argsort = 0.0
        for turn in range(2):
            start = clock()
            if turn == epoch % 2:  # by turns, because what comes first finds other data in caches
                masks = masking_of(key.fold_in(epoch), scans, out=masks)
                by_keep_k = clock() - start
            else:
                masking_by_argsort(rng, scans)  # for comparison only
                by_argsort = clock() - start
        start, losses = clock(), []
        for done, index in enumerate(rng.permutation(scans)[: batches * BATCH].reshape(-1, BATCH)):
            progress = epoch + done / batches
            rate = RATE * min(1, (progress + 0.1) / WARM_UP) * np.cos(np.pi / 2 * progress / epochs)
            loss, grads = model.loss_and_grads(data.train[index], masks.of(index))
            adam.step(grads, float(rate))
            losses.append(loss)
        times.append((clock() - start, by_keep_k, by_argsort))
        if epoch == 0 or (epoch + 1) % max(1, epochs // 10) == 0:
            error = model.loss(data.test, test)
            print(f"{epoch + 1:5}   {np.mean(losses):16.4f}   {error:17.4f}", flush=True)
    return model, Times(*(float(t) for t in np.median(times, axis=0)))


def report(times: Times) -> str:
    """Say what masking takes of training, before and after; and for larger images."""
    before = times.argsort / (times.steps + times.argsort)
    after = times.keep_k / (times.steps + times.keep_k)
    images, patches, kept = 1024, 196, 49
    key, rng = fd.Key(0), np.random.default_rng(0)
    room = masking_of(key, images, patches, kept)
    by_keep_k = _median(lambda: masking_of(key, images, patches, kept, room))
    by_argsort = _median(lambda: masking_by_argsort(rng, images, patches, kept))
    return (
        f"Masking an epoch by argsort of noise: {1e6 * times.argsort:.0f} us, {before:.3%} of the "
        f"time.\nBy keep_k: {1e6 * times.keep_k:.0f} us, {after:.3%}.\n{images:,} images of "
        f"{patches} patches, a quarter kept: {1e3 * by_argsort:.1f} ms by argsort, "
        f"{1e3 * by_keep_k:.2f} ms by keep_k."
    )


def _median(call: Callable[[], object], calls: int = 9) -> float:
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def plot(model: Autoencoder, data: Data, key: fd.Key, path: Path) -> None:
    """Draw a test scan of each digit, what is left of it, and what the network makes of that."""
    from matplotlib.figure import Figure  # not pyplot, which may need a display

    index = np.array([int(np.flatnonzero(data.test_labels == digit)[1]) for digit in range(10)])
    everyone = masking_of(key, len(data.test))
    patches, masking = data.test[index], everyone.of(index)
    predicted = np.where(masking.mask[..., None], patches, model.forward(patches, masking))
    left = np.where(masking.mask[..., None], patches, np.nan)
    figure = Figure(figsize=(10, 2.64), facecolor="#10131a")
    axes = figure.subplots(3, len(index), gridspec_kw={"wspace": 0.08, "hspace": 0.08})
    figure.subplots_adjust(left=0.125, right=0.99, top=0.98, bottom=0.02)
    for row, (name, shown) in enumerate(
        (("original", patches), (f"{KEPT} of {PATCHES} kept", left), ("filled in", predicted))
    ):
        for column, image in enumerate(images_of(shown, SIDE, HEIGHT)):
            ax = axes[row, column]
            ax.set_facecolor("#39404f")  # of what is dropped
            ax.imshow(image, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        axes[row, 0].set_ylabel(
            name, color="white", rotation=0, ha="right", va="center", labelpad=8, fontsize=11
        )
    figure.savefig(path, dpi=120)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read and check the command line; `argv` is that of the process by default."""
    parser = argparse.ArgumentParser(
        prog="python -m fastdrop.examples.masked_digits",
        description="Train a small masked autoencoder on handwritten digits.",
    )
    parser.add_argument(
        "--epochs",
        type=positive,
        default=120,
        metavar="N",
        help="times to go through the training set (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=seed_number, default=0, metavar="N", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=figure_file,
        default=Path("masked_digits.png"),
        metavar="FILE",
        help="where to write the figure, as .png, .pdf or .svg (default: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; that of the process by default.

    Returns
    -------
    int
        The exit status: 0 on success, 1 if a package is missing.
    """
    args = parse_args(argv)
    if not are_installed(EXTRAS):
        return 1
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    data = load_data(args.seed)
    # One thread for the matrix products, which are small: see `digits`.
    with threadpool_limits(1, user_api="blas"):
        model, times = train(data, args.epochs, args.seed)
        print(f"\n{report(times)}")
        plot(model, data, fd.Key(args.seed).fold_in(TEST_KEY), args.output)
    print(f"Figure: {args.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
