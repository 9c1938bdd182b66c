"""Which examples are in which batch of an epoch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet.train.options import Data, Options
from funcnet.train.privacy_account import capacity
from funcnet.train.update import Batch


class Order(NamedTuple):
    """An epoch's batches, as `Batch` has them, and its keys."""

    rows: jax.Array
    counted: jax.Array | None
    draw_key: jax.Array
    next_key: jax.Array


def order_of(key: jax.Array, m: int, options: Options) -> Order:
    """A new random order of m rows in batches, or (private training) batches drawn anew for every step."""
    next_key, order_key, draw_key = keys_of(key)
    draw = _shuffled if options.privacy is None else _poisson
    return Order(*draw(order_key, m, options), draw_key, next_key)


def keys_of(key: jax.Array) -> jax.Array:
    """The keys of the next epoch, of this epoch's order, and of its draws."""
    return jax.random.split(key, 3)


def batches(order: Order, data: Data = Data(None, None, None)) -> Batch:
    """What `scan` runs over, batches first; without data if the step takes it from the whole."""
    return Batch(data, order.rows, order.counted, jnp.arange(len(order.rows)))


def _shuffled(key: jax.Array, m: int, options: Options) -> tuple[jax.Array, jax.Array | None]:
    """Every row once; the last batch is filled up."""
    steps = -(-m // options.batch_size)
    rows = jnp.concatenate([permutation(key, m), jnp.zeros(steps * options.batch_size - m, jnp.int32)])
    counted = (jnp.arange(rows.size) < m).reshape(steps, -1) if m % options.batch_size else None
    return rows.reshape(steps, -1), counted


def _poisson(key: jax.Array, m: int, options: Options) -> tuple[jax.Array, jax.Array]:
    """Every row in every batch with probability batch_size / m, independently; each batch is filled up."""
    room = capacity(m, options.batch_size, options.accumulate)
    last = 2**32 * options.batch_size // m - 1  # rounded down, so that the account's probability is never exceeded

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = jax.random.bits(key, (m,), jnp.uint32) <= np.uint32(last)
        rows = jnp.nonzero(chosen, size=room, fill_value=0)[0]
        return rows.astype(jnp.int32), jnp.arange(room) < chosen.sum()

    return jax.lax.map(batch, jax.random.split(key, -(-m // options.batch_size)))


def permutation(key: jax.Array, m: int) -> jax.Array:
    """The numbers 0 … m-1 in random order, several times faster on CPUs than `jax.random.permutation`.

    Random bits and a row's place share one 32-bit number, so that each round sorts numbers alone and
    not pairs. Rounds go on until there are 2 log₂ m random bits for each row, so that hardly two rows tie.
    """
    bits = max(1, (m - 1).bit_length())
    places = jnp.arange(m, dtype=jnp.uint32)
    order = places
    for round_key in jax.random.split(key, -(-2 * bits // (32 - bits))):
        drawn = jax.random.bits(round_key, (m,), jnp.uint32) << jnp.uint32(bits)
        order = order[jax.lax.sort(drawn | places) & jnp.uint32(2**bits - 1)]
    return order.astype(jnp.int32)
