"""One update of the parameters, from one batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnet import arguments
from funcnet.backprop import backprop, value_and_grad
from funcnet.custom_vjp import as_cost
from funcnet.precision import accumulation_type
from funcnet.privacy import clipped_gradient, noised_mean
from funcnet.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet.train.private import Privacy

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
    privacy: Privacy | None = None
    telemetry: int = 0


class Data(NamedTuple):
    """Examples, first in each array. `rows` of a batch say which of the data set's they are."""

    x: Any
    y: Any
    weights: Any


class Batch(NamedTuple):
    """Some examples, which rows of the data set they are, whether each counts (None: all do), and the step's number.

    What does not count fills up a batch that is smaller than the others.
    """

    data: Data
    rows: jax.Array
    counted: jax.Array | None
    step: jax.Array


class Outcome(NamedTuple):
    """What an update was made from: the batch's cost, what it weighs in the epoch's, its gradient."""

    value: jax.Array
    mass: jax.Array
    grads: Tree


def update(task: Task, method: Method, draw_key: jax.Array, carry: Carry, batch: Batch) -> tuple[Carry, Outcome]:
    """One update of parameters and optimiser. An example draws by its row, so that no batch matters to it."""
    params, opt_state = carry
    x, y, _ = batch.data
    options = options_of(task, draw_key, batch)
    weights = options["weights"]
    if method.privacy is None:
        value, grads = _gradient(task, params, x, y, options, method.accumulate)
    else:  # rows are below 2³¹, so the noise shares no key with an example
        noise_key = jax.random.fold_in(draw_key, jnp.uint32(2**31) + batch.step.astype(jnp.uint32))
        value, grads = _private_gradient(task, method, params, x, y, options, noise_key)
    grads = _kept(task.trainable, grads)
    extra = {} if method.privacy else _extra(task, method, carry, batch.data, options, value, grads)
    step = optax.with_extra_args_support(method.optimizer).update
    updates, opt_state = step(grads, opt_state, params, **extra)
    mass = jnp.asarray(len(x), value.dtype) if weights is None else weights.sum()
    return (optax.apply_updates(params, _kept(task.trainable, updates)), opt_state), Outcome(value, mass, grads)


def options_of(task: Task, draw_key: jax.Array, batch: Batch) -> dict[str, Any]:
    """What `value_and_grad` is told beside the data: weights, 0 for what fills up, penalty, keys."""
    keys = jax.vmap(partial(jax.random.fold_in, draw_key))(batch.rows) if arguments.draws(task.net) else None
    return {"weights": _weights(batch), "penalty": task.penalty, "key": keys}


def _extra(
    task: Task, method: Method, carry: Carry, data: Data, options: dict[str, Any], value: jax.Array, grads: Tree
) -> dict[str, Any]:
    """What an optimiser may ask for beside the gradient. A `Backprop` is made only for one that does."""
    if not isinstance(method.optimizer, optax.GradientTransformationExtraArgs):
        return {}
    params, opt_state = carry
    value_fn = as_cost(task.net, task.loss, data.x, data.y, **options)
    extra = {"value": value, "grad": grads, "value_fn": value_fn}
    step = optax.with_extra_args_support(method.optimizer).update

    def whole() -> dict[str, Any]:
        own = {"weights": options["weights"], "key": options["key"]}
        return {"backprop": backprop(task.net, task.loss, params, data.x, data.y, **own)}

    def works(more: Callable[[], dict[str, Any]]) -> bool:
        try:
            jax.eval_shape(lambda: step(grads, opt_state, params, **extra, **more()))
        except Exception:  # if it is another error than it seems, it comes again in the update
            return False
        return True

    if works(lambda: {"backprop": _Question()}):
        return extra  # nobody looked at it
    if not works(whole) and works(dict):
        return extra  # optax.lbfgs and its like refuse words that they do not know
    if method.accumulate > 1:
        raise ValueError(
            "accumulate: this optimiser asks for the Backprop of a whole batch, which parts do not have. "
            "Use accumulate=1."
        )
    return extra | whole()


class _Question:
    """Stands for a `Backprop` and fails whoever looks at it."""


def _private_gradient(
    task: Task, method: Method, params: Params, x: Any, y: Any, options: dict[str, Any], noise_key: jax.Array
) -> tuple[jax.Array, Tree]:
    """`private_gradient` of a batch, clipped at once or in equal parts. The penalty comes after the noise."""
    net, loss = task.net, task.loss
    privacy, parts = method.privacy, method.accumulate
    assert privacy is not None

    def clipped(x: Any, y: Any, weights: Any, key: Any) -> tuple[jax.Array, Tree]:
        bp = backprop(net, loss, params, x, y, weights=weights, key=key)
        grads, _ = clipped_gradient(net, bp, privacy.max_norm, privacy.per_layer)
        return bp.costs.sum(), grads

    batch = (x, y, options["weights"], options["key"])
    if parts == 1:
        sums = clipped(*batch)
    else:
        split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)
        start = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(clipped, *jax.tree.map(lambda a: a[0], split)),
        )
        sums, _ = jax.lax.scan(lambda held, part: (jax.tree.map(jnp.add, held, clipped(*part)), None), start, split)
    costs, grads = sums
    mass = options["weights"].sum()
    value = jnp.where(mass == 0, 0, costs / jnp.where(mass == 0, 1, mass))
    grads = noised_mean(grads, noise_key, privacy.max_norm, privacy.noise_multiplier, method.batch_size)
    return _penalised(task, params, value, grads)


def _gradient(
    task: Task, params: Params, x: jax.Array, y: jax.Array, options: dict[str, Any], parts: int
) -> tuple[jax.Array, Tree]:
    """`value_and_grad` of a batch, propagated at once or in equal parts."""
    net, loss = task.net, task.loss
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
    means = jax.tree.map(lambda whole: jnp.where(mass == 0, 0, whole / jnp.where(mass == 0, 1, mass)), sums)
    return _penalised(task, params, *means)


def _penalised(task: Task, params: Params, value: jax.Array, grads: Tree) -> tuple[jax.Array, Tree]:
    """With the penalty, added once, and in the parameters' types."""
    penalty = task.penalty
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
