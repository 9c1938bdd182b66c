"""Random keys: none, one for the batch, or one per example."""

from collections.abc import Callable
from typing import overload

import jax
import jax.numpy as jnp

from funcnet._core.context import Context


def typed(key: jax.Array) -> jax.Array:
    """A key of either kind that JAX has (`jax.random.key`, `jax.random.PRNGKey`) as the first."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


@overload
def child_key(key: None, number: int | jax.Array) -> None: ...
@overload
def child_key(key: jax.Array, number: int | jax.Array) -> jax.Array: ...
@overload
def child_key(key: Context, number: int | jax.Array) -> Context: ...
def child_key(key: jax.Array | Context | None, number: int | jax.Array) -> jax.Array | Context | None:
    """The key of a combinator's child, from the combinator's own: None, one, or one per example.

    From the `Context` that funcnet's combinators hand on: the same context with the child's key.

    Args:
        key: the combinator's own key, or the context it was handed.
        number: the child's, from 0; another number gives another key.

    Returns:
        A key or keys as they came, or None, or the context.

    Example:
        >>> import funcnet as fn, jax
        >>> keys = jax.random.split(jax.random.key(0), 5)  # one for each of 5 examples
        >>> fn.child_key(keys, 1).shape, fn.child_key(None, 1) is None
        ((5,), True)
    """
    if key is None:
        return None
    if isinstance(key, Context):
        return key._replace(key=child_key(key.key, number))
    one = typed(key)
    return jax.random.fold_in(one, number) if one.ndim == 0 else jax.vmap(jax.random.fold_in, (0, None))(one, number)


def draw(
    key: jax.Array, sample: Callable[[jax.Array, tuple[int, ...]], jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """A sample of this shape: from one key at once, or row by row from one key per example."""
    if key.ndim == 0:
        return sample(key, shape)
    return jax.vmap(lambda one: sample(one, shape[1:]))(key)
