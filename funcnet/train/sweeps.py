"""`fit_many`: many trainings side by side, in one compiled loop."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from operator import itemgetter
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core import arguments, scalars, walkers
from funcnet._core.logs import warn
from funcnet._core.masks import flags_of
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Penalty, Tree
from funcnet.parameters import init
from funcnet.train import loop
from funcnet.train.checkpoints import Checkpoint, resumed
from funcnet.train.checks import checked_job
from funcnet.train.filling import program_job
from funcnet.train.loop import NOT_FINITE, RUNNING, Progress
from funcnet.train.measurements import larger_is_better
from funcnet.train.metrics import Metric, check_metrics
from funcnet.train.options import DType, Job, Options, Pair, job_of, on_host
from funcnet.train.privacy_account import Privacy
from funcnet.train.programs import Program
from funcnet.train.progress import in_chunks, reached, watchers_of
from funcnet.train.replays import Replayed, replay, why_stopped
from funcnet.train.state import TrainState, check_optimizer, train_state
from funcnet.train.stopping import EarlyStopping
from funcnet.train.trainings import Trainings


def fit_many(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    data: Pair,
    *,
    epochs: int | None,
    batch_size: int,
    seeds: Sequence[int] = (0,),
    sweep: Mapping[str, Sequence[Any]] | None = None,
    validation: Sequence[ArrayLike] | None = None,
    metrics: Sequence[Metric] | None = None,
    penalty: Penalty | None = None,
    weights: ArrayLike | None = None,
    trainable: Tree | None = None,
    accumulate: int = 1,
    early_stopping: EarlyStopping | None = None,
    progress: bool = False,
    on_epoch: Callable[[int, dict[str, np.ndarray]], Any] | None = None,
    checkpoint: Checkpoint | None = None,
    compute_dtype: DType | None = None,
    privacy: Privacy | None = None,
    telemetry: int = 0,
    non_finite: Literal["stop", "skip"] = "stop",
) -> Trainings:
    """`fit` for every seed and every combination of what is swept, all in one compiled loop (a `vmap` of it).

    Each training, a lane, is a `fit` run alone, with its own weights, order, stopping and
    history. With seed s that is

        weights, order = jax.random.split(jax.random.key(s))
        fn.fit(net, loss, optimizer, fn.train_state(optimizer, fn.init(net, weights), order), data, …)

    with parameters of the data's type, up to rounding, since many small matrix products are summed in another order
    than one. A lane that stops early stands still until the last one ends.

    Lanes of a network with convolutions run one after the other, a stretch of epochs each, which is faster: `vmap` over
    kernels makes grouped convolutions. One that stops early then costs nothing more, and one batch's tape serves all.

    The data are shared. A lane adds about: params × (3 + the optimiser's copies, 2 for Adam, + 1 with early
    stopping), an integer for every example (its order), one batch's tape, and the outputs for data
    and validation if there are metrics.

    Args:
        net, loss, optimizer, data, epochs, batch_size, validation, metrics, penalty, weights, trainable, accumulate,
            early_stopping, progress, on_epoch, checkpoint, compute_dtype, privacy, telemetry, non_finite: as for
            `fit`. The progress line is one for all and shows medians; a row for `on_epoch` holds arrays (lanes,), NaN
            for a lane that has ended.
        seeds: one training each, for every combination of the rest.
        sweep: what to vary, by name, with its values: "penalty" (as in `[fn.L2(0.0), fn.L2(1e-3)]`), or
            a number that the optimiser was given by `optax.inject_hyperparams`, as
            `{"learning_rate": [1e-3, 1e-2]}` for `optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)`.

    Returns:
        `Trainings`: labels, states and histories of all; `[i]` takes one out, `best()` finds it.

    Raises:
        TypeError, ValueError: what `fit` refuses; a name that cannot be swept; an empty sweep.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp, optax
        >>> x = jnp.linspace(-1, 1, 10)[:, None]
        >>> sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
        >>> many = fn.fit_many(fn.Dense(1, 1), fn.SquaredError(), sgd, (x, 3 * x), epochs=20, batch_size=5,
        ...                    seeds=(0, 1), sweep={"learning_rate": [0.001, 0.1]})
        >>> many.lanes[many.best("cost")]["learning_rate"]
        0.1
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((data, validation, penalty, weights))):
        raise ValueError("fit_many: it is compiled by itself. Inside jit or vmap use fn.fit under a vmap of your own.")
    check_optimizer(optimizer)
    swept = _swept({} if sweep is None else sweep, seeds)
    if penalty is not None and "penalty" in swept:
        raise ValueError("fit_many: penalty is both given and swept. Leave one out.")
    lanes = tuple(dict(zip(swept, values)) for values in product(*swept.values()))
    penalties = [lane.get("penalty", penalty) for lane in lanes]
    state = _states(net, optimizer, lanes, _type_of_examples(data))
    options = Options(
        net, loss, optimizer, batch_size, accumulate, flags_of(state.params, trainable), penalties[0], privacy=privacy,
        compute_dtype=compute_dtype, telemetry=telemetry, metrics=check_metrics(metrics), early_stopping=early_stopping,
        non_finite=non_finite,
    )  # fmt: skip
    job = job_of(options, data, validation, weights)
    if on_host(job.data):
        raise ValueError("fit_many: data that stay on the host are for fit. Hand in numpy.asarray of them.")
    job, epochs = checked_job(job, jax.tree.map(itemgetter(0), state), epochs, ends=on_epoch is not None)
    watchers = watchers_of(job, epochs, progress, on_epoch)
    start = jax.vmap(partial(loop.begin, job))(state)
    job = job.with_penalty(_stacked(penalties))
    with contextlib.ExitStack() as stack:
        if checkpoint is not None:
            saver, start = stack.enter_context(resumed(checkpoint, job, state, start, epochs, swept))
            watchers.append(saver)
        lean = program_job(job)
        end, cut = in_chunks(
            partial(_run_many, lean), start, epochs, watchers, loop.looks(job), terminable=checkpoint is not None
        )
    cut.after()
    return _trainings(job, lean, end, lanes, cut.words(reached(end), epochs), cut.is_signal)


