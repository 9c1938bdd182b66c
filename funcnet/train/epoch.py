"""One epoch: a scan over shuffled batches, in which every example counts once."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet import arguments
from funcnet.layers.cast import in_type
from funcnet.protocols import AnyLayer, Loss, Penalty, Tree
from funcnet.train.state import TrainState, check_optimizer
from funcnet.train.update import Batch, Carry, Data, Method, Outcome, Task, update

Step = Callable[[Carry, Any], tuple[Carry, Outcome]]


class Order(NamedTuple):
    """An epoch's batches, as `Batch` has them, and its keys."""

    rows: jax.Array
    counted: jax.Array | None
    draw_key: jax.Array
    next_key: jax.Array


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
            built alike, is compiled anew). One that takes extra arguments is given `value`, `grad`
            and `value_fn` (so `optax.lbfgs` runs on the full batch).
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
    return _epoch(Task(in_type(net, compute_dtype), loss, penalty, trainable), method, state, whole)


def check_method(method: Method, state: TrainState, m: int) -> None:
    """Refuse an optimiser, a state, or batches that do not fit together."""
    optimizer, batch_size, accumulate = method
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
    fresh = jax.eval_shape(optimizer.init, state.params)
    shapes = [jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), s) for s in (state.opt_state, fresh)]
    if str(shapes[0]) != str(shapes[1]):
        raise ValueError(
            f"state: opt_state is not this optimiser's for these parameters. It holds {shapes[0]}, expected "
            f"{shapes[1]}. Make the state by fn.train_state(optimizer, params, key)."
        )


def epoch_of(task: Task, method: Method, state: TrainState, data: Data) -> tuple[TrainState, dict[str, jax.Array]]:
    """`train_epoch` without its checks and its `jit`."""
    arguments.checked_batch(task.net, task.loss, state.params, *data)
    order = order_of(state.key, len(data.x), method.batch_size)
    carry, costs = scan(step_from(task, method, order.draw_key, data), (state.params, state.opt_state), batches(order))
    return after(state, order, carry, *costs)


_epoch = jax.jit(epoch_of, static_argnums=1)


def order_of(key: jax.Array, m: int, batch_size: int) -> Order:
    """A new random order of m rows in batches, from the state's key."""
    next_key, order_key, draw_key = jax.random.split(key, 3)
    steps = -(-m // batch_size)
    rows = jnp.concatenate([permutation(order_key, m), jnp.zeros(steps * batch_size - m, jnp.int32)])
    counted = (jnp.arange(rows.size) < m).reshape(steps, batch_size) if m % batch_size else None
    return Order(rows.reshape(steps, batch_size), counted, draw_key, next_key)


def permutation(key: jax.Array, m: int) -> jax.Array:
    """The numbers 0 … m-1 in random order, several times faster on CPUs than `jax.random.permutation`.

    Random bits and a row's place share one 32-bit number, so that each round sorts numbers alone and
    not pairs. Rounds go on until there are 2 log₂ m random bits for each row, so that hardly two rows tie.
    """
    bits = max(1, (m - 1).bit_length())
    places = jnp.arange(m, dtype=jnp.uint32)
    order = places
    for own in jax.random.split(key, -(-2 * bits // (32 - bits))):
        drawn = jax.random.bits(own, (m,), jnp.uint32) << jnp.uint32(bits)
        order = order[jax.lax.sort(drawn | places) & jnp.uint32(2**bits - 1)]
    return order.astype(jnp.int32)


def batches(order: Order, data: Data = Data(None, None, None)) -> Batch:
    """What `scan` runs over, batches first; without data if the step takes it from the whole."""
    return Batch(data, order.rows, order.counted)


def step_from(task: Task, method: Method, draw_key: jax.Array, data: Data | None) -> Step:
    """An update as a function for `scan`, from the whole data set, or (None) from what the batch holds."""

    def step(carry: Carry, batch: Batch) -> tuple[Carry, Outcome]:
        if data is not None:
            own = jax.tree.map(lambda values: values.at[batch.rows].get(mode="promise_in_bounds"), data)
            batch = batch._replace(data=own)
        return update(task, method, draw_key, carry, batch)

    return step


def scan(step: Step, carry: Carry, batches: Batch) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
    """The updates of some batches, and each batch's cost and mass."""

    def counted(carry: Carry, batch: Batch) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
        carry, outcome = step(carry, batch)
        return carry, (outcome.value, outcome.mass)

    return jax.lax.scan(counted, carry, batches)


def after(
    state: TrainState, order: Order, carry: Carry, values: jax.Array, masses: jax.Array
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The state after an epoch, and its cost: the batches' costs, each by its mass."""
    whole = masses.sum()
    cost = jnp.where(whole == 0, 0, (values * masses).sum() / jnp.where(whole == 0, 1, whole))
    return TrainState(*carry, state.step + len(values), order.next_key), {"cost": cost}


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
    order = order_of(state.key, len(data.x), method.batch_size)
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
