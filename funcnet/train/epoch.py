"""One epoch: a scan over shuffled batches, in which every example counts once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from funcnet import arguments
from funcnet.backprop import value_and_grad
from funcnet.custom_vjp import as_cost
from funcnet.precision import accumulation_type
from funcnet.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet.train.state import TrainState, check_optimizer


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
        optimizer: any of optax's, chains and schedules too, built once by the caller. One that takes
            extra arguments is given `value`, `grad` and `value_fn` (so `optax.lbfgs` runs on the full batch).
        state: from `train_state`, or from the epoch before.
        data: (x, y) as for `cost`, m examples.
        batch_size: examples in an update, 1 … m.
        weights: (m,) or (m, *positions), as for `cost`.
        penalty: a cost of the parameters, added once per update.
        trainable: True or False for every parameter, or for whole branches of params
            (`(False, True, True)` freezes the first layer of three): what is False stays as it is.
            None trains all.
        accumulate: into how many equal parts a batch is split to save memory. The update is that of
            the whole batch, dropout included, since every example draws by a key of its own.

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
    check_steps(optimizer, state, len(x), batch_size, accumulate)
    return _epoch(net, loss, optimizer, state, x, y, weights, penalty, trainable, batch_size, accumulate)


def check_steps(
    optimizer: optax.GradientTransformation, state: TrainState, m: int, batch_size: int, accumulate: int
) -> None:
    """Refuse an optimiser, a state, or batches that do not fit together."""
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


def epoch_of(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    x: jax.Array,
    y: jax.Array,
    weights: jax.Array | None,
    penalty: Penalty | None,
    trainable: Tree | None,
    batch_size: int,
    accumulate: int,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """`train_epoch` without its checks and its `jit`."""
    step, batches, key = _steps(net, loss, optimizer, state, x, y, weights, penalty, trainable, batch_size, accumulate)

    def counted(carry: Any, batch: Any) -> Any:
        carry, (value, mass, _) = step(carry, batch)
        return carry, (value, mass)

    (params, opt_state), (values, masses) = jax.lax.scan(counted, (state.params, state.opt_state), batches)
    whole = masses.sum()
    cost = jnp.where(whole == 0, 0, (values * masses).sum() / jnp.where(whole == 0, 1, whole))
    return TrainState(params, opt_state, state.step + len(values), key), {"cost": cost}


_epoch = jax.jit(epoch_of, static_argnames=("optimizer", "batch_size", "accumulate"))


def first_bad_step(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    x: jax.Array,
    y: jax.Array,
    weights: jax.Array | None,
    penalty: Penalty | None,
    trainable: Tree | None,
    batch_size: int,
    accumulate: int,
) -> tuple[TrainState, str]:
    """An epoch that went wrong, replayed with every step watched: the state before that step, and what it was."""

    @jax.jit
    def replay(state: TrainState, x: Any, y: Any, weights: Any, penalty: Any, trainable: Any) -> Any:
        step, batches, _ = _steps(
            net, loss, optimizer, state, x, y, weights, penalty, trainable, batch_size, accumulate
        )

        def watched(carry: Any, batch: Any) -> Any:
            good, before, taken = carry
            after, (value, _, grads) = step(before, batch)
            found = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((value, grads, after[0]))]
            finite = jnp.stack(found)
            good = good & finite.all()
            kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), after, before)
            return (good, kept, taken + good), finite

        start = jnp.asarray(True), (state.params, state.opt_state), jnp.zeros((), jnp.int32)
        return jax.lax.scan(watched, start, batches)

    (good, (params, opt_state), taken), finite = replay(state, x, y, weights, penalty, trainable)
    last = state._replace(params=params, opt_state=opt_state, step=state.step + taken)
    if good:
        return last, "a cost or parameter was not finite, but not so again when the epoch was replayed."
    names = [name for name, _ in arguments.named_leaves(state.params)]
    quantities = ["the cost", *(f"the gradient of {n}" for n in names), *(f"the new value of {n}" for n in names)]
    first = int(taken)
    quantity = quantities[int(jnp.argmin(finite[first]))]
    remedy = "A smaller learning rate, or gradients clipped by optax.clip_by_global_norm, keeps steps in bounds."
    return last, f"at step {first + 1} of {len(finite)} {quantity} is not finite. {remedy}"


def _steps(
    net: AnyLayer,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    x: jax.Array,
    y: jax.Array,
    weights: jax.Array | None,
    penalty: Penalty | None,
    trainable: Tree | None,
    batch_size: int,
    accumulate: int,
) -> Any:
    """One update as a function for `scan`, the epoch's batches, and the key of the next epoch."""
    arguments.checked_batch(net, loss, state.params, x, y, weights)
    key, order_key, draw_key = jax.random.split(state.key, 3)
    update = optax.with_extra_args_support(optimizer).update
    draws = arguments.draws(net)

    def step(carry: tuple[Params, optax.OptState], batch: tuple[jax.Array, jax.Array]) -> Any:
        params, opt_state = carry
        rows, counted = batch
        keys = jax.vmap(partial(jax.random.fold_in, draw_key))(rows) if draws else None
        chosen: Any = jax.tree.map(partial(_rows, rows), (x, y, weights))
        masked = _masked(chosen[2], counted, len(x) % batch_size > 0)
        options: dict[str, Any] = {"weights": masked, "penalty": penalty, "key": keys}
        value, grads = _gradient(net, loss, params, chosen[0], chosen[1], options, accumulate)
        grads = _kept(trainable, grads)
        value_fn = as_cost(net, loss, chosen[0], chosen[1], **options)
        updates, opt_state = update(grads, opt_state, params, value=value, grad=grads, value_fn=value_fn)
        mass = counted.sum() if masked is None else masked.sum()
        return (optax.apply_updates(params, _kept(trainable, updates)), opt_state), (value, mass, grads)

    return step, order(order_key, len(x), batch_size, accumulation_type(x.dtype)), key


