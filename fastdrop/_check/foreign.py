"""Errors for objects of other libraries that fastdrop does not accept: what to pass instead.

Objects with ``__array__`` are not converted implicitly: they may be stored on disk, be part of an
autograd graph that a conversion would cut, or have labels. `arguments.array` calls `reject`. Code
in the messages can be run as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, NoReturn

import numpy as np

from . import detect

_CALLED_X = re.compile(r"\bx\b")


def reject(x: Any, name: str) -> None:
    """Raise TypeError if x must not be converted to an array; the error calls it `name`."""
    way = advice(x)
    if way:
        if name != "x":
            way = _CALLED_X.sub(name if name.isidentifier() else "it", way)
        raise TypeError(f"{name} is {detect.a_kind_of(x)}{way}")


def advice(x: Any) -> str:
    """Return what an error says after the type of an object called x; "" if it is accepted."""
    for package in dict.fromkeys(detect.roots(x)):
        if package in _WAYS and (way := _WAYS[package](x)):
            return way
    if isinstance(x, Mapping):
        names = [key for key in x if isinstance(key, str)]
        return f": give its arrays one by one, such as x[{(names or ['name'])[0]!r}]"
    if isinstance(x, Set):
        return ": give numpy.array(sorted(x))"
    if isinstance(x, Iterator):
        return ": give numpy.array(list(x))"
    if way := _of_variable(x):
        return way
    if detect.is_array(x):
        return ", and is not converted in silence: give numpy.asarray(x)"
    if hasattr(type(x), "__dlpack__"):
        return ", and is not converted in silence: give numpy.from_dlpack(x)"
    return ""


def reject_objects(x: Any, array: Any, name: str) -> NoReturn:
    """Raise TypeError for a value that NumPy converted to an array of Python objects."""
    kind = detect.a_kind_of(x)
    if not array.ndim:
        raise TypeError(f"{name} is {kind}: give an array of numbers")
    first = next((detect.a_kind_of(item) for item in array.flat), "an object")
    raise TypeError(
        f"{name} is {kind} of objects, the first of them {first}: give numbers, as "
        f"numpy.array({name}, float) makes of decimals and fractions"
    )


def shape_of(x: Any) -> Any:
    """Return the shape of an array of any library without converting it; None if it has none."""
    if isinstance(x, list | tuple):
        try:
            return np.shape(x)
        except ValueError:  # rows of several lengths
            return (len(x),)
    try:
        return tuple(x.shape)
    except (AttributeError, TypeError):  # TypeError: the rank is not known yet
        return None


def _of_torch(x: Any) -> str:
    if not hasattr(x, "detach"):
        return ""
    if x.device.type == "meta":
        return " on the meta device, where there are no numbers: give one on the CPU"
    numbers = "x.detach()"
    if x.is_quantized:
        numbers += ".dequantize()"
    elif str(x.layout) != "torch.strided":
        numbers += ".to_dense()"
    numbers += ".cpu()"
    dtype = str(x.dtype)
    if dtype == "torch.bfloat16":
        return (
            f" of bfloat16, which NumPy lacks: give {numbers}.float().numpy(), or, with ml_dtypes, "
            f"{numbers}.view(torch.int16).numpy().view(ml_dtypes.bfloat16)"
        )
    if dtype.startswith("torch.float8"):
        return f" of {dtype}, which NumPy lacks: give {numbers}.float().numpy()"
    if x.is_conj() or x.is_neg():
        numbers += ".resolve_conj().resolve_neg()"
    return f", and fastdrop computes on NumPy arrays: give {numbers}.numpy()"


def _of_jax(x: Any) -> str:
    if any(base.__name__ == "Tracer" for base in type(x).__mro__):
        return (
            ", which has no numbers yet: give jax.pure_callback(lambda x: fastdrop.dropout("
            "numpy.asarray(x), p, rng=key), jax.ShapeDtypeStruct(x.shape, x.dtype), x, "
            'vmap_method="sequential"), in a function with jax.custom_vjp if it is to be '
            "differentiated: its backward is the same call on the gradient"
        )
    if not detect.is_array(x):
        return ""
    return ", and fastdrop computes on NumPy arrays: give numpy.asarray(x)"


def _of_tensorflow(x: Any) -> str:
    if hasattr(x, "numpy"):
        return ", and fastdrop computes on NumPy arrays: give x.numpy()"
    if not hasattr(x, "dtype"):
        return ""
    return (
        ", which has no numbers yet: give tensorflow.numpy_function(lambda x: fastdrop.dropout("
        "x, p, rng=key), [x], x.dtype)"
    )


def _of_dask(x: Any) -> str:
    if not hasattr(x, "compute"):
        return ""
    if hasattr(type(x), "to_dask_array"):
        return ", which is lazy: give x.to_dask_array(lengths=True), or x.compute()"
    more = ", or a part of it, x[0:1000].compute()" if shape_of(x) else ""
    return f", which is lazy: give x.compute(){more}"


def _on_disk(x: Any) -> str:
    if not hasattr(x, "shape"):
        return ""
    if not shape_of(x):
        return ", whose number is not in memory: give x[()]"
    return (
        ", whose numbers are not in memory: give x[...], or a part of it, x[0:1000], of which "
        "offset and global_shape say where it lies; fastdrop.apply_blocks goes through all of it"
    )


def _of_netcdf4(x: Any) -> str:
    if not hasattr(x, "shape"):
        return ""
    return (
        ", whose numbers are not in memory: give numpy.ma.filled(x[...], numpy.nan), or a part of "
        "it, numpy.ma.filled(x[0:1000], numpy.nan)"
    )


def _of_scipy(x: Any) -> str:
    if not hasattr(x, "nnz"):
        return ""
    if isinstance(getattr(x, "data", None), np.ndarray) and x.data.dtype != object:
        return (
            ", of which fastdrop takes the stored elements: give x.data, and put the result into a "
            "copy, y = x.copy(); y.data = fastdrop.dropout(x.data, p, rng=key)"
        )
    return ", which has no array of its elements: give x.tocsr().data"


def _of_autograd(x: Any) -> str:
    if not hasattr(x, "_value"):
        return ""
    return (
        ", of which autograd records what is done to it: multiply it by a fastdrop.Mask, or wrap "
        "the function by autograd.extend.primitive; x._value is its array, whose gradient is lost"
    )


def _of_pandas(x: Any) -> str:
    return ": give x.to_numpy()" if hasattr(x, "to_numpy") else ""


def _of_xarray(x: Any) -> str:
    names = list(getattr(x, "data_vars", ()))
    if hasattr(x, "data_vars"):
        example = f", such as x[{names[0]!r}]" if names else ""
        return f", which has several arrays: give one of them{example}"
    return ": give x.values" if hasattr(x, "values") and not callable(x.values) else ""


def _of_variable(x: Any) -> str:
    """Return the advice for a variable of an autograd framework: a wrapped array with a grad."""
    if not hasattr(x, "grad"):
        return ""
    for name in ("data", "_value", "value"):
        held = getattr(x, name, None)
        if isinstance(held, np.ndarray) or detect.is_cupy(held):
            return (
                f", whose graph would not know of the call: give x.{name}, and in a function of "
                "its framework the same call on the gradient is the backward"
            )
    return ""


_WAYS: dict[str, Callable[[Any], str]] = {
    "torch": _of_torch,
    "jax": _of_jax,
    "jaxlib": _of_jax,
    "tensorflow": _of_tensorflow,
    "keras": _of_tensorflow,
    "dask": _of_dask,
    "scipy": _of_scipy,
    "autograd": _of_autograd,
    "pandas": _of_pandas,
    "xarray": _of_xarray,
    "netCDF4": _of_netcdf4,
    **dict.fromkeys(("h5py", "zarr", "tables", "h5netcdf"), _on_disk),
}
