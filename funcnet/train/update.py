"""One update of the parameters, from one batch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnet._core import arguments, weighting
from funcnet._core.masks import kept
from funcnet._core.numerics import accumulation_type
from funcnet._core.protocols import Params, Tree
from funcnet.interop import as_cost
from funcnet.per_example.privacy import clipped_gradient, noised_mean
from funcnet.propagation import backprop, predict, value_and_grad
from funcnet.train.options import Data, Options
from funcnet.train.privacy_account import Privacy

Carry = tuple[Params, optax.OptState]


class Batch(NamedTuple):
    """Some examples, which rows of the data set they are, whether each counts (None: all do), and the step's number.

    What does not count fills up a batch that is smaller than the others.
    """

    data: Data
    rows: jax.Array
    counted: jax.Array | None
    step: jax.Array


class Inputs(NamedTuple):
    """A batch as it is propagated: weights are 0 for what fills up; keys are those of the examples."""

    x: jax.Array
    y: jax.Array
    weights: jax.Array | None
    keys: jax.Array | None


class Outcome(NamedTuple):
    """What an update was made from: the batch's cost, the mass that it has in the epoch's, its gradient.

    `skipped` says whether it was left out because something was not finite; None where that stops the training.
    """

    value: jax.Array
    mass: jax.Array
    grads: Tree
    skipped: jax.Array | None = None


def update(options: Options, draw_key: jax.Array, carry: Carry, batch: Batch) -> tuple[Carry, Outcome]:
    """One update of parameters and optimiser. An example's draws depend on its row and not on its batch."""
    params, opt_state = carry
    inputs = inputs_of(options, draw_key, batch)
    output = jax.eval_shape(predict, options.cast_net, params, inputs.x)
    mass = weighting.mass(output.shape[:-1], inputs.weights, output.dtype)
    if options.privacy is None:
        value, grads = _gradient(options, params, inputs, mass)
    else:  # rows are below 2³¹, so the noise shares no key with an example
        noise_key = jax.random.fold_in(draw_key, jnp.uint32(2**31) + batch.step.astype(jnp.uint32))
        value, grads = _private_gradient(options, options.privacy, params, inputs, mass, noise_key)
    grads = kept(options.trainable, grads)
    extra = _extra(options, carry, inputs, value, grads)
    step = optax.with_extra_args_support(options.optimizer).update
    with jax.numpy_dtype_promotion("standard"):  # as optax wants it
        updates, opt_state = step(grads, opt_state, params, **extra)
        params = optax.apply_updates(params, kept(options.trainable, updates))
    then, outcome = (params, opt_state), Outcome(value, jnp.asarray(mass, value.dtype), grads)
    return (then, outcome) if options.non_finite == "stop" else _or_skipped(carry, then, outcome)


def _or_skipped(before: Carry, then: Carry, outcome: Outcome) -> tuple[Carry, Outcome]:
    """The update, or, if its cost, gradient or result is not finite, what was there before it."""
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((*outcome[:3], then[0]))]).all()
    carry = jax.tree.map(partial(jnp.where, finite), then, before)
    value, mass = (jnp.where(finite, part, 0) for part in outcome[:2])
    return carry, outcome._replace(value=value, mass=mass, skipped=~finite)


def inputs_of(options: Options, draw_key: jax.Array, batch: Batch) -> Inputs:
    """What is propagated for a batch."""
    x, y, _ = batch.data
    draws = arguments.draws(options.net)
    keys = jax.vmap(partial(jax.random.fold_in, draw_key))(batch.rows) if draws else None
    return Inputs(x, y, _weights(batch), keys)


def needs_backprop(opt_state: optax.OptState) -> bool:
    """Whether an optimiser asks for the `Backprop` of the batch.

    It says so in its state: the state's class has an attribute `needs_backprop` that is true. States stand inside
    the states of whatever wraps a transformation (`optax.chain`, `inject_hyperparams`, `masked`, …).
    """

    def asks(part: Any) -> bool:
        return bool(getattr(part, "needs_backprop", False))

    return any(map(asks, jax.tree.leaves(opt_state, is_leaf=asks)))


