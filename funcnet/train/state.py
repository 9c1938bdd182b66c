"""What a training carries from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnet._core import arguments
from funcnet._core.outlines import html_outline, outline
from funcnet._core.protocols import Params


class TrainState(NamedTuple):
    """All that a training carries: a pytree, so it may be saved, replaced, and mapped over.

    Attributes:
        params: the network's parameters.
        opt_state: the optimiser's own.
        step: how many updates were made, an int32 scalar.
        key: what the orders and draws to come are made from.
    """

    params: Params
    opt_state: optax.OptState
    step: jax.Array
    key: jax.Array

    def __repr__(self) -> str:
        return outline(self)

    def _repr_html_(self) -> str:
        return html_outline(self)


def train_state(optimizer: optax.GradientTransformation, params: Params, key: jax.Array) -> TrainState:
    """The state at the start of a training.

    Args:
        optimizer: any of optax's.
        params: the network's parameters.
        key: `jax.random.key(seed)`; the same key gives the same training.

    Returns:
        A `TrainState` at step 0.

    Raises:
        TypeError: `optimizer` is not an optimiser, or `key` not a key.

    Example:
        >>> import funcnet as fn, jax, optax
        >>> params = fn.init(fn.mlp((2, 3, 1)), jax.random.key(0))
        >>> int(fn.train_state(optax.adam(1e-3), params, jax.random.key(1)).step)
        0
    """
    check_optimizer(optimizer)
    key = arguments.one_key("key", key)
    if hasattr(params, "params"):
        raise TypeError(f"params: expected parameters, got a {type(params).__name__}. Use its params: state.params.")
    arguments.check_arrays("params", params, "fn.init(net, key)")
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32), key)


def check_optimizer(optimizer: optax.GradientTransformation) -> None:
    """Refuse a value that is not an optax transformation."""
    if not callable(getattr(optimizer, "init", None)) or not callable(getattr(optimizer, "update", None)):
        remedy = " Call it: what it gives is the optimiser." if callable(optimizer) else ""
        got = arguments.shown(optimizer)
        raise TypeError(f"optimizer: expected one of optax's, such as optax.adam(1e-3), got {got}.{remedy}")


def check_state(state: Any) -> None:
    """Refuse what is no `TrainState`, such as parameters."""
    if not isinstance(state, TrainState):
        rest = "" if not jax.tree.leaves(state) else " Parameters alone are no state."
        raise TypeError(
            f"state: expected a TrainState, fn.train_state(optimizer, params, key), got {arguments.shown(state)}.{rest}"
        )