@Program
def _run_many(job: Job, start: Progress, until: int | jax.Array) -> Progress:
    def one(penalty: Penalty | None, start: Progress) -> Progress:
        return loop.run(job.with_penalty(penalty), start, until)

    return _for_each_lane(job, one, job.options.penalty, start)


@Program
def _replay_many(job: Job, state: TrainState) -> Replayed:
    """All lanes once more: one alone would be rounded otherwise, and might not go wrong again."""

    def one(penalty: Penalty | None, state: TrainState) -> Replayed:
        return replay(job.with_penalty(penalty).options, state, job.data, job.m)

    return _for_each_lane(job, one, job.options.penalty, state)


def _for_each_lane(job: Job, one: Callable[..., Any], *lanes: Any) -> Any:
    """`one` of every lane, side by side; or one lane after the other, where a layer says that this is faster."""
    if any(getattr(layer, "slow_under_vmap", False) for _, layer in walkers.leaves(job.options.net)):
        return jax.lax.map(lambda lane: one(*lane), lanes)
    return jax.vmap(one)(*lanes)


def _trainings(
    job: Job, lean: Job, end: Progress, lanes: tuple[dict[str, Any], ...], cut: str, is_signal: bool
) -> Trainings:
    """The result; the step at which a lane stopped being finite is found as `fit` finds it."""
    states, reasons = loop.finished(end), [cut] * len(lanes)
    if cut and is_signal:
        warn(cut)
    failed = np.asarray(end.status) == NOT_FINITE
    replayed = _replay_many(lean, end.state) if failed.any() else None
    for i in np.flatnonzero(np.asarray(end.status) != RUNNING):
        lane, lane_replayed = jax.tree.map(itemgetter(i), (end, replayed))
        last, reasons[i] = why_stopped(job, lane, lane_replayed)
        if failed[i]:
            states = jax.tree.map(partial(_with_lane, int(i)), states, last)
    if failed.any():
        warn(f"{failed.sum()} of {len(lanes)} trainings stopped being finite; `stopped` says where.")
    history, larger = loop.history_of(job, end), larger_is_better(job)
    return Trainings(lanes, states, history, tuple(reasons), tuple(failed.tolist()), larger)


def _with_lane(number: int, lanes: jax.Array, lane: jax.Array) -> jax.Array:
    return jnp.where(jnp.arange(len(lanes)).reshape(-1, *[1] * lane.ndim) == number, lane, lanes)


