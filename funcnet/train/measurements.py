"""What is recorded of a network after an epoch: metrics, and costs and metrics of validation data."""

import jax

from funcnet._core import arguments
from funcnet._core.protocols import Params
from funcnet.train.evaluation import counting, evaluated
from funcnet.train.options import Data, Job, on_host

SKIPPED = "skipped"


def measured(job: Job, params: Params, output: jax.Array | None) -> dict[str, jax.Array]:
    """What is recorded beside the cost of the epoch, in evaluation: no dropout.

    `output` is the network's for the training data, None without metrics.
    """
    net, loss, metrics, data = job.options.net, job.options.loss, job.options.metrics, job.data
    row = {}
    if output is not None:
        weights = counting(data.weights, job.m, output)
        row = {m.name: m.value(output, data.y, weights) for m in metrics}
    if job.validation is None:
        return row
    held = job.validation
    if held.weights is not None:  # what has weight 0 is taken out
        batch = arguments.checked_batch(net, loss, params, *held)
        held = Data(batch.x, batch.y, batch.weights)
    values = evaluated(net, loss, metrics, params, held, job.validation_m)
    return row | {f"validation_{name}": value for name, value in values.items()}


def names(job: Job) -> tuple[str, ...]:
    """The columns, in the order in which one reads them."""
    sets = ("",) if job.validation is None else ("", "validation_")
    columns = ("cost", *(metric.name for metric in job.options.metrics))
    counts = (SKIPPED,) if job.options.non_finite == "skip" else ()
    return (*(prefix + name for name in columns for prefix in sets), *counts)


def larger_is_better(job: Job) -> tuple[str, ...]:
    """The columns of which the largest value is the best."""
    larger = [metric.name for metric in job.options.metrics if metric.larger_is_better]
    return tuple(name for name in names(job) if name.removeprefix("validation_") in larger)


def shapes_of(job: Job, params: Params) -> Data:
    """The data's shapes, and the types that they have on the device."""
    kind, x = jax.dtypes.canonicalize_dtype, job.data.x
    shapes = jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, kind(part.dtype)), job.data)
    if not on_host(job.data):
        return shapes
    return shapes._replace(x=jax.ShapeDtypeStruct(x.shape, arguments.input_type(job.options.net, params, x)))
