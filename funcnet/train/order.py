"""Which examples are in which batch of an epoch."""

import functools
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


def order_of(key: jax.Array, rows: int, options: Options, m: int | jax.Array | None = None) -> Order:
    """A new random order of rows in batches, or (private training) batches drawn anew for every step.

    Of the rows the first m are examples (None: all are), and only they are in the order. It is the same for whatever
    number of rows fills up the last batch.
    """
    next_key, order_key, draw_key = keys_of(key)
    if options.privacy is not None:
        return Order(*_poisson(order_key, rows, options), draw_key, next_key)
    return Order(*_shuffled(order_key, rows, options, m), draw_key, next_key)


def keys_of(key: jax.Array) -> jax.Array:
    """The keys of the next epoch, of this epoch's order, and of its draws."""
    return jax.random.split(key, 3)


def batches(order: Order, data: Data = Data(None, None, None)) -> Batch:
    """What `scan` runs over, batches first; without data if the step takes it from the whole."""
    return Batch(data, order.rows, order.counted, jnp.arange(len(order.rows)))


def _shuffled(
    key: jax.Array, rows: int, options: Options, m: int | jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
    """Every example once; the last batch is filled up with the first row."""
    room = -(-rows // options.batch_size) * options.batch_size
    if m is None and rows < room:
        m = rows
    return in_batches(permutation(key, rows if m is None else m, room), options, m)


def in_batches(order: jax.Array, options: Options, m: int | jax.Array | None) -> tuple[jax.Array, jax.Array | None]:
    """An order as batches; what stands behind the first m (None: nothing) fills up."""
    order = order.astype(jnp.int32)
    if m is None:
        return order.reshape(-1, options.batch_size), None
    counted = jnp.arange(len(order), dtype=jnp.int32) < jnp.asarray(m, jnp.int32)
    return jnp.where(counted, order, 0).reshape(-1, options.batch_size), counted.reshape(-1, options.batch_size)


def _poisson(key: jax.Array, m: int, options: Options) -> tuple[jax.Array, jax.Array]:
    """Every row in every batch with probability batch_size / m, independently; each batch is filled up."""
    room = capacity(m, options.batch_size, options.accumulate)
    last = 2**32 * options.batch_size // m - 1  # rounded down, so that the account's probability is never exceeded

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        chosen = jax.random.bits(key, (m,), jnp.uint32) <= np.uint32(last)
        rows = jnp.nonzero(chosen, size=room, fill_value=0)[0]
        return rows.astype(jnp.int32), jnp.arange(room) < chosen.sum()

    return jax.lax.map(batch, jax.random.split(key, -(-m // options.batch_size)))


def permutation(key: jax.Array, m: int | jax.Array, room: int | None = None) -> jax.Array:
    """The numbers 0 … m-1 in random order, several times faster on CPUs than `jax.random.permutation`.

    With room for more (m may be traced) there are so many numbers, of which the first m are the order. Random bits and
    a row's place share one 32-bit number, so that each round sorts numbers alone and not pairs. Rounds go on until
    there are 2 log₂ m random bits for each row, so that hardly two rows tie.
    """
    size = int(m) if room is None else room
    inside = None if isinstance(m, int) and m == size else m
    places = jnp.arange(size, dtype=jnp.uint32)
    mix = functools.partial(mixed, m=inside)
    return functools.reduce(mix, round_keys(key, size), places).astype(jnp.int32)


def round_keys(key: jax.Array, size: int) -> jax.Array:
    """A key for each round of `permutation`."""
    bits = _bits(size)
    return jax.random.split(key, -(-2 * bits // (32 - bits)))


def mixed(order: jax.Array, round_key: jax.Array, m: int | jax.Array | None) -> jax.Array:
    """One round: the first m numbers (None: all) in another order."""
    bits, places = _bits(len(order)), jnp.arange(len(order), dtype=jnp.uint32)
    drawn = jax.random.bits(round_key, order.shape, jnp.uint32) << jnp.uint32(bits) | places
    if m is not None:
        others = places >= jnp.asarray(m, jnp.uint32)
        drawn = jnp.where(others, np.uint32(2**32 - 1), drawn)  # they go behind
    return order[jax.lax.sort(drawn) & jnp.uint32(2**bits - 1)]


def _bits(size: int) -> int:
    """Of a place."""
    return max(1, (size - 1).bit_length())
