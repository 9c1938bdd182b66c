"""What `diagnose` judges by: one backward pass of the data, and the cost of knowing nothing."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core.arguments import Batch
from funcnet._core.numerics import total
from funcnet._core.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet._core.weighting import mass, reduced, safe_mean, weighted
from funcnet.diagnosis import thresholds as limit
from funcnet.losses import BinaryCrossEntropy, CrossEntropy
from funcnet.per_example.signals import flow_of
from funcnet.propagation import backprop, gradient
from funcnet.train.history import History


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What the checks share.

    Attributes:
        net, loss, params, penalty, optimizer, batch_size, validation, history, key: as given to `diagnose`.
        data: the examples that are looked at; all of them count.
        labels: the targets of all examples that count.
        m: how many examples there are.
        cost: J, without penalty.
        chance: the cost of the best constant output, None if none was found for this loss.
        beside: the cost of that output with 1 added to every number, or for classes that of zeros if it is more; None
            like chance.
        flow: `gradient_flow`, as floats.
        grads: the gradient of J.
    """

    net: AnyLayer
    loss: Loss
    params: Params
    penalty: Penalty | None
    optimizer: optax.GradientTransformation | None
    batch_size: int | None
    validation: Batch | None
    history: History | None
    key: jax.Array
    data: Batch
    labels: np.ndarray
    m: int
    cost: float
    chance: float | None
    beside: float | None
    flow: dict[str, dict[str, float]]
    grads: Tree

    @property
    def learned(self) -> bool:
        """Whether the network knows something of these examples already."""
        return self.chance is not None and self.cost < limit.UNLEARNED * self.chance


@jax.jit
def propagated(net: AnyLayer, loss: Loss, params: Params, x: Any, y: Any, weights: Any) -> Any:
    """The cost J, its gradient, and `gradient_flow`."""
    bp = backprop(net, loss, params, x, y, weights=weights)
    whole = mass(bp.output.shape[:-1], weights, bp.costs.dtype)
    grads = jax.tree.map(lambda g: safe_mean(g, whole), gradient(net, bp.tape, bp.deltas))
    return safe_mean(total(bp.costs), whole), grads, flow_of(net, bp, params, grads)


def chance_level(loss: Loss, output: Any, y: Any, weights: Any) -> tuple[float, float] | None:
    """The cost of the best constant output and of one beside it, or None if no constant makes sense to this loss.

    The one beside it has 1 added to every number. For classes it is zeros if they cost more: that is how a network
    starts, and where one class is rare it is far above the best constant.

    Cross-entropy's is the logarithm of the labels' frequencies, that of binary cross-entropy its counterpart, and
    for other losses the better of the targets' mean and their median.
    """
    try:
        levels = [
            tuple(_cost_of(loss, constant + shift, output, y, weights) for shift in (0, 1))
            for constant in _constants(loss, output, y, weights)
        ]
    except (TypeError, ValueError):  # a user's loss whose targets are of another kind
        return None
    best, beside = min(levels)
    if isinstance(loss, (CrossEntropy, BinaryCrossEntropy)):
        beside = max(beside, _cost_of(loss, jnp.zeros(output.shape[-1:], output.dtype), output, y, weights))
    return (best, beside) if np.isfinite(best) else None


def _constants(loss: Loss, output: Any, y: Any, weights: Any) -> list[jax.Array]:
    """Outputs (C,) among which the best constant is sought."""
    classes = y.ndim == len(output.shape) - 1
    values = jax.nn.one_hot(y.astype(int), output.shape[-1], dtype=output.dtype) if classes else y.astype(output.dtype)
    if values.shape != output.shape:
        raise ValueError("targets of another shape")
    rows = values.reshape(-1, output.shape[-1])
    ones = jnp.ones(output.shape[:-1], output.dtype)
    counts = weighted(ones, 1.0 if weights is None else weights.astype(output.dtype)).ravel()
    mean = total(rows * counts[:, None], (0,)) / total(counts)
    least = jnp.finfo(mean.dtype).tiny
    if isinstance(loss, CrossEntropy):
        s = loss.label_smoothing
        constants = [jnp.log(jnp.maximum((1 - s) * mean + s / len(mean), least))]
    elif isinstance(loss, BinaryCrossEntropy):
        positive = mean * jnp.asarray(loss.positive_weight, mean.dtype)
        constants = [jnp.log(jnp.maximum(positive, least)) - jnp.log(jnp.maximum(1 - mean, least))]
    else:
        constants = [mean, jnp.median(rows, axis=0)]
    return [constant.astype(output.dtype) for constant in constants]


def _cost_of(loss: Loss, constant: jax.Array, output: Any, y: Any, weights: Any) -> float:
    costs = loss.value(jnp.broadcast_to(jax.lax.broadcast(constant, output.shape[:-1]), output.shape), y)
    return float(reduced(costs, weights, "mean"))


def rows_of(values: Any, features: bool) -> np.ndarray:
    """Examples and positions as rows, with one column if the values have no axis of features."""
    array = np.asarray(values)
    return array.reshape(-1, array.shape[-1] if features and array.ndim > 1 else 1)


def shown(value: float) -> str:
    return f"{value:.3g}"


def percent(share: float) -> str:
    return f"{share:.0%}"
