"""Random keys: none, one for the batch, or one per example."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def typed(key: jax.Array) -> jax.Array:
    """A key of either kind that JAX has (`jax.random.key`, `jax.random.PRNGKey`) as the first."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def child_key(key: jax.Array | None, number: int) -> jax.Array | None:
    """The key of a combinator's child, from the combinator's own: None, one, or one per example."""
    if key is None:
        return None
    one = typed(key)
    return jax.random.fold_in(one, number) if one.ndim == 0 else jax.vmap(jax.random.fold_in, (0, None))(one, number)


def draw(
    key: jax.Array, sample: Callable[[jax.Array, tuple[int, ...]], jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """A sample of this shape: from one key at once, or row by row from one key per example."""
    if key.ndim == 0:
        return sample(key, shape)
    return jax.vmap(lambda one: sample(one, shape[1:]))(key)
