"""How parameters are found: epochs of SGD or Adam until scikit-learn's rule ends them, or L-BFGS."""

import contextlib
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize

from funcnet._core.protocols import AnyLayer, Loss, Params, Penalty, Tree
from funcnet.propagation import value_and_grad
from funcnet.train import loop
from funcnet.train.checks import checked_job
from funcnet.train.filling import program_job
from funcnet.train.options import Data, Job
from funcnet.train.programs import Program
from funcnet.train.state import TrainState

ROOM = 64  # epochs in a compiled loop, at most
LEAST_RATE = 1e-6  # where an adaptive learning rate ends
REMEDY = "Scale the features, as by StandardScaler, or lower learning_rate_init."

run = Program(loop.run)


def precision(dtype: Any) -> contextlib.AbstractContextManager[Any]:
    """float64 where the data are, as scikit-learn computes; JAX's own default stays as it is."""
    if dtype != np.float64:
        return contextlib.nullcontext()
    switch: Any = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64  # type: ignore[attr-defined]
    return switch(True)


class Rate(NamedTuple):
    """Of the learning rate: start / (examples seen before this epoch + 1)^power. Numbers that are no part of a program.

    `seen` were seen before these epochs, of `steps` updates and `rows` examples each.
    """

    start: Any
    power: Any
    seen: Any
    rows: Any
    steps: Any
    step: Any


@lru_cache(maxsize=64)
def optimizer_of(solver: str, decay: tuple[float, ...], nesterov: bool) -> optax.GradientTransformation:
    """SGD with this momentum, or Adam with these β₁, β₂, ε: one object for equal settings, which share programs."""

    def init(params: Params) -> Rate:
        zero, one = jnp.zeros(()), jnp.ones((), jnp.int32)
        return Rate(zero, zero, zero, zero, one, jnp.zeros((), jnp.int32))

    def update(updates: Tree, state: Rate, params: Params | None = None) -> tuple[Tree, Rate]:
        rate = state.start / (state.seen + state.rows * (state.step // state.steps) + 1) ** state.power
        return jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates), state._replace(step=state.step + 1)

    by_rate = optax.GradientTransformation(init, update)
    if solver == "adam":
        return optax.chain(optax.scale_by_adam(*decay), by_rate)
    return optax.chain(by_rate, optax.trace(*decay, nesterov=nesterov)) if decay[0] else optax.chain(by_rate)


def with_rate(opt_state: Any, **changes: Any) -> Any:
    """The optimiser's state with other numbers of the learning rate."""
    return tuple(part._replace(**changes) if isinstance(part, Rate) else part for part in opt_state)


def rate_of(opt_state: Any) -> Any:
    """What the learning rate starts from."""
    return next(part.start for part in opt_state if isinstance(part, Rate))


class Plateau:
    """scikit-learn's rule: a value that is not below the best by `tol` is no progress, and after too many it ends."""

    def __init__(self, tol: float, patience: float, best: float) -> None:
        self.tol, self.patience, self.best, self.waited = tol, patience, best, 0

    def sees(self, value: float) -> bool:
        """Whether this value is the best."""
        self.waited = self.waited + 1 if value > self.best - self.tol else 0
        is_best = value < self.best
        self.best = value if is_best else self.best
        return is_best

    @property
    def ends(self) -> bool:
        return self.waited > self.patience

    @property
    def epochs_left(self) -> float:
        """How many epochs there are at least before it can end."""
        return self.patience + 1 - self.waited


class Trained(NamedTuple):
    """What some epochs gave: the last state, the parameters with the best validation score, columns, how it ended."""

    state: TrainState
    best: Params
    columns: dict[str, list[float]]
    has_ended: bool


def train(
    job: Job,
    state: TrainState,
    epochs: int,
    rule: Plateau,
    watched: str,
    adaptive: bool = False,
    see: Callable[[int, dict[str, float]], None] | None = None,
) -> Trained:
    """Epochs until the rule ends them, at exactly the epoch that it names.

    It is entered for as many epochs at a time as must come before the rule can end them, so none is ever too many.

    Raises:
        ValueError: what `fit` refuses; a cost or parameter that stopped being finite.
    """
    unweighted, _ = checked_job(job._replace(data=job.data._replace(weights=None)), state, epochs)
    job = job._replace(options=unweighted.options)  # weights were checked already
    lean, sign = program_job(job), -1 if watched.startswith("validation") else 1
    progress, done, has_ended = loop.begin(job, state, ROOM), 0, False
    best, columns = (progress, 0), {name: list[float]() for name in progress.columns}
    try:
        while done < epochs and not has_ended:
            until = min(done + int(min(rule.epochs_left, ROOM)), epochs)
            after = jax.block_until_ready(run(lean, progress, until))
            if int(after.status) == loop.NOT_FINITE:
                epoch = int(after.epoch) + 1
                raise ValueError(f"The cost or a parameter stopped being finite in epoch {epoch}. {REMEDY}")
            new = {name: np.asarray(values)[: until - done].tolist() for name, values in after.columns.items()}
            for epoch, row in enumerate((dict(zip(new, values)) for values in zip(*new.values())), done + 1):
                if rule.sees(sign * row[watched]):
                    best = progress, epoch
                if see is not None:
                    see(epoch, row)
            has_ended = rule.ends
            if has_ended and adaptive and (rate := float(rate_of(after.state.opt_state))) > LEAST_RATE:
                after = after._replace(state=_slower(after.state, rate / 5))
                rule.waited, has_ended = 0, False
            progress, done, columns = after, until, {name: columns[name] + new[name] for name in new}
    except KeyboardInterrupt:
        warnings.warn("The training was interrupted; it keeps what it has learned.", stacklevel=2)
        has_ended = True
    at_best = run(lean, *best) if sign < 0 and rule.best < np.inf else progress  # a score may never be a number
    return Trained(progress.state, at_best.state.params, columns, has_ended)


def _slower(state: TrainState, rate: float) -> TrainState:
    start = jnp.asarray(rate, rate_of(state.opt_state).dtype)
    return state._replace(opt_state=with_rate(state.opt_state, start=start))


@Program
def _flat_gradient(
    net: AnyLayer, loss: Loss, params: Params, data: Data, penalty: Penalty | None
) -> tuple[jax.Array, jax.Array]:
    value, grads = value_and_grad(net, loss, params, data.x, data.y, weights=data.weights, penalty=penalty)
    return value, jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)])


class Minimum(NamedTuple):
    """Where L-BFGS ended: parameters, cost, iterations, and why, if it did not converge."""

    params: Params
    cost: float
    iterations: int
    trouble: str


def minimum(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    data: Data,
    penalty: Penalty | None,
    *,
    iterations: int,
    evaluations: int,
    tol: float,
    see: Callable[[float], None] | None = None,
) -> Minimum:
    """SciPy's L-BFGS-B from these parameters, on the whole data, with the hand-written gradient."""
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])

    def tree(flat: np.ndarray) -> Params:
        parts = zip(leaves, np.split(flat, ends[:-1]))
        return jax.tree.unflatten(structure, [part.reshape(leaf.shape).astype(leaf.dtype) for leaf, part in parts])

    def value_and_slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _flat_gradient(net, loss, tree(flat), data, penalty)
        return float(value), np.asarray(slope, np.float64)

    result = minimize(
        value_and_slope,
        np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves]),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": iterations, "maxfun": evaluations, "gtol": tol},
        callback=None if see is None else lambda intermediate_result: see(float(intermediate_result.fun)),
    )
    trouble = "" if result.status == 0 else str(result.message)
    return Minimum(tree(result.x), float(result.fun), min(result.nit, iterations), trouble)
