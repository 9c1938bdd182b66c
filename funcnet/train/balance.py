"""Example weights from how often each class occurs."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments
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
            raise TypeError(f"{name}: is traced, and class_weights needs its values. Call it outside of jit.")
    classes = _classes(y)
    occurring, places, counts = np.unique(classes, return_inverse=True, return_counts=True)
    each = classes.size / (len(counts) * counts) if wanted is None else _wanted(wanted, occurring)
    return jnp.asarray(each[places.reshape(classes.shape)], jnp.zeros(()).dtype)


def _classes(y: Any) -> np.ndarray:
    """The classes as integers, or an error that says what y is in their place."""
    classes = np.asarray(arguments.as_array("y", y))
    column = classes.ndim == 2 and classes.shape[1] == 1
    if classes.dtype == bool or (column and np.isin(classes, (0, 1)).all()):
        classes = classes.astype(int)
    if not np.issubdtype(classes.dtype, np.integer):
        remedy = "Use y.astype(int), or y.argmax(-1) of one-hot targets."
        raise TypeError(f"y: expected integer classes, got {classes.dtype}. {remedy}")
    if classes.ndim == 0 or classes.size == 0 or classes.min() < 0:
        got = "none" if classes.size == 0 else f"one number, {classes}" if classes.ndim == 0 else classes.min()
        raise ValueError(f"y: expected classes 0 … C-1, got {got}.")
    if classes.ndim == 2 and not column and classes.max() == 1 and (classes.sum(1) == 1).all():
        raise ValueError(
            f"y: of shape {classes.shape} is one-hot. Use y.argmax(-1); if its columns are positions, "
            "class_weights(y.ravel()).reshape(y.shape)."
        )
    return classes[:, 0] if column else classes


def _wanted(wanted: Any, occurring: np.ndarray) -> np.ndarray:
    """The weight that was asked for of each class that occurs."""
    named = wanted if isinstance(wanted, Mapping) else None
    each = np.asarray(arguments.as_array("wanted", wanted if named is None else list(named.values())))
    if each.ndim != 1 or each.dtype == bool:
        got = arguments.shown(wanted)
        raise TypeError(f"wanted: expected a number for each class, (C,) or a dict from class to weight, got {got}.")
    if not np.isfinite(each).all() or (each < 0).any():
        raise ValueError(f"wanted: expected finite weights of 0 or more, got {each.tolist()}.")
    if named is None:
        if occurring.max() >= len(each):
            raise ValueError(f"wanted: has shape {each.shape}, expected a weight for each class 0 … {occurring.max()}.")
        return each[occurring]
    classes = occurring.tolist()
    unnamed, unused = [c for c in classes if c not in named], [c for c in named if c not in classes]
    if unnamed and unused:
        raise ValueError(
            f"wanted: names {unused[0]!r}, which y lacks, and not class {unnamed[0]}, which y has. Name every class."
        )
    return np.array([named.get(c, 1.0) for c in classes])
