"""Integers that stand for rows of a table, and sums over the positions at which each stands."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core.numerics import wide

ByExample = tuple[jax.Array, jax.Array]
"""Integers (m, T) and error signals (m, T, n)."""


def rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    """table[ids]; NaN where an integer is out of range."""
    return table.at[_in_range(len(table), ids)].get(mode="fill", fill_value=np.nan)


def sums(vocabulary: int, ids: jax.Array, delta: jax.Array) -> jax.Array:
    """(vocabulary, n): for each integer the sum of δ over the positions that hold it, in the accumulation type."""
    delta = wide(delta)
    flat = delta.reshape(math.prod(delta.shape[:-1]), delta.shape[-1])
    zero = jnp.zeros((vocabulary, delta.shape[-1]), delta.dtype)
    return zero.at[_in_range(vocabulary, ids).reshape(-1)].add(flat, mode="drop")


def by_example(ids: jax.Array, delta: jax.Array) -> ByExample:
    """All positions on one axis, δ in the accumulation type."""
    m, T = len(ids), math.prod(ids.shape[1:])
    return ids.reshape(m, T), wide(delta).reshape(m, T, delta.shape[-1])


def summed_at_first(ids: jax.Array, delta: jax.Array) -> ByExample:
    """The sum of δ over an example's positions of the same integer stands at the first of them, and 0 at the others."""
    m, T = ids.shape
    first = jnp.argmax(ids[:, :, None] == ids[:, None, :], 2) if T else ids
    places = first + T * jnp.arange(m)[:, None]
    flat = delta.reshape(m * T, delta.shape[-1])
    return ids, jnp.zeros_like(flat).at[places.reshape(-1)].add(flat).reshape(delta.shape)


def square_norms(ids: jax.Array, delta: jax.Array) -> jax.Array:
    """Of each example, Σ over its distinct integers of ‖Σ δ‖²."""
    return jnp.sum(jnp.square(summed_at_first(ids, delta)[1]), (1, 2))


def inner(vocabulary: int, first: ByExample, second: ByExample) -> jax.Array:
    """Σ over the integers of (Σ δ_i) · (Σ δ'_j): (m, m'), one example of the first batch at a time."""
    places = _in_range(vocabulary, second[0])

    def with_all(example: ByExample) -> jax.Array:
        table = sums(vocabulary, *example)
        return jnp.sum(table.at[places].get(mode="fill", fill_value=0) * second[1], (1, 2))

    return lax.map(with_all, first)


def second_moment(vocabulary: int, ids: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The diagonal of E[a aᵀ] of unit vectors a: how often each integer stands there, (vocabulary,), of this type."""
    ones = jnp.ones((*ids.shape, 1), dtype)
    return sums(vocabulary, ids, ones)[:, 0] / max(ids.size, 1)


def _in_range(vocabulary: int, ids: jax.Array) -> jax.Array:
    """Integers that can hold the vocabulary's size. JAX counts those below 0 from the end: they become that size."""
    ids = ids.astype(jnp.int32) if ids.dtype.itemsize < 4 else ids
    return jnp.where(ids < 0, np.asarray(vocabulary, ids.dtype), ids)
