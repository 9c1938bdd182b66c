"""The loop over epochs: what it carries, what it records after each, and when it ends."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from funcnet.backprop import cost, predict
from funcnet.precision import accumulation_type
from funcnet.protocols import AnyLayer, Params
from funcnet.train.epoch import compiled_epoch, epoch_of
from funcnet.train.history import History
from funcnet.train.metrics import Metric
from funcnet.train.state import TrainState
from funcnet.train.stopping import EarlyStopping
from funcnet.train.update import Data, Method, Task

RUNNING, STOPPED_EARLY, NOT_FINITE = 0, 1, 2  # the status of a training


class Job(NamedTuple):
    """What stays the same from epoch to epoch. `net` is what is evaluated: `task.net` without its `Cast`."""

    task: Task
    net: AnyLayer
    data: Data
    validation: Data | None
    metrics: tuple[Metric, ...]
    early_stopping: EarlyStopping | None


class Progress(NamedTuple):
    """What the loop carries: the state after the last good epoch, the table so far, and the best."""

    state: TrainState
    epoch: jax.Array
    status: jax.Array
    columns: dict[str, jax.Array]
    telemetry: dict[str, jax.Array]
    best: Params
    best_value: jax.Array
    best_epoch: jax.Array


def begin(job: Job, method: Method, state: TrainState, epochs: int) -> Progress:
    """The carry before the first epoch."""
    room = epochs * looks(job, method)
    seen = looked_at(job, method, state) if method.telemetry else ()
    dtype = accumulation_type(jnp.result_type(*jax.tree.leaves(state.params)))
    return Progress(
        state=state,
        epoch=jnp.zeros((), jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
        columns={name: jnp.full(epochs, jnp.nan, dtype) for name in names(job)},
        telemetry={name: jnp.full(room, jnp.nan, dtype) for name in seen},
        best=() if job.early_stopping is None else state.params,
        best_value=jnp.asarray(jnp.inf, dtype),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def run(job: Job, method: Method, now: Progress, until: Any) -> Progress:
    """Epochs until that number, or until there is a reason to stop."""

    def one(now: Progress) -> Progress:
        state, found = epoch_of(job.task, method, now.state, job.data)
        output = predict(job.net, state.params, job.data.x) if job.metrics else None
        return recorded(job, now, state, found, output)

    return jax.lax.while_loop(lambda now: (now.epoch < until) & (now.status == RUNNING), one, now)


def recorded(
    job: Job, now: Progress, state: TrainState, found: dict[str, jax.Array], output: jax.Array | None
) -> Progress:
    """The carry after an epoch, from the network's output for the data (None without metrics)."""
    row = {"cost": found["cost"], **measured(job, state.params, output)}
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((found["cost"], state.params))]).all()
    columns = {name: column.at[now.epoch].set(row[name].astype(column.dtype)) for name, column in now.columns.items()}
    telemetry = {name: _put(seen, now.epoch, found[name]) for name, seen in now.telemetry.items()}
    then = now._replace(state=state, epoch=now.epoch + 1, columns=columns, telemetry=telemetry)
    if job.early_stopping is not None:
        then = _watched(job, job.early_stopping, then, row[job.early_stopping.monitor])
    failed = now._replace(status=jnp.full_like(now.status, NOT_FINITE))
    return jax.tree.map(partial(jnp.where, finite), then, failed)


def _put(seen: jax.Array, epoch: jax.Array, new: jax.Array) -> jax.Array:
    """An epoch's telemetry at its place."""
    return jax.lax.dynamic_update_slice(seen, new.astype(seen.dtype), (epoch * len(new),))


def looks(job: Job, method: Method) -> int:
    """How often telemetry is taken in an epoch."""
    return -(-len(job.data.x) // method.batch_size) // method.telemetry if method.telemetry else 0


def looked_at(job: Job, method: Method, state: TrainState) -> tuple[str, ...]:
    """The names of what telemetry looks at."""
    _, found = compiled_epoch.eval_shape(job.task, method, state, shapes_of(job.data))  # it keeps what it traced
    return tuple(name for name in found if name != "cost")


def shapes_of(data: Data) -> Data:
    """The data's shapes, and the types that they have on the device."""
    kind = jax.dtypes.canonicalize_dtype
    return jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, kind(part.dtype)), data)


def _watched(job: Job, stopping: EarlyStopping, now: Progress, value: jax.Array) -> Progress:
    sign = -1 if stopping.monitor in larger_is_better(job) else 1
    value = sign * value.astype(now.best_value.dtype)
    better = (value < now.best_value - stopping.min_change) | (now.best_epoch == 0)
    best_epoch = jnp.where(better, now.epoch, now.best_epoch)
    waited = now.epoch - best_epoch
    return now._replace(
        best=jax.tree.map(partial(jnp.where, better), now.state.params, now.best),
        best_value=jnp.where(better, value, now.best_value),
        best_epoch=best_epoch,
        status=jnp.where(waited >= stopping.patience, STOPPED_EARLY, now.status),
    )


def measured(job: Job, params: Params, output: jax.Array | None) -> dict[str, jax.Array]:
    """What is recorded beside the cost of the epoch, in evaluation: no dropout."""
    row = {} if output is None else {m.name: m.value(output, job.data.y, job.data.weights) for m in job.metrics}
    if job.validation is not None:
        x, y, _ = job.validation
        row["validation_cost"] = cost(job.net, job.task.loss, params, x, y)
        held = predict(job.net, params, x) if job.metrics else None
        row |= {f"validation_{m.name}": m.value(held, y, None) for m in job.metrics if held is not None}
    return row


def names(job: Job) -> tuple[str, ...]:
    """The columns, in the order in which one reads them."""
    sets = ("",) if job.validation is None else ("", "validation_")
    return tuple(prefix + name for name in ("cost", *(metric.name for metric in job.metrics)) for prefix in sets)


def larger_is_better(job: Job) -> tuple[str, ...]:
    """The columns of which the largest value is the best."""
    larger = [metric.name for metric in job.metrics if metric.larger_is_better]
    return tuple(name for name in names(job) if name.removeprefix("validation_") in larger)


def finished(end: Progress) -> TrainState:
    """The state with the best parameters, if they were kept (before the first epoch they are the starting ones)."""
    return end.state if end.best == () else end.state._replace(params=end.best)


def history_of(job: Job, method: Method, end: Progress, stopped: str = "") -> History:
    """What was recorded; in private training with ε, which depends on the number of epochs alone."""
    recorded, columns, telemetry = names(job), end.columns, end.telemetry
    if method.privacy is not None:
        room = next(iter(columns.values())).shape
        spent = method.privacy.epsilons(len(job.data.x), method.batch_size, room[-1])
        recorded, columns = (*recorded, "epsilon"), {**columns, "epsilon": jnp.broadcast_to(jnp.asarray(spent), room)}
    if telemetry:
        first = jnp.arange(looks(job, method)) * method.telemetry + 1
        steps = -(-len(job.data.x) // method.batch_size)
        numbers = jnp.add.outer(jnp.arange(columns["cost"].shape[-1]) * steps, first).ravel()
        telemetry = {"step": jnp.broadcast_to(numbers, end.telemetry["noise_scale"].shape), **telemetry}
    return History(recorded, columns, end.epoch, end.best_epoch, stopped, telemetry, looks(job, method))
