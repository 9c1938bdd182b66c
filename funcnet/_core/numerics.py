"""Sums of products in float32 or better, whatever the type of what is summed."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def accumulation_type(dtype: Any) -> Any:
    """The type in which sums of this type are accumulated: float32, or float64 for float64."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def wide(values: jax.Array) -> jax.Array:
    """Floating values in the accumulation type; others as they are."""
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(accumulation_type(values.dtype)) if floating else values


def sum_of_products(a: jax.Array, b: jax.Array, a_axes: tuple[int, ...], b_axes: tuple[int, ...]) -> jax.Array:
    """Σ over the named axes of a·b, in the accumulation type: the axes left of a, then those left of b."""
    return lax.dot_general(a, b, ((a_axes, b_axes), ((), ())), preferred_element_type=accumulation_type(a.dtype))


def total(values: jax.Array, axes: tuple[int, ...] | None = None, keepdims: bool = False) -> jax.Array:
    """Σ over the named axes (all, if None), in the accumulation type."""
    return jnp.sum(values, axis=axes, dtype=accumulation_type(values.dtype), keepdims=keepdims)
