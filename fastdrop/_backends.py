"""Backends: what differs between NumPy's arrays and others', behind one interface.

A public function checks what it was given, asks `backend_of` who computes on it, and hands over.
The libraries of other arrays are recognised without being imported.
"""

from __future__ import annotations

import abc
import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastdrop_kernels import forks

from . import _arguments as arguments
from . import _overlap as overlap
from ._arguments import Array, Place
from ._key import Key, as_key
from .cuda import AnyRNG

# ``driver -> operation``: what the kernels are to do, picked when their driver is loaded
Operation = Callable[[Any], Any]
# ``(x, out, rng) -> result``, or None for what has to go the long way: nothing is written then
Again = Callable[[Array, Array | None, AnyRNG], Array | None]

_BOOL, _BYTE = np.dtype(np.bool_), np.dtype(np.uint8)
_NO_VALUE = np.zeros((), _BYTE)  # a parameter for operations that have none


class Backend(abc.ABC):
    """Who computes on arrays of a library; `Array` stands for those of any."""

    takes_operands = False  # whether its kernels read other arrays beside x
    packs_each = False  # whether they pack a mask of a p of each element

    @property
    @abc.abstractmethod
    def driver(self) -> Any:
        """The kernels' driver, imported when it is first asked for."""

    @property
    @abc.abstractmethod
    def softmax_driver(self) -> Any:
        """The driver of the kernels over whole rows."""

    @abc.abstractmethod
    def array(self, x: Any, name: str = "x") -> Array:
        """Return x, so called in errors, as the kernels read it, without copying an array."""

    def where(self, x: Array) -> contextlib.AbstractContextManager[Any]:
        """Let new arrays lie where x does, for a while."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    def given(self, out: Any) -> Array:
        """Return `out` as the kernels write it, if it may be written to."""

    @abc.abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Return a new array in C order."""

    @abc.abstractmethod
    def empty_like(self, x: Array) -> Array:
        """Return a new array of the shape, dtype and layout of x."""

    @abc.abstractmethod
    def copy(self, source: Array, target: Array) -> None:
        """Copy an array to one that it does not overlap."""

    @abc.abstractmethod
    def addresses(self, x: Array) -> Array:
        """Return a NumPy array of the same addresses, see `_overlap`."""

    @abc.abstractmethod
    def apart(self, x: Array, y: Array) -> bool:
        """Say whether it is quickly seen that writing y disturbs neither x nor itself."""

    def key(self, rng: AnyRNG, y: Array) -> tuple[int, int, dict[str, Any]]:
        """Return seed and stream, and what else the kernels that write y are told about them."""
        return *as_key(rng), {}  # type: ignore[arg-type]  # which is what it may refuse

    def result(self, made: Array, out: Any) -> Array:
        """Return what the caller gets: his `out`, or what was made."""
        chosen: Array = made if out is None else out
        return chosen

    def output(
        self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None = None
    ) -> Array:
        """Return `out` as the kernels write it; it must fit, and lie where x lies."""
        return arguments.fitting(self.given(out), shape, dtype)

    def operands(self, x: Array, out: Any) -> tuple[Array, Array, Array]:
        """Return what to read, what to write, and what the result is to be in.

        They are such that no overlap can be seen in the result.
        """
        if out is None:
            target = self.empty_like(x)
            return x, target, target
        result = self.output(out, x.shape, x.dtype, x)
        if self.apart(x, result):
            return x, result, result
        read, written = self.addresses(x), self.addresses(result)
        if overlap.within(written):
            return x, self.empty_like(result), result
        if overlap.disturbs(written, read):
            source = self.empty_like(x)
            self.copy(x, source)
            return source, result, result
        return x, result, result

    def apply(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        place: Place,
        rng: AnyRNG,
        threshold: int,
        value: Array,
        operands: Sequence[Array] = (),
    ) -> Array:
        """Apply an operation to x, and return the result.

        `operands` are arrays that broadcast to x.
        """
        source, target, result = self.operands(x, out)
        if operands:
            there = self.addresses(target)
            more_inputs = {"operands": tuple([self._undisturbed(o, there) for o in operands])}
        else:
            more_inputs = {}
        seed, stream, more = self.key(rng, target)
        driver, law = self.driver, (threshold, value)
        chosen = operation(driver)
        driver.apply(chosen, source, target, *place, seed, stream, *law, **more_inputs, **more)
        return self._finished(target, result, out)

    def repeatable(
        self,
        operation: Operation,
        x: Array,
        out: Array | None,
        place: Place,
        threshold: int,
        value: Array,
    ) -> Again | None:
        """Return what `apply` comes to for plain arrays of the layouts of x and `out`.

        None where there is nothing quicker than that.
        """
        return None

    def softmax(
        self, x: Array, out: Any, axis: int, place: Place, rng: AnyRNG, threshold: int, value: Array
    ) -> Array:
        """Take the softmax of x along an axis, drop and scale it, and return the result."""
        source, target, result = self.operands(x, out)
        seed, stream, more = self.key(rng, target)
        law = *place, seed, stream, threshold, value
        self.softmax_driver.softmax_dropout(source, target, axis, *law, **more)
        return self._finished(target, result, out)

    def softmax_gradient(
        self,
        x: Array,
        dy: Array,
        out: Any,
        axis: int,
        place: Place,
        rng: AnyRNG,
        threshold: int,
        value: Array,
    ) -> Array:
        """Return the gradient by x of `softmax`, dy being that of its result."""
        source, target, result = self.operands(x, out)
        given = dy
        if out is not None and overlap.disturbs(self.addresses(target), self.addresses(dy)):
            given = self.empty_like(dy)
            self.copy(dy, given)
        seed, stream, more = self.key(rng, target)
        law = *place, seed, stream, threshold, value
        self.softmax_driver.softmax_dropout_backward(source, given, target, axis, *law, **more)
        return self._finished(target, result, out)

    def mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        place: Place,
        rng: AnyRNG,
        threshold: int,
        like: Array | None = None,
        p: Array | None = None,
    ) -> Array:
        """Draw a mask; a new one lies where `like` lies. `p` gives elements their own."""
        result = self.empty(shape, _BOOL) if out is None else self.output(out, shape, _BOOL, like)
        apart = out is None or not overlap.within(self.addresses(result))
        target = result if apart else self.empty_like(result)
        seed, stream, more = self.key(rng, target)
        driver, marks = self.driver, (target, target)
        if p is None:
            marking = driver.marking()
        else:
            marking, there = driver.marking_each(), self.addresses(target)
            own = self.own_operands(lambda _: marking, p, None, target)
            more = {**more, "operands": tuple([self._undisturbed(o, there) for o in own])}
        driver.apply(marking, *marks, *place, seed, stream, threshold, _NO_VALUE, **more)
        return self._finished(target, result, out)

    def packed_mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        place: Place,
        rng: AnyRNG,
        threshold: int,
        like: Array | None = None,
        p: Array | None = None,
    ) -> Array:
        """Draw a mask of 8 elements to a byte. `p` gives elements their own."""
        elements = 1
        for length in shape:
            elements *= length
        size = ((elements + 7) // 8,)
        result = self.empty(size, _BYTE) if out is None else self.output(out, size, _BYTE, like)
        plain = self.addresses(result).flags.c_contiguous
        target = result if plain else self.empty(size, _BYTE)
        seed, stream, more = self.key(rng, target)
        if p is None:
            self.driver.pack(target, shape, *place, seed, stream, threshold, **more)
        else:
            own = p.copy() if np.may_share_memory(p, target) else p
            self.driver.pack_each(target, shape, *place, seed, stream, self.broadcast(own, shape))
        return self._finished(target, result, out)

    def untouched(self, x: Any, xs: Array, out: Any) -> Array:
        """Return x itself, or copy it to `out`."""
        if out is None:
            same: Array = x
            return same
        source, target, result = self.operands(xs, out)
        self.copy(source, target)
        return self._finished(target, result, out)

    def _undisturbed(self, operand: Array, written: Array) -> Array:
        """Return a view of an operand in the shape of what is written, which does not change it."""
        view = self.broadcast(operand, written.shape)
        if not overlap.disturbs(written, self.addresses(view)):
            return view
        kept = self.empty_like(operand)
        self.copy(operand, kept)
        return self.broadcast(kept, written.shape)

    def beside(self, name: str, operand: Array, x: Array) -> None:  # noqa: B027
        """Refuse an operand that does not lie where x does, though of the same kind."""

    def lifted(self, value: Array, x: Array) -> Array:
        """Return a NumPy array of the kind of x, where x lies."""
        return value

    def broadcast(self, operand: Array, shape: tuple[int, ...]) -> Array:
        """Return an operand as a view of a shape."""
        return np.broadcast_to(operand, shape)

    def summed(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return the sums of x over what broadcasts to it from a shape, in its dtype."""
        full = (1,) * (x.ndim - len(shape)) + shape
        with np.errstate(over="ignore"):
            sums: Array = self.driver.sum_to(x, full).reshape(shape).astype(x.dtype)
        return sums

    def own_operands(
        self, operation: Operation, p: Array, factor: Array | None, near: Array
    ) -> Sequence[Array]:
        """Return what kernels read of a p of each element, NumPy's in float64: where `near` lies.

        `factor` is that of all kept elements; None, where an operation has any, makes them of p.
        """
        return (p,)

    def _finished(self, target: Array, result: Array, out: Any) -> Array:
        if target is not result:
            self.copy(target, result)
        return self.result(result, out)


_loaded_driver: Any = None


def cpu_driver() -> Any:
    """Return the driver of the CPU's kernels."""
    # Imported at the first call: Numba takes half a second.
    global _loaded_driver
    if _loaded_driver is None:
        with forks.importing, _uncollected():
            from fastdrop_kernels.cpu import driver

            _loaded_driver = driver
    return _loaded_driver


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Let no garbage be looked for: Numba's import makes none, and it is 15% faster."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class NumpyBackend(Backend):
    """NumPy arrays, and all that NumPy makes arrays of, on the CPU."""

    takes_operands = packs_each = True

    @property
    def driver(self) -> Any:
        return cpu_driver()

    @property
    def softmax_driver(self) -> Any:
        with forks.importing:
            from fastdrop_kernels.cpu import softmax_driver

            return softmax_driver

    def array(self, x: Any, name: str = "x") -> Array:
        return arguments.array(x, name)

    def given(self, out: Any) -> Array:
        if not isinstance(out, np.ndarray) or arguments.is_masked(out):
            where = " on a GPU, where x is not" if arguments.on_gpu(out) else ""
            raise TypeError(f"out is a {arguments.kind_of(out)}{where}: give a numpy.ndarray")
        return out

    def output(
        self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None = None
    ) -> Array:
        result = super().output(out, shape, dtype, x)
        if not result.flags.writeable:
            raise ValueError("out is read-only: give an array that may be written to")
        return result

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        return np.empty(shape, dtype)

    def empty_like(self, x: Array) -> Array:
        return np.empty_like(x, subok=False)

    def copy(self, source: Array, target: Array) -> None:
        np.copyto(target, source)

    def addresses(self, x: Array) -> Array:
        return x

    def apart(self, x: Array, y: Array) -> bool:
        return y.flags.forc and x.flags.owndata and y.flags.owndata

    def repeatable(
        self,
        operation: Operation,
        x: Array,
        out: Array | None,
        place: Place,
        threshold: int,
        value: Array,
    ) -> Again | None:
        driver = self.driver
        if not (driver.LAYOUT_IS_KNOWN and 0 < x.size < driver.PARALLEL_FROM):
            return None
        if out is not None and overlap.within(out):
            return None
        strides = x.strides, (np.empty_like(x) if out is None else out).strides
        run = driver.repeatable(operation(driver), x.shape, *strides, *place, threshold, value)
        empty_like, may_share_memory = np.empty_like, np.may_share_memory

        def again(x: Array, out: Array | None, rng: AnyRNG) -> Array | None:
            if out is None:
                out = empty_like(x)
            else:
                flags = out.flags
                if not flags.writeable:
                    return None
                # Of arrays that own their memory it is known that they do not overlap, or are one.
                apart = out is x or (flags.owndata and x.flags.owndata)
                if not apart and may_share_memory(x, out):
                    return None
            run(x, out, *(rng if type(rng) is Key else as_key(rng)))  # type: ignore[arg-type]
            return out

        return again


NUMPY = NumpyBackend()
# Whose arrays, of these very types, `_repeats` knows.
plain_arrays: dict[type, Backend] = {np.ndarray: NUMPY}
_by_type: dict[type, Backend] = {np.ndarray: NUMPY, type(None): NUMPY}


def operand_backend_of(x: Any, name: str = "x") -> Backend:
    """Return who computes on x with other arrays beside it."""
    backend = backend_of(x)
    if not backend.takes_operands:
        raise TypeError(
            f"{name} is a {arguments.kind_of(x)}, and the kernels that Numba compiles for a GPU "
            "read no other arrays beside x: install CuPy, which views Numba's"
        )
    return backend


def backend_of(x: Any) -> Backend:
    """Return who computes on x, of any kind.

    Raises
    ------
    TypeError
        If it lies on a GPU, and nothing that is installed computes there.
    """
    kind = type(x)
    if known := _by_type.get(kind):
        return known
    if arguments.is_cupy(x):
        from . import _gpu

        _by_type[kind] = _gpu.cupy_backend()
        return _by_type[kind]
    if arguments.on_gpu(x):
        from . import _gpu

        return _gpu.backend_of_foreign(x)
    return NUMPY
