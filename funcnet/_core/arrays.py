"""The door for arrays: what is taken for one, and what is said of what is none."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LONG = 60  # letters of a value in a message


def as_array(name: str, values: Any) -> jax.Array:
    """Real values as JAX's array; integers that JAX's integers cannot hold are refused, not wrapped."""
    array = values if isinstance(values, jax.Array) else _read(name, values)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        raise TypeError(f"{name}: expected numbers, got a random key.")
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}.")
    narrowed = isinstance(values, np.ndarray) and array.dtype != values.dtype
    if narrowed and jnp.issubdtype(array.dtype, jnp.integer) and (values.astype(array.dtype) != values).any():
        raise ValueError(f"{name}: holds integers beyond {array.dtype}. Use smaller ones, or enable jax_enable_x64.")
    return array


def is_array(value: Any) -> bool:
    """Whether it is an array of JAX's or NumPy's, traced or not; NumPy's of text, dates or objects are none here."""
    return isinstance(value, jax.Array) or (
        isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in "OSUMm"
    )


def is_list(value: Any) -> bool:
    """Whether it holds several things in order: a list, a tuple, an array; a text is one thing."""
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)


def shown(value: Any) -> str:
    """A short description of a value for a message."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type | np.generic):
        return f"shape {value.shape} of {value.dtype}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    if len(text) <= LONG and "\n" not in text and text[:1] != "<":
        return text
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def refuse_non_finite(name: str, values: jax.Array) -> None:
    """Name the first entry that is not finite, where values can be seen (not under jit)."""
    if isinstance(values, jax.core.Tracer) or not jnp.issubdtype(values.dtype, jnp.inexact):
        return
    finite = np.isfinite(np.asarray(values))
    if not finite.all():
        first = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}[{', '.join(map(str, first))}] is {np.asarray(values)[first]}. Remove such examples, "
            "fill them in, or give them weight 0."
        )


def instance(value: Any) -> str:
    """What to do with a class in an instance's place, as the end of a message."""
    return f" Write {value.__name__}(...): an instance, not the class." if isinstance(value, type) else ""


def _read(name: str, values: Any) -> jax.Array:
    listed = jax.tree.leaves(values) if isinstance(values, list | tuple) else ()
    if any(isinstance(leaf, str) for leaf in listed):  # JAX would ask NumPy for a type of that name
        raise _refusal(name, values)
    if values is None or isinstance(values, bytes | bytearray | dict | set) or hasattr(values, "toarray"):
        raise _refusal(name, values)
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refusal(name, values) from error


def _refusal(name: str, values: Any) -> TypeError | ValueError:
    """What is wrong with values that JAX makes no array of, and what to do."""
    if hasattr(values, "toarray"):
        return TypeError(f"{name}: expected a dense array, got a sparse {type(values).__name__}. Use {name}.toarray().")
    if isinstance(values, str | bytes | np.str_):
        return _of_text(name, values)
    if isinstance(values, int):
        return ValueError(f"{name}: expected numbers that an array can hold, got {shown(values)}.")
    nested = type(values) in (list, tuple)
    if nested and any(isinstance(leaf, jax.Array | np.ndarray) for leaf in jax.tree.leaves(values)):
        got = " and ".join(dict.fromkeys(shown(entry) for entry in values))
        return TypeError(f"{name}: expected entries of one shape and type, got {got}.")
    if not nested and not isinstance(values, np.ndarray) and not hasattr(values, "__array__"):
        return TypeError(f"{name}: expected an array of numbers, got {shown(values)}.{instance(values)}")
    if isinstance(values, np.ndarray) and values.dtype.kind in "mM":
        return TypeError(
            f"{name}: expected numbers, got {values.dtype}. Count them from one: ({name} - {name}.min()).astype(float)."
        )
    return _of_entries(name, values)


def _of_entries(name: str, values: Any) -> TypeError | ValueError:
    """Of an array, table or nested lists: the first entry that is no number."""
    entries = np.asarray(values, object)
    lengths = {len(entry) for entry in entries.flat if isinstance(entry, list | tuple | np.ndarray)}
    if lengths:
        several = " and ".join(map(str, sorted(lengths))) if len(lengths) > 1 else "a number and a row"
        return ValueError(
            f"{name}: expected rows of equal length, got {several}. Fill the shorter ones up, at weight 0."
        )
    for place, entry in np.ndenumerate(entries):
        where = f"{name}[{', '.join(map(str, place))}]"
        if isinstance(entry, str | bytes):
            return _of_text(name, entry, _column(values, place))
        if not isinstance(entry, int | float | np.number | np.bool_):
            return TypeError(f"{name}: expected numbers, but {where} is {shown(entry)}. Fill it in, or leave it out.")
    return TypeError(f"{name}: expected an array of numbers, got one of Python's objects. Use {name}.astype(float).")


def _column(values: Any, place: tuple[int, ...]) -> str:
    """The column of a table that an entry stands in, in words."""
    columns = getattr(values, "columns", None)
    return "" if columns is None else f" in column {columns[place[1]]!r}"


def _of_text(name: str, text: Any, where: str = "") -> TypeError:
    remedy = "Turn it into numbers first."
    if name == "y":
        remedy = "Number the classes: classes, y = numpy.unique(y, return_inverse=True)."
    return TypeError(f"{name}: expected numbers, got text{where}, such as {shown(text)}. {remedy}")
