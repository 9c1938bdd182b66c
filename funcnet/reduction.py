"""How the costs of examples and positions become one number J, or a weighting of error signals."""

from typing import Literal

import jax
import jax.numpy as jnp

from funcnet.precision import accumulation_type
from funcnet.protocols import Params, Penalty

Reduction = Literal["mean", "sum"]


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}.")


def shares_of(costs: jax.Array, weights: jax.Array | None, reduction: Reduction) -> float | jax.Array:
    """What each cost is multiplied with in J: one number, or an array with examples (and positions) first."""
    factor = per_mass(costs, weights, reduction)
    return factor if weights is None else weights.astype(accumulation_type(costs.dtype)) * factor


def per_mass(costs: jax.Array, weights: jax.Array | None, reduction: Reduction) -> float | jax.Array:
    """What the weighted sum of the costs is multiplied with to be J."""
    if reduction == "sum":
        return 1.0
    if weights is None:
        return 1 / max(len(costs), 1)
    mass = jnp.sum(weights.astype(accumulation_type(costs.dtype)))
    mass = jnp.where(jnp.isfinite(mass), mass, jnp.nan)  # an overflow must not pass for a cost of 0
    return jnp.where(mass == 0, 0, 1 / jnp.where(mass == 0, 1, mass))


def weighted(values: jax.Array, shares: float | jax.Array) -> jax.Array:
    """Costs or deltas times their shares. A share of 0 gives 0, whatever the value."""
    if isinstance(shares, float):
        return values * shares
    shares = shares.reshape(*shares.shape, *[1] * (values.ndim - shares.ndim)).astype(values.dtype)
    return jnp.where(shares == 0, 0, values * shares)


def with_penalty(value: jax.Array, penalty: Penalty | None, params: Params) -> jax.Array:
    return value if penalty is None else value + penalty.value(params).astype(value.dtype)
