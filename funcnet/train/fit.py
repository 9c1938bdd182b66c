"""`fit`: a whole training in one compiled loop, in chunks that leave the host its say."""

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet import arguments
from funcnet.backprop import predict
from funcnet.layers.cast import in_type
from funcnet.protocols import AnyLayer, Loss, Penalty, Tree
from funcnet.train import loop, stream
from funcnet.train.checkpoint import Checkpoint, Saver
from funcnet.train.epoch import check_method, first_bad_step, replay
from funcnet.train.history import History
from funcnet.train.loop import NOT_FINITE, RUNNING, STOPPED_EARLY, Job, Progress
from funcnet.train.metrics import Metric
from funcnet.train.private import Privacy, accounting
from funcnet.train.progress import Line, Watcher, in_chunks
from funcnet.train.state import TrainState
from funcnet.train.stopping import EarlyStopping
from funcnet.train.update import Data, Method, Task

Pair = tuple[Any, Any]  # x, y


def fit(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Pair,
    *,
    epochs: int,
    batch_size: int,
    validation: Pair | None = None,
    metrics: Sequence[Metric] | None = None,
    penalty: Penalty | None = None,
    weights: jax.Array | None = None,
    trainable: Tree | None = None,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
    progress: bool = False,
    checkpoint: Checkpoint | None = None,
    compute_dtype: Any = None,
    privacy: Privacy | None = None,
    telemetry: int = 0,
) -> tuple[TrainState, History]:
    """Train for some epochs: `train_epoch` again and again, with what to record after each.

    The epochs run in one compiled loop, entered for about a second at a time, so that a progress
    line can move and Ctrl-C is heard: it ends the training with the state and history so far.
    Inside your own `jit` or `vmap` the whole training is one loop, and what needs the host
    (`progress`, `checkpoint`, data left on the host) is refused.

    When cost or parameters stop being finite the training ends: the step is looked up, named in
    `history.stopped` and in a warning, and the state before it is returned.

    Args:
        net, loss, optimizer, state, batch_size, penalty, weights, trainable, accumulate, compute_dtype:
            as for `train_epoch`. What is recorded after an epoch is computed in the parameters' type.
        data: (x, y) as for `cost`, m examples. If x is a `numpy.memmap` the data stay on the host: pieces of
            32 MiB are moved while the one before is worked on, in the same order and with the same
            bits as data on the device. (`array.view(numpy.memmap)` has any host array treated so.)
        epochs: how many, 0 or more.
        validation: (x, y) held back; its cost (without penalty) is recorded after every epoch.
        metrics: such as `Accuracy()`, recorded after every epoch for data and validation, each in
            evaluation, on the whole set.
        early_stopping: when to end before the last epoch; the parameters of the best are returned.
        progress: write a line to stderr, about 20 times in all.
        checkpoint: where to save the training now and then. If there is one in that folder, the
            training goes on from it in place of `state`.
        privacy: train privately (DP-SGD): Poisson batches of expected size batch_size, every example's
            gradient clipped, and noise. ε is recorded after every epoch. `accumulate` splits a batch that memory
            does not hold.
        telemetry: look at every so many updates (0: never) how signals, errors, gradients and updates are sized
            in each layer, at the norms of the examples' gradients, and the gradient noise scale:
            `history.telemetry`. Each look costs one more backward pass.

    Returns:
        The new state, and a `History` with the columns "cost" (of `train_epoch`), "validation_cost",
        and for each metric its name and "validation_" and its name.

    Raises:
        TypeError, ValueError: what `train_epoch` and `cost` refuse, for data and validation, before
            anything is compiled; a metric that gives no scalar; a column to watch that is not there;
            a folder that holds another training.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp, optax
        >>> net, loss, optimizer = fn.Dense(1, 1), fn.SquaredError(), optax.sgd(0.1)
        >>> x = jnp.linspace(-1, 1, 10)[:, None]
        >>> state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
        >>> state, history = fn.fit(net, loss, optimizer, state, (x, 3 * x), epochs=60, batch_size=4)
        >>> round(float(state.params["w"][0, 0]), 2), history["cost"].shape
        (3.0, (60,))
    """
    method = Method(optimizer, batch_size, accumulate, privacy, telemetry)
    job = job_of(net, loss, data, validation, metrics, penalty, weights, trainable, early_stopping, compute_dtype)
    check(job, method, state, epochs)
    now = loop.begin(job, method, state, epochs)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((job, state))):
        if progress or checkpoint is not None or stream.on_host(job.data):
            wish = "progress" if progress else "checkpoint" if checkpoint is not None else "data on the host"
            raise ValueError(f"fit: {wish} cannot be had from inside jit or vmap. Leave {wish} out.")
        end = loop.run(job, method, now, epochs)
        return loop.finished(end), loop.history_of(job, method, end)
    watchers: list[Watcher] = [Line(epochs, loop.names(job))] if progress else []
    if checkpoint is not None:
        saver = saver_of(checkpoint, job, method, state)
        now = saver.resume(now)
        now = now._replace(status=jnp.where(now.status == NOT_FINITE, RUNNING, now.status))  # try once more
        watchers.append(saver)
        if progress and int(now.epoch):
            sys.stderr.write(f"going on from epoch {int(now.epoch)} in {checkpoint.directory}\n")
    run = partial(stream.run_from_host if stream.on_host(job.data) else _run, job, method)
    end, interrupted = in_chunks(run, now, epochs, watchers)
    failed = int(end.status) == NOT_FINITE
    again = stream.replay_from_host if stream.on_host(job.data) else replay
    last, stopped = why_stopped(job, end, again(job.task, method, end.state, job.data) if failed else None)
    if failed:
        warnings.warn(stopped, RuntimeWarning, stacklevel=2)
    elif interrupted:
        stopped = "Interrupted: state and history are those of the last epoch that ended."
    history = loop.history_of(job, method, end, stopped)
    if exploded := _exploded(history["cost"]):
        warnings.warn(exploded, RuntimeWarning, stacklevel=2)
    return last, history


