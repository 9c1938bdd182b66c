"""Optimisers that ask for more than the gradient: K-FAC in `fit`; a `Backprop` for those that ask for it alone."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, random

import funcnet as fn
from funcnet.train.options import Options
from funcnet.train.order import order_of

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
SE, M, BATCH = fn.SquaredError(), 10, 4  # the last batch holds two
X, Y = random(1, M, 3), random(2, M, 2)
WEIGHTS = jnp.asarray(np.random.default_rng(3).uniform(0.5, 2, M))


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def fit(optimizer, net=NET, batch_size=BATCH, **options):
    state = fn.train_state(optimizer, params_of(net), jax.random.key(0))
    return fn.fit(net, SE, optimizer, state, (X, Y), epochs=2, batch_size=batch_size, **options)


def by_hand(optimizer):
    """Two epochs, every update with the `Backprop` of its batch."""
    state = fn.train_state(optimizer, params_of(NET), jax.random.key(0))

    @jax.jit
    def step(params, opt_state, rows, counted, draw_key):
        keys = jax.vmap(lambda row: jax.random.fold_in(draw_key, row))(rows)
        options = {"weights": WEIGHTS[rows] * counted, "key": keys}
        bp = fn.backprop(NET, SE, params, X[rows], Y[rows], **options)
        value, grads = fn.value_and_grad(NET, SE, params, X[rows], Y[rows], penalty=fn.L2(0.01), **options)
        updates, opt_state = optimizer.update(grads, opt_state, params, value=value, grad=grads, backprop=bp)
        return optax.apply_updates(params, updates), opt_state

    params, opt_state, key = state.params, state.opt_state, state.key
    for _ in range(2):
        order = order_of(key, M, Options(NET, SE, optimizer, BATCH))
        for rows, counted in zip(order.rows, order.counted):
            params, opt_state = step(params, opt_state, rows, counted, order.draw_key)
        key = order.next_key
    return params


class Asking(NamedTuple):
    """The state of a transformation that asks for the `Backprop`."""

    needs_backprop = True


def sums_of_tape_and_deltas():
    """A transformation that scales the gradient by a number made from the `Backprop`."""

    def update(grads, state, params=None, *, backprop, **extra):
        totals = [total for tree in backprop for total in map(jnp.sum, jax.tree.leaves(tree))]
        return jax.tree.map(lambda g: g * jnp.sin(sum(totals)), grads), state

    return optax.GradientTransformationExtraArgs(lambda params: Asking(), update)


@pytest.mark.fast
@pytest.mark.parametrize("asks", [fn.scale_by_kfac(NET, SE, every=2), sums_of_tape_and_deltas()], ids=["kfac", "own"])
def test_it_gets_the_backprop_of_the_current_batch(asks):
    optimizer = optax.chain(asks, optax.sgd(0.1))
    found, history = fit(optimizer, penalty=fn.L2(0.01), weights=WEIGHTS)
    assert np.isfinite(history["cost"]).all()
    assert disagreement(found.params, by_hand(optimizer)) <= 1e-10


@fn.spec
class Spy:
    """y = x, counting how often its backward pass is traced."""

    def init(self, key):
        return ()

    def forward(self, params, x, key=None):
        return x, ()

    def backward(self, params, tape, delta):
        traced.append(1)
        return delta, ()

    def gradient(self, tape, deltas):
        return ()


traced: list[int] = []
SPIED = fn.Chain(fn.Dense(3, 2), Spy())


def asking(state=Asking()):
    """Fails where its state does not ask and it is given a `Backprop`, or the other way round."""

    asks = isinstance(state, Asking)

    def update(grads, state, params=None, **extra):
        assert ("backprop" in extra) == asks
        return jax.tree.map(lambda g: g + 0 * extra["backprop"].costs.sum() if asks else g, grads), state

    return optax.GradientTransformationExtraArgs(lambda params: state, update)


def traces(optimizer, **options):
    """Without compiling or running what is traced."""
    before = len(traced)
    jax.eval_shape(lambda: fit(optax.chain(optimizer, optax.sgd(0.1)), net=SPIED, **options))
    return len(traced) - before


@pytest.mark.fast
def test_who_does_not_ask_causes_none_to_be_made():
    plain = traces(optax.identity())
    assert plain > 0
    for quiet in (
        asking(optax.EmptyState()),
        optax.scale_by_adam(),
        optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        optax.inject_hyperparams(optax.sgd)(learning_rate=0.1),
        optax.apply_if_finite(optax.identity(), 2),
    ):
        assert traces(quiet) == plain
    assert traces(asking()) > plain


def rated(rate):
    return optax.chain(asking(), optax.sgd(rate))


@pytest.mark.fast
@pytest.mark.parametrize(
    "wrapped",
    [
        optax.inject_hyperparams(rated)(rate=0.1),
        optax.multi_transform({"asks": rated(0.1), "plain": optax.sgd(0.1)}, ({"b": "asks", "w": "plain"}, "plain")),
        optax.apply_if_finite(rated(0.1), 2),
        optax.with_extra_args_support(optax.chain(optax.identity(), rated(0.1))),
        optax.masked(optax.flatten(rated(0.1)), True),
    ],
    ids=["injected", "partition", "if finite", "chain in a chain", "masked"],
)
def test_what_a_wrapped_one_asks_for_is_given(wrapped):
    fit(wrapped, net=SPIED)


@pytest.mark.fast
def test_parts_of_a_batch_have_no_backprop():
    for asks in (asking(), fn.scale_by_kfac(SPIED, SE)):
        with pytest.raises(ValueError, match="accumulate: this optimiser asks for the Backprop of a whole batch"):
            traces(asks, accumulate=2)
    quiet = optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation()
    assert traces(quiet, accumulate=2) > 0


@pytest.mark.fast
def test_the_values_that_optax_asks_for_are_given_as_before():
    found, history = fit(optax.lbfgs(), net=fn.Dense(3, 2), batch_size=M)
    assert history["cost"][1] < history["cost"][0]
    assert int(found.step) == 2


def test_kfac_of_another_network_is_refused_in_a_fit():
    with pytest.raises(ValueError, match="another network"):
        fit(optax.chain(fn.scale_by_kfac(fn.Dense(3, 2), SE), optax.sgd(0.1)), net=SPIED)
