"""One update of the parameters, from one batch."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnet import arguments
from funcnet.backprop import value_and_grad
from funcnet.custom_vjp import as_cost
from funcnet.precision import accumulation_type
from funcnet.protocols import AnyLayer, Loss, Params, Penalty, Tree

Carry = tuple[Params, optax.OptState]


class Task(NamedTuple):
    """What is learned: specs, and the arrays in them."""

    net: AnyLayer
    loss: Loss
    penalty: Penalty | None
    trainable: Tree | None


class Method(NamedTuple):
    """How it is learned: the host's choices, static under `jit`."""

    optimizer: optax.GradientTransformation
    batch_size: int
    accumulate: int


class Data(NamedTuple):
    """Examples, first in each array. `rows` of a batch say which of the data set's they are."""

    x: Any
    y: Any
    weights: Any


class Batch(NamedTuple):
    """Some examples, which rows of the data set they are, and whether each counts (None: all do).

    What does not count fills up the last batch of an epoch.
    """

    data: Data
    rows: jax.Array
    counted: jax.Array | None


class Outcome(NamedTuple):
    """What an update was made from: the batch's cost, what it weighs in the epoch's, its gradient."""

    value: jax.Array
    mass: jax.Array
    grads: Tree


def update(task: Task, method: Method, draw_key: jax.Array, carry: Carry, batch: Batch) -> tuple[Carry, Outcome]:
    """One update of parameters and optimiser. An example draws by its row, so that no batch matters to it."""
    params, opt_state = carry
    x, y, _ = batch.data
    keys = jax.vmap(partial(jax.random.fold_in, draw_key))(batch.rows) if arguments.draws(task.net) else None
    weights = _weights(batch)
    options: dict[str, Any] = {"weights": weights, "penalty": task.penalty, "key": keys}
    value, grads = _gradient(task, params, x, y, options, method.accumulate)
    grads = _kept(task.trainable, grads)
    value_fn = as_cost(task.net, task.loss, x, y, **options)
    step = optax.with_extra_args_support(method.optimizer).update
    updates, opt_state = step(grads, opt_state, params, value=value, grad=grads, value_fn=value_fn)
    mass = jnp.asarray(len(x), value.dtype) if weights is None else weights.sum()
    return (optax.apply_updates(params, _kept(task.trainable, updates)), opt_state), Outcome(value, mass, grads)


def _gradient(
    task: Task, params: Params, x: jax.Array, y: jax.Array, options: dict[str, Any], parts: int
) -> tuple[jax.Array, Tree]:
    """`value_and_grad` of a batch, propagated at once or in equal parts."""
    net, loss, penalty, _ = task
    if parts == 1:
        return value_and_grad(net, loss, params, x, y, **options)
    weights, key = options["weights"], options["key"]

    def add(sums: Any, part: Any) -> tuple[Any, None]:
        x, y, weights, key = part
        found = value_and_grad(net, loss, params, x, y, weights=weights, key=key, reduction="sum")
        return jax.tree.map(lambda whole, more: whole + more.astype(whole.dtype), sums, found), None

    wide = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, accumulation_type(leaf.dtype)), params)
    split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), (x, y, weights, key))
    sums, _ = jax.lax.scan(add, (jnp.zeros((), accumulation_type(x.dtype)), wide), split)
    mass = len(x) if weights is None else weights.sum()
    value, grads = jax.tree.map(lambda whole: jnp.where(mass == 0, 0, whole / jnp.where(mass == 0, 1, mass)), sums)
    if penalty is not None:
        value = value + penalty.value(params)
        grads = jax.tree.map(lambda g, more: g + more.astype(g.dtype), grads, penalty.gradient(params))
    return value, jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params)


def _weights(batch: Batch) -> jax.Array | None:
    """The examples' weights, 0 for what fills up."""
    weights, counted = batch.data.weights, batch.counted
    if counted is None:
        return weights
    if weights is None:
        return counted.astype(accumulation_type(batch.data.x.dtype))
    return weights * counted.astype(weights.dtype).reshape(-1, *[1] * (weights.ndim - 1))


def _kept(trainable: Tree | None, tree: Tree) -> Tree:
    """What is trainable; 0 elsewhere."""
    if trainable is None:
        return tree
    return jax.tree.map(
        lambda keep, branch: jax.tree.map(lambda leaf: jnp.where(keep, leaf, 0), branch), trainable, tree
    )
