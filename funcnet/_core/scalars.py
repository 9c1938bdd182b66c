"""Arguments that are one plain value: whole numbers, numbers, seeds, flags, of Python's or NumPy's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.arrays import shown


def is_integer(value: Any) -> bool:
    """Whether it is a whole number of Python's or NumPy's; True is no number."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def integer(name: str, value: Any, expected: str, least: int = 0, most: int | None = None) -> int:
    """A whole number within bounds."""
    whole = is_integer(value)
    if not whole or value < least or (most is not None and value > most):
        raise (ValueError if whole or isinstance(value, float) else TypeError)(
            f"{name}: expected {expected}, got {shown(value)}."
        )
    return int(value)


def number(name: str, value: Any, expected: str, fits: Callable[[float], bool]) -> float:
    """A number of Python's or NumPy's for which `fits` holds, as NaN's comparisons do not."""
    if isinstance(value, jax.Array | np.ndarray) and not isinstance(value, jax.core.Tracer) and value.shape == ():
        real = jnp.issubdtype(value.dtype, jnp.integer) or jnp.issubdtype(value.dtype, jnp.floating)
        value = value.item() if real else value
    real = isinstance(value, float | np.floating) or is_integer(value)
    if not real or not fits(value):
        raise (ValueError if real else TypeError)(f"{name}: expected {expected}, got {shown(value)}.")
    return float(value)


def seed(name: str, value: Any) -> int:
    """A seed that draws what no other draws: JAX's keys take 32 bits of one."""
    return integer(name, value, f"a whole number, 0 to {2**32 - 1}", 0, 2**32 - 1)


def flag(name: str, value: Any) -> bool:
    """True or False: whatever else counts as true in Python, such as "False", is refused."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}.")
    return bool(value)


def choice(name: str, value: Any, among: tuple[str, ...]) -> str:
    """One of these words."""
    if not isinstance(value, str) or value not in among:
        raise (ValueError if isinstance(value, str) else TypeError)(
            f"{name}: expected {' or '.join(map(repr, among))}, got {shown(value)}."
        )
    return value
