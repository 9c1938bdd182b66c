"""A function over a grid of points, in blocks that memory holds; and the classes that outputs and targets mean."""

from typing import Any

import jax
import numpy as np

from funcnet._core import arguments, scalars
from funcnet._core.protocols import AnyLayer, ArrayLike

ROOM = 2**22  # numbers that a block of forward passes may hold in its widest layer


def checked_points(caller: str, points: Any) -> int:
    """How many points a grid has to a side."""
    return scalars.integer(f"{caller}: points", points, "2 … 2000, of the grid to a side", 2, 2000)


def at_once(net: AnyLayer, examples: int) -> int:
    """How many forward passes of so many examples are made side by side."""
    widest = max((max(leaf.shape) for leaf in jax.tree.leaves(arguments.params_struct(net))), default=1)
    return max(1, ROOM // (widest * max(examples, 1)))


def checked_threshold(caller: str, threshold: Any) -> float:
    return scalars.number(f"{caller}: threshold", threshold, "a number", lambda value: value == value)


def classes_of(caller: str, name: str, given: ArrayLike, threshold: float) -> tuple[np.ndarray, int]:
    """Classes as flat integers, and how many there are at least, from classes, or outputs of each class.

    Floats (…, C) mean the largest, and (…, 1) or a single column whether it is above the threshold.
    """
    array = arguments.as_array(name, given)
    arguments.refuse_non_finite(name, array)
    values = np.asarray(array)
    if values.dtype == bool:
        values = values.astype(int)
    if np.issubdtype(values.dtype, np.integer):
        values = values[..., 0] if values.ndim > 1 and values.shape[-1] == 1 else values
        if (values < 0).any():
            raise ValueError(f"{caller}: {name} must hold classes of 0 or more, got {int(values.min())}.")
        return values.ravel(), int(values.max(initial=0)) + 1
    if values.ndim < 2:
        raise ValueError(
            f"{caller}: {name} must hold integer classes, or a number for every class, got shape {values.shape} "
            f"of {values.dtype}. Use {name}.astype(int) for classes."
        )
    if values.shape[-1] == 1:
        return (values[..., 0] > threshold).astype(int).ravel(), 2
    return values.argmax(-1).ravel(), values.shape[-1]


def targets_of(caller: str, y: ArrayLike, m: int, predicted: str, outputs: int | None) -> tuple[np.ndarray, int]:
    """The true classes of m examples, and how many there are at least: no more than the outputs, if there are any."""
    true, least = classes_of(caller, "y", y, 0.5)
    if len(true) != m or not m:
        raise ValueError(
            f"{caller}: {predicted}, but y has {len(true)} (shape {np.shape(y)}). Expected as many, and one at least: "
            "check that both come from the same split."
        )
    if outputs is not None and least > outputs:
        raise ValueError(
            f"{caller}: y holds class {least - 1}, but the outputs tell {outputs} apart, 0 … {outputs - 1}. "
            "Check the size of the last layer and the targets."
        )
    return true, least


def checked_labels(caller: str, labels: Any, count: int) -> list[Any]:
    """A name for every class."""
    if labels is None:
        return list(range(count))
    if not arguments.is_list(labels) or len(labels) != count:
        raise ValueError(
            f"{caller}: labels must be a list that names all {count} classes, got {arguments.shown(labels)}."
        )
    return list(labels)
