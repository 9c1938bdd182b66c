"""One epoch: a scan over shuffled batches, in which every example counts once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet import arguments
from funcnet.layers.cast import in_type
from funcnet.protocols import AnyLayer, Loss, Penalty, Tree
from funcnet.train.order import Order, batches, order_of
from funcnet.train.state import TrainState, check_optimizer
from funcnet.train.telemetry import look
from funcnet.train.update import Batch, Carry, Data, Method, Outcome, Task, update

Step = Callable[[Carry, Any], tuple[Carry, Outcome]]


def train_epoch(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: tuple[jax.Array, jax.Array],
    *,
    batch_size: int,
    weights: jax.Array | None = None,
    penalty: Penalty | None = None,
    trainable: Tree | None = None,
    accumulate: int = 1,
    compute_dtype: Any = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One pass over the data in a new random order: one update of the parameters per batch.

    θ ← θ + update(∂J/∂θ), J the batch's mean cost plus the penalty, in one `lax.scan`, compiled
    once for each optimiser and batch size. Every example takes part: the last batch, if smaller, is
    filled up with rows of weight 0, which count nowhere. Pure: it may stand inside `jit` (name
    `optimizer` and `batch_size` static) and `vmap` (over states, penalties), and the same state
    gives the same bits.

    Values of the data are not looked at, so that nothing waits for them: a label out of range or
    an x that is not finite makes the cost NaN. Look at the first with `fn.cost`.

    Args:
        net: a layer.
        loss: the cost of an output against its target.
        optimizer: any of optax's, chains and schedules too, built once by the caller (a new one, even if
            built alike, is compiled anew). One that takes extra arguments is given `value`, `grad`,
            `value_fn` (so `optax.lbfgs` runs on the full batch) and, if it looks at it, `backprop`, the
            `Backprop` of the batch (so `scale_by_kfac` works).
        state: from `train_state`, or from the epoch before.
        data: (x, y) as for `cost`, m examples.
        batch_size: examples in an update, 1 … m.
        weights: (m,) or (m, *positions), as for `cost`; `fn.class_weights(y)` makes every class count alike.
        penalty: a cost of the parameters, added once per update.
        trainable: True or False for every parameter, or for whole branches of params
            (`(False, True, True)` freezes the first layer of three): what is False stays as it is.
            None trains all.
        accumulate: into how many equal parts a batch is split to save memory. The update is that of
            the whole batch, dropout included, since every example draws by a key of its own.
        compute_dtype: "bfloat16" propagates in it, forward and backward, and multiplies matrices of it, where
            hardware is faster so; parameters, costs, gradients and the optimiser keep the parameters' type.
            None computes in that type throughout.

    Returns:
        The new state, and `{"cost": …}`: the mean of J over the examples, each as it was when its
        batch was propagated.

    Raises:
        TypeError: something that is no layer, loss or optimiser; mixed types.
        ValueError: a batch size or number of parts that does not fit; what `cost` refuses by shapes.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp, optax
        >>> net, loss, optimizer = fn.Dense(1, 1), fn.SquaredError(), optax.sgd(0.1)
        >>> x = jnp.linspace(-1, 1, 10)[:, None]
        >>> state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
        >>> for _ in range(60):
        ...     state, metrics = fn.train_epoch(net, loss, optimizer, state, (x, 3 * x), batch_size=4)
        >>> round(float(state.params["w"][0, 0]), 2), int(state.step)
        (3.0, 180)
    """
    arguments.check_layer_functions(net)
    arguments.check_penalty(penalty)
    x, y = (jnp.asarray(part) for part in data)
    whole = Data(x, y, weights)
    method = Method(optimizer, batch_size, accumulate)
    check_method(method, state, len(whole.x))
    return compiled_epoch(Task(in_type(net, compute_dtype), loss, penalty, trainable), method, state, whole)


