"""A backend: what differs between NumPy's arrays and others', behind one interface."""

from __future__ import annotations

import abc
import contextlib
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastdrop_kernels import forks
from fastdrop_kernels.shielded import import_in_progress, run_shielded

from .._check import arguments
from .._check.arguments import Array
from .._check.key import AnyRNG, as_key
from .._check.placement import Placement
from .._check.probabilities import array_of_probabilities
from .._check.shard_offsets import IndexOf
from . import overlap


class Operation(NamedTuple):
    """An operation of the catalogue that a call wants; every driver has one of that name."""

    name: str
    dtype: np.dtype[Any] | None = None
    variant: tuple[Any, ...] = ()
    # By a p of each element; whether its parameter is given then, and not made of p.
    given: bool | None = None

    def of(self, driver: Any) -> Any:
        """Return the operation of a driver. Whoever has none raises a TypeError."""
        if self.given is not None:
            return driver.per_element(self.name, self.dtype, self.given)
        return driver.operation(self.name, self.dtype, *self.variant)


# A call plan, ``(x, out, rng, offset) -> result``. None is returned for calls that have to take the
# general path: nothing is written then, and rng not asked. Of a mask, x is what it is to lie like.
# By an array of p, that is given behind x.
Plan = Callable[..., Array | None]

BOOL, BYTE = np.dtype(np.bool_), np.dtype(np.uint8)
DOUBLE, FLOAT = np.dtype(np.float64), np.dtype(np.float32)
NO_VALUE = np.zeros((), BYTE)  # a parameter for operations that have none