def _type_of_examples(data: Any) -> Any:
    x, _ = arguments.unpacked(arguments.pair("data", data)[0])
    return arguments.as_array("x", x[:1] if arguments.is_array(x) and x.ndim else x).dtype


def _swept(sweep: Mapping[str, Sequence[Any]], seeds: Sequence[int]) -> dict[str, tuple[Any, ...]]:
    """What is varied, by name; numbers as Python's, so that they print alike wherever they come from."""
    if not isinstance(sweep, Mapping):
        expected = 'names and their values, {"penalty": [fn.L2(0.0), fn.L2(1e-3)]}'
        raise TypeError(f"sweep: expected {expected}, got {arguments.shown(sweep)}.")
    if "seed" in sweep:
        raise ValueError("sweep: seeds are not swept but handed in: seeds=(0, 1, 2).")
    swept = {}
    for name, values in {**sweep, "seed": seeds}.items():
        argument = "seeds" if name == "seed" else f"sweep: {name}"
        if isinstance(values, str | bytes) or not np.iterable(values):
            got = arguments.shown(values)
            raise TypeError(f"{argument}: expected several values for {name}, such as [{got}], got {got}.")
        swept[name] = tuple(value.tolist() if hasattr(value, "tolist") else value for value in values)
        if not swept[name]:
            raise ValueError(f"{argument}: there are no values for {name}. Give one or more.")
    return swept | {"seed": tuple(scalars.seed("seeds", seed) for seed in swept["seed"])}


def _states(
    net: AnyLayer, optimizer: optax.GradientTransformation, lanes: Sequence[dict[str, Any]], dtype: Any
) -> TrainState:
    """The state in which each lane starts, with parameters of the data's type."""

    def typed(leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if jnp.issubdtype(dtype, jnp.floating) else leaf

    def start(key: jax.Array) -> TrainState:
        weights_key, order_key = jax.random.split(key)
        return train_state(optimizer, jax.tree.map(typed, init(net, weights_key)), order_key)

    state = jax.vmap(start)(jnp.stack([jax.random.key(lane["seed"]) for lane in lanes]))
    chosen = {name: [lane[name] for lane in lanes] for name in lanes[0] if name not in ("seed", "penalty")}
    return state._replace(opt_state=_with_hyperparams(state, chosen)) if chosen else state


def _with_hyperparams(state: TrainState, chosen: dict[str, Any]) -> Any:
    """The optimiser's state with these numbers, where `optax.inject_hyperparams` keeps them."""
    names: set[str] = set()
    floating = jnp.result_type(*jax.tree.leaves(state.params))

    def changed(part: Any) -> Any:
        if not hasattr(part, "hyperparams"):
            return part
        scheduled = set(getattr(part, "hyperparams_states", ()))
        names.update(set(part.hyperparams) - scheduled)
        new = {
            name: _as_numbers(name, chosen[name], old, floating) if name in chosen and name not in scheduled else old
            for name, old in part.hyperparams.items()
        }
        return part._replace(hyperparams=new)

    new_state = jax.tree.map(changed, state.opt_state, is_leaf=lambda part: hasattr(part, "hyperparams"))
    if missing := [name for name in chosen if name not in names]:
        raise ValueError(
            f"sweep: {missing[0]!r} cannot be swept; there are {', '.join(['penalty', *sorted(names)])}. A number of "
            "the optimiser's is there if it was built by optax.inject_hyperparams(optax.adam)(learning_rate=1e-3), "
            "and not from a schedule."
        )
    return new_state


def _as_numbers(name: str, values: list[Any], old: jax.Array, floating: Any) -> jax.Array:
    """Values to be swept, in the type of the number that the optimiser was built with; fractions stay fractions."""
    numbers, dtype = np.asarray(values), jnp.result_type(old)
    if numbers.ndim != 1 or not (np.issubdtype(numbers.dtype, np.number) or numbers.dtype == bool):
        raise TypeError(f"sweep: expected a number for each value of {name!r}, got {values!r}.")
    if not np.issubdtype(dtype, np.floating) and (numbers != numbers.astype(dtype)).any():
        dtype = floating
    return jnp.asarray(numbers, dtype)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one, lanes first."""
    if len({jax.tree.structure(tree) for tree in trees}) > 1:
        kinds = ", ".join(dict.fromkeys(repr(tree) for tree in trees))
        raise ValueError(f"sweep: penalties must be of one kind, got {kinds}. For none use a strength of 0.")
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *trees)
