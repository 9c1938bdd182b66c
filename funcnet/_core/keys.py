"""Random keys: none, one for the batch, or one per example."""

from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.arrays import is_array, shown
from funcnet._core.context import Context


def typed(key: jax.Array) -> jax.Array:
    """A key of either kind that JAX has (`jax.random.key`, `jax.random.PRNGKey`) as the first."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def is_key(key: Any) -> bool:
    """Whether this is a random key, of either kind that JAX has."""
    if not isinstance(key, jax.Array | np.ndarray):
        return False
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or (key.dtype == jnp.uint32 and key.shape[-1:] == (2,))


def one_key(name: str, key: Any) -> jax.Array:
    """A single key of either kind, as JAX's typed one."""
    if not is_key(key) or typed(key).ndim:
        raise TypeError(f"{name}: expected one key, jax.random.key(seed), got {shown(key)}.")
    return typed(key)


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
    if isinstance(number, int):
        whole = not isinstance(number, bool) and 0 <= number < 2**32
    else:
        whole = is_array(number) and number.shape == () and bool(jnp.issubdtype(number.dtype, jnp.integer))
    if not whole:
        raise TypeError(f"number: expected that of the child, from 0, got {shown(number)}.")
    if key is None:
        return None
    if isinstance(key, Context):
        return key._replace(key=child_key(key.key, number))
    if not is_key(key):
        raise TypeError(f"key: expected the combinator's own, its context or None, got {shown(key)}.")
    one = typed(key)
    return jax.random.fold_in(one, number) if one.ndim == 0 else jax.vmap(jax.random.fold_in, (0, None))(one, number)


def draw(
    key: jax.Array, sample: Callable[[jax.Array, tuple[int, ...]], jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """A sample of this shape: from one key at once, or row by row from one key per example."""
    if key.ndim == 0:
        return sample(key, shape)
    return jax.vmap(lambda one: sample(one, shape[1:]))(key)
