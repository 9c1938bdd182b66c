"""The loop over epochs: what it carries, what it records after each, and when it ends."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core.numerics import accumulation_type
from funcnet._core.protocols import Params
from funcnet.train.epoch import compiled_epoch, epoch_of
from funcnet.train.evaluation import outputs
from funcnet.train.history import History
from funcnet.train.measurements import SKIPPED, larger_is_better, measured, names, shapes_of
from funcnet.train.options import Job
from funcnet.train.state import TrainState
from funcnet.train.stopping import EarlyStopping, Limits
from funcnet.train.telemetry import with_absent

RUNNING, STOPPED_EARLY, NOT_FINITE = 0, 1, 2  # the status of a training


class Progress(NamedTuple):
    """What the loop carries: the state after the last good epoch, a table, and the best.

    The table holds the epochs since the loop was entered last, or all where nobody takes them out of it in between.
    """

    state: TrainState
    epoch: jax.Array
    status: jax.Array
    columns: dict[str, Any]
    telemetry: dict[str, Any]
    best: Params
    best_value: jax.Array
    best_epoch: jax.Array


def begin(job: Job, state: TrainState, room: int = 0) -> Progress:
    """The carry before the first epoch, with room for so many in its table."""
    looked = looked_at(job, state) if job.options.telemetry else ()
    dtype = accumulation_type(jnp.result_type(*jax.tree.leaves(state.params)))
    return Progress(
        state=state,
        epoch=jnp.zeros((), jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
        columns={name: np.full(room, np.nan, dtype) for name in names(job)},
        telemetry={name: np.full(room * looks(job), np.nan, dtype) for name in looked},
        best=() if job.options.early_stopping is None else state.params,
        best_value=jnp.asarray(jnp.inf, dtype),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def run(job: Job, start: Progress, until: int | jax.Array) -> Progress:
    """Epochs until that number, or until there is a reason to stop. The table begins with the first of them."""

    def one(progress: Progress) -> Progress:
        state, results = epoch_of(job.options, progress.state, job.data, job.m)
        output = outputs(job.options.net, state.params, job.data.x) if job.options.metrics else None
        return recorded(job, progress, start.epoch, state, results, output)

    def goes_on(progress: Progress) -> jax.Array:
        return (progress.epoch < until) & (progress.status == RUNNING)

    return jax.lax.while_loop(goes_on, one, start)


def recorded(
    job: Job,
    before: Progress,
    first: jax.Array,
    state: TrainState,
    results: dict[str, jax.Array],
    output: jax.Array | None,
) -> Progress:
    """The carry after an epoch, from its results and the network's output for the data (None without metrics).

    The table begins with the epoch after `first`.
    """
    row = {**results, **measured(job, state.params, output)}
    # An example's cost must not end a private training: that would tell who is in the data.
    any_cost = job.options.privacy is not None or job.options.non_finite == "skip"
    watched = (state.params, () if any_cost else results["cost"])
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(watched)]).all()
    place, stopping = before.epoch - first, job.options.early_stopping
    then = before._replace(state=state, epoch=before.epoch + 1, columns={}, telemetry={})
    if stopping is not None and job.limits is not None:
        then = _watched(job, stopping, job.limits, then, row[stopping.monitor])
    failed = before._replace(status=jnp.full_like(before.status, NOT_FINITE), columns={}, telemetry={})
    after = jax.tree.map(partial(jnp.where, finite), then, failed)

    def put(values: jax.Array, new: jax.Array) -> jax.Array:  # a choice between whole tables would cost their length
        kept = jnp.where(finite, new.astype(values.dtype).ravel(), jnp.nan)
        return jax.lax.dynamic_update_slice(values, kept, (place * len(kept),))

    columns = {name: put(column, row[name]) for name, column in before.columns.items()}
    return after._replace(columns=columns, telemetry={n: put(seen, results[n]) for n, seen in before.telemetry.items()})


def taken_up(job: Job, saved: Progress, retry: bool) -> Progress:
    """Progress read from a file, with a status for the patience of today. With `retry` a bad epoch is tried again."""
    status, stopping = saved.status, job.options.early_stopping
    if stopping is not None:
        waited = saved.epoch - jnp.maximum(saved.best_epoch, stopping.start_from_epoch)
        status = jnp.where((status == STOPPED_EARLY) & (waited < stopping.patience), RUNNING, status)
    if retry:
        status = jnp.where(status == NOT_FINITE, RUNNING, status)
    return saved._replace(status=status.astype(saved.status.dtype))


def ended(progress: Progress, epochs: int | None) -> bool:
    """Whether no training of these goes on."""
    last = np.iinfo(np.int32).max if epochs is None else epochs
    return not ((np.asarray(progress.epoch) < last) & (np.asarray(progress.status) == RUNNING)).any()


def looks(job: Job) -> int:
    """How often telemetry is taken in an epoch."""
    every = job.options.telemetry
    return -(-len(job.data.x) // job.options.batch_size) // every if every else 0


def looked_at(job: Job, state: TrainState) -> tuple[str, ...]:
    """The names of what telemetry looks at."""
    _, results = compiled_epoch.eval_shape(job.options, state, shapes_of(job, state.params))  # it keeps what it traced
    return tuple(name for name, shape in results.items() if name not in ("cost", SKIPPED) and shape is not None)


def _watched(job: Job, stopping: EarlyStopping, limits: Limits, then: Progress, value: jax.Array) -> Progress:
    """The carry with the best parameters so far, and stopped if there were none for long."""
    sign = -1 if stopping.monitor in larger_is_better(job) else 1
    value = sign * value.astype(then.best_value.dtype)
    least = then.best_value - jnp.asarray(limits.min_change, value.dtype)
    better = ~jnp.isnan(value) & ((then.best_epoch == 0) | (value < least)) & (then.epoch > limits.start_from_epoch)
    best_epoch = jnp.where(better, then.epoch, then.best_epoch)
    waited = then.epoch - jnp.maximum(best_epoch, limits.start_from_epoch)
    return then._replace(
        best=jax.tree.map(partial(jnp.where, better), then.state.params, then.best),
        best_value=jnp.where(better, value, then.best_value),
        best_epoch=best_epoch,
        status=jnp.where(waited >= limits.patience, STOPPED_EARLY, then.status),
    )


def finished(end: Progress) -> TrainState:
    """The state with the best parameters, if they were kept and an epoch was the best; of one training, or of many."""
    if end.best == ():
        return end.state

    def chosen(best: jax.Array, last: jax.Array) -> jax.Array:
        there = end.best_epoch > 0
        return jnp.where(there.reshape(*there.shape, *[1] * (best.ndim - there.ndim)), best, last)

    return end.state._replace(params=jax.tree.map(chosen, end.best, end.state.params))


def history_of(job: Job, end: Progress, stopped: str = "") -> History:
    """What was recorded; in private training with ε, which depends on the number of epochs alone."""
    options, recorded, columns, telemetry = job.options, names(job), end.columns, end.telemetry
    if options.privacy is not None:
        room = next(iter(columns.values())).shape
        spent = options.privacy.epsilons(len(job.data.x), options.batch_size, room[-1])
        recorded, columns = (*recorded, "epsilon"), {**columns, "epsilon": jnp.broadcast_to(jnp.asarray(spent), room)}
    if telemetry:
        first = jnp.arange(looks(job)) * options.telemetry + 1
        steps = -(-len(job.data.x) // options.batch_size)
        numbers = jnp.add.outer(jnp.arange(columns["cost"].shape[-1]) * steps, first).ravel()
        telemetry = {"step": jnp.broadcast_to(numbers, end.telemetry["noise_scale"].shape), **with_absent(telemetry)}
    return History(recorded, columns, end.epoch, end.best_epoch, stopped, telemetry, looks(job))
