"""`fit`: a whole training in one compiled loop, in chunks that leave the host its say."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from funcnet import arguments
from funcnet.backprop import cost, predict
from funcnet.precision import accumulation_type
from funcnet.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet.train.epoch import check_steps, epoch_of, first_bad_step
from funcnet.train.history import History
from funcnet.train.metrics import Metric
from funcnet.train.progress import RUNNING, Progress, in_chunks
from funcnet.train.state import TrainState
from funcnet.train.stopping import EarlyStopping

STOPPED_EARLY, NOT_FINITE = 1, 2  # a status other than RUNNING

Data = tuple[jax.Array, jax.Array]


class Job(NamedTuple):
    """What stays the same from epoch to epoch. Arrays, specs, and the host's choices."""

    net: AnyLayer
    loss: Loss
    data: Data
    validation: Data | None
    metrics: tuple[Metric, ...]
    penalty: Penalty | None
    weights: jax.Array | None
    trainable: Tree | None
    early_stopping: EarlyStopping | None


def fit(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Data,
    *,
    epochs: int,
    batch_size: int,
    validation: Data | None = None,
    metrics: Sequence[Metric] | None = None,
    penalty: Penalty | None = None,
    weights: jax.Array | None = None,
    trainable: Tree | None = None,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
    progress: bool = False,
) -> tuple[TrainState, History]:
    """Train for some epochs: `train_epoch` again and again, with what to record after each.

    The epochs run in one compiled loop, entered for about a second at a time, so that a progress
    line can move and Ctrl-C is heard: it ends the training with the state and history so far.
    Inside your own `jit` or `vmap` the whole training is one loop, and `progress` is refused.

    When cost or parameters stop being finite the training ends: the step is looked up, named in
    `history.stopped` and in a warning, and the state before it is returned.

    Args:
        net, loss, optimizer, state, data, batch_size, penalty, weights, trainable, accumulate: as
            for `train_epoch`.
        epochs: how many, 0 or more.
        validation: (x, y) held back; its cost (without penalty) is recorded after every epoch.
        metrics: such as `Accuracy()`, recorded after every epoch for data and validation, each in
            evaluation, on the whole set.
        early_stopping: when to end before the last epoch; the parameters of the best are returned.
        progress: write a line to stderr, about 20 times in all.

    Returns:
        The new state, and a `History` with the columns "cost" (of `train_epoch`), "validation_cost",
        and for each metric its name and "validation_" and its name.

    Raises:
        TypeError, ValueError: what `train_epoch` and `cost` refuse, for data and validation, before
            anything is compiled; a metric that gives no scalar; a column to watch that is not there.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp, optax
        >>> net, loss, optimizer = fn.Dense(1, 1), fn.SquaredError(), optax.sgd(0.1)
        >>> x = jnp.linspace(-1, 1, 10)[:, None]
        >>> state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
        >>> state, history = fn.fit(net, loss, optimizer, state, (x, 3 * x), epochs=60, batch_size=4)
        >>> round(float(state.params["w"][0, 0]), 2), history["cost"].shape
        (3.0, (60,))
    """
    job = Job(net, loss, _arrays(data), None if validation is None else _arrays(validation), tuple(metrics or ()),
              penalty, weights, trainable, early_stopping)  # fmt: skip
    check_steps(optimizer, state, len(job.data[0]), batch_size, accumulate)
    _check(job, state, epochs)
    start = _start(job, state, epochs)
    run = partial(_run, optimizer=optimizer, batch_size=batch_size, accumulate=accumulate)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((job, state))):
        if progress:
            raise ValueError("fit: progress cannot be shown from inside jit or vmap. Leave progress out.")
        end = run(job, start, epochs)
        return _finished(end), _history(job, end)
    end, interrupted = in_chunks(partial(run, job), start, epochs, _names(job) if progress else None)
    stopped = "Interrupted: state and history are those of the last epoch that ended." if interrupted else ""
    status = int(end.status)
    if status == STOPPED_EARLY and early_stopping is not None:
        stopped = (
            f"Stopped after epoch {int(end.epoch)}: {early_stopping.monitor} has not improved since epoch "
            f"{int(end.best_epoch)}, whose parameters are returned."
        )
    if status == NOT_FINITE:
        last, where = first_bad_step(
            net, loss, optimizer, end.state, *job.data, weights, penalty, trainable, batch_size, accumulate
        )
        stopped = f"Stopped in epoch {int(end.epoch) + 1}: {where} The state before that step is returned."
        warnings.warn(stopped, RuntimeWarning, stacklevel=2)
        return last, _history(job, end, stopped)
    return _finished(end), _history(job, end, stopped)


