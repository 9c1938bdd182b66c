"""What a forward pass hands to its layers beside parameters and x."""

from typing import NamedTuple

import jax
import numpy as np

from funcnet._core.arrays import shown


class Context(NamedTuple):
    """A combinator hands it on to its children; a leaf layer sees of it what it declares in `takes`.

    Attributes:
        key: None (evaluation), one key, or (m,) keys, one per example.
        segments: (m, T) integers: only positions of the same segment see each other, those of segment 0 (padding) none;
            None: all do.
    """

    key: jax.Array | None = None
    segments: jax.Array | None = None


def context_of(value: Context | jax.Array | None) -> Context:
    """A context as it is; a key alone as the context that holds it."""
    if isinstance(value, Context):
        return value
    if value is not None and not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"context: expected the combinator's own, a key or None, got {shown(value)}.")
    return Context(value)
