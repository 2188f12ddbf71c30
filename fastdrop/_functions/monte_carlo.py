"""Monte Carlo dropout: mean and variance of a stochastic function over many passes.

`mc_dropout` derives a key for each pass, calls the user's function, and accumulates the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .._check import arguments, detect, labels
from .._check.arguments import Array
from .._check.detect import namespace
from .._check.key import RNG, Key, as_key
from .._check.keywords import MISSING, checks_keywords, raise_argument_error
from .progress import progress_bar


class MonteCarlo(NamedTuple):
    """The result of `mc_dropout`.

    Attributes
    ----------
    mean : ndarray
        Mean over the passes, in float64, of the shape of one pass's result.
    variance : ndarray
        Variance over the passes, in float64, of the same shape.
    samples : ndarray or None
        With ``return_samples=True``, all results, pass t at index t of axis 0.
    """

    mean: Array
    variance: Array
    samples: Array | None


@checks_keywords
def mc_dropout(
    fn: Callable[..., Any],
    x: Any,
    n_samples: int,
    *,
    rng: RNG = None,
    batch_size: int | None = None,
    ddof: int = 0,
    return_samples: bool = False,
    progress: bool | str | None = False,
    **unknown: NoReturn,
) -> MonteCarlo:
    """Run a stochastic function many times, and return the mean and variance of its results.

    Pass t calls ``fn(x, key.fold_in(t))``, so its result depends on `rng` and t only: a longer run
    begins with the passes of a shorter one, and any pass can be repeated. A function that applies
    dropout more than once derives a key for each: ``key.fold_in(0)``, ``key.fold_in(1)``.

    Parameters
    ----------
    fn : callable
        ``fn(x, key)`` returns an array of real numbers, of the same shape in each pass. With
        `batch_size`, ``fn(x, keys)`` gets a list of the keys of several passes, and returns their
        results along a new axis 0, so that one matrix product, for example, serves all of them.
    x : object
        Passed to `fn` as it is.
    n_samples : int
        Number of passes.
    rng : Key, int, Generator, numpy.random, or anything else that `as_key` takes
        The passes' keys are derived from it, see `as_key`.
    batch_size : int, optional
        Number of keys to pass to `fn` at once (the last batch may be smaller). The samples do not
        change if `fn` computes each of them the same way.
    ddof : int
        The variance is the sum of squared deviations divided by ``n_samples - ddof``: 0 is the
        variance of the passes, as in [1]_, and 1 the unbiased estimate.
    return_samples : bool
        Whether to keep all results. If False, memory does not grow with `n_samples`.
    progress : bool, "rich", "tqdm" or None
        Whether to show a progress bar, or of which package; True takes the one that is installed.
        Where stderr is neither a terminal nor a notebook there is a line now and then.
        None shows a bar of rich, if installed, in a terminal, after one second.

    Returns
    -------
    MonteCarlo
        The named tuple ``(mean, variance, samples)``. Mean and variance are accumulated in float64,
        in the order of the passes, by Welford's method [2]_, which avoids cancellation. Infinite
        samples of one sign have an infinite mean of that sign, and the variance NaN. If `fn`
        returns objects of pandas or xarray, mean and variance have the labels of the first result.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, or `fn` does not return real numbers, or returns another shape
        than before, or, with ``return_samples=True``, another dtype.
    ImportError
        If the progress bar's package is not installed.

    Notes
    -----
    The variance is that due to the weights only. For prediction intervals, add the variance of the
    observation noise (``1 / tau`` in [1]_).

    References
    ----------
    .. [1] Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    .. [2] B. P. Welford, "Note on a method for calculating corrected sums of squares and products",
       Technometrics 4(3), 1962.

    Examples
    --------
    >>> import numpy as np
    >>> import fastdrop as fd
    >>> weights = np.random.default_rng(0).standard_normal((64, 1))
    >>> def net(x, key):
    ...     return fd.dropout(x, 0.2, rng=key) @ weights
    >>> mean, variance, _ = fd.mc_dropout(net, np.ones((5, 64)), 1000, rng=7)
    >>> bool(np.allclose(variance, 0.25 * (weights**2).sum(), rtol=0.2))  # p / (1 - p) is 0.25
    True

    Many passes in one matrix product:

    >>> def batched(x, keys):
    ...     return np.stack([fd.dropout(x, 0.2, rng=key) for key in keys]) @ weights
    >>> same = fd.mc_dropout(batched, np.ones((5, 64)), 1000, rng=7, batch_size=50)
    >>> bool(np.allclose(same.mean, mean))
    True
    """
    if unknown or fn is MISSING or x is MISSING or n_samples is MISSING:
        raise_argument_error("mc_dropout", unknown, fn=fn, x=x, n_samples=n_samples)
    if not callable(fn):
        raise TypeError(f"fn={detect.short(fn)} cannot be called: give a function of x and a key")
    n = arguments.whole("n_samples", n_samples, 1)
    size = None if batch_size is None else arguments.whole("batch_size", batch_size, 1)
    ddof = arguments.whole("ddof", ddof, 0)
    if ddof >= n:
        raise ValueError(
            f"ddof={detect.short(ddof)} leaves nothing of n_samples={n}: give more samples"
        )
    keep = arguments.flag("return_samples", return_samples)
    track = progress_bar(progress, "Monte Carlo dropout")
    moments = _Welford()
    samples: Any = None
    like: Any = None  # the first result; mean and variance get its labels
    for t, result in enumerate(track(_passes(fn, x, n, as_key(rng), size), n)):
        like = result if like is None else like
        y = _result(result)
        moments.add(y)
        if keep:
            if samples is None:
                samples = namespace(y).empty((n, *y.shape), y.dtype)
            elif y.dtype != samples.dtype:
                raise TypeError(
                    f"fn returned dtype {y.dtype} in pass {t}, before {samples.dtype}: return one"
                )
            samples[t] = y
    mean, variance = moments.mean, moments.variance(ddof)
    if labels.has_labels(like):
        mean, variance = labels.labelled(like, mean), labels.labelled(like, variance)
    return MonteCarlo(mean, variance, samples)


def _passes(fn: Callable[..., Any], x: Any, n: int, key: Key, size: int | None) -> Iterator[Any]:
    """Yield the result of each pass."""
    if size is None:
        for t in range(n):
            yield fn(x, key.fold_in(t))
        return
    for first in range(0, n, size):
        keys = [key.fold_in(t) for t in range(first, min(first + size, n))]
        returned = fn(x, keys)
        if labels.has_labels(returned):
            raise TypeError(
                f"fn returned {detect.a_kind_of(returned)} for {len(keys)} keys: return its "
                ".to_numpy()"
            )
        results = _result(returned)
        if results.shape[:1] != (len(keys),):
            raise ValueError(
                f"fn returned shape {results.shape} for {len(keys)} keys: with batch_size, axis 0 "
                "has a result for each key"
            )
        yield from results


def _result(y: Any) -> Any:
    """Return a result as a NumPy or CuPy array of real numbers, or raise TypeError."""
    if not detect.is_cupy(y):
        y = arguments.array(y, "fn's result")
    # The dtype of bfloat16 has kind "V", but converts to float64.
    if y.dtype.kind not in "biuf" and not arguments.is_bfloat16(y.dtype):
        raise TypeError(
            f"fn returned dtype {y.dtype}, and mc_dropout averages real numbers: give "
            "a function that returns those"
        )
    return y


class _Welford:
    """Running mean, and sum of squared deviations from it, in float64."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = None
        self.deviations: Any = None

    def add(self, y: Any) -> None:
        """Add one result."""
        with np.errstate(all="ignore"):
            self._add(y)

    def _add(self, y: Any) -> None:
        self.count += 1
        if self.mean is None:
            self.mean = y.astype(np.float64)
            # Zeros, except NaN where the first sample is infinite or NaN.
            self.deviations = self.mean - self.mean
            return
        if y.shape != self.mean.shape:
            raise ValueError(
                f"fn returned shape {y.shape} in pass {self.count - 1}, before {self.mean.shape}"
            )
        step = y - self.mean
        mean = self.mean + step / self.count
        xp = namespace(mean)
        finite = xp.isfinite(mean)
        if xp is not np or not finite.all():
            # The step can overflow or be inf - inf although the mean is a number or an infinity:
            # then compute the mean as a weighted sum.
            weighted = (
                self.mean * ((self.count - 1) / self.count) + y.astype(np.float64) / self.count
            )
            mean = xp.where(finite, mean, weighted)
        self.mean = xp.asarray(mean)
        self.deviations += step * (y - mean)

    def variance(self, ddof: int) -> Any:
        """Return the variance with `ddof` degrees of freedom subtracted."""
        with np.errstate(all="ignore"):
            # For 0-dimensional arrays the quotient is a NumPy scalar.
            return namespace(self.mean).asarray(self.deviations / (self.count - ddof))
