"""A network's parameters: drawn at random, or set by hand."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from funcnet._core import arguments, walkers
from funcnet._core.protocols import AnyLayer, ArrayLike, Params


def init(net: AnyLayer, key: jax.Array) -> Params:
    """Parameters at their starting values.

    Args:
        net: a layer.
        key: `jax.random.key(seed)`; another seed gives other weights.

    Returns:
        A pytree of arrays of JAX's default floating type: a tuple per chain, a dict per leaf
        layer, `()` where a layer has none.

    Raises:
        TypeError: `net` is not a layer, or `key` not a key.

    Example:
        >>> import funcnet as fn, jax
        >>> net = fn.Chain(fn.Dense(2, 3), fn.Tanh())
        >>> jax.tree.map(lambda leaf: leaf.shape, fn.init(net, jax.random.key(0)))
        ({'b': (3,), 'w': (2, 3)}, ())
    """
    arguments.check_layer_functions(net)
    return net.init(arguments.one_key("key", key))


def from_weights(net: AnyLayer, ws: Sequence[ArrayLike], bs: Sequence[ArrayLike] | None = None) -> Params:
    """Parameters from matrices and biases set by hand.

    Args:
        net: a layer.
        ws: for every layer that has a `"w"`, in order, its matrix (from, to).
        bs: for every layer that has a `"b"`, in order, its biases, or one number for all of its
            units. None sets them to 0.

    Returns:
        Parameters like `init`'s, of JAX's default floating type. What is neither a `"w"` nor a
        `"b"` (a norm's gain, say) is as `init` starts it.

    Raises:
        ValueError: too few or too many of them, or one of a wrong shape.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(1, 1), fn.Tanh(), fn.Dense(1, 1, bias=False))
        >>> params = fn.from_weights(net, [[[0.5]], [[2.0]]], [0.1])
        >>> [float(layer["w"][0, 0]) for layer in params if layer]
        [0.5, 2.0]
    """
    params = init(net, jax.random.key(0))
    given = {"w": _in_order(params, "w", ws, "ws")}
    if bs is not None:
        given["b"] = _in_order(params, "b", bs, "bs")

    def hand_set(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = getattr(path[-1], "key", None) if path else None
        if name == "b" and bs is None:
            return jnp.zeros_like(leaf)
        if name not in given:
            return leaf
        label, value = next(given[name])
        if value.shape != leaf.shape and not (name == "b" and value.shape == ()):
            raise ValueError(f"from_weights: {label} has shape {value.shape}, expected {leaf.shape} (from, to).")
        return jnp.broadcast_to(value, leaf.shape)

    return jax.tree_util.tree_map_with_path(hand_set, params)


def _in_order(params: Params, name: str, values: Sequence[Any], argument: str) -> Any:
    """The values with the parameters that they are for, in the same order."""
    if values is None:
        raise TypeError(f"from_weights: {argument} is None, expected one entry for every layer that has a {name!r}.")
    labels = [label for label, _ in walkers.named_params(params) if label.endswith(f", {name}")]
    if len(labels) != len(values):
        raise ValueError(
            f"from_weights: {argument} has {len(values)} entries, but the network has {len(labels)}: "
            f"{'; '.join(labels) or 'none'}. Give one for each."
        )
    dtype = jnp.zeros(()).dtype
    return iter([(label, arguments.as_array(argument, value).astype(dtype)) for label, value in zip(labels, values)])
