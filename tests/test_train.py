"""Epochs: every example once, the same as a loop written out, and nothing of the caller's changed."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, random

import funcnet as fn
from funcnet.train.epoch import order_of

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
PLAIN = fn.mlp((3, 4, 2))
LOSS, ADAM = fn.SquaredError(), optax.adam(1e-2)
X, Y = random(1, 10, 3), random(2, 10, 2)


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):  # optax's steps are integers
        yield


def start(net=PLAIN, optimizer=ADAM, seed=0):
    return fn.train_state(optimizer, params_of(net), jax.random.key(seed))


def epoch(state, net=PLAIN, optimizer=ADAM, data=(X, Y), batch_size=4, **options):
    return fn.train_epoch(net, LOSS, optimizer, state, data, batch_size=batch_size, **options)


@pytest.mark.parametrize("weights", [None, np.arange(10.0)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("penalty", [None, fn.L2(0.1)], ids=["plain", "penalised"])
def test_an_epoch_is_the_loop_written_out_with_a_smaller_last_batch(weights, penalty):
    state = start()
    found, metrics = epoch(state, weights=weights, penalty=penalty)

    order = order_of(state.key, 10, 4)
    rows = np.asarray(order.rows)[np.asarray(order.counted)]
    assert sorted(rows) == list(range(10))
    params, opt_state, total, mass = state.params, state.opt_state, 0.0, 0.0
    for chosen in (rows[:4], rows[4:8], rows[8:]):
        w = None if weights is None else weights[chosen]
        J, grads = fn.value_and_grad(PLAIN, LOSS, params, X[chosen], Y[chosen], weights=w, penalty=penalty)
        updates, opt_state = ADAM.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        count = len(chosen) if w is None else w.sum()
        total, mass = total + J * count, mass + count
    assert disagreement(found.params, params) <= 1e-12
    assert disagreement(found.opt_state, opt_state) <= 1e-12
    assert np.isclose(metrics["cost"], total / mass, rtol=1e-13)
    assert int(found.step) == 3


def test_every_example_counts_once_in_the_cost():
    still = optax.sgd(0.0)
    for batch_size in (1, 3, 4, 10):
        _, metrics = epoch(start(optimizer=still), optimizer=still, batch_size=batch_size)
        assert np.isclose(metrics["cost"], fn.cost(PLAIN, LOSS, params_of(PLAIN), X, Y), rtol=1e-14)


def test_the_same_state_gives_the_same_bits_and_another_key_another_order():
    first, again, other = epoch(start())[0], epoch(start())[0], epoch(start(seed=1))[0]
    assert disagreement(first.params, again.params) == 0
    assert disagreement(first.params, other.params) > 1e-6
    second, _ = epoch(first)
    assert not (jax.random.key_data(first.key) == jax.random.key_data(second.key)).all()


@pytest.mark.parametrize("weights", [None, np.arange(10.0)], ids=["unweighted", "weighted"])
def test_parts_of_a_batch_make_the_update_of_the_whole_dropout_included(weights):
    whole, cost = epoch(start(NET), NET, weights=weights, penalty=fn.L2(0.1))
    parts, same = epoch(start(NET), NET, weights=weights, penalty=fn.L2(0.1), accumulate=2)
    assert disagreement(parts.params, whole.params) <= 1e-12
    assert disagreement(same, cost) <= 1e-12


def test_dropout_is_at_work():
    net = fn.Chain(fn.Dense(3, 40), fn.Dropout(0.5), fn.Dense(40, 2))
    still = optax.sgd(0.0)
    _, metrics = epoch(start(net, still), net, still)
    assert not np.isclose(metrics["cost"], fn.cost(net, LOSS, params_of(net), X, Y), rtol=1e-6)


def test_what_is_not_trainable_stays():
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    state = start(optimizer=optimizer)
    for trainable in ((False, True, True), ({"w": True, "b": False}, True, {"w": True, "b": False})):
        found, _ = epoch(state, optimizer=optimizer, trainable=trainable)
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), found.params, state.params)
        expected = jax.tree.map(lambda keep, branch: jax.tree.map(lambda _: keep, branch), trainable, moved)
        assert moved == expected


def test_epochs_under_jit_and_vmap():
    jitted = jax.jit(fn.train_epoch, static_argnames=("optimizer", "batch_size"))
    found, _ = jitted(PLAIN, LOSS, ADAM, start(), (X, Y), batch_size=4)
    assert disagreement(found.params, epoch(start())[0].params) <= 1e-14
    lanes = jax.vmap(lambda key: fn.train_state(ADAM, params_of(PLAIN), key))(jax.random.split(jax.random.key(3), 3))
    strengths = fn.L2(jnp.array([0.0, 0.1, 1.0]))
    together, costs = jax.vmap(lambda state, penalty: epoch(state, penalty=penalty))(lanes, strengths)
    one, _ = epoch(jax.tree.map(lambda leaf: leaf[1], lanes), penalty=fn.L2(0.1))
    assert disagreement(jax.tree.map(lambda leaf: leaf[1], together.params), one.params) <= 1e-12
    assert costs["cost"].shape == (3,)


def test_lbfgs_runs_on_the_full_batch_with_its_line_search():
    optimizer = optax.lbfgs()
    state = start(optimizer=optimizer)
    costs = []
    for _ in range(30):
        state, metrics = epoch(state, optimizer=optimizer, batch_size=10)
        costs.append(float(metrics["cost"]))
    assert costs[-1] < 0.3 * costs[0]
    assert all(b <= a for a, b in pairwise(costs))


def test_the_program_is_compiled_once():
    traces = []

    def update(grads, state, params=None):
        traces.append(1)
        return jax.tree.map(lambda g: -0.1 * g, grads), state

    optimizer = optax.GradientTransformation(lambda params: (), update)
    state = start(optimizer=optimizer)
    for _ in range(3):
        state, _ = epoch(state, optimizer=optimizer)
        net = fn.mlp((3, 4, 2))
        state, _ = epoch(state, net, optimizer)
    assert len(traces) == 1


def test_bfloat16_parameters_keep_their_type():
    params, x, y = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (params_of(PLAIN), X, Y))
    optimizer = optax.sgd(0.1)
    state = fn.train_state(optimizer, params, jax.random.key(0))
    for accumulate in (1, 2):
        found, metrics = epoch(state, optimizer=optimizer, data=(x, y), accumulate=accumulate)
        assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {jnp.dtype(jnp.bfloat16)}
        assert metrics["cost"].dtype == jnp.float32


@pytest.mark.parametrize(
    ("call", "kind", "fragments"),
    [
        (lambda: epoch(start(), batch_size=0), ValueError, ["batch_size", "1 to 10", "0"]),
        (lambda: epoch(start(), batch_size=-1), ValueError, ["batch_size", "-1"]),
        (lambda: epoch(start(), batch_size=11), ValueError, ["1 to 10", "batch_size=10"]),
        (lambda: epoch(start(), batch_size=2.0), ValueError, ["batch_size", "2.0"]),
        (lambda: epoch(start(), accumulate=3), ValueError, ["accumulate", "divisor of batch_size=4", "3"]),
        (lambda: epoch(start(), optimizer=0.1), TypeError, ["optimizer", "optax.adam(1e-3)", "0.1"]),
        (lambda: epoch(start(), data=(X, Y[:5])), ValueError, ["x has 10 examples", "(5, 2)"]),
        (lambda: epoch(start(), weights=jnp.ones(3)), ValueError, ["weights", "(10,)", "(3,)"]),
        (lambda: epoch(start(), penalty=0.1), TypeError, ["penalty", "L2(1e-4)"]),
        (lambda: epoch(start(fn.mlp((3, 5, 2)))), ValueError, ["layer 1, b", "(5,)", "(4,)"]),
        (lambda: fn.train_state(ADAM, params_of(PLAIN), 0), TypeError, ["jax.random.key(seed)", "0"]),
        (lambda: fn.train_state("adam", params_of(PLAIN), jax.random.key(0)), TypeError, ["optimizer", "'adam'"]),
    ],
)
def test_bad_input(call, kind, fragments):
    with pytest.raises(kind) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value)