class Backend(abc.ABC):
    """Who computes on arrays of a library; `Array` stands for those of any."""

    takes_operands = False  # whether its kernels read other arrays beside x
    is_lazy = False  # whether results are computed later
    labelled_x: Any = None  # the array whose labels results have

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

    def ordered(
        self, inputs: Sequence[Array], out: Any, rng: AnyRNG = None, near: Array | None = None
    ) -> contextlib.AbstractContextManager[Any]:
        """Let work on these arrays run where they lie, and in order with their libraries' work."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    def writable(self, out: Any) -> Array:
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
    def no_overlap(self, x: Array, y: Array) -> bool:
        """Say whether it is quickly seen that writing y disturbs neither x nor itself."""

    def key(self, rng: AnyRNG, y: Array) -> tuple[int, int, dict[str, Any]]:
        """Return seed and stream, and what else the kernels that write y are told about them."""
        return *as_key(rng), {}  # type: ignore[arg-type]  # which is what it may refuse

    def is_like(self, other: Backend) -> bool:
        """Say whether another computes on arrays that these kernels can read beside x."""
        return other is self

    def result(self, array: Array, out: Any) -> Array:
        """Return what the caller gets: `out`, or the new array."""
        chosen: Array = array if out is None else out
        return chosen

    def output(
        self, out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], x: Array | None = None
    ) -> Array:
        """Return `out` as the kernels write it; it must fit, and lie where x lies."""
        return arguments.fitting(self.writable(out), shape, dtype)

    def operands(self, x: Array, out: Any) -> tuple[Array, Array, Array]:
        """Return what to read, what to write, and what the result is to be in.

        They are such that no overlap can be seen in the result.
        """
        if out is None:
            target = self.empty_like(x)
            return x, target, target
        result = self.output(out, x.shape, x.dtype, x)
        if self.no_overlap(x, result):
            return x, result, result
        read, written = self.addresses(x), self.addresses(result)
        if overlap.overlaps_itself(written):
            return x, self.empty_like(result), result
        if overlap.may_clobber(written, read):
            source = self.empty_like(x)
            self.copy(x, source)
            return source, result, result
        return x, result, result

    def apply(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        placement: Placement,
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
            more_inputs = {"operands": tuple([self.undisturbed(o, there) for o in operands])}
        else:
            more_inputs = {}
        driver, coefficients = self.driver, (threshold, value)
        chosen = operation.of(driver)  # what may fail, before a generator moves on
        seed, stream, more = self.key(rng, target)
        where = *placement, seed, stream
        driver.apply(chosen, source, target, *where, *coefficients, **more_inputs, **more)
        return self._finished(target, result, out)

    def contiguous_plan(
        self, operation: Operation, dtype: np.dtype[Any], threshold: int, value: Array
    ) -> Plan | None:
        """Return a plan of `apply` for contiguous arrays of a dtype and any shape, if there is one.

        Its calls have an `out` of the very type of x, or none, and an offset that is an index.
        """
        return None

    def plan(
        self,
        operation: Operation,
        x: Array,
        out: Any,
        placement: Placement,
        threshold: int,
        value: Array,
        index_of: IndexOf,
        operands: Sequence[Array] = (),
    ) -> Plan | None:
        """Return a plan of `apply` for arrays of the layouts of these, if there is one.

        With operands, its calls take a tuple of x and the operands in the place of x.
        """
        return None

    def per_element_plan(
        self,
        operation: Operation,
        x: Array,
        p: Array,
        out: Any,
        placement: Placement,
        value: Array,
        index_of: IndexOf,
    ) -> Plan | None:
        """Return a plan of `apply` by arrays of the layout of p, float64 or float32, if any."""
        return None

    def mask_plan(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        threshold: int,
        like: Array | None = None,
        packed: bool = False,
        index_of: IndexOf | None = None,
    ) -> Plan | None:
        """Return a plan of `mask` with one p, for an `out` of the same layout, if there is one."""
        return None

    def softmax(
        self,
        x: Array,
        out: Any,
        axis: int,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        value: Array,
    ) -> Array:
        """Take the softmax of x along an axis, drop and scale it, and return the result."""
        source, target, result = self.operands(x, out)
        driver = self.softmax_driver
        seed, stream, more = self.key(rng, target)
        mask = *placement, seed, stream, threshold, value
        driver.softmax_dropout(source, target, axis, *mask, **more)
        return self._finished(target, result, out)

    def softmax_gradient(
        self,
        x: Array,
        dy: Array,
        out: Any,
        axis: int,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        value: Array,
    ) -> Array:
        """Return the gradient by x of `softmax`, dy being that of its result."""
        source, target, result = self.operands(x, out)
        given = dy
        if out is not None and overlap.may_clobber(self.addresses(target), self.addresses(dy)):
            given = self.empty_like(dy)
            self.copy(dy, given)
        driver = self.softmax_driver
        seed, stream, more = self.key(rng, target)
        mask = *placement, seed, stream, threshold, value
        driver.softmax_dropout_backward(source, given, target, axis, *mask, **more)
        return self._finished(target, result, out)

    def mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        like: Array | None = None,
        p: Array | None = None,
        packed: bool = False,
    ) -> Array:
        """Draw a mask; a new one lies where `like` lies. `p` gives elements their own.

        If `packed`, of 8 elements to a byte.
        """
        draw = self._packed_mask if packed else self._mask
        return draw(shape, out, placement, rng, threshold, like, p)

    def _mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        like: Array | None,
        p: Array | None,
    ) -> Array:
        result = self.empty(shape, BOOL) if out is None else self.output(out, shape, BOOL, like)
        apart = out is None or not overlap.overlaps_itself(self.addresses(result))
        target = result if apart else self.empty_like(result)
        driver, marks = self.driver, (target, target)
        seed, stream, more = self.key(rng, target)
        if p is None:
            marking = driver.operation("mark")
        else:
            by_p, there = Operation("mark", given=True), self.addresses(target)
            marking = by_p.of(driver)
            own = self.per_element_operands(by_p, p, None, target)
            more = {**more, "operands": tuple([self.undisturbed(o, there) for o in own])}
        driver.apply(marking, *marks, *placement, seed, stream, threshold, NO_VALUE, **more)
        return self._finished(target, result, out)

    def _packed_mask(
        self,
        shape: tuple[int, ...],
        out: Any,
        placement: Placement,
        rng: AnyRNG,
        threshold: int,
        like: Array | None,
        p: Array | None,
    ) -> Array:
        elements = 1
        for length in shape:
            elements *= length
        size = ((elements + 7) // 8,)
        result = self.empty(size, BYTE) if out is None else self.output(out, size, BYTE, like)
        plain = self.addresses(result).flags.c_contiguous
        target = result if plain else self.empty(size, BYTE)
        if p is not None:
            self.pack_each(target, shape, placement, rng, p)
        else:
            driver = self.driver
            seed, stream, more = self.key(rng, target)
            driver.pack(target, shape, *placement, seed, stream, threshold, **more)
        return self._finished(target, result, out)

    @abc.abstractmethod
    def pack_each(
        self, target: Array, shape: tuple[int, ...], placement: Placement, rng: AnyRNG, p: Array
    ) -> None:
        """Draw a mask of 8 elements to a byte by a p of each element, NumPy's in float64."""

    def identity(self, x: Any, xs: Array, out: Any) -> Array:
        """Return x itself, or copy it to `out`."""
        if out is None:
            same: Array = x
            return same
        source, target, result = self.operands(xs, out)
        self.copy(source, target)
        return self._finished(target, result, out)

    def undisturbed(self, operand: Array, written: Array) -> Array:
        """Return a view of an operand in the shape of what is written, which does not change it."""
        view = self.broadcast(operand, written.shape)
        if not overlap.may_clobber(written, self.addresses(view)):
            return view
        kept = self.empty_like(operand)
        self.copy(operand, kept)
        return self.broadcast(kept, written.shape)

    def check_same_device(self, name: str, operand: Array, x: Array) -> None:  # noqa: B027
        """Refuse an operand that does not lie where x does, though of the same kind."""

    def to_device(self, value: Array, x: Array) -> Array:
        """Return a NumPy array of the kind of x, where x lies."""
        return value

    def table(self, value: Array, x: Array, changes: bool = False) -> Array:
        """Return the same for what kernels read beside x; `changes`: from call to call."""
        return value

    def broadcast(self, operand: Array, shape: tuple[int, ...]) -> Array:
        """Return an operand as a view of a shape."""
        return operand if operand.shape == shape else np.broadcast_to(operand, shape)

    def constant(self, value: Array, x: Array) -> Array:
        """Return a NumPy array without axes as an array of the shape of x, where x lies."""
        return self.broadcast(self.to_device(value, x), x.shape)

    def sum_to(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return the sums of x over what broadcasts to it from a shape, in its dtype."""
        full = (1,) * (x.ndim - len(shape)) + shape
        with np.errstate(all="ignore"):
            sums: Array = self.float64_sums(x, full).reshape(shape).astype(x.dtype)
        return sums

    def float64_sums(self, x: Array, full: tuple[int, ...]) -> Array:
        """Return sums over the axes where `full`, which has as many axes as x, is 1."""
        sums: Array = self.driver.sum_to(x, full)
        return sums

    def probabilities(self, p: Any) -> Array:
        """Return an array of p, checked, as `per_element_operands` takes it."""
        return array_of_probabilities(p)

    def per_element_operands(
        self, operation: Operation, p: Array, factor: Array | None, near: Array
    ) -> Sequence[Array]:
        """Return what kernels read of a p of each element, where `near` lies.

        p is NumPy's, in float64 or float32. `factor` is that of all kept elements; None, where an
        operation has any, makes them of p.
        """
        return (p,)

    def _finished(self, target: Array, result: Array, out: Any) -> Array:
        if target is not result:
            self.copy(target, result)
        return self.result(result, out)


def imported(name: str) -> Any:
    """Return a module of the kernels; while one is imported, no process is forked."""
    if (loaded := sys.modules.get(name)) and not import_in_progress(name):
        return loaded

    def load() -> Any:
        with forks.importing:
            return importlib.import_module(name)

    return run_shielded(load)


def copy_by_filling(driver: Any, source: Array, target: Array, **more: Any) -> None:
    """Copy by the kernel that fills nothing: it takes any dtype, and any strides."""
    fill, nothing = driver.operation("fill", source.dtype), np.zeros((), source.dtype)
    driver.apply(fill, source, target, 0, None, 0, 0, 0, nothing, **more)
