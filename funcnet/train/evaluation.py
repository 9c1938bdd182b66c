"""Costs, outputs and metrics of a whole data set in evaluation, propagated some rows at a time."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, walkers
from funcnet._core.context import Context
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params
from funcnet._core.weighting import reduced
from funcnet.layers.segment_columns import with_segments
from funcnet.propagation import predict
from funcnet.train.metrics import Metric, check_metrics
from funcnet.train.options import Data, examples_of
from funcnet.train.programs import Program

ROOM = 2**24  # numbers that the tape of a piece may hold, about 64 MB


def evaluate(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    data: Sequence[ArrayLike],
    *,
    metrics: Sequence[Metric] | None = None,
    weights: ArrayLike | None = None,
) -> dict[str, Any]:
    """The cost of a data set without penalty, and metrics: what `fit` records for its validation data.

    The examples are propagated in pieces, as many at once as the network's tape takes 2²⁴ numbers for, so that what
    `cost` cannot hold in one piece is evaluated all the same. A network with a layer that mixes examples, and says so,
    is propagated at once.

    Args:
        net, loss, params: as for `cost`.
        data: (x, y) as for `cost`, or (x, y, weights). If x is a `numpy.memmap` it stays on the host, and its pieces
            are moved one after the other.
        metrics: such as `Accuracy()`.
        weights: (m,) or (m, *positions), as for `cost`.

    Returns:
        A dict, "cost" first and then the metrics under their names: floats, inside `jit` arrays.

    Raises:
        TypeError, ValueError: what `cost` refuses; weights given twice; a value that is not a metric.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> net = fn.Dense(1, 2)
        >>> params, x = fn.from_weights(net, [[[2.0, 0.0]]]), jnp.array([[1.0], [-1.0], [3.0]])
        >>> row = fn.evaluate(net, fn.CrossEntropy(), params, (x, jnp.array([0, 1, 1])), metrics=[fn.Accuracy()])
        >>> {name: round(value, 3) for name, value in row.items()}
        {'cost': 2.085, 'accuracy': 0.667}
    """
    x, y, own = examples_of("data", data)
    if own is not None and weights is not None:
        raise ValueError("evaluate: weights are given twice, in data and by name. Leave one out.")
    weights, metrics = own if weights is None else weights, check_metrics(metrics)
    net, x = with_segments(net, *arguments.unpacked(x))
    if isinstance(x, np.memmap):
        values = _from_host(net, loss, metrics, params, Data(x, np.asarray(y), weights))
    else:
        batch = arguments.checked_batch(net, loss, params, x, y, weights)
        values = _evaluated(net, loss, metrics, batch.params, Data(batch.x, batch.y, batch.weights))
    traced = any(isinstance(value, jax.core.Tracer) for value in values.values())
    names = ("cost", *(metric.name for metric in metrics))  # programs sort them
    return {name: values[name] if traced else float(values[name]) for name in names}


def evaluated(
    net: AnyLayer, loss: Loss, metrics: tuple[Metric, ...], params: Params, data: Data, m: Any = None
) -> dict[str, jax.Array]:
    """`evaluate` of checked data on the device; of the rows the first m are examples (None: all)."""
    x, y, weights = data
    costs, output = _propagated(net, loss, metrics, params, x, y)
    return summary_of(metrics, costs, output, y, counting(weights, m, x))


def summary_of(
    metrics: tuple[Metric, ...], costs: jax.Array, output: jax.Array | None, y: jax.Array, weights: jax.Array | None
) -> dict[str, jax.Array]:
    row = {"cost": reduced(costs, weights, "mean")}
    return row if output is None else row | {m.name: m.value(output, y, weights) for m in metrics}


def outputs(net: AnyLayer, params: Params, x: jax.Array) -> jax.Array:
    """`predict`, some rows at a time."""
    return in_pieces(lambda x: predict(net, params, x), rows_at_once(net, params, x), x)


def counting(weights: jax.Array | None, m: Any, x: jax.Array) -> jax.Array | None:
    """The weights of rows of which only the first m are examples."""
    if m is None:
        return weights
    counted = jnp.arange(len(x), dtype=jnp.int32) < m
    if weights is None:
        return counted
    return jnp.where(counted.reshape(-1, *[1] * (weights.ndim - 1)), weights, 0)


def rows_at_once(net: AnyLayer, params: Params, x: Any) -> int:
    """How many examples are propagated at once: a power of two, from shapes alone."""
    if any(getattr(layer, "mixes_examples", False) for _, layer in walkers.leaves(net)):
        return max(x.shape[0], 1)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    one = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    kept = jax.eval_shape(lambda params, x: walkers.layer_forward(net, params, x, Context(None)), shapes, one)
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(kept))
    return 2 ** max(0, (ROOM // max(size, 1)).bit_length() - 1)


def in_pieces(f: Callable[..., Any], rows: int, *examples: jax.Array) -> Any:
    """f(*examples), arrays with examples first, from so many rows at a time."""
    whole = (len(examples[0]) - 1) // rows * rows
    if whole <= 0:
        return f(*examples)
    parts = [a[:whole].reshape(-1, rows, *a.shape[1:]) for a in examples]
    results = jax.lax.map(lambda part: f(*part), parts)
    last = f(*(a[whole:] for a in examples))
    return jax.tree.map(lambda a, b: jnp.concatenate([a.reshape(-1, *a.shape[2:]), b]), results, last)


def _propagated(
    net: AnyLayer, loss: Loss, metrics: tuple[Metric, ...], params: Params, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array | None]:
    """Costs, and the output if there is a metric that needs it."""

    def piece(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        output = predict(net, params, x)
        return loss.value(output, y), output if metrics else None

    return in_pieces(piece, rows_at_once(net, params, x), x, y)


_evaluated, _piece, _summary_of = Program(evaluated), Program(_propagated), Program(summary_of)


def _from_host(
    net: AnyLayer, loss: Loss, metrics: tuple[Metric, ...], params: Params, data: Data
) -> dict[str, jax.Array]:
    """`evaluated` of data that stay on the host."""
    x, y, weights = data
    dtype, parts = arguments.input_type(net, params, x), []
    rows = rows_at_once(net, params, jax.ShapeDtypeStruct(x.shape, dtype))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        piece = jnp.asarray(np.asarray(x[part])).astype(dtype), jnp.asarray(y[part])
        arguments.checked_batch(net, loss, params, *piece, None if weights is None else weights[part])
        parts.append(_piece(net, loss, metrics, params, *piece))
    costs, output = jax.tree.map(lambda *parts: jnp.concatenate(parts), *parts)
    return _summary_of(metrics, costs, output, jnp.asarray(y), weights)