def _extra(options: Options, carry: Carry, inputs: Inputs, value: jax.Array, grads: Tree) -> dict[str, Any]:
    """What an optimiser is given beside the gradient, if it takes such arguments. Nothing of it is private."""
    if options.privacy is not None or not isinstance(options.optimizer, optax.GradientTransformationExtraArgs):
        return {}
    params, opt_state = carry
    net, loss, (x, y, weights, keys) = options.cast_net, options.loss, inputs
    value_fn = as_cost(net, loss, x, y, weights=weights, penalty=options.penalty, key=keys)
    extra = {"value": value, "grad": grads, "value_fn": value_fn}
    if needs_backprop(opt_state):
        extra["backprop"] = backprop(net, loss, params, x, y, weights=weights, key=keys)
    return extra


def _gradient(options: Options, params: Params, inputs: Inputs, mass: float | jax.Array) -> tuple[jax.Array, Tree]:
    """`value_and_grad` of a batch, propagated at once or in equal parts."""
    net, loss, penalty = options.cast_net, options.loss, options.penalty
    if options.accumulate == 1:
        x, y, weights, keys = inputs
        return value_and_grad(net, loss, params, x, y, weights=weights, penalty=penalty, key=keys)

    def summed(part: Inputs) -> tuple[jax.Array, Tree]:
        x, y, weights, keys = part
        return value_and_grad(net, loss, params, x, y, weights=weights, key=keys, reduction="sum")

    sums = _in_parts(summed, inputs, options.accumulate)
    return weighting.penalised(penalty, params, *jax.tree.map(lambda s: weighting.safe_mean(s, mass), sums))


def _private_gradient(
    options: Options,
    privacy: Privacy,
    params: Params,
    inputs: Inputs,
    mass: float | jax.Array,
    noise_key: jax.Array,
) -> tuple[jax.Array, Tree]:
    """`private_gradient` of a batch, clipped at once or in equal parts. The penalty comes after the noise."""
    net, loss = options.cast_net, options.loss

    def clipped(part: Inputs) -> tuple[jax.Array, Tree]:
        x, y, weights, keys = part
        bp = backprop(net, loss, params, x, y, weights=weights, key=keys)
        keep = None if options.trainable is None else jax.tree.unflatten(jax.tree.structure(params), options.trainable)
        grads, _ = clipped_gradient(net, bp, privacy.max_norm, privacy.per_layer, trainable=keep)
        return bp.costs.sum(), grads

    cost, grads = clipped(inputs) if options.accumulate == 1 else _in_parts(clipped, inputs, options.accumulate)
    grads = noised_mean(grads, noise_key, privacy.max_norm, privacy.noise_multiplier, options.batch_size)
    return weighting.penalised(options.penalty, params, weighting.safe_mean(cost, mass), grads)


def _in_parts(summed: Callable[[Inputs], tuple[jax.Array, Tree]], inputs: Inputs, parts: int) -> tuple[jax.Array, Tree]:
    """A sum over a batch's examples, of one equal part after the other, in the accumulation type."""
    split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), inputs)
    shapes = jax.eval_shape(summed, jax.tree.map(lambda a: a[0], split))
    start = jax.tree.map(lambda s: jnp.zeros(s.shape, accumulation_type(s.dtype)), shapes)

    def add(sums: Any, part: Inputs) -> tuple[Any, None]:
        return jax.tree.map(lambda whole, more: whole + more.astype(whole.dtype), sums, summed(part)), None

    return jax.lax.scan(add, start, split)[0]


def _weights(batch: Batch) -> jax.Array | None:
    """The examples' weights, 0 for what fills up."""
    weights, counted = batch.data.weights, batch.counted
    if counted is None:
        return weights
    if weights is None:
        return counted
    return weights * counted.astype(weights.dtype).reshape(-1, *[1] * (weights.ndim - 1))