def check_method(method: Method, state: TrainState, m: int) -> None:
    """Refuse an optimiser, a state, or batches that do not fit together."""
    optimizer, batch_size, accumulate = method.optimizer, method.batch_size, method.accumulate
    check_optimizer(optimizer)
    if not m:
        raise ValueError("data: there are no examples to train on.")
    if not isinstance(batch_size, int) or not 1 <= batch_size <= m:
        raise ValueError(
            f"batch_size: expected 1 to {m}, the number of examples, got {batch_size!r}. A larger one is "
            f"refused since it would silently change the number of updates: use batch_size={m}."
        )
    if not isinstance(accumulate, int) or accumulate < 1 or batch_size % accumulate:
        raise ValueError(f"accumulate: expected a divisor of batch_size={batch_size}, got {accumulate!r}.")
    steps = -(-m // batch_size)
    if not isinstance(method.telemetry, int) or not 0 <= method.telemetry <= steps:
        raise ValueError(f"telemetry: expected 0 to {steps}, the updates in an epoch, got {method.telemetry!r}.")
    fresh = jax.eval_shape(optimizer.init, state.params)
    shapes = [jax.tree.map(_shape_and_type, tree) for tree in (state.opt_state, fresh)]
    if str(shapes[0]) != str(shapes[1]):
        raise ValueError(
            f"state: opt_state is not this optimiser's for these parameters. It holds {shapes[0]}, expected "
            f"{shapes[1]}. Make the state by fn.train_state(optimizer, params, key)."
        )


def _shape_and_type(leaf: Any) -> tuple[Any, Any]:
    """Integers of all widths are one type: optax starts some counters weakly typed, and an update fixes it."""
    dtype = jnp.result_type(leaf)
    return jnp.shape(leaf), "integer" if jnp.issubdtype(dtype, jnp.integer) else dtype


def epoch_of(task: Task, method: Method, state: TrainState, data: Data) -> tuple[TrainState, dict[str, jax.Array]]:
    """`train_epoch` without its checks and its `jit`; with telemetry if the method asks for it."""
    arguments.checked_batch(task.net, task.loss, state.params, *data)
    order = order_of(state.key, len(data.x), method)
    carry, seen = scan(task, method, order.draw_key, data, (state.params, state.opt_state), batches(order))
    return after(state, order, carry, seen)


compiled_epoch = jax.jit(epoch_of, static_argnums=1)


def step_from(task: Task, method: Method, draw_key: jax.Array, data: Data | None) -> Step:
    """An update as a function for `scan`, from the whole data set, or (None) from what the batch holds."""

    def step(carry: Carry, batch: Batch) -> tuple[Carry, Outcome]:
        return update(task, method, draw_key, carry, _with_data(data, batch))

    return step


def scan(task: Task, method: Method, draw_key: jax.Array, data: Data | None, carry: Carry, batches: Batch) -> Any:
    """The updates of some batches; each batch's cost and mass, and what is looked at every so many steps.

    Periodic work stands between inner scans: in a scan's body it would run, or be chosen, at every step.
    """
    step = step_from(task, method, draw_key, data)

    def counted(carry: Carry, batch: Batch) -> Any:
        carry, outcome = step(carry, batch)
        return carry, (outcome.value, outcome.mass)

    every = method.telemetry
    if not every:
        carry, costs = jax.lax.scan(counted, carry, batches)
        return carry, (costs, {})

    def group(carry: Carry, own: Batch) -> Any:
        first, rest = (jax.tree.map(take, own) for take in (lambda a: a[0], lambda a: a[1:]))
        first = _with_data(data, first)
        then, outcome = update(task, method, draw_key, carry, first)
        seen = look(task, method, draw_key, carry[0], then[0], first, outcome)
        then, costs = jax.lax.scan(counted, then, rest)
        return then, (jax.tree.map(_joined, (outcome.value, outcome.mass), costs), seen)

    whole = len(batches.rows) // every * every
    grouped = jax.tree.map(lambda a: a[:whole].reshape(-1, every, *a.shape[1:]), batches)
    carry, (costs, seen) = jax.lax.scan(group, carry, grouped)
    carry, last = jax.lax.scan(counted, carry, jax.tree.map(lambda a: a[whole:], batches))
    return carry, (jax.tree.map(lambda a, b: jnp.concatenate([a.ravel(), b]), costs, last), seen)


def _joined(first: jax.Array, rest: jax.Array) -> jax.Array:
    return jnp.concatenate([first[None], rest])


def _with_data(data: Data | None, batch: Batch) -> Batch:
    if data is None:
        return batch
    return batch._replace(data=jax.tree.map(lambda a: a.at[batch.rows].get(mode="promise_in_bounds"), data))


def after(state: TrainState, order: Order, carry: Carry, seen: Any) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after an epoch, its cost (the batches' costs, each by its mass), and what was looked at."""
    (values, masses), looks = seen
    whole = masses.sum()
    cost = jnp.where(whole == 0, 0, (values * masses).sum() / jnp.where(whole == 0, 1, whole))
    return TrainState(*carry, state.step + len(values), order.next_key), {"cost": cost, **looks}


def watched_scan(step: Step, start: Any, batches: Batch) -> Any:
    """`scan` that keeps what stood before the first step that was not finite, and which quantities were.

    The carry is (all finite so far, parameters and optimiser, steps taken).
    """

    def watched(carry: Any, batch: Batch) -> Any:
        good, before, taken = carry
        now, (value, _, grads) = step(before, batch)
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grads, now[0]))])
        good = good & finite.all()
        kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), now, before)
        return (good, kept, taken + good), finite

    return jax.lax.scan(watched, start, batches)


def nothing_watched(state: TrainState) -> Any:
    """The carry with which `watched_scan` begins."""
    return jnp.asarray(True), (state.params, state.opt_state), jnp.zeros((), jnp.int32)


@partial(jax.jit, static_argnums=1)
def replay(task: Task, method: Method, state: TrainState, data: Data) -> Any:
    """An epoch with every step watched."""
    order = order_of(state.key, len(data.x), method)
    return watched_scan(step_from(task, method, order.draw_key, data), nothing_watched(state), batches(order))


def first_bad_step(state: TrainState, replayed: Any) -> tuple[TrainState, str]:
    """From a replay of the epoch that went wrong: the state before that step, and what it was."""
    (good, (params, opt_state), taken), finite = replayed
    last = state._replace(params=params, opt_state=opt_state, step=state.step + taken)
    if good:
        return last, "a cost or parameter was not finite, but not so again when the epoch was replayed."
    names = [name for name, _ in arguments.named_leaves(state.params)]
    quantities = ["the cost", *(f"the gradient of {n}" for n in names), *(f"the new value of {n}" for n in names)]
    first = int(taken)
    quantity = quantities[int(np.argmin(finite[first]))]
    remedy = "A smaller learning rate, or gradients clipped by optax.clip_by_global_norm, keeps steps in bounds."
    return last, f"at step {first + 1} of {len(finite)} {quantity} is not finite. {remedy}"
