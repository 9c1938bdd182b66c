"""What is recorded every so many steps: how signals, errors and updates are sized, layer by layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.numerics import total, wide
from funcnet._core.protocols import Params, Tree
from funcnet._core.walkers import leaves
from funcnet.per_example.gradients import example_square_norms
from funcnet.per_example.moments import scale_of
from funcnet.per_example.signals import OWN, flow_of, rms
from funcnet.propagation import Backprop, backprop, gradient
from funcnet.train.options import Options
from funcnet.train.update import Batch, Outcome, inputs_of

QUANTILES = (0.1, 0.5, 0.9)


def look(
    options: Options, draw_key: jax.Array, before: Params, then: Params, batch: Batch, outcome: Outcome
) -> dict[str, jax.Array | None]:
    """Telemetry of one update: scalars by name, "layer 1: delta" and the like, None for what a layer does not have.

    The gradient's sizes are those of the gradient that the optimiser was given, and "update_to_weight" is the
    size of its update over that of the parameters. One more backward pass of that batch.
    """
    net, (x, y, w, keys) = options.cast_net, inputs_of(options, draw_key, batch)
    bp = backprop(net, options.loss, before, x, y, weights=w, key=keys)
    values: dict[str, jax.Array | None] = {}
    flow = flow_of(net, bp, before, outcome.grads, batch.counted)
    moved = jax.tree.map(jnp.subtract, then, before)
    layers = [pair for _, _, *pair in leaves(net, moved, before) if pair[1]]
    for (name, sizes), (update, weights) in zip(flow.items(), layers):
        sizes = sizes | {"update_to_weight": rms(update) / rms(weights)}
        values |= {f"{name}: {what}": value for what, value in sizes.items()}
    squares = example_square_norms(net, bp)
    number: Any = max(len(squares), 1)
    norms = jnp.sqrt(squares)
    if batch.counted is not None:  # rows that only fill up have a gradient of 0, which is no example's
        number = jnp.maximum(batch.counted.sum(dtype=norms.dtype), 1)
        norms = jnp.where(batch.counted, norms, jnp.nan)
    sums = _sums(options, bp, outcome)
    scale = scale_of(total(squares) / number, jax.tree.map(lambda g: g / number, sums))
    quantiles = jnp.nanquantile(norms, jnp.asarray(QUANTILES, norms.dtype))
    values |= {f"gradient_norm {q:.0%}": value for q, value in zip(QUANTILES, quantiles)}
    return values | {"noise_scale": scale}


def with_absent(telemetry: dict[str, Any]) -> dict[str, Any]:
    """Telemetry with NaN for what a layer does not have, which programs leave out."""
    layers = [name.removesuffix("a") for name in telemetry if name.startswith("layer ") and name.endswith(": a")]
    absent = [f"{layer}{what}" for layer in layers for what in OWN if f"{layer}{what}" not in telemetry]
    return telemetry | {
        name: np.full(telemetry["noise_scale"].shape, np.nan, telemetry["noise_scale"].dtype) for name in absent
    }


def _sums(options: Options, bp: Backprop, outcome: Outcome) -> Tree:
    """The sum of the examples' gradients: that of the update, unless something was done to it."""
    if options.penalty is None and options.trainable is None and options.privacy is None:
        return jax.tree.map(lambda g: wide(g) * outcome.mass, outcome.grads)
    return gradient(options.cast_net, bp.tape, bp.deltas)
