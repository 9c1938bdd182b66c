"""What the laws of a layer are tried on: forward and backward propagations of a batch, and of each example alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.context import Context
from funcnet._core.protocols import AnyLayer, Params, Tree
from funcnet._core.walkers import contract, gradient_of_leaf, layer_forward


class Pass(NamedTuple):
    """A forward and a backward propagation of Σ δ ⊙ y, and their contraction."""

    y: jax.Array
    tape: Tree
    input_delta: jax.Array
    deltas: Tree
    grads: Tree


class Trial(NamedTuple):
    """Two passes of different examples and error signals, and what their examples give alone.

    Attributes:
        layer, params, keys: what is propagated; a key for each example, or None.
        x, delta: of the first pass.
        other_x, other_delta: of the second.
        first, second: the passes.
        alone, other_alone: output, input_delta and gradient of every example in a batch of its own, stacked.
    """

    layer: AnyLayer
    params: Params
    keys: jax.Array | None
    x: np.ndarray
    delta: np.ndarray
    other_x: np.ndarray
    other_delta: np.ndarray
    first: Pass
    second: Pass
    alone: Pass
    other_alone: Pass


def propagate(layer: AnyLayer, params: Params, x: Any, delta: Any, keys: jax.Array | None) -> Pass:
    """All that a layer's four functions give for one batch."""
    y, tape = layer_forward(layer, params, x, Context(keys))
    input_delta, deltas = layer.backward(params, tape, delta)
    if input_delta.shape != x.shape:
        raise ValueError(f"{layer}: backward gives input_delta shaped {input_delta.shape}, expected x's {x.shape}.")
    return Pass(y, tape, input_delta, deltas, contract(layer, gradient_of_leaf, tape, deltas))


compiled = jax.jit(propagate)


@jax.jit
def of_each_example(layer: AnyLayer, params: Params, x: Any, delta: Any, keys: jax.Array | None) -> Pass:
    """Passes of batches of one, stacked; without tapes and deltas."""

    def one(example: Any) -> Pass:
        alone = propagate(layer, params, *jax.tree.map(lambda a: a[None], example))
        return Pass(alone.y[0], (), alone.input_delta[0], (), alone.grads)

    return jax.lax.map(one, (x, delta, keys))


def trial(
    layer: AnyLayer, params: Params, x: jax.Array, delta: np.ndarray, other: np.ndarray, keys: jax.Array | None
) -> Trial:
    """The passes that the laws are tried on."""
    values = np.asarray(x)  # what is done outside the compiled passes makes no programs of its own
    turned = values[::-1]
    other_x = turned * np.random.default_rng(len(x)).uniform(0.5, 1, x.shape) if floating(x) else turned
    second = compiled(layer, params, other_x, other, keys)
    if not is_finite((second.y, second.grads)):
        other_x = turned  # the layer may take values such as x alone
        second = compiled(layer, params, other_x, other, keys)
    return Trial(
        layer=layer,
        params=params,
        keys=keys,
        x=values,
        delta=delta,
        other_x=other_x,
        other_delta=other,
        first=compiled(layer, params, values, delta, keys),
        second=second,
        alone=jax.tree.map(np.asarray, of_each_example(layer, params, values, delta, keys)),
        other_alone=jax.tree.map(np.asarray, of_each_example(layer, params, other_x, other, keys)),
    )


def floating(values: jax.Array | np.ndarray) -> bool:
    return jnp.issubdtype(values.dtype, jnp.floating)


def is_finite(tree: Tree) -> bool:
    return all(np.isfinite(np.asarray(a)).all() for a in jax.tree.leaves(tree) if floating(a))