@partial(jax.jit, static_argnames=("optimizer", "batch_size", "accumulate"))
def _run(job: Job, start: Progress, until: int, *, optimizer: Any, batch_size: int, accumulate: int) -> Progress:
    """Epochs until that number, or until there is a reason to stop."""
    net, loss, data, _, _, penalty, weights, trainable, stopping = job

    def one(now: Progress) -> Progress:
        state, found = epoch_of(
            net, loss, optimizer, now.state, *data, weights, penalty, trainable, batch_size, accumulate
        )
        row = found | _measured(job, state.params)
        finite = (
            jnp.isfinite(found["cost"])
            & jnp.stack([jnp.isfinite(p).all() for p in jax.tree.leaves(state.params)]).all()
        )
        columns = {
            name: column.at[now.epoch].set(row[name].astype(column.dtype)) for name, column in now.columns.items()
        }
        after = now._replace(state=state, epoch=now.epoch + 1, columns=columns)
        if stopping is not None:
            after = _watched(stopping, job.metrics, after, row[stopping.monitor])
        failed = now._replace(status=jnp.full_like(now.status, NOT_FINITE))
        return jax.tree.map(partial(_select, finite), after, failed)

    return jax.lax.while_loop(lambda now: (now.epoch < until) & (now.status == RUNNING), one, start)


def _watched(stopping: EarlyStopping, metrics: tuple[Metric, ...], now: Progress, value: jax.Array) -> Progress:
    sign = -1 if _larger_is_better(stopping.monitor, metrics) else 1
    value = sign * value.astype(now.best_value.dtype)
    better = (value < now.best_value - stopping.min_change) | (now.best_epoch == 0)
    best_epoch = jnp.where(better, now.epoch, now.best_epoch)
    waited = now.epoch - best_epoch
    return now._replace(
        best=jax.tree.map(partial(_select, better), now.state.params, now.best),
        best_value=jnp.where(better, value, now.best_value),
        best_epoch=best_epoch,
        status=jnp.where(waited >= stopping.patience, STOPPED_EARLY, now.status),
    )


def _measured(job: Job, params: Params) -> dict[str, jax.Array]:
    """What is recorded beside the cost of the epoch, in evaluation: no dropout."""
    row: dict[str, jax.Array] = {}
    if job.validation is not None:
        row["validation_cost"] = cost(job.net, job.loss, params, *job.validation)
    for prefix, data, weights in (("", job.data, job.weights), ("validation_", job.validation, None)):
        if job.metrics and data is not None:
            output = predict(job.net, params, data[0])
            row |= {prefix + metric.name: metric.value(output, data[1], weights) for metric in job.metrics}
    return row


def _names(job: Job) -> tuple[str, ...]:
    """The columns, in the order in which one reads them."""
    sets = ("",) if job.validation is None else ("", "validation_")
    return tuple(prefix + name for name in ("cost", *(metric.name for metric in job.metrics)) for prefix in sets)


def _history(job: Job, end: Progress, stopped: str = "") -> History:
    return History(_names(job), end.columns, end.epoch, end.best_epoch, stopped)


def _start(job: Job, state: TrainState, epochs: int) -> Progress:
    dtype = accumulation_type(jnp.result_type(*jax.tree.leaves(state.params)))
    return Progress(
        state=state,
        epoch=jnp.zeros((), jnp.int32),
        status=jnp.full((), RUNNING, jnp.int32),
        columns={name: jnp.full(epochs, jnp.nan, dtype) for name in _names(job)},
        best=() if job.early_stopping is None else state.params,
        best_value=jnp.asarray(jnp.inf, dtype),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def _finished(end: Progress) -> TrainState:
    """The state with the best parameters, if they were kept (before the first epoch they are the starting ones)."""
    return end.state if end.best == () else end.state._replace(params=end.best)


def _check(job: Job, state: TrainState, epochs: int) -> None:
    if not isinstance(epochs, int) or epochs < 0:
        raise ValueError(f"epochs: expected 0 or more, got {epochs!r}.")
    arguments.check_penalty(job.penalty)
    arguments.checked_batch(job.net, job.loss, state.params, *job.data, job.weights)
    if job.validation is not None:
        arguments.checked_batch(job.net, job.loss, state.params, *job.validation)
    for metric in job.metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise TypeError(f"metrics: expected such as Accuracy(), got {metric!r}.")
    recorded = jax.eval_shape(partial(_measured, job), state.params)
    for name, value in recorded.items():
        if value.shape != ():
            raise ValueError(f"metrics: {name} gave shape {value.shape}, expected one number for the whole data set.")
    if not isinstance(job.early_stopping, EarlyStopping | None):
        raise TypeError(f"early_stopping: expected EarlyStopping(patience=10), say, got {job.early_stopping!r}.")
    if job.early_stopping is not None and job.early_stopping.monitor not in ("cost", *recorded):
        raise ValueError(
            f"{job.early_stopping}: nothing recorded is called {job.early_stopping.monitor}; there are "
            f"{', '.join(('cost', *recorded))}. Set monitor, or give validation or metrics."
        )


def _larger_is_better(column: str, metrics: tuple[Metric, ...]) -> bool:
    return any(metric.larger_is_better for metric in metrics if column.removeprefix("validation_") == metric.name)


def _select(condition: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(condition, a, b)


def _arrays(data: Data) -> Data:
    x, y = data
    return jnp.asarray(x), jnp.asarray(y)
