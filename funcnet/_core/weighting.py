"""How the costs of examples and positions become one number J, and how deltas are weighted alike."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.numerics import accumulation_type, total
from funcnet._core.protocols import Params, Penalty, Tree
from funcnet._core.scalars import choice

Reduction = Literal["mean", "sum"]

FAR = 2.0**40  # from 1, beyond which the largest weight is scaled


def check_reduction(reduction: str) -> None:
    choice("reduction", reduction, ("mean", "sum"))


def reduced(costs: jax.Array, weights: jax.Array | None, reduction: Reduction) -> jax.Array:
    """J of costs (m, *positions): their weighted sum, for "mean" divided by the sum of the weights."""
    weights = for_reduction(weights, reduction)
    return averaged(total(weighted(costs, weights_of(costs, weights))), costs, weights, reduction)


def averaged(sums: Any, costs: jax.Array, weights: jax.Array | None, reduction: Reduction) -> Any:
    """A tree of sums over examples, for "mean" divided by the sum of the weights, which are from `for_reduction`.

    The division comes after the sum, here and everywhere. A sum over examples with a common factor under it was
    compiled wrongly once (jaxlib 0.10.2), and 1/Σw may vanish where the mean is an ordinary number.
    """
    if reduction == "sum":
        return sums
    whole = mass(costs.shape, weights, costs.dtype)
    return jax.tree.map(lambda s: safe_mean(s, whole), sums)


def for_reduction(weights: jax.Array | None, reduction: Reduction) -> jax.Array | None:
    """Weights whose sums neither overflow nor vanish: a mean does not see that all are scaled by a power of two.

    Those whose largest is near 1 stay as they are. XLA takes numbers below the smallest normal one for 0; their
    digits are read from their bits.
    """
    if weights is None or reduction == "sum" or not weights.size or weights.dtype == bool:
        return weights
    weights = weights.astype(accumulation_type(weights.dtype))
    info = jnp.finfo(weights.dtype)
    least, epsilon = np.asarray([info.smallest_normal, info.eps], weights.dtype)
    largest, exponent = jnp.max(weights), _bits(weights).dtype.type((2**info.nexp - 1) << info.nmant)
    power = jnp.clip(jax.lax.bitcast_convert_type(_bits(largest) & exponent, weights.dtype), least, 1 / least)
    power = jnp.where((largest > FAR) | (largest < 1 / FAR), power, 1)
    digits = _bits(weights).astype(weights.dtype) * epsilon
    return jnp.where((weights >= 0) & (weights < least), digits * (least / power), weights / power)


def counted(weights: jax.Array) -> jax.Array:
    """Which weights are above 0 (or NaN), the smallest that there are included."""
    if weights.dtype == bool:
        return weights
    bits = _bits(weights)
    return (bits > 0) & (bits <= np.asarray(np.nan, weights.dtype).view(bits.dtype))


def _bits(values: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(values, jnp.dtype(f"uint{jnp.finfo(values.dtype).bits}"))


def shares_of(costs: jax.Array, weights: jax.Array | None, reduction: Reduction) -> float | jax.Array:
    """∂J/∂(cost) of each example and position, to be shown: an array with examples (and positions) first."""
    weights = for_reduction(weights, reduction)
    wide = jnp.ones_like(costs) if weights is None else weights_of(costs, weights)
    return averaged(wide, costs, weights, reduction)


def weights_of(costs: jax.Array, weights: jax.Array | None) -> jax.Array | None:
    return None if weights is None else weights.astype(accumulation_type(costs.dtype))


def mass(shape: tuple[int, ...], weights: jax.Array | None, dtype: jax.typing.DTypeLike) -> float | jax.Array:
    """Σ of the weights over examples and positions, for costs of this shape (m, *positions).

    Without weights every position weighs 1. A weight per example counts for each of the example's positions.
    A sum that overflows is NaN: it must not pass for a cost of 0.
    """
    if weights is None:
        return float(math.prod(shape))
    whole = jnp.sum(weights.astype(accumulation_type(dtype))) * math.prod(shape[weights.ndim :])
    return jnp.where(jnp.isfinite(whole), whole, jnp.nan)


def safe_mean(whole: jax.Array, mass: float | jax.Array) -> jax.Array:
    """whole / mass, and 0 where the mass is 0."""
    if isinstance(mass, float):
        return whole / mass if mass else jnp.zeros_like(whole)
    return jnp.where(mass == 0, 0, whole / jnp.where(mass == 0, 1, mass))


def weighted(values: jax.Array, shares: float | jax.Array | None) -> jax.Array:
    """Costs or deltas times their shares (None: as they are). A share of 0 gives 0, whatever the value."""
    if shares is None:
        return values
    if isinstance(shares, float):
        return values * shares
    shares = shares.reshape(*shares.shape, *[1] * (values.ndim - shares.ndim)).astype(values.dtype)
    return jnp.where(shares == 0, 0, values * shares)


def replaced(values: jax.Array, counts: jax.Array) -> jax.Array:
    """Values with every row that does not count replaced by the first that does, or by 0."""
    rows, flat = values.reshape(counts.size, *values.shape[counts.ndim :]), counts.ravel()
    stand_in = jnp.where(flat.any(), rows[jnp.argmax(flat)], jnp.zeros_like(rows[0]))
    kept = flat.reshape(-1, *[1] * (rows.ndim - 1))
    return jnp.where(kept, rows, stand_in[None]).reshape(values.shape)


def with_penalty(value: jax.Array, penalty: Penalty | None, params: Params) -> jax.Array:
    return value if penalty is None else value + penalty.value(params).astype(value.dtype)


def penalised(penalty: Penalty | None, params: Params, value: jax.Array, grads: Tree) -> tuple[jax.Array, Tree]:
    """Cost and gradient with the penalty's added once, the gradient in the parameters' types."""
    if penalty is not None:
        grads = jax.tree.map(lambda g, extra: g + extra.astype(g.dtype), grads, penalty.gradient(params))
    return with_penalty(value, penalty, params), jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params)
