"""What layers with numbers for each of n features share: sizes, checks, and sums over all but the features."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from funcnet._core.numerics import total, wide


class OfFeatures:
    """A layer of n features that gives as many as it takes."""

    n: int

    @property
    def n_in(self) -> int:
        return self.n

    @property
    def n_out(self) -> int:
        return self.n


def check_norm(layer: Any) -> None:
    if layer.n < 1 or layer.epsilon < 0:
        raise ValueError(f"{layer}: n must be 1 or more and epsilon 0 or more.")


def of_gain(normal: jax.Array, deltas: jax.Array) -> jax.Array:
    """Σ δ ⊙ x̂: the gradient of a gain."""
    return total(wide(deltas) * wide(normal), rows_of(deltas))


def rows_of(values: jax.Array) -> tuple[int, ...]:
    """All axes but the features."""
    return tuple(range(values.ndim - 1))


def over_rows(features: jax.Array, like: jax.Array) -> jax.Array:
    """(n,) for every row of (m, *positions, n)."""
    return lax.broadcast(features, like.shape[:-1])


def filled(value: float, n: int) -> jax.Array:
    """Starting values of n parameters."""
    return jnp.full(n, value, jnp.zeros(()).dtype)
