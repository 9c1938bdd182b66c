"""Example weights from how often each class occurs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.protocols import ArrayLike


def class_weights(y: ArrayLike, wanted: ArrayLike | Mapping[int, float] | None = None) -> jax.Array:
    """A weight for every example, by its class: to be handed on as `weights`.

    Without `wanted` every class that occurs counts alike, however rare it is: of the C' classes in y,
    w_i = m / (C' · examples of class y_i), which sums to m (King and Zeng, 2001; scikit-learn's "balanced").
    Classes keep their numbers: one that a split lacks has no example to weigh, and the others share.

    Args:
        y: classes 0 … C-1, integers or booleans, (m,) or (m, *positions). The answers of one output, (m, 1) of 0
            and 1 in any type, are the classes 0 and 1.
        wanted: the weight of an example of each class: (C,), or a dict from class to weight, in which a class that is
            not named counts 1. None balances the classes.

    Returns:
        Weights shaped like y; for y of (m, 1) they are (m,).

    Raises:
        TypeError: classes that are not integers; y inside `jit`, where its values cannot be counted.
        ValueError: one-hot targets; a class that an array `wanted` lacks; weights that are negative or not finite.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> fn.class_weights(jnp.array([0, 0, 1, 1, 1, 1])).tolist()
        [1.5, 1.5, 0.75, 0.75, 0.75, 0.75]
        >>> fn.class_weights(jnp.array([[0.0], [1.0]]), {1: 5.0}).tolist()
        [1.0, 5.0]
    """
    for name, value in (("y", y), ("wanted", wanted)):
        if isinstance(value, jax.core.Tracer):
            raise TypeError(f"class_weights: {name} is traced, and its values are needed. Call it outside of jit.")
    classes = _classes(y)
    occurring, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    each = classes.size / (len(counts) * counts) if wanted is None else _wanted(wanted, occurring)
    return jnp.asarray(each[places.reshape(classes.shape)], jnp.zeros(()).dtype)


def _classes(y: Any) -> np.ndarray:
    """The classes as integers, or an error that says what y is in their place."""
    try:
        classes = np.asarray(y)
    except ValueError:
        raise TypeError("class_weights: expected an array of classes as y, got rows of unequal lengths.") from None
    column = classes.ndim == 2 and classes.shape[1] == 1
    is_number = classes.dtype == bool or np.issubdtype(classes.dtype, np.number)
    if classes.dtype == bool or (is_number and column and np.isin(classes, (0, 1)).all()):
        classes = classes.astype(int)
    if not np.issubdtype(classes.dtype, np.integer):
        numbered = "classes, y = numpy.unique(y, return_inverse=True) numbers them."
        remedy = "Use y.astype(int), or y.argmax(-1) of one-hot targets." if is_number else numbered
        raise TypeError(f"class_weights: expected integer classes as y, got {classes.dtype}. {remedy}")
    if classes.ndim == 0 or classes.size == 0 or classes.min() < 0:
        got = "none" if classes.size == 0 else f"one number, {classes}" if classes.ndim == 0 else classes.min()
        raise ValueError(f"class_weights: expected classes 0 … C-1 as y, got {got}.")
    if classes.ndim == 2 and not column and classes.max() == 1 and (classes.sum(1) == 1).all():
        raise ValueError(
            f"class_weights: y of shape {classes.shape} is one-hot. Use y.argmax(-1); if its columns are positions, "
            "class_weights(y.ravel()).reshape(y.shape)."
        )
    return classes[:, 0] if column else classes


def _wanted(wanted: Any, occurring: np.ndarray) -> np.ndarray:
    """The weight that was asked for of each class that occurs."""
    named = wanted if isinstance(wanted, Mapping) else None
    values = wanted if named is None else list(named.values())
    flat = isinstance(values, list | tuple | np.ndarray | jax.Array) or hasattr(values, "__array__")
    each = np.asarray(values) if flat and np.ndim(values) == 1 else np.asarray(None)
    if each.dtype == bool or not np.issubdtype(each.dtype, np.number) or np.iscomplexobj(each):
        raise TypeError(f"class_weights: expected a number for each class as wanted, (C,) or a dict, got {wanted!r}.")
    if not np.isfinite(each).all() or (each < 0).any():
        raise ValueError(f"class_weights: expected finite weights of 0 or more as wanted, got {wanted!r}.")
    if named is None:
        if occurring.max() >= len(each):
            raise ValueError(
                f"class_weights: wanted has shape {each.shape}, expected a weight for each class 0 … {occurring.max()}."
            )
        return each[occurring]
    unnamed, unused = [c for c in occurring.tolist() if c not in named], [c for c in named if c not in occurring]
    if unnamed and unused:
        raise ValueError(
            f"class_weights: wanted names {unused[0]!r}, which y lacks, and not class {unnamed[0]}, which y has. Name "
            "every class."
        )
    return np.array([named.get(c, 1.0) for c in occurring.tolist()])
