"""A network's parameters: drawn at random, or set by hand."""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from funcnet._core import arguments, scalars, walkers
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


Order = Literal["from,to", "to,from"]


def from_weights(
    net: AnyLayer, ws: Sequence[ArrayLike], bs: Sequence[ArrayLike] | None = None, *, order: Order = "from,to"
) -> Params:
    """Parameters from matrices and biases set by hand, or brought from another library.

    Args:
        net: a layer.
        ws: for every layer that has a `"w"`, in order, its matrix (from, to), or kernel (*kernel, from, to).
        bs: for every layer that has a `"b"`, in order, its biases, or one number for all of its
            units. None sets them to 0.
        order: of the axes of each of `ws`: "from,to", as funcnet, Flax and Keras have them, or "to,from", as textbooks,
            PyTorch and Equinox do: (to, from), kernels (to, from, *kernel).

    Returns:
        Parameters like `init`'s, of JAX's default floating type. What is neither a `"w"` nor a
        `"b"` (a norm's gain, say) is as `init` starts it.

    Raises:
        ValueError: too few or too many of them, or one of a wrong shape; an unknown order.

    Example:
        >>> import funcnet as fn
        >>> net = fn.Chain(fn.Dense(1, 1), fn.Tanh(), fn.Dense(1, 1, bias=False))
        >>> params = fn.from_weights(net, [[[0.5]], [[2.0]]], [0.1])
        >>> [float(layer["w"][0, 0]) for layer in params if layer]
        [0.5, 2.0]
        >>> fn.from_weights(fn.Dense(2, 1), [[[3.0, 4.0]]], order="to,from")["w"].tolist()
        [[3.0], [4.0]]
    """
    scalars.choice("from_weights: order", order, ("from,to", "to,from"))
    params = init(net, jax.random.key(0))
    matrices = _in_order(params, "w", ws, "ws")
    biases = None if bs is None else _in_order(params, "b", bs, "bs")

    def hand_set(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        name = getattr(path[-1], "key", None) if path else None
        if name == "w":
            return _matrix(order, leaf, *next(matrices))
        if name == "b":
            return jnp.zeros_like(leaf) if biases is None else _bias(leaf, *next(biases))
        return leaf

    return jax.tree_util.tree_map_with_path(hand_set, params)


def _matrix(order: Order, leaf: jax.Array, label: str, value: jax.Array) -> jax.Array:
    *kernel, n_in, n_out = leaf.shape
    shapes = {"from,to": (*kernel, n_in, n_out), "to,from": (n_out, n_in, *kernel)}
    expected = shapes.pop(order)
    if value.shape != expected:
        hint = "".join(f' Or is it order="{other}"?' for other, shape in shapes.items() if shape == value.shape)
        axes = order.replace(",", ", ")
        raise ValueError(f"from_weights: ws: {label} has shape {value.shape}, expected {expected} ({axes}).{hint}")
    return value if order == "from,to" else jnp.moveaxis(value, (0, 1), (-1, -2))


def _bias(leaf: jax.Array, label: str, value: jax.Array) -> jax.Array:
    if value.shape not in ((), leaf.shape):
        raise ValueError(f"from_weights: bs: {label} has shape {value.shape}, expected {leaf.shape} or one number.")
    return jnp.broadcast_to(value, leaf.shape)


def _in_order(params: Params, name: str, values: Sequence[Any], argument: str) -> Any:
    """The values with the parameters that they are for, in the same order."""
    if not arguments.is_list(values) and not (isinstance(values, jax.Array) and values.ndim):
        got = arguments.shown(values)
        raise TypeError(
            f"from_weights: {argument}: expected a list, an entry for every layer with a {name!r}, got {got}."
        )
    labels = [label for label, _ in walkers.named_params(params) if label.endswith(f", {name}")]
    if len(labels) != len(values):
        raise ValueError(
            f"from_weights: {argument} has {len(values)} entries, but the network has {len(labels)}: "
            f"{'; '.join(labels) or 'none'}. Give one for each."
        )
    dtype = jnp.zeros(()).dtype
    return iter(
        [
            (label, arguments.as_array(f"{argument}: {label}", value).astype(dtype))
            for label, value in zip(labels, values)
        ]
    )