_run = jax.jit(loop.run, static_argnums=1)


def job_of(
    net: AnyLayer,
    loss: Loss,
    data: Pair,
    validation: Pair | None,
    metrics: Sequence[Metric] | None,
    penalty: Penalty | None,
    weights: Any,
    trainable: Tree | None,
    early_stopping: EarlyStopping | None,
    compute_dtype: Any,
) -> Job:
    """The arguments of a training, put in order."""
    arguments.check_layer_functions(net)
    arguments.check_penalty(penalty)
    x, y = arguments.pair("data", data)
    keep = np.asarray if isinstance(x, np.memmap) else jnp.asarray
    whole = Data(x if isinstance(x, np.memmap) else keep(x), keep(y), None if weights is None else keep(weights))
    held = None
    if validation is not None:
        held_x, held_y = arguments.pair("validation", validation)
        held = Data(jnp.asarray(held_x), jnp.asarray(held_y), None)
    task = Task(in_type(net, compute_dtype), loss, penalty, trainable)
    return Job(task, net, whole, held, tuple(metrics or ()), early_stopping)


def check(job: Job, method: Method, state: TrainState, epochs: int) -> None:
    """Refuse what does not fit together, before anything is compiled."""
    x, y, weights = job.data
    check_method(method, state, len(x))
    if method.privacy is not None:
        check_private(job, method, state)
    if not isinstance(epochs, int) or epochs < 0:
        raise ValueError(f"epochs: expected 0 or more, got {epochs!r}.")
    if stream.on_host(job.data):
        if len(y) != len(x) or (weights is not None and len(weights) != len(x)):
            raise ValueError(f"data: x has {len(x)} examples, y {len(y)}; these and weights must be equally many.")
        x, y, weights = (None if part is None else np.asarray(part[: method.batch_size]) for part in job.data)
    arguments.checked_batch(job.net, job.task.loss, state.params, x, y, weights)
    if job.validation is not None:
        arguments.checked_validation(job.net, job.task.loss, state.params, *job.validation[:2])
    for metric in job.metrics:
        if isinstance(metric, type) or not isinstance(metric, Metric):
            raise TypeError(f"metrics: expected such as Accuracy(), got {metric!r}.")
    columns = _columns(job, state)
    if not isinstance(job.early_stopping, EarlyStopping | None):
        raise TypeError(f"early_stopping: expected EarlyStopping(patience=10), say, got {job.early_stopping!r}.")
    if job.early_stopping is not None and job.early_stopping.monitor not in columns:
        raise ValueError(
            f"{job.early_stopping}: nothing recorded is called {job.early_stopping.monitor}; there are "
            f"{', '.join(columns)}. Set monitor, or give validation or metrics."
        )


