"""One epoch: a scan over shuffled batches, in which every example counts once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from funcnet._core import arguments
from funcnet._core.masks import flags_of
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Penalty, Tree
from funcnet._core.weighting import for_reduction, safe_mean
from funcnet.train.checks import checked_epoch
from funcnet.train.mixing import refuse_mixing
from funcnet.train.options import Data, DType, Options, Pair, arrays_of, check_kinds, in_one_array
from funcnet.train.order import Order, batches, order_of
from funcnet.train.programs import Program
from funcnet.train.state import TrainState, check_state
from funcnet.train.telemetry import look
from funcnet.train.update import Batch, Carry, Outcome, update

Step = Callable[[Carry, Batch], tuple[Carry, Outcome]]
Costs = tuple[jax.Array, jax.Array, jax.Array | None]  # of each batch: `value`, `mass` and `skipped` of its `Outcome`
Records = tuple[Costs, dict[str, jax.Array | None]]  # and telemetry


def train_epoch(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Pair,
    *,
    batch_size: int,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    trainable: Tree | None = None,
    accumulate: int = 1,
    compute_dtype: DType | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One pass over the data in a new random order: one update of the parameters per batch.

    θ ← θ + update(∂J/∂θ), J the batch's mean cost plus the penalty, in one `lax.scan`, compiled
    once for each optimiser and batch size. Every example takes part: the last batch, if smaller, is
    filled up with rows of weight 0, which count nowhere. Pure: it may stand inside `jit` (name
    `optimizer` and `batch_size` static) and `vmap` (over states, penalties), and the same state
    gives the same bits.

    Values of the data are not checked, so that nothing waits for them: a label out of range or
    an x that is not finite makes the cost NaN. `fn.cost` checks them.

    Args:
        net: a layer.
        loss: the cost of an output against its target.
        optimizer: any of optax's, chains and schedules too, built once by the caller (a new one, even if
            built alike, is compiled anew). One that takes extra arguments is given `value`, `grad`,
            `value_fn` (so `optax.lbfgs` runs on the full batch) and, if it asks for it, `backprop`, the
            `Backprop` of the batch (so `scale_by_kfac` works). A transformation of your own asks by its state, whose
            class has the attribute `needs_backprop = True`.
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
        The new state, and `{"cost": …}`: the mean of J over the examples and positions, by their weights, each as
        it was when its batch was propagated.

    Raises:
        TypeError: an argument that is not a layer, loss or optimiser; mixed types.
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
    check_state(state)
    options = Options(
        net, loss, optimizer, batch_size, accumulate, flags_of(state.params, trainable), penalty, compute_dtype
    )
    check_kinds(options)
    options, data = in_one_array(options, data)
    examples = arrays_of(*data, weights)
    options = checked_epoch(options, state, examples.x)
    if isinstance(state.step, jax.core.Tracer) or not state.step:  # once is enough
        refuse_mixing(options, state.params, examples._replace(weights=None))
    return compiled_epoch(options, state, examples)


def epoch_of(
    options: Options, state: TrainState, data: Data, m: int | jax.Array | None = None
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`train_epoch` without its checks and its `jit`; with telemetry and counts if the options ask for them.

    Of the rows of the data the first m are examples (None: all).
    """
    arguments.checked_batch(options.cast_net, options.loss, state.params, *data)
    data = in_range(options, data)
    order = order_of(state.key, len(data.x), options, m)
    carry, records = scan(options, order.draw_key, data, (state.params, state.opt_state), batches(order))
    return after(state, order, carry, records)


compiled_epoch = Program(epoch_of)


def in_range(options: Options, data: Data) -> Data:
    """The data with weights whose sums are in range; private training clips what they scale, and keeps them."""
    if data.weights is None or options.privacy is not None:
        return data
    return data._replace(weights=for_reduction(jnp.asarray(data.weights), "mean"))


def step_of(options: Options, draw_key: jax.Array, data: Data | None) -> Step:
    """An update as a function for `scan`, from the whole data set, or (None) from what the batch holds."""

    def step(carry: Carry, batch: Batch) -> tuple[Carry, Outcome]:
        return update(options, draw_key, carry, _with_data(data, batch))

    return step


def scan(
    options: Options, draw_key: jax.Array, data: Data | None, carry: Carry, batches: Batch
) -> tuple[Carry, Records]:
    """The updates of some batches; each batch's cost and mass, and the telemetry of every so many steps.

    Periodic work stands between inner scans: in a scan's body it would run, or be chosen, at every step.
    """
    step = step_of(options, draw_key, data)

    def counted(carry: Carry, batch: Batch) -> tuple[Carry, Costs]:
        carry, outcome = step(carry, batch)
        return carry, (outcome.value, outcome.mass, outcome.skipped)

    every = options.telemetry
    if not every:
        carry, costs = jax.lax.scan(counted, carry, batches)
        return carry, (costs, {})

    def group(carry: Carry, some: Batch) -> tuple[Carry, Records]:
        first, rest = (jax.tree.map(take, some) for take in (lambda a: a[0], lambda a: a[1:]))
        first = _with_data(data, first)
        then, outcome = update(options, draw_key, carry, first)
        sizes = look(options, draw_key, carry[0], then[0], first, outcome)
        then, costs = jax.lax.scan(counted, then, rest)
        return then, (jax.tree.map(_joined, (outcome.value, outcome.mass, outcome.skipped), costs), sizes)

    whole = len(batches.rows) // every * every
    grouped = jax.tree.map(lambda a: a[:whole].reshape(-1, every, *a.shape[1:]), batches)
    carry, (costs, sizes) = jax.lax.scan(group, carry, grouped)
    carry, last = jax.lax.scan(counted, carry, jax.tree.map(lambda a: a[whole:], batches))
    return carry, (jax.tree.map(lambda a, b: jnp.concatenate([a.ravel(), b]), costs, last), sizes)


def _joined(first: jax.Array, rest: jax.Array) -> jax.Array:
    return jnp.concatenate([first[None], rest])


def _with_data(data: Data | None, batch: Batch) -> Batch:
    if data is None:
        return batch
    return batch._replace(data=jax.tree.map(lambda a: a.at[batch.rows].get(mode="promise_in_bounds"), data))


def after(state: TrainState, order: Order, carry: Carry, records: Records) -> tuple[TrainState, dict[str, Any]]:
    """The state after an epoch, its cost (the batches' costs, each by its mass), and its telemetry."""
    (values, masses, skipped), sizes = records
    cost = safe_mean((values * masses).sum(), masses.sum())
    then = TrainState(*carry, state.step + len(values), order.next_key)
    if skipped is None:
        return then, {"cost": cost, **sizes}
    return then, {"cost": jnp.where(skipped.all(), jnp.nan, cost), "skipped": skipped.sum(), **sizes}
