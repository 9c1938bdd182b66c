"""What `diagnose` finds out by short trainings: on a few examples, and at three learning rates or more."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core.numerics import wide
from funcnet._core.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet._core.walkers import layer_forward, leaves
from funcnet.diagnosis import thresholds as limit
from funcnet.diagnosis.evidence import Evidence, chance_level, shown
from funcnet.diagnosis.verdicts import Look, Verdict
from funcnet.per_example.signals import rms
from funcnet.propagation import cost, value_and_grad
from funcnet.train.epoch import step_of
from funcnet.train.options import Data, Options
from funcnet.train.order import permutation
from funcnet.train.update import Batch

ADAM = optax.scale_by_adam()


def few_are_learned(facts: Evidence) -> Look:
    rows = _few(facts)
    data = jax.tree.map(lambda a: a[rows], (facts.data.x, facts.data.y, facts.data.weights))
    # In float16 Adam's epsilon is 0.
    params, *data = jax.tree.map(wide, (facts.params, *data))
    if not jax.tree.leaves(params):
        return Look("the network has no parameters.", done=False)
    output = jax.eval_shape(lambda params, x: layer_forward(facts.net, params, x)[0], params, data[0])
    level = chance_level(facts.loss, output, *data[1:])
    if level is None or not level[0] > limit.LEAST_CHANCE:
        return Look("there are not two examples with different inputs and targets.", done=False)
    chance = level[0]
    starts = [float(_cost(facts.net, facts.loss, params, *data, None))]
    ends, steps = starts, 0
    for rate in limit.FEW_RATES:
        carry = params, ADAM.init(params)
        for _ in range(limit.FEW_ROUNDS):
            if min(ends) <= limit.FEW_TO_CHANCE * chance:
                break
            carry, end = _by_heart(facts.net, facts.loss, jnp.asarray(rate), carry, *data)
            ends, steps = [*ends, float(jnp.nan_to_num(end, nan=jnp.inf))], steps + limit.FEW_STEPS
    least = min(ends)
    text = f"{len(rows)} examples brought from cost {shown(starts[0])} to {shown(least)}, chance level {shown(chance)}"
    if least <= limit.FEW_TO_CHANCE * chance:
        return Look(text)
    targets, parameters = data[1].size, sum(leaf.size for leaf in jax.tree.leaves(params))
    if parameters < targets:
        return Look(f"{text}: {parameters} parameters need not suffice for {targets} targets.", done=False)
    if not np.isfinite(ends[1:]).any():
        text += "; no cost was finite after training"
    evidence = (
        f"{text}, by {steps} steps of Adam at rates {', '.join(f'{rate:g}' for rate in limit.FEW_RATES)}; at most "
        f"{shown(limit.FEW_TO_CHANCE * chance)} expected."
    )
    remedy = (
        "Look for what stands in the way: outputs that cannot reach the targets (logits wanted but Softmax or Sigmoid "
        "at the end, ReLU before negative targets), a layer too narrow, x and y in different orders, a wrong "
        "derivative in a layer of your own (fn.check_gradients)."
    )
    return Look(text, (Verdict("cannot overfit a few examples", "net", evidence, remedy),))


def _few(facts: Evidence) -> np.ndarray:
    """Rows of up to 20 examples with different inputs, of as many classes as there are."""
    x, y = (np.asarray(part) for part in (facts.data.x, facts.data.y))
    _, first = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    first.sort()
    if y.ndim == 1:
        turn = np.zeros(len(first), int)
        for label in np.unique(y[first]):
            turn[y[first] == label] = np.arange((y[first] == label).sum())
        first = first[np.argsort(turn, kind="stable")]
    return first[: limit.FEW]


@jax.jit
def _by_heart(net: AnyLayer, loss: Loss, rate: jax.Array, carry: Any, x: Any, y: Any, weights: Any) -> Any:
    """Some steps of Adam on all of these examples, without dropout, and the cost after them."""

    def step(carry: Any, _: None) -> Any:
        params, state = carry
        grads = value_and_grad(net, loss, params, x, y, weights=weights)[1]
        with jax.numpy_dtype_promotion("standard"):  # optax needs it, whatever the caller chose
            updates, state = ADAM.update(grads, state, params)
        updates = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
        return (optax.apply_updates(params, updates), state), None

    carry, _ = jax.lax.scan(step, carry, length=limit.FEW_STEPS)
    return carry, cost(net, loss, carry[0], x, y, weights=weights)


class Scaled(NamedTuple):
    """What the end of an optimiser's chain holds.

    Attributes:
        factor: what its updates are multiplied by.
        step: how many updates there were.
        moved, sizes: (2, layers), sums over the first steps, and over all, of the rms of a layer's updates, and of
            its parameters.
    """

    factor: jax.Array
    step: jax.Array
    moved: jax.Array
    sizes: jax.Array


@lru_cache(maxsize=16)
def scaled(optimizer: optax.GradientTransformation, net: AnyLayer) -> optax.GradientTransformation:
    """An optimiser whose rate can be changed without compiling again, and which keeps account of its updates."""

    def by_layer(tree: Tree) -> list[Tree]:
        return [own for _, _, own in leaves(net, tree) if jax.tree.leaves(own)]

    def init(params: Params) -> Scaled:
        none = jnp.zeros((2, len(by_layer(params))))
        return Scaled(jnp.ones(()), jnp.zeros((), jnp.int32), none, none)

    def update(updates: Tree, state: Scaled, params: Params = None) -> tuple[Tree, Scaled]:
        updates = jax.tree.map(lambda u: u * state.factor.astype(u.dtype), updates)

        def account(before: jax.Array, tree: Tree) -> jax.Array:
            sizes = jnp.stack([rms(layer) for layer in by_layer(tree)]).astype(before.dtype)
            return before + jnp.stack([jnp.where(state.step < limit.FIRST, sizes, 0), sizes])

        moved, sizes = account(state.moved, updates), account(state.sizes, params)
        return updates, Scaled(state.factor, state.step + 1, moved, sizes)

    return optax.chain(optimizer, optax.GradientTransformation(init, update))


class Trials(NamedTuple):
    """Short trainings that differ in nothing but their rate.

    Attributes:
        start: the cost before, with penalty.
        clearly: a difference of costs that counts.
        ends: the costs after, by factor of the rate; infinite where it was not finite.
        early, moved: for every layer update over weight at the rate itself, in the first steps and in all.
    """

    start: float
    clearly: float
    ends: dict[float, float]
    early: dict[str, float]
    moved: dict[str, float]


def trials_of(facts: Evidence) -> Trials:
    """Trainings of some steps each, from the same parameters with the same batches in the same order."""
    assert facts.optimizer is not None
    optimizer = scaled(facts.optimizer, facts.net)
    x, y, weights = data = Data(facts.data.x, facts.data.y, facts.data.weights)
    size = min(len(x), facts.batch_size or limit.BATCH)
    order_key, draw_key = jax.random.split(facts.key)
    passes = -(-limit.STEPS * size // len(x))
    rows = jnp.concatenate([permutation(key, len(x)) for key in jax.random.split(order_key, passes)])
    rows = rows[: limit.STEPS * size].reshape(limit.STEPS, size)
    options = Options(facts.net, facts.loss, optimizer, size, penalty=facts.penalty)

    def objective(params: Params) -> float:
        value = float(_cost(facts.net, facts.loss, params, x, y, weights, facts.penalty))
        return value if np.isfinite(value) else float("inf")

    def train(factor: float) -> tuple[float, Scaled]:
        *others, last = optimizer.init(facts.params)
        carry = facts.params, (*others, last._replace(factor=jnp.asarray(factor)))
        params, opt_state = _trained(options, draw_key, carry, data, rows)
        return objective(params), opt_state[-1]

    start = objective(facts.params)
    clearly = limit.CLEARLY * max(start, facts.cost, facts.chance or 0.0)
    middle, account = train(1.0)
    ends = {0.1: train(0.1)[0], 1.0: middle}
    for factor in limit.HIGHER:
        ends[factor], _ = train(factor)
        if not abs(middle - ends[factor]) <= clearly:
            break
    if min(middle, ends[0.1]) - start > clearly:
        ends[limit.UPHILL], _ = train(limit.UPHILL)
    shares = np.asarray(account.moved / account.sizes).tolist()
    early, moved = (dict(zip(facts.flow, row, strict=True)) for row in shares)
    return Trials(start, clearly, ends, early, moved)


@jax.jit
def _trained(options: Options, key: jax.Array, carry: Any, data: Data, rows: jax.Array) -> Any:
    step = step_of(options, key, data)
    batches = Batch(Data(None, None, None), rows, None, jnp.arange(len(rows)))
    return jax.lax.scan(lambda carry, batch: (step(carry, batch)[0], None), carry, batches)[0]


@jax.jit
def _cost(net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any, weights: Any, penalty: Penalty | None) -> Any:
    return cost(net, loss, params, x, y, weights=weights, penalty=penalty)