def check_private(job: Job, method: Method, state: TrainState) -> None:
    """Refuse what cannot be private, and say why."""
    if not isinstance(method.privacy, Privacy):
        raise TypeError(f"privacy: expected Privacy(max_norm, noise_multiplier), got {method.privacy!r}.")
    accounting()
    arguments.refuse_mixing(job.net)
    stopping = job.early_stopping
    if isinstance(stopping, EarlyStopping) and not stopping.monitor.startswith("validation_"):
        raise ValueError(
            f"{stopping}: when a private training stops must not depend on the training data, whose costs and metrics "
            "are not private. Monitor a quantity of other people's data, such as validation_cost."
        )
    grads = jax.tree.map(jnp.zeros_like, state.params)
    step = optax.with_extra_args_support(method.optimizer).update
    try:
        jax.eval_shape(step, grads, state.opt_state, state.params)
    except Exception as error:
        raise ValueError(
            "privacy: this optimiser asks for more than the gradient (the cost, a function of it, or a Backprop), and "
            f"those are not private. Use one that needs the gradient alone, such as optax.adam. (It said: {error})"
        ) from error


def _columns(job: Job, state: TrainState) -> tuple[str, ...]:
    """The columns there will be, if each metric gives one number."""

    def row(params: Any, data: Data) -> Any:
        output = predict(job.net, params, data.x) if job.metrics else None
        return loop.measured(job._replace(data=data), params, output)

    recorded = jax.eval_shape(row, state.params, loop.shapes_of(job.data))
    for name, value in recorded.items():
        if value.shape != ():
            raise ValueError(f"metrics: {name} gave shape {value.shape}, expected one number for the whole data set.")
    return ("cost", *recorded)


def saver_of(checkpoint: Checkpoint, job: Job, method: Method, state: TrainState, swept: Any = None) -> Saver:
    """What saves this training, and refuses to go on with another one's."""
    if not isinstance(checkpoint, Checkpoint):
        raise TypeError(f"checkpoint: expected Checkpoint(folder), got {checkpoint!r}.")
    shapes = partial(jax.tree.map, lambda leaf: f"{leaf.dtype}{list(leaf.shape)}")
    numbers = [leaf.tolist() for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim == state.step.ndim]
    description = {
        "network": repr(job.task.net),
        "loss": repr(job.task.loss),
        "sweep": repr(swept),
        "penalty": repr(job.task.penalty),
        "trainable": repr(job.task.trainable),
        "data": repr(shapes(tuple(job.data))),
        "validation": repr(job.validation and shapes(tuple(job.validation))),
        "batch_size": repr(method.batch_size),
        "accumulate": repr(method.accumulate),
        "privacy": repr(method.privacy),
        "telemetry": repr(method.telemetry),
        "metrics": repr(job.metrics),
        "early_stopping": repr(job.early_stopping),
        "params": repr(shapes(state.params)),
        "optimiser's state": repr(shapes(state.opt_state)),
        "optimiser's numbers": repr(numbers),
        "starting key and step": repr((jax.random.key_data(state.key).tolist(), state.step.tolist())),
    }
    stopping, recorded = job.early_stopping, loop.names(job)
    column = stopping.monitor if stopping else "validation_cost" if "validation_cost" in recorded else "cost"
    return Saver(checkpoint, description, column, column in loop.larger_is_better(job))


def why_stopped(job: Job, end: Progress, replayed: Any) -> tuple[TrainState, str]:
    """The state to give back, and why the training ended before its last epoch, if so."""
    if int(end.status) == NOT_FINITE:
        last, where = first_bad_step(end.state, replayed)
        return last, f"Stopped in epoch {int(end.epoch) + 1}: {where} The state before that step is returned."
    if int(end.status) == STOPPED_EARLY and job.early_stopping is not None:
        return loop.finished(end), (
            f"Stopped after epoch {int(end.epoch)}: {job.early_stopping.monitor} has not improved since epoch "
            f"{int(end.best_epoch)}, whose parameters are returned."
        )
    return loop.finished(end), ""


def _exploded(costs: np.ndarray) -> str:
    """One sentence if the cost ended far above where it began."""
    if not len(costs) or not 0 < 10 * costs[0] < costs[-1]:
        return ""
    return (
        f"The cost rose from {costs[0]:.3g} in epoch 1 to {costs[-1]:.3g} in epoch {len(costs)}: the learning rate is "
        "most likely too high; try a tenth of it."
    )
