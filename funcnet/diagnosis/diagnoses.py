"""`diagnose`: why a network does not learn, in plain words."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core import arguments, scalars, walkers
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Penalty
from funcnet.diagnosis import symptoms, training_symptoms, trials
from funcnet.diagnosis import thresholds as limit
from funcnet.diagnosis.evidence import Evidence, chance_level, propagated
from funcnet.diagnosis.verdicts import Diagnosis, Look
from funcnet.per_example.signals import number_of
from funcnet.train.history import History
from funcnet.train.state import check_optimizer

Check = Callable[[Evidence], Look]

ANYTHING = None
DATA = ("cost not finite", "inputs unscaled")
UNITS = ("symmetric units", "dead units", "saturated units")

CHECKS: tuple[tuple[str, Check, tuple[str, ...] | None], ...] = (
    # what is looked at, how, and the verdicts that would explain what is seen, so that it is not looked at
    ("cost and gradients", symptoms.cost_is_finite, ()),
    ("labels", symptoms.labels_vary, ()),
    ("inputs", symptoms.inputs_are_scaled, ()),
    ("symmetry", symptoms.units_differ, ("cost not finite",)),
    ("dead and saturated units", symptoms.units_are_alive, DATA),
    ("cost against chance", symptoms.cost_is_near_chance, (*DATA, "labels constant")),
    ("error signals", symptoms.error_signals_keep_their_size, (*DATA, *UNITS)),
    ("a few examples by heart", trials.few_are_learned, ANYTHING),
    ("learning rate and updates", training_symptoms.rate_suits, ANYTHING),
    ("overfitting", training_symptoms.it_generalises, ("cost not finite",)),
)


def diagnose(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    optimizer: optax.GradientTransformation | None = None,
    batch_size: int | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    history: History | None = None,
    key: jax.Array | None = None,
    progress: bool = False,
) -> Diagnosis:
    """Why a network does not learn, or would not: verdicts with their evidence, where, and what to change.

    Before a training or during one. It looks at costs and gradients that are not finite; labels that are all
    equal; inputs that are not scaled; units that are equal and stay so; dead and saturated units; a cost far above
    that of the best constant output (chance level); error signals that vanish or explode on the way down; whether 20
    examples can be learned by heart; with `optimizer` whether a tenth of its rate, or ten times it, does clearly
    better, whether updates go uphill, and how large they are beside the weights; with `validation` or
    `history`, overfitting. A symptom that an earlier verdict explains is left out, and so are the trials once
    anything is wrong: cure that first, and ask again.

    All limits stand in `funcnet/diagnosis/thresholds.py`, each with its source.

    Args:
        net: a layer.
        loss: the cost of an output against its target.
        params: the parameters, as they start or as they are.
        x, y: the training examples, as for `cost`. Of more than 2000, 2000 drawn by key are looked at.
        weights: (m,) or (m, *positions), as for `cost`. What has weight 0 is not looked at.
        penalty: a cost of the parameters; it takes part in the trials of the learning rate.
        optimizer: what the training uses, tried for 100 steps from params with a state of its own, at three rates
            or more. (A schedule that warms up is judged by the steps it begins with.)
        batch_size: examples in a step of these; None takes 32.
        validation: (x, y) held back.
        history: of a training that had validation, which ended with params.
        key: what examples and trials are drawn by; None takes `jax.random.key(0)`.
        progress: write to stderr what is being looked at.

    Returns:
        A `Diagnosis`: `healthy`, `verdicts`, `names`, and `looks`, everything that was looked at. It prints as text.

    Raises:
        TypeError: under `jit`; an argument that is not a layer, loss, optimiser, history or pair (x, y); mixed types.
        ValueError: no example; what `cost` refuses; a batch size below 1; the history of many trainings.

    Cost:
        A forward and a backward pass; up to 1500 steps of Adam on 20 examples (it stops when they are
        learned); with `optimizer` 300 steps, 400 where they raise the cost, 600 where no rate gains anything. Most
        of the time goes into compiling: a few seconds in all.

    Source: Karpathy, "A recipe for training neural networks", 2019; LeCun et al., 1998 (inputs); Glorot and
    Bengio, 2010 (saturation, error signals); Lu et al., 2019 (dead units); Prechelt, 1998 (overfitting).

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.mlp((2, 8, 3), init=fn.Constant(0.1))
        >>> x = jax.random.normal(jax.random.key(0), (60, 2))
        >>> diagnosis = fn.diagnose(net, fn.CrossEntropy(), fn.init(net, jax.random.key(1)), x, jnp.arange(60) % 3)
        >>> diagnosis.names, diagnosis.verdicts[0].where
        (('symmetric units',), 'layer 1')
    """
    scalars.flag("progress", progress)
    facts = _evidence(net, loss, params, x, y, weights, penalty, optimizer, batch_size, validation, history, key)
    looks: list[Look] = []
    for what, check, explained_by in CHECKS:
        if progress:
            sys.stderr.write(f"looking at {what}\n")
        verdicts = [verdict.name for look in looks for verdict in look.verdicts]
        reasons = [name for name in verdicts if explained_by is ANYTHING or name in explained_by]
        if reasons:
            look = Look(f"{', '.join(dict.fromkeys(reasons))}: cure that first.", done=False)
        else:
            look = check(facts)
        looks.append(dataclasses.replace(look, what=what))
    return Diagnosis(tuple(looks))


def _evidence(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None,
    penalty: Penalty | None,
    optimizer: optax.GradientTransformation | None,
    batch_size: int | None,
    validation: tuple[ArrayLike, ArrayLike] | None,
    history: History | None,
    key: jax.Array | None,
) -> Evidence:
    """The arguments, checked, and what follows from them for the examples that are looked at."""
    here = jnp.zeros(())  # traced wherever something is, even if all that is given is not
    if any(
        isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x, y, weights, validation, key, here))
    ):
        raise TypeError("diagnose: it decides by what it sees, so it cannot be called under jit, vmap or grad.")
    arguments.check_penalty(penalty)
    key = arguments.one_key("key", jax.random.key(0) if key is None else key)
    given = arguments.checked_batch(net, loss, params, x, y, weights)
    if optimizer is not None:
        check_optimizer(optimizer)
    if batch_size is not None:
        scalars.integer("batch_size", batch_size, "an integer, 1 or more", 1)
    if history is not None:
        _check_history(history)
    held_back = None
    if validation is not None:
        held_back = arguments.checked_validation(net, loss, given.params, *arguments.pair("validation", validation))
    counts = np.ones(len(given.x), bool) if given.weights is None else np.asarray(given.weights != 0)
    counted = np.flatnonzero(counts.any(axis=tuple(range(1, counts.ndim))))
    if not len(counted):
        raise ValueError(f"x: expected an example or more that counts, got shape {given.x.shape}. Give some.")
    sample_key, key = jax.random.split(key)
    drawn = np.asarray(jax.random.permutation(sample_key, len(counted)))[: limit.EXAMPLES]
    rows = counted[drawn]
    data = given._replace(
        x=given.x[rows], y=given.y[rows], weights=None if given.weights is None else given.weights[rows]
    )
    J, grads, flow = propagated(net, loss, data.params, data.x, data.y, data.weights)
    output = jax.eval_shape(lambda params, x: walkers.layer_forward(net, params, x)[0], data.params, data.x)
    level = chance_level(loss, output, data.y, data.weights)
    return Evidence(
        net=net,
        loss=loss,
        params=data.params,
        penalty=penalty,
        optimizer=optimizer,
        batch_size=None if batch_size is None else int(batch_size),
        validation=held_back,
        history=history,
        key=key,
        data=data,
        labels=np.asarray(given.y)[counted],
        m=len(counted),
        cost=float(J),
        chance=None if level is None else level[0],
        beside=None if level is None else level[1],
        # jit sorts names as text, "layer 10" before "layer 2"
        flow={name: _floats(flow[name]) for name in sorted(flow, key=number_of)},
        grads=grads,
    )


def _floats(sizes: dict[str, Any]) -> dict[str, float]:
    return {what: np.nan if value is None else float(value) for what, value in sizes.items()}


def _check_history(history: Any) -> None:
    if not isinstance(history, History):
        raise TypeError(f"history: expected the History that fn.fit returns, got {arguments.shown(history)}.")
    if np.ndim(history.epochs):
        raise ValueError("history: this is the history of many trainings. Give that of one: many[0][1].")
    if not {"cost", "validation_cost"} <= set(history.names) or not int(history.epochs):
        raise ValueError(
            f"history: expected the columns cost and validation_cost and an epoch or more, got "
            f"{', '.join(history.names)} over {int(history.epochs)} epochs. Give fn.fit validation=(x, y)."
        )
