"""What is looked at every so many steps: how signals, errors and updates are sized, layer by layer."""

from typing import Any

import jax
import jax.numpy as jnp

from funcnet.backprop import Backprop, backprop, gradient
from funcnet.flow import flow_of, rms
from funcnet.noise import scale_of
from funcnet.per_example import example_square_norms
from funcnet.precision import total, wide
from funcnet.protocols import Params, Tree
from funcnet.train.update import Batch, Method, Outcome, Task, options_of

QUANTILES = (0.1, 0.5, 0.9)


def look(
    task: Task, method: Method, draw_key: jax.Array, before: Params, then: Params, batch: Batch, outcome: Outcome
) -> dict[str, jax.Array]:
    """Telemetry of one update: scalars by name, "layer 1: delta" and the like.

    The gradient's sizes are those of the gradient that the optimiser was given, and "update_to_weight" is the
    size of its update over that of the parameters. One more backward pass of that batch.
    """
    options = options_of(task, draw_key, batch)
    options.pop("penalty")
    bp = backprop(task.net, task.loss, before, batch.data.x, batch.data.y, **options)
    seen: dict[str, jax.Array] = {}
    flow = flow_of(task.net, bp, before, outcome.grads, batch.counted)
    moved = jax.tree.map(jnp.subtract, then, before)
    layers = [jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, dict)) for tree in (moved, before)]
    for (name, sizes), own_moved, own in zip(flow.items(), *layers):
        sizes = sizes | {"update_to_weight": rms(own_moved) / rms(own)}
        seen |= {f"{name}: {what}": value for what, value in sizes.items()}
    squares = example_square_norms(task.net, bp)
    number: Any = max(len(squares), 1)
    norms = jnp.sqrt(squares)
    if batch.counted is not None:  # rows that only fill up have a gradient of 0, which is no example's
        number = jnp.maximum(batch.counted.sum(dtype=norms.dtype), 1)
        norms = jnp.where(batch.counted, norms, jnp.nan)
    sums = _sums(task, method, bp, outcome)
    scale = scale_of(total(squares) / number, jax.tree.map(lambda g: g / number, sums))
    quantiles = jnp.nanquantile(norms, jnp.asarray(QUANTILES, norms.dtype))
    seen |= {f"gradient_norm {q:.0%}": value for q, value in zip(QUANTILES, quantiles)}
    return seen | {"noise_scale": scale}


def _sums(task: Task, method: Method, bp: Backprop, outcome: Outcome) -> Tree:
    """The sum of the examples' gradients: that of the update, unless something was done to it."""
    if task.penalty is None and task.trainable is None and method.privacy is None:
        return jax.tree.map(lambda g: wide(g) * outcome.mass, outcome.grads)
    return gradient(task.net, bp.tape, bp.deltas)
