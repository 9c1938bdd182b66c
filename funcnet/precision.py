"""Sums of products in float32 or better, whatever the type of what is summed."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def accumulation_type(dtype: Any) -> Any:
    """The type in which sums of this type are held: float32, or float64 for float64."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def wide(values: jax.Array) -> jax.Array:
    """Floating values in the accumulation type; others as they are."""
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return values.astype(accumulation_type(values.dtype)) if floating else values


def sum_of_products(a: jax.Array, b: jax.Array, a_axes: tuple[int, ...], b_axes: tuple[int, ...]) -> jax.Array:
    """Σ over the named axes of a·b, in the accumulation type: the axes left of a, then those left of b."""
    return lax.dot_general(a, b, ((a_axes, b_axes), ((), ())), preferred_element_type=accumulation_type(a.dtype))


def sum_of_outer_products(x: jax.Array, delta: jax.Array) -> jax.Array:
    """Σ_i x_i δ_iᵀ over rows (m, n) and (m, k): (n, k), in the accumulation type.

    On CPUs XLA's product over the first axes walks down the columns of x. Beside few columns of δ nothing hides that,
    and (δᵀ x)ᵀ is up to 6 times faster. XLA would make the first of it again, but for a row more that is cut off.
    """
    k = delta.shape[1]
    if not 1 < k <= 64 or k >= x.shape[1] or len(x) < 64 or jax.default_backend() != "cpu":
        return sum_of_products(x, delta, (0,), (0,))
    return jnp.pad(sum_of_products(delta, x, (0,), (0,)), ((0, 1), (0, 0))).T[:, :k]


def symmetric_product(rows: jax.Array) -> jax.Array:
    """rowsᵀ rows. Of a large one three strips from the diagonal on, 2/3 of the products; the rest mirrors them."""
    n = rows.shape[1]
    if n < 256:
        return sum_of_products(rows, rows, (0,), (0,))
    edges = [0, n // 3, 2 * n // 3, n]
    return mirrored([sum_of_products(rows[:, i:j], rows[:, i:], (0,), (0,)) for i, j in pairwise(edges)])


def mirrored(strips: list[jax.Array]) -> jax.Array:
    """The symmetric matrix of which these are strips of rows, each from the diagonal on to the right.

    It is put together from pieces: XLA's code for where(upper, matrix, matrix.T) crashes on CPUs in jax 0.10.
    """
    n = strips[0].shape[1]
    edges = [n - strip.shape[1] for strip in strips] + [n]

    def row(i: int) -> jax.Array:
        left = [strips[j][:, edges[i] - edges[j] : edges[i + 1] - edges[j]].T for j in range(i)]
        return jnp.concatenate([*left, strips[i]], axis=1)

    return jnp.concatenate([row(i) for i in range(len(strips))])


def total(values: jax.Array, axes: tuple[int, ...] | None = None, keepdims: bool = False) -> jax.Array:
    """Σ over the named axes (all, if None), in the accumulation type."""
    return jnp.sum(values, axis=axes, dtype=accumulation_type(values.dtype), keepdims=keepdims)