def order(key: jax.Array, m: int, batch_size: int, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """The rows of every batch and whether each counts (1) or fills up the last batch (0)."""
    steps = -(-m // batch_size)
    rows = jnp.concatenate([jax.random.permutation(key, m), jnp.zeros(steps * batch_size - m, int)])
    counted = (jnp.arange(steps * batch_size) < m).astype(dtype)
    return rows.reshape(steps, batch_size), counted.reshape(steps, batch_size)


def _gradient(
    net: AnyLayer, loss: Loss, params: Params, x: jax.Array, y: jax.Array, options: dict[str, Any], parts: int
) -> tuple[jax.Array, Tree]:
    """`value_and_grad` of a batch, propagated at once or in equal parts."""
    if parts == 1:
        return value_and_grad(net, loss, params, x, y, **options)
    weights, penalty, key = options["weights"], options["penalty"], options["key"]

    def add(sums: Any, part: Any) -> tuple[Any, None]:
        x, y, weights, key = part
        found = value_and_grad(net, loss, params, x, y, weights=weights, key=key, reduction="sum")
        return jax.tree.map(lambda whole, more: whole + more.astype(whole.dtype), sums, found), None

    wide = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, accumulation_type(leaf.dtype)), params)
    split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), (x, y, weights, key))
    sums, _ = jax.lax.scan(add, (jnp.zeros((), accumulation_type(x.dtype)), wide), split)
    mass = len(x) if weights is None else weights.sum()
    value, grads = jax.tree.map(lambda whole: jnp.where(mass == 0, 0, whole / jnp.where(mass == 0, 1, mass)), sums)
    if penalty is not None:
        value = value + penalty.value(params)
        grads = jax.tree.map(lambda g, more: g + more.astype(g.dtype), grads, penalty.gradient(params))
    return value, jax.tree.map(lambda g, leaf: g.astype(leaf.dtype), grads, params)


def _rows(rows: jax.Array, values: jax.Array) -> jax.Array:
    return values.at[rows].get(mode="promise_in_bounds")


def _masked(weights: jax.Array | None, counted: jax.Array, padded: bool) -> jax.Array | None:
    if not padded:
        return weights
    if weights is None:
        return counted
    return weights * counted.astype(weights.dtype).reshape(-1, *[1] * (weights.ndim - 1))


def _kept(trainable: Tree | None, tree: Tree) -> Tree:
    """What is trainable; 0 elsewhere."""
    if trainable is None:
        return tree
    return jax.tree.map(
        lambda keep, branch: jax.tree.map(lambda leaf: jnp.where(keep, leaf, 0), branch), trainable, tree
    )
