"""`fit`: a whole training in one compiled loop, which the host enters for about a second at a time."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
import optax

from funcnet._core.logs import warn
from funcnet._core.masks import flags_of
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Penalty, Tree
from funcnet.train import loop
from funcnet.train.checkpoints import Checkpoint, resumed
from funcnet.train.checks import checked_job
from funcnet.train.filling import program_job
from funcnet.train.history import History
from funcnet.train.host_data import replay_from_host, run_from_host
from funcnet.train.loop import NOT_FINITE
from funcnet.train.measurements import SKIPPED
from funcnet.train.metrics import Metric, check_metrics
from funcnet.train.options import DType, Options, Pair, job_of, on_host
from funcnet.train.privacy_account import Privacy, not_carried_on
from funcnet.train.programs import Program
from funcnet.train.progress import in_chunks, watchers_of
from funcnet.train.replays import replay, why_stopped
from funcnet.train.state import TrainState, check_state
from funcnet.train.stopping import EarlyStopping, never_a_number


def fit(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Pair,
    *,
    epochs: int | None,
    batch_size: int,
    validation: Sequence[ArrayLike] | None = None,
    metrics: Sequence[Metric] | None = None,
    penalty: Penalty | None = None,
    weights: ArrayLike | None = None,
    trainable: Tree | None = None,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
    progress: bool = False,
    on_epoch: Callable[[int, dict[str, float]], Any] | None = None,
    checkpoint: Checkpoint | None = None,
    compute_dtype: DType | None = None,
    privacy: Privacy | None = None,
    telemetry: int = 0,
    non_finite: Literal["stop", "skip"] = "stop",
) -> tuple[TrainState, History]:
    """Train for some epochs: `train_epoch` again and again, with what to record after each.

    The epochs run in one compiled loop, entered for about a second at a time, so that there can be a progress
    line, and Ctrl-C stops the training: with a warning the state and history so far are returned. With a checkpoint
    SIGTERM does so, too: all is saved, and then what SIGTERM did before is done (by default the process ends).
    Inside your own `jit` or `vmap` the whole training is one loop, and what needs the host
    (`progress`, `on_epoch`, `checkpoint`, data left on the host) is refused.

    When cost or parameters stop being finite the training ends: the step is found by replaying the epoch, named in
    `history.stopped` and in a warning, and the state before it is returned.

    The compiled loop is kept for the 16 latest kinds of call. The number of epochs, the numbers of early stopping, and
    how many rows fill up the last batch are no part of it: folds share a loop.

    Args:
        net, loss, optimizer, state, batch_size, penalty, weights, trainable, accumulate, compute_dtype:
            as for `train_epoch`. What is recorded after an epoch is computed in the parameters' type.
        data: (x, y) as for `cost`, m examples. If x is a `numpy.memmap` the data stay on the host: pieces of
            32 MiB are moved while the one before is used, in the same order and with the same
            bits as data on the device. (`array.view(numpy.memmap)` makes any host array such data.)
        epochs: how many, 0 or more; None goes on until `early_stopping` or `on_epoch` ends it.
        validation: (x, y) or (x, y, weights) not trained on; its cost (without penalty) is recorded after every epoch.
        metrics: such as `Accuracy()`, recorded after every epoch for data and validation, each in
            evaluation, on the whole set, which is propagated in pieces as in `evaluate`.
        early_stopping: when to end before the last epoch; the parameters of the best are returned.
        progress: write a line to stderr, about 20 times in all.
        on_epoch: a function of your own, called with the number of an epoch, from 1, and its row of the history (a dict
            from column to float), for every epoch once and in order: between two entries of the compiled loop, so for
            several at a time where epochs are fast. True stops the training there. For TensorBoard, W&B, MLflow.
        checkpoint: where to save the training now and then. If there is one in that folder, the
            training goes on from it in place of `state`.
        privacy: train privately (DP-SGD): Poisson batches of expected size batch_size, every example's
            gradient clipped, and noise. ε is recorded after every epoch. `accumulate` splits a batch that memory
            does not hold.
        telemetry: record at every so many updates (0: never) the sizes of signals, errors, gradients and updates
            in each layer, the norms of the examples' gradients, and the gradient noise scale:
            `history.telemetry`. Each record costs one more backward pass.
        non_finite: "stop", or "skip": an update whose cost, gradient or result is not finite is left out, and the
            column "skipped" counts how many were in each epoch.

    Returns:
        The new state, and a `History` with the columns "cost" (of `train_epoch`), "validation_cost",
        and for each metric its name and "validation_" and its name.

    Raises:
        TypeError, ValueError: what `train_epoch` and `cost` refuse, for data and validation, before
            anything is compiled; a metric that gives no scalar; a column to monitor that is not there;
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
    check_state(state)
    options = Options(
        net, loss, optimizer, batch_size, accumulate, flags_of(state.params, trainable), penalty, privacy=privacy,
        compute_dtype=compute_dtype, telemetry=telemetry, metrics=check_metrics(metrics), early_stopping=early_stopping,
        non_finite=non_finite,
    )  # fmt: skip
    job = job_of(options, data, validation, weights)
    job, epochs = checked_job(job, state, epochs, ends=on_epoch is not None)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((job, state))):
        wishes = {"progress": progress, "checkpoint": checkpoint, "on_epoch": on_epoch, "epochs=None": epochs is None}
        wish = next((name for name, value in (wishes | {"data on the host": on_host(job.data)}).items() if value), "")
        if wish or epochs is None:
            raise ValueError(f"fit: {wish} is not supported inside jit or vmap. Leave {wish} out.")
        end = loop.run(job, loop.begin(job, state, epochs), epochs)
        return loop.finished(end), loop.history_of(job, end)
    watchers = watchers_of(job, epochs, progress, on_epoch)
    run, replayed = (run_from_host, replay_from_host) if on_host(job.data) else (_run, replay)
    with contextlib.ExitStack() as stack:
        start = loop.begin(job, state)
        if checkpoint is not None:
            saver, start = stack.enter_context(resumed(checkpoint, job, state, start, epochs))
            watchers.append(saver)
        lean = program_job(job)
        end, cut = in_chunks(
            partial(run, lean), start, epochs, watchers, loop.looks(job), terminable=checkpoint is not None
        )
    cut.after()
    failed = int(end.status) == NOT_FINITE
    last, stopped = why_stopped(job, end, replayed(lean.options, end.state, lean.data, lean.m) if failed else None)
    if not stopped:
        stopped = cut.words(int(end.epoch), epochs)
    if failed or (stopped and cut.is_signal):
        warn(stopped)
    history = loop.history_of(job, end, stopped)
    if privacy is not None and (before := int(state.step)):
        history = dataclasses.replace(history, note=not_carried_on(before))
        warn(history.note)
    if non_finite == "skip" and (skipped := int(history[SKIPPED].sum())):
        updates = int(end.epoch) * -(-len(job.data.x) // job.options.batch_size)
        warn(skipped_of(skipped, updates))
    if early_stopping is not None and int(end.epoch) > early_stopping.start_from_epoch and not int(end.best_epoch):
        warn(never_a_number(early_stopping))
    if exploded := _exploded(history["cost"]):
        warn(exploded)
    return last, history


_run = Program(loop.run)


def skipped_of(skipped: int, updates: int) -> str:
    return (
        f"{skipped} of {updates} updates were left out, since their cost, gradient or result was not finite "
        '(non_finite="skip"). history["skipped"] counts them epoch by epoch.'
    )


def _exploded(costs: np.ndarray) -> str:
    """One sentence if the cost ended far above where it began."""
    if not len(costs) or not 0 < 10 * costs[0] < costs[-1]:
        return ""
    return (
        f"The cost rose from {costs[0]:.3g} in epoch 1 to {costs[-1]:.3g} in epoch {len(costs)}: the learning rate is "
        "most likely too high; try a tenth of it."
    )
