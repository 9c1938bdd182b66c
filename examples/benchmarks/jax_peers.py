"""How Flax NNX and Equinox train step by step, for the networks of images.py and sequences.py."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Batches = list[tuple[jax.Array, jax.Array]]


def in_batches(x: np.ndarray, y: np.ndarray, steps: int) -> Batches:
    return [(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(np.split(x, steps), np.split(y, steps))]


def flax_run(net: Any, rate: float, batches: Batches) -> Callable[[], None]:
    """All batches once, one jitted step each, as the library's guide has it."""
    from flax import nnx

    optimizer = nnx.Optimizer(net, optax.adam(rate), wrt=nnx.Param)

    @nnx.jit
    def step(net: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> None:
        def cost(net: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

        optimizer.update(net, nnx.grad(cost)(net))

    def run() -> None:
        for batch in batches:
            step(net, optimizer, *batch)
        jax.block_until_ready(jax.tree.leaves(nnx.state(net, nnx.Param)))

    return run


def equinox_run(net: Any, rate: float, batches: Batches) -> Callable[[], None]:
    """All batches once, one jitted step each, of a network of one example."""
    import equinox as eqx

    optimizer = optax.adam(rate)

    @eqx.filter_jit
    def step(net: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> Any:
        def cost(net: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(x), y).mean()

        updates, opt_state = optimizer.update(eqx.filter_grad(cost)(net), opt_state)
        return eqx.apply_updates(net, updates), opt_state

    def run() -> None:
        state = net, optimizer.init(eqx.filter(net, eqx.is_array))
        for batch in batches:
            state = step(*state, *batch)
        jax.block_until_ready(jax.tree.leaves(state[1]))

    return run
